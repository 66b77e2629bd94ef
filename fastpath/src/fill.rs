//! How many buffers a socket holds for reception.
//!
//! Buffers are few (8192 a worker by default) and ports many, and a buffer in a fill ring cannot be
//! taken back except by closing the socket. So every socket starts with a few, its *floor*, enough
//! for the largest frame that its interface may receive. A socket that uses up half of what it
//! holds between two looks doubles its *target*, up to the size of its ring; one that needs less
//! than a quarter over a second halves it, and is not refilled until its traffic has brought it down
//! to the new target.
//!
//! Above its floor a socket is refilled only while more than a quarter of the pool is free: the
//! *reserve*, which is there for every socket's floor and for transmission. So one port cannot take
//! the last buffers from another, and the sum is bounded whatever the traffic.

use crate::frame::RX_CAPACITY;

/// The least that a socket holds. A NAPI poll of a driver delivers up to 64 frames.
const MIN_FLOOR: u32 = 24;

/// What the pool allows.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Buffers that only floors and transmission may take.
    pub reserve: u32,
}

impl Budget {
    /// For a pool of `frames` buffers.
    pub fn new(frames: u32) -> Budget {
        Budget { reserve: frames / 4 }
    }
}

/// One socket's part.
#[derive(Debug)]
pub struct Fill {
    floor: u32,
    ceiling: u32,
    target: u32,
    /// Buffers that the socket holds for reception.
    held: u32,
    /// Buffers used since the last refill.
    used: u32,
    /// The most that was used between two refills since the last [`Fill::age`].
    peak: u32,
}

impl Fill {
    /// For a ring of `ring` slots and an interface whose frames have up to `frame` bytes.
    pub fn new(ring: u32, frame: usize) -> Fill {
        // A kernel without multi-buffer XDP drops larger frames whatever we hold.
        let largest = frame.div_ceil(RX_CAPACITY).min(18) as u32;
        let floor = (largest + MIN_FLOOR / 2).max(MIN_FLOOR).min(ring);
        Fill { floor, ceiling: ring, target: floor, held: 0, used: 0, peak: 0 }
    }

    /// `n` buffers came back with frames in them.
    #[inline]
    pub fn used(&mut self, n: u32) {
        self.held = self.held.saturating_sub(n);
        self.used += n;
    }

    /// How many buffers to put into the fill ring now, of `free` ones in the pool.
    #[inline]
    pub fn wanted(&mut self, free: u32, budget: Budget) -> u32 {
        let used = core::mem::take(&mut self.used);
        self.peak = self.peak.max(used);
        if used * 2 >= self.target && self.target < self.ceiling {
            self.target = (self.target * 2).min(self.ceiling);
        }
        let to_floor = self.floor.saturating_sub(self.held).min(free);
        let missing = self.target.saturating_sub(self.held);
        missing.min(free.saturating_sub(budget.reserve)).max(to_floor)
    }

    /// `n` buffers were put into the fill ring.
    #[inline]
    pub fn filled(&mut self, n: u32) {
        self.held += n;
    }

    /// A second has passed.
    pub fn age(&mut self) {
        if core::mem::take(&mut self.peak) < self.target / 4 {
            self.target = (self.target / 2).max(self.floor);
        }
    }

    /// Whether buffers are missing that the pool could not give.
    pub fn is_short(&self) -> bool {
        self.held < self.floor
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: Budget = Budget { reserve: 2048 };

    /// Receives as much as it holds and refills, `rounds` times.
    fn busy(fill: &mut Fill, free: &mut u32, rounds: u32) {
        for _ in 0..rounds {
            let n = fill.held;
            fill.used(n);
            *free += n;
            let n = fill.wanted(*free, BUDGET);
            fill.filled(n);
            *free -= n;
        }
    }

    #[test]
    fn a_busy_socket_grows_and_a_quiet_one_shrinks() {
        let mut fill = Fill::new(2048, 1518);
        let mut free = 8192;
        busy(&mut fill, &mut free, 1);
        assert_eq!(fill.held, MIN_FLOOR);
        busy(&mut fill, &mut free, 10);
        assert_eq!(fill.held, 2048);
        for _ in 0..10 {
            fill.used(10);
            assert_eq!(fill.held + fill.wanted(free, BUDGET).min(0), fill.held);
            fill.age();
        }
        assert_eq!(fill.target, MIN_FLOOR);
        fill.used(fill.held);
        assert_eq!(fill.wanted(free, BUDGET), MIN_FLOOR * 2, "used much: it grows again");
    }

    #[test]
    fn the_floor_holds_the_largest_frame() {
        assert!(Fill::new(2048, 65_549).floor >= 18 + MIN_FLOOR / 2);
        assert_eq!(Fill::new(16, 65_549).floor, 16);
    }

    /// Two hundred ports on one worker: all busy at once, each still gets its floor.
    #[test]
    fn no_socket_starves_another() {
        let mut free = 8192;
        let mut fills: Vec<Fill> = (0..200).map(|_| Fill::new(2048, 1518)).collect();
        for _ in 0..20 {
            for fill in &mut fills {
                busy(fill, &mut free, 1);
                assert!(!fill.is_short());
            }
        }
        assert_eq!(free + fills.iter().map(|f| f.held).sum::<u32>(), 8192);
        assert!(free >= 2048, "{free} are left for transmission");
    }
}
