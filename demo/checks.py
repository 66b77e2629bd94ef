"""What the demo asserts. Each check is one step on the screen and raises Failure if it does not hold."""

import contextlib
import json
import re
from collections import Counter

import screen
from cluster import OUTSIDE4, VXLAN_PORT
from system import Failure, wait_until

PINGS = 5
IPERF_SECONDS = 3
PAGE = "the outside world\n"
LONGEST_GAP = 1.0  # seconds that the nodes' own connection may stall, retransmissions included


def ping(what, source, target, options=()):
    """Pings, all of which must be answered. The first answer may wait for neighbours to be resolved."""
    with screen.step(f"ping {what}, {target}") as outcome:
        command = ("ping", "-n", *options)
        reached = lambda: source.exec(*command, "-c1", "-W1", target, check=False).returncode == 0  # noqa: E731
        wait_until(f"{target} answers a ping", reached, seconds=8)
        output = source.exec(*command, f"-c{PINGS}", "-i0.1", "-W1", target).stdout
        loss = re.search(r"([\d.]+)% packet loss", output).group(1)
        if float(loss) != 0:
            raise Failure(f"{loss} % of the pings to {target} were lost")
        outcome.note = f"{PINGS}/{PINGS}, {re.search(r'= [^/]+/([^/]+)/', output).group(1)} ms"


def iperf(what, cluster, client, server, address, options=()):
    """A TCP stream from one pod to another; both ends must have seen it go through."""
    with screen.step(f"iperf3 {what}, TCP, {IPERF_SECONDS} s") as outcome:
        listener = cluster.start(server, "iperf3", "--server", "--one-off", "--forceflush")
        wait_until("iperf3 listens", lambda: "5201" in server.exec("ss", "-Hltn").stdout)
        arguments = ("iperf3", "--client", address, "--time", str(IPERF_SECONDS), "--json", *options)
        report = json.loads(client.exec(*arguments, timeout=IPERF_SECONDS + 15).stdout)
        listener.wait(5)
        received = report["end"]["sum_received"]
        if received["bytes"] < 1_000_000:
            raise Failure(f"only {received['bytes']} bytes in {IPERF_SECONDS} s to {address}")
        again = report["end"]["sum_sent"].get("retransmits", 0)
        outcome.note = f"{received['bits_per_second'] / 1e9:.2f} Gbit/s, {again} retransmits"


@contextlib.contextmanager
def on_the_wire(cluster, *kinds, never=()):
    """Asserts which kinds of packet pass the wire meanwhile, and that others do not."""
    tap = cluster.start(cluster.middle, "/usr/bin/python3", _tool("wiretap.py"), "node1", str(VXLAN_PORT), expect="ready")
    yield
    seen = json.loads(tap.communicate(timeout=5)[0])
    with screen.step("on the wire: " + ", ".join(kinds)) as outcome:
        outcome.note = ", ".join(f"{kind} {seen.get(kind, 0)}" for kind in kinds)
        for kind in kinds:
            if not seen.get(kind):
                raise Failure(f"no {kind} packet passed the wire: {seen}")
        for kind in never:
            if seen.get(kind):
                raise Failure(f"{seen[kind]} {kind} packets passed the wire, and none should: {seen}")


def start_session(cluster):
    """Starts the nodes' own TCP connection on the uplink, which must outlast all that follows."""
    one, two = cluster.nodes
    with screen.step("a TCP connection between the nodes, as SSH would hold") as outcome:
        script = ("/usr/bin/python3", _tool("session.py"))
        cluster.start(two.namespace, *script, "serve", two.ip4, "22", expect="listening")
        outcome.note = f"{one.ip4} -> {two.ip4} port 22"
        return cluster.start(one.namespace, *script, "talk", two.ip4, "22", expect="connected")


def end_session(session):
    """Ends the nodes' own TCP connection and asserts that nothing disturbed it."""
    with screen.step("the nodes' own TCP connection went on undisturbed") as outcome:
        seen = json.loads(session.communicate(timeout=10)[0])
        if seen["error"] or not seen["intact"] or not seen["messages"]:
            raise Failure(f"the nodes' own TCP connection broke: {seen}")
        if seen["longest_gap"] > LONGEST_GAP:
            raise Failure(f"the nodes' own TCP connection stood still for {seen['longest_gap']:.2f} s")
        outcome.note = f"{seen['messages']} messages, longest gap {seen['longest_gap'] * 1000:.0f} ms"


def fetch_page(cluster, pod, node):
    """A pod fetches a page from the outside host, which must see the node's address and not the pod's."""
    with screen.step(f"{pod.name} fetches http://{OUTSIDE4}/, masqueraded") as outcome:
        folder = cluster.directory
        with open(f"{folder}/index.html", "w", encoding="utf-8") as page:
            page.write(PAGE)
        server = cluster.start(
            cluster.outside, "/usr/bin/python3", "-u", "-m", "http.server", "--directory", folder, "80",
        )  # fmt: skip
        wait_until("the outside host serves", lambda: ":80 " in cluster.outside.exec("ss", "-Hltn").stdout)
        fetch = f"import urllib.request as u; print(u.urlopen('http://{OUTSIDE4}/', timeout=10).read().decode(), end='')"
        got = pod.namespace.exec("/usr/bin/python3", "-c", fetch).stdout
        server.terminate()
        log = server.communicate(timeout=5)[0]
        if got != PAGE:
            raise Failure(f"the page came out as {got!r}")
        if f'{node.ip4} - - ' not in log:
            raise Failure(f"the outside host did not see {node.ip4}, but: {log}")
        outcome.note = f"{len(got)} bytes; it saw {node.ip4}"


def expired_packet_is_counted(node, pod, target):
    """Sends a packet whose TTL ends at the gateway, which must be dropped under its name."""
    with screen.step("a packet with TTL 1 is dropped, and counted by name") as outcome:
        before = drops(node)
        pod.namespace.exec("ping", "-n", "-c1", "-W1", "-t1", target.ip4, check=False)
        new = drops(node) - before
        if not new["ttl_exceeded"]:
            raise Failure(f"no drop for the TTL was counted: {dict(new)}")
        outcome.note = f"ttl_exceeded {new['ttl_exceeded']}"


def drops(node):
    """Drops by name, summed over the ports."""
    total = Counter()
    for port in node.json("show", "counters")["ports"]:
        total.update(port.get("drops", {}))
    return total


def every_frame_is_accounted_for(node):
    """received + originated = sent + coalesced + dropped + in flight, of one moment's counters."""
    with screen.step(f"{node.name}: received + originated = sent + coalesced + dropped + in flight") as outcome:
        counters = node.json("show", "counters")
        ports = counters["ports"]
        received, made, sent, merged = (
            sum(port[key] for port in ports)
            for key in ("rx_frames", "originated", "tx_frames", "coalesced")
        )
        dropped = sum(sum(port.get("drops", {}).values()) for port in ports)
        out = f"{sent} + {merged} + {dropped} + {counters['in_flight']}"
        outcome.note = f"{received} + {made} = {out}"
        if received + made != sent + merged + dropped + counters["in_flight"]:
            raise Failure(f"{node.name}: {received} + {made} frames in, {out} out")


def _tool(name):
    return __file__.replace("checks.py", name)
