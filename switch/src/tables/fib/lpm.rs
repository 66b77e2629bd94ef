//! What a worker looks addresses up in.

use super::key::Key;
use super::lines::{Lines, LinesView};
use super::node::{self, AT, KIND, NARROW, NODE, NONE, PLAIN, SPARSE};
use super::root::{Root, RootView};
use core::fmt;
use core::marker::PhantomData;

/// A longest-prefix-match table of one family: from prefixes to values below 2^30 - 1. As of one moment, or
/// of the present: see [`super::Rib::amend`].
#[derive(Clone)]
pub struct Lpm<K> {
    root: Root,
    lines: Lines,
    plain: bool,
    key: PhantomData<K>,
}

/// The table of IPv4 as one batch looks at it: nothing in it is behind two pointers.
#[derive(Clone, Copy)]
pub(crate) struct LpmView<'a> {
    root: RootView<'a>,
    lines: LinesView<'a>,
}

impl<K> fmt::Debug for Lpm<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lpm").finish_non_exhaustive()
    }
}

impl<K> Default for Lpm<K> {
    fn default() -> Lpm<K> {
        Lpm { root: Root::empty(), lines: Lines::default(), plain: true, key: PhantomData }
    }
}

impl Lpm<u32> {
    /// Whether all nodes were plain when the table was handed out.
    #[inline(always)]
    pub(crate) fn is_plain(&self) -> bool {
        self.plain
    }

    /// Puts in the place of each key what [`Lpm::index`] says of it: the processor waits for the memory of many
    /// lookups at once, if there is little between them.
    #[inline(never)]
    pub(crate) fn look_up_all(&self, keys: &mut [u32]) {
        for key in keys {
            *key = self.entry::<true>(*key).wrapping_sub(1);
        }
    }

    /// The table as one batch looks at it.
    #[inline(always)]
    pub(crate) fn view(&self) -> LpmView<'_> {
        LpmView { root: self.root.view(), lines: self.lines.view() }
    }
}

impl LpmView<'_> {
    /// [`Lpm::index`] without a call: also beyond every table for an address whose nodes are not plain or say
    /// nothing of it.
    #[inline(always)]
    pub(crate) fn index_at_once(&self, key: u32) -> usize {
        let mut entry = self.root.first(key.root());
        if entry & NODE != 0 {
            entry = self.at_once(entry, key.byte(2));
            if entry & NODE != 0 {
                entry = self.at_once(entry, key.byte(3));
            }
        }
        entry.wrapping_sub(1) as usize
    }

    #[inline(always)]
    fn at_once(&self, entry: u32, byte: u8) -> u32 {
        if entry & PLAIN == 0 {
            return NONE;
        }
        self.lines.word(entry & AT, byte.into())
    }
}

impl<K: Key> Lpm<K> {
    pub(super) fn new(root: Root, lines: Lines, plain: bool) -> Lpm<K> {
        Lpm { root, lines, plain, key: PhantomData }
    }

    /// The value of the longest prefix that holds `key`.
    #[inline(always)]
    pub fn lookup(&self, key: K) -> Option<u32> {
        self.entry::<false>(key).checked_sub(1)
    }

    /// The value, as an index that is beyond every table where there is none.
    #[inline(always)]
    pub(crate) fn index(&self, key: K) -> usize {
        self.entry::<false>(key).wrapping_sub(1) as usize
    }

    /// The value plus one, or [`NONE`]. With `IN_LINE` nothing is called for nodes that are not plain.
    #[inline(always)]
    fn entry<const IN_LINE: bool>(&self, key: K) -> u32 {
        let slot = key.root();
        let first = self.root.first(slot);
        let mut entry = first;
        if first & NODE != 0 {
            entry = if K::SKIPS {
                self.descend_skipping(key, first)
            } else {
                self.descend::<IN_LINE>(key, first)
            };
            if entry == NONE {
                entry = self.short(key, first);
            }
        }
        entry
    }

    /// The entry of the longest prefix that ends in the root, for a slot whose node says nothing of the
    /// address. Out of line: few packets take it.
    #[inline(never)]
    fn short(&self, key: K, first: u32) -> u32 {
        let entry = self.root.short(key.root());
        // The slot may have changed meanwhile.
        if self.root.first(key.root()) == first { entry } else { self.entry::<false>(key) }
    }

    /// Below the root in IPv4: at most two nodes. An entry is inherited from the node above, so that
    /// the last one says it all.
    #[inline(always)]
    fn descend<const IN_LINE: bool>(&self, key: K, entry: u32) -> u32 {
        match self.below::<IN_LINE>(entry, key.byte(2)) {
            entry if entry & NODE != 0 => self.below::<IN_LINE>(entry, key.byte(3)),
            entry => entry,
        }
    }

    /// An entry of a node of IPv4.
    #[inline(always)]
    fn below<const IN_LINE: bool>(&self, entry: u32, byte: u8) -> u32 {
        if entry & PLAIN != 0 {
            self.lines.word(entry & AT, byte.into())
        } else if IN_LINE {
            self.packed(entry, byte)
        } else {
            self.packed_far(entry, byte)
        }
    }

    /// Of a large table, which waits for memory rather than for a call; where it is inlined it takes
    /// registers from the way of small ones.
    #[inline(never)]
    fn packed_far(&self, entry: u32, byte: u8) -> u32 {
        self.packed(entry, byte)
    }

    /// An entry of a node of IPv4 that is not plain.
    #[inline(always)]
    fn packed(&self, entry: u32, byte: u8) -> u32 {
        let at = entry & AT;
        match entry & KIND {
            NARROW => node::narrow(self.lines.word(at, node::word(byte)), byte),
            SPARSE => node::sparse(self.lines.line(at), byte),
            _ => node::compressed::<K>(self.lines.from(at), byte),
        }
    }

    /// Below the root in IPv6: nothing is inherited, since a change would reach too far down.
    #[inline(always)]
    fn descend_skipping(&self, key: K, mut entry: u32) -> u32 {
        let mut best = NONE;
        while entry & NODE != 0 {
            let node = self.lines.from(entry & AT);
            match node::above(node, entry) {
                NONE => {}
                longer => best = longer,
            }
            let byte = node::byte(node);
            if !key.agrees(node::path(node), byte) {
                return best;
            }
            entry = node::compressed::<K>(node, key.byte(byte));
        }
        if entry == NONE { best } else { entry }
    }

    /// Whether it is too large for a core's own cache, of which it should leave something to others.
    #[inline]
    pub fn is_large(&self) -> bool {
        self.lines.chunks() > 3
    }

    /// What a slot of the root leads to.
    #[cfg(test)]
    pub(super) fn first(&self, slot: usize) -> u32 {
        self.root.first(slot)
    }

    /// How many slots of the root lead to a node.
    #[cfg(test)]
    pub(super) fn nodes(&self) -> usize {
        (0..1 << 16).filter(|&slot| self.root.first(slot) & NODE != 0).count()
    }

    /// Bytes of memory held, what other versions of the table share included.
    pub fn memory(&self) -> usize {
        self.root.memory() + self.lines.memory()
    }
}
