//! Ports in memory: the pipeline on the same frames and the same pool as on AF_XDP, without an
//! interface. For tests, benches and replay.

use crate::frame::Frame;
use crate::pool::Pool;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use switch::{DropReason, Frame as _, Io, PortCounters, PortId, Waiting, WorkerCounters};

/// Frames that one batch holds at most, as in the worker.
pub use crate::worker::BATCH;

/// A set of ports, each with a queue in and a queue out.
///
/// Frames are counted as the worker counts them, so that conservation can be asserted: see
/// [`MemoryPorts::in_flight`].
pub struct MemoryPorts {
    input: Vec<VecDeque<Frame>>,
    batch: Vec<Frame>,
    io: MemoryIo,
}

/// The pipeline's side of memory ports: buffers, and the queues out.
pub struct MemoryIo {
    pool: Pool,
    output: Vec<Vec<Frame>>,
    /// Frames that a queue out takes before it is full.
    limit: usize,
    counters: Arc<WorkerCounters>,
    /// Frames that wait for a neighbour.
    waiting: Waiting<Frame>,
}

impl MemoryPorts {
    /// Ports 0 to `ports - 1` over a pool of `frames` buffers; queues out take `limit` frames.
    pub fn new(
        ports: usize,
        frames: u32,
        limit: usize,
        counters: Arc<WorkerCounters>,
    ) -> io::Result<MemoryPorts> {
        Ok(MemoryPorts {
            input: (0..ports).map(|_| VecDeque::with_capacity(BATCH)).collect(),
            batch: Vec::with_capacity(BATCH),
            io: MemoryIo {
                pool: Pool::new(frames)?,
                output: (0..ports).map(|_| Vec::with_capacity(BATCH)).collect(),
                limit,
                counters,
                waiting: Waiting::new(1024),
            },
        })
    }

    /// Puts a frame into a port's queue in. False when buffers have run out.
    ///
    /// # Panics
    ///
    /// Here and below, when there is no such port.
    pub fn inject(&mut self, port: PortId, bytes: &[u8]) -> bool {
        match self.io.pool.frame_from(bytes) {
            Some(frame) => {
                self.input[port.index()].push_back(frame);
                true
            }
            None => false,
        }
    }

    /// Runs everything in the queues in through `process`, one batch of one port at a time. What
    /// `process` leaves in the batch is discarded.
    pub fn run(&mut self, mut process: impl FnMut(PortId, &mut Vec<Frame>, &mut MemoryIo)) {
        for (n, queue) in self.input.iter_mut().enumerate() {
            while !queue.is_empty() {
                self.batch.extend(queue.drain(..queue.len().min(BATCH)));
                process(PortId(n as u16), &mut self.batch, &mut self.io);
                self.batch.drain(..).for_each(|frame| self.io.pool.discard(frame));
            }
        }
    }

    /// Empties a port's queue out: the bytes of each frame.
    pub fn take(&mut self, port: PortId) -> Vec<Vec<u8>> {
        let mut taken = Vec::new();
        self.io.drain(port, |frame| taken.push(frame.to_vec()));
        taken
    }

    /// Frames that wait in the queues in. Those in the queues out are counted as sent.
    pub fn in_flight(&self) -> usize {
        self.input.iter().map(VecDeque::len).sum()
    }

    /// The pipeline's side.
    pub fn io(&mut self) -> &mut MemoryIo {
        &mut self.io
    }
}

impl Drop for MemoryPorts {
    fn drop(&mut self) {
        for frame in self.input.iter_mut().flat_map(|queue| queue.drain(..)) {
            self.io.pool.discard(frame);
        }
    }
}

impl MemoryIo {
    /// Looks at each frame in a port's queue out and discards it: for benches, which check and
    /// count without a copy. How many there were.
    #[inline]
    pub fn drain(&mut self, port: PortId, each: impl FnMut(&Frame)) -> usize {
        let queue = &mut self.output[port.index()];
        let count = queue.len();
        queue.iter().for_each(each);
        self.pool.discard_batch(queue);
        count
    }

    /// A frame of these bytes, or none when buffers have run out. The caller must hand it to the
    /// pipeline or discard it.
    pub fn frame_from(&mut self, bytes: &[u8]) -> Option<Frame> {
        self.pool.frame_from(bytes)
    }

