#!/usr/bin/python3
"""What a routing protocol finds at the control socket: how long one change takes, and how many there are in a
second, among how many routes. As root; prints the rows of the table in docs/performance.md.

    make bench-routes ROUTES="1000 10000 100000"
"""

import json
import os
import random
import socket
import statistics
import subprocess
import sys
import time

from node import Node

TUNNELS = 4
# Changes in a request, and requests of each kind.
BATCH = 500
BATCHES = 100
SINGLE = 500
CONFIG = """
[switch]
socket = "{socket}"
[node]
pod_cidrs = ["10.244.1.0/24"]
gateway = true
[uplink]
dev = "uplink0"
""" + "".join(
    f'[[tunnel]]\nname = "t{i}"\nkind = "vxlan"\nvni = 7\nremote = "192.0.2.{i + 2}"\n' for i in range(TUNNELS)
)


class Client:
    def __init__(self, path):
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(path))
        self.lines = connection.makefile("rw")

    def call(self, line):
        self.lines.write(line)
        self.lines.flush()
        answer = self.lines.readline()
        if '"error"' in answer:
            sys.exit(f"bench-routes: {answer}")


def request(method, params):
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}) + "\n"


def announce(prefixes, via=None):
    via = via or (lambda: f"t{random.randrange(TUNNELS)}")
    return request("route.update", {"add": [{"prefix": p, "via": via()} for p in prefixes]})


def withdraw(prefixes):
    return request("route.update", {"del": prefixes})


def timed(client, lines):
    """Seconds for each request."""
    took = []
    for line in lines:
        start = time.perf_counter()
        client.call(line)
        took.append(time.perf_counter() - start)
    return took


def prefixes(n):
    """Four fifths /24, the others host routes, outside of the node's own."""
    out = set()
    while len(out) < n:
        octets = [random.randrange(11, 224), random.randrange(256), random.randrange(256)]
        octets, length = (octets + [0], 24) if random.random() < 0.8 else (octets + [random.randrange(256)], 32)
        out.add(".".join(map(str, octets)) + f"/{length}")
    return sorted(out)


def measure(target, n):
    random.seed(1)
    node = Node(target, CONFIG)
    try:
        commands = (
            "ip link add uplink0 type veth peer name wire0; ip addr add 192.0.2.1/24 dev uplink0; "
            "ip link set lo up; ip link set uplink0 up; ip link set wire0 up"
        )
        subprocess.run(["nsenter", f"--net=/run/netns/{node.node}", "sh", "-c", commands], check=True)
        node.start()
        client = Client(node.socket)
        routes = prefixes(n)
        batches = [routes[i:i + 5000] for i in range(0, n, 5000)]
        timed(client, [announce(batch) for batch in batches])

        single = timed(client, [announce([random.choice(routes)]) for _ in range(SINGLE)])
        quantiles = statistics.quantiles(single, n=100)
        changed = timed(client, [announce(random.sample(routes, BATCH)) for _ in range(BATCHES)])
        flapped = []
        for _ in range(BATCHES):
            batch = random.sample(routes, BATCH)
            flapped += timed(client, [withdraw(batch), announce(batch)])
        # The operator's command, among as many routes of the configuration.
        timed(client, [withdraw(batch) for batch in batches])
        file = node.folder / "routes.json"
        config = {
            "node": {"pod_cidrs": ["10.244.1.0/24"], "gateway": True}, "uplink": {"dev": "uplink0"},
            "tunnel": [{"name": f"t{i}", "kind": "vxlan", "vni": 7, "remote": f"192.0.2.{i + 2}"}
                       for i in range(TUNNELS)],
            "route": [{"prefix": p, "via": "t0"} for p in routes[:10000]],
        }
        file.write_text(json.dumps(config))
        subprocess.run([node.target / "podswitch", "--socket", node.socket, "apply", "-f", file],
                       check=True, capture_output=True)
        added = timed(client, [request("route.add", {"prefix": f"10.{i}.7.0/24", "via": "t0"}) for i in range(20)])
        print(f"| {n:,} | {statistics.median(single) * 1e3:.2f} | {quantiles[98] * 1e3:.2f} "
              f"| {BATCH * BATCHES / sum(changed):,.0f} | {2 * BATCH * BATCHES / sum(flapped):,.0f} "
              f"| {statistics.median(added) * 1e3:.1f} |", flush=True)
    finally:
        node.clean()


def main():
    if os.geteuid() != 0:
        sys.exit("bench-routes: needs root, for network namespaces")
    print("| routes | one change, ms, median | 99 % | next hops a second | withdrawn and announced a second "
          "| `route.add`, ms (of 10,000 at most) |\n|---|---|---|---|---|---|", flush=True)
    for n in sys.argv[2:]:
        measure(sys.argv[1], int(n))


if __name__ == "__main__":
    main()
