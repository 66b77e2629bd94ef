//! Properties of the pipeline under any frame: well made, damaged, or noise.
//!
//! The strategies are boxed: nested by value they do not fit a test thread's stack.

use crate::kit::{
    Lab, Net, Node, Packet, UPLINK_MAX_FRAME, Via, arp_request, decode, fill_checksum, gateway_mac,
    ipip, neighbor_advert, neighbor_solicit, policed, uplink_mac, vtep_mac, vxlan,
};
use encap::Mac;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use switch::PortId;
use switch::heap::HeapFrame;
use switch::tables::OuterPolicy;

/// MAC addresses that mean something to node 1, and some that do not.
fn mac() -> BoxedStrategy<Mac> {
    prop_oneof![
        4 => select(vec![
            gateway_mac(1),
            vtep_mac(1),
            vtep_mac(2),
            uplink_mac(1),
            uplink_mac(2),
            Mac([2, 0, 0, 1, 0, 10]),
            Mac([2, 0, 0, 1, 0, 11]),
            Mac([2, 0, 0, 0, 7, 1]),
            Mac([2, 0, 0, 0, 7, 2]),
            Mac([2, 0, 0, 0, 7, 20]),
            Mac([2, 0, 0, 0, 7, 21]),
            Mac::BROADCAST,
            Mac([0x33, 0x33, 0, 0, 0, 1]),
            Mac([1, 0x80, 0xc2, 0, 0, 0]),
            // Its key in the FDB is that of no address.
            Mac([1, 0, 0, 0, 0, 0]),
        ]),
        1 => any::<[u8; 6]>().prop_map(Mac),
    ]
    .boxed()
}

fn v4() -> BoxedStrategy<IpAddr> {
    let known = [
        "10.244.1.1",
        "10.244.1.10",
        "10.244.1.11",
        "10.244.1.20",
        "10.244.1.21",
        "10.244.2.10",
        "10.250.0.1",
        "10.250.1.1",
        "10.250.2.1",
        "10.250.3.1",
        "10.250.4.1",
        "10.250.5.1",
        "10.250.6.1",
        "10.250.7.1",
        "10.251.0.1",
        "10.252.0.1",
        "198.18.0.1",
        "203.0.113.1",
        "127.0.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "0.0.0.0",
        "192.0.2.1",
        "192.0.2.2",
        "192.0.2.3",
        "192.0.2.99",
        "169.254.0.1",
    ];
    let known: Vec<IpAddr> = known.iter().map(|ip| ip.parse().unwrap()).collect();
    prop_oneof![8 => select(known), 1 => any::<Ipv4Addr>().prop_map(IpAddr::V4)].boxed()
}

fn v6() -> BoxedStrategy<IpAddr> {
    let known = [
        "fd00:10:244:1::1",
        "fd00:10:244:1::10",
        "fd00:10:244:1::11",
        "fd00:10:244:1::20",
        "fd00:10:244:1::21",
        "fd00:10:244:2::10",
        "fd00:10:250:0::1",
        "fd00:10:250:1::1",
        "fd00:10:250:2::1",
        "fd00:10:250:3::1",
        "fd00:10:250:4::1",
        "fd00:10:250:5::1",
        "fd00:10:250:6::1",
        "fd00:10:250:7::1",
        "fd00:10:251::1",
        "2001:2::1",
        "::1",
        "::",
        "ff02::1",
        "fe80::1",
        "2001:db8::1",
        "2001:db8::2",
        "2001:db8::99",
    ];
    let known: Vec<IpAddr> = known.iter().map(|ip| ip.parse().unwrap()).collect();
    prop_oneof![8 => select(known), 1 => any::<Ipv6Addr>().prop_map(IpAddr::V6)].boxed()
}

/// Headers of one family.
fn headers() -> BoxedStrategy<Packet> {
    let addresses = prop_oneof![(v4(), v4()), (v6(), v6())];
    let rest = (
        prop_oneof![4 => Just(64u8), 1 => any::<u8>()],
        any::<u8>(),
        prop_oneof![4 => Just(0usize), 1 => 0..=10usize],
        prop_oneof![8 => Just(None), 1 => (0u16..100, any::<bool>()).prop_map(Some)],
    );
    (mac(), mac(), addresses, rest)
        .prop_map(|(src_mac, dst_mac, (src, dst), (ttl, tos, options, fragment))| {
            let mut packet = Packet::new(src_mac, src, dst_mac, dst).ttl(ttl).tos(tos);
            packet.options = vec![1; 4 * options];
            packet.fragment = fragment;
            packet
        })
        .boxed()
}

