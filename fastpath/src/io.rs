//! What a worker owns: its buffers, its sockets, its counters. The pipeline sees it as
//! [`switch::Io`].

use crate::bulk::Bulk;
use crate::fill::{Budget, Reach};
use crate::frame::Frame;
use crate::lane::{LaneEnd, Parcel};
use crate::pool::{Pool, SocketId};
use crate::port::{Endpoint, PortSocket, Tunnels};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use switch::ids::MAX_PORTS;
use switch::waiting::Direction;
use switch::{DropReason, Io, PortCounters, PortId, Waiting, WorkerCounters};

/// The part of the buffers that frames may take which wait for rate limits: one in so many.
const SHAPED_SHARE: usize = 8;

/// What readers may see of a worker, besides its counters.
pub(crate) struct Gauges {
    /// Frames in flight by egress port; a difference that wraps, since a frame between two workers
    /// is added by one and taken off by the other.
    in_flight: Box<[AtomicU64]>,
    /// Free buffers, as of the last round.
    pub free: AtomicU32,
    /// In the last second a busy socket wanted more buffers than there were.
    pub pressed: AtomicBool,
    /// The device of a port was deleted.
    pub gone: AtomicBool,
}

impl Gauges {
    pub fn new() -> Arc<Gauges> {
        let in_flight = (0..MAX_PORTS).map(|_| AtomicU64::new(0)).collect();
        let (pressed, gone) = (AtomicBool::new(false), AtomicBool::new(false));
        Arc::new(Gauges { in_flight, free: AtomicU32::new(0), pressed, gone })
    }

    /// Only by the worker: see [`switch::Counter::add`].
    fn add(&self, port: PortId, n: u64) {
        if let Some(gauge) = self.in_flight.get(port.index()) {
            gauge.store(gauge.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
        }
    }

    pub fn in_flight(&self, port: PortId) -> u64 {
        self.in_flight.get(port.index()).map_or(0, |g| g.load(Ordering::Relaxed))
    }
}

/// How a worker reaches a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) enum Way {
    /// There is no such port.
    #[default]
    None,
    /// Through a socket of its own.
    Socket(SocketId),
    /// Through the socket of another worker.
    Worker(u8),
}

/// Frames in and out of one worker.
pub struct WorkerIo {
    pub(crate) pool: Pool,
    pub(crate) budget: Budget,
    /// By [`SocketId`].
    pub(crate) sockets: Vec<Option<PortSocket>>,
    /// By [`PortId`].
    ways: Box<[Way]>,
    /// Sockets with something in their TX ring that the kernel has not taken.
    dirty: Vec<SocketId>,
    pub(crate) counters: Arc<WorkerCounters>,
    pub(crate) gauges: Arc<Gauges>,
    pub(crate) lanes: LaneEnd,
    /// Frames that wait for a neighbour or a rate limit.
    waiting: Waiting<Frame>,
    /// What superpackets may be made of.
    tunnels: Tunnels,
    /// The way past the TX rings, where there is one.
    bulk: Option<Bulk>,
}

impl WorkerIo {
    pub(crate) fn new(
        pool: Pool,
        counters: Arc<WorkerCounters>,
        gauges: Arc<Gauges>,
        lanes: LaneEnd,
        bulk: Option<Bulk>,
    ) -> WorkerIo {
        WorkerIo {
            budget: Budget::new(pool.capacity()),
            waiting: Waiting::new(pool.capacity() as usize / SHAPED_SHARE),
            pool,
            sockets: Vec::new(),
            ways: vec![Way::None; MAX_PORTS].into(),
            dirty: Vec::new(),
            counters,
            gauges,
            lanes,
            tunnels: Arc::new([]),
            bulk,
        }
    }

    /// Takes a socket of `port` into service. The first one of a port transmits.
    pub(crate) fn adopt(
        &mut self,
        id: SocketId,
        port: PortId,
        endpoint: Endpoint,
        max_frame: usize,
    ) {
        let index = usize::from(id.0);
        if self.sockets.len() <= index {
            self.sockets.resize_with(index + 1, || None);
            self.dirty.reserve(self.sockets.len());
        }
        let mut socket = PortSocket::new(id, port, endpoint, max_frame, &mut self.budget);
        socket.refill(&mut self.pool, &mut self.budget);
        socket.set_tunnels(&self.tunnels);
        self.sockets[index] = Some(socket);
        if !matches!(self.way(port), Way::Socket(_)) {
            self.set_way(port, Way::Socket(id));
        }
    }

