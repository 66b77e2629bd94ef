"""The engine, driven through the `replay` binary (tests/src/bin/replay.rs), and the comparison of what
it does with what the model says.

A case is an object, one line of JSON: `fdb_capacity`, and `events`, each either new tables,
{"state": …, "facts": …}, or a frame, [port, milliseconds, hexadecimal]. The answer has `frames`, a
pair for each frame, of what was sent, [[port, hexadecimal], …], and what was dropped, [[port, reason],
…]; `counters`, {port: [received frames, received bytes, originated frames]}; and `complaint`.
"""

import json
import struct
import subprocess

import model
import underlay
import wire

class Engine:
    """A `replay` process."""

    def __init__(self, binary):
        self.process = subprocess.Popen([binary], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def start(self, case):
        json.dump(case, self.process.stdin)
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"oracle: replay ended with {self.process.wait()}: see its message above")
        return json.loads(line)

    def end(self):
        self.process.stdin.close()
        self.process.wait()


class Disagreement(Exception):
    """Engine and model differ at a frame."""


class Flows:
    """What the engine chose for each flow: all its packets must fare alike."""

    def __init__(self):
        self.headers = {}  # (flow, place, protocol): source port, flow label
        self.ways = {}  # flow: {ways that there were: the one taken}
        self.idents, self.fresh = set(), []  # (flow, identification) of outer packets without DF

    def may_take(self, flow, ways, way):
        """Whether a flow may take a way: the one it took before, if both are there again, and were
        then. So a way that goes moves only its own flows, and one that comes takes none from another
        to a third."""
        known = self.ways.get(flow, {}).items()
        return all(took == way or took not in ways or way not in then for then, took in known)


class Chooser:
    """Guesses which way of several the flows of one frame take, by a plan: the numbers of the guesses."""

    def __init__(self, flows, plan):
        self.flows, self.plan = flows, plan
        self.asked = {}  # (flow, ways): (the one taken, how many it could have taken)

    def __call__(self, ways, packet):
        ethertype = wire.IPV4 if packet[0] >> 4 == 4 else wire.IPV6
        flow = underlay.flow_of(wire.ethernet(bytes(6), bytes(6), ethertype, packet))
        key = flow, frozenset(ways)
        if key not in self.asked:
            may = [way for way in ways if self.flows.may_take(flow, key[1], way)]
            if not may:
                raise Disagreement(f"a flow left its way: {self.flows.ways[flow]}, now of {ways}")
            at = len(self.asked)
            self.asked[key] = may[self.plan[at] if at < len(self.plan) else 0], len(may)
        return self.asked[key][0]

    def next_plan(self):
        """The plan after this one, or none."""
        plan = [self.plan[at] if at < len(self.plan) else 0 for at in range(len(self.asked))]
        counts = [count for _, count in self.asked.values()]
        while plan:
            last = plan.pop() + 1
            if last < counts[len(plan)]:
                return plan + [last]
        return None


def fate(switch, flows, port, time, frame, seen, drops):
    """What the model says of a frame. Raises Disagreement if the engine says otherwise, whatever ways
    of equal cost its flows take. If one guess alone is right, it is remembered."""
    before = switch.memory() if switch.has_groups else None
    plan, right, difference = [], [], None

    def attempt(plan):
        switch.choose = Chooser(flows, plan)
        flows.fresh = []
        told = switch.receive(port, time, frame)
        compare_frame(*told, seen, drops, flows)
        return told

    while plan is not None:
        try:
            told = attempt(plan)
            right.append(plan)
        except Disagreement as found:
            difference = difference or found
        plan = switch.choose.next_plan()
        if plan is not None:
            switch.remember(before)
    if not right:
        raise difference
    if len(right) > 1 or difference:
        switch.remember(before)
        told = attempt(right[0])
    if len(right) == 1:
        for (flow, ways), (way, _) in switch.choose.asked.items():
            flows.ways.setdefault(flow, {})[ways] = way
    flows.idents.update(flows.fresh)
    return told


def compare(case, answer, flows, told=None):
    """Raises Disagreement at the first frame whose fate differs. `flows` remembers what the engine chose
    for each flow; `told` counts what happened, by name."""
    if answer["complaint"]:
        raise Disagreement(answer["complaint"])
    switch, received, results = model.Model(), {}, iter(answer["frames"])
    flows.idents.clear()
    for number, event in enumerate(case["events"]):
        if isinstance(event, dict):
            switch.configure(event["state"], event["facts"])
            continue
        port, time, frame = event[0], event[1], bytes.fromhex(event[2])
        out, drops = next(results)
        seen = [(p, bytes.fromhex(frame)) for p, frame in out]
        try:
            sent, dropped = fate(switch, flows, port, time, frame, seen, drops)
        except Disagreement as difference:
            raise Disagreement(f"event {number}, port {port}: {difference}") from None
        count, size = received.get(port, (0, 0))
        received[port] = (count + 1, size + len(frame))
        if told is not None:
            for name in [reason for _, reason in dropped] + ["sent"] * bool(sent):
                told[name] = told.get(name, 0) + 1
    for port, (count, size) in received.items():
        ours = [count, size, switch.not_learned.get(port, 0)]
        frames, octets, _, not_learned = answer["counters"][str(port)]
        if [frames, octets, not_learned] != ours:
            raise Disagreement(f"port {port}: received {answer['counters'][str(port)]}, not {ours}")


