//! A switch on the heap that accounts for every frame it was given.

use std::sync::Arc;
use switch::heap::{HeapFrame, HeapIo};
use switch::{DropReason, Fdb, Millis, PortId, Tables, Worker, WorkerCounters};

/// A switch under test: its tables, one worker, and a clock that the test moves.
pub struct Lab {
    pub tables: Tables,
    pub fdb: Arc<Fdb>,
    pub counters: Arc<WorkerCounters>,
    pub now: Millis,
    /// How many more buffers the pool has for copies.
    pub budget: usize,
    /// What ports answer in a batch when they are asked to take superpackets at times: see
    /// [`HeapIo::answers`].
    pub answers: Vec<bool>,
    worker: Worker,
}

/// What became of a batch.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Frames sent, in order.
    pub sent: Vec<(PortId, Vec<u8>)>,
    /// Drops by name, those that happened.
    pub drops: Vec<(DropReason, u64)>,
    /// [`switch::Frame::gso_size`] of each frame sent.
    pub gso_sizes: Vec<u16>,
    /// Frames that the switch made.
    pub originated: u64,
    /// Frames that became part of another one.
    pub coalesced: u64,
}

impl Lab {
    pub fn new(tables: Tables) -> Lab {
        Lab::sharing(tables, Arc::new(Fdb::new(4096)))
    }

    /// A switch that sends every frame the general way.
    pub fn general(tables: Tables) -> Lab {
        let mut lab = Lab::new(tables);
        lab.tables.adjacencies = Default::default();
        lab
    }

    /// A switch whose learned addresses are shared with another worker's.
    pub fn sharing(tables: Tables, fdb: Arc<Fdb>) -> Lab {
        let tables = tables.prepare();
        // A slot more, for frames from ports that are not there.
        let counters = Arc::new(WorkerCounters::new(tables.ports.len() + 1));
        let worker = Worker::new(counters.clone(), fdb.clone());
        Lab {
            tables,
            fdb,
            counters,
            now: Millis(1_000_000),
            budget: usize::MAX,
            answers: Vec::new(),
            worker,
        }
    }

    /// Moves the clock.
    pub fn advance(&mut self, seconds: u64) {
        self.now.0 += 1000 * seconds;
    }

    /// Processes a batch and asserts that every frame of it is accounted for: received +
    /// originated = sent + coalesced + dropped by name, on the ingress port and nowhere else.
    pub fn process(&mut self, port: PortId, frames: Vec<HeapFrame>) -> Outcome {
        let count = frames.len() as u64;
        let bytes: u64 = frames.iter().map(|f| switch::Frame::len(f) as u64).sum();
        let before = self.totals();
        let mut batch = frames;
        let answers = self.answers.iter().copied().collect();
        let mut io = HeapIo { budget: self.budget, answers, ..HeapIo::default() };
        self.worker.process(&self.tables, port, self.now, &mut batch, &mut io);
        assert!(batch.is_empty(), "the batch was not drained");
        let copies = (self.budget - io.budget) as u64;
        self.budget = io.budget;

        let after = self.totals();
        let mut outcome = Outcome { sent: io.sent, gso_sizes: io.gso_sizes, ..Outcome::default() };
        let ports = before.chunks(STRIDE).zip(after.chunks(STRIDE));
        let slot = port.index().min(self.counters.ports().len() - 1);
        for (n, (old, new)) in ports.enumerate() {
            if n != slot {
                assert_eq!(old, new, "a counter of port {n} changed: the frame came from {port}");
                continue;
            }
            let grown = |i: usize| new[i] - old[i];
            assert_eq!(grown(0), count, "frames received");
            assert_eq!(grown(1), bytes, "bytes received");
            outcome.originated = grown(2);
            outcome.coalesced = grown(5);
            // Counted by whoever transmits, once the interface has taken the frame.
            assert_eq!((grown(3), grown(4)), (0, 0), "frames and bytes sent");
            let drops = DropReason::ALL.iter().enumerate().map(|(i, &r)| (r, grown(DROPS + i)));
            outcome.drops.extend(drops.filter(|d| d.1 > 0));
        }
        let dropped: u64 = outcome.drops.iter().map(|d| d.1).sum();
        assert_eq!(
            count + outcome.originated,
            outcome.sent.len() as u64 + outcome.coalesced + dropped,
            "received + originated = sent + coalesced + dropped: {outcome:?}"
        );
        assert_eq!(io.parts, count + copies, "buffers sent and given back: {outcome:?}");
        outcome
    }

