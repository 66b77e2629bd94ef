//! L3: the node's router. RFC 1812 section 5 and RFC 8200 section 3 say what it must do.

use super::answer::Owner;
use super::icmp_error::{Refusal, Report};
use super::segment::{self, Step};
use super::{Context, Origin, Verdict, answer, egress, mtu, nesting, resolve};
use crate::frame::Frame;
use crate::ids::{Location, PortId, TunnelId};
use crate::reason::DropReason;
use crate::tables::{NextHop, Router};
use encap::ethernet::{self, HEADER_LEN, ethertype};
use encap::{flow, ipv4, ipv6};
use std::net::{IpAddr, Ipv4Addr};

/// What the router needs to know of a packet.
///
/// Never handed as a whole to what is not inlined: that would keep it in memory, where wide loads wait
/// for the narrow stores before them, at 40 clocks a packet.
struct Packet {
    dst: IpAddr,
    /// Bytes of the IP packet, padding excluded; of a superpacket those of its largest packet.
    len: usize,
    /// Whether an address is valid on its link only: such a packet may reach the router, but not
    /// pass it (RFC 4291 section 2.5.6).
    link_local: bool,
    /// TTL or hop limit.
    hops: u8,
    /// Whether a router may fragment it.
    may_fragment: bool,
}

/// What matters when a packet does not fit.
#[derive(Clone, Copy)]
struct Size {
    len: usize,
    may_fragment: bool,
}

impl Packet {
    #[inline(always)]
    fn size(&self) -> Size {
        Size { len: self.len, may_fragment: self.may_fragment }
    }
}

/// A frame for the router: ARP or neighbour discovery for its addresses, a packet to one of them,
/// or a packet on its way.
#[inline]
pub(super) fn forward<F: Frame>(
    cx: &Context<'_>,
    frame: &mut F,
    origin: Origin,
) -> Result<Verdict, DropReason> {
    if frame.gso_size() != 0 {
        return forward_super(cx, frame, origin);
    }
    let (_, _, ethertype) = ethernet::header(frame.bytes()).ok_or(DropReason::EthTruncated)?;
    match ethertype {
        ethertype::IPV4 => {
            let packet = check_v4(&frame.bytes()[HEADER_LEN..], frame.len() - HEADER_LEN)?;
            route::<F, false>(cx, frame, packet, origin)
        }
        ethertype::IPV6 => forward_v6(cx, frame, origin),
        ethertype::ARP => arp(cx, frame, origin),
        _ => Err(DropReason::EtherTypeUnrouted),
    }
}

#[inline(never)]
fn forward_v6<F: Frame>(
    cx: &Context<'_>,
    frame: &mut F,
    origin: Origin,
) -> Result<Verdict, DropReason> {
    let packet = check_v6(&frame.bytes()[HEADER_LEN..], frame.len() - HEADER_LEN)?;
    route::<F, false>(cx, frame, packet, origin)
}

/// A superpacket goes the same way as its packets would, which are as large as it says. In a place of
/// its own, so that others need not be asked again whether they are one.
#[inline(never)]
fn forward_super<F: Frame>(
    cx: &Context<'_>,
    frame: &mut F,
    origin: Origin,
) -> Result<Verdict, DropReason> {
    let (_, _, ethertype) = ethernet::header(frame.bytes()).ok_or(DropReason::EthTruncated)?;
    let (bytes, available) = (&frame.bytes()[HEADER_LEN..], frame.len() - HEADER_LEN);
    let packet = match ethertype {
        ethertype::IPV4 => check_v4(bytes, available)?,
        ethertype::IPV6 => check_v6(bytes, available)?,
        _ => return Err(DropReason::EtherTypeUnrouted),
    };
    route::<F, true>(cx, frame, packet, origin)
}

