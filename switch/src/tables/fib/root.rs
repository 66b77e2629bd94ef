//! The first 16 bits: one entry for each of their values.

use super::node::{NODE, NONE};
use crate::sync::{AtomicU32, Ordering};
use core::ops::Range;
use std::sync::{Arc, OnceLock};

/// Prefixes up to so long end in the root.
pub(super) const BITS: u8 = 16;
/// Under loom an atomic takes a thousand times its memory: its tests use few slots, no two of them alike
/// in their last two bits.
const SLOTS: usize = if cfg!(loom) { 4 } else { 1 << BITS };

/// The root of a table, in one piece: two words for each slot, of which all but a few lookups read the
/// first and only the first. It is changed where it is, so that of a change no other line moves between
/// the cores than those of its slots.
///
/// # Why a lookup is right while it changes
///
/// Below the root nothing changes but the values of entries that stay entries, so that a node finds a
/// prefix for an address, or does not, for as long as it is there. What a lookup then needs of the root
/// is one word, or both:
///
/// - *The first says it all*, by a node or by itself. The node's words were written before its place was
///   stored (release), and are read after it was loaded (acquire).
/// - *The node knows nothing of the address*: the second is looked at, and then the first once more. If
///   it is the same, the two belonged together at some moment in between: had the second been stored after
///   a change of the first, whoever sees the one sees the other. A node does not come back in the place
///   that it had, since its memory is not used again while somebody may look.
///
/// Who changes both words of a slot sees to it that the state in between is that of before or that of
/// after (`rib.rs`).
#[derive(Clone)]
pub(super) struct Root(Arc<[AtomicU32; 2 * SLOTS]>);

/// The root as one batch looks at it.
#[derive(Clone, Copy)]
pub(super) struct RootView<'a>(&'a [AtomicU32; 2 * SLOTS]);

impl RootView<'_> {
    /// [`Root::first`].
    #[inline(always)]
    pub(super) fn first(&self, slot: usize) -> u32 {
        self.0[slot % SLOTS].load(Ordering::Acquire)
    }
}

impl Root {
    #[inline(always)]
    pub(super) fn view(&self) -> RootView<'_> {
        RootView(&self.0)
    }

    /// The root that all tables share into which nothing has been put.
    pub(super) fn empty() -> Root {
        static EMPTY: OnceLock<Root> = OnceLock::new();
        if cfg!(loom) { Root::new() } else { EMPTY.get_or_init(Root::new).clone() }
    }

    fn new() -> Root {
        Root::of(|_| NONE)
    }

    /// Another root with the same entries.
    pub(super) fn copy(&self) -> Root {
        Root::of(|i| self.0[i].load(Ordering::Relaxed))
    }

    fn of(entry: impl Fn(usize) -> u32) -> Root {
        let words: Arc<[AtomicU32]> = (0..2 * SLOTS).map(|i| AtomicU32::new(entry(i))).collect();
        Root(words.try_into().unwrap_or_else(|_| unreachable!("as many as there are")))
    }

    /// The node of a slot that has one, else the entry of its longest prefix.
    #[inline(always)]
    pub(super) fn first(&self, slot: usize) -> u32 {
        self.view().first(slot)
    }

    /// The entry of the longest prefix that ends in the root, for addresses that the node knows nothing
    /// longer of.
    #[inline(always)]
    pub(super) fn short(&self, slot: usize) -> u32 {
        self.0[SLOTS + slot % SLOTS].load(Ordering::Acquire)
    }

    pub(super) fn set_first(&self, slot: usize, entry: u32) {
        self.set(slot % SLOTS, entry);
    }

    pub(super) fn set_short(&self, slot: usize, entry: u32) {
        self.set(SLOTS + slot % SLOTS, entry);
    }

    fn set(&self, i: usize, entry: u32) {
        // A line that is not written stays in the cache of who reads it.
        if self.0[i].load(Ordering::Relaxed) != entry {
            self.0[i].store(entry, Ordering::Release);
            #[cfg(test)]
            super::tests::amend::stored(Some(i % SLOTS));
        }
    }

    /// The slot's longest prefix has this entry now, and its node, if it has one, stays.
    pub(super) fn set_only_short(&self, slot: usize, entry: u32) {
        if self.first(slot) & NODE == 0 {
            self.set_first(slot, entry);
        }
        self.set_short(slot, entry);
    }

    /// Bytes of memory held.
    pub(super) const fn memory(&self) -> usize {
        size_of::<[AtomicU32; 2 * SLOTS]>()
    }
}

/// The prefixes that end in the root, as what changes the table knows them: of each slot the entry of the
/// longest, and its length plus one; zero where there is none.
///
/// Empty as long as there has been no such prefix.
pub(super) struct Short {
    entries: Box<[u32]>,
    depths: Box<[u8]>,
    /// Slots whose entry may be another one than readers see.
    changed: Vec<Range<usize>>,
}

impl Short {
    pub(super) fn new() -> Short {
        Short { entries: Box::new([]), depths: Box::new([]), changed: Vec::new() }
    }

    /// The entry of a slot's longest prefix.
    pub(super) fn entry(&self, slot: usize) -> u32 {
        self.entries.get(slot).copied().unwrap_or(NONE)
    }

    /// The slots whose entry may have changed since this was asked last.
    pub(super) fn take_changed(&mut self) -> Vec<Range<usize>> {
        core::mem::take(&mut self.changed)
    }

    /// Puts a prefix of `len` bits from a slot on: over shorter ones, and over itself.
    pub(super) fn insert(&mut self, slot: usize, len: u8, entry: u32) {
        self.paint(slot, len, |depth| depth <= len + 1, (entry, len + 1));
    }

    /// Takes a prefix out: what it had is its parent's, of which the entry and length are given.
    pub(super) fn remove(&mut self, slot: usize, len: u8, parent: Option<(u32, u8)>) {
        let parent = parent.map_or((NONE, 0), |(entry, len)| (entry, len + 1));
        self.paint(slot, len, |depth| depth == len + 1, parent);
    }

    fn paint(
        &mut self,
        slot: usize,
        len: u8,
        wanted: impl Fn(u8) -> bool,
        (entry, depth): (u32, u8),
    ) {
        if self.entries.is_empty() {
            (self.entries, self.depths) = (vec![NONE; 1 << BITS].into(), vec![0; 1 << BITS].into());
        }
        let slots = slot..slot + (1 << (BITS - len));
        let all = self.entries[slots.clone()].iter_mut().zip(&mut self.depths[slots.clone()]);
        for (e, d) in all.filter(|(_, d)| wanted(**d)) {
            (*e, *d) = (entry, depth);
        }
        self.changed.push(slots);
    }
}
