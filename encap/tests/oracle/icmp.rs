//! ICMP, ICMPv6 and neighbour discovery.

use crate::{mac, payload, v6};
use encap::ndisc::{self, is_solicited_node, solicited_node};
use encap::{Mac, icmpv4, icmpv6};
use etherparse::icmpv6::{Icmpv6PayloadSlice, NdpOptionSlice};
use etherparse::{
    IcmpEchoHeader, Icmpv4Header, Icmpv4Slice, Icmpv4Type, Icmpv6Header, Icmpv6Slice, Icmpv6Type,
    icmpv4 as ep4, icmpv6 as ep6,
};
use proptest::prelude::*;
use std::net::Ipv6Addr;

proptest! {
    #[test]
    fn icmpv4_both_ways(
        kind in 0..4, ident: u16, sequence: u16, code in 0u8..16, data in payload(60),
    ) {
        let echo = IcmpEchoHeader { id: ident, seq: sequence };
        let mtu = if code == 4 { sequence } else { 0 };
        let (theirs, ours) = match kind {
            0 => (
                Icmpv4Type::EchoRequest(echo),
                icmpv4::Repr::EchoRequest { ident, sequence, data: &data },
            ),
            1 => {
                (Icmpv4Type::EchoReply(echo), icmpv4::Repr::EchoReply { ident, sequence, data: &data })
            }
            2 => (
                Icmpv4Type::DestinationUnreachable(
                    ep4::DestUnreachableHeader::from_values(code, mtu).unwrap(),
                ),
                icmpv4::Repr::Unreachable { code, next_hop_mtu: mtu, packet: &data },
            ),
            _ => (
                Icmpv4Type::TimeExceeded(ep4::TimeExceededCode::from_u8(code & 1).unwrap()),
                icmpv4::Repr::TimeExceeded { code: code & 1, packet: &data },
            ),
        };
        let mut bytes = Icmpv4Header::with_checksum(theirs.clone(), &data).to_bytes().to_vec();
        bytes.extend(&data);
        let v = icmpv4::View::new_checked(&bytes[..]).unwrap();
        prop_assert_eq!(icmpv4::Repr::parse(&v), Ok(ours));

        let mut out = vec![0xff; ours.buffer_len()];
        ours.emit(&mut out);
        prop_assert_eq!(&out, &bytes);
        prop_assert_eq!(Icmpv4Slice::from_slice(&out).unwrap().icmp_type(), theirs);

        out[2] ^= 0x10;
        let v = icmpv4::View::new_checked(&out[..]).unwrap();
        prop_assert_eq!(icmpv4::Repr::parse(&v), Err(icmpv4::Error::Checksum));
    }

    /// The reply that a router makes in place is the one that etherparse makes anew, although the
    /// router does not look at the data.
    #[test]
    fn echo_replies_in_place(
        ident: u16, sequence: u16, data in payload(60), src in v6(), dst in v6(), sparse: bool,
    ) {
        let data = if sparse { vec![0; data.len()] } else { data };
        let id = IcmpEchoHeader { id: ident, seq: sequence };
        let whole4 = |t| {
            let mut b = Icmpv4Header::with_checksum(t, &data).to_bytes().to_vec();
            b.extend(&data);
            b
        };
        let mut request = whole4(Icmpv4Type::EchoRequest(id));
        icmpv4::View::new_unchecked(&mut request[..8]).request_to_reply();
        prop_assert!(icmpv4::View::new_unchecked(&request).checksum_ok());
        let reply = whole4(Icmpv4Type::EchoReply(id));
        // Two checksums are right when the rest sums to all ones: 0 and 0xffff.
        if reply[2..4] == [0, 0] {
            request[2..4].fill(0);
        }
        prop_assert_eq!(request, reply);

        let whole6 = |t: Icmpv6Type, s: Ipv6Addr, d: Ipv6Addr| {
            let mut b = t.to_header(s.octets(), d.octets(), &data).unwrap().to_bytes().to_vec();
            b.extend(&data);
            b
        };
        let mut request = whole6(Icmpv6Type::EchoRequest(id), src, dst);
        icmpv6::View::new_unchecked(&mut request[..8]).request_to_reply();
        prop_assert_eq!(request, whole6(Icmpv6Type::EchoReply(id), dst, src));
    }

    #[test]
    fn icmpv6_both_ways(
        src in v6(), dst in v6(), kind in 0..5, ident: u16, sequence: u16, code in 0u8..7, mtu: u32,
        data in payload(60),
    ) {
        let echo = IcmpEchoHeader { id: ident, seq: sequence };
        let (theirs, ours) = match kind {
            0 => (
                Icmpv6Type::EchoRequest(echo),
                icmpv6::Repr::EchoRequest { ident, sequence, data: &data },
            ),
            1 => {
                (Icmpv6Type::EchoReply(echo), icmpv6::Repr::EchoReply { ident, sequence, data: &data })
            }
            2 => (
                Icmpv6Type::DestinationUnreachable(
                    ep6::DestUnreachableCode::from_u8(code).unwrap(),
                ),
                icmpv6::Repr::Unreachable { code, packet: &data },
            ),
            3 => (Icmpv6Type::PacketTooBig { mtu }, icmpv6::Repr::PacketTooBig { mtu, packet: &data }),
            _ => (
                Icmpv6Type::TimeExceeded(ep6::TimeExceededCode::from_u8(code & 1).unwrap()),
                icmpv6::Repr::TimeExceeded { code: code & 1, packet: &data },
            ),
        };
        let header =
            Icmpv6Header::with_checksum(theirs, src.octets(), dst.octets(), &data).unwrap();
        let mut bytes = header.to_bytes().to_vec();
        bytes.extend(&data);
        let v = icmpv6::View::new_checked(&bytes[..]).unwrap();
        prop_assert_eq!(icmpv6::Repr::parse(&v, src, dst), Ok(ours));

        let mut out = vec![0xff; ours.buffer_len()];
        ours.emit(&mut out, src, dst);
        prop_assert_eq!(&out, &bytes);
        let s = Icmpv6Slice::from_slice(&out).unwrap();
        prop_assert!(s.is_checksum_valid(src.octets(), dst.octets()));
        prop_assert_eq!(s.icmp_type(), theirs);

        out[3] ^= 0x10;
        let v = icmpv6::View::new_checked(&out[..]).unwrap();
        prop_assert_eq!(icmpv6::Repr::parse(&v, src, dst), Err(icmpv6::Error::Checksum));
    }

    #[test]
    fn etherparse_reads_the_neighbour_discovery_that_we_write(
        src in v6(), dst in v6(), target in v6(), lladdr in proptest::option::of(mac()),
        solicit: bool, router: bool, solicited: bool, override_cache: bool,
    ) {
        prop_assume!(!src.is_multicast() && !dst.is_multicast() && !target.is_multicast());
        let ours = if solicit {
            ndisc::Repr::Solicit { target, source_mac: lladdr }
        } else {
            ndisc::Repr::Advert { target, router, solicited, override_cache, target_mac: lladdr }
        };
        let mut out = vec![0xff; ours.buffer_len()];
        ours.emit(&mut out, src, dst);

        let s = Icmpv6Slice::from_slice(&out).unwrap();
        prop_assert!(s.is_checksum_valid(src.octets(), dst.octets()));
        let (t, options) = match s.payload_slice().unwrap() {
            Icmpv6PayloadSlice::NeighborSolicitation(p) => {
                prop_assert!(solicit);
                (p.target_address(), p.options_iterator())
            }
            Icmpv6PayloadSlice::NeighborAdvertisement(p) => {
                let Icmpv6Type::NeighborAdvertisement(h) = s.icmp_type() else { panic!() };
                prop_assert_eq!(
                    (h.router, h.solicited, h.r#override), (router, solicited, override_cache)
                );
                (p.target_address(), p.options_iterator())
            }
            other => panic!("{other:?}"),
        };
        prop_assert_eq!(t, target);
        let macs: Vec<(bool, Vec<u8>)> = options.map(|o| match o.unwrap() {
            NdpOptionSlice::SourceLinkLayerAddress(o) => (true, o.link_layer_address().to_vec()),
            NdpOptionSlice::TargetLinkLayerAddress(o) => (false, o.link_layer_address().to_vec()),
            other => panic!("{other:?}"),
        }).collect();
        let want: Vec<_> = lladdr.iter().map(|m| (solicit, m.0.to_vec())).collect();
        prop_assert_eq!(macs, want);

        let v = ndisc::View::new_checked(&out).unwrap();
        prop_assert_eq!(ndisc::Repr::parse(&v, src, dst, 255), Ok(ours));
    }
}

const SRC: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
const TARGET: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0x1234, 0x5678);
const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);

