//! The whole pipeline on a node with everything configured: frames on any port, in any order, as
//! time goes by. Every frame is accounted for (the lab sees to that, and panics otherwise), and what
//! leaves makes sense.
//!
//! The input is a sequence of frames, each behind a head of four octets: the port, how many times
//! eight seconds pass before it arrives, and its length, big-endian. A port's low six bits are its
//! number; with bit 6 set the pool has no buffer for copies of this frame, and with bit 7 set the
//! checksums of its headers are put right first, which a fuzzer does not guess. Zeros are added to a
//! last frame that is shorter than its length says, so that a small input can hold a large frame.
#![no_main]

#[allow(dead_code)]
#[path = "../../switch/tests/pipeline/kit/lab.rs"]
mod lab;
#[allow(dead_code)]
#[path = "../../switch/tests/pipeline/kit/net.rs"]
mod net;
#[allow(dead_code)]
#[path = "../../switch/tests/pipeline/kit/node.rs"]
mod node;

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use lab::Lab;
use libfuzzer_sys::fuzz_target;
use node::{Node, Via};
use std::sync::Arc;
use switch::heap::HeapFrame;
use switch::{Fdb, PortId};

thread_local! {
    /// The same for every input, and building it costs more than most inputs. What is learned is
    /// forgotten in between.
    static NODE: (Node, Arc<Fdb>) = (Node::with(1, Via::Vxlan4, node::policed), Fdb::new(16).into());
}

fuzz_target!(|input: &[u8]| {
    NODE.with(|(node, fdb)| {
        fdb.flush(|_, _, _| true);
        run(node, fdb, input);
    });
});

fn run(node: &Node, fdb: &Arc<Fdb>, mut input: &[u8]) {
    let mut lab = Lab::sharing(node.tables.clone(), fdb.clone());
    while let Some((head, rest)) = input.split_first_chunk::<4>() {
        let len = usize::from(u16::from_be_bytes([head[2], head[3]]));
        let (frame, rest) = rest.split_at(len.min(rest.len()));
        input = rest;
        let mut frame = frame.to_vec();
        frame.resize(len, 0);
        let port = PortId(u16::from(head[0] & 0x3f));
        lab.budget = if head[0] & 0x40 == 0 { usize::MAX } else { 0 };
        lab.advance(8 * u64::from(head[1]));
        if head[0] & 0x80 != 0 {
            repair(&mut frame);
        }
        for (to, output) in lab.process(port, vec![HeapFrame::new(&frame)]).sent {
            check(node, port, &frame, to, &output);
        }
    }
}

/// Puts IPv4 and ICMP checksums right, those inside of tunnels first.
fn repair(frame: &mut [u8]) {
    if let Some((header, packet)) = frame.split_at_mut_checked(14)
        && header[12..] == [0x08, 0]
    {
        repair_ipv4(packet);
    }
}

fn repair_ipv4(packet: &mut [u8]) {
    let header_len = usize::from(packet.first().map_or(0, |b| b & 0xf)) * 4;
    let total_len = packet.get(2..4).map_or(0, |b| usize::from(u16::from_be_bytes([b[0], b[1]])));
    let total_len = total_len.min(packet.len());
    if header_len < 20 || total_len < header_len {
        return;
    }
    let (header, payload) = packet[..total_len].split_at_mut(header_len);
    match header[9] {
        1 if payload.len() >= 8 => fill_checksum(payload, 2),
        4 => repair_ipv4(payload),
        17 if payload.len() > 16 => repair(&mut payload[16..]),
        _ => {}
    }
    fill_checksum(header, 10);
}

/// Puts the checksum at `at` right, which covers all of `bytes`.
fn fill_checksum(bytes: &mut [u8], at: usize) {
    bytes[at..at + 2].fill(0);
    let sum = etherparse::checksum::Sum16BitWords::new().add_slice(bytes).ones_complement();
    bytes[at..at + 2].copy_from_slice(&sum.to_be().to_be_bytes());
}

/// What holds for every frame that leaves.
fn check(node: &Node, from: PortId, input: &[u8], to: PortId, output: &[u8]) {
    let port = node.tables.port(to).expect("a port that exists");
    assert!(output.len() >= 14 && output.len() <= port.max_frame as usize);
    let bridged = node.blue_ports.contains(&from) || node.green_ports.contains(&from);
    if to != node.uplink {
        assert!(!bridged || output == input, "a bridged frame changed");
        return;
    }
    assert_eq!(output[..6], node::uplink_mac(2).0);
    assert_eq!(output[6..12], node::uplink_mac(1).0);
    let ours = match output[12..14] {
        [0x08, 0] => [[192, 0, 2, 2], [192, 0, 2, 3]].contains(output[30..].first_chunk().unwrap()),
        _ => output[38..42] == [0x20, 0x01, 0x0d, 0xb8],
    };
    if !ours {
        // Routed natively, to a pod: its upper layer is its sender's business.
        return;
    }
    let packet = SlicedPacket::from_ethernet(output).expect("an outer packet that can be read");
    match packet.net {
        Some(NetSlice::Ipv4(ip)) => {
            let header = ip.header().to_header();
            assert_eq!(header.header_checksum, header.calc_header_checksum());
            assert_eq!(usize::from(header.total_len) + 14, output.len());
        }
        Some(NetSlice::Ipv6(ip)) => {
            assert_eq!(usize::from(ip.header().payload_length()) + 54, output.len());
        }
        other => panic!("neither IPv4 nor IPv6: {other:?}"),
    }
    if let Some(TransportSlice::Udp(udp)) = packet.transport {
        assert!(!bridged || udp.payload()[8..] == *input, "the frame inside is another one");
        assert_eq!(udp.checksum() == 0, output[12] == 0x08, "none over IPv4, one over IPv6");
    }
}
