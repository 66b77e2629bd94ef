//! L2: learning, flooding, split horizon.

use crate::kit::{Lab, Net, Node, Packet, Via, decode, tunnels, vxlan};
use encap::Mac;
use std::sync::Arc;
use switch::heap::HeapFrame;
use switch::tables::Encapsulation;
use switch::{DropReason, Fdb, Location, PortId, SegmentId};

fn mac(n: u8) -> Mac {
    Mac([2, 0, 0, 0, 1, n])
}

/// A frame that is no IP packet.
fn frame(src: Mac, dst: Mac) -> Vec<u8> {
    [&dst.0[..], &src.0, &[0x88, 0xb5], b"something to tell"].concat()
}

/// A frame that may take the usual way.
fn packet(src: Mac, dst: Mac) -> Vec<u8> {
    Packet::text(src, "10.0.0.1", dst, "10.0.0.2").udp((1, 2), b"something to tell")
}

/// A bridge of `n` ports.
fn bridge(n: usize) -> (Lab, Vec<PortId>) {
    let mut net = Net::new();
    let segment = net.segment(false);
    let ports = (0..n).map(|_| net.access(segment)).collect();
    (Lab::new(net.build()), ports)
}

#[test]
fn unknown_unicast_is_flooded_and_then_learned() {
    let (mut lab, p) = bridge(4);
    let hello = frame(mac(1), mac(2));
    assert_eq!(lab.ports(p[0], &hello), p[1..], "everywhere but back");
    let answer = frame(mac(2), mac(1));
    assert_eq!(lab.pass(p[2], &answer, p[0]), answer, "byte for byte");
    assert_eq!(lab.pass(p[0], &hello, p[2]), hello);
}

#[test]
fn broadcast_and_multicast_are_flooded_as_they_are() {
    let (mut lab, p) = bridge(3);
    for group in [Mac::BROADCAST, Mac([1, 0, 0x5e, 0, 0, 1]), Mac([0x33, 0x33, 0, 0, 0, 1])] {
        // Also when somebody has it as a source: such a frame is refused, see below.
        let hello = frame(mac(1), group);
        let outcome = lab.receive(p[1], &hello);
        assert_eq!(outcome.sent, [(p[0], hello.clone()), (p[2], hello)]);
        assert_eq!((outcome.originated, outcome.drops), (1, vec![]));
    }
}

#[test]
fn a_station_that_moves_is_found_at_once() {
    let (mut lab, p) = bridge(3);
    lab.send(p[0], &frame(mac(1), Mac::BROADCAST));
    lab.pass(p[2], &frame(mac(3), mac(1)), p[0]);
    lab.send(p[1], &frame(mac(1), Mac::BROADCAST));
    lab.pass(p[2], &frame(mac(3), mac(1)), p[1]);
}

/// What is remembered while a batch is forwarded does not outlive what it was true of.
#[test]
fn a_batch_is_forwarded_like_its_frames_one_by_one() {
    let limited = || {
        let mut net = Net::new();
        let segment = net.segment(false);
        let ports: Vec<_> = (0..3).map(|_| net.access(segment)).collect();
        net.port_policy(ports[0]).fdb_limit = Some(2);
        (Lab::new(net.build()), ports)
    };
    let ((mut at_once, p), (mut one_by_one, _)) = (limited(), limited());
    let mut state = 1u64;
    let mut random = |n: u64| {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        ((state >> 33) % n) as u8
    };
    for _ in 0..500 {
        let port = p[usize::from(random(3))];
        // Runs of the same addresses, and stations that move in between.
        let mut frames = Vec::new();
        for _ in 0..=random(4) {
            let (src, dst) = (mac(random(4)), mac(random(4)));
            frames.extend((0..=random(3)).map(|_| frame(src, dst)));
        }
        let batch = frames.iter().map(|f| HeapFrame::new(f)).collect();
        let outcome = at_once.process(port, batch);
        let mut single = (Vec::new(), 0);
        for frame in &frames {
            let outcome = one_by_one.receive(port, frame);
            single.0.extend(outcome.sent);
            single.1 += outcome.drops.iter().map(|(_, n)| n).sum::<u64>();
        }
        let dropped = outcome.drops.iter().map(|(_, n)| n).sum::<u64>();
        assert_eq!((outcome.sent, dropped), single);
        let not_learned = |lab: &Lab| lab.counters.port(port).not_learned.get();
        assert_eq!(not_learned(&at_once), not_learned(&one_by_one));
    }
}

