//! The way out where frames may have to be merged or cut up: to ports that take superpackets, always or at times, TCP
//! segments of one flow that came in one batch are sent as one (generic receive offload); to others, superpackets as
//! their packets.

use super::{Context, OTHER, vlan};
use crate::frame::{Frame, Io};
use crate::ids::PortId;
use crate::offload::sum_from;
use crate::tables::Offload;
use encap::offload::merge::{Look, Segment};

/// Flows that are merged at a time; of more, each in turn makes room for another.
const FLOWS: usize = 8;
/// Segments in one superpacket, so that it is a bounded number of pieces for a system call.
const MAX_SEGMENTS: u16 = 128;
/// Bytes of a frame that has some payload to speak of: no acknowledgement has as many. A batch whose frames have fewer
/// on average is not looked at.
const LEAST: usize = 128;
/// Bytes of payload of a segment that is merged, at most: those of jumbo frames. Larger ones cost more to sum than it
/// costs to send them one by one.
const MOST: u16 = 9216;

/// A flow whose next segment may still be merged.
struct Flow<F> {
    port: PortId,
    /// Its first segment, with those behind it that were merged.
    frame: F,
    first: Segment,
    /// Bytes of payload, and segments.
    payload: usize,
    segments: u16,
    /// The TCP checksum of the first one was verified. It is not before a second one comes.
    verified: bool,
    /// The last one had PSH.
    push: bool,
}

/// The flows of a batch.
struct Flows<F> {
    open: [Option<Flow<F>>; FLOWS],
    /// The place that was cleared last when all were taken.
    cleared: usize,
}

/// Whether a batch of so many bytes has two TCP segments that somebody might merge.
#[inline(always)]
pub(super) fn is_worthwhile<F: Frame>(batch: &[F], bytes: u64) -> bool {
    bytes >= (LEAST * batch.len()) as u64 && has_segments(batch)
}

#[inline(never)]
fn has_segments<F: Frame>(batch: &[F]) -> bool {
    let has_data = |frame: &&F| {
        frame.len() >= LEAST
            && matches!(Look::at(frame.bytes(), frame.len()), Look::Tcp(s) if is_mergeable(&s))
    };
    batch.iter().filter(has_data).nth(1).is_some()
}

/// Carries out what was decided of a batch, frames in their order: those to one port together where
/// nothing is to be done to them.
#[inline(never)]
pub(super) fn send<I: Io>(
    cx: &Context<'_>,
    batch: &mut Vec<I::Frame>,
    fates: &[u32],
    out: &mut vlan::Outlet<'_, I>,
) {
    let mut flows = Flows { open: [const { None }; FLOWS], cleared: 0 };
    let mut frames = batch.drain(..);
    for run in fates.chunk_by(|a, b| a == b) {
        let frames = frames.by_ref().take(run.len());
        if run[0] == OTHER {
            // They may be of the same flows.
            flows.flush(cx, out);
            frames.for_each(|frame| cx.conclude_next(frame, out));
            continue;
        }
        let port = PortId(run[0] as u16);
        let offload = cx.offload(port);
        let merges = match offload {
            Offload::None => false,
            Offload::Coalesce => out.takes_superpackets(port),
            Offload::Full => true,
        };
        if merges {
            frames.for_each(|frame| flows.add(cx, port, frame, out));
            continue;
        }
        if offload != Offload::None {
            // It may have taken some a moment ago.
            flows.flush(cx, out);
        }
        if cx.port.offload == Offload::Full {
            frames.for_each(|frame| cx.send(port, frame, out));
        } else {
            out.send_all(port, frames);
        }
    }
    flows.flush(cx, out);
}

