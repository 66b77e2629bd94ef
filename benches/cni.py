#!/usr/bin/python3
"""ADD and DEL of podswitch-cni beside the reference bridge plugin, interleaved in one run, what of them is
the daemon's and what the plugin's mere start, and what a pod's port costs in memory. As root; prints
the rows of the table in docs/performance.md.

    make bench-cni ROUNDS=50 PODS=100
"""

import ctypes
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import time

from node import Node

CLONE_NEWNET = 0x40000000
REFERENCE = pathlib.Path("/usr/lib/cni")
NODE = """
[switch]
socket = "{socket}"
[node]
pod_cidrs = ["10.244.1.0/24"]
gateway = true
"""


class Bench(Node):
    def __init__(self, target):
        super().__init__(target, NODE)

    def subject(self, name):
        """The plugin's file and its configuration."""
        host_local = {"type": "host-local", "subnet": "10.245.0.0/16", "routes": [{"dst": "0.0.0.0/0"}],
                      "dataDir": str(self.folder / name.replace(" ", "-").replace(",", ""))}
        conf = {"cniVersion": "1.0.0", "name": name.split(",")[0].replace(" ", "-"), "isGateway": True}
        if name.startswith("bridge"):
            return REFERENCE / "bridge", conf | {"bridge": "cni0", "ipam": host_local}
        if "host-local" in name:
            return self.target / "podswitch-cni", conf | {"bridge": "cni1", "ipam": host_local}
        return self.target / "podswitch-cni", conf

    def call(self, subject, command, pod):
        """Executes a plugin; the time it took, in milliseconds."""
        binary, conf = self.subject(subject)
        env = {"CNI_COMMAND": command, "CNI_CONTAINERID": pod, "CNI_NETNS": f"/run/netns/{pod}",
               "CNI_IFNAME": "eth0", "CNI_PATH": str(REFERENCE), "PATH": os.environ["PATH"],
               "PODSWITCH_SOCKET": str(self.socket)}
        # Inside the node's namespace already, so that nsenter's start is not timed.
        start = time.perf_counter()
        done = subprocess.run([binary], input=json.dumps(conf).encode(), env=env, capture_output=True)
        took = (time.perf_counter() - start) * 1e3
        if done.returncode:
            sys.exit(f"{subject} {command}: {done.stdout.decode()} {done.stderr.decode()}")
        return took


    def daemons(self, method):
        """How long the daemon took for a method, each time, in milliseconds, as it logs it."""
        log = (self.folder / "log").read_text()
        return [float(ms) for ms in re.findall(rf"{method} by .*, in ([0-9.]+) ms", log)]


def kernel_memory():
    """Bytes of the kernel's that ports can be made of: slab, vmalloc (rings), per-CPU."""
    wanted = ("SUnreclaim:", "VmallocUsed:", "Percpu:")
    lines = pathlib.Path("/proc/meminfo").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(wanted))


def resident(pid):
    fields = pathlib.Path(f"/proc/{pid}/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")


def row(values):
    values = sorted(values)
    p95 = values[int(len(values) * 0.95) - 1]
    return f"{statistics.median(values):.1f} / {p95:.1f} ({values[0]:.1f})"


def main():
    if os.geteuid() != 0:
        sys.exit("bench-cni: needs root, for network namespaces")
    target, rounds, pods = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    bench = Bench(target)
    try:
        # This process moves into the node's namespace; the plugins are its children.
        with open(f"/run/netns/{bench.node}") as netns:
            bench.start()
            # os.setns is there from Python 3.12 on.
            if ctypes.CDLL(None, use_errno=True).setns(netns.fileno(), CLONE_NEWNET) != 0:
                sys.exit(f"setns: {os.strerror(ctypes.get_errno())}")
        measure(bench, rounds, pods)
    finally:
        bench.clean()


def measure(bench, rounds, pods):
    bridge, local, own = subjects = ["bridge, host-local", "podswitch-cni, host-local",
                                     "podswitch-cni, own IPAM"]
    times = {(s, c): [] for s in subjects for c in ("ADD", "DEL", "VERSION")}
    daemon = {(s, c): [] for s in (local, own) for c in ("ADD", "DEL")}
    pod = bench.netns("pod")
    # A node is never without pods: what the first one brings, and the last takes along, is not counted.
    for subject in subjects:
        bench.call(subject, "ADD", bench.netns("resident" + str(subjects.index(subject))))
    for number in range(rounds + 2):
        for subject in subjects:
            for command in ("ADD", "DEL", "VERSION"):
                took = bench.call(subject, command, pod)
                if number >= 2:
                    times[subject, command].append(took)
                if subject != bridge and command != "VERSION":
                    daemon[subject, command] += bench.daemons("attachment." + command.lower())[-1:]
    memory = {}
    many = [bench.netns(f"m{n}") for n in range(pods)]
    for subject in (bridge, own):
        before, own_memory = kernel_memory(), resident(bench.daemon.pid)
        for each in many:
            bench.call(subject, "ADD", each)
        grown = resident(bench.daemon.pid) - own_memory
        memory[subject] = (kernel_memory() - before + grown) / pods
        for each in many:
            bench.call(subject, "DEL", each)
    memory[local] = memory[own]

    load = os.getloadavg()[0]
    print(f"{rounds} rounds, interleaved; {pods} pods for memory; load {load:.1f}\n"
          "ms: median / p95 (least); a port: KiB\n")
    print("| plugin | ADD | of it the daemon's | DEL | of it the daemon's | start (VERSION) | a port |")
    print("|---|---|---|---|---|---|---|")
    for subject in subjects:
        cells = [row(v) for c in ("ADD", "DEL") for v in (times[subject, c], daemon[subject, c])] \
            if subject != bridge else [row(times[subject, "ADD"]), "", row(times[subject, "DEL"]), ""]
        start = row(times[subject, "VERSION"])
        print(f"| {subject} | {' | '.join(cells)} | {start} | {memory[subject] / 1024:.0f} |")


if __name__ == "__main__":
    main()
