//! UDP datagrams of one flow as one superpacket: the headers of a run of them, which differ in lengths,
//! identification and checksum only, so that whoever makes packets of it (Linux's
//! `net/ipv4/udp_offload.c`) makes these again.
//!
//! For the packets of a tunnel, whose headers are our own: a checksum comes out right where there was none,
//! which RFC 7348 section 4.1 allows, and where there was one it comes out the same if it was right.

use super::VnetHeader;
use crate::checksum::Sum;
use crate::ethernet::{self, ethertype};
use crate::ip::{IpVersion, protocol};
use crate::{ipv4, ipv6, udp, vlan};
use core::net::IpAddr;

/// The most datagrams in a superpacket: what every Linux with UDP_SEGMENT takes (UDP_MAX_SEGMENTS was 64
/// before it was 128).
pub const MOST: usize = 64;
/// The most bytes of headers: Ethernet, a VLAN tag, IPv6, UDP.
pub const MAX_HEADERS: usize =
    ethernet::HEADER_LEN + vlan::HEADER_LEN + ipv6::HEADER_LEN + udp::HEADER_LEN;
/// What an IP packet and its payload may be long.
const MAX_LEN: usize = 0xffff;

/// Where the headers of a datagram are, that others like it may follow in a superpacket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headers {
    version: IpVersion,
    network: usize,
    udp: usize,
}

impl Headers {
    /// Finds them in a frame of `len` bytes whose first segment is `bytes`: UDP over IPv4 without options or
    /// IPv6 without extension headers, behind at most one VLAN tag, no fragment, with no byte behind
    /// it, and some in it.
    #[inline]
    pub fn read(bytes: &[u8], len: usize) -> Option<Headers> {
        let (_, _, ty) = ethernet::header(bytes)?;
        let (network, ty) = match ty {
            ethertype::VLAN => {
                let inner = bytes.get(ethernet::HEADER_LEN + 2..)?.first_chunk()?;
                (ethernet::HEADER_LEN + vlan::HEADER_LEN, u16::from_be_bytes(*inner))
            }
            ty => (ethernet::HEADER_LEN, ty),
        };
        let packet = bytes.get(network..)?;
        let packet_len = len.checked_sub(network)?;
        let (version, header) = match ty {
            ethertype::IPV4 => {
                let ip = packet.first_chunk::<{ ipv4::HEADER_LEN }>()?;
                let word = |at: usize| u16::from_be_bytes([ip[at], ip[at + 1]]);
                // MF and the offset are zero.
                let whole = word(6) & 0x3fff == 0;
                let is_ours = ip[0] == 0x45 && ip[9] == protocol::UDP && whole;
                if !is_ours || usize::from(word(2)) != packet_len {
                    return None;
                }
                (IpVersion::V4, ipv4::HEADER_LEN)
            }
            ethertype::IPV6 => {
                let ip = packet.first_chunk::<{ ipv6::HEADER_LEN }>()?;
                let len = usize::from(u16::from_be_bytes([ip[4], ip[5]]));
                let is_ours = ip[0] >> 4 == 6 && ip[6] == protocol::UDP;
                if !is_ours || len + ipv6::HEADER_LEN != packet_len {
                    return None;
                }
                (IpVersion::V6, ipv6::HEADER_LEN)
            }
            _ => return None,
        };
        let udp_len = packet.get(header + 4..)?.first_chunk()?;
        let udp_len = usize::from(u16::from_be_bytes(*udp_len));
        let udp = network + header;
        let is_whole = udp_len + header == packet_len && udp_len > udp::HEADER_LEN;
        (is_whole && bytes.len() >= udp + udp::HEADER_LEN).then_some(Headers {
            version,
            network,
            udp,
        })
    }

    /// Bytes of all headers.
    #[inline]
    pub const fn len(&self) -> usize {
        self.udp + udp::HEADER_LEN
    }

    /// Never: a frame has headers.
    pub const fn is_empty(&self) -> bool {
        false
    }

    /// The source address and the destination port of the datagram that they were read in.
    pub fn source_and_port(&self, bytes: &[u8]) -> (IpAddr, u16) {
        let packet = &bytes[self.network..];
        let src = match self.version {
            IpVersion::V4 => IpAddr::V4(ipv4::View::new_unchecked(packet).src()),
            IpVersion::V6 => IpAddr::V6(ipv6::View::new_unchecked(packet).src()),
        };
        (src, udp::View::new_unchecked(&bytes[self.udp..]).dst_port())
    }

    /// Whether a superpacket has room for `payload` bytes in all behind these headers.
    #[inline]
    pub const fn fits(&self, payload: usize) -> bool {
        let ip = match self.version {
            IpVersion::V4 => ipv4::HEADER_LEN,
            IpVersion::V6 => 0,
        };
        ip + udp::HEADER_LEN + payload <= MAX_LEN
    }

    /// Whether what would be made as packet `n` of a superpacket that `first` begins has the headers of
    /// `next`, in which the same were read. Both are first segments of frames.
    #[inline]
    pub fn continues(&self, first: &[u8], next: &[u8], n: usize) -> bool {
        let same = |from: usize, to: usize| first[from..to] == next[from..to];
        let at = self.network;
        same(0, at)
            && match self.version {
                // All but total length, identification and checksum; ports behind the addresses.
                IpVersion::V4 => {
                    same(at, at + 2) && same(at + 6, at + 10) && same(at + 12, at + 24) && {
                        let (a, b) = (&first[at + 4..at + 8], &next[at + 4..at + 8]);
                        let ident = |b: &[u8]| u16::from_be_bytes([b[0], b[1]]);
                        // With DF it means nothing (RFC 6864 section 4.1); else each has its own.
                        a[2] & 0x40 != 0 || ident(a).wrapping_add(n as u16) == ident(b)
                    }
                }
                IpVersion::V6 => same(at, at + 4) && same(at + 6, at + 44),
            }
    }

    /// The headers of a superpacket that `first` begins and that has `payload` bytes in all, each packet
    /// but the last `size` of them; and what is said of it to who cuts it up. Its checksum is partial.
    pub fn write(
        &self,
        first: &[u8],
        payload: usize,
        size: usize,
        out: &mut [u8; MAX_HEADERS],
    ) -> VnetHeader {
        debug_assert!(self.fits(payload));
        out[..self.len()].copy_from_slice(&first[..self.len()]);
        let udp_len = (udp::HEADER_LEN + payload) as u16;
        let packet = &mut out[self.network..];
        let pseudo = match self.version {
            IpVersion::V4 => {
                let mut ip = ipv4::View::new_unchecked(packet);
                ip.set_total_len(udp_len + ipv4::HEADER_LEN as u16);
                ip.fill_checksum();
                Sum::ZERO.pseudo_v4(ip.src(), ip.dst(), protocol::UDP, udp_len)
            }
            IpVersion::V6 => {
                let mut ip = ipv6::View::new_unchecked(packet);
                ip.set_payload_len(udp_len);
                Sum::ZERO.pseudo_v6(ip.src(), ip.dst(), protocol::UDP, udp_len.into())
            }
        };
        let at = self.udp;
        out[at + 4..at + 6].copy_from_slice(&udp_len.to_be_bytes());
        out[at + 6..at + 8].copy_from_slice(&pseudo.fold().to_be_bytes());
        VnetHeader::of_datagrams(self.udp, size as u16)
    }
}