    #[cold]
    fn refuse(&mut self, port: PortId, frame: Frame, reason: DropReason) {
        self.counters.port(port).drop(reason);
        self.pool.discard(frame);
    }

    /// The buffers.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }
}

fn count_sent(counters: &PortCounters, frames: &[Frame]) {
    counters.tx_frames.add(frames.len() as u64);
    counters.tx_bytes.add(frames.iter().map(|frame| frame.len() as u64).sum());
}

impl Io for MemoryIo {
    type Frame = Frame;

    #[inline]
    fn send(&mut self, port: PortId, frame: Frame) {
        match self.output.get_mut(port.index()) {
            Some(queue) if queue.len() < self.limit => {
                let counters = self.counters.port(port);
                counters.tx_frames.add(1);
                counters.tx_bytes.add(frame.len() as u64);
                queue.push(frame);
            }
            Some(_) => self.refuse(port, frame, DropReason::TxRingFull),
            None => self.refuse(port, frame, DropReason::PortDown),
        }
    }

    #[inline]
    fn send_all(&mut self, port: PortId, mut frames: impl Iterator<Item = Frame>) {
        if let Some(queue) = self.output.get_mut(port.index()) {
            let (before, room) = (queue.len(), self.limit.saturating_sub(queue.len()));
            queue.extend(frames.by_ref().take(room));
            count_sent(self.counters.port(port), &queue[before..]);
        }
        // None are left, but of a full queue or a port that is not there.
        frames.for_each(|frame| self.send(port, frame));
    }

    #[inline]
    fn send_batch(&mut self, port: PortId, batch: &mut Vec<Frame>) {
        match self.output.get_mut(port.index()) {
            Some(queue) if queue.len() + batch.len() <= self.limit => {
                count_sent(self.counters.port(port), batch);
                queue.append(batch);
            }
            _ => self.send_all(port, batch.drain(..)),
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

    fn waiting(&mut self) -> &mut Waiting<Frame> {
        &mut self.waiting
    }
}

impl Drop for MemoryIo {
    fn drop(&mut self) {
        let output = self.output.iter_mut().flat_map(|queue| queue.drain(..));
        for frame in output.chain(self.waiting.drain()) {
            self.pool.discard(frame);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame to each other port, the last of them being the original.
    fn flood(from: PortId, ports: u16, batch: &mut Vec<Frame>, io: &mut MemoryIo) {
        for frame in batch.drain(..) {
            for to in (0..ports).filter(|&to| to != from.0) {
                match io.duplicate(&frame) {
                    Some(copy) => io.send(PortId(to), copy),
                    None => io.counters.port(from).drop(DropReason::NoBuffer),
                }
            }
            io.discard(frame);
        }
    }

    #[test]
    fn frames_go_in_and_out() {
        let counters = Arc::new(WorkerCounters::new(3));
        let mut ports = MemoryPorts::new(3, 64, 2, counters.clone()).unwrap();
        let large: Vec<u8> = (0..9014).map(|i| i as u8).collect();
        for bytes in [&[1; 60][..], &large, &[2; 60]] {
            assert!(ports.inject(PortId(1), bytes));
        }
        assert_eq!(ports.in_flight(), 3);
        ports.run(|from, batch, io| flood(from, 3, batch, io));
        assert_eq!(ports.in_flight(), 0);
        assert_eq!(ports.take(PortId(0)), [vec![1; 60], large.clone()]);
        assert_eq!(ports.take(PortId(1)), Vec::<Vec<u8>>::new());
        let p2 = counters.port(PortId(2));
        assert_eq!((p2.tx_frames.get(), p2.tx_bytes.get()), (2, 60 + 9014));
        assert_eq!(p2.drops(DropReason::TxRingFull), 1);
        ports.take(PortId(2));
        assert_eq!(ports.io().pool().available(), 64);
    }

    #[test]
    fn sending_to_a_port_that_is_not_there_is_a_drop() {
        let counters = Arc::new(WorkerCounters::new(8));
        let mut ports = MemoryPorts::new(1, 4, 4, counters.clone()).unwrap();
        ports.inject(PortId(0), &[0; 60]);
        ports.run(|_, batch, io| batch.drain(..).for_each(|f| io.send(PortId(5), f)));
        assert_eq!(counters.port(PortId(5)).drops(DropReason::PortDown), 1);
        assert_eq!(ports.io().pool().available(), 4);
    }
}
