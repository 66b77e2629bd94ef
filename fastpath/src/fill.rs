//! How many buffers a socket holds for reception.
//!
//! Buffers are few (4096 a worker by default: the kernel keeps 120 bytes for each of them and socket, and
//! twice as many would make a port cost more than 1 MiB) and ports many. Every socket has a *floor*, a few
//! buffers that nobody else gets. It is to hold a *whole* frame, enough for the largest one that its
//! interface may receive, and rests at a *burst*: what a sender puts out while the scheduler keeps a woken
//! worker waiting. Without traffic it does so while most of the pool is free, with traffic for as long as
//! nothing need be taken back from others.
//!
//! A socket that is seen with more than half of its buffers used gets a *target* of four times as
//! many, up to the size of its ring; one whose backlog stays below an eighth of its target over a
//! second halves it, and is not refilled until its traffic has brought it down to the new target.
//! One whose ring stays full for a long time is offered more than the switch forwards: a deep queue delays
//! every frame then and saves none, and more buffers go round than a cache holds. Its target is a burst
//! until its queue has been seen short again (a *standing queue*, RFC 8289 section 3.1).
//!
//! Above its floor a socket is refilled only while the pool has more free than a *reserve*: an
//! eighth of it for transmission, and what other sockets miss to their floors. So one port cannot
//! take the last buffers from another, and the sum is bounded whatever the traffic. Up to a whole frame
//! a socket with traffic may use half of what is for transmission, and one without leaves twice as much.
//!
//! What a socket holds and does not use is taken back when others are short (`port/recall.rs`,
//! [`crate::Engine::collect`]): bursts of silent ones first, then all but their floors. So three quarters
//! of the pool are promised, as floors, and 255 pods and the node fit in. A port at its floor that
//! gets a frame of more pieces loses it; it is seen, the port gets a whole frame, and the next one passes. A
//! port that is sent something gets it beforehand, since an answer follows.

use crate::frame::RX_CAPACITY;
use crate::pool::MAX_SEGMENTS;

/// The least that a socket holds.
const FLOOR: u32 = 12;
/// The least that a socket with traffic holds when there is enough.
const MIN_WHOLE: u32 = 24;
/// Frames that a NAPI poll of a driver delivers at most.
const NAPI_POLL: u32 = 64;

/// What a socket holds that is not busy, while there is enough. Measured: a sender of 10,000 frames a second lost
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

/// Buffers that a worker keeps for the reception of each port, whatever other ports want.
pub fn floor() -> u32 {
    FLOOR
}

/// Of `frames` buffers, those that are kept free for transmission.
pub(crate) fn transmission(frames: u32) -> u32 {
    frames / 8
}

/// How far buffers are taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// What silent ports hold beyond a whole frame.
    Bursts,
    /// What silent ports hold beyond their floors.
    Floors,
    /// And those that are not busy.
    Quiet,
}

