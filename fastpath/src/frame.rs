//! One packet in one or more buffers of a pool.

use std::marker::PhantomData;
use std::ptr::NonNull;
use switch::{Frame as _, NoHeadroom};

/// Bytes in a buffer: one page, so that a frame of 64 KiB needs at most 18.
pub const CHUNK: usize = 4096;
/// What the kernel leaves free before every frame that it receives (XDP_PACKET_HEADROOM), and
/// what we leave before every frame of our own: room for the headers of a tunnel.
pub const HEADROOM: usize = 256;
/// Bytes of a packet that one buffer takes on reception.
pub const RX_CAPACITY: usize = CHUNK - HEADROOM;

/// Where a further segment of a frame lies: written at the start of the segment's own chunk, which
/// its bytes leave free. A null `next` ends the chain.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Link {
    pub next: *mut Link,
    /// In the first link of a chain: the link where the frame's bytes end, so that appending needs
    /// not walk there. Elsewhere without meaning.
    last: *mut Link,
    pub offset: u16,
    pub len: u16,
}

/// One packet, from its Ethernet header on, in a buffer of a [`crate::Pool`]; further buffers
/// follow when it is larger than one.
///
/// Move-only. A frame ends by being sent or discarded; one that goes out of scope otherwise is a
/// leaked buffer, which panics in debug builds.
pub struct Frame {
    /// The first byte, somewhere in a chunk that this frame owns.
    data: NonNull<u8>,
    /// The second segment. A frame that was truncated may own chunks beyond `tail`.
    next: *mut Link,
    /// Bytes in the first segment.
    len: u32,
    /// Bytes in the further segments.
    tail: u16,
    /// [`switch::Frame::gso_size`].
    gso_size: u16,
}

/// A frame is handed on in three registers' worth: batches are arrays of them.
const _: () = assert!(size_of::<Frame>() == 24);

// SAFETY: a frame is the only owner of its chunks, and nothing in it refers to the thread it came
// from; whatever carries it to another thread orders the accesses of the two.
unsafe impl Send for Frame {}

/// The further segments of a frame.
pub(crate) struct Tail<'a> {
    next: *mut Link,
    left: u16,
    _frame: PhantomData<&'a Frame>,
}

