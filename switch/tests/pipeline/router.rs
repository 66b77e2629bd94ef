//! L3: what RFC 1812 and RFC 8200 want of a router, and where each kind of next hop leads.

use crate::kit::{
    Lab, Node, Packet, Via, decode, fill_checksum, gateway_mac, host_mac, ipip, tunnels,
    uplink_mac, vxlan,
};
use encap::Mac;
use std::net::IpAddr;
use std::sync::Arc;
use switch::heap::HeapFrame;
use switch::{DropReason, Frame, PortId, Tables};

fn lab(via: Via) -> (Node, Lab) {
    let node = Node::new(1, via);
    let lab = Lab::new(node.tables.clone());
    (node, lab)
}

/// A packet of pod a for the router.
fn from_pod(node: &Node, dst: &str) -> Packet {
    let dst: IpAddr = dst.parse().unwrap();
    let src = if dst.is_ipv4() { node.a.v4 } else { node.a.v6 };
    Packet::new(node.a.mac, src, gateway_mac(1), dst)
}

/// The tables with another router than the node's.
fn without_router(tables: &Tables) -> Tables {
    let mut tables = tables.clone();
    tables.router = None;
    tables
}

#[test]
fn between_pods_of_one_node() {
    let (node, mut lab) = lab(Via::Vxlan4);
    for dst in [node.b.v4, node.b.v6] {
        let packet = from_pod(&node, &dst.to_string()).tos(0x2e).options(&[]);
        let seen = decode(&lab.pass(node.a.port, &packet.udp((1, 2), b"to b"), node.b.port));
        assert_eq!((seen.src_mac, seen.dst_mac), (gateway_mac(1), node.b.mac));
        assert_eq!((seen.src, seen.dst), (packet.src, dst));
        assert_eq!((seen.ttl, seen.tos), (63, 0x2e));
        assert_eq!(seen.payload, b"to b");
    }
}

/// Every TTL, so that the incremental checksum meets every carry.
/// Hairpin: what a pod sends to its own address by way of the gateway comes back to it.
#[test]
fn a_pod_reaches_itself_through_the_gateway() {
    let (node, mut lab) = lab(Via::Vxlan4);
    for own in [node.a.v4, node.a.v6] {
        let packet = from_pod(&node, &own.to_string());
        let seen = decode(&lab.pass(node.a.port, &packet.udp((1, 2), b"to a"), node.a.port));
        assert_eq!((seen.src_mac, seen.dst_mac), (gateway_mac(1), node.a.mac));
        assert_eq!((seen.src, seen.dst, seen.ttl), (own, own, 63));
        assert_eq!(seen.payload, b"to a");
    }
}

#[test]
fn counts_the_hop_down() {
    let (node, mut lab) = lab(Via::Vxlan4);
    for dst in ["10.244.1.11", "fd00:10:244:1::11"] {
        for ttl in 0..=255u8 {
            // The identification moves the checksum about, across 0xffff.
            for seed in [0u16, 0x7fff, 0xfffe] {
                let mut frame = from_pod(&node, dst).ttl(ttl).udp((seed, 2), b"x");
                if dst.starts_with("10.") {
                    frame[18..20].copy_from_slice(&seed.to_be_bytes());
                    fill_checksum(&mut frame);
                }
                if ttl < 2 {
                    assert_eq!(lab.refused(node.a.port, &frame).0, DropReason::TtlExceeded);
                } else {
                    let seen = decode(&lab.pass(node.a.port, &frame, node.b.port));
                    assert_eq!(seen.ttl, ttl - 1);
                }
            }
        }
    }
}

