//! The Internet checksum (RFC 1071), its incremental update (RFC 1624), and the pseudo-headers of
//! UDP, TCP and ICMPv6 (RFC 768, RFC 9293, RFC 8200 section 8.1).

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A one's complement sum in the making. Data may arrive in pieces of any length, as the segments
/// of a frame do.
///
/// The value is kept unfolded in 64 bits: 65,535 additions of 32-bit words stay far from an
/// overflow, and each piece of data is folded before it is added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    acc: u64,
    /// An odd number of octets has been added: the next piece starts in the low half of a word.
    odd: bool,
}

impl Sum {
    /// Nothing added yet.
    pub const ZERO: Sum = Sum { acc: 0, odd: false };

    /// Adds octets.
    #[inline]
    #[must_use]
    pub fn bytes(self, data: &[u8]) -> Sum {
        let s = sum(data);
        // RFC 1071 section 2 (B): a piece at an odd offset contributes its sum byte-swapped.
        let s = if self.odd { s.swap_bytes() } else { s };
        Sum { acc: self.acc + u64::from(s), odd: self.odd ^ (data.len() % 2 == 1) }
    }

    /// Adds one 16-bit word. The octets so far must be even in number.
    #[inline(always)]
    #[must_use]
    pub const fn u16(self, word: u16) -> Sum {
        Sum { acc: self.acc + word as u64, odd: self.odd }
    }

    /// Adds two 16-bit words. The octets so far must be even in number.
    #[inline(always)]
    #[must_use]
    pub const fn u32(self, words: u32) -> Sum {
        Sum { acc: self.acc + words as u64, odd: self.odd }
    }

    /// Adds the IPv4 pseudo-header; `len` is the length of the upper-layer packet.
    #[inline(always)]
    #[must_use]
    pub const fn pseudo_v4(self, src: Ipv4Addr, dst: Ipv4Addr, protocol: u8, len: u16) -> Sum {
        self.u32(src.to_bits()).u32(dst.to_bits()).u16(protocol as u16).u16(len)
    }

    /// Adds the IPv6 pseudo-header; `len` is the length of the upper-layer packet.
    #[inline(always)]
    #[must_use]
    pub const fn pseudo_v6(self, src: Ipv6Addr, dst: Ipv6Addr, protocol: u8, len: u32) -> Sum {
        let (s, d) = (src.to_bits(), dst.to_bits());
        self.u32((s >> 96) as u32)
            .u32((s >> 64) as u32)
            .u32((s >> 32) as u32)
            .u32(s as u32)
            .u32((d >> 96) as u32)
            .u32((d >> 64) as u32)
            .u32((d >> 32) as u32)
            .u32(d as u32)
            .u32(len)
            .u16(protocol as u16)
    }

    /// Adds the pseudo-header of the family of `dst`. With addresses of two families the sum is
    /// that of no packet.
    #[inline]
    #[must_use]
    pub const fn pseudo(self, src: IpAddr, dst: IpAddr, protocol: u8, len: u16) -> Sum {
        match (src, dst) {
            (IpAddr::V4(s), IpAddr::V4(d)) => self.pseudo_v4(s, d, protocol, len),
            (IpAddr::V6(s), IpAddr::V6(d)) => self.pseudo_v6(s, d, protocol, len as u32),
            _ => self,
        }
    }

    /// The sum folded to 16 bits, not complemented.
    #[inline(always)]
    pub const fn fold(self) -> u16 {
        fold(self.acc)
    }

    /// The value of the checksum field: the complement of the sum.
    #[inline(always)]
    pub const fn checksum(self) -> u16 {
        !self.fold()
    }

    /// The value of UDP's checksum field, in which a computed zero is sent as `0xffff` because
    /// zero means "none" (RFC 768).
    #[inline(always)]
    pub const fn udp_checksum(self) -> u16 {
        match self.checksum() {
            0 => 0xffff,
            c => c,
        }
    }

    /// Whether data that includes its own checksum field is intact: the sum is all ones.
    #[inline(always)]
    pub const fn is_valid(self) -> bool {
        self.fold() == 0xffff
    }
}

#[inline(always)]
const fn fold(acc: u64) -> u16 {
    let s = (acc & 0xffff_ffff) + (acc >> 32);
    let s = (s & 0xffff) + (s >> 16);
    let s = (s & 0xffff) + (s >> 16);
    ((s & 0xffff) + (s >> 16)) as u16
}

