use super::*;
use crate::kit::{tunnels, vtep_mac};
use switch::DropReason;

/// Between two ports that take them, nothing is done to a superpacket but what a router does.
#[test]
fn whole_from_tap_to_tap() {
    let node = both();
    for dst in NEAR {
        let sent = Tcp::default().frame(&from_a(&node, dst), &data(60_000));
        let outcome = lab(&node).process(node.a.port, vec![superpacket(sent.clone(), 1448)]);
        assert_eq!((outcome.gso_sizes, outcome.originated), (vec![1448], 0));
        let (port, frame) = &outcome.sent[0];
        assert_eq!((*port, frame.len()), (node.b.port, sent.len()));
        assert_eq!(frame[..6], node.b.mac.0);
        let layout = Layout::parse(frame, frame.len()).unwrap();
        assert_eq!(layout.payload_len, 60_000);
        assert_eq!(frame[layout.payload..], sent[layout.payload..]);
        let mut right = frame.clone();
        layout.fill_partial(&mut right);
        assert_eq!(*frame, right, "the checksum is still partial");
    }
}

/// A port that does not take them gets the packets.
#[test]
fn cut_up_from_tap_to_veth() {
    let node = node(Via::Vxlan4);
    for dst in NEAR {
        for (len, size) in [(60_000, 1448), (2896, 1448), (1449, 1448), (20_000, 8900), (130, 1)] {
            let packet = from_a(&node, dst).may_fragment(65_530);
            let tcp =
                Tcp { sequence: u32::MAX - 5000, flags: ACK | PSH | FIN | CWR, ..Tcp::default() };
            let sent = superpacket(tcp.frame(&packet, &data(len)), size);
            let outcome = lab(&node).process(node.a.port, vec![sent]);
            let n = len.div_ceil(usize::from(size));
            assert_eq!((outcome.sent.len(), outcome.originated), (n, n as u64 - 1));
            assert_eq!(outcome.gso_sizes, vec![0; n]);
            assert_eq!(payloads(&outcome.sent), data(len));
            for (i, (port, frame)) in outcome.sent.iter().enumerate() {
                assert_eq!(*port, node.b.port);
                let seen = decode(frame);
                assert_eq!((seen.ttl, seen.padding), (63, 0));
                assert!(seen.payload.len() == usize::from(size) || i + 1 == n);
                let mut flags = ACK;
                if i == 0 {
                    flags |= CWR;
                }
                if i + 1 == n {
                    flags |= PSH | FIN;
                }
                let sequence = tcp.sequence.wrapping_add((i * usize::from(size)) as u32);
                assert_eq!(Tcp::of(frame), Tcp { sequence, flags, ..tcp }, "segment {i}");
                if dst.contains('.') {
                    let ident = u16::from_be_bytes([frame[18], frame[19]]);
                    assert_eq!(ident, 65_530u16.wrapping_add(i as u16));
                }
            }
        }
    }
}

/// The urgent pointer is counted from the sequence number (RFC 6093 section 3.1).
#[test]
fn urgent_data() {
    let node = node(Via::Vxlan4);
    let tcp = Tcp { flags: ACK | URG, urgent: 250, ..Tcp::default() };
    let sent = superpacket(tcp.frame(&from_a(&node, NEAR[0]), &data(400)), 100);
    let outcome = lab(&node).process(node.a.port, vec![sent]);
    let seen = outcome.sent.iter().map(|(_, f)| Tcp::of(f)).map(|t| (t.flags, t.urgent));
    let expected = [(ACK | URG, 250), (ACK | URG, 150), (ACK | URG, 50), (ACK, 0)];
    assert_eq!(seen.collect::<Vec<_>>(), expected);
}

