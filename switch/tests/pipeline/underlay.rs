//! Tunnels: what goes in at one node comes out at the other, and what is no tunnel packet of ours
//! is dropped by name.

use crate::kit::{
    Lab, Node, Packet, Via, decode, fill_checksum, gateway_mac, ipip, tunnels, uplink_mac,
    vtep_mac, vxlan, vxlan_header,
};
use encap::Mac;
use std::collections::HashSet;
use switch::{DropReason, Location};

fn lab(via: Via) -> (Node, Lab) {
    let node = Node::new(1, via);
    let lab = Lab::new(node.tables.clone());
    (node, lab)
}

/// Outer headers from the peer to node 1.
fn outer(v6: bool) -> Packet {
    let (src, dst) = if v6 { ("2001:db8::2", "2001:db8::1") } else { ("192.0.2.2", "192.0.2.1") };
    Packet::text(uplink_mac(2), src, uplink_mac(1), dst)
}

/// A packet from the peer's pod to pod a of node 1, as it is inside of a tunnel.
pub fn inner(v6: bool) -> Packet {
    let (src, dst) = if v6 {
        ("fd00:10:244:2::10", "fd00:10:244:1::10")
    } else {
        ("10.244.2.10", "10.244.1.10")
    };
    Packet::text(vtep_mac(2), src, vtep_mac(1), dst)
}

/// The tunnels that carry routed packets, and how the peer would send `inner` in each.
pub fn arriving(via: Via, inner: &[u8]) -> Vec<u8> {
    match via {
        Via::Vxlan4 => vxlan(&outer(false), 4789, 1, inner),
        Via::Vxlan6 => vxlan(&outer(true), 8472, 6, inner),
        Via::Ipip4 => ipip(&outer(false), &inner[14..]),
        Via::Ipip6 => ipip(&outer(true), &inner[14..]),
        Via::Native => inner.to_vec(),
    }
}

pub const TUNNELS: [Via; 4] = [Via::Vxlan4, Via::Vxlan6, Via::Ipip4, Via::Ipip6];

#[test]
fn into_vxlan() {
    for (via, v6, port, vni) in [(Via::Vxlan4, false, 4789, 1), (Via::Vxlan6, true, 8472, 6)] {
        let (node, mut lab) = lab(via);
        for dst in ["10.244.2.10", "fd00:10:244:2::10"] {
            let dst = dst.parse().unwrap();
            let src = if matches!(dst, std::net::IpAddr::V4(_)) { node.a.v4 } else { node.a.v6 };
            let packet = Packet::new(node.a.mac, src, gateway_mac(1), dst).tos(0xb9);
            let frame = [packet.udp((1, 2), b"x"), vec![0; 20]].concat();
            let seen = decode(&lab.pass(node.a.port, &frame, node.uplink));
            assert_eq!((seen.src_mac, seen.dst_mac), (uplink_mac(1), uplink_mac(2)));
            assert_eq!((seen.src, seen.dst), (outer(v6).dst, outer(v6).src));
            assert_eq!((seen.ttl, seen.tos), (64, 0xb9), "DSCP and ECN of the inner packet");
            assert_eq!((seen.ports.1, seen.padding), (port, 0));
            assert!(seen.ports.0 >= 49152, "RFC 7348 section 5");
            assert_eq!(seen.dont_fragment, !v6);
            assert_eq!(seen.has_checksum, v6, "zero over IPv4, right over IPv6");
            let (seen_vni, carried) = seen.vxlan();
            assert_eq!(seen_vni, vni);
            let carried = decode(carried);
            assert_eq!((carried.src_mac, carried.dst_mac), (vtep_mac(1), vtep_mac(2)));
            assert_eq!((carried.src, carried.dst, carried.ttl), (src, dst, 63));
            assert_eq!((&carried.payload[..], carried.padding), (&b"x"[..], 0));
        }
    }
}

