//! Superpackets into their packets: before a tunnel, which carries packets, and for ports and steps that
//! take packets only.

use super::{Context, Origin, Verdict, bridge, fragment, router};
use crate::frame::{Frame, Io, NoHeadroom};
use crate::ids::{Location, PortId, SegmentId};
use crate::offload::{sum_from, to_packet};
use crate::reason::DropReason;
use encap::checksum::Sum;
use encap::offload::{Cut, Layout, MAX_HEADERS};

/// Where the packets of a superpacket go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Out of a port: all else has been done to them.
    Send(PortId),
    /// Back to the bridge, each like a frame that has just come.
    Bridge(SegmentId, Location),
    /// Back to the router, each like a packet that has just come.
    Route(Origin),
    /// Everywhere in a segment.
    Flood(SegmentId, Location),
}

/// What becomes of a superpacket where packets are wanted.
#[cold]
#[inline(never)]
pub(super) fn one_by_one(step: Step) -> Result<Verdict, DropReason> {
    Ok(Verdict::Segment(step))
}

/// Whether all packets of a superpacket fit in frames of `max` bytes (as Linux's
/// `skb_gso_validate_network_len` asks it of an MTU). An ordinary frame is asked for its length before.
pub(super) fn fits<F: Frame>(frame: &F, max: usize) -> bool {
    let size = frame.gso_size();
    let layout = Layout::parse(frame.bytes(), frame.len());
    size != 0 && layout.is_ok_and(|l| l.network + l.packet_len(size) <= max)
}

/// Bytes of the largest packet of a superpacket; none where it is no superpacket by its headers.
pub(super) fn packet_len<F: Frame>(frame: &F) -> Option<usize> {
    let layout = Layout::parse(frame.bytes(), frame.len()).ok()?;
    Some(layout.packet_len(frame.gso_size()))
}

/// Makes a superpacket its own first packet: what its sender is told about it is told of that one.
#[cold]
pub(super) fn to_first<F: Frame>(frame: &mut F) {
    let size = usize::from(frame.gso_size());
    frame.set_gso_size(0);
    let Ok(layout) = Layout::parse(frame.bytes(), frame.len()) else { return };
    let len = size.min(layout.payload_len);
    frame.truncate(layout.payload + len);
    let sum = sum_from(frame, layout.payload, Sum::ZERO);
    let mut headers = [0; MAX_HEADERS];
    let headers = &mut headers[..layout.payload];
    let bytes = &mut frame.bytes_mut()[..layout.payload];
    headers.copy_from_slice(bytes);
    layout.write_headers(headers, &Cut { index: 0, at: 0, len, sum }, bytes);
}

/// Sends the packets of a superpacket, each in buffers of its own unless it is a single one. The superpacket itself
/// becomes the last of them, the others are originated.
pub(super) fn send<I: Io>(cx: &Context<'_>, mut frame: I::Frame, step: Step, io: &mut I) {
    let Ok(layout) = Layout::parse(frame.bytes(), frame.len()) else {
        return cx.drop(DropReason::OffloadInvalid, frame, io);
    };
    if layout.packets(frame.gso_size()) == 1 {
        to_packet(&mut frame, layout.partial());
        return go_on(cx, frame, step, io);
    }
    let size = usize::from(frame.gso_size()).max(1);
    let headers = &frame.bytes()[..layout.payload];
    let mut cutter = Cutter { cx, layout, size, headers, step, at: 0, index: 0, piece: None };
    let (mut skip, mut done) = (layout.payload, Ok(()));
    frame.for_each_segment(|segment| {
        let data = segment.get(skip..).unwrap_or(&[]);
        skip = skip.saturating_sub(segment.len());
        if done.is_ok() {
            done = cutter.take(data, io);
        }
    });
    cutter.abandon(io);
    match done {
        Ok(()) => io.discard(frame),
        // TCP sends the rest again, and half a burst of datagrams is as good as any part of it.
        Err(NoHeadroom) => cx.drop(DropReason::NoBuffer, frame, io),
    }
}

/// A superpacket on its way into packets.
struct Cutter<'a, F> {
    cx: &'a Context<'a>,
    layout: Layout,
    /// Bytes of payload in each packet.
    size: usize,
    /// Those of the superpacket.
    headers: &'a [u8],
    step: Step,
    /// Bytes of payload in the packets that are made, and how many these are.
    at: usize,
    index: usize,
    piece: Option<Piece<F>>,
}

