use super::*;
use crate::ring::{Consumer, Layout};
use crate::umem::Mapping;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

const SIZE: u32 = 64;
const DUMP: u64 = 1 << 12;
const LAYOUT: Layout = Layout { producer: 0, consumer: 64, flags: 128, descriptors: 192 };

/// A socket's fill ring, the kernel at its other end, and what of the buffers is where.
struct Model {
    recall: Recall,
    ring: Producer<u64>,
    kernel: Consumer<u64>,
    /// Read from the ring by a reception that is not over.
    reading: Vec<u64>,
    /// Descriptors of the RX ring.
    back: VecDeque<u64>,
    received: u32,
    free: BTreeSet<u64>,
    /// Received and forwarded.
    frames: u32,
    dumped: u32,
}

impl Model {
    fn new(start: u32) -> Model {
        let memory = Arc::new(Mapping::anonymous(192 + SIZE as usize * 8).unwrap());
        for offset in [LAYOUT.producer, LAYOUT.consumer] {
            // SAFETY: within the mapping, aligned, and nobody else has it yet.
            unsafe { memory.base().add(offset).cast::<u32>().write(start) };
        }
        Model {
            recall: Recall::default(),
            ring: Producer::new(memory.clone(), LAYOUT, SIZE),
            kernel: Consumer::new(memory, LAYOUT, SIZE),
            reading: Vec::new(),
            back: VecDeque::new(),
            received: start,
            free: (2..40).map(|n| n << 12).collect(),
            frames: 0,
            dumped: 0,
        }
    }

    fn refill(&mut self, n: u32) {
        let mut left = n.min(self.free.len() as u32);
        if self.recall.is_active() {
            left -= self.recall.refill(&mut self.ring, left, || self.free.pop_first());
        }
        let used = self.ring.written_index().wrapping_sub(self.received);
        let more = left.min(SIZE - used).min(self.ring.room(left));
        for _ in 0..more {
            self.ring.write(self.free.pop_first().unwrap());
        }
        self.ring.publish();
        if more > 0 && self.recall.is_active() {
            self.recall.appended(&self.ring);
        }
    }

    /// The kernel begins to receive `n` frames.
    fn begin(&mut self, n: u32) {
        let from = self.reading.len() as u32;
        let n = n.min(self.kernel.available(u32::MAX) - from);
        self.reading.extend((from..from + n).map(|i| self.kernel.peek(i)));
    }

    /// They are received.
    fn end(&mut self) {
        self.kernel.release(self.reading.len() as u32);
        self.back.extend(self.reading.drain(..));
    }

    fn receive(&mut self, n: usize) {
        for (n, &chunk) in self.back.iter().enumerate() {
            let i = self.received.wrapping_add(n as u32);
            let back = self.recall.reconcile(&self.ring, i, chunk, DUMP);
            for address in back.written.into_iter().chain(back.limbo) {
                assert!(self.free.insert(address), "{address:#x} was free");
            }
        }
        for chunk in self.back.drain(..n.min(self.back.len())) {
            self.received = self.received.wrapping_add(1);
            if chunk == DUMP {
                self.dumped += 1;
            } else {
                assert!(self.free.insert(chunk), "{chunk:#x} was free while the kernel had it");
                self.frames += 1;
            }
        }
        self.recall.forget(self.received);
    }

    /// No buffer that the kernel has or can still read is free.
    fn check(&mut self) {
        let n = self.kernel.available(u32::MAX);
        let unread = (self.reading.len() as u32..n).map(|i| self.kernel.peek(i));
        for chunk in unread.chain(self.reading.iter().copied()).chain(self.back.iter().copied()) {
            assert!(!self.free.contains(&chunk), "{chunk:#x} is free and the kernel's");
        }
        assert!(!self.recall.broken);
    }
}

/// Whatever the order in which the kernel receives, buffers are lent and taken back: none is free while the
/// kernel may write to it, and in the end none is lost.
#[test]
fn no_buffer_has_two_owners_and_none_is_lost() {
    let mut totals = (0, 0, 0);
    for seed in 0..if cfg!(miri) { 3 } else { 400 } {
        let mut random: u32 = seed * 2 + 1;
        let mut next = |n: u32| {
            random ^= random << 13;
            random ^= random >> 17;
            random ^= random << 5;
            (random >> 7) % n
        };
        let mut model = Model::new(u32::MAX - next(200));
        let mut limbo = 0;
        for _ in 0..2000 {
            match next(8) {
                0 | 1 => model.refill(next(20)),
                2 => model.begin(next(12)),
                3 => model.end(),
                4 => model.receive(next(20) as usize),
                5 if model.recall.is_ready() => {
                    let (n, received) = (next(40), model.received);
                    limbo += model.recall.hollow(&mut model.ring, received, DUMP, n);
                }
                6 => {
                    // A grace period: receptions that had begun are over.
                    model.end();
                    let (received, free) = (model.received, &mut model.free);
                    model.recall.settle(&mut model.ring, received, |address| {
                        assert!(free.insert(address), "{address:#x} was free");
                    });
                    model.recall.forget(received);
                }
                7 => model.recall.pad(&mut model.ring, model.received, DUMP, 24),
                _ => {}
            }
            model.check();
        }
        // All comes back.
        for _ in 0..3 {
            model.end();
            model.receive(usize::MAX);
            let (received, free) = (model.received, &mut model.free);
            model.recall.settle(&mut model.ring, received, |a| assert!(free.insert(a)));
            model.recall.forget(received);
            model.begin(SIZE);
        }
        model.end();
        model.receive(usize::MAX);
        assert_eq!(model.free.len(), 38, "seed {seed}");
        assert!(!model.recall.is_active(), "seed {seed}");
        totals = (totals.0 + model.frames, totals.1 + model.dumped, totals.2 + limbo);
    }
    // The test has met all of it.
    assert!(totals.0 > 1000 && totals.1 > 1000 && totals.2 > 1000 || cfg!(miri), "{totals:?}");
}

/// What a kernel does that the order above does not hold for costs buffers, not their content.
#[test]
fn a_kernel_that_takes_others_is_trusted_no_more() {
    let mut model = Model::new(0);
    model.refill(10);
    assert_eq!(model.recall.hollow(&mut model.ring, 0, DUMP, 4), 4);
    let back = model.recall.reconcile(&model.ring, 0, 99 << 12, DUMP);
    assert_eq!(back, Returned::default());
    assert!(model.recall.is_broken() && !model.recall.is_ready());
    let back = model.recall.reconcile(&model.ring, 7, DUMP, DUMP);
    assert_eq!(back, Returned::default());
}
