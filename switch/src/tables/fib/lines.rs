//! Memory for nodes: cache lines in chunks that never move, shared by all versions of a table.
//!
//! A node is written once, before a reader can be led to it, and not again while one may look at it, but for
//! the values of its entries ([`Store::set`]): versions share the nodes that did not change between them.
//! What no longer is in the table is written over when nobody looks any more.
//!
//! # Why nobody reads what is written over
//!
//! What readers hold has a token. Nodes that the table no longer leads to are noted beside the token that
//! was the last one to be handed out before, and become free when nobody but this list holds that token, nor
//! any older one: who holds a later one got it when nothing led to them any more. `Arc::get_mut` finds that
//! out, and orders the last reader's loads before the stores that follow. That the words of a node are there
//! when a reader is led to it is seen to in the root (`root.rs`). So the words can be loaded and stored
//! without further order; they are atomics because the borrow checker cannot see all this, and cost what
//! plain words cost.

use crate::sync::{AtomicU32, Ordering};
use std::collections::VecDeque;
use std::sync::Arc;

/// Words of a cache line.
pub(super) const WORDS: usize = 16;
/// Lines of a chunk, as a power of two: 256 KiB.
const CHUNK: u32 = if cfg!(loom) { 5 } else { 12 };
/// The most lines that a node needs.
pub(super) const MAX_BLOCK: usize = 17;

/// A cache line.
pub(super) type Line = [AtomicU32; WORDS];

/// What nodes are made of.
pub(super) trait Words {
    /// A word.
    fn word(&self, i: usize) -> u32;
}

impl Words for Line {
    #[inline(always)]
    fn word(&self, i: usize) -> u32 {
        self[i % WORDS].load(Ordering::Relaxed)
    }
}

/// Lines in one piece of memory: as their words, so that one of a plain node is found in one step.
#[repr(align(64))]
struct Chunk([AtomicU32; WORDS << CHUNK]);

impl Default for Chunk {
    fn default() -> Chunk {
        Chunk(core::array::from_fn(|_| AtomicU32::new(0)))
    }
}

impl Chunk {
    #[inline(always)]
    fn lines(&self) -> &[Line] {
        self.0.as_chunks().0
    }
}

/// Lines as a reader sees them.
#[derive(Clone, Default)]
pub(super) struct Lines {
    chunks: Arc<[Arc<Chunk>]>,
    /// Held as long as there is somebody to look.
    _token: Arc<()>,
}

/// Lines as one batch looks at them.
#[derive(Clone, Copy)]
pub(super) struct LinesView<'a>(&'a [Arc<Chunk>]);

impl LinesView<'_> {
    /// [`Lines::word`].
    #[inline(always)]
    pub(super) fn word(&self, at: u32, i: usize) -> u32 {
        let word = at as usize * WORDS + i;
        self.0[(at >> CHUNK) as usize].0[word % (WORDS << CHUNK)].load(Ordering::Relaxed)
    }
}

impl Lines {
    #[inline(always)]
    pub(super) fn view(&self) -> LinesView<'_> {
        LinesView(&self.chunks)
    }

    /// The lines from this one to the end of its chunk.
    #[inline(always)]
    pub(super) fn from(&self, at: u32) -> &[Line] {
        &self.chunks[(at >> CHUNK) as usize].lines()[(at as usize) % (1 << CHUNK)..]
    }

    /// A line.
    #[inline(always)]
    pub(super) fn line(&self, at: u32) -> &Line {
        &self.chunks[(at >> CHUNK) as usize].lines()[at as usize % (1 << CHUNK)]
    }

    /// Word `i` of the node that begins at a line, all of which is in one chunk.
    #[inline(always)]
    pub(super) fn word(&self, at: u32, i: usize) -> u32 {
        self.view().word(at, i)
    }

    /// Chunks of 256 KiB.
    #[inline]
    pub(super) fn chunks(&self) -> usize {
        self.chunks.len()
    }

    /// Bytes of memory held.
    pub(super) fn memory(&self) -> usize {
        self.chunks.len() * size_of::<Chunk>()
    }
}

/// A node's lines: the first of them, and how many.
type Block = (u32, u8);

