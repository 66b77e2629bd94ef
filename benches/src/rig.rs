//! A worker on memory ports, fed and timed.
//!
//! The frames are those of the AF_XDP ports: buffers of 4096 bytes in one mapping. Timed is the
//! pipeline from the received batch to the transmit queue, and the return of the buffers; the making
//! of the next frames is not.

use fastpath::{Frame, MemoryIo, MemoryPorts};
use std::collections::VecDeque;
use std::hint::black_box;
use std::sync::Arc;
use switch::publish::{self, Publisher, Reader};
use switch::{Fdb, Millis, PortId, Tables, Worker, WorkerCounters};

use crate::headers::Headers;
use crate::tsc;

/// Frames that are timed at once.
pub const VECTOR: usize = 256;
/// Buffers that frames cycle through.
const WORKING_SET: usize = 4096;
/// When it is; frames come from addresses that were just learned.
const NOW: Millis = Millis(1_000_000);

/// Makes the next frame from the one before.
pub type Vary = Box<dyn FnMut(&mut [u8]) + Send>;

/// Everything that a bench needs to know of a switch.
pub struct Setup {
    /// What is configured.
    pub tables: Tables,
    /// What was learned.
    pub fdb: Fdb,
    /// Where frames come in.
    pub ingress: PortId,
    /// Where every one of them must go out.
    pub egress: PortId,
    /// The first frame; `vary` makes it the next one.
    pub frame: Vec<u8>,
    /// Makes the next frame from the one before.
    pub vary: Vary,
    /// Compares what went in with what came out, and panics on a difference.
    pub check: fn(&[u8], &[u8]),
}

impl Setup {
    /// The second at which the benches run, for what was learned before.
    pub const fn now() -> u32 {
        NOW.seconds()
    }
}

/// A switch, ready to run.
pub struct Rig {
    setup: Setup,
    tables: Reader<Tables>,
    publisher: Option<Publisher<Tables>>,
    fdb: Arc<Fdb>,
    worker: Worker,
    ports: MemoryPorts,
    /// Received frames, the oldest first.
    ready: VecDeque<Frame>,
    batch: Vec<Frame>,
    /// Clocks that each vector took.
    vectors: Vec<u64>,
}

impl Rig {
    /// A switch whose buffers are all filled, and which has been seen to forward rightly.
    pub fn new(mut setup: Setup) -> Rig {
        let fdb = std::mem::replace(&mut setup.fdb, Fdb::new(1));
        Rig::with(setup, Arc::new(fdb))
    }

    /// A second worker of the same switch; of `setup`, its traffic is used.
    pub fn beside(&mut self, setup: Setup) -> Rig {
        Rig::with(Setup { tables: self.tables.current().clone(), ..setup }, self.fdb.clone())
    }

    /// What changes the tables while the switch forwards; none the second time.
    pub fn publisher(&mut self) -> Option<Publisher<Tables>> {
        self.publisher.take()
    }

    fn with(mut setup: Setup, fdb: Arc<Fdb>) -> Rig {
        // An old snapshot that is held on to would keep what changes take the place of.
        let tables = Arc::new(std::mem::take(&mut setup.tables).prepare());
        let counters = Arc::new(WorkerCounters::new(tables.ports.len()));
        let frames = (WORKING_SET + 2 * VECTOR) as u32;
        let ports =
            MemoryPorts::new(tables.ports.len(), frames, VECTOR, counters.clone()).expect("memory");
        let worker = Worker::new(counters, fdb.clone());
        let (publisher, mut readers) = publish::channel(tables, 1);
        let mut rig = Rig {
            setup,
            tables: readers.remove(0),
            publisher: Some(publisher),
            fdb,
            worker,
            ports,
            ready: VecDeque::with_capacity(WORKING_SET),
            batch: Vec::with_capacity(VECTOR),
            vectors: Vec::new(),
        };
        rig.receive(WORKING_SET);
        rig.check();
        rig
    }

    /// Fills `n` buffers with the next frames.
    fn receive(&mut self, n: usize) {
        for _ in 0..n {
            (self.setup.vary)(&mut self.setup.frame);
            let frame = self.ports.io().frame_from(&self.setup.frame).expect("a free buffer");
            self.ready.push_back(frame);
        }
    }

