//! A packet's way through the switch.
//!
//! ```text
//! process      a batch of one port's frames
//!   shape::receive         what its rate limit does not let pass waits
//!   batch      one frame after the other: the port that it leaves through, or what else becomes of it
//!     usual::*               the way of nearly every frame, straight through
//!     underlay::forward      the general way, on an uplink: validate and decapsulate, then one of the next two
//!     bridge::forward        L2: check the source, learn, then port, tunnel, router or flood
//!     router::forward        L3: answer, or look up, count the hop down, rewrite
//!     egress::*              out of a port, or into a tunnel
//!   coalesce::send         where there are ports with offload: TCP segments merged, superpackets cut up
//!   conclude   the verdict carried out: sent, flooded, fragmented, or dropped and counted
//!     icmp_error::send     the sender told why
//! ```

mod answer;
mod batch;
mod bridge;
mod coalesce;
mod conclude;
mod defend;
mod egress;
mod fate;
mod fragment;
mod guard;
mod icmp_error;
mod mtu;
mod nesting;
mod own;
mod packet;
mod relay;
mod resolve;
mod router;
mod segment;
mod shape;
mod suppress;
mod underlay;
mod usual;
mod vlan;

use crate::counters::{PortCounters, WorkerCounters};
use crate::frame::{Frame, Io};
use crate::ids::{Location, PortId, SegmentId, TunnelId};
use crate::offload::sum_from;
use crate::reason::DropReason;
use crate::tables::{Fdb, Guard, Port, Role, Tables};
use batch::Batch;
use defend::Defence;
use encap::Mac;
use fate::Fate;
use icmp_error::{Limiter, Refusal, Report};
pub use resolve::{MAX_HELD, MAX_PENDING};
use resolve::{Resolver, Wait};
use segment::Step;
use shape::{Limits, Shaper};
use std::cell::{Cell, OnceCell};
use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;

/// Milliseconds on a clock that never runs backwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Millis(pub u64);

impl Millis {
    /// Whole seconds, as the forwarding database keeps them.
    #[inline]
    pub const fn seconds(self) -> u32 {
        (self.0 / 1000) as u32
    }
}

/// The engine of one worker: what it shares with the others, and its own counters.
pub struct Worker {
    counters: Arc<WorkerCounters>,
    fdb: Arc<Fdb>,
    limiter: Limiter,
    resolver: Resolver,
    shaper: Shaper,
    defence: Defence,
    /// The next identification of outer packets that may be fragmented.
    ident: Cell<u16>,
    /// While a batch is processed: the port that each frame is sent to; [`OTHER`]: its verdict is the
    /// next of `others`. As long as the largest batch was.
    fates: Cell<Vec<u32>>,
    others: Cell<VecDeque<Result<Verdict, DropReason>>>,
}

/// Where a frame came from, once it is out of its tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// A frame of a segment, from a port or through a tunnel.
    Segment(SegmentId, Location),
    /// A packet for the router, out of a tunnel.
    Tunnel(TunnelId),
    /// A packet for the router, natively routed on the underlay.
    Native,
    /// A packet that the underlay could not carry, as an ICMP error quotes it, and what its sender
    /// is to be told.
    Underlay(Report),
    /// A packet of the router's own, which waited for its next hop.
    Router,
}

impl Origin {
    /// Whether it came out of this tunnel, for the router.
    #[inline(always)]
    fn is_tunnel(self, id: TunnelId) -> bool {
        matches!(self, Origin::Tunnel(tunnel) if tunnel == id)
    }
}

/// What becomes of a frame that is not dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// It leaves through a port.
    Send(PortId),
    /// It goes everywhere in a segment, but not back to where it came from.
    Flood(SegmentId, Location),
    /// It is sent in pieces of at most so many bytes, each of them routed like any packet.
    Fragment(u32, Origin),
    /// It is a superpacket where packets are wanted: they go on one by one.
    Segment(Step),
    /// It is dropped, and its sender told.
    Refuse(Refusal),
    /// It waits until its next hop's MAC address is known.
    Resolve(Wait),
    /// It claims an address of the gateway: it is dropped, and the segment told whose that is.
    Defend(SegmentId, IpAddr),
}

/// What every step may look at while one batch is processed.
struct Context<'a> {
    tables: &'a Tables,
    fdb: &'a Fdb,
    port: &'a Port,
    /// Who is behind the port, if it is guarded.
    owner: Option<&'a Guard>,
    counters: &'a PortCounters,
    limiter: &'a Limiter,
    resolver: &'a Resolver,
    defence: &'a Defence,
    /// The counters of all ports, for frames that came in earlier.
    all: &'a WorkerCounters,
    ident: &'a Cell<u16>,
    /// [`Worker::others`].
    others: &'a Cell<VecDeque<Result<Verdict, DropReason>>>,
    /// The verdict of the frame that came last, where its [`Fate`] does not say it all.
    aside: Cell<Option<Verdict>>,
    /// Seconds.
    now: u32,
    /// Milliseconds.
    millis: u64,
    /// The router's MAC address, as in [`Mac::to_u64`]; none of a frame where there is no router.
    router_mac: u64,
    /// The same, for the frames that it sends.
    router: Mac,
    /// [`crate::tables::Router::clamp_mss`].
    clamp_mss: bool,
}

/// Frames of a batch that memory is set aside for beforehand.
const USUAL_BATCH: usize = 256;
/// Of a frame that is not simply sent; no port's identifier.
const OTHER: u32 = u32::MAX;
/// Of a frame of the usual way that has no room for the headers of its tunnel.
const NO_HEADROOM: u32 = u32::MAX - 1;
/// Of a frame that the quickest way has nothing for, and a closer look might.
const LOOK_AGAIN: u32 = u32::MAX - 2;
/// Of a packet for which there are several next hops of equal cost: a flow's is found in a place of its own.
const GROUPED: u32 = u32::MAX - 3;
/// What no frame has for a MAC address.
const NO_MAC: u64 = u64::MAX;

