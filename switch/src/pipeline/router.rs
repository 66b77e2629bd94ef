//! L3: the node's router. RFC 1812 section 5 and RFC 8200 section 3 say what it must do.

use super::fate::{Fate, Unsent, dropped, sent};
use super::icmp_error::{Refusal, Report};
use super::packet::{self, Packet};
use super::segment::{self, Step};
use super::{Context, Origin, Verdict, egress, mtu, nesting, own, resolve};
use crate::frame::Frame;
use crate::ids::{Location, PortId, TunnelId};
use crate::reason::DropReason;
use crate::tables::NextHop;
use encap::ethernet::{self, HEADER_LEN, ethertype};
use encap::{flow, ipv4, ipv6};
use std::net::IpAddr;

/// A frame for the router: ARP or neighbour discovery for its addresses, a packet to one of them,
/// or a packet on its way. Where it came from is asked for only when it is not simply sent on.
#[inline(always)]
pub(super) fn forward<F: Frame>(
    cx: &Context<'_>,
    frame: &mut F,
    ethertype: u16,
    origin: impl Fn() -> Origin + Copy,
) -> Fate {
    if ethertype == ethertype::IPV4
        && frame.gso_size() == 0
        && let Some(packet) = packet::usual_v4(frame)
    {
        return route::<F, false>(cx, frame, packet, origin);
    }
    forward_unusual(cx, frame, ethertype, origin())
}

/// [`forward`] where it is not worth a copy of the router.
#[inline(never)]
pub(super) fn forward_rare<F: Frame>(cx: &Context<'_>, frame: &mut F, origin: Origin) -> Fate {
    let (_, _, ethertype) = ethernet::header(frame.bytes()).ok_or(DropReason::EthTruncated)?;
    forward(cx, frame, ethertype, || origin)
}

/// Whatever is not the usual packet of IPv4.
#[inline(never)]
fn forward_unusual<F: Frame>(
    cx: &Context<'_>,
    frame: &mut F,
    ethertype: u16,
    origin: Origin,
) -> Fate {
    if frame.gso_size() != 0 {
        return forward_super(cx, frame, ethertype, origin);
    }
    let packet = match ethertype {
        ethertype::IPV6 => {
            let packet = packet::check_v6(frame)?;
            return route::<F, false>(cx, frame, packet, || origin);
        }
        ethertype::IPV4 => packet::check_v4(frame)?,
        ethertype::ARP => return cx.fate(own::arp(cx, frame, origin)),
        _ => return dropped(DropReason::EtherTypeUnrouted),
    };
    route::<F, false>(cx, frame, packet, || origin)
}

/// A superpacket goes the same way as its packets would, which are as large as it says. In a place of
/// its own, so that others need not be asked again whether they are one.
#[inline(never)]
fn forward_super<F: Frame>(
    cx: &Context<'_>,
    frame: &mut F,
    ethertype: u16,
    origin: Origin,
) -> Fate {
    let packet = match ethertype {
        ethertype::IPV4 => packet::check_v4(frame)?,
        ethertype::IPV6 => packet::check_v6(frame)?,
        _ => return dropped(DropReason::EtherTypeUnrouted),
    };
    route::<F, true>(cx, frame, packet, || origin)
}

/// A packet that was validated before, read anew: see [`Packet`]. Of a superpacket the length is that of its
/// largest packet.
#[inline(always)]
fn again<F: Frame, const V4: bool, const SUPER: bool>(frame: &F) -> Result<Packet, DropReason> {
    let mut packet = if V4 { packet::check_v4(frame)? } else { packet::check_v6(frame)? };
    if SUPER {
        packet.len = segment::packet_len(frame).ok_or(DropReason::OffloadInvalid)?;
    }
    Ok(packet)
}

/// A validated packet: by the longest prefix to its next hop.
///
/// The way of a packet to a pod or into a tunnel is inlined as a whole, once for each family and kind of
/// next hop: what these functions return would otherwise travel through memory in odd pieces, a third of
/// a routed packet's cost.
#[inline(always)]
fn route<F: Frame, const SUPER: bool>(
    cx: &Context<'_>,
    frame: &mut F,
    mut packet: Packet,
    origin: impl Fn() -> Origin + Copy,
) -> Fate {
    if frame.len() != HEADER_LEN + packet.len {
        frame.truncate(HEADER_LEN + packet.len);
    }
    if SUPER {
        packet.len = segment::packet_len(frame).ok_or(DropReason::OffloadInvalid)?;
    }
    let Some(hop) = cx.tables.route(packet.dst) else {
        return refuse(cx, DropReason::NoRoute, Report::NetworkUnreachable, origin());
    };
    match *hop {
        NextHop::Local { .. } | NextHop::Tunnel(_) => {
            onward::<F, SUPER>(cx, frame, packet, hop, origin)
        }
        _ if packet.dst.is_ipv4() => elsewhere::<F, true, SUPER>(cx, frame, hop, origin()),
        _ => elsewhere::<F, false, SUPER>(cx, frame, hop, origin()),
    }
}

