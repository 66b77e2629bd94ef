//! What the router answers itself: ARP, neighbour discovery, echo.

use crate::kit::{
    Lab, Net, Node, Packet, Via, arp, arp_request, decode, gateway_mac, ipip, neighbor_advert,
    neighbor_solicit, read_advert, uplink_mac,
};
use encap::Mac;
use etherparse::{ArpOperation, NetSlice, SlicedPacket};
use std::net::{Ipv4Addr, Ipv6Addr};
use switch::{DropReason, Location};

const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 1);
const GATEWAY6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x10, 0x244, 1, 0, 0, 0, 1);
const POD: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 10);
const POD6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x10, 0x244, 1, 0, 0, 0, 10);
const POD6_LINK: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 10);
/// Where neighbours listen for solicitations of an address that ends in `::1`, and its MAC.
const SOLICITED: (Mac, Ipv6Addr) =
    (Mac([0x33, 0x33, 0xff, 0, 0, 1]), Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 1));

fn lab() -> (Node, Lab) {
    let node = Node::new(1, Via::Vxlan4);
    let lab = Lab::new(node.tables.clone());
    (node, lab)
}

/// Asserts that `frame` is the reply of the gateway to `to`.
fn assert_arp_reply(frame: &[u8], to: (Mac, Ipv4Addr)) {
    let packet = SlicedPacket::from_ethernet(frame).unwrap();
    let Some(NetSlice::Arp(arp)) = packet.net else { panic!("not ARP") };
    assert_eq!(frame[..6], to.0.0, "Ethernet destination");
    assert_eq!(frame[6..12], gateway_mac(1).0, "Ethernet source");
    assert_eq!(arp.operation(), ArpOperation::REPLY);
    assert_eq!(arp.sender_hw_addr(), gateway_mac(1).0);
    assert_eq!(arp.sender_protocol_addr(), GATEWAY.octets());
    assert_eq!(arp.target_hw_addr(), to.0.0);
    assert_eq!(arp.target_protocol_addr(), to.1.octets());
}

#[test]
fn arp_for_the_gateway() {
    let (node, mut lab) = lab();
    let (mac, port) = (node.a.mac, node.a.port);
    let request = arp_request((mac, POD), Mac::BROADCAST, GATEWAY);
    assert_arp_reply(&lab.pass(port, &request, port), (mac, POD));
    // Asked in person, as Linux does before an entry goes stale.
    let request = arp_request((mac, POD), gateway_mac(1), GATEWAY);
    assert_arp_reply(&lab.pass(port, &request, port), (mac, POD));
    // RFC 5227: who probes for a duplicate has no address yet, and is told that this one is taken.
    let probe = arp_request((mac, Ipv4Addr::UNSPECIFIED), Mac::BROADCAST, GATEWAY);
    assert_arp_reply(&lab.pass(port, &probe, port), (mac, Ipv4Addr::UNSPECIFIED));
    assert_eq!(lab.counters.port(port).answered.get(), 3);
    // Ethernet pads to 60 bytes, and the padding is nobody's business.
    let padded = [arp_request((mac, POD), Mac::BROADCAST, GATEWAY), vec![0xaa; 18]].concat();
    assert_arp_reply(&lab.pass(port, &padded, port), (mac, POD));
}

/// RFC 1027: for a pod of another segment that it serves the router answers, unless this segment has a
/// host of that address itself.
#[test]
fn arp_for_a_pod_of_another_segment() {
    let mut net = Net::new();
    let [red, blue] = [net.segment(true), net.segment(true)];
    net.router(gateway_mac(1), &["10.9.0.254"]);
    let [asker, host] = [net.access(red), net.access(red)];
    let mac = |n| Mac([2, 0, 0, 0, 1, n]);
    net.guarded(blue, mac(7), &["10.9.0.7"]);
    net.guarded(blue, mac(8), &["10.9.0.8"]);
    net.neighbor(red, Ipv4Addr::new(10, 9, 0, 8).into(), mac(9), Location::Port(host));
    let mut lab = Lab::new(net.build());
    let me = (mac(1), Ipv4Addr::new(10, 9, 0, 1));
    let asks = |n| arp_request(me, Mac::BROADCAST, Ipv4Addr::new(10, 9, 0, n));
    let answer = lab.pass(asker, &asks(7), asker);
    assert_eq!(answer[6..12], gateway_mac(1).0);
    assert_eq!(answer[22..32], [&gateway_mac(1).0[..], &[10, 9, 0, 7]].concat());
    assert_eq!(lab.pass(asker, &asks(8), host), asks(8), "its own host is asked");
    assert_eq!(lab.pass(asker, &asks(6), host), asks(6), "who is nowhere, too");
}