#[test]
fn padding_is_trimmed_and_options_are_kept() {
    let (node, mut lab) = lab(Via::Vxlan4);
    for dst in ["10.244.1.11", "fd00:10:244:1::11"] {
        let frame = from_pod(&node, dst).udp((1, 2), b"");
        let out = lab.pass(node.a.port, &[frame.clone(), vec![0xff; 18]].concat(), node.b.port);
        assert_eq!(out.len(), frame.len());
        assert_eq!(decode(&out).padding, 0);
    }
    let options = [0x94, 4, 0, 0, 1, 1, 1, 1];
    let frame = from_pod(&node, "10.244.1.11").options(&options).tcp((1, 2), b"data");
    let seen = decode(&lab.pass(node.a.port, &frame, node.b.port));
    assert_eq!((&seen.options[..], &seen.payload[..]), (&options[..], &b"data"[..]));
}

#[test]
fn fragments_pass() {
    let (node, mut lab) = lab(Via::Vxlan4);
    for dst in ["10.244.1.11", "fd00:10:244:1::11"] {
        for (offset, more) in [(0, true), (185, true), (370, false)] {
            let frame = from_pod(&node, dst).fragment(offset, more).carry(17, &[0x11; 64]);
            let out = lab.pass(node.a.port, &frame, node.b.port);
            assert_eq!(out[26..], frame[26..], "only addresses, TTL and checksum change");
        }
    }
}

#[test]
fn to_the_node() {
    let (node, mut lab) = lab(Via::Vxlan4);
    for dst in ["198.18.0.1", "2001:2::1"] {
        let frame = from_pod(&node, dst).ttl(1).udp((1, 2), b"out");
        let out = lab.pass(node.a.port, &frame, node.host);
        assert_eq!((&out[..6], &out[6..12]), (&host_mac(1).0[..], &gateway_mac(1).0[..]));
        assert_eq!(out[12..], frame[12..], "the node's kernel counts the hop");
    }
    // From the node itself it would come straight back.
    let back = Packet::text(host_mac(1), "10.244.1.1", gateway_mac(1), "198.18.0.1");
    assert_eq!(lab.refused(node.host, &back.udp((1, 2), b"")).0, DropReason::RouteLoop);
    let to_pod = Packet::new(host_mac(1), "10.244.1.1".parse().unwrap(), gateway_mac(1), node.a.v4);
    let seen = decode(&lab.pass(node.host, &to_pod.udp((1, 2), b""), node.a.port));
    assert_eq!((seen.dst_mac, seen.ttl), (node.a.mac, 63));

    let mut tables = node.tables.clone();
    Arc::make_mut(tables.router.as_mut().unwrap()).host = None;
    let mut lab = Lab::new(tables);
    for dst in ["198.18.0.1", "10.244.1.1"] {
        let frame = from_pod(&node, dst).udp((1, 2), b"");
        assert_eq!(lab.dropped(node.a.port, &frame), DropReason::HostPortMissing);
    }
}

#[test]
fn routes_that_lead_nowhere() {
    let (node, mut lab) = lab(Via::Vxlan4);
    for (v4, v6, reason) in [
        ("10.251.0.1", "fd00:10:251::1", DropReason::RouteBlackhole),
        ("10.252.0.1", "fd00:10:252::1", DropReason::RouteUnreachable),
        ("10.253.0.1", "fd00:10:253::1", DropReason::RouteProhibited),
        ("203.0.113.1", "2001:db8:ffff::1", DropReason::NoRoute),
        ("10.250.5.1", "fd00:10:250:5::1", DropReason::NeighborUnresolved),
        ("10.250.6.1", "fd00:10:250:6::1", DropReason::NeighborUnresolved),
    ] {
        for dst in [v4, v6] {
            let frame = from_pod(&node, dst).udp((1, 2), b"");
            assert_eq!(lab.receive(node.a.port, &frame).drops, [(reason, 1)], "{dst}");
        }
    }
}

#[test]
fn natively_to_another_node() {
    let (node, mut lab) = lab(Via::Native);
    for dst in ["10.244.2.10", "fd00:10:244:2::10", "10.250.4.1", "fd00:10:250:4::1"] {
        let frame = from_pod(&node, dst).tcp((1, 2), b"payload");
        let seen = decode(&lab.pass(node.a.port, &frame, node.uplink));
        assert_eq!((seen.src_mac, seen.dst_mac), (uplink_mac(1), uplink_mac(2)));
        assert_eq!((seen.ttl, &seen.payload[..]), (63, &b"payload"[..]));
    }
}