def compare_frame(sent, dropped, seen, drops, flows):
    if sorted(map(list, dropped)) != sorted(drops):
        raise Disagreement(f"the model says {told(sent, dropped)}, the engine {told(seen, drops)}")
    # The order of copies of one frame through one port means nothing.
    for at in {s.port for s in sent} | {p for p, _ in seen}:
        ours = [s for s in sent if s.port == at]
        theirs = [frame for p, frame in seen if p == at]
        if len(ours) != len(theirs):
            raise Disagreement(f"the model says {told(sent, dropped)}, the engine {told(seen, drops)}")
        for frame in theirs:
            found = next((s for s in ours if matches(s, frame, flows)), None)
            if found is None:
                raise Disagreement(f"through port {at} the engine sends\n  {frame.hex()}\n"
                                   "and the model one of\n  " + "\n  ".join(s.frame.hex() for s in ours))
            ours.remove(found)


def told(sent, drops):
    ports = [s.port if isinstance(s, model.Sent) else s[0] for s in sent]
    return f"sent {ports}, dropped {list(map(list, drops))}"


def matches(ours, frame, flows):
    """Whether a frame is the one that the model means, whose UDP source port, flow label and identification
    it may leave open."""
    if ours.flow is None or len(frame) != len(ours.frame) or len(frame) < 54:
        return ours.frame == frame
    ip = 18 if ours.frame[12:14] == b"\x81\x00" else 14
    is_v6, filled, choice = ours.frame[ip] >> 4 == 6, ours.frame, ()
    if is_v6:
        label = struct.unpack_from("!I", frame, ip)[0] & 0xFFFFF
        filled = put(filled, ip, struct.pack("!I", struct.unpack_from("!I", filled, ip)[0] & ~0xFFFFF | label))
        choice = (label,)
        if not label:
            return False  # no flow: RFC 6437 section 2
    elif not filled[ip + 6] & 0x40:
        filled = filled[:ip] + wire.fix_ipv4(put(filled, ip + 4, frame[ip + 4:ip + 6])[ip:])
    at, protocol = (ip + 40, filled[ip + 6]) if is_v6 else (ip + 20, filled[ip + 9])
    if protocol == wire.UDP:
        (port,) = struct.unpack_from("!H", frame, at)
        filled = put(filled, at, frame[at:at + 2])
        if is_v6:
            head = wire.pseudo(*wire.addresses(filled[ip:]), wire.UDP, len(filled) - at)
            filled = put(filled, at + 6, struct.pack("!H", wire.checksum(head + filled[at:]) or 0xFFFF))
        if port not in ours.ports:
            return False
        choice += (port,)
    key = ours.flow, is_v6, protocol, ours.ports
    return filled == frame and is_fresh(frame[ip:], ours.flow, flows) and flows.headers.setdefault(key, choice) == choice


def put(data, at, octets):
    return data[:at] + octets + data[at + len(octets):]


def is_fresh(packet, flow, flows):
    """RFC 6864 section 4.3: of a flow no two packets that may be fragmented have one identification."""
    if packet[0] >> 4 == 4 and not packet[6] & 0x40:
        ident = flow, packet[4:6]
        if ident in flows.idents:
            return False
        flows.fresh.append(ident)
    return True


# Making a disagreement small --------------------------------------------------------------------------


def difference(engine, case):
    """How engine and model differ about a case, or nothing."""
    engine.start(case)
    try:
        compare(case, engine.answer(), Flows())
    except Disagreement as found:
        return str(found)
    return None


def shrunk(engine, case):
    """A case that still disagrees, with as few frames, and objects in its tables, as dropping them
    one by one leads to."""
    events, at = case["events"], len(case["events"])
    size = max(1, len(events) // 2)
    while size:
        at = len(events) - size
        while at >= 0:
            fewer = events[:at] + events[at + size:]
            if fewer and differs(engine, case | {"events": fewer}):
                events = fewer
            at -= size
        size //= 2
    case = case | {"events": events}
    for number, event in enumerate(events):
        if isinstance(event, dict):
            case = without_objects(engine, case, number)
    return case


def differs(engine, case):
    try:
        return difference(engine, case)
    except (KeyError, IndexError):
        return None


def without_objects(engine, case, number):
    for kind in ("route", "neighbor", "fdb", "tunnel", "port"):
        at = len(case["events"][number]["state"].get(kind, [])) - 1
        while at >= 0:
            event = case["events"][number]
            rest = [o for i, o in enumerate(event["state"][kind]) if i != at]
            fewer = event | {"state": event["state"] | {kind: rest}}
            events = case["events"][:number] + [fewer] + case["events"][number + 1:]
            if is_whole(fewer["state"]) and differs(engine, case | {"events": events}):
                case = case | {"events": events}
            at -= 1
    return case


def is_whole(state):
    """Whether all that is referred to is there: the engine refuses other states."""
    tunnels = {t["name"] for t in state.get("tunnel", [])}
    ports = {p["name"] for p in state.get("port", [])}
    words = {"host", "blackhole", "unreachable", "prohibited"}
    listed = [v for r in state.get("route", []) for v in ([r["via"]] if isinstance(r["via"], str) else r["via"])]
    vias = {v for v in listed if not set(v) & set(".:")} - words
    refers = {f["port"] for f in state.get("fdb", []) if "port" in f}
    refers |= {n["port"] for n in state.get("neighbor", []) if "port" in n}
    placed = state.get("fdb", []) + state.get("neighbor", [])
    return vias <= tunnels and refers <= ports \
        and {f["tunnel"] for f in placed if "tunnel" in f} <= tunnels
