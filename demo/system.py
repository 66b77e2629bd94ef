"""Commands, network namespaces and the processes in them."""

import os
import shutil
import signal
import subprocess
import time


class Failure(Exception):
    """Something that the demo asserts did not hold. Its text is for the reader of the screen."""


def run(*argv, timeout=30, check=True, text="", **environment):
    """Runs a command on a text and gives its result; what it printed is in the failure if it fails."""
    env = os.environ | environment
    try:
        result = subprocess.run(argv, capture_output=True, text=True, timeout=timeout, input=text, env=env)
    except subprocess.TimeoutExpired:
        raise Failure(f"`{' '.join(argv)}` took more than {timeout} s") from None
    if check and result.returncode != 0:
        output = (result.stderr.strip() or result.stdout.strip())
        raise Failure(f"`{' '.join(argv)}` ended with {result.returncode}: {output}")
    return result


def wait_until(what, condition, seconds=10.0):
    """Polls until the condition holds; gives the seconds that it took."""
    start = time.monotonic()
    while not condition():
        if time.monotonic() - start > seconds:
            raise Failure(f"not within {seconds:.0f} s: {what}")
        time.sleep(0.02)
    return time.monotonic() - start


def stop(process, patience=10.0):
    """Ends a process with SIGTERM and, if that does not help, with SIGKILL. Gives its exit code."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    return process.returncode


class Namespace:
    """A network namespace, made here and removed by `delete_namespace`."""

    def __init__(self, name):
        self.name = name
        self.path = f"/run/netns/{name}"
        run("ip", "netns", "add", name)
        self.ip("link", "set", "lo", "up")

    def argv(self, *argv):
        """The command line that runs `argv` in here. nsenter, not `ip netns exec`: that would hide bpffs."""
        return ("nsenter", f"--net={self.path}", "--", *argv)

    def exec(self, *argv, timeout=30, check=True):
        """Runs a command in here to its end."""
        return run(*self.argv(*argv), timeout=timeout, check=check)

    def spawn(self, *argv, **options):
        """Starts a process in here, in a session of its own: a Ctrl-C is the demo's, which then stops it."""
        options.setdefault("stdin", subprocess.DEVNULL)
        return subprocess.Popen(self.argv(*argv), start_new_session=True, **options)

    def ip(self, *words):
        """The `ip` command on this namespace."""
        return run("ip", "-n", self.name, *words).stdout

    def sysctl(self, key, value):
        """Sets one of the namespace's own kernel settings."""
        path = "/proc/sys/" + key.replace(".", "/")
        self.exec("sh", "-c", f"echo {value} > {path}")

    def links(self):
        """The names of the interfaces in here."""
        lines = self.ip("-o", "link", "show").splitlines()
        return {line.split(": ")[1].split("@")[0] for line in lines}


def bpf_pins(path):
    """Where a daemon in the namespace at this path keeps its pins: a directory for each namespace, by inode."""
    return f"/sys/fs/bpf/podswitch/{os.stat(path).st_ino}"


def delete_namespace(name):
    """Removes a namespace with all links in it; what still runs in it is ended first."""
    shutil.rmtree(bpf_pins(f"/run/netns/{name}"), ignore_errors=True)
    for pid in run("ip", "netns", "pids", name, check=False).stdout.split():
        try:
            os.kill(int(pid), signal.SIGKILL)
        except ProcessLookupError:
            pass
    run("ip", "netns", "delete", name, check=False)


def wire(one, one_name, other, other_name):
    """Joins two namespaces by a veth pair; both ends are up."""
    one.ip("link", "add", one_name, "type", "veth", "peer", "name", other_name, "netns", other.name)
    one.ip("link", "set", one_name, "up")
    other.ip("link", "set", other_name, "up")
