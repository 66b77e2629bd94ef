#!/usr/bin/python3
"""Writes the seed corpora, fuzz/seeds/<target>/<name>: well-formed packets of every kind, made by
scapy (Debian: python3-scapy), and calls of the CNI plugin. Run it again after a change; the result does not vary."""

import json
import pathlib
import struct

from scapy.all import (
    AH, ARP, ICMP, IP, TCP, UDP, VXLAN, Dot1Q, Ether, HBHOptUnknown, ICMPv6DestUnreach,
    ICMPv6EchoReply, ICMPv6EchoRequest, ICMPv6ND_NA, ICMPv6ND_NS, ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptSrcLLAddr, ICMPv6PacketTooBig, ICMPv6TimeExceeded, IPerror, IPOption_RR, IPv6,
    IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, IPv6ExtHdrHopByHop, IPv6ExtHdrRouting, Raw, UDPerror, raw,
)

SEEDS = pathlib.Path(__file__).resolve().parent / "seeds"
A, B = "02:00:00:00:00:01", "02:00:00:00:00:02"
ETH = Ether(src=A, dst=B)
V4 = IP(src="10.0.0.1", dst="10.0.0.2", id=1)
V6 = IPv6(src="fd00::1", dst="fd00::2")


def write(target, name, data):
    folder = SEEDS / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data if isinstance(data, bytes) else raw(data))


def ethernet_arp():
    def arp(**fields):
        return Ether(src=A, dst="ff:ff:ff:ff:ff:ff") / ARP(hwsrc=A, pdst="10.0.0.2", **fields)

    write("ethernet_arp", "request", arp(psrc="10.0.0.1"))
    write("ethernet_arp", "request_padded", raw(arp(psrc="10.0.0.1")).ljust(60, b"\0"))
    write("ethernet_arp", "probe", arp(psrc="0.0.0.0"))
    write("ethernet_arp", "announcement", arp(psrc="10.0.0.2"))
    write("ethernet_arp", "reply", arp(op=2, psrc="10.0.0.1", hwdst=B))
    write("ethernet_arp", "vlan", Ether(src=A, dst=B) / Dot1Q(prio=5, vlan=291) / V4)


def ipv4():
    write("ipv4", "udp", V4 / UDP(sport=1, dport=2) / b"data")
    write("ipv4", "padded", raw(V4 / UDP(sport=1, dport=2)) + bytes(18))
    write("ipv4", "options", IP(src="10.0.0.1", dst="10.0.0.2", options=[IPOption_RR()]) / b"x")
    write("ipv4", "dont_fragment", IP(src="10.0.0.1", dst="10.0.0.2", flags="DF", tos=0xB9) / b"x")
    write("ipv4", "first_fragment", IP(flags="MF", id=7, src="1.2.3.4", dst="4.3.2.1") / bytes(8))
    write("ipv4", "last_fragment", IP(frag=1, id=7, src="1.2.3.4", dst="4.3.2.1") / bytes(5))
    write("ipv4", "ttl_1", IP(src="10.0.0.1", dst="10.0.0.2", ttl=1))


def ipv6():
    write("ipv6", "udp", V6 / UDP(sport=1, dport=2) / b"data")
    write("ipv6", "class_and_label", IPv6(src="::1", dst="::2", tc=0xB9, fl=0xFFFFF, nh=59))
    udp = UDP(sport=1, dport=2)
    write("ipv6", "hop_by_hop", V6 / IPv6ExtHdrHopByHop() / udp)
    write("ipv6", "routing", V6 / IPv6ExtHdrRouting(addresses=["fd00::3"]) / udp)
    write("ipv6", "destination_options", V6 / IPv6ExtHdrDestOpt() / udp)
    write("ipv6", "auth", V6 / AH(nh=17, payloadlen=4, icv=bytes(12)) / udp)
    write("ipv6", "first_fragment", V6 / IPv6ExtHdrFragment(m=1, id=7) / udp)
    write("ipv6", "last_fragment", V6 / IPv6ExtHdrFragment(offset=1, id=7, nh=17) / b"tail")
    many = V6
    for _ in range(9):
        many = many / IPv6ExtHdrDestOpt()
    write("ipv6", "too_many", many / udp)


