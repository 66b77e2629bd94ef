//! ICMP errors of the underlay about tunnel packets: heeded, and passed on to the inner sender.

use crate::kit::{Lab, Node, Packet, Seen, Via, decode, gateway_mac, uplink_mac};
use std::net::IpAddr;
use switch::{DropReason, PortId};

const TUNNELS: [Via; 4] = [Via::Vxlan4, Via::Vxlan6, Via::Ipip4, Via::Ipip6];

fn overhead(via: Via) -> u32 {
    match via {
        Via::Vxlan4 => 50,
        Via::Vxlan6 => 70,
        Via::Ipip4 => 20,
        Via::Ipip6 => 40,
        Via::Native => 0,
    }
}

fn is_v4(via: Via) -> bool {
    matches!(via, Via::Vxlan4 | Via::Ipip4)
}

/// A router of the underlay, which speaks to node 1.
fn underlay_router(via: Via) -> Packet {
    if is_v4(via) {
        Packet::text(uplink_mac(2), "198.51.100.1", uplink_mac(1), "192.0.2.1")
    } else {
        Packet::text(uplink_mac(2), "2001:db8:1::1", uplink_mac(1), "2001:db8::1")
    }
}

/// An error about `outer`, a frame that node 1 sent, that quotes at most `limit` bytes.
fn error(via: Via, kind: (u8, u8), mtu: u32, outer: &[u8], limit: usize) -> Vec<u8> {
    let packet = &outer[14..];
    let mut message = vec![kind.0, kind.1, 0, 0];
    message.extend_from_slice(&mtu.to_be_bytes());
    message.extend_from_slice(&packet[..packet.len().min(limit)]);
    underlay_router(via).icmp(&message)
}

/// What routers of the underlay quote in all: RFC 1812 section 4.3.2.3, RFC 4443.
fn usual(via: Via) -> usize {
    if is_v4(via) { 548 } else { 1232 }
}

const fn too_big(via: Via) -> (u8, u8) {
    match via {
        Via::Vxlan4 | Via::Ipip4 => (3, 4),
        _ => (2, 0),
    }
}

fn lab(via: Via) -> (Node, Lab) {
    let node = Node::new(1, via);
    let lab = Lab::new(node.tables.clone());
    (node, lab)
}

fn from_pod(node: &Node, v4: bool) -> Packet {
    let (src, dst) = if v4 { (node.a.v4, "10.244.2.10") } else { (node.a.v6, "fd00:10:244:2::10") };
    Packet::new(node.a.mac, src, gateway_mac(1), dst.parse().unwrap())
}

/// Sends a packet into the tunnel and gives the error about it to the uplink: what becomes of that.
#[track_caller]
fn relayed(lab: &mut Lab, node: &Node, via: Via, kind: (u8, u8), mtu: u32, frame: &[u8]) -> Seen {
    let outer = lab.pass(node.a.port, frame, node.uplink);
    let (reason, port, told) = lab.refused(node.uplink, &error(via, kind, mtu, &outer, usual(via)));
    assert_eq!((reason, port), (DropReason::UnderlayError, node.a.port));
    let seen = decode(&told);
    let gateway = if seen.src.is_ipv4() { "10.244.1.1" } else { "fd00:10:244:1::1" };
    assert_eq!(seen.src, gateway.parse::<IpAddr>().unwrap());
    assert_eq!((seen.src_mac, seen.dst_mac), (gateway_mac(1), node.a.mac));
    // The quote is the inner packet, as it was sent: one hop less than as it was received.
    let n = seen.payload.len();
    assert!(n >= 28);
    let (sent, quoted) = (&frame[14..], &seen.payload[..]);
    if seen.src.is_ipv4() {
        assert_eq!(quoted[8], sent[8] - 1);
        assert_eq!((&quoted[..8], &quoted[12..]), (&sent[..8], &sent[12..n]));
    } else {
        assert_eq!(quoted[7], sent[7] - 1);
        assert_eq!((&quoted[..7], &quoted[8..]), (&sent[..7], &sent[8..n]));
    }
    seen
}

