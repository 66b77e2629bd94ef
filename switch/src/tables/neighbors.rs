//! The neighbours that the router resolved itself: hosts behind bridged ports, whose addresses are in
//! the node's prefixes but belong to no pod.
//!
//! Shared by all workers without a lock, outside the snapshots, like the [`crate::Fdb`]. Each entry is
//! a seqlock of atomics: a writer makes the sequence odd, writes, and makes it even; a reader that sees
//! an odd or a changed sequence takes the neighbour for unknown and asks again a packet later. Writers
//! meet only on the same address; one of them gives up.

use crate::ids::SegmentId;
use crate::sync::{AtomicU64, Ordering, fence};
use encap::Mac;
use std::net::{IpAddr, Ipv6Addr};

/// Entries; a power of two.
const SLOTS: usize = if cfg!(loom) { 1 } else { 4096 };
/// Slots in which an address may be.
const PROBES: usize = if cfg!(loom) { 1 } else { 8 };
/// Seconds after the last confirmation in which a neighbour is asked again, in use all the while
/// (RFC 4861 section 10: REACHABLE_TIME).
const STALE_AFTER: u32 = 30;
/// Seconds after the last confirmation in which it is no longer believed.
const FORGET_AFTER: u32 = 300;

/// What is known of a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NeighborState {
    /// Asked for, no answer yet.
    Incomplete,
    /// Confirmed within the last 30 seconds.
    Reachable,
    /// Confirmed a while ago: used, and asked again.
    Stale,
    /// Did not answer.
    Failed,
}

/// A neighbour, as shown to an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeighborEntry {
    /// The segment it is in.
    pub segment: SegmentId,
    /// Its address.
    pub ip: IpAddr,
    /// Its MAC address, when it is known.
    pub mac: Option<Mac>,
    /// What is known of it.
    pub state: NeighborState,
    /// Seconds since that was last confirmed, asked, or found to fail.
    pub age: u32,
}

#[derive(Debug, Default)]
#[repr(align(64))]
struct Slot {
    /// Odd while the entry is written.
    sequence: AtomicU64,
    high: AtomicU64,
    low: AtomicU64,
    /// The MAC address, 48 bits, and the segment, 16 bits. A MAC address of zero: none.
    mac: AtomicU64,
    /// Bit 63: in use. Bit 62: failed. The low 32 bits: the second of the last change.
    state: AtomicU64,
}

const USED: u64 = 1 << 63;
const FAILED: u64 = 1 << 62;

/// A slot's contents, read at one moment.
#[derive(Clone, Copy)]
struct Read {
    address: u128,
    segment: SegmentId,
    mac: Mac,
    state: u64,
}

impl Read {
    fn entry(self, now: u32) -> NeighborEntry {
        let age = now.saturating_sub(self.state as u32);
        let state = match (self.mac, age) {
            _ if self.state & FAILED != 0 => NeighborState::Failed,
            (Mac::ZERO, _) => NeighborState::Incomplete,
            (_, ..STALE_AFTER) => NeighborState::Reachable,
            _ => NeighborState::Stale,
        };
        let v6 = Ipv6Addr::from(self.address);
        let ip = v6.to_ipv4_mapped().map_or(IpAddr::V6(v6), IpAddr::V4);
        let mac = (self.mac != Mac::ZERO).then_some(self.mac);
        NeighborEntry { segment: self.segment, ip, mac, state, age }
    }

    fn is_live(self, now: u32) -> bool {
        self.state & USED != 0 && now.saturating_sub(self.state as u32) < FORGET_AFTER
    }
}

/// The neighbours resolved by the router.
#[derive(Debug)]
pub struct Neighbors {
    slots: Box<[Slot]>,
}

impl Default for Neighbors {
    fn default() -> Neighbors {
        Neighbors { slots: (0..SLOTS).map(|_| Slot::default()).collect() }
    }
}

fn address(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(a) => a.to_ipv6_mapped().into(),
        IpAddr::V6(a) => a.into(),
    }
}

