//! Frames into the TX ring, and out of it to be counted.

use super::XskPort;
use super::superpacket::Way;
use crate::fill::Budget;
use crate::frame::Frame;
use crate::pool::{MAX_SEGMENTS, Pool};
use crate::ring::{CONTINUES, Descriptor};
use switch::{DropReason, Frame as _, PortCounters};

/// Calls to empty the TX ring before we give up for this round; an older kernel transmits 32
/// frames a call.
const KICKS: usize = 64;

/// What is in the TX ring and not consumed by the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Pending {
    pub(super) frames: u64,
    pub(super) bytes: u64,
}

impl XskPort {
    /// Sends a frame at the next flush, or before. One that cannot be taken is dropped and counted.
    #[inline]
    pub fn send(
        &mut self,
        pool: &mut Pool,
        frame: Frame,
        counters: &PortCounters,
        budget: &Budget,
    ) {
        if self.runs.is_some() {
            self.collect(pool, frame, counters, budget);
        } else if self.way == Way::PacketSocket {
            self.send_behind(pool, frame, counters, budget);
        } else {
            self.enqueue(pool, frame, counters, budget);
        }
    }

    /// Writes a frame to the TX ring, to be flushed.
    #[inline]
    pub(super) fn enqueue(
        &mut self,
        pool: &mut Pool,
        frame: Frame,
        counters: &PortCounters,
        budget: &Budget,
    ) {
        let pieces = frame.pieces();
        if let Err(reason) = self.admit(pool, pieces as u32, counters, budget) {
            counters.drop(reason);
            pool.discard(frame);
            return;
        }
        self.pending.frames += 1;
        self.pending.bytes += frame.len() as u64;
        self.transmitting += pieces as u32;
        let tx = &mut self.socket.tx;
        pool.transmit(self.id, frame, |piece, more| {
            let options = if more { CONTINUES } else { 0 };
            tx.write(Descriptor { address: piece.address, len: piece.len, options });
        });
    }

    #[inline]
    fn admit(
        &mut self,
        pool: &mut Pool,
        pieces: u32,
        counters: &PortCounters,
        budget: &Budget,
    ) -> Result<(), DropReason> {
        if self.down {
            return Err(DropReason::PortDown);
        }
        if pieces != 1 {
            if pieces == 0 {
                return Err(DropReason::EthTruncated);
            }
            if pieces as usize > MAX_SEGMENTS || !self.socket.binding().frags {
                return Err(DropReason::TxTooManySegments);
            }
        }
        if self.socket.tx.room(pieces) < pieces || self.is_greedy(pool, budget) {
            self.flush_ring(pool, counters);
            if self.socket.tx.room(pieces) < pieces || self.is_greedy(pool, budget) {
                return Err(DropReason::TxRingFull);
            }
        }
        Ok(())
    }

    /// Whether this socket has more than its share of the last buffers in transmission: an
    /// interface that sends nothing must not take them all.
    #[inline]
    fn is_greedy(&self, pool: &Pool, budget: &Budget) -> bool {
        pool.available() < budget.transmission / 2 && self.transmitting > budget.transmission / 4
    }

    /// Makes the kernel send what it was not given yet. True when nothing is left.
    #[inline]
    pub fn flush(&mut self, pool: &mut Pool, counters: &PortCounters, budget: &Budget) -> bool {
        self.silent = 0;
        self.end_run(pool, counters, budget);
        if self.pending.frames == 0 {
            // All of it went beside the ring.
            self.reap(pool);
            return true;
        }
        self.flush_ring(pool, counters)
    }

    /// Makes the kernel send what is in the TX ring, counts what it took, and takes the buffers
    /// back that it is done with. True when the ring is empty.
    pub(super) fn flush_ring(&mut self, pool: &mut Pool, counters: &PortCounters) -> bool {
        self.silent = 0;
        self.socket.tx.publish();
        let mut is_dropped = false;
        if self.socket.tx.needs_wakeup() {
            is_dropped |= self.kick();
            if self.socket.tx.unconsumed() > 0 && self.reap(pool) > 0 {
                // The completion ring was full.
                is_dropped |= self.kick();
            }
        }
        // The buffer of a frame that was dropped says nothing of those before it.
        if self.account(counters) > 0 && !is_dropped {
            self.trail = self.trail.marked();
        }
        self.reap(pool);
        self.pending.frames == 0
    }

    /// Whether the interface dropped a frame (its far end takes no more at a time).
    fn kick(&mut self) -> bool {
        let mut is_dropped = false;
        for _ in 0..KICKS {
            let result = self.socket.kick_tx();
            let left = self.socket.tx.unconsumed();
            self.socket.tx.consumed();
            let now = self.socket.tx.unconsumed();
            match result.err().and_then(|e| e.raw_os_error()) {
                None => self.down = false,
                Some(libc::EBUSY) => is_dropped = true,
                // More frames than one call sends, or no room in the send buffer or the
                // completion ring.
                Some(libc::EAGAIN | libc::ENOBUFS | libc::EINTR) => {}
                // ENETDOWN: not up. ENXIO: the device was deleted, or the socket is not bound any
                // more. Nothing was sent.
                Some(_) => {
                    self.down = true;
                    break;
                }
            }
            // Zero-copy: the driver sends from here on, at its own pace.
            if now == 0 || now == left || self.socket.binding().zero_copy {
                break;
            }
        }
        is_dropped
    }

    /// Counts the frames that the kernel has consumed as sent; how many.
    fn account(&mut self, counters: &PortCounters) -> u64 {
        let consumed = self.socket.tx.consumed();
        let sent = if self.socket.tx.unconsumed() == 0 {
            self.pending
        } else {
            let mut sent = Pending::default();
            let mut index = self.counted;
            while index != consumed {
                let descriptor = self.socket.tx.written(index);
                sent.bytes += u64::from(descriptor.len);
                sent.frames += u64::from(descriptor.options & CONTINUES == 0);
                index = index.wrapping_add(1);
            }
            sent
        };
        self.counted = consumed;
        self.pending.frames -= sent.frames;
        self.pending.bytes -= sent.bytes;
        counters.tx_frames.add(sent.frames);
        counters.tx_bytes.add(sent.bytes);
        sent.frames
    }

    /// Takes back buffers that were transmitted; how many.
    pub fn reap(&mut self, pool: &mut Pool) -> u32 {
        if self.transmitting == 0 {
            return 0;
        }
        let n = self.socket.completion.available(1);
        for i in 0..n {
            if !pool.completed(self.id, self.socket.completion.peek(i)) {
                self.bad_descriptors += 1;
            }
        }
        if n > 0 {
            self.socket.completion.release(n);
            self.transmitting = self.transmitting.saturating_sub(n);
        }
        n
    }
}