#[test]
fn arp_for_others_is_bridged() {
    let (node, mut lab) = lab();
    let request = arp_request((node.a.mac, POD), Mac::BROADCAST, Ipv4Addr::new(10, 244, 1, 11));
    let sent = lab.send(node.a.port, &request);
    assert_eq!(sent, [(node.host, request.clone()), (node.b.port, request)]);
    // A gratuitous reply of a pod.
    let pod = (node.a.mac, POD);
    let claim = arp(ArpOperation::REPLY, pod, Mac::BROADCAST, pod);
    assert_eq!(lab.ports(node.a.port, &claim), [node.host, node.b.port]);
    let reply = arp(ArpOperation::REPLY, (node.a.mac, POD), gateway_mac(1), (Mac::ZERO, GATEWAY));
    assert_eq!(lab.dropped(node.a.port, &reply), DropReason::NotForUs);
}

#[test]
fn malformed_arp() {
    let (node, mut lab) = lab();
    let request = arp_request((node.a.mac, POD), Mac::BROADCAST, GATEWAY);
    for len in 14..request.len() {
        assert_eq!(lab.dropped(node.a.port, &request[..len]), DropReason::ArpMalformed);
    }
    for at in [14, 15, 16, 17, 18, 19] {
        let mut bad = request.clone();
        bad[at] ^= 0x40;
        assert_eq!(lab.dropped(node.a.port, &bad), DropReason::ArpMalformed, "byte {at}");
    }
    for sender in [Mac::ZERO, Mac::BROADCAST] {
        let mut bad = request.clone();
        bad[22..28].copy_from_slice(&sender.0);
        assert_eq!(lab.dropped(node.a.port, &bad), DropReason::ArpMalformed, "from {sender}");
    }
}

#[test]
fn neighbor_discovery_of_the_gateway() {
    let (node, mut lab) = lab();
    let (mac, port) = (node.a.mac, node.a.port);
    // Multicast from both kinds of address, and unicast: a neighbour unreachability probe.
    for src in [POD6, POD6_LINK] {
        for to in [SOLICITED, (gateway_mac(1), GATEWAY6)] {
            let reply = lab.pass(port, &neighbor_solicit((mac, src), to, GATEWAY6, 255), port);
            let seen = decode(&reply);
            assert_eq!((seen.dst_mac, seen.src_mac), (mac, gateway_mac(1)));
            assert_eq!((seen.icmp, seen.padding), ((136, 0), 0));
            let advert = read_advert(&reply);
            assert_eq!((advert.src, advert.dst, advert.hop_limit), (GATEWAY6, src, 255));
            assert_eq!((advert.target, advert.target_mac), (GATEWAY6, gateway_mac(1)));
            assert!(advert.router && advert.solicited && advert.override_cache);
        }
    }
}

/// Padding is not part of the question, not even if it fills further segments.
#[test]
fn a_padded_solicitation() {
    let (node, mut lab) = lab();
    let solicit = neighbor_solicit((node.a.mac, POD6), SOLICITED, GATEWAY6, 255);
    for padding in [1, 60, 8000] {
        let padded = [&solicit[..], &vec![0x5a; padding]].concat();
        let reply = lab.pass(node.a.port, &padded, node.a.port);
        assert_eq!(decode(&reply).padding, 0);
        assert_eq!(read_advert(&reply).target, GATEWAY6);
    }
}

