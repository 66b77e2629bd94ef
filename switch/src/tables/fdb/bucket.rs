//! Four addresses in a cache line.

use super::station::{TAG, tag};
use crate::sync::{AtomicU64, Ordering};

pub(super) const WAYS: usize = 4;
/// No key, and one under construction: those of an address that cannot be a source, since its group bit is
/// set, which is 0 in a key, in segment 0 and in the last one, which there never is. A free slot has the
/// value 0, so that whoever asks for that address finds nothing.
pub(super) const FREE: u64 = 0;
pub(super) const CLAIMED: u64 = u16::MAX as u64;

#[repr(align(64))]
#[derive(Default)]
pub(super) struct Bucket {
    pub(super) keys: [AtomicU64; WAYS],
    pub(super) values: [AtomicU64; WAYS],
}

/// The slot of a bucket that an address takes if it is free.
#[inline(always)]
pub(super) fn way(hash: u64) -> usize {
    (hash >> 30) as usize % WAYS
}

impl Bucket {
    /// A slot and its value, if it holds this key.
    #[inline(always)]
    pub(super) fn slot(&self, way: usize, key: u64, hash: u64) -> Option<(&AtomicU64, u64)> {
        if self.keys[way].load(Ordering::Acquire) != key {
            return None;
        }
        let slot = &self.values[way];
        let v = slot.load(Ordering::Acquire);
        let same = self.keys[way].load(Ordering::Relaxed) == key && v & TAG == tag(hash);
        same.then_some((slot, v))
    }
}

/// The bucket that an address is in unless it was full.
#[inline(always)]
pub(super) fn home(buckets: &[Bucket], hash: u64) -> &Bucket {
    // As many as a power of two, so that this is a mask, and within.
    &buckets[hash as usize & (buckets.len() - 1)]
}

/// The slots that have a key: key, value, and the slot itself.
pub(super) fn slots_of<'a>(
    buckets: impl Iterator<Item = &'a Bucket>,
) -> impl Iterator<Item = (u64, u64, (&'a AtomicU64, &'a AtomicU64))> {
    buckets.flat_map(|b| b.keys.iter().zip(&b.values)).filter_map(|(k, v)| {
        let key = k.load(Ordering::Acquire);
        let value = v.load(Ordering::Acquire);
        (key != FREE && key != CLAIMED && k.load(Ordering::Relaxed) == key).then_some((
            key,
            value,
            (k, v),
        ))
    })
}
