//! Neighbour resolution: hosts behind bridged ports whose addresses are the node's to route to (RFC 826,
//! RFC 1122 section 2.3.2, RFC 4861 section 7.2). Pods need none of this: their addresses are
//! configured.
//!
//! What is resolved is in [`crate::tables::Neighbors`], which all workers share. What waits is a
//! worker's own: a few frames for each of a few neighbours, and when to ask again.

use super::{Context, Millis, Origin, Verdict, Worker, bridge, own, router};
use crate::frame::{Frame, Io};
use crate::ids::{Location, PortId, SegmentId};
use crate::reason::DropReason;
use crate::tables::{NeighborState, NextHop, Router, Tables};
use encap::ethernet::{self, HEADER_LEN, ethertype};
use encap::ip::protocol;
use encap::{Mac, arp, ipv6, ndisc};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::IpAddr;

/// Neighbours that a worker can be asking for at once.
pub const MAX_PENDING: usize = 64;
/// Frames that wait for one neighbour (RFC 4861 section 7.2.2: at least one; the newest are kept).
pub const MAX_HELD: usize = 4;
/// Milliseconds between two questions (RFC 1122 section 2.3.2.1, RFC 4861 section 10: RETRANS_TIMER).
const RETRY_AFTER: u64 = 1000;
/// Questions before a neighbour counts as unreachable (RFC 4861 section 10: MAX_MULTICAST_SOLICIT).
const MAX_TRIES: u8 = 3;
/// Seconds after a failure in which senders are refused at once, and nobody is asked.
const BACK_OFF: u32 = 5;
/// Where the router's own frames come from: no port of any segment.
pub(super) const NOWHERE: Location = Location::Port(PortId(u16::MAX));

/// A frame that is to wait for a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wait {
    segment: SegmentId,
    ip: IpAddr,
    origin: Origin,
}

/// What a worker is asking for.
pub(super) struct Resolver {
    pending: RefCell<Vec<Pending>>,
    /// An answer was heard in this batch.
    heard: Cell<bool>,
    /// The millisecond before which there is nothing to do, unless an answer is heard; the end of time when
    /// nothing is pending.
    due: Cell<u64>,
}

impl Default for Resolver {
    fn default() -> Resolver {
        Resolver { pending: RefCell::default(), heard: Cell::default(), due: Cell::new(u64::MAX) }
    }
}

struct Pending {
    segment: SegmentId,
    ip: IpAddr,
    /// The queue of [`crate::Waiting::hold`] that its frames wait in.
    slot: u16,
    tries: u8,
    due: u64,
    /// Where each of the frames came from, oldest first.
    held: VecDeque<(PortId, Origin)>,
}

impl Resolver {
    fn is_idle(&self, now: u64) -> bool {
        !self.heard.get() && now < self.due.get()
    }

    /// Notes that a neighbour must be asked for; its place in the list, unless that is full.
    fn note(&self, segment: SegmentId, ip: IpAddr, now: u64) -> Option<usize> {
        let mut pending = self.pending.borrow_mut();
        if let Some(i) = pending.iter().position(|p| p.segment == segment && p.ip == ip) {
            return Some(i);
        }
        let taken = |slot: u16| pending.iter().any(|p| p.slot == slot);
        let slot = (0..MAX_PENDING as u16).find(|&s| !taken(s))?;
        let held = VecDeque::with_capacity(MAX_HELD);
        pending.push(Pending { segment, ip, slot, tries: 0, due: now, held });
        self.due.set(now);
        Some(pending.len() - 1)
    }
}

