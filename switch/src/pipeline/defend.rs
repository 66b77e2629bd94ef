//! The gateway's addresses defended: what claims one for another MAC address goes no further, and the
//! segment is told whose it is (RFC 5227 section 2.4, and the same for neighbour advertisements).

use super::Context;
use super::answer::{self, Owner};
use super::resolve::{NOWHERE, write};
use crate::frame::{Frame, Io};
use crate::ids::SegmentId;
use crate::reason::DropReason;
use crate::tables::Router;
use encap::ethernet::{self, HEADER_LEN, ethertype};
use encap::ip::protocol;
use encap::{Mac, arp, icmpv6, ipv6, ndisc};
use std::cell::Cell;
use std::net::IpAddr;

/// Milliseconds between two announcements: two who both defend must not do so for ever (RFC 5227
/// section 1.1: DEFEND_INTERVAL).
const INTERVAL: u64 = 10_000;

/// The millisecond before which a worker announces no address again, for each IP version.
#[derive(Debug, Default)]
pub(super) struct Defence([Cell<u64>; 2]);

/// The gateway address that a frame of its segment claims for somebody else.
#[inline]
pub(super) fn conflict<F: Frame>(router: &Router, frame: &F, ethertype: u16) -> Option<IpAddr> {
    const NEXT_HEADER: usize = HEADER_LEN + 6;
    let (ip, mac) = match ethertype {
        ethertype::ARP => arp_claim(frame)?,
        ethertype::IPV6 if frame.bytes().get(NEXT_HEADER) == Some(&protocol::ICMPV6) => {
            advertised(frame)?
        }
        _ => return None,
    };
    // The node's own interface has these addresses, too.
    let is_ours = mac == router.mac || router.host.is_some_and(|host| host.mac == mac);
    (!is_ours && router.has_address(ip)).then_some(ip)
}

#[cold]
fn arp_claim<F: Frame>(frame: &F) -> Option<(IpAddr, Mac)> {
    let view = arp::View::new_checked(frame.bytes().get(HEADER_LEN..)?).ok()?;
    let packet = arp::Repr::parse(&view).ok()?;
    Some((packet.sender_ip.into(), packet.sender_mac))
}

/// What a valid advertisement says; hosts ignore others.
#[cold]
fn advertised<F: Frame>(frame: &F) -> Option<(IpAddr, Mac)> {
    let header = ipv6::View::new_checked(frame.bytes().get(HEADER_LEN..)?).ok()?;
    if header.payload().first() != Some(&icmpv6::message::NEIGHBOR_ADVERT) {
        return None;
    }
    let view = ndisc::View::new_checked(header.payload()).ok()?;
    match ndisc::Repr::parse(&view, header.src(), header.dst(), header.hop_limit()).ok()? {
        ndisc::Repr::Advert { target, target_mac, .. } => {
            let sender = ethernet::View::new_unchecked(frame.bytes()).src();
            Some((target.into(), target_mac.unwrap_or(sender)))
        }
        ndisc::Repr::Solicit { .. } => None,
    }
}

/// Tells a segment whose the gateway's address is, unless it was told a moment ago.
#[cold]
pub(super) fn announce<I: Io>(cx: &Context<'_>, segment: SegmentId, ip: IpAddr, io: &mut I) {
    let Some(router) = &cx.tables.router else { return };
    let due = &cx.defence.0[usize::from(ip.is_ipv6())];
    if cx.millis < due.get() {
        return;
    }
    due.set(cx.millis + INTERVAL);
    cx.counters.originated.add(1);
    let Some(mut frame) = io.alloc() else {
        return cx.counters.drop(DropReason::NoBuffer);
    };
    let mac = router.mac;
    let written = match ip {
        IpAddr::V4(ip) => {
            let claim = arp::Repr {
                operation: arp::Operation::Request,
                sender_mac: mac,
                sender_ip: ip,
                target_mac: Mac::ZERO,
                target_ip: ip,
            };
            write(&mut frame, Mac::BROADCAST, mac, ethertype::ARP, claim.buffer_len(), |b| {
                claim.emit(b);
            })
        }
        IpAddr::V6(ip) => write(&mut frame, mac, mac, ethertype::IPV6, 0, |_| ())
            .and_then(|()| answer::announce(Owner { mac, router: true }, ip, &mut frame)),
    };
    match written {
        Ok(()) => cx.flood(segment, NOWHERE, frame, io),
        Err(reason) => cx.drop(reason, frame, io),
    }
}
