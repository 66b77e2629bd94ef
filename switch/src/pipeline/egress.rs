//! Out of a port, or into a tunnel.

use super::{Context, segment, sum_from};
use crate::frame::Frame;
use crate::ids::{Location, PortId, TunnelId};
use crate::reason::DropReason;
use crate::tables::{Encapsulation, Tunnel};
use encap::checksum::Sum;
use encap::ethernet::{self, HEADER_LEN};
use encap::ip::{IpVersion, protocol};
use encap::ipv4::Fragmentation;
use encap::tunnel::{IPIP4_LEN, OuterHeader, VXLAN4_LEN};
use encap::{ecn, flow, ipv4, ipv6, udp};

/// Out of a port as it is, if the port takes frames of its size.
#[inline(always)]
pub(super) fn to_port<F: Frame>(
    cx: &Context<'_>,
    frame: &F,
    port: PortId,
) -> Result<PortId, DropReason> {
    let max = cx.tables.port(port).ok_or(DropReason::PortDown)?.max_frame;
    if frame.len() > max as usize { too_large(frame, port, max) } else { Ok(port) }
}

/// A superpacket is as large as its packets. Out of line, and not to come back to where registers are in
/// use.
#[cold]
#[inline(never)]
fn too_large<F: Frame>(frame: &F, port: PortId, max: u32) -> Result<PortId, DropReason> {
    if segment::fits(frame, max as usize) { Ok(port) } else { Err(DropReason::MtuExceeded) }
}

/// To a member of a segment: the port it leaves through.
#[inline(never)]
pub(super) fn to_location<F: Frame>(
    cx: &Context<'_>,
    frame: &mut F,
    to: Location,
) -> Result<PortId, DropReason> {
    match to {
        Location::Port(port) => to_port(cx, frame, port),
        Location::Tunnel(id) => bridge_to_tunnel(cx, frame, id),
    }
}

/// To the members of a segment behind a tunnel: the port it leaves through.
#[inline(always)]
pub(super) fn bridge_to_tunnel<F: Frame>(
    cx: &Context<'_>,
    frame: &mut F,
    id: TunnelId,
) -> Result<PortId, DropReason> {
    let tunnel = cx.tables.tunnel(id).ok_or(DropReason::PortDown)?;
    if !matches!(tunnel.encapsulation, Encapsulation::Vxlan { segment: Some(_), .. }) {
        return Err(DropReason::TunnelRoutedOnly);
    }
    if frame.len() > tunnel.path_mtu(cx.now) as usize + HEADER_LEN {
        return Err(DropReason::MtuExceeded);
    }
    encapsulate_vxlan(cx, tunnel, frame)
}

/// A routed packet, still behind an Ethernet header and known to fit, into a tunnel: the port it
/// leaves through.
#[inline(always)]
pub(super) fn to_tunnel<F: Frame>(
    cx: &Context<'_>,
    frame: &mut F,
    id: TunnelId,
) -> Result<PortId, DropReason> {
    into_tunnel(cx, frame, cx.tables.tunnel(id).ok_or(DropReason::PortDown)?)
}

/// [`to_tunnel`] of a tunnel that was found.
#[inline(always)]
pub(super) fn into_tunnel<F: Frame>(
    cx: &Context<'_>,
    frame: &mut F,
    tunnel: &Tunnel,
) -> Result<PortId, DropReason> {
    match tunnel.encapsulation {
        Encapsulation::Vxlan { local_mac, remote_mac, .. } => {
            ethernet::rewrite(frame.bytes_mut(), remote_mac, local_mac);
            encapsulate_vxlan(cx, tunnel, frame)
        }
        Encapsulation::Ipip => {
            let egress = tunnel.egress.as_ref().ok_or(DropReason::NeighborUnresolved)?;
            match usual_ipip(tunnel, &egress.header, frame) {
                Some(done) => done?,
                None => encapsulate_ipip(cx, tunnel, &egress.header, frame)?,
            }
            Ok(egress.port)
        }
    }
}

/// The same into an IPIP tunnel, with an encapsulation limit of the packet's own.
pub(super) fn to_limited_tunnel<F: Frame>(
    cx: &Context<'_>,
    frame: &mut F,
    id: TunnelId,
    limit: u8,
) -> Result<PortId, DropReason> {
    let tunnel = cx.tables.tunnel(id).ok_or(DropReason::PortDown)?;
    let egress = tunnel.egress.as_ref().ok_or(DropReason::NeighborUnresolved)?;
    let header = egress.header.with_encapsulation_limit(limit);
    encapsulate_ipip(cx, tunnel, &header, frame).map(|()| egress.port)
}

/// Pushes the outer headers of RFC 7348 section 5 in front of an Ethernet frame.
#[inline(always)]
fn encapsulate_vxlan<F: Frame>(
    cx: &Context<'_>,
    tunnel: &Tunnel,
    frame: &mut F,
) -> Result<PortId, DropReason> {
    let egress = tunnel.egress.as_ref().ok_or(DropReason::NeighborUnresolved)?;
    if !egress.header.is_vxlan4() || !tunnel.outer.dont_fragment {
        encapsulate_any_vxlan(cx, tunnel, &egress.header, frame)?;
        return Ok(egress.port);
    }
    let payload_len = frame.len();
    let (source_port, tos, _) = outer_of(tunnel, frame);
    let out: &mut [u8; VXLAN4_LEN] = frame.push_exactly().ok_or(DropReason::NoHeadroom)?;
    egress
        .header
        .write_vxlan4(out, payload_len, source_port, tos, Fragmentation::Forbidden)
        .map_err(|_| DropReason::MtuExceeded)?;
    Ok(egress.port)
}