def icmp_ndisc():
    def icmp4(name, message):
        write("icmp_ndisc", name, bytes(33) + raw(message))

    def icmp6(name, packet):
        octets = raw(packet)
        write("icmp_ndisc", name, octets[8:40] + b"\x01" + octets[40:])

    icmp4("v4_request", ICMP(id=7, seq=1) / b"data")
    # The reply to it consists of zeros, whose checksum is 0xffff.
    icmp4("v4_request_of_zeros", ICMP(id=0, seq=0) / bytes(8))
    icmp4("v4_reply", ICMP(type=0, id=7, seq=1) / b"data")
    inner = IPerror(src="10.0.0.1", dst="10.0.0.2") / UDPerror(sport=1, dport=2)
    icmp4("v4_fragmentation_needed", ICMP(type=3, code=4, nexthopmtu=1450) / inner)
    icmp4("v4_time_exceeded", ICMP(type=11) / inner)
    icmp6("v6_request", V6 / ICMPv6EchoRequest(id=7, seq=1, data=b"data"))
    icmp6("v6_reply", V6 / ICMPv6EchoReply(id=7, seq=1, data=b"data"))
    icmp6("v6_unreachable", V6 / ICMPv6DestUnreach() / V6)
    icmp6("v6_too_big", V6 / ICMPv6PacketTooBig(mtu=1430) / V6)
    icmp6("v6_time_exceeded", V6 / ICMPv6TimeExceeded() / V6)
    slla, tlla = ICMPv6NDOptSrcLLAddr(lladdr=A), ICMPv6NDOptDstLLAddr(lladdr=B)
    group = IPv6(src="fe80::1", dst="ff02::1:ff00:2", hlim=255)
    icmp6("solicit", group / ICMPv6ND_NS(tgt="fe80::2") / slla)
    icmp6("duplicate_address_detection",
          IPv6(src="::", dst="ff02::1:ff00:2", hlim=255) / ICMPv6ND_NS(tgt="fe80::2"))
    icmp6("advert", IPv6(src="fe80::2", dst="fe80::1", hlim=255)
          / ICMPv6ND_NA(tgt="fe80::2", R=1, S=1, O=1) / tlla)
    icmp6("two_options", group / ICMPv6ND_NS(tgt="fe80::2") / tlla / slla)


def udp_tcp():
    def upper(packet):
        return raw(packet)[20:]

    write("udp_tcp", "udp", upper(V4 / UDP(sport=1, dport=2) / b"data"))
    write("udp_tcp", "udp_empty", upper(V4 / UDP(sport=1, dport=2)))
    write("udp_tcp", "tcp", upper(V4 / TCP(sport=1, dport=2, flags="PA") / b"data"))
    syn = [("MSS", 1460), ("SAckOK", b""), ("Timestamp", (1, 0)), ("NOP", None), ("WScale", 7)]
    write("udp_tcp", "syn", upper(V4 / TCP(sport=1, dport=2, flags="S", options=syn)))
    odd = [("NOP", None), ("MSS", 1460), ("WScale", 7)]
    write("udp_tcp", "syn_odd", upper(V4 / TCP(sport=1, dport=2, flags="S", options=odd)))


def vxlan_outer():
    def frame(name, packet, how=0, cut=255):
        write("vxlan_outer", name, bytes([how, cut]) + raw(packet))

    inner = Ether(src=B, dst=A) / IP(src="10.244.1.5", dst="10.244.2.5", id=1, tos=2) / UDP() / b"x"
    vxlan = UDP(sport=50000, dport=4789, chksum=0) / VXLAN(vni=0x123456, flags=8) / inner
    summed = UDP(sport=50000, dport=4789) / VXLAN(vni=1, flags=8) / inner
    frame("vxlan4", ETH / V4 / vxlan, how=3)
    frame("vxlan4_checksum", ETH / V4 / summed)
    frame("vxlan4_marked", ETH / IP(src="10.0.0.1", dst="10.0.0.2", tos=3) / vxlan)
    frame("vxlan4_options", ETH / IP(src="1.2.3.4", dst="4.3.2.1", options=[IPOption_RR()]) / vxlan)
    frame("vxlan4_segmented", ETH / V4 / vxlan, cut=60)
    frame("vxlan4_padded", raw(ETH / V4 / vxlan) + bytes(9))
    frame("vxlan6", ETH / V6 / summed)
    frame("vxlan6_no_flag", ETH / V6 / UDP(sport=1, dport=4789) / VXLAN(vni=1, flags=0) / inner)
    packet4 = IP(src="10.244.1.5", dst="10.244.2.5", id=1) / ICMP(id=7, seq=1)
    packet6 = IPv6(src="fd00::5", dst="fd00::6") / ICMPv6EchoRequest(id=7, seq=1)
    limit = IPv6ExtHdrDestOpt(options=[HBHOptUnknown(otype=4, optdata=b"\x04")])
    frame("ipip", ETH / V4 / packet4)
    frame("ip6_in_ip4", ETH / V4 / packet6)
    frame("ip4_in_ip6", ETH / V6 / packet4)
    frame("ip6_in_ip6_limit", ETH / V6 / limit / packet6)
    frame("fragment", ETH / IP(src="10.0.0.1", dst="10.0.0.2", flags="MF") / vxlan)
    frame("other", ETH / V4 / TCP(sport=1, dport=2), how=2)
    # A VXLAN header whose reserved bits are all set (RFC 7348 section 5: ignored on receipt).
    reserved = struct.pack("!II", 0xFFFFFFFF, 0x000001FF)
    frame("reserved_bits", ETH / V4 / UDP(sport=1, dport=4789, chksum=0) / Raw(reserved) / inner)


