//! From the underlay: validate the outer headers, find the tunnel, take them off.

use super::fate::{Fate, dropped};
use super::icmp_error::Refusal;
use super::{Context, Origin, Verdict, bridge, relay, router, vlan};
use crate::frame::Frame;
use crate::ids::{Location, TunnelId};
use crate::reason::DropReason;
use crate::tables::Encapsulation;
use encap::ethernet::{self, HEADER_LEN, ethertype};
use encap::ip::{IpVersion, protocol};
use encap::tunnel::{
    Kind, Outer, OuterError, UsualIpip, UsualVxlan, parse_outer_v4, parse_outer_v6,
};
use encap::{ecn, ipv4, ipv6};
use std::net::IpAddr;

/// A frame of the uplink: out of its tunnel, or as it is when it is natively routed.
///
/// The usual tunnel packet to the node's first address has a way of its own, on which its headers are read
/// in a few wide loads; [`unusual`] would do the same with it.
#[inline(always)]
pub(super) fn forward<F: Frame>(cx: &Context<'_>, frame: &mut F) -> Fate {
    if let Some(of) = cx.tables.vlan {
        vlan::untag(of, frame)?;
    }
    let underlay = &*cx.tables.underlay;
    if let Some(packet) = UsualVxlan::read(frame.bytes(), frame.len())
        && let Some(id) = underlay.usual_vxlan(&packet)
    {
        frame.pull(UsualVxlan::LEN);
        frame.truncate(packet.inner_len);
        return from_vxlan(cx, frame, id, packet.tos);
    }
    if let Some(packet) = UsualIpip::read(frame.bytes(), frame.len())
        && let Some(id) = underlay.usual_ipip(&packet)
    {
        let inner = IpVersion::V4;
        from_ipip(frame, UsualIpip::LEN, packet.inner_len, inner, packet.tos)?;
        return router::forward(cx, frame, inner.ethertype(), || Origin::Tunnel(id));
    }
    unusual(cx, frame)
}

/// Any frame of the uplink.
#[inline(never)]
fn unusual<F: Frame>(cx: &Context<'_>, frame: &mut F) -> Fate {
    let (_, _, ethertype) = ethernet::header(frame.bytes()).ok_or(DropReason::EthTruncated)?;
    let underlay = &*cx.tables.underlay;
    let packet = &frame.bytes()[HEADER_LEN..];
    let is_vxlan_port = |port| underlay.is_vxlan_port(port);
    match ethertype {
        ethertype::IPV4 => {
            if packet.len() >= ipv4::HEADER_LEN
                && !underlay.is_local(IpAddr::V4(ipv4::View::new_unchecked(packet).dst()))
            {
                // Routed here for a pod.
                return router::forward_rare(cx, frame, Origin::Native);
            }
            let outer =
                parse_outer_v4(frame.bytes(), frame.len(), is_vxlan_port).map_err(reason)?;
            to_us(cx, frame, &outer)
        }
        ethertype::IPV6 => {
            if packet.len() >= ipv6::HEADER_LEN
                && !underlay.is_local(IpAddr::V6(ipv6::View::new_unchecked(packet).dst()))
            {
                return router::forward_rare(cx, frame, Origin::Native);
            }
            let outer =
                parse_outer_v6(frame.bytes(), frame.len(), is_vxlan_port).map_err(reason)?;
            to_us(cx, frame, &outer)
        }
        _ => dropped(reason(OuterError::NotIp)),
    }
}

/// A packet to the node itself: out of its tunnel, and on. Inlined once for each family of the underlay.
#[inline(always)]
fn to_us<F: Frame>(cx: &Context<'_>, frame: &mut F, outer: &Outer) -> Fate {
    let underlay = &*cx.tables.underlay;
    match outer.kind {
        Kind::Vxlan { vni, dst_port, .. } => {
            let id = underlay.vxlan_tunnel(dst_port, vni, outer.src)?;
            frame.pull(outer.inner_offset);
            frame.truncate(outer.inner_len);
            from_vxlan_rare(cx, frame, id, outer.tos)
        }
        Kind::Ipip { inner } => {
            let id = underlay.ipip_tunnel(outer.src)?;
            from_ipip(frame, outer.inner_offset, outer.inner_len, inner, outer.tos)?;
            router::forward_rare(cx, frame, Origin::Tunnel(id))
        }
        Kind::Other { protocol } => cx.fate(other(cx, frame, outer, protocol)),
    }
}

/// A packet of no tunnel, to the node itself.
#[inline(never)]
fn other<F: Frame>(
    cx: &Context<'_>,
    frame: &mut F,
    outer: &Outer,
    protocol: u8,
) -> Result<Verdict, DropReason> {
    // Each family has its own ICMP: that of the other one means nothing.
    let icmp = if outer.dst.is_ipv4() { protocol::ICMP } else { protocol::ICMPV6 };
    if protocol != icmp {
        return Err(DropReason::NotForUs);
    }
    let report = relay::receive(cx, frame, outer)?;
    let (reason, origin) = (DropReason::UnderlayError, Origin::Underlay(report));
    Ok(Verdict::Refuse(Refusal { reason, report, origin }))
}

/// The inner frame of a VXLAN packet: for the VTEP itself, whose packets are routed, or for the
/// segment that the tunnel carries.
#[inline(always)]
fn from_vxlan<F: Frame>(cx: &Context<'_>, frame: &mut F, id: TunnelId, outer_tos: u8) -> Fate {
    let tunnel = cx.tables.tunnel(id).ok_or(DropReason::PortDown)?;
    let Encapsulation::Vxlan { segment, local_mac, .. } = tunnel.encapsulation else {
        return dropped(DropReason::VxlanUnknownVni);
    };
    let (dst, _, ethertype) = ethernet::header(frame.bytes()).ok_or(DropReason::EthTruncated)?;
    ecn::decap_frame(frame.bytes_mut(), outer_tos).map_err(|_| DropReason::EcnInvalid)?;
    if dst == local_mac.to_u64() {
        return router::forward(cx, frame, ethertype, || Origin::Tunnel(id));
    }
    let segment = segment.ok_or(DropReason::VxlanInnerUnknown)?;
    match bridge::Entry::new(cx, segment, Location::Tunnel(id)) {
        Some(entry) => bridge::forward(cx, frame, &entry),
        None => bridge::nowhere(frame),
    }
}

/// [`from_vxlan`] where it is not worth a copy of bridge and router.
#[inline(never)]
fn from_vxlan_rare<F: Frame>(cx: &Context<'_>, frame: &mut F, id: TunnelId, tos: u8) -> Fate {
    from_vxlan(cx, frame, id, tos)
}

/// An IPIP packet, for the router. The inner packet is left behind an Ethernet header without addresses,
/// for the router to fill in.
#[inline(always)]
fn from_ipip<F: Frame>(
    frame: &mut F,
    offset: usize,
    len: usize,
    inner: IpVersion,
    outer_tos: u8,
) -> Result<(), DropReason> {
    frame.truncate(offset + len);
    frame.pull(offset - HEADER_LEN);
    let header = frame.bytes_mut().get_mut(..HEADER_LEN).ok_or(DropReason::IpipMalformed)?;
    header[..12].fill(0);
    header[12..].copy_from_slice(&inner.ethertype().to_be_bytes());
    ecn::decap_frame(frame.bytes_mut(), outer_tos).map_err(|_| DropReason::EcnInvalid)
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