/// What the uplink's program takes because its destination is a pod of ours, and nothing else: this
/// node is no router for others on the underlay.
#[test]
fn natively_from_another_node() {
    let (node, mut lab) = lab(Via::Native);
    let outside = |dst: &str| {
        let src = if dst.contains(':') { "fd00:10:244:2::10" } else { "10.244.2.10" };
        Packet::text(uplink_mac(2), src, uplink_mac(1), dst).udp((1, 2), b"in")
    };
    for dst in ["10.244.1.10", "fd00:10:244:1::10"] {
        let seen = decode(&lab.pass(node.uplink, &outside(dst), node.a.port));
        assert_eq!((seen.src_mac, seen.dst_mac), (gateway_mac(1), node.a.mac));
        assert_eq!(seen.ttl, 63);
    }
    for dst in ["10.244.1.1", "198.18.0.1", "fd00:10:244:1::1"] {
        assert_eq!(decode(&lab.pass(node.uplink, &outside(dst), node.host)).ttl, 64, "{dst}");
    }
    for dst in ["10.244.2.99", "10.250.0.1", "10.250.2.1", "fd00:10:244:2::99"] {
        assert_eq!(lab.dropped(node.uplink, &outside(dst)), DropReason::NotForUs, "{dst}");
    }
}

/// RFC 1812 section 5.3.7 and RFC 4291 section 2.5: addresses that no router forwards.
#[test]
fn martians() {
    let (node, mut lab) = lab(Via::Vxlan4);
    let mut between = |src: &str, dst: &str| {
        let frame = Packet::text(node.a.mac, src, gateway_mac(1), dst).udp((1, 2), b"");
        lab.dropped(node.a.port, &frame)
    };
    for src in ["127.0.0.1", "224.0.0.1", "255.255.255.255", "0.0.0.0", "0.1.2.3"] {
        assert_eq!(between(src, "10.244.1.11"), DropReason::IpAddressInvalid, "from {src}");
    }
    for dst in ["127.0.0.1", "0.0.0.0", "0.1.2.3"] {
        assert_eq!(between("10.244.1.10", dst), DropReason::IpAddressInvalid, "to {dst}");
    }
    for src in ["::1", "ff02::1", "::"] {
        assert_eq!(between(src, "fd00:10:244:1::11"), DropReason::IpAddressInvalid, "from {src}");
    }
    for dst in ["::1", "::"] {
        assert_eq!(between("fd00:10:244:1::10", dst), DropReason::IpAddressInvalid, "to {dst}");
    }
    // Of a link: may be heard by the router, but does not pass it.
    assert_eq!(between("fe80::1", "fd00:10:244:1::11"), DropReason::IpAddressInvalid);
    assert_eq!(between("169.254.7.7", "10.244.1.11"), DropReason::IpAddressInvalid);
    for (src, dst) in [
        ("10.244.1.10", "224.0.0.251"),
        ("10.244.1.10", "255.255.255.255"),
        ("fd00:10:244:1::10", "ff0e::1"),
    ] {
        assert_eq!(between(src, dst), DropReason::IpMulticastUnrouted, "to {dst}");
    }
}

