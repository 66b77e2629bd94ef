#!/usr/bin/python3
"""Tunnel packets built by scapy, for a pod with 10.244.1.5 and fd00:10:244:1::5: `name hexadecimal`, one a line.
The payload holds the name, so that an inner packet is known where it arrives.

tunnel_packets.py ipip MAC US PEER STRANGER      names that begin with "taken" are for the pod
tunnel_packets.py vxlan MAC US PEER STRANGER VTEP    names before a "/" are the reason of the drop, or "taken"
"""

import sys

from scapy.all import (
    IP, UDP, VXLAN, Ether, HBHOptUnknown, IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrHopByHop, PadN, Raw,
)  # fmt: skip

HERE = "02:00:00:00:00:01"
POD, REMOTE = "10.244.1.5", "10.244.2.5"
POD6, REMOTE6 = "fd00:10:244:1::5", "fd00:10:244:2::5"


def outer_ip(us, src, proto, **fields):
    """An IP header of either family."""
    if ":" in us:
        return IPv6(src=src, dst=us, nh=proto, **fields)
    return IP(src=src, dst=us, proto=proto, **fields)


def datagram(name, **fields):
    """A UDP packet to the pod that carries its name."""
    return IP(**{"src": REMOTE, "dst": POD, **fields}) / UDP(sport=7, dport=7) / Raw(name.encode())


def datagram6(name, **fields):
    """The same, IPv6."""
    return IPv6(**{"src": REMOTE6, "dst": POD6, **fields}) / UDP(sport=7, dport=7) / Raw(name.encode())


def ipip(mac, us, peer, stranger):
    """IPIP packets from the peer and from others."""
    ether = Ether(dst=mac, src=HERE)
    for name, src in (("taken", peer), ("stranger", stranger)):
        yield f"{name}-4", ether / outer_ip(us, src, 4) / datagram(f"{name}-4")
        yield f"{name}-6", ether / outer_ip(us, src, 41) / datagram6(f"{name}-6")
    if ":" in us:
        # RFC 2473 section 4.1.1: the tunnel encapsulation limit. Other headers stay with the kernel.
        options = [HBHOptUnknown(otype=4, optdata=b"\0"), PadN(optdata=b"\0")]
        for name, src in (("taken", peer), ("stranger", stranger)):
            limit = ether / IPv6(src=src, dst=us, nh=60) / IPv6ExtHdrDestOpt(nh=4, options=options)
            yield f"{name}-limit", limit / datagram(f"{name}-limit")
        other = IPv6ExtHdrHopByHop(nh=4, options=[])
        yield "extension", ether / IPv6(src=peer, dst=us, nh=0) / other / datagram("extension")


def vxlan(mac, us, peer, stranger, vtep):
    """VXLAN packets that RFC 7348 has something to say about."""
    def outer(inside, src=peer, udp=None, **header):
        udp = UDP(**{"sport": 50000, "dport": 4789, **(udp or {})})
        return Ether(dst=mac, src=HERE) / outer_ip(us, src, 17) / udp / VXLAN(**{"vni": 1, "flags": 8, **header}) / inside

    def inner(packet, dst=vtep):
        return Ether(dst=dst, src=HERE) / packet

    def bare(payload):
        return Ether(dst=mac, src=HERE) / outer_ip(us, peer, 17) / UDP(sport=50000, dport=4789) / Raw(payload)

    yield "taken/plain4", outer(inner(datagram("taken/plain4")))
    yield "taken/plain6", outer(inner(datagram6("taken/plain6")))
    # RFC 7348 section 5: reserved bits are ignored on receipt.
    yield "taken/reserved-bits", bare(b"\xff\xff\xff\xff\0\0\1\xff" + bytes(inner(datagram("taken/reserved-bits"))))
    # RFC 7348 section 4.1, RFC 6935: a checksum of zero is none.
    yield "taken/zero-checksum", outer(inner(datagram("taken/zero-checksum")), udp={"chksum": 0})
    yield "taken/any-source-port", outer(inner(datagram("taken/any-source-port")), udp={"sport": 1})

    yield "vxlan_flags/none", outer(inner(datagram("x")), flags=0)
    yield "vxlan_flags/all-but-i", bare(b"\xf7\0\0\0\0\0\1\0" + bytes(inner(datagram("x"))))
    yield "vxlan_unknown_vni/2", outer(inner(datagram("x")), vni=2)
    yield "vxlan_unknown_vni/largest", outer(inner(datagram("x")), vni=0xFFFFFF)
    yield "vxlan_unknown_peer/stranger", outer(inner(datagram("x")), src=stranger)
    yield "vxlan_inner_unknown/other-mac", outer(inner(datagram("x"), dst="02:99:99:99:99:99"))
    yield "vxlan_inner_unknown/broadcast", outer(inner(datagram("x"), dst="ff:ff:ff:ff:ff:ff"))
    yield "vxlan_malformed/empty", bare(b"")
    yield "vxlan_malformed/half-a-header", bare(b"\x08\0\0\0")
    yield "vxlan_malformed/no-frame", bare(b"\x08\0\0\0\0\0\1\0")
    yield "vxlan_malformed/half-a-frame", bare(b"\x08\0\0\0\0\0\1\0" + bytes(13))
    # Out of the tunnel and back into it, and a tunnel packet in a tunnel packet: the inner one is for
    # the node's own address, which no tunnel of pods leads to.
    yield "nested_tunnel/back", outer(inner(datagram("x", dst="10.244.2.9")))
    yield "nested_tunnel/back6", outer(inner(datagram6("x", dst="fd00:10:244:2::9")))
    yield "ttl_exceeded/inner", outer(inner(datagram("x", ttl=1)))


kinds = {"ipip": ipip, "vxlan": vxlan}
for name, frame in kinds[sys.argv[1]](*sys.argv[2:]):
    print(name, bytes(frame).hex())
