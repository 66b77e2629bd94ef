//! What the switch answers itself: ARP and neighbour discovery for addresses whose owner it knows,
//! and echo requests to the router. Each function turns a request into its reply in place and says so, or leaves
//! the frame untouched.

use super::sum_from;
use crate::frame::Frame;
use crate::reason::DropReason;
use crate::tables::Router;
use encap::checksum::Sum;
use encap::ethernet::{self, HEADER_LEN};
use encap::ip::protocol;
use encap::{Mac, arp, icmpv4, icmpv6, ipv4, ipv6, ndisc};
use std::net::{IpAddr, Ipv6Addr};

/// The TTL or hop limit of the router's own packets (IANA's recommended default).
const HOPS: u8 = 64;
/// Where the ICMPv6 message starts in a frame without extension headers.
const ICMPV6: usize = HEADER_LEN + ipv6::HEADER_LEN;

/// Whoever has an address, as far as the switch may tell.
#[derive(Clone, Copy)]
pub(super) struct Owner {
    pub mac: Mac,
    /// Whether it is a router: the R flag of neighbour advertisements.
    pub router: bool,
}

impl Owner {
    /// The router, if the address is one of its own.
    pub fn router(router: &Router, ip: IpAddr) -> Option<Owner> {
        router.has_address(ip).then_some(Owner { mac: router.mac, router: true })
    }
}

/// An ARP request (RFC 826 "Packet Reception") for an address that `owner` knows.
pub(super) fn arp<F: Frame>(
    frame: &mut F,
    owner: impl FnOnce(&arp::Repr) -> Option<Owner>,
) -> Result<bool, DropReason> {
    let packet = frame.bytes().get(HEADER_LEN..).unwrap_or(&[]);
    let view = arp::View::new_checked(packet).map_err(|_| DropReason::ArpMalformed)?;
    let request = arp::Repr::parse(&view).map_err(|_| DropReason::ArpMalformed)?;
    if request.operation != arp::Operation::Request {
        return Ok(false);
    }
    let Some(owner) = owner(&request) else { return Ok(false) };
    if !request.sender_mac.is_valid_source() {
        // The answer would go to a group, or to nobody (RFC 1812 section 3.3.2).
        return Err(DropReason::ArpMalformed);
    }
    ethernet::rewrite(frame.bytes_mut(), request.sender_mac, owner.mac);
    request.reply(owner.mac).emit(&mut frame.bytes_mut()[HEADER_LEN..]);
    Ok(true)
}

/// A neighbour solicitation (RFC 4861 section 7.2.3 and 7.2.4) for an address that `owner` knows,
/// who is given the asker's MAC address too. One for another address passes unseen: whether it is
/// valid is for its target to say (section 7.1.1), not for a bridge on the way.
pub(super) fn neighbor_solicitation<F: Frame>(
    frame: &mut F,
    owner: impl FnOnce(IpAddr, Mac) -> Option<Owner>,
) -> Result<bool, DropReason> {
    let packet = frame.bytes().get(HEADER_LEN..).unwrap_or(&[]);
    let available = frame.len().saturating_sub(HEADER_LEN);
    let Ok(header) = ipv6::View::new_checked_within(packet, available) else { return Ok(false) };
    let message = header.payload();
    if header.next_header() != protocol::ICMPV6
        || message.first() != Some(&icmpv6::message::NEIGHBOR_SOLICIT)
    {
        return Ok(false);
    }
    if message.len() < ndisc::HEADER_LEN {
        return Err(DropReason::IcmpMalformed);
    }
    let target = ndisc::View::new_unchecked(message).target();
    let from = ethernet::View::new_unchecked(frame.bytes()).src();
    let Some(owner) = owner(target.into(), from) else { return Ok(false) };
    let (src, dst) = (header.src(), header.dst());
    if src.is_multicast() || src.is_loopback() {
        // RFC 4291 section 2.7: the source of nothing. The answer would go to a group.
        return Err(DropReason::IpAddressInvalid);
    }
    // No question is longer than a segment of a frame.
    let is_whole = message.len() == header.payload_len();
    ndisc::View::new_checked(message)
        .and_then(|view| ndisc::Repr::parse(&view, src, dst, header.hop_limit()))
        .ok()
        .filter(|_| is_whole)
        .ok_or(DropReason::IcmpMalformed)?;
    // Someone who asks before using the address gets the answer on the all-nodes address.
    let asker = (!src.is_unspecified()).then_some(src);
    let to = asker.unwrap_or(ALL_NODES);
    let to_mac = if asker.is_some() { from } else { ethernet::ipv6_multicast(ALL_NODES) };
    advertise(owner, target, to, to_mac, asker.is_some(), frame)?;
    Ok(true)
}

