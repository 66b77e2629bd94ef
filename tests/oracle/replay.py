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
import wire

SOURCE_PORTS = range(49152, 65536)  # RFC 7348 section 5


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


def expected(case):
    """What the model says of each frame of a case, and what the ports receive."""
    switch = model.Model()
    frames, received = [], {}
    for event in case["events"]:
        if isinstance(event, dict):
            switch.configure(event["state"], event["facts"])
            continue
        port, time, text = event
        frame = bytes.fromhex(text)
        frames.append((port,) + tuple(map(tuple, switch.receive(port, time, frame))))
        count, size = received.get(port, (0, 0))
        received[port] = (count + 1, size + len(frame))
    return frames, received


def compare(case, answer, flows, told=None):
    """Raises Disagreement at the first frame whose fate differs. `flows` remembers the source port
    of each flow; `told` counts what happened, by name."""
    wanted, received = expected(case)
    if answer["complaint"]:
        raise Disagreement(answer["complaint"])
    for number, ((port, sent, dropped), (out, drops)) in enumerate(zip(wanted, answer["frames"], strict=True)):
        seen = [(p, bytes.fromhex(frame)) for p, frame in out]
        try:
            compare_frame(sent, dropped, seen, drops, flows)
        except Disagreement as difference:
            raise Disagreement(f"frame {number} of port {port}: {difference}") from None
        if told is not None:
            for name in [reason for _, reason in dropped] + ["sent"] * bool(sent):
                told[name] = told.get(name, 0) + 1
    for port, (count, size) in received.items():
        if answer["counters"][str(port)][:2] != [count, size]:
            raise Disagreement(f"port {port}: received {answer['counters'][str(port)]}, not {count, size}")


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
    """Whether a frame is the one that the model means, whose UDP source port and flow label it leaves
    open."""
    if ours.flow is None:
        return ours.frame == frame
    if len(frame) != len(ours.frame) or len(frame) < 54:
        return False
    choice, filled = (), ours.frame
    if ours.frame[12:14] == b"\x86\xdd":
        word = struct.unpack_from("!I", frame, 14)[0]
        filled = filled[:15] + bytes([filled[15] & 0xF0 | word >> 16 & 0xF]) + frame[16:18] + filled[18:]
        choice = (word & 0xFFFFF,)
        if not choice[0]:
            return False  # no flow: RFC 6437 section 2
    at, protocol = (54, filled[20]) if choice else (34, filled[23])
    if protocol == wire.UDP:
        (port,) = struct.unpack_from("!H", frame, at)
        filled = filled[:at] + frame[at:at + 2] + filled[at + 2:]
        if at == 54:
            datagram = filled[at:]
            head = wire.pseudo(filled[22:38], filled[38:54], wire.UDP, len(datagram))
            value = wire.checksum(head + datagram) or 0xFFFF
            filled = filled[:at + 6] + struct.pack("!H", value) + filled[at + 8:]
        if port not in SOURCE_PORTS:
            return False
        choice += (port,)
    return filled == frame and flows.setdefault((ours.flow, at, protocol), choice) == choice


# Making a disagreement small --------------------------------------------------------------------------


def difference(engine, case):
    """How engine and model differ about a case, or nothing."""
    engine.start(case)
    try:
        compare(case, engine.answer(), {})
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
    words = {"host", "blackhole", "unreachable"}
    vias = {r["via"] for r in state.get("route", []) if not set(r["via"]) & set(".:")} - words
    refers = {f["port"] for f in state.get("fdb", []) if "port" in f}
    refers |= {n["port"] for n in state.get("neighbor", [])}
    return vias <= tunnels and refers <= ports \
        and {f["tunnel"] for f in state.get("fdb", []) if "tunnel" in f} <= tunnels
