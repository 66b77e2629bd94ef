//! A wire between two switches that loses, duplicates and reorders, by a fixed seed.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// What goes wrong, each as one frame in so many; 0 is never.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    pub loss: u64,
    pub duplication: u64,
    /// Held back for up to 8 ms, so that later frames overtake it.
    pub delay: u64,
}

/// One direction of a wire.
pub struct Wire {
    faults: Faults,
    state: u64,
    /// By arrival in milliseconds, then in order of departure.
    frames: BinaryHeap<Reverse<(u64, u64, Vec<u8>)>>,
    sent: u64,
    pub lost: u64,
    pub duplicated: u64,
    pub delayed: u64,
}

impl Wire {
    pub fn new(faults: Faults, seed: u64) -> Wire {
        let state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let frames = BinaryHeap::new();
        Wire { faults, state, frames, sent: 0, lost: 0, duplicated: 0, delayed: 0 }
    }

    fn random(&mut self) -> u64 {
        // xorshift64*, Vigna 2016.
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33
    }

    fn one_in(&mut self, n: u64) -> bool {
        n != 0 && self.random().is_multiple_of(n)
    }

    /// Puts a frame on the wire at `now` milliseconds.
    pub fn send(&mut self, now: u64, frame: Vec<u8>) {
        if self.one_in(self.faults.loss) {
            self.lost += 1;
            return;
        }
        if self.one_in(self.faults.duplication) {
            self.duplicated += 1;
            let later = now + 1 + self.random() % 4;
            self.put(later, frame.clone());
        }
        let mut arrival = now + 1;
        if self.one_in(self.faults.delay) {
            self.delayed += 1;
            arrival += 1 + self.random() % 8;
        }
        self.put(arrival, frame);
    }

    fn put(&mut self, arrival: u64, frame: Vec<u8>) {
        self.sent += 1;
        self.frames.push(Reverse((arrival, self.sent, frame)));
    }

    /// A frame that has arrived by `now`.
    pub fn receive(&mut self, now: u64) -> Option<Vec<u8>> {
        match self.frames.peek() {
            Some(Reverse((arrival, ..))) if *arrival <= now => self.frames.pop().map(|f| f.0.2),
            _ => None,
        }
    }
}