/// RFC 4862 section 5.4: who asks from `::` is told on the all-nodes address.
#[test]
fn the_gateways_address_is_taken() {
    let (node, mut lab) = lab();
    let mac = node.a.mac;
    let probe = neighbor_solicit((mac, Ipv6Addr::UNSPECIFIED), SOLICITED, GATEWAY6, 255);
    let reply = lab.pass(node.a.port, &probe, node.a.port);
    assert_eq!(decode(&reply).dst_mac, Mac([0x33, 0x33, 0, 0, 0, 1]));
    let advert = read_advert(&reply);
    assert_eq!(advert.dst, "ff02::1".parse::<Ipv6Addr>().unwrap());
    assert_eq!((advert.target, advert.target_mac), (GATEWAY6, gateway_mac(1)));
    assert!(!advert.solicited, "RFC 4861 section 7.2.4: not to a multicast address");
    assert!(advert.override_cache);
}

#[test]
fn neighbor_discovery_of_others_is_bridged() {
    let (node, mut lab) = lab();
    let target: Ipv6Addr = "fd00:10:244:1::11:1".parse().unwrap();
    let solicit = neighbor_solicit((node.a.mac, POD6), SOLICITED, target, 255);
    let sent = lab.send(node.a.port, &solicit);
    assert_eq!(sent, [(node.host, solicit.clone()), (node.b.port, solicit.clone())]);
    // Whether it is valid is for its target to say (RFC 4861 section 7.1.1): a bridge passes it.
    for (at, what) in [(55, "code"), (57, "checksum"), (79, "an empty option"), (21, "hop limit")] {
        let mut bad = solicit.clone();
        bad[at] ^= 0x01;
        assert_eq!(lab.send(node.a.port, &bad).len(), 2, "{what}");
    }
    // As long as several segments.
    let mut long = [&solicit[..], &[0x9a; 8930]].concat();
    long[18..20].copy_from_slice(&(32 + 8930u16).to_be_bytes());
    assert_eq!(lab.send(node.a.port, &long).len(), 2);
    long[62..78].copy_from_slice(&GATEWAY6.octets());
    assert_eq!(lab.dropped(node.a.port, &long), DropReason::IcmpMalformed, "asks for the gateway");
}

/// RFC 4861 section 7.1.1: the hop limit proves that the sender is on the link, and the checksum is
/// not optional.
#[test]
fn an_invalid_solicitation_is_dropped() {
    let (node, mut lab) = lab();
    let from = (node.a.mac, POD6);
    let routed = neighbor_solicit(from, SOLICITED, GATEWAY6, 254);
    assert_eq!(lab.dropped(node.a.port, &routed), DropReason::IcmpMalformed);
    let good = neighbor_solicit(from, SOLICITED, GATEWAY6, 255);
    for (at, what) in [(55, "code"), (57, "checksum"), (79, "an empty option"), (80, "address")] {
        let mut bad = good.clone();
        bad[at] ^= 0x01;
        assert_eq!(lab.dropped(node.a.port, &bad), DropReason::IcmpMalformed, "{what}");
    }
    let mut short = good.clone();
    short.truncate(14 + 40 + 20);
    short[14 + 5] = 20;
    assert_eq!(lab.dropped(node.a.port, &short), DropReason::IcmpMalformed, "truncated");
    for src in ["ff0e::1", "::1"] {
        let bad = (node.a.mac, src.parse().unwrap());
        let bad = neighbor_solicit(bad, SOLICITED, GATEWAY6, 255);
        assert_eq!(lab.dropped(node.a.port, &bad), DropReason::IpAddressInvalid, "from {src}");
    }
}

/// Asserts that the gateway answers an echo request of pod a, and returns its answer.
fn ping(node: &Node, lab: &mut Lab, request: &[u8]) -> Vec<u8> {
    lab.pass(node.a.port, request, node.a.port)
}

fn to_gateway(node: &Node, v6: bool) -> Packet {
    if v6 {
        Packet::new(node.a.mac, POD6.into(), gateway_mac(1), GATEWAY6.into())
    } else {
        Packet::new(node.a.mac, POD.into(), gateway_mac(1), GATEWAY.into())
    }
}

