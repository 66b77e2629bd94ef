//! Addresses that are forgotten, swept, shown and counted.

use super::Fdb;
use super::bucket::{CLAIMED, FREE, slots_of};
use super::station::{is_live, mac_of, segment_of};
use crate::ids::{Location, PortId, SegmentId};
use crate::sync::{AtomicU64, Ordering};
use encap::Mac;

/// One learned address, as shown to an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FdbEntry {
    /// The segment in which it was learned.
    pub segment: SegmentId,
    /// The address.
    pub mac: Mac,
    /// Where it is.
    pub location: Location,
    /// Seconds until it is forgotten, unless it is seen again.
    pub remaining: u32,
}

impl Fdb {
    /// Frees a slot that has this key; false when another has changed it meanwhile.
    fn free(&self, key: u64, (k, v): (&AtomicU64, &AtomicU64)) -> bool {
        if k.compare_exchange(key, CLAIMED, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            return false;
        }
        let dead = v.swap(0, Ordering::AcqRel);
        self.counts.leave(segment_of(key), Location::from_bits(dead as u32));
        k.store(FREE, Ordering::Release);
        true
    }

    /// Frees what has aged out in the next `buckets` buckets of four, so that it is not counted any
    /// more; returns how many addresses those were. Called again and again, it comes by everywhere.
    pub fn sweep(&self, now: u32, buckets: usize) -> usize {
        let all = self.buckets.len();
        let start = self.swept.load(Ordering::Relaxed);
        let count = buckets.min(all);
        self.swept.store((start + count) % all, Ordering::Relaxed);
        let due = self.buckets[start..].iter().chain(&self.buckets[..start]).take(count);
        slots_of(due)
            .filter(|&(key, value, slot)| !is_live(value, now) && self.free(key, slot))
            .count()
    }

    /// How many addresses of a segment the table holds, those that aged out since the last
    /// [`Fdb::sweep`] included.
    pub fn count_in(&self, segment: SegmentId) -> u32 {
        self.counts.segment(segment).load(Ordering::Relaxed)
    }

    /// How many addresses behind a port the table holds, those that aged out since the last
    /// [`Fdb::sweep`] included.
    pub fn count_at(&self, port: PortId) -> u32 {
        self.counts.port(Location::Port(port)).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// Forgets every entry for which `matches` is true; returns how many.
    pub fn flush(&self, mut matches: impl FnMut(SegmentId, Mac, Location) -> bool) -> usize {
        let mut flushed = 0;
        for (key, value, slot) in self.slots() {
            let (segment, mac) = (segment_of(key), mac_of(key));
            if matches(segment, mac, Location::from_bits(value as u32)) && self.free(key, slot) {
                flushed += 1;
            }
        }
        flushed
    }

    /// The live entries, in no order. Entries that change meanwhile may be missed.
    pub fn entries(&self, now: u32) -> Vec<FdbEntry> {
        self.slots()
            .filter(|&(_, value, _)| is_live(value, now))
            .map(|(key, value, _)| FdbEntry {
                segment: segment_of(key),
                mac: mac_of(key),
                location: Location::from_bits(value as u32),
                remaining: (value >> 32) as u32 - now,
            })
            .collect()
    }

    pub(super) fn slots(&self) -> impl Iterator<Item = (u64, u64, (&AtomicU64, &AtomicU64))> {
        slots_of(self.buckets.iter())
    }
}
