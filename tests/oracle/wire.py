"""Packets as bytes, built and read with struct: no library, no cleverness. scapy checks the builders
(see crosscheck.py)."""

import ipaddress
import struct

BROADCAST = b"\xff" * 6
ARP, IPV4, IPV6, VLAN, QINQ = 0x0806, 0x0800, 0x86DD, 0x8100, 0x88A8
ICMP, IPIP, TCP, UDP, IPV6_IN_IP, FRAGMENT, ICMPV6, NO_NEXT = 1, 4, 6, 17, 41, 44, 58, 59
HOP_BY_HOP, ROUTING, AH, DESTINATION = 0, 43, 51, 60
# IANA's IPv6 Extension Header Types, those that say where they end (RFC 7045).
# So many headers are looked at, so that a packet's cost has a bound.
LONGEST_CHAIN = 8
EXTENSIONS = (HOP_BY_HOP, ROUTING, FRAGMENT, AH, DESTINATION, 135, 139, 140)


def mac(text):
    return bytes.fromhex(text.replace(":", ""))


def mac_text(octets):
    return ":".join(f"{o:02x}" for o in octets)


def ip(text):
    """An address as its 4 or 16 octets."""
    return ipaddress.ip_address(text).packed


def ip_text(octets):
    return str(ipaddress.ip_address(octets))


def derived_mac(address):
    """The MAC address of a gateway, a VTEP or a pod that has none configured: 0a:58 and the IPv4
    address, or the IPv6 address folded to four octets by exclusive or."""
    if len(address) == 4:
        return b"\x0a\x58" + address
    words = struct.unpack("!4I", address)
    return b"\x0a\x58" + struct.pack("!I", words[0] ^ words[1] ^ words[2] ^ words[3])


def ones_complement(data):
    """RFC 1071: the 16-bit one's complement sum."""
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def checksum(data):
    return ones_complement(data) ^ 0xFFFF


def pseudo(src, dst, protocol, length):
    """The pseudo-header of RFC 768 and RFC 9293 over IPv4, of RFC 8200 section 8.1 over IPv6."""
    if len(src) == 4:
        return src + dst + struct.pack("!BBH", 0, protocol, length)
    return src + dst + struct.pack("!IHBB", length, 0, 0, protocol)


def ethernet(dst, src, ethertype, payload):
    return dst + src + struct.pack("!H", ethertype) + payload


def vlan(frame, tag, tpid=VLAN):
    return frame[:12] + struct.pack("!HH", tpid, tag) + frame[12:]


def arp(operation, sender_mac, sender, target_mac, target):
    """RFC 826, Ethernet and IPv4."""
    return struct.pack("!HHBBH", 1, IPV4, 6, 4, operation) + sender_mac + sender + target_mac + target


def ipv4(src, dst, protocol, payload, ttl=64, tos=0, ident=0, flags=0, options=b"", total=None):
    """`flags` is the 16-bit word of flags and fragment offset."""
    ihl = 5 + len(options) // 4
    total = ihl * 4 + len(payload) if total is None else total
    head = struct.pack("!BBHHHBBH", 0x40 | ihl, tos, total & 0xFFFF, ident, flags, ttl, protocol, 0)
    head += src + dst + options
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload


def fix_ipv4(packet):
    """The same packet with a right header checksum."""
    length = (packet[0] & 15) * 4
    head = packet[:10] + b"\0\0" + packet[12:length]
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + packet[length:]


def ipv6(src, dst, next_header, payload, hop_limit=64, traffic_class=0, label=0, length=None):
    length = len(payload) if length is None else length
    first = 6 << 28 | traffic_class << 20 | label
    return struct.pack("!IHBB", first, length & 0xFFFF, next_header, hop_limit) + src + dst + payload


def packet(src, dst, protocol, payload, ttl=64, tos=0, **more):
    if len(src) == 4:
        return ipv4(src, dst, protocol, payload, ttl, tos, **more)
    return ipv6(src, dst, protocol, payload, ttl, tos)


def addresses(packet):
    """Source and destination of an IP packet."""
    return (packet[12:16], packet[16:20]) if packet[0] >> 4 == 4 else (packet[8:24], packet[24:40])


