//! A node of the trie: 256 entries, of which a byte of the address chooses one.
//!
//! Words of a *compressed* node, whose equal neighbours share an entry:
//!
//! ```text
//!  0..8   bit i says that entry i differs from entry i - 1; bit 0 is always set
//!  8..10  eight octets: bits set before each of those words
//! 10      the entry of the longest shorter prefix in the node above
//! 11..    IPv4: the entries
//! 11..15  IPv6: a key whose first bytes all keys below share
//! 15      IPv6: the byte that chooses the entry
//! 16..    IPv6: the entries
//! ```
//!
//! A *plain* node, of IPv4 only, is its 256 entries, and after them word 10 as above. *Narrow* and *sparse* ones, whose
//! entries have 16 bits, are in files of their own.

mod narrow;
mod sparse;

pub(super) use narrow::{narrow, narrowed, word};
#[cfg(test)]
pub(super) use sparse::EXCEPTIONS;
pub(super) use sparse::{RUNS as SPARSE_RUNS, sparse, thinned};

use super::key::Key;
use super::lines::{Line, WORDS, Words};

/// No route.
pub(super) const NONE: u32 = 0;
/// Marks an entry as a node. Otherwise it is a value plus one, or [`NONE`].
pub(super) const NODE: u32 = 1 << 31;
/// Marks a node as plain.
pub(super) const PLAIN: u32 = 1 << 30;
/// Marks a node as narrow.
pub(super) const NARROW: u32 = 1 << 29;
/// Marks a node as sparse.
pub(super) const SPARSE: u32 = 1 << 28;
/// The marks of a node's kind; a compressed one has none.
pub(super) const KIND: u32 = PLAIN | NARROW | SPARSE;
/// The first line of a node: one in 16 GiB of them.
pub(super) const AT: u32 = SPARSE - 1;
/// The highest entry that is a value plus one.
pub(super) const HIGHEST: u32 = PLAIN - 1;
/// The highest entry of narrow and sparse nodes.
pub(super) const NARROWEST: u32 = u16::MAX as u32;

/// Entries of a node.
pub(super) const ENTRIES: usize = 256;

const RANKS: usize = 8;
const ABOVE: usize = 10;
const PATH: usize = 11;
const BYTE: usize = 15;
const ABOVE_PLAIN: usize = ENTRIES;

/// The word of the first entry of a compressed node.
const fn first<K: Key>() -> usize {
    if K::SKIPS { BYTE + 1 } else { PATH }
}

/// The word of an entry of a compressed node.
#[inline(always)]
fn position<K: Key>(node: &[Line], byte: u8) -> usize {
    let (word, bit) = (usize::from(byte >> 5), byte & 31);
    let upto = node[0].word(word) & (u32::MAX >> (31 - bit));
    let before = node[0].word(RANKS + word / 4) >> (8 * (word % 4)) & 0xff;
    first::<K>() - 1 + (before + upto.count_ones()) as usize
}

/// An entry of a compressed node.
#[inline(always)]
pub(super) fn compressed<K: Key>(node: &[Line], byte: u8) -> u32 {
    let at = position::<K>(node, byte);
    node[at / WORDS].word(at)
}

/// An entry of a plain node.
#[inline(always)]
pub(super) fn plain(node: &[Line], byte: u8) -> u32 {
    let at = usize::from(byte);
    node[at / WORDS].word(at)
}

/// The byte that chooses the entry of a node of IPv6.
#[inline(always)]
pub(super) fn byte(node: &[Line]) -> u8 {
    node[0].word(BYTE) as u8
}

/// The bytes that a node of IPv6 skips.
#[inline(always)]
pub(super) fn path(node: &[Line]) -> [u32; 4] {
    core::array::from_fn(|i| node[0].word(PATH + i))
}

/// The entry of the longest shorter prefix in the node above.
#[inline(always)]
pub(super) fn above(node: &[Line], entry: u32) -> u32 {
    let at = match entry & KIND {
        PLAIN => ABOVE_PLAIN,
        NARROW => narrow::ABOVE,
        SPARSE => sparse::ABOVE,
        _ => ABOVE,
    };
    node[at / WORDS].word(at)
}

/// An entry of a node.
pub(super) fn entry<K: Key>(node: &[Line], entry: u32, byte: u8) -> u32 {
    match entry & KIND {
        PLAIN => plain(node, byte),
        NARROW => narrow::entry(node, byte),
        SPARSE => sparse(&node[0], byte),
        _ => compressed::<K>(node, byte),
    }
}