def pipeline():
    """Frames to node 1 of switch/tests/pipeline/kit/node.rs, each behind port, wait and length."""
    host, pod, blue, green, uplink = 0, 1, 3, 5, 7
    gateway, vtep, station = "0a:58:0a:f4:01:01", "0a:58:c0:00:02:01", "02:00:00:00:07:01"
    here, there = "02:00:00:00:ff:01", "02:00:00:00:ff:02"

    def frames(name, *sequence):
        octets = [(port, raw(packet)) for port, packet in sequence]
        write("pipeline", name, b"".join(
            struct.pack("!BBH", port | 0x80, 1, len(data)) + data for port, data in octets))

    out = Ether(src="02:00:00:01:00:0a", dst=gateway)
    every = Ether(src="02:00:00:01:00:0a", dst="ff:ff:ff:ff:ff:ff")
    from4 = lambda dst, **more: out / IP(src="10.244.1.10", dst=dst, id=1, **more)
    from6 = lambda dst, **more: out / IPv6(src="fd00:10:244:1::10", dst=dst, **more)
    udp = UDP(sport=1, dport=2) / b"payload"
    frames("arp", (pod, every / ARP(hwsrc=A, psrc="10.244.1.10", pdst="10.244.1.1")),
           (pod, out / ARP(hwsrc=A, psrc="10.244.1.10", pdst="10.244.1.1")))
    solicit = ICMPv6ND_NS(tgt="fd00:10:244:1::1")
    frames("solicit", (pod, Ether(src=A, dst="33:33:ff:00:00:01")
                       / IPv6(src="fd00:10:244:1::10", dst="ff02::1:ff00:1")
                       / solicit / ICMPv6NDOptSrcLLAddr(lladdr=A)),
           (pod, Ether(src=A, dst="33:33:ff:00:00:01")
            / IPv6(src="::", dst="ff02::1:ff00:1") / solicit))
    frames("echo", (pod, from4("10.244.1.1") / ICMP(id=1, seq=1) / b"ping"),
           (pod, from6("fd00:10:244:1::1") / ICMPv6EchoRequest(id=1, seq=1)))
    frames("local", (pod, from4("10.244.1.11") / udp), (pod, from6("fd00:10:244:1::11") / udp))
    frames("host", (pod, from4("198.18.0.1") / udp), (host, from4("198.18.0.1") / udp))
    for i, name in enumerate(("vxlan4", "vxlan6", "ipip4", "ipip6", "native", "unresolved", "lost",
                              "group")):
        frames("to_" + name, (pod, from4(f"10.250.{i}.1") / udp),
               (pod, from6(f"fd00:10:250:{i}::1") / udp))
    frames("options", (pod, from4("10.244.1.11", options=[IPOption_RR()]) / udp))
    frames("expired", (pod, from4("10.244.1.11", ttl=1) / udp))

    first, second, guarded = "02:00:00:00:07:14", "02:00:00:00:07:15", 8
    ask = Ether(src=first, dst="ff:ff:ff:ff:ff:ff")
    frames("suppressed", (guarded, ask / ARP(hwsrc=first, psrc="10.244.1.20", pdst="10.244.1.21")))
    frames("spoofed_arp", (guarded, ask / ARP(hwsrc=first, psrc="10.244.1.21", pdst="10.244.1.99")))
    frames("guarded", (guarded, Ether(src=first, dst=second)
                       / IP(src="10.244.1.20", dst="10.244.1.21", id=1) / udp),
           (guarded + 1, Ether(src=second, dst=first) / Dot1Q(vlan=0)
            / IPv6(src="fd00:10:244:1::21", dst="fd00:10:244:1::20") / udp),
           (guarded + 2, Ether(src=station, dst=first, type=0x88B5) / b"hello"))

    def large(name, packet):
        data = raw(packet)
        head = struct.pack("!BBH", pod | 0x80, 1, len(data))
        write("pipeline", name, head + data.rstrip(b"\0"))

    zeros = UDP(sport=1, dport=2, chksum=0) / bytes(9500)
    large("large", from4("10.250.0.1") / zeros)
    large("large_whole", from4("10.250.0.1", flags="DF") / zeros)
    large("large_ipv6", from6("fd00:10:250:0::1") / zeros)
    large("large_echo", from4("10.244.1.1") / ICMP(id=1, seq=1) / bytes(60000))

    learn = Ether(src=station, dst="ff:ff:ff:ff:ff:ff", type=0x88B5) / b"hello"
    answer = Ether(src="02:00:00:00:07:02", dst=station, type=0x88B5) / b"hello"
    under4, under6 = IP(src="192.0.2.2", dst="192.0.2.1", id=1), IPv6(src="2001:db8::2", dst="2001:db8::1")
    in_blue = Ether(src=there, dst=here) / under4 / UDP(sport=50000, dport=4789, chksum=0)
    in_green = Ether(src=there, dst=here) / under6 / UDP(sport=50000, dport=8472)
    frames("bridge", (blue, learn), (blue + 1, answer), (blue, learn))
    frames("blue", (blue, learn), (uplink, in_blue / VXLAN(vni=100, flags=8) / answer))
    frames("green", (green, learn), (uplink, in_green / VXLAN(vni=200, flags=8) / answer))
    inner = IP(src="10.244.2.10", dst="10.244.1.10", id=1) / udp
    inner6 = IPv6(src="fd00:10:244:2::10", dst="fd00:10:244:1::10") / udp
    to_vtep = Ether(src="0a:58:c0:00:02:02", dst=vtep)
    frames("vxlan4", (uplink, in_blue / VXLAN(vni=1, flags=8) / to_vtep / inner))
    frames("vxlan6", (uplink, in_green / VXLAN(vni=6, flags=8) / to_vtep / inner6))
    for name, under in (("4", under4), ("6", under6)):
        for inside, packet in (("4", inner), ("6", inner6)):
            frames(f"ipip_{inside}in{name}", (uplink, Ether(src=there, dst=here) / under / packet))
    frames("native", (uplink, Ether(src=there, dst=here) / inner))
    frames("echo_through_tunnel", (uplink, Ether(src=there, dst=here) / under4
                                   / IP(src="10.244.2.10", dst="10.244.1.1", id=1) / ICMP() / b"x"))