impl Neighbors {
    /// The neighbour, unless nothing is known of it.
    pub fn get(&self, segment: SegmentId, ip: IpAddr, now: u32) -> Option<NeighborEntry> {
        let address = address(ip);
        let found = self
            .probes(segment, address)
            .filter_map(Slot::read)
            .find(|r| r.address == address && r.segment == segment && r.is_live(now))?;
        Some(found.entry(now))
    }

    /// Notes that `ip` was seen at `mac`.
    pub fn confirm(&self, segment: SegmentId, ip: IpAddr, mac: Mac, now: u32) {
        self.write(segment, ip, mac, USED, now);
    }

    /// Notes that `ip` may be at `mac`: it is used, and to be asked again as soon as it is.
    pub fn doubt(&self, segment: SegmentId, ip: IpAddr, mac: Mac, now: u32) {
        self.write(segment, ip, mac, USED, now.saturating_sub(STALE_AFTER));
    }

    /// Notes that `ip` is being asked for. One whose address is known stays known.
    pub fn ask(&self, segment: SegmentId, ip: IpAddr, now: u32) {
        if self.get(segment, ip, now).is_none_or(|n| n.mac.is_none()) {
            self.write(segment, ip, Mac::ZERO, USED, now);
        }
    }

    /// Notes that `ip` did not answer.
    pub fn fail(&self, segment: SegmentId, ip: IpAddr, now: u32) {
        self.write(segment, ip, Mac::ZERO, USED | FAILED, now);
    }

    /// All neighbours of which something is known, in no order.
    pub fn entries(&self, now: u32) -> Vec<NeighborEntry> {
        let live = self.slots.iter().filter_map(Slot::read).filter(|r| r.is_live(now));
        live.map(|r| r.entry(now)).collect()
    }

    /// Forgets the neighbours for which `matches` is true; returns how many.
    pub fn flush(&self, now: u32, mut matches: impl FnMut(&NeighborEntry) -> bool) -> usize {
        let mut flushed = 0;
        for slot in &self.slots {
            let Some(read) = slot.read().filter(|r| r.is_live(now)) else { continue };
            if matches(&read.entry(now)) && slot.write(read.address, 0, 0) {
                flushed += 1;
            }
        }
        flushed
    }

    #[cfg_attr(loom, expect(clippy::modulo_one, reason = "loom tries one slot, in few steps"))]
    fn probes(&self, segment: SegmentId, address: u128) -> impl Iterator<Item = &Slot> {
        let key = (address >> 64) as u64 ^ address as u64 ^ u64::from(segment.0) << 48;
        let hash = u128::from(key ^ 0x9e37_79b9_7f4a_7c15) * 0xd6e8_feb8_6659_fd93;
        let start = ((hash >> 64) as u64 ^ hash as u64) as usize;
        (start..start + PROBES).map(|i| &self.slots[i % SLOTS])
    }

    /// Writes to the slot of the address, or to a free one, or to the one silent for longest.
    fn write(&self, segment: SegmentId, ip: IpAddr, mac: Mac, state: u64, now: u32) {
        let address = address(ip);
        let rank = |slot: &&Slot| match slot.read() {
            Some(r) if r.address == address && r.segment == segment && r.state & USED != 0 => 0,
            Some(r) if r.is_live(now) => 2 + u64::from(r.state as u32),
            Some(_) => 1,
            None => u64::MAX,
        };
        if let Some(slot) = self.probes(segment, address).min_by_key(rank) {
            slot.write(address, u64::from(segment.0) << 48 | mac.to_u64(), state | u64::from(now));
        }
    }
}

impl Slot {
    fn read(&self) -> Option<Read> {
        let before = self.sequence.load(Ordering::Acquire);
        let [high, low, mac, state] =
            [&self.high, &self.low, &self.mac, &self.state].map(|w| w.load(Ordering::Relaxed));
        // The words are read before the sequence is read again.
        fence(Ordering::Acquire);
        if before % 2 == 1 || self.sequence.load(Ordering::Relaxed) != before {
            return None;
        }
        Some(Read {
            address: u128::from(high) << 64 | u128::from(low),
            segment: SegmentId((mac >> 48) as u16),
            mac: Mac::from_u64(mac),
            state,
        })
    }