/// A packet in the making.
struct Piece<F> {
    /// The buffers that are full, if it needs more than one.
    before: Option<F>,
    /// The one that is being filled, and how far it is.
    buffer: F,
    filled: usize,
    /// Bytes of payload in all, and those yet to come.
    len: usize,
    left: usize,
    /// The sum of those that are there.
    sum: Sum,
}

/// Sends one packet on.
fn go_on<I: Io>(cx: &Context<'_>, mut frame: I::Frame, step: Step, io: &mut I) {
    let fate = match step {
        Step::Send(port) => return io.send(port, frame),
        Step::Flood(segment, from) => return cx.flood(segment, from, frame, io),
        Step::Bridge(segment, from) => bridge::forward_rare(cx, &mut frame, segment, from),
        Step::Route(origin) => router::forward_rare(cx, &mut frame, origin),
    };
    cx.conclude(cx.verdict(fate), frame, io);
}

impl<F: Frame> Cutter<'_, F> {
    /// Takes the next bytes of the payload, and sends what packets they complete.
    fn take<I: Io<Frame = F>>(&mut self, mut data: &[u8], io: &mut I) -> Result<(), NoHeadroom> {
        while !data.is_empty() {
            let mut piece = match self.piece.take() {
                Some(piece) => piece,
                None => self.begin(io)?,
            };
            let room = &mut piece.buffer.bytes_mut()[piece.filled..];
            let (now, later) = data.split_at(data.len().min(room.len()));
            room[..now.len()].copy_from_slice(now);
            piece.sum = piece.sum.bytes(now);
            piece.filled += now.len();
            piece.left -= now.len();
            data = later;
            if piece.left == 0 {
                self.end(piece, io);
                continue;
            }
            if piece.filled == piece.buffer.bytes().len() {
                piece = piece.widen(io)?;
            }
            self.piece = Some(piece);
        }
        Ok(())
    }

    fn begin<I: Io<Frame = F>>(&self, io: &mut I) -> Result<Piece<F>, NoHeadroom> {
        let (filled, len) = (self.headers.len(), self.size.min(self.layout.payload_len - self.at));
        let buffer = buffer(filled + len, io)?;
        Ok(Piece { before: None, buffer, filled, len, left: len, sum: Sum::ZERO })
    }

    fn end<I: Io<Frame = F>>(&mut self, piece: Piece<F>, io: &mut I) {
        let cut = Cut { index: self.index, at: self.at, len: piece.len, sum: piece.sum };
        let mut frame = piece.join();
        self.layout.write_headers(self.headers, &cut, &mut frame.bytes_mut()[..self.headers.len()]);
        self.at += cut.len;
        self.index += 1;
        if self.at < self.layout.payload_len {
            self.cx.counters.originated.add(1);
        }
        go_on(self.cx, frame, self.step, io);
    }

    /// Gives back what has become no packet.
    fn abandon<I: Io<Frame = F>>(self, io: &mut I) {
        if let Some(piece) = self.piece {
            io.discard(piece.join());
        }
    }
}

impl<F: Frame> Piece<F> {
    /// The same with one more buffer.
    fn widen<I: Io<Frame = F>>(self, io: &mut I) -> Result<Piece<F>, NoHeadroom> {
        let (len, left, sum) = (self.len, self.left, self.sum);
        let before = self.join();
        match buffer(left, io) {
            Ok(buffer) => Ok(Piece { before: Some(before), buffer, filled: 0, len, left, sum }),
            Err(error) => {
                io.discard(before);
                Err(error)
            }
        }
    }

    fn join(self) -> F {
        match self.before {
            Some(mut before) => {
                before.append(self.buffer);
                before
            }
            None => self.buffer,
        }
    }
}

/// A buffer of `len` bytes, or of as many as it takes.
fn buffer<I: Io>(len: usize, io: &mut I) -> Result<I::Frame, NoHeadroom> {
    let mut buffer = io.alloc().ok_or(NoHeadroom)?;
    match buffer.resize(len.min(fragment::MAX_FRAME)) {
        Ok(()) => Ok(buffer),
        Err(error) => {
            io.discard(buffer);
            Err(error)
        }
    }
}
