//! Anti-spoofing: what is behind a guarded port speaks for itself only (BCP 38, and RFC 7039's SAVI
//! with bindings that are configured rather than learned).
//!
//! Link-local IPv6 sources are free: a kernel picks them by rules that nobody outside can foresee
//! (RFC 7217, RFC 8981), neighbour discovery and MLD cannot do without them, and the router passes
//! none on, so that they reach no further than the segment. Unspecified sources are left to those
//! who have no address yet: DAD, MLD and DHCP.

use super::Context;
use crate::frame::Frame;
use crate::reason::DropReason;
use crate::tables::{Guard, Segment};
use encap::ethernet::{self, HEADER_LEN, ethertype};
use encap::ip::protocol;
use encap::{Mac, arp, icmpv6, ipv4, ipv6, ndisc, udp, vlan};
use std::net::{IpAddr, Ipv4Addr};

/// VLAN tags that are looked behind; no host sends as many.
const MAX_TAGS: usize = 4;
/// Neighbour discovery messages that only routers send (RFC 4861 sections 4.2 and 4.5).
const ROUTER_ADVERT: u8 = 134;
const REDIRECT: u8 = 137;
/// A router solicitation has its options 8 bytes in (RFC 4861 section 4.1).
const ROUTER_SOLICIT: u8 = 133;
const ROUTER_SOLICIT_OPTIONS: usize = 8;
/// Multicast listener discovery (RFC 2710, RFC 3810).
const MLD: [u8; 4] = [130, 131, 132, 143];

/// What a guard is asked about.
struct Claims<'a> {
    guard: &'a Guard,
    segment: &'a Segment,
    cx: &'a Context<'a>,
}

/// Whether a frame claims nothing that is another's; else the name of what it claims.
pub(super) fn check<F: Frame>(
    cx: &Context<'_>,
    guard: &Guard,
    segment: &Segment,
    frame: &F,
) -> Result<(), DropReason> {
    let bytes = frame.bytes();
    let (_, src, mut kind) = ethernet::header(bytes).ok_or(DropReason::EthTruncated)?;
    if Mac::from_u64(src) != guard.mac {
        return Err(DropReason::SpoofedMac);
    }
    let claims = Claims { guard, segment, cx };
    let mut packet = &bytes[HEADER_LEN..];
    // A tag hides nothing: a kernel takes a tag of VLAN 0 for none (IEEE 802.1Q clause 6.9).
    for _ in 0..=MAX_TAGS {
        match kind {
            ethertype::IPV4 => return claims.ipv4(packet),
            ethertype::IPV6 => return claims.ipv6(packet),
            ethertype::ARP => return claims.arp(packet),
            ethertype::VLAN | ethertype::QINQ => {
                let tag = vlan::View::new_checked(packet).map_err(|_| DropReason::EthTruncated)?;
                kind = tag.ethertype();
                packet = &packet[vlan::HEADER_LEN..];
            }
            _ => return Ok(()),
        }
    }
    Err(DropReason::SpoofedIp)
}