/// RFC 2003 section 4.1 code 4, RFC 2473 section 8.1: the inner sender hears the inner MTU, at once;
/// from then on the router itself heeds it, and after ten minutes no more (RFC 1191 section 6.3).
#[test]
fn a_lower_path_mtu() {
    for via in TUNNELS {
        for v4 in [true, false] {
            let (node, mut lab) = lab(via);
            let (code, headers) = if v4 { ((3, 4), 28) } else { ((2, 0), 48) };
            let packet = |size: usize| from_pod(&node, v4).udp((1, 2), &vec![3; size - headers]);
            let inner_mtu = 1400 - overhead(via);
            let seen = relayed(&mut lab, &node, via, too_big(via), 1400, &packet(1450));
            assert_eq!((seen.icmp, seen.echo), (code, (0, inner_mtu as u16)), "{via:?}");

            lab.advance(599);
            let (reason, _, told) = lab.refused(node.a.port, &packet(inner_mtu as usize + 1));
            assert_eq!(reason, DropReason::MtuExceeded);
            assert_eq!(decode(&told).echo, (0, inner_mtu as u16));
            let out = lab.pass(node.a.port, &packet(inner_mtu as usize), node.uplink);
            assert_eq!(out.len(), 1414, "fills the path's MTU: {via:?}");

            lab.advance(1);
            assert_eq!(
                lab.pass(node.a.port, &packet(1450), node.uplink).len(),
                1464 + overhead(via) as usize
            );
        }
    }
}

/// Without DF the sender need not know: from now on its packets are cut up.
#[test]
fn a_lower_path_mtu_for_who_lets_fragment() {
    for via in TUNNELS {
        let (node, mut lab) = lab(via);
        let frame = from_pod(&node, true).may_fragment(9).udp((1, 2), &[3; 1422]);
        let outer = lab.pass(node.a.port, &frame, node.uplink);
        let error = error(via, too_big(via), 1400, &outer, usual(via));
        assert_eq!(lab.dropped(node.uplink, &error), DropReason::UnderlayError);
        let outcome = lab.receive(node.a.port, &frame);
        assert_eq!((outcome.sent.len(), outcome.originated), (2, 1), "{via:?}");
        assert!(outcome.sent.iter().all(|(_, f)| f.len() <= 1414));
    }
}

/// RFC 792 routers quote eight bytes behind the IP header: enough to learn the path's MTU.
#[test]
fn a_minimal_quote() {
    for via in [Via::Vxlan4, Via::Ipip4] {
        let (node, mut lab) = lab(via);
        let frame = from_pod(&node, true).udp((1, 2), &[3; 1422]);
        let outer = lab.pass(node.a.port, &frame, node.uplink);
        let error = error(via, (3, 4), 1400, &outer, 28);
        assert_eq!(lab.receive(node.uplink, &error).drops, [(DropReason::UnderlayError, 1)]);
        assert_eq!(lab.refused(node.a.port, &frame).0, DropReason::MtuExceeded, "{via:?}");
    }
}

/// A router older than RFC 1191 reports no MTU: the next plateau below the packet is assumed. An
/// absurd MTU is not believed.
#[test]
fn what_is_believed() {
    for (reported, assumed) in [(0, 1492), (68, 552), (1, 552), (1300, 1300)] {
        let (node, mut lab) = lab(Via::Ipip4);
        let frame = from_pod(&node, true).udp((1, 2), &[3; 1472]);
        let seen = relayed(&mut lab, &node, Via::Ipip4, (3, 4), reported, &frame);
        assert_eq!(u32::from(seen.echo.1), assumed - 20, "reported {reported}");
    }
    // A report of more than the uplink carries changes nothing.
    let (node, mut lab) = lab(Via::Ipip4);
    let frame = from_pod(&node, true).udp((1, 2), &[3; 8000]);
    let seen = relayed(&mut lab, &node, Via::Ipip4, (3, 4), 60_000, &frame);
    assert_eq!(seen.echo.1, 8980);
    // Over IPv6 a report of less than 1280 is discarded (RFC 8201 section 4).
    let (node, mut lab) = self::lab(Via::Ipip6);
    for (reported, reason) in [(1279, None), (1280, Some(1240))] {
        let outer = lab.pass(node.a.port, &frame, node.uplink);
        let error = error(Via::Ipip6, (2, 0), reported, &outer, usual(Via::Ipip6));
        let told = lab.receive(node.uplink, &error).sent;
        assert_eq!(told.first().map(|(_, told)| decode(told).echo.1), reason);
    }
}

