//! Rate limits of ports: what comes from a port waits before anything else happens to it, what goes to
//! one waits when all else has happened. A queueing discipline of the kernel's could do neither: AF_XDP
//! bypasses those of the interface that it sends through.

use super::vlan::Outlet;
use super::{Millis, Worker};
use crate::counters::WorkerCounters;
use crate::frame::{Frame, Io};
use crate::ids::PortId;
use crate::reason::DropReason;
use crate::tables::{Port, Tables, TokenBucket};
use crate::waiting::{Direction, Limited};
use std::cell::Cell;

/// Milliseconds after which a queue is looked at, even if its limit says later: limits change.
const LOOK_AGAIN: u64 = 100;

/// When a worker's queues are to be looked at.
pub(super) struct Shaper {
    /// The millisecond; the end of time when all are empty.
    due: Cell<u64>,
}

impl Default for Shaper {
    fn default() -> Shaper {
        Shaper { due: Cell::new(u64::MAX) }
    }
}

/// What it takes to know whether a frame may be sent now.
#[derive(Clone, Copy)]
pub(super) struct Limits<'a> {
    pub tables: &'a Tables,
    pub shaper: &'a Shaper,
    /// Milliseconds.
    pub now: u64,
}

impl<'a> Limits<'a> {
    /// None where no port has a limit on what goes to it: then nobody needs to ask for every frame.
    #[inline]
    pub fn of(tables: &'a Tables, shaper: &'a Shaper, now: Millis) -> Option<Limits<'a>> {
        tables.shaped.then_some(Limits { tables, shaper, now: now.0 })
    }
}

fn bucket(port: &Port, direction: Direction) -> Option<&TokenBucket> {
    match direction {
        Direction::ToPort => port.policy.to_port.as_deref(),
        Direction::FromPort => port.policy.from_port.as_deref(),
    }
}

/// Sends a frame out of a port, now or when the port's limit allows.
#[cold]
pub(super) fn send<I: Io>(port: PortId, frame: I::Frame, out: &mut Outlet<'_, I>) {
    let of = (port, Direction::ToPort);
    let Some(limits) = out.limits else { return out.emit(port, frame) };
    match limits.tables.port(port).and_then(|p| bucket(p, Direction::ToPort)) {
        Some(bucket) if !passes(limits.now, of, bucket, &frame, out.io) => {
            wait((limits.shaper, limits.now), of, bucket, frame, out.counters, out.io);
        }
        _ => out.emit(port, frame),
    }
}

/// Lets wait what a port sent faster than it may; the others stay in the batch.
#[cold]
pub(super) fn receive<I: Io>(
    shaper: &Shaper,
    now: Millis,
    (port, bucket): (PortId, &TokenBucket),
    batch: &mut Vec<I::Frame>,
    counters: &WorkerCounters,
    io: &mut I,
) {
    let of = (port, Direction::FromPort);
    let pass = batch.iter().take_while(|frame| passes(now.0, of, bucket, *frame, io)).count();
    for frame in batch.drain(pass..) {
        wait((shaper, now.0), of, bucket, frame, counters, io);
    }
}

/// Whether a frame need not wait: nothing is before it, and the bucket has tokens for it.
fn passes<I: Io>(
    now: u64,
    of: Limited,
    bucket: &TokenBucket,
    frame: &I::Frame,
    io: &mut I,
) -> bool {
    io.waiting().backlog.is_empty(of) && bucket.take(now, frame.len())
}

fn wait<I: Io>(
    (shaper, now): (&Shaper, u64),
    of: Limited,
    bucket: &TokenBucket,
    frame: I::Frame,
    counters: &WorkerCounters,
    io: &mut I,
) {
    let (len, counters) = (frame.len(), counters.port(of.0));
    let backlog = &mut io.waiting().backlog;
    let first = backlog.is_empty(of);
    match backlog.push(of, bucket, frame) {
        Ok(()) => {
            counters.held.add(1);
            if first {
                shaper.look(now, bucket.ready_at(len));
            }
        }
        Err(frame) => {
            counters.drop(DropReason::RateLimited);
            io.discard(frame);
        }
    }
}

impl Shaper {
    /// Asks to be looked at when a frame is ready: not before the next millisecond, and soon enough.
    fn look(&self, now: u64, ready: u64) {
        self.due.set(self.due.get().min(ready.clamp(now + 1, now + LOOK_AGAIN)));
    }
}

impl Worker {
    /// When [`Worker::tick`] is to be called next, whether or not there are frames; none where nothing
    /// waits for a rate limit.
    pub fn due(&self) -> Option<Millis> {
        let due = self.shaper.due.get();
        (due != u64::MAX).then_some(Millis(due))
    }

    /// Lets go on what has waited for long enough.
    #[inline]
    pub(super) fn release<I: Io>(&self, tables: &Tables, now: Millis, io: &mut I) {
        if now.0 >= self.shaper.due.get() {
            self.release_due(tables, now, io);
        }
    }

    #[cold]
    fn release_due<I: Io>(&self, tables: &Tables, now: Millis, io: &mut I) {
        self.shaper.due.set(u64::MAX);
        let out = &mut self.outlet(tables, now, io);
        let mut n = 0;
        // What comes from a port may have to wait for another, whose queue is then the last.
        while let Some(of) = out.io.waiting().backlog.busy(n) {
            let bucket = tables.port(of.0).and_then(|port| bucket(port, of.1));
            n += 1;
            let mut ready = core::mem::take(&mut out.io.waiting().backlog.ready);
            while let Some(len) = out.io.waiting().backlog.head(of) {
                if let Some(bucket) = bucket
                    && !bucket.take(now.0, len)
                {
                    self.shaper.look(now.0, bucket.ready_at(len));
                    break;
                }
                ready.extend(out.io.waiting().backlog.pop(of));
            }
            self.counters().port(of.0).held.sub(ready.len() as u64);
            self.go_on(tables, now, of, &mut ready, out);
            out.io.waiting().backlog.ready = ready;
            if out.io.waiting().backlog.is_empty(of) {
                // Another one is in its place.
                n -= 1;
            }
        }
    }

    /// Frames of a queue go on from where they had to wait.
    fn go_on<I: Io>(
        &self,
        tables: &Tables,
        now: Millis,
        (port, direction): Limited,
        ready: &mut Vec<I::Frame>,
        out: &mut Outlet<'_, I>,
    ) {
        match (direction, tables.port(port)) {
            (Direction::ToPort, _) => ready.drain(..).for_each(|frame| out.emit(port, frame)),
            (Direction::FromPort, Some(port)) => {
                let bytes = ready.iter().map(|frame| frame.len() as u64).sum();
                self.batch(tables, port, now, bytes).run(ready, out.io);
            }
            (Direction::FromPort, None) => {
                for frame in ready.drain(..) {
                    self.counters().port(port).drop(DropReason::PortUnknown);
                    out.io.discard(frame);
                }
            }
        }
    }
}
