//! What changes a table: its routes, and how their changes reach those who look into it.

use super::key::Key;
use super::lines::Store;
use super::lpm::Lpm;
use super::node::{HIGHEST, NODE, NONE};
use super::root::{BITS, Root, Short};
use std::collections::BTreeMap;

/// Readers get a new token when so many lines wait for one, 64 KiB: seldom enough to cost them nothing, and
/// what is used again soon is in the cache of who writes it.
const RETIRED: usize = if cfg!(any(test, loom)) { 4 } else { 1024 };

/// The routes of one family.
///
/// A change is noted, and done to the trie when the next snapshot is taken or the last one is amended: then
/// each node with changes is written once, anew, and so are the nodes above it. It costs what these nodes
/// hold, at most 256 entries each, and the 256 nodes right below, whatever else is in the table. Where nothing
/// but values changes, no node is written anew, if nobody holds an earlier snapshot.
pub struct Routes<K: Key> {
    /// Value plus one of each prefix. All that end in one node are neighbours.
    pub(super) routes: BTreeMap<K::Place, u32>,
    pub(super) store: Store,
    /// How many nodes are plain, and how many of another kind.
    pub(super) plain: usize,
    pub(super) packed: usize,
    /// A node that is being written.
    pub(super) words: Vec<u32>,
    /// Whether values may be changed where they are, since nobody is to see those of before.
    pub(super) revalues: bool,
    root: Root,
    /// The snapshot that the root was made for, if any; who looks into an earlier one has another root.
    root_of: Option<u64>,
    /// Snapshots taken so far.
    snapshots: u64,
    short: Short,
    /// Prefixes below the root that have changed and are not in the trie yet.
    changed: Vec<(K, u8)>,
    /// Whether any prefix has.
    dirty: bool,
}

/// A slot of the root that leads elsewhere from now on.
struct Link {
    slot: usize,
    /// The node, or [`NONE`].
    node: u32,
    /// What the slot leads to while the entry of its longest prefix changes, too: a node that knows of every
    /// address what is known before, or after.
    meanwhile: Option<u32>,
}

/// The level of a prefix: 0 if it ends in the root, else the byte that it ends in.
fn level(len: u8) -> u8 {
    if len <= BITS { 0 } else { (len - 1) / 8 }
}

impl<K: Key> Default for Routes<K> {
    fn default() -> Routes<K> {
        Routes::new()
    }
}

impl<K: Key> Routes<K> {
    /// No routes.
    pub fn new() -> Routes<K> {
        Routes {
            routes: BTreeMap::new(),
            store: Store::new(),
            plain: 0,
            packed: 0,
            words: Vec::new(),
            revalues: false,
            root: Root::empty(),
            root_of: None,
            snapshots: 0,
            short: Short::new(),
            changed: Vec::new(),
            dirty: false,
        }
    }

    /// A table of `routes`: (bits, length, value). Of two equal prefixes the last wins.
    pub fn from_routes(routes: impl IntoIterator<Item = (K, u8, u32)>) -> Routes<K> {
        let mut table = Routes::new();
        let mut places: Vec<(K::Place, u32)> = Vec::new();
        for (key, len, value) in routes {
            let entry = table.note(key, len, value);
            places.push((key.place(level(len), len), entry));
        }
        // A map of sorted pairs is filled to the brim.
        places.sort_by_key(|&(place, _)| place);
        places.reverse();
        places.dedup_by_key(|&mut (place, _)| place);
        places.reverse();
        table.routes = places.into_iter().collect();
        table
    }

    /// Adds a route to a value below 2^30 - 1, or replaces it: the value before. Bits beyond the length
    /// must be zero.
    pub fn insert(&mut self, key: K, len: u8, value: u32) -> Option<u32> {
        let entry = self.note(key, len, value);
        self.routes.insert(key.place(level(len), len), entry).map(|entry| entry - 1)
    }

    /// Puts a new value where it belongs in the root, or notes that it must be put further below.
    fn note(&mut self, key: K, len: u8, value: u32) -> u32 {
        debug_assert!(value < HIGHEST && key == key.padded(len, false) && len <= K::BITS);
        let entry = (value & HIGHEST) + 1;
        self.dirty = true;
        if len <= BITS {
            self.short.insert(key.root(), len, entry);
        } else {
            self.changed.push((key, len));
        }
        entry
    }

