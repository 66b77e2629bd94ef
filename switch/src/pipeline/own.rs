//! What ends at the router, and what begins there: ARP and neighbour discovery, echo requests, what is for the
//! node's kernel, answers and ICMP errors.

use super::answer::Owner;
use super::icmp_error::{Refusal, Report};
use super::packet;
use super::router::{leave, next_hop, refusal, too_large};
use super::{Context, Origin, Verdict, answer, egress, mtu, resolve};
use crate::frame::Frame;
use crate::reason::DropReason;
use crate::tables::{NextHop, Router};
use encap::ethernet::{self, ethertype};

/// A packet that this router does not send on itself.
#[inline(never)]
pub(super) fn end<F: Frame>(
    cx: &Context<'_>,
    frame: &mut F,
    len: usize,
    origin: Origin,
    hop: &NextHop,
) -> Result<Verdict, DropReason> {
    match *hop {
        NextHop::Router => to_router(cx, frame, origin, len),
        NextHop::Host => {
            if cx.clamp_mss {
                let host = cx.tables.router.as_ref().and_then(|r| r.host);
                let mtu = host.and_then(|h| mtu::of_port(cx, h.port).ok()).unwrap_or(u32::MAX);
                mtu::clamp_mss(cx, frame, origin, mtu);
            }
            to_host(cx, frame, origin, len)
        }
        NextHop::Blackhole => Err(DropReason::RouteBlackhole),
        NextHop::Unreachable => {
            refusal(DropReason::RouteUnreachable, Report::HostUnreachable, origin)
        }
        NextHop::Prohibited => refusal(DropReason::RouteProhibited, Report::Prohibited, origin),
        // A group has no group among its members; the others are none of ours.
        _ => Err(DropReason::NoRoute),
    }
}

/// ARP sent to the router's own MAC address: a neighbour that checks whether it is still there.
#[inline(never)]
pub(super) fn arp<F: Frame>(
    cx: &Context<'_>,
    frame: &mut F,
    origin: Origin,
) -> Result<Verdict, DropReason> {
    let router: &Router = cx.tables.router.as_ref().ok_or(DropReason::NotForUs)?;
    match origin {
        Origin::Segment(_, from)
            if answer::arp(frame, |r| Owner::router(router, r.target_ip.into()))? =>
        {
            cx.counters.answered.add(1);
            egress::to_location(cx, frame, from).map(Verdict::Send)
        }
        Origin::Segment(..) if resolve::arp_reply(cx, router, frame) => Err(DropReason::Consumed),
        _ => Err(DropReason::NotForUs),
    }
}

/// A packet to an address of the router: what the switch can answer itself is answered, the rest
/// goes to the node.
#[inline(never)]
fn to_router<F: Frame>(
    cx: &Context<'_>,
    frame: &mut F,
    origin: Origin,
    len: usize,
) -> Result<Verdict, DropReason> {
    let (_, _, ethertype) = ethernet::header(frame.bytes()).ok_or(DropReason::EthTruncated)?;
    let router: &Router = cx.tables.router.as_ref().ok_or(DropReason::NoRoute)?;
    let answered = match ethertype {
        ethertype::IPV4 => answer::echo_v4(frame)?,
        _ => {
            answer::neighbor_solicitation(frame, |ip, _| Owner::router(router, ip))?
                || answer::echo_v6(frame)?
        }
    };
    if !answered {
        let is_segment = matches!(origin, Origin::Segment(..));
        if ethertype == ethertype::IPV6 && is_segment && resolve::advertisement(cx, frame) {
            return Err(DropReason::Consumed);
        }
        return to_host(cx, frame, origin, len);
    }
    cx.counters.answered.add(1);
    match origin {
        Origin::Segment(_, from) => egress::to_location(cx, frame, from).map(Verdict::Send),
        // The answer is a packet like any other: it finds its way by the routes.
        _ => originate(cx, frame),
    }
}

/// Routes a packet of the router's own, an answer or an ICMP error. Like any other it waits for a
/// next hop that has to be asked for; nobody is told when it is dropped.
#[inline(never)]
pub(super) fn originate<F: Frame>(cx: &Context<'_>, frame: &mut F) -> Result<Verdict, DropReason> {
    let (_, _, ethertype) = ethernet::header(frame.bytes()).ok_or(DropReason::EthTruncated)?;
    let packet = match ethertype {
        ethertype::IPV4 => packet::check_v4(frame)?,
        _ => packet::check_v6(frame)?,
    };
    let resolved;
    let hop = match next_hop(cx, frame, packet.dst).ok_or(DropReason::NoRoute)? {
        NextHop::Connected(segment) => {
            match resolve::next_hop(cx, *segment, packet.dst, Origin::Router) {
                Ok(hop) => {
                    resolved = hop;
                    &resolved
                }
                Err(Ok(wait)) => return Ok(Verdict::Resolve(wait)),
                Err(Err(reason)) => return Err(reason),
            }
        }
        NextHop::Host | NextHop::Router => {
            return to_host(cx, frame, Origin::Router, packet.len);
        }
        known => known,
    };
    let mtu = mtu::of_next_hop(cx, hop)?;
    if packet.len > mtu as usize {
        return too_large(frame, mtu, Origin::Router);
    }
    leave(cx, frame, hop).map(Verdict::Send)
}

/// To the node's kernel, which is the next hop or the destination: it counts the hop down itself.
#[inline(never)]
fn to_host<F: Frame>(
    cx: &Context<'_>,
    frame: &mut F,
    origin: Origin,
    len: usize,
) -> Result<Verdict, DropReason> {
    let host = cx.tables.router.as_ref().and_then(|r| r.host).ok_or(DropReason::HostPortMissing)?;
    if matches!(origin, Origin::Segment(..)) && host.port == cx.port.id {
        let (reason, report) = (DropReason::RouteLoop, Report::NetworkUnreachable);
        return Ok(Verdict::Refuse(Refusal { reason, report, origin }));
    }
    let mtu = mtu::of_port(cx, host.port)?;
    if len > mtu as usize {
        return too_large(frame, mtu, origin);
    }
    ethernet::rewrite(frame.bytes_mut(), host.mac, cx.router);
    Ok(Verdict::Send(host.port))
}
