//! The flow hash: what belongs together hashes alike, what does not spreads.

use crate::{ends, mac, payload};
use encap::flow::{DEFAULT_SOURCE_PORTS, hash_frame, hash_packet, source_port};
use etherparse::{IpFragOffset, IpNumber, Ipv4Header, Ipv6FragmentHeader, PacketBuilder};
use proptest::prelude::*;
use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};

fn udp(src: IpAddr, dst: IpAddr, sport: u16, dport: u16, ttl: u8, data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    match (src, dst) {
        (IpAddr::V4(s), IpAddr::V4(d)) => PacketBuilder::ipv4(s.octets(), d.octets(), ttl),
        (IpAddr::V6(s), IpAddr::V6(d)) => PacketBuilder::ipv6(s.octets(), d.octets(), ttl),
        _ => unreachable!(),
    }
    .udp(sport, dport)
    .write(&mut out, data)
    .unwrap();
    out
}

fn framed(packet: &[u8], tags: &[u16]) -> Vec<u8> {
    let mut f = vec![2; 12];
    for t in tags {
        f.extend([0x81, 0x00]);
        f.extend(t.to_be_bytes());
    }
    f.extend(if packet[0] >> 4 == 4 { [8, 0] } else { [0x86, 0xdd] });
    f.extend(packet);
    f
}

proptest! {
    #[test]
    fn one_flow_has_one_hash(
        (src, dst) in ends(), sport: u16, dport: u16, ttls: (u8, u8), a in payload(30),
        b in payload(30), tags in proptest::collection::vec(any::<u16>(), 0..3),
    ) {
        let p = udp(src, dst, sport, dport, ttls.0, &a);
        let h = hash_packet(&p);
        prop_assert_eq!(h, hash_packet(&udp(src, dst, sport, dport, ttls.1, &b)));
        prop_assert_eq!(h, hash_frame(&framed(&p, &tags)));
        prop_assert_ne!(h, hash_packet(&udp(src, dst, sport ^ 1, dport, ttls.0, &a)));
        prop_assert_ne!(h, hash_packet(&udp(src, dst, sport, dport ^ 0x8000, ttls.0, &a)));
    }

    /// RFC 7348 section 5 leaves it open; RFC 6438 section 3 asks for it: all fragments of a packet
    /// take one path.
    #[test]
    fn fragments_hash_without_ports(
        (src, dst) in ends(), ports: (u16, u16), data in payload(30), offset in 1u16..0x2000,
        ident: u32,
    ) {
        let upper = [&ports.0.to_be_bytes()[..], &ports.1.to_be_bytes(), &[0; 4], &data].concat();
        let fragment = |offset: u16, more: bool, body: &[u8]| {
            let o = IpFragOffset::try_new(offset).unwrap();
            match (src, dst) {
                (IpAddr::V4(s), IpAddr::V4(d)) => {
                    let mut h = Ipv4Header::new(
                        body.len() as u16, 64, IpNumber::UDP, s.octets(), d.octets(),
                    ).unwrap();
                    h.fragment_offset = o;
                    h.more_fragments = more;
                    [&h.to_bytes()[..], body].concat()
                }
                (IpAddr::V6(s), IpAddr::V6(d)) => {
                    let f = Ipv6FragmentHeader::new(IpNumber::UDP, o, more, ident).to_bytes();
                    let body = [&f[..], body].concat();
                    let h = etherparse::Ipv6Header {
                        payload_length: body.len() as u16,
                        next_header: IpNumber::IPV6_FRAGMENTATION_HEADER,
                        source: s.octets(),
                        destination: d.octets(),
                        ..Default::default()
                    };
                    [&h.to_bytes()[..], &body].concat()
                }
                _ => unreachable!(),
            }
        };
        let first = hash_packet(&fragment(0, true, &upper));
        prop_assert_eq!(first, hash_packet(&fragment(offset, true, &data)));
        prop_assert_eq!(first, hash_packet(&fragment(offset, false, &upper)));
        let mut other = upper.clone();
        other[0] ^= 0xff;
        prop_assert_eq!(first, hash_packet(&fragment(0, true, &other)));
    }

    #[test]
    fn other_frames_hash_by_their_addresses(dst in mac(), src in mac(), ty: u16, a in payload(50)) {
        prop_assume!(![0x0800, 0x86dd, 0x8100, 0x88a8].contains(&ty));
        let f = [&dst.0[..], &src.0, &ty.to_be_bytes(), &a].concat();
        let h = hash_frame(&f);
        prop_assert_eq!(h, hash_frame(&f[..14]));
        let mut g = f.clone();
        g[11] ^= 1;
        prop_assert_ne!(h, hash_frame(&g));
    }

    #[test]
    fn source_ports_stay_in_the_range(hash: u32, lo: u16, hi: u16) {
        let p = source_port(hash, &(lo..=hi));
        prop_assert!(p == lo || (lo..=hi).contains(&p));
        prop_assert!(DEFAULT_SOURCE_PORTS.contains(&source_port(hash, &DEFAULT_SOURCE_PORTS)));
    }
}

#[test]
fn source_ports_reach_both_ends() {
    assert_eq!(source_port(0, &DEFAULT_SOURCE_PORTS), 49152);
    assert_eq!(source_port(u32::MAX, &DEFAULT_SOURCE_PORTS), 65535);
    assert_eq!(source_port(u32::MAX, &(0..=65535)), 65535);
    assert_eq!(source_port(7, &(5..=5)), 5);
}

/// 4,096 flows that differ in little, over 64 buckets, in the high bits (source ports) and the low
/// ones (equal paths): a fair hash leaves every bucket within half and double of its share.
#[test]
fn similar_flows_spread() {
    for vary in 0..3u32 {
        let mut buckets = [[0u32; 64]; 2];
        let mut ports = HashSet::new();
        for i in 0..4096u32 {
            let (mut s, mut d, mut sport) = (0x0af4_0105, 0x0af4_0205, 40_000);
            match vary {
                0 => s += i,
                1 => d += i << 8,
                _ => sport += i as u16,
            }
            let v4 = |a: u32| IpAddr::V4(Ipv4Addr::from_bits(a));
            let h = hash_packet(&udp(v4(s), v4(d), sport, 80, 64, &[]));
            buckets[0][(h >> 26) as usize] += 1;
            buckets[1][(h & 63) as usize] += 1;
            ports.insert(source_port(h, &DEFAULT_SOURCE_PORTS));
        }
        for b in buckets.iter().flatten() {
            assert!((32..=128).contains(b), "vary {vary}: {buckets:?}");
        }
        assert!(ports.len() > 3400, "vary {vary}: {} source ports of 4096 flows", ports.len());
    }
}

/// The function is part of what peers and recorded traces rely on: it does not change.
#[test]
fn the_hash_is_stable() {
    let v4 = |n| IpAddr::V4(Ipv4Addr::new(10, 0, 0, n));
    let v6 = |n: u16| IpAddr::V6([0xfd00, 0, 0, 0, 0, 0, 0, n].into());
    let hashes = [
        hash_packet(&udp(v4(1), v4(2), 1, 2, 64, &[])),
        hash_packet(&udp(v6(1), v6(2), 1, 2, 64, &[])),
        hash_frame(&[2; 14]),
        hash_frame(&[]),
    ];
    assert_eq!(hashes, [4131309549, 1448878746, 2954796927, 0]);
}
