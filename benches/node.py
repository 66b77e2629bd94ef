"""A podswitch daemon in a network namespace of its own, for the benches of this folder."""

import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time


class Node:
    """`config` has `{socket}` where the socket's path belongs."""

    def __init__(self, target, config):
        self.target = pathlib.Path(target)
        self.config = config
        self.prefix = f"pst-{os.getpid()}-"
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix=self.prefix))
        self.node = self.netns("node")
        self.socket = self.folder / "podswitch.sock"
        self.daemon = None

    def netns(self, name):
        subprocess.run(["ip", "netns", "add", self.prefix + name], check=True)
        return self.prefix + name

    def start(self):
        config = self.folder / "node.toml"
        config.write_text(self.config.format(socket=self.socket))
        log = open(self.folder / "log", "wb")
        words = ["nsenter", f"--net=/run/netns/{self.node}", self.target / "podswitch"]
        self.daemon = subprocess.Popen([*words, "run", "--config", config], stderr=log)
        deadline = time.monotonic() + 10
        while b"podswitch is ready" not in (self.folder / "log").read_bytes():
            if time.monotonic() > deadline or self.daemon.poll() is not None:
                sys.exit("the daemon did not start: " + (self.folder / "log").read_text())
            time.sleep(0.02)

    def clean(self):
        if self.daemon and self.daemon.poll() is None:
            self.daemon.send_signal(signal.SIGTERM)
            self.daemon.wait(10)
        for line in subprocess.run(["ip", "netns"], capture_output=True, text=True).stdout.splitlines():
            if line.startswith(self.prefix):
                subprocess.run(["ip", "netns", "delete", line.split()[0]])
        shutil.rmtree(self.folder)
