//! A port's socket in its worker's hands, whatever it is: an AF_XDP socket or a queue of a TAP device.
//!
//! Which of the two is asked once a batch.

mod recall;
mod tap;
mod vnet;
mod xsk;

pub(crate) use tap::TapPort;
pub(crate) use xsk::{Tunnels, XskPort};

use crate::bulk::{Bulk, Fate};
use crate::fill::{Budget, Reach};
use crate::frame::Frame;
use crate::pool::{Pool, SocketId};
use crate::tap::Tap;
use crate::xsk::Socket;
use std::os::fd::{AsFd, BorrowedFd};
use switch::{PortCounters, PortId};

/// What a port sends and receives through; opened and closed by the control thread.
pub(crate) enum Endpoint {
    /// An AF_XDP socket.
    Xsk(Box<Socket>),
    /// A queue of a TAP device.
    Tap(Tap),
}

impl Endpoint {
    /// Whether only epoll knows of its frames.
    pub fn is_polled(&self) -> bool {
        matches!(self, Endpoint::Tap(_))
    }
}

impl AsFd for Endpoint {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Endpoint::Xsk(socket) => socket.as_fd(),
            Endpoint::Tap(tap) => tap.as_fd(),
        }
    }
}

/// The two kinds.
#[expect(clippy::large_enum_variant, reason = "a pointer more on the way of every AF_XDP frame")]
pub(crate) enum Kind {
    Xsk(XskPort),
    Tap(TapPort),
}

/// One socket of a port, and what the worker notes about it.
pub(crate) struct PortSocket {
    pub id: SocketId,
    pub port: PortId,
    pub kind: Kind,
    /// Whether something was sent that needs a flush.
    pub dirty: bool,
    /// What of [`PortSocket::in_flight`] readers have been told.
    pub reported: u64,
    /// Whether it is looked at every round.
    pub hot: bool,
    /// Rounds without a frame.
    pub quiet: u32,
    /// Batches received and sent since the worker last asked.
    pub batches: u32,
}

impl PortSocket {
    pub fn new(
        id: SocketId,
        port: PortId,
        endpoint: Endpoint,
        max_frame: usize,
        budget: &mut Budget,
    ) -> PortSocket {
        let kind = match endpoint {
            Endpoint::Xsk(s) => Kind::Xsk(XskPort::new(id, port, *s, max_frame, budget)),
            Endpoint::Tap(tap) => Kind::Tap(TapPort::new(tap)),
        };
        PortSocket { id, port, kind, dirty: false, reported: 0, hot: false, quiet: 0, batches: 0 }
    }

    /// Whether frames wait, as far as memory tells: only epoll knows it of a TAP.
    #[inline]
    pub fn has_frames(&mut self) -> bool {
        match &mut self.kind {
            Kind::Xsk(xsk) => xsk.has_frames(),
            Kind::Tap(_) => false,
        }
    }

    /// Appends received frames to `batch` until it holds `max`; whether there was anything, a frame
    /// that was dropped at once included.
    #[inline]
    pub fn receive(
        &mut self,
        pool: &mut Pool,
        budget: &mut Budget,
        batch: &mut Vec<Frame>,
        max: usize,
        counters: &PortCounters,
    ) -> bool {
        match &mut self.kind {
            Kind::Xsk(xsk) => {
                self.batches = self.batches.wrapping_add(1);
                xsk.receive(pool, budget, batch, max, counters) > 0
            }
            Kind::Tap(tap) => tap.receive(pool, budget, batch, max, counters),
        }
    }

    /// Has the buffers that it may have for reception.
    #[inline]
    pub fn refill(&mut self, pool: &mut Pool, budget: &mut Budget) {
        if let Kind::Xsk(xsk) = &mut self.kind {
            xsk.refill(pool, budget);
        }
    }

    /// Sends frames, or puts them where [`PortSocket::flush`] finds them. A frame that cannot be taken
    /// is dropped and counted.
    #[inline]
    pub fn send_all(
        &mut self,
        pool: &mut Pool,
        frames: impl Iterator<Item = Frame>,
        counters: &PortCounters,
        budget: &Budget,
    ) {
        match &mut self.kind {
            Kind::Xsk(xsk) => frames.for_each(|frame| xsk.send(pool, frame, counters, budget)),
            Kind::Tap(tap) => frames.for_each(|frame| tap.send(pool, frame, counters)),
        }
    }

    /// Whether superpackets are worth making for it: a TAP, which takes all, is not asked.
    #[inline]
    pub fn takes_superpackets(&mut self, pool: &mut Pool, counters: &PortCounters) -> bool {
        match &mut self.kind {
            Kind::Xsk(xsk) => xsk.takes_superpackets(pool, counters),
            Kind::Tap(_) => false,
        }
    }

    /// Sends a superpacket, or gives it back if this is no time for it.
    pub fn send_superpacket(
        &mut self,
        pool: &mut Pool,
        frame: Frame,
        counters: &PortCounters,
    ) -> Result<(), Frame> {
        match &mut self.kind {
            Kind::Xsk(xsk) => xsk.send_superpacket(pool, frame, counters),
            Kind::Tap(_) => Err(frame),
        }
    }

    /// Whether what is sent waits for a flush.
    #[inline]
    pub fn needs_flush(&self) -> bool {
        matches!(self.kind, Kind::Xsk(_))
    }