/// By a next hop that is neither a pod nor a tunnel, or that has to be found first.
#[inline(never)]
fn elsewhere<F: Frame, const V4: bool, const SUPER: bool>(
    cx: &Context<'_>,
    frame: &mut F,
    hop: &NextHop,
    origin: Origin,
) -> Fate {
    let packet = again::<F, V4, SUPER>(frame)?;
    let hop = match *hop {
        NextHop::Group(group) => match pick(cx, frame, group) {
            Some(hop) => hop,
            None => return refuse(cx, DropReason::NoRoute, Report::NetworkUnreachable, origin),
        },
        _ => hop,
    };
    let resolved;
    let hop = match *hop {
        NextHop::Connected(segment) => match resolve::next_hop(cx, segment, packet.dst, origin) {
            Ok(hop) => {
                resolved = hop;
                &resolved
            }
            Err(Ok(wait)) => return cx.fate(Ok(Verdict::Resolve(wait))),
            Err(Err(reason)) => return refuse(cx, reason, Report::HostUnreachable, origin),
        },
        _ => hop,
    };
    match *hop {
        NextHop::Router => cx.fate(own::end(cx, frame, packet.len, origin, hop)),
        _ => onward::<F, SUPER>(cx, frame, packet, hop, || origin),
    }
}

/// By a known next hop, which is not the router itself.
#[inline(always)]
fn onward<F: Frame, const SUPER: bool>(
    cx: &Context<'_>,
    frame: &mut F,
    packet: Packet,
    hop: &NextHop,
    origin: impl Fn() -> Origin + Copy,
) -> Fate {
    if packet.link_local {
        return dropped(DropReason::IpAddressInvalid);
    }
    match hop {
        NextHop::Local { port, mac } => {
            alive(cx, frame, &packet, origin)?;
            ready(cx, frame, &packet, origin, mtu::of_port(cx, *port)?, false)?;
            ethernet::rewrite(frame.bytes_mut(), *mac, cx.router);
            sent(*port)
        }
        NextHop::Tunnel(id) if origin().is_tunnel(*id) => dropped(DropReason::NestedTunnel),
        // The underlay's packets end at this node: it is no transit router.
        NextHop::Tunnel(_) | NextHop::Direct { .. } if matches!(origin(), Origin::Native) => {
            dropped(DropReason::NotForUs)
        }
        NextHop::Tunnel(id) if packet.dst.is_ipv6() && nesting::may_be_limited(frame) => {
            into_tunnel::<F, SUPER>(cx, frame, *id, origin())
        }
        NextHop::Tunnel(id) => {
            alive(cx, frame, &packet, origin)?;
            let tunnel = cx.tables.tunnel(*id).ok_or(DropReason::PortDown)?;
            ready(cx, frame, &packet, origin, mtu::through(cx, tunnel)?, SUPER)?;
            sent(egress::into_tunnel(cx, frame, tunnel)?)
        }
        NextHop::Direct { .. } | NextHop::Behind { .. } => {
            alive(cx, frame, &packet, origin)?;
            let cut_up = SUPER && matches!(hop, NextHop::Behind { .. });
            ready(cx, frame, &packet, origin, mtu::of_next_hop(cx, hop)?, cut_up)?;
            sent(leave(cx, frame, hop)?)
        }
        _ => cx.fate(own::end(cx, frame, packet.len, origin(), hop)),
    }
}

/// An IPv6 packet with extension headers into a tunnel: one of them may limit how many tunnels more it
/// may enter (RFC 2473 section 4.1.1).
#[inline(never)]
fn into_tunnel<F: Frame, const SUPER: bool>(
    cx: &Context<'_>,
    frame: &mut F,
    id: TunnelId,
    origin: Origin,
) -> Fate {
    let packet = again::<F, false, SUPER>(frame)?;
    alive(cx, frame, &packet, || origin)?;
    let Some(limit) = nesting::limit(cx, frame, id) else {
        ready(cx, frame, &packet, || origin, mtu::of_tunnel(cx, id)?, SUPER)?;
        return sent(egress::to_tunnel(cx, frame, id)?);
    };
    let Some(left) = limit.value.checked_sub(1) else {
        let report = Report::ParameterProblem(limit.offset as u32);
        return refuse(cx, DropReason::EncapsulationLimit, report, origin);
    };
    let mtu = nesting::mtu(cx, id, mtu::of_tunnel(cx, id)?);
    ready(cx, frame, &packet, || origin, mtu, SUPER)?;
    sent(egress::to_limited_tunnel(cx, frame, id, left)?)
}

