//! L3: the node's router. RFC 1812 section 5 and RFC 8200 section 3 say what it must do.

use super::answer::Owner;
use super::icmp_error::{Refusal, Report};
use super::{Context, Origin, Verdict, answer, egress, mtu, resolve};
use crate::frame::Frame;
use crate::ids::{Location, PortId};
use crate::reason::DropReason;
use crate::tables::{NextHop, Router};
use encap::ethernet::{self, HEADER_LEN, ethertype};
use encap::{Mac, flow, ipv4, ipv6};
use std::net::{IpAddr, Ipv4Addr};

/// What the router needs to know of a packet.
struct Packet {
    dst: IpAddr,
    /// Bytes of the IP packet, padding excluded.
    len: usize,
    /// Whether an address is valid on its link only: such a packet may reach the router, but not
    /// pass it (RFC 4291 section 2.5.6).
    link_local: bool,
    /// TTL or hop limit.
    hops: u8,
    /// Whether a router may fragment it.
    may_fragment: bool,
}

/// A frame for the router: ARP or neighbour discovery for its addresses, a packet to one of them,
/// or a packet on its way.
///
/// The way of a forwarded packet is inlined as a whole: what these functions return would otherwise
/// travel through memory in odd pieces, a third of a routed packet's cost.
#[inline]
pub(super) fn forward<F: Frame>(
    cx: &Context<'_>,
    frame: &mut F,
    origin: Origin,
) -> Result<Verdict, DropReason> {
    let (_, _, ethertype) = ethernet::header(frame.bytes()).ok_or(DropReason::EthTruncated)?;
    let packet = match ethertype {
        ethertype::IPV4 => check_v4(&frame.bytes()[HEADER_LEN..], frame.len() - HEADER_LEN)?,
        ethertype::IPV6 => check_v6(&frame.bytes()[HEADER_LEN..], frame.len() - HEADER_LEN)?,
        ethertype::ARP => return arp(cx, frame, origin),
        _ => return Err(DropReason::EtherTypeUnrouted),
    };
    frame.truncate(HEADER_LEN + packet.len);

    let refuse = |reason, report| Ok(Verdict::Refuse(Refusal { reason, report, origin }));
    let Some(hop) = next_hop(cx, frame, packet.dst) else {
        return refuse(DropReason::NoRoute, Report::NetworkUnreachable);
    };
    let hop = match hop {
        NextHop::Connected(segment) => match resolve::next_hop(cx, segment, packet.dst, origin) {
            Ok(hop) => hop,
            Err(Ok(wait)) => return Ok(Verdict::Resolve(wait)),
            Err(Err(reason)) => return refuse(reason, Report::HostUnreachable),
        },
        known => known,
    };
    match hop {
        NextHop::Router => return to_router(cx, frame, origin, ethertype, &packet),
        _ if packet.link_local => return Err(DropReason::IpAddressInvalid),
        NextHop::Host => {
            if clamps_mss(cx) {
                let host = cx.tables.router.as_ref().and_then(|r| r.host);
                let mtu = host.and_then(|h| mtu::of_port(cx, h.port).ok()).unwrap_or(u32::MAX);
                mtu::clamp_mss(cx, frame, origin, mtu);
            }
            return to_host(cx, frame, origin, &packet);
        }
        NextHop::Blackhole => return Err(DropReason::RouteBlackhole),
        NextHop::Unreachable => {
            return refuse(DropReason::RouteUnreachable, Report::HostUnreachable);
        }
        NextHop::Tunnel(id) if origin == Origin::Tunnel(id) => {
            return Err(DropReason::NestedTunnel);
        }
        // The underlay's packets end at this node: it is no transit router.
        NextHop::Tunnel(_) | NextHop::Direct { .. } if origin == Origin::Native => {
            return Err(DropReason::NotForUs);
        }
        // A group has no group among its members.
        NextHop::Group(_) | NextHop::Connected(_) => return Err(DropReason::NoRoute),
        NextHop::Behind { .. }
        | NextHop::Local { .. }
        | NextHop::Tunnel(_)
        | NextHop::Direct { .. } => {}
    }
    // What is refused is quoted as it came: nothing is changed before the last check.
    if packet.hops < 2 {
        return refuse(DropReason::TtlExceeded, Report::TimeExceeded);
    }
    let mtu = mtu::of_next_hop(cx, &hop)?;
    if packet.len > mtu as usize {
        return too_large(&packet, mtu, origin);
    }
    if clamps_mss(cx) {
        mtu::clamp_mss(cx, frame, origin, mtu);
    }
    count_hop(frame, &packet);
    leave(cx, frame, &hop).map(Verdict::Send)
}

