//! An AF_XDP socket in its worker's hands.
//!
//! ```text
//! receive      frames out of the RX ring
//! bulk         frames out of the TX ring again, to be sent in bulk
//! buffers      what the fill ring is given, and what is taken back from it
//! transmit     frames into the TX ring, and out of it to be counted
//! superpacket  another way out
//! ```

mod buffers;
mod bulk;
mod receive;
mod superpacket;
mod transmit;

use self::bulk::Trail;
pub(crate) use self::superpacket::Tunnels;
use self::superpacket::{Beside, Runs, Way};
use self::transmit::Pending;
use super::recall::Recall;
use crate::fill::{Budget, Fill};
use crate::pool::{Pool, SocketId};
use crate::xsk::{Socket, Superpackets};
use switch::{DropReason, Frame as _, PortCounters, PortId};

/// An AF_XDP socket of a port.
pub(crate) struct XskPort {
    id: SocketId,
    port: PortId,
    pub socket: Socket,
    fill: Fill,
    recall: Recall,
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
    way: Way,
    /// Whether frames may go in bulk.
    in_bulk: bool,
    trail: Trail,
    /// Another way out of an uplink.
    runs: Option<Box<Runs>>,
    /// Another way out of any other port.
    segments: Option<Box<Beside>>,
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
        let beside = socket.packet.take().map(|s| Box::new(Beside::new(s)));
        let (runs, segments) = match socket.options().superpackets {
            Some(Superpackets::Tunnels) => (beside.map(|b| Box::new(Runs::new(*b))), None),
            _ => (None, beside),
        };
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
            way: Way::Ring,
            in_bulk: false,
            trail: Trail::default(),
            runs,
            segments,
            socket,
        }
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
        let beside = self.runs.map(|runs| runs.beside).or(self.segments.map(|beside| *beside));
        self.socket.packet = beside.map(Beside::into_socket);
        self.socket
    }

    /// Frames that the kernel was not given yet, or has not consumed.
    #[inline]
    pub fn in_flight(&self) -> u64 {
        self.pending.frames + self.runs.as_ref().map_or(0, |runs| runs.waiting())
    }

    /// Names the tunnels whose packets may be sent as superpackets.
    pub fn set_tunnels(&mut self, tunnels: &Tunnels) {
        if let Some(runs) = &mut self.runs {
            runs.set_tunnels(tunnels.clone());
        }
    }

    /// Says whether frames may go in bulk from here on.
    pub fn set_in_bulk(&mut self, in_bulk: bool) {
        self.in_bulk = in_bulk && !self.socket.binding().zero_copy;
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
        let runs = self.runs.as_mut().map(|runs| &mut runs.beside);
        if let Some(beside) = runs.or(self.segments.as_deref_mut()) {
            beside.tick();
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
