//! Headers as a few wide words, in the order of their octets as a little-endian processor loads them: for
//! the forwarding path of the usual frame, which reads each header once and decides in registers.
//!
//! Nothing here is swapped that is only compared, and nothing is loaded twice. The views of the other
//! modules say what each field means.

use crate::ip::has_ports;
use crate::{Mac, ipv4, ipv6};

/// Octets `at` to `at + 8`.
#[inline(always)]
fn word<const N: usize>(octets: &[u8; N], at: usize) -> u64 {
    match octets[at..].first_chunk() {
        Some(octets) => u64::from_le_bytes(*octets),
        None => 0,
    }
}

/// The header of an Ethernet frame in two words that overlap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ethernet {
    /// Octets 0 to 8.
    start: u64,
    /// Octets 6 to 14.
    end: u64,
    /// Octets 12 to 14, loaded for themselves: to cut them out of the above takes longer.
    ethertype: u16,
}

/// The EtherType of IPv4 as [`Ethernet::ethertype`] has it.
pub const IPV4: u16 = 0x0800u16.swap_bytes();
/// That of IPv6.
pub const IPV6: u16 = 0x86ddu16.swap_bytes();

impl Ethernet {
    /// The header at the front of these octets.
    #[inline(always)]
    pub fn read<const N: usize>(octets: &[u8; N]) -> Ethernet {
        const { assert!(N >= 14) };
        let ethertype = u16::from_le_bytes([octets[12], octets[13]]);
        Ethernet { start: word(octets, 0), end: word(octets, 6), ethertype }
    }

    /// A header of these addresses and of the EtherType of IPv4.
    pub fn ipv4(dst: Mac, src: Mac) -> Ethernet {
        let (d, s) = (dst.0, src.0);
        Ethernet::read(&[
            d[0], d[1], d[2], d[3], d[4], d[5], s[0], s[1], s[2], s[3], s[4], s[5], 8, 0,
        ])
    }

    /// The destination in the high 48 bits, its first octet lowest; zeros below. See [`mac_word`].
    #[inline(always)]
    pub const fn dst(self) -> u64 {
        self.start << 16
    }

    /// The source, likewise.
    #[inline(always)]
    pub const fn src(self) -> u64 {
        self.end << 16
    }

    /// The EtherType, octets swapped.
    #[inline(always)]
    pub const fn ethertype(self) -> u16 {
        self.ethertype
    }

    /// Whether one of the two addresses is a group's (IEEE 802.3 clause 3.2.3).
    #[inline(always)]
    pub const fn has_group(self) -> bool {
        (self.start | self.end) & 1 != 0
    }

    /// Writes the addresses to the front of these octets.
    #[inline(always)]
    pub fn write_addresses<const N: usize>(self, octets: &mut [u8; N]) {
        const { assert!(N >= 12) };
        octets[..8].copy_from_slice(&self.start.to_le_bytes());
        octets[8..12].copy_from_slice(&((self.end >> 16) as u32).to_le_bytes());
    }

    /// Writes the header to the front of these octets.
    #[inline(always)]
    pub fn write<const N: usize>(self, octets: &mut [u8; N]) {
        const { assert!(N >= 14) };
        octets[..8].copy_from_slice(&self.start.to_le_bytes());
        octets[6..14].copy_from_slice(&self.end.to_le_bytes());
    }
}

/// A MAC address as [`Ethernet::dst`] has it, from [`Mac::to_u64`].
#[inline(always)]
pub const fn mac_word(mac: u64) -> u64 {
    mac.swap_bytes()
}

/// An IPv4 header without options in three words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv4 {
    /// Octets 0 to 8: version and header length, tos, total length, identification, flags and offset.
    start: u64,
    /// Octets 8 to 16: TTL, protocol, checksum, source.
    middle: u64,
    /// Octets 12 to 20: source, destination.
    end: u64,
}

impl Ipv4 {
    /// The header at octet `AT`.
    #[inline(always)]
    pub fn read<const AT: usize, const N: usize>(octets: &[u8; N]) -> Ipv4 {
        const { assert!(N >= AT + ipv4::HEADER_LEN) };
        Ipv4 { start: word(octets, AT), middle: word(octets, AT + 8), end: word(octets, AT + 12) }
    }

