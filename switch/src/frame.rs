//! The frame and the world around the pipeline, as traits.

use crate::ids::PortId;
use crate::waiting::Waiting;

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

    /// In how many segments it is.
    fn segments(&self) -> usize {
        let mut segments = 0;
        self.for_each_segment(|_| segments += 1);
        segments
    }

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

    /// [`Frame::push`] of `N` bytes, which are returned; none when there is not enough room.
    #[inline(always)]
    fn push_exactly<const N: usize>(&mut self) -> Option<&mut [u8; N]> {
        self.push(N).ok()?;
        self.bytes_mut().first_chunk_mut()
    }

    /// Moves the head forward by `n` bytes (decapsulation). `n` must not exceed the length of
    /// the first segment; a larger `n` leaves it empty.
    fn pull(&mut self, n: usize);

    /// Shortens the frame to `len` bytes in all; a longer `len` does nothing.
    fn truncate(&mut self, len: usize);

    /// Makes a single-segment frame exactly `len` bytes long; the bytes beyond the old length are
    /// undefined until written. Fails when the buffer is too small.
    fn resize(&mut self, len: usize) -> Result<(), NoHeadroom>;

    /// Bytes of payload in each packet that this frame stands for, but for the last one, which may
    /// have fewer; 0 of an ordinary frame, which is one packet.
    ///
    /// A frame that is not 0 here is a *superpacket*: TCP (TSO) or UDP (USO) over IPv4 or IPv6, with
    /// one set of headers, whose TCP or UDP checksum is partial: the sum of the pseudo-header,
    /// folded and not complemented, as virtio 1.3 section 5.1.6.2 has it for
    /// VIRTIO_NET_HDR_F_NEEDS_CSUM. It may stand for a single packet. No ordinary frame has a partial checksum.
    fn gso_size(&self) -> u16;

    /// Makes the frame a superpacket, or, with 0, an ordinary frame; its bytes stay as they are.
    fn set_gso_size(&mut self, size: u16);

    /// Whether the frame is one ordinary packet in one segment.
    #[inline(always)]
    fn is_whole(&self) -> bool {
        self.gso_size() == 0 && self.len() == self.bytes().len()
    }

    /// Hangs the bytes of `next`, all of them from its head on, behind the last one of this frame,
    /// without a copy.
    ///
    /// # Panics
    ///
    /// An implementation may want 32 bytes of a buffer of `next` for itself, before the first byte or
    /// behind the last one of the first segment: where headers were pulled off they are. It may have no
    /// room for more than 65,535 bytes behind the first segment.
    fn append(&mut self, next: Self);
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

    /// [`Io::send`] of several frames in their order: what is asked about a port is asked once.
    #[inline(always)]
    fn send_all(&mut self, port: PortId, frames: impl Iterator<Item = Self::Frame>) {
        frames.for_each(|frame| self.send(port, frame));
    }

    /// [`Io::send_all`] of all that is in `batch`, which is empty afterwards.
    #[inline(always)]
    fn send_batch(&mut self, port: PortId, batch: &mut Vec<Self::Frame>) {
        self.send_all(port, batch.drain(..));
    }

    /// Whether superpackets for a port that takes them at times ([`crate::tables::Offload::Coalesce`]) are worth making
    /// at present.
    #[inline(always)]
    fn takes_superpackets(&mut self, _port: PortId) -> bool {
        false
    }

    /// [`Io::send`] of a superpacket to a port that takes them at times.
    ///
    /// # Errors
    ///
    /// The frame, if this is no such time: it is to be sent as its packets.
    #[inline(always)]
    fn send_superpacket(&mut self, _port: PortId, frame: Self::Frame) -> Result<(), Self::Frame> {
        Err(frame)
    }

    /// Gives the buffer of a dropped frame back. The pipeline has counted the reason.
    fn discard(&mut self, frame: Self::Frame);

    /// An empty frame with room for an encapsulation before it, or none when buffers have run out.
    fn alloc(&mut self) -> Option<Self::Frame>;

    /// A copy of `frame`, all segments, or none when buffers have run out.
    fn duplicate(&mut self, frame: &Self::Frame) -> Option<Self::Frame>;

    /// The frames that wait.
    fn waiting(&mut self) -> &mut Waiting<Self::Frame>;
}
