//! An AF_XDP socket in its worker's hands: receive, transmit, account.

use crate::fill::{Budget, Fill};
use crate::frame::Frame;
use crate::pool::{MAX_SEGMENTS, Piece, Pool, SocketId};
use crate::ring::{CONTINUES, Descriptor};
use crate::xsk::Socket;
use switch::{DropReason, Frame as _, PortCounters, PortId};

/// Calls to empty the TX ring before we give up for this round; an older kernel transmits 32
/// frames a call.
const KICKS: usize = 64;

/// An AF_XDP socket of a port.
pub(crate) struct XskPort {
    id: SocketId,
    port: PortId,
    pub socket: Socket,
    fill: Fill,
    /// Frames and bytes written to the TX ring and not consumed by the kernel.
    pending: Pending,
    /// Index in the TX ring up to which frames were counted as sent.
    counted: u32,
    /// Buffers that the kernel has for transmission.
    transmitting: u32,
    /// The interface is down or gone: frames for it are dropped until a kick succeeds.
    down: bool,
    /// Seconds without a frame in or out.
    silent: u32,
    /// Descriptors that the kernel should not have written.
    bad_descriptors: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Pending {
    frames: u64,
    bytes: u64,
}

impl XskPort {
    pub fn new(
        id: SocketId,
        port: PortId,
        socket: Socket,
        max_frame: usize,
        budget: &mut Budget,
    ) -> XskPort {
        let fill = Fill::new(socket.options().ring_size, max_frame);
        budget.owe(0, fill.owed());
        XskPort {
            id,
            port,
            fill,
            pending: Pending::default(),
            counted: socket.tx.written_index(),
            transmitting: 0,
            down: false,
            silent: 0,
            bad_descriptors: 0,
            socket,
        }
    }

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
    ) -> u32 {
        // Always a fresh look: the backlog says how many buffers the socket should hold.
        let available = self.socket.rx.available(u32::MAX);
        let mut n = 0;
        while n < available && batch.len() < max {
            let descriptor = self.socket.rx.peek(n);
            if descriptor.options & CONTINUES != 0 {
                match self.receive_chain(pool, batch, n, available) {
                    Some(next) => n = next,
                    // The rest of the frame is not there yet.
                    None => break,
                }
            } else {
                match pool.received(self.id, piece(descriptor)) {
                    Some(frame) => batch.push(frame),
                    None => self.bad_descriptors += 1,
                }
                n += 1;
            }
        }
        if n > 0 {
            self.silent = 0;
            self.socket.rx.release(n);
            let owed = self.fill.owed();
            self.fill.received(available, n);
            budget.owe(owed, self.fill.owed());
        }
        n
    }

    /// Assembles the frame whose first descriptor is `n`; the index after its last one.
    #[cold]
    fn receive_chain(
        &mut self,
        pool: &mut Pool,
        batch: &mut Vec<Frame>,
        n: u32,
        available: u32,
    ) -> Option<u32> {
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
        match frame {
            Some(frame) => batch.push(frame),
            None => self.bad_descriptors += 1,
        }
        Some(end + 1)
    }

    /// Puts free buffers into the fill ring, as many as this socket may have.
    #[inline]
    pub fn refill(&mut self, pool: &mut Pool, budget: &mut Budget) {
        let wanted = self.fill.wanted(pool.available(), budget);
        let n = wanted.min(self.socket.fill.room(wanted));
        if n == 0 {
            budget.pressed |= self.fill.is_short();
            return;
        }
        for _ in 0..n {
            let Some(address) = pool.lend(self.id) else { break };
            self.socket.fill.write(address);
        }
        self.socket.fill.publish();
        let owed = self.fill.owed();
        self.fill.filled(n);
        budget.owe(owed, self.fill.owed());
        budget.pressed |= self.fill.is_short();
        self.socket.wake_rx();
    }

