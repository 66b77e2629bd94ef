//! Addresses as integers.

/// An address as an integer, first bit most significant.
pub trait Key: Copy + Ord + core::fmt::Debug + Send + Sync + 'static {
    /// Bits of an address.
    const BITS: u8;
    /// Whether a node may skip bytes that all its prefixes share. That keeps sparse IPv6 tables a few
    /// levels deep; IPv4 is never deeper than two nodes and does without the comparison.
    const SKIPS: bool;
    /// Where a prefix is in a [`super::rib::Routes`]: sorted by level, then bits, then length.
    type Place: Copy + Ord + core::fmt::Debug + Send + Sync;

    /// The place of a prefix.
    fn place(self, level: u8, len: u8) -> Self::Place;
    /// The prefix at a place: its bits and length.
    fn prefix(place: Self::Place) -> (Self, u8);
    /// The first 16 bits.
    fn root(self) -> usize;
    /// Byte `i`, the first being 0.
    fn byte(self, i: u8) -> u8;
    /// The key with byte `i` replaced.
    fn with_byte(self, i: u8, byte: u8) -> Self;
    /// The key with all bits from `bits` on zero, or one.
    fn padded(self, bits: u8, ones: bool) -> Self;
    /// How many leading bits two keys share.
    fn shared(self, other: Self) -> u8;
    /// Whether the first `bytes` bytes are those of a path that [`Key::to_path`] made.
    fn agrees(self, path: [u32; 4], bytes: u8) -> bool;
    /// The key in four words, the first one most significant.
    fn to_path(self) -> [u32; 4];
    /// The inverse of [`Key::to_path`].
    fn from_path(path: [u32; 4]) -> Self;
}

impl Key for u32 {
    const BITS: u8 = 32;
    const SKIPS: bool = false;
    type Place = u64;

    fn place(self, level: u8, len: u8) -> u64 {
        u64::from(level) << 40 | u64::from(self) << 8 | u64::from(len)
    }
    fn prefix(place: u64) -> (u32, u8) {
        ((place >> 8) as u32, place as u8)
    }
    #[inline(always)]
    fn root(self) -> usize {
        (self >> 16) as usize
    }
    #[inline(always)]
    fn byte(self, i: u8) -> u8 {
        (self >> (24 - 8 * u32::from(i & 3))) as u8
    }
    fn with_byte(self, i: u8, byte: u8) -> u32 {
        let shift = 24 - 8 * u32::from(i & 3);
        self & !(0xff << shift) | u32::from(byte) << shift
    }
    fn padded(self, bits: u8, ones: bool) -> u32 {
        let rest = u32::MAX.checked_shr(bits.into()).unwrap_or(0);
        if ones { self | rest } else { self & !rest }
    }
    fn shared(self, other: u32) -> u8 {
        (self ^ other).leading_zeros() as u8
    }
    #[inline(always)]
    fn agrees(self, _: [u32; 4], _: u8) -> bool {
        true
    }
    fn to_path(self) -> [u32; 4] {
        [self, 0, 0, 0]
    }
    fn from_path(path: [u32; 4]) -> u32 {
        path[0]
    }
}

impl Key for u128 {
    const BITS: u8 = 128;
    const SKIPS: bool = true;
    type Place = [u8; 18];

    fn place(self, level: u8, len: u8) -> [u8; 18] {
        let mut place = [level; 18];
        place[1..17].copy_from_slice(&self.to_be_bytes());
        place[17] = len;
        place
    }
    fn prefix(place: [u8; 18]) -> (u128, u8) {
        let bits = place[1..17].iter().fold(0, |bits, &byte| bits << 8 | u128::from(byte));
        (bits, place[17])
    }
    #[inline(always)]
    fn root(self) -> usize {
        (self >> 112) as usize
    }
    #[inline(always)]
    fn byte(self, i: u8) -> u8 {
        (self >> (120 - 8 * u32::from(i & 15))) as u8
    }
    fn with_byte(self, i: u8, byte: u8) -> u128 {
        let shift = 120 - 8 * u32::from(i & 15);
        self & !(0xff << shift) | u128::from(byte) << shift
    }
    fn padded(self, bits: u8, ones: bool) -> u128 {
        let rest = u128::MAX.checked_shr(bits.into()).unwrap_or(0);
        if ones { self | rest } else { self & !rest }
    }
    fn shared(self, other: u128) -> u8 {
        (self ^ other).leading_zeros() as u8
    }
    #[inline(always)]
    fn agrees(self, path: [u32; 4], bytes: u8) -> bool {
        // Of at least two bytes, since the root has looked at those.
        (self ^ u128::from_path(path)) >> (128 - 8 * u32::from(bytes.clamp(1, 15))) == 0
    }
    #[inline(always)]
    fn to_path(self) -> [u32; 4] {
        [96, 64, 32, 0].map(|shift| (self >> shift) as u32)
    }
    #[inline(always)]
    fn from_path(path: [u32; 4]) -> u128 {
        path.iter().fold(0, |key, &word| key << 32 | u128::from(word))
    }
}
