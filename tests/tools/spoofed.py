#!/usr/bin/python3
"""spoofed.py MAC IP4 IP6 OTHER_MAC OTHER_IP4 OTHER_IP6: what a pod may not send, `reason hexadecimal`, one a line.

The first three addresses are the pod's own, the others another pod's. Built by scapy; each frame once plain and
once behind VLAN tags, which must not hide it.
"""

import sys

from scapy.all import (
    ARP, ICMP, IP, TCP, UDP, Dot1AD, Dot1Q, Ether, ICMPv6EchoRequest, ICMPv6ND_NA, ICMPv6ND_NS, ICMPv6ND_RA,
    ICMPv6ND_Redirect, ICMPv6NDOptDstLLAddr, ICMPv6NDOptSrcLLAddr, IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop, fragment,
)  # fmt: skip

MAC, IP4, IP6, OTHER_MAC, OTHER_IP4, OTHER_IP6 = sys.argv[1:]
BROADCAST, ALL_NODES, LINK_LOCAL = "ff:ff:ff:ff:ff:ff", "ff02::1", "fe80::1:2:3"
NOBODYS_IP4, NOBODYS_IP6 = "198.51.100.9", "2001:db8:9::9"


def eth(dst=OTHER_MAC, src=MAC):
    """A header from the pod to the other one."""
    return Ether(dst=dst, src=src)


def frames():
    """Reason and frame, one after the other."""
    for src in (OTHER_MAC, "02:00:00:00:77:77"):
        # With an identifier: of an answer that is all zeros Linux calls its own checksum wrong.
        yield "spoofed_mac", eth(src=src) / IP(src=IP4, dst=OTHER_IP4) / ICMP(id=7)
        yield "spoofed_mac", eth(BROADCAST, src) / ARP(hwsrc=src, psrc=IP4, pdst=OTHER_IP4)
    for src in (OTHER_IP4, NOBODYS_IP4, "0.0.0.0", "127.0.0.1", "169.254.1.1"):
        yield "spoofed_ip", eth() / IP(src=src, dst=OTHER_IP4) / UDP(dport=53)
        yield "spoofed_ip", eth() / IP(src=src, dst=OTHER_IP4, options=b"\x01" * 8) / TCP(dport=80)
        yield "spoofed_ip", fragment(eth() / IP(src=src, dst=OTHER_IP4) / UDP() / (b"x" * 2000), 1400)[1]
    for src in (OTHER_IP6, NOBODYS_IP6, "::1"):
        yield "spoofed_ip", eth() / IPv6(src=src, dst=OTHER_IP6) / UDP(dport=53)
        yield "spoofed_ip", eth() / IPv6(src=src, dst=OTHER_IP6) / IPv6ExtHdrHopByHop() / ICMPv6EchoRequest()
        yield "spoofed_ip", eth() / IPv6(src=src, dst=OTHER_IP6) / IPv6ExtHdrFragment(m=1) / UDP()
    for op in ("who-has", "is-at"):
        yield "spoofed_arp", eth(BROADCAST) / ARP(op=op, hwsrc=MAC, psrc=OTHER_IP4, pdst=OTHER_IP4)
        yield "spoofed_arp", eth(BROADCAST) / ARP(op=op, hwsrc=OTHER_MAC, psrc=IP4, pdst=OTHER_IP4)
        yield "spoofed_arp", eth(BROADCAST) / ARP(op=op, hwsrc=MAC, psrc=NOBODYS_IP4, pdst=OTHER_IP4)
    yield "spoofed_arp", eth(BROADCAST) / ARP(hwsrc=MAC, psrc="0.0.0.0", pdst=NOBODYS_IP4)
    for src in (IP6, LINK_LOCAL):
        nd = eth("33:33:00:00:00:01") / IPv6(src=src, dst=ALL_NODES, hlim=255)
        own, others = ICMPv6NDOptDstLLAddr(lladdr=MAC), ICMPv6NDOptDstLLAddr(lladdr=OTHER_MAC)
        yield "spoofed_nd", nd / ICMPv6ND_NA(tgt=OTHER_IP6, R=0, S=0, O=1) / own
        yield "spoofed_nd", nd / ICMPv6ND_NA(tgt=IP6, R=0, S=0, O=1) / others
        yield "spoofed_nd", nd / ICMPv6ND_NS(tgt=OTHER_IP6) / ICMPv6NDOptSrcLLAddr(lladdr=OTHER_MAC)
        yield "spoofed_nd", nd / ICMPv6ND_RA() / ICMPv6NDOptSrcLLAddr(lladdr=MAC)
        yield "spoofed_nd", nd / IPv6ExtHdrDestOpt() / ICMPv6ND_RA()
        yield "spoofed_nd", nd / IPv6ExtHdrFragment(m=1) / ICMPv6ND_NA(tgt=IP6)
        yield "spoofed_nd", nd / ICMPv6ND_Redirect(tgt=IP6, dst=OTHER_IP6)
    nobody = eth("33:33:ff:00:00:09") / IPv6(src="::", dst="ff02::1:ff00:9", hlim=255)
    yield "spoofed_nd", nobody / ICMPv6ND_NS(tgt=NOBODYS_IP6)


for reason, frame in frames():
    print(reason, bytes(frame).hex())
    for tags in (Dot1Q(vlan=0), Dot1Q(vlan=42), Dot1AD(vlan=7) / Dot1Q(vlan=42)):
        tagged = frame.copy()
        payload, kind = tagged.payload.copy(), tagged.type
        tagged.remove_payload()
        tags = tags.copy()
        tags.lastlayer().type = kind
        tagged.type = 0x88A8 if isinstance(tags, Dot1AD) else 0x8100
        print(reason, bytes(tagged / tags / payload).hex())