#[test]
fn into_ipip() {
    for (via, v6) in [(Via::Ipip4, false), (Via::Ipip6, true)] {
        let (node, mut lab) = lab(via);
        for (src, dst, protocol) in
            [(node.a.v4, "10.244.2.10", 4), (node.a.v6, "fd00:10:244:2::10", 41)]
        {
            let packet = Packet::new(node.a.mac, src, gateway_mac(1), dst.parse().unwrap());
            let frame = packet.tos(0x2a).tcp((1, 2), b"payload");
            let out = lab.pass(node.a.port, &[frame.clone(), vec![0; 9]].concat(), node.uplink);
            let seen = decode(&out);
            assert_eq!((seen.src_mac, seen.dst_mac), (uplink_mac(1), uplink_mac(2)));
            assert_eq!((seen.src, seen.dst), (outer(v6).dst, outer(v6).src));
            assert_eq!((seen.ttl, seen.tos, seen.protocol), (64, 0x2a, protocol));
            assert_eq!((seen.dont_fragment, seen.padding), (!v6, 0));
            let at = out.len() - seen.payload.len() - 14;
            let mut carried = out[at..].to_vec();
            carried[..14].copy_from_slice(&frame[..14]);
            let carried = decode(&carried);
            assert_eq!((carried.src, carried.ttl), (src, 63));
            assert_eq!(carried.payload, b"payload");
        }
    }
}

/// 4in4, 6in4, 4in6, 6in6, over each kind of tunnel, with padding behind the outer packet.
#[test]
fn out_of_a_tunnel() {
    let (node, mut lab) = lab(Via::Vxlan4);
    for via in TUNNELS {
        for v6 in [false, true] {
            let packet = inner(v6).udp((5, 6), b"through the tunnel");
            for padding in [0, 1, 18, 60] {
                let frame = [arriving(via, &packet), vec![0xee; padding]].concat();
                let out = lab.pass(node.uplink, &frame, node.a.port);
                let seen = decode(&out);
                assert_eq!((seen.src_mac, seen.dst_mac), (gateway_mac(1), node.a.mac));
                assert_eq!((seen.ttl, seen.padding), (63, 0));
                assert_eq!(seen.payload, b"through the tunnel");
            }
        }
    }
}

#[test]
fn many_segments_through_a_tunnel() {
    for via in Via::ALL {
        let (here, there) = (Node::new(1, via), Node::new(2, via));
        let (mut one, mut two) = (Lab::new(here.tables.clone()), Lab::new(there.tables.clone()));
        let data: Vec<u8> = (0..8801u32).map(|i| (i * 13) as u8).collect();
        for (src, dst) in [(here.a.v4, there.a.v4), (here.a.v6, there.a.v6)] {
            let frame = Packet::new(here.a.mac, src, gateway_mac(1), dst).udp((1, 2), &data);
            let carried = one.pass(here.a.port, &frame, here.uplink);
            // UDP over IPv6 has a checksum over all of it, which decode verifies.
            decode(&carried);
            let seen = decode(&two.pass(there.uplink, &carried, there.a.port));
            assert!(seen.payload == data, "{via:?}");
            assert_eq!(seen.ttl, 62);
        }
    }
}

/// Equal flows go one way, different ones are spread: that is what the port is for.
#[test]
fn the_source_port_follows_the_flow() {
    let (node, mut lab) = lab(Via::Vxlan4);
    let mut port_of = |src_port: u16| {
        let packet =
            Packet::new(node.a.mac, node.a.v4, gateway_mac(1), "10.244.2.10".parse().unwrap());
        decode(&lab.pass(node.a.port, &packet.tcp((src_port, 80), b""), node.uplink)).ports.0
    };
    let ports: HashSet<u16> = (0..1000).map(&mut port_of).collect();
    assert!(ports.len() > 900, "1000 flows on {} ports", ports.len());
    assert_eq!(port_of(77), port_of(77));
}

