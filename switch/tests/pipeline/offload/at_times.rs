//! Ports that take superpackets at times: segments merged for them, and cut up again where they are refused.

use super::coalesce::{flow, sizes, tunnelled, unfolded};
use super::*;
use crate::kit::{Outcome, uplink_mac};
use proptest::collection::vec;
use proptest::prelude::*;
use std::sync::Arc;
use switch::tables::TokenBucket;

const A: PortId = PortId(1);

/// A node whose pod a takes superpackets at times.
fn at_times(via: Via) -> Node {
    Node::with(1, via, |net| net.coalesce(A))
}

/// The same, which takes none.
fn never(via: Via) -> Node {
    Node::with(1, via, |_| ())
}

/// What becomes of a batch when the port answers so.
fn answered(node: &Node, answers: &[bool], batch: Vec<HeapFrame>) -> Outcome {
    let mut lab = lab(node);
    lab.answers = answers.into();
    lab.process(node.uplink, batch)
}

/// Segments of a flow to pod a, natively routed, payload and control bits given.
fn native(far: &str, segments: &[(u32, &[u8], u8)]) -> Vec<HeapFrame> {
    let of = |&(sequence, payload, flags): &(u32, &[u8], u8)| {
        let packet = Packet::text(uplink_mac(2), far, uplink_mac(1), "10.244.1.10");
        HeapFrame::new(&Tcp { sequence, flags, ..Tcp::default() }.frame(&packet, payload))
    };
    segments.iter().map(of).collect()
}

#[test]
fn out_of_every_tunnel() {
    for via in Via::ALL {
        let node = at_times(via);
        for far in FAR {
            let batch = tunnelled(via, &flow(&node, far, 40_000, 1400));
            let outcome = lab(&node).process(node.uplink, batch);
            assert_eq!((&outcome.gso_sizes[..], outcome.coalesced), (&[1400][..], 28), "{via:?}");
            assert_eq!(unfolded(&outcome.sent[0].1, 1400), data(40_000));
        }
    }
}

/// What is given back is cut up into what had come; the identifications of packets that must not be
/// fragmented, which mean nothing, are counted up.
#[test]
fn what_is_given_back_goes_as_its_packets() {
    for far in FAR {
        let batch = tunnelled(Via::Vxlan4, &flow(&at_times(Via::Vxlan4), far, 40_000, 1400));
        let node = at_times(Via::Vxlan4);
        let expected = answered(&never(Via::Vxlan4), &[], batch.clone());
        let outcome = answered(&node, &[true, false], batch);
        assert_eq!((outcome.coalesced, outcome.originated), (28, 28));
        assert_eq!(outcome.gso_sizes, [0; 29]);
        let without_ident = |outcome: &Outcome| -> Vec<Vec<u8>> {
            let clear = |frame: &Vec<u8>| {
                decode(frame);
                let mut frame = frame.clone();
                if frame[12] == 8 {
                    frame[18..20].fill(0);
                    frame[24..26].fill(0);
                }
                frame
            };
            outcome.sent.iter().map(|(_, frame)| clear(frame)).collect()
        };
        assert_eq!(without_ident(&outcome), without_ident(&expected), "{far}");
    }
}

/// Nothing is merged for a port that would not have it.
#[test]
fn not_while_the_port_says_no() {
    let node = at_times(Via::Native);
    let batch = tunnelled(Via::Native, &flow(&node, FAR[0], 5000, 1000));
    let outcome = answered(&node, &[false], batch);
    assert_eq!((outcome.gso_sizes, outcome.coalesced), (vec![0; 5], 0));
}

/// A port that says yes and then no within a batch: what was merged before leaves first. A frame for the host
/// stands between.
#[test]
fn a_port_that_changes_its_mind_keeps_the_order() {
    let node = at_times(Via::Native);
    let mut batch = tunnelled(Via::Native, &flow(&node, FAR[0], 3000, 1000));
    let other = Packet::text(uplink_mac(2), FAR[0], uplink_mac(1), "10.244.1.11");
    batch.insert(2, HeapFrame::new(&other.udp((1, 2), b"another pod's")));
    let outcome = answered(&node, &[true, false, true], batch);
    let to_a: Vec<_> = outcome.sent.iter().filter(|(to, _)| *to == A).collect();
    assert_eq!(to_a.len(), 2);
    assert_eq!(unfolded(&to_a[0].1, 1000), data(3000)[..2000]);
    assert_eq!(decode(&to_a[1].1).payload, data(3000)[2000..]);
}

