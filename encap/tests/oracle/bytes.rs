//! Bytes that no encoder makes: nothing panics, whatever they are and wherever they end.

use encap::{
    arp, ecn, ethernet, flow, icmpv4, icmpv6, ipv4, ipv6, ndisc, tcp, tunnel, udp, vlan, vxlan,
};
use proptest::prelude::*;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Calls everything that reads or changes bytes from the network.
fn touch(bytes: &[u8]) {
    let mut copy = bytes.to_vec();
    let (s4, s6) = (IpAddr::V4(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST);
    let _ = ethernet::header(bytes);
    ethernet::rewrite(&mut copy, encap::Mac::ZERO, encap::Mac::ZERO);
    if let Ok(v) = ethernet::View::new_checked(bytes) {
        let _ = (ethernet::Repr::parse(&v), v.payload());
    }
    if let Ok(v) = vlan::View::new_checked(bytes) {
        let _ = (vlan::Repr::parse(&v), v.payload());
    }
    if let Ok(v) = arp::View::new_checked(bytes) {
        let r = arp::Repr::parse(&v).unwrap();
        let _ = (r.is_probe(), r.is_announcement(), r.reply(encap::Mac::ZERO));
    }
    for within in [bytes.len(), 65_535] {
        if let Ok(v) = ipv4::View::new_checked_within(&mut copy[..], within) {
            let _ = (ipv4::Repr::parse(&v), v.options(), v.payload(), v.checksum_ok());
            let mut v = v;
            let _ = v.decrement_ttl();
            v.replace_ecn(ecn::Ecn::Ce);
            v.fill_checksum();
            assert!(v.checksum_ok());
        }
        if let Ok(v) = ipv6::View::new_checked_within(&mut copy[..], within) {
            let _ = (ipv6::Repr::parse(&v), v.upper_layer(), v.payload());
            let mut v = v;
            let _ = v.decrement_hop_limit();
            v.replace_ecn(ecn::Ecn::Ect0);
        }
        if let Ok(v) = udp::View::new_checked_within(&mut copy[..], within) {
            let _ = (udp::Repr::parse(&v), v.payload(), v.checksum_ok(s4, s4));
            let mut v = v;
            v.fill_checksum(s4, s4);
        }
    }
    if let Ok(mut v) = tcp::View::new_checked(&mut copy[..]) {
        let _ = (tcp::Repr::parse(&v), v.payload(), v.checksum_ok(s4, s4));
        v.clamp_mss(1400);
    }
    if let Ok(v) = icmpv4::View::new_checked(bytes) {
        let _ = (icmpv4::Repr::parse(&v), v.payload());
        icmpv4::View::new_unchecked(&mut copy[..]).request_to_reply();
    }
    if let Ok(v) = icmpv6::View::new_checked(bytes) {
        let _ = (icmpv6::Repr::parse(&v, s6, s6), v.payload());
        icmpv6::View::new_unchecked(&mut copy[..]).request_to_reply();
    }
    if let Ok(v) = ndisc::View::new_checked(bytes) {
        let _ = (ndisc::Repr::parse(&v, s6, s6, 255), v.source_mac(), v.target_mac());
    }
    if let Ok(v) = vxlan::View::new_checked(bytes) {
        let _ = (vxlan::Repr::parse(&v), v.payload());
    }
    let _ = ipv6::upper_layer(bytes);
    let _ = (flow::hash_frame(bytes), flow::hash_packet(bytes));
    let _ = (flow::hash_ipv4(bytes), flow::hash_ipv6(bytes));
    for tos in 0..4 {
        let _ = (ecn::decap_frame(&mut copy, tos), ecn::decap_packet(&mut copy, tos));
    }
    let _ = (ecn::frame_tos(bytes), ecn::packet_tos(bytes));
    for total in [0, bytes.len() / 2, bytes.len(), bytes.len() + 100] {
        if let Ok(o) = tunnel::parse_outer(bytes, total, |p| p & 1 == 0) {
            assert!(o.inner_offset + o.inner_len <= total);
            assert!(o.inner_offset <= bytes.len());
            let _ = o.udp_checksum_ok(bytes, &[bytes]);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn random_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..160)) {
        touch(&bytes);
    }

    /// Random bytes behind the first octets of something known, so that more than the first check
    /// is reached.
    #[test]
    fn half_random_bytes(
        start in prop::sample::select(STARTS), rest in proptest::collection::vec(any::<u8>(), 0..120),
    ) {
        touch(&[start, &rest].concat());
    }
}

const STARTS: &[&[u8]] = &[
    &[0x45, 0, 0, 40],
    &[0x4f, 0, 0, 80],
    &[0x60, 0, 0, 0, 0, 40, 0, 1],
    &[0x60, 0, 0, 0, 0, 40, 44, 1],
    &[0x60, 0, 0, 0, 0, 40, 51, 1],
    &[135, 0, 0, 0],
    &[136, 0, 0, 0],
    &[8, 0, 0, 0],
    &[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0, 0, 60],
    &[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x86, 0xdd, 0x60, 0, 0, 0, 0, 60, 17],
    &[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x86, 0xdd, 0x60, 0, 0, 0, 0, 60, 60],
    &[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x81, 0, 0, 1, 0x88, 0xa8, 0, 1, 8, 0, 0x45],
];

#[test]
fn every_truncation_of_every_sample() {
    for (_, sample) in crate::scapy::SAMPLES {
        let bytes = crate::scapy::hex(sample);
        for n in 0..=bytes.len() {
            touch(&bytes[..n]);
            touch(&bytes[bytes.len() - n..]);
        }
    }
}