#[test]
fn echo() {
    let (node, mut lab) = lab();
    for v6 in [false, true] {
        // Even, odd, empty; with a TTL that would not survive a router.
        for len in [0, 1, 2, 47, 56, 1472] {
            let data: Vec<u8> = (0..len).map(|i| i as u8).collect();
            let packet = to_gateway(&node, v6).ttl(1).tos(0xb8);
            let seen = decode(&ping(&node, &mut lab, &packet.echo(7, 9, &data)));
            assert_eq!((seen.src, seen.dst), (packet.dst, packet.src));
            assert_eq!((seen.src_mac, seen.dst_mac), (gateway_mac(1), node.a.mac));
            assert_eq!((seen.ttl, seen.tos), (64, 0xb8));
            assert_eq!((seen.icmp, seen.echo), ((if v6 { 129 } else { 0 }, 0), (7, 9)));
            assert_eq!((seen.payload, seen.padding), (data, 0));
        }
    }
}

#[test]
fn echo_in_a_padded_frame() {
    let (node, mut lab) = lab();
    for v6 in [false, true] {
        let request = to_gateway(&node, v6).echo(1, 2, b"");
        let padded = [request, vec![0x5a; 30]].concat();
        let seen = decode(&ping(&node, &mut lab, &padded));
        assert_eq!((seen.padding, seen.payload), (0, vec![]), "padding is trimmed, not echoed");
    }
}

#[test]
fn echo_with_ipv4_options() {
    let (node, mut lab) = lab();
    // No-operations and end of list.
    let options = [1, 1, 1, 1, 1, 1, 1, 0];
    let request = to_gateway(&node, false).options(&options).echo(3, 4, b"data");
    let seen = decode(&ping(&node, &mut lab, &request));
    assert_eq!((&seen.options[..], &seen.payload[..]), (&options[..], &b"data"[..]));
}

#[test]
fn echo_of_many_segments() {
    let (node, mut lab) = lab();
    for v6 in [false, true] {
        // Odd, so that a segment ends in the middle of a word.
        let data: Vec<u8> = (0..60_001u32).map(|i| (i * 7) as u8).collect();
        let request = to_gateway(&node, v6).echo(1, 1, &data);
        let seen = decode(&ping(&node, &mut lab, &request));
        assert!(seen.payload == data);
        let mut bad = request.clone();
        *bad.last_mut().unwrap() ^= 1;
        assert_eq!(lab.dropped(node.a.port, &bad), DropReason::IcmpMalformed);
    }
}

#[test]
fn a_corrupt_echo_request_is_not_answered() {
    let (node, mut lab) = lab();
    for v6 in [false, true] {
        let good = to_gateway(&node, v6).echo(1, 1, b"some data");
        let at = if v6 { 54 } else { 34 };
        for at in [at + 2, at + 5, good.len() - 1] {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            assert_eq!(lab.dropped(node.a.port, &bad), DropReason::IcmpMalformed, "byte {at}");
        }
        let short = to_gateway(&node, v6).carry(if v6 { 58 } else { 1 }, &[8, 0, 0]);
        assert_eq!(lab.dropped(node.a.port, &short), DropReason::IcmpMalformed);
    }
}

