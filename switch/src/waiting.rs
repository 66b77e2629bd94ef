//! Frames that wait: for a neighbour's MAC address, or for a port's rate limit.

use crate::frame::Frame;
use crate::ids::PortId;
use crate::pipeline::{MAX_HELD, MAX_PENDING};
use crate::tables::TokenBucket;
use std::collections::VecDeque;

/// The frames that wait in one worker: what an implementation of [`crate::Io`] keeps for the pipeline.
#[derive(Debug)]
pub struct Waiting<F> {
    neighbors: Vec<VecDeque<F>>,
    /// Those that wait for a rate limit.
    pub backlog: Backlog<F>,
}

impl<F: Frame> Waiting<F> {
    /// How many neighbours frames can wait for.
    pub const QUEUES: usize = MAX_PENDING;

    /// Nothing waits; `buffers` are the most that frames may take which wait for rate limits.
    pub fn new(buffers: usize) -> Waiting<F> {
        let queue = || VecDeque::with_capacity(MAX_HELD);
        Waiting {
            neighbors: (0..Waiting::<F>::QUEUES).map(|_| queue()).collect(),
            backlog: Backlog {
                queues: Vec::new(),
                busy: Vec::new(),
                held: 0,
                buffers,
                ready: Vec::new(),
            },
        }
    }

    /// Keeps a frame in the neighbours' queue of this number until it is taken, or gives it back when
    /// there is no such queue or no room in it.
    pub fn hold(&mut self, queue: u16, frame: F) -> Result<(), F> {
        match self.neighbors.get_mut(usize::from(queue)) {
            Some(queue) if queue.len() < MAX_HELD => {
                queue.push_back(frame);
                Ok(())
            }
            _ => Err(frame),
        }
    }

    /// The frame that has waited in a neighbours' queue for longest.
    pub fn take_held(&mut self, queue: u16) -> Option<F> {
        self.neighbors.get_mut(usize::from(queue))?.pop_front()
    }

    /// All that waits, for an end.
    pub fn drain(&mut self) -> impl Iterator<Item = F> + '_ {
        let limited = self.backlog.queues.iter_mut().flat_map(|q| q.frames.drain(..));
        self.neighbors.iter_mut().flat_map(|q| q.drain(..)).chain(limited)
    }
}

/// The direction of a rate limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// Out of the switch, towards the pod.
    ToPort,
    /// Into the switch, from the pod.
    FromPort,
}

/// A queue of frames that wait for a limit.
pub type Limited = (PortId, Direction);

/// Queues of frames that wait for their ports' rate limits.
///
/// A queue takes what the limit lets pass within 25 ms, and four frames in any case. Together the
/// queues take no more buffers than they are given, and each no more than are left of those (the
/// dynamic threshold of Choudhury and Hahne, 1998): one queue alone gets half of them, two get a third
/// each, and one that comes late still finds room.
#[derive(Debug)]
pub struct Backlog<F> {
    /// Two for each port; as many as were needed so far.
    queues: Vec<Queue<F>>,
    /// The queues that are not empty.
    busy: Vec<Limited>,
    /// Buffers in all queues.
    held: usize,
    /// The most there may be.
    buffers: usize,
    /// Frames that have waited for long enough: a worker's room for them, between uses empty.
    pub ready: Vec<F>,
}

#[derive(Debug)]
struct Queue<F> {
    frames: VecDeque<F>,
    bytes: u64,
    buffers: usize,
}

/// What a queue takes whatever its limit: a TCP sender whose segments are 64 KiB large needs a few of
/// them under way, however slow the limit is.
const LEAST_FRAMES: usize = 4;

const fn index((port, direction): Limited) -> usize {
    2 * port.index() + direction as usize
}

impl<F: Frame> Backlog<F> {
    /// Whether nothing waits in a queue.
    #[inline]
    pub fn is_empty(&self, of: Limited) -> bool {
        self.queues.get(index(of)).is_none_or(|q| q.frames.is_empty())
    }

