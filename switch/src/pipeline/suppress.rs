//! ARP and ND suppression: requests for addresses whose owner is configured are answered on the spot
//! and not flooded (RFC 9161 describes the same for EVPN).

use super::answer::{self, Owner};
use crate::frame::Frame;
use crate::ids::Location;
use crate::reason::DropReason;
use crate::tables::Segment;
use encap::ethernet::ethertype;
use encap::{Mac, arp};
use std::net::IpAddr;

/// Turns a request from `from` into its answer, if the segment knows one.
///
/// A probe for an address in use (RFC 5227 section 2.1.1, RFC 4862 section 5.4.3) is a request like
/// any other: whoever probes hears that the address is taken. Not answered is a host that asks for
/// its own address: it would find itself to be its duplicate. Nor is one that asks behind the port
/// where the owner is: the owner hears it too. Announcements ask nothing and pass.
#[inline]
pub(super) fn answer<F: Frame>(
    segment: &Segment,
    frame: &mut F,
    ethertype: u16,
    from: Location,
) -> Result<bool, DropReason> {
    if segment.neighbors.is_empty() {
        return Ok(false);
    }
    let owner = |ip: IpAddr, asker: Mac| {
        let neighbor = segment.neighbors.get(&ip)?;
        let is_other = neighbor.mac != asker && neighbor.at != from;
        is_other.then_some(Owner { mac: neighbor.mac, router: false })
    };
    match ethertype {
        ethertype::ARP => {
            let request = |r: &arp::Repr| {
                if r.is_announcement() { None } else { owner(r.target_ip.into(), r.sender_mac) }
            };
            match answer::arp(frame, request) {
                // Of another kind than Ethernet and IPv4: carried like any other frame.
                Err(DropReason::ArpMalformed) => Ok(false),
                answered => answered,
            }
        }
        ethertype::IPV6 => answer::neighbor_solicitation(frame, owner),
        _ => Ok(false),
    }
}