    /// Processes one frame.
    pub fn receive(&mut self, port: PortId, frame: &[u8]) -> Outcome {
        self.process(port, vec![HeapFrame::new(frame)])
    }

    /// Processes one frame that must not be dropped: what was sent.
    pub fn send(&mut self, port: PortId, frame: &[u8]) -> Vec<(PortId, Vec<u8>)> {
        let outcome = self.receive(port, frame);
        assert_eq!(outcome.drops, [], "of a frame from port {port}");
        outcome.sent
    }

    /// Processes one frame that must leave as exactly one frame through `to`: that frame.
    pub fn pass(&mut self, port: PortId, frame: &[u8], to: PortId) -> Vec<u8> {
        let mut sent = self.send(port, frame);
        assert_eq!(sent.len(), 1, "frames sent for one from port {port}");
        let (egress, bytes) = sent.remove(0);
        assert_eq!(egress, to, "the port that the frame left through");
        bytes
    }

    /// Processes one frame that must end in exactly one drop: the reason.
    pub fn dropped(&mut self, port: PortId, frame: &[u8]) -> DropReason {
        self.dropped_frame(port, HeapFrame::new(frame))
    }

    /// Processes one frame that must be dropped, and its sender told: the reason, and the error.
    pub fn refused(&mut self, port: PortId, frame: &[u8]) -> (DropReason, PortId, Vec<u8>) {
        let mut outcome = self.receive(port, frame);
        assert_eq!((outcome.sent.len(), outcome.originated), (1, 1), "one error: {outcome:?}");
        let (egress, error) = outcome.sent.remove(0);
        match outcome.drops[..] {
            [(reason, 1)] => (reason, egress, error),
            ref other => panic!("expected one drop, got {other:?}"),
        }
    }

    /// Like [`Lab::dropped`] for a frame in a buffer of its own making.
    pub fn dropped_frame(&mut self, port: PortId, frame: HeapFrame) -> DropReason {
        let outcome = self.process(port, vec![frame]);
        assert!(outcome.sent.is_empty(), "sent instead of dropped: {:?}", outcome.sent);
        match outcome.drops[..] {
            [(reason, 1)] => reason,
            ref other => panic!("expected one drop, got {other:?}"),
        }
    }

    /// The ports that a frame was sent to, sorted.
    pub fn ports(&mut self, port: PortId, frame: &[u8]) -> Vec<PortId> {
        let mut ports: Vec<_> = self.send(port, frame).into_iter().map(|s| s.0).collect();
        ports.sort();
        ports
    }

    /// Every counter of every port, [`STRIDE`] of them to a port.
    fn totals(&self) -> Vec<u64> {
        let mut totals = Vec::with_capacity(self.counters.ports().len() * STRIDE);
        for p in self.counters.ports() {
            totals.extend([&p.rx_frames, &p.rx_bytes, &p.originated].map(|c| c.get()));
            totals.extend([&p.tx_frames, &p.tx_bytes, &p.coalesced].map(|c| c.get()));
            totals.extend(DropReason::ALL.iter().map(|&r| p.drops(r)));
        }
        totals
    }
}

/// Counters of one port: received frames and bytes, originated frames, sent frames and bytes, coalesced
/// frames, and the drops.
const STRIDE: usize = DROPS + DropReason::COUNT;
const DROPS: usize = 6;
