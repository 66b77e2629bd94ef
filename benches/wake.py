#!/usr/bin/python3
"""wake.py [SECONDS]: how late a thread wakes beside processes that compute, by its scheduling. As root.

It sleeps a millisecond and works half of one, as a worker that forwards, with three busy processes a CPU beside it.
Needs nothing but the kernel; everything ends by itself.
"""

import ctypes
import os
import struct
import subprocess
import sys
import time

SYS_SCHED_SETATTR = 314  # x86-64
SCHED_OTHER, SCHED_RR = 0, 2
SLEEP, WORK = 0.001, 0.0005
# Name, policy, nice value, priority, slice in nanoseconds (0: the kernel's).
WAYS = [
    ("nice 0", SCHED_OTHER, 0, 0, 0),
    ("nice -20", SCHED_OTHER, -20, 0, 0),
    ("nice -20, slice 0.1 ms", SCHED_OTHER, -20, 0, 100_000),
    ("SCHED_RR", SCHED_RR, 0, 1, 0),
]


def set_scheduling(policy, nice, priority, slice_ns):
    """sched_setattr(2) of the calling thread."""
    size = 56
    attr = struct.pack("IIQiIQQQII", size, policy, 0, nice, priority, slice_ns, 0, 0, 0, 0)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(SYS_SCHED_SETATTR, 0, attr, 0):
        raise OSError(ctypes.get_errno(), "sched_setattr: " + os.strerror(ctypes.get_errno()))


def lateness(seconds):
    """Seconds that each sleep took too long, sorted."""
    late = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        start = time.monotonic()
        time.sleep(SLEEP)
        woken = time.monotonic()
        late.append(woken - start - SLEEP)
        while time.monotonic() - woken < WORK:
            pass
    return sorted(late)


def measure(way, seconds):
    """Measures in a child, whose scheduling dies with it."""
    name, *scheduling = way
    child = os.fork()
    if child == 0:
        set_scheduling(*scheduling)
        late = lateness(seconds)
        median, p99, latest = (late[int(q * (len(late) - 1))] * 1e3 for q in (0.5, 0.99, 1))
        print(f"| {name} | {median:.2f} | {p99:.2f} | {latest:.1f} |", flush=True)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def main():
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 5.0
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(3 * os.cpu_count())]
    try:
        print("| scheduling | median, ms late | p99 | latest |\n|---|---|---|---|", flush=True)
        return max(measure(way, seconds) for way in WAYS)
    finally:
        for process in busy:
            process.kill()


if __name__ == "__main__":
    sys.exit(main())
