//! Superpackets: carried whole, cut up, and merged. Every packet that leaves is read by etherparse,
//! which verifies its lengths and checksums.

mod at_times;
mod coalesce;
mod hostile;
mod property;
mod segment;
mod single;

use crate::kit::{Lab, Node, Packet, Via, decode, gateway_mac};
use encap::offload::{Layout, VnetHeader};
use etherparse::{SlicedPacket, TransportSlice};
use switch::heap::HeapFrame;
use switch::{Frame as _, PortId};

/// A node whose pod a is on a TAP device.
pub fn node(via: Via) -> Node {
    let mut a = None;
    let node = Node::with(1, via, |net| {
        // The pods' ports come after the host's.
        net.offload(PortId(1));
        a = Some(PortId(1));
    });
    assert_eq!(Some(node.a.port), a);
    node
}

/// Both pods on TAP devices.
pub fn both() -> Node {
    Node::with(1, Via::Vxlan4, |net| {
        net.offload(PortId(1));
        net.offload(PortId(2));
    })
}

/// Bytes that differ.
pub fn data(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 + i / 253) as u8).collect()
}

/// The parts of a TCP header that matter here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tcp {
    pub sequence: u32,
    pub ack: u32,
    pub window: u16,
    pub flags: u8,
    pub urgent: u16,
}

pub const FIN: u8 = 1;
pub const SYN: u8 = 2;
pub const RST: u8 = 4;
pub const PSH: u8 = 8;
pub const ACK: u8 = 0x10;
pub const URG: u8 = 0x20;
pub const ECE: u8 = 0x40;
pub const CWR: u8 = 0x80;

impl Default for Tcp {
    fn default() -> Tcp {
        Tcp { sequence: 1000, ack: 77, window: 500, flags: ACK, urgent: 0 }
    }
}

impl Tcp {
    /// A segment with a timestamp option (RFC 7323), as Linux sends them, made by etherparse.
    pub fn frame(&self, packet: &Packet, payload: &[u8]) -> Vec<u8> {
        let mut header = etherparse::TcpHeader::new(40_000, 5001, self.sequence, self.window);
        header.acknowledgment_number = self.ack;
        header.urgent_pointer = self.urgent;
        (header.fin, header.syn, header.rst) =
            (self.flags & FIN != 0, self.flags & SYN != 0, self.flags & RST != 0);
        (header.psh, header.ack, header.urg) =
            (self.flags & PSH != 0, self.flags & ACK != 0, self.flags & URG != 0);
        (header.ece, header.cwr) = (self.flags & ECE != 0, self.flags & CWR != 0);
        header.set_options_raw(&[1, 1, 8, 10, 0, 0, 1, 2, 0, 0, 3, 4]).unwrap();
        let sum = match (packet.src, packet.dst) {
            (std::net::IpAddr::V4(s), std::net::IpAddr::V4(d)) => {
                header.calc_checksum_ipv4_raw(s.octets(), d.octets(), payload)
            }
            (std::net::IpAddr::V6(s), std::net::IpAddr::V6(d)) => {
                header.calc_checksum_ipv6_raw(s.octets(), d.octets(), payload)
            }
            _ => unreachable!(),
        };
        header.checksum = sum.unwrap();
        packet.carry(6, &[&header.to_bytes()[..], payload].concat())
    }

    /// The header of a frame, whatever its checksum is.
    pub fn of(frame: &[u8]) -> Tcp {
        let packet = SlicedPacket::from_ethernet(frame).unwrap();
        let Some(TransportSlice::Tcp(tcp)) = packet.transport else { panic!("not TCP") };
        Tcp {
            sequence: tcp.sequence_number(),
            ack: tcp.acknowledgment_number(),
            window: tcp.window_size(),
            flags: tcp.slice()[13],
            urgent: tcp.urgent_pointer(),
        }
    }
}

/// What a pod's kernel hands over: the frame, its checksum partial, and the header of it.
pub fn handed_over(mut frame: Vec<u8>, size: u16) -> (HeapFrame, VnetHeader) {
    let layout = Layout::parse(&frame, frame.len()).unwrap();
    layout.fill_partial(&mut frame);
    let header = VnetHeader::of_superpacket(&layout, &frame, size);
    (HeapFrame::new(&frame), header)
}

/// A superpacket as a TAP port receives it.
pub fn superpacket(frame: Vec<u8>, size: u16) -> HeapFrame {
    let (mut frame, header) = handed_over(frame, size);
    switch::offload::receive(&mut frame, &header).unwrap();
    assert_eq!(frame.gso_size(), size);
    frame
}

/// From pod a to somewhere through the gateway.
pub fn from_a(node: &Node, dst: &str) -> Packet {
    let src = if dst.contains(':') { node.a.v6 } else { node.a.v4 };
    Packet::new(node.a.mac, src, gateway_mac(1), dst.parse().unwrap())
}

/// Addresses of both families on the peer.
pub const FAR: [&str; 2] = ["10.244.2.10", "fd00:10:244:2::10"];
/// And of pod b.
pub const NEAR: [&str; 2] = ["10.244.1.11", "fd00:10:244:1::11"];

/// The payload of TCP segments or UDP datagrams, one after the other, each of them valid.
pub fn payloads(frames: &[(PortId, Vec<u8>)]) -> Vec<u8> {
    frames.iter().flat_map(|(_, frame)| decode(frame).payload).collect()
}

pub fn lab(node: &Node) -> Lab {
    Lab::new(node.tables.clone())
}