/// `ff02::1`.
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// Overwrites the frame with an advertisement that nobody asked for (RFC 4861 section 7.2.6).
pub(super) fn announce<F: Frame>(
    owner: Owner,
    target: Ipv6Addr,
    frame: &mut F,
) -> Result<(), DropReason> {
    advertise(owner, target, ALL_NODES, ethernet::ipv6_multicast(ALL_NODES), false, frame)
}

/// Overwrites the frame with a neighbour advertisement.
fn advertise<F: Frame>(
    owner: Owner,
    target: Ipv6Addr,
    to: Ipv6Addr,
    to_mac: Mac,
    solicited: bool,
    frame: &mut F,
) -> Result<(), DropReason> {
    let advert = ndisc::Repr::Advert {
        target,
        router: owner.router,
        solicited,
        override_cache: true,
        target_mac: Some(owner.mac),
    };
    let len = ICMPV6 + advert.buffer_len();
    frame.truncate(len);
    frame.resize(len).map_err(|_| DropReason::NoBuffer)?;
    let bytes = frame.bytes_mut();
    ethernet::rewrite(bytes, to_mac, owner.mac);
    let header = ipv6::Repr {
        src: target,
        dst: to,
        next_header: protocol::ICMPV6,
        payload_len: advert.buffer_len(),
        hop_limit: ndisc::HOP_LIMIT,
        traffic_class: 0,
        flow_label: 0,
    };
    header.emit(&mut bytes[HEADER_LEN..]);
    advert.emit(&mut bytes[ICMPV6..], target, to);
    Ok(())
}

/// An ICMP echo request (RFC 792, RFC 1122 section 3.2.2.6), already known to be for the router and
/// to have a valid IPv4 header. Fragments are left to the node, which reassembles.
pub(super) fn echo_v4<F: Frame>(frame: &mut F) -> Result<bool, DropReason> {
    let header = ipv4::View::new_unchecked(&frame.bytes()[HEADER_LEN..]);
    if header.protocol() != protocol::ICMP || header.is_fragment() {
        return Ok(false);
    }
    let (src, dst) = (header.src(), header.dst());
    let start = HEADER_LEN + header.header_len();
    let message = icmpv4::View::new_checked(frame.bytes().get(start..).unwrap_or(&[]))
        .map_err(|_| DropReason::IcmpMalformed)?;
    if (message.message_type(), message.code()) != (icmpv4::message::ECHO_REQUEST, 0) {
        return Ok(false);
    }
    if !sum_from(frame, start, Sum::ZERO).is_valid() {
        return Err(DropReason::IcmpMalformed);
    }
    let bytes = frame.bytes_mut();
    turn_around(bytes);
    let mut header = ipv4::View::new_unchecked(&mut bytes[HEADER_LEN..]);
    header.set_src(dst);
    header.set_dst(src);
    header.set_ttl(HOPS);
    header.fill_checksum();
    icmpv4::View::new_unchecked(&mut bytes[start..]).request_to_reply();
    Ok(true)
}

/// An ICMPv6 echo request (RFC 4443 section 4.1), already known to be for the router and to have a
/// valid IPv6 header. One with extension headers is left to the node.
pub(super) fn echo_v6<F: Frame>(frame: &mut F) -> Result<bool, DropReason> {
    let header = ipv6::View::new_unchecked(&frame.bytes()[HEADER_LEN..]);
    if header.next_header() != protocol::ICMPV6 {
        return Ok(false);
    }
    let (src, dst, len) = (header.src(), header.dst(), header.payload_len());
    let message = icmpv6::View::new_checked(frame.bytes().get(ICMPV6..).unwrap_or(&[]))
        .map_err(|_| DropReason::IcmpMalformed)?;
    if (message.message_type(), message.code()) != (icmpv6::message::ECHO_REQUEST, 0) {
        return Ok(false);
    }
    let pseudo = Sum::ZERO.pseudo_v6(src, dst, protocol::ICMPV6, len as u32);
    if !sum_from(frame, ICMPV6, pseudo).is_valid() {
        return Err(DropReason::IcmpMalformed);
    }
    let bytes = frame.bytes_mut();
    turn_around(bytes);
    let mut header = ipv6::View::new_unchecked(&mut bytes[HEADER_LEN..]);
    header.set_src(dst);
    header.set_dst(src);
    header.set_hop_limit(HOPS);
    icmpv6::View::new_unchecked(&mut bytes[ICMPV6..]).request_to_reply();
    Ok(true)
}

/// Swaps the Ethernet addresses.
fn turn_around(bytes: &mut [u8]) {
    let header = ethernet::View::new_unchecked(&*bytes);
    let (dst, src) = (header.dst(), header.src());
    ethernet::rewrite(bytes, src, dst);
}