/// RFC 2003 sections 4.1 and 4.4, RFC 2473 section 8.2.
#[test]
fn unreachable_and_time_exceeded() {
    for (via, kind, code4, code6) in [
        (Via::Vxlan4, (3, 0), (3, 0), (1, 0)),
        (Via::Ipip4, (3, 0), (3, 0), (1, 0)),
        (Via::Vxlan4, (3, 1), (3, 1), (1, 3)),
        (Via::Ipip4, (3, 1), (3, 1), (1, 3)),
        (Via::Ipip4, (3, 2), (3, 1), (1, 3)),
        (Via::Vxlan4, (3, 3), (3, 1), (1, 3)),
        (Via::Ipip4, (3, 13), (3, 1), (1, 3)),
        (Via::Vxlan4, (11, 0), (3, 1), (1, 3)),
        (Via::Ipip4, (11, 0), (3, 1), (1, 3)),
        (Via::Vxlan6, (1, 0), (3, 1), (1, 3)),
        (Via::Ipip6, (1, 3), (3, 1), (1, 3)),
        (Via::Vxlan6, (3, 0), (3, 1), (1, 3)),
        (Via::Ipip6, (3, 0), (3, 1), (1, 3)),
    ] {
        for (v4, code) in [(true, code4), (false, code6)] {
            let (node, mut lab) = lab(via);
            let frame = from_pod(&node, v4).tcp((1, 2), b"");
            let seen = relayed(&mut lab, &node, via, kind, 0, &frame);
            assert_eq!(seen.icmp, code, "{kind:?} {via:?}");
        }
    }
}

/// Source route failed, reassembly timed out: of no use to the inner sender. Nor are errors about
/// errors, or those too short to tell.
#[test]
fn what_is_not_relayed() {
    for (via, kind) in
        [(Via::Ipip4, (3, 5)), (Via::Vxlan4, (11, 1)), (Via::Ipip6, (3, 1)), (Via::Vxlan6, (3, 1))]
    {
        let (node, mut lab) = lab(via);
        let outer = lab.pass(node.a.port, &from_pod(&node, true).udp((1, 2), b""), node.uplink);
        let error = error(via, kind, 0, &outer, usual(via));
        assert_eq!(lab.dropped(node.uplink, &error), DropReason::UnderlayError, "{via:?} {kind:?}");
    }
    let (node, mut lab) = lab(Via::Ipip4);
    let inner = from_pod(&node, true).icmp(&[&[11, 0, 0, 0, 0, 0, 0, 0][..], &[0x45; 28]].concat());
    let outer = lab.pass(node.a.port, &inner, node.uplink);
    let error = error(Via::Ipip4, (3, 1), 0, &outer, 548);
    assert_eq!(lab.dropped(node.uplink, &error), DropReason::UnderlayError);
}

