//! The rings of an AF_XDP socket: arrays of descriptors in memory shared with the kernel, with one
//! producer and one consumer each.
//!
//! The producer writes descriptors, then stores its index with release; the consumer loads that
//! index with acquire, then reads the descriptors; it stores its own index with release once it has
//! read them, and the producer loads that with acquire before it overwrites them. Each side keeps
//! its own index and its last sight of the other's, so that the shared lines are touched once a
//! batch. Indices run freely and wrap at 2^32; the difference of two is what counts.

use crate::umem::Mapping;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

/// A descriptor of the RX or TX ring (`struct xdp_desc`, linux/if_xdp.h).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Descriptor {
    /// Where the piece starts, as an offset into the registered memory.
    pub address: u64,
    /// Its length in bytes.
    pub len: u32,
    /// [`CONTINUES`] when the frame continues in the next descriptor.
    pub options: u32,
}

/// The frame continues in the next descriptor (XDP_PKT_CONTD).
pub const CONTINUES: u32 = 1;
/// The kernel sleeps on this ring and wants to be woken (XDP_RING_NEED_WAKEUP).
const NEED_WAKEUP: u32 = 1;

/// Where the parts of a ring lie in its mapping, in bytes (`struct xdp_ring_offset`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The producer's index.
    pub producer: usize,
    /// The consumer's index.
    pub consumer: usize,
    /// The flags.
    pub flags: usize,
    /// The first descriptor.
    pub descriptors: usize,
}

struct Shared<T> {
    producer: NonNull<AtomicU32>,
    consumer: NonNull<AtomicU32>,
    flags: NonNull<AtomicU32>,
    descriptors: NonNull<T>,
    mask: u32,
    /// Keeps the memory behind the pointers.
    _memory: Arc<Mapping>,
}

// SAFETY: the pointers lead into memory that `_memory` keeps mapped. The indices and flags are
// atomics; descriptors are only touched by the side whose turn it is (see the module's head).
unsafe impl<T: Send> Send for Shared<T> {}

impl<T: Copy> Shared<T> {
    /// # Panics
    ///
    /// When `size` is not a power of two or a part does not lie, aligned, within the memory.
    fn new(memory: Arc<Mapping>, layout: Layout, size: u32) -> Shared<T> {
        assert!(size.is_power_of_two());
        let base = memory.base();
        let part = |offset: usize, len: usize, align: usize| {
            assert!(offset.checked_add(len).is_some_and(|end| end <= memory.len()));
            assert!(offset.is_multiple_of(align));
            // SAFETY: the offset lies within the mapping, as just asserted.
            unsafe { base.add(offset) }
        };
        let index = |offset| part(offset, size_of::<AtomicU32>(), align_of::<AtomicU32>()).cast();
        let bytes = size as usize * size_of::<T>();
        Shared {
            producer: index(layout.producer),
            consumer: index(layout.consumer),
            flags: index(layout.flags),
            descriptors: part(layout.descriptors, bytes, align_of::<T>()).cast(),
            mask: size - 1,
            _memory: memory,
        }
    }

    fn producer(&self) -> &AtomicU32 {
        // SAFETY: in bounds and aligned (`new`), mapped as long as `self`, and never touched but
        // atomically.
        unsafe { self.producer.as_ref() }
    }

    fn consumer(&self) -> &AtomicU32 {
        // SAFETY: as `producer`.
        unsafe { self.consumer.as_ref() }
    }

    fn flags(&self) -> &AtomicU32 {
        // SAFETY: as `producer`.
        unsafe { self.flags.as_ref() }
    }

    #[inline]
    fn slot(&self, index: u32) -> NonNull<T> {
        // SAFETY: the mask keeps the index below the number of descriptors that `new` checked.
        unsafe { self.descriptors.add((index & self.mask) as usize) }
    }
}

/// The end of a ring that writes: ours of the fill and TX rings.
pub struct Producer<T> {
    shared: Shared<T>,
    /// Our index: everything below is written.
    head: u32,
    /// Our index as the other side may see it.
    published: u32,
    /// The other side's index when last looked at.
    tail: u32,
}

impl<T: Copy> Producer<T> {
    /// The writing end of a ring of `size` descriptors, a power of two.
    pub fn new(memory: Arc<Mapping>, layout: Layout, size: u32) -> Producer<T> {
        let shared = Shared::new(memory, layout, size);
        let head = shared.producer().load(Ordering::Relaxed);
        let tail = shared.consumer().load(Ordering::Acquire);
        Producer { shared, head, published: head, tail }
    }

    /// How many descriptors can be written now; looks at the other side's index only when fewer
    /// than `want` are known to be free.
    #[inline]
    pub fn room(&mut self, want: u32) -> u32 {
        let size = self.shared.mask + 1;
        if size - self.head.wrapping_sub(self.tail) < want {
            self.consumed();
        }
        size - self.head.wrapping_sub(self.tail)
    }

