//! From one worker to another, for the ports that have fewer queues than there are workers.
//!
//! Only one socket may be bound to a queue, so a worker without a queue of its own on an egress port
//! hands the frame to the worker that has one. The frame stays in the sender's buffers: the
//! receiver copies it into its own, and hands it back. No memory is allocated, and no pool is ever
//! touched by two threads. Ports that podswitch creates have as many queues as there are workers
//! and never come here.

use crate::frame::Frame;
use crossbeam::queue::ArrayQueue;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use switch::PortId;

/// Frames on their way between two workers, both directions of the loop together.
const CAPACITY: usize = 1024;

/// A frame between two workers.
pub(crate) struct Parcel {
    pub port: PortId,
    pub frame: Frame,
}

#[derive(Default)]
struct Loop {
    out: Option<ArrayQueue<Parcel>>,
    back: Option<ArrayQueue<Parcel>>,
}

/// The lanes of all workers, and a flag for each that says that something waits.
pub(crate) struct Lanes {
    /// By sender, then by receiver.
    loops: Vec<Vec<Loop>>,
    waiting: Vec<AtomicBool>,
}

impl Lanes {
    pub fn new(workers: usize) -> Arc<Lanes> {
        let lane = |from: usize, to: usize| {
            // A worker has no lane to itself.
            let queue = || (from != to).then(|| ArrayQueue::new(CAPACITY));
            Loop { out: queue(), back: queue() }
        };
        let loops = (0..workers).map(|f| (0..workers).map(|t| lane(f, t)).collect()).collect();
        Arc::new(Lanes { loops, waiting: (0..workers).map(|_| AtomicBool::new(false)).collect() })
    }
}

/// One worker's end of the lanes.
pub(crate) struct LaneEnd {
    lanes: Arc<Lanes>,
    me: usize,
    /// Frames out and not back yet, by receiver: bounds what either queue must hold.
    out: Vec<usize>,
    /// Receivers that have something new, to be woken.
    woken: Vec<bool>,
}

impl LaneEnd {
    pub fn new(lanes: Arc<Lanes>, me: usize) -> LaneEnd {
        let workers = lanes.waiting.len();
        LaneEnd { lanes, me, out: vec![0; workers], woken: vec![false; workers] }
    }

    /// Hands a frame to worker `to`, or returns it when too many are under way.
    pub fn send(&mut self, to: usize, parcel: Parcel) -> Result<(), Frame> {
        let Some(queue) = self.lanes.loops[self.me].get(to).and_then(|l| l.out.as_ref()) else {
            return Err(parcel.frame);
        };
        if self.out[to] == CAPACITY {
            return Err(parcel.frame);
        }
        queue.push(parcel).map_err(|parcel| parcel.frame)?;
        self.out[to] += 1;
        self.woken[to] = true;
        Ok(())
    }

    /// Tells the receivers of what was sent since the last call; `wake` wakes one that may sleep.
    #[inline]
    pub fn flush(&mut self, mut wake: impl FnMut(usize)) {
        for (to, woken) in self.woken.iter_mut().enumerate() {
            if core::mem::take(woken) && !self.lanes.waiting[to].swap(true, Ordering::AcqRel) {
                wake(to);
            }
        }
    }

    /// Whether something waits for this worker; the question clears the answer.
    #[inline]
    pub fn take_waiting(&self) -> bool {
        let flag = &self.lanes.waiting[self.me];
        flag.load(Ordering::Relaxed) && flag.swap(false, Ordering::AcqRel)
    }

    /// A frame that another worker sent here, and that worker.
    pub fn receive(&mut self) -> Option<(usize, Parcel)> {
        let lanes = self.lanes.loops.iter().enumerate();
        lanes.filter_map(|(from, l)| Some((from, l[self.me].out.as_ref()?.pop()?))).next()
    }

    /// Hands a frame back to the worker that sent it, once it was copied.
    pub fn give_back(&mut self, from: usize, parcel: Parcel) {
        let queue = self.lanes.loops[from][self.me].back.as_ref();
        // Cannot fail: no more frames are under way than the queue holds.
        if let Some(Err(parcel)) = queue.map(|queue| queue.push(parcel)) {
            core::mem::forget(parcel.frame);
        }
        self.woken[from] = true;
    }

    /// A frame of this worker's that came back.
    pub fn returned(&mut self) -> Option<Frame> {
        for (to, out) in self.out.iter_mut().enumerate() {
            if *out > 0
                && let Some(queue) = &self.lanes.loops[self.me][to].back
                && let Some(parcel) = queue.pop()
            {
                *out -= 1;
                return Some(parcel.frame);
            }
        }
        None
    }

    /// A frame of this worker's that nobody received; for the end, when no other worker runs.
    pub fn unreceived(&mut self) -> Option<Parcel> {
        let mut lanes = self.lanes.loops[self.me].iter();
        lanes.find_map(|l| l.out.as_ref()?.pop())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::Pool;
    use std::thread::yield_now;

    #[test]
    fn frames_cross_and_come_back() {
        const COUNT: usize = if cfg!(miri) { 50 } else { 20_000 };
        let lanes = Lanes::new(2);
        let mut end = LaneEnd::new(lanes.clone(), 0);
        std::thread::scope(|s| {
            s.spawn(move || {
                let mut end = LaneEnd::new(lanes, 1);
                let mut pool = Pool::new(4).unwrap();
                let mut n = 0;
                while n < COUNT {
                    let Some((from, parcel)) = end.receive() else {
                        yield_now();
                        continue;
                    };
                    let copy = pool.duplicate(&parcel.frame).unwrap();
                    assert_eq!(copy.to_vec(), n.to_ne_bytes().repeat(600));
                    assert_eq!((from, parcel.port), (0, PortId(7)));
                    pool.discard(copy);
                    end.give_back(from, parcel);
                    n += 1;
                }
            });
            let mut pool = Pool::new(32).unwrap();
            let (mut sent, mut back) = (0, 0);
            while back < COUNT {
                if sent < COUNT
                    && let Some(frame) = pool.frame_from(&sent.to_ne_bytes().repeat(600))
                {
                    end.send(1, Parcel { port: PortId(7), frame }).unwrap();
                    sent += 1;
                }
                while let Some(frame) = end.returned() {
                    pool.discard(frame);
                    back += 1;
                }
                yield_now();
            }
            assert_eq!(pool.available(), 32);
        });
    }

    #[test]
    fn no_more_are_under_way_than_the_queues_hold() {
        let lanes = Lanes::new(2);
        let (mut a, mut b) = (LaneEnd::new(lanes.clone(), 0), LaneEnd::new(lanes, 1));
        let mut pool = Pool::new(CAPACITY as u32 + 1).unwrap();
        for _ in 0..CAPACITY {
            let frame = pool.alloc().unwrap();
            assert!(a.send(1, Parcel { port: PortId(0), frame }).is_ok());
        }
        let frame = pool.alloc().unwrap();
        let frame = a.send(1, Parcel { port: PortId(0), frame }).unwrap_err();
        let frame = a.send(0, Parcel { port: PortId(0), frame }).unwrap_err();
        pool.discard(frame);
        let mut wakes = Vec::new();
        a.flush(|to| wakes.push(to));
        a.flush(|to| wakes.push(to));
        assert_eq!(wakes, [1]);
        assert!(b.take_waiting() && !b.take_waiting());
        let (from, parcel) = b.receive().unwrap();
        b.give_back(from, parcel);
        pool.discard(a.returned().unwrap());
        while let Some(parcel) = a.unreceived() {
            pool.discard(parcel.frame);
        }
        assert_eq!(pool.outstanding(), 0);
    }
}