/// The next hop of a packet to a host on a segment, or what is to become of the packet meanwhile.
pub(super) fn next_hop(
    cx: &Context<'_>,
    id: SegmentId,
    ip: IpAddr,
    origin: Origin,
) -> Result<NextHop, Result<Wait, DropReason>> {
    let wait = Err(Ok(Wait { segment: id, ip, origin }));
    let (Some(neighbors), Some(segment)) = (&cx.tables.neighbors, cx.tables.segment(id)) else {
        return Err(Err(DropReason::NeighborUnresolved));
    };
    let Some(entry) = neighbors.get(id, ip, cx.now) else { return wait };
    if entry.state == NeighborState::Failed && entry.age < BACK_OFF {
        return Err(Err(DropReason::NeighborFailed));
    }
    if entry.state == NeighborState::Stale {
        cx.resolver.note(id, ip, cx.millis);
    }
    let Some(mac) = entry.mac else { return wait };
    match bridge::lookup(cx, segment, mac.to_u64()) {
        Some(Location::Port(port)) => Ok(NextHop::Local { port, mac }),
        Some(Location::Tunnel(tunnel)) => Ok(NextHop::Behind { tunnel, mac }),
        // The segment has forgotten where the host is; its answer will tell.
        None => wait,
    }
}

/// Lets a frame wait, and asks for its neighbour if nobody has.
#[cold]
pub(super) fn hold<I: Io>(cx: &Context<'_>, wait: Wait, frame: I::Frame, io: &mut I) {
    let Some(i) = cx.resolver.note(wait.segment, wait.ip, cx.millis) else {
        return cx.drop(DropReason::NeighborUnresolved, frame, io);
    };
    let (slot, full) = {
        let pending = &cx.resolver.pending.borrow()[i];
        (pending.slot, pending.held.len() >= MAX_HELD)
    };
    if full {
        let oldest = cx.resolver.pending.borrow_mut()[i].held.pop_front();
        if let (Some((port, _)), Some(old)) = (oldest, io.waiting().take_held(slot)) {
            let counters = cx.all.port(port);
            counters.held.sub(1);
            counters.drop(DropReason::NeighborQueueFull);
            io.discard(old);
        }
    }
    match io.waiting().hold(slot, frame) {
        Ok(()) => {
            cx.counters.held.add(1);
            cx.resolver.pending.borrow_mut()[i].held.push_back((cx.port.id, wait.origin));
        }
        Err(frame) => cx.drop(DropReason::NeighborUnresolved, frame, io),
    }
}

impl Worker {
    /// Asks for neighbours again, sends on what waited for those that answered, and gives up on those
    /// that did not.
    pub(super) fn attend_all<I: Io>(&mut self, tables: &Tables, now: Millis, io: &mut I) {
        if self.resolver.is_idle(now.0) {
            return;
        }
        let io = &mut self.outlet(tables, now, io);
        self.resolver.heard.set(false);
        // Each taken out in turn, so that frames sent on may themselves find something to resolve.
        let asked = self.resolver.pending.borrow().len();
        for _ in 0..asked {
            let mut p = self.resolver.pending.borrow_mut().remove(0);
            if !self.attend(tables, now, &mut p, io) {
                self.resolver.pending.borrow_mut().push(p);
            }
        }
        let next = self.resolver.pending.borrow().iter().map(|p| p.due).min();
        // Another worker may hear the answer: look every few milliseconds.
        self.resolver.due.set(next.map_or(u64::MAX, |next| next.min(now.0 + 5)));
    }

    /// Does what is due for one neighbour; whether it is done with.
    fn attend<I: Io>(&self, tables: &Tables, now: Millis, p: &mut Pending, io: &mut I) -> bool {
        let Some(neighbors) = tables.neighbors.as_deref() else {
            return self.send_on(tables, now, p, io);
        };
        let known = neighbors.get(p.segment, p.ip, now.seconds());
        if known.is_some_and(|n| n.state == NeighborState::Reachable) {
            return self.send_on(tables, now, p, io);
        }
        if now.0 < p.due {
            return false;
        }
        if p.tries == MAX_TRIES {
            neighbors.fail(p.segment, p.ip, now.seconds());
            return self.send_on(tables, now, p, io);
        }
        p.tries += 1;
        p.due = now.0 + RETRY_AFTER;
        neighbors.ask(p.segment, p.ip, now.seconds());
        if let Some(cx) = self.context_of_asker(tables, now, p) {
            ask(&cx, p.segment, p.ip, io);
        }
        false
    }