    /// Removes a route: the value that it had.
    pub fn remove(&mut self, key: K, len: u8) -> Option<u32> {
        let entry = self.routes.remove(&key.place(level(len), len))?;
        self.dirty = true;
        if len <= BITS {
            let shorter = (0..len).rev();
            let parent = shorter
                .filter_map(|l| Some((*self.routes.get(&key.padded(l, false).place(0, l))?, l)));
            let parent = parent.into_iter().next();
            self.short.remove(key.root(), len, parent);
        } else {
            self.changed.push((key, len));
        }
        Some(entry - 1)
    }

    /// The value of exactly this prefix.
    pub fn get(&self, key: K, len: u8) -> Option<u32> {
        self.routes.get(&key.place(level(len), len)).map(|entry| entry - 1)
    }

    /// How many routes there are.
    pub fn len(&self) -> usize {
        self.routes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }

    /// The table as it is now. From now on, what earlier snapshots say stays as it is.
    pub fn snapshot(&mut self) -> Lpm<K> {
        self.store.freeze();
        self.snapshots += 1;
        self.commit();
        self.present()
    }

    /// Makes the changes so far seen by those who look into the last snapshot, as [`super::Rib::amend`] has
    /// it; what they should look into instead.
    pub fn amend(&mut self) -> Option<Lpm<K>> {
        self.store.reclaim();
        let is_seen = self.commit();
        if is_seen && self.store.retired_lines() < RETIRED {
            return None;
        }
        self.store.advance();
        Some(self.present())
    }

    /// The last snapshot, as it is now.
    pub(super) fn present(&self) -> Lpm<K> {
        Lpm::new(self.root.clone(), self.store.lines(), self.packed == 0)
    }

    /// Puts all changes into the trie. Whether who looks into the last snapshot sees them.
    fn commit(&mut self) -> bool {
        if !self.dirty {
            return true;
        }
        self.dirty = false;
        // Nobody left but those for whom the table is to change.
        self.revalues = !self.store.is_frozen();
        let is_theirs = self.root_of.is_some_and(|of| self.revalues || of == self.snapshots);
        let chunks = self.store.chunks();
        let links = self.write_changed(is_theirs);
        // They do not see chunks that they were not given.
        let is_seen = is_theirs && self.store.chunks() == chunks;
        if !is_seen {
            self.root = self.root.copy();
            self.root_of = Some(self.snapshots);
        }
        for link in &links {
            self.link(link);
        }
        for slot in self.short.take_changed().into_iter().flatten() {
            self.root.set_only_short(slot, self.short.entry(slot));
        }
        is_seen
    }

    /// Writes the nodes of what has changed, to which nothing leads yet.
    fn write_changed(&mut self, is_looked_at: bool) -> Vec<Link> {
        let mut changed = core::mem::take(&mut self.changed);
        changed.sort_unstable();
        changed.dedup();
        let mut links = Vec::new();
        for changes in changed.chunk_by(|a, b| a.0.root() == b.0.root()) {
            let (key, _) = changes[0];
            let slot = key.root();
            let before = Some(self.root.first(slot)).filter(|entry| entry & NODE != 0);
            let after = self.update(before, BITS / 8, changes, NONE);
            if before == after {
                continue;
            }
            let [old, new] = [self.root.short(slot), self.short.entry(slot)];
            let meanwhile = match (before, after) {
                (Some(before), Some(after)) if is_looked_at && old != new => {
                    let (node, entry) = if old == NONE { (after, new) } else { (before, old) };
                    Some(self.filled(node, key, BITS / 8, entry))
                }
                _ => None,
            };
            links.push(Link { slot, node: after.unwrap_or(NONE), meanwhile });
        }
        changed.clear();
        // What a table was filled with is not needed again.
        changed.shrink_to(1024);
        self.changed = changed;
        links
    }

    /// Makes a slot lead to its new node. Every address has its new route from one store on.
    fn link(&mut self, &Link { slot, node, meanwhile }: &Link) {
        let short = self.short.entry(slot);
        if node == NONE {
            self.root.set_first(slot, short);
            self.root.set_short(slot, short);
            return;
        }
        if let Some(filled) = meanwhile {
            self.root.set_first(slot, filled);
            self.retire_filled(filled);
        }
        self.root.set_short(slot, short);
        self.root.set_first(slot, node);
    }
}