/// RFC 5227 section 2.4: who claims the gateway's address is not heard, and everybody is told whose it
/// is, at most every ten seconds.
#[test]
fn another_claims_the_gateways_address() {
    let (node, mut lab) = lab();
    let thief = (node.a.mac, GATEWAY);
    let members = vec![node.host, node.a.port, node.b.port];
    let nobody = (Mac::ZERO, Ipv4Addr::UNSPECIFIED);
    for claim in [
        arp(ArpOperation::REPLY, thief, Mac::BROADCAST, thief),
        arp_request(thief, Mac::BROADCAST, GATEWAY),
        arp_request(thief, Mac::BROADCAST, POD),
        // Whispered to one.
        arp(ArpOperation::REPLY, thief, node.b.mac, (node.b.mac, POD)),
    ] {
        lab.advance(10);
        let told = lab.receive(node.a.port, &claim);
        assert_eq!(told.drops, [(DropReason::GatewayConflict, 1)]);
        assert_eq!(told.sent.iter().map(|(port, _)| *port).collect::<Vec<_>>(), members);
        for (_, frame) in &told.sent {
            let truth = (gateway_mac(1), GATEWAY);
            let announcement =
                arp(ArpOperation::REQUEST, truth, Mac::BROADCAST, (Mac::ZERO, GATEWAY));
            assert_eq!(*frame, announcement);
        }
        lab.advance(9);
        assert_eq!(lab.dropped(node.a.port, &claim), DropReason::GatewayConflict, "too soon");
        lab.advance(1);
    }
    // Its own, and those of the node's interface, which has the address too.
    for mac in [gateway_mac(1), crate::kit::host_mac(1)] {
        let claim = arp(ArpOperation::REPLY, (mac, GATEWAY), Mac::BROADCAST, nobody);
        assert_eq!(lab.ports(node.host, &claim), [node.a.port, node.b.port]);
    }
}

#[test]
fn another_advertises_the_gateways_address() {
    let (node, mut lab) = lab();
    let all_nodes = (Mac([0x33, 0x33, 0, 0, 0, 1]), "ff02::1".parse().unwrap());
    let claim = |to, lladdr| neighbor_advert((node.a.mac, POD6_LINK), to, GATEWAY6, lladdr);
    for (to, lladdr) in
        [(all_nodes, Some(node.a.mac)), (all_nodes, None), ((node.b.mac, POD6), Some(node.a.mac))]
    {
        lab.advance(10);
        let told = lab.receive(node.a.port, &claim(to, lladdr));
        assert_eq!(told.drops, [(DropReason::GatewayConflict, 1)]);
        assert_eq!(told.sent.len(), 3);
        let advert = read_advert(&told.sent[0].1);
        assert_eq!((advert.target, advert.target_mac), (GATEWAY6, gateway_mac(1)));
        assert_eq!((advert.dst, advert.hop_limit), (all_nodes.1, 255));
        assert!(advert.router && advert.override_cache && !advert.solicited);
        assert_eq!(told.sent[0].1[..6], all_nodes.0.0);
        assert_eq!(lab.dropped(node.a.port, &claim(to, lladdr)), DropReason::GatewayConflict);
    }
    // Nobody believes an invalid one, and of other addresses anybody may tell.
    let mut bad = claim(all_nodes, Some(node.a.mac));
    bad[57] ^= 1;
    assert_eq!(lab.send(node.a.port, &bad).len(), 2);
    let other = neighbor_advert((node.a.mac, POD6), all_nodes, POD6, Some(node.a.mac));
    assert_eq!(lab.send(node.a.port, &other).len(), 2);
}

/// What the switch does not answer itself is the node's: other protocols, other messages, pieces of
/// a packet, which only the node reassembles.
#[test]
fn the_rest_goes_to_the_node() {
    let (node, mut lab) = lab();
    let mut frames = vec![
        to_gateway(&node, false).carry(1, &[13, 0, 0, 0, 0, 0, 0, 0]),
        to_gateway(&node, false).fragment(0, true).carry(1, &[8, 0, 0, 0, 0, 0, 0, 0]),
        to_gateway(&node, true).fragment(0, true).carry(58, &[128, 0, 0, 0, 0, 0, 0, 0]),
    ];
    for v6 in [false, true] {
        frames.push(to_gateway(&node, v6).ttl(1).tcp((1000, 22), b""));
        frames.push(to_gateway(&node, v6).udp((1000, 53), b"query"));
    }
    for frame in frames {
        let out = lab.pass(node.a.port, &frame, node.host);
        assert_eq!(out[..6], crate::kit::host_mac(1).0);
        assert_eq!(out[6..12], gateway_mac(1).0);
        assert_eq!(out[12..], frame[12..], "nothing else changes, the TTL least of all");
    }
}

