//! The frames that benches send: 64 bytes as VPP's packet generator counts them, with whatever
//! tunnel headers in front.

use encap::{Mac, checksum};
use std::net::{Ipv4Addr, Ipv6Addr};

/// Bytes of a frame before encapsulation, unless a bench says otherwise.
pub const FRAME: usize = 64;
/// Bytes of the outer headers of VXLAN over IPv4.
pub const VXLAN: usize = 50;
/// Bytes of an Ethernet header.
pub const ETH: usize = 14;
/// Bytes of an IPv4 header.
pub const IPV4: usize = 20;
/// Bytes of an IPv6 header.
pub const IPV6: usize = 40;

/// A fixed pseudo-random sequence: the same on every run and machine.
pub struct Sequence(u64);

impl Sequence {
    /// The sequence from its start.
    pub fn new() -> Sequence {
        Sequence(0x2545_f491_4f6c_dd1d)
    }

    /// The next number below `n`.
    pub fn below(&mut self, n: u32) -> u32 {
        // xorshift64*, Vigna 2016.
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
        ((high * u64::from(n)) >> 32) as u32
    }
}

impl Default for Sequence {
    fn default() -> Sequence {
        Sequence::new()
    }
}

/// A UDP packet over IPv4 in a frame of `len` bytes.
pub fn udp(len: usize, src_mac: Mac, dst_mac: Mac, src: Ipv4Addr, dst: Ipv4Addr) -> Vec<u8> {
    let payload = vec![0x5a; len - ETH - IPV4 - 8];
    let mut frame = Vec::new();
    etherparse::PacketBuilder::ethernet2(src_mac.0, dst_mac.0)
        .ipv4(src.octets(), dst.octets(), 64)
        .udp(1000, 2000)
        .write(&mut frame, &payload)
        .expect("a frame in memory");
    assert_eq!(frame.len(), len);
    frame
}

/// The same with four octets of IPv4 options.
pub fn udp_with_options(
    len: usize,
    src_mac: Mac,
    dst_mac: Mac,
    src: Ipv4Addr,
    dst: Ipv4Addr,
) -> Vec<u8> {
    let plain = udp(len - 4, src_mac, dst_mac, src, dst);
    let (head, rest) = plain.split_at(ETH + IPV4);
    let mut frame = [head, &[1, 1, 1, 0], rest].concat();
    frame[ETH] = 0x46;
    frame[ETH + 3] += 4;
    fill_checksum(&mut frame, ETH);
    frame
}

/// A UDP packet over IPv6 in a frame of `len` bytes.
pub fn udp6(len: usize, src_mac: Mac, dst_mac: Mac, src: Ipv6Addr, dst: Ipv6Addr) -> Vec<u8> {
    let mut frame = Vec::new();
    etherparse::PacketBuilder::ethernet2(src_mac.0, dst_mac.0)
        .ipv6(src.octets(), dst.octets(), 64)
        .udp(1000, 2000)
        .write(&mut frame, &vec![0x5a; len - ETH - IPV6 - 8])
        .expect("a frame in memory");
    frame
}

/// A TCP segment over IPv4: of data, or a SYN that offers more than any MTU here allows.
pub fn tcp(src_mac: Mac, dst_mac: Mac, src: Ipv4Addr, dst: Ipv4Addr, syn: bool) -> Vec<u8> {
    let builder = etherparse::PacketBuilder::ethernet2(src_mac.0, dst_mac.0)
        .ipv4(src.octets(), dst.octets(), 64)
        .tcp(1000, 2000, 1, 1024);
    let mut frame = Vec::new();
    let offer = [etherparse::TcpOptionElement::MaximumSegmentSize(u16::MAX)];
    if syn {
        let builder = builder.syn().options(&offer).expect("four octets");
        builder.write(&mut frame, &[]).expect("a frame in memory");
    } else {
        builder.ack(1).write(&mut frame, &[0x5a; 10]).expect("a frame in memory");
    }
    frame
}

/// A broadcast ARP request.
pub fn arp_request(mac: Mac, sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let request = encap::arp::Repr {
        operation: encap::arp::Operation::Request,
        sender_mac: mac,
        sender_ip: sender,
        target_mac: Mac::ZERO,
        target_ip: target,
    };
    let mut frame = vec![0; 60];
    encap::ethernet::Repr { dst: Mac::BROADCAST, src: mac, ethertype: 0x0806 }.emit(&mut frame);
    request.emit(&mut frame[ETH..]);
    frame
}

/// `frame` in VXLAN.
pub fn vxlan(
    src_mac: Mac,
    dst_mac: Mac,
    src: Ipv4Addr,
    dst: Ipv4Addr,
    vni: u32,
    frame: &[u8],
) -> Vec<u8> {
    let [_, a, b, c] = vni.to_be_bytes();
    let payload = [&[8, 0, 0, 0, a, b, c, 0], frame].concat();
    let mut out = Vec::new();
    etherparse::PacketBuilder::ethernet2(src_mac.0, dst_mac.0)
        .ipv4(src.octets(), dst.octets(), 64)
        .udp(50_000, 4789)
        .write(&mut out, &payload)
        .expect("a frame in memory");
    out[40..42].fill(0);
    out
}

/// The IP packet of `frame` in another one.
pub fn ipip(src_mac: Mac, dst_mac: Mac, src: Ipv4Addr, dst: Ipv4Addr, frame: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    etherparse::PacketBuilder::ethernet2(src_mac.0, dst_mac.0)
        .ip(etherparse::IpHeaders::Ipv4(
            etherparse::Ipv4Header {
                time_to_live: 64,
                source: src.octets(),
                destination: dst.octets(),
                ..Default::default()
            },
            Default::default(),
        ))
        .write(&mut out, etherparse::IpNumber(4), &frame[ETH..])
        .expect("a frame in memory");
    out
}

/// Sets the destination address of the IPv4 header at `at`, and its checksum.
pub fn set_dst(frame: &mut [u8], at: usize, dst: Ipv4Addr) {
    frame[at + 16..at + 20].copy_from_slice(&dst.octets());
    fill_checksum(frame, at);
}

/// Sets DSCP and ECN of the IPv4 header at `at`, and its checksum.
pub fn set_tos(frame: &mut [u8], at: usize, tos: u8) {
    frame[at + 1] = tos;
    fill_checksum(frame, at);
}

fn fill_checksum(frame: &mut [u8], at: usize) {
    frame[at + 10..at + 12].fill(0);
    let len = usize::from(frame[at] & 15) * 4;
    let sum = checksum::checksum(&frame[at..at + len]);
    frame[at + 10..at + 12].copy_from_slice(&sum.to_be_bytes());
}

/// Asserts that `after` is the packet `before` as a router sends it on: other MAC addresses, one hop
/// less, a right checksum, and otherwise the same bytes.
pub fn assert_routed(before: &[u8], after: &[u8]) {
    let packet = etherparse::SlicedPacket::from_ethernet(after).expect("a packet");
    let Some(etherparse::NetSlice::Ipv4(ip)) = packet.net else { panic!("not IPv4") };
    let header = ip.header().to_header();
    assert_eq!(header.header_checksum, header.calc_header_checksum());
    assert_eq!(header.time_to_live, before[ETH + 8] - 1);
    let unchanged = [ETH..ETH + 8, ETH + 9..ETH + 10, ETH + 12..before.len()];
    for range in unchanged {
        assert_eq!(after[range.clone()], before[range]);
    }
    assert_eq!(after.len(), before.len());
}
