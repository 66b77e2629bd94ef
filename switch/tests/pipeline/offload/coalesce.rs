use super::*;
use crate::kit::{ipip, uplink_mac, vtep_mac, vxlan};

/// Segments of one flow, of `size` bytes each, on their way from a far pod to pod a, as its node
/// receives them.
pub fn flow(node: &Node, far: &str, len: usize, size: usize) -> Vec<Vec<u8>> {
    let dst = if far.contains(':') { node.a.v6 } else { node.a.v4 };
    let packet = Packet::new(vtep_mac(2), far.parse().unwrap(), vtep_mac(1), dst);
    let bytes = data(len);
    let parts = bytes.chunks(size).enumerate();
    parts
        .map(|(i, part)| {
            let sequence = 1000 + (i * size) as u32;
            Tcp { sequence, ..Tcp::default() }.frame(&packet, part)
        })
        .collect()
}

/// The same in a tunnel.
pub fn tunnelled(via: Via, frames: &[Vec<u8>]) -> Vec<HeapFrame> {
    let outer4 = Packet::text(uplink_mac(2), "192.0.2.2", uplink_mac(1), "192.0.2.1");
    let outer6 = Packet::text(uplink_mac(2), "2001:db8::2", uplink_mac(1), "2001:db8::1");
    let wrap = |frame: &Vec<u8>| match via {
        Via::Vxlan4 => vxlan(&outer4, 4789, 1, frame),
        Via::Vxlan6 => vxlan(&outer6, 8472, 6, frame),
        Via::Ipip4 => ipip(&outer4, &frame[14..]),
        Via::Ipip6 => ipip(&outer6, &frame[14..]),
        Via::Native => [&uplink_mac(1).0, &uplink_mac(2).0, &frame[12..]].concat(),
    };
    frames.iter().map(|frame| HeapFrame::new(&wrap(frame))).collect()
}

/// What a superpacket stands for, cut up by the switch's own code, each packet valid: its payload.
pub fn unfolded(frame: &[u8], size: u16) -> Vec<u8> {
    if size == 0 {
        return decode(frame).payload;
    }
    let layout = Layout::parse(frame, frame.len()).unwrap();
    let mut right = frame.to_vec();
    layout.fill_partial(&mut right);
    assert_eq!(right, frame, "a partial checksum");
    // Completed, it is a packet that etherparse takes for valid.
    let sum = encap::checksum::Sum::ZERO.bytes(&right[layout.header..]).checksum();
    right[layout.checksum_at()..layout.checksum_at() + 2].copy_from_slice(&sum.to_be_bytes());
    decode(&right).payload
}

/// What the batch becomes at pod a's port: size and payload of each frame.
fn merged(node: &Node, from: PortId, batch: Vec<HeapFrame>) -> Vec<(u16, Vec<u8>)> {
    let outcome = lab(node).process(from, batch);
    assert_eq!(outcome.drops, []);
    let frames = outcome.sent.iter().zip(&outcome.gso_sizes);
    frames
        .map(|((to, frame), &size)| {
            assert_eq!(*to, node.a.port);
            (size, unfolded(frame, size))
        })
        .collect()
}

pub fn sizes(frames: &[(u16, Vec<u8>)]) -> Vec<(u16, usize)> {
    frames.iter().map(|(size, payload)| (*size, payload.len())).collect()
}

#[test]
fn out_of_every_tunnel() {
    for via in Via::ALL {
        let node = node(via);
        for far in FAR {
            let batch = tunnelled(via, &flow(&node, far, 40_000, 1400));
            let outcome = lab(&node).process(node.uplink, batch.clone());
            assert_eq!((outcome.gso_sizes, outcome.coalesced), (vec![1400], 28), "{via:?}");
            let whole = merged(&node, node.uplink, batch);
            assert_eq!(whole, [(1400, data(40_000))]);
        }
    }
}

/// To a port that does not take them each goes as it is.
#[test]
fn not_to_other_ports() {
    let node = Node::with(1, Via::Vxlan4, |net| net.offload(PortId(2)));
    let batch = tunnelled(Via::Vxlan4, &flow(&node, FAR[0], 40_000, 1400));
    let outcome = lab(&node).process(node.uplink, batch);
    assert_eq!((outcome.gso_sizes, outcome.coalesced), (vec![0; 29], 0));
    assert_eq!(payloads(&outcome.sent), data(40_000));
}

/// No superpacket is longer than an IP packet can be.
#[test]
fn at_most_65535_bytes() {
    let node = node(Via::Native);
    for (far, headers) in [(FAR[0], 52), (FAR[1], 72)] {
        let frames = tunnelled(Via::Native, &flow(&node, far, 100_000, 1400));
        let most = (65_535 - headers) / 1400 * 1400;
        let seen = merged(&node, node.uplink, frames);
        assert_eq!(sizes(&seen), [(1400, most), (1400, 100_000 - most)]);
        // Small ones: a bounded number.
        let frames = tunnelled(Via::Native, &flow(&node, far, 2000, 10));
        let seen = merged(&node, node.uplink, frames);
        assert_eq!(sizes(&seen), [(10, 1280), (10, 720)]);
    }
}

