//! The buffers of a worker: one mapping, cut into chunks, each owned by one holder at a time.
//!
//! A chunk is free, in a [`Frame`], or lent to the kernel through a socket. The table of holders
//! makes that a fact that is checked at every change of hands rather than a belief about the
//! kernel: a descriptor that names a chunk which that socket does not hold is refused. It also
//! finds what a closed socket still held.

use crate::frame::{CHUNK, Frame, HEADROOM, Link, RX_CAPACITY};
use crate::umem::Mapping;
use std::io::{self, IoSliceMut};
use std::ptr::NonNull;
use std::sync::Arc;
use switch::Frame as _;

/// Pieces that the kernel puts into one packet: a head and MAX_SKB_FRAGS. As many buffers take the
/// largest one.
pub(crate) const MAX_SEGMENTS: usize = 18;
const CHUNK_SHIFT: u32 = CHUNK.trailing_zeros();

/// A socket as the pool sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SocketId(pub u16);

/// Who has a chunk: 0 is us (free or in a frame), `n + 1` is socket `n`.
type Holder = u16;
const OURS: Holder = 0;
/// Nobody: the buffer for what there is no buffer for.
const DUMP: Holder = u16::MAX;

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
    holders: Box<[Holder]>,
    /// Chunks that sockets hold.
    lent: u32,
    /// The chunk that every socket may hold at once, and whose content means nothing.
    dump: Option<u32>,
}

impl Pool {
    /// A pool of `chunks` buffers of [`CHUNK`] bytes.
    pub fn new(chunks: u32) -> io::Result<Pool> {
        let n = chunks as usize;
        Ok(Pool {
            memory: Arc::new(Mapping::anonymous(n * CHUNK)?),
            chunks,
            free: (0..chunks).rev().collect(),
            holders: vec![OURS; n].into(),
            lent: 0,
            dump: None,
        })
    }

    /// The mapping that holds the buffers.
    pub(crate) fn memory(&self) -> &Arc<Mapping> {
        &self.memory
    }

    /// Buffers in all.
    pub fn capacity(&self) -> u32 {
        self.chunks
    }

