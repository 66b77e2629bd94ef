//! A *sparse* node, of IPv4 only: one cache line for 256 entries of which all but 16 are the same.
//!
//! ```text
//!  0..4   the bytes of up to 16 exceptions
//!  4..12  their entries, two in a word
//! 12      the background: the entry of all other bytes
//! 13      the entry of the longest shorter prefix in the node above
//! ```
//!
//! An entry has 16 bits here. So none of them is a node, nor a value above 65,534: such a node is compressed.
//!
//! All bytes are compared at once, in two words of eight: byte `i` of the first one (words 0 and 1) is that of
//! the entry in the lower half of word `4 + i`, byte `i` of the second (words 2 and 3) that of the upper half.
//! That is a dozen instructions of any processor without a branch; those that compare 16 bytes would need
//! `unsafe`, and have the words put together first, each of which is an atomic of its own.

use super::super::lines::{Line, WORDS, Words};
use super::{ENTRIES, NARROWEST, Revalued, are_narrow, only_value_changes};

/// The most exceptions, and the most runs of entries that they make.
pub(in super::super) const EXCEPTIONS: usize = 16;
pub(in super::super) const RUNS: usize = 2 * EXCEPTIONS + 1;

/// The word of the first entries, and that of the background, which is looked up as entry 16.
const FIRST: usize = 4;
const BACKGROUND: usize = FIRST + EXCEPTIONS / 2;
pub(super) const ABOVE: usize = BACKGROUND + 1;

const ONES: u64 = u64::from_ne_bytes([1; 8]);

/// An entry of a sparse node.
#[inline(always)]
pub(in super::super) fn sparse(line: &Line, byte: u8) -> u32 {
    let differences = |words: [usize; 2]| {
        let [low, high] = words.map(|i| u64::from(line.word(i)));
        (low | high << 32) ^ (ONES * u64::from(byte))
    };
    // The top bit of each byte that is zero, and perhaps of bytes above one that is: the lowest is right.
    let zeros = |x: u64| x.wrapping_sub(ONES) & !x & (ONES << 7);
    // Four times the number of the entry, which is 16 where there is no such byte.
    let at = (zeros(differences([0, 1])) >> 7 | zeros(differences([2, 3])) >> 3).trailing_zeros();
    line.word(FIRST + at as usize / 8) >> (4 * at % 32) & NARROWEST
}

/// Word and shift of an entry.
fn place(number: usize) -> (usize, usize) {
    (FIRST + number / 2, 16 * (number % 2))
}

/// Word and shift of the byte of an exception.
fn place_of_byte(number: usize) -> (usize, usize) {
    (2 * (number % 2) + number / 8, 8 * (number / 2 % 4))
}

/// The bytes of the exceptions. The first one comes again in places that are not in use.
fn bytes(line: &Line) -> [u8; EXCEPTIONS] {
    core::array::from_fn(|number| {
        let (word, shift) = place_of_byte(number);
        (line.word(word) >> shift) as u8
    })
}

/// An entry by its number, of which that of the background is the last.
fn numbered(line: &Line, number: usize) -> u32 {
    let (word, shift) = place(number);
    line.word(word) >> shift & NARROWEST
}

/// All entries of a sparse node.
pub(super) fn entries(line: &Line) -> [u32; ENTRIES] {
    let mut entries = [numbered(line, EXCEPTIONS); ENTRIES];
    for (number, byte) in bytes(line).into_iter().enumerate() {
        entries[usize::from(byte)] = numbered(line, number);
    }
    entries
}

/// As [`super::revalue`].
pub(super) fn revalue(line: &Line, to: &[u32; ENTRIES]) -> Option<Revalued> {
    let bytes = bytes(line);
    let mut is_exception = [false; ENTRIES];
    bytes.iter().for_each(|&byte| is_exception[usize::from(byte)] = true);
    let mut others = to.iter().zip(is_exception).filter(|(_, is)| !is).map(|(&to, _)| to);
    let background = others.next()?;
    if others.any(|to| to != background) {
        return None;
    }
    let mut words = [0; WORDS];
    let to = bytes.iter().map(|&byte| to[usize::from(byte)]).chain([background]);
    for (number, to) in to.enumerate() {
        if !only_value_changes(numbered(line, number), to, NARROWEST) {
            return None;
        }
        let (word, shift) = place(number);
        words[word] |= to << shift;
    }
    let all = (FIRST..=BACKGROUND).map(|i| (i, words[i]));
    Some(all.filter(|&(i, word)| line.word(i) != word).collect())
}

/// Writes down a sparse node, if these can be the entries of one.
pub(in super::super) fn thinned(entries: &[u32; ENTRIES], above: u32, out: &mut Vec<u32>) -> bool {
    if !are_narrow(entries) {
        return false;
    }
    // Of one more than there may be exceptions, one is none.
    let is_background =
        |entry: &&u32| entries.iter().filter(|&e| e == *entry).count() >= ENTRIES - EXCEPTIONS;
    let Some(&background) = entries[..=EXCEPTIONS].iter().find(is_background) else { return false };
    let all = (0..=u8::MAX).zip(entries.iter().copied());
    let mut exceptions = all.filter(|&(_, entry)| entry != background);
    out.clear();
    out.resize(ABOVE + 1, 0);
    let first = exceptions.next().unwrap_or((0, background));
    let again = core::iter::repeat(first);
    let all = again.clone().take(1).chain(exceptions).chain(again);
    for (number, (byte, entry)) in all.take(EXCEPTIONS).enumerate() {
        let (word, shift) = place_of_byte(number);
        out[word] |= u32::from(byte) << shift;
        let (word, shift) = place(number);
        out[word] |= entry << shift;
    }
    out[BACKGROUND] = background;
    out[ABOVE] = above;
    true
}
