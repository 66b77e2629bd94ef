//! What was decided of a frame, carried out: sent, flooded, cut up, fragmented, held, refused, or dropped and
//! counted.

use super::{Context, Verdict, defend, egress, fragment, icmp_error, resolve, segment};
use crate::frame::{Frame, Io};
use crate::ids::{Location, PortId, SegmentId};
use crate::reason::DropReason;
use crate::tables::{Offload, Segment};
use segment::Step;

impl Context<'_> {
    /// Carries out what was decided of a frame that is not simply sent.
    #[cold]
    pub(super) fn conclude_next<I: Io>(&self, frame: I::Frame, io: &mut I) {
        let mut others = self.others.take();
        let verdict = others.pop_front();
        self.others.set(others);
        debug_assert!(verdict.is_some(), "as many verdicts as frames that want one");
        self.conclude(verdict.unwrap_or(Err(DropReason::Consumed)), frame, io);
    }

    /// Carries a verdict out. Out of line: nearly every frame is simply sent.
    #[inline(never)]
    pub(super) fn conclude<I: Io>(
        &self,
        verdict: Result<Verdict, DropReason>,
        mut frame: I::Frame,
        io: &mut I,
    ) {
        match verdict {
            Ok(Verdict::Send(port)) => self.send(port, frame, io),
            Ok(Verdict::Flood(segment, from)) => self.flood(segment, from, frame, io),
            Ok(Verdict::Resolve(wait)) => resolve::hold(self, wait, frame, io),
            Ok(Verdict::Defend(segment, ip)) => {
                defend::announce(self, segment, ip, io);
                self.drop(DropReason::GatewayConflict, frame, io);
            }
            Ok(Verdict::Fragment(_, origin)) if frame.gso_size() != 0 => {
                segment::send(self, frame, Step::Route(origin), io);
            }
            Ok(Verdict::Fragment(mtu, origin)) => fragment::send(self, frame, mtu, origin, io),
            Ok(Verdict::Segment(step)) => segment::send(self, frame, step, io),
            Ok(Verdict::Refuse(refusal)) => {
                if frame.gso_size() != 0 {
                    segment::to_first(&mut frame);
                }
                icmp_error::send(self, &refusal, &frame, io);
                self.drop(refusal.reason, frame, io);
            }
            Err(reason) => self.drop(reason, frame, io),
        }
    }

    /// Sends a frame, a superpacket as its packets unless the port takes it whole.
    pub(super) fn send<I: Io>(&self, port: PortId, frame: I::Frame, io: &mut I) {
        if frame.gso_size() != 0 && self.offload(port) != Offload::Full {
            return segment::send(self, frame, Step::Send(port), io);
        }
        io.send(port, frame);
    }

    /// Sends a superpacket that was made here.
    pub(super) fn send_merged<I: Io>(&self, port: PortId, frame: I::Frame, io: &mut I) {
        if self.offload(port) == Offload::Full {
            io.send(port, frame);
        } else if let Err(frame) = io.send_superpacket(port, frame) {
            segment::send(self, frame, Step::Send(port), io);
        }
    }

    /// What a port has to do with superpackets. Where frames to it wait for its rate limit, nobody can say beforehand
    /// at what time they are sent.
    pub(super) fn offload(&self, port: PortId) -> Offload {
        match self.tables.port(port) {
            Some(port) if port.offload == Offload::Coalesce && port.policy.to_port.is_some() => {
                Offload::None
            }
            Some(port) => port.offload,
            None => Offload::None,
        }
    }

    pub(super) fn drop<I: Io>(&self, reason: DropReason, frame: I::Frame, io: &mut I) {
        self.counters.drop(reason);
        io.discard(frame);
    }

    /// Sends a copy to every member of the segment but the one the frame came from, and the frame
    /// itself to the last one. What came through a tunnel goes to no tunnel: every node of the
    /// segment has had it from its sender (split horizon).
    pub(super) fn flood<I: Io>(
        &self,
        segment: SegmentId,
        from: Location,
        frame: I::Frame,
        io: &mut I,
    ) {
        if frame.gso_size() != 0 {
            return segment::send(self, frame, Step::Flood(segment, from), io);
        }
        let members = self.tables.segment(segment).map_or(&[][..], |s: &Segment| &s.flood);
        let from_tunnel = matches!(from, Location::Tunnel(_));
        let mut targets = members
            .iter()
            .copied()
            .filter(|&to| to != from && !(from_tunnel && matches!(to, Location::Tunnel(_))));
        let Some(mut target) = targets.next() else {
            return self.drop(DropReason::FloodEmpty, frame, io);
        };
        for next in targets {
            self.counters.originated.add(1);
            match io.duplicate(&frame) {
                Some(copy) => self.flood_to(target, copy, io),
                None => self.counters.drop(DropReason::NoBuffer),
            }
            target = next;
        }
        self.flood_to(target, frame, io);
    }

    fn flood_to<I: Io>(&self, to: Location, mut frame: I::Frame, io: &mut I) {
        match egress::to_location(self, &mut frame, to) {
            Ok(port) => io.send(port, frame),
            Err(reason) => self.drop(reason, frame, io),
        }
    }
}