fn payload() -> BoxedStrategy<Vec<u8>> {
    prop_oneof![
        8 => vec(any::<u8>(), 0..120),
        1 => (3700usize..9100).prop_map(|n| vec![0xa5; n]),
    ]
    .boxed()
}

/// A frame that some host could have sent.
fn plain() -> BoxedStrategy<Vec<u8>> {
    prop_oneof![
        (headers(), any::<(u16, u16)>(), payload()).prop_map(|(h, p, data)| h.udp(p, &data)),
        (headers(), any::<(u16, u16)>(), payload()).prop_map(|(h, p, data)| h.tcp(p, &data)),
        (headers(), any::<(u16, u16)>(), payload())
            .prop_map(|(h, p, data)| h.echo(p.0, p.1, &data)),
        (headers(), any::<u8>(), payload()).prop_map(|(h, p, data)| h.carry(p, &data)),
        (mac(), v4(), mac(), v4()).prop_map(|(m, s, to, t)| match (s, t) {
            (IpAddr::V4(s), IpAddr::V4(t)) => arp_request((m, s), to, t),
            _ => unreachable!(),
        }),
        (mac(), v6(), mac(), v6(), v6(), select(vec![255u8, 64])).prop_map(
            |(m, s, to, d, t, hops)| match (s, d, t) {
                (IpAddr::V6(s), IpAddr::V6(d), IpAddr::V6(t)) => {
                    neighbor_solicit((m, s), (to, d), t, hops)
                }
                _ => unreachable!(),
            }
        ),
        (mac(), mac(), any::<u16>(), payload())
            .prop_map(|(d, s, ty, data)| { [&d.0[..], &s.0, &ty.to_be_bytes(), &data].concat() }),
        vec(any::<u8>(), 0..200),
    ]
    .boxed()
}

/// A frame in a tunnel of node 1, or nearly so.
fn tunnelled() -> BoxedStrategy<Vec<u8>> {
    let outer = (select(vec![false, true]), select(vec![2u8, 2, 2, 3, 99]), 0u8..4).prop_map(
        |(six, n, tos)| {
            let (src, dst) = if six {
                (format!("2001:db8::{n}"), "2001:db8::1")
            } else {
                (format!("192.0.2.{n}"), "192.0.2.1")
            };
            Packet::text(uplink_mac(2), &src, uplink_mac(1), dst).tos(tos)
        },
    );
    let port = select(vec![4789u16, 4789, 8472, 53]);
    let vni = select(vec![1u32, 6, 100, 200, 7, 999]);
    (outer, port, vni, plain(), any::<bool>())
        .prop_map(|(outer, port, vni, inner, is_ipip)| {
            if is_ipip && inner.len() > 14 && inner.len() < 60_000 {
                ipip(&outer, &inner[14..])
            } else {
                vxlan(&outer, port, vni, &inner)
            }
        })
        .boxed()
}

/// What happens to frames on bad cables and at the hands of bad people.
#[derive(Clone, Debug)]
enum Damage {
    Flip(Index, u8),
    Truncate(Index),
    Extend(u8),
    Remove(Index),
}

fn damage() -> BoxedStrategy<Damage> {
    prop_oneof![
        3 => (any::<Index>(), 0u8..8).prop_map(|(at, bit)| Damage::Flip(at, bit)),
        1 => any::<Index>().prop_map(Damage::Truncate),
        1 => (1u8..100).prop_map(Damage::Extend),
        1 => any::<Index>().prop_map(Damage::Remove),
    ]
    .boxed()
}

fn apply(mut frame: Vec<u8>, damages: &[Damage]) -> Vec<u8> {
    for damage in damages {
        if frame.is_empty() {
            break;
        }
        // Headers are hit more often than their share: all of it lies in the first bytes.
        let near = |at: &Index, n: usize| at.index(n).min(at.index(120.min(n)));
        match damage {
            Damage::Flip(at, bit) => {
                let at = near(at, frame.len());
                frame[at] ^= 1 << bit;
            }
            Damage::Truncate(at) => frame.truncate(near(at, frame.len())),
            Damage::Extend(n) => frame.extend(std::iter::repeat_n(0xee, usize::from(*n))),
            Damage::Remove(at) => {
                frame.remove(near(at, frame.len()));
            }
        }
    }
    frame
}

