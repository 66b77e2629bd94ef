//! Putting a tunnel's outer header in front of a packet.

use core::net::IpAddr;

use super::limit::{self, LIMIT_LEN};
use super::sum_segments;
use crate::checksum::{self, Sum};
use crate::ethernet::{self, ethertype};
use crate::ip::{IpVersion, protocol};
use crate::ipv4::{self, Fragmentation};
use crate::wire::{self, error};
use crate::{Mac, Vni, ipv6, udp, vxlan};

const IP: usize = ethernet::HEADER_LEN;
const UDP4: usize = IP + ipv4::HEADER_LEN;
const UDP6: usize = IP + ipv6::HEADER_LEN;
/// With the destination options of an encapsulation limit.
const LIMITED6: usize = UDP6 + LIMIT_LEN;
const VXLAN4: usize = UDP4 + udp::HEADER_LEN + vxlan::HEADER_LEN;
const VXLAN6: usize = UDP6 + udp::HEADER_LEN + vxlan::HEADER_LEN;

/// Bytes of a VXLAN header over IPv4, Ethernet included.
pub const VXLAN4_LEN: usize = VXLAN4;
/// Bytes of an IPIP header over IPv4, Ethernet included.
pub const IPIP4_LEN: usize = UDP4;

/// What the UDP length counts besides the payload.
const UDP_OVERHEAD: usize = udp::HEADER_LEN + vxlan::HEADER_LEN;

error! {
    /// A tunnel's two ends must be of one address family.
    FamilyMismatch {
        Addresses "one tunnel address is IPv4 and the other IPv6",
    }
}

error! {
    /// Why an outer header was not written.
    WriteError {
        TooLong "the packet is too long for an IP packet around it",
        Buffer "the buffer is not exactly as long as the outer header",
        Kind "the outer header is of another kind of tunnel",
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Vxlan4,
    Vxlan6,
    Ipip4,
    Ipip6,
    /// With an encapsulation limit.
    Limited6,
}

/// A tunnel's prebuilt outer header: all that is the same for each of its packets. Writing it is a
/// copy of a length known at compile time, and a few stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OuterHeader {
    bytes: [u8; VXLAN6],
    kind: Kind,
    /// Of IPv4, the sum of the header's words that stay the same; of IPv6, that of the addresses,
    /// for UDP's pseudo-header.
    sum: u32,
}

impl OuterHeader {
    /// Of a VXLAN tunnel: 50 bytes (IPv4) or 70 (IPv6).
    pub fn vxlan(
        src_mac: Mac,
        dst_mac: Mac,
        src: IpAddr,
        dst: IpAddr,
        dst_port: u16,
        vni: Vni,
        ttl: u8,
    ) -> Result<OuterHeader, FamilyMismatch> {
        let mut h = OuterHeader::ip(src_mac, dst_mac, src, dst, protocol::UDP, ttl)?;
        let (kind, at) = match h.kind {
            Kind::Ipip4 => (Kind::Vxlan4, UDP4),
            _ => (Kind::Vxlan6, UDP6),
        };
        h.kind = kind;
        let udp = udp::Repr { src_port: 0, dst_port, payload_len: 0 };
        udp.emit(&mut h.bytes[at..]);
        vxlan::Repr { vni }.emit(&mut h.bytes[at + udp::HEADER_LEN..]);
        Ok(h)
    }

    /// Of an IPIP tunnel: 34 bytes (IPv4) or 54 (IPv6, but see
    /// [`OuterHeader::with_encapsulation_limit`]). It takes the place of the inner Ethernet header. The
    /// inner packet may be of either family.
    pub fn ipip(
        src_mac: Mac,
        dst_mac: Mac,
        src: IpAddr,
        dst: IpAddr,
        ttl: u8,
    ) -> Result<OuterHeader, FamilyMismatch> {
        OuterHeader::ip(src_mac, dst_mac, src, dst, 0, ttl)
    }

    /// The same IPIP tunnel with an encapsulation limit (RFC 2473 section 4.1.1): [`LIMIT_LEN`] bytes
    /// more than without. Other tunnels have none, and stay as they are.
    #[must_use]
    pub fn with_encapsulation_limit(mut self, limit: u8) -> OuterHeader {
        if matches!(self.kind, Kind::Ipip6 | Kind::Limited6) {
            self.kind = Kind::Limited6;
            self.bytes[UDP6..LIMITED6].copy_from_slice(&limit::header(protocol::NO_NEXT, limit));
        }
        self
    }

