//! A *narrow* node, of IPv4 only: its 256 entries side by side, two in a word, and after them the entry of the
//! longest shorter prefix in the node above.
//!
//! It is read like a plain one and takes half of its memory: more of a large table stays in the caches.

use super::super::lines::{Line, WORDS, Words};
use super::{ENTRIES, NARROWEST, Revalued, are_narrow, only_value_changes};

pub(super) const ABOVE: usize = ENTRIES / 2;

/// An entry of a narrow node, of the word that [`word`] says.
#[inline(always)]
pub(in super::super) fn narrow(word: u32, byte: u8) -> u32 {
    word.wrapping_shr(16 * u32::from(byte)) & NARROWEST
}

/// The word of an entry of a narrow node.
#[inline(always)]
pub(in super::super) fn word(byte: u8) -> usize {
    usize::from(byte) / 2
}

/// Any entry of a narrow node.
pub(super) fn entry(node: &[Line], byte: u8) -> u32 {
    let at = word(byte);
    narrow(node[at / WORDS].word(at), byte)
}

/// As [`super::revalue`].
pub(super) fn revalue(node: &[Line], to: &[u32; ENTRIES]) -> Option<Revalued> {
    let mut out = Vec::new();
    for (at, to) in to.as_chunks::<2>().0.iter().enumerate() {
        let old = node[at / WORDS].word(at);
        let [low, high] = *to;
        if !(only_value_changes(old & NARROWEST, low, NARROWEST)
            && only_value_changes(old >> 16, high, NARROWEST))
        {
            return None;
        }
        if old != low | high << 16 {
            out.push((at, low | high << 16));
        }
    }
    Some(out)
}

/// Writes down a narrow node, if these can be the entries of one.
pub(in super::super) fn narrowed(entries: &[u32; ENTRIES], above: u32, out: &mut Vec<u32>) -> bool {
    if !are_narrow(entries) {
        return false;
    }
    out.clear();
    out.extend(entries.as_chunks::<2>().0.iter().map(|[low, high]| low | high << 16));
    out.push(above);
    true
}