/// A solicitation with `options` behind it, and a right checksum.
fn solicitation(target: Ipv6Addr, options: &[u8], src: Ipv6Addr, dst: Ipv6Addr) -> Vec<u8> {
    let mut b = vec![0; ndisc::HEADER_LEN];
    ndisc::Repr::Solicit { target, source_mac: None }.emit(&mut b, src, dst);
    b.extend(options);
    icmpv6::View::new_unchecked(&mut b).fill_checksum(src, dst);
    b
}

fn parse(b: &[u8], src: Ipv6Addr, dst: Ipv6Addr, hops: u8) -> Result<ndisc::Repr, ndisc::Error> {
    ndisc::Repr::parse(&ndisc::View::new_checked(b)?, src, dst, hops)
}

/// RFC 4861 sections 7.1.1 and 7.1.2, rule by rule.
#[test]
fn neighbour_discovery_validation() {
    use ndisc::Error;
    let group = solicited_node(TARGET);
    let unspecified = Ipv6Addr::UNSPECIFIED;
    let slla = [1, 1, 2, 0, 0, 0, 0, 1];
    let good = solicitation(TARGET, &slla, SRC, group);
    let want = ndisc::Repr::Solicit { target: TARGET, source_mac: Some(MAC) };
    assert_eq!(parse(&good, SRC, group, 255), Ok(want));
    assert_eq!(parse(&good, SRC, group, 254), Err(Error::HopLimit));
    assert_eq!(parse(&good, SRC, SRC, 255), Err(Error::Checksum));

    let mut code = good.clone();
    code[1] = 1;
    assert_eq!(parse(&code, SRC, group, 255), Err(Error::Code));
    let mut kind = good.clone();
    kind[0] = 133;
    assert_eq!(parse(&kind, SRC, group, 255), Err(Error::Type));
    for n in 0..24 {
        assert_eq!(parse(&good[..n], SRC, group, 255), Err(Error::Truncated));
    }
    for n in 25..32 {
        assert_eq!(parse(&good[..n], SRC, group, 255), Err(Error::Option));
    }
    let b = solicitation(group, &[], SRC, group);
    assert_eq!(parse(&b, SRC, group, 255), Err(Error::TargetMulticast));
    let b = solicitation(TARGET, &[1, 0, 2, 0, 0, 0, 0, 1], SRC, group);
    assert_eq!(parse(&b, SRC, group, 255), Err(Error::Option));
    let b = solicitation(TARGET, &[1, 2, 2, 0, 0, 0, 0, 1], SRC, group);
    assert_eq!(parse(&b, SRC, group, 255), Err(Error::Option));

    // Duplicate address detection: to the solicited-node address, without a link-layer address.
    let b = solicitation(TARGET, &[], unspecified, group);
    let want = ndisc::Repr::Solicit { target: TARGET, source_mac: None };
    assert_eq!(parse(&b, unspecified, group, 255), Ok(want));
    let b = solicitation(TARGET, &slla, unspecified, group);
    assert_eq!(parse(&b, unspecified, group, 255), Err(Error::UnspecifiedSource));
    let b = solicitation(TARGET, &[], unspecified, TARGET);
    assert_eq!(parse(&b, unspecified, TARGET, 255), Err(Error::UnspecifiedSource));

    for (solicited, want) in [(true, Some(Error::SolicitedMulticast)), (false, None)] {
        let advert = ndisc::Repr::Advert {
            target: TARGET,
            router: true,
            solicited,
            override_cache: true,
            target_mac: Some(MAC),
        };
        let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
        let mut b = vec![0; advert.buffer_len()];
        advert.emit(&mut b, SRC, all_nodes);
        assert_eq!(parse(&b, SRC, all_nodes, 255).err(), want);
    }
}

#[test]
fn unknown_options_are_skipped() {
    let nonce = [14, 2, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14];
    let long_slla = [1, 2, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9];
    let options = [&nonce[..], &long_slla, &[1, 1, 2, 0, 0, 0, 0, 1]].concat();
    let b = solicitation(TARGET, &options, SRC, TARGET);
    let want = ndisc::Repr::Solicit { target: TARGET, source_mac: Some(MAC) };
    assert_eq!(parse(&b, SRC, TARGET, 255), Ok(want));
}

#[test]
fn solicited_node_addresses() {
    // RFC 4291 section 2.7.1's example.
    let ip: Ipv6Addr = "4037::01:800:200e:8c6c".parse().unwrap();
    assert_eq!(solicited_node(ip), "ff02::1:ff0e:8c6c".parse::<Ipv6Addr>().unwrap());
    assert!(is_solicited_node(solicited_node(ip)) && !is_solicited_node(ip));
    assert!(!is_solicited_node("ff02::2:ff0e:8c6c".parse().unwrap()));
    // RFC 2464 section 7.
    let mac = encap::ethernet::ipv6_multicast(solicited_node(ip));
    assert_eq!(mac, "33:33:ff:0e:8c:6c".parse().unwrap());
}
