//! Frames out of the TX ring before the kernel sees them there: they go in bulk.
//!
//! Superpackets must not overtake them (`superpacket`), and the kernel does not say when they have arrived. It says so of
//! frames of the ring. So a superpacket that finds some under way has the next frame go by the ring, behind them.

use super::{XskPort, is_gone};
use crate::bulk::{Bulk, Fate, MAX_FRAME};
use crate::pool::{Piece, Pool};
use crate::ring::CONTINUES;
use switch::{DropReason, PortCounters};

/// What may be under way of frames that went in bulk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Trail {
    /// Nothing.
    #[default]
    Clear,
    /// Some of them.
    Out,
    /// Some of them, and a superpacket should follow: the last frame of the next batch is left to the ring.
    Sought,
    /// A frame went by the ring behind them. When its buffer is back, they have arrived.
    Marked,
}

impl Trail {
    /// Frames went in bulk.
    fn sent(self) -> Trail {
        if self == Trail::Sought { Trail::Sought } else { Trail::Out }
    }

    /// Frames went by the ring.
    pub fn marked(self) -> Trail {
        if self == Trail::Clear { Trail::Clear } else { Trail::Marked }
    }

    /// All frames that went by the ring have arrived, and a superpacket wants to know of the others.
    pub fn sought(self) -> Trail {
        if matches!(self, Trail::Clear | Trail::Marked) { Trail::Clear } else { Trail::Sought }
    }
}

impl XskPort {
    /// Frames that wait and that may go in bulk, if there is nothing in their way.
    #[inline]
    pub fn bulk_waiting(&self) -> u32 {
        let tx = &self.socket.tx;
        // What the kernel has not taken from the ring comes first.
        if !self.in_bulk || self.down || tx.unconsumed() != tx.unpublished() {
            return 0;
        }
        tx.unpublished().saturating_sub(u32::from(self.trail == Trail::Sought))
    }

    /// Copies frames into a batch; how many.
    pub fn add_to(&self, bulk: &mut Bulk, pool: &Pool) -> u32 {
        let options = self.socket.options();
        let most = self.bulk_waiting().min(bulk.room() as u32);
        for n in 0..most {
            let descriptor = self.socket.tx.peek_unpublished(n);
            let (address, len) = (descriptor.address, descriptor.len);
            if descriptor.options & CONTINUES != 0 || len as usize > MAX_FRAME {
                return n;
            }
            let Some(frame) = pool.lent_bytes(self.id, Piece { address, len }) else { return n };
            bulk.add(options.ifindex, options.queue, frame);
        }
        most
    }

    /// Counts what became of the frames that were copied, as far as it is known, and takes them from the ring.
    pub fn settle(
        &mut self,
        pool: &mut Pool,
        fates: impl Iterator<Item = Fate>,
        counters: &PortCounters,
    ) {
        let (mut n, mut sent, mut sent_bytes, mut bytes) = (0, 0, 0, 0);
        let mut is_down = false;
        for fate in fates {
            let descriptor = self.socket.tx.peek_unpublished(n);
            let len = u64::from(descriptor.len);
            match fate {
                Fate::Sent => {
                    sent += 1;
                    sent_bytes += len;
                }
                Fate::Down => {
                    is_down = true;
                    counters.drop(DropReason::PortDown);
                }
                Fate::Refused => counters.drop(DropReason::TxRingFull),
            }
            if !pool.completed(self.id, descriptor.address) {
                self.bad_descriptors += 1;
            }
            bytes += len;
            n += 1;
        }
        self.socket.tx.take_back(n);
        self.transmitting = self.transmitting.saturating_sub(n);
        self.trail = self.trail.sent();
        if is_down {
            // It may have been for a moment, as while its queueing discipline was changed.
            self.down = self.socket.kick_tx().is_err_and(is_gone);
        }
        self.pending.frames -= u64::from(n);
        self.pending.bytes -= bytes;
        counters.tx_frames.add(sent);
        counters.tx_bytes.add(sent_bytes);
        counters.tx_bulk.add(sent);
    }
}
