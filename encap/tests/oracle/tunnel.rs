//! Outer headers: written by us and read by etherparse, written by etherparse and read by us.

use crate::{ends, mac, payload};
use encap::ipv4::Fragmentation;
use encap::tunnel::{
    FamilyMismatch, Kind, Outer, OuterError, OuterHeader, WriteError, parse_outer,
};
use encap::{IpVersion, Mac, Vni, checksum};
use etherparse::{
    IpNumber, Ipv4Header, Ipv4Options, Ipv6FragmentHeader, Ipv6Header, PacketBuilder, SlicedPacket,
    TransportSlice, UdpHeader,
};
use proptest::prelude::*;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const A: Mac = Mac([2, 0, 0, 0, 0, 1]);
const B: Mac = Mac([2, 0, 0, 0, 0, 2]);

fn vni() -> impl Strategy<Value = Vni> {
    (0..=Vni::MAX).prop_map(|v| Vni::new(v).unwrap())
}

fn fragmentation() -> impl Strategy<Value = Fragmentation> {
    prop_oneof![
        Just(Fragmentation::Forbidden),
        any::<u16>().prop_map(|ident| Fragmentation::Allowed { ident }),
    ]
}

/// What etherparse sees of the outer IP header: addresses, tos, TTL, protocol, payload.
fn check_ip(p: &SlicedPacket, src: IpAddr, dst: IpAddr, tos: u8, ttl: u8, f: Fragmentation) {
    match p.net.as_ref().unwrap() {
        etherparse::NetSlice::Ipv4(ip) => {
            let h = ip.header();
            assert_eq!(h.header_checksum(), h.to_header().calc_header_checksum());
            assert_eq!((IpAddr::V4(h.source_addr()), IpAddr::V4(h.destination_addr())), (src, dst));
            assert_eq!(h.dcp().value() << 2 | h.ecn().value(), tos);
            assert_eq!(h.ttl(), ttl);
            assert!(!h.is_fragmenting_payload());
            match f {
                Fragmentation::Forbidden => {
                    assert_eq!((h.dont_fragment(), h.identification()), (true, 0))
                }
                Fragmentation::Allowed { ident } => {
                    assert_eq!((h.dont_fragment(), h.identification()), (false, ident));
                }
            }
        }
        etherparse::NetSlice::Ipv6(ip) => {
            let h = ip.header();
            assert_eq!((IpAddr::V6(h.source_addr()), IpAddr::V6(h.destination_addr())), (src, dst));
            assert_eq!((h.traffic_class(), h.hop_limit()), (tos, ttl));
        }
        other => panic!("{other:?}"),
    }
}