/// Whether a packet has hops left.
#[inline(always)]
fn alive<F: Frame>(
    cx: &Context<'_>,
    frame: &F,
    packet: &Packet,
    origin: impl Fn() -> Origin + Copy,
) -> Result<(), Unsent> {
    if packet.hops(frame) < 2 {
        refuse(cx, DropReason::TtlExceeded, Report::TimeExceeded, origin())?;
    }
    Ok(())
}

/// Makes a packet ready to be sent on, if it is small enough; `cut_up` if it is a superpacket and headers are
/// to come before each of its packets. What is refused is quoted as it came: nothing is changed before the
/// last check.
#[inline(always)]
fn ready<F: Frame>(
    cx: &Context<'_>,
    frame: &mut F,
    packet: &Packet,
    origin: impl Fn() -> Origin + Copy,
    mtu: u32,
    cut_up: bool,
) -> Result<(), Unsent> {
    if packet.len > mtu as usize {
        cx.fate(too_large(frame, mtu, origin()))?;
    }
    if cut_up {
        cx.fate(segment::one_by_one(Step::Route(origin())))?;
    }
    if cx.clamp_mss {
        mtu::clamp_mss(cx, frame, origin(), mtu);
    }
    count_hop(frame, packet);
    Ok(())
}

#[cold]
fn refuse(cx: &Context<'_>, reason: DropReason, report: Report, origin: Origin) -> Fate {
    cx.fate(refusal(reason, report, origin))
}

pub(super) fn refusal(
    reason: DropReason,
    report: Report,
    origin: Origin,
) -> Result<Verdict, DropReason> {
    Ok(Verdict::Refuse(Refusal { reason, report, origin }))
}

/// What becomes of a packet that its next hop does not take whole.
#[cold]
pub(super) fn too_large<F: Frame>(
    frame: &F,
    mtu: u32,
    origin: Origin,
) -> Result<Verdict, DropReason> {
    let (reason, report) = (DropReason::MtuExceeded, Report::TooBig(mtu));
    match origin {
        // Its own answers are no larger than the questions, its errors smaller than any MTU.
        Origin::Router => Err(reason),
        _ if packet::may_fragment(frame) => Ok(Verdict::Fragment(mtu, origin)),
        _ => Ok(Verdict::Refuse(Refusal { reason, report, origin })),
    }
}

/// Out by a next hop that takes packets of this size: the port it leaves through.
#[inline(always)]
pub(super) fn leave<F: Frame>(
    cx: &Context<'_>,
    frame: &mut F,
    hop: &NextHop,
) -> Result<PortId, DropReason> {
    match *hop {
        NextHop::Local { port, mac } => {
            ethernet::rewrite(frame.bytes_mut(), mac, cx.router);
            Ok(port)
        }
        NextHop::Tunnel(id) => egress::to_tunnel(cx, frame, id),
        NextHop::Behind { tunnel, mac } => {
            ethernet::rewrite(frame.bytes_mut(), mac, cx.router);
            egress::to_location(cx, frame, Location::Tunnel(tunnel))
        }
        NextHop::Direct { port, src, dst } => {
            let dst = dst.ok_or(DropReason::NeighborUnresolved)?;
            ethernet::rewrite(frame.bytes_mut(), dst, src);
            Ok(port)
        }
        _ => Err(DropReason::NoRoute),
    }
}

/// The next hop of the longest prefix that matches; of several of equal cost, the one of the flow.
pub(super) fn next_hop<'a, F: Frame>(
    cx: &Context<'a>,
    frame: &F,
    dst: IpAddr,
) -> Option<&'a NextHop> {
    let hop = cx.tables.route(dst)?;
    match *hop {
        NextHop::Group(group) => pick(cx, frame, group),
        _ => Some(hop),
    }
}

#[inline(never)]
fn pick<'a, F: Frame>(cx: &Context<'a>, frame: &F, group: u32) -> Option<&'a NextHop> {
    let flow = flow::hash_packet(frame.bytes().get(HEADER_LEN..).unwrap_or(&[]));
    cx.tables.pick(group, flow)
}

/// Takes one from the TTL or hop limit, of which there is more than one left.
#[inline(always)]
fn count_hop<F: Frame>(frame: &mut F, packet: &Packet) {
    let bytes = &mut frame.bytes_mut()[HEADER_LEN..];
    let counted = match packet.dst {
        IpAddr::V4(_) => ipv4::View::new_unchecked(bytes).decrement_ttl(),
        IpAddr::V6(_) => ipv6::View::new_unchecked(bytes).decrement_hop_limit(),
    };
    debug_assert!(counted.is_ok(), "checked before");
}
