//! The first 16 bits: one entry for each of their values.

use super::node::{NODE, NONE};
use std::sync::Arc;

/// Prefixes up to so long end in the root.
pub(super) const BITS: u8 = 16;
const SLOTS: usize = 1 << BITS;
/// Slots of a page: what a change of one slot copies. Smaller pages cost each snapshot more.
const PAGE: usize = 128;

/// A word for each slot, in pages that versions share.
#[derive(Clone)]
struct Pages([Arc<[u32; PAGE]>; SLOTS / PAGE]);

impl Pages {
    fn new() -> Pages {
        let page = Arc::new([NONE; PAGE]);
        Pages(core::array::from_fn(|_| page.clone()))
    }

    #[inline(always)]
    fn get(&self, slot: usize) -> u32 {
        self.0[slot / PAGE % (SLOTS / PAGE)][slot % PAGE]
    }

    /// Whether a page has a slot with this bit set.
    fn has(&self, page: usize, bit: u32) -> bool {
        self.0[page].iter().any(|entry| entry & bit != 0)
    }

    fn set(&mut self, slot: usize, entry: u32) {
        if self.get(slot) != entry {
            Arc::make_mut(&mut self.0[slot / PAGE])[slot % PAGE] = entry;
        }
    }
}

/// The root of a table.
#[derive(Clone)]
pub(super) struct Root {
    /// The node of each slot that has one, else the entry of its longest prefix.
    first: Pages,
    /// The entry of each slot's longest prefix, for addresses that the node knows nothing longer of.
    short: Pages,
}

impl Root {
    pub(super) fn new() -> Root {
        Root { first: Pages::new(), short: Pages::new() }
    }

    /// A node or the entry of the longest prefix.
    #[inline(always)]
    pub(super) fn first(&self, slot: usize) -> u32 {
        self.first.get(slot)
    }

    /// The entry of the longest prefix that ends in the root.
    pub(super) fn short(&self, slot: usize) -> u32 {
        self.short.get(slot)
    }

    /// The slot has this node, or [`NONE`].
    pub(super) fn set_node(&mut self, slot: usize, node: u32) {
        self.first.set(slot, if node == NONE { self.short(slot) } else { node });
    }

    pub(super) fn set_short(&mut self, slot: usize, entry: u32) {
        self.short.set(slot, entry);
        if self.first(slot) & NODE == 0 {
            self.first.set(slot, entry);
        }
    }

    /// As [`Root::set_short`] for all slots of a page; `uniform` is one in which all have this entry.
    fn set_short_page(&mut self, page: usize, uniform: &Arc<[u32; PAGE]>) {
        self.short.0[page] = uniform.clone();
        if !self.first.has(page, NODE) {
            self.first.0[page] = uniform.clone();
            return;
        }
        for slot in page * PAGE..(page + 1) * PAGE {
            self.set_short(slot, uniform[0]);
        }
    }

    /// Bytes of memory held.
    pub(super) fn memory(&self) -> usize {
        let mut pages: Vec<_> = self.first.0.iter().chain(&self.short.0).map(Arc::as_ptr).collect();
        pages.sort_unstable();
        pages.dedup();
        size_of::<Root>() + pages.len() * size_of::<[u32; PAGE]>()
    }
}

/// How long each slot's longest prefix is, plus one; zero where there is none. Only what changes the
/// root needs to know.
pub(super) struct Depths(Box<[u8]>);

impl Depths {
    pub(super) fn new() -> Depths {
        Depths(vec![0; SLOTS].into())
    }

    /// Writes a prefix of `len` bits from a slot on: over shorter ones, and over itself.
    pub(super) fn insert(&mut self, root: &mut Root, slot: usize, len: u8, entry: u32) {
        self.paint(root, slot, len, |depth| depth <= len + 1, (entry, len + 1));
    }

    /// Takes a prefix out: what it had is its parent's, of which the entry and length are given.
    pub(super) fn remove(
        &mut self,
        root: &mut Root,
        slot: usize,
        len: u8,
        parent: Option<(u32, u8)>,
    ) {
        let parent = parent.map_or((NONE, 0), |(entry, len)| (entry, len + 1));
        self.paint(root, slot, len, |depth| depth == len + 1, parent);
    }

    fn paint(
        &mut self,
        root: &mut Root,
        first: usize,
        len: u8,
        wanted: impl Fn(u8) -> bool,
        (entry, depth): (u32, u8),
    ) {
        let last = first + (1 << (BITS - len));
        let uniform = (last - first >= PAGE).then(|| Arc::new([entry; PAGE]));
        let mut slot = first;
        while slot < last {
            // A default route is in all pages, which it fills with one, as a rule.
            if let Some(uniform) = &uniform
                && self.0[slot..slot + PAGE].iter().all(|&depth| wanted(depth))
            {
                self.0[slot..slot + PAGE].fill(depth);
                root.set_short_page(slot / PAGE, uniform);
                slot += PAGE;
                continue;
            }
            let end = last.min(slot + PAGE);
            for slot in slot..end {
                if wanted(self.0[slot]) {
                    self.0[slot] = depth;
                    root.set_short(slot, entry);
                }
            }
            slot = end;
        }
    }
}
