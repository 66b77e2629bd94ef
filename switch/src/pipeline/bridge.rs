//! L2: a learning bridge (IEEE 802.1Q clause 8).

use super::{Context, Origin, Verdict, answer, egress, router};
use crate::frame::Frame;
use crate::ids::{Location, SegmentId};
use crate::reason::DropReason;
use encap::Mac;
use encap::ethernet::{self, ethertype};

/// Learns the source, then forwards by the destination.
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
    if segment.statics.is_empty() || !segment.statics.contains_key(&src) {
        cx.fdb.learn(id, src, from, cx.now, segment.ageing);
    }

    if segment.routed
        && let Some(router) = &cx.tables.router
    {
        if dst == router.mac {
            return router::forward(cx, frame, Origin::Segment(id, from));
        }
        let answered = match ethertype {
            ethertype::ARP if dst.is_broadcast() => answer::arp(router, frame)?,
            ethertype::IPV6 if dst.is_multicast() => answer::neighbor_solicitation(router, frame)?,
            _ => false,
        };
        if answered {
            return egress::to_location(cx, frame, from).map(Verdict::Send);
        }
    }

    if dst.is_multicast() {
        if ethernet::is_bridge_reserved(dst.to_u64()) {
            return Err(DropReason::EthReserved);
        }
        return Ok(Verdict::Flood(id, from));
    }
    match lookup(cx, id, dst) {
        None => Ok(Verdict::Flood(id, from)),
        Some(to) if to == from => Err(DropReason::Hairpin),
        Some(Location::Tunnel(_)) if matches!(from, Location::Tunnel(_)) => {
            Err(DropReason::SplitHorizon)
        }
        Some(to) => egress::to_location(cx, frame, to).map(Verdict::Send),
    }
}

/// Where an address is: as configured, else as learned.
#[inline]
fn lookup(cx: &Context<'_>, id: SegmentId, mac: Mac) -> Option<Location> {
    let statics = &cx.tables.segment(id)?.statics;
    if !statics.is_empty()
        && let Some(&location) = statics.get(&mac)
    {
        return Some(location);
    }
    cx.fdb.lookup(id, mac, cx.now)
}