def upper_layer(packet):
    """What is behind the extension headers of an IPv6 packet: protocol, octets, fragment offset, and
    whether it is a piece of a packet at all. None if they do not end."""
    protocol, at, is_fragment = packet[6], 40, False
    while protocol in EXTENSIONS:
        if len(packet) < at + 8:
            return None
        length = 8 + packet[at + 1] * 8
        if protocol == AH:
            length = 8 + packet[at + 1] * 4  # RFC 4302 section 2.2
        if protocol == FRAGMENT:
            length, (word,) = 8, struct.unpack_from("!H", packet, at + 2)
            if word & 0xFFF8:  # what follows is not a header
                return packet[at], packet[at + 8:], word & 0xFFF8, True
            is_fragment |= bool(word & 1)
        protocol, at = packet[at], at + length
        if at > len(packet):
            return None
    return protocol, packet[at:], 0, is_fragment


def encapsulation_limit(packet):
    """RFC 2473 section 4.1.1 (a): the first limit of tunnels within tunnels among the extension headers of
    an IPv6 packet, and where its octet is; none behind another IPv6 header, a header that is no
    extension, and one that cannot be read."""
    if len(packet) < 40 or packet[0] >> 4 != 6:
        return None
    kind, at = packet[6], 40
    for _ in range(LONGEST_CHAIN):
        head = packet[at:]
        if kind not in EXTENSIONS or len(head) < 8:
            return None
        length = 8 if kind == FRAGMENT else 8 + head[1] * (4 if kind == AH else 8)
        if kind == DESTINATION:
            for place, number, data in options(head[:length]):
                if number == 4 and len(data) == 1:
                    return data[0], at + place + 2
        if kind == FRAGMENT and struct.unpack_from("!H", head, 2)[0] & 0xFFF8:
            return None
        kind, at = head[0], at + length
    return None


def options(header):
    """The options of a destination options header (RFC 8200 section 4.2) as far as they can be read:
    place, number, data."""
    at = 2
    while at < len(header):
        if header[at] == 0:
            at += 1
            continue
        data = header[at + 2:at + 2 + header[at + 1]] if at + 1 < len(header) else b""
        if at + 1 < len(header) and len(data) == header[at + 1]:
            yield at, header[at], data
        at += 2 + (header[at + 1] if at + 1 < len(header) else 0)


def limited(next_header, limit, payload):
    """Behind destination options with an encapsulation limit, padded as Linux does."""
    return bytes([next_header, 0, 4, 1, limit, 1, 1, 0]) + payload


def udp(src, dst, sport, dport, payload, check=True):
    length = 8 + len(payload)
    datagram = struct.pack("!HHHH", sport, dport, length & 0xFFFF, 0) + payload
    value = 0
    if check:
        value = checksum(pseudo(src, dst, UDP, length) + datagram) or 0xFFFF
    return datagram[:6] + struct.pack("!H", value) + payload


def tcp(src, dst, sport, dport, payload, flags=0x10, seq=1, ack=1, options=b""):
    offset = 5 + len(options) // 4
    head = struct.pack("!HHIIBBHHH", sport, dport, seq, ack, offset << 4, flags, 8192, 0, 0) + options
    value = checksum(pseudo(src, dst, TCP, len(head) + len(payload)) + head + payload)
    return head[:16] + struct.pack("!H", value) + head[18:] + payload


def icmp(kind, code, rest, payload=b""):
    """`rest` is the four octets behind the checksum."""
    message = struct.pack("!BBH", kind, code, 0) + rest + payload
    return message[:2] + struct.pack("!H", checksum(message)) + message[4:]


def icmpv6(src, dst, kind, code, body):
    """`body` is all behind the checksum."""
    message = struct.pack("!BBH", kind, code, 0) + body
    value = checksum(pseudo(src, dst, ICMPV6, len(message)) + message)
    return message[:2] + struct.pack("!H", value) + message[4:]


def vxlan(vni, frame, flags=0x08, reserved=0, last=0):
    """RFC 7348 section 5."""
    return struct.pack("!B", flags) + reserved.to_bytes(3, "big") + struct.pack("!I", vni << 8 | last) + frame
