//! What is learned and what is flooded, within limits.

use crate::kit::{Lab, Net, Node, Packet, Via, gateway_mac, uplink_mac, vxlan};
use encap::Mac;
use std::sync::Arc;
use switch::tables::{Storm, UnknownUnicast};
use switch::{DropReason, Fdb, Location, PortId, SegmentId};

fn mac(n: u8) -> Mac {
    Mac([2, 0, 0, 0, 1, n])
}

fn frame(src: Mac, dst: Mac) -> Vec<u8> {
    [&dst.0[..], &src.0, &[0x88, 0xb5], b"something to tell"].concat()
}

/// A bridge of three ports, changed by `with` before it runs.
fn bridge(with: impl FnOnce(&mut Net, SegmentId, &[PortId])) -> (Lab, Vec<PortId>) {
    let mut net = Net::new();
    let segment = net.segment(false);
    let ports: Vec<_> = (0..3).map(|_| net.access(segment)).collect();
    with(&mut net, segment, &ports);
    (Lab::new(net.build()), ports)
}

fn not_learned(lab: &Lab, port: PortId) -> u64 {
    lab.counters.port(port).not_learned.get()
}

#[test]
fn beyond_the_ports_limit_frames_pass_and_are_not_learned() {
    let (mut lab, p) = bridge(|net, _, p| net.port_policy(p[0]).fdb_limit = Some(2));
    for n in 1..=4 {
        assert_eq!(lab.ports(p[0], &frame(mac(n), Mac::BROADCAST)), p[1..]);
    }
    assert_eq!(not_learned(&lab, p[0]), 2);
    // The first two are found, the others flooded to.
    lab.pass(p[1], &frame(mac(9), mac(1)), p[0]);
    lab.pass(p[1], &frame(mac(9), mac(2)), p[0]);
    assert_eq!(lab.ports(p[1], &frame(mac(9), mac(3))), [p[0], p[2]]);
    // Another port has its own limit; a move there makes room here.
    lab.send(p[2], &frame(mac(1), Mac::BROADCAST));
    lab.send(p[0], &frame(mac(3), Mac::BROADCAST));
    lab.pass(p[1], &frame(mac(9), mac(3)), p[0]);
    lab.pass(p[1], &frame(mac(9), mac(1)), p[2]);
    assert_eq!(not_learned(&lab, p[0]), 2);
}

#[test]
fn the_segments_limit_holds_over_its_ports_and_no_further() {
    let mut net = Net::new();
    let [s0, s1] = [net.segment(false), net.segment(false)];
    let [a, b, c, d] = [net.access(s0), net.access(s0), net.access(s1), net.access(s1)];
    net.policy(s0).fdb_limit = Some(3);
    let mut lab = Lab::new(net.build());
    for (n, port) in [a, b, a, b].into_iter().enumerate() {
        lab.send(port, &frame(mac(n as u8), Mac::BROADCAST));
    }
    assert_eq!((lab.fdb.count_in(s0), not_learned(&lab, b)), (3, 1));
    lab.send(c, &frame(mac(7), Mac::BROADCAST));
    lab.pass(d, &frame(mac(8), mac(7)), c);
    assert_eq!(lab.fdb.count_in(s1), 2);
}

#[test]
fn room_comes_with_ageing_and_with_flushing() {
    let (mut lab, p) = bridge(|net, s, _| net.policy(s).fdb_limit = Some(1));
    lab.send(p[0], &frame(mac(1), Mac::BROADCAST));
    lab.send(p[0], &frame(mac(2), Mac::BROADCAST));
    assert_eq!(not_learned(&lab, p[0]), 1);
    lab.advance(u64::from(Fdb::DEFAULT_AGEING));
    assert_eq!(lab.fdb.sweep(lab.now.seconds(), usize::MAX), 1);
    lab.send(p[0], &frame(mac(2), Mac::BROADCAST));
    lab.pass(p[1], &frame(mac(3), mac(2)), p[0]);
    assert_eq!(not_learned(&lab, p[0]), 1);
    assert_eq!(lab.fdb.flush(|_, _, at| at == Location::Port(p[0])), 1);
    lab.send(p[1], &frame(mac(3), Mac::BROADCAST));
    lab.pass(p[0], &frame(mac(4), mac(3)), p[1]);
}

