//! An AF_XDP socket in its worker's hands: receive, transmit, account.

mod superpacket;

use self::superpacket::Superpackets;
pub(crate) use self::superpacket::Tunnels;
use super::recall::Recall;
use crate::fill::{Budget, Fill, Reach};
use crate::frame::{CHUNK, Frame};
use crate::pool::{MAX_SEGMENTS, Piece, Pool, SocketId};
use crate::ring::{CONTINUES, Descriptor};
use crate::xsk::Socket;
use switch::{DropReason, Frame as _, PortCounters, PortId};

/// Ticks without a frame in or out after which a port needs no more than its floor: one to two seconds.
const SILENT: u32 = 2;
/// Calls to empty the TX ring before we give up for this round; an older kernel transmits 32
/// frames a call.
const KICKS: usize = 64;

/// An AF_XDP socket of a port.
pub(crate) struct XskPort {
    id: SocketId,
    port: PortId,
    pub socket: Socket,
    fill: Fill,
    recall: Recall,
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
    /// Of an uplink in copy mode: another way out.
    superpackets: Option<Box<Superpackets>>,
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
        mut socket: Socket,
        max_frame: usize,
        budget: &mut Budget,
    ) -> XskPort {
        let fill = Fill::new(socket.options().ring_size, max_frame);
        budget.owe(0, fill.owed());
        XskPort {
            id,
            port,
            fill,
            recall: Recall::default(),
            pending: Pending::default(),
            counted: socket.tx.written_index(),
            transmitting: 0,
            down: false,
            silent: 0,
            bad_descriptors: 0,
            superpackets: socket.packet.take().map(|s| Box::new(Superpackets::new(s))),
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

    /// Sends a frame at the next flush, or before. One that cannot be taken is dropped and counted.
    #[inline]
    pub fn send(
        &mut self,
        pool: &mut Pool,
        frame: Frame,
        counters: &PortCounters,
        budget: &Budget,
    ) {
        if self.superpackets.is_some() {
            self.collect(pool, frame, counters, budget);
        } else {
            self.enqueue(pool, frame, counters, budget);
        }
    }

    /// Writes a frame to the TX ring, to be flushed.
    #[inline]
    fn enqueue(&mut self, pool: &mut Pool, frame: Frame, counters: &PortCounters, budget: &Budget) {
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
        self.end_run(pool, counters, budget);
        self.flush_ring(pool, counters)
    }

    /// Makes the kernel send what is in the TX ring, counts what it took, and takes the buffers
    /// back that it is done with. True when the ring is empty.
    fn flush_ring(&mut self, pool: &mut Pool, counters: &PortCounters) -> bool {
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
        self.flush(pool, counters, budget);
        let mut batch = Vec::new();
        while self.receive(pool, budget, &mut batch, usize::MAX, counters) > 0 {}
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

    /// The socket, to be closed by somebody who has the time.
    pub fn into_socket(mut self) -> Socket {
        self.socket.packet = self.superpackets.map(|s| s.into_socket());
        self.socket
    }

    /// Buffers that a port which has been silent for `seconds` holds in excess.
    pub fn hoard(&self, seconds: u32) -> u32 {
        // What can be taken back without closing the socket is no hoard.
        let comes_back = !self.socket.binding().zero_copy && self.recall.is_ready();
        if self.silent < seconds || comes_back { 0 } else { self.fill.excess() }
    }

    /// Frames that the kernel was not given yet, or has not consumed.
    #[inline]
    pub fn in_flight(&self) -> u64 {
        self.pending.frames + self.superpackets.as_ref().map_or(0, |s| s.waiting())
    }

    /// Names the tunnels whose packets may be sent as superpackets.
    pub fn set_tunnels(&mut self, tunnels: &Tunnels) {
        if let Some(superpackets) = &mut self.superpackets {
            superpackets.set_tunnels(tunnels.clone());
        }
    }

    /// Once a second: buffers back, the fill target aged, and an interface that was down tried
    /// again.
    pub fn tick(&mut self, pool: &mut Pool, counters: &PortCounters, budget: &mut Budget) {
        if self.down {
            self.down = self.socket.kick_tx().is_err_and(is_gone);
        }
        if self.pending.frames > 0 {
            self.flush_ring(pool, counters);
        }
        self.reap(pool);
        if let Some(superpackets) = &mut self.superpackets {
            superpackets.tick();
        }
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
