//! L3: the node's router. RFC 1812 section 5 and RFC 8200 section 3 say what it must do.

use super::answer::Owner;
use super::{Context, Origin, Verdict, answer, egress};
use crate::frame::Frame;
use crate::reason::DropReason;
use crate::tables::{NextHop, Router};
use encap::ethernet::{self, HEADER_LEN, ethertype};
use encap::{Mac, flow, ipv4, ipv6};
use std::net::IpAddr;

/// What the router needs to know of a packet.
struct Packet {
    dst: IpAddr,
    /// Bytes of the IP packet, padding excluded.
    len: usize,
    /// Whether an address is valid on its link only: such a packet may reach the router, but not
    /// pass it (RFC 4291 section 2.5.6).
    link_local: bool,
}

/// A frame for the router: ARP or neighbour discovery for its addresses, a packet to one of them,
/// or a packet on its way.
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

    match next_hop(cx, frame, packet.dst)? {
        // A group has no group among its members.
        NextHop::Group(_) => Err(DropReason::NoRoute),
        NextHop::Router => to_router(cx, frame, origin, ethertype),
        _ if packet.link_local => Err(DropReason::IpAddressInvalid),
        NextHop::Host => to_host(cx, frame, origin),
        NextHop::Blackhole => Err(DropReason::RouteBlackhole),
        NextHop::Unreachable => Err(DropReason::RouteUnreachable),
        NextHop::Local { port, mac } => {
            count_hop(frame, &packet)?;
            ethernet::rewrite(frame.bytes_mut(), mac, router_mac(cx));
            egress::to_port(cx, frame, port).map(Verdict::Send)
        }
        NextHop::Tunnel(id) => {
            if origin == Origin::Tunnel(id) {
                return Err(DropReason::NestedTunnel);
            }
            // The underlay's packets end at this node: it is no transit router.
            if origin == Origin::Native {
                return Err(DropReason::NotForUs);
            }
            count_hop(frame, &packet)?;
            egress::to_tunnel(cx, frame, id, packet.len).map(Verdict::Send)
        }
        NextHop::Direct { port, src, dst } => {
            if origin == Origin::Native {
                return Err(DropReason::NotForUs);
            }
            let dst = dst.ok_or(DropReason::NeighborUnresolved)?;
            count_hop(frame, &packet)?;
            ethernet::rewrite(frame.bytes_mut(), dst, src);
            egress::to_port(cx, frame, port).map(Verdict::Send)
        }
    }
}

/// The next hop of the longest prefix that matches; of several of equal cost, the one of the flow.
#[inline]
fn next_hop<F: Frame>(cx: &Context<'_>, frame: &F, dst: IpAddr) -> Result<NextHop, DropReason> {
    match *cx.tables.route(dst).ok_or(DropReason::NoRoute)? {
        NextHop::Group(group) => {
            let flow = flow::hash_packet(frame.bytes().get(HEADER_LEN..).unwrap_or(&[]));
            cx.tables.pick(group, flow).ok_or(DropReason::NoRoute)
        }
        one => Ok(one),
    }
}

/// Validates an IPv4 header (RFC 1812 section 5.2.2). `available` is what the frame holds,
/// further segments and padding included.
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
    // RFC 1812 section 5.3.7: never forwarded.
    let invalid = src.is_multicast()
        || src.is_broadcast()
        || src.is_loopback()
        || src.is_unspecified()
        || dst.is_loopback()
        || dst.is_unspecified();
    if invalid {
        return Err(DropReason::IpAddressInvalid);
    }
    let link_local = src.is_link_local() || dst.is_link_local();
    Ok(Packet { dst: dst.into(), len: view.total_len(), link_local })
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
    Ok(Packet { dst: dst.into(), len: view.total_len(), link_local })
}

/// Takes one from the TTL or hop limit. A packet that has none left ends here.
#[inline]
fn count_hop<F: Frame>(frame: &mut F, packet: &Packet) -> Result<(), DropReason> {
    let bytes = &mut frame.bytes_mut()[HEADER_LEN..];
    match packet.dst {
        IpAddr::V4(_) => ipv4::View::new_unchecked(bytes).decrement_ttl(),
        IpAddr::V6(_) => ipv6::View::new_unchecked(bytes).decrement_hop_limit(),
    }
    .map_err(|_| DropReason::TtlExceeded)
}

fn router_mac(cx: &Context<'_>) -> Mac {
    cx.tables.router.as_ref().map_or(Mac::ZERO, |r| r.mac)
}

/// ARP sent to the router's own MAC address: a neighbour that checks whether it is still there.
fn arp<F: Frame>(cx: &Context<'_>, frame: &mut F, origin: Origin) -> Result<Verdict, DropReason> {
    let router: &Router = cx.tables.router.as_ref().ok_or(DropReason::NotForUs)?;
    match origin {
        Origin::Segment(_, from)
            if answer::arp(frame, |r| Owner::router(router, r.target_ip.into()))? =>
        {
            egress::to_location(cx, frame, from).map(Verdict::Send)
        }
        _ => Err(DropReason::NotForUs),
    }
}

/// A packet to an address of the router: what the switch can answer itself is answered, the rest
/// goes to the node.
fn to_router<F: Frame>(
    cx: &Context<'_>,
    frame: &mut F,
    origin: Origin,
    ethertype: u16,
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
        return to_host(cx, frame, origin);
    }
    match origin {
        Origin::Segment(_, from) => egress::to_location(cx, frame, from).map(Verdict::Send),
        // The answer is a packet like any other: it finds its way by the routes.
        Origin::Tunnel(_) | Origin::Native => reply_by_route(cx, frame, ethertype),
    }
}

/// Routes an answer of the router to the one who asked.
fn reply_by_route<F: Frame>(
    cx: &Context<'_>,
    frame: &mut F,
    ethertype: u16,
) -> Result<Verdict, DropReason> {
    let (bytes, available) = (&frame.bytes()[HEADER_LEN..], frame.len() - HEADER_LEN);
    let packet = match ethertype {
        ethertype::IPV4 => check_v4(bytes, available)?,
        _ => check_v6(bytes, available)?,
    };
    match next_hop(cx, frame, packet.dst)? {
        NextHop::Tunnel(id) => egress::to_tunnel(cx, frame, id, packet.len).map(Verdict::Send),
        NextHop::Direct { port, src, dst } => {
            let dst = dst.ok_or(DropReason::NeighborUnresolved)?;
            ethernet::rewrite(frame.bytes_mut(), dst, src);
            egress::to_port(cx, frame, port).map(Verdict::Send)
        }
        NextHop::Host => to_host(cx, frame, Origin::Native),
        _ => Err(DropReason::NoRoute),
    }
}

/// To the node's kernel, which is the next hop or the destination: it counts the hop down itself.
fn to_host<F: Frame>(
    cx: &Context<'_>,
    frame: &mut F,
    origin: Origin,
) -> Result<Verdict, DropReason> {
    let router = cx.tables.router.as_ref().ok_or(DropReason::HostPortMissing)?;
    let host = router.host.ok_or(DropReason::HostPortMissing)?;
    if matches!(origin, Origin::Segment(..)) && cx.port.id == host.port {
        return Err(DropReason::RouteLoop);
    }
    ethernet::rewrite(frame.bytes_mut(), host.mac, router.mac);
    egress::to_port(cx, frame, host.port).map(Verdict::Send)
}
