//! A hash of the flow that a packet belongs to, for the source port of VXLAN (RFC 7348 section 5)
//! and for choosing among equal paths (RFC 2992, RFC 6438).
//!
//! All packets of a flow hash alike: fragments, of which only the first has ports, hash by addresses
//! and protocol only. The function is fixed: the same on every node, machine and run.

use core::ops::RangeInclusive;

use crate::ecn::ip_offset;
use crate::ethernet;
use crate::ip::{IpVersion, has_ports, protocol};
use crate::{ipv6, words};

/// The range that RFC 7348 section 5 recommends for source ports: the dynamic ports of RFC 6335.
pub const DEFAULT_SOURCE_PORTS: RangeInclusive<u16> = 49152..=65535;

// Odd constants without structure: the fractional digits of pi.
const K0: u64 = 0x243f_6a88_85a3_08d3;
const K1: u64 = 0x1319_8a2e_0370_7345;
const K2: u64 = 0xa409_3822_299f_31d1;

/// Both halves of the 128-bit product: every input bit reaches the whole result in one
/// multiplication.
#[inline(always)]
const fn mix(a: u64, b: u64) -> u64 {
    let p = a as u128 * b as u128;
    p as u64 ^ (p >> 64) as u64
}

#[inline(always)]
const fn finish(h: u64, protocol: u8, ports: u32) -> u32 {
    let h = mix(h ^ K1, (ports as u64 | (protocol as u64) << 32) ^ K2);
    (h ^ h >> 32) as u32
}

/// The hash of the flow of an Ethernet frame: of its IP packet, behind VLAN tags if any, or else of
/// its addresses and EtherType.
#[inline]
pub fn hash_frame(frame: &[u8]) -> u32 {
    match ip_offset(frame) {
        Some((IpVersion::V4, at)) => hash_ipv4(frame.get(at..).unwrap_or(&[])),
        Some((IpVersion::V6, at)) => hash_ipv6(frame.get(at..).unwrap_or(&[])),
        None => match ethernet::header(frame) {
            Some((dst, src, ty)) => finish(mix(dst ^ K0, src ^ K1), 0, u32::from(ty)),
            None => 0,
        },
    }
}

/// [`hash_frame`], and the tos or traffic class of the IP packet, 0 if it is none: all that an outer
/// header takes from a frame, read at once in the usual case.
#[inline(always)]
pub fn hash_and_tos(frame: &[u8]) -> (u32, u8) {
    const IP: usize = ethernet::HEADER_LEN;
    if let Some(h) = frame.first_chunk::<{ IP + 20 + 4 }>() {
        // EtherType IPv4, version 4 and no options, and the tos.
        let start = u32::from_be_bytes([h[12], h[13], h[IP], h[IP + 1]]);
        if start >> 8 == 0x0008_0045 {
            return (hash_ipv4(&h[IP..]), start as u8);
        }
    }
    (hash_frame(frame), crate::ecn::frame_tos(frame))
}

/// The hash of the flow of an IP packet; 0 if it is none.
#[inline]
pub fn hash_packet(packet: &[u8]) -> u32 {
    match IpVersion::of(packet) {
        Some(IpVersion::V4) => hash_ipv4(packet),
        Some(IpVersion::V6) => hash_ipv6(packet),
        None => 0,
    }
}

/// The hash of the flow of an IPv4 packet; 0 if it is shorter than a header.
#[inline(always)]
pub fn hash_ipv4(packet: &[u8]) -> u32 {
    let Some(h) = packet.first_chunk::<20>() else {
        return 0;
    };
    let addrs = u64::from_be_bytes([h[12], h[13], h[14], h[15], h[16], h[17], h[18], h[19]]);
    let is_fragment = u16::from_be_bytes([h[6], h[7]]) & 0x3fff != 0;
    let ports = if has_ports(h[9]) && !is_fragment {
        ports_at(packet, usize::from(h[0] & 0xf) * 4)
    } else {
        0
    };
    finish(mix(addrs ^ K0, K2), h[9], ports)
}

/// [`hash_ipv4`] of a packet without options, of which the four octets behind the header are given.
#[inline(always)]
pub const fn hash_plain(header: words::Ipv4, ports: [u8; 4]) -> u32 {
    let protocol = header.protocol();
    let ports =
        if has_ports(protocol) && !header.is_fragment() { u32::from_be_bytes(ports) } else { 0 };
    finish(mix(header.addresses() ^ K0, K2), protocol, ports)
}

/// [`hash_ipv6`] of a packet without extension headers that begins with ports, which are given.
#[inline(always)]
pub const fn hash_plain_ipv6(header: words::Ipv6, ports: [u8; 4]) -> u32 {
    finish(hash_addresses(header), header.next_header(), u32::from_be_bytes(ports))
}

/// Of both addresses.
#[inline(always)]
const fn hash_addresses(header: words::Ipv6) -> u64 {
    let ([s0, s1], [d0, d1]) = (header.src(), header.dst());
    mix(s0.swap_bytes() ^ K0, d0.swap_bytes() ^ K1)
        ^ mix(s1.swap_bytes() ^ K1, d1.swap_bytes() ^ K2)
}

/// The hash of the flow of an IPv6 packet; 0 if it is shorter than a header.
///
/// The flow label is left out: hosts change it in the middle of a connection.
#[inline]
pub fn hash_ipv6(packet: &[u8]) -> u32 {
    let Some(h) = packet.first_chunk::<{ ipv6::HEADER_LEN }>() else {
        return 0;
    };
    let addrs = hash_addresses(words::Ipv6::read::<0, { ipv6::HEADER_LEN }>(h));
    let (protocol, ports) = match h[6] {
        p @ (protocol::TCP | protocol::UDP) => (p, ports_at(packet, ipv6::HEADER_LEN)),
        _ => match ipv6::upper_layer(packet) {
            // Even the protocol is left out: a later fragment may name an extension header.
            Ok(u) if u.is_fragment() => (protocol::FRAGMENT, 0),
            Ok(u) if has_ports(u.protocol) => (u.protocol, ports_at(packet, u.offset)),
            Ok(u) => (u.protocol, 0),
            Err(_) => (0, 0),
        },
    };
    finish(addrs, protocol, ports)
}

#[inline(always)]
fn ports_at(packet: &[u8], at: usize) -> u32 {
    match packet.get(at..).and_then(|b| b.first_chunk()) {
        Some(b) => u32::from_be_bytes(*b),
        None => 0,
    }
}

/// The flow label of an outer IPv6 header from the hash of the flow inside (RFC 6438 section 3): 20
/// bits, never zero, which would say that the packet is in no flow (RFC 6437 section 2).
#[inline(always)]
pub const fn label(hash: u32) -> u32 {
    match hash >> 12 {
        0 => 1,
        label => label,
    }
}

/// A source port from a flow hash, evenly over the `count` ports from the first on.
#[inline(always)]
pub const fn source_port_of(hash: u32, first: u16, count: u32) -> u16 {
    first + ((hash as u64 * count as u64) >> 32) as u16
}

/// A source port from a flow hash, evenly over `range`. An empty range gives its start.
#[inline(always)]
pub const fn source_port(hash: u32, range: &RangeInclusive<u16>) -> u16 {
    let (lo, hi) = (*range.start(), *range.end());
    source_port_of(hash, lo, (hi as u32 + 1).saturating_sub(lo as u32))
}