#[test]
fn a_full_table_is_counted_too() {
    let (lab, p) = bridge(|_, _, _| ());
    let mut lab = Lab::sharing(lab.tables, Arc::new(Fdb::new(4)));
    for n in 0..100 {
        lab.send(p[0], &frame(mac(n), Mac::BROADCAST));
    }
    let known = lab.fdb.entries(lab.now.seconds()).len() as u64;
    assert_eq!(not_learned(&lab, p[0]), 100 - known);
}

#[test]
fn addresses_behind_tunnels_count_in_the_segment() {
    let mut node = Node::new(1, Via::Vxlan4);
    let blue = node.tables.segments[node.blue.index()].as_mut().unwrap();
    Arc::make_mut(blue).policy.fdb_limit = Some(2);
    let mut lab = Lab::new(node.tables.clone());
    let outer = Packet::text(uplink_mac(2), "192.0.2.2", uplink_mac(1), "192.0.2.1");
    for n in 1..=3 {
        let inner = frame(mac(n), Mac::BROADCAST);
        lab.send(node.uplink, &vxlan(&outer, 4789, 100, &inner));
    }
    assert_eq!((lab.fdb.count_in(node.blue), not_learned(&lab, node.uplink)), (2, 1));
}

/// Whatever else happens to a static or a pod's address, it stays where it was configured to be.
#[test]
fn a_pods_address_never_moves_to_another_port_or_tunnel() {
    let pod = mac(0x11);
    let mut node = Node::new(1, Via::Vxlan4);
    let at = Location::Port(node.blue_ports[0]);
    let blue = node.tables.segments[node.blue.index()].as_mut().unwrap();
    Arc::make_mut(blue).statics.insert(pod, at);
    let mut lab = Lab::new(node.tables.clone());
    let outer = Packet::text(uplink_mac(2), "192.0.2.2", uplink_mac(1), "192.0.2.1");
    lab.send(node.blue_ports[1], &frame(pod, Mac::BROADCAST));
    lab.send(node.uplink, &vxlan(&outer, 4789, 100, &frame(pod, Mac::BROADCAST)));
    lab.pass(node.blue_ports[1], &frame(mac(1), pod), node.blue_ports[0]);
    assert_eq!(lab.fdb.count_in(node.blue), 1, "only the one that asked");
}

/// A virtual machine that is migrated: from a port to another node and back, found at once.
#[test]
fn an_address_moves_between_ports_and_tunnels_at_once() {
    let node = Node::new(1, Via::Vxlan4);
    let [here, other] = node.blue_ports;
    let mut lab = Lab::new(node.tables.clone());
    let from = |ip| Packet::text(uplink_mac(2), ip, uplink_mac(1), "192.0.2.1");
    let hello = frame(mac(1), Mac::BROADCAST);
    let at = |lab: &Lab| lab.fdb.lookup(node.blue, mac(1), lab.now.seconds());
    lab.send(here, &hello);
    assert_eq!(at(&lab), Some(Location::Port(here)));
    for peer in ["192.0.2.2", "192.0.2.3", "192.0.2.2"] {
        lab.send(node.uplink, &vxlan(&from(peer), 4789, 100, &hello));
        let outer = crate::kit::decode(&lab.pass(other, &frame(mac(2), mac(1)), node.uplink));
        assert_eq!(outer.dst.to_string(), peer);
        assert_eq!(lab.fdb.count_at(here), 0);
    }
    lab.send(other, &hello);
    lab.pass(here, &frame(mac(2), mac(1)), other);
    assert_eq!(lab.fdb.count_in(node.blue), 2);
}

