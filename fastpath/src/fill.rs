//! How many buffers a socket holds for reception.
//!
//! Buffers are few (8192 a worker by default) and ports many, and a buffer in a fill ring cannot be
//! taken back except by closing the socket. So every socket starts with a few, its *floor*, enough
//! for the largest frame that its interface may receive, and rests at a *burst* while most of the
//! pool is free: what a sender puts out while the scheduler keeps a woken worker waiting.
//!
//! A socket that is seen with more than half of its buffers used gets a *target* of four times as
//! many, up to the size of its ring; one whose backlog stays below an eighth of its target over a
//! second halves it, and is not refilled until its traffic has brought it down to the new target.
//! One whose ring stays full for a long time is offered more than the switch forwards: a deep queue delays
//! every frame then and saves none, and more buffers go round than a cache holds. Its target is a burst
//! until its queue has been seen short again (a *standing queue*, RFC 8289 section 3.1).
//! One that falls silent altogether keeps what it holds; when a busy one is short because of that,
//! [`crate::Engine::collect`] closes it and opens it again.
//!
//! Above its floor a socket is refilled only while the pool has more free than a *reserve*: a
//! quarter of it for transmission, and what other sockets miss to their floors. So one port cannot
//! take the last buffers from another, and the sum is bounded whatever the traffic.

use crate::frame::RX_CAPACITY;
use crate::pool::MAX_SEGMENTS;

/// The least that a socket holds.
const MIN_FLOOR: u32 = 24;
/// Frames that a NAPI poll of a driver delivers at most.
const NAPI_POLL: u32 = 64;

/// What a quiet socket holds while there is plenty. Measured: a sender of 10,000 frames a second lost
/// 10 to 20 of them to a floor of 24 whenever the worker was woken on a busy machine.
const BURST: u32 = 256;

/// Batches in a row that find the ring full before its queue counts as standing: of 256 frames each,
/// 16,384 frames, which no burst is that a ring could have held.
const STANDING: u32 = 64;
/// Batches that find the queue short weigh so many times as much.
const RELIEF: u32 = 8;

/// Descriptors of a frame of so many bytes. The kernel takes none of more pieces.
fn pieces(frame: usize) -> u32 {
    frame.div_ceil(RX_CAPACITY).min(MAX_SEGMENTS) as u32
}

/// What a worker keeps for the reception of an interface whose frames have up to `frame` bytes, whatever other
/// ports want: the buffers of the largest one and a few more.
pub fn floor(frame: usize) -> u32 {
    (pieces(frame) + MIN_FLOOR / 4).max(MIN_FLOOR)
}

/// What the pool allows, and what is owed of it.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Buffers kept free for transmission.
    pub transmission: u32,
    /// With more than this many free, no socket needs to make do with its floor.
    plenty: u32,
    /// Buffers that sockets miss to their floors.
    owed: u32,
    /// A busy socket wanted more than there was.
    pub pressed: bool,
}

impl Budget {
    /// For a pool of `frames` buffers.
    pub fn new(frames: u32) -> Budget {
        Budget { transmission: frames / 4, plenty: frames / 4 * 3, owed: 0, pressed: false }
    }

    /// A socket's debt changes.
    #[inline]
    pub fn owe(&mut self, before: u32, now: u32) {
        self.owed = self.owed + now - before;
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
    /// The largest backlog since the last [`Fill::age`].
    peak: u32,
    /// What a standing queue is cut to: a burst, of frames of the largest size a NAPI poll's.
    shallow: u32,
    /// Batches that found the ring full, less those that did not; up to twice [`STANDING`].
    full: u32,
}

impl Fill {
    /// For a ring of `ring` slots and an interface whose frames have up to `frame` bytes.
    pub fn new(ring: u32, frame: usize) -> Fill {
        let largest = pieces(frame);
        let floor = floor(frame).min(ring);
        let shallow = BURST.max(largest * NAPI_POLL).min(ring);
        Fill { floor, ceiling: ring, target: floor, held: 0, peak: 0, shallow, full: 0 }
    }

    /// `backlog` buffers were seen with frames in them, of which `taken` were taken.
    #[inline]
    pub fn received(&mut self, backlog: u32, taken: u32) {
        // Not when it is the pool that keeps the socket short.
        if backlog > self.held / 2 && self.held > self.target / 2 {
            self.full = (self.full + 1).min(2 * STANDING);
            self.target = (self.held.max(self.target) * 4).min(self.ceiling);
        } else {
            self.full = self.full.saturating_sub(RELIEF);
        }
        if self.full >= STANDING {
            self.target = self.target.min(self.shallow);
        }
        self.peak = self.peak.max(backlog);
        self.held = self.held.saturating_sub(taken);
    }

    /// How many buffers to put into the fill ring now, of `free` ones in the pool.
    #[inline]
    pub fn wanted(&self, free: u32, budget: &Budget) -> u32 {
        let to_floor = self.owed().min(free);
        let spare = free.saturating_sub(budget.transmission + budget.owed);
        let rest = if free > budget.plenty { BURST.min(self.ceiling) } else { self.floor };
        let missing = self.target.max(rest).saturating_sub(self.held);
        missing.min(spare).max(to_floor)
    }