fn frame() -> BoxedStrategy<Vec<u8>> {
    let damages = prop_oneof![2 => Just(Vec::new()), 3 => vec(damage(), 1..4)];
    (prop_oneof![plain(), tunnelled()], damages).prop_map(|(frame, d)| apply(frame, &d)).boxed()
}

/// What must hold for every frame that leaves, whatever came in.
fn assert_sane(lab: &Lab, node: &Node, ingress: PortId, input: &[u8], to: PortId, output: &[u8]) {
    let port = lab.tables.port(to).expect("a port that exists");
    assert!(output.len() >= 14, "no Ethernet header");
    assert!(output.len() <= port.max_frame as usize, "too large for its port");
    let from_bridge = node.blue_ports.contains(&ingress) || node.green_ports.contains(&ingress);
    if to == node.uplink {
        assert!(output.len() <= UPLINK_MAX_FRAME as usize);
        assert_eq!((&output[..6], &output[6..12]), (&uplink_mac(2).0[..], &uplink_mac(1).0[..]));
        // Every length and checksum of what we put on the underlay is right.
        let outer = outer(output);
        if from_bridge {
            assert_eq!(outer.vxlan().1, input, "the frame inside is the one that came");
        }
    } else if from_bridge {
        assert_eq!(output, input, "a bridged frame changed");
        assert_ne!(to, ingress);
    }
}

/// Decodes the headers that the switch itself wrote or changed. A natively routed packet carries an
/// upper layer that is its sender's business, so that only its IP header is looked at.
fn outer(frame: &[u8]) -> crate::kit::Seen {
    let ours = match frame[12..14] {
        [0x08, 0] => [[192, 0, 2, 2], [192, 0, 2, 3]].contains(frame[30..].first_chunk().unwrap()),
        _ => frame[38..42] == [0x20, 0x01, 0x0d, 0xb8],
    };
    if ours {
        return decode(frame);
    }
    let mut header_only = frame.to_vec();
    // Protocol 253 is for experiments (RFC 3692): nothing to decode.
    if frame[14] >> 4 == 4 {
        let h = etherparse::Ipv4Header::from_slice(&frame[14..]).unwrap().0;
        assert_eq!(h.header_checksum, h.calc_header_checksum());
        header_only[23] = 253;
        fill_checksum(&mut header_only);
    } else {
        header_only[20] = 253;
    }
    decode(&header_only)
}