proptest! {
    #[test]
    fn etherparse_reads_the_vxlan_that_we_write(
        (src, dst) in ends(), macs in (mac(), mac()), dst_port: u16, vni in vni(), ttl: u8, tos: u8,
        src_port: u16, f in fragmentation(), inner in payload(200),
    ) {
        let h = OuterHeader::vxlan(macs.0, macs.1, src, dst, dst_port, vni, ttl).unwrap();
        prop_assert_eq!(h.len(), if src.is_ipv4() { 50 } else { 70 });
        prop_assert!(h.is_vxlan() && h.is_ipv4() == src.is_ipv4());
        prop_assert_eq!(h.dst_mac(), macs.1);
        let mut frame = vec![0xee; h.len()];
        frame.extend(&inner);
        h.write_vxlan(&mut frame[..h.len()], inner.len(), src_port, tos, f).unwrap();
        prop_assert_eq!(&frame[h.len()..], &inner[..]);

        let p = SlicedPacket::from_ethernet(&frame).unwrap();
        let eth = p.link.as_ref().unwrap().to_header().unwrap().ethernet2().unwrap();
        prop_assert_eq!((Mac(eth.source), Mac(eth.destination)), macs);
        check_ip(&p, src, dst, tos, ttl, f);
        let Some(TransportSlice::Udp(udp)) = &p.transport else { panic!() };
        prop_assert_eq!((udp.source_port(), udp.destination_port()), (src_port, dst_port));
        prop_assert_eq!((usize::from(udp.length()), udp.checksum()), (16 + inner.len(), 0));
        let v = vni.get().to_be_bytes();
        prop_assert_eq!(&udp.payload()[..8], &[8, 0, 0, 0, v[1], v[2], v[3], 0]);
        prop_assert_eq!(&udp.payload()[8..], &inner[..]);
        drop(p);

        // Back through our own decapsulation.
        let got = parse_outer(&frame, frame.len(), |p| p == dst_port);
        if inner.len() < 14 {
            prop_assert_eq!(got, Err(OuterError::VxlanTruncated));
        } else {
            let outer = Outer {
                src, dst, tos, kind: Kind::Vxlan { vni, dst_port, checksum: 0 },
                inner_offset: h.len(), inner_len: inner.len(),
            };
            prop_assert_eq!(got, Ok(outer));
            prop_assert!(outer.udp_checksum_ok(&frame, &[]));
        }

        // The checksum on demand, the inner frame cut into segments anywhere.
        let cut = h.len() + inner.len() / 3;
        let (first, rest) = frame.split_at_mut(cut);
        let (second, third) = rest.split_at(rest.len() / 2);
        h.fill_udp_checksum(first, &[second, third]).unwrap();
        let once = first.to_vec();
        h.fill_udp_checksum(first, &[second, third]).unwrap();
        prop_assert_eq!(&*first, &once);
        let Some(TransportSlice::Udp(udp)) = SlicedPacket::from_ethernet(&frame).unwrap().transport
        else { panic!() };
        let header = udp.to_header();
        let want = match (src, dst) {
            (IpAddr::V4(s), IpAddr::V4(d)) => {
                header.calc_checksum_ipv4_raw(s.octets(), d.octets(), udp.payload()).unwrap()
            }
            (IpAddr::V6(s), IpAddr::V6(d)) => {
                header.calc_checksum_ipv6_raw(s.octets(), d.octets(), udp.payload()).unwrap()
            }
            _ => unreachable!(),
        };
        prop_assert_eq!(header.checksum, want);
        if inner.len() >= 14 {
            let (first, rest) = frame.split_at(cut);
            let (second, third) = rest.split_at(rest.len() / 2);
            let outer = parse_outer(first, frame.len(), |_| true).unwrap();
            prop_assert!(outer.udp_checksum_ok(first, &[second, third]));
            prop_assert!(outer.udp_checksum_ok(first, &[second, third, b"padding"]));
            prop_assert!(outer.udp_checksum_ok(&frame, &[]));
            let last = frame.len() - 1;
            frame[last] ^= 1;
            prop_assert!(!outer.udp_checksum_ok(&frame, &[]));
        }
    }

    #[test]
    fn etherparse_reads_the_ipip_that_we_write(
        (src, dst) in ends(), inner6: bool, ttl: u8, tos: u8, f in fragmentation(),
        data in payload(100), padding in payload(20),
    ) {
        let inner = if inner6 { IpVersion::V6 } else { IpVersion::V4 };
        let packet = inner_packet(inner, &data);
        let h = OuterHeader::ipip(A, B, src, dst, ttl).unwrap();
        prop_assert_eq!(h.len(), if src.is_ipv4() { 34 } else { 54 });
        prop_assert!(!h.is_vxlan() && h.is_ipv4() == src.is_ipv4());
        let mut frame = vec![0xee; h.len()];
        frame.extend(&packet);
        frame.extend(&padding);
        h.write_ipip(&mut frame[..h.len()], packet.len(), inner, tos, f).unwrap();

        let p = SlicedPacket::from_ethernet(&frame).unwrap();
        check_ip(&p, src, dst, tos, ttl, f);
        let ip = p.net.as_ref().unwrap().ip_payload_ref().unwrap();
        prop_assert_eq!(ip.ip_number.0, inner.protocol());
        prop_assert_eq!(ip.payload, &packet[..]);
        SlicedPacket::from_ip(ip.payload).unwrap();

        let got = parse_outer(&frame, frame.len(), |_| true);
        prop_assert_eq!(got, Ok(Outer {
            src, dst, tos, kind: Kind::Ipip { inner }, inner_offset: h.len(),
            inner_len: packet.len(),
        }));
    }

    /// What etherparse writes, IPv4 options and outer padding included.
    #[test]
    fn we_read_the_vxlan_that_etherparse_writes(
        (src, dst) in ends(), words in proptest::collection::vec(any::<[u8; 4]>(), 0..=10),
        vni in vni(), reserved: [u8; 4], flags: u8, inner in payload(60), padding in payload(20),
        slack in payload(5), cut: prop::sample::Index,
    ) {
        let mut payload = vec![flags | 8, reserved[0], reserved[1], reserved[2]];
        payload.extend(&vni.get().to_be_bytes()[1..]);
        payload.push(reserved[3]);
        payload.extend([0; 14]);
        payload.extend(&inner);
        let udp = UdpHeader::without_ipv4_checksum(50000, 8472, payload.len()).unwrap();
        let mut upper = udp.to_bytes().to_vec();
        upper.extend(&payload);
        // Octets between the end of the UDP datagram and that of the IP packet.
        upper.extend(&slack);
        let mut frame = ethernet(src.is_ipv4());
        let header = ip_header(src, dst, 17, upper.len(), &words);
        frame.extend(&header);
        frame.extend(&upper);
        frame.extend(&padding);

        let want = Outer {
            src, dst, tos: 0, kind: Kind::Vxlan { vni, dst_port: 8472, checksum: 0 },
            inner_offset: 14 + header.len() + 16, inner_len: 14 + inner.len(),
        };
        prop_assert_eq!(parse_outer(&frame, frame.len(), |p| p == 8472), Ok(want));
        let other = Outer {
            kind: Kind::Other { protocol: 17 },
            inner_offset: 14 + header.len(), inner_len: upper.len(), ..want
        };
        prop_assert_eq!(parse_outer(&frame, frame.len(), |p| p == 4789), Ok(other));

        // All headers in the first segment: the rest may be elsewhere. Not all: an error.
        let n = cut.index(frame.len());
        let got = parse_outer(&frame[..n], frame.len(), |_| true);
        prop_assert_eq!(got.is_ok(), n >= want.inner_offset, "{} of {:?}: {:?}", n, want, got);
        // The frame itself cut short: an error until all that the headers promise is there.
        let got = parse_outer(&frame[..n], n, |_| true);
        prop_assert_eq!(got.is_ok(), n >= 14 + header.len() + upper.len(), "{} {:?}", n, got);
    }

    #[test]
    fn any_flipped_bit_of_the_outer_ipv4_header_is_refused(
        bit in 0usize..160, inner in payload(40),
    ) {
        let v4 = |n| IpAddr::V4(Ipv4Addr::new(192, 0, 2, n));
        let h = OuterHeader::vxlan(A, B, v4(1), v4(2), 4789, Vni::new(1).unwrap(), 64).unwrap();
        let mut frame = vec![0; 50 + 14];
        frame.extend(&inner);
        let len = frame.len() - 50;
        h.write_vxlan(&mut frame[..50], len, 50000, 0, Fragmentation::Forbidden).unwrap();
        frame[14 + bit / 8] ^= 1 << (bit % 8);
        let got = parse_outer(&frame, frame.len(), |_| true);
        prop_assert!(
            matches!(got, Err(OuterError::Ipv4Checksum | OuterError::Ipv4Malformed)), "{:?}", got
        );
    }
}

