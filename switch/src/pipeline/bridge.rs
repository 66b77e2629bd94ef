//! L2: a learning bridge (IEEE 802.1Q clause 8).

use super::answer::{self, Owner};
use super::segment::{self, Step};
use super::{Context, Origin, Verdict, defend, egress, guard, router, suppress};
use crate::frame::Frame;
use crate::ids::{Location, SegmentId};
use crate::reason::DropReason;
use crate::tables::{Learned, Limits, NextHop, Role, Router, Segment, Station, UnknownUnicast};
use encap::Mac;
use encap::ethernet::{self, ethertype};
use std::net::IpAddr;

/// Checks and learns the source, then forwards by the destination.
#[inline(always)]
pub(super) fn forward<F: Frame>(
    cx: &Context<'_>,
    frame: &mut F,
    id: SegmentId,
    from: Location,
) -> Result<Verdict, DropReason> {
    let (dst, src, ethertype) = ethernet::header(frame.bytes()).ok_or(DropReason::EthTruncated)?;
    if is_group(src) || src == 0 {
        return Err(DropReason::EthSourceInvalid);
    }
    let segment = cx.tables.segment(id).ok_or(DropReason::PortUnknown)?;
    if let Some(owner) = &cx.port.policy.guard {
        guard::check(cx, owner, segment, frame)?;
    }
    learn(cx, segment, src, from);

    if dst == cx.router_mac && segment.routed {
        return router::forward(cx, frame, Origin::Segment(id, from));
    }
    if is_group(dst) {
        return to_group(cx, frame, segment, from, Mac::from_u64(dst), ethertype);
    }
    if ethertype != ethertype::IPV4
        && segment.routed
        && let Some(router) = &cx.tables.router
        && let Some(ip) = defend::conflict(router, frame, ethertype)
    {
        return Ok(Verdict::Defend(id, ip));
    }
    match lookup(cx, segment, dst) {
        None if segment.policy.unknown_unicast == UnknownUnicast::Drop => {
            Err(DropReason::UnknownUnicast)
        }
        None => Ok(Verdict::Flood(id, from)),
        Some(to) if to == from => Err(DropReason::Hairpin),
        Some(Location::Port(port)) => egress::to_port(cx, frame, port).map(Verdict::Send),
        Some(Location::Tunnel(_)) if matches!(from, Location::Tunnel(_)) => {
            Err(DropReason::SplitHorizon)
        }
        Some(_) if frame.gso_size() != 0 => segment::one_by_one(Step::Bridge(id, from)),
        Some(to) => egress::to_location(cx, frame, to).map(Verdict::Send),
    }
}

/// Whether the group bit of an address is set (IEEE 802.3 clause 3.2.3).
#[inline(always)]
const fn is_group(mac: u64) -> bool {
    mac >> 40 & 1 != 0
}

/// Broadcast and multicast: questions that can be answered on the spot are, the rest is flooded.
#[inline(never)]
fn to_group<F: Frame>(
    cx: &Context<'_>,
    frame: &mut F,
    segment: &Segment,
    from: Location,
    dst: Mac,
    ethertype: u16,
) -> Result<Verdict, DropReason> {
    if segment.routed
        && let Some(router) = &cx.tables.router
    {
        if let Some(ip) = defend::conflict(router, frame, ethertype) {
            return Ok(Verdict::Defend(segment.id, ip));
        }
        let answered = match ethertype {
            ethertype::ARP if dst.is_broadcast() => {
                answer::arp(frame, |r| reached_by(cx, router, segment, r.target_ip.into()))?
            }
            ethertype::IPV6 => {
                answer::neighbor_solicitation(frame, |ip, _| reached_by(cx, router, segment, ip))?
            }
            _ => false,
        };
        if answered {
            cx.counters.answered.add(1);
            return egress::to_location(cx, frame, from).map(Verdict::Send);
        }
    }
    if ethernet::is_bridge_reserved(dst.to_u64()) {
        return Err(DropReason::EthReserved);
    }
    if segment.policy.suppress && suppress::answer(segment, frame, ethertype, from)? {
        cx.counters.answered.add(1);
        return egress::to_location(cx, frame, from).map(Verdict::Send);
    }
    if frame.gso_size() != 0 {
        return segment::one_by_one(Step::Bridge(segment.id, from));
    }
    if cx.port.policy.storm.as_ref().is_some_and(|storm| !storm.admit(cx.millis)) {
        return Err(DropReason::Storm);
    }
    Ok(Verdict::Flood(segment.id, from))
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
#[inline(always)]
fn learn(cx: &Context<'_>, segment: &Segment, src: u64, from: Location) {
    if !segment.statics.is_empty() && segment.statics.contains_key(&Mac::from_u64(src)) {
        return;
    }
    let limits = || Limits { segment: segment.policy.fdb_limit, port: cx.port.policy.fdb_limit };
    let station = Station::new(segment.id, src);
    let learned = cx.fdb.learn_within(station, from, cx.now, segment.ageing, limits);
    if matches!(learned, Learned::Full | Learned::Limited) {
        cx.counters.not_learned.add(1);
    }
}

/// Where an address, as in [`Mac::to_u64`], is: as configured, else as learned.
#[inline(always)]
pub(super) fn lookup(cx: &Context<'_>, segment: &Segment, mac: u64) -> Option<Location> {
    if !segment.statics.is_empty()
        && let Some(&location) = segment.statics.get(&Mac::from_u64(mac))
    {
        return Some(location);
    }
    cx.fdb.locate(Station::new(segment.id, mac), cx.now)
}
