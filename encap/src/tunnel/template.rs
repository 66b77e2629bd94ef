//! The outer header of the usual tunnel packet, over IPv4 and not to be fragmented: written in a few wide
//! stores, its checksum completed from a sum that is known beforehand.

use super::encap::{IPIP4_LEN, OuterHeader, VXLAN4_LEN};
use crate::ethernet::HEADER_LEN;
use crate::ip::protocol;
use crate::ipv4;

const IP: usize = HEADER_LEN;
const UDP: usize = IP + ipv4::HEADER_LEN;

/// An [`OuterHeader`] of VXLAN or IPIP over IPv4, as it is around every packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Template {
    /// As sent, but for what differs: tos, lengths, checksum, source port.
    bytes: [u8; VXLAN4_LEN],
    /// The sum of what is the same of the IPv4 header, in words of little-endian order; 16 bits.
    sum: u32,
}

impl Default for Template {
    fn default() -> Template {
        Template { bytes: [0; VXLAN4_LEN], sum: 0 }
    }
}

impl Template {
    /// The largest IP packet, in bytes.
    const MOST: usize = u16::MAX as usize;
    /// Bytes of the largest Ethernet frame that [`Template::write_vxlan`] puts its header before.
    pub const MOST_IN_VXLAN: usize = Template::MOST - (VXLAN4_LEN - IP);
    /// Bytes of the largest packet that [`Template::write_ipip`] puts its header before.
    pub const MOST_IN_IPIP: usize = Template::MOST - ipv4::HEADER_LEN;

    /// None of a header over IPv6. An IPIP packet is to carry IPv4.
    pub fn of(header: &OuterHeader) -> Option<Template> {
        let mut bytes = *header.bytes().first_chunk::<VXLAN4_LEN>()?;
        if !header.is_ipv4() {
            return None;
        }
        let mut ip = ipv4::View::new_unchecked(&mut bytes[IP..UDP]);
        ip.set_fragment(true, false, 0);
        if !header.is_vxlan() {
            ip.set_protocol(protocol::IPIP);
        }
        let words = bytes[IP..UDP].as_chunks::<2>().0.iter();
        let sum = words.map(|word| u32::from(u16::from_le_bytes(*word))).sum();
        Some(Template { bytes, sum: u32::from(fold(sum)) })
    }

    /// Writes a VXLAN header in front of an Ethernet frame of `payload_len` bytes, at most
    /// [`Template::MOST_IN_VXLAN`]. The UDP checksum is zero (RFC 7348 section 4.1).
    #[inline(always)]
    pub fn write_vxlan(
        &self,
        out: &mut [u8; VXLAN4_LEN],
        payload_len: usize,
        source_port: u16,
        tos: u8,
    ) {
        debug_assert!(payload_len <= Template::MOST_IN_VXLAN);
        let total = (payload_len + VXLAN4_LEN - IP) as u16;
        *out = self.bytes;
        self.finish(out, total, tos);
        let udp_len = total - ipv4::HEADER_LEN as u16;
        out[UDP..UDP + 2].copy_from_slice(&source_port.to_be_bytes());
        out[UDP + 4..UDP + 6].copy_from_slice(&udp_len.to_be_bytes());
    }

    /// Writes an IPIP header in front of an IPv4 packet of `payload_len` bytes, at most
    /// [`Template::MOST_IN_IPIP`] (RFC 2003 section 3.1).
    #[inline(always)]
    pub fn write_ipip(&self, out: &mut [u8; IPIP4_LEN], payload_len: usize, tos: u8) {
        debug_assert!(payload_len <= Template::MOST_IN_IPIP);
        if let Some(bytes) = self.bytes.first_chunk() {
            *out = *bytes;
        }
        self.finish(out, (payload_len + ipv4::HEADER_LEN) as u16, tos);
    }

    #[inline(always)]
    fn finish<const N: usize>(&self, out: &mut [u8; N], total: u16, tos: u8) {
        let total = total.swap_bytes();
        let checksum = !fold(self.sum + (u32::from(tos) << 8) + u32::from(total));
        // Version and header length, tos and total length.
        let start = 0x45 | u32::from(tos) << 8 | u32::from(total) << 16;
        out[IP..IP + 4].copy_from_slice(&start.to_le_bytes());
        out[IP + 10..IP + 12].copy_from_slice(&checksum.to_le_bytes());
    }
}

/// The two halves of a sum added, the carry come round.
#[inline(always)]
const fn fold(sum: u32) -> u16 {
    (sum.wrapping_add(sum.rotate_left(16)) >> 16) as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ip::IpVersion;
    use crate::ipv4::Fragmentation;
    use crate::{Mac, Vni};
    use proptest::prelude::*;
    use std::net::IpAddr;

    #[test]
    fn none_over_ipv6() {
        let (mac, ip) = (Mac([2; 6]), IpAddr::V6(1.into()));
        let header = OuterHeader::ipip(mac, mac, ip, ip, 64).unwrap();
        assert_eq!(Template::of(&header), None);
    }

    proptest! {
        #[test]
        fn writes_what_the_header_does(
            macs: [[u8; 6]; 2], ips: [[u8; 4]; 2], dst_port: u16, vni in 0u32..1 << 24, ttl: u8,
            len in 0..=Template::MOST_IN_VXLAN, port: u16, tos: u8,
        ) {
            let (a, b, src, dst) = (Mac(macs[0]), Mac(macs[1]), ips[0].into(), ips[1].into());
            let vni = Vni::new(vni).unwrap();
            let header = OuterHeader::vxlan(a, b, src, dst, dst_port, vni, ttl).unwrap();
            let (mut wanted, mut found) = ([1; VXLAN4_LEN], [2; VXLAN4_LEN]);
            header.write_vxlan(&mut wanted, len, port, tos, Fragmentation::Forbidden).unwrap();
            Template::of(&header).unwrap().write_vxlan(&mut found, len, port, tos);
            prop_assert_eq!(found, wanted);
            let header = OuterHeader::ipip(a, b, src, dst, ttl).unwrap();
            let (mut wanted, mut found) = ([1; IPIP4_LEN], [2; IPIP4_LEN]);
            header.write_ipip(&mut wanted, len, IpVersion::V4, tos, Fragmentation::Forbidden).unwrap();
            Template::of(&header).unwrap().write_ipip(&mut found, len, tos);
            prop_assert_eq!(found, wanted);
        }
    }
}
