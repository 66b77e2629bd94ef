//! L2: a learning bridge (IEEE 802.1Q clause 8).

use super::answer::{self, Owner};
use super::{Context, Origin, Verdict, defend, egress, guard, router, suppress};
use crate::frame::Frame;
use crate::ids::{Location, SegmentId};
use crate::reason::DropReason;
use crate::tables::{Learned, Limits, NextHop, Role, Router, Segment, UnknownUnicast};
use encap::Mac;
use encap::ethernet::{self, ethertype};
use std::net::IpAddr;

/// Checks and learns the source, then forwards by the destination.
#[inline]
pub(super) fn forward<F: Frame>(
    cx: &Context<'_>,
    frame: &mut F,
    id: SegmentId,
    from: Location,
) -> Result<Verdict, DropReason> {
    let (dst, src, ethertype) = ethernet::header(frame.bytes()).ok_or(DropReason::EthTruncated)?;
    let (dst, src) = (Mac::from_u64(dst), Mac::from_u64(src));
    if !src.is_valid_source() {
        return Err(DropReason::EthSourceInvalid);
    }
    let segment = cx.tables.segment(id).ok_or(DropReason::PortUnknown)?;
    if let Some(owner) = &cx.port.policy.guard {
        guard::check(cx, owner, segment, frame)?;
    }
    learn(cx, segment, src, from);

    if segment.routed
        && let Some(router) = &cx.tables.router
    {
        if dst == router.mac {
            return router::forward(cx, frame, Origin::Segment(id, from));
        }
        if let Some(ip) = defend::conflict(router, frame, ethertype) {
            return Ok(Verdict::Defend(id, ip));
        }
        let answered = match ethertype {
            ethertype::ARP if dst.is_broadcast() => {
                answer::arp(frame, |r| reached_by(cx, router, segment, r.target_ip.into()))?
            }
            ethertype::IPV6 if dst.is_multicast() => {
                answer::neighbor_solicitation(frame, |ip, _| reached_by(cx, router, segment, ip))?
            }
            _ => false,
        };
        if answered {
            cx.counters.answered.add(1);
            return egress::to_location(cx, frame, from).map(Verdict::Send);
        }
    }

    if dst.is_multicast() {
        if ethernet::is_bridge_reserved(dst.to_u64()) {
            return Err(DropReason::EthReserved);
        }
        if segment.policy.suppress && suppress::answer(segment, frame, ethertype, from)? {
            cx.counters.answered.add(1);
            return egress::to_location(cx, frame, from).map(Verdict::Send);
        }
        if cx.port.policy.storm.as_ref().is_some_and(|storm| !storm.admit(cx.millis)) {
            return Err(DropReason::Storm);
        }
        return Ok(Verdict::Flood(id, from));
    }
    match lookup(cx, segment, dst) {
        None if segment.policy.unknown_unicast == UnknownUnicast::Drop => {
            Err(DropReason::UnknownUnicast)
        }
        None => Ok(Verdict::Flood(id, from)),
        Some(to) if to == from => Err(DropReason::Hairpin),
        Some(Location::Tunnel(_)) if matches!(from, Location::Tunnel(_)) => {
            Err(DropReason::SplitHorizon)
        }
        Some(to) => egress::to_location(cx, frame, to).map(Verdict::Send),
    }
}

/// Whether the router answers for an address in a segment that it serves: for its own, and for a pod's
/// in another such segment. Segments may overlap, and whoever believes the pod to be on its own link
/// reaches it all the same (RFC 1027, proxy ARP).
fn reached_by(cx: &Context<'_>, router: &Router, segment: &Segment, ip: IpAddr) -> Option<Owner> {
    let elsewhere = || match cx.tables.route(ip) {
        Some(&NextHop::Local { port, .. }) if !segment.neighbors.contains_key(&ip) => {
            cx.tables.port(port).is_some_and(|p| p.role != Role::Access(segment.id))
        }
        _ => false,
    };
    Owner::router(router, ip)
        .or_else(|| elsewhere().then_some(Owner { mac: router.mac, router: true }))
}

/// Notes where the source is, unless that is configured: what is configured never moves.
#[inline]
fn learn(cx: &Context<'_>, segment: &Segment, src: Mac, from: Location) {
    if !segment.statics.is_empty() && segment.statics.contains_key(&src) {
        return;
    }
    let limits = || Limits { segment: segment.policy.fdb_limit, port: cx.port.policy.fdb_limit };
    let learned = cx.fdb.learn_within(segment.id, src, from, cx.now, segment.ageing, limits);
    if matches!(learned, Learned::Full | Learned::Limited) {
        cx.counters.not_learned.add(1);
    }
}

/// Where an address is: as configured, else as learned.
#[inline]
pub(super) fn lookup(cx: &Context<'_>, segment: &Segment, mac: Mac) -> Option<Location> {
    if !segment.statics.is_empty()
        && let Some(&location) = segment.statics.get(&mac)
    {
        return Some(location);
    }
    cx.fdb.lookup(segment.id, mac, cx.now)
}
