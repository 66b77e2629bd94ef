//! What the senders of packets that are not forwarded are told, read by etherparse.

use crate::kit::{
    Lab, Node, Packet, Seen, Via, decode, gateway_mac, host_mac, ipip, uplink_mac, vtep_mac, vxlan,
};
use encap::Mac;
use std::net::IpAddr;
use switch::heap::HeapFrame;
use switch::{DropReason, PortId};

fn lab(via: Via) -> (Node, Lab) {
    let node = Node::new(1, via);
    let lab = Lab::new(node.tables.clone());
    (node, lab)
}

fn from_pod(node: &Node, dst: &str) -> Packet {
    let dst: IpAddr = dst.parse().unwrap();
    let src = if dst.is_ipv4() { node.a.v4 } else { node.a.v6 };
    Packet::new(node.a.mac, src, gateway_mac(1), dst)
}

fn gateway(v4: bool) -> IpAddr {
    if v4 { "10.244.1.1".parse().unwrap() } else { "fd00:10:244:1::1".parse().unwrap() }
}

/// Asserts what every error of the router has, and that it quotes `offending` from its IP header
/// on, as much as fits.
#[track_caller]
fn check(error: &[u8], offending: &[u8]) -> Seen {
    let seen = decode(error);
    let v4 = seen.src.is_ipv4();
    assert_eq!(seen.src, gateway(v4), "from the gateway address of the family");
    assert_eq!(seen.ttl, 64);
    let (headers, max) = if v4 { (28, 576) } else { (48, 1280) };
    let packet = &offending[14..];
    let quoted = packet.len().min(max - headers);
    assert!(seen.payload == packet[..quoted], "quotes the packet as it was received");
    assert_eq!(error.len(), 14 + headers + quoted);
    assert_eq!(seen.protocol, if v4 { 1 } else { 58 });
    assert_eq!(seen.tos, if v4 { 0xc0 } else { 0 }, "RFC 1812 section 4.3.2.5");
    seen
}

/// The kind of each error, its sender and its way back: to the pod's own port, by its MAC address.
#[test]
fn each_fault_has_its_type_and_code() {
    let (node, mut lab) = lab(Via::Vxlan4);
    for (v4, v6, ttl, reason, code4, code6) in [
        ("10.244.1.11", "fd00:10:244:1::11", 1, DropReason::TtlExceeded, (11, 0), (3, 0)),
        ("10.244.1.11", "fd00:10:244:1::11", 0, DropReason::TtlExceeded, (11, 0), (3, 0)),
        ("10.244.2.10", "fd00:10:244:2::10", 1, DropReason::TtlExceeded, (11, 0), (3, 0)),
        ("203.0.113.1", "2001:db8:ffff::1", 64, DropReason::NoRoute, (3, 0), (1, 0)),
        ("10.252.0.1", "fd00:10:252::1", 64, DropReason::RouteUnreachable, (3, 1), (1, 3)),
        ("10.252.0.1", "fd00:10:252::1", 1, DropReason::RouteUnreachable, (3, 1), (1, 3)),
        ("10.253.0.1", "fd00:10:253::1", 64, DropReason::RouteProhibited, (3, 13), (1, 1)),
    ] {
        for (dst, code) in [(v4, code4), (v6, code6)] {
            let frame = from_pod(&node, dst).ttl(ttl).udp((1, 2), b"a payload");
            let (dropped, port, error) = lab.refused(node.a.port, &frame);
            assert_eq!((dropped, port), (reason, node.a.port), "{dst}");
            let seen = check(&error, &frame);
            assert_eq!(seen.icmp, code, "{dst}");
            assert_eq!((seen.src_mac, seen.dst_mac), (gateway_mac(1), node.a.mac));
            assert_eq!(seen.echo, (0, 0), "the unused field is zero");
        }
    }
}