impl Worker {
    /// An engine that counts in `counters` and learns into `fdb`.
    pub fn new(counters: Arc<WorkerCounters>, fdb: Arc<Fdb>) -> Worker {
        Worker {
            counters,
            fdb,
            limiter: Limiter::new(),
            resolver: Resolver::default(),
            shaper: Shaper::default(),
            defence: Defence::default(),
            ident: Cell::new(0),
            fates: Cell::new(Vec::with_capacity(USUAL_BATCH)),
            others: Cell::new(VecDeque::with_capacity(USUAL_BATCH)),
        }
    }

    /// The counters it writes.
    pub fn counters(&self) -> &Arc<WorkerCounters> {
        &self.counters
    }

    /// Forwards a batch of frames that `ingress` received. The batch is empty afterwards: each
    /// frame was handed to [`Io::send`], or counted as dropped and handed to [`Io::discard`].
    pub fn process<I: Io>(
        &mut self,
        tables: &Tables,
        ingress: PortId,
        now: Millis,
        batch: &mut Vec<I::Frame>,
        io: &mut I,
    ) {
        let counters = self.counters.port(ingress);
        counters.rx_frames.add(batch.len() as u64);
        let bytes = match &batch[..] {
            [frame] => frame.len() as u64,
            frames => frames.iter().map(|frame| frame.len() as u64).sum(),
        };
        counters.rx_bytes.add(bytes);
        let Some(port) = tables.port(ingress) else {
            for frame in batch.drain(..) {
                counters.drop(DropReason::PortUnknown);
                io.discard(frame);
            }
            return;
        };
        if let Some(bucket) = &port.policy.from_port {
            shape::receive(&self.shaper, now, (ingress, bucket), batch, &self.counters, io);
        }
        self.batch(tables, port, now, bytes).run(batch, io);
        self.tick(tables, now, io);
    }

    /// Does what is due, with or without frames: neighbours are asked for again, and what waited for a
    /// rate limit goes on. Called after every batch, at [`Worker::due`], and once a second.
    pub fn tick<I: Io>(&mut self, tables: &Tables, now: Millis, io: &mut I) {
        self.attend_all(tables, now, io);
        self.release(tables, now, io);
    }

    /// The world, with what is between it and the pipeline.
    #[inline(always)]
    fn outlet<'a, I: Io>(
        &'a self,
        tables: &'a Tables,
        now: Millis,
        io: &'a mut I,
    ) -> vlan::Outlet<'a, I> {
        let limits = Limits::of(tables, &self.shaper, now);
        vlan::Outlet { io, vlan: tables.vlan, counters: &self.counters, limits }
    }

    /// A batch of about so many bytes.
    #[inline(always)]
    fn batch<'a>(
        &'a self,
        tables: &'a Tables,
        port: &'a Port,
        now: Millis,
        bytes: u64,
    ) -> Batch<'a> {
        Batch { worker: self, tables, port, now, bytes, context: OnceCell::new() }
    }

    fn context<'a>(&'a self, tables: &'a Tables, port: &'a Port, now: Millis) -> Context<'a> {
        Context {
            tables,
            fdb: &self.fdb,
            port,
            owner: port.policy.guard.as_ref(),
            counters: self.counters.port(port.id),
            limiter: &self.limiter,
            resolver: &self.resolver,
            defence: &self.defence,
            ident: &self.ident,
            others: &self.others,
            aside: Cell::new(None),
            all: &self.counters,
            now: now.seconds(),
            millis: now.0,
            router_mac: tables.router.as_ref().map_or(NO_MAC, |r| r.mac.to_u64()),
            router: tables.router.as_ref().map_or(Mac::ZERO, |r| r.mac),
            clamp_mss: tables.clamps_mss(),
        }
    }
}

impl Context<'_> {
    /// An identification for an outer packet that may be fragmented. Of a flow it does not repeat
    /// within 65,536 packets of the worker; workers count each for itself, and are kept apart by the
    /// hashes of their flows (RFC 6864 section 4.3).
    fn ident(&self, flow: u32) -> u16 {
        self.ident.set(self.ident.get().wrapping_add(1));
        self.ident.get().wrapping_add(flow as u16)
    }

    /// A frame of a port, by the general way: the port that it is sent to, or [`OTHER`].
    #[inline(never)]
    fn access<F: Frame>(&self, frame: &mut F) -> u32 {
        let entry = match self.port.role {
            Role::Access(id) => bridge::Entry::new(self, id, Location::Port(self.port.id)),
            Role::Uplink => None,
        };
        self.note(match entry {
            Some(entry) => bridge::forward(self, frame, &entry),
            None => bridge::nowhere(frame),
        })
    }

    /// Of a frame of the usual way that is dropped for want of room: [`OTHER`].
    #[cold]
    fn note_no_headroom(&self) -> u32 {
        self.note_other(fate::dropped(DropReason::NoHeadroom))
    }

    /// The same of a frame of the underlay.
    #[inline(never)]
    fn uplink<F: Frame>(&self, frame: &mut F) -> u32 {
        self.note(underlay::forward(self, frame))
    }

    #[inline(always)]
    fn note(&self, fate: Fate) -> u32 {
        match fate {
            Ok(sent) => sent.port(),
            other => self.note_other(other),
        }
    }

    /// Puts the verdict of a frame that is not simply sent to the others of the batch.
    #[cold]
    fn note_other(&self, fate: Fate) -> u32 {
        let mut others = self.others.take();
        others.push_back(self.verdict(fate));
        self.others.set(others);
        OTHER
    }
}