fn ports(node: &Node) -> Vec<PortId> {
    (0..node.tables.ports.len()).map(|n| PortId(n as u16)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    /// Any frames, in any order, on any ports: nothing panics, every frame is accounted for (the
    /// lab sees to that), and what leaves makes sense.
    #[test]
    fn every_frame_is_accounted_for(
        via in select(Via::ALL.to_vec()),
        budget in prop_oneof![4 => Just(usize::MAX), 1 => 0usize..4],
        frames in vec((any::<Index>(), frame(), 0u64..400), 1..12),
    ) {
        let node = Node::with(1, via, policed);
        let mut lab = Lab::new(node.tables.clone());
        lab.budget = budget;
        let ports = ports(&node);
        for (port, frame, wait) in frames {
            // Tunnel packets mostly reach the uplink, where they belong.
            let port = if frame.get(30..34) == Some(&[192, 0, 2, 1]) { node.uplink } else { *port.get(&ports) };
            lab.advance(wait);
            for (to, output) in lab.receive(port, &frame).sent {
                assert_sane(&lab, &node, port, &frame, to, &output);
            }
        }
    }

    /// A batch is the sum of its frames: together they fare as they do one by one.
    #[test]
    fn a_batch_is_the_sum_of_its_frames(
        port in any::<Index>(),
        frames in vec(frame(), 1..20),
    ) {
        let node = Node::new(1, Via::Vxlan4);
        let (mut one, mut all) = (Lab::new(node.tables.clone()), Lab::new(node.tables.clone()));
        let port = *port.get(&ports(&node));
        let apart: Vec<_> = frames.iter().flat_map(|f| one.receive(port, f).sent).collect();
        let together = all.process(port, frames.iter().map(|f| HeapFrame::new(f)).collect()).sent;
        prop_assert_eq!(apart, together);
    }

    /// What one node puts into a segment comes out at the other one bit for bit, whatever it is.
    #[test]
    fn a_segment_carries_any_frame_unchanged(
        green in any::<bool>(),
        dst in mac().prop_filter("forwarded", |m| !encap::ethernet::is_bridge_reserved(m.to_u64())
            && *m != vtep_mac(2)),
        src in any::<[u8; 6]>().prop_map(Mac).prop_filter("a source", |m| m.is_valid_source()),
        rest in vec(any::<u8>(), 2..1500),
    ) {
        prop_assume!(dst != src);
        let (here, there) = (Node::new(1, Via::Vxlan4), Node::new(2, Via::Vxlan4));
        let (mut one, mut two) = (Lab::new(here.tables.clone()), Lab::new(there.tables.clone()));
        let (from, to) = if green {
            (here.green_ports[0], there.green_ports)
        } else {
            (here.blue_ports[0], there.blue_ports)
        };
        let frame = [&dst.0[..], &src.0, &rest].concat();
        let sent = one.send(from, &frame);
        let carried = &sent.iter().find(|s| s.0 == here.uplink).expect("flooded to the peer").1;
        let got = two.send(there.uplink, carried);
        prop_assert_eq!(got, to.map(|port| (port, frame.clone())));
    }

    /// A routed packet arrives with two hops less, other MAC addresses and nothing else changed.
    #[test]
    fn a_routed_packet_arrives_as_it_was_sent(
        via in select(Via::ALL.to_vec()),
        v6 in any::<bool>(),
        ttl in 3u8..,
        tos in any::<u8>(),
        options in 0usize..=10,
        protocol in any::<u8>(),
        data in payload(),
        padding in 0usize..60,
    ) {
        let (here, there) = (Node::new(1, via), Node::new(2, via));
        let (mut one, mut two) = (Lab::new(here.tables.clone()), Lab::new(there.tables.clone()));
        let (src, dst) = if v6 { (here.a.v6, there.a.v6) } else { (here.a.v4, there.a.v4) };
        let mut packet = Packet::new(here.a.mac, src, gateway_mac(1), dst).ttl(ttl).tos(tos);
        packet.options = vec![1; 4 * options];
        let frame = packet.carry(protocol, &data);
        prop_assume!(frame.len() < 8900);
        let padded = [&frame[..], &vec![0xdd; padding]].concat();
        let carried = one.pass(here.a.port, &padded, here.uplink);
        let got = two.pass(there.uplink, &carried, there.a.port);

        let mut want = frame;
        want[..6].copy_from_slice(&there.a.mac.0);
        want[6..12].copy_from_slice(&gateway_mac(2).0);
        if v6 {
            want[21] -= 2;
        } else {
            want[22] -= 2;
            fill_checksum(&mut want);
        }
        prop_assert_eq!(got, want);
    }

    /// Tables that the usual way was not derived from send every frame the general way: it comes to the
    /// same, whichever way a frame takes.
    #[test]
    fn the_usual_way_leads_where_the_general_one_does(
        via in select(Via::ALL.to_vec()),
        more in prop_oneof![
            4 => select(vec![plain_net as fn(&mut Net), policed, clamping]),
            1 => select(vec![large as fn(&mut Net), large_and_clamping]),
        ],
        outer in prop_oneof![4 => Just(None), 1 => outer_policy().prop_map(Some)],
        path_mtu in prop_oneof![4 => Just(None), 1 => (600u32..9100).prop_map(Some)],
        batches in vec((any::<Index>(), vec(prop_oneof![usual(), frame()], 1..12), 0u64..400), 1..8),
        alone: bool,
    ) {
        let node = Node::with(1, via, more);
        let mut tables = node.tables.clone();
        if let Some(outer) = outer {
            for tunnel in tables.tunnels.iter_mut().flatten() {
                Arc::make_mut(tunnel).outer = outer.clone();
            }
        }
        let (mut quick, mut slow) = (Lab::new(tables.clone()), Lab::general(tables));
        if let Some(mtu) = path_mtu {
            for tunnel in node.tables.tunnels.iter().flatten() {
                tunnel.path.learn(mtu, quick.now.seconds());
            }
        }
        let ports = ports(&node);
        for (port, frames, wait) in batches {
            let of_tunnel = |f: &Vec<u8>| f.get(30..34) == Some(&[192, 0, 2, 1]);
            let (tunnel, other): (Vec<_>, Vec<_>) = frames.into_iter().partition(of_tunnel);
            for (port, mut frames) in [(*port.get(&ports), other), (node.uplink, tunnel)] {
                // What was learned of a frame is known of the next one like it.
                frames.extend_from_within(..);
                for frames in frames.chunks(if alone { 1 } else { frames.len().max(1) }) {
                    let batch = || frames.iter().map(|f| HeapFrame::new(f)).collect::<Vec<_>>();
                    prop_assert_eq!(quick.process(port, batch()), slow.process(port, batch()));
                }
            }
            quick.advance(wait);
            slow.advance(wait);
        }
    }
}

fn plain_net(_: &mut Net) {}

fn clamping(net: &mut Net) {
    policed(net);
    net.clamp_mss();
}

fn large(net: &mut Net) {
    net.many_routes();
}

fn large_and_clamping(net: &mut Net) {
    clamping(net);
    net.many_routes();
}

/// A neighbour advertisement for the gateway's address.
fn claim(from: Mac, to: Mac) -> Vec<u8> {
    let [gateway, all] = ["fd00:10:244:1::1", "ff02::1"].map(|ip| ip.parse().unwrap());
    neighbor_advert((from, "fe80::7".parse().unwrap()), (to, all), gateway, Some(from))
}

/// What is not the default of an outer header.
fn outer_policy() -> BoxedStrategy<OuterPolicy> {
    (any::<bool>(), prop_oneof![Just(None), (0u8..64).prop_map(Some)], 1u16..1000)
        .prop_map(|(dont_fragment, dscp, first)| OuterPolicy {
            dont_fragment,
            dscp,
            source_ports: first..=2 * first,
        })
        .boxed()
}

/// A frame that takes the usual way once its source is known, or nearly so.
fn usual() -> BoxedStrategy<Vec<u8>> {
    let pods = select(vec![(0u8, 10u8), (0, 11), (7, 1), (7, 2), (7, 20)]);
    let pod = |(kind, i): (u8, u8)| Mac([2, 0, 0, if kind == 0 { 1 } else { 0 }, kind, i]);
    let to = prop_oneof![
        3 => Just(gateway_mac(1)),
        1 => Just(vtep_mac(1)),
        3 => pods.clone().prop_map(pod),
        1 => mac(),
        1 => Just(Mac([1, 0, 0, 0, 0, 0])),
    ];
    let pods_v4 =
        ["10.244.1.10", "10.244.1.11", "10.244.2.10", "10.250.0.7", "10.250.7.9", "11.0.3.1"];
    let pods_v6 = ["fd00:10:244:1::10", "fd00:10:244:1::11", "fd00:10:244:2::10"];
    let hops_v6 = ["fd00:10:250:0::7", "fd00:10:250:4::9", "fd00:10:250:7::1"];
    let known = |ips: &[&str]| select(ips.iter().map(|ip| ip.parse().unwrap()).collect::<Vec<_>>());
    let dst = prop_oneof![
        3 => known(&pods_v4),
        3 => known(&[pods_v6, hops_v6].concat()),
        1 => v4(),
        1 => v6(),
    ];
    let rest = (select(vec![64u8, 2, 1, 0]), any::<u8>(), any::<(u16, u16)>(), 0usize..1600);
    (pods, to, dst, rest, 0u8..10, any::<(bool, u8)>())
        .prop_map(move |(from, to, dst, (ttl, tos, ports, len), kind, (fits, outer_tos))| {
            // Now and then another's address.
            let own = if outer_tos & 0x0c == 0 { from.1 ^ 1 } else { from.1 };
            let src = match dst {
                IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::new(10, 244, 1, own)),
                IpAddr::V6(_) => format!("fd00:10:244:1::{own}").parse().unwrap(),
            };
            let packet = Packet::new(pod(from), src, to, dst).ttl(ttl).tos(tos);
            let data = vec![0x5a; len];
            let inner = match kind / 2 {
                0 => packet.udp(ports, &data),
                1 => packet.tcp(ports, &data),
                2 => packet.syn(ports, 65_000),
                3 => packet.fragment(8 * (ports.0 % 3), true).udp(ports, &data),
                _ => claim(pod(from), to),
            };
            if kind & 1 == 0 {
                return inner;
            }
            let outer = Packet::text(uplink_mac(2), "192.0.2.2", uplink_mac(1), "192.0.2.1");
            let mut outer = outer.tos(outer_tos & 3);
            if outer_tos >> 4 == 0 {
                outer = outer.fragment(0, true);
            }
            if fits {
                vxlan(&outer, 4789, if len % 2 == 0 { 100 } else { 1 }, &inner)
            } else {
                ipip(&outer, &inner[14..])
            }
        })
        .boxed()
}