/// Datagrams keep their bounds, and have a checksum each, also one whose sum is zero.
#[test]
fn datagrams() {
    let node = node(Via::Vxlan4);
    for dst in NEAR {
        let packet = from_a(&node, dst);
        let sent = superpacket(packet.udp((7, 9), &data(4500)), 1000);
        let outcome = lab(&node).process(node.a.port, vec![sent]);
        let lens: Vec<_> = outcome.sent.iter().map(|(_, f)| decode(f).payload.len()).collect();
        assert_eq!(lens, [1000, 1000, 1000, 1000, 500]);
        assert_eq!(payloads(&outcome.sent), data(4500));
        assert!(outcome.sent.iter().all(|(_, f)| decode(f).has_checksum));
        // A payload that makes the sum of the first datagram zero.
        let one = packet.udp((7, 9), &[0; 8]);
        let at = one.len() - 10;
        let sum = [one[at], one[at + 1]];
        let payload = [&sum[..], &[0; 14]].concat();
        let outcome =
            lab(&node).process(node.a.port, vec![superpacket(packet.udp((7, 9), &payload), 8)]);
        let first = &outcome.sent[0].1;
        assert_eq!(first[at..at + 2], [0xff, 0xff], "none is zero");
        decode(first);
    }
}

/// Into every kind of tunnel as packets, each within the MTU of the tunnel.
#[test]
fn cut_up_before_a_tunnel() {
    for via in Via::ALL {
        let node = node(via);
        for dst in FAR {
            let tcp = Tcp::default();
            let sent = superpacket(tcp.frame(&from_a(&node, dst), &data(60_000)), 1400);
            let outcome = lab(&node).process(node.a.port, vec![sent]);
            assert_eq!(outcome.sent.len(), 43, "{via:?}");
            let mut payload = Vec::new();
            for (port, frame) in &outcome.sent {
                assert_eq!(*port, node.uplink);
                assert!(frame.len() < 1600);
                let outer = decode(frame);
                let inner = match via {
                    Via::Vxlan4 | Via::Vxlan6 => outer.vxlan().1.to_vec(),
                    Via::Ipip4 | Via::Ipip6 => {
                        let kind = if dst.contains(':') { [0x86, 0xdd] } else { [8, 0] };
                        [&[0; 12], &kind[..], &outer.payload].concat()
                    }
                    Via::Native => frame.clone(),
                };
                let seen = decode(&inner);
                assert_eq!((seen.protocol, seen.ttl), (6, 63));
                payload.extend(seen.payload);
            }
            assert_eq!(payload, data(60_000));
        }
    }
}

/// In a bridged segment, too, and when it is flooded.
#[test]
fn cut_up_before_a_bridged_tunnel_and_by_flooding() {
    let node = Node::with(1, Via::Vxlan4, |net| net.offload(PortId(3)));
    let tap = node.blue_ports[0];
    assert_eq!(tap, PortId(3));
    let packet = Packet::text(encap::Mac([2; 6]), "10.0.0.1", vtep_mac(2), "10.0.0.2");
    let sent = || superpacket(Tcp::default().frame(&packet, &data(5000)), 1000);
    let mut lab = lab(&node);
    // Not known yet: to the other port and both tunnels.
    let outcome = lab.process(tap, vec![sent()]);
    assert_eq!((outcome.sent.len(), outcome.originated), (15, 14));
    lab.fdb.learn(
        node.blue,
        packet.dst_mac,
        switch::Location::Tunnel(tunnels::BLUE),
        lab.now.seconds(),
        300,
    );
    let outcome = lab.process(tap, vec![sent()]);
    assert_eq!((outcome.sent.len(), outcome.originated), (5, 4));
    let inner: Vec<_> =
        outcome.sent.iter().map(|(p, f)| (*p, decode(f).vxlan().1.to_vec())).collect();
    assert_eq!(payloads(&inner), data(5000));
}

