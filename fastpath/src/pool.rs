//! The buffers of a worker: one mapping, cut into chunks, each owned by one holder at a time.
//!
//! A chunk is free, in a [`Frame`], or lent to the kernel through a socket. The table of holders
//! makes that a fact that is checked at every change of hands rather than a belief about the
//! kernel: a descriptor that names a chunk which that socket does not hold is refused. It also
//! finds what a closed socket still held.

use crate::frame::{CHUNK, Frame, HEADROOM, NO_CHUNK, RX_CAPACITY};
use crate::umem::Mapping;
use std::io;
use std::sync::Arc;
use switch::Frame as _;

const CHUNK_SHIFT: u32 = CHUNK.trailing_zeros();

/// A socket as the pool sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketId(pub u16);

/// Who has a chunk: 0 is us (free or in a frame), `n + 1` is socket `n`.
type Holder = u16;
const OURS: Holder = 0;

/// Where a further segment of a frame lies; indexed by its chunk.
#[derive(Clone, Copy)]
struct Segment {
    offset: u16,
    len: u16,
    next: u32,
}

/// A piece of a frame as a ring describes it: an offset into the mapping, and a length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub address: u64,
    pub len: u32,
}

/// The buffers of one worker.
pub struct Pool {
    memory: Arc<Mapping>,
    chunks: u32,
    /// Last in, first out: the chunk that was used last is the one still in the cache.
    free: Vec<u32>,
    segments: Box<[Segment]>,
    holders: Box<[Holder]>,
    /// Chunks that sockets hold.
    lent: u32,
}

impl Pool {
    /// A pool of `chunks` buffers of [`CHUNK`] bytes.
    pub fn new(chunks: u32) -> io::Result<Pool> {
        let n = chunks as usize;
        let memory = Arc::new(Mapping::anonymous(n * CHUNK)?);
        Ok(Pool {
            memory,
            chunks,
            free: (0..chunks).rev().collect(),
            segments: vec![Segment { offset: 0, len: 0, next: NO_CHUNK }; n].into(),
            holders: vec![OURS; n].into(),
            lent: 0,
        })
    }

    /// The mapping that holds the buffers.
    pub fn memory(&self) -> &Arc<Mapping> {
        &self.memory
    }

    /// Buffers in all.
    pub fn capacity(&self) -> u32 {
        self.chunks
    }

    /// Buffers that are free.
    pub fn available(&self) -> u32 {
        self.free.len() as u32
    }

    /// Buffers in frames: neither free nor lent to a socket.
    pub fn outstanding(&self) -> u32 {
        self.chunks - self.available() - self.lent
    }

    /// An empty frame with [`HEADROOM`] before it, or none when the pool is empty.
    #[inline]
    pub fn alloc(&mut self) -> Option<Frame> {
        let chunk = self.free.pop()?;
        Some(self.frame(chunk, HEADROOM as u32, 0))
    }

    /// Takes the buffers of a frame back.
    ///
    /// # Panics
    ///
    /// Here and below: when the frame is of another pool.
    #[inline]
    pub fn discard(&mut self, frame: Frame) {
        let parts = frame.into_parts();
        let first = self.chunk_of(parts.data.as_ptr());
        self.free.push(first);
        self.release_chain(parts.next);
    }

    /// A copy of a frame of this pool, all segments, or none when there are too few buffers.
    pub fn duplicate(&mut self, frame: &Frame) -> Option<Frame> {
        self.chunk_of(frame.data().as_ptr());
        let mut copy = self.alloc()?;
        // Same place in the chunk: a copy has the headroom of its original.
        let (have, want) = (copy.headroom(), frame.headroom());
        if want <= have {
            let _ = copy.push(have - want);
        } else {
            // Within the chunk: the original's offset is.
            let _ = copy.resize(want - have);
            copy.pull(want - have);
        }
        let _ = copy.resize(frame.bytes().len());
        copy.bytes_mut().copy_from_slice(frame.bytes());
        let (mut from, mut left) = frame.tail();
        let mut last = None;
        while left > 0 {
            let Some(chunk) = self.free.pop() else {
                self.discard(copy);
                return None;
            };
            let segment = self.segments[from as usize];
            let len = u32::from(segment.len).min(left);
            self.copy_chunk(from, chunk, segment.offset, len as u16);
            let copied = Segment { len: len as u16, next: NO_CHUNK, ..segment };
            self.append(&mut copy, &mut last, chunk, copied);
            left -= len;
            from = segment.next;
        }
        Some(copy)
    }