#[test]
fn malformed_ip() {
    let (node, mut lab) = lab(Via::Vxlan4);
    let v4 = from_pod(&node, "10.244.1.11").udp((1, 2), b"payload");
    let v6 = from_pod(&node, "fd00:10:244:1::11").udp((1, 2), b"payload");
    for len in 14..v4.len() {
        let reason = lab.dropped(node.a.port, &v4[..len]);
        assert_eq!(reason, DropReason::Ipv4Malformed, "{len} bytes");
    }
    for len in 14..v6.len() {
        let reason = lab.dropped(node.a.port, &v6[..len]);
        assert_eq!(reason, DropReason::Ipv6Malformed, "{len} bytes");
    }
    for (at, value, what) in [
        (14, 0x65, "version 6"),
        (14, 0x44, "a header of 16 bytes"),
        (14, 0x4f, "a header longer than the packet"),
        (17, 19, "a total length shorter than the header"),
        (16, 1, "a total length beyond the frame"),
    ] {
        let mut bad = v4.clone();
        bad[at] = value;
        assert_eq!(lab.dropped(node.a.port, &bad), DropReason::Ipv4Malformed, "{what}");
    }
    for bit in 0..8 * 20 {
        let mut bad = v4.clone();
        bad[14 + bit / 8] ^= 1 << (bit % 8);
        let reason = lab.dropped(node.a.port, &bad);
        let either = [DropReason::Ipv4Checksum, DropReason::Ipv4Malformed];
        assert!(either.contains(&reason), "bit {bit}: {reason:?}");
    }
    let mut bad = v6.clone();
    bad[14] = 0x40;
    assert_eq!(lab.dropped(node.a.port, &bad), DropReason::Ipv6Malformed, "version 4");
}

#[test]
fn neither_ip_nor_arp() {
    let (node, mut lab) = lab(Via::Vxlan4);
    let mut frame = from_pod(&node, "10.244.1.11").udp((1, 2), b"");
    frame[12..14].copy_from_slice(&[0x81, 0x00]);
    assert_eq!(lab.dropped(node.a.port, &frame), DropReason::EtherTypeUnrouted);
}

/// Without a router, what comes out of a tunnel for the VTEP or natively finds no host port.
#[test]
fn a_node_without_a_router() {
    let node = Node::new(1, Via::Native);
    let mut lab = Lab::new(without_router(&node.tables));
    let to_host = Packet::text(uplink_mac(2), "10.244.2.10", uplink_mac(1), "198.18.0.1");
    assert_eq!(lab.dropped(node.uplink, &to_host.udp((1, 2), b"")), DropReason::HostPortMissing);
    let to_router = Packet::text(uplink_mac(2), "10.244.2.10", uplink_mac(1), "10.244.1.1");
    assert_eq!(lab.dropped(node.uplink, &to_router.udp((1, 2), b"")), DropReason::NoRoute);
    // In the segment the frame is one like any other.
    let frame = from_pod(&node, "10.244.1.11").udp((1, 2), b"");
    assert_eq!(lab.ports(node.a.port, &frame), [node.host, node.b.port]);
}

#[test]
fn a_packet_larger_than_its_way() {
    for via in Via::ALL {
        let (node, mut lab) = lab(via);
        let overhead = match via {
            Via::Vxlan4 => 50,
            Via::Vxlan6 => 70,
            Via::Ipip4 => 20,
            Via::Ipip6 => 40,
            Via::Native => 0,
        };
        for (dst, headers) in [("10.244.2.10", 28), ("fd00:10:244:2::10", 48)] {
            let largest = 9000 - overhead - headers;
            let frame = from_pod(&node, dst).udp((1, 2), &vec![1; largest]);
            let out = lab.pass(node.a.port, &frame, node.uplink);
            assert_eq!(out.len(), 9014, "fills the underlay's MTU: {via:?}");
            let frame = from_pod(&node, dst).udp((1, 2), &vec![1; largest + 1]);
            assert_eq!(lab.refused(node.a.port, &frame).0, DropReason::MtuExceeded, "{via:?}");
        }
    }
}

