"""IPv4 packets cut up, in the model (RFC 791 section 3.2)."""

import struct

import model
import wire


def pieces(packet, mtu):
    """An IPv4 packet in pieces (RFC 791 section 3.2). None is larger than what one buffer of the
    engine holds with room for headers, whatever the MTU."""
    mtu = min(mtu, 3072 - 14)
    length = (packet[0] & 15) * 4
    (word,) = struct.unpack_from("!H", packet, 6)
    start, more = (word & 0x1FFF) * 8, word & 0x2000
    data, at, found = packet[length:], 0, []
    while at < len(data) or not found:
        options = packet[20:length] if at == 0 else copied_options(packet[20:length])
        room = (mtu - 20 - len(options)) // 8 * 8
        if room <= 0:
            raise model.Drop("mtu_exceeded")
        part = data[at:at + room]
        is_last = at + len(part) == len(data)
        head = bytes([0x45 + len(options) // 4]) + packet[1:2]
        head += struct.pack("!H", 20 + len(options) + len(part)) + packet[4:6]
        head += struct.pack("!H", (0 if is_last and not more else 0x2000) | (start + at) // 8)
        found.append(wire.fix_ipv4(head + packet[8:20] + options + part))
        at += len(part)
    return found


def copied_options(data):
    """RFC 791 section 3.1: the options with the copied flag are in every piece."""
    found = b""
    while data and data[0] != 0:
        size = 1 if data[0] == 1 else data[1] if len(data) > 1 else 0
        if size == 0 or size > len(data) or (size == 1 and data[0] != 1):
            break
        found += data[:size] if data[0] & 0x80 else b""
        data = data[size:]
    return found + bytes(-len(found) % 4)