/// About somebody else's packets, or with a wrong checksum: nothing is learned, nobody is told.
#[test]
fn forgeries() {
    let via = Via::Vxlan4;
    let (node, mut lab) = lab(via);
    let outer = lab.pass(node.a.port, &from_pod(&node, true).udp((1, 2), &[1; 900]), node.uplink);
    let good = error(via, (3, 4), 600, &outer, 548);
    let at = 14 + 20 + 8; // the quoted IP header
    let change = |offset: usize, value: u8| {
        let mut message = good[34..].to_vec();
        message[offset - 34] = value;
        underlay_router(via).icmp(&message)
    };
    let mut flipped = good.clone();
    flipped[at + 300] ^= 1;
    for (frame, reason) in [
        (flipped, DropReason::IcmpMalformed),
        (good[..14 + 20 + 8].to_vec(), DropReason::Ipv4Malformed),
        (underlay_router(via).icmp(&[3, 4, 0, 0, 0]), DropReason::IcmpMalformed),
        (underlay_router(via).icmp(&[3, 4, 0, 0, 0, 0, 2, 88]), DropReason::NotForUs),
        (underlay_router(via).icmp(&[8, 0, 0, 0, 0, 0, 2, 88]), DropReason::NotForUs),
        (change(at + 15, 9), DropReason::NotForUs), // not our source
        (change(at + 19, 9), DropReason::NotForUs), // no peer of ours
        (change(at + 9, 6), DropReason::NotForUs),  // TCP
        (change(at + 20 + 8 + 6, 99), DropReason::NotForUs), // another VNI
        (change(at + 20 + 8, 0), DropReason::NotForUs), // no I flag: nothing that we send
        (change(at + 6, 0x01), DropReason::NotForUs), // a later fragment
    ] {
        assert_eq!(lab.dropped(node.uplink, &frame), reason);
    }
    let large = from_pod(&node, true).udp((1, 2), &[1; 900]);
    assert_eq!(
        lab.pass(node.a.port, &large, node.uplink).len(),
        outer.len(),
        "nothing was learned"
    );
}

/// A later fragment, whose first octets are whatever was in the middle of a packet, is nothing that we sent.
#[test]
fn a_quoted_later_fragment_of_ipv6() {
    let via = Via::Ipip6;
    let (node, mut lab) = lab(via);
    let outer = lab.pass(node.a.port, &from_pod(&node, false).udp((1, 2), &[1; 900]), node.uplink);
    for (offset, reason) in [(0, DropReason::UnderlayError), (8, DropReason::NotForUs)] {
        let mut fragment = outer.clone();
        fragment.splice(54..54, [41, 0, 0, offset, 0, 0, 0, 1]);
        fragment[20] = 44;
        let outcome = lab.receive(node.uplink, &error(via, (1, 3), 0, &fragment, usual(via)));
        assert_eq!(outcome.drops, [(reason, 1)]);
    }
}

/// The node's own packets to other nodes' pods come from the gateway address: it hears of them
/// through the host port.
#[test]
fn the_node_itself_is_told() {
    let (node, mut lab) = lab(Via::Vxlan4);
    let packet = Packet::text(crate::kit::host_mac(1), "10.244.1.1", gateway_mac(1), "10.244.2.10");
    let outer = lab.pass(node.host, &packet.udp((1, 2), &[1; 1400]), node.uplink);
    let error = error(Via::Vxlan4, (3, 4), 1300, &outer, 548);
    let (_, port, told) = lab.refused(node.uplink, &error);
    let seen = decode(&told);
    assert_eq!((port, seen.dst.to_string().as_str()), (node.host, "10.244.1.1"));
    assert_eq!((seen.icmp, seen.echo), ((3, 4), (0, 1250)));
}

/// Paths are the peers': a second tunnel to the same peer knows what the first one learned, also
/// through new tables.
#[test]
fn tunnels_to_one_peer_share_its_path() {
    let mut node = Node::new(1, Via::Vxlan4);
    let shared = node.tables.tunnels[0].as_ref().unwrap().path.clone();
    let other = &mut node.tables.tunnels[crate::kit::tunnels::IPIP4.index()];
    std::sync::Arc::make_mut(other.as_mut().unwrap()).path = shared;
    let mut lab = Lab::new(node.tables.clone());
    let outer = lab.pass(node.a.port, &from_pod(&node, true).udp((1, 2), &[1; 1400]), node.uplink);
    lab.refused(node.uplink, &error(Via::Vxlan4, (3, 4), 1300, &outer, 548));
    lab.tables = node.tables.clone();
    let through_ipip = Packet::text(node.a.mac, "10.244.1.10", gateway_mac(1), "10.250.2.1");
    let (_, _, told) = lab.refused(node.a.port, &through_ipip.udp((1, 2), &[1; 1400]));
    assert_eq!(decode(&told).echo, (0, 1280));
    assert_eq!(node.a.port, PortId(1));
}
