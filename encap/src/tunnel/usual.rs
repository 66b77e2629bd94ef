//! The usual tunnel packet: over IPv4 without options, not a fragment, all lengths as a sender writes them.
//! What [`super::parse_outer_v4`] says of it, in a few wide loads; every other packet is for that.

use core::net::Ipv4Addr;

use crate::ethernet::{self, ethertype};
use crate::ip::protocol;
use crate::words::Ipv4;
use crate::{Vni, ipv4, udp, vxlan};

const IP: usize = ethernet::HEADER_LEN;
const UPPER: usize = IP + ipv4::HEADER_LEN;

/// The outer headers of a usual VXLAN packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UsualVxlan {
    /// Source.
    pub src: Ipv4Addr,
    /// Destination.
    pub dst: Ipv4Addr,
    /// DSCP and ECN.
    pub tos: u8,
    /// UDP destination port. Whether VXLAN is received on it is for the caller to know.
    pub dst_port: u16,
    /// Network identifier.
    pub vni: Vni,
    /// Bytes of the inner frame, which starts at [`UsualVxlan::LEN`].
    pub inner_len: usize,
}

/// The outer header of a usual IPv4 packet in IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UsualIpip {
    /// Source.
    pub src: Ipv4Addr,
    /// Destination.
    pub dst: Ipv4Addr,
    /// DSCP and ECN.
    pub tos: u8,
    /// Bytes of the inner packet, which starts at [`UsualIpip::LEN`].
    pub inner_len: usize,
}

/// A big-endian word of a header.
#[inline(always)]
fn word<const N: usize>(header: &[u8; N], at: usize) -> u64 {
    match header[at..].first_chunk() {
        Some(octets) => u64::from_be_bytes(*octets),
        None => 0,
    }
}

/// Addresses, tos and total length of an IPv4 packet of at least `least` bytes behind Ethernet that carries
/// `protocol` and is no fragment.
#[inline(always)]
fn ip<const N: usize>(
    header: &[u8; N],
    protocol: u8,
    least: usize,
    total_len: usize,
) -> Option<(Ipv4Addr, Ipv4Addr, u8, usize)> {
    let (ip, _) = header[IP..].split_first_chunk()?;
    if header[IP - 2..IP] != ethertype::IPV4.to_be_bytes() {
        return None;
    }
    // Total length, identification, flags and offset, TTL, protocol.
    const WANTED: u64 = 0x3fff_00ff;
    if word(header, IP + 2) & WANTED != u64::from(protocol) {
        return None;
    }
    let len = ipv4::usual_len(ip, least as u16)?;
    if IP + len > total_len {
        return None;
    }
    let [_, tos, .., s, s1, s2, s3, d, d1, d2, d3] = *ip;
    Some((Ipv4Addr::new(s, s1, s2, s3), Ipv4Addr::new(d, d1, d2, d3), tos, len))
}

impl UsualVxlan {
    /// Bytes of the outer headers.
    pub const LEN: usize = UPPER + udp::HEADER_LEN + vxlan::HEADER_LEN;

    /// Reads the outer headers of a frame of `total_len` bytes, whose first segment is given; none if the
    /// packet is not the usual one.
    #[inline(always)]
    pub fn read(frame: &[u8], total_len: usize) -> Option<UsualVxlan> {
        const LEAST: usize = UsualVxlan::LEN + ethernet::HEADER_LEN;
        let header = frame.first_chunk::<LEAST>()?;
        let outer = ip(header, protocol::UDP, LEAST - IP, total_len)?;
        UsualVxlan::behind(outer, header)
    }

    /// Reads the headers behind an outer one that is sound, as long as the frame, of UDP and no fragment; none
    /// if they are not the usual ones.
    #[inline(always)]
    pub fn of<const N: usize>(outer: Ipv4, frame: &[u8; N]) -> Option<UsualVxlan> {
        let src = Ipv4Addr::from_bits(outer.src().swap_bytes());
        let dst = Ipv4Addr::from_bits(outer.dst().swap_bytes());
        UsualVxlan::behind((src, dst, outer.tos(), outer.total_len()), frame)
    }

