//! One packet in one or more buffers of a pool.

use std::ptr::NonNull;
use switch::NoHeadroom;

/// Bytes in a buffer: one page, so that a frame of 64 KiB needs at most 18.
pub const CHUNK: usize = 4096;
/// What the kernel leaves free before every frame that it receives (XDP_PACKET_HEADROOM), and
/// what we leave before every frame of our own: room for the headers of a tunnel.
pub const HEADROOM: usize = 256;
/// Bytes of a packet that one buffer takes on reception.
pub const RX_CAPACITY: usize = CHUNK - HEADROOM;
/// The end of a chain of segments.
pub(crate) const NO_CHUNK: u32 = u32::MAX;

/// One packet, from its Ethernet header on, in a buffer of a [`crate::Pool`]; further buffers
/// follow when it is larger than one.
///
/// Move-only. A frame ends by being sent or discarded; one that goes out of scope otherwise is a
/// leaked buffer, which panics in debug builds and is accounted as lost in release builds.
pub struct Frame {
    /// The first byte, somewhere in a chunk that this frame owns.
    data: NonNull<u8>,
    /// Bytes in the first segment.
    len: u32,
    /// Bytes in the further segments.
    tail: u32,
    /// The chunk of the second segment. A frame that was truncated may own chunks beyond `tail`.
    next: u32,
}

/// What a frame is made of, when it is taken apart.
pub(crate) struct Parts {
    pub data: NonNull<u8>,
    pub len: u32,
    pub tail: u32,
    pub next: u32,
}

impl Frame {
    /// A frame of one segment.
    ///
    /// # Safety
    ///
    /// `data` points into a chunk (4096 bytes, aligned to as many) that nothing else reads or
    /// writes while the frame lives, that stays mapped as long, and that has at least `len` bytes
    /// from `data` on.
    pub(crate) unsafe fn new(data: NonNull<u8>, len: u32) -> Frame {
        debug_assert!((data.as_ptr().addr() & (CHUNK - 1)) + len as usize <= CHUNK);
        Frame { data, len, tail: 0, next: NO_CHUNK }
    }

    /// Takes the frame apart: the chunks are the caller's from here on.
    pub(crate) fn into_parts(self) -> Parts {
        let parts = Parts { data: self.data, len: self.len, tail: self.tail, next: self.next };
        core::mem::forget(self);
        parts
    }

    /// Hangs further segments behind the first one: `bytes` in all, from `chunk` on.
    pub(crate) fn set_tail(&mut self, chunk: u32, bytes: u32) {
        self.next = chunk;
        self.tail = bytes;
    }

    /// The chunk of the second segment and the bytes from there on.
    pub(crate) fn tail(&self) -> (u32, u32) {
        (self.next, self.tail)
    }

    /// The address of the first byte.
    pub(crate) fn data(&self) -> NonNull<u8> {
        self.data
    }

    fn offset(&self) -> usize {
        self.data.as_ptr().addr() & (CHUNK - 1)
    }
}

impl switch::Frame for Frame {
    #[inline]
    fn bytes(&self) -> &[u8] {
        // SAFETY: by the contract of `new`, kept by every method: `len` bytes from `data` lie in
        // a chunk that is mapped and that this frame alone owns. Memory of the kernel's making is
        // initialized, as is an anonymous mapping.
        unsafe { core::slice::from_raw_parts(self.data.as_ptr(), self.len as usize) }
    }

    #[inline]
    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`; the exclusive borrow of the frame is the exclusive borrow of its
        // chunk.
        unsafe { core::slice::from_raw_parts_mut(self.data.as_ptr(), self.len as usize) }
    }

    #[inline]
    fn len(&self) -> usize {
        self.len as usize + self.tail as usize
    }

    #[inline]
    fn headroom(&self) -> usize {
        self.offset()
    }

    #[inline]
    fn push(&mut self, n: usize) -> Result<(), NoHeadroom> {
        if n > self.offset() {
            return Err(NoHeadroom);
        }
        // SAFETY: `n` is at most the distance to the start of the chunk.
        self.data = unsafe { self.data.sub(n) };
        self.len += n as u32;
        Ok(())
    }

    #[inline]
    fn pull(&mut self, n: usize) {
        let n = n.min(self.len as usize);
        // SAFETY: `n` is at most the length of the segment, so that `data` stays within the chunk
        // or one past its end, with no byte left.
        self.data = unsafe { self.data.add(n) };
        self.len -= n as u32;
        if self.len == 0 && self.offset() == 0 && n > 0 {
            // One past the end of this chunk is the start of the next one, which is not ours.
            // SAFETY: `n` > 0 bytes were pulled, so that the byte before is in our chunk.
            self.data = unsafe { self.data.sub(1) };
        }
    }

    #[inline]
    fn truncate(&mut self, len: usize) {
        let first = self.len as usize;
        if len <= first {
            self.len = len as u32;
            self.tail = 0;
        } else {
            self.tail = self.tail.min((len - first).min(u32::MAX as usize) as u32);
        }
    }

    #[inline]
    fn resize(&mut self, len: usize) -> Result<(), NoHeadroom> {
        if self.tail != 0 || len > CHUNK - self.offset() {
            return Err(NoHeadroom);
        }
        self.len = len as u32;
        Ok(())
    }
}

impl core::fmt::Debug for Frame {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Frame")
            .field("offset", &self.offset())
            .field("len", &self.len)
            .field("tail", &self.tail)
            .finish()
    }
}

#[cfg(debug_assertions)]
impl Drop for Frame {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("{self:?} was neither sent nor discarded: its buffer is lost");
        }
    }
}