impl<F: Frame> Flows<F> {
    /// Sends a frame, merges it with its flow's, or keeps it as the first of a flow. Frames of one flow
    /// stay in their order.
    fn add<I: Io<Frame = F>>(&mut self, cx: &Context<'_>, port: PortId, frame: F, out: &mut I) {
        let look = match frame.gso_size() {
            0 => Look::at(frame.bytes(), frame.len()),
            _ => Look::Opaque,
        };
        let segment = match look {
            Look::Other => return out.send(port, frame),
            Look::Opaque => {
                self.flush(cx, out);
                return cx.send(port, frame, out);
            }
            Look::Tcp(segment) => segment,
        };
        let (mut free, mut found) = (None, None);
        for (i, slot) in self.open.iter().enumerate() {
            match slot {
                None => free = Some(i),
                Some(flow) if flow.is_of(port, &segment, &frame) => {
                    found = Some(i);
                    break;
                }
                Some(_) => {}
            }
        }
        if let Some(i) = found
            && let Some(mut flow) = self.open[i].take()
        {
            if flow.accepts(&segment, &frame) {
                match flow.merge(&segment, frame) {
                    true => self.open[i] = Some(flow),
                    false => flow.send(cx, out),
                }
                return;
            }
            flow.send(cx, out);
            free = Some(i);
        }
        if !is_mergeable(&segment) || segment.is_last() {
            return out.send(port, frame);
        }
        let i = free.unwrap_or_else(|| {
            self.cleared = (self.cleared + 1) % FLOWS;
            self.cleared
        });
        let flow = Flow {
            port,
            frame,
            payload: segment.payload_len().into(),
            first: segment,
            segments: 1,
            verified: false,
            push: false,
        };
        if let Some(older) = self.open[i].replace(flow) {
            older.send(cx, out);
        }
    }

    fn flush<I: Io<Frame = F>>(&mut self, cx: &Context<'_>, out: &mut I) {
        for slot in &mut self.open {
            if let Some(flow) = slot.take() {
                flow.send(cx, out);
            }
        }
    }
}

impl<F: Frame> Flow<F> {
    #[inline]
    fn is_of(&self, port: PortId, segment: &Segment, frame: &F) -> bool {
        self.port == port && self.first.is_same_flow(self.frame.bytes(), segment, frame.bytes())
    }

    /// Whether a segment of the flow can be merged. Only what is intact is: the superpacket's checksum
    /// would hide it from the receiver that another one's was wrong.
    fn accepts(&mut self, segment: &Segment, frame: &F) -> bool {
        let (ours, theirs) = (self.frame.bytes(), frame.bytes());
        if segment.payload_len() > self.first.payload_len()
            || !self.first.is_continued_by(ours, self.payload, segment, theirs)
        {
            return false;
        }
        if !self.verified {
            self.verified = is_intact(&self.first, &self.frame);
        }
        self.verified && is_intact(segment, frame)
    }

    /// Merges a segment that is accepted; whether another one may follow.
    fn merge(&mut self, segment: &Segment, mut frame: F) -> bool {
        frame.pull(segment.headers_len());
        self.frame.append(frame);
        self.payload += usize::from(segment.payload_len());
        self.segments += 1;
        self.push = segment.is_last();
        !self.push
            && segment.payload_len() == self.first.payload_len()
            && self.segments < MAX_SEGMENTS
    }

    fn send<I: Io<Frame = F>>(mut self, cx: &Context<'_>, out: &mut I) {
        if self.segments > 1 {
            cx.counters.coalesced.add(u64::from(self.segments) - 1);
            self.first.finish(self.frame.bytes_mut(), self.payload, self.push);
            self.frame.set_gso_size(self.first.payload_len());
            return cx.send_merged(self.port, self.frame, out);
        }
        out.send(self.port, self.frame);
    }
}

/// Whether others may be hung behind a segment, and it is worth it.
#[inline]
fn is_mergeable(segment: &Segment) -> bool {
    segment.is_mergeable() && segment.payload_len() <= MOST
}

/// Whether the TCP checksum of a segment is right.
fn is_intact<F: Frame>(segment: &Segment, frame: &F) -> bool {
    let pseudo = segment.pseudo_header(frame.bytes(), segment.payload_len().into());
    sum_from(frame, segment.tcp_start(), pseudo).is_valid()
}
