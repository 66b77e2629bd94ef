//! Superpackets: what pods hand over to TAP ports, described as they like, and what arrives for them to
//! be merged. Every frame is accounted for (the lab sees to that, and panics otherwise), and of a
//! superpacket that is let in every packet that leaves is valid.
//!
//! The input is a sequence of frames, each behind a head of thirteen octets: the port, the
//! `virtio_net_hdr` (little-endian), and the length, big-endian. A port's low six bits are its number.
//! With bit 6 set the frame is described as what it is, only the size taken from the head; with bit 7 set
//! the checksums of its IP header and TCP are put right first, which a fuzzer does not guess. Frames of
//! one port that follow one another are one batch. Zeros are added to a last frame that is shorter than
//! its length says. Pod b takes superpackets at times: in a batch it says yes and no as the bits of the last
//! frame's length have it.
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

use encap::offload::{Layout, VnetHeader};
use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use lab::Lab;
use libfuzzer_sys::fuzz_target;
use node::{Node, Via};
use std::net::IpAddr;
use std::sync::Arc;
use switch::heap::HeapFrame;
use switch::tables::Offload;
use switch::{Fdb, Frame as _, PortId};

/// Pod a, and a port of a bridged segment.
const TAPS: [PortId; 2] = [PortId(1), PortId(3)];
/// Pod b.
const VETH: PortId = PortId(2);

thread_local! {
    static NODE: (Node, Arc<Fdb>) = {
        let ports = |net: &mut net::Net| {
            TAPS.into_iter().for_each(|port| net.offload(port));
            net.coalesce(VETH);
        };
        (Node::with(1, Via::Native, ports), Fdb::new(16).into())
    };
}

fuzz_target!(|input: &[u8]| {
    NODE.with(|(node, fdb)| {
        fdb.flush(|_, _, _| true);
        run(node, fdb, input);
    });
});

fn run(node: &Node, fdb: &Arc<Fdb>, mut input: &[u8]) {
    let mut lab = Lab::sharing(node.tables.clone(), fdb.clone());
    let (mut batch, mut of) = (Vec::new(), PortId(0));
    while let Some((head, rest)) = input.split_first_chunk::<13>() {
        let len = usize::from(u16::from_be_bytes([head[11], head[12]]));
        let (frame, rest) = rest.split_at(len.min(rest.len()));
        input = rest;
        let mut frame = frame.to_vec();
        frame.resize(len, 0);
        if head[0] & 0x80 != 0 {
            repair(&mut frame);
        }
        let port = PortId(u16::from(head[0] & 0x3f));
        if port != of {
            process(node, &mut lab, of, core::mem::take(&mut batch));
            of = port;
        }
        let mut frame = HeapFrame::new(&frame);
        let mut header = VnetHeader::from_le_bytes(*head[1..].first_chunk().unwrap());
        if head[0] & 0x40 != 0
            && let Ok(layout) = Layout::parse(frame.bytes(), frame.len())
        {
            header = VnetHeader::of_superpacket(&layout, frame.bytes(), header.gso_size);
        }
        if !TAPS.contains(&port) || switch::offload::receive(&mut frame, &header).is_ok() {
            batch.push(frame);
        }
    }
    process(node, &mut lab, of, batch);
}

fn process(node: &Node, lab: &mut Lab, from: PortId, batch: Vec<HeapFrame>) {
    // Of a batch of superpackets everything that leaves can be judged.
    let all_super = !batch.is_empty() && batch.iter().all(|frame| frame.gso_size() > 0);
    let last = batch.last().map_or(0, |frame| frame.len());
    lab.answers = (0..16).map(|bit| last & 1 << bit == 0).collect();
    let outcome = lab.process(from, batch);
    for ((to, frame), &size) in outcome.sent.iter().zip(&outcome.gso_sizes) {
        let port = node.tables.port(*to).expect("a port that exists");
        if size > 0 {
            assert!(port.offload != Offload::None, "a superpacket for a port that takes none");
            let layout = Layout::parse(frame, frame.len()).expect("a superpacket");
            assert!(layout.network + layout.packet_len(size) <= port.max_frame as usize);
            let mut right = frame.clone();
            layout.fill_partial(&mut right);
            assert_eq!(right, *frame, "a partial checksum");
            continue;
        }
        assert!(frame.len() <= port.max_frame as usize);
        if all_super {
            valid(frame);
        }
    }
}

