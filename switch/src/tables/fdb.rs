//! The forwarding database: which location each MAC address was last seen at.
//!
//! Shared by all workers, written at line rate, without a lock. A (segment, MAC) pair is one
//! 64-bit key; its location and the second it was last seen are one 64-bit value. Four keys and
//! their four values fill one cache line, so a hit costs one line and a miss two.
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

use super::fdb_counts::Counts;
pub use super::fdb_counts::Limits;
use crate::ids::{Location, PortId, SegmentId};
use crate::sync::{AtomicU64, AtomicUsize, Ordering};
use encap::Mac;
use encap::words::mac_word;

const WAYS: usize = 4;
/// No key, and one under construction: those of an address that cannot be a source, since its group bit is
/// set, which is 0 in a key, in segment 0 and in the last one, which there never is. A free slot has the
/// value 0, so that whoever asks for that address finds nothing.
const FREE: u64 = 0;
const CLAIMED: u64 = u16::MAX as u64;

#[repr(align(64))]
#[derive(Default)]
struct Bucket {
    keys: [AtomicU64; WAYS],
    values: [AtomicU64; WAYS],
}

/// The table of learned MAC addresses.
pub struct Fdb {
    buckets: Box<[Bucket]>,
    counts: Counts,
    /// The bucket that the next sweep begins at.
    swept: AtomicUsize,
}

/// The table as one batch looks at it.
#[derive(Clone, Copy)]
pub(crate) struct FdbView<'a> {
    fdb: &'a Fdb,
    buckets: &'a [Bucket],
}

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
    fn value(self, hash: u64) -> u64 {
        self.0 | tag(hash)
    }
}

