//! The forwarding database: which location each MAC address was last seen at.
//!
//! Shared by all workers, written at line rate, without a lock. A (segment, MAC) pair is one
//! 64-bit key; its location and the second it was last seen are one 64-bit value. Four keys and
//! their four values fill one cache line, so a hit costs one line and a miss two.
//!
//! ```text
//! station  an address of a segment, and what is noted of it: one word each; how they are hashed
//! bucket   four of them in a cache line
//! view     the table as one batch looks at it
//! learn    addresses that are new, or move
//! upkeep   addresses that are forgotten, swept, shown and counted
//! counts   how many there are of a segment and of a port
//! ```
//!
//! # Why no entry is torn
//!
//! Whoever changes the key of a slot, to insert or to forget, first makes it `CLAIMED`, then
//! exchanges the value, then stores the new key. Everybody else loads key,
//! value, key again. Who read the value of the new key after the old key sees, by the value's
//! release store, that the key has changed, and treats the entry as unknown: it was dead anyway. Who
//! refreshes a value does so by compare-and-swap, so that a slot claimed in between keeps what its
//! new owner stored. A tag of the key in the value catches what is left: a slot that went to another
//! key and back while somebody looked.
//!
//! Two workers that learn the same address at the same moment may fill two slots. Lookups and
//! updates use the first, the other ages out.
//!
//! # Why the counts are right
//!
//! Each slot with a key is counted once in its segment and at its location. Who claims a slot takes
//! its old value out by an atomic exchange and counts that one down; who moves an address replaces the
//! value that it counts down by compare-and-swap. So no value is counted down twice. An entry that
//! aged out is counted until its slot is used again or [`Fdb::sweep`] comes by.

mod bucket;
mod counts;
mod learn;
mod station;
#[cfg(test)]
mod tests;
mod upkeep;
mod view;

pub use counts::Limits;
pub use learn::Learned;
pub use station::{Stamp, Station, Stations};
pub use upkeep::FdbEntry;
pub(crate) use view::FdbView;

use crate::ids::{Location, SegmentId};
use crate::sync::{AtomicU64, AtomicUsize};
use bucket::{Bucket, WAYS, home, way};
use counts::Counts;
use encap::Mac;
use station::{LOCATION, NOWHERE, hash, is_live};

/// The table of learned MAC addresses.
pub struct Fdb {
    buckets: Box<[Bucket]>,
    counts: Counts,
    /// The bucket that the next sweep begins at.
    swept: AtomicUsize,
}

impl Fdb {
    /// The default ageing time in seconds (IEEE 802.1Q table 8-7).
    pub const DEFAULT_AGEING: u32 = 300;

    /// An empty table for about `capacity` addresses.
    pub fn new(capacity: usize) -> Fdb {
        // Twice the slots, so that two full buckets are rare when `capacity` addresses are live.
        let buckets = (capacity.max(WAYS) * 2 / WAYS).next_power_of_two();
        Fdb {
            buckets: (0..buckets).map(|_| Bucket::default()).collect(),
            counts: Counts::new(),
            swept: AtomicUsize::new(0),
        }
    }

    /// The table as one batch looks at it.
    #[inline(always)]
    pub(crate) fn view(&self) -> FdbView<'_> {
        FdbView { fdb: self, buckets: &self.buckets }
    }

    fn home(&self, hash: u64) -> &Bucket {
        home(&self.buckets, hash)
    }

    /// The other one.
    fn refuge(&self, hash: u64) -> &Bucket {
        &self.buckets[(hash >> 32) as usize & (self.buckets.len() - 1)]
    }

    /// Where `mac` is, unless it is unknown or has aged out. `now` is in seconds.
    #[inline(always)]
    pub fn lookup(&self, segment: SegmentId, mac: Mac, now: u32) -> Option<Location> {
        self.locate(Station::new(segment, mac.to_u64()), now)
    }

    /// [`Fdb::lookup`] of an address as it comes from a frame.
    #[inline(always)]
    pub fn locate(&self, station: Station, now: u32) -> Option<Location> {
        let bits = self.view().locate(station, now);
        (bits != NOWHERE).then(|| Location::from_bits(bits))
    }

    /// The bits of a location, or [`NOWHERE`].
    #[inline(never)]
    fn locate_elsewhere(&self, key: u64, now: u32) -> u32 {
        match self.find(key, hash(key)) {
            Some((_, v)) if is_live(v, now) => v as u32 & LOCATION,
            _ => NOWHERE,
        }
    }

    /// The slot of a key, and its value.
    fn find(&self, key: u64, hash: u64) -> Option<(&AtomicU64, u64)> {
        let preferred = || self.home(hash).slot(way(hash), key, hash);
        let buckets = [self.home(hash), self.refuge(hash)];
        preferred().or_else(|| {
            buckets.into_iter().find_map(|b| (0..WAYS).find_map(|way| b.slot(way, key, hash)))
        })
    }

    /// Whether there is nothing to learn, as far as one look tells.
    #[inline(always)]
    pub fn knows(&self, station: Station, stamp: Stamp) -> bool {
        self.view().knows(station, stamp)
    }
}