/// Whether lengths and checksums are right, as far as etherparse can read the packet.
fn valid(frame: &[u8]) {
    let Ok(packet) = SlicedPacket::from_ethernet(frame) else { return };
    let (src, dst): (IpAddr, IpAddr) = match &packet.net {
        Some(NetSlice::Ipv4(ip)) => {
            let header = ip.header().to_header();
            assert_eq!(usize::from(header.total_len) + 14, frame.len());
            assert_eq!(header.header_checksum, header.calc_header_checksum());
            (header.source.into(), header.destination.into())
        }
        Some(NetSlice::Ipv6(ip)) => {
            let header = ip.header();
            (header.source_addr().into(), header.destination_addr().into())
        }
        _ => return,
    };
    match (&packet.transport, src, dst) {
        (Some(TransportSlice::Tcp(tcp)), IpAddr::V4(src), IpAddr::V4(dst)) => {
            assert_eq!(Ok(tcp.checksum()), tcp.calc_checksum_ipv4(src.octets(), dst.octets()));
        }
        (Some(TransportSlice::Tcp(tcp)), IpAddr::V6(src), IpAddr::V6(dst)) => {
            assert_eq!(Ok(tcp.checksum()), tcp.calc_checksum_ipv6(src.octets(), dst.octets()));
        }
        (Some(TransportSlice::Udp(udp)), src, dst) => {
            let header = udp.to_header();
            if udp.destination_port() == 4789 || udp.destination_port() == 8472 {
                // A tunnel's, without a checksum of its own; or a pod's, about which nothing is known.
                return;
            }
            let sum = match (src, dst) {
                (IpAddr::V4(src), IpAddr::V4(dst)) => {
                    header.calc_checksum_ipv4_raw(src.octets(), dst.octets(), udp.payload())
                }
                (IpAddr::V6(src), IpAddr::V6(dst)) => {
                    header.calc_checksum_ipv6_raw(src.octets(), dst.octets(), udp.payload())
                }
                _ => return,
            };
            assert_eq!(Ok(udp.checksum()), sum);
        }
        _ => {}
    }
}

/// Puts the checksums of an IP packet and its TCP segment right.
fn repair(frame: &mut [u8]) {
    let Some((header, packet)) = frame.split_at_mut_checked(14) else { return };
    let is_v4 = header[12..] == [0x08, 0];
    let at = match packet.first() {
        Some(first) if is_v4 => usize::from(first & 0xf) * 4,
        _ => 40,
    };
    if packet.len() < at + 20 || at < 20 {
        return;
    }
    let (ip, segment) = packet.split_at_mut(at);
    let (addresses, protocol) = if is_v4 { (&ip[12..20], ip[9]) } else { (&ip[8..40], ip[6]) };
    if protocol == 6 {
        let len = segment.len() as u16;
        segment[16..18].fill(0);
        let sum = etherparse::checksum::Sum16BitWords::new()
            .add_slice(addresses)
            .add_2bytes([0, 6])
            .add_2bytes(len.to_be_bytes())
            .add_slice(segment)
            .ones_complement();
        segment[16..18].copy_from_slice(&sum.to_be().to_be_bytes());
    }
    if is_v4 {
        ip[10..12].fill(0);
        let sum = etherparse::checksum::Sum16BitWords::new().add_slice(ip).ones_complement();
        ip[10..12].copy_from_slice(&sum.to_be().to_be_bytes());
    }
}