    /// Whether version and header length are those of IPv4 without options, the packet is `len` bytes
    /// long, below 2^24, and the checksum is right.
    #[inline(always)]
    pub const fn is_sound(self, len: usize) -> bool {
        debug_assert!(len >> 24 == 0);
        // Octets 0 to 4 without the tos. A length of more than 16 bits has one where that was.
        if (self.start as u32 & 0xffff_00ff) ^ 0x45 != (len as u32).swap_bytes() {
            return false;
        }
        // Adding with the carry come round keeps the remainder by 2^64 - 1, and so the one by 0xffff, of
        // which that is a multiple. A sum of words of which one is not zero is not zero.
        let (sum, carry) = self.start.overflowing_add(self.middle);
        let (sum, more) = sum.overflowing_add(carry as u64);
        debug_assert!(!more);
        let (sum, carry) = sum.overflowing_add(self.end >> 32);
        let sum = sum.wrapping_add(carry as u64);
        // Times the inverse of 0xffff a multiple of it is what it is times 0xffff, 2^64 / 0xffff at most;
        // everything else is above that.
        const INVERSE: u64 = 0xfffe_fffe_fffe_ffff;
        const { assert!(INVERSE.wrapping_mul(0xffff) == 1) };
        sum.wrapping_mul(INVERSE) <= u64::MAX / 0xffff
    }

    /// Whether version and header length are those of IPv4 without options.
    #[inline(always)]
    pub const fn has_no_options(self) -> bool {
        self.start as u8 == 0x45
    }

    /// Total length in bytes.
    #[inline(always)]
    pub const fn total_len(self) -> usize {
        ((self.start >> 16) as u16).swap_bytes() as usize
    }

    /// DSCP and ECN.
    #[inline(always)]
    pub const fn tos(self) -> u8 {
        (self.start >> 8) as u8
    }

    /// Whether it is a fragment, the first or a later one.
    #[inline(always)]
    pub const fn is_fragment(self) -> bool {
        self.start & 0xff3f << 48 != 0
    }

    /// Whether it must not be fragmented.
    #[inline(always)]
    pub const fn dont_fragment(self) -> bool {
        self.start & 0x40 << 48 != 0
    }

    /// TTL.
    #[inline(always)]
    pub const fn ttl(self) -> u8 {
        self.middle as u8
    }

    /// Protocol.
    #[inline(always)]
    pub const fn protocol(self) -> u8 {
        (self.middle >> 8) as u8
    }

    /// The first octets of source and destination.
    #[inline(always)]
    pub const fn networks(self) -> (u8, u8) {
        (self.end as u8, (self.end >> 32) as u8)
    }

    /// Source, its first octet lowest.
    #[inline(always)]
    pub const fn src(self) -> u32 {
        self.end as u32
    }

    /// Destination, its first octet lowest.
    #[inline(always)]
    pub const fn dst(self) -> u32 {
        (self.end >> 32) as u32
    }

    /// Both addresses, the source's first octet highest.
    #[inline(always)]
    pub const fn addresses(self) -> u64 {
        self.end.swap_bytes()
    }

    /// Octets 8 to 12 once one is taken from the TTL, which must be 1 at least, and the checksum is
    /// updated (RFC 1624, see [`ipv4::View::decrement_ttl`]).
    #[inline(always)]
    pub const fn hop_counted(self) -> [u8; 4] {
        let word = self.middle as u32;
        let carry = if word >= 0xfffe_0000 { 1 << 16 } else { 0 };
        word.wrapping_add((1 << 16) - 1).wrapping_add(carry).to_le_bytes()
    }
}

/// An IPv6 header in five words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv6 {
    /// Octets 0 to 8: version, traffic class, flow label, payload length, next header, hop limit.
    start: u64,
    src: [u64; 2],
    dst: [u64; 2],
}

impl Ipv6 {
    /// The header at octet `AT`.
    #[inline(always)]
    pub fn read<const AT: usize, const N: usize>(octets: &[u8; N]) -> Ipv6 {
        const { assert!(N >= AT + ipv6::HEADER_LEN) };
        let address = |at| [word(octets, at), word(octets, at + 8)];
        Ipv6 { start: word(octets, AT), src: address(AT + 8), dst: address(AT + 24) }
    }