    /// Says whether a port's frames may go in bulk from here on.
    pub(crate) fn set_in_bulk(&mut self, port: PortId, in_bulk: bool) {
        for socket in self.sockets.iter_mut().flatten().filter(|s| s.port == port) {
            socket.set_in_bulk(in_bulk);
        }
    }

    /// Names the tunnels whose packets may be sent as superpackets.
    pub(crate) fn set_tunnels(&mut self, tunnels: Tunnels) {
        for socket in self.sockets.iter_mut().flatten() {
            socket.set_tunnels(&tunnels);
        }
        self.tunnels = tunnels;
    }

    /// Takes the sockets of `port` out of service.
    pub(crate) fn release(&mut self, port: PortId) -> Vec<(SocketId, Endpoint)> {
        self.set_way(port, Way::None);
        self.forget_waiting(port);
        let counters = self.counters.port(port);
        let mut released = Vec::new();
        for slot in &mut self.sockets {
            if slot.as_ref().is_some_and(|s| s.port == port)
                && let Some(socket) = slot.take()
            {
                self.dirty.retain(|&id| id != socket.id);
                self.gauges.add(port, socket.reported.wrapping_neg());
                released.push(socket.finish(&mut self.pool, counters, &mut self.budget));
            }
        }
        released
    }

    /// Begins to take back buffers that ports do not need, until there will be twice what is kept for
    /// transmission: first the bursts of silent ports, then all but their floors, then those of
    /// ports that are not busy. How many that will be.
    pub(crate) fn recall(&mut self) -> u32 {
        let goal = self.budget.comfort();
        let mut n = 0;
        for reach in Reach::ALL {
            for socket in self.sockets.iter_mut().flatten() {
                if self.pool.available() + n >= goal {
                    return n;
                }
                n += socket.recall(&mut self.pool, reach);
            }
        }
        n
    }

    /// Takes back the buffers that [`WorkerIo::recall`] chose, and gives each port what it is owed.
    pub(crate) fn recalled(&mut self) {
        for socket in self.sockets.iter_mut().flatten() {
            socket.recalled(&mut self.pool);
        }
        for socket in self.sockets.iter_mut().flatten() {
            socket.refill(&mut self.pool, &mut self.budget);
        }
        self.gauges.free.store(self.pool.available(), Ordering::Relaxed);
    }

    /// Drops what waits for a rate limit of `port`, whose identifier another may have next.
    pub(crate) fn forget_waiting(&mut self, port: PortId) {
        let counters = self.counters.port(port);
        for direction in [Direction::ToPort, Direction::FromPort] {
            while let Some(frame) = self.waiting.backlog.pop((port, direction)) {
                counters.held.sub(1);
                counters.drop(DropReason::Shutdown);
                self.pool.discard(frame);
            }
        }
    }

    pub(crate) fn way(&self, port: PortId) -> Way {
        self.ways.get(port.index()).copied().unwrap_or_default()
    }

    pub(crate) fn set_way(&mut self, port: PortId, way: Way) {
        if let Some(slot) = self.ways.get_mut(port.index()) {
            *slot = way;
        }
    }

    /// Flushes what the pipeline sent: in bulk what may be, then one kick for each port. Whether all went out; what did not
    /// is tried again at the next call.
    #[inline]
    pub(crate) fn flush(&mut self) -> bool {
        if let Some(bulk) = &mut self.bulk {
            bulk.flush(&self.dirty, &mut self.sockets, &mut self.pool, &self.counters);
        }
        let (pool, counters, gauges) = (&mut self.pool, &self.counters, &self.gauges);
        let budget = &mut self.budget;
        let sockets = &mut self.sockets;
        self.dirty.retain(|id| {
            let Some(Some(socket)) = sockets.get_mut(usize::from(id.0)) else { return false };
            socket.dirty = !socket.flush(pool, counters.port(socket.port), budget);
            socket.expect(pool, budget);
            let now = socket.in_flight();
            if now != socket.reported {
                gauges.add(socket.port, now.wrapping_sub(socket.reported));
                socket.reported = now;
            }
            socket.dirty
        });
        self.dirty.is_empty()
    }

