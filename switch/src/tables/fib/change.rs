//! The nodes of what has changed, and of what is above and right below it.

use super::key::Key;
use super::lines::WORDS;
use super::node::{self, AT, ENTRIES, NARROW, NODE, NONE, PLAIN, SPARSE};
use super::rib::Routes;

/// Nodes of IPv4 with more runs than this are plain, or narrow: one cache line is read and no bits are counted,
/// for at most twice the memory.
const PLAIN_RUNS: usize = 128;
const NARROW_RUNS: usize = 64;
/// With no more runs than this a compressed node takes one line, as a sparse one does, in fewer instructions. Tests
/// have sparse nodes of few entries.
const ONE_LINE_RUNS: usize = if cfg!(any(test, loom)) { 0 } else { 5 };
/// As long as there are so few plain nodes, every node is: small tables are the fastest. In a larger one
/// they would take too much of the cache. Tests have both kinds, but under loom, where memory is dear.
const FEW: usize = if cfg!(loom) {
    0
} else if cfg!(test) {
    2
} else {
    128
};

impl<K: Key> Routes<K> {
    /// The node for a part of the table in which some prefixes have changed, if it needs one: all agree
    /// in their first `from` bytes, and are longer than that. `before` is the node that there was,
    /// `above` the entry of the longest shorter prefix in the node above.
    pub(super) fn update(
        &mut self,
        before: Option<u32>,
        from: u8,
        mut changes: &[(K, u8)],
        above: u32,
    ) -> Option<u32> {
        let key = changes[0].0;
        let at = self.turning_point(before, from, changes);
        let mut children: Vec<(u8, u32)> = Vec::new();
        if let Some(node) = before {
            match self.place_of(node, key, from) {
                (_, byte) if byte == at => {
                    if self.revalue(node, (key, at), changes, above) {
                        return before;
                    }
                    let after = self.update_children(node, at, changes);
                    if let Some(after) = &after
                        && after.iter().all(|(_, child)| child.is_some())
                    {
                        return Some(self.repoint(node, after));
                    }
                    children.extend(self.children(node));
                    self.retire(node);
                    if let Some(after) = after {
                        children.retain(|(slot, _)| after.iter().all(|(s, _)| s != slot));
                        children.extend(after.iter().filter_map(|&(s, child)| Some((s, child?))));
                        changes = &[];
                    }
                }
                // It skips the byte that now matters.
                (path, _) => children.push((path.byte(at), node)),
            }
        }
        let (painted, is_empty) = self.paint(key, at);
        // Shorter prefixes sort before those that they cover, not before all longer ones.
        let below: Vec<(K, u8)> =
            changes.iter().copied().filter(|&(_, len)| len > 8 * (at + 1)).collect();
        for changes in below.chunk_by(|a, b| a.0.byte(at) == b.0.byte(at)) {
            let slot = changes[0].0.byte(at);
            let known = children.iter().position(|&(s, _)| s == slot);
            let before = known.map(|i| children.swap_remove(i).1);
            let child = self.update(before, at + 1, changes, painted[usize::from(slot)]);
            children.extend(child.map(|node| (slot, node)));
        }
        match children[..] {
            [] if is_empty => return None,
            [(_, only)] if is_empty && K::SKIPS => {
                let (path, byte) = self.place_of(only, key, at);
                return Some(self.inherit(only, (path, byte), above));
            }
            _ => {}
        }
        let mut entries = if K::SKIPS { painted } else { pushed(painted, above) };
        for (slot, node) in children {
            let place = self.place_of(node, key.with_byte(at, slot), at + 1);
            entries[usize::from(slot)] = self.inherit(node, place, painted[usize::from(slot)]);
        }
        Some(self.write(&entries, (key, at), above))
    }

    /// Updates the nodes below a node in which nothing else changes: none if something does, or if
    /// there is to be a node where there is none.
    fn update_children(
        &mut self,
        node: u32,
        at: u8,
        changes: &[(K, u8)],
    ) -> Option<Vec<(u8, Option<u32>)>> {
        let lines = self.store.from(node & AT);
        let is_below = |&(key, len): &(K, u8)| {
            len > 8 * (at + 1) && node::entry::<K>(lines, node, key.byte(at)) & NODE != 0
        };
        if !changes.iter().all(is_below) {
            return None;
        }
        let of_one_child = changes.chunk_by(|a, b| a.0.byte(at) == b.0.byte(at));
        let after = of_one_child.map(|changes| {
            let slot = changes[0].0.byte(at);
            let child = node::entry::<K>(self.store.from(node & AT), node, slot);
            let above = node::above(self.store.from(child & AT), child);
            (slot, self.update(Some(child), at + 1, changes, above))
        });
        Some(after.collect())
    }

    /// Changes the values of a node's entries where they are, if nothing else is to change and nobody is to
    /// see those of before: whether it has.
    fn revalue(&mut self, node: u32, (key, at): (K, u8), changes: &[(K, u8)], above: u32) -> bool {
        let ends_here = |&(_, len): &(K, u8)| len <= 8 * (at + 1);
        let lines = self.store.from(node & AT);
        if !self.revalues || !changes.iter().all(ends_here) || node::above(lines, node) != above {
            return false;
        }
        let (painted, _) = self.paint(key, at);
        let mut entries = if K::SKIPS { painted } else { pushed(painted, above) };
        for (slot, child) in self.children(node) {
            if node::above(self.store.from(child & AT), child) != painted[usize::from(slot)] {
                return false;
            }
            entries[usize::from(slot)] = child;
        }
        let words = node::revalue::<K>(lines, node, &entries);
        for &(i, entry) in words.iter().flatten() {
            self.store.set(node & AT, i, entry);
        }
        words.is_some()
    }