    /// The UDP and VXLAN headers behind an IPv4 header of these addresses, tos and total length.
    #[inline(always)]
    fn behind<const N: usize>(
        (src, dst, tos, len): (Ipv4Addr, Ipv4Addr, u8, usize),
        header: &[u8; N],
    ) -> Option<UsualVxlan> {
        let udp = word(header, UPPER);
        let vxlan = word(header, UPPER + udp::HEADER_LEN);
        if (udp >> 16) as u16 != (len - ipv4::HEADER_LEN) as u16
            || (vxlan >> 56) as u8 & vxlan::FLAG_VNI == 0
        {
            return None;
        }
        let (dst_port, vni) = ((udp >> 32) as u16, Vni::from_high_bits(vxlan as u32));
        Some(UsualVxlan { src, dst, tos, dst_port, vni, inner_len: IP + len - UsualVxlan::LEN })
    }
}

impl UsualIpip {
    /// Of an outer header that is sound, of IPIP and no fragment, and of the length behind it.
    #[inline(always)]
    pub fn of(outer: Ipv4, inner_len: usize) -> UsualIpip {
        UsualIpip {
            src: Ipv4Addr::from_bits(outer.src().swap_bytes()),
            dst: Ipv4Addr::from_bits(outer.dst().swap_bytes()),
            tos: outer.tos(),
            inner_len,
        }
    }

    /// Bytes of the outer headers.
    pub const LEN: usize = UPPER;

    /// Reads the outer header of a frame of `total_len` bytes, whose first segment is given; none if the
    /// packet is not the usual one.
    #[inline(always)]
    pub fn read(frame: &[u8], total_len: usize) -> Option<UsualIpip> {
        const LEAST: usize = UPPER + ipv4::HEADER_LEN;
        let header = frame.first_chunk::<LEAST>()?;
        let (src, dst, tos, len) = ip(header, protocol::IPIP, LEAST - IP, total_len)?;
        if header[UPPER] >> 4 != 4 {
            return None;
        }
        Some(UsualIpip { src, dst, tos, inner_len: len - ipv4::HEADER_LEN })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Mac;
    use crate::checksum;
    use crate::ip::IpVersion;
    use crate::ipv4::Fragmentation;
    use crate::tunnel::{Kind, Outer, OuterError, OuterHeader, parse_outer_v4};
    use proptest::prelude::*;

    const SRC: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
    const DST: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);

