//! Frames of every shape on every L2 path: tagged, padded, short, with options and extension headers,
//! and in as many buffers as 64 KiB take.

use crate::kit::{Lab, Node, Packet, Via, decode, uplink_mac, vxlan};
use encap::Mac;
use std::sync::Arc;
use switch::tables::Encapsulation;
use switch::{DropReason, Location, PortId};

const fn mac(n: u8) -> Mac {
    Mac([2, 0, 0, 0, 1, n])
}

/// Payloads behind an Ethernet header without EtherType.
fn shapes() -> Vec<(&'static str, Vec<u8>)> {
    let v4 = Packet::text(mac(1), "10.9.0.1", mac(2), "10.9.0.2");
    let v6 = Packet::text(mac(1), "fd00:9::1", mac(2), "fd00:9::2");
    let tag = |tags: &[u8], frame: &[u8]| [tags, &frame[12..]].concat();
    let udp = v4.udp((1, 2), b"payload");
    let options = [60, 0, 1, 4, 0, 0, 0, 0, 17, 0, 1, 4, 0, 0, 0, 0, 0, 1, 0, 2, 0, 8, 0, 0];
    vec![
        ("no payload", vec![0x88, 0xb5]),
        ("one byte", vec![0x88, 0xb5, 1]),
        ("IEEE 802.3 length", [&[0, 3, 0x42, 0x42, 3][..], &[0; 43]].concat()),
        ("60 bytes, padded", [&udp[12..], &[0; 11]].concat()),
        ("trailer of 1400 bytes", [&udp[12..], &[0xee; 1400]].concat()),
        ("IPv4 options", v4.options(&[1; 40]).udp((1, 2), b"x")[12..].to_vec()),
        (
            "IPv4 fragment",
            Packet::text(mac(1), "10.9.0.1", mac(2), "10.9.0.2").fragment(7, true).carry(17, b"xy")
                [12..]
                .to_vec(),
        ),
        ("IPv6 extension headers", v6.carry(0, &options)[12..].to_vec()),
        ("IPv6 fragment", v6.fragment(7, true).carry(17, b"xy")[12..].to_vec()),
        ("VLAN", tag(&[0x81, 0, 0, 42], &udp)),
        ("priority tag", tag(&[0x81, 0, 0xa0, 0], &udp)),
        ("VLAN in VLAN", tag(&[0x81, 0, 0, 42, 0x81, 0, 0, 7], &udp)),
        ("VLAN in service VLAN", tag(&[0x88, 0xa8, 0, 42, 0x81, 0, 0, 7], &udp)),
        ("cut in the tag", vec![0x81, 0, 0]),
        ("cut in the IP header", udp[12..25].to_vec()),
    ]
}

fn frame(src: Mac, dst: Mac, rest: &[u8]) -> Vec<u8> {
    [&dst.0[..], &src.0, rest].concat()
}

#[test]
fn every_shape_is_bridged_as_it_is() {
    let node = Node::new(1, Via::Vxlan4);
    let [here, there] = node.blue_ports;
    let mut lab = Lab::new(node.tables.clone());
    lab.send(there, &frame(mac(2), Mac::BROADCAST, &[0x88, 0xb5]));
    for (name, rest) in shapes() {
        let unicast = frame(mac(1), mac(2), &rest);
        assert_eq!(lab.pass(here, &unicast, there), unicast, "{name}");
        let flooded = frame(mac(1), Mac::BROADCAST, &rest);
        let sent = lab.send(here, &flooded);
        assert_eq!(sent.len(), 3, "{name}: the other port and two nodes");
        assert_eq!(sent[0].1, flooded, "{name}");
    }
}

/// The same through VXLAN, over both families: what goes in at one node comes out at the other one.
#[test]
fn every_shape_is_carried_between_nodes() {
    let nodes = [1, 2].map(|n| Node::new(n, Via::Vxlan4));
    type Ports = fn(&Node) -> [PortId; 2];
    let segments: [(Ports, &str); 2] = [(|n| n.blue_ports, "IPv4"), (|n| n.green_ports, "IPv6")];
    for (ports, family) in segments {
        let mut labs = nodes.each_ref().map(|n| Lab::new(n.tables.clone()));
        for (name, rest) in shapes() {
            let sent = labs[0].send(ports(&nodes[0])[0], &frame(mac(1), mac(2), &rest));
            let (_, outer) = sent.iter().find(|s| s.0 == nodes[0].uplink).expect("to the peer");
            let seen = decode(outer);
            assert_eq!(seen.has_checksum, family == "IPv6", "RFC 6935: of UDP over IPv6");
            let out = labs[1].send(nodes[1].uplink, outer);
            let ports = ports(&nodes[1]);
            let inner = frame(mac(1), mac(2), &rest);
            assert_eq!(out, ports.map(|p| (p, inner.clone())), "{name} over {family}");
        }
    }
}

/// Copies of a flood have all segments of the frame, each.
#[test]
fn frames_of_64_kib_are_flooded_known_and_limited_alike() {
    let node = Node::new(1, Via::Vxlan4);
    let [here, there] = node.blue_ports;
    let mut lab = Lab::new(node.tables.clone());
    let body: Vec<u8> = (0..65_000u32).map(|i| (i * 7) as u8).collect();
    let rest = [&[0x88, 0xb5][..], &body].concat();
    let large = frame(mac(1), Mac::BROADCAST, &rest);
    // The uplink cannot carry it, and says so; the other port has it whole.
    let outcome = lab.receive(here, &large);
    assert!(outcome.sent == [(there, large)]);
    assert_eq!(outcome.drops, [(DropReason::MtuExceeded, 2)]);
    let answer = frame(mac(2), mac(1), &rest);
    assert!(lab.pass(there, &answer, here) == answer);
}

