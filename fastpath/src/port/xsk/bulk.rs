//! Frames out of the TX ring before the kernel sees them there: they go in bulk.

use super::XskPort;
use crate::bulk::{Bulk, Fate, MAX_FRAME};
use crate::pool::{Piece, Pool};
use crate::ring::CONTINUES;
use crate::xsk::InBulk;
use switch::{DropReason, PortCounters};

impl XskPort {
    /// Frames that wait and that may go in bulk, if there is nothing in their way.
    #[inline]
    pub fn bulk_waiting(&self) -> u32 {
        let tx = &self.socket.tx;
        // What the kernel has not taken from the ring comes first.
        if self.down || tx.unconsumed() != tx.unpublished() {
            return 0;
        }
        match self.in_bulk {
            InBulk::Never => 0,
            InBulk::All => tx.unpublished(),
            InBulk::AllButLast => tx.unpublished().saturating_sub(1),
        }
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
            let Some(frame) = pool.lent(self.id, Piece { address, len }) else { return n };
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
        for fate in fates {
            let descriptor = self.socket.tx.peek_unpublished(n);
            let len = u64::from(descriptor.len);
            match fate {
                Fate::Sent => {
                    sent += 1;
                    sent_bytes += len;
                }
                Fate::Down => {
                    self.down = true;
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
        self.transmitting -= n;
        self.pending.frames -= u64::from(n);
        self.pending.bytes -= bytes;
        counters.tx_frames.add(sent);
        counters.tx_bytes.add(sent_bytes);
        counters.tx_bulk.add(sent);
    }
}