    /// Whether the version is that of IPv6, the packet is `len` bytes long, header included, and its next
    /// header is one of those that begin with two ports, and no extension header.
    #[inline(always)]
    pub const fn is_plain(self, len: usize) -> bool {
        let payload_len = ((self.start >> 32) as u16).swap_bytes() as usize;
        self.is_version_6()
            && payload_len + ipv6::HEADER_LEN == len
            && has_ports(self.next_header())
    }

    /// Whether the version is that of IPv6.
    #[inline(always)]
    pub const fn is_version_6(self) -> bool {
        self.start as u8 >> 4 == 6
    }

    /// Next header.
    #[inline(always)]
    pub const fn next_header(self) -> u8 {
        (self.start >> 48) as u8
    }

    /// Hop limit.
    #[inline(always)]
    pub const fn hop_limit(self) -> u8 {
        (self.start >> 56) as u8
    }

    /// DSCP and ECN.
    #[inline(always)]
    pub const fn traffic_class(self) -> u8 {
        (self.start as u8) << 4 | (self.start >> 8) as u8 >> 4
    }

    /// The first octets of source and destination.
    #[inline(always)]
    pub const fn networks(self) -> (u8, u8) {
        (self.src[0] as u8, self.dst[0] as u8)
    }

    /// Source, in two words, the first octet of each lowest. See [`address_words`].
    #[inline(always)]
    pub const fn src(self) -> [u64; 2] {
        self.src
    }

    /// Destination, likewise.
    #[inline(always)]
    pub const fn dst(self) -> [u64; 2] {
        self.dst
    }

    /// Destination, its first octet highest.
    #[inline(always)]
    pub const fn dst_bits(self) -> u128 {
        (self.dst[0].swap_bytes() as u128) << 64 | self.dst[1].swap_bytes() as u128
    }
}

