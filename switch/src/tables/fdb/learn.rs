//! Addresses that are new, or move.

use super::bucket::{Bucket, CLAIMED, FREE, WAYS, way};
use super::station::{Stamp, Station, hash, is_live, segment_of};
use super::{Fdb, Limits};
use crate::ids::{Location, SegmentId};
use crate::sync::{AtomicU64, Ordering};
use encap::Mac;

/// What [`Fdb::learn`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Learned {
    /// The address was known at this location.
    Known,
    /// The address is new.
    New,
    /// The address was at another location and has moved.
    Moved,
    /// Both of the address's buckets are full of live entries: it was not learned.
    Full,
    /// The segment or the port holds as many addresses as it may: it was not learned. An address
    /// that was to move stays where it was.
    Limited,
}

impl Fdb {
    /// Notes that `mac` was seen as a source at `location`, to be forgotten when it is not seen again
    /// for `ageing` seconds. An entry already right is not written,
    /// so that a busy address costs no cache traffic between workers more than once a second.
    #[inline]
    pub fn learn(
        &self,
        segment: SegmentId,
        mac: Mac,
        location: Location,
        now: u32,
        ageing: u32,
    ) -> Learned {
        let station = Station::new(segment, mac.to_u64());
        self.learn_within(station, location, now, ageing, Limits::default)
    }

    /// Like [`Fdb::learn`], as long as the limits allow; they are asked for only when the address is
    /// new or has moved.
    pub fn learn_within(
        &self,
        Station(key): Station,
        location: Location,
        now: u32,
        ageing: u32,
        limits: impl FnOnce() -> Limits,
    ) -> Learned {
        let hash = hash(key);
        let new = Stamp::new(location, now, ageing).value(hash);
        match self.find(key, hash) {
            Some((_, old)) if old == new => Learned::Known,
            Some((slot, old)) if old as u32 == new as u32 => {
                // Lost against another worker that saw the same address, or claimed the slot as
                // aged out: the next frame tries again.
                let _ = slot.compare_exchange(old, new, Ordering::AcqRel, Ordering::Relaxed);
                Learned::Known
            }
            Some((slot, old)) => self.relocate(slot, old, new, limits()),
            None => self.insert(key, hash, new, now, limits()),
        }
    }

    #[cold]
    fn relocate(&self, slot: &AtomicU64, old: u64, new: u64, limits: Limits) -> Learned {
        let to = Location::from_bits(new as u32);
        if !self.counts.enter_port(to, limits) {
            return Learned::Limited;
        }
        let done = slot.compare_exchange(old, new, Ordering::AcqRel, Ordering::Relaxed);
        // Lost against another worker: the next frame tries again.
        self.counts.leave_port(if done.is_ok() { Location::from_bits(old as u32) } else { to });
        Learned::Moved
    }

    #[cold]
    fn insert(&self, key: u64, hash: u64, value: u64, now: u32, limits: Limits) -> Learned {
        let (segment, location) = (segment_of(key), Location::from_bits(value as u32));
        if !self.counts.enter(segment, location, limits) {
            return Learned::Limited;
        }
        let reusable = |bucket: &Bucket, way: usize, old: u64| {
            old == FREE
                || old != CLAIMED && !is_live(bucket.values[way].load(Ordering::Acquire), now)
        };
        let room = |bucket: &Bucket| {
            let keys = bucket.keys.iter().enumerate();
            keys.filter(|(way, k)| reusable(bucket, *way, k.load(Ordering::Acquire))).count()
        };
        // The first bucket while it is half empty, so that lookups rarely need the second one; else
        // the emptier of the two: the fullest then stays near the average, where one choice would
        // fill some bucket at a quarter of the load.
        let mut buckets = [self.home(hash), self.refuge(hash)];
        let at_home = room(buckets[0]);
        if at_home < WAYS / 2 && room(buckets[1]) > at_home {
            buckets.swap(0, 1);
        }
        for bucket in buckets {
            for way in (0..WAYS).map(|i| (way(hash) + i) % WAYS) {
                let old = bucket.keys[way].load(Ordering::Acquire);
                if reusable(bucket, way, old)
                    && bucket.keys[way]
                        .compare_exchange(old, CLAIMED, Ordering::AcqRel, Ordering::Relaxed)
                        .is_ok()
                {
                    let dead = bucket.values[way].swap(value, Ordering::AcqRel);
                    if old != FREE {
                        self.counts.leave(segment_of(old), Location::from_bits(dead as u32));
                    }
                    bucket.keys[way].store(key, Ordering::Release);
                    return Learned::New;
                }
            }
        }
        self.counts.leave(segment, location);
        Learned::Full
    }
}