/// A batch of the flow with one segment changed: what results. `change` gets the fields and the packet
/// of the third of six segments of 100 bytes.
fn with_one_changed(
    far: &str,
    change: impl Fn(&mut Tcp, &mut Packet, &mut Vec<u8>),
) -> Vec<(u16, usize)> {
    let node = node(Via::Native);
    let dst = if far.contains(':') { node.a.v6 } else { node.a.v4 };
    let mut frames = Vec::new();
    for i in 0..6u32 {
        let mut packet = Packet::new(uplink_mac(2), far.parse().unwrap(), uplink_mac(1), dst);
        let mut tcp = Tcp { sequence: 1000 + 100 * i, ..Tcp::default() };
        let mut payload = vec![i as u8; 100];
        if i == 2 {
            change(&mut tcp, &mut packet, &mut payload);
        }
        frames.push(HeapFrame::new(&tcp.frame(&packet, &payload)));
    }
    let seen = merged(&node, node.uplink, frames);
    let payload: Vec<u8> = seen.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
    assert!(payload.is_sorted(), "the order within the flow");
    sizes(&seen)
}

/// What differs is not merged, and nothing of the flow passes it.
#[test]
fn only_what_says_the_same() {
    let all = [(100, 600)];
    let apart = [(100, 200), (0, 100), (100, 300)];
    for far in FAR {
        assert_eq!(with_one_changed(far, |_, _, _| ()), all);
        // Control bits.
        for flag in [FIN, SYN, RST, URG, ECE, CWR] {
            assert_eq!(with_one_changed(far, |t, _, _| t.flags |= flag), apart, "{flag:#x}");
        }
        assert_eq!(with_one_changed(far, |t, _, _| t.flags = 0), apart);
        // Pushed: the last of its superpacket.
        let pushed = [(100, 300), (100, 300)];
        assert_eq!(with_one_changed(far, |t, _, _| t.flags |= PSH), pushed);
        // What the header says else.
        assert_eq!(with_one_changed(far, |t, _, _| t.ack += 1), apart);
        assert_eq!(with_one_changed(far, |t, _, _| t.window += 1), apart);
        assert_eq!(with_one_changed(far, |t, _, _| t.urgent += 1), apart);
        assert_eq!(with_one_changed(far, |t, _, _| t.sequence += 1), apart);
        assert_eq!(with_one_changed(far, |t, _, _| t.sequence -= 100), apart);
        assert_eq!(with_one_changed(far, |_, p, _| p.tos = 4), apart);
        assert_eq!(with_one_changed(far, |_, p, _| p.ttl = 63), apart);
        // Sizes: a smaller one is the last, a larger one is none of them.
        assert_eq!(with_one_changed(far, |_, _, b| b.truncate(99)), [(100, 299), (100, 300)]);
        assert_eq!(with_one_changed(far, |_, _, b| b.push(2)), [(100, 200), (0, 101), (100, 300)]);
        assert_eq!(with_one_changed(far, |_, _, b| b.clear()), [(100, 200), (0, 0), (100, 300)]);
    }
    // IPv4: may be fragmented, options. Their identification says nothing.
    assert_eq!(with_one_changed(FAR[0], |_, p, _| p.may_fragment = true), apart);
    assert_eq!(with_one_changed(FAR[0], |_, p, _| p.options = vec![1; 4]), apart);
    assert_eq!(with_one_changed(FAR[0], |_, p, _| p.ident = 9), all);
}

/// A window that was larger once, a flow label: of the first segment of a run.
#[test]
fn flow_labels_and_options_are_compared() {
    let node = node(Via::Native);
    let frames = flow(&node, FAR[1], 300, 100);
    for at in [17, 14 + 40 + 20 + 7] {
        let mut batch = frames.clone();
        for frame in &mut batch {
            frame[..12].copy_from_slice(&[uplink_mac(1).0, uplink_mac(2).0].concat());
        }
        batch[2][at] ^= 1;
        if at > 17 {
            // The checksum put right.
            let sum = u16::from_be_bytes([batch[2][70], batch[2][71]]);
            let word = if at % 2 == 0 { 0x100 } else { 1 };
            let (old, new) = (batch[2][at] ^ 1, batch[2][at]);
            let change = |byte: u8| u16::from(byte) * word;
            let sum = encap::checksum::update_u16(sum, change(old), change(new));
            batch[2][70..72].copy_from_slice(&sum.to_be_bytes());
        }
        let batch = batch.iter().map(|f| HeapFrame::new(f)).collect();
        let seen = merged(&node, node.uplink, batch);
        assert_eq!(sizes(&seen), [(100, 200), (0, 100)], "byte {at}");
    }
}

