#!/usr/bin/python3
"""Frames that must be dropped, built by scapy: `reason hexadecimal`, one a line.

malformed.py router MAC                      to the router, from a pod of 10.244.1.0/24
malformed.py uplink MAC VTEP-MAC             to the uplink of 192.0.2.1, from its VXLAN peer 192.0.2.2, VNI 1
malformed.py ipip MAC                        the same, from its IPIP peer
"""

import sys

from scapy.all import ARP, ICMP, IP, UDP, VXLAN, Ether, ICMPv6EchoRequest, IPv6, Raw

POD, REMOTE = "10.244.1.5", "10.244.2.5"
POD6, REMOTE6 = "fd00:10:244:1::5", "fd00:10:244:2::5"
GATEWAY, GATEWAY6 = "10.244.1.1", "fd00:10:244:1::1"
HERE = "02:00:00:00:00:01"


def routed(mac):
    """Frames to the router."""
    ether = Ether(dst=mac, src=HERE)
    ping = ICMP() / Raw(b"x" * 20)

    def v4(**fields):
        return ether / IP(**{"src": POD, "dst": REMOTE, **fields}) / ping

    def v6(**fields):
        return ether / IPv6(**{"src": POD6, "dst": REMOTE6, **fields}) / ICMPv6EchoRequest()

    yield "eth_source_invalid", Ether(dst=mac, src="01:00:5e:00:00:01") / IP(src=POD, dst=REMOTE) / ping
    yield "eth_source_invalid", Ether(dst=mac, src="00:00:00:00:00:00") / IP(src=POD, dst=REMOTE) / ping
    yield "eth_reserved", Ether(dst="01:80:c2:00:00:0e", src=HERE, type=0x88CC) / Raw(b"x" * 46)
    yield "ethertype_unrouted", Ether(dst=mac, src=HERE, type=0x88B5) / Raw(b"x" * 46)
    yield "arp_malformed", Ether(dst="ff:ff:ff:ff:ff:ff", src=HERE, type=0x0806) / Raw(b"\0\1\x08\0\6\4\0\1")
    yield "arp_malformed", Ether(dst=mac, src=HERE) / ARP(hwtype=6, hwlen=8, psrc=POD, pdst=GATEWAY)

    yield "ipv4_malformed", Ether(dst=mac, src=HERE, type=0x0800) / Raw(b"\x45\0\0\x14")
    yield "ipv4_malformed", v4(ihl=4)
    yield "ipv4_malformed", v4(ihl=15)
    yield "ipv4_malformed", v4(version=5)
    yield "ipv4_malformed", v4(len=10)
    yield "ipv4_malformed", v4(len=4000)
    yield "ipv4_checksum", v4(chksum=0x1234)
    yield "ip_address_invalid", v4(src="127.0.0.1")
    yield "ip_address_invalid", v4(src="224.0.0.5")
    yield "ip_address_invalid", v4(dst="127.0.0.1")
    yield "ip_multicast_unrouted", v4(dst="224.0.0.5")
    yield "ttl_exceeded", v4(ttl=1)
    yield "ttl_exceeded", v4(ttl=0)
    yield "icmp_malformed", ether / IP(src=POD, dst=GATEWAY) / ICMP(chksum=0x1234) / Raw(b"x" * 20)

    yield "ipv6_malformed", Ether(dst=mac, src=HERE, type=0x86DD) / Raw(b"\x60" + bytes(20))
    yield "ipv6_malformed", v6(version=4)
    yield "ipv6_malformed", v6(plen=4000)
    yield "ip_address_invalid", v6(src="ff02::1")
    yield "ip_address_invalid", v6(src="::1")
    yield "ip_multicast_unrouted", v6(dst="ff05::5")
    yield "ttl_exceeded", v6(hlim=1)
    yield "ttl_exceeded", v6(hlim=0)
    yield "icmp_malformed", ether / IPv6(src=POD6, dst=GATEWAY6) / ICMPv6EchoRequest(cksum=0x1234)


