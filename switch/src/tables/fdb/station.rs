//! An address of a segment, and what is noted of it: a word each, the bits of the latter, and the hash that says
//! where the former is.

use crate::ids::{Location, SegmentId};
use encap::Mac;
use encap::words::mac_word;

/// What is noted of a station that was just seen: where, and the second in which it is forgotten. The
/// same for all stations of a segment that are seen at one place within a second.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stamp(u64);

impl Stamp {
    /// Seen at `location` in the second `now`, to be forgotten after `ageing` more.
    #[inline(always)]
    pub fn new(location: Location, now: u32, ageing: u32) -> Stamp {
        Stamp::from_bits(location.to_bits(), now, ageing)
    }

    /// The same of a [`Location::to_bits`].
    #[inline(always)]
    pub fn from_bits(location: u32, now: u32, ageing: u32) -> Stamp {
        Stamp(u64::from(now.saturating_add(ageing)) << 32 | u64::from(location))
    }

    /// Bits 0..17 of a value are the location, 17..32 a tag of the key, 32..64 the second it expires.
    #[inline(always)]
    pub(super) fn value(self, hash: u64) -> u64 {
        self.0 | tag(hash)
    }
}

/// An address of a segment in one word: the segment in the low 16 bits, above it the address, its first
/// octet lowest, with the group bit inverted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Station(pub(super) u64);

/// What the stations of a segment have in common.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stations(u64);

/// The group bit of an address in a key.
const GROUP: u64 = 1 << 16;

impl Stations {
    /// Those of this segment.
    #[inline(always)]
    pub fn of(segment: SegmentId) -> Stations {
        Stations(u64::from(segment.0) | GROUP)
    }

    /// The one with an address as in [`encap::words::mac_word`].
    #[inline(always)]
    pub fn station(self, mac: u64) -> Station {
        debug_assert!(mac as u16 == 0);
        Station(self.0 ^ mac)
    }
}

impl Station {
    /// Not zero of any address that is not a group's.
    #[inline(always)]
    pub(in crate::tables) fn word(self) -> u64 {
        self.0
    }

    /// A MAC address as in [`Mac::to_u64`].
    #[inline(always)]
    pub fn new(segment: SegmentId, mac: u64) -> Station {
        debug_assert!(mac >> 48 == 0);
        Stations::of(segment).station(mac_word(mac))
    }
}

/// By the golden ratio, which spreads what is numbered one after the other, as pods' addresses often are,
/// evenly (Knuth, The Art of Computer Programming, section 6.4).
#[inline(always)]
pub(super) fn hash(key: u64) -> u64 {
    let m = u128::from(key) * 0x9e37_79b9_7f4a_7c15;
    (m >> 64) as u64 ^ m as u64
}

#[inline(always)]
pub(super) fn is_live(value: u64, now: u32) -> bool {
    // The upper half is larger.
    value > u64::from(now) << 32 | u64::from(u32::MAX)
}

pub(super) const LOCATION: u32 = 0x1_ffff;
/// No location.
pub(super) const NOWHERE: u32 = u32::MAX;
pub(super) const TAG: u64 = 0x7fff << 17;

/// Bits of the hash that choose no bucket.
#[inline(always)]
pub(super) fn tag(hash: u64) -> u64 {
    hash >> 32 & TAG
}

pub(super) fn segment_of(key: u64) -> SegmentId {
    SegmentId(key as u16)
}

pub(super) fn mac_of(key: u64) -> Mac {
    Mac::from_u64(((key ^ GROUP) & !0xffff).swap_bytes())
}