/// A validated packet: by the longest prefix to its next hop.
///
/// The way of a forwarded packet is inlined as a whole, once for each family and kind of next hop:
/// what these functions return would otherwise travel through memory in odd pieces, a third of a
/// routed packet's cost.
#[inline(always)]
fn route<F: Frame, const SUPER: bool>(
    cx: &Context<'_>,
    frame: &mut F,
    mut packet: Packet,
    origin: Origin,
) -> Result<Verdict, DropReason> {
    frame.truncate(HEADER_LEN + packet.len);
    if SUPER {
        packet.len = segment::packet_len(frame).ok_or(DropReason::OffloadInvalid)?;
    }
    let Some(hop) = next_hop(cx, frame, packet.dst) else {
        return refuse(DropReason::NoRoute, Report::NetworkUnreachable, origin);
    };
    let resolved;
    let hop = match *hop {
        NextHop::Connected(segment) => match resolve::next_hop(cx, segment, packet.dst, origin) {
            Ok(hop) => {
                resolved = hop;
                &resolved
            }
            Err(Ok(wait)) => return Ok(Verdict::Resolve(wait)),
            Err(Err(reason)) => return refuse(reason, Report::HostUnreachable, origin),
        },
        _ => hop,
    };
    if packet.link_local && *hop != NextHop::Router {
        return Err(DropReason::IpAddressInvalid);
    }
    match *hop {
        NextHop::Local { port, mac } => {
            pass_on(cx, frame, packet, origin, mtu::of_port(cx, port), false, |frame| {
                ethernet::rewrite(frame.bytes_mut(), mac, cx.router);
                Ok(port)
            })
        }
        NextHop::Tunnel(id) if origin == Origin::Tunnel(id) => Err(DropReason::NestedTunnel),
        // The underlay's packets end at this node: it is no transit router.
        NextHop::Tunnel(_) | NextHop::Direct { .. } if origin == Origin::Native => {
            Err(DropReason::NotForUs)
        }
        NextHop::Tunnel(id) if packet.dst.is_ipv6() && nesting::may_be_limited(frame) => {
            into_tunnel::<F, SUPER>(cx, frame, id, origin)
        }
        NextHop::Tunnel(id) => {
            pass_on(cx, frame, packet, origin, mtu::of_tunnel(cx, id), SUPER, |frame| {
                egress::to_tunnel(cx, frame, id)
            })
        }
        NextHop::Direct { .. } | NextHop::Behind { .. } => {
            let cut_up = SUPER && matches!(hop, NextHop::Behind { .. });
            pass_on(cx, frame, packet, origin, mtu::of_next_hop(cx, hop), cut_up, |frame| {
                leave(cx, frame, hop)
            })
        }
        _ => end(cx, frame, packet.size(), origin, hop),
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
) -> Result<Verdict, DropReason> {
    // Read anew: see [`Packet`].
    let mut packet = check_v6(&frame.bytes()[HEADER_LEN..], frame.len() - HEADER_LEN)?;
    if SUPER {
        packet.len = segment::packet_len(frame).ok_or(DropReason::OffloadInvalid)?;
    }
    let mtu = mtu::of_tunnel(cx, id);
    let Some(limit) = nesting::limit(cx, frame, id) else {
        return pass_on(cx, frame, packet, origin, mtu, SUPER, |f| egress::to_tunnel(cx, f, id));
    };
    if packet.hops < 2 {
        return refuse(DropReason::TtlExceeded, Report::TimeExceeded, origin);
    }
    let Some(left) = limit.value.checked_sub(1) else {
        let report = Report::ParameterProblem(limit.offset as u32);
        return refuse(DropReason::EncapsulationLimit, report, origin);
    };
    let mtu = mtu.map(|mtu| nesting::mtu(cx, id, mtu));
    pass_on(cx, frame, packet, origin, mtu, SUPER, |f| egress::to_limited_tunnel(cx, f, id, left))
}

/// Sends on a packet that is small enough and has hops left; `cut_up` if it is a superpacket and headers
/// are to come before each of its packets. What is refused is quoted as it came: nothing is changed before
/// the last check.
#[inline(always)]
fn pass_on<F: Frame>(
    cx: &Context<'_>,
    frame: &mut F,
    packet: Packet,
    origin: Origin,
    mtu: Result<u32, DropReason>,
    cut_up: bool,
    leave: impl FnOnce(&mut F) -> Result<PortId, DropReason>,
) -> Result<Verdict, DropReason> {
    if packet.hops < 2 {
        return refuse(DropReason::TtlExceeded, Report::TimeExceeded, origin);
    }
    let mtu = mtu?;
    if packet.len > mtu as usize {
        return too_large(packet.size(), mtu, origin);
    }
    if cut_up {
        return segment::one_by_one(Step::Route(origin));
    }
    if cx.clamp_mss {
        mtu::clamp_mss(cx, frame, origin, mtu);
    }
    count_hop(frame, &packet);
    leave(frame).map(Verdict::Send)
}

/// A packet that this router does not send on itself.
#[inline(never)]
fn end<F: Frame>(
    cx: &Context<'_>,
    frame: &mut F,
    size: Size,
    origin: Origin,
    hop: &NextHop,
) -> Result<Verdict, DropReason> {
    match *hop {
        NextHop::Router => to_router(cx, frame, origin, size),
        NextHop::Host => {
            if cx.clamp_mss {
                let host = cx.tables.router.as_ref().and_then(|r| r.host);
                let mtu = host.and_then(|h| mtu::of_port(cx, h.port).ok()).unwrap_or(u32::MAX);
                mtu::clamp_mss(cx, frame, origin, mtu);
            }
            to_host(cx, frame, origin, size)
        }
        NextHop::Blackhole => Err(DropReason::RouteBlackhole),
        NextHop::Unreachable => {
            refuse(DropReason::RouteUnreachable, Report::HostUnreachable, origin)
        }
        NextHop::Prohibited => refuse(DropReason::RouteProhibited, Report::Prohibited, origin),
        // A group has no group among its members; the others are none of ours.
        _ => Err(DropReason::NoRoute),
    }
}

#[cold]
fn refuse(reason: DropReason, report: Report, origin: Origin) -> Result<Verdict, DropReason> {
    Ok(Verdict::Refuse(Refusal { reason, report, origin }))
}

/// What becomes of a packet that its next hop does not take whole.
#[cold]
fn too_large(size: Size, mtu: u32, origin: Origin) -> Result<Verdict, DropReason> {
    let (reason, report) = (DropReason::MtuExceeded, Report::TooBig(mtu));
    match origin {
        // Its own answers are no larger than the questions, its errors smaller than any MTU.
        Origin::Router => Err(reason),
        _ if size.may_fragment => Ok(Verdict::Fragment(mtu, origin)),
        _ => Ok(Verdict::Refuse(Refusal { reason, report, origin })),
    }
}

/// Out by a next hop that takes packets of this size: the port it leaves through.
#[inline(always)]
fn leave<F: Frame>(cx: &Context<'_>, frame: &mut F, hop: &NextHop) -> Result<PortId, DropReason> {
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
#[inline(always)]
fn next_hop<'a, F: Frame>(cx: &Context<'a>, frame: &F, dst: IpAddr) -> Option<&'a NextHop> {
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
    let link_local =
        if is_ordinary(src) && is_ordinary(dst) { false } else { check_addresses_v4(src, dst)? };
    Ok(Packet {
        dst: dst.into(),
        len: view.total_len(),
        link_local,
        hops: view.ttl(),
        may_fragment: !view.dont_fragment(),
    })
}