def vxlan(mac, vtep):
    """VXLAN packets on the uplink."""
    inner = Ether(dst=vtep, src=HERE) / IP(src=REMOTE, dst=POD) / ICMP()

    def outer(ip=None, udp=None, header=None, inside=inner):
        ip = IP(**{"src": "192.0.2.2", "dst": "192.0.2.1", **(ip or {})})
        udp = UDP(**{"sport": 50000, "dport": 4789, **(udp or {})})
        header = VXLAN(**{"vni": 1, "flags": 8, **(header or {})})
        return Ether(dst=mac, src=HERE) / ip / udp / header / inside

    yield "ipv4_checksum", outer(ip={"chksum": 0x1234})
    yield "ipv4_malformed", outer(ip={"len": 4000})
    yield "udp_malformed", outer(udp={"len": 4})
    yield "udp_malformed", outer(udp={"len": 4000})
    yield "vxlan_malformed", Ether(dst=mac, src=HERE) / IP(src="192.0.2.2", dst="192.0.2.1") / UDP(dport=4789) / Raw(b"xx")
    yield "vxlan_flags", outer(header={"flags": 0})
    yield "vxlan_unknown_vni", outer(header={"vni": 2})
    yield "vxlan_unknown_peer", outer(ip={"src": "192.0.2.99"})
    yield "vxlan_inner_unknown", outer(inside=Ether(dst="02:99:99:99:99:99", src=HERE) / IP(src=REMOTE, dst=POD))
    yield "vxlan_malformed", outer(inside=Raw(b"xx"))
    yield "ipv4_malformed", outer(inside=Ether(dst=vtep, src=HERE) / IP(src=REMOTE, dst=POD, ihl=3))
    yield "ipv4_checksum", outer(inside=Ether(dst=vtep, src=HERE) / IP(src=REMOTE, dst=POD, chksum=1))
    yield "ipv6_malformed", outer(inside=Ether(dst=vtep, src=HERE, type=0x86DD) / Raw(b"\x60"))
    yield "ethertype_unrouted", outer(inside=Ether(dst=vtep, src=HERE, type=0x88B5) / Raw(b"x" * 46))
    yield "ttl_exceeded", outer(inside=Ether(dst=vtep, src=HERE) / IP(src=REMOTE, dst=POD, ttl=1) / ICMP())
    yield "ip_address_invalid", outer(inside=Ether(dst=vtep, src=HERE) / IP(src="127.0.0.1", dst=POD) / ICMP())


def ipip(mac):
    """IPIP packets on the uplink."""

    def outer(inside, **fields):
        ip = {"src": "192.0.2.2", "dst": "192.0.2.1", "proto": 4, **fields}
        return Ether(dst=mac, src=HERE) / IP(**ip) / inside

    yield "ipv4_checksum", outer(IP(src=REMOTE, dst=POD) / ICMP(), chksum=0x1234)
    yield "ipip_malformed", outer(Raw(b""))
    yield "ipip_malformed", outer(Raw(b"\x45\0\0\x14"))
    yield "ipv4_checksum", outer(IP(src=REMOTE, dst=POD, chksum=0x1234) / ICMP())
    yield "ipv4_malformed", outer(IP(src=REMOTE, dst=POD, len=4000) / ICMP())
    yield "ipip_malformed", outer(Raw(b"\x60\0\0\0"), proto=41)
    yield "ttl_exceeded", outer(IP(src=REMOTE, dst=POD, ttl=1) / ICMP())
    yield "ttl_exceeded", outer(IPv6(src=REMOTE6, dst=POD6, hlim=1) / ICMPv6EchoRequest(), proto=41)


kinds = {"router": routed, "uplink": vxlan, "ipip": ipip}
for reason, frame in kinds[sys.argv[1]](*sys.argv[2:]):
    print(reason, bytes(frame).hex())
