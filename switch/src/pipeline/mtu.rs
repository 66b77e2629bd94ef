//! How large a packet may be: the MTU of a next hop, and the segment size that TCP is told.

use super::{Context, Origin};
use crate::frame::Frame;
use crate::ids::{Location, PortId, TunnelId};
use crate::reason::DropReason;
use crate::tables::{NextHop, Tunnel};
use encap::ethernet::HEADER_LEN;
use encap::ip::{IpVersion, protocol};
use encap::{ipv4, ipv6, tcp};

/// The largest IP packet that a next hop takes, in bytes. Fails when the next hop is not usable at
/// present.
#[inline]
pub(super) fn of_next_hop(cx: &Context<'_>, hop: &NextHop) -> Result<u32, DropReason> {
    match *hop {
        NextHop::Local { port, .. } | NextHop::Direct { port, .. } => of_port(cx, port),
        NextHop::Tunnel(id) | NextHop::Behind { tunnel: id, .. } => of_tunnel(cx, id),
        _ => Err(DropReason::NoRoute),
    }
}

/// The largest IP packet that a port takes, in bytes.
#[inline(always)]
pub(super) fn of_port(cx: &Context<'_>, port: PortId) -> Result<u32, DropReason> {
    Ok(cx.tables.port(port).ok_or(DropReason::PortDown)?.mtu)
}

#[inline(always)]
pub(super) fn of_tunnel(cx: &Context<'_>, id: TunnelId) -> Result<u32, DropReason> {
    through(cx, cx.tables.tunnel(id).ok_or(DropReason::PortDown)?)
}

/// The largest IP packet that a tunnel takes, in bytes.
#[inline(always)]
pub(super) fn through(cx: &Context<'_>, tunnel: &Tunnel) -> Result<u32, DropReason> {
    if tunnel.egress.is_none() {
        return Err(DropReason::NeighborUnresolved);
    }
    Ok(tunnel.path_mtu(cx.now))
}

/// The largest IP packet that can have come, or can go back, the way that a packet came.
fn of_origin(cx: &Context<'_>, origin: Origin) -> Result<u32, DropReason> {
    match origin {
        Origin::Segment(_, Location::Port(port)) => of_port(cx, port),
        Origin::Segment(_, Location::Tunnel(id)) | Origin::Tunnel(id) => of_tunnel(cx, id),
        Origin::Native | Origin::Underlay(_) | Origin::Router => Ok(cx.port.mtu),
    }
}

/// Lowers the maximum segment size that a SYN offers to what fits the next hop's MTU and that of
/// the way back, whichever is smaller (RFC 9293 section 3.7.1, RFC 6691: less the fixed headers).
#[inline(never)]
pub(super) fn clamp_mss<F: Frame>(cx: &Context<'_>, frame: &mut F, origin: Origin, mtu: u32) {
    let Ok(mtu) = of_origin(cx, origin).map(|back| mtu.min(back)) else { return };
    let packet = frame.bytes_mut().get_mut(HEADER_LEN..).unwrap_or(&mut []);
    let (at, ip_header) = match IpVersion::of(packet) {
        Some(IpVersion::V4) => {
            let view = ipv4::View::new_unchecked(&*packet);
            if view.protocol() != protocol::TCP || view.fragment_offset() != 0 {
                return;
            }
            (view.header_len(), ipv4::HEADER_LEN)
        }
        Some(IpVersion::V6) => match ipv6::upper_layer(packet) {
            Ok(upper) if upper.protocol == protocol::TCP && !upper.is_later_fragment() => {
                (upper.offset, ipv6::HEADER_LEN)
            }
            _ => return,
        },
        None => return,
    };
    let Some(segment) = packet.get_mut(at..) else { return };
    let Ok(mut segment) = tcp::View::new_checked(segment) else { return };
    if segment.flags() & tcp::flag::SYN != 0 {
        let limit = (mtu as usize).saturating_sub(ip_header + tcp::HEADER_LEN);
        segment.clamp_mss(u16::try_from(limit).unwrap_or(u16::MAX));
    }
}