/// The folded one's complement sum of `data` as big-endian words, an odd last octet padded with
/// zero.
///
/// Words are added in the machine's byte order, 8 octets a step into two independent sums (which
/// the compiler turns into vector additions), and swapped once at the end: RFC 1071 section 2 (B).
#[inline]
pub fn sum(data: &[u8]) -> u16 {
    let (words, mut rest) = data.as_chunks::<8>();
    let (mut low, mut high) = (0u64, 0u64);
    for w in words {
        let w = u64::from_ne_bytes(*w);
        low += w & 0xffff_ffff;
        high += w >> 32;
    }
    if let Some((w, r)) = rest.split_first_chunk() {
        low += u64::from(u32::from_ne_bytes(*w));
        rest = r;
    }
    if let Some((w, r)) = rest.split_first_chunk() {
        high += u64::from(u16::from_ne_bytes(*w));
        rest = r;
    }
    if let [last] = *rest {
        high += u64::from(u16::from_ne_bytes([last, 0]));
    }
    u16::from_be(fold(low + high))
}

/// The checksum of `data`, whose checksum field must be zero.
#[inline]
pub fn checksum(data: &[u8]) -> u16 {
    !sum(data)
}

/// Whether `data`, its checksum field included, sums to all ones.
#[inline]
pub fn is_valid(data: &[u8]) -> bool {
    sum(data) == 0xffff
}

/// [`is_valid`] of an IPv4 header without options, without a loop.
#[inline(always)]
pub fn is_valid20(header: &[u8; 20]) -> bool {
    let (words, _) = header.as_chunks::<4>();
    let mut acc = 0u64;
    for w in words {
        acc += u64::from(u32::from_ne_bytes(*w));
    }
    // Folding keeps the remainder by 0xffff, and all ones is the one that is 0; only a header of
    // zeros sums to zero itself. In either byte order. Times the inverse of 0xffff, a multiple of it is
    // what it is times 0xffff, 1 to 327,685 here, and everything else is above 2^48.
    const INVERSE: u64 = 0xfffe_fffe_fffe_ffff;
    const { assert!(INVERSE.wrapping_mul(0xffff) == 1) };
    acc.wrapping_mul(INVERSE).wrapping_sub(1) < 1 << 30
}

/// The checksum field after one 16-bit word that it covers changed from `old` to `new`
/// (RFC 1624 equation 3: `HC' = ~(~HC + ~m + m')`).
#[inline(always)]
#[must_use]
pub const fn update_u16(checksum: u16, old: u16, new: u16) -> u16 {
    !fold(!checksum as u64 + !old as u64 + new as u64)
}

/// Like [`update_u16`] for two aligned words, such as an IPv4 address.
#[inline(always)]
#[must_use]
pub const fn update_u32(checksum: u16, old: u32, new: u32) -> u16 {
    !fold(!checksum as u64 + !old as u64 + new as u64)
}