    /// Makes the kernel take what was sent. True when nothing is left.
    #[inline]
    pub fn flush(&mut self, pool: &mut Pool, counters: &PortCounters, budget: &Budget) -> bool {
        match &mut self.kind {
            Kind::Xsk(xsk) => {
                self.batches = self.batches.wrapping_add(1);
                xsk.flush(pool, counters, budget)
            }
            Kind::Tap(_) => true,
        }
    }

    /// Frames that wait and that may go in bulk.
    #[inline]
    pub fn bulk_waiting(&self) -> u32 {
        match &self.kind {
            Kind::Xsk(xsk) => xsk.bulk_waiting(),
            Kind::Tap(_) => 0,
        }
    }

    /// Copies frames into a batch; how many.
    #[inline]
    pub fn add_to(&self, bulk: &mut Bulk, pool: &Pool) -> u32 {
        match &self.kind {
            Kind::Xsk(xsk) => xsk.add_to(bulk, pool),
            Kind::Tap(_) => 0,
        }
    }

    /// Counts what became of the frames that were copied, as far as it is known.
    #[inline]
    pub fn settle(
        &mut self,
        pool: &mut Pool,
        fates: impl Iterator<Item = Fate>,
        counters: &PortCounters,
    ) {
        if let Kind::Xsk(xsk) = &mut self.kind {
            xsk.settle(pool, fates, counters);
        }
    }

    /// Says whether frames may go in bulk from here on.
    pub fn set_in_bulk(&mut self, in_bulk: bool) {
        if let Kind::Xsk(xsk) = &mut self.kind {
            xsk.set_in_bulk(in_bulk);
        }
    }

    /// Names the tunnels whose packets may be sent as superpackets.
    pub fn set_tunnels(&mut self, tunnels: &Tunnels) {
        if let Kind::Xsk(xsk) = &mut self.kind {
            xsk.set_tunnels(tunnels);
        }
    }

    /// Something was sent: the answer will need buffers.
    #[inline]
    pub fn expect(&mut self, pool: &mut Pool, budget: &mut Budget) {
        if let Kind::Xsk(xsk) = &mut self.kind
            && xsk.is_meagre()
        {
            xsk.refill(pool, budget);
        }
    }

    /// Begins to take back buffers; how many.
    pub fn recall(&mut self, pool: &mut Pool, reach: Reach) -> u32 {
        match &mut self.kind {
            Kind::Xsk(xsk) => xsk.recall(pool, reach),
            Kind::Tap(_) => 0,
        }
    }

    /// Takes back what [`PortSocket::recall`] chose a grace period ago.
    pub fn recalled(&mut self, pool: &mut Pool) {
        if let Kind::Xsk(xsk) = &mut self.kind {
            xsk.recalled(pool);
        }
    }

    /// Ends the socket's work: frames not received yet and frames not sent yet are dropped.
    pub fn finish(
        self,
        pool: &mut Pool,
        counters: &PortCounters,
        budget: &mut Budget,
    ) -> (SocketId, Endpoint) {
        let endpoint = match self.kind {
            Kind::Xsk(mut xsk) => {
                xsk.finish(pool, counters, budget);
                Endpoint::Xsk(Box::new(xsk.into_socket()))
            }
            // What waits in the kernel was never received.
            Kind::Tap(tap) => Endpoint::Tap(tap.into_device()),
        };
        (self.id, endpoint)
    }

    /// Buffers that a port which has been silent for `seconds` holds in excess.
    pub fn hoard(&self, seconds: u32) -> u32 {
        match &self.kind {
            Kind::Xsk(xsk) => xsk.hoard(seconds),
            Kind::Tap(_) => 0,
        }
    }

    /// Frames that were sent and that the kernel has not taken.
    #[inline]
    pub fn in_flight(&self) -> u64 {
        match &self.kind {
            Kind::Xsk(xsk) => xsk.in_flight(),
            Kind::Tap(_) => 0,
        }
    }

    /// Once a second: buffers back, and an interface that was down tried again.
    pub fn tick(&mut self, pool: &mut Pool, counters: &PortCounters, budget: &mut Budget) {
        match &mut self.kind {
            Kind::Xsk(xsk) => xsk.tick(pool, counters, budget),
            Kind::Tap(tap) => tap.tick(),
        }
    }

    /// Whether only epoll knows of its frames.
    pub fn is_polled(&self) -> bool {
        matches!(self.kind, Kind::Tap(_))
    }

    /// Whether its device is gone for good.
    #[inline]
    pub fn is_gone(&self) -> bool {
        matches!(&self.kind, Kind::Tap(tap) if tap.is_gone())
    }

    /// Rounds without a frame after which it is no longer looked at every round.
    #[inline]
    pub fn patience(&self, rounds: u32) -> u32 {
        match &self.kind {
            Kind::Xsk(_) => rounds,
            // A look costs a system call; epoll tells of what comes later.
            Kind::Tap(tap) => u32::from(!tap.is_drained()),
        }
    }

    /// Lets the driver be polled from here, when busy polling is on.
    #[inline]
    pub fn busy_poll(&self) {
        if let Kind::Xsk(xsk) = &self.kind {
            xsk.socket.busy_poll();
        }
    }
}

impl AsFd for PortSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.kind {
            Kind::Xsk(xsk) => xsk.socket.as_fd(),
            Kind::Tap(tap) => tap.as_fd(),
        }
    }
}
