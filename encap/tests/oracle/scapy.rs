//! Bytes made by scapy 2.5, which shares no code with anything here. The expression stands above
//! each: `raw(expression).hex()`.

use encap::ipv4::Fragmentation;
use encap::tunnel::{Kind, OuterHeader, parse_outer};
use encap::{IpVersion, Mac, Vni, ecn, ethernet, ipv4, ipv6, ndisc, tcp, vlan};
use std::net::{IpAddr, Ipv6Addr};

/// `IPv6(src='fe80::1',dst='ff02::1:ff00:2',hlim=255)/ICMPv6ND_NS(tgt='fe80::2')/`
/// `ICMPv6NDOptSrcLLAddr(lladdr='02:00:00:00:00:01')`
const SOLICIT: &str = "6000000000203afffe800000000000000000000000000001ff0200000000000000000001ff000002\
    87007a9700000000fe8000000000000000000000000000020101020000000001";

/// `IPv6(src='::',dst='ff02::1:ff00:2',hlim=255)/ICMPv6ND_NS(tgt='fe80::2')`
const PROBE: &str = "6000000000183aff00000000000000000000000000000000ff0200000000000000000001ff000002\
    87007c2300000000fe800000000000000000000000000002";

/// `IPv6(src='fe80::2',dst='fe80::1',hlim=255)/ICMPv6ND_NA(tgt='fe80::2',R=1,S=1,O=1)/`
/// `ICMPv6NDOptDstLLAddr(lladdr='02:00:00:00:00:02')`
const ADVERT: &str = "6000000000203afffe800000000000000000000000000002fe800000000000000000000000000001\
    88009819e0000000fe8000000000000000000000000000020201020000000002";

/// `Ether(src='02:00:00:00:00:01',dst='02:00:00:00:00:02')/`
/// `IP(src='192.0.2.1',dst='192.0.2.2',ttl=64,tos=0xb8,id=0,flags='DF')/`
/// `UDP(sport=50000,dport=4789,chksum=0)/VXLAN(vni=0x123456,flags=8)/`
/// `Ether(src='02:00:00:00:01:01',dst='02:00:00:00:01:02',type=0x88b5)/Raw(b'hello')`
const VXLAN4: &str = "020000000002020000000001080045b80037000040004011b5fac0000201c0000202c35012b50023\
    0000080000001234560002000000010202000000010188b568656c6c6f";

/// `Ether(src='02:00:00:00:00:01',dst='02:00:00:00:00:02')/`
/// `IPv6(src='2001:db8::1',dst='2001:db8::2',hlim=64,tc=0xb8)/UDP(sport=50000,dport=4789)/`
/// `VXLAN(vni=0x123456,flags=8)/`
/// `Ether(src='02:00:00:00:01:01',dst='02:00:00:00:01:02',type=0x88b5)/Raw(b'hello')`
const VXLAN6: &str = "02000000000202000000000186dd6b8000000023114020010db80000000000000000000000012001\
    0db8000000000000000000000002c35012b500238b6e080000001234560002000000010202000000\
    010188b568656c6c6f";

/// `Ether(src='02:00:00:00:00:01',dst='02:00:00:00:00:02')/`
/// `IP(src='192.0.2.1',dst='192.0.2.2',ttl=64,tos=1,id=0x1234)/`
/// `IP(src='10.244.1.5',dst='10.244.2.5',ttl=63)/ICMP(id=7,seq=1)`
const IPIP: &str = "020000000002020000000001080045010030123400004004e491c0000201c00002024500001c0001\
    00003f0162ef0af401050af402050800f7f700070001";

/// `Ether(src='02:00:00:00:00:01',dst='02:00:00:00:00:02')/`
/// `IPv6(src='2001:db8::1',dst='2001:db8::2',hlim=64)/`
/// `IPv6ExtHdrDestOpt(options=[HBHOptUnknown(otype=4,optdata=b'\x04'),PadN(optdata=b'\x00')])/`
/// `IPv6(src='fd00::1',dst='fd00::2')/ICMPv6EchoRequest(id=7,seq=1)`
const IP6_IN_IP6: &str = "02000000000202000000000186dd6000000000383c4020010db80000000000000000000000012001\
    0db800000000000000000000000229000401040101006000000000083a40fd000000000000000000\
    000000000001fd000000000000000000000000000002800085b000070001";

