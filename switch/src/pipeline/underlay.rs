//! From the underlay: validate the outer headers, find the tunnel, take them off.

use super::{Context, Origin, relay, vlan};
use crate::frame::Frame;
use crate::ids::{Location, TunnelId};
use crate::reason::DropReason;
use crate::tables::{Encapsulation, Underlay};
use encap::ethernet::{self, HEADER_LEN, ethertype};
use encap::ip::{IpVersion, protocol};
use encap::tunnel::{Kind, Outer, OuterError, parse_outer};
use encap::{Mac, ecn, ipv4, ipv6};
use std::net::IpAddr;

/// A frame of the uplink: out of its tunnel, or as it is when it is natively routed.
pub(super) fn receive<F: Frame>(cx: &Context<'_>, frame: &mut F) -> Result<Origin, DropReason> {
    if let Some(of) = cx.tables.vlan {
        vlan::untag(of, frame)?;
    }
    let underlay = &cx.tables.underlay;
    if !is_for_us(underlay, frame.bytes()) {
        return Ok(Origin::Native);
    }
    let is_vxlan_port = |port| underlay.vxlan_ports.contains(&port);
    let outer = parse_outer(frame.bytes(), frame.len(), is_vxlan_port).map_err(reason)?;
    match outer.kind {
        Kind::Vxlan { vni, dst_port, .. } => {
            let id = underlay.vxlan_tunnel(dst_port, vni, outer.src)?;
            frame.pull(outer.inner_offset);
            frame.truncate(outer.inner_len);
            vxlan_origin(cx, frame, id, outer.tos)
        }
        Kind::Ipip { inner } => {
            let id = underlay.ipip_tunnel(outer.src)?;
            decapsulate_ipip(frame, &outer, inner)?;
            ecn::decap_frame(frame.bytes_mut(), outer.tos).map_err(|_| DropReason::EcnInvalid)?;
            Ok(Origin::Tunnel(id))
        }
        // Each family has its own: ICMP over IPv6 means nothing.
        Kind::Other { protocol: protocol::ICMP } if outer.dst.is_ipv4() => {
            relay::receive(cx, frame, &outer)
        }
        Kind::Other { protocol: protocol::ICMPV6 } if outer.dst.is_ipv6() => {
            relay::receive(cx, frame, &outer)
        }
        Kind::Other { .. } => Err(DropReason::NotForUs),
    }
}

/// Whom the inner frame of a VXLAN packet is for: the VTEP itself, whose packets are routed, or
/// the segment that the tunnel carries.
fn vxlan_origin<F: Frame>(
    cx: &Context<'_>,
    frame: &mut F,
    id: TunnelId,
    outer_tos: u8,
) -> Result<Origin, DropReason> {
    let tunnel = cx.tables.tunnel(id).ok_or(DropReason::PortDown)?;
    let Encapsulation::Vxlan { segment, local_mac, .. } = tunnel.encapsulation else {
        return Err(DropReason::VxlanUnknownVni);
    };
    let (dst, _, _) = ethernet::header(frame.bytes()).ok_or(DropReason::EthTruncated)?;
    ecn::decap_frame(frame.bytes_mut(), outer_tos).map_err(|_| DropReason::EcnInvalid)?;
    if Mac::from_u64(dst) == local_mac {
        return Ok(Origin::Tunnel(id));
    }
    let segment = segment.ok_or(DropReason::VxlanInnerUnknown)?;
    Ok(Origin::Segment(segment, Location::Tunnel(id)))
}

/// Leaves the inner packet behind an Ethernet header without addresses, for the router to fill in.
fn decapsulate_ipip<F: Frame>(
    frame: &mut F,
    outer: &Outer,
    inner: IpVersion,
) -> Result<(), DropReason> {
    frame.truncate(outer.inner_offset + outer.inner_len);
    frame.pull(outer.inner_offset - HEADER_LEN);
    let header = frame.bytes_mut().get_mut(..HEADER_LEN).ok_or(DropReason::IpipMalformed)?;
    header[..12].fill(0);
    header[12..].copy_from_slice(&inner.ethertype().to_be_bytes());
    Ok(())
}

/// Whether the packet's destination is the node itself. Anything else was routed here for a pod.
fn is_for_us(underlay: &Underlay, frame: &[u8]) -> bool {
    let Some((_, _, ethertype)) = ethernet::header(frame) else { return true };
    let packet = &frame[HEADER_LEN..];
    let dst = match ethertype {
        ethertype::IPV4 if packet.len() >= ipv4::HEADER_LEN => {
            IpAddr::V4(ipv4::View::new_unchecked(packet).dst())
        }
        ethertype::IPV6 if packet.len() >= ipv6::HEADER_LEN => {
            IpAddr::V6(ipv6::View::new_unchecked(packet).dst())
        }
        _ => return true,
    };
    underlay.local.contains(&dst)
}

/// The name under which each fault of the outer headers is counted.
fn reason(error: OuterError) -> DropReason {
    match error {
        OuterError::EthTruncated => DropReason::EthTruncated,
        OuterError::NotIp => DropReason::NotForUs,
        OuterError::Ipv4Malformed => DropReason::Ipv4Malformed,
        OuterError::Ipv4Checksum => DropReason::Ipv4Checksum,
        OuterError::Ipv6Malformed => DropReason::Ipv6Malformed,
        OuterError::Fragment => DropReason::OuterFragment,
        OuterError::UdpMalformed => DropReason::UdpMalformed,
        OuterError::VxlanTruncated => DropReason::VxlanMalformed,
        OuterError::VxlanFlags => DropReason::VxlanFlags,
        OuterError::InnerMalformed => DropReason::IpipMalformed,
    }
}