    /// Writes the entry, unless somebody else is writing it; whether it did.
    fn write(&self, address: u128, mac: u64, state: u64) -> bool {
        let before = self.sequence.load(Ordering::Relaxed);
        if before % 2 == 1
            || self
                .sequence
                .compare_exchange(before, before + 1, Ordering::Acquire, Ordering::Relaxed)
                .is_err()
        {
            return false;
        }
        // Whoever sees one of these words also sees the sequence odd.
        fence(Ordering::Release);
        self.high.store((address >> 64) as u64, Ordering::Relaxed);
        self.low.store(address as u64, Ordering::Relaxed);
        self.mac.store(mac, Ordering::Relaxed);
        self.state.store(state, Ordering::Relaxed);
        self.sequence.store(before + 2, Ordering::Release);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEG: SegmentId = SegmentId(3);

    fn ip(n: u32) -> IpAddr {
        IpAddr::V4(n.into())
    }

    fn mac(n: u64) -> Mac {
        Mac::from_u64(0x0200_0000_0000 | n)
    }

    fn state(n: &Neighbors, a: IpAddr, now: u32) -> Option<(Option<Mac>, NeighborState)> {
        n.get(SEG, a, now).map(|e| (e.mac, e.state))
    }

    #[test]
    fn the_life_of_a_neighbour() {
        let n = Neighbors::default();
        let v6: IpAddr = "fd00::7".parse().unwrap();
        for a in [ip(7), v6] {
            assert_eq!(state(&n, a, 100), None);
            n.ask(SEG, a, 100);
            assert_eq!(state(&n, a, 100), Some((None, NeighborState::Incomplete)));
            n.confirm(SEG, a, mac(1), 101);
            assert_eq!(state(&n, a, 101), Some((Some(mac(1)), NeighborState::Reachable)));
            assert_eq!(state(&n, a, 131), Some((Some(mac(1)), NeighborState::Stale)));
            n.ask(SEG, a, 131);
            assert_eq!(state(&n, a, 131), Some((Some(mac(1)), NeighborState::Stale)), "still used");
            n.fail(SEG, a, 134);
            assert_eq!(state(&n, a, 134), Some((None, NeighborState::Failed)));
            assert_eq!(state(&n, a, 434), None, "forgotten");
        }
        assert_eq!(n.get(SegmentId(4), ip(7), 101), None, "segments are apart");
    }

    #[test]
    fn lists_and_flushes() {
        let n = Neighbors::default();
        for i in 0..100 {
            n.confirm(SEG, ip(i), mac(i.into()), 10);
        }
        assert_eq!(n.entries(10).len(), 100);
        assert_eq!(n.flush(10, |e| e.ip == ip(5)), 1);
        assert_eq!(n.get(SEG, ip(5), 10), None);
        assert_eq!(n.flush(10, |_| true), 99);
        assert!(n.entries(10).is_empty());
    }

    #[test]
    fn a_full_table_gives_up_the_oldest() {
        let n = Neighbors::default();
        for i in 0..100_000u32 {
            n.confirm(SEG, ip(i), mac(i.into()), 10 + i / 1000);
            assert!(n.get(SEG, ip(i), 10 + i / 1000).is_some(), "neighbour {i}");
        }
        assert!(n.entries(110).len() <= SLOTS);
    }

    #[test]
    fn readers_see_no_torn_entry() {
        let n = Neighbors::default();
        std::thread::scope(|s| {
            for t in 0..3u32 {
                let n = &n;
                s.spawn(move || {
                    for i in 0..200_000u32 {
                        // Few slots for many addresses, so that entries are overwritten.
                        let a = i.wrapping_mul(2_654_435_761 + t) % 50_000;
                        if i % 2 == 0 {
                            n.confirm(SEG, ip(a), mac(a.into()), i);
                        } else if let Some(e) = n.get(SEG, ip(a), i) {
                            assert_eq!(e.mac, Some(mac(a.into())));
                        }
                    }
                });
            }
        });
    }
}