/// An address of a segment in one word: the segment in the low 16 bits, above it the address, its first
/// octet lowest, with the group bit inverted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Station(u64);

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
    pub(super) fn word(self) -> u64 {
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
fn hash(key: u64) -> u64 {
    let m = u128::from(key) * 0x9e37_79b9_7f4a_7c15;
    (m >> 64) as u64 ^ m as u64
}

#[inline(always)]
fn is_live(value: u64, now: u32) -> bool {
    // The upper half is larger.
    value > u64::from(now) << 32 | u64::from(u32::MAX)
}

const LOCATION: u32 = 0x1_ffff;
/// No location.
const NOWHERE: u32 = u32::MAX;
const TAG: u64 = 0x7fff << 17;

/// Bits of the hash that choose no bucket.
#[inline(always)]
fn tag(hash: u64) -> u64 {
    hash >> 32 & TAG
}

/// The slot of a bucket that an address takes if it is free.
#[inline(always)]
fn way(hash: u64) -> usize {
    (hash >> 30) as usize % WAYS
}

impl Bucket {
    /// A slot and its value, if it holds this key.
    #[inline(always)]
    fn slot(&self, way: usize, key: u64, hash: u64) -> Option<(&AtomicU64, u64)> {
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
fn home(buckets: &[Bucket], hash: u64) -> &Bucket {
    // As many as a power of two, so that this is a mask, and within.
    &buckets[hash as usize & (buckets.len() - 1)]
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

    /// [`Location::to_bits`] of where it is, else a number that is above those of all locations.
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

    fn slots(&self) -> impl Iterator<Item = (u64, u64, (&AtomicU64, &AtomicU64))> {
        slots_of(self.buckets.iter())
    }
}

/// The slots that have a key: key, value, and the slot itself.
fn slots_of<'a>(
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

fn segment_of(key: u64) -> SegmentId {
    SegmentId(key as u16)
}

fn mac_of(key: u64) -> Mac {
    Mac::from_u64(((key ^ GROUP) & !0xffff).swap_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{PortId, TunnelId};

    const AGEING: u32 = 300;
    const SEG: SegmentId = SegmentId(1);
    const P1: Location = Location::Port(PortId(1));
    const P2: Location = Location::Port(PortId(2));

    fn mac(n: u64) -> Mac {
        Mac::from_u64(0x0200_0000_0000 | n)
    }

    #[test]
    fn learns_moves_and_ages() {
        let fdb = Fdb::new(1024);
        assert_eq!(fdb.lookup(SEG, mac(1), 10), None);
        assert_eq!(fdb.learn(SEG, mac(1), P1, 10, AGEING), Learned::New);
        assert_eq!(fdb.lookup(SEG, mac(1), 10), Some(P1));
        assert_eq!(fdb.learn(SEG, mac(1), P1, 200, AGEING), Learned::Known);
        assert_eq!(fdb.learn(SEG, mac(1), P2, 200, AGEING), Learned::Moved);
        assert_eq!(fdb.lookup(SEG, mac(1), 499), Some(P2));
        assert_eq!(fdb.lookup(SEG, mac(1), 500), None, "aged out after 300 s");
    }

    #[test]
    fn knows_what_it_need_not_learn() {
        let fdb = Fdb::new(1024);
        let knows = |segment, n, at, now| {
            let station = Station::new(segment, mac(n).to_u64());
            fdb.knows(station, Stamp::new(at, now, AGEING))
        };
        assert!(!knows(SEG, 1, P1, 10));
        fdb.learn(SEG, mac(1), P1, 10, AGEING);
        assert!(knows(SEG, 1, P1, 10));
        assert!(!knows(SEG, 1, P1, 11), "to be noted again, a second later");
        assert!(!knows(SEG, 1, P2, 10), "it has moved");
        assert!(!knows(SEG, 2, P1, 10) && !knows(SegmentId(2), 1, P1, 10), "another station");
        fdb.flush(|_, _, _| true);
        assert!(!knows(SEG, 1, P1, 10));
        // Two that prefer one slot and share a tag.
        let at = |n| {
            let Station(key) = Station::new(SEG, mac(n).to_u64());
            let hash = hash(key);
            (hash as usize & (fdb.buckets.len() - 1), way(hash), tag(hash))
        };
        let mut seen = std::collections::HashMap::new();
        let (a, b) = (0..).find_map(|n| Some((seen.insert(at(n), n)?, n))).unwrap();
        fdb.learn(SEG, mac(a), P1, 10, AGEING);
        assert!(knows(SEG, a, P1, 10) && !knows(SEG, b, P1, 10));
    }

    #[test]
    fn segments_are_apart() {
        let fdb = Fdb::new(1024);
        fdb.learn(SEG, mac(1), P1, 0, AGEING);
        fdb.learn(SegmentId(2), mac(1), Location::Tunnel(TunnelId(7)), 0, AGEING);
        assert_eq!(fdb.lookup(SEG, mac(1), 0), Some(P1));
        assert_eq!(fdb.lookup(SegmentId(2), mac(1), 0), Some(Location::Tunnel(TunnelId(7))));
        assert_eq!(fdb.lookup(SegmentId(3), mac(1), 0), None);
    }

    #[test]
    fn holds_its_capacity_and_reuses_what_aged_out() {
        let fdb = Fdb::new(10_000);
        for n in 0..10_000 {
            assert_eq!(fdb.learn(SEG, mac(n), P1, 0, AGEING), Learned::New, "address {n}");
        }
        assert_eq!(fdb.entries(0).len(), 10_000);
        for n in 10_000..20_000 {
            assert_eq!(fdb.learn(SEG, mac(n), P2, 400, AGEING), Learned::New, "address {n}");
        }
        assert_eq!(fdb.entries(400).len(), 10_000);
    }

    #[test]
    fn says_when_it_is_full() {
        let fdb = Fdb::new(4);
        let full =
            (0..1000).filter(|&n| fdb.learn(SEG, mac(n), P1, 0, AGEING) == Learned::Full).count();
        assert_eq!(full + fdb.entries(0).len(), 1000);
        assert!(full >= 1000 - 8);
    }

    #[test]
    fn flushes_by_location() {
        let fdb = Fdb::new(1024);
        for n in 0..100 {
            fdb.learn(SEG, mac(n), if n % 2 == 0 { P1 } else { P2 }, 0, AGEING);
        }
        assert_eq!(fdb.flush(|_, _, at| at == P1), 50);
        assert!(fdb.entries(0).iter().all(|e| e.location == P2));
        assert_eq!(fdb.entries(0).len(), 50);
    }

    #[test]
    fn limits_of_segment_and_port() {
        let fdb = Fdb::new(1024);
        let limits = || Limits { segment: Some(5), port: Some(3) };
        let station = |segment, n| Station::new(segment, mac(n).to_u64());
        let learn =
            |segment, n, at, now| fdb.learn_within(station(segment, n), at, now, 10, limits);
        for n in 0..3 {
            assert_eq!(learn(SEG, n, P1, 0), Learned::New);
        }
        assert_eq!(learn(SEG, 3, P1, 0), Learned::Limited, "the port's");
        assert_eq!(fdb.lookup(SEG, mac(3), 0), None);
        assert_eq!(learn(SEG, 0, P1, 1), Learned::Known, "who is known is refreshed");
        assert_eq!((learn(SEG, 4, P2, 0), learn(SEG, 5, P2, 0)), (Learned::New, Learned::New));
        assert_eq!(learn(SEG, 6, P2, 0), Learned::Limited, "the segment's");
        assert_eq!(learn(SEG, 4, P1, 0), Learned::Limited, "a move to a full port");
        assert_eq!(fdb.lookup(SEG, mac(4), 0), Some(P2), "stays where it was");
        assert_eq!(learn(SEG, 0, P2, 0), Learned::Moved, "within the segment's limit");
        assert_eq!(learn(SEG, 7, Location::Tunnel(TunnelId(1)), 0), Learned::Limited);
        assert_eq!(learn(SegmentId(2), 7, P1, 0), Learned::New, "another segment");
        assert_eq!((fdb.count_in(SEG), fdb.count_in(SegmentId(2))), (5, 1));
        assert_eq!((fdb.count_at(PortId(1)), fdb.count_at(PortId(2))), (3, 3));
        // What aged out makes room once it is swept.
        assert_eq!(learn(SEG, 8, P1, 50), Learned::Limited);
        assert_eq!(fdb.sweep(50, usize::MAX), 6);
        assert_eq!((fdb.count_in(SEG), fdb.count_at(PortId(1))), (0, 0));
        assert_eq!(learn(SEG, 8, P1, 50), Learned::New);
    }

    #[test]
    fn sweeping_in_steps_comes_by_everywhere_and_keeps_the_living() {
        let fdb = Fdb::new(1000);
        for n in 0..1000 {
            fdb.learn(SEG, mac(n), P1, 0, if n % 2 == 0 { 10 } else { 100 });
        }
        let buckets = fdb.buckets.len();
        let swept: usize = (0..buckets.div_ceil(7)).map(|_| fdb.sweep(20, 7)).sum();
        assert_eq!(swept, 500);
        assert_eq!((fdb.count_in(SEG), fdb.entries(20).len()), (500, 500));
        assert_eq!(fdb.flush(|_, _, _| true), 500);
        assert_eq!((fdb.count_in(SEG), fdb.count_at(PortId(1))), (0, 0));
    }

    /// Threads learn, move, flush and sweep; what is counted afterwards is what is there.
    #[test]
    fn concurrent_changes_leave_the_counts_right() {
        let fdb = Fdb::new(64);
        std::thread::scope(|s| {
            for t in 0..4u64 {
                let fdb = &fdb;
                s.spawn(move || {
                    let mut x = t + 1;
                    for i in 0..100_000u32 {
                        x = x.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                        let (n, port) = (x >> 33 & 0xff, PortId((x >> 45 & 3) as u16));
                        let limits = || Limits { segment: Some(100), port: Some(40) };
                        let now = i / 100;
                        let station = Station::new(SEG, mac(n).to_u64());
                        fdb.learn_within(station, Location::Port(port), now, 2, limits);
                        assert!(fdb.count_in(SEG) <= 100 + 4, "each worker adds before it looks");
                        if i % 64 == 0 {
                            fdb.sweep(now, 3);
                        }
                        if i % 999 == 0 {
                            fdb.flush(|_, _, at| at == Location::Port(port));
                        }
                    }
                });
            }
        });
        let all: Vec<_> =
            fdb.slots().map(|(_, value, _)| Location::from_bits(value as u32)).collect();
        assert_eq!(fdb.count_in(SEG) as usize, all.len());
        for port in (0..4).map(PortId) {
            let here = all.iter().filter(|&&at| at == Location::Port(port)).count();
            assert_eq!(fdb.count_at(port) as usize, here, "port {port}");
        }
    }

    /// Four threads learn and look up; an address is only ever found where somebody put it: the
    /// location is a function of the address, so a torn entry would show.
    #[test]
    fn concurrent_lookups_see_no_torn_entry() {
        let fdb = Fdb::new(64);
        let home = |n: u64| Location::Port(PortId((n % 1000) as u16));
        std::thread::scope(|s| {
            for t in 0..4u64 {
                let fdb = &fdb;
                s.spawn(move || {
                    let mut x = t + 1;
                    for i in 0..200_000u32 {
                        x = x.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                        let n = x >> 33 & 0xff;
                        // The clock runs, so that slots age out and are claimed for other keys.
                        let now = i / 100;
                        if x & 1 == 0 {
                            fdb.learn(SEG, mac(n), home(n), now, 2);
                        } else if let Some(found) = fdb.lookup(SEG, mac(n), now) {
                            assert_eq!(found, home(n));
                        }
                    }
                });
            }
        });
    }
}