    /// Puts a frame at the end of a queue, or gives it back when the queue is full.
    pub fn push(&mut self, of: Limited, bucket: &TokenBucket, frame: F) -> Result<(), F> {
        let index = index(of);
        if self.queues.len() <= index {
            let queue = || Queue { frames: VecDeque::new(), bytes: 0, buffers: 0 };
            self.queues.resize_with(index + 1, queue);
        }
        let queue = &mut self.queues[index];
        let buffers = frame.segments();
        let late = queue.bytes >= bucket.queue_bytes() && queue.frames.len() >= LEAST_FRAMES;
        if late || queue.buffers + buffers > self.buffers.saturating_sub(self.held) {
            return Err(frame);
        }
        if queue.frames.is_empty() {
            self.busy.push(of);
        }
        queue.bytes += frame.len() as u64;
        queue.buffers += buffers;
        self.held += buffers;
        queue.frames.push_back(frame);
        Ok(())
    }

    /// The `n`th of the queues that are not empty.
    pub fn busy(&self, n: usize) -> Option<Limited> {
        self.busy.get(n).copied()
    }

    /// How long the first frame of a queue is, in bytes.
    pub fn head(&self, of: Limited) -> Option<usize> {
        Some(self.queues.get(index(of))?.frames.front()?.len())
    }

    /// Takes the first frame out of a queue. The last one takes the queue off the list of busy ones,
    /// whose last takes its place.
    pub fn pop(&mut self, of: Limited) -> Option<F> {
        let queue = self.queues.get_mut(index(of))?;
        let frame = queue.frames.pop_front()?;
        let buffers = frame.segments();
        queue.bytes -= frame.len() as u64;
        queue.buffers -= buffers;
        self.held -= buffers;
        if queue.frames.is_empty() {
            self.busy.retain(|&b| b != of);
        }
        Some(frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heap::HeapFrame;

    const A: Limited = (PortId(1), Direction::ToPort);
    const B: Limited = (PortId(1), Direction::FromPort);

    fn fill(backlog: &mut Backlog<HeapFrame>, of: Limited, bits: u64, len: usize) -> usize {
        let bucket = TokenBucket::new(bits, None);
        let frame = || HeapFrame::new(&vec![0; len]);
        (0..).take_while(|_| backlog.push(of, &bucket, frame()).is_ok()).count()
    }

    #[test]
    fn a_queue_is_25_ms_long_or_four_frames() {
        let backlog = || Waiting::new(1000).backlog;
        assert_eq!(fill(&mut backlog(), A, 8_000_000, 100), 250);
        assert_eq!(fill(&mut backlog(), A, 8_000_000, 1500), 17, "the last begins within it");
        assert_eq!(fill(&mut backlog(), A, 1000, 1500), 4);
    }

    #[test]
    fn queues_share_the_buffers() {
        let mut backlog = Waiting::new(120).backlog;
        assert_eq!(fill(&mut backlog, A, 1_000_000_000, 100), 60);
        assert_eq!(fill(&mut backlog, B, 1_000_000_000, 100), 30, "half of what is left");
        while backlog.pop(A).is_some() {}
        assert!(backlog.is_empty(A) && !backlog.is_empty(B) && backlog.busy(0) == Some(B));
        assert_eq!(fill(&mut backlog, A, 1_000_000_000, 5000), 23, "two buffers each");
        while backlog.pop(A).is_some() || backlog.pop(B).is_some() {}
        assert_eq!((backlog.held, backlog.busy(0), backlog.head(A)), (0, None, None));
    }

    #[test]
    fn frames_leave_in_their_order() {
        let mut backlog = Waiting::new(100).backlog;
        let bucket = TokenBucket::new(1_000_000, None);
        for len in 60..70 {
            backlog.push(A, &bucket, HeapFrame::new(&vec![0; len])).unwrap();
        }
        for len in 60..70 {
            assert_eq!(backlog.head(A), Some(len));
            assert_eq!(backlog.pop(A).map(|f| f.len()), Some(len));
        }
        assert!(backlog.pop(A).is_none());
    }
}