/// A frame alone, small ones, and those whose bytes cost more to sum than it saves.
#[test]
fn only_where_it_is_worth_it() {
    let node = at_times(Via::Native);
    let merges = |count: u32, len: usize| {
        let payload = data(len);
        let one = |i: u32| (1000 + i * len as u32, &payload[..], ACK);
        let batch = native(FAR[0], &(0..count).map(one).collect::<Vec<_>>());
        let outcome = lab(&node).process(node.uplink, batch);
        outcome.coalesced > 0
    };
    assert!(!merges(1, 1000));
    assert!(merges(2, 1000));
    // Headers with a timestamp are 66 bytes.
    assert!(!merges(5, 127 - 66));
    assert!(merges(5, 128 - 66));
    assert!(merges(2, 9216));
    assert!(!merges(2, 9217));
}

/// Of a flow of large segments none passes a small one that could be merged.
#[test]
fn large_and_small_keep_their_order() {
    let node = at_times(Via::Native);
    let bytes = data(20_000);
    let segments: Vec<(u32, &[u8], u8)> = [0..1000, 1000..2000, 2000..12_000, 12_000..13_000]
        .map(|r: std::ops::Range<usize>| (r.start as u32, &bytes[r], ACK))
        .into();
    let outcome = lab(&node).process(node.uplink, native(FAR[0], &segments));
    let frames = outcome.sent.iter().zip(&outcome.gso_sizes);
    let seen: Vec<_> = frames.map(|((_, f), &size)| (size, unfolded(f, size))).collect();
    assert_eq!(sizes(&seen), [(1000, 2000), (0, 10_000), (0, 1000)]);
}

/// Nobody knows when a frame will be sent that waits for its port's rate limit.
#[test]
fn not_to_a_port_with_a_rate_limit() {
    let node = Node::with(1, Via::Native, |net| {
        net.coalesce(A);
        net.port_policy(A).to_port = Some(Arc::new(TokenBucket::new(1_000_000_000, None)));
    });
    let batch = tunnelled(Via::Native, &flow(&node, FAR[0], 5000, 1000));
    let outcome = lab(&node).process(node.uplink, batch);
    assert_eq!((outcome.gso_sizes, outcome.coalesced), (vec![0; 5], 0));
}

/// What a flow's receiver is told in turn: each byte with its number, and each segment without any.
fn stream(outcome: &Outcome, flow: u8) -> Vec<(u32, Option<u8>)> {
    let frames = outcome.sent.iter().zip(&outcome.gso_sizes);
    let of_flow = frames.filter(|((_, f), _)| f[23] == 6 && f[29] == flow);
    of_flow
        .flat_map(|((_, frame), &size)| {
            let (payload, first) = (unfolded(frame, size), Tcp::of(frame).sequence);
            let bytes = (first..).zip(payload.into_iter().map(Some)).collect::<Vec<_>>();
            if bytes.is_empty() { vec![(first, None)] } else { bytes }
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whatever comes in whatever order, and whenever superpackets are refused: each flow is what it is where
    /// nothing is merged.
    #[test]
    fn every_flow_is_what_it_was(
        frames in vec((0u8..3, 0usize..5, 0u8..8, any::<bool>()), 2..60),
        answers in vec(any::<bool>(), 0..12),
    ) {
        let mut next = [1000u32; 3];
        let mut batch = Vec::new();
        for (n, &(flow, len, odd, is_tcp)) in frames.iter().enumerate() {
            let far = format!("10.244.2.{}", 20 + flow);
            let payload = vec![n as u8; [0, 40, 100, 1000, 1400][len]];
            if !is_tcp && odd < 2 {
                let packet = Packet::text(uplink_mac(2), &far, uplink_mac(1), "10.244.1.10");
                batch.push(HeapFrame::new(&packet.udp((1, 2), &payload)));
                continue;
            }
            let at = &mut next[usize::from(flow)];
            // One is lost, one comes late, one is pushed.
            *at = match odd {
                0 => *at + 7,
                1 => *at - 30,
                _ => *at,
            };
            let flags = if odd == 2 { ACK | PSH } else { ACK };
            batch.extend(native(&far, &[(*at, &payload, flags)]));
            *at += payload.len() as u32;
        }
        let plain = answered(&never(Via::Native), &[], batch.clone());
        let outcome = answered(&at_times(Via::Native), &answers, batch);
        for flow in 20..23 {
            prop_assert_eq!(stream(&outcome, flow), stream(&plain, flow));
        }
        let datagrams = |outcome: &Outcome| -> Vec<Vec<u8>> {
            let udp = outcome.sent.iter().filter(|(_, f)| f[23] == 17);
            udp.map(|(_, f)| f.clone()).collect()
        };
        prop_assert_eq!(datagrams(&outcome), datagrams(&plain));
    }
}
