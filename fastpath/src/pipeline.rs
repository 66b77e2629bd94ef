//! What a worker does with a batch.

use std::sync::Arc;
use switch::publish::Reader;
use switch::{Fdb, Io, Millis, PortId, Tables, WorkerCounters};

/// What happens to frames between reception and transmission. One per worker.
pub trait Pipeline: Send + 'static {
    /// Takes every frame out of `batch`, which `ingress` received, and hands it to [`Io::send`]
    /// or [`Io::discard`].
    fn process<I: Io>(
        &mut self,
        ingress: PortId,
        now: Millis,
        batch: &mut Vec<I::Frame>,
        io: &mut I,
    );

    /// Called once a second and when [`Pipeline::due`] says, for what is due without a frame.
    fn tick<I: Io>(&mut self, now: Millis, io: &mut I) {
        let _ = (now, io);
    }

    /// When [`Pipeline::tick`] is to be called next, if that is earlier than a second from the last.
    fn due(&self) -> Option<Millis> {
        None
    }

    /// Called before the worker sleeps: the place to let go of what is out of date.
    fn refresh(&mut self) {}
}

/// The switch: its pipeline, on the tables published last.
pub struct Switch {
    worker: switch::Worker,
    tables: Reader<Tables>,
}

impl Switch {
    /// The switch on one worker.
    pub fn new(counters: Arc<WorkerCounters>, fdb: Arc<Fdb>, tables: Reader<Tables>) -> Switch {
        Switch { worker: switch::Worker::new(counters, fdb), tables }
    }
}

impl Pipeline for Switch {
    #[inline]
    fn process<I: Io>(
        &mut self,
        ingress: PortId,
        now: Millis,
        batch: &mut Vec<I::Frame>,
        io: &mut I,
    ) {
        self.worker.process(self.tables.current(), ingress, now, batch, io);
    }

    fn tick<I: Io>(&mut self, now: Millis, io: &mut I) {
        self.worker.tick(self.tables.current(), now, io);
    }

    #[inline]
    fn due(&self) -> Option<Millis> {
        self.worker.due()
    }

    fn refresh(&mut self) {
        self.tables.current();
    }
}