/// RFC 1191 and RFC 8201: the next-hop MTU is what fits inside, whatever is around it.
#[test]
fn too_big_tells_the_inner_mtu() {
    for (via, mtu) in [
        (Via::Vxlan4, 8950),
        (Via::Vxlan6, 8930),
        (Via::Ipip4, 8980),
        (Via::Ipip6, 8960),
        (Via::Native, 9000),
    ] {
        let (node, mut lab) = lab(via);
        for (dst, code) in [("10.244.2.10", (3, 4)), ("fd00:10:244:2::10", (2, 0))] {
            let frame = from_pod(&node, dst).udp((1, 2), &[7; 9000]);
            let (reason, port, error) = lab.refused(node.a.port, &frame);
            assert_eq!((reason, port), (DropReason::MtuExceeded, node.a.port));
            let seen = check(&error, &frame);
            assert_eq!((seen.icmp, seen.echo), (code, (0, mtu)), "{via:?}");
        }
    }
}

/// RFC 8200 section 5: every IPv6 link carries 1280 bytes, so that less is never reported.
#[test]
fn a_narrow_link_reports_no_less_than_ipv6_allows() {
    let node = Node::with(1, Via::Vxlan4, |net| net.max_frame(PortId(2), 1014));
    let mut lab = Lab::new(node.tables.clone());
    assert_eq!(node.b.port, PortId(2));
    for (dst, mtu) in [("10.244.1.11", 1000), ("fd00:10:244:1::11", 1280)] {
        let frame = from_pod(&node, dst).udp((1, 2), &[7; 1000]);
        let (_, _, error) = lab.refused(node.a.port, &frame);
        assert_eq!(check(&error, &frame).echo, (0, mtu), "a local port of MTU 1000");
    }
}

/// As much as the size of an error allows: RFC 1812 section 4.3.2.3, RFC 4443 section 2.4 (c).
/// Padding of the frame is not part of the packet.
#[test]
fn quotes_as_much_as_it_may() {
    let (node, mut lab) = lab(Via::Vxlan4);
    for dst in ["203.0.113.1", "2001:db8:ffff::1"] {
        for len in [0, 1, 500, 519, 520, 521, 1183, 1184, 1185, 3900, 60_000] {
            let data: Vec<u8> = (0..len).map(|i| i as u8).collect();
            let frame = from_pod(&node, dst).udp((1, 2), &data);
            let padded = [&frame[..], &[0xee; 30]].concat();
            let (_, _, error) = lab.refused(node.a.port, &padded);
            check(&error, &frame);
        }
    }
    let options = [0x94, 4, 0, 0, 1, 1, 1, 1];
    let frame = from_pod(&node, "203.0.113.1").options(&options).udp((1, 2), b"data");
    check(&lab.refused(node.a.port, &frame).2, &frame);
}

/// The rules of RFC 1122 section 3.2.2, RFC 1812 section 4.3.2.7 and RFC 4443 section 2.4 (e).
#[test]
fn some_are_never_told() {
    let (node, mut lab) = lab(Via::Vxlan4);
    let v4 = || from_pod(&node, "10.244.1.11").ttl(1);
    let v6 = || from_pod(&node, "fd00:10:244:1::11").ttl(1);
    let icmp = |kind: u8| [&[kind, 0, 0, 0, 0, 0, 0, 0][..], &[0x45; 28]].concat();
    let mut silent: Vec<Vec<u8>> = [3, 4, 5, 11, 12].map(|kind| v4().icmp(&icmp(kind))).into();
    silent.extend([1, 2, 3, 4, 100, 127, 137].map(|kind| v6().icmp(&icmp(kind))));
    silent.push(v4().carry(1, &[]));
    silent.push(v6().carry(58, &[]));
    silent.push(v4().fragment(185, true).carry(17, &[1; 64]));
    silent.push(v4().fragment(185, false).carry(17, &[1; 64]));
    let nobody = Packet::text(node.a.mac, "240.0.0.1", gateway_mac(1), "10.244.1.11").ttl(1);
    silent.push(nobody.udp((1, 2), b""));
    for frame in silent {
        assert_eq!(lab.dropped(node.a.port, &frame), DropReason::TtlExceeded, "{frame:02x?}");
    }

    let mut told: Vec<Vec<u8>> = [0, 8, 13, 14].map(|kind| v4().icmp(&icmp(kind))).into();
    told.extend([128, 129].map(|kind| v6().icmp(&icmp(kind))));
    told.push(v4().fragment(0, true).carry(17, &[1; 64]));
    told.push(v6().fragment(0, true).carry(17, &[1; 64]));
    // RFC 4443 makes no exception for later fragments: that of a UDP packet is told of.
    told.push(v6().fragment(185, true).carry(17, &[1; 64]));
    for frame in told {
        check(&lab.refused(node.a.port, &frame).2, &frame);
    }
    // But whether this is an error nobody can tell.
    let later = v6().fragment(185, true).carry(58, &[128; 64]);
    assert_eq!(lab.dropped(node.a.port, &later), DropReason::TtlExceeded);
}

