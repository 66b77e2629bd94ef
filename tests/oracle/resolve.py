"""Neighbour resolution of the router, in the model: hosts behind bridged ports of the node's segment
(RFC 826, RFC 1122 section 2.3.2, RFC 4861 section 7.2)."""

import model
import icmp_error
import router
import wire

MAX_PENDING, MAX_HELD, MAX_TRIES = 64, 4, 3
RETRY_AFTER = 1000  # milliseconds
BACK_OFF, STALE_AFTER, FORGET_AFTER = 5, 30, 300  # seconds


class Wait(Exception):
    """The packet is to wait for a neighbour."""

    def __init__(self, address):
        super().__init__(address)
        self.address = address


class Pending:
    """A neighbour that is being asked for, and the frames that wait."""

    def __init__(self, address, due):
        self.address, self.due, self.tries, self.held = address, due, 0, []


class Neighbors:
    """What the router knows of the hosts of its segment."""

    def __init__(self):
        self.entries = {}  # address: (MAC address or None, whether it failed, second)
        self.pending, self.heard, self.due = [], False, 0

    def state(self, address, now):
        """Its MAC address, its state and its age; none if nothing is known."""
        mac, failed, at = self.entries.get(address, (None, False, None))
        if at is None or now - at >= FORGET_AFTER:
            return None
        age = now - at
        if failed:
            return mac, "failed", age
        if mac is None:
            return mac, "incomplete", age
        return mac, "reachable" if age < STALE_AFTER else "stale", age

    def note(self, address, millis):
        found = next((p for p in self.pending if p.address == address), None)
        if found is None and len(self.pending) < MAX_PENDING:
            found = Pending(address, millis)
            self.pending.append(found)
            self.due = millis
        return found


def next_hop(switch, address):
    """The next hop of a packet to a host of the segment. Raises Wait while it is not known, and Drop
    when the host is known not to answer."""
    known = switch.neighbors.state(address, switch.now)
    if known is None:
        raise Wait(address)
    mac, state, age = known
    if state == "failed" and age < BACK_OFF:
        raise model.Drop("neighbor_failed")
    if state == "stale":
        switch.neighbors.note(address, switch.millis)
    where = switch.find(switch.segments[switch.resolving], mac) if mac else None
    if where is None:
        raise Wait(address)
    return ("local" if where[0] == "port" else "behind", where[1], mac)


def hold(switch, address, came_from, frame):
    """Lets a frame wait; the oldest makes room."""
    pending = switch.neighbors.note(address, switch.millis)
    if pending is None:
        raise model.Drop("neighbor_unresolved")
    if len(pending.held) >= MAX_HELD:
        port, _, _ = pending.held.pop(0)
        switch.count("neighbor_queue_full", port)
    pending.held.append((switch.ingress, came_from, frame))


def tick(switch):
    """Asks again, sends on what waited, gives up."""
    known = switch.neighbors
    if not known.heard and (not known.pending or switch.millis < known.due):
        return
    known.heard = False
    for _ in range(len(known.pending)):
        pending = known.pending.pop(0)
        if not attend(switch, pending):
            known.pending.append(pending)
    due = min((p.due for p in known.pending), default=1 << 64)
    known.due = min(due, switch.millis + 5)


def attend(switch, pending):
    """Does what is due for one neighbour; whether it is done with."""
    known = switch.neighbors
    if switch.resolving is None:
        return send_on(switch, pending)
    state = known.state(pending.address, switch.now)
    if state and state[1] == "reachable":
        return send_on(switch, pending)
    if switch.millis < pending.due:
        return False
    if pending.tries == MAX_TRIES:
        known.entries[pending.address] = (None, True, switch.now)
        return send_on(switch, pending)
    pending.tries += 1
    pending.due = switch.millis + RETRY_AFTER
    if state is None or state[0] is None:
        known.entries[pending.address] = (None, False, switch.now)
    members = switch.segments[switch.resolving].members
    ports = [p for p, _, _ in pending.held[:1]] or [i for kind, i in members if kind == "port"]
    if ports and ports[0] in switch.ports:
        switch.ingress = ports[0]
        try:
            ask(switch, pending.address)
        except model.Drop as drop:
            switch.count(drop.reason)
    return False


def ask(switch, address):
    """A question to all of the segment."""
    own = icmp_error.source_towards(switch, address)
    if own is None:
        return
    mac = switch.router_mac
    if len(address) == 4:
        question = wire.arp(1, mac, own, bytes(6), address)
        frame = wire.ethernet(wire.BROADCAST, mac, wire.ARP, question)
    else:
        to = wire.ip("ff02::1:ff00:0")[:13] + address[13:]
        message = wire.icmpv6(own, to, 135, 0, bytes(4) + address + b"\x01\x01" + mac)
        packet = wire.ipv6(own, to, wire.ICMPV6, message, hop_limit=255)
        frame = wire.ethernet(b"\x33\x33" + to[12:], mac, wire.IPV6, packet)
    switch.flood(switch.segments[switch.resolving], ("router",), frame)


def send_on(switch, pending):
    """What waited is routed once more; it does not wait twice."""
    while pending.held:
        switch.ingress, came_from, frame = pending.held.pop(0)
        if switch.ingress not in switch.ports:
            switch.count("port_unknown")
            continue
        try:
            if came_from == ("router",):
                router.originate(switch, frame[14:], may_wait=False)
            else:
                router.forward(switch, came_from, frame, frame[14] >> 4, may_wait=False)
        except model.Drop as drop:
            switch.count(drop.reason)
    return True


def hear_arp(switch, frame):
    """Whether an ARP packet to the router answers a question of its own."""
    body = frame[14:42]
    if body[6:8] != b"\0\x02" or body[24:28] not in switch.gateways:
        return False
    return hear(switch, body[14:18], body[8:14], True, True)


def hear_advertisement(switch, frame, packet):
    told = advertised(frame, packet)
    return bool(told) and hear(switch, *told)


def advertised(frame, packet):
    """What a valid advertisement says (RFC 4861 sections 4.4 and 7.1.2): an address, its MAC address, and
    the flags override and solicited."""
    if packet[6] != wire.ICMPV6:
        return None
    src, dst = wire.addresses(packet)
    message = packet[40:]
    if len(message) < 24 or message[0] != 136 or message[1] != 0 or packet[7] != 255:
        return None
    found = router.options(message[24:])
    if None in found or not router.icmpv6_sum_is_right(src, dst, message) or message[8] == 0xFF:
        return None
    if message[4] & 0x40 and dst[0] == 0xFF:
        return None  # solicited, and yet for everybody
    given = [o[2:8] for o in found if o[0] == 2 and len(o) == 8]
    return message[8:24], given[0] if given else frame[6:12], message[4] & 0x20, message[4] & 0x40


def hear(switch, address, mac, override, solicited):
    """RFC 4861 section 7.2.5: what is known is replaced by who may override it, and is reachable by who
    was asked. But for one thing: what completes an entry makes it reachable, asked or not."""
    if switch.resolving is None or switch.route(address) != ("connected",):
        return False
    known = switch.neighbors.state(address, switch.now)
    if known is None:
        return False
    if mac[0] & 1 or mac == bytes(6):
        return True
    old, state, _ = known
    stale = max(0, switch.now - STALE_AFTER)
    switch.neighbors.heard = True
    if old is None or (solicited and (old == mac or override)):
        switch.neighbors.entries[address] = (mac, False, switch.now)
    elif old != mac and override:
        switch.neighbors.entries[address] = (mac, False, stale)
    elif old != mac and state == "reachable":
        switch.neighbors.entries[address] = (old, False, stale)
    return True
