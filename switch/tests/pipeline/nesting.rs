//! The tunnel encapsulation limit: RFC 2473 section 4.1.1.

use crate::kit::{Lab, Node, Packet, Via, decode, gateway_mac, tunnels, uplink_mac};
use std::sync::Arc;
use switch::DropReason;

/// What the uplink's MTU of 9000 leaves without a limit, and with one.
const PLAIN: usize = 8960;
const LIMITED: usize = 8952;

/// Node 1, which reaches node 2 through IPIP over IPv6.
fn lab(limit: Option<u8>) -> (Node, Lab) {
    let mut node = Node::new(1, Via::Ipip6);
    if let Some(limit) = limit {
        let tunnel = node.tables.tunnels[tunnels::IPIP6.index()].as_mut().unwrap();
        let tunnel = Arc::make_mut(tunnel);
        let egress = tunnel.egress.as_mut().unwrap();
        egress.header = egress.header.with_encapsulation_limit(limit);
        (tunnel.mtu, tunnel.overhead) = (LIMITED as u32, 48);
    }
    let lab = Lab::new(node.tables.clone());
    (node, lab)
}

fn from_pod(node: &Node, v4: bool) -> Packet {
    let (src, dst) = if v4 { (node.a.v4, "10.244.2.10") } else { (node.a.v6, "fd00:10:244:2::10") };
    Packet::new(node.a.mac, src, gateway_mac(1), dst.parse().unwrap())
}

/// Destination options of a tunnel packet, as Linux writes them.
fn options(limit: u8) -> [u8; 8] {
    [41, 0, 4, 1, limit, 1, 1, 0]
}

/// A pod's own tunnel packet to a pod of the other node: `len` bytes of IPv6, the limit among them.
fn tunnel_packet(node: &Node, limit: u8, len: usize) -> Vec<u8> {
    let inner = Packet::text(node.a.mac, "fd77::1", node.a.mac, "fd77::2");
    let inner = inner.udp((1, 2), &vec![7; len - 40 - 8 - 48]);
    from_pod(node, false).carry(60, &[&options(limit), &inner[14..]].concat())
}

/// The limit of the outer header of a frame, which holds nothing but it and the inner packet.
fn outer_limit(out: &[u8], inner: &[u8]) -> Option<u8> {
    let seen = decode(out);
    assert_eq!((seen.src_mac, seen.dst_mac), (uplink_mac(1), uplink_mac(2)));
    assert_eq!(
        (seen.src.to_string(), seen.dst.to_string()),
        ("2001:db8::1".into(), "2001:db8::2".into())
    );
    let at = out.len() - inner.len();
    // But for the hop, which has been counted down, and IPv4's checksum.
    assert_eq!(out[at..at + 4], inner[..4]);
    assert_eq!(out[at + 12..], inner[12..]);
    let protocol = if inner[0] >> 4 == 4 { 4 } else { 41 };
    match out[54..at] {
        [] => {
            assert_eq!(out[20], protocol);
            None
        }
        [next, 0, 4, 1, limit, 1, 1, 0] => {
            assert_eq!((out[20], next), (60, protocol));
            Some(limit)
        }
        ref other => panic!("{other:02x?}"),
    }
}

/// (d), (e): as configured. The other node takes it off.
#[test]
fn a_configured_limit_is_in_every_outer_header() {
    let other = Node::new(2, Via::Ipip6);
    for limit in [None, Some(0), Some(4), Some(255)] {
        let (node, mut lab) = lab(limit);
        for v4 in [true, false] {
            let frame = from_pod(&node, v4).udp((1, 2), b"a payload");
            let out = lab.pass(node.a.port, &frame, node.uplink);
            assert_eq!(outer_limit(&out, &frame[14..]), limit);
            let there = Lab::new(other.tables.clone()).pass(other.uplink, &out, other.a.port);
            assert_eq!(decode(&there).payload, b"a payload");
        }
    }
}

/// (c): one less than the packet's, whatever is configured.
#[test]
fn a_packets_own_limit_is_counted_down() {
    for configured in [None, Some(4)] {
        for limit in [1, 2, 255] {
            let (node, mut lab) = lab(configured);
            let frame = tunnel_packet(&node, limit, 300);
            let out = lab.pass(node.a.port, &frame, node.uplink);
            assert_eq!(outer_limit(&out, &frame[14..]), Some(limit - 1));
        }
        // Options without a limit are none.
        let (node, mut lab) = lab(configured);
        let frame = from_pod(&node, false).carry(60, &[[17, 0, 1, 4, 0, 0, 0, 0], [0; 8]].concat());
        let out = lab.pass(node.a.port, &frame, node.uplink);
        assert_eq!(outer_limit(&out, &frame[14..]), configured);
    }
}