/// Silent by what they are: blackholes, broken packets, invalid addresses.
#[test]
fn what_is_dropped_without_a_word() {
    let (node, mut lab) = lab(Via::Vxlan4);
    for dst in ["10.251.0.1", "fd00:10:251::1", "10.250.5.1", "224.0.0.5", "127.0.0.1", "ff02::5"] {
        let frame = from_pod(&node, dst).udp((1, 2), b"");
        let outcome = lab.receive(node.a.port, &frame);
        assert!(outcome.sent.is_empty() && outcome.originated == 0, "{dst}: {outcome:?}");
    }
}

/// Routed back like any packet: what came out of a tunnel is answered into the tunnel that leads to
/// its sender, what came natively natively, what came from the node to the node.
#[test]
fn the_way_back() {
    for via in Via::ALL {
        let (node, mut lab) = lab(via);
        for (src, dst) in
            [("10.244.2.10", "10.244.1.99"), ("fd00:10:244:2::10", "fd00:10:244:1::99")]
        {
            let inner = Packet::text(vtep_mac(2), src, vtep_mac(1), dst).ttl(1).udp((1, 2), b"x");
            let outer4 = Packet::text(uplink_mac(2), "192.0.2.2", uplink_mac(1), "192.0.2.1");
            let outer6 = Packet::text(uplink_mac(2), "2001:db8::2", uplink_mac(1), "2001:db8::1");
            let frame = match via {
                Via::Vxlan4 => vxlan(&outer4, 4789, 1, &inner),
                Via::Vxlan6 => vxlan(&outer6, 8472, 6, &inner),
                Via::Ipip4 => ipip(&outer4, &inner[14..]),
                Via::Ipip6 => ipip(&outer6, &inner[14..]),
                Via::Native => [&uplink_mac(1).0[..], &uplink_mac(2).0, &inner[12..]].concat(),
            };
            let (reason, port, out) = lab.refused(node.uplink, &frame);
            assert_eq!((reason, port), (DropReason::NoRoute, node.uplink), "{via:?}");
            // What this node encapsulates, its peer takes.
            let peer = Node::new(2, via);
            let error = match via {
                Via::Native => out,
                _ => Lab::new(peer.tables.clone()).pass(peer.uplink, &out, peer.a.port),
            };
            let mut seen = decode(&error);
            assert_eq!(seen.src, gateway(seen.src.is_ipv4()));
            assert_eq!(seen.dst.to_string(), src);
            seen.payload.truncate(inner.len() - 14);
            assert!(seen.payload == inner[14..]);
        }
    }
    let (node, mut lab) = lab(Via::Vxlan4);
    let back = Packet::text(host_mac(1), "10.244.1.1", gateway_mac(1), "10.252.0.1");
    let frame = back.udp((1, 2), b"");
    let (_, port, error) = lab.refused(node.host, &frame);
    assert_eq!((port, decode(&error).dst_mac), (node.host, host_mac(1)));
    check(&error, &frame);
}

