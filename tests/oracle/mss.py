"""The maximum segment size in SYNs, in the model (RFC 9293 section 3.7.1, RFC 6691)."""

import struct

import model
import router
import wire


def clamped(switch, came_from, packet, mtu):
    """With the maximum segment size of a SYN lowered to what fits the way there and the way back, less
    the fixed headers (RFC 9293 section 3.7.1, RFC 6691)."""
    try:
        way_back = mtu_of_origin(switch, came_from)
    except model.Drop:
        return packet
    version = packet[0] >> 4
    if not switch.clamps_mss:
        return packet
    if version == 4:
        at, headers = (packet[0] & 15) * 4, 40
        if packet[9] != wire.TCP or struct.unpack_from("!H", packet, 6)[0] & 0x1FFF:
            return packet
    else:
        upper = wire.upper_layer(packet)
        if upper is None or upper[0] != wire.TCP or upper[2]:
            return packet
        at, headers = len(packet) - len(upper[1]), 60
    segment = packet[at:]
    end = (segment[12] >> 4) * 4 if len(segment) >= 20 else 0
    if not 20 <= end <= len(segment) or not segment[13] & 2:
        return packet
    limit, where = min(0xFFFF, max(0, min(mtu, way_back) - headers)), mss_option(segment[:end])
    if where is None or struct.unpack_from("!H", segment, where)[0] <= limit:
        return packet
    # The checksum changes by what the covered words change (RFC 1624, equation 3): one that was wrong
    # stays wrong.
    new = segment[:where] + struct.pack("!H", limit) + segment[where + 2:]
    words = range(where & ~1, where + 2, 2)
    total = struct.unpack_from("!H", segment, 16)[0] ^ 0xFFFF
    for word in words:
        before, after = (struct.unpack_from("!H", s.ljust(where + 3, b"\0"), word)[0] for s in (segment, new))
        total += (before ^ 0xFFFF) + after
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return packet[:at] + new[:16] + struct.pack("!H", total ^ 0xFFFF) + new[18:]


def mss_option(header):
    """Where the value of the maximum segment size option is in a TCP header, if it has one."""
    at = 20
    while at < len(header) and header[at] != 0:
        size = 1 if header[at] == 1 else header[at + 1] if at + 1 < len(header) else 0
        if header[at] != 1 and (size < 2 or at + size > len(header)):
            return None
        if header[at] == 2 and size == 4:
            return at + 2
        at += size
    return None


def mtu_of_origin(switch, came_from):
    """The largest packet that can go back where one came from."""
    if came_from[0] == "port":
        return switch.ports[came_from[1]][1]
    if came_from[0] in ("tunnel", "L3"):
        return router.mtu_towards(switch, ("tunnel", came_from[1]))
    return switch.ports[switch.ingress][1]