/// UDP source port and tos of the VXLAN packet around a frame, and the hash of the frame's flow.
#[inline(always)]
fn outer_of<F: Frame>(tunnel: &Tunnel, frame: &F) -> (u16, u8, u32) {
    let (flow, tos) = flow::hash_and_tos(frame.bytes());
    let source_port = flow::source_port(flow, &tunnel.outer.source_ports);
    (source_port, tunnel.outer.tos(tos), flow)
}

/// The same over either family, whether or not routers may fragment it.
#[inline(never)]
fn encapsulate_any_vxlan<F: Frame>(
    cx: &Context<'_>,
    tunnel: &Tunnel,
    header: &OuterHeader,
    frame: &mut F,
) -> Result<(), DropReason> {
    let payload_len = frame.len();
    let (source_port, tos, flow) = outer_of(tunnel, frame);
    let fragmentation = if tunnel.outer.dont_fragment {
        Fragmentation::Forbidden
    } else {
        Fragmentation::Allowed { ident: cx.ident(flow) }
    };
    let out = push(frame, header.len())?;
    header
        .write_vxlan(out, payload_len, source_port, tos, fragmentation)
        .map_err(|_| DropReason::MtuExceeded)?;
    if !header.is_ipv4() {
        header.set_flow_label(out, flow::label(flow));
        // A zero checksum over IPv6 needs the peer's consent (RFC 6935 section 5): send a real one.
        fill_udp6_checksum(frame);
    }
    Ok(())
}

/// Fills in the UDP checksum of a packet whose IPv6 and UDP headers follow the Ethernet header.
#[inline(never)]
fn fill_udp6_checksum<F: Frame>(frame: &mut F) {
    const UDP: usize = HEADER_LEN + ipv6::HEADER_LEN;
    let header = ipv6::View::new_unchecked(&frame.bytes()[HEADER_LEN..]);
    let len = header.payload_len() as u32;
    let sum = Sum::ZERO.pseudo_v6(header.src(), header.dst(), protocol::UDP, len);
    let checksum = sum_from(frame, UDP, sum).udp_checksum();
    udp::View::new_unchecked(&mut frame.bytes_mut()[UDP..]).set_checksum(checksum);
}

/// [`encapsulate_ipip`] of IPv4 in IPv4 that nobody may fragment on its way; none of another packet.
#[inline(always)]
fn usual_ipip<F: Frame>(
    tunnel: &Tunnel,
    header: &OuterHeader,
    frame: &mut F,
) -> Option<Result<(), DropReason>> {
    let inner = frame.bytes().first_chunk::<{ HEADER_LEN + ipv4::HEADER_LEN }>()?;
    let ip = ipv4::View::new_unchecked(&inner[HEADER_LEN..]);
    if !header.is_ipip4()
        || ip.version() != 4
        || !(tunnel.outer.dont_fragment || ip.dont_fragment())
    {
        return None;
    }
    let (tos, payload_len) = (tunnel.outer.tos(ip.tos()), frame.len() - HEADER_LEN);
    // The outer header takes the place of the Ethernet header.
    frame.pull(HEADER_LEN);
    let Some(out): Option<&mut [u8; IPIP4_LEN]> = frame.push_exactly() else {
        return Some(Err(DropReason::NoHeadroom));
    };
    let written =
        header.write_ipip4(out, payload_len, IpVersion::V4, tos, Fragmentation::Forbidden);
    Some(written.map_err(|_| DropReason::MtuExceeded))
}

/// Replaces the Ethernet header of an IP packet by an outer Ethernet and IP header (RFC 2003
/// section 3, RFC 4213 section 3, RFC 2473 section 3).
#[inline(never)]
fn encapsulate_ipip<F: Frame>(
    cx: &Context<'_>,
    tunnel: &Tunnel,
    header: &OuterHeader,
    frame: &mut F,
) -> Result<(), DropReason> {
    let inner = IpVersion::of(&frame.bytes()[HEADER_LEN..]).ok_or(DropReason::EtherTypeUnrouted)?;
    let tos = tunnel.outer.tos(ecn::frame_tos(frame.bytes()));
    let packet = &frame.bytes()[HEADER_LEN..];
    // RFC 2003 section 3.1: what may not be fragmented inside may not be outside.
    let forbidden = tunnel.outer.dont_fragment
        || inner == IpVersion::V4 && ipv4::View::new_unchecked(packet).dont_fragment();
    // IPv4 routers have nothing but the addresses to tell flows apart by (RFC 6438 section 2).
    let flow = if header.is_ipv4() && forbidden { 0 } else { flow::hash_packet(packet) };
    let fragmentation = if forbidden {
        Fragmentation::Forbidden
    } else {
        Fragmentation::Allowed { ident: cx.ident(flow) }
    };
    frame.pull(HEADER_LEN);
    let payload_len = frame.len();
    let out = push(frame, header.len())?;
    header
        .write_ipip(out, payload_len, inner, tos, fragmentation)
        .map_err(|_| DropReason::MtuExceeded)?;
    if !header.is_ipv4() {
        header.set_flow_label(out, flow::label(flow));
    }
    Ok(())
}

/// Room for `len` bytes before the frame.
#[inline]
fn push<F: Frame>(frame: &mut F, len: usize) -> Result<&mut [u8], DropReason> {
    frame.push(len).map_err(|_| DropReason::NoHeadroom)?;
    frame.bytes_mut().get_mut(..len).ok_or(DropReason::NoHeadroom)
}