#[test]
fn a_silent_station_is_forgotten() {
    let (mut lab, p) = bridge(3);
    lab.send(p[0], &frame(mac(1), Mac::BROADCAST));
    lab.advance(u64::from(Fdb::DEFAULT_AGEING) - 1);
    lab.pass(p[2], &frame(mac(3), mac(1)), p[0]);
    lab.advance(1);
    assert_eq!(lab.ports(p[2], &frame(mac(3), mac(1))), [p[0], p[1]]);
    // Its own frames keep it alive, frames to it do not.
    lab.send(p[0], &frame(mac(1), Mac::BROADCAST));
    for _ in 0..4 {
        lab.advance(100);
        lab.send(p[0], &frame(mac(1), mac(9)));
    }
    lab.pass(p[2], &frame(mac(3), mac(1)), p[0]);
}

/// Two workers read the clock at different moments; the one that is behind must not take for aged
/// out what the other one has just seen.
#[test]
fn a_worker_whose_clock_is_behind_sees_what_another_learned() {
    let mut net = Net::new();
    let segment = net.segment(false);
    let p: Vec<_> = (0..3).map(|_| net.access(segment)).collect();
    let mut ahead = Lab::new(net.build());
    let mut behind = Lab::sharing(ahead.tables.clone(), ahead.fdb.clone());
    ahead.advance(1);
    ahead.send(p[0], &frame(mac(1), Mac::BROADCAST));
    behind.pass(p[2], &frame(mac(3), mac(1)), p[0]);
    assert_eq!(behind.fdb.entries(behind.now.seconds()).len(), 2);
}

#[test]
fn a_static_entry_wins_and_never_moves() {
    let mut net = Net::new();
    let segment = net.segment(false);
    let p: Vec<_> = (0..3).map(|_| net.access(segment)).collect();
    net.fixed(segment, mac(1), Location::Port(p[0]));
    let mut lab = Lab::new(net.build());
    lab.pass(p[2], &frame(mac(3), mac(1)), p[0]);
    lab.send(p[1], &frame(mac(1), Mac::BROADCAST));
    lab.pass(p[2], &frame(mac(3), mac(1)), p[0]);
    assert_eq!(lab.fdb.lookup(segment, mac(1), lab.now.seconds()), None, "not even learned");
}

/// No group address is anybody's, not even the one that looks like a free place of the table of configured
/// addresses: that of segment 0 with no bit but the group's.
#[test]
fn a_group_address_is_not_taken_for_a_configured_one() {
    let group = Mac([1, 0, 0, 0, 0, 0]);
    let mut net = Net::new();
    let segment = net.segment(false);
    assert_eq!(segment, SegmentId(0));
    let p: Vec<_> = (0..3).map(|_| net.access(segment)).collect();
    net.fixed(segment, mac(1), Location::Port(p[1]));
    net.fixed(segment, mac(2), Location::Port(p[2]));
    let mut lab = Lab::new(net.build());
    lab.pass(p[1], &packet(mac(1), mac(2)), p[2]);
    assert_eq!(lab.ports(p[1], &packet(mac(1), group)), [p[0], p[2]], "flooded");
    assert_eq!(lab.dropped(p[1], &packet(group, mac(2))), DropReason::EthSourceInvalid);
}

#[test]
fn segments_do_not_leak() {
    let mut net = Net::new();
    let [s0, s1] = [net.segment(false), net.segment(false)];
    let [a0, b0, a1, b1] = [net.access(s0), net.access(s0), net.access(s1), net.access(s1)];
    let mut lab = Lab::new(net.build());
    lab.send(a0, &frame(mac(1), Mac::BROADCAST));
    lab.pass(a1, &frame(mac(2), mac(1)), b1);
    lab.pass(b0, &frame(mac(3), mac(1)), a0);
}