/// `IPv6(src='fd00::1',dst='fd00::2')/IPv6ExtHdrHopByHop()/IPv6ExtHdrDestOpt()/`
/// `IPv6ExtHdrRouting(addresses=['fd00::3'])/IPv6ExtHdrFragment(offset=0,m=1,id=9)/`
/// `AH(nh=17,payloadlen=4,icv=b'\x00'*12)/UDP(sport=1,dport=2)`
const EXTENSIONS: &str = "6000000000500040fd000000000000000000000000000001fd000000000000000000000000000002\
    3c000104000000002b000104000000002c02000100000000fd000000000000000000000000000003\
    33000001000000091104000000000001000000000000000000000000000000000001000200080000";

/// `Ether(src='02:00:00:00:00:01',dst='02:00:00:00:00:02')/Dot1Q(prio=5,id=1,vlan=0x123)/`
/// `IP(src='10.0.0.1',dst='10.0.0.2')/UDP(sport=1,dport=2)`
const VLAN: &str = "0200000000020200000000018100b12308004500001c00010000401166ce0a0000010a0000020001\
    00020008ebd8";

/// `IP(src='10.0.0.1',dst='10.0.0.2')/`
/// `TCP(sport=1,dport=2,flags='S',options=[('NOP',None),('MSS',1460),('WScale',7)])`
const TCP_MSS: &str = "4500003000010000400666c50a0000010a000002000100020000000000000000700220009fc30000\
    01020405b4030307";

/// All of them, for tests that want something well formed to cut.
pub const SAMPLES: &[(&str, &str)] = &[
    ("SOLICIT", SOLICIT),
    ("PROBE", PROBE),
    ("ADVERT", ADVERT),
    ("VXLAN4", VXLAN4),
    ("VXLAN6", VXLAN6),
    ("IPIP", IPIP),
    ("IP6_IN_IP6", IP6_IN_IP6),
    ("EXTENSIONS", EXTENSIONS),
    ("VLAN", VLAN),
    ("TCP_MSS", TCP_MSS),
];

pub fn hex(s: &str) -> Vec<u8> {
    let (digits, rest) = s.as_bytes().as_chunks::<2>();
    assert!(rest.is_empty());
    let octet = |d: &[u8; 2]| u8::from_str_radix(str::from_utf8(d).unwrap(), 16).unwrap();
    digits.iter().map(octet).collect()
}

fn mac(s: &str) -> Mac {
    s.parse().unwrap()
}

fn ip(s: &str) -> IpAddr {
    s.parse().unwrap()
}

fn ip6(s: &str) -> Ipv6Addr {
    s.parse().unwrap()
}

#[test]
fn neighbour_discovery() {
    let (one, two) = (ip6("fe80::1"), ip6("fe80::2"));
    let solicit = ndisc::Repr::Solicit { target: two, source_mac: Some(mac("02:00:00:00:00:01")) };
    let probe = ndisc::Repr::Solicit { target: two, source_mac: None };
    let advert = ndisc::Repr::Advert {
        target: two,
        router: true,
        solicited: true,
        override_cache: true,
        target_mac: Some(mac("02:00:00:00:00:02")),
    };
    let group = ndisc::solicited_node(two);
    for (sample, want, src, dst) in [
        (SOLICIT, solicit, one, group),
        (PROBE, probe, Ipv6Addr::UNSPECIFIED, group),
        (ADVERT, advert, two, one),
    ] {
        let bytes = hex(sample);
        let packet = ipv6::View::new_checked(&bytes).unwrap();
        assert_eq!((packet.src(), packet.dst()), (src, dst));
        let message = ndisc::View::new_checked(packet.payload()).unwrap();
        assert_eq!(ndisc::Repr::parse(&message, src, dst, packet.hop_limit()), Ok(want));
        let mut out = vec![0xff; want.buffer_len()];
        want.emit(&mut out, src, dst);
        assert_eq!(out, packet.payload());
    }
}