/// (b): with nothing left of its limit a packet enters no tunnel of RFC 2473, and its sender is told
/// where that stands.
#[test]
fn a_spent_limit_stops_the_packet() {
    for configured in [None, Some(4)] {
        let (node, mut lab) = lab(configured);
        let first = tunnel_packet(&node, 0, 300);
        let hop_by_hop = [60, 0, 1, 4, 0, 0, 0, 0];
        let second = from_pod(&node, false).carry(0, &[&hop_by_hop, &first[54..]].concat());
        for (frame, at) in [(first, 44), (second, 52)] {
            let (reason, port, told) = lab.refused(node.a.port, &frame);
            assert_eq!((reason, port), (DropReason::EncapsulationLimit, node.a.port));
            let seen = decode(&told);
            assert_eq!((seen.icmp, seen.echo), ((4, 0), (0, at)), "RFC 4443 section 3.4");
            assert_eq!(seen.payload, frame[14..], "quoted as it was received");
            assert_eq!(seen.src.to_string(), "fd00:10:244:1::1");
        }
        // A hop that has run out comes first: it does on every router.
        let mut late = tunnel_packet(&node, 0, 300);
        late[21] = 1;
        assert_eq!(lab.refused(node.a.port, &late).0, DropReason::TtlExceeded);
    }
    // Not in these: VXLAN carries frames, the others are no tunnels in IPv6.
    for via in [Via::Vxlan4, Via::Vxlan6, Via::Ipip4, Via::Native] {
        let node = Node::new(1, via);
        let frame = tunnel_packet(&node, 0, 300);
        let out = Lab::new(node.tables.clone()).pass(node.a.port, &frame, node.uplink);
        assert!(out.ends_with(&frame[22..]), "{via:?}: carried as it is");
    }
}

/// The option takes its eight bytes, from every packet or from those that bring one.
#[test]
fn the_option_takes_room() {
    for (configured, usual) in [(None, PLAIN), (Some(4), LIMITED)] {
        for v4 in [true, false] {
            let (node, mut lab) = lab(configured);
            let headers = if v4 { 28 } else { 48 };
            let packet = |size: usize| from_pod(&node, v4).udp((1, 2), &vec![7; size - headers]);
            assert_eq!(lab.pass(node.a.port, &packet(usual), node.uplink).len(), 9014);
            let (reason, _, told) = lab.refused(node.a.port, &packet(usual + 1));
            let code = if v4 { (3, 4) } else { (2, 0) };
            assert_eq!(reason, DropReason::MtuExceeded);
            assert_eq!((decode(&told).icmp, decode(&told).echo), (code, (0, usual as u16)));
        }
        let (node, mut lab) = lab(configured);
        let whole = tunnel_packet(&node, 9, LIMITED);
        assert_eq!(lab.pass(node.a.port, &whole, node.uplink).len(), 9014);
        let (_, _, told) = lab.refused(node.a.port, &tunnel_packet(&node, 9, LIMITED + 1));
        assert_eq!((decode(&told).icmp, decode(&told).echo), ((2, 0), (0, LIMITED as u16)));
    }
    // What may be cut up is, into pieces that have room.
    let (node, mut lab) = lab(Some(4));
    let frame = from_pod(&node, true).may_fragment(7).udp((1, 2), &[7; 20_000]);
    let sent = lab.receive(node.a.port, &frame).sent;
    assert!(sent.len() > 2 && sent.iter().all(|(_, piece)| piece[54..59] == [4, 0, 4, 1, 4]));
}

/// An error of the underlay about `outer`, a frame of node 1.
fn complaint((kind, code): (u8, u8), rest: u32, outer: &[u8]) -> Vec<u8> {
    let router = Packet::text(uplink_mac(2), "2001:db8:1::1", uplink_mac(1), "2001:db8::1");
    let packet = &outer[14..];
    let quoted = &packet[..packet.len().min(1232)];
    router.icmp(&[&[kind, code, 0, 0], &rest.to_be_bytes(), quoted].concat())
}

/// RFC 2473 section 8: another tunnel of the underlay found the limit of ours spent. To the inner sender
/// the destination is unreachable; what else the underlay finds wrong with our header is not for it.
#[test]
fn the_underlay_finds_the_limit_spent() {
    for (limit, code, at, told) in [
        (Some(0), 0, 44, Some((1, 3))),
        (Some(1), 0, 44, None),
        (Some(0), 1, 44, None),
        (Some(0), 0, 40, None),
        (None, 0, 44, None),
    ] {
        let (node, mut lab) = lab(limit);
        let outer = lab.pass(node.a.port, &from_pod(&node, false).udp((1, 2), b""), node.uplink);
        let outcome = lab.receive(node.uplink, &complaint((4, code), at, &outer));
        assert_eq!(outcome.drops, [(DropReason::UnderlayError, 1)]);
        let seen = outcome.sent.first().map(|(port, frame)| {
            assert_eq!(*port, node.a.port);
            decode(frame).icmp
        });
        assert_eq!(seen, told, "limit {limit:?}, code {code}, pointer {at}");
    }
}

/// The inner MTU that a narrower path leaves counts the option, whoever put it there.
#[test]
fn a_lower_path_mtu() {
    for (configured, limit, inner_mtu) in
        [(None, None, 1360), (None, Some(5), 1352), (Some(4), None, 1352), (Some(4), Some(5), 1352)]
    {
        let (node, mut lab) = lab(configured);
        let frame = match limit {
            Some(limit) => tunnel_packet(&node, limit, 1400),
            None => from_pod(&node, false).udp((1, 2), &[7; 1352]),
        };
        let outer = lab.pass(node.a.port, &frame, node.uplink);
        let (reason, port, told) = lab.refused(node.uplink, &complaint((2, 0), 1400, &outer));
        assert_eq!((reason, port), (DropReason::UnderlayError, node.a.port));
        assert_eq!((decode(&told).icmp, decode(&told).echo), ((2, 0), (0, inner_mtu)));
        let (_, _, told) = lab.refused(node.a.port, &frame);
        assert_eq!(decode(&told).echo, (0, inner_mtu), "and so from now on");
    }
}