    /// The context in which a question is counted: that of the port whose frame waits, or of any port
    /// of the segment.
    fn context_of_asker<'a>(
        &'a self,
        tables: &'a Tables,
        now: Millis,
        p: &Pending,
    ) -> Option<Context<'a>> {
        let member = || {
            let members = tables.segment(p.segment)?.flood.iter();
            members
                .filter_map(|at| match at {
                    Location::Port(port) => Some(*port),
                    Location::Tunnel(_) => None,
                })
                .next()
        };
        let port = p.held.front().map(|(port, _)| *port).or_else(member)?;
        Some(self.context(tables, tables.port(port)?, now))
    }

    /// Routes what waited once more, now that it is known whether the neighbour is there.
    fn send_on<I: Io>(&self, tables: &Tables, now: Millis, p: &mut Pending, io: &mut I) -> bool {
        while let Some((port, origin)) = p.held.pop_front() {
            let Some(mut frame) = io.waiting().take_held(p.slot) else { continue };
            let counters = self.counters().port(port);
            counters.held.sub(1);
            match tables.port(port).map(|port| self.context(tables, port, now)) {
                Some(cx) => {
                    // With its answer gone stale or its tables changed a frame may have to wait again:
                    // it has had its chance.
                    let routed = match origin {
                        Origin::Router => own::originate(&cx, &mut frame),
                        _ => cx.verdict(router::forward_rare(&cx, &mut frame, origin)),
                    };
                    let verdict = match routed {
                        Ok(Verdict::Resolve(_)) => Err(DropReason::NeighborUnresolved),
                        verdict => verdict,
                    };
                    cx.conclude(verdict, frame, io);
                }
                None => {
                    counters.drop(DropReason::PortUnknown);
                    io.discard(frame);
                }
            }
        }
        true
    }
}

/// Asks the hosts of a segment who has an address.
fn ask<I: Io>(cx: &Context<'_>, segment: SegmentId, ip: IpAddr, io: &mut I) {
    let Some(router) = &cx.tables.router else { return };
    let Some(own) = router.address_towards(ip) else { return };
    cx.counters.originated.add(1);
    cx.counters.asked.add(1);
    let Some(mut frame) = io.alloc() else {
        return cx.counters.drop(DropReason::NoBuffer);
    };
    let written = match (own, ip) {
        (IpAddr::V4(own), IpAddr::V4(ip)) => {
            let request = arp::Repr {
                operation: arp::Operation::Request,
                sender_mac: router.mac,
                sender_ip: own,
                target_mac: Mac::ZERO,
                target_ip: ip,
            };
            write(
                &mut frame,
                Mac::BROADCAST,
                router.mac,
                ethertype::ARP,
                request.buffer_len(),
                |b| request.emit(b),
            )
        }
        (IpAddr::V6(own), IpAddr::V6(ip)) => {
            let solicit = ndisc::Repr::Solicit { target: ip, source_mac: Some(router.mac) };
            let to = ndisc::solicited_node(ip);
            let len = ipv6::HEADER_LEN + solicit.buffer_len();
            let to_mac = ethernet::ipv6_multicast(to);
            write(&mut frame, to_mac, router.mac, ethertype::IPV6, len, |b| {
                let header = ipv6::Repr {
                    src: own,
                    dst: to,
                    next_header: protocol::ICMPV6,
                    traffic_class: 0,
                    flow_label: 0,
                    hop_limit: ndisc::HOP_LIMIT,
                    payload_len: solicit.buffer_len(),
                };
                header.emit(b);
                solicit.emit(&mut b[ipv6::HEADER_LEN..], own, to);
            })
        }
        _ => Err(DropReason::NoRoute),
    };
    match written {
        Ok(()) => cx.flood(segment, NOWHERE, frame, io),
        Err(reason) => cx.drop(reason, frame, io),
    }
}