    /// A frame that holds a copy of `bytes`, or none when there are too few buffers.
    pub fn frame_from(&mut self, bytes: &[u8]) -> Option<Frame> {
        let mut frame = self.alloc()?;
        let (first, mut rest) = bytes.split_at(bytes.len().min(RX_CAPACITY));
        let _ = frame.resize(first.len());
        frame.bytes_mut().copy_from_slice(first);
        let mut last = None;
        while !rest.is_empty() {
            let Some(chunk) = self.free.pop() else {
                self.discard(frame);
                return None;
            };
            let (now, later) = rest.split_at(rest.len().min(RX_CAPACITY));
            let offset = HEADROOM as u16;
            self.bytes_of_free(chunk, offset, now.len() as u16).copy_from_slice(now);
            let segment = Segment { offset, len: now.len() as u16, next: NO_CHUNK };
            self.append(&mut frame, &mut last, chunk, segment);
            rest = later;
        }
        Some(frame)
    }

    /// The bytes of a frame, segment by segment.
    pub fn segments<'a>(&'a self, frame: &'a Frame) -> impl Iterator<Item = &'a [u8]> {
        self.chunk_of(frame.data().as_ptr());
        let (mut chunk, mut left) = frame.tail();
        let tail = core::iter::from_fn(move || {
            if left == 0 {
                return None;
            }
            let segment = self.segments[chunk as usize];
            let len = u32::from(segment.len).min(left);
            let at = self.chunk_base(chunk).wrapping_add(usize::from(segment.offset));
            left -= len;
            chunk = segment.next;
            // SAFETY: a segment lies within its chunk, which the borrowed frame owns.
            Some(unsafe { core::slice::from_raw_parts(at, len as usize) })
        });
        core::iter::once(frame.bytes()).chain(tail)
    }

    /// The bytes of a frame in one piece.
    pub fn to_vec(&self, frame: &Frame) -> Vec<u8> {
        self.segments(frame).collect::<Vec<_>>().concat()
    }

    /// Lends a free chunk to `socket`, for the kernel to receive into: its address.
    #[inline]
    pub(crate) fn lend(&mut self, socket: SocketId) -> Option<u64> {
        let chunk = self.free.pop()?;
        self.hand_to(chunk, socket);
        Some(u64::from(chunk) << CHUNK_SHIFT)
    }

    /// A frame that the kernel received into a chunk that `socket` held; none when it held no
    /// such chunk, or when the piece does not lie within one.
    #[inline]
    pub(crate) fn received(&mut self, socket: SocketId, piece: Piece) -> Option<Frame> {
        let (chunk, offset) = self.take_from(socket, piece)?;
        Some(self.frame(chunk, offset, piece.len))
    }

    /// Hangs a further received piece behind `frame`; `last` remembers the end of the chain.
    /// False when `socket` did not hold the chunk.
    pub(crate) fn received_more(
        &mut self,
        socket: SocketId,
        piece: Piece,
        frame: &mut Frame,
        last: &mut Option<u32>,
    ) -> bool {
        let Some((chunk, offset)) = self.take_from(socket, piece) else {
            return false;
        };
        let segment = Segment { offset: offset as u16, len: piece.len as u16, next: NO_CHUNK };
        self.append(frame, last, chunk, segment);
        true
    }

    /// How many pieces a frame has.
    #[inline]
    pub(crate) fn pieces(&self, frame: &Frame) -> usize {
        let (mut chunk, mut left) = frame.tail();
        let mut n = usize::from(!frame.bytes().is_empty());
        while left > 0 {
            let segment = self.segments[chunk as usize];
            left -= u32::from(segment.len).min(left);
            chunk = segment.next;
            n += 1;
        }
        n
    }

    /// Hands a frame to the kernel through `socket`, piece by piece; the flag says whether more
    /// of the frame follows.
    #[inline]
    pub(crate) fn transmit(
        &mut self,
        socket: SocketId,
        frame: Frame,
        mut each: impl FnMut(Piece, bool),
    ) {
        let parts = frame.into_parts();
        let chunk = self.chunk_of(parts.data.as_ptr());
        let address = (parts.data.as_ptr().addr() - self.base()) as u64;
        let (mut next, mut left) = (parts.next, parts.tail);
        if parts.len > 0 {
            self.hand_to(chunk, socket);
            each(Piece { address, len: parts.len }, left > 0);
        } else {
            // An empty piece is no legal descriptor.
            self.free.push(chunk);
        }
        while left > 0 {
            let segment = self.segments[next as usize];
            let len = u32::from(segment.len).min(left);
            self.hand_to(next, socket);
            left -= len;
            let address = u64::from(next) << CHUNK_SHIFT | u64::from(segment.offset);
            each(Piece { address, len }, left > 0);
            next = segment.next;
        }
        self.release_chain(next);
    }