#[test]
fn unknown_unicast_is_dropped_where_the_segment_says_so() {
    let (mut lab, p) = bridge(|net, s, _| net.policy(s).unknown_unicast = UnknownUnicast::Drop);
    assert_eq!(lab.dropped(p[0], &frame(mac(1), mac(2))), DropReason::UnknownUnicast);
    // The drop taught where the sender is, and groups are flooded all the same.
    lab.pass(p[1], &frame(mac(2), mac(1)), p[0]);
    lab.pass(p[0], &frame(mac(1), mac(2)), p[1]);
    assert_eq!(lab.ports(p[0], &frame(mac(1), Mac::BROADCAST)), p[1..]);
    assert_eq!(lab.ports(p[0], &frame(mac(1), Mac([1, 0, 0x5e, 0, 0, 5]))), p[1..]);
}

#[test]
fn unknown_unicast_from_a_tunnel_is_dropped_there_too() {
    let mut node = Node::new(1, Via::Vxlan4);
    let blue = node.tables.segments[node.blue.index()].as_mut().unwrap();
    Arc::make_mut(blue).policy.unknown_unicast = UnknownUnicast::Drop;
    let mut lab = Lab::new(node.tables.clone());
    let outer = Packet::text(uplink_mac(2), "192.0.2.2", uplink_mac(1), "192.0.2.1");
    let inner = vxlan(&outer, 4789, 100, &frame(mac(1), mac(2)));
    assert_eq!(lab.dropped(node.uplink, &inner), DropReason::UnknownUnicast);
}

/// Sends `count` frames at once; how many were flooded.
fn burst(lab: &mut Lab, port: PortId, dst: Mac, count: u32) -> u64 {
    let mut passed = 0;
    for _ in 0..count {
        let outcome = lab.receive(port, &frame(mac(1), dst));
        match outcome.drops[..] {
            [] => passed += 1,
            [(DropReason::Storm, 1)] => assert_eq!(outcome.sent, []),
            ref other => panic!("{other:?}"),
        }
    }
    passed
}

#[test]
fn broadcast_and_multicast_are_limited_by_port() {
    let storm = |n| Some(Arc::new(Storm::new(n)));
    let (mut lab, p) = bridge(|net, _, p| net.port_policy(p[0]).storm = storm(1000));
    let group = Mac([1, 0, 0x5e, 0, 0, 5]);
    assert_eq!(burst(&mut lab, p[0], Mac::BROADCAST, 300), 100, "the burst: a tenth of a second's");
    assert_eq!(burst(&mut lab, p[0], group, 10), 0, "one limit for both");
    lab.now.0 += 20;
    assert_eq!(burst(&mut lab, p[0], group, 300), 20);
    lab.advance(60);
    assert_eq!(burst(&mut lab, p[0], Mac::BROADCAST, 300), 100, "not a minute's");
    // Unicast is not limited, nor is another port.
    lab.send(p[1], &frame(mac(2), mac(1)));
    for _ in 0..500 {
        lab.pass(p[0], &frame(mac(1), mac(2)), p[1]);
    }
    assert_eq!(burst(&mut lab, p[1], Mac::BROADCAST, 300), 300);
}

#[test]
fn what_the_router_answers_is_no_storm() {
    let mut node = Node::new(1, Via::Vxlan4);
    let port = node.tables.ports[node.a.port.index()].as_mut().unwrap();
    Arc::make_mut(port).policy.storm = Some(Arc::new(Storm::new(0)));
    let mut lab = Lab::new(node.tables.clone());
    let asker = (node.a.mac, [10, 244, 1, 10].into());
    let ask = |ip: [u8; 4]| crate::kit::arp_request(asker, Mac::BROADCAST, ip.into());
    let reply = lab.pass(node.a.port, &ask([10, 244, 1, 1]), node.a.port);
    assert_eq!(reply[6..12], gateway_mac(1).0);
    assert_eq!(lab.dropped(node.a.port, &ask([10, 244, 1, 99])), DropReason::Storm);
}