#[test]
fn a_frame_is_never_sent_back_where_it_came_from() {
    let (mut lab, p) = bridge(2);
    lab.send(p[0], &frame(mac(1), Mac::BROADCAST));
    assert_eq!(lab.dropped(p[0], &frame(mac(2), mac(1))), DropReason::Hairpin);
    let (mut alone, p) = bridge(1);
    assert_eq!(alone.dropped(p[0], &frame(mac(1), mac(2))), DropReason::FloodEmpty);
}

#[test]
fn reserved_group_addresses_are_not_forwarded() {
    let (mut lab, p) = bridge(2);
    for last in 0..=0x0f {
        let to = Mac([0x01, 0x80, 0xc2, 0, 0, last]);
        assert_eq!(lab.dropped(p[0], &frame(mac(1), to)), DropReason::EthReserved);
    }
    lab.pass(p[0], &frame(mac(1), Mac([0x01, 0x80, 0xc2, 0, 0, 0x10])), p[1]);
    lab.pass(p[0], &frame(mac(1), Mac([0x01, 0x80, 0xc2, 0, 1, 0])), p[1]);
}

#[test]
fn a_group_address_or_zero_is_no_source() {
    let (mut lab, p) = bridge(2);
    for src in [Mac::ZERO, Mac::BROADCAST, Mac([1, 0, 0x5e, 0, 0, 1])] {
        assert_eq!(lab.dropped(p[0], &frame(src, mac(2))), DropReason::EthSourceInvalid);
    }
    assert!(lab.fdb.entries(lab.now.seconds()).is_empty());
    for len in 0..14 {
        let short = &frame(mac(1), mac(2))[..len];
        assert_eq!(lab.dropped(p[0], short), DropReason::EthTruncated, "{len} bytes");
    }
    lab.pass(p[0], &frame(mac(1), mac(2))[..14], p[1]);
}

#[test]
fn frames_of_many_segments_are_bridged_whole() {
    let (mut lab, p) = bridge(3);
    let large = [frame(mac(1), mac(2)), (0..60_000u32).map(|i| i as u8).collect()].concat();
    for (_, bytes) in lab.send(p[0], &large) {
        assert!(bytes == large);
    }
}

#[test]
fn a_flood_counts_the_copies_that_there_was_no_buffer_for() {
    let (mut lab, p) = bridge(4);
    lab.budget = 1;
    let outcome = lab.receive(p[0], &frame(mac(1), mac(2)));
    assert_eq!(outcome.originated, 2);
    assert_eq!(outcome.sent.len(), 2, "one copy and the frame itself");
    assert_eq!(outcome.drops, [(DropReason::NoBuffer, 1)]);
}

#[test]
fn a_flood_counts_the_ports_that_take_no_frame_of_its_size() {
    let mut net = Net::new();
    let segment = net.segment(false);
    let p: Vec<_> = (0..4).map(|_| net.access(segment)).collect();
    net.max_frame(p[1], 30);
    net.max_frame(p[3], 30);
    let mut lab = Lab::new(net.build());
    let hello = frame(mac(1), mac(2));
    let outcome = lab.receive(p[0], &hello);
    assert_eq!(outcome.sent, [(p[2], hello)]);
    assert_eq!(outcome.drops, [(DropReason::MtuExceeded, 2)]);
    assert_eq!(outcome.originated, 2);
}

#[test]
fn a_port_that_is_not_in_the_tables_forwards_nothing() {
    let (mut lab, p) = bridge(2);
    lab.tables.ports[0] = None;
    assert_eq!(lab.dropped(p[0], &frame(mac(1), mac(2))), DropReason::PortUnknown);
    assert_eq!(lab.dropped(PortId(40), &frame(mac(1), mac(2))), DropReason::PortUnknown);
    assert_eq!(lab.dropped(p[1], &frame(mac(1), mac(2))), DropReason::PortDown, "flooded to it");
    lab.tables.segments[0] = None;
    assert_eq!(lab.dropped(p[1], &frame(mac(1), mac(2))), DropReason::PortUnknown);
}

/// What a node of a VXLAN segment sends to another one.
fn in_vxlan(node: &Node, from: &str, inner: &[u8]) -> Vec<u8> {
    let peer = Mac([2, 0, 0, 0, 0xff, 2]);
    let us = Mac([2, 0, 0, 0, 0xff, node.n]);
    vxlan(&Packet::text(peer, from, us, "192.0.2.1"), 4789, 100, inner)
}