fn ethernet(v4: bool) -> Vec<u8> {
    let ty: [u8; 2] = if v4 { [8, 0] } else { [0x86, 0xdd] };
    [&B.0[..], &A.0[..], &ty[..]].concat()
}

fn ip_header(src: IpAddr, dst: IpAddr, protocol: u8, len: usize, words: &[[u8; 4]]) -> Vec<u8> {
    match (src, dst) {
        (IpAddr::V4(s), IpAddr::V4(d)) => {
            let mut h = Ipv4Header::new(0, 64, IpNumber(protocol), s.octets(), d.octets()).unwrap();
            h.options = Ipv4Options::try_from(&words.concat()[..]).unwrap();
            h.set_payload_len(len).unwrap();
            h.header_checksum = h.calc_header_checksum();
            h.to_bytes().to_vec()
        }
        (IpAddr::V6(s), IpAddr::V6(d)) => Ipv6Header {
            payload_length: len as u16,
            next_header: IpNumber(protocol),
            hop_limit: 64,
            source: s.octets(),
            destination: d.octets(),
            ..Ipv6Header::default()
        }
        .to_bytes()
        .to_vec(),
        _ => unreachable!(),
    }
}

fn inner_packet(version: IpVersion, data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    match version {
        IpVersion::V4 => PacketBuilder::ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64),
        IpVersion::V6 => PacketBuilder::ipv6([1; 16], [2; 16], 64),
    }
    .udp(1, 2)
    .write(&mut out, data)
    .unwrap();
    out
}