def offload():
    """Frames to node 1 of switch/tests/pipeline/kit/node.rs, each behind port, virtio_net_hdr and length."""
    pod, blue, uplink = 1, 3, 7
    out = Ether(src="02:00:00:01:00:0a", dst="0a:58:0a:f4:01:01")
    from4 = lambda dst: out / IP(src="10.244.1.10", dst=dst, id=1, flags="DF")
    from6 = lambda dst: out / IPv6(src="fd00:10:244:1::10", dst=dst)
    data = bytes(range(250))
    tcp = TCP(sport=1, dport=2, flags="PA", options=[("Timestamp", (1, 2))]) / data
    udp = UDP(sport=1, dport=2) / data

    def frames(name, *sequence):
        write("offload", name, b"".join(
            struct.pack("!B", port | 0xC0) + header + struct.pack("!H", len(data)) + data
            for port, header, data in ((p, h, raw(f)) for p, h, f in sequence)))

    def header(size, flags=1, kind=1, start=34, offset=16):
        return struct.pack("<BBHHHH", flags, kind, 54, size, start, offset)

    for name, dst4, dst6 in (("near", "10.244.1.11", "fd00:10:244:1::11"),
                             ("far", "10.244.2.10", "fd00:10:244:2::10"),
                             ("vxlan", "10.250.0.1", "fd00:10:250:0::1"),
                             ("ipip", "10.250.3.1", "fd00:10:250:3::1"),
                             ("host", "198.18.0.1", "2001:2::1")):
        frames(f"tcp_{name}", (pod, header(100), from4(dst4) / tcp), (pod, header(70), from6(dst6) / tcp))
        frames(f"udp_{name}", (pod, header(100), from4(dst4) / udp), (pod, header(7), from6(dst6) / udp))
    frames("flood", (blue, header(100), Ether(src=A, dst=B) / IP(src="10.0.0.1", dst="10.0.0.2") / tcp))
    here = Ether(src="02:00:00:00:ff:02", dst="02:00:00:00:ff:01")
    to4 = here / IP(src="10.244.2.10", dst="10.244.1.10", flags="DF")
    to6 = here / IPv6(src="fd00:10:244:2::10", dst="fd00:10:244:1::10")
    part = lambda packet, n: packet / TCP(sport=1, dport=2, flags="A", seq=10 * n) / (b"0123456789" * 1)
    frames("merged", *((uplink, bytes(10), part(to4, n)) for n in range(6)))
    frames("merged6", *((uplink, bytes(10), part(to6, n)) for n in range(6)))
    # As they are described, not as they are.
    write("offload", "partial", bytes([pod]) + header(0, kind=0) + struct.pack("!H", 100)
          + raw(from4("10.244.1.11") / tcp)[:100])