/// Where lines come from: what changes a table has it.
pub(super) struct Store {
    chunks: Arc<[Arc<Chunk>]>,
    /// The lines of the last chunk that were never used.
    fresh: core::ops::Range<u32>,
    /// Blocks that nobody reads, by their number of lines.
    free: [Vec<u32>; MAX_BLOCK + 1],
    /// What nothing leads to any more since the present token was handed out, and its lines.
    retired: Vec<Block>,
    retired_lines: usize,
    /// The tokens before the present one, the oldest first, each with what nothing led to any more before
    /// the next one was handed out.
    tokens: VecDeque<(Arc<()>, Vec<Block>)>,
    /// How many of them, the oldest, are held by those for whom all stays as it was.
    frozen: usize,
    token: Arc<()>,
}

impl Store {
    pub(super) fn new() -> Store {
        Store {
            chunks: Arc::new([]),
            fresh: 0..0,
            free: [const { Vec::new() }; MAX_BLOCK + 1],
            retired: Vec::new(),
            retired_lines: 0,
            tokens: VecDeque::new(),
            frozen: 0,
            token: Arc::new(()),
        }
    }

    /// Who takes lines from now on gets another token than those before.
    pub(super) fn advance(&mut self) {
        let before = core::mem::replace(&mut self.token, Arc::new(()));
        self.tokens.push_back((before, core::mem::take(&mut self.retired)));
        self.retired_lines = 0;
        self.reclaim();
    }

    /// For all who took lines so far they stay as they are.
    pub(super) fn freeze(&mut self) {
        self.advance();
        self.frozen = self.tokens.len();
    }

    /// Frees what nobody looks at any more.
    pub(super) fn reclaim(&mut self) {
        while let Some((token, blocks)) = self.tokens.front_mut()
            && Arc::get_mut(token).is_some()
        {
            for (at, len) in blocks.drain(..) {
                self.free[usize::from(len)].push(at);
            }
            self.tokens.pop_front();
            self.frozen = self.frozen.saturating_sub(1);
        }
    }

    /// Whether there is anybody left for whom all stays as it was.
    pub(super) fn is_frozen(&self) -> bool {
        self.frozen > 0
    }

    /// Lines that wait for the next token.
    pub(super) fn retired_lines(&self) -> usize {
        self.retired_lines
    }

    /// How many chunks there are: who took lines when there were fewer sees only those.
    pub(super) fn chunks(&self) -> usize {
        self.chunks.len()
    }

    /// The lines, with the present token.
    pub(super) fn lines(&self) -> Lines {
        Lines { chunks: self.chunks.clone(), _token: self.token.clone() }
    }

    /// The lines from this one on.
    pub(super) fn from(&self, at: u32) -> &[Line] {
        &self.chunks[(at >> CHUNK) as usize].lines()[(at as usize) % (1 << CHUNK)..]
    }

    /// Writes a node to which nothing leads yet: its first line.
    pub(super) fn write(&mut self, words: &[u32]) -> u32 {
        let at = self.allocate(words.len().div_ceil(WORDS));
        for (line, words) in self.from(at).iter().zip(words.chunks(WORDS)) {
            line.iter().zip(words).for_each(|(to, &word)| to.store(word, Ordering::Relaxed));
        }
        at
    }

    /// Stores a word of a node that readers look at: the value of an entry in the place of another one, both
    /// of which mean the same to all of them.
    pub(super) fn set(&self, at: u32, i: usize, entry: u32) {
        self.from(at)[i / WORDS][i % WORDS].store(entry, Ordering::Relaxed);
        #[cfg(test)]
        super::tests::amend::stored(None);
    }

    /// Nothing leads to the node any more.
    pub(super) fn retire(&mut self, at: u32, lines: usize) {
        self.retired.push((at, lines as u8));
        self.retired_lines += lines;
    }

    /// A block of its size; else lines never used; else of a larger block, which leaves a smaller one;
    /// else a new chunk.
    fn allocate(&mut self, lines: usize) -> u32 {
        if let Some(at) = self.free[lines].pop() {
            return at;
        }
        if self.fresh.len() < lines {
            let larger = (lines + 1..=MAX_BLOCK).find_map(|n| Some((n, self.free[n].pop()?)));
            if let Some((n, at)) = larger {
                self.free[n - lines].push(at + lines as u32);
                return at;
            }
            self.grow();
        }
        let at = self.fresh.start;
        self.fresh.start += lines as u32;
        at
    }

    fn grow(&mut self) {
        while !self.fresh.is_empty() {
            let n = self.fresh.len().min(MAX_BLOCK);
            self.free[n].push(self.fresh.start);
            self.fresh.start += n as u32;
        }
        let start = (self.chunks.len() as u32) << CHUNK;
        let chunk = Arc::default();
        self.chunks = self.chunks.iter().cloned().chain([chunk]).collect();
        self.fresh = start..start + (1 << CHUNK);
    }
}
