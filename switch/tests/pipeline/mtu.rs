//! The maximum segment size in SYNs (RFC 9293 section 3.7.1, RFC 6691).

use crate::kit::{Lab, Node, Packet, Via, decode, gateway_mac, host_mac, uplink_mac};
use etherparse::{PacketBuilder, TcpOptionElement};
use std::sync::Arc;
use switch::{PortId, tables::Router};

/// A SYN (or another segment) with these options.
fn segment(packet: &Packet, syn: bool, options: &[TcpOptionElement]) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(packet.src_mac.0, packet.dst_mac.0);
    let builder = match (packet.src, packet.dst) {
        (std::net::IpAddr::V4(s), std::net::IpAddr::V4(d)) => {
            builder.ipv4(s.octets(), d.octets(), 64)
        }
        (std::net::IpAddr::V6(s), std::net::IpAddr::V6(d)) => {
            builder.ipv6(s.octets(), d.octets(), 64)
        }
        _ => panic!("addresses of two families"),
    };
    let builder = builder.tcp(1234, 80, 1, 1000);
    let builder = if syn { builder.syn() } else { builder.ack(7) };
    let mut out = Vec::new();
    builder.options(options).unwrap().write(&mut out, b"").unwrap();
    out
}

/// The MSS of a frame, every checksum verified.
fn mss(frame: &[u8]) -> Option<u16> {
    decode(frame);
    let packet = etherparse::SlicedPacket::from_ethernet(frame).unwrap();
    let Some(etherparse::TransportSlice::Tcp(tcp)) = packet.transport else { panic!("not TCP") };
    tcp.options_iterator().flatten().find_map(|option| match option {
        TcpOptionElement::MaximumSegmentSize(mss) => Some(mss),
        _ => None,
    })
}

fn clamping(via: Via, clamp: bool) -> (Node, Lab) {
    let node = Node::with(1, via, |net| net.max_frame(PortId(2), 1014));
    let mut tables = node.tables.clone();
    let router: &mut Router = Arc::make_mut(tables.router.as_mut().unwrap());
    router.clamp_mss = clamp;
    (node, Lab::new(tables))
}

const MSS: [TcpOptionElement; 1] = [TcpOptionElement::MaximumSegmentSize(20_000)];

#[test]
fn out_through_a_tunnel_and_back_in() {
    for (via, mtu) in [
        (Via::Vxlan4, 8950),
        (Via::Vxlan6, 8930),
        (Via::Ipip4, 8980),
        (Via::Ipip6, 8960),
        (Via::Native, 9000),
    ] {
        let ((one, mut from), (two, mut to)) = (clamping(via, true), {
            let two = Node::new(2, via);
            let lab = Lab::new(two.tables.clone());
            (two, lab)
        });
        for (src, dst, headers) in [(one.a.v4, two.a.v4, 40), (one.a.v6, two.a.v6, 60)] {
            // Our SYN out: clamped here, whatever the other node does.
            let syn = Packet::new(one.a.mac, src, gateway_mac(1), dst);
            let wire = from.pass(one.a.port, &segment(&syn, true, &MSS), one.uplink);
            let inner = to.pass(two.uplink, &wire, two.a.port);
            assert_eq!(mss(&inner), Some(mtu - headers), "{via:?}");
            // Their SYN-ACK in: clamped here too.
            let answer = Packet::new(two.a.mac, dst, gateway_mac(2), src);
            let wire = to.pass(two.a.port, &segment(&answer, true, &MSS), two.uplink);
            let inner = from.pass(one.uplink, &wire, one.a.port);
            assert_eq!(mss(&inner), Some(mtu - headers), "{via:?}, back");
        }
    }
}

#[test]
fn to_and_from_narrow_ports_and_the_node() {
    let (node, mut lab) = clamping(Via::Vxlan4, true);
    let syn = |from: (encap::Mac, std::net::IpAddr), dst| {
        segment(&Packet::new(from.0, from.1, gateway_mac(1), dst), true, &MSS)
    };
    let (a, b) = (&node.a, &node.b);
    for (a_ip, b_ip, headers) in [(a.v4, b.v4, 40), (a.v6, b.v6, 60)] {
        let out = lab.pass(a.port, &syn((a.mac, a_ip), b_ip), b.port);
        assert_eq!(mss(&out), Some(1000 - headers), "the way there");
        let out = lab.pass(b.port, &syn((b.mac, b_ip), a_ip), a.port);
        assert_eq!(mss(&out), Some(1000 - headers), "the way back");
    }
    let out = lab.pass(b.port, &syn((b.mac, b.v4), "198.18.0.1".parse().unwrap()), node.host);
    assert_eq!(mss(&out), Some(960), "to the node");
    let narrow = Node::with(1, Via::Vxlan4, |net| net.max_frame(PortId(0), 914));
    let mut tables = narrow.tables.clone();
    Arc::make_mut(tables.router.as_mut().unwrap()).clamp_mss = true;
    let to_node = syn((a.mac, a.v4), "198.18.0.1".parse().unwrap());
    let out = Lab::new(tables).pass(a.port, &to_node, narrow.host);
    assert_eq!(mss(&out), Some(860), "what the host port carries");
    let from_node = (host_mac(1), "198.18.0.1".parse().unwrap());
    assert_eq!(mss(&lab.pass(node.host, &syn(from_node, b.v4), b.port)), Some(960));
}

/// Segments without SYN, smaller offers, none at all, later fragments, and the switch without the
/// option: as they were.
#[test]
fn what_is_left_alone() {
    use TcpOptionElement::{MaximumSegmentSize, Noop, WindowScale};
    let (node, mut lab) = clamping(Via::Vxlan4, true);
    let (_, mut without) = clamping(Via::Vxlan4, false);
    let packet = Packet::new(node.a.mac, node.a.v4, gateway_mac(1), node.b.v4);
    let small = [MaximumSegmentSize(500)];
    let options = [Noop, WindowScale(7)];
    let later = packet.clone().fragment(10, true).carry(6, &segment(&packet, true, &MSS)[34..]);
    for (frame, clamps) in [
        (segment(&packet, false, &MSS), true),
        (segment(&packet, true, &small), true),
        (segment(&packet, true, &options), true),
        (later, true),
        (segment(&packet, true, &MSS), false),
    ] {
        let lab = if clamps { &mut lab } else { &mut without };
        let out = lab.pass(node.a.port, &frame, node.b.port);
        assert_eq!(out[26..], frame[26..], "behind the checksum nothing changes");
    }
    // At an odd offset the checksum changes in another way.
    let frame = segment(&packet, true, &[Noop, MaximumSegmentSize(20_000), WindowScale(3)]);
    assert_eq!(mss(&lab.pass(node.a.port, &frame, node.b.port)), Some(960));
    let frame = Packet::text(uplink_mac(2), "192.0.2.2", uplink_mac(1), "192.0.2.1");
    let inner = Packet::new(node.b.mac, "10.244.2.10".parse().unwrap(), gateway_mac(1), node.a.v4);
    let seen = lab.pass(
        node.uplink,
        &crate::kit::ipip(&frame, &segment(&inner, true, &MSS)[14..]),
        node.a.port,
    );
    assert_eq!(mss(&seen), Some(8980 - 40), "what came through a tunnel goes back that way");
}