#[test]
fn vxlan_over_ipv4_and_ipv6() {
    let vni = Vni::new(0x12_3456).unwrap();
    for (sample, src, dst) in
        [(VXLAN4, "192.0.2.1", "192.0.2.2"), (VXLAN6, "2001:db8::1", "2001:db8::2")]
    {
        let bytes = hex(sample);
        let (a, b) = (mac("02:00:00:00:00:01"), mac("02:00:00:00:00:02"));
        let h = OuterHeader::vxlan(a, b, ip(src), ip(dst), 4789, vni, 64).unwrap();
        let outer = parse_outer(&bytes, bytes.len(), |p| p == 4789).unwrap();
        assert_eq!((outer.src, outer.dst, outer.tos), (ip(src), ip(dst), 0xb8));
        assert!(matches!(outer.kind, Kind::Vxlan { vni: v, dst_port: 4789, .. } if v == vni));
        assert_eq!((outer.inner_offset, outer.inner_len), (h.len(), 14 + 5));
        assert!(outer.udp_checksum_ok(&bytes, &[]));

        // scapy's frame, byte for byte.
        let mut out = bytes.clone();
        out[..h.len()].fill(0xff);
        let front = &mut out[..h.len()];
        h.write_vxlan(front, outer.inner_len, 50000, 0xb8, Fragmentation::Forbidden).unwrap();
        if !h.is_ipv4() {
            h.fill_udp_checksum(&mut out, &[]).unwrap();
        }
        assert_eq!(out, bytes);
    }
}

#[test]
fn ip_in_ip() {
    let bytes = hex(IPIP);
    let outer = parse_outer(&bytes, bytes.len(), |_| true).unwrap();
    assert_eq!((outer.src, outer.dst, outer.tos), (ip("192.0.2.1"), ip("192.0.2.2"), 1));
    assert_eq!(outer.kind, Kind::Ipip { inner: IpVersion::V4 });
    assert_eq!((outer.inner_offset, outer.inner_len), (34, 28));
    let (a, b) = (mac("02:00:00:00:00:01"), mac("02:00:00:00:00:02"));
    let h = OuterHeader::ipip(a, b, outer.src, outer.dst, 64).unwrap();
    let mut out = [0xff; 34];
    let f = Fragmentation::Allowed { ident: 0x1234 };
    h.write_ipip(&mut out, 28, IpVersion::V4, 1, f).unwrap();
    assert_eq!(out, bytes[..34]);
}

/// RFC 2473 section 4.1.1's tunnel encapsulation limit, which Linux puts in front by default.
#[test]
fn ip_in_ip_behind_a_tunnel_encapsulation_limit() {
    let bytes = hex(IP6_IN_IP6);
    let outer = parse_outer(&bytes, bytes.len(), |_| true).unwrap();
    assert_eq!((outer.src, outer.dst), (ip("2001:db8::1"), ip("2001:db8::2")));
    assert_eq!(outer.kind, Kind::Ipip { inner: IpVersion::V6 });
    assert_eq!((outer.inner_offset, outer.inner_len), (54 + 8, 48));
}

#[test]
fn extension_headers() {
    let upper = ipv6::upper_layer(&hex(EXTENSIONS)).unwrap();
    assert_eq!((upper.protocol, upper.offset), (17, 40 + 8 + 8 + 24 + 8 + 24));
    assert_eq!(upper.fragment, Some(ipv6::Fragment { offset: 0, more: true, ident: 9 }));
    assert!(upper.is_fragment() && !upper.is_later_fragment());
}

#[test]
fn vlan_tag() {
    let bytes = hex(VLAN);
    let eth = ethernet::View::new_checked(&bytes).unwrap();
    assert_eq!(eth.ethertype(), ethernet::ethertype::VLAN);
    let tag = vlan::View::new_checked(eth.payload()).unwrap();
    let want = vlan::Repr { priority: 5, drop_eligible: true, vid: 0x123, ethertype: 0x0800 };
    assert_eq!(vlan::Repr::parse(&tag), Ok(want));
    assert!(ipv4::View::new_checked(tag.payload()).unwrap().checksum_ok());
    assert_eq!(ecn::frame_tos(&bytes), 0);
}

#[test]
fn maximum_segment_size_at_an_odd_offset() {
    let bytes = hex(TCP_MSS);
    let packet = ipv4::View::new_checked(&bytes).unwrap();
    let (src, dst) = (packet.src().into(), packet.dst().into());
    let mut segment = packet.payload().to_vec();
    let mut v = tcp::View::new_checked(&mut segment).unwrap();
    assert_eq!((v.mss(), v.flags(), v.checksum_ok(src, dst)), (Some(1460), tcp::flag::SYN, true));
    assert!(!v.clamp_mss(1460));
    assert!(v.clamp_mss(1398));
    assert_eq!((v.mss(), v.checksum_ok(src, dst)), (Some(1398), true));
}