/// The largest frame that a segment over VXLAN takes, and one byte more.
#[test]
fn a_jumbo_frame_in_several_buffers_fills_the_tunnel() {
    let mut node = Node::new(1, Via::Vxlan4);
    let at = Location::Tunnel(crate::kit::tunnels::BLUE);
    Arc::make_mut(node.tables.segments[node.blue.index()].as_mut().unwrap())
        .statics
        .insert(mac(2), at);
    let mut lab = Lab::new(node.tables.clone());
    let rest = |len: usize| [&[0x88, 0xb5][..], &vec![0x5a; len]].concat();
    let fits = frame(mac(1), mac(2), &rest(8950));
    let outer = decode(&lab.pass(node.blue_ports[0], &fits, node.uplink));
    assert!(outer.vxlan().1 == fits);
    let more = frame(mac(1), mac(2), &rest(8951));
    assert_eq!(lab.dropped(node.blue_ports[0], &more), DropReason::MtuExceeded);
}

/// A tagged frame to the router's MAC address is of another VLAN than the router is in: it is
/// neither routed nor sent anywhere else.
#[test]
fn tagged_frames_do_not_reach_the_router() {
    let node = Node::new(1, Via::Vxlan4);
    let mut lab = Lab::new(node.tables.clone());
    let to_router =
        Packet::text(node.a.mac, "10.244.1.10", crate::kit::gateway_mac(1), "10.244.1.11");
    let plain = to_router.udp((1, 2), b"");
    lab.pass(node.a.port, &plain, node.b.port);
    let tagged = [&plain[..12], &[0x81, 0, 0, 42], &plain[12..]].concat();
    assert_eq!(lab.dropped(node.a.port, &tagged), DropReason::EtherTypeUnrouted);
}

/// Head-end replication (RFC 7348 section 4.2): a copy to each peer of the segment, with its VNI,
/// and to no peer of another one.
#[test]
fn a_flood_goes_to_every_peer_of_its_segment_only() {
    let node = Node::new(1, Via::Vxlan4);
    let mut lab = Lab::new(node.tables.clone());
    let hello = frame(mac(1), Mac::BROADCAST, &[0x88, 0xb5, 1]);
    for (port, peers) in [
        (node.blue_ports[0], &[("192.0.2.2", 100), ("192.0.2.3", 100)][..]),
        (node.green_ports[0], &[("2001:db8::2", 200)]),
    ] {
        let sent = lab.send(port, &hello);
        let got: Vec<(String, u32)> = sent
            .iter()
            .filter(|s| s.0 == node.uplink)
            .map(|s| decode(&s.1))
            .map(|outer| (outer.dst.to_string(), outer.vxlan().0))
            .collect();
        let want: Vec<_> = peers.iter().map(|&(ip, vni)| (ip.to_owned(), vni)).collect();
        assert_eq!(got, want);
    }
    // The routed segment has no tunnel: nothing of it leaves the node.
    let sent = lab.send(node.a.port, &frame(node.a.mac, Mac::BROADCAST, &[0x88, 0xb5]));
    assert!(sent.iter().all(|s| s.0 != node.uplink));
}

/// Split horizon, for all that is flooded: broadcast, multicast and unknown unicast, from each peer.
#[test]
fn what_came_through_the_overlay_does_not_go_back_into_it() {
    let node = Node::new(1, Via::Vxlan4);
    let mut lab = Lab::new(node.tables.clone());
    for peer in ["192.0.2.2", "192.0.2.3"] {
        let outer = Packet::text(uplink_mac(2), peer, uplink_mac(1), "192.0.2.1");
        for dst in [Mac::BROADCAST, Mac([1, 0, 0x5e, 1, 2, 3]), mac(99)] {
            let inner = frame(mac(1), dst, &[0x88, 0xb5, 2]);
            let sent = lab.send(node.uplink, &vxlan(&outer, 4789, 100, &inner));
            assert_eq!(sent, node.blue_ports.map(|p| (p, inner.clone())), "{peer} to {dst}");
        }
    }
    // Without a port on this node there is nobody left to hear it.
    let blue = lab.tables.segments[node.blue.index()].as_mut().unwrap();
    Arc::make_mut(blue).flood.retain(|at| matches!(at, Location::Tunnel(_)));
    let outer = Packet::text(uplink_mac(2), "192.0.2.2", uplink_mac(1), "192.0.2.1");
    let inner = frame(mac(1), Mac::BROADCAST, &[0x88, 0xb5]);
    let packet = vxlan(&outer, 4789, 100, &inner);
    assert_eq!(lab.dropped(node.uplink, &packet), DropReason::FloodEmpty);
}

/// A peer that is not resolved costs the others nothing.
#[test]
fn a_flood_counts_the_peers_that_cannot_be_reached() {
    let node = Node::new(1, Via::Vxlan4);
    let mut lab = Lab::new(node.tables.clone());
    let tunnel = lab.tables.tunnels[crate::kit::tunnels::BLUE.index()].as_mut().unwrap();
    Arc::make_mut(tunnel).egress = None;
    assert!(matches!(tunnel.encapsulation, Encapsulation::Vxlan { segment: Some(_), .. }));
    let hello = frame(mac(1), Mac::BROADCAST, &[0x88, 0xb5]);
    let outcome = lab.receive(node.blue_ports[0], &hello);
    assert_eq!(outcome.sent.len(), 2, "the other port and the other peer");
    assert_eq!(outcome.drops, [(DropReason::NeighborUnresolved, 1)]);
}