/// An IPv6 address as [`Ipv6::src`] has it.
pub const fn address_words(address: core::net::Ipv6Addr) -> [u64; 2] {
    let bits = address.to_bits();
    [((bits >> 64) as u64).swap_bytes(), (bits as u64).swap_bytes()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{checksum, ethernet, flow};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn ethernet_headers(bytes: [u8; 20]) {
            let (header, view) = (Ethernet::read(&bytes), ethernet::View::new_unchecked(&bytes[..]));
            prop_assert_eq!(header.dst(), mac_word(view.dst().to_u64()));
            prop_assert_eq!(header.src(), mac_word(view.src().to_u64()));
            prop_assert_eq!(header.ethertype().swap_bytes(), view.ethertype());
            let group = view.dst().is_multicast() || view.src().is_multicast();
            prop_assert_eq!(header.has_group(), group);
            let mut other = [0xa5; 20];
            header.write(&mut other);
            prop_assert_eq!(&other[..14], &bytes[..14]);
            prop_assert_eq!(&other[14..], &[0xa5; 6]);
            let mut other = [0xa5; 20];
            header.write_addresses(&mut other);
            prop_assert_eq!(&other[..12], &bytes[..12]);
            prop_assert_eq!(&other[12..], &[0xa5; 8]);
        }

        #[test]
        fn ipv6_headers(mut bytes: [[u8; 16]; 3], usual: bool, udp: bool) {
            if usual {
                bytes[0][1] = 0x60 | bytes[0][1] & 0xf;
                bytes[0][7] = if udp { 17 } else { 6 };
            }
            let bytes = bytes.as_flattened();
            let view = ipv6::View::new_unchecked(&bytes[1..41]);
            let header = Ipv6::read::<1, 48>(bytes.first_chunk().unwrap());
            prop_assert_eq!(header.is_version_6(), bytes[1] >> 4 == 6);
            prop_assert_eq!(header.next_header(), view.next_header());
            prop_assert_eq!(header.hop_limit(), view.hop_limit());
            prop_assert_eq!(header.traffic_class(), view.traffic_class());
            prop_assert_eq!(header.src(), address_words(view.src()));
            prop_assert_eq!(header.dst(), address_words(view.dst()));
            prop_assert_eq!(header.dst_bits(), view.dst().to_bits());
            prop_assert_eq!(header.networks(), (view.src().octets()[0], view.dst().octets()[0]));
            let len = view.total_len();
            // TCP, UDP, DCCP, SCTP, UDP-Lite.
            let plain = bytes[1] >> 4 == 6 && [6, 17, 33, 132, 136].contains(&bytes[7]);
            prop_assert_eq!(header.is_plain(len), plain);
            prop_assert!(!header.is_plain(len + 1) && !header.is_plain(len - 1));
            if plain {
                let ports = *bytes[41..].first_chunk().unwrap();
                let hash = flow::hash_ipv6(&bytes[1..]);
                prop_assert_eq!(flow::hash_plain_ipv6(header, ports), hash);
            }
        }

        #[test]
        fn ipv4_headers(mut bytes: [u8; 24], fixed: bool, usual: bool, ttl in 1u8..) {
            if usual {
                bytes[2] = 0x45;
            }
            if fixed {
                bytes[12..14].fill(0);
                let sum = checksum::checksum(&bytes[2..22]);
                bytes[12..14].copy_from_slice(&sum.to_be_bytes());
            }
            bytes[10] = if fixed { bytes[10] } else { ttl };
            let (header, view) = (Ipv4::read::<2, 24>(&bytes), ipv4::View::new_unchecked(&bytes[2..22]));
            let sound = bytes[2] == 0x45 && view.checksum_ok();
            let len = usize::from(u16::from_be_bytes([bytes[4], bytes[5]]));
            prop_assert_eq!(header.total_len(), len);
            prop_assert_eq!(header.has_no_options(), bytes[2] == 0x45);
            prop_assert_eq!(header.is_sound(len), sound);
            for other in [len + 1, len.saturating_sub(1), len + 0x1_0000, len << 8] {
                prop_assert!(other == len || !header.is_sound(other));
            }
            prop_assert_eq!(header.tos(), view.tos());
            prop_assert_eq!(header.is_fragment(), view.is_fragment());
            prop_assert_eq!(header.dont_fragment(), view.dont_fragment());
            prop_assert_eq!((header.ttl(), header.protocol()), (view.ttl(), view.protocol()));
            prop_assert_eq!(header.src().to_le_bytes(), view.src().octets());
            prop_assert_eq!(header.dst().to_le_bytes(), view.dst().octets());
            let addresses = u64::from(view.src().to_bits()) << 32 | u64::from(view.dst().to_bits());
            prop_assert_eq!(header.addresses(), addresses);
            prop_assert_eq!(header.networks(), (view.src().octets()[0], view.dst().octets()[0]));
            if sound && view.ttl() > 1 {
                let mut counted = bytes;
                ipv4::View::new_unchecked(&mut counted[2..22]).decrement_ttl().unwrap();
                prop_assert_eq!(&header.hop_counted(), &counted[10..14]);
                prop_assert!(ipv4::View::new_unchecked(&counted[2..22]).checksum_ok());
            }
        }
    }

    /// Sums at the edges: where a carry comes round, and all ones.
    #[test]
    fn sums_at_their_edges() {
        let edges = [0u16, 1, 0x7fff, 0x8000, 0xfffe, 0xffff];
        for (i, j, k) in (0..216).map(|n| (n % 6, n / 6 % 6, n / 36)) {
            let mut bytes = [0u8; 20];
            for (n, word) in bytes.chunks_exact_mut(2).enumerate() {
                let value = [edges[i], edges[j], edges[k]][n % 3];
                word.copy_from_slice(&value.to_be_bytes());
            }
            bytes[0] = 0x45;
            let len = usize::from(u16::from_be_bytes([bytes[2], bytes[3]]));
            for value in 0..=u16::MAX {
                bytes[10..12].copy_from_slice(&value.to_be_bytes());
                let valid = checksum::sum(&bytes) == 0xffff;
                assert_eq!(Ipv4::read::<0, 20>(&bytes).is_sound(len), valid, "{bytes:02x?}");
            }
        }
    }
}
