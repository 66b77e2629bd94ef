//! Finding the packet inside a tunnel packet.

use core::net::IpAddr;

use super::sum_segments;
use crate::checksum::Sum;
use crate::ethernet::{self, ethertype};
use crate::ip::{IpVersion, protocol};
use crate::wire::error;
use crate::{Vni, ipv4, ipv6, udp, vxlan};

const IP: usize = ethernet::HEADER_LEN;
const UDP_OVERHEAD: usize = udp::HEADER_LEN + vxlan::HEADER_LEN;

error! {
    /// Why a frame from the underlay is not a tunnel packet.
    OuterError {
        EthTruncated "shorter than an Ethernet header",
        NotIp "neither IPv4 nor IPv6, or VLAN-tagged",
        Ipv4Malformed "the outer IPv4 header is truncated or contradicts itself",
        Ipv4Checksum "the outer IPv4 header checksum is wrong",
        Ipv6Malformed "an outer IPv6 header is truncated or contradicts itself",
        Fragment "the outer packet is a fragment",
        UdpMalformed "the outer UDP header is truncated or its length contradicts the packet",
        VxlanTruncated "no room for a VXLAN header and an inner Ethernet header",
        VxlanFlags "the VXLAN I flag is not set",
        InnerMalformed "the inner IP packet is truncated or of another version",
    }
}

/// What a packet from the underlay carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An Ethernet frame in VXLAN.
    Vxlan {
        /// Network identifier.
        vni: Vni,
        /// UDP destination port.
        dst_port: u16,
        /// UDP checksum as it is in the packet, not verified: see [`Outer::udp_checksum_ok`].
        checksum: u16,
    },
    /// An IP packet.
    Ipip {
        /// Its version.
        inner: IpVersion,
    },
    /// Something else.
    Other {
        /// The upper-layer protocol.
        protocol: u8,
    },
}

/// A validated packet from the underlay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outer {
    /// Source.
    pub src: IpAddr,
    /// Destination.
    pub dst: IpAddr,
    /// DSCP and ECN.
    pub tos: u8,
    /// What it carries.
    pub kind: Kind,
    /// Where the inner Ethernet frame (VXLAN), the inner IP packet (IPIP) or the upper layer
    /// (other) starts, in bytes from the outer Ethernet header on. It lies in the first segment.
    pub inner_offset: usize,
    /// Its length in bytes, outer padding trimmed, further segments included.
    pub inner_len: usize,
}

impl Outer {
    /// Whether the UDP checksum of a VXLAN packet is right or absent. `first` is what was parsed,
    /// `rest` the further segments. True for other kinds.
    ///
    /// A receiver may skip this (RFC 7348 section 4.1); an absent checksum over IPv6 is for
    /// configuration to accept (RFC 6935).
    pub fn udp_checksum_ok(&self, first: &[u8], rest: &[&[u8]]) -> bool {
        let Kind::Vxlan { checksum: 1.., .. } = self.kind else {
            return true;
        };
        let len = self.inner_len + UDP_OVERHEAD;
        let datagram = first.get(self.inner_offset - UDP_OVERHEAD..).unwrap_or(&[]);
        let pseudo = Sum::ZERO.pseudo(self.src, self.dst, protocol::UDP, len as u16);
        sum_segments(pseudo, datagram, rest, len).is_valid()
    }
}

/// Reads the outer headers of `frame`, the first segment of a frame from the underlay from its
/// Ethernet header on. The whole frame has `total_len` bytes. All headers, and the first octet of an
/// inner IP packet, must lie in the first segment.
///
/// UDP is taken for VXLAN when `is_vxlan_port` holds for its destination port, and is
/// [`Kind::Other`] otherwise. Whether the destination address is ours is for the caller to check.
/// IPv6 extension headers, such as the tunnel encapsulation limit of RFC 2473 section 4.1.1, are
/// walked over.
#[inline]
pub fn parse_outer(
    frame: &[u8],
    total_len: usize,
    is_vxlan_port: impl Fn(u16) -> bool,
) -> Result<Outer, OuterError> {
    let (_, _, ty) = ethernet::header(frame).ok_or(OuterError::EthTruncated)?;
    match ty {
        ethertype::IPV4 => parse_outer_v4(frame, total_len, is_vxlan_port),
        ethertype::IPV6 => parse_outer_v6(frame, total_len, is_vxlan_port),
        _ => Err(OuterError::NotIp),
    }
}