    /// Writes a descriptor, to be seen after [`Producer::publish`]. False when the ring is full.
    #[inline]
    pub fn write(&mut self, value: T) -> bool {
        if self.room(1) == 0 {
            return false;
        }
        // SAFETY: `room` found the consumer to be done with this slot, and it reads no further
        // than the index we last published.
        unsafe { self.shared.slot(self.head).write(value) };
        self.head = self.head.wrapping_add(1);
        true
    }

    /// Descriptors that were written and are not published.
    #[inline]
    pub fn unpublished(&self) -> u32 {
        self.head.wrapping_sub(self.published)
    }

    /// The descriptor `n` after the last published one. Only for an `n` below [`Producer::unpublished`].
    #[inline]
    pub fn peek_unpublished(&self, n: u32) -> T {
        self.written(self.published.wrapping_add(n))
    }

    /// Takes back the first `n` descriptors that are not published; those behind them move up.
    #[inline]
    pub fn take_back(&mut self, n: u32) {
        let left = self.unpublished() - n;
        for i in 0..left {
            let moved = self.peek_unpublished(n + i);
            // SAFETY: not published, so that nobody reads this slot.
            unsafe { self.shared.slot(self.published.wrapping_add(i)).write(moved) };
        }
        self.head = self.head.wrapping_sub(n);
    }

    /// Lets the other side see what was written.
    #[inline]
    pub fn publish(&mut self) {
        if self.published != self.head {
            self.published = self.head;
            self.shared.producer().store(self.head, Ordering::Release);
        }
    }

    /// The index up to which the other side has consumed.
    #[inline]
    pub fn consumed(&mut self) -> u32 {
        self.tail = self.shared.consumer().load(Ordering::Acquire);
        self.tail
    }

    /// Our index: the number of descriptors ever written, modulo 2^32.
    pub fn written_index(&self) -> u32 {
        self.head
    }

    /// Descriptors that the other side has not consumed, as of the last look.
    #[inline]
    pub fn unconsumed(&self) -> u32 {
        self.head.wrapping_sub(self.tail)
    }

    /// A descriptor that was written and whose slot was not reused since: `index` is less than one
    /// ring's size behind our own.
    pub fn written(&self, index: u32) -> T {
        debug_assert!(self.head.wrapping_sub(index).wrapping_sub(1) <= self.shared.mask);
        // SAFETY: nobody writes descriptors but us.
        unsafe { self.shared.slot(index).read() }
    }

    /// Whether the kernel sleeps and must be woken for what was published.
    #[inline]
    pub fn needs_wakeup(&self) -> bool {
        // The kernel raises the flag, then looks at the index once more; we store the index, then
        // look at the flag. Only with both orders kept does one see the other.
        fence(Ordering::SeqCst);
        self.shared.flags().load(Ordering::Relaxed) & NEED_WAKEUP != 0
    }
}

impl Producer<u64> {
    /// Writes over a descriptor that the other side may or may not have read: it has the old one or the new
    /// one, whole. `index` is less than one ring's size behind our own.
    pub fn rewrite(&self, index: u32, value: u64) {
        debug_assert!(self.head.wrapping_sub(index).wrapping_sub(1) <= self.shared.mask);
        // SAFETY: a slot of the ring, eight bytes and aligned (`Shared::new`), mapped as long as `self`; the
        // other side only reads it, and so do we but here.
        let slot = unsafe { AtomicU64::from_ptr(self.shared.slot(index).as_ptr()) };
        slot.store(value, Ordering::Release);
    }
}

/// The end of a ring that reads: ours of the RX and completion rings.
pub struct Consumer<T> {
    shared: Shared<T>,
    /// Our index: everything below is read and released.
    tail: u32,
    /// The other side's index when last looked at.
    head: u32,
}

impl<T: Copy> Consumer<T> {
    /// The reading end of a ring of `size` descriptors, a power of two.
    pub fn new(memory: Arc<Mapping>, layout: Layout, size: u32) -> Consumer<T> {
        let shared = Shared::new(memory, layout, size);
        let tail = shared.consumer().load(Ordering::Relaxed);
        Consumer { shared, tail, head: tail }
    }

    /// How many descriptors can be read now; looks at the other side's index only when fewer than
    /// `want` are known.
    #[inline]
    pub fn available(&mut self, want: u32) -> u32 {
        if self.head.wrapping_sub(self.tail) < want {
            self.head = self.shared.producer().load(Ordering::Acquire);
        }
        self.head.wrapping_sub(self.tail)
    }

    /// Our index: the number of descriptors ever released, modulo 2^32.
    #[inline]
    pub fn released_index(&self) -> u32 {
        self.tail
    }

