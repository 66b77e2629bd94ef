"""What the demo shows: titles, steps with a check mark and their time, and tables. Colour only on a terminal."""

import contextlib
import sys
import time

TERMINAL = sys.stdout.isatty()
BOLD, DIM, RED, GREEN, PLAIN = ("\033[1m", "\033[2m", "\033[31m", "\033[32m", "\033[0m") if TERMINAL else ("",) * 5
LABEL_WIDTH = 58


def title(text):
    """A part of the demo begins."""
    print(f"\n{BOLD}{text}{PLAIN}", flush=True)


def say(text):
    """A plain line."""
    print(f"  {text}", flush=True)


def block(command, text):
    """A command and what it printed."""
    print(f"\n  {DIM}${PLAIN} {command}")
    for line in text.rstrip("\n").splitlines():
        print(f"    {line}")
    sys.stdout.flush()


class Outcome:
    """What a step wants to show beside its check mark."""

    def __init__(self):
        self.note = ""


@contextlib.contextmanager
def step(label):
    """A step: its line appears when it begins (on a terminal), its mark, note and time when it ends."""
    if TERMINAL:
        print(f"  {DIM}…{PLAIN} {label}", end="", flush=True)
    start = time.monotonic()
    outcome = Outcome()
    try:
        yield outcome
    except BaseException:
        _finish(f"{RED}✘{PLAIN}", label, "", start)
        raise
    _finish(f"{GREEN}✔{PLAIN}", label, outcome.note, start)


def _finish(mark, label, note, start):
    clear = "\r\033[K" if TERMINAL else ""
    seconds = f"{time.monotonic() - start:.1f} s"
    print(f"{clear}  {mark} {label:<{LABEL_WIDTH}} {note:<34} {DIM}{seconds:>6}{PLAIN}", flush=True)


def failed(text):
    """The demo's last word when something did not work."""
    sys.stdout.flush()
    print(f"\n{RED}{BOLD}FAILED{PLAIN} {text}", file=sys.stderr, flush=True)


def passed(text):
    """The demo's last word when all of it worked."""
    print(f"\n{GREEN}{BOLD}ALL OF IT WORKED{PLAIN} {text}", flush=True)