    /// Sends what other workers handed over, and takes back what they are done with. Whether there
    /// was anything.
    pub(crate) fn exchange(&mut self) -> bool {
        let mut any = false;
        while let Some(frame) = self.lanes.returned() {
            self.pool.discard(frame);
            any = true;
        }
        while let Some((from, parcel)) = self.lanes.receive() {
            let port = parcel.port;
            self.gauges.add(port, 1u64.wrapping_neg());
            match (self.way(port), self.pool.duplicate(&parcel.frame)) {
                (Way::Socket(_), Some(copy)) => self.send(port, copy),
                (_, copy) => {
                    let reason = match copy {
                        Some(copy) => {
                            self.pool.discard(copy);
                            DropReason::PortDown
                        }
                        None => DropReason::NoBuffer,
                    };
                    self.counters.port(port).drop(reason);
                }
            }
            self.lanes.give_back(from, parcel);
            any = true;
        }
        any
    }

    /// Empties the lanes and what waits for good, when no worker runs any more.
    pub(crate) fn close_lanes(&mut self) {
        for frame in self.waiting.drain() {
            self.pool.discard(frame);
        }
        while let Some(frame) = self.lanes.returned() {
            self.pool.discard(frame);
        }
        while let Some(parcel) = self.lanes.unreceived() {
            self.gauges.add(parcel.port, 1u64.wrapping_neg());
            self.counters.port(parcel.port).drop(DropReason::Shutdown);
            self.pool.discard(parcel.frame);
        }
    }

    /// The worker's own socket of a port, with what it sends by. It will be flushed.
    #[inline]
    fn socket(
        &mut self,
        port: PortId,
    ) -> Option<(&mut PortSocket, &mut Pool, &PortCounters, &Budget)> {
        let Way::Socket(id) = self.way(port) else { return None };
        let socket = self.sockets.get_mut(usize::from(id.0))?.as_mut()?;
        if !socket.dirty && socket.needs_flush() {
            socket.dirty = true;
            self.dirty.push(id);
        }
        Some((socket, &mut self.pool, self.counters.port(port), &self.budget))
    }

    #[cold]
    fn send_elsewhere(&mut self, port: PortId, frame: Frame) {
        let reason = match self.way(port) {
            Way::Worker(to) => match self.lanes.send(usize::from(to), Parcel { port, frame }) {
                Ok(()) => {
                    self.gauges.add(port, 1);
                    return;
                }
                Err(frame) => {
                    self.pool.discard(frame);
                    DropReason::TxRingFull
                }
            },
            _ => {
                self.pool.discard(frame);
                DropReason::PortDown
            }
        };
        self.counters.port(port).drop(reason);
    }
}

impl Io for WorkerIo {
    type Frame = Frame;

    #[inline]
    fn send(&mut self, port: PortId, frame: Frame) {
        self.send_all(port, std::iter::once(frame));
    }

    #[inline]
    fn send_all(&mut self, port: PortId, frames: impl Iterator<Item = Frame>) {
        match self.socket(port) {
            Some((socket, pool, counters, budget)) => {
                socket.send_all(pool, frames, counters, budget);
            }
            None => frames.for_each(|frame| self.send_elsewhere(port, frame)),
        }
    }

    #[inline]
    fn takes_superpackets(&mut self, port: PortId) -> bool {
        self.socket(port).is_some_and(|(s, pool, counters, _)| s.takes_superpackets(pool, counters))
    }

    fn send_superpacket(&mut self, port: PortId, frame: Frame) -> Result<(), Frame> {
        match self.socket(port) {
            Some((socket, pool, counters, _)) => socket.send_superpacket(pool, frame, counters),
            None => Err(frame),
        }
    }

    #[inline]
    fn discard(&mut self, frame: Frame) {
        self.pool.discard(frame);
    }

    #[inline]
    fn alloc(&mut self) -> Option<Frame> {
        self.pool.alloc()
    }

    fn duplicate(&mut self, frame: &Frame) -> Option<Frame> {
        self.pool.duplicate(frame)
    }

    #[inline]
    fn waiting(&mut self) -> &mut Waiting<Frame> {
        &mut self.waiting
    }
}
