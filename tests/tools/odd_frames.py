#!/usr/bin/python3
"""Frames that a bridge seldom sees, built by scapy: `name hexadecimal`, one a line.

A bridge decides by the Ethernet header alone, so that all of these have one right fate.
"""

import random

from scapy.all import (
    ARP, GRE, ICMP, IP, LLC, SNAP, STP, TCP, UDP, VXLAN, Dot1AD, Dot1Q, Dot3, Ether, ICMPv6ND_NS, IPv6,
    IPv6ExtHdrFragment, IPv6ExtHdrHopByHop, IPOption_Router_Alert, Raw,
)  # fmt: skip

HERE, THERE, ELSEWHERE = "02:00:00:00:00:01", "02:00:00:00:00:02", "02:00:00:00:00:99"
MULTICAST, BROADCAST = "01:00:5e:00:00:fb", "ff:ff:ff:ff:ff:ff"


def ether(dst=THERE, src=HERE, **fields):
    """An Ethernet header from here to there."""
    return Ether(dst=dst, src=src, **fields)


def frames():
    """Name and frame, one after the other."""
    ip = IP(src="10.9.0.1", dst="10.9.0.2")
    yield "header-only", ether(type=0x88B5)
    for size in (1, 2, 3, 4, 45, 46, 47, 1499, 1500):
        yield f"payload-{size}", ether(type=0x88B5) / Raw(bytes(size))
    for dst in (THERE, ELSEWHERE, MULTICAST, BROADCAST, "33:33:00:00:00:01", HERE, "00:00:00:00:00:00"):
        yield f"to-{dst}", ether(dst=dst, type=0x88B5) / Raw(b"x" * 46)
    for src in (MULTICAST, BROADCAST, "00:00:00:00:00:00", "01:80:c2:00:00:00"):
        yield f"from-{src}", ether(src=src, type=0x88B5) / Raw(b"x" * 46)
    for last in (0x01, 0x02, 0x03, 0x0D, 0x0E, 0x0F, 0x10, 0x21):
        yield f"to-01:80:c2:00:00:{last:02x}", ether(dst=f"01:80:c2:00:00:{last:02x}", type=0x88B5) / Raw(b"x" * 46)

    yield "llc-snap", Dot3(dst=THERE, src=HERE) / LLC() / SNAP() / Raw(b"x" * 40)
    yield "llc-stp-to-a-station", Dot3(dst=THERE, src=HERE) / LLC() / STP()
    yield "length-field-too-large", ether(type=1500) / Raw(b"x" * 46)
    yield "vlan", ether() / Dot1Q(vlan=42) / ip / ICMP()
    yield "vlan-priority-only", ether() / Dot1Q(vlan=0, prio=5) / ip / ICMP()
    yield "vlan-4095", ether() / Dot1Q(vlan=4095) / Raw(b"x" * 46)
    yield "vlan-full-size", ether() / Dot1Q(vlan=7, type=0x88B5) / Raw(b"x" * 1500)
    yield "vlan-in-vlan", ether() / Dot1Q(vlan=42) / Dot1Q(vlan=7) / ip / ICMP()
    yield "vlan-in-service-vlan", ether() / Dot1AD(vlan=42) / Dot1Q(vlan=7) / ip / ICMP()

    yield "ip-with-options", ether() / IP(src="10.9.0.1", dst="10.9.0.2", options=[IPOption_Router_Alert()]) / ICMP()
    yield "ip-bad-checksum", ether() / IP(src="10.9.0.1", dst="10.9.0.2", chksum=1) / ICMP()
    yield "ip-truncated", ether(type=0x0800) / Raw(b"\x45\x00")
    yield "ip-length-too-large", ether() / IP(src="10.9.0.1", dst="10.9.0.2", len=4000) / ICMP()
    yield "ip-version-7", ether() / IP(version=7, src="10.9.0.1", dst="10.9.0.2") / ICMP()
    yield "ip-fragment", ether() / IP(src="10.9.0.1", dst="10.9.0.2", flags="MF", frag=3, proto=17) / Raw(b"x" * 32)
    yield "ip-padded", ether() / ip / ICMP() / Raw(b"") / Raw(bytes(60))
    yield "tcp-bad-checksum", ether() / ip / TCP(chksum=1)
    yield "udp-zero-checksum", ether() / ip / UDP(chksum=0) / Raw(b"x")
    yield "vxlan-in-the-bridge", ether() / ip / UDP(dport=4789) / VXLAN(vni=1) / ether() / ip / ICMP()
    yield "gre", ether() / ip / GRE() / ip / ICMP()
    yield "ip6-fragment", ether() / IPv6(src="fd00:9::1", dst="fd00:9::2") / IPv6ExtHdrFragment() / UDP()
    yield "ip6-hop-by-hop", ether() / IPv6(src="fd00:9::1", dst="fd00:9::2") / IPv6ExtHdrHopByHop() / UDP()
    yield "ip6-truncated", ether(type=0x86DD) / Raw(b"\x60\x00\x00")
    yield "nd-to-a-group", ether(dst="33:33:ff:00:00:02") / IPv6(src="fd00:9::1", dst="ff02::1:ff00:2") / ICMPv6ND_NS(
        tgt="fd00:9::77"
    )
    yield "arp-broadcast", ether(dst=BROADCAST) / ARP(hwsrc=HERE, psrc="10.9.0.1", pdst="10.9.0.77")
    yield "arp-truncated", ether(dst=BROADCAST, type=0x0806) / Raw(b"\x00\x01\x08\x00")
    yield "arp-of-other-hardware", ether(dst=BROADCAST) / ARP(hwtype=6, hwlen=8, hwsrc=HERE, pdst="10.9.0.77")

    numbers = random.Random(1)
    for n in range(40):
        ethertype, size = numbers.randrange(0x0600, 0x10000), numbers.randrange(0, 1500)
        yield f"random-{n}", ether(dst=numbers.choice((THERE, ELSEWHERE)), type=ethertype) / Raw(numbers.randbytes(size))


for name, frame in frames():
    print(name, bytes(frame).hex())