impl Claims<'_> {
    /// Whether an address is the port's. Where none are known, all are that nobody else is known to
    /// have.
    fn owns(&self, ip: IpAddr) -> bool {
        if self.guard.addresses.is_empty() {
            !self.is_known(ip)
        } else {
            self.guard.addresses.contains(&ip)
        }
    }

    /// Whether the switch knows who has an address.
    fn is_known(&self, ip: IpAddr) -> bool {
        let router = self.cx.tables.router.as_ref().filter(|_| self.segment.routed);
        self.segment.neighbors.contains_key(&ip) || router.is_some_and(|r| r.has_address(ip))
    }

    /// Whether an address may be probed for before use (RFC 5227, RFC 4862): an own one, and one
    /// that is known to be taken, which the prober shall hear. A probe for any other would make
    /// its rightful owner, who may be probing too, give it up.
    fn may_probe(&self, ip: IpAddr) -> bool {
        self.owns(ip) || self.is_known(ip)
    }

    fn ipv4(&self, packet: &[u8]) -> Result<(), DropReason> {
        if packet.len() < ipv4::HEADER_LEN {
            return Err(DropReason::Ipv4Malformed);
        }
        let header = ipv4::View::new_unchecked(packet);
        let src = header.src();
        if self.owns(src.into()) && !src.is_unspecified() || is_dhcp(&header, packet) {
            return Ok(());
        }
        Err(DropReason::SpoofedIp)
    }

    fn arp(&self, packet: &[u8]) -> Result<(), DropReason> {
        let view = arp::View::new_checked(packet).map_err(|_| DropReason::ArpMalformed)?;
        let packet = arp::Repr::parse(&view).map_err(|_| DropReason::ArpMalformed)?;
        let honest = if packet.is_probe() {
            self.may_probe(packet.target_ip.into())
        } else {
            !packet.sender_ip.is_unspecified() && self.owns(packet.sender_ip.into())
        };
        if honest && packet.sender_mac == self.guard.mac {
            Ok(())
        } else {
            Err(DropReason::SpoofedArp)
        }
    }

    fn ipv6(&self, packet: &[u8]) -> Result<(), DropReason> {
        if packet.len() < ipv6::HEADER_LEN || packet[0] >> 4 != 6 {
            return Err(DropReason::Ipv6Malformed);
        }
        let header = ipv6::View::new_unchecked(packet);
        let src = header.src();
        let nobody = src.is_unspecified();
        if !nobody && !src.is_unicast_link_local() && !self.owns(src.into()) {
            return Err(DropReason::SpoofedIp);
        }
        let upper = header.upper_layer().map_err(|_| DropReason::Ipv6Malformed)?;
        // Neighbour discovery is not taken from fragments (RFC 6980); what a later one holds cannot
        // be told, and is nothing without the first.
        if upper.is_later_fragment() || upper.protocol != protocol::ICMPV6 {
            return if nobody { Err(DropReason::SpoofedIp) } else { Ok(()) };
        }
        let message = header.payload().get(upper.offset - ipv6::HEADER_LEN..).unwrap_or(&[]);
        let Some(&kind) = message.first() else { return Err(DropReason::SpoofedNd) };
        match kind {
            ROUTER_SOLICIT..=REDIRECT if upper.is_fragment() => Err(DropReason::SpoofedNd),
            ROUTER_ADVERT | REDIRECT => Err(DropReason::SpoofedNd),
            ROUTER_SOLICIT => self.lladdrs(message, ROUTER_SOLICIT_OPTIONS),
            icmpv6::message::NEIGHBOR_SOLICIT | icmpv6::message::NEIGHBOR_ADVERT => {
                self.neighbor_discovery(message, nobody)
            }
            _ if nobody && !MLD.contains(&kind) => Err(DropReason::SpoofedIp),
            _ => Ok(()),
        }
    }

    /// A solicitation may ask for any address, unless it is a probe; an advertisement may tell of an
    /// own one only.
    fn neighbor_discovery(&self, message: &[u8], probe: bool) -> Result<(), DropReason> {
        let view = ndisc::View::new_checked(message).map_err(|_| DropReason::IcmpMalformed)?;
        let target = view.target();
        let free = target.is_unicast_link_local();
        let honest = match view.message_type() {
            icmpv6::message::NEIGHBOR_SOLICIT if probe => free || self.may_probe(target.into()),
            icmpv6::message::NEIGHBOR_SOLICIT => true,
            _ => !probe && (free || self.owns(target.into())),
        };
        if !honest {
            return Err(DropReason::SpoofedNd);
        }
        self.lladdrs(message, ndisc::HEADER_LEN)
    }

    /// Whether all link-layer address options (RFC 4861 section 4.6.1) are the port's own.
    fn lladdrs(&self, message: &[u8], start: usize) -> Result<(), DropReason> {
        let mut rest = message.get(start..).ok_or(DropReason::IcmpMalformed)?;
        while let Some(&[kind, units]) = rest.first_chunk() {
            let option = rest.get(..usize::from(units) * 8).filter(|o| !o.is_empty());
            let option = option.ok_or(DropReason::IcmpMalformed)?;
            if matches!(kind, 1 | 2) && option[2..] != self.guard.mac.0 {
                return Err(DropReason::SpoofedNd);
            }
            rest = &rest[option.len()..];
        }
        Ok(())
    }
}

/// A DHCP client that has no address yet (RFC 2131 section 4.1).
fn is_dhcp(header: &ipv4::View<&[u8]>, packet: &[u8]) -> bool {
    const PORTS: [u8; 4] = [0, 68, 0, 67];
    let ports = packet.get(header.header_len()..).and_then(|udp| udp.first_chunk());
    header.src().is_unspecified()
        && header.dst() == Ipv4Addr::BROADCAST
        && header.protocol() == protocol::UDP
        && !header.is_fragment()
        && ports == Some(&PORTS)
        && packet.len() >= header.header_len() + udp::HEADER_LEN
}