#[test]
fn a_segment_spans_nodes() {
    let node = Node::new(1, Via::Vxlan4);
    let (blue, uplink) = (node.blue_ports, node.uplink);
    let mut lab = Lab::new(node.tables.clone());
    let hello = frame(mac(1), mac(2));

    // Flooded to the other port and to both nodes that carry the segment.
    let sent = lab.send(blue[0], &hello);
    let ports: Vec<_> = sent.iter().map(|s| s.0).collect();
    assert_eq!(ports, [blue[1], uplink, uplink]);
    let peers: Vec<_> = sent[1..].iter().map(|s| decode(&s.1).dst.to_string()).collect();
    assert_eq!(peers, ["192.0.2.2", "192.0.2.3"]);
    for (_, outer) in &sent[1..] {
        assert_eq!(decode(outer).vxlan(), (100, &hello[..]));
    }

    // The answer through a tunnel is learned behind it.
    let answer = frame(mac(2), mac(1));
    assert_eq!(lab.pass(uplink, &in_vxlan(&node, "192.0.2.3", &answer), blue[0]), answer);
    let learned = lab.fdb.lookup(node.blue, mac(2), lab.now.seconds());
    assert_eq!(learned, Some(Location::Tunnel(tunnels::BLUE3)));
    let outer = decode(&lab.pass(blue[0], &hello, uplink));
    assert_eq!(outer.dst.to_string(), "192.0.2.3");
    assert_eq!(outer.vxlan(), (100, &hello[..]));
}

/// Every node of a segment floods to every other one; if it also passed on what it got through a
/// tunnel, frames would multiply for ever.
#[test]
fn tunnels_are_meshed_not_chained() {
    let node = Node::new(1, Via::Vxlan4);
    let (blue, uplink) = (node.blue_ports, node.uplink);
    let mut lab = Lab::new(node.tables.clone());
    let hello = in_vxlan(&node, "192.0.2.2", &frame(mac(2), Mac::BROADCAST));
    assert_eq!(lab.ports(uplink, &hello), blue, "to local ports only");
    let to_peer = in_vxlan(&node, "192.0.2.3", &frame(mac(3), mac(2)));
    assert_eq!(lab.dropped(uplink, &to_peer), DropReason::SplitHorizon);
    let to_itself = in_vxlan(&node, "192.0.2.2", &frame(mac(4), mac(2)));
    assert_eq!(lab.dropped(uplink, &to_itself), DropReason::Hairpin);
}

/// Neither to an address that is configured behind it, nor to one that was learned there while it still
/// carried the segment.
#[test]
fn a_tunnel_without_a_segment_carries_no_bridged_frame() {
    for configured in [false, true] {
        let node = Node::with(1, Via::Vxlan4, |net| {
            if configured {
                net.fixed(SegmentId(1), mac(2), Location::Tunnel(tunnels::BLUE));
            }
        });
        let (blue, hello) = (node.blue_ports[0], packet(mac(1), mac(2)));
        let mut lab = Lab::new(node.tables.clone());
        lab.send(node.uplink, &in_vxlan(&node, "192.0.2.2", &packet(mac(2), mac(3))));
        lab.pass(blue, &hello, node.uplink);
        lab.pass(blue, &hello, node.uplink);

        let tunnel = lab.tables.tunnels[tunnels::BLUE.index()].as_mut().unwrap();
        match &mut Arc::make_mut(tunnel).encapsulation {
            Encapsulation::Vxlan { segment, .. } => *segment = None,
            other => panic!("{other:?}"),
        }
        lab.tables = lab.tables.clone().prepare();
        assert_eq!(lab.dropped(blue, &hello), DropReason::TunnelRoutedOnly, "{configured}");
    }
}

#[test]
fn a_segment_without_a_router_bridges_frames_to_the_routers_address() {
    let node = Node::new(1, Via::Vxlan4);
    let mut lab = Lab::new(node.tables.clone());
    let to_router = frame(mac(1), crate::kit::gateway_mac(1));
    assert_eq!(lab.ports(node.green_ports[0], &to_router), [node.green_ports[1], node.uplink]);
    assert_eq!(lab.dropped(node.a.port, &to_router), DropReason::EtherTypeUnrouted);
    assert_eq!(node.routed, SegmentId(0));
}