    /// Takes back a chunk that the kernel is done with. False when `socket` did not hold it.
    #[inline]
    pub(crate) fn completed(&mut self, socket: SocketId, address: u64) -> bool {
        match self.take_from(socket, Piece { address, len: 0 }) {
            Some((chunk, _)) => {
                self.free.push(chunk);
                true
            }
            None => false,
        }
    }

    /// Takes back all that a closed socket still held; how many chunks that were.
    pub(crate) fn reclaim(&mut self, socket: SocketId) -> u32 {
        let held = socket.0 + 1;
        let mut n = 0;
        for chunk in 0..self.chunks {
            if self.holders[chunk as usize] == held {
                self.holders[chunk as usize] = OURS;
                self.free.push(chunk);
                n += 1;
            }
        }
        self.lent -= n;
        n
    }

    fn base(&self) -> usize {
        self.memory.base().as_ptr().addr()
    }

    fn chunk_base(&self, chunk: u32) -> *mut u8 {
        self.memory.base().as_ptr().wrapping_add((chunk as usize) << CHUNK_SHIFT)
    }

    #[inline]
    fn chunk_of(&self, data: *const u8) -> u32 {
        let chunk = data.addr().wrapping_sub(self.base()) >> CHUNK_SHIFT;
        assert!(chunk < self.chunks as usize, "a frame of another pool");
        chunk as u32
    }

    /// A frame on a chunk that has just left the free list or a socket.
    #[inline]
    fn frame(&self, chunk: u32, offset: u32, len: u32) -> Frame {
        let at = ((chunk as usize) << CHUNK_SHIFT) + offset as usize;
        debug_assert!(at + len as usize <= self.memory.len());
        // SAFETY: the chunk is one of the mapping's, so that `at` lies within it; it was popped
        // from the free list or taken from its holder, so that this frame is its only owner; and
        // `offset + len` is at most CHUNK: `alloc` passes HEADROOM and 0, and `take_from` checks.
        // The mapping outlives every frame (see `drop`).
        unsafe { Frame::new(self.memory.base().add(at), len) }
    }

    /// The bytes of a chunk that was popped from the free list and is in no frame yet.
    fn bytes_of_free(&mut self, chunk: u32, offset: u16, len: u16) -> &mut [u8] {
        assert!(chunk < self.chunks && usize::from(offset) + usize::from(len) <= CHUNK);
        let at = self.chunk_base(chunk).wrapping_add(usize::from(offset));
        // SAFETY: the range lies within the chunk, as just asserted, and nobody else has it.
        unsafe { core::slice::from_raw_parts_mut(at, usize::from(len)) }
    }

    fn copy_chunk(&mut self, from: u32, to: u32, offset: u16, len: u16) {
        assert!(from < self.chunks && from != to);
        let source = self.chunk_base(from).wrapping_add(usize::from(offset));
        // SAFETY: a segment lies within its chunk; the frame that owns it is borrowed by the only
        // caller, and the destination is another chunk.
        let source = unsafe { core::slice::from_raw_parts(source, usize::from(len)) };
        self.bytes_of_free(to, offset, len).copy_from_slice(source);
    }

    fn append(&mut self, frame: &mut Frame, last: &mut Option<u32>, chunk: u32, s: Segment) {
        let (first, bytes) = frame.tail();
        self.segments[chunk as usize] = s;
        match *last {
            Some(last) => {
                self.segments[last as usize].next = chunk;
                frame.set_tail(first, bytes + u32::from(s.len));
            }
            None => frame.set_tail(chunk, u32::from(s.len)),
        }
        *last = Some(chunk);
    }

    #[inline]
    fn release_chain(&mut self, mut chunk: u32) {
        while chunk != NO_CHUNK {
            self.free.push(chunk);
            chunk = self.segments[chunk as usize].next;
        }
    }

    #[inline]
    fn hand_to(&mut self, chunk: u32, socket: SocketId) {
        debug_assert_eq!(self.holders[chunk as usize], OURS);
        self.holders[chunk as usize] = socket.0 + 1;
        self.lent += 1;
    }

    #[inline]
    fn take_from(&mut self, socket: SocketId, piece: Piece) -> Option<(u32, u32)> {
        let chunk = piece.address >> CHUNK_SHIFT;
        let offset = (piece.address & (CHUNK as u64 - 1)) as u32;
        let holder = self.holders.get_mut(usize::try_from(chunk).ok()?)?;
        if *holder != socket.0 + 1 || offset as usize + piece.len as usize > CHUNK {
            return None;
        }
        *holder = OURS;
        self.lent -= 1;
        Some((chunk as u32, offset))
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // A frame that is still out points into the mapping: better to keep that for good.
        if self.outstanding() > 0 {
            core::mem::forget(self.memory.clone());
        }
    }
}

#[cfg(test)]
#[path = "pool_tests.rs"]
mod tests;