    /// Sends every buffer through once and compares each frame that leaves with the one that came.
    fn check(&mut self) {
        for _ in 0..WORKING_SET / VECTOR {
            let before: Vec<_> = self.ready.iter().take(VECTOR).map(Frame::to_vec).collect();
            self.batch.extend(self.ready.drain(..VECTOR));
            let Setup { ingress, egress, check, .. } = &self.setup;
            self.worker.process(
                self.tables.current(),
                *ingress,
                NOW,
                &mut self.batch,
                self.ports.io(),
            );
            let after = self.ports.take(*egress);
            assert_eq!(after.len(), VECTOR, "frames lost: {:?}", self.drops());
            for (before, after) in before.iter().zip(&after) {
                check(before, after);
            }
            self.receive(VECTOR);
        }
    }

    fn drops(&self) -> Vec<&'static str> {
        let port = self.worker.counters().port(self.setup.ingress);
        let all = switch::DropReason::ALL.iter();
        all.filter(|&&r| port.drops(r) > 0).map(|r| r.name()).collect()
    }

    /// Forwards `vectors` times [`VECTOR`] frames, `batch` at a time: the clocks that it took.
    pub fn run(&mut self, vectors: u64, batch: usize, headers: &Headers) -> u64 {
        let done = self.vectors.len();
        for _ in 0..vectors {
            let mut frames = headers.write(self.ready.drain(..VECTOR).collect());
            let Setup { ingress, egress, .. } = &self.setup;
            let (worker, tables, io) = (&mut self.worker, &mut self.tables, self.ports.io());
            let mut sent = 0;
            let start = tsc::now();
            if batch == VECTOR {
                // Handed over as a whole: moving it would cost a batch what it costs no ring.
                sent += forward(worker, tables, *ingress, *egress, &mut frames, io);
            } else {
                let mut left = frames.into_iter();
                while left.len() > 0 {
                    self.batch.extend(left.by_ref().take(batch));
                    sent += forward(worker, tables, *ingress, *egress, &mut self.batch, io);
                }
            }
            let clocks = tsc::now() - start;
            self.vectors.push(clocks);
            assert_eq!(sent, VECTOR, "frames lost: {:?}", self.drops());
            self.receive(VECTOR);
        }
        self.vectors[done..].iter().sum()
    }

    /// What the switch sees of the tables.
    pub fn reader(&mut self) -> &mut Reader<Tables> {
        &mut self.tables
    }

    /// Forgets what was measured so far.
    pub fn forget(&mut self) {
        self.vectors.clear();
    }

    /// Clocks a packet: the median of all vectors so far, so that a vector during which the core was
    /// taken away, as happens on a busy machine, does not count.
    pub fn clocks_per_packet(&mut self) -> Option<f64> {
        self.quantile(0.5)
    }

    /// Clocks a packet of the vector that one in fifty was faster than: what the code costs while nobody else has a
    /// part of the core.
    pub fn least_clocks_per_packet(&mut self) -> Option<f64> {
        self.quantile(0.02)
    }

    /// Clocks a packet of the vector that this part of all were faster than.
    fn quantile(&mut self, part: f64) -> Option<f64> {
        let last = self.vectors.len().checked_sub(1)?;
        let at = ((last + 1) as f64 * part) as usize;
        let (_, &mut clocks, _) = self.vectors.select_nth_unstable(at.min(last));
        Some(clocks as f64 / VECTOR as f64)
    }
}

/// What is measured: a batch through the pipeline and out, its buffers free again. A function of its
/// own, so that callgrind can tell it from the rest; see [`crate::guard`].
#[inline(never)]
fn forward(
    worker: &mut Worker,
    tables: &mut Reader<Tables>,
    ingress: PortId,
    egress: PortId,
    batch: &mut Vec<Frame>,
    io: &mut MemoryIo,
) -> usize {
    worker.process(black_box(tables.current()), ingress, NOW, batch, io);
    io.drain(egress, |_| ())
}

impl Drop for Rig {
    fn drop(&mut self) {
        use switch::Io as _;
        for frame in self.ready.drain(..).chain(self.batch.drain(..)) {
            self.ports.io().discard(frame);
        }
    }
}