def cni():
    """Variables, a line each, an empty line, and the standard input."""
    container = {"CONTAINERID": "c1", "NETNS": "/run/netns/c1", "IFNAME": "eth0"}
    result = {"cniVersion": "1.1.0",
              "interfaces": [{"name": "eth0", "mac": A, "sandbox": "/run/netns/c1", "mtu": 1450}],
              "ips": [{"address": "10.0.0.5/24", "gateway": "10.0.0.1", "interface": 0},
                      {"version": "6", "address": "fd00::5/64"}],
              "routes": [{"dst": "0.0.0.0/0", "gw": "10.0.0.1", "mtu": 1400, "advmss": 1360,
                          "priority": 1, "table": 254, "scope": 0}],
              "dns": {"nameservers": ["10.0.0.53"]}}

    def call(name, command, env=None, **conf):
        conf = {"cniVersion": "1.1.0", "name": "net", "type": "podswitch-cni"} | conf
        env = {"COMMAND": command} | (container if env is None else env)
        lines = "".join(f"CNI_{key}={value}\n" for key, value in env.items())
        write("cni", name, (lines + "\n" + json.dumps(conf)).encode())

    call("add", "ADD")
    call("add_bridge", "ADD", cniVersion="0.3.1", bridge="cni0", isGateway=True, ipMasq=True,
         ipam={"type": "host-local", "subnet": "10.244.0.0/16", "routes": [{"dst": "0.0.0.0/0"}]})
    call("add_keys", "ADD", isDefaultGateway=True, forceAddress=True, hairpinMode=True, mtu=9000,
         vlan=7, macspoofchk=True, enabledad=True, ipMasqBackend="nftables", dns=result["dns"],
         log="/var/log/cni.log", socket="/run/sock", promiscMode=False, preserveDefaultVlan=False,
         ipam={"type": "podswitch", "routes": [{"dst": "10.0.0.5/8", "gw": ""}]})
    call("add_refused", "ADD", vlanTrunk=[{"minID": 1, "maxID": 9}], portIsolation=True, ipam={})
    call("add_wishes", "ADD",
         container | {"ARGS": f"IgnoreUnknown=1;MAC={A};IP=10.0.0.9/24;K8S_POD_NAME=web"},
         runtimeConfig={"mac": A, "ips": ["10.0.0.7/24", "fd00::7"], "portMappings": [{"hostPort": 80}],
                        "bandwidth": {"ingressRate": 1000, "ingressBurst": 10, "egressRate": 0}},
         args={"cni": {"mac": A, "ips": ["10.0.0.8"]}}, bandwidth={"egressRate": 5})
    call("add_chained", "ADD", prevResult=result)
    call("del", "DEL", {"CONTAINERID": "c1", "IFNAME": "eth0"}, prevResult=None)
    call("check", "CHECK", prevResult=result)
    call("gc", "GC", {"PATH": "/opt/cni/bin:/usr/lib/cni"},
         **{"cni.dev/valid-attachments": [{"containerID": "c1", "ifname": "eth0"}]})
    call("status", "STATUS", {})
    call("version", "VERSION", {})


for make in (ethernet_arp, ipv4, ipv6, icmp_ndisc, udp_tcp, vxlan_outer, pipeline, offload, cni):
    make()