/// An error that finds no way is counted where it ends: originated and dropped.
#[test]
fn an_error_without_a_way() {
    let (node, mut lab) = lab(Via::Vxlan4);
    let outer = Packet::text(uplink_mac(2), "192.0.2.2", uplink_mac(1), "192.0.2.1");
    let inner = Packet::text(Mac::ZERO, "203.0.113.7", Mac::ZERO, "10.244.1.10");
    let frame = ipip(&outer, &inner.ttl(1).udp((1, 2), b"")[14..]);
    let outcome = lab.receive(node.uplink, &frame);
    let drops = [(DropReason::TtlExceeded, 1), (DropReason::NoRoute, 1)];
    assert_eq!((outcome.drops.as_slice(), outcome.originated), (&drops[..], 1));
    lab.budget = 0;
    let late = from_pod(&node, "10.244.1.11").ttl(1).udp((1, 2), b"");
    let outcome = lab.receive(node.a.port, &late);
    let drops = [(DropReason::NoBuffer, 1), (DropReason::TtlExceeded, 1)];
    assert_eq!((outcome.drops.as_slice(), outcome.originated), (&drops[..], 1));
}

/// RFC 4443 section 2.4 (f): a burst, then a rate; what is held back is counted.
#[test]
fn the_limit() {
    let (node, mut lab) = lab(Via::Vxlan4);
    let late = HeapFrame::new(&from_pod(&node, "10.244.1.11").ttl(1).udp((1, 2), b""));
    let mut flood = |ms: u64| {
        lab.now.0 += ms;
        let outcome = lab.process(node.a.port, vec![late.clone(); 500]);
        let held = outcome.drops.iter().find(|d| d.0 == DropReason::IcmpRateLimited);
        assert_eq!(outcome.sent.len() as u64 + held.unwrap().1, 500);
        outcome.sent.len()
    };
    assert_eq!(flood(0), 100);
    assert_eq!(flood(0), 0);
    assert_eq!(flood(20), 20);
    assert_eq!(flood(60_000), 100);
}

/// RFC 1812 section 4.3.2.8: the rate is configurable.
#[test]
fn the_limit_is_configured() {
    for (per_second, at_once) in [(0, 0), (1, 1), (20, 2), (3000, 300)] {
        let (node, mut lab) = lab(Via::Vxlan4);
        std::sync::Arc::make_mut(lab.tables.router.as_mut().unwrap()).icmp_errors = per_second;
        let late = HeapFrame::new(&from_pod(&node, "10.244.1.11").ttl(1).udp((1, 2), b""));
        let mut errors = 0;
        for _ in 0..50 {
            let told = lab.process(node.a.port, vec![late.clone(); 500]).sent.len();
            assert!(errors > 0 || told == at_once, "{per_second}: {told} at once");
            errors += told;
            lab.now.0 += 100;
        }
        let fair = at_once + per_second as usize * 49 / 10;
        assert!((fair.saturating_sub(1)..=fair).contains(&errors), "{per_second}: {errors} in 5 s");
    }
}

/// traceroute from a pod to one of another node: its own gateway, then the other's, then the pod.
/// Within a segment there is no hop.
#[test]
fn a_traceroute_shows_both_gateways() {
    for via in Via::ALL {
        let (one, two) = (Node::new(1, via), Node::new(2, via));
        let mut labs = [Lab::new(one.tables.clone()), Lab::new(two.tables.clone())];
        for (dst, gateways) in [
            ("10.244.2.10", ["10.244.1.1", "10.244.2.1"]),
            ("fd00:10:244:2::10", ["fd00:10:244:1::1", "fd00:10:244:2::1"]),
        ] {
            let probe = |ttl| from_pod(&one, dst).ttl(ttl).udp((1, 33434), b"probe");
            let (_, _, error) = labs[0].refused(one.a.port, &probe(1));
            assert_eq!(decode(&error).src.to_string(), gateways[0]);

            let on_the_wire = labs[0].pass(one.a.port, &probe(2), one.uplink);
            let (_, _, error) = labs[1].refused(two.uplink, &on_the_wire);
            let seen = decode(&labs[0].pass(one.uplink, &error, one.a.port));
            assert_eq!(seen.src.to_string(), gateways[1], "{via:?}");

            let on_the_wire = labs[0].pass(one.a.port, &probe(3), one.uplink);
            let seen = decode(&labs[1].pass(two.uplink, &on_the_wire, two.a.port));
            assert_eq!((seen.ttl, &seen.payload[..]), (1, &b"probe"[..]));
        }
    }
}