    /// A VXLAN or IPIP packet as [`OuterHeader`] writes it around `inner`.
    fn packet(vxlan: bool, inner: &[u8], tos: u8) -> Vec<u8> {
        let (a, b) = (Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2]));
        let (src, dst) = (SRC.into(), DST.into());
        let vni = Vni::new(0xab_cdef).unwrap();
        let header = if vxlan {
            OuterHeader::vxlan(a, b, src, dst, 4789, vni, 64).unwrap()
        } else {
            OuterHeader::ipip(a, b, src, dst, 64).unwrap()
        };
        let mut out = vec![0; header.len()];
        let (len, df) = (inner.len(), Fragmentation::Forbidden);
        if vxlan {
            header.write_vxlan(&mut out, len, 50_000, tos, df).unwrap();
        } else {
            header.write_ipip(&mut out, len, IpVersion::V4, tos, df).unwrap();
        }
        out.extend_from_slice(inner);
        out
    }

    fn full(frame: &[u8], total_len: usize) -> Result<Outer, OuterError> {
        // The EtherType is for the caller of the full parser to look at.
        match ethernet::header(frame) {
            Some((_, _, ethertype::IPV4)) => parse_outer_v4(frame, total_len, |_| true),
            _ => Err(OuterError::NotIp),
        }
    }

    /// Whatever one of the two takes is what the full parser says.
    fn agree(frame: &[u8], total_len: usize) -> Result<(bool, bool), TestCaseError> {
        let full = full(frame, total_len);
        let vxlan = UsualVxlan::read(frame, total_len);
        if let Some(u) = vxlan {
            let outer = full.unwrap();
            let Kind::Vxlan { vni, dst_port, .. } = outer.kind else { panic!("{outer:?}") };
            prop_assert_eq!((outer.src, outer.dst), (u.src.into(), u.dst.into()));
            prop_assert_eq!((outer.tos, vni, dst_port), (u.tos, u.vni, u.dst_port));
            prop_assert_eq!((outer.inner_offset, outer.inner_len), (UsualVxlan::LEN, u.inner_len));
        }
        let ipip = UsualIpip::read(frame, total_len);
        if let Some(u) = ipip {
            let outer = full.unwrap();
            prop_assert_eq!(outer.kind, Kind::Ipip { inner: IpVersion::V4 });
            prop_assert_eq!((outer.src, outer.dst, outer.tos), (u.src.into(), u.dst.into(), u.tos));
            prop_assert_eq!((outer.inner_offset, outer.inner_len), (UsualIpip::LEN, u.inner_len));
        }
        Ok((vxlan.is_some(), ipip.is_some()))
    }

    /// Puts the checksum of the outer IPv4 header right.
    fn fix(frame: &mut [u8]) {
        frame[IP + 10..IP + 12].fill(0);
        let sum = checksum::checksum(&frame[IP..UPPER]);
        frame[IP + 10..IP + 12].copy_from_slice(&sum.to_be_bytes());
    }

    #[test]
    fn one_change_at_a_time() {
        let mut inner = vec![0x5a; 60];
        inner[0] = 0x45;
        for vxlan in [true, false] {
            let whole = packet(vxlan, &inner, 0xb8);
            let taken = agree(&whole, whole.len()).unwrap();
            assert_eq!(taken, (vxlan, !vxlan), "what we write ourselves is usual");
            let mut refused = 0;
            for at in IP - 2..(UPPER + 16) {
                for value in 0..=255 {
                    let mut frame = whole.clone();
                    frame[at] = value;
                    for fixed in [false, true] {
                        if fixed {
                            fix(&mut frame);
                        }
                        for len in [frame.len(), frame.len() - 1] {
                            refused += usize::from(agree(&frame, len).unwrap() == (false, false));
                        }
                    }
                }
            }
            assert!(refused > 10_000, "most changes make it unusual: {refused}");
            for len in 0..whole.len() {
                assert_eq!(agree(&whole[..len], len).unwrap(), (false, false), "cut to {len}");
            }
            // Padding behind the packet, and a packet that goes on in another segment.
            let mut padded = whole.clone();
            padded.extend([0; 6]);
            assert_eq!(agree(&padded, padded.len()).unwrap(), taken);
            assert_eq!(agree(&whole[..70], whole.len()).unwrap(), taken);
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_full_parser(
            vxlan: bool,
            tos: u8,
            version in prop::sample::select(vec![4u8, 6, 0]),
            mut inner in prop::collection::vec(any::<u8>(), 1..120),
            changes in prop::collection::vec((IP - 2..UPPER + 20, any::<u8>()), 0..4),
            fixed: bool,
            cut in 0..20usize,
            pad in 0..20usize,
        ) {
            inner[0] = version << 4 | 5;
            let mut frame = packet(vxlan, &inner, tos);
            frame.extend(std::iter::repeat_n(0, pad));
            for (at, value) in changes {
                if let Some(octet) = frame.get_mut(at) {
                    *octet = value;
                }
            }
            if fixed {
                fix(&mut frame);
            }
            frame.truncate(frame.len() - cut);
            agree(&frame, frame.len())?;
        }

        #[test]
        fn random_bytes(frame in prop::collection::vec(any::<u8>(), 0..100), len in 0..120usize) {
            agree(&frame, len.max(frame.len()))?;
        }
    }
}