/// An echo request that came out of a tunnel: the answer finds its way by the routes.
#[test]
fn echo_from_another_node() {
    for via in Via::ALL {
        let (node, peer) = (Node::new(1, via), Node::new(2, via));
        let (mut here, mut there) = (Lab::new(node.tables.clone()), Lab::new(peer.tables.clone()));
        for (src, dst) in [(peer.a.v4, GATEWAY.into()), (peer.a.v6, GATEWAY6.into())] {
            // The second does not fit one segment.
            for data in [b"hello".to_vec(), vec![7; 5000]] {
                let packet = Packet::new(peer.a.mac, src, gateway_mac(2), dst);
                let asked = there.pass(peer.a.port, &packet.echo(5, 6, &data), peer.uplink);
                let answered = here.pass(node.uplink, &asked, node.uplink);
                let got = decode(&there.pass(peer.uplink, &answered, peer.a.port));
                assert_eq!((got.src, got.dst), (packet.dst, packet.src), "{via:?}");
                assert_eq!((got.echo, got.ttl), ((5, 6), 63));
                assert!(got.payload == data);
            }
        }
    }
}

/// The reply goes to the source of the request: through the node, if that is where the route leads,
/// and nowhere if there is none.
#[test]
fn an_answer_without_a_way_back() {
    let (node, mut lab) = lab();
    let outer = Packet::text(uplink_mac(2), "192.0.2.2", uplink_mac(1), "192.0.2.1");
    let mut ask = |from: &str| {
        let inner = Packet::text(Mac::ZERO, from, Mac::ZERO, "10.244.1.1").echo(1, 1, b"x");
        lab.receive(node.uplink, &ipip(&outer, &inner[14..]))
    };
    let sent = ask("198.18.0.1").sent;
    assert_eq!(sent[0].0, node.host);
    assert_eq!(decode(&sent[0].1).dst.to_string(), "198.18.0.1");
    assert_eq!(ask("203.0.113.1").drops, [(DropReason::NoRoute, 1)]);
    assert_eq!(ask("10.251.0.1").drops, [(DropReason::NoRoute, 1)]);
    assert_eq!(ask("10.250.5.1").drops, [(DropReason::NeighborUnresolved, 1)]);
}

#[test]
fn pods_of_other_routed_segments_are_answered_for() {
    // Two segments that the router serves, whose members believe each other to be on their own link.
    let mut net = Net::new();
    let (one, two) = (net.segment(true), net.segment(true));
    net.router(gateway_mac(1), &["10.244.1.1", "fd00:10:244:1::1"]);
    let [a, _b] = [10u8, 11].map(|i| {
        let (mac, v4, v6) =
            (Mac([2, 0, 0, 0, 0, i]), format!("10.244.1.{i}"), format!("fd00:10:244:1::{i}"));
        net.guarded(if i == 10 { one } else { two }, mac, &[&v4, &v6])
    });
    let silent = net.access(one);
    let mut lab = Lab::new(net.build());
    let mac = Mac([2, 0, 0, 0, 0, 10]);
    let request = |ip| arp_request((mac, POD), Mac::BROADCAST, ip);
    let reply = lab.pass(a, &request(Ipv4Addr::new(10, 244, 1, 11)), a);
    let Some(NetSlice::Arp(arp)) = SlicedPacket::from_ethernet(&reply).unwrap().net else {
        panic!("not ARP")
    };
    assert_eq!(arp.sender_hw_addr(), gateway_mac(1).0);
    assert_eq!(arp.sender_protocol_addr(), [10, 244, 1, 11]);
    let [own, target] = [0x10, 0x11].map(|i| Ipv6Addr::new(0xfd00, 0x10, 0x244, 1, 0, 0, 0, i));
    let solicited = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 0x11);
    let to = (Mac([0x33, 0x33, 0xff, 0, 0, 0x11]), solicited);
    let reply = lab.pass(a, &neighbor_solicit((mac, own), to, target, 255), a);
    assert_eq!(read_advert(&reply).target_mac, gateway_mac(1));
    // Who is in the same segment, or nowhere, is asked in person.
    for ip in [Ipv4Addr::new(10, 244, 1, 10), Ipv4Addr::new(10, 244, 1, 99)] {
        assert_eq!(lab.ports(a, &request(ip)), [silent], "{ip}");
    }
}