/// [`parse_outer`] of a frame whose EtherType is IPv4. Inlined as a whole: with the family known, what
/// comes back stays in registers.
#[inline(always)]
pub fn parse_outer_v4(
    frame: &[u8],
    total_len: usize,
    is_vxlan_port: impl Fn(u16) -> bool,
) -> Result<Outer, OuterError> {
    let frame = frame.get(..total_len).unwrap_or(frame);
    let packet = frame.get(IP..).ok_or(OuterError::EthTruncated)?;
    let v = ipv4::View::new_checked_within(packet, total_len.saturating_sub(IP))
        .map_err(|_| OuterError::Ipv4Malformed)?;
    if !v.checksum_ok() {
        return Err(OuterError::Ipv4Checksum);
    }
    if v.is_fragment() {
        return Err(OuterError::Fragment);
    }
    let ip = Ip {
        src: IpAddr::V4(v.src()),
        dst: IpAddr::V4(v.dst()),
        tos: v.tos(),
        protocol: v.protocol(),
        header_len: v.header_len(),
        total_len: v.total_len(),
    };
    parse_upper(packet, ip, is_vxlan_port)
}

/// [`parse_outer`] of a frame whose EtherType is IPv6.
#[inline]
pub fn parse_outer_v6(
    frame: &[u8],
    total_len: usize,
    is_vxlan_port: impl Fn(u16) -> bool,
) -> Result<Outer, OuterError> {
    let frame = frame.get(..total_len).unwrap_or(frame);
    let packet = frame.get(IP..).ok_or(OuterError::EthTruncated)?;
    let v = ipv6::View::new_checked_within(packet, total_len.saturating_sub(IP))
        .map_err(|_| OuterError::Ipv6Malformed)?;
    let upper = v.upper_layer().map_err(|_| OuterError::Ipv6Malformed)?;
    if upper.is_fragment() {
        return Err(OuterError::Fragment);
    }
    let ip = Ip {
        src: IpAddr::V6(v.src()),
        dst: IpAddr::V6(v.dst()),
        tos: v.traffic_class(),
        protocol: upper.protocol,
        header_len: upper.offset,
        total_len: v.total_len(),
    };
    parse_upper(packet, ip, is_vxlan_port)
}

/// A validated IP header, extension headers included.
struct Ip {
    src: IpAddr,
    dst: IpAddr,
    tos: u8,
    protocol: u8,
    header_len: usize,
    total_len: usize,
}

/// What is behind the IP header of `packet`. The check left `header_len <= total_len`, and the header
/// in `packet`. Inlined once for each family, so that addresses are not carried through memory.
#[inline(always)]
fn parse_upper(
    packet: &[u8],
    ip: Ip,
    is_vxlan_port: impl Fn(u16) -> bool,
) -> Result<Outer, OuterError> {
    let Ip { src, dst, tos, protocol: proto, header_len: at, total_len: end } = ip;
    let (upper, upper_len) = (packet.get(at..).unwrap_or(&[]), end - at);
    let outer = Outer {
        src,
        dst,
        tos,
        kind: Kind::Other { protocol: proto },
        inner_offset: IP + at,
        inner_len: upper_len,
    };
    let (inner, min_len) = match proto {
        protocol::UDP => return parse_udp(upper, outer, is_vxlan_port),
        protocol::IPIP => (IpVersion::V4, ipv4::HEADER_LEN),
        protocol::IPV6 => (IpVersion::V6, ipv6::HEADER_LEN),
        _ => return Ok(outer),
    };
    if upper_len < min_len || IpVersion::of(upper) != Some(inner) {
        return Err(OuterError::InnerMalformed);
    }
    Ok(Outer { kind: Kind::Ipip { inner }, ..outer })
}

/// VXLAN, or UDP of no tunnel. `outer` is as if it were the latter.
#[inline(always)]
fn parse_udp(
    upper: &[u8],
    outer: Outer,
    is_vxlan_port: impl Fn(u16) -> bool,
) -> Result<Outer, OuterError> {
    let v = udp::View::new_checked_within(upper, outer.inner_len)
        .map_err(|_| OuterError::UdpMalformed)?;
    let dst_port = v.dst_port();
    if !is_vxlan_port(dst_port) {
        return Ok(outer);
    }
    let payload_len = v.len() - udp::HEADER_LEN;
    let inner_len = payload_len.checked_sub(vxlan::HEADER_LEN).ok_or(OuterError::VxlanTruncated)?;
    let x = vxlan::View::new_checked(v.payload()).map_err(|e| match e {
        vxlan::Error::Truncated => OuterError::VxlanTruncated,
        vxlan::Error::Flags => OuterError::VxlanFlags,
    })?;
    if inner_len < ethernet::HEADER_LEN {
        return Err(OuterError::VxlanTruncated);
    }
    let kind = Kind::Vxlan { vni: x.vni(), dst_port, checksum: v.checksum() };
    Ok(Outer { kind, inner_offset: outer.inner_offset + UDP_OVERHEAD, inner_len, ..outer })
}