/// RFC 6040 figure 4, for each kind of tunnel and inner family. ECN: 0 not capable, 1 and 2
/// capable, 3 congestion experienced.
#[test]
fn congestion_marks() {
    let (node, mut lab) = lab(Via::Vxlan4);
    for via in TUNNELS {
        for v6 in [false, true] {
            for (inner_ecn, row) in [
                (0, [Some(0), Some(0), Some(0), None]),
                (1, [Some(1), Some(1), Some(1), Some(3)]),
                (2, [Some(2), Some(1), Some(2), Some(3)]),
                (3, [Some(3), Some(3), Some(3), Some(3)]),
            ] {
                for (outer_ecn, want) in row.into_iter().enumerate() {
                    let inner = inner(v6).tos(0xb8 | inner_ecn).udp((1, 2), b"");
                    let outer = outer(matches!(via, Via::Vxlan6 | Via::Ipip6)).tos(outer_ecn as u8);
                    let frame = match via {
                        Via::Vxlan4 => vxlan(&outer, 4789, 1, &inner),
                        Via::Vxlan6 => vxlan(&outer, 8472, 6, &inner),
                        _ => ipip(&outer, &inner[14..]),
                    };
                    match want {
                        Some(ecn) => {
                            let seen = decode(&lab.pass(node.uplink, &frame, node.a.port));
                            assert_eq!(seen.tos, 0xb8 | ecn, "{inner_ecn} in {outer_ecn}");
                        }
                        None => {
                            assert_eq!(lab.dropped(node.uplink, &frame), DropReason::EcnInvalid);
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn unknown_networks_and_peers() {
    let (node, mut lab) = lab(Via::Vxlan4);
    let frame = inner(false).udp((1, 2), b"");
    let stranger = Packet::text(uplink_mac(2), "192.0.2.77", uplink_mac(1), "192.0.2.1");
    let stranger6 = Packet::text(uplink_mac(2), "2001:db8::77", uplink_mac(1), "2001:db8::1");
    for (packet, reason) in [
        (vxlan(&outer(false), 4789, 2, &frame), DropReason::VxlanUnknownVni),
        (vxlan(&outer(false), 4789, 6, &frame), DropReason::VxlanUnknownVni),
        (vxlan(&outer(false), 4789, 0x00ff_ffff, &frame), DropReason::VxlanUnknownVni),
        (vxlan(&outer(false), 8472, 1, &frame), DropReason::VxlanUnknownVni),
        (vxlan(&outer(false), 4790, 1, &frame), DropReason::NotForUs),
        (vxlan(&stranger, 4789, 1, &frame), DropReason::VxlanUnknownPeer),
        (vxlan(&stranger6, 8472, 6, &frame), DropReason::VxlanUnknownPeer),
        (ipip(&stranger, &frame[14..]), DropReason::IpipUnknownPeer),
        (ipip(&stranger6, &frame[14..]), DropReason::IpipUnknownPeer),
        (outer(false).tcp((1, 22), b""), DropReason::NotForUs),
        (outer(true).tcp((1, 22), b""), DropReason::NotForUs),
    ] {
        assert_eq!(lab.dropped(node.uplink, &packet), reason);
    }
    // A tunnel that carries routed packets only, and a frame that is not for its VTEP.
    let other = inner(false).udp((1, 2), b"");
    let other = [&[2, 9, 9, 9, 9, 9], &other[6..]].concat();
    let packet = vxlan(&outer(false), 4789, 1, &other);
    assert_eq!(lab.dropped(node.uplink, &packet), DropReason::VxlanInnerUnknown);
    // ARP is none of the uplink's tunnels.
    let arp = crate::kit::arp_request(
        (uplink_mac(2), [192, 0, 2, 2].into()),
        Mac::BROADCAST,
        [192, 0, 2, 1].into(),
    );
    assert_eq!(lab.dropped(node.uplink, &arp), DropReason::NotForUs);
}

/// One tunnel for both: frames to the VTEP are routed, the others belong to the segment.
#[test]
fn the_vteps_address_tells_routed_from_bridged() {
    let (node, mut lab) = lab(Via::Vxlan4);
    let routed = inner(false).udp((1, 2), b"");
    let seen =
        decode(&lab.pass(node.uplink, &vxlan(&outer(false), 4789, 100, &routed), node.a.port));
    assert_eq!(seen.ttl, 63);
    let station = Mac([2, 0, 0, 0, 7, 7]);
    let bridged = [&[0xff; 6], &station.0[..], &routed[12..]].concat();
    let sent = lab.send(node.uplink, &vxlan(&outer(false), 4789, 100, &bridged));
    assert_eq!(sent, [(node.blue_ports[0], bridged.clone()), (node.blue_ports[1], bridged)]);
    let at = lab.fdb.lookup(node.blue, station, lab.now.seconds());
    assert_eq!(at, Some(Location::Tunnel(tunnels::BLUE)));
    assert_eq!(lab.fdb.lookup(node.blue, vtep_mac(2), lab.now.seconds()), None);
}

#[test]
fn flags_and_reserved_bits() {
    let (node, mut lab) = lab(Via::Vxlan4);
    let frame = vxlan(&outer(false), 4789, 1, &inner(false).udp((1, 2), b""));
    let flags = 14 + 20 + 8;
    for bit in 0..8 {
        let mut odd = frame.clone();
        odd[flags] ^= 1 << bit;
        odd[40..42].fill(0);
        if bit == 3 {
            assert_eq!(lab.dropped(node.uplink, &odd), DropReason::VxlanFlags);
        } else {
            // RFC 7348 section 5: reserved bits are ignored on receipt.
            lab.pass(node.uplink, &odd, node.a.port);
        }
    }
}

/// A frame cut short on the wire contradicts its own lengths; what is counted says which header.
#[test]
fn truncated_at_every_length() {
    let (node, mut lab) = lab(Via::Vxlan4);
    for via in TUNNELS {
        let frame = arriving(via, &inner(false).udp((1, 2), b"payload"));
        lab.pass(node.uplink, &frame, node.a.port);
        let ip = match via {
            Via::Vxlan4 | Via::Ipip4 => DropReason::Ipv4Malformed,
            _ => DropReason::Ipv6Malformed,
        };
        for len in 0..frame.len() {
            let reason = lab.dropped(node.uplink, &frame[..len]);
            let want = if len < 14 { DropReason::EthTruncated } else { ip };
            assert_eq!(reason, want, "{via:?} cut to {len} bytes");
        }
    }
}

/// Headers that fit the lengths of the outer ones, but hold less than they should.
#[test]
fn hollow_tunnels() {
    let (node, mut lab) = lab(Via::Vxlan4);
    let packet = inner(false).udp((1, 2), b"payload");
    let full = [&vxlan_header(1)[..], &packet].concat();
    for len in 0..full.len() {
        let want = match len {
            0..22 => DropReason::VxlanMalformed,
            22.. => DropReason::Ipv4Malformed,
        };
        let frame = outer(false).udp((50_000, 4789), &full[..len]);
        assert_eq!(lab.dropped(node.uplink, &frame), want, "{len} bytes of VXLAN");
    }
    for len in 0..packet.len() - 14 {
        let want = if len < 20 { DropReason::IpipMalformed } else { DropReason::Ipv4Malformed };
        let frame = outer(false).carry(4, &packet[14..14 + len]);
        assert_eq!(lab.dropped(node.uplink, &frame), want, "{len} bytes of IPv4 in IPv4");
    }
    let packet6 = inner(true).udp((1, 2), b"payload");
    for len in 0..packet6.len() - 14 {
        let want = if len < 40 { DropReason::IpipMalformed } else { DropReason::Ipv6Malformed };
        let frame = outer(true).carry(41, &packet6[14..14 + len]);
        assert_eq!(lab.dropped(node.uplink, &frame), want, "{len} bytes of IPv6 in IPv6");
    }
    // The protocol says one version, the packet another.
    let crossed = outer(false).carry(41, &packet[14..]);
    assert_eq!(lab.dropped(node.uplink, &crossed), DropReason::IpipMalformed);
    for len in 0..8 {
        let frame = outer(false).carry(17, &full[..len]);
        assert_eq!(lab.dropped(node.uplink, &frame), DropReason::UdpMalformed);
    }
}

#[test]
fn udp_lengths_that_contradict_the_packet() {
    let (node, mut lab) = lab(Via::Vxlan4);
    let frame = vxlan(&outer(false), 4789, 1, &inner(false).udp((1, 2), b""));
    let length = frame.len() - 34;
    for bad in [0, 7, length + 1, 0xffff] {
        let mut odd = frame.clone();
        odd[38..40].copy_from_slice(&(bad as u16).to_be_bytes());
        assert_eq!(lab.dropped(node.uplink, &odd), DropReason::UdpMalformed, "{bad}");
    }
    // Shorter than the IP payload is legal: the rest is not the datagram's.
    let mut shorter = [frame.clone(), vec![0; 4]].concat();
    let total = (shorter.len() - 14) as u16;
    shorter[16..18].copy_from_slice(&total.to_be_bytes());
    fill_checksum(&mut shorter);
    lab.pass(node.uplink, &shorter, node.a.port);
}

#[test]
fn fragments_of_tunnel_packets() {
    let (node, mut lab) = lab(Via::Vxlan4);
    let packet = inner(false).udp((1, 2), &[1; 64]);
    for (offset, more) in [(0, true), (8, true), (8, false)] {
        for v6 in [false, true] {
            let outer = outer(v6).fragment(offset, more);
            let frame = outer.carry(17, &[&[0; 16], &packet[..]].concat());
            assert_eq!(lab.dropped(node.uplink, &frame), DropReason::OuterFragment);
            let frame = outer.carry(4, &packet[14..]);
            assert_eq!(lab.dropped(node.uplink, &frame), DropReason::OuterFragment);
        }
    }
    // An atomic fragment (RFC 6946) is a whole packet.
    let frame = ipip(&outer(true).fragment(0, false), &packet[14..]);
    lab.pass(node.uplink, &frame, node.a.port);
}

#[test]
fn a_corrupt_outer_header() {
    let (node, mut lab) = lab(Via::Vxlan4);
    let mut frame = arriving(Via::Ipip4, &inner(false).udp((1, 2), b""));
    frame[14 + 8] ^= 1;
    assert_eq!(lab.dropped(node.uplink, &frame), DropReason::Ipv4Checksum);
    // The inner header is the router's business, and is looked at by the same rules.
    let mut frame = arriving(Via::Ipip4, &inner(false).udp((1, 2), b""));
    frame[34 + 8] ^= 1;
    assert_eq!(lab.dropped(node.uplink, &frame), DropReason::Ipv4Checksum);
}

/// A packet may leave through another tunnel than it came by, but not through the same: two nodes
/// that route a prefix to each other would bounce it until its TTL ran out.
#[test]
fn out_of_one_tunnel_into_another() {
    let (node, mut lab) = lab(Via::Vxlan4);
    for (i, via) in TUNNELS.into_iter().enumerate() {
        for (j, other) in TUNNELS.into_iter().enumerate() {
            let dst = format!("10.250.{j}.1");
            let packet = Packet::text(vtep_mac(2), "10.244.2.10", vtep_mac(1), &dst);
            let frame = arriving(via, &packet.udp((1, 2), b"on its way"));
            if i == j {
                assert_eq!(lab.dropped(node.uplink, &frame), DropReason::NestedTunnel);
            } else {
                let out = decode(&lab.pass(node.uplink, &frame, node.uplink));
                assert_eq!(out.src == outer(true).dst, matches!(other, Via::Vxlan6 | Via::Ipip6));
            }
        }
    }
}

/// A tunnel inside of a tunnel is a packet like any other to the outer one.
#[test]
fn a_tunnel_packet_inside_a_tunnel() {
    let (node, mut lab) = lab(Via::Vxlan4);
    let innermost = inner(false).udp((1, 2), b"deep");
    let nested = ipip(&inner(false), &innermost[14..]);
    let seen = decode(&lab.pass(node.uplink, &arriving(Via::Vxlan6, &nested), node.a.port));
    assert_eq!((seen.protocol, seen.payload), (4, innermost[14..].to_vec()));
}

/// RFC 7348 does not care what the inner frame is: a segment carries it as it is.
#[test]
fn frames_that_are_not_ip_through_a_segment() {
    let (here, there) = (Node::new(1, Via::Vxlan4), Node::new(2, Via::Vxlan4));
    let (mut one, mut two) = (Lab::new(here.tables.clone()), Lab::new(there.tables.clone()));
    for (from, to, segment, tunnel, v6) in [
        (here.blue_ports, there.blue_ports, there.blue, tunnels::BLUE, false),
        (here.green_ports, there.green_ports, there.green, tunnels::GREEN, true),
    ] {
        let station = Mac([2, 0, 0, 0, 0, 1]);
        let frame = [&[0xff; 6], &station.0[..], &[0x88, 0xcc], &[0x77; 100]].concat();
        let sent = one.send(from[0], &frame);
        let (_, carried) = sent.iter().find(|s| s.0 == here.uplink).unwrap();
        assert_eq!(decode(carried).has_checksum, v6);
        // Padding behind the outer packet is not the inner frame's.
        for padding in [0, 1, 60] {
            let got = two.send(there.uplink, &[&carried[..], &vec![0xee; padding]].concat());
            assert_eq!(got, [(to[0], frame.clone()), (to[1], frame.clone())]);
        }
        let learned = two.fdb.lookup(segment, station, two.now.seconds());
        assert_eq!(learned, Some(Location::Tunnel(tunnel)));
    }
}