/// What becomes of a packet that its next hop does not take whole.
fn too_large(packet: &Packet, mtu: u32, origin: Origin) -> Result<Verdict, DropReason> {
    let (reason, report) = (DropReason::MtuExceeded, Report::TooBig(mtu));
    match origin {
        // Its own answers are no larger than the questions, its errors smaller than any MTU.
        Origin::Router => Err(reason),
        _ if packet.may_fragment => Ok(Verdict::Fragment(mtu, origin)),
        _ => Ok(Verdict::Refuse(Refusal { reason, report, origin })),
    }
}

/// Out by a next hop that takes packets of this size: the port it leaves through.
#[inline(always)]
fn leave<F: Frame>(cx: &Context<'_>, frame: &mut F, hop: &NextHop) -> Result<PortId, DropReason> {
    match *hop {
        NextHop::Local { port, mac } => {
            ethernet::rewrite(frame.bytes_mut(), mac, router_mac(cx));
            Ok(port)
        }
        NextHop::Tunnel(id) => egress::to_tunnel(cx, frame, id),
        NextHop::Behind { tunnel, mac } => {
            ethernet::rewrite(frame.bytes_mut(), mac, router_mac(cx));
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
#[inline(always)]
fn next_hop<F: Frame>(cx: &Context<'_>, frame: &F, dst: IpAddr) -> Option<NextHop> {
    match *cx.tables.route(dst)? {
        NextHop::Group(group) => {
            let flow = flow::hash_packet(frame.bytes().get(HEADER_LEN..).unwrap_or(&[]));
            cx.tables.pick(group, flow)
        }
        one => Some(one),
    }
}

/// Validates an IPv4 header (RFC 1812 section 5.2.2). `available` is what the frame holds,
/// further segments and padding included.
#[inline(always)]
fn check_v4(bytes: &[u8], available: usize) -> Result<Packet, DropReason> {
    let view =
        ipv4::View::new_checked_within(bytes, available).map_err(|_| DropReason::Ipv4Malformed)?;
    if !view.checksum_ok() {
        return Err(DropReason::Ipv4Checksum);
    }
    let (src, dst) = (view.src(), view.dst());
    if dst.is_multicast() || dst.is_broadcast() {
        return Err(DropReason::IpMulticastUnrouted);
    }
    // RFC 1812 section 5.3.7: never forwarded, network 0 included.
    let is_nobody = |ip: Ipv4Addr| ip.is_loopback() || ip.octets()[0] == 0;
    let invalid = src.is_multicast() || src.is_broadcast() || is_nobody(src) || is_nobody(dst);
    if invalid {
        return Err(DropReason::IpAddressInvalid);
    }
    let link_local = src.is_link_local() || dst.is_link_local();
    Ok(Packet {
        dst: dst.into(),
        len: view.total_len(),
        link_local,
        hops: view.ttl(),
        may_fragment: !view.dont_fragment(),
    })
}

/// Validates an IPv6 header (RFC 8200 section 3, RFC 4291 section 2.5 for the addresses).
fn check_v6(bytes: &[u8], available: usize) -> Result<Packet, DropReason> {
    let view =
        ipv6::View::new_checked_within(bytes, available).map_err(|_| DropReason::Ipv6Malformed)?;
    let (src, dst) = (view.src(), view.dst());
    if dst.is_multicast() {
        return Err(DropReason::IpMulticastUnrouted);
    }
    let invalid = src.is_multicast()
        || src.is_loopback()
        || src.is_unspecified()
        || dst.is_loopback()
        || dst.is_unspecified();
    if invalid {
        return Err(DropReason::IpAddressInvalid);
    }
    let link_local = src.is_unicast_link_local() || dst.is_unicast_link_local();
    Ok(Packet {
        dst: dst.into(),
        len: view.total_len(),
        link_local,
        hops: view.hop_limit(),
        may_fragment: false,
    })
}

/// Takes one from the TTL or hop limit, of which there is more than one left.
#[inline]
fn count_hop<F: Frame>(frame: &mut F, packet: &Packet) {
    let bytes = &mut frame.bytes_mut()[HEADER_LEN..];
    let counted = match packet.dst {
        IpAddr::V4(_) => ipv4::View::new_unchecked(bytes).decrement_ttl(),
        IpAddr::V6(_) => ipv6::View::new_unchecked(bytes).decrement_hop_limit(),
    };
    debug_assert!(counted.is_ok(), "checked before");
}

fn router_mac(cx: &Context<'_>) -> Mac {
    cx.tables.router.as_ref().map_or(Mac::ZERO, |r| r.mac)
}

#[inline]
fn clamps_mss(cx: &Context<'_>) -> bool {
    cx.tables.router.as_ref().is_some_and(|r| r.clamp_mss)
}

/// ARP sent to the router's own MAC address: a neighbour that checks whether it is still there.
#[inline(never)]
fn arp<F: Frame>(cx: &Context<'_>, frame: &mut F, origin: Origin) -> Result<Verdict, DropReason> {
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
    ethertype: u16,
    packet: &Packet,
) -> Result<Verdict, DropReason> {
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
        return to_host(cx, frame, origin, packet);
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
    let (bytes, available) = (&frame.bytes()[HEADER_LEN..], frame.len() - HEADER_LEN);
    let packet = match ethertype {
        ethertype::IPV4 => check_v4(bytes, available)?,
        _ => check_v6(bytes, available)?,
    };
    let hop = match next_hop(cx, frame, packet.dst).ok_or(DropReason::NoRoute)? {
        NextHop::Connected(segment) => {
            match resolve::next_hop(cx, segment, packet.dst, Origin::Router) {
                Ok(hop) => hop,
                Err(Ok(wait)) => return Ok(Verdict::Resolve(wait)),
                Err(Err(reason)) => return Err(reason),
            }
        }
        NextHop::Host | NextHop::Router => return to_host(cx, frame, Origin::Router, &packet),
        known => known,
    };
    let mtu = mtu::of_next_hop(cx, &hop)?;
    if packet.len > mtu as usize {
        return too_large(&packet, mtu, Origin::Router);
    }
    leave(cx, frame, &hop).map(Verdict::Send)
}

/// To the node's kernel, which is the next hop or the destination: it counts the hop down itself.
#[inline(never)]
fn to_host<F: Frame>(
    cx: &Context<'_>,
    frame: &mut F,
    origin: Origin,
    packet: &Packet,
) -> Result<Verdict, DropReason> {
    let host = cx.tables.router.as_ref().and_then(|r| r.host).ok_or(DropReason::HostPortMissing)?;
    if matches!(origin, Origin::Segment(..)) && host.port == cx.port.id {
        let (reason, report) = (DropReason::RouteLoop, Report::NetworkUnreachable);
        return Ok(Verdict::Refuse(Refusal { reason, report, origin }));
    }
    let mtu = mtu::of_port(cx, host.port)?;
    if packet.len > mtu as usize {
        return too_large(packet, mtu, origin);
    }
    ethernet::rewrite(frame.bytes_mut(), host.mac, router_mac(cx));
    Ok(Verdict::Send(host.port))
}