    /// Writes a frame to the TX ring, to be flushed. A frame that it cannot take is dropped and
    /// counted.
    #[inline]
    pub fn send(
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
            self.flush(pool, counters);
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

    /// Makes the kernel send what is in the TX ring, counts what it took, and takes the buffers
    /// back that it is done with. True when the ring is empty.
    pub fn flush(&mut self, pool: &mut Pool, counters: &PortCounters) -> bool {
        self.silent = 0;
        self.socket.tx.publish();
        if self.socket.tx.needs_wakeup() {
            self.kick();
            if self.socket.tx.unconsumed() > 0 && self.reap(pool) > 0 {
                // The completion ring was full.
                self.kick();
            }
        }
        self.account(counters);
        self.reap(pool);
        self.pending.frames == 0
    }

    fn kick(&mut self) {
        for _ in 0..KICKS {
            let result = self.socket.kick_tx();
            let left = self.socket.tx.unconsumed();
            self.socket.tx.consumed();
            let now = self.socket.tx.unconsumed();
            match result.err().and_then(|e| e.raw_os_error()) {
                None => self.down = false,
                // More frames than one call sends, or no room in the send buffer or the
                // completion ring.
                Some(libc::EAGAIN | libc::EBUSY | libc::ENOBUFS | libc::EINTR) => {}
                // ENETDOWN: not up. ENXIO: the device was deleted, or the socket is not bound any
                // more. Nothing was sent.
                Some(_) => {
                    self.down = true;
                    return;
                }
            }
            // Zero-copy: the driver sends from here on, at its own pace.
            if now == 0 || now == left || self.socket.binding().zero_copy {
                return;
            }
        }
    }

    /// Counts the frames that the kernel has consumed as sent.
    fn account(&mut self, counters: &PortCounters) {
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

    /// Ends the socket's work: frames not received yet and frames not sent yet are dropped.
    pub fn finish(&mut self, pool: &mut Pool, counters: &PortCounters, budget: &mut Budget) {
        self.flush(pool, counters);
        let mut batch = Vec::new();
        while self.receive(pool, budget, &mut batch, usize::MAX) > 0 {}
        budget.owe(self.fill.owed(), 0);
        for frame in batch {
            counters.rx_frames.add(1);
            counters.rx_bytes.add(frame.len() as u64);
            counters.drop(DropReason::Shutdown);
            pool.discard(frame);
        }
        for _ in 0..self.pending.frames {
            counters.drop(DropReason::Shutdown);
        }
        self.pending = Pending::default();
    }

    /// Buffers that a port which has been silent for `seconds` holds in excess.
    pub fn hoard(&self, seconds: u32) -> u32 {
        if self.silent < seconds { 0 } else { self.fill.excess() }
    }

    /// Frames written to the TX ring and not consumed by the kernel.
    #[inline]
    pub fn in_flight(&self) -> u64 {
        self.pending.frames
    }

    /// Once a second: buffers back, the fill target aged, and an interface that was down tried
    /// again.
    pub fn tick(&mut self, pool: &mut Pool, counters: &PortCounters, budget: &mut Budget) {
        if self.down {
            self.down = self.socket.kick_tx().is_err_and(is_gone);
        }
        if self.pending.frames > 0 {
            self.flush(pool, counters);
        }
        self.reap(pool);
        self.silent += 1;
        if self.bad_descriptors > 0 {
            tracing::error!(
                "port {}: the kernel named {} buffers that it did not have",
                self.port,
                core::mem::take(&mut self.bad_descriptors)
            );
        }
        self.fill.age();
        self.refill(pool, budget);
    }
}

fn is_gone(e: std::io::Error) -> bool {
    matches!(e.raw_os_error(), Some(libc::ENETDOWN | libc::ENXIO | libc::EBADF | libc::ENODEV))
}

fn piece(descriptor: Descriptor) -> Piece {
    Piece { address: descriptor.address, len: descriptor.len }
}
