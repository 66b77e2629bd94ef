"""scapy, a third opinion: on what this model's own builders write, and on every field of some of the
frames that the engine sends."""

import functools

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    HBHOptUnknown, ICMPv6EchoRequest, ICMPv6ND_NS, ICMPv6NDOptSrcLLAddr, IPv6, IPv6ExtHdrDestOpt, PadN, in6_chksum,
)
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Raw
from scapy.utils import checksum

import replay
import wire

A, B = "02:00:00:00:00:01", "02:00:00:00:00:02"
V4, V6 = ("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")


def builders():
    """What `wire` writes is what scapy writes."""
    ether = functools.partial(Ether, src=A, dst=B)
    frame = functools.partial(wire.ethernet, wire.mac(B), wire.mac(A))
    (s4, d4), (s6, d6) = map(wire.ip, V4), map(wire.ip, V6)
    ip4, ip6 = IP(src=V4[0], dst=V4[1], id=7, flags="DF", tos=3), IPv6(src=V6[0], dst=V6[1], tc=0xB9, fl=5)
    as4 = {"ident": 7, "flags": 0x4000, "tos": 3}
    as6 = {"traffic_class": 0xB9, "label": 5}
    inner = ether() / IP(src=V4[0], dst=V4[1]) / UDP(sport=1, dport=2) / b"odd"
    pairs = [
        (ether() / ARP(hwsrc=A, psrc=V4[0], pdst=V4[1]),
         frame(wire.ARP, wire.arp(1, wire.mac(A), s4, bytes(6), d4))),
        (ether() / ip4 / UDP(sport=53, dport=4789) / b"odd",
         frame(wire.IPV4, wire.ipv4(s4, d4, 17, wire.udp(s4, d4, 53, 4789, b"odd"), **as4))),
        (ether() / ip4 / TCP(sport=1, dport=2, seq=1, ack=1, flags="A") / b"x",
         frame(wire.IPV4, wire.ipv4(s4, d4, 6, wire.tcp(s4, d4, 1, 2, b"x"), **as4))),
        (ether() / ip4 / ICMP(id=1, seq=2) / b"ping",
         frame(wire.IPV4, wire.ipv4(s4, d4, 1, wire.icmp(8, 0, bytes([0, 1, 0, 2]), b"ping"), **as4))),
        (ether() / ip6 / UDP(sport=53, dport=4789) / b"odd",
         frame(wire.IPV6, wire.ipv6(s6, d6, 17, wire.udp(s6, d6, 53, 4789, b"odd"), **as6))),
        (ether() / ip6 / ICMPv6EchoRequest(id=1, seq=2, data=b"ping"),
         frame(wire.IPV6, wire.ipv6(s6, d6, 58, wire.icmpv6(s6, d6, 128, 0, bytes([0, 1, 0, 2]) + b"ping"),
                                    **as6))),
        (ether() / IPv6(src=V6[0], dst=V6[1], hlim=255) / ICMPv6ND_NS(tgt=V6[1])
         / ICMPv6NDOptSrcLLAddr(lladdr=A),
         frame(wire.IPV6, wire.ipv6(s6, d6, 58, wire.icmpv6(s6, d6, 135, 0, bytes(4) + d6 + b"\x01\x01"
                                                            + wire.mac(A)), 255))),
        (Ether(src=A, dst=B) / Dot1Q(vlan=100, prio=5) / IP(src=V4[0], dst=V4[1]) / Raw(b"x"),
         wire.vlan(frame(wire.IPV4, wire.ipv4(s4, d4, 0, b"x", ident=1)), 0xA064)),
        (VXLAN(vni=0xABCDEF, flags="Instance") / inner, wire.vxlan(0xABCDEF, bytes(inner))),
        (ip4 / IP(bytes(inner)[14:]), wire.ipv4(s4, d4, 4, bytes(inner)[14:], **as4)),
        (ip6 / IP(bytes(inner)[14:]), wire.ipv6(s6, d6, 4, bytes(inner)[14:], **as6)),
        (ip6 / IPv6ExtHdrDestOpt(options=[HBHOptUnknown(otype=4, optdata=b"\x07"), PadN(optdata=b"\0")])
         / IP(bytes(inner)[14:]),
         wire.ipv6(s6, d6, wire.DESTINATION, wire.limited(4, 7, bytes(inner)[14:]), **as6)),
    ]
    for theirs, ours in pairs:
        assert bytes(theirs) == ours, f"{theirs.summary()}: {bytes(theirs).hex()}, not {ours.hex()}"


def outputs(answer, number):
    """Some of the packets that the engine sent on the underlay have lengths and checksums that scapy
    finds right."""
    frames = [bytes.fromhex(f) for sent, _ in answer["frames"] for _, f in sent]
    for frame in frames[number % 31::31]:
        packet = Ether(frame)
        outer = packet.payload
        if frame[6] != 0x0E or not isinstance(outer, (IP, IPv6)) or not is_whole(packet, frame[14:]):
            continue  # not from the uplink's MAC address, or with what a host left in it
        udp = outer.payload
        # The hosts of traffic.py use no such source ports.
        if not isinstance(udp, UDP) or VXLAN not in udp or udp.sport < 49152:
            continue
        if isinstance(outer, IP) and udp.chksum != 0:
            raise replay.Disagreement(f"a UDP checksum over IPv4: {frame.hex()}")
        if isinstance(outer, IPv6) and in6_chksum(17, outer, frame[54:]) not in (0, 0xFFFF):
            raise replay.Disagreement(f"scapy finds the UDP checksum wrong: {frame.hex()}")


def is_whole(packet, data):
    """Whether the outer IP packet has the length and the header checksum that it says."""
    outer = packet.payload
    if isinstance(outer, IPv6):
        return outer.plen == len(data) - 40
    if checksum(data[:outer.ihl * 4]) != 0:
        raise replay.Disagreement(f"scapy finds the header checksum wrong: {data.hex()}")
    return outer.len == len(data)