/// Whether an address is of a network that nothing is special about, which its first octet tells: not
/// 0, 127, 169 (link-local), 224 or above.
#[inline(always)]
fn is_ordinary(ip: Ipv4Addr) -> bool {
    const ORDINARY: [bool; 256] = {
        let mut ordinary = [false; 256];
        let mut first = 1;
        while first < 224 {
            ordinary[first] = first != 127 && first != 169;
            first += 1;
        }
        ordinary
    };
    ORDINARY[usize::from(ip.octets()[0])]
}

/// Whether a packet with these addresses may be routed, and whether one of them is valid on its link
/// only.
#[cold]
fn check_addresses_v4(src: Ipv4Addr, dst: Ipv4Addr) -> Result<bool, DropReason> {
    if dst.is_multicast() || dst.is_broadcast() {
        return Err(DropReason::IpMulticastUnrouted);
    }
    // RFC 1812 section 5.3.7: never forwarded, network 0 included.
    let is_nobody = |ip: Ipv4Addr| ip.is_loopback() || ip.octets()[0] == 0;
    let invalid = src.is_multicast() || src.is_broadcast() || is_nobody(src) || is_nobody(dst);
    if invalid {
        return Err(DropReason::IpAddressInvalid);
    }
    Ok(src.is_link_local() || dst.is_link_local())
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
#[inline(always)]
fn count_hop<F: Frame>(frame: &mut F, packet: &Packet) {
    let bytes = &mut frame.bytes_mut()[HEADER_LEN..];
    let counted = match packet.dst {
        IpAddr::V4(_) => ipv4::View::new_unchecked(bytes).decrement_ttl(),
        IpAddr::V6(_) => ipv6::View::new_unchecked(bytes).decrement_hop_limit(),
    };
    debug_assert!(counted.is_ok(), "checked before");
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
    size: Size,
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
        return to_host(cx, frame, origin, size);
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
            return to_host(cx, frame, Origin::Router, packet.size());
        }
        known => known,
    };
    let mtu = mtu::of_next_hop(cx, hop)?;
    if packet.len > mtu as usize {
        return too_large(packet.size(), mtu, Origin::Router);
    }
    leave(cx, frame, hop).map(Verdict::Send)
}

/// To the node's kernel, which is the next hop or the destination: it counts the hop down itself.
#[inline(never)]
fn to_host<F: Frame>(
    cx: &Context<'_>,
    frame: &mut F,
    origin: Origin,
    size: Size,
) -> Result<Verdict, DropReason> {
    let host = cx.tables.router.as_ref().and_then(|r| r.host).ok_or(DropReason::HostPortMissing)?;
    if matches!(origin, Origin::Segment(..)) && host.port == cx.port.id {
        let (reason, report) = (DropReason::RouteLoop, Report::NetworkUnreachable);
        return Ok(Verdict::Refuse(Refusal { reason, report, origin }));
    }
    let mtu = mtu::of_port(cx, host.port)?;
    if size.len > mtu as usize {
        return too_large(size, mtu, origin);
    }
    ethernet::rewrite(frame.bytes_mut(), host.mac, cx.router);
    Ok(Verdict::Send(host.port))
}