/// Copies a node with other nodes below it where there are nodes: a plain or compressed one.
pub(super) fn repoint<K: Key>(
    node: &[Line],
    entry: u32,
    to: &[(u8, Option<u32>)],
    out: &mut Vec<u32>,
) {
    out.clear();
    let words = lines::<K>(node, entry) * WORDS;
    out.extend((0..words).map(|at| node[at / WORDS].word(at)));
    for &(byte, child) in to {
        // No two slots lead to one node, so that it has an entry of its own.
        let at = if entry & PLAIN != 0 { byte.into() } else { position::<K>(node, byte) };
        out[at] = child.unwrap_or(out[at]);
    }
}

/// All entries of a node.
pub(super) fn entries<K: Key>(node: &[Line], entry: u32) -> [u32; ENTRIES] {
    match entry & KIND {
        PLAIN => return core::array::from_fn(|i| plain(node, i as u8)),
        NARROW => return core::array::from_fn(|i| narrow::entry(node, i as u8)),
        SPARSE => return sparse::entries(&node[0]),
        _ => {}
    }
    let (mut at, mut run) = (first::<K>(), NONE);
    core::array::from_fn(|i| {
        if node[0].word(i / 32) >> (i % 32) & 1 != 0 {
            run = node[at / WORDS].word(at);
            at += 1;
        }
        run
    })
}

/// Words of a node and what each of them becomes.
pub(super) type Revalued = Vec<(usize, u32)>;

/// How another 256 entries can be stored where the node is, word by word. None if more than values would change.
pub(super) fn revalue<K: Key>(node: &[Line], entry: u32, to: &[u32; ENTRIES]) -> Option<Revalued> {
    match entry & KIND {
        NARROW => return narrow::revalue(node, to),
        SPARSE => return sparse::revalue(&node[0], to),
        _ => {}
    }
    let mut out = Vec::new();
    let (mut at, mut run) = (if entry & PLAIN != 0 { 0 } else { first::<K>() }, NONE);
    for (i, &to) in to.iter().enumerate() {
        if entry & PLAIN != 0 || node[0].word(i / 32) >> (i % 32) & 1 != 0 {
            let old = node[at / WORDS].word(at);
            if !only_value_changes(old, to, HIGHEST) {
                return None;
            }
            if old != to {
                out.push((at, to));
            }
            (at, run) = (at + 1, to);
        } else if run != to {
            return None;
        }
    }
    Some(out)
}

/// Whether an entry may become another one, up to the highest, where it is: where there was none, readers have
/// looked elsewhere, and have not where there will be none.
fn only_value_changes(old: u32, to: u32, highest: u32) -> bool {
    old == to || old & NODE == 0 && to <= highest && old != NONE && to != NONE
}

/// Whether all entries fit 16 bits.
fn are_narrow(entries: &[u32; ENTRIES]) -> bool {
    entries.iter().all(|&entry| entry <= NARROWEST)
}

/// Lines that a node takes.
pub(super) fn lines<K: Key>(node: &[Line], entry: u32) -> usize {
    let words = match entry & KIND {
        PLAIN => ABOVE_PLAIN + 1,
        NARROW => narrow::ABOVE + 1,
        SPARSE => sparse::ABOVE + 1,
        _ => {
            let runs: u32 = (0..RANKS).map(|w| node[0].word(w).count_ones()).sum();
            first::<K>() + runs as usize
        }
    };
    words.div_ceil(WORDS)
}

/// How many entries a compressed node has for these.
pub(super) fn runs(entries: &[u32; ENTRIES]) -> usize {
    1 + entries.windows(2).filter(|pair| pair[0] != pair[1]).count()
}

/// Writes down a compressed node.
pub(super) fn compress<K: Key>(
    entries: &[u32; ENTRIES],
    (key, byte): (K, u8),
    above: u32,
    out: &mut Vec<u32>,
) {
    out.clear();
    out.resize(first::<K>(), 0);
    for (i, &entry) in entries.iter().enumerate() {
        if i % 32 == 0 {
            let before = (out.len() - first::<K>()) as u32;
            out[RANKS + i / 128] |= before << (8 * (i / 32 % 4));
        }
        if i == 0 || entry != entries[i - 1] {
            out[i / 32] |= 1 << (i % 32);
            out.push(entry);
        }
    }
    out[ABOVE] = above;
    if K::SKIPS {
        out[PATH..PATH + 4].copy_from_slice(&key.to_path());
        out[BYTE] = byte.into();
    }
}

/// Writes down a plain node.
pub(super) fn flatten(entries: &[u32; ENTRIES], above: u32, out: &mut Vec<u32>) {
    out.clear();
    out.extend_from_slice(entries);
    out.push(above);
}