    /// Whether the socket stays far below its target with what it holds.
    #[inline]
    pub fn is_short(&self) -> bool {
        self.held < self.target / 2
    }

    /// Buffers in excess of what a quiet socket needs.
    pub fn excess(&self) -> u32 {
        self.held.saturating_sub(BURST)
    }

    /// Buffers missing to the floor.
    #[inline]
    pub fn owed(&self) -> u32 {
        self.floor.saturating_sub(self.held)
    }

    /// `n` buffers were put into the fill ring.
    #[inline]
    pub fn filled(&mut self, n: u32) {
        self.held += n;
    }

    /// A second has passed.
    pub fn age(&mut self) {
        if core::mem::take(&mut self.peak) < self.target / 8 {
            self.target = (self.target / 2).max(self.floor);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Receives a batch of what it holds and refills, `rounds` times.
    fn busy(fill: &mut Fill, free: &mut u32, budget: &mut Budget, rounds: u32) {
        for _ in 0..rounds {
            let before = fill.owed();
            let n = fill.held.min(256);
            fill.received(fill.held, n);
            *free += n;
            let n = fill.wanted(*free, budget);
            fill.filled(n);
            *free -= n;
            budget.owe(before, fill.owed());
        }
    }

    #[test]
    fn a_busy_socket_grows_and_a_quiet_one_shrinks() {
        let mut fill = Fill::new(2048, 1518);
        let mut free = 8192;
        let mut budget = Budget::new(8192);
        budget.owe(0, fill.owed());
        busy(&mut fill, &mut free, &mut budget, 1);
        assert_eq!(fill.held, BURST);
        busy(&mut fill, &mut free, &mut budget, 12);
        assert_eq!(fill.held, 2048);
        for _ in 0..10 {
            fill.received(1, 1);
            fill.age();
        }
        assert_eq!((fill.target, fill.held), (MIN_FLOOR, 2038));
        assert_eq!(fill.wanted(free, &budget), 0, "not before its traffic has brought it down");
        fill.received(2030, 2030);
        assert_eq!(fill.wanted(free, &budget), 2048 - 8, "it grows again");
    }

    /// A sender that is faster than the switch gets a short queue, and a long one for its next burst.
    #[test]
    fn a_standing_queue_is_cut_to_a_burst() {
        let mut fill = Fill::new(2048, 1518);
        let (mut free, mut budget) = (8192, Budget::new(8192));
        budget.owe(0, fill.owed());
        busy(&mut fill, &mut free, &mut budget, 32);
        assert_eq!(fill.held, 2048, "a burst has the whole ring");
        busy(&mut fill, &mut free, &mut budget, STANDING);
        assert_eq!((fill.target, fill.held), (BURST, BURST));
        busy(&mut fill, &mut free, &mut budget, 1000);
        assert_eq!((fill.target, fill.held), (BURST, BURST), "as long as it lasts");
        for _ in 0..2 * STANDING / RELIEF {
            fill.received(10, 10);
            fill.filled(10);
        }
        busy(&mut fill, &mut free, &mut budget, 12);
        assert_eq!(fill.held, 2048, "it is over");
    }

    /// A steady flow whose backlog is small keeps the target, whatever its rate.
    #[test]
    fn a_steady_flow_settles() {
        let mut fill = Fill::new(2048, 1518);
        for _ in 0..100 {
            for _ in 0..100 {
                fill.filled(fill.wanted(6000, &Budget::new(8192)));
                fill.received(32, 32);
            }
            fill.age();
        }
        assert!((96..=256).contains(&fill.target), "{}", fill.target);
    }

    #[test]
    fn a_quiet_socket_is_ready_for_a_burst_while_there_is_plenty() {
        let fill = Fill::new(2048, 1518);
        assert_eq!(fill.wanted(8000, &Budget::new(8192)), BURST);
        assert_eq!(fill.wanted(6000, &Budget::new(8192)), MIN_FLOOR);
        assert_eq!(Fill::new(64, 1518).wanted(8000, &Budget::new(8192)), 64, "no more than fit");
    }

    #[test]
    fn the_floor_holds_the_largest_frame() {
        assert!(Fill::new(2048, 65_549).floor > 18);
        assert_eq!(Fill::new(16, 65_549).floor, 16);
    }

    /// Two hundred ports on one worker: whichever are busy, each still gets its floor.
    #[test]
    fn no_socket_starves_another() {
        let mut free = 8192;
        let mut budget = Budget::new(free);
        let mut fills: Vec<Fill> = (0..200).map(|_| Fill::new(2048, 1518)).collect();
        for fill in &fills {
            budget.owe(0, fill.owed());
        }
        for n in 0..20 {
            for fill in &mut fills {
                busy(fill, &mut free, &mut budget, n);
            }
        }
        assert!(fills.iter().all(|f| f.held >= f.floor));
        assert_eq!(budget.owed, 0);
        assert_eq!(free + fills.iter().map(|f| f.held).sum::<u32>(), 8192);
        assert!(free >= 2048, "{free} are left for transmission");
    }
}
