"""ICMP errors of the router, in the model: RFC 792, RFC 1122 section 3.2.2, RFC 1812 section 4.3, RFC 4443
section 2.4, RFC 1191, RFC 8201."""

import struct

import model
import router
import wire

V4 = {"time exceeded": (11, 0), "network unreachable": (3, 0), "host unreachable": (3, 1), "too big": (3, 4),
      "prohibited": (3, 13)}
V6 = {"time exceeded": (3, 0), "network unreachable": (1, 0), "host unreachable": (1, 3), "too big": (2, 0),
      "parameter problem": (4, 0), "prohibited": (1, 1)}
HOPS = 64
INTERNETWORK_CONTROL = 0xC0  # RFC 1812 section 4.3.2.5
LONGEST_V4 = 576  # RFC 1812 section 4.3.2.3
LONGEST_V6 = 1280  # RFC 4443 section 2.4 (c)


class Limiter:
    """RFC 4443 section 2.4 (f): a token bucket."""

    def __init__(self):
        self.tokens, self.filled = None, 0

    def takes(self, now, per_second):
        """Whether one more error may be sent at `now` milliseconds. The bucket starts full."""
        burst = -(-per_second // 10)
        fresh = (now - self.filled) * per_second // 1000
        if fresh > 0:
            self.filled = now
        self.tokens = burst if self.tokens is None else min(self.tokens + fresh, burst)
        if self.tokens == 0:
            return False
        self.tokens -= 1
        return True


def send(switch, came_from, station, packet, report, mtu=0):  # of a parameter problem, where it is
    """Tells the sender of a packet, as it was received, why it is not forwarded, if it may be told: to
    the station of the segment it came from, or by the routes. What goes wrong is counted beside the
    drop of the packet itself."""
    sender = whom_to_tell(packet)
    own = source_towards(switch, sender) if sender else None
    if own is None:
        return
    try:
        if not switch.limiter.takes(switch.millis, switch.icmp_errors):
            raise model.Drop("icmp_rate_limited")
        error = message(own, sender, packet, report, mtu)
        if came_from[0] in ("port", "tunnel"):
            ethertype = wire.IPV4 if len(own) == 4 else wire.IPV6
            switch.send_to(came_from, wire.ethernet(station, switch.router_mac, ethertype, error))
        else:
            router.originate(switch, error)
    except model.Drop as drop:
        switch.count(drop.reason)


def message(own, sender, packet, report, mtu):
    if len(own) == 4:
        rest = struct.pack("!HH", 0, min(mtu, 0xFFFF))
        body = wire.icmp(*V4[report], rest, packet[:LONGEST_V4 - 28])
        return wire.ipv4(own, sender, wire.ICMP, body, HOPS, INTERNETWORK_CONTROL, 0, 0x4000)
    # No link's MTU is below 1280, and no host believes one that is (RFC 8201 section 4).
    rest = struct.pack("!I", max(mtu, 1280) if report == "too big" else mtu)
    body = wire.icmpv6(own, sender, *V6[report], rest + packet[:LONGEST_V6 - 48])
    return wire.ipv6(own, sender, wire.ICMPV6, body, HOPS)


def source_towards(switch, sender):
    """The gateway address of the family that has most bits in common with the sender's, which is that
    of the sender's own network if it is one of ours (RFC 1812 section 4.3.2.4)."""
    best = None
    for own in switch.gateways:
        if len(own) == len(sender):
            differs = int.from_bytes(own, "big") ^ int.from_bytes(sender, "big")
            if best is None or differs.bit_length() < best[0]:
                best = (differs.bit_length(), own)
    return best[1] if best else None


def whom_to_tell(packet):
    """The sender of a packet, unless it is one that there must be no error about: an ICMP error, a
    later fragment, one from or to other than a single host. The packet may be truncated."""
    if len(packet) >= 20 and packet[0] >> 4 == 4:
        length = (packet[0] & 15) * 4
        if not 20 <= length <= len(packet) or struct.unpack_from("!H", packet, 2)[0] < length:
            return None
        src, dst = wire.addresses(packet)
        if src[0] in (0, 127) or src[0] >= 224 or dst[0] >= 224:
            return None
        if struct.unpack_from("!H", packet, 6)[0] & 0x1FFF:
            return None
        kind = packet[length:length + 1]
        if packet[9] == wire.ICMP and (not kind or kind[0] in (3, 4, 5, 11, 12)):
            return None
        return src
    if len(packet) >= 40 and packet[0] >> 4 == 6:
        src, dst = wire.addresses(packet)
        if src in (bytes(16), bytes(15) + b"\x01") or src[0] == 0xFF or dst[0] == 0xFF:
            return None
        upper = wire.upper_layer(packet[:40 + struct.unpack_from("!H", packet, 4)[0]])
        if upper is None:
            return None
        protocol, rest, offset, _ = upper
        if protocol == wire.ICMPV6 and (offset or not rest or rest[0] < 128 or rest[0] == 137):
            return None
        return src
    return None