fn frame(src: IpAddr, dst: IpAddr, protocol: u8, upper: &[u8]) -> Vec<u8> {
    let mut f = ethernet(src.is_ipv4());
    f.extend(ip_header(src, dst, protocol, upper.len(), &[]));
    f.extend(upper);
    f
}

fn parse(f: &[u8]) -> Result<Outer, OuterError> {
    parse_outer(f, f.len(), |_| true)
}

const S4: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const D4: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));
const S6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));
const D6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2));

fn refill(f: &mut [u8]) {
    f[24..26].fill(0);
    let c = checksum::checksum(&f[14..34]);
    f[24..26].copy_from_slice(&c.to_be_bytes());
}

#[test]
fn each_fault_has_its_name() {
    let mut udp = UdpHeader::without_ipv4_checksum(1, 4789, 8 + 14).unwrap().to_bytes().to_vec();
    udp.extend([8, 0, 0, 0, 0, 0, 1, 0]);
    udp.extend([0; 14]);
    for (s, d) in [(S4, D4), (S6, D6)] {
        let malformed =
            if s.is_ipv4() { OuterError::Ipv4Malformed } else { OuterError::Ipv6Malformed };
        let at = if s.is_ipv4() { 34 } else { 54 };
        let good = frame(s, d, 17, &udp);
        assert!(parse(&good).is_ok());
        for n in 0..14 {
            assert_eq!(parse(&good[..n]), Err(OuterError::EthTruncated));
        }
        for n in 14..good.len() {
            assert_eq!(parse(&good[..n]), Err(malformed), "{n}");
        }
        let with = |i: usize, v: u8| {
            let mut f = good.clone();
            f[i] = v;
            parse(&f)
        };
        assert_eq!(with(12, 0x81), Err(OuterError::NotIp));
        assert_eq!(with(14, 0x55), Err(malformed), "version 5");
        assert_eq!(with(at + 5, 7), Err(OuterError::UdpMalformed), "UDP length below 8");
        assert_eq!(with(at + 5, 31), Err(OuterError::UdpMalformed), "UDP length above IP's");
        assert_eq!(with(at + 5, 15), Err(OuterError::VxlanTruncated));
        assert_eq!(with(at + 5, 29), Err(OuterError::VxlanTruncated), "no inner Ethernet header");
        assert_eq!(with(at + 8, 0xf7), Err(OuterError::VxlanFlags));
        assert!(with(at + 8, 0xff).is_ok(), "reserved flags");
        assert_eq!(parse(&frame(s, d, 17, &udp[..7])), Err(OuterError::UdpMalformed));

        for (protocol, v, len) in [(4, IpVersion::V4, 20), (41, IpVersion::V6, 40)] {
            let inner = inner_packet(v, &[]);
            assert_eq!(
                parse(&frame(s, d, protocol, &inner)).unwrap().kind,
                Kind::Ipip { inner: v }
            );
            let short = frame(s, d, protocol, &inner[..len - 1]);
            assert_eq!(parse(&short), Err(OuterError::InnerMalformed));
            let other = frame(s, d, 45 - protocol, &inner);
            assert_eq!(parse(&other), Err(OuterError::InnerMalformed));
        }
        let f = frame(s, d, 47, &[0; 4]);
        assert_eq!(parse(&f).unwrap().kind, Kind::Other { protocol: 47 });
        assert_eq!(parse(&f).unwrap().inner_len, 4);
    }
}

