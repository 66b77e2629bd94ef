//! Frames out of the RX ring.

use super::XskPort;
use crate::fill::Budget;
use crate::frame::{CHUNK, Frame};
use crate::pool::{Piece, Pool};
use crate::ring::{CONTINUES, Descriptor};
use switch::{DropReason, PortCounters};

impl XskPort {
    /// Whether frames wait.
    #[inline]
    pub fn has_frames(&mut self) -> bool {
        self.socket.rx.available(1) > 0
    }

    /// Appends received frames to `batch` until it holds `max`; how many descriptors that took.
    #[inline]
    pub fn receive(
        &mut self,
        pool: &mut Pool,
        budget: &mut Budget,
        batch: &mut Vec<Frame>,
        max: usize,
        counters: &PortCounters,
    ) -> u32 {
        // Always a fresh look: the backlog says how many buffers the socket should hold.
        let available = self.socket.rx.available(u32::MAX);
        if self.recall.is_active() && available > 0 {
            self.reconcile(pool, budget, available);
        }
        let (mut n, mut dumped) = (0, 0);
        while n < available && batch.len() < max {
            let descriptor = self.socket.rx.peek(n);
            if descriptor.options & CONTINUES != 0 {
                match self.receive_chain(pool, batch, n, available, counters) {
                    Some((next, lost)) => {
                        n = next;
                        dumped += lost;
                    }
                    // The rest of the frame is not there yet.
                    None => break,
                }
            } else {
                match pool.received(self.id, piece(descriptor)) {
                    Some(frame) => batch.push(frame),
                    None => dumped += self.lose(pool, n, n, counters),
                }
                n += 1;
            }
        }
        if n > 0 {
            self.silent = 0;
            self.socket.rx.release(n);
            if self.recall.is_active() {
                self.recall.forget(self.socket.rx.released_index());
            }
            let owed = self.fill.owed();
            self.fill.received(available, n - dumped);
            budget.owe(owed, self.fill.owed());
        }
        n
    }

    /// Looks up which of the buffers that were ever in their slots the next descriptors have; the others
    /// are ours.
    #[cold]
    fn reconcile(&mut self, pool: &mut Pool, budget: &mut Budget, available: u32) {
        let Some(dump) = pool.dump() else { return };
        let owed = self.fill.owed();
        let first = self.socket.rx.released_index();
        for n in 0..available {
            let chunk = self.socket.rx.peek(n).address & !(CHUNK as u64 - 1);
            let index = first.wrapping_add(n);
            let back = self.recall.reconcile(&self.socket.fill, index, chunk, dump);
            for address in back.written.iter().chain(&back.limbo) {
                pool.completed(self.id, *address);
            }
            // What is in limbo does not count as held any more.
            match (back.written, back.was_limbo) {
                (Some(_), false) => self.fill.recalled(1),
                (None, true) => self.fill.filled(1),
                _ => {}
            }
        }
        if self.recall.is_broken() {
            tracing::error!("port {}: the kernel took buffers out of order", self.port);
        }
        budget.owe(owed, self.fill.owed());
    }

    /// Counts a frame of the descriptors `first` to `last` that had no buffer; how many of them lie in the
    /// dump.
    #[cold]
    fn lose(&mut self, pool: &Pool, first: u32, last: u32, counters: &PortCounters) -> u32 {
        let pieces = || (first..=last).map(|i| self.socket.rx.peek(i));
        let dumped = pieces().filter(|d| pool.is_dump(d.address)).count() as u32;
        if dumped == 0 {
            self.bad_descriptors += 1;
        } else {
            counters.rx_frames.add(1);
            counters.rx_bytes.add(pieces().map(|d| u64::from(d.len)).sum());
            counters.drop(DropReason::NoBuffer);
        }
        dumped
    }

    /// Assembles the frame whose first descriptor is `n`; the index after its last one, and how many of its
    /// pieces lie in the dump.
    #[cold]
    fn receive_chain(
        &mut self,
        pool: &mut Pool,
        batch: &mut Vec<Frame>,
        n: u32,
        available: u32,
        counters: &PortCounters,
    ) -> Option<(u32, u32)> {
        let ends = |&i: &u32| self.socket.rx.peek(i).options & CONTINUES == 0;
        let end = (n..available).find(ends)?;
        let mut frame = pool.received(self.id, piece(self.socket.rx.peek(n)));
        for i in n + 1..=end {
            let next = piece(self.socket.rx.peek(i));
            let whole = match &mut frame {
                Some(frame) => pool.received_more(self.id, next, frame),
                None => {
                    pool.completed(self.id, next.address);
                    false
                }
            };
            if !whole && let Some(broken) = frame.take() {
                pool.discard(broken);
            }
        }
        let dumped = match frame {
            Some(frame) => {
                batch.push(frame);
                0
            }
            None => self.lose(pool, n, end, counters),
        };
        Some((end + 1, dumped))
    }
}

fn piece(descriptor: Descriptor) -> Piece {
    Piece { address: descriptor.address, len: descriptor.len }
}
