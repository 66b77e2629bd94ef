"""What ports and segments allow, in the model: anti-spoofing (BCP 38, RFC 7039), suppression of ARP and
neighbour discovery (RFC 5227, RFC 4862 section 5.4), storm control, and limits of the FDB. The meaning of the
keys is that of docs/podswitch.example.toml."""

import struct

import model
import router
import wire

# RFC 4861 sections 4.1, 4.2 and 4.5; RFC 2710 and RFC 3810.
ROUTER_SOLICIT, ROUTER_ADVERT, SOLICIT, ADVERT, REDIRECT = 133, 134, 135, 136, 137
MLD = (130, 131, 132, 143)
MOST_TAGS = 4


# Anti-spoofing -----------------------------------------------------------------------------------


class Guard:
    """What a port may speak for: `mac`, and `addresses`, or whatever is nobody else's if there are
    none."""

    def __init__(self, mac, addresses):
        self.mac, self.addresses = mac, addresses


def check(switch, segment, guard, frame):
    """Raises Drop if a frame claims what is another's, behind VLAN tags or not."""
    if frame[6:12] != guard.mac:
        raise model.Drop("spoofed_mac")
    at, tags = 12, 0
    while struct.unpack_from("!H", frame, at)[0] in (wire.VLAN, wire.QINQ):
        if tags == MOST_TAGS:
            raise model.Drop("spoofed_ip")  # no host sends so many
        if len(frame) < at + 6:
            raise model.Drop("eth_truncated")
        at, tags = at + 4, tags + 1
    claims = Claims(switch, segment, guard)
    look = {wire.ARP: claims.arp, wire.IPV4: claims.ipv4, wire.IPV6: claims.ipv6}
    ethertype = struct.unpack_from("!H", frame, at)[0]
    if ethertype in look:
        look[ethertype](frame[at + 2:])


class Claims:
    """What the frames of a guarded port say."""

    def __init__(self, switch, segment, guard):
        self.guard = guard
        gateways = switch.gateways if segment.routed else []
        self.taken = set(segment.owners) | set(gateways)

    def is_own(self, address):
        own = self.guard.addresses
        return address in own if own else address not in self.taken

    def may_probe(self, address):
        """For an own address, and to hear that one is taken."""
        return self.is_own(address) or address in self.taken

    def arp(self, body):
        if len(body) < 28 or body[:6] != struct.pack("!HHBB", 1, wire.IPV4, 6, 4):
            raise model.Drop("arp_malformed")
        sender, target = body[14:18], body[24:28]
        if body[6:8] == b"\0\x01" and sender == bytes(4):
            honest = self.may_probe(target)
        else:
            honest = sender != bytes(4) and self.is_own(sender)
        if not honest or body[8:14] != self.guard.mac:
            raise model.Drop("spoofed_arp")

    def ipv4(self, packet):
        if len(packet) < 20:
            raise model.Drop("ipv4_malformed")
        src, dst = packet[12:16], packet[16:20]  # whatever version it says
        if src != bytes(4) and self.is_own(src):
            return
        # A DHCP client without an address (RFC 2131 section 4.1).
        at = (packet[0] & 15) * 4
        is_whole = not struct.unpack_from("!H", packet, 6)[0] & 0x3FFF
        dhcp = src == bytes(4) and dst == b"\xff" * 4 and packet[9] == wire.UDP and is_whole
        if not dhcp or len(packet) < at + 8 or packet[at:at + 4] != b"\0\x44\0\x43":
            raise model.Drop("spoofed_ip")

    def ipv6(self, packet):
        if len(packet) < 40 or packet[0] >> 4 != 6:
            raise model.Drop("ipv6_malformed")
        src = packet[8:24]
        nobody = src == bytes(16)
        if not nobody and not router.is_link_local(src) and not self.is_own(src):
            raise model.Drop("spoofed_ip")
        upper = wire.upper_layer(packet[:40 + struct.unpack_from("!H", packet, 4)[0]])
        if upper is None:
            raise model.Drop("ipv6_malformed")
        protocol, message, offset, is_fragment = upper
        if offset or protocol != wire.ICMPV6:
            if nobody:
                raise model.Drop("spoofed_ip")
            return
        if not message:
            raise model.Drop("spoofed_nd")
        kind = message[0]
        if ROUTER_SOLICIT <= kind <= REDIRECT and is_fragment:
            raise model.Drop("spoofed_nd")  # RFC 6980
        if kind in (ROUTER_ADVERT, REDIRECT):
            raise model.Drop("spoofed_nd")
        if kind == ROUTER_SOLICIT:
            self.link_layer_options(message, 8)
        elif kind in (SOLICIT, ADVERT):
            self.neighbor_discovery(message, nobody)
        elif nobody and kind not in MLD:
            raise model.Drop("spoofed_ip")

    def neighbor_discovery(self, message, is_probe):
        if len(message) < 24 or message[1] != 0 or None in router.options(message[24:]):
            raise model.Drop("icmp_malformed")
        target = message[8:24]
        free = router.is_link_local(target)
        if message[0] == SOLICIT:
            honest = not is_probe or free or self.may_probe(target)
        else:
            honest = not is_probe and (free or self.is_own(target))
        if not honest:
            raise model.Drop("spoofed_nd")
        self.link_layer_options(message, 24)

    def link_layer_options(self, message, start):
        """Source and target link-layer addresses (RFC 4861 section 4.6.1) are the port's."""
        if len(message) < start:
            raise model.Drop("icmp_malformed")
        found = router.options(message[start:])
        rest = message[start:][sum(map(len, filter(None, found))):]
        for option in found:
            if option is None and len(rest) > 1:
                raise model.Drop("icmp_malformed")
            if option and option[0] in (1, 2) and option[2:] != self.guard.mac:
                raise model.Drop("spoofed_nd")