impl Reach {
    /// In the order in which they are tried.
    pub const ALL: [Reach; 3] = [Reach::Bursts, Reach::Floors, Reach::Quiet];
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
        let transmission = transmission(frames);
        Budget { transmission, plenty: frames / 4 * 3, owed: 0, pressed: false }
    }

    /// With so many free, nothing is taken back.
    pub fn comfort(&self) -> u32 {
        2 * self.transmission + self.owed
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
    /// The largest frame and a few more.
    whole: u32,
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
        let floor = FLOOR.min(ring);
        let whole = (largest + MIN_WHOLE / 4).max(MIN_WHOLE).min(ring);
        let shallow = BURST.max(largest * NAPI_POLL).min(ring);
        Fill { floor, whole, ceiling: ring, target: whole, held: 0, peak: 0, shallow, full: 0 }
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

    /// How many buffers to put into the fill ring now, of `free` ones in the pool. `awake`: the socket has
    /// traffic.
    #[inline]
    pub fn wanted(&self, free: u32, budget: &Budget, awake: bool) -> u32 {
        let to_floor = self.owed().min(free);
        let left = free.saturating_sub(budget.owed);
        let has_burst = free > budget.plenty || awake && free > budget.comfort();
        let rest = if has_burst { BURST.min(self.ceiling) } else { self.whole };
        let missing = self.target.max(rest).saturating_sub(self.held);
        if !awake {
            let spare = left.saturating_sub(2 * budget.transmission);
            return missing.min(spare).max(to_floor);
        }
        let to_whole = self.whole.saturating_sub(self.held);
        let to_whole = to_whole.min(left.saturating_sub(budget.transmission / 2));
        let spare = left.saturating_sub(budget.transmission);
        missing.min(spare).max(to_whole).max(to_floor)
    }

    /// Whether the socket stays far below its target with what it holds.
    #[inline]
    pub fn is_short(&self) -> bool {
        self.held < self.target / 2 || self.is_meagre()
    }

    /// Whether it could not receive the largest frame with what it holds.
    #[inline]
    pub fn is_meagre(&self) -> bool {
        self.held < self.whole
    }

    /// What it is to hold for the largest frame.
    pub fn whole(&self) -> u32 {
        self.whole
    }

    /// Buffers beyond what `reach` leaves.
    pub fn recallable(&self, reach: Reach, is_silent: bool) -> u32 {
        let (of_this, keep) = match reach {
            Reach::Bursts => (is_silent, self.whole),
            Reach::Floors => (is_silent, self.floor),
            Reach::Quiet => (self.target <= self.whole, self.floor),
        };
        if of_this { self.held.saturating_sub(keep) } else { 0 }
    }

    /// `n` buffers are taken back.
    pub fn recalled(&mut self, n: u32) {
        self.held = self.held.saturating_sub(n);
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
            self.target = (self.target / 2).max(self.whole);
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
            let n = fill.wanted(*free, budget, true);
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
        assert_eq!((fill.target, fill.held), (MIN_WHOLE, 2038));
        assert_eq!(
            fill.wanted(free, &budget, true),
            0,
            "not before its traffic has brought it down"
        );
        fill.received(2030, 2030);
        assert_eq!(fill.wanted(free, &budget, true), 2048 - 8, "it grows again");
    }

    /// Traffic that comes evenly uses few buffers, until the worker has to wait for its turn.
    #[test]
    fn with_traffic_a_socket_rests_at_a_burst_while_nothing_is_taken_back() {
        let (mut fill, budget) = (Fill::new(2048, 1518), Budget::new(4096));
        fill.filled(BURST);
        for (free, held) in [(4000, BURST), (1025, BURST), (1024, MIN_WHOLE)] {
            for _ in 0..1000 {
                fill.received(2, 2);
                fill.filled(fill.wanted(free, &budget, true));
            }
            assert_eq!(fill.held, held, "{free} free");
        }
        fill.received(2, 2);
        assert_eq!(
            fill.wanted(3072, &budget, false),
            2,
            "without traffic not while others may need it"
        );
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

    /// A steady flow whose backlog is small keeps the target, whatever its rate: where others need buffers, too.
    #[test]
    fn a_steady_flow_settles() {
        let mut fill = Fill::new(2048, 1518);
        for _ in 0..100 {
            for _ in 0..100 {
                fill.filled(fill.wanted(2000, &Budget::new(8192), true));
                fill.received(32, 32);
            }
            fill.age();
        }
        assert!((96..=256).contains(&fill.target), "{}", fill.target);
    }

    #[test]
    fn a_quiet_socket_is_ready_for_a_burst_while_there_is_plenty() {
        let fill = Fill::new(2048, 1518);
        let budget = Budget::new(4096);
        for awake in [true, false] {
            assert_eq!(fill.wanted(4000, &budget, awake), BURST);
            assert_eq!(fill.wanted(3000, &budget, awake), if awake { BURST } else { MIN_WHOLE });
            assert_eq!(Fill::new(64, 1518).wanted(4000, &budget, awake), 64, "no more than fit");
            assert_eq!(fill.wanted(200, &budget, awake), FLOOR);
        }
        assert_eq!((fill.wanted(1000, &budget, true), fill.wanted(600, &budget, true)), (24, 24));
        assert_eq!(fill.wanted(600, &budget, false), 12);
    }

    #[test]
    fn a_socket_with_traffic_holds_the_largest_frame() {
        assert!(Fill::new(2048, 65_549).whole > 18);
        assert_eq!(Fill::new(16, 65_549).whole, 16);
    }

    /// Bursts go before what a large frame needs, and that before what quiet ports have; a floor never does.
    #[test]
    fn what_is_not_used_is_taken_back() {
        let mut fill = Fill::new(2048, 65_549);
        fill.filled(300);
        let all = |fill: &Fill, silent| Reach::ALL.map(|reach| fill.recallable(reach, silent));
        assert_eq!(all(&fill, true), [276, 288, 288]);
        assert_eq!(all(&fill, false), [0, 0, 288], "it has some traffic");
        fill.received(200, 0);
        assert_eq!(all(&fill, false), [0, 0, 0], "it is busy");
        fill.recalled(288);
        assert_eq!(all(&fill, true), [0, 0, 0]);
        assert_eq!((fill.held, fill.owed(), fill.is_meagre()), (FLOOR, 0, true));
    }

    /// Two hundred ports on one worker: whichever are busy, each still gets its floor.
    #[test]
    fn no_socket_starves_another() {
        let mut free = 4096;
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
        assert_eq!(free + fills.iter().map(|f| f.held).sum::<u32>(), 4096);
        assert!(free >= 256, "{free} are left for transmission");
    }
}