    /// Buffers that are free.
    #[inline]
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
        self.discard_all(core::iter::once(frame));
    }

    /// [`Pool::discard`] of many: what is the same for all of them is looked at once.
    #[inline]
    pub fn discard_all(&mut self, frames: impl Iterator<Item = Frame>) {
        let (base, chunks) = (self.base(), self.chunks as usize);
        let mut tails = std::ptr::null_mut();
        self.free.extend(frames.map(|frame| {
            let chunk = frame.data().as_ptr().addr().wrapping_sub(base) >> CHUNK_SHIFT;
            assert!(chunk < chunks, "a frame of another pool");
            let next = frame.into_next();
            if !next.is_null() {
                tails = join(next, tails);
            }
            chunk as u32
        }));
        while !tails.is_null() {
            let chunk = self.chunk_of(tails.cast());
            // SAFETY: a link of a frame that was just taken apart, in a chunk not yet reused.
            tails = unsafe { tails.read() }.next;
            self.free.push(chunk);
        }
    }

    /// [`Pool::discard`] of all that is in `frames`, which is empty afterwards.
    #[inline]
    pub fn discard_batch(&mut self, frames: &mut Vec<Frame>) {
        // Without asking of each whether there is one more, as a drain does.
        let taken = frames.as_ptr();
        let n = frames.len();
        // SAFETY: no more than there are, and what is no longer in the vector is read below, once.
        unsafe { frames.set_len(0) };
        // SAFETY: `i` is below the length that the vector had, and its memory is not touched meanwhile.
        self.discard_all((0..n).map(|i| unsafe { taken.add(i).read() }));
    }

    /// A copy of a frame, all segments, or none when there are too few buffers. The copy has the
    /// headroom of its original.
    pub fn duplicate(&mut self, frame: &Frame) -> Option<Frame> {
        let chunk = self.free.pop()?;
        let first = frame.bytes();
        let mut copy = self.frame(chunk, frame.headroom() as u32, first.len() as u32);
        copy.bytes_mut().copy_from_slice(first);
        copy.set_gso_size(frame.gso_size());
        for segment in frame.tail() {
            let Some(chunk) = self.free.pop() else {
                self.discard(copy);
                return None;
            };
            self.append(&mut copy, chunk, segment);
        }
        Some(copy)
    }

    /// A frame that holds a copy of `bytes`, or none when there are too few buffers, or more bytes than
    /// a frame can have: 65,535 behind the first buffer.
    pub fn frame_from(&mut self, bytes: &[u8]) -> Option<Frame> {
        let (first, rest) = bytes.split_at(bytes.len().min(RX_CAPACITY));
        if rest.len() > usize::from(u16::MAX) {
            return None;
        }
        let chunk = self.free.pop()?;
        let mut frame = self.frame(chunk, HEADROOM as u32, first.len() as u32);
        frame.bytes_mut().copy_from_slice(first);
        for segment in rest.chunks(RX_CAPACITY) {
            let Some(chunk) = self.free.pop() else {
                self.discard(frame);
                return None;
            };
            self.append(&mut frame, chunk, segment);
        }
        Some(frame)
    }

    /// A frame of what `read` puts into `header` and then into free buffers, of which it is given as
    /// many as the largest packet takes, or all that there are. It says how many bytes that were.
    #[inline]
    pub(crate) fn read_frame(
        &mut self,
        header: &mut [u8],
        read: impl FnOnce(&mut [IoSliceMut<'_>]) -> io::Result<usize>,
    ) -> io::Result<Frame> {
        let header_len = header.len();
        let buffers = self.free.len().min(MAX_SEGMENTS);
        let mut slices: [IoSliceMut<'_>; MAX_SEGMENTS + 1] =
            core::array::from_fn(|_| IoSliceMut::new(&mut []));
        slices[0] = IoSliceMut::new(header);
        for (slice, &chunk) in slices[1..].iter_mut().zip(self.free.iter().rev()) {
            let first = self.chunk(chunk).as_ptr();
            // SAFETY: the chunk is free, and so nobody else's, and is no other slice's, since it is in
            // the list once; it stays in the list while the slices live. The memory is initialized,
            // as any anonymous mapping.
            let bytes =
                unsafe { core::slice::from_raw_parts_mut(first.add(HEADROOM), RX_CAPACITY) };
            *slice = IoSliceMut::new(bytes);
        }
        let n = read(&mut slices[..=buffers])?;
        let len = n.saturating_sub(header_len).min(buffers * RX_CAPACITY);
        let chunk = self.free.pop().ok_or(io::ErrorKind::OutOfMemory)?;
        let first = len.min(RX_CAPACITY);
        let mut frame = self.frame(chunk, HEADROOM as u32, first as u32);
        let mut left = len - first;
        while left > 0
            && let Some(chunk) = self.free.pop()
        {
            let part = left.min(RX_CAPACITY);
            left -= part;
            // SAFETY: the chunk was just popped; the bytes were read behind its headroom, which holds
            // the link.
            unsafe { frame.append_chunk(self.chunk(chunk), HEADROOM as u16, part as u16) };
        }
        Ok(frame)
    }

    /// Lends a free chunk to `socket`, for the kernel to receive into: its address.
    #[inline]
    pub(crate) fn lend(&mut self, socket: SocketId) -> Option<u64> {
        let chunk = self.free.pop()?;
        self.hand_to(chunk, socket);
        Some(u64::from(chunk) << CHUNK_SHIFT)
    }

    /// The address of a buffer that any number of sockets may hold at once: no frame lives in it, and nobody
    /// reads it. The first call takes it from the free ones.
    pub(crate) fn dump(&mut self) -> Option<u64> {
        if self.dump.is_none() {
            let chunk = self.free.pop()?;
            self.holders[chunk as usize] = DUMP;
            self.lent += 1;
            self.dump = Some(chunk);
        }
        self.dump.map(|chunk| u64::from(chunk) << CHUNK_SHIFT)
    }

    /// Whether a piece lies in the buffer that is [`Pool::dump`].
    pub(crate) fn is_dump(&self, address: u64) -> bool {
        self.dump.is_some_and(|chunk| u64::from(chunk) == address >> CHUNK_SHIFT)
    }

    /// A frame that the kernel received into a chunk that `socket` held; none when it held no
    /// such chunk, or when the piece does not lie within one.
    #[inline]
    pub(crate) fn received(&mut self, socket: SocketId, piece: Piece) -> Option<Frame> {
        let (chunk, offset) = self.take_from(socket, piece)?;
        let frame = self.frame(chunk, offset, piece.len);
        frame.prefetch();
        Some(frame)
    }

    /// Hangs a further received piece behind `frame`. False when `socket` did not hold the chunk, or the
    /// frame would be longer than any.
    pub(crate) fn received_more(
        &mut self,
        socket: SocketId,
        piece: Piece,
        frame: &mut Frame,
    ) -> bool {
        let Some((chunk, offset)) = self.take_from(socket, piece) else {
            return false;
        };
        let is_too_long = frame.tail_with(piece.len as usize).is_none();
        if (offset as usize) < size_of::<Link>() || is_too_long {
            self.free.push(chunk);
            return false;
        }
        // SAFETY: the chunk was just taken from its holder, `take_from` saw that the piece lies
        // within it, and it leaves room for the link.
        unsafe { frame.append_chunk(self.chunk(chunk), offset as u16, piece.len as u16) };
        true
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
        let first = self.chunk_of(frame.data().as_ptr());
        let address = (frame.data().as_ptr().addr() - self.base()) as u64;
        let len = frame.bytes().len() as u32;
        let mut left = frame.len() as u32 - len;
        if len > 0 {
            self.hand_to(first, socket);
            each(Piece { address, len }, left > 0);
        } else {
            // An empty piece is no legal descriptor.
            self.free.push(first);
        }
        let mut next = frame.into_next();
        while !next.is_null() {
            let chunk = self.chunk_of(next.cast());
            // SAFETY: a link of the frame that was just taken apart, in a chunk not handed on yet.
            let link = unsafe { next.read() };
            next = link.next;
            let len = u32::from(link.len).min(left);
            if len == 0 {
                // Truncated away.
                self.free.push(chunk);
                continue;
            }
            self.hand_to(chunk, socket);
            left -= len;
            let address = (u64::from(chunk) << CHUNK_SHIFT) + u64::from(link.offset);
            each(Piece { address, len }, left > 0);
        }
    }

    /// The bytes of a piece that `socket` has, to be read before the kernel is told of it.
    #[inline]
    pub(crate) fn lent_bytes(&self, socket: SocketId, piece: Piece) -> Option<&[u8]> {
        let (chunk, offset) = self.locate(socket, piece)?;
        let first = self.chunk(chunk).as_ptr();
        // SAFETY: within a chunk, which the socket has, and the kernel does not know of yet: nobody writes it.
        Some(unsafe { core::slice::from_raw_parts(first.add(offset as usize), piece.len as usize) })
    }

    /// Takes back a chunk that the kernel is done with. False when `socket` did not hold it.
    #[inline]
    pub(crate) fn completed(&mut self, socket: SocketId, address: u64) -> bool {
        let Some((chunk, _)) = self.take_from(socket, Piece { address, len: 0 }) else {
            return false;
        };
        self.free.push(chunk);
        true
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

    /// The start of a chunk.
    #[inline]
    fn chunk(&self, chunk: u32) -> NonNull<u8> {
        assert!(chunk < self.chunks);
        // SAFETY: one of the mapping's chunks, as just asserted.
        unsafe { self.memory.base().add((chunk as usize) << CHUNK_SHIFT) }
    }

    #[inline]
    fn chunk_of(&self, at: *const u8) -> u32 {
        let chunk = at.addr().wrapping_sub(self.base()) >> CHUNK_SHIFT;
        assert!(chunk < self.chunks as usize, "a frame of another pool");
        chunk as u32
    }

    /// A frame on a chunk that has just left the free list or a socket.
    #[inline]
    fn frame(&self, chunk: u32, offset: u32, len: u32) -> Frame {
        assert!((offset + len) as usize <= CHUNK);
        // SAFETY: the range lies within a chunk, as just asserted; the chunk was popped from the
        // free list or taken from its holder, so that this frame is its only owner. The mapping
        // outlives every frame (see `drop`).
        unsafe { Frame::new(self.chunk(chunk).add(offset as usize), len) }
    }

    /// Hangs a copy of `bytes` behind `frame`, in a chunk that was popped from the free list.
    fn append(&mut self, frame: &mut Frame, chunk: u32, bytes: &[u8]) {
        assert!(bytes.len() <= RX_CAPACITY);
        let chunk = self.chunk(chunk);
        // SAFETY: nobody else has the chunk; the bytes fit behind the headroom, as asserted, which
        // holds the link; their source is another chunk, or no chunk.
        unsafe {
            let to = chunk.add(HEADROOM);
            to.copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len());
            frame.append_chunk(chunk, HEADROOM as u16, bytes.len() as u16);
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
        let (chunk, offset) = self.locate(socket, piece)?;
        self.holders[chunk as usize] = OURS;
        self.lent -= 1;
        Some((chunk, offset))
    }

    /// Which chunk a piece lies in, and where; none when `socket` does not hold it, or when the piece does not lie
    /// within one.
    #[inline]
    fn locate(&self, socket: SocketId, piece: Piece) -> Option<(u32, u32)> {
        let chunk = piece.address >> CHUNK_SHIFT;
        let offset = (piece.address & (CHUNK as u64 - 1)) as u32;
        let holder = *self.holders.get(usize::try_from(chunk).ok()?)?;
        let lies_within = u64::from(offset) + u64::from(piece.len) <= CHUNK as u64;
        (holder == socket.0 + 1 && lies_within).then_some((chunk as u32, offset))
    }
}

/// Hangs `rest` behind the further segments of a frame that was taken apart: the first of them all.
#[cold]
fn join(first: *mut Link, rest: *mut Link) -> *mut Link {
    let mut last = first;
    loop {
        // SAFETY: `last` is a link of a frame that was just taken apart, in a chunk that is ours and not
        // yet reused.
        match unsafe { (*last).next } {
            next if next.is_null() => break,
            next => last = next,
        }
    }
    // SAFETY: as above.
    unsafe { (*last).next = rest };
    first
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