impl<'a> Iterator for Tail<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.left == 0 {
            return None;
        }
        let at = self.next;
        // SAFETY: bytes are left, so that a segment follows: a link at the start of a chunk that
        // the borrowed frame owns, written when the segment was appended.
        let link = unsafe { at.read() };
        let len = link.len.min(self.left);
        self.left -= len;
        self.next = link.next;
        let bytes = at.cast::<u8>().wrapping_add(usize::from(link.offset));
        // SAFETY: a segment lies within its chunk, which the borrowed frame owns.
        Some(unsafe { core::slice::from_raw_parts(bytes, usize::from(len)) })
    }
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
        Frame { data, next: std::ptr::null_mut(), len, tail: 0, gso_size: 0 }
    }

    /// Begins to load the headers, which another core has just written: by the time that a batch is
    /// received, the first frames' are there, and the processor waits for the others' side by side.
    #[inline(always)]
    pub(crate) fn prefetch(&self) {
        #[cfg(target_arch = "x86_64")]
        {
            use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            let first = self.data.as_ptr().cast::<i8>();
            // SAFETY: nothing is accessed, whatever the address; and SSE is part of x86-64.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(first) };
            if self.len > 64 {
                // SAFETY: as above.
                unsafe { _mm_prefetch::<_MM_HINT_T0>(first.wrapping_add(64)) };
            }
        }
    }

    /// Takes the frame apart: the chunk of `data`, and those of the links from the one returned
    /// on, are the caller's from here on.
    pub(crate) fn into_next(self) -> *mut Link {
        let next = self.next;
        core::mem::forget(self);
        next
    }

    /// Hangs a further segment of `len` bytes behind the last one.
    ///
    /// # Safety
    ///
    /// `chunk` is the start of a chunk of the frame's mapping, the frame's own from here on, whose
    /// bytes from `offset` to `offset + len` are the segment and do not reach into the link.
    ///
    /// # Panics
    ///
    /// When it makes the further segments longer than [`Frame::tail_with`] allows.
    pub(crate) unsafe fn append_chunk(&mut self, chunk: NonNull<u8>, offset: u16, len: u16) {
        debug_assert!(usize::from(offset) >= size_of::<Link>());
        debug_assert!(usize::from(offset) + usize::from(len) <= CHUNK);
        let link: *mut Link = chunk.as_ptr().cast();
        let null = std::ptr::null_mut();
        // SAFETY: by contract the chunk is ours, it is aligned to a page, and a link fits.
        unsafe { link.write(Link { next: null, last: null, offset, len }) };
        // SAFETY: a chain of one link, in a chunk that the frame owns from here on.
        unsafe { self.append_chain(link, link, usize::from(len)) };
    }

    /// Hangs a chain of `len` bytes behind the last segment.
    ///
    /// # Safety
    ///
    /// `first` is a link whose chunk, and those of the links behind it, become the frame's own. Its
    /// bytes end with the link `last`; what is behind that one holds none.
    unsafe fn append_chain(&mut self, first: *mut Link, last: *mut Link, len: usize) {
        let tail = self.tail_with(len).expect("no more than 65,535 bytes in further segments");
        // Where the frame's own bytes end.
        let end: *mut *mut Link = if self.tail == 0 {
            &raw mut self.next
        } else {
            // SAFETY: there are bytes in further segments, so that `next` is the first link, whose
            // `last` is the link where they end. Both are in chunks that the frame owns.
            unsafe { &raw mut (*(*self.next).last).next }
        };
        // SAFETY: a place in the frame or in a link of its own, as above. What was there are chunks
        // that a truncated frame left behind, mostly none: they go behind all others.
        unsafe {
            let left = end.replace(first);
            if !left.is_null() {
                let mut at = last;
                while !(*at).next.is_null() {
                    at = (*at).next;
                }
                (*at).next = left;
            }
            (*self.next).last = last;
        }
        self.tail = tail;
    }

    /// Notes where the frame ends that has just lost some, but not all, of its further segments.
    #[cold]
    fn end_tail(&mut self) {
        let (mut at, mut left) = (self.next, self.tail);
        // SAFETY: bytes are left, so that a link follows, in a chunk that the frame owns.
        unsafe {
            while (*at).len < left {
                left -= (*at).len;
                at = (*at).next;
            }
            (*at).len = left;
            (*self.next).last = at;
        }
    }

    /// What would be in the further segments with `len` bytes more; none when that is too much for one
    /// frame. The largest IP packet and its headers are not.
    pub(crate) fn tail_with(&self, len: usize) -> Option<u16> {
        u16::try_from(usize::from(self.tail) + len).ok()
    }

    /// The segments behind the first one.
    pub(crate) fn tail(&self) -> Tail<'_> {
        Tail { next: self.next, left: self.tail, _frame: PhantomData }
    }

    /// How many descriptors the frame takes in a ring.
    #[inline]
    pub(crate) fn pieces(&self) -> usize {
        usize::from(self.len > 0) + self.tail().count()
    }

    /// The address of the first byte.
    pub(crate) fn data(&self) -> NonNull<u8> {
        self.data
    }

    /// The bytes of all segments in one piece.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.len());
        self.for_each_segment(|segment| bytes.extend_from_slice(segment));
        bytes
    }

    /// Makes room for a link before the first byte.
    ///
    /// # Panics
    ///
    /// When the chunk has no room behind the last byte either.
    #[cold]
    fn move_up(&mut self) {
        let by = size_of::<Link>() - self.offset();
        assert!(self.len as usize + size_of::<Link>() <= CHUNK, "a frame that fills its chunk");
        // SAFETY: the bytes stay within the chunk, as just asserted, which this frame alone owns.
        unsafe {
            let to = self.data.add(by);
            to.copy_from(self.data, self.len as usize);
            self.data = to;
        }
    }

    /// Moves the head to the end of the first segment.
    #[cold]
    fn pull_all(&mut self) {
        let n = core::mem::take(&mut self.len) as usize;
        // SAFETY: `n` is the length of the segment, so that `data` stays within the chunk or one past its
        // end, with no byte left.
        self.data = unsafe { self.data.add(n) };
        if self.offset() == 0 && n > 0 {
            // One past the end of this chunk is the start of the next one, which is not ours.
            // SAFETY: `n` > 0 bytes were pulled, so that the byte before is in our chunk.
            self.data = unsafe { self.data.sub(1) };
        }
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
        self.len as usize + usize::from(self.tail)
    }

    fn for_each_segment(&self, mut f: impl FnMut(&[u8])) {
        f(self.bytes());
        self.tail().for_each(f);
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

    #[inline(always)]
    fn push_exactly<const N: usize>(&mut self) -> Option<&mut [u8; N]> {
        self.push(N).ok()?;
        // SAFETY: `N` more bytes from `data` on are the frame's since `push`, as in `bytes_mut`.
        Some(unsafe { self.data.cast().as_mut() })
    }

    #[inline(always)]
    fn pull(&mut self, n: usize) {
        if n < self.len as usize {
            // SAFETY: `n` is below the length of the segment, so that `data` stays within it.
            self.data = unsafe { self.data.add(n) };
            self.len -= n as u32;
            return;
        }
        self.pull_all();
    }

    #[inline]
    fn truncate(&mut self, len: usize) {
        let first = self.len as usize;
        if len <= first {
            self.len = len as u32;
            self.tail = 0;
        } else if len - first < usize::from(self.tail) {
            self.tail = (len - first) as u16;
            self.end_tail();
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

    #[inline]
    fn gso_size(&self) -> u16 {
        self.gso_size
    }

    #[inline]
    fn set_gso_size(&mut self, size: u16) {
        self.gso_size = size;
    }

    #[inline(always)]
    fn is_whole(&self) -> bool {
        // One load for both.
        u32::from(self.tail) | u32::from(self.gso_size) << 16 == 0
    }

    fn append(&mut self, mut next: Frame) {
        // The link goes to the start of the chunk, where headers were.
        if next.offset() < size_of::<Link>() {
            next.move_up();
        }
        let (offset, len) = (next.offset() as u16, next.len as u16);
        let link: *mut Link = next.data.as_ptr().wrapping_sub(usize::from(offset)).cast();
        let tail = next.tail;
        // SAFETY: where `tail` is not 0 there is a first link, in a chunk that `next` owns.
        let last = if tail == 0 { link } else { unsafe { (*next.next).last } };
        let behind = next.into_next();
        // SAFETY: the start of the chunk that was `next`'s first, aligned to a page; its bytes leave
        // room for the link. The chunks of `next` are this frame's from here on, since it was taken
        // apart, and its bytes end where they ended before.
        unsafe {
            link.write(Link { next: behind, last: std::ptr::null_mut(), offset, len });
            self.append_chain(link, last, usize::from(len) + usize::from(tail));
        }
    }
}

impl core::fmt::Debug for Frame {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Frame")
            .field("offset", &self.offset())
            .field("len", &self.len)
            .field("tail", &self.tail)
            .field("gso_size", &self.gso_size)
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