# Suppression -------------------------------------------------------------------------------------


def answers(switch, segment, came_from, frame):
    """Whether a request for an address whose owner is known was answered. Not for who asks for an
    own address, nor for who is where the owner is, and hears it."""
    if not segment.suppress or not segment.owners:
        return False
    ethertype, body = struct.unpack_from("!H", frame, 12)[0], frame[14:]

    def owner_for(address, asker):
        mac, where = segment.owners.get(address, (None, None))
        return mac if mac and mac != asker and where != came_from else None

    if ethertype == wire.ARP:
        if len(body) < 28 or body[:8] != struct.pack("!HHBBH", 1, wire.IPV4, 6, 4, 1):
            return False
        asker, sender, target = body[8:14], body[14:18], body[24:28]
        if sender == target and sender != bytes(4):
            return False  # an announcement
        owner = owner_for(target, asker)
        if owner is None or asker[0] & 1 or asker == bytes(6):
            return False
        answer = wire.arp(2, owner, target, asker, sender) + body[28:]
        switch.send_to(came_from, wire.ethernet(asker, owner, wire.ARP, answer))
        return True
    if ethertype == wire.IPV6:
        asker = frame[6:12]
        return router.solicitation(switch, came_from, frame, lambda ip: (owner_for(ip, asker), 0))
    return False


# Storm control -----------------------------------------------------------------------------------


class Storm:
    """`rate` frames a second, a tenth of a second's at once, 16 at least; counted in thousandths."""

    def __init__(self, rate):
        self.rate, self.most = rate, 1000 * max(16, rate // 10)
        self.tokens, self.at = self.most, 0

    def admits(self, millis):
        self.tokens = min(self.most, self.tokens + (millis - self.at) * self.rate)
        self.at = millis
        if self.tokens < 1000:
            return False
        self.tokens -= 1000
        return True


# Learning ----------------------------------------------------------------------------------------


def learn(switch, segment, source, came_from):
    """Where a source is, unless that is configured, within the limits of its segment and port. A known
    address that appears behind a full port stays where it was."""
    if source in segment.static:
        return
    key = segment.name, source
    known = switch.learned.get(key)
    limit = switch.port_limits.get(came_from[1]) if came_from[0] == "port" else None
    is_port_full = limit is not None and limit <= sum(
        where == came_from for where, _ in switch.learned.values())
    is_segment_full = segment.fdb_limit is not None and segment.fdb_limit <= sum(
        name == segment.name for name, _ in switch.learned)
    is_known = known is not None and known[0] == came_from
    if not is_known and (is_port_full or known is None and is_segment_full):
        switch.not_learned[switch.ingress] = switch.not_learned.get(switch.ingress, 0) + 1
        return
    switch.learned[key] = (came_from, switch.now + segment.ageing)