/// Makes an empty frame one of `len` bytes behind an Ethernet header.
pub(super) fn write<F: Frame>(
    frame: &mut F,
    dst: Mac,
    src: Mac,
    ethertype: u16,
    len: usize,
    payload: impl FnOnce(&mut [u8]),
) -> Result<(), DropReason> {
    frame.resize(HEADER_LEN + len).map_err(|_| DropReason::NoBuffer)?;
    let bytes = frame.bytes_mut();
    ethernet::Repr { dst, src, ethertype }.emit(bytes);
    payload(&mut bytes[HEADER_LEN..]);
    Ok(())
}

/// An ARP reply to the router's question; whether it was one.
pub(super) fn arp_reply<F: Frame>(cx: &Context<'_>, router: &Router, frame: &F) -> bool {
    let packet = frame.bytes().get(HEADER_LEN..).unwrap_or(&[]);
    let Ok(reply) = arp::View::new_checked(packet).and_then(|v| arp::Repr::parse(&v)) else {
        return false;
    };
    reply.operation == arp::Operation::Reply
        && router.has_address(IpAddr::V4(reply.target_ip))
        && hear(cx, IpAddr::V4(reply.sender_ip), reply.sender_mac, Flags::ARP)
}

/// A neighbour advertisement to the router (RFC 4861 section 7.2.5); whether it was one that the
/// router asked for.
pub(super) fn advertisement<F: Frame>(cx: &Context<'_>, frame: &F) -> bool {
    let packet = frame.bytes().get(HEADER_LEN..).unwrap_or(&[]);
    let Ok(header) = ipv6::View::new_checked(packet) else { return false };
    if header.next_header() != protocol::ICMPV6 {
        return false;
    }
    let Ok(view) = ndisc::View::new_checked(header.payload()) else { return false };
    match ndisc::Repr::parse(&view, header.src(), header.dst(), header.hop_limit()) {
        Ok(ndisc::Repr::Advert { target, target_mac, solicited, override_cache, .. }) => {
            let sender = ethernet::View::new_unchecked(frame.bytes()).src();
            let flags = Flags { solicited, override_cache };
            hear(cx, IpAddr::V6(target), target_mac.unwrap_or(sender), flags)
        }
        _ => false,
    }
}

/// The flags of an advertisement that matter for what is known already.
#[derive(Clone, Copy)]
struct Flags {
    /// It answers a question: the neighbour hears us.
    solicited: bool,
    /// It replaces another MAC address.
    override_cache: bool,
}

impl Flags {
    /// ARP has none, and always means both.
    const ARP: Flags = Flags { solicited: true, override_cache: true };
}

/// Notes an answer, if the address is one that the router asks for in the segment of this port.
fn hear(cx: &Context<'_>, ip: IpAddr, mac: Mac, flags: Flags) -> bool {
    let (Some(neighbors), Some(&NextHop::Connected(segment))) =
        (&cx.tables.neighbors, cx.tables.route(ip))
    else {
        return false;
    };
    let Some(known) = neighbors.get(segment, ip, cx.now) else { return false };
    if mac.is_valid_source() {
        // RFC 4861 section 7.2.5, II.
        match known.mac {
            Some(old) if old != mac && !flags.override_cache => {
                if known.state == NeighborState::Reachable {
                    neighbors.doubt(segment, ip, old, cx.now);
                }
            }
            Some(old) if old != mac && !flags.solicited => {
                neighbors.doubt(segment, ip, mac, cx.now);
            }
            Some(_) if !flags.solicited => {}
            _ => neighbors.confirm(segment, ip, mac, cx.now),
        }
        cx.resolver.heard.set(true);
    }
    true
}