    /// Whether an encapsulation limit is part of the header.
    #[inline]
    pub const fn has_encapsulation_limit(&self) -> bool {
        matches!(self.kind, Kind::Limited6)
    }

    fn ip(
        src_mac: Mac,
        dst_mac: Mac,
        src: IpAddr,
        dst: IpAddr,
        protocol: u8,
        ttl: u8,
    ) -> Result<OuterHeader, FamilyMismatch> {
        let mut bytes = [0; VXLAN6];
        let (kind, ethertype, sum) = match (src, dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                let mut v = ipv4::View::new_unchecked(&mut bytes[IP..UDP4]);
                v.set_header_len(ipv4::HEADER_LEN);
                v.set_ttl(ttl);
                v.set_protocol(protocol);
                v.set_src(src);
                v.set_dst(dst);
                let sum = u32::from(checksum::sum(&bytes[IP..UDP4]));
                (Kind::Ipip4, ethertype::IPV4, sum)
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                ipv6::Repr {
                    src,
                    dst,
                    next_header: protocol,
                    traffic_class: 0,
                    flow_label: 0,
                    hop_limit: ttl,
                    payload_len: 0,
                }
                .emit(&mut bytes[IP..UDP6]);
                let sum = u32::from(checksum::sum(&bytes[IP + 8..UDP6]));
                (Kind::Ipip6, ethertype::IPV6, sum)
            }
            _ => return Err(FamilyMismatch::Addresses),
        };
        ethernet::Repr { dst: dst_mac, src: src_mac, ethertype }.emit(&mut bytes);
        Ok(OuterHeader { bytes, kind, sum })
    }

    /// Length in bytes: what a packet grows by at its front. An IPIP header takes the place of an
    /// inner Ethernet header of 14 bytes.
    #[allow(clippy::len_without_is_empty)]
    #[inline(always)]
    pub const fn len(&self) -> usize {
        match self.kind {
            Kind::Vxlan4 => VXLAN4,
            Kind::Vxlan6 => VXLAN6,
            Kind::Ipip4 => UDP4,
            Kind::Ipip6 => UDP6,
            Kind::Limited6 => LIMITED6,
        }
    }

    /// What the outer IP packet is longer by than the inner frame (VXLAN) or the inner IP packet
    /// (IPIP): the figure for MTU arithmetic.
    #[inline]
    pub const fn ip_overhead(&self) -> usize {
        self.len() - ethernet::HEADER_LEN
    }

    /// Whether the outer packet is IPv4.
    #[inline(always)]
    pub const fn is_ipv4(&self) -> bool {
        matches!(self.kind, Kind::Vxlan4 | Kind::Ipip4)
    }

    /// Whether this is VXLAN; IPIP otherwise.
    #[inline(always)]
    pub const fn is_vxlan(&self) -> bool {
        matches!(self.kind, Kind::Vxlan4 | Kind::Vxlan6)
    }

    /// Whether this is VXLAN over IPv4: [`VXLAN4_LEN`] bytes.
    #[inline(always)]
    pub const fn is_vxlan4(&self) -> bool {
        matches!(self.kind, Kind::Vxlan4)
    }

    /// Whether this is IPIP over IPv4: [`IPIP4_LEN`] bytes.
    #[inline(always)]
    pub const fn is_ipip4(&self) -> bool {
        matches!(self.kind, Kind::Ipip4)
    }

    /// The prebuilt octets, [`OuterHeader::len`] of them and more.
    pub(super) const fn bytes(&self) -> &[u8; VXLAN6] {
        &self.bytes
    }

    /// The next hop's MAC.
    #[inline]
    pub fn dst_mac(&self) -> Mac {
        ethernet::View::new_unchecked(&self.bytes[..]).dst()
    }

    /// The same tunnel through another next hop.
    #[must_use]
    pub fn with_macs(mut self, src_mac: Mac, dst_mac: Mac) -> OuterHeader {
        ethernet::rewrite(&mut self.bytes, dst_mac, src_mac);
        self
    }

    /// Writes a VXLAN header to `out`, the [`OuterHeader::len`] bytes in front of the inner frame.
    ///
    /// `payload_len` is the length of the inner frame, segments beyond the first included.
    /// `fragmentation` has no meaning over IPv6, whose routers never fragment. The UDP checksum is
    /// left at zero, "none": RFC 7348 section 4.1 asks for it over IPv4. Over IPv6 that needs the
    /// receiver's consent (RFC 6935): call [`OuterHeader::fill_udp_checksum`] unless it is known.
    #[inline(always)]
    pub fn write_vxlan(
        &self,
        out: &mut [u8],
        payload_len: usize,
        src_port: u16,
        tos: u8,
        fragmentation: Fragmentation,
    ) -> Result<(), WriteError> {
        match self.kind {
            Kind::Vxlan4 => {
                let out = out.try_into().map_err(|_| WriteError::Buffer)?;
                self.write_vxlan4(out, payload_len, src_port, tos, fragmentation)?;
            }
            Kind::Vxlan6 => {
                let len = ip_length(payload_len, UDP_OVERHEAD)?;
                let out = sized::<VXLAN6>(out)?;
                self.copy_to(out);
                finish_ipv6(out, len, tos, protocol::UDP);
                finish_udp(out, UDP6, src_port, len);
            }
            Kind::Ipip4 | Kind::Ipip6 | Kind::Limited6 => return Err(WriteError::Kind),
        }
        Ok(())
    }

    /// [`OuterHeader::write_vxlan`] where [`OuterHeader::is_vxlan4`].
    #[inline(always)]
    pub fn write_vxlan4(
        &self,
        out: &mut [u8; VXLAN4_LEN],
        payload_len: usize,
        src_port: u16,
        tos: u8,
        fragmentation: Fragmentation,
    ) -> Result<(), WriteError> {
        let total = ip_length(payload_len, VXLAN4 - IP)?;
        self.copy_to(out);
        self.finish_ipv4(out, total, tos, fragmentation, 0);
        finish_udp(out, UDP4, src_port, total - ipv4::HEADER_LEN as u16);
        Ok(())
    }

    /// [`OuterHeader::write_ipip`] where [`OuterHeader::is_ipip4`].
    #[inline(always)]
    pub fn write_ipip4(
        &self,
        out: &mut [u8; IPIP4_LEN],
        payload_len: usize,
        inner: IpVersion,
        tos: u8,
        fragmentation: Fragmentation,
    ) -> Result<(), WriteError> {
        let total = ip_length(payload_len, UDP4 - IP)?;
        self.copy_to(out);
        out[IP + 9] = inner.protocol();
        self.finish_ipv4(out, total, tos, fragmentation, inner.protocol());
        Ok(())
    }

    /// Writes an IPIP header to `out`, the [`OuterHeader::len`] bytes in front of the inner IP
    /// packet.
    ///
    /// `payload_len` is the length of the inner IP packet, segments beyond the first included;
    /// `inner` its version. `fragmentation` has no meaning over IPv6.
    #[inline(always)]
    pub fn write_ipip(
        &self,
        out: &mut [u8],
        payload_len: usize,
        inner: IpVersion,
        tos: u8,
        fragmentation: Fragmentation,
    ) -> Result<(), WriteError> {
        match self.kind {
            Kind::Ipip4 => {
                let out = out.try_into().map_err(|_| WriteError::Buffer)?;
                self.write_ipip4(out, payload_len, inner, tos, fragmentation)?;
            }
            Kind::Ipip6 => {
                let len = ip_length(payload_len, 0)?;
                let out = sized::<UDP6>(out)?;
                self.copy_to(out);
                finish_ipv6(out, len, tos, inner.protocol());
            }
            Kind::Limited6 => {
                let len = ip_length(payload_len, LIMIT_LEN)?;
                let out = sized::<LIMITED6>(out)?;
                self.copy_to(out);
                finish_ipv6(out, len, tos, protocol::DESTINATION_OPTIONS);
                out[UDP6] = inner.protocol();
            }
            Kind::Vxlan4 | Kind::Vxlan6 => return Err(WriteError::Kind),
        }
        Ok(())
    }

    /// Sets the flow label, 20 bits, of an outer IPv6 header that was written; one of IPv4 has none.
    #[inline(always)]
    pub fn set_flow_label(&self, out: &mut [u8], label: u32) {
        if !self.is_ipv4() {
            ipv6::View::new_unchecked(&mut out[IP..]).set_flow_label(label);
        }
    }

    /// Computes and stores the UDP checksum of a VXLAN packet whose outer header was written.
    ///
    /// `first` is the first segment from the outer Ethernet header on, `rest` the further ones. The
    /// sum goes over the whole payload: over IPv4, where none is needed, do without.
    pub fn fill_udp_checksum(&self, first: &mut [u8], rest: &[&[u8]]) -> Result<(), WriteError> {
        let at = match self.kind {
            Kind::Vxlan4 => UDP4,
            Kind::Vxlan6 => UDP6,
            Kind::Ipip4 | Kind::Ipip6 | Kind::Limited6 => return Err(WriteError::Kind),
        };
        if first.len() < at + UDP_OVERHEAD {
            return Err(WriteError::Buffer);
        }
        let v = udp::View::new_unchecked(&first[at..]);
        let (len, old) = (v.len(), v.checksum());
        let pseudo = if self.is_ipv4() {
            let ip = ipv4::View::new_unchecked(&self.bytes[IP..]);
            Sum::ZERO.pseudo_v4(ip.src(), ip.dst(), protocol::UDP, len as u16)
        } else {
            Sum::ZERO.u32(self.sum).u16(u16::from(protocol::UDP)).u16(len as u16)
        };
        // What the field holds is taken out of the sum (RFC 1624), not overwritten first: a wide load
        // just behind a narrow store would have to wait for it.
        let sum = sum_segments(pseudo.u16(!old), &first[at..], rest, len).udp_checksum();
        udp::View::new_unchecked(&mut first[at..]).set_checksum(sum);
        Ok(())
    }

    #[inline(always)]
    fn copy_to<const N: usize>(&self, out: &mut [u8; N]) {
        if let Some(bytes) = self.bytes.first_chunk() {
            *out = *bytes;
        }
    }

    /// Fills what differs between IPv4 packets, and completes the precomputed sum with it.
    /// `protocol` is what `self.sum` lacks: 0 when it was known before.
    #[inline(always)]
    fn finish_ipv4(
        &self,
        out: &mut [u8],
        total: u16,
        tos: u8,
        fragmentation: Fragmentation,
        protocol: u8,
    ) {
        let (ident, fragment) = match fragmentation {
            Fragmentation::Forbidden => (0, 0x4000),
            Fragmentation::Allowed { ident } => (ident, 0),
        };
        let words = [u16::from(tos), total, ident, fragment, u16::from(protocol)];
        // Six words are at most five times over 16 bits, so that two folds are enough.
        let sum = self.sum + words.iter().map(|&word| u32::from(word)).sum::<u32>();
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = (sum + (sum >> 16)) as u16;
        wire::write_u8(out, IP + 1, tos);
        wire::write_u16(out, IP + 2..IP + 4, total);
        wire::write_u16(out, IP + 4..IP + 6, ident);
        wire::write_u16(out, IP + 6..IP + 8, fragment);
        wire::write_u16(out, IP + 10..IP + 12, !sum);
    }
}

#[inline(always)]
fn sized<const N: usize>(out: &mut [u8]) -> Result<&mut [u8; N], WriteError> {
    out.try_into().map_err(|_| WriteError::Buffer)
}

#[inline(always)]
fn finish_ipv6(out: &mut [u8], payload_len: u16, tos: u8, next_header: u8) {
    wire::write_u32(out, IP..IP + 4, 6 << 28 | u32::from(tos) << 20);
    wire::write_u16(out, IP + 4..IP + 6, payload_len);
    wire::write_u8(out, IP + 6, next_header);
}

#[inline(always)]
fn finish_udp(out: &mut [u8], at: usize, src_port: u16, len: u16) {
    wire::write_u16(out, at..at + 2, src_port);
    wire::write_u16(out, at + 4..at + 6, len);
}

/// The value of a 16-bit IP length field.
#[inline(always)]
fn ip_length(payload_len: usize, overhead: usize) -> Result<u16, WriteError> {
    payload_len.checked_add(overhead).and_then(|n| u16::try_from(n).ok()).ok_or(WriteError::TooLong)
}
