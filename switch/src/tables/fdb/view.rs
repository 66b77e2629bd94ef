//! The table as one batch looks at it.

use super::Fdb;
use super::bucket::{Bucket, home, way};
use super::station::{LOCATION, NOWHERE, Stamp, Station, hash, is_live};
use crate::sync::Ordering;

/// The table as one batch looks at it.
#[derive(Clone, Copy)]
pub(crate) struct FdbView<'a> {
    pub(super) fdb: &'a Fdb,
    pub(super) buckets: &'a [Bucket],
}

impl FdbView<'_> {
    /// [`FdbView::locate`] of an address that is where it would rather be; nothing of another.
    #[inline(always)]
    pub fn locate_at_home(&self, Station(key): Station, now: u32) -> u32 {
        let hash = hash(key);
        match home(self.buckets, hash).slot(way(hash), key, hash) {
            Some((_, v)) if is_live(v, now) => v as u32 & LOCATION,
            _ => NOWHERE,
        }
    }

    /// [`crate::Location::to_bits`] of where it is, else a number that is above those of all locations.
    #[inline(always)]
    pub fn locate(&self, station: Station, now: u32) -> u32 {
        // Most are where they would rather be, which saves a scan and the misprediction of where in the
        // bucket it ends.
        match self.locate_at_home(station, now) {
            NOWHERE => self.fdb.locate_elsewhere(station.0, now),
            bits => bits,
        }
    }

    /// Whether there is nothing to learn: the slot that an address prefers says exactly this of it. If
    /// not, [`Fdb::learn_within`] says what there is.
    ///
    /// The key is not read again after the value: should the slot have changed hands in between, to an
    /// address of the same tag that was seen at the same place, it is the next frame that is learned.
    #[inline(always)]
    pub fn knows(&self, Station(key): Station, stamp: Stamp) -> bool {
        let hash = hash(key);
        let (bucket, way) = (home(self.buckets, hash), way(hash));
        bucket.keys[way].load(Ordering::Acquire) == key
            && bucket.values[way].load(Ordering::Relaxed) == stamp.value(hash)
    }

    /// [`Fdb::knows`] of one that may be in any of its slots.
    #[inline(never)]
    pub fn knows_anywhere(&self, Station(key): Station, stamp: Stamp) -> bool {
        let hash = hash(key);
        self.fdb.find(key, hash).is_some_and(|(_, value)| value == stamp.value(hash))
    }
}