/// A frame received with too little room before it for an outer header.
#[test]
fn no_room_for_a_header() {
    for via in [Via::Vxlan4, Via::Vxlan6, Via::Ipip4, Via::Ipip6] {
        let (node, mut lab) = lab(via);
        let bytes = from_pod(&node, "10.244.2.10").udp((1, 2), &[9; 400]);
        let with_headroom = |room: usize| {
            let mut frame = HeapFrame::new(&bytes[256 - room..]);
            frame.push(256 - room).unwrap();
            frame.bytes_mut()[..bytes.len()].copy_from_slice(&bytes);
            assert_eq!(frame.headroom(), room);
            frame
        };
        let needed = match via {
            Via::Vxlan4 => 50,
            Via::Vxlan6 => 70,
            Via::Ipip4 => 20,
            _ => 40,
        };
        let reason = lab.dropped_frame(node.a.port, with_headroom(needed - 1));
        assert_eq!(reason, DropReason::NoHeadroom);
        assert_eq!(lab.process(node.a.port, vec![with_headroom(needed)]).sent.len(), 1);
    }
}

#[test]
fn an_egress_that_is_gone() {
    let (node, _) = lab(Via::Vxlan4);
    let mut tables = node.tables.clone();
    tables.ports[node.b.port.index()] = None;
    tables.tunnels[tunnels::VXLAN4.index()] = None;
    let mut lab = Lab::new(tables);
    for dst in ["10.244.1.11", "10.244.2.10"] {
        let frame = from_pod(&node, dst).udp((1, 2), b"");
        assert_eq!(lab.dropped(node.a.port, &frame), DropReason::PortDown, "{dst}");
    }
    // The underlay still names the tunnel.
    let inner = Packet::text(Mac::ZERO, "10.244.2.10", Mac::ZERO, "10.244.1.10").udp((1, 2), b"");
    let outer = Packet::text(uplink_mac(2), "192.0.2.2", uplink_mac(1), "192.0.2.1");
    let frame = vxlan(&outer, 4789, 1, &inner);
    assert_eq!(lab.dropped(node.uplink, &frame), DropReason::PortDown);
}

/// The host port is a link with an MTU like any other, for what is routed through it, and for what the
/// switch itself says through it: not a byte more, whatever room its frames have for a VLAN tag.
#[test]
fn the_host_port_has_an_mtu() {
    let node = Node::with(1, Via::Ipip4, |net| net.max_frame(PortId(0), 1514));
    let mut lab = Lab::new(node.tables.clone());
    assert_eq!(node.host, PortId(0));
    for (src, dst, headers) in
        [(node.a.v4, "198.18.0.1", 28), (node.a.v6, "2001:2::1", 48), (node.a.v4, "10.244.1.1", 28)]
    {
        let packet = Packet::new(node.a.mac, src, gateway_mac(1), dst.parse().unwrap());
        let sized = |size: usize| packet.udp((1, 2), &vec![0; size - headers]);
        lab.pass(node.a.port, &sized(1500), node.host);
        for size in [1501, 1504, 1505] {
            let (reason, port, told) = lab.refused(node.a.port, &sized(size));
            assert_eq!((reason, port), (DropReason::MtuExceeded, node.a.port));
            assert_eq!(decode(&told).echo.1, 1500, "{dst}");
        }
    }
    let may = Packet::new(node.a.mac, node.a.v4, gateway_mac(1), "198.18.0.1".parse().unwrap());
    let pieces = lab.send(node.a.port, &may.may_fragment(7).ttl(1).udp((1, 2), &[0; 1475]));
    assert_eq!(pieces.iter().map(|(p, _)| *p).collect::<Vec<_>>(), [node.host; 2]);
    assert!(
        pieces.iter().all(|(_, f)| f.len() <= 1514 && f[14 + 8] == 1),
        "the kernel counts hops"
    );
    // An answer of the router's own that does not fit is lost: it has nobody to tell.
    let outer = Packet::text(uplink_mac(2), "192.0.2.2", uplink_mac(1), "192.0.2.1");
    let ask = Packet::text(Mac::ZERO, "198.18.0.1", Mac::ZERO, "10.244.1.1").echo(1, 1, &[0; 1473]);
    assert_eq!(lab.dropped(node.uplink, &ipip(&outer, &ask[14..])), DropReason::MtuExceeded);
}
