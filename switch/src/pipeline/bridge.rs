//! L2: a learning bridge (IEEE 802.1Q clause 8).

use super::answer::{self, Owner};
use super::fate::{Fate, dropped, sent};
use super::segment::{self, Step};
use super::{Context, NO_MAC, Origin, Verdict, defend, egress, guard, router, suppress};
use crate::frame::Frame;
use crate::ids::{Location, SegmentId};
use crate::reason::DropReason;
use crate::tables::{
    Guard, Learned, Limits, NextHop, Role, Router, Segment, Stamp, Station, UnknownUnicast,
};
use encap::Mac;
use encap::ethernet::{self, ethertype};
use std::net::IpAddr;

/// Where frames enter a segment, and what is the same for all of them that do in one batch.
#[derive(Clone, Copy)]
pub(super) struct Entry<'a> {
    segment: &'a Segment,
    from: Location,
    /// Who is behind it, if it is guarded.
    owner: Option<&'a Guard>,
    stamp: Stamp,
    /// The router's MAC address where the segment is routed, as in [`Mac::to_u64`]; none of a frame where
    /// it is not.
    gateway: u64,
}

impl<'a> Entry<'a> {
    /// Through a port or tunnel into a segment; none when there is no such segment.
    #[inline(always)]
    pub(super) fn new(cx: &Context<'a>, id: SegmentId, from: Location) -> Option<Entry<'a>> {
        let segment = cx.tables.segment(id)?;
        Some(Entry {
            segment,
            from,
            owner: cx.owner,
            stamp: Stamp::new(from, cx.now, segment.ageing),
            gateway: if segment.routed { cx.router_mac } else { NO_MAC },
        })
    }
}

/// The addresses and the EtherType of a frame whose source is one.
#[inline(always)]
fn header<F: Frame>(frame: &F) -> Result<(u64, u64, u16), DropReason> {
    let (dst, src, ethertype) = ethernet::header(frame.bytes()).ok_or(DropReason::EthTruncated)?;
    if !is_station(src) {
        return Err(DropReason::EthSourceInvalid);
    }
    Ok((dst, src, ethertype))
}

/// What becomes of a frame for a segment that there is none of.
#[cold]
pub(super) fn nowhere<F: Frame>(frame: &F) -> Fate {
    header(frame)?;
    dropped(DropReason::PortUnknown)
}

/// [`forward`] where it is not worth a copy of the bridge.
#[inline(never)]
pub(super) fn forward_rare<F: Frame>(
    cx: &Context<'_>,
    frame: &mut F,
    segment: SegmentId,
    from: Location,
) -> Fate {
    match Entry::new(cx, segment, from) {
        Some(entry) => forward(cx, frame, &entry),
        None => nowhere(frame),
    }
}

/// Checks and learns the source, then forwards by the destination.
#[inline(always)]
pub(super) fn forward<F: Frame>(cx: &Context<'_>, frame: &mut F, entry: &Entry<'_>) -> Fate {
    let (dst, src, ethertype) = header(frame)?;
    let (segment, from) = (entry.segment, entry.from);
    if let Some(owner) = entry.owner {
        guard::check(cx, owner, segment, frame)?;
    }
    learn(cx, entry, src);

    if dst == entry.gateway {
        // Through a tunnel few frames come for the gateway: they are not worth a copy of the router.
        return match from {
            Location::Port(_) => {
                router::forward(cx, frame, ethertype, || Origin::Segment(segment.id, from))
            }
            from => router::forward_rare(cx, frame, Origin::Segment(segment.id, from)),
        };
    }
    if is_group(dst) {
        return cx.fate(to_group(cx, frame, segment, from, Mac::from_u64(dst), ethertype));
    }
    if ethertype != ethertype::IPV4
        && segment.routed
        && let Some(router) = &cx.tables.router
        && let Some(ip) = defend::conflict(router, frame, ethertype)
    {
        return cx.fate(Ok(Verdict::Defend(segment.id, ip)));
    }
    match lookup(cx, segment, dst) {
        None => unknown(cx, segment, from),
        Some(Location::Port(port)) if from != Location::Port(port) => {
            sent(egress::to_port(cx, frame, port)?)
        }
        Some(Location::Tunnel(id)) if matches!(from, Location::Port(_)) => {
            if frame.gso_size() != 0 {
                return cx.fate(segment::one_by_one(Step::Bridge(segment.id, from)));
            }
            sent(egress::bridge_to_tunnel(cx, frame, id)?)
        }
        Some(to) if to == from => dropped(DropReason::Hairpin),
        Some(_) => dropped(DropReason::SplitHorizon),
    }
}

/// To an address that is nowhere to be found.
#[inline(never)]
fn unknown(cx: &Context<'_>, segment: &Segment, from: Location) -> Fate {
    match segment.policy.unknown_unicast {
        UnknownUnicast::Drop => dropped(DropReason::UnknownUnicast),
        UnknownUnicast::Flood => cx.fate(Ok(Verdict::Flood(segment.id, from))),
    }
}

/// Whether the group bit of an address is set (IEEE 802.3 clause 3.2.3).
#[inline(always)]
const fn is_group(mac: u64) -> bool {
    mac >> 40 & 1 != 0
}

/// Whether an address is that of one station: not zero, and the group bit not set. The group bit is made
/// that of the sign, which answers both at once.
#[inline(always)]
const fn is_station(mac: u64) -> bool {
    mac.rotate_left(63 - 40) as i64 > 0
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
fn learn(cx: &Context<'_>, entry: &Entry<'_>, src: u64) {
    let segment = entry.segment;
    if !segment.statics.is_empty() && segment.statics.contains_key(&Mac::from_u64(src)) {
        return;
    }
    let station = Station::new(segment.id, src);
    if !cx.fdb.knows(station, entry.stamp) {
        learn_anew(cx, entry, station);
    }
}

#[inline(never)]
fn learn_anew(cx: &Context<'_>, entry: &Entry<'_>, station: Station) {
    let segment = entry.segment;
    let limits = || Limits { segment: segment.policy.fdb_limit, port: cx.port.policy.fdb_limit };
    let learned = cx.fdb.learn_within(station, entry.from, cx.now, segment.ageing, limits);
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