/// Like [`update_u16`] for a word at an odd offset from the start of what the checksum covers.
#[inline(always)]
#[must_use]
pub const fn update_u16_odd(checksum: u16, old: u16, new: u16) -> u16 {
    update_u16(checksum, old.swap_bytes(), new.swap_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 1071 section 4.1, word by word.
    fn reference(data: &[u8]) -> u16 {
        let mut sum = 0u32;
        for w in data.chunks(2) {
            sum += u32::from(w[0]) << 8 | u32::from(*w.get(1).unwrap_or(&0));
        }
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum as u16
    }

    #[test]
    fn rfc1071_section_3_example() {
        let data = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(sum(&data), 0xddf2);
        assert_eq!(checksum(&data), 0x220d);
        assert_eq!(Sum::ZERO.bytes(&data[..3]).bytes(&data[3..]).fold(), 0xddf2);
    }

    #[test]
    fn rfc1624_section_4_examples() {
        // HC = 0xDD2F, m = 0x5555, m' = 0x3285: equation 3 gives 0x0000, RFC 1141 gave 0xFFFF.
        assert_eq!(update_u16(0xdd2f, 0x5555, 0x3285), 0x0000);
    }

    #[test]
    fn wikipedia_ipv4_header() {
        let mut h = [0u8; 20];
        h.copy_from_slice(&[
            0x45, 0x00, 0x00, 0x73, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11, 0xb8, 0x61, 0xc0, 0xa8,
            0x00, 0x01, 0xc0, 0xa8, 0x00, 0xc7,
        ]);
        assert!(is_valid(&h));
        assert!(is_valid20(&h));
        h[10..12].fill(0);
        assert_eq!(checksum(&h), 0xb861);
        assert!(!is_valid20(&h));
    }

    #[test]
    fn largest_input_does_not_overflow() {
        let data = vec![0xff; 65_535];
        assert_eq!(sum(&data), reference(&data));
    }

    /// Folding is reduction modulo 0xffff, to 1 up to 0xffff for all but zero: also where the last
    /// carry ripples.
    #[test]
    fn fold_at_its_edges() {
        for high in [0u64, 1, 0xffff, 0x1_0000, 0xffff_ffff, 0xffff_ffff_ffff] {
            for low in (0u64..0x2_0004).chain(0xfffe_fff0..=0xffff_ffff) {
                let Some(acc) = high.checked_mul(0x1_0000_0001).map(|h| h ^ low) else {
                    continue;
                };
                let want = if acc == 0 { 0 } else { (acc - 1) % 0xffff + 1 };
                assert_eq!(u64::from(fold(acc)), want, "{acc:#x}");
            }
        }
    }

    #[test]
    fn udp_never_sends_zero() {
        assert_eq!(Sum::ZERO.u16(0xffff).checksum(), 0);
        assert_eq!(Sum::ZERO.u16(0xffff).udp_checksum(), 0xffff);
    }

    proptest! {
        #[test]
        fn sum_is_rfc1071(data in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(sum(&data), reference(&data));
        }

        #[test]
        fn pieces_add_up(
            data in proptest::collection::vec(any::<u8>(), 0..100),
            cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..4),
        ) {
            let mut at: Vec<usize> = cuts.iter().map(|c| c.index(data.len() + 1)).collect();
            at.sort_unstable();
            let (mut s, mut from) = (Sum::ZERO, 0);
            for to in at.into_iter().chain([data.len()]) {
                s = s.bytes(&data[from..to]);
                from = to;
            }
            prop_assert_eq!(s.fold(), reference(&data));
        }

        /// RFC 1624's result is the one of a full computation: both forms of zero included,
        /// unless everything else is zero, which no IP header is.
        #[test]
        fn update_is_recompute(
            mut data in proptest::array::uniform20(any::<u8>()),
            at in 0usize..9,
            new in any::<u16>(),
            sparse in any::<bool>(),
        ) {
            if sparse {
                data.iter_mut().for_each(|b| if *b < 250 { *b = 0 });
            }
            data[18] = 0x45;
            let before = checksum(&data);
            let old = u16::from_be_bytes([data[2 * at], data[2 * at + 1]]);
            data[2 * at..2 * at + 2].copy_from_slice(&new.to_be_bytes());
            prop_assert_eq!(update_u16(before, old, new), checksum(&data));
            prop_assert_eq!(is_valid20(&data), is_valid(&data));
            // Whatever word is taken for the checksum field of the rest.
            data[2 * at..2 * at + 2].fill(0);
            let right = checksum(&data);
            data[2 * at..2 * at + 2].copy_from_slice(&right.to_be_bytes());
            prop_assert!(is_valid20(&data));
        }

        #[test]
        fn update_at_odd_offset(
            mut data in proptest::array::uniform20(any::<u8>()), at in 0usize..8, new in any::<u16>(),
        ) {
            data[18] = 0x45;
            let before = checksum(&data);
            let i = 2 * at + 1;
            let old = u16::from_be_bytes([data[i], data[i + 1]]);
            data[i..i + 2].copy_from_slice(&new.to_be_bytes());
            prop_assert_eq!(update_u16_odd(before, old, new), checksum(&data));
        }

        #[test]
        fn update_of_an_address(
            mut data in proptest::array::uniform20(any::<u8>()), at in 0usize..4, new in any::<u32>(),
        ) {
            data[18] = 0x45;
            let before = checksum(&data);
            let i = 4 * at;
            let old = u32::from_be_bytes([data[i], data[i + 1], data[i + 2], data[i + 3]]);
            data[i..i + 4].copy_from_slice(&new.to_be_bytes());
            prop_assert_eq!(update_u32(before, old, new), checksum(&data));
        }
    }
}