/// Sizes are those of the packets that result, not that of the superpacket.
#[test]
fn a_superpacket_is_as_large_as_its_packets() {
    for dst in NEAR {
        let (node, too_narrow) = [1500, 1499]
            .map(|mtu| {
                Node::with(1, Via::Vxlan4, |net| {
                    net.offload(PortId(1));
                    net.offload(PortId(2));
                    net.max_frame(PortId(2), mtu + 14);
                })
            })
            .into();
        let headers = if dst.contains(':') { 72 } else { 52 };
        let sent = || {
            let frame = Tcp::default().frame(&from_a(&node, dst), &data(10_000));
            superpacket(frame, 1500 - headers)
        };
        let outcome = lab(&node).process(node.a.port, vec![sent()]);
        assert_eq!((outcome.gso_sizes.len(), outcome.drops), (1, vec![]));
        // Its sender is told, once, and of its first packet.
        let outcome = lab(&too_narrow).process(node.a.port, vec![sent()]);
        assert_eq!(outcome.drops, [(DropReason::MtuExceeded, 1)]);
        assert_eq!((outcome.sent.len(), outcome.gso_sizes), (1, vec![0]));
        let error = decode(&outcome.sent[0].1);
        let quoted = &error.payload[..];
        let len = |b: &[u8]| usize::from(u16::from_be_bytes([b[0], b[1]]));
        if dst.contains(':') {
            assert_eq!((error.icmp, len(&quoted[4..])), ((2, 0), 1460));
        } else {
            assert_eq!((error.icmp, len(&quoted[2..])), ((3, 4), 1500));
            // The quote is long enough to hold the checksum.
            let sum = etherparse::Ipv4Header::from_slice(quoted).unwrap().0;
            assert_eq!(sum.header_checksum, sum.calc_header_checksum());
        }
    }
}

/// What may be fragmented is cut up first, and then each packet.
#[test]
fn datagrams_are_fragmented_each_for_itself() {
    let node = Node::with(1, Via::Vxlan4, |net| {
        net.offload(PortId(1));
        net.max_frame(PortId(2), 1014);
    });
    let packet = from_a(&node, NEAR[0]).may_fragment(9);
    let sent = superpacket(packet.udp((7, 9), &data(2800)), 1400);
    let outcome = lab(&node).process(node.a.port, vec![sent]);
    assert_eq!((outcome.sent.len(), outcome.originated), (4, 3));
    let idents: Vec<_> = outcome.sent.iter().map(|(_, f)| f[19]).collect();
    assert_eq!(idents, [9, 9, 10, 10]);
    // The datagrams put together again.
    for (pair, part) in outcome.sent.chunks(2).zip(data(2800).chunks(1400)) {
        let whole = [&pair[0].1[34..], &pair[1].1[34..]].concat();
        assert_eq!(whole[8..], *part);
        let datagram = packet.carry(17, &whole);
        decode(&datagram);
    }
}

/// Towards the node's kernel, and by a next hop on the underlay.
#[test]
fn other_ways_out() {
    let node = node(Via::Native);
    for (dst, port) in [("198.18.0.9", node.host), ("2001:2::9", node.host), (FAR[0], node.uplink)]
    {
        let sent = superpacket(Tcp::default().frame(&from_a(&node, dst), &data(5000)), 1000);
        let outcome = lab(&node).process(node.a.port, vec![sent]);
        assert!(outcome.sent.iter().all(|(to, _)| *to == port));
        assert_eq!(payloads(&outcome.sent), data(5000));
    }
    // No hops are left: one error about the first packet.
    let late = superpacket(Tcp::default().frame(&from_a(&node, FAR[0]).ttl(1), &data(5000)), 1000);
    let outcome = lab(&node).process(node.a.port, vec![late]);
    assert_eq!((outcome.drops, outcome.sent.len()), (vec![(DropReason::TtlExceeded, 1)], 1));
    let quoted = decode(&outcome.sent[0].1).payload;
    assert_eq!(u16::from_be_bytes([quoted[2], quoted[3]]), 1052);
}

/// Wherever the buffers run out, what could be sent is, and the rest is one drop.
#[test]
fn out_of_buffers() {
    for (via, size) in [(Via::Vxlan4, 1000), (Via::Native, 1000), (Via::Native, 8000)] {
        let node = node(via);
        for dst in [NEAR[0], FAR[0]] {
            let n = 24_000 / usize::from(size);
            let buffers = if size == 8000 { 3 } else { 1 };
            for budget in 0..n * buffers {
                let mut lab = lab(&node);
                lab.budget = budget;
                let frame = Tcp::default().frame(&from_a(&node, dst), &data(24_000));
                let outcome = lab.process(node.a.port, vec![superpacket(frame, size)]);
                assert_eq!(outcome.drops, [(DropReason::NoBuffer, 1)]);
                assert_eq!(outcome.sent.len(), budget / buffers);
            }
        }
    }
}
