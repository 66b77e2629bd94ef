//! What the fill ring is given, and what is taken back from it.

use super::XskPort;
use crate::fill::{Budget, Reach};
use crate::pool::Pool;

/// Ticks without a frame in or out after which a port needs no more than its floor: one to two seconds.
const SILENT: u32 = 2;

impl XskPort {
    /// Puts free buffers into the fill ring, as many as this socket may have.
    #[inline]
    pub fn refill(&mut self, pool: &mut Pool, budget: &mut Budget) {
        let is_awake = self.silent < SILENT;
        let wanted = self.fill.wanted(pool.available(), budget, is_awake);
        if self.recall.is_active() {
            self.refill_odd(pool, budget, wanted);
        } else {
            let n = wanted.min(self.socket.fill.room(wanted));
            self.append(pool, budget, n);
        }
        if self.fill.is_meagre() && !self.socket.binding().zero_copy {
            self.pad(pool);
        }
        budget.pressed |= is_awake && self.fill.is_short();
    }

    /// Puts `n` free buffers into the fill ring, which has room for them.
    #[inline]
    fn append(&mut self, pool: &mut Pool, budget: &mut Budget, n: u32) {
        if n == 0 {
            return;
        }
        for _ in 0..n {
            let Some(address) = pool.lend(self.id) else { break };
            self.socket.fill.write(address);
        }
        self.socket.fill.publish();
        self.lent(budget, n);
        self.socket.wake_rx();
    }

    fn lent(&mut self, budget: &mut Budget, n: u32) {
        let owed = self.fill.owed();
        self.fill.filled(n);
        budget.owe(owed, self.fill.owed());
    }

    /// [`XskPort::refill`] of a ring with hollow slots.
    #[cold]
    fn refill_odd(&mut self, pool: &mut Pool, budget: &mut Budget, wanted: u32) {
        let ring = &mut self.socket.fill;
        let n = self.recall.refill(ring, wanted, || pool.lend(self.id));
        let left = wanted - n;
        // Each slot keeps its content until its descriptor came back.
        let used = ring.written_index().wrapping_sub(self.socket.rx.released_index());
        let room = self.socket.options().ring_size.saturating_sub(used);
        let more = left.min(room).min(self.socket.fill.room(left));
        self.lent(budget, n);
        if more > 0 {
            self.append(pool, budget, more);
            self.recall.appended(&self.socket.fill);
        }
    }

    /// Gives the ring so many slots that the largest frame is seen, whether or not there are buffers for
    /// it.
    #[cold]
    fn pad(&mut self, pool: &mut Pool) {
        if let Some(dump) = pool.dump() {
            let received = self.socket.rx.released_index();
            self.recall.pad(&mut self.socket.fill, received, dump, self.fill.whole());
        }
    }

    /// Whether it holds fewer buffers than the largest frame takes.
    #[inline]
    pub fn is_meagre(&self) -> bool {
        self.fill.is_meagre()
    }

    /// Begins to take back buffers beyond what `reach` leaves; how many.
    pub fn recall(&mut self, pool: &mut Pool, reach: Reach) -> u32 {
        let n = self.fill.recallable(reach, self.silent >= SILENT);
        // A driver may have read any part of the ring ahead.
        if n == 0 || self.socket.binding().zero_copy || !self.recall.is_ready() {
            return 0;
        }
        let Some(dump) = pool.dump() else { return 0 };
        let received = self.socket.rx.released_index();
        let n = self.recall.hollow(&mut self.socket.fill, received, dump, n);
        self.fill.recalled(n);
        n
    }

    /// A grace period has passed since [`XskPort::recall`].
    pub fn recalled(&mut self, pool: &mut Pool) {
        let (id, received) = (self.id, self.socket.rx.released_index());
        self.recall.settle(&mut self.socket.fill, received, |address| {
            pool.completed(id, address);
        });
        self.recall.forget(received);
    }

    /// Buffers that a port which has been silent for `seconds` holds in excess.
    pub fn hoard(&self, seconds: u32) -> u32 {
        // What can be taken back without closing the socket is no hoard.
        let comes_back = !self.socket.binding().zero_copy && self.recall.is_ready();
        if self.silent < seconds || comes_back { 0 } else { self.fill.excess() }
    }
}