    /// The same node with other nodes below it: most changes of a large table come by many nodes in
    /// which they do not end.
    fn repoint(&mut self, node: u32, to: &[(u8, Option<u32>)]) -> u32 {
        let lines = self.store.from(node & AT);
        if to.iter().all(|&(slot, child)| Some(node::entry::<K>(lines, node, slot)) == child) {
            return node;
        }
        node::repoint::<K>(self.store.from(node & AT), node, to, &mut self.words);
        let again = self.store.write(&self.words);
        self.store.retire(node & AT, self.words.len() / WORDS);
        node & !AT | again
    }

    /// The byte that the node of a part of the table has to look at: the first in which a prefix ends or
    /// two of them differ.
    fn turning_point(&self, before: Option<u32>, from: u8, changes: &[(K, u8)]) -> u8 {
        if !K::SKIPS {
            return from;
        }
        let (first, last) = (changes[0].0, changes[changes.len() - 1].0);
        let shortest = changes.iter().map(|&(_, len)| len).min().unwrap_or(K::BITS);
        let at = (first.shared(last) / 8).min((shortest - 1) / 8);
        let at = before.map_or(at, |node| {
            let (path, byte) = self.place_of(node, first, from);
            at.min(byte).min(first.shared(path) / 8)
        });
        at.max(from)
    }

    /// The entries of the prefixes that end in one node, of which the key's first `at` bytes are the
    /// path, and whether there are none.
    fn paint(&self, key: K, at: u8) -> ([u32; ENTRIES], bool) {
        let (first, last) = (key.padded(8 * at, false), key.padded(8 * at, true));
        let mut entries = [NONE; ENTRIES];
        let mut is_empty = true;
        // In the order of the map a prefix comes before those that it covers.
        for (&place, &entry) in self.routes.range(first.place(at, 0)..=last.place(at, u8::MAX)) {
            let (key, len) = K::prefix(place);
            let start = usize::from(key.byte(at));
            entries[start..start + (1 << (8 * (at + 1) - len))].fill(entry);
            is_empty = false;
        }
        (entries, is_empty)
    }

    /// The path of a node and the byte that it looks at. In IPv4 they follow from where it is.
    fn place_of(&self, node: u32, key: K, from: u8) -> (K, u8) {
        if !K::SKIPS {
            return (key, from);
        }
        let lines = self.store.from(node & AT);
        (K::from_path(node::path(lines)), node::byte(lines))
    }

    /// The nodes below a node.
    fn children(&self, node: u32) -> Vec<(u8, u32)> {
        let entries = node::entries::<K>(self.store.from(node & AT), node);
        let all = (0..=u8::MAX).zip(entries);
        all.filter(|(_, entry)| entry & NODE != 0).collect()
    }

    /// The node, or its like, with another entry of the longest shorter prefix above.
    fn inherit(&mut self, node: u32, (key, at): (K, u8), above: u32) -> u32 {
        let lines = self.store.from(node & AT);
        if node::above(lines, node) == above {
            return node;
        }
        let entries = if K::SKIPS {
            node::entries::<K>(lines, node)
        } else {
            // The last level: what is not its own is inherited.
            pushed(self.paint(key, at).0, above)
        };
        self.retire(node);
        self.write(&entries, (key, at), above)
    }

    /// A copy of a node that knows of every address that it is asked for: this entry, where there was none.
    pub(super) fn filled(&mut self, node: u32, key: K, at: u8, entry: u32) -> u32 {
        let (place, lines) = (self.place_of(node, key, at), self.store.from(node & AT));
        let mut entries = node::entries::<K>(lines, node);
        if K::SKIPS {
            return self.write(&entries, place, entry);
        }
        for (slot, e) in (0..=u8::MAX).zip(&mut entries) {
            if *e == NONE {
                *e = entry;
            } else if *e & NODE != 0 {
                *e = self.filled(*e, key.with_byte(at, slot), at + 1, entry);
            }
        }
        self.write(&entries, place, NONE)
    }

    /// Takes a copy out that [`Routes::filled`] made.
    pub(super) fn retire_filled(&mut self, node: u32) {
        if !K::SKIPS {
            self.children(node).into_iter().for_each(|(_, child)| self.retire(child));
        }
        self.retire(node);
    }

    fn write(&mut self, entries: &[u32; ENTRIES], place: (K, u8), above: u32) -> u32 {
        let (runs, words) = (node::runs(entries), &mut self.words);
        let kind = if K::SKIPS {
            node::compress(entries, place, above, words);
            0
        } else if (0..FEW).contains(&self.plain) {
            node::flatten(entries, above, words);
            PLAIN
        } else if (ONE_LINE_RUNS + 1..=node::SPARSE_RUNS).contains(&runs)
            && node::thinned(entries, above, words)
        {
            SPARSE
        } else if runs > NARROW_RUNS && node::narrowed(entries, above, words) {
            NARROW
        } else if runs > PLAIN_RUNS {
            node::flatten(entries, above, words);
            PLAIN
        } else {
            node::compress(entries, place, above, words);
            0
        };
        *self.count(kind) += 1;
        NODE | kind | self.store.write(&self.words)
    }

    /// How many nodes there are of the kind of this one.
    fn count(&mut self, node: u32) -> &mut usize {
        if node & PLAIN != 0 { &mut self.plain } else { &mut self.packed }
    }

    fn retire(&mut self, node: u32) {
        *self.count(node) -= 1;
        let lines = node::lines::<K>(self.store.from(node & AT), node);
        self.store.retire(node & AT, lines);
    }
}

/// Entries where nothing is filled in from above.
fn pushed(entries: [u32; ENTRIES], above: u32) -> [u32; ENTRIES] {
    entries.map(|entry| if entry == NONE { above } else { entry })
}