#[test]
fn outer_fragments_are_told_apart() {
    for word in [0x2000u16, 0x0001, 0x1fff, 0x3fff] {
        let mut f = frame(S4, D4, 17, &[0; 40]);
        f[20..22].copy_from_slice(&word.to_be_bytes());
        refill(&mut f);
        assert_eq!(parse(&f), Err(OuterError::Fragment), "{word:#x}");
    }
    for (offset, more, fragment) in [(0, true, true), (1, false, true), (0, false, false)] {
        let offset = etherparse::IpFragOffset::try_new(offset).unwrap();
        let h = Ipv6FragmentHeader::new(IpNumber(47), offset, more, 7);
        let got = parse(&frame(S6, D6, 44, &[&h.to_bytes()[..], &[0; 4]].concat()));
        if fragment {
            assert_eq!(got, Err(OuterError::Fragment));
        } else {
            // RFC 6946: an atomic fragment is a whole packet.
            assert_eq!(got.unwrap().kind, Kind::Other { protocol: 47 });
        }
    }
}

#[test]
fn misuse_is_an_error() {
    let vni = Vni::new(1).unwrap();
    assert_eq!(OuterHeader::vxlan(A, B, S4, D6, 1, vni, 1), Err(FamilyMismatch::Addresses));
    assert_eq!(OuterHeader::ipip(A, B, S6, D4, 1), Err(FamilyMismatch::Addresses));
    for (s, d, max_vxlan, max_ipip) in [(S4, D4, 65_499, 65_515), (S6, D6, 65_519, 65_535)] {
        let x = OuterHeader::vxlan(A, B, s, d, 4789, vni, 64).unwrap();
        let i = OuterHeader::ipip(A, B, s, d, 64).unwrap();
        let df = Fragmentation::Forbidden;
        let (mut ox, mut oi) = (vec![0; x.len()], vec![0; i.len()]);
        assert_eq!(x.write_vxlan(&mut ox, max_vxlan, 1, 0, df), Ok(()));
        assert_eq!(x.write_vxlan(&mut ox, max_vxlan + 1, 1, 0, df), Err(WriteError::TooLong));
        assert_eq!(x.write_vxlan(&mut ox, usize::MAX, 1, 0, df), Err(WriteError::TooLong));
        assert_eq!(x.write_vxlan(&mut ox[1..], 64, 1, 0, df), Err(WriteError::Buffer));
        assert_eq!(x.write_ipip(&mut ox, 64, IpVersion::V4, 0, df), Err(WriteError::Kind));
        assert_eq!(x.fill_udp_checksum(&mut ox[1..], &[]), Err(WriteError::Buffer));
        assert_eq!(i.write_ipip(&mut oi, max_ipip, IpVersion::V4, 0, df), Ok(()));
        let long = i.write_ipip(&mut oi, max_ipip + 1, IpVersion::V4, 0, df);
        assert_eq!(long, Err(WriteError::TooLong));
        assert_eq!(i.write_ipip(&mut oi[1..], 64, IpVersion::V4, 0, df), Err(WriteError::Buffer));
        assert_eq!(i.write_vxlan(&mut oi, 64, 1, 0, df), Err(WriteError::Kind));
        assert_eq!(i.fill_udp_checksum(&mut oi, &[]), Err(WriteError::Kind));
        let moved = x.with_macs(B, A);
        assert_eq!((moved.dst_mac(), moved.ip_overhead()), (A, x.len() - 14));
    }
}