    /// The descriptor `n` after the first unreleased one. Only for an `n` below what
    /// [`Consumer::available`] answered.
    #[inline]
    pub fn peek(&self, n: u32) -> T {
        assert!(n < self.head.wrapping_sub(self.tail));
        // SAFETY: the producer published this descriptor and does not touch it until released.
        unsafe { self.shared.slot(self.tail.wrapping_add(n)).read() }
    }

    /// Gives the first `n` descriptors back to the producer.
    #[inline]
    pub fn release(&mut self, n: u32) {
        debug_assert!(n <= self.head.wrapping_sub(self.tail));
        self.tail = self.tail.wrapping_add(n);
        self.shared.consumer().store(self.tail, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAYOUT: Layout = Layout { producer: 0, consumer: 64, flags: 128, descriptors: 192 };

    /// Both ends of a ring on plain memory, the indices starting at `start`.
    fn ring(size: u32, start: u32) -> (Producer<u64>, Consumer<u64>) {
        let memory = Arc::new(Mapping::anonymous(192 + size as usize * 8).unwrap());
        let shared = Shared::<u64>::new(memory.clone(), LAYOUT, size);
        shared.producer().store(start, Ordering::Relaxed);
        shared.consumer().store(start, Ordering::Relaxed);
        (Producer::new(memory.clone(), LAYOUT, size), Consumer::new(memory, LAYOUT, size))
    }

    #[test]
    fn nothing_is_seen_before_it_is_published() {
        let (mut p, mut c) = ring(4, 0);
        assert!(p.write(7) && p.write(8));
        assert_eq!(c.available(1), 0);
        p.publish();
        assert_eq!(c.available(1), 2);
        assert_eq!((c.peek(0), c.peek(1)), (7, 8));
    }

    #[test]
    fn a_full_ring_refuses_until_slots_are_released() {
        let (mut p, mut c) = ring(4, u32::MAX - 1);
        for n in 0..4 {
            assert!(p.write(n));
        }
        p.publish();
        assert!(!p.write(4));
        assert_eq!(c.available(4), 4);
        c.release(1);
        assert!(p.write(4));
        assert!(!p.write(5));
        assert_eq!(p.unconsumed(), 4);
        p.publish();
        assert_eq!(c.available(4), 4, "across the wrap of the indices");
        assert_eq!([0, 1, 2, 3].map(|n| c.peek(n)), [1, 2, 3, 4]);
        assert_eq!(p.written(u32::MAX), 1);
        c.release(4);
        p.consumed();
        assert_eq!(p.unconsumed(), 0);
    }

    #[test]
    fn what_is_not_published_can_be_taken_back() {
        let (mut p, mut c) = ring(8, u32::MAX - 3);
        assert!(p.write(1));
        p.publish();
        (2..=7).for_each(|n| assert!(p.write(n)));
        assert_eq!((p.unpublished(), p.peek_unpublished(0), p.peek_unpublished(5)), (6, 2, 7));
        // Across the wrap of the indices.
        p.take_back(4);
        assert_eq!(p.unpublished(), 2);
        assert!(p.write(8));
        p.take_back(0);
        p.publish();
        assert_eq!(c.available(9), 4);
        assert_eq!([0, 1, 2, 3].map(|n| c.peek(n)), [1, 6, 7, 8]);
        assert!(p.write(9));
        p.take_back(1);
        assert_eq!((p.unpublished(), p.unconsumed()), (0, 4));
    }

    #[test]
    fn the_wakeup_flag_is_the_other_sides() {
        let (p, c) = ring(2, 0);
        assert!(!p.needs_wakeup());
        c.shared.flags().store(NEED_WAKEUP, Ordering::Relaxed);
        assert!(p.needs_wakeup());
    }

    #[test]
    #[should_panic]
    fn a_ring_beyond_its_memory_is_refused() {
        let memory = Arc::new(Mapping::anonymous(4096).unwrap());
        Producer::<u64>::new(memory, LAYOUT, 512);
    }

    /// Every value arrives once, in order, whatever the two threads' timing.
    #[test]
    fn two_threads_lose_nothing() {
        const COUNT: u64 = if cfg!(miri) { 300 } else { 300_000 };
        let (mut p, mut c) = ring(8, u32::MAX - 100);
        std::thread::scope(|s| {
            s.spawn(move || {
                let mut n = 0;
                while n < COUNT {
                    while n < COUNT && p.write(n) {
                        n += 1;
                    }
                    p.publish();
                    std::thread::yield_now();
                }
            });
            let mut expected = 0;
            while expected < COUNT {
                let n = c.available(3).min(3);
                for i in 0..n {
                    assert_eq!(c.peek(i), expected);
                    expected += 1;
                }
                c.release(n);
                if n == 0 {
                    std::thread::yield_now();
                }
            }
        });
    }
}