/// A segment that was damaged on the way is not merged with others: it reaches the receiver as it is,
/// who finds it damaged.
#[test]
fn damaged_segments_stay_alone() {
    for via in [Via::Vxlan4, Via::Native] {
        let node = node(via);
        for far in FAR {
            for bad in 0..4 {
                let mut frames = flow(&node, far, 400, 100);
                let last = frames[bad].len() - 1;
                frames[bad][last] ^= 0x10;
                let outcome = lab(&node).process(node.uplink, tunnelled(via, &frames));
                assert_eq!(outcome.drops, []);
                let expected: &[u16] = match bad {
                    0 => &[0, 100],
                    1 => &[0, 0, 100],
                    2 => &[100, 0, 0],
                    _ => &[100, 0],
                };
                assert_eq!(outcome.gso_sizes, expected, "{far} {bad}");
                let damaged = outcome.sent.iter().filter(|(_, f)| f.ends_with(&frames[bad][54..]));
                assert_eq!(damaged.count(), 1, "as it came");
            }
        }
    }
}

/// Several flows at once, each in its order, between other packets; more than are kept open, too.
#[test]
fn flows_that_are_interleaved() {
    let node = node(Via::Native);
    for flows in [2u16, 8, 9, 20] {
        let mut batch = Vec::new();
        for i in 0..10u32 {
            for flow in 0..flows {
                let far = format!("10.244.2.{}", 20 + flow);
                let packet = Packet::text(uplink_mac(2), &far, uplink_mac(1), "10.244.1.10");
                let tcp = Tcp { sequence: 100 * i, ..Tcp::default() };
                batch.push(HeapFrame::new(&tcp.frame(&packet, &[i as u8; 100])));
            }
            let packet = Packet::text(uplink_mac(2), FAR[0], uplink_mac(1), "10.244.1.10");
            batch.push(HeapFrame::new(&packet.udp((1, 2), &[i as u8; 100])));
        }
        let outcome = lab(&node).process(node.uplink, batch);
        for flow in 0..flows {
            let of_flow = outcome.sent.iter().zip(&outcome.gso_sizes);
            let of_flow = of_flow.filter(|((_, f), _)| f[23] == 6 && f[29] == 20 + flow as u8);
            let payload: Vec<u8> = of_flow.flat_map(|((_, f), &s)| unfolded(f, s)).collect();
            let expected: Vec<u8> = (0..10).flat_map(|i| [i; 100]).collect();
            assert_eq!(payload, expected, "flow {flow} of {flows}");
        }
        if flows <= 8 {
            assert_eq!(outcome.coalesced, 9 * u64::from(flows));
        }
        let datagrams = outcome.sent.iter().filter(|(_, f)| f[23] == 17).count();
        assert_eq!(datagrams, 10, "UDP is not merged");
    }
}

/// A flow's fragments, and what is flooded or answered in between, do not let it pass.
#[test]
fn nothing_of_a_flow_passes_what_came_before() {
    let node = node(Via::Native);
    let packet = || Packet::text(uplink_mac(2), FAR[0], uplink_mac(1), "10.244.1.10");
    let frames = flow(&node, FAR[0], 400, 100);
    let native = |i: usize| [&uplink_mac(1).0, &uplink_mac(2).0, &frames[i][12..]].concat();
    let fragment = packet().fragment(0, true).carry(6, &frames[2][34..]);
    let batch = [native(0), native(1), fragment, native(2), native(3)];
    let batch = batch.iter().map(|f| HeapFrame::new(f)).collect();
    let outcome = lab(&node).process(node.uplink, batch);
    assert_eq!(outcome.gso_sizes, [100, 0, 100]);
}

/// The pieces of a superpacket, sent to a port that takes none, received by one that does: what a
/// tunnel between two nodes does.
#[test]
fn there_and_back() {
    for via in Via::ALL {
        let here = node(via);
        let there = Node::with(2, via, |net| net.offload(PortId(1)));
        for dst in FAR {
            let tcp = Tcp { flags: ACK | PSH, ..Tcp::default() };
            let sent = tcp.frame(&from_a(&here, dst), &data(50_000));
            let outcome = lab(&here).process(here.a.port, vec![superpacket(sent, 1400)]);
            assert_eq!(outcome.sent.len(), 36);
            let batch = outcome.sent.iter().map(|(_, f)| HeapFrame::new(f)).collect();
            let arrived = lab(&there).process(there.uplink, batch);
            assert_eq!(arrived.gso_sizes, [1400], "{via:?} {dst}");
            let (port, frame) = &arrived.sent[0];
            assert_eq!(*port, there.a.port);
            assert_eq!(Tcp::of(frame), tcp);
            assert_eq!(unfolded(frame, 1400), data(50_000));
        }
    }
}
