//! The frame and the world around the pipeline, as traits.

use crate::ids::PortId;
use crate::pipeline::{MAX_HELD, MAX_PENDING};
use std::collections::VecDeque;

/// There is not enough room before the first byte of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoHeadroom;

/// One packet in a buffer, from its Ethernet header on. Move-only: it ends by being handed to
/// [`Io::send`] or [`Io::discard`].
///
/// A frame larger than one buffer continues in further segments; the pipeline reads and writes
/// only the first one, which holds all headers.
pub trait Frame: Sized {
    /// The first segment, from the Ethernet header on.
    fn bytes(&self) -> &[u8];

    /// The first segment, writable.
    fn bytes_mut(&mut self) -> &mut [u8];

    /// Total length in bytes, further segments included.
    fn len(&self) -> usize;

    /// Whether the frame holds no byte.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Calls `f` with the bytes of every segment, in order: for checksums over a whole packet.
    fn for_each_segment(&self, f: impl FnMut(&[u8]));

    /// Copies the frame's bytes from `start` on to `out`, over all segments. What the frame does
    /// not have is left as it was.
    fn copy_from(&self, start: usize, out: &mut [u8]) {
        let (mut skip, mut done) = (start, 0);
        self.for_each_segment(|segment| {
            let from = segment.get(skip..).unwrap_or(&[]);
            let n = from.len().min(out.len() - done);
            out[done..done + n].copy_from_slice(&from[..n]);
            skip = skip.saturating_sub(segment.len());
            done += n;
        });
    }

    /// Room before the first byte.
    fn headroom(&self) -> usize;

    /// Moves the head back by `n` bytes (encapsulation); the new bytes are undefined until
    /// written.
    fn push(&mut self, n: usize) -> Result<(), NoHeadroom>;

    /// Moves the head forward by `n` bytes (decapsulation). `n` must not exceed the length of
    /// the first segment; a larger `n` leaves it empty.
    fn pull(&mut self, n: usize);

    /// Shortens the frame to `len` bytes in all; a longer `len` does nothing.
    fn truncate(&mut self, len: usize);

    /// Makes a single-segment frame exactly `len` bytes long; the bytes beyond the old length are
    /// undefined until written. Fails when the buffer is too small.
    fn resize(&mut self, len: usize) -> Result<(), NoHeadroom>;
}

/// What the pipeline needs from the world: buffers, and somewhere to put its frames.
///
/// Resolved at compile time: there is no virtual call per packet.
pub trait Io {
    /// The buffer type.
    type Frame: Frame;

    /// Queues `frame` for transmission on `port`. The implementation counts it as sent when
    /// the interface takes it, or drops it as [`crate::DropReason::TxRingFull`] and the like.
    fn send(&mut self, port: PortId, frame: Self::Frame);

    /// Gives the buffer of a dropped frame back. The pipeline has counted the reason.
    fn discard(&mut self, frame: Self::Frame);

    /// An empty frame with room for an encapsulation before it, or none when buffers have run out.
    fn alloc(&mut self) -> Option<Self::Frame>;

    /// A copy of `frame`, all segments, or none when buffers have run out.
    fn duplicate(&mut self, frame: &Self::Frame) -> Option<Self::Frame>;

    /// Keeps a frame in the queue of this number until it is released, or gives it back when there is
    /// no such queue or no room in it. The engine uses [`Waiting::QUEUES`] queues.
    fn hold(&mut self, queue: u16, frame: Self::Frame) -> Result<(), Self::Frame>;

    /// The frame that has waited in a queue for longest.
    fn take_held(&mut self, queue: u16) -> Option<Self::Frame>;
}

/// Queues of frames that wait: what an implementation of [`Io`] needs to hold and release them.
#[derive(Debug)]
pub struct Waiting<F> {
    queues: Vec<VecDeque<F>>,
}

impl<F> Default for Waiting<F> {
    fn default() -> Waiting<F> {
        let queue = || VecDeque::with_capacity(MAX_HELD);
        Waiting { queues: (0..Waiting::<F>::QUEUES).map(|_| queue()).collect() }
    }
}

impl<F> Waiting<F> {
    /// How many queues there are.
    pub const QUEUES: usize = MAX_PENDING;

    /// [`Io::hold`].
    pub fn hold(&mut self, queue: u16, frame: F) -> Result<(), F> {
        match self.queues.get_mut(usize::from(queue)) {
            Some(queue) if queue.len() < MAX_HELD => {
                queue.push_back(frame);
                Ok(())
            }
            _ => Err(frame),
        }
    }

    /// [`Io::take_held`].
    pub fn take_held(&mut self, queue: u16) -> Option<F> {
        self.queues.get_mut(usize::from(queue))?.pop_front()
    }

    /// All that waits, for an end.
    pub fn drain(&mut self) -> impl Iterator<Item = F> + '_ {
        self.queues.iter_mut().flat_map(|q| q.drain(..))
    }
}
