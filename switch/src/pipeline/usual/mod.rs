//! The way of the usual frame: one whole packet in one segment, from a station that is known, to one that is
//! known or to the router; where it is routed or out of a tunnel, IPv4 without options or padding, or TCP or UDP
//! right behind an IPv6 header.
//!
//! It goes straight through, with what it needs in registers and [`crate::tables::Adjacencies`], and nothing of it is
//! written before all of it is known to be in order. Any other frame is left as it came, for the general
//! way ([`super::bridge`], [`super::router`], [`super::underlay`]), which would do the same with this one,
//! in twice the instructions.
//!
//! ```text
//! access   frames of a port: bridged, routed, or into a tunnel
//! uplink   frames of the underlay: out of their tunnel, then as above
//! at_hand  what either looks at
//! ```

mod access;
mod at_hand;
mod uplink;

pub(super) use access::{access, access_alone};
pub(super) use uplink::{uplink, uplink_alone};

use super::batch::Batch;
use super::packet::{is_ordinary, is_ordinary_v6};
use crate::frame::Frame;
use crate::tables::{Entrance, Hop, Owner, Stamp, Stations, WayIn};
use at_hand::{AtHand, Sources};
use encap::ethernet::HEADER_LEN;
use encap::ip::protocol;
use encap::words::{self, Ethernet, Ipv4, Ipv6};
use encap::{ipv4, ipv6, tcp, udp};

/// Octets that a frame has at least: Ethernet, IPv4 and UDP headers.
const LEAST: usize = UDP + udp::HEADER_LEN;
const UDP: usize = HEADER_LEN + ipv4::HEADER_LEN;
/// The same with IPv6.
const LEAST_V6: usize = UDP_V6 + udp::HEADER_LEN;
const UDP_V6: usize = HEADER_LEN + ipv6::HEADER_LEN;

/// What the usual way looks at: made ready for a batch of frames, or `ON_DEMAND` for a single one.
/// Which of the two is a parameter although `at_hand` tells it: the compiler needs four instructions fewer for a
/// bridged frame of a batch.
#[derive(Clone, Copy)]
struct Usual<'a, const ON_DEMAND: bool> {
    sources: Sources<'a>,
    at_hand: Option<AtHand<'a>>,
}

/// Where frames enter a segment, with what there is to know of it in places of its own.
#[derive(Clone, Copy)]
struct Side {
    stations: Stations,
    stamp: Stamp,
    /// See [`Entrance`].
    from: u32,
    gateway: u64,
    statics: bool,
    owner: Option<Owner>,
}

impl Side {
    /// `now` is in seconds.
    #[inline(always)]
    fn of(entrance: &Entrance, now: u32) -> Side {
        Side {
            stations: Stations::of(entrance.segment),
            stamp: Stamp::from_bits(entrance.from, now, entrance.ageing),
            from: entrance.from,
            gateway: entrance.gateway,
            statics: entrance.statics,
            owner: entrance.owner,
        }
    }
}

impl Batch<'_> {
    /// Whether what the usual way looks at was derived from these tables.
    #[inline(always)]
    fn is_prepared(&self) -> bool {
        self.tables.adjacencies.are_of(self.tables)
    }

    /// Where the frames of the port enter, if they do in the usual way.
    #[inline(always)]
    fn entrance(&self) -> Option<&Entrance> {
        let entrances = &self.tables.adjacencies.entrances;
        if self.is_prepared() { entrances.get(self.port.id.index())?.as_ref() } else { None }
    }

    /// Whether nothing but the plainest FIB is there to be asked.
    #[inline(always)]
    fn is_plain(&self) -> bool {
        self.tables.fib.v4().is_plain()
    }

    /// All of them by the general way.
    #[inline(never)]
    fn access_all<F: Frame>(&self, frames: &mut [F], fates: &mut [u32]) {
        let cx = self.context();
        frames.iter_mut().zip(fates).for_each(|(frame, to)| *to = cx.access(frame));
    }

    /// All of them by the general way.
    #[inline(never)]
    fn uplink_all<F: Frame>(&self, frames: &mut [F], fates: &mut [u32]) {
        let cx = self.context();
        frames.iter_mut().zip(fates).for_each(|(frame, to)| *to = cx.uplink(frame));
    }
}

impl<'a, const ON_DEMAND: bool> Usual<'a, ON_DEMAND> {
    /// Whether there is nothing to learn of a frame's source, nor of its destination that it is a group's.
    #[inline(always)]
    fn is_known<const FULL: bool>(&self, side: &Side, eth: Ethernet) -> bool {
        // The FDB holds no group address, and nothing else is asked without `FULL`.
        if FULL && eth.has_group() {
            return false;
        }
        let station = side.stations.station(eth.src());
        FULL && side.statics && self.statics().get(station).is_some()
            || self.fdb().knows(station, side.stamp)
            || FULL && self.fdb().knows_anywhere(station, side.stamp)
    }

    /// Where a frame goes within a segment, as [`crate::Location::to_bits`]; none where that is not known, and of
    /// a frame that may claim an address of the gateway.
    #[inline(always)]
    fn locate<const FULL: bool, const N: usize>(
        &self,
        side: &Side,
        eth: Ethernet,
        h: &[u8; N],
    ) -> Option<u32> {
        if eth.ethertype() != words::IPV4 && !is_harmless(eth, h) {
            return None;
        }
        let station = side.stations.station(eth.dst());
        if FULL
            && side.statics
            && let Some(at) = self.statics().get(station)
        {
            return Some(at);
        }
        Some(if FULL {
            self.fdb().locate(station, self.now())
        } else {
            self.fdb().locate_at_home(station, self.now())
        })
    }

    /// The octet with the flags of TCP, of a packet whose header of TCP would begin at so many bytes; none
    /// where nobody asks for it.
    #[inline(always)]
    fn tcp_flags<const FULL: bool>(&self, frame: &[u8], at: usize) -> Option<u8> {
        if FULL && self.clamp_mss() { frame.get(at + 13).copied() } else { None }
    }

    /// Whether a packet with these flags may be one whose maximum segment size is lowered.
    #[inline(always)]
    fn may_be_clamped<const FULL: bool>(&self, protocol: u8, flags: Option<u8>) -> bool {
        FULL && self.clamp_mss()
            && protocol == protocol::TCP
            && flags.is_none_or(|flags| flags & tcp::flag::SYN != 0)
    }

    /// Whether the path of a tunnel is not known to carry less than a frame of `len` bytes needs.
    #[inline(always)]
    fn passes(&self, way: &WayIn, len: usize) -> bool {
        !self.paths() || way.passes(len, self.now())
    }

    /// The next hop of a packet that may be routed, of `len` bytes, and has hops left: the one of this index, if it
    /// has been looked up.
    #[inline(always)]
    fn next_hop<const FULL: bool>(
        &self,
        ip: Ipv4,
        len: usize,
        looked_up: Option<u32>,
    ) -> Option<&'a Hop> {
        let (src, dst) = ip.networks();
        let usual = ip.is_sound(len) && is_ordinary(src) & is_ordinary(dst) && ip.ttl() >= 2;
        if !usual {
            return None;
        }
        let dst = ip.dst().swap_bytes();
        let at = match looked_up {
            Some(at) => at as usize,
            None if FULL => self.fib().index(dst),
            None => self.plain_fib().index_at_once(dst),
        };
        self.hops().get(at)
    }

    /// The same of IPv6.
    #[inline(always)]
    fn next_hop_v6(&self, ip: Ipv6, len: usize) -> Option<&'a Hop> {
        let (src, dst) = ip.networks();
        if !(ip.is_plain(len) && is_ordinary_v6(src) & is_ordinary_v6(dst) && ip.hop_limit() >= 2) {
            return None;
        }
        self.hops().get(self.fib_v6().index(ip.dst_bits()))
    }

    /// Of several next hops of equal cost the flow's.
    #[inline(always)]
    fn of_group(&self, hop: &'a Hop, flow: impl FnOnce() -> u32) -> Option<&'a Hop> {
        match hop.group() {
            Some(group) => self.groups().get(group)?.pick(flow()),
            None => Some(hop),
        }
    }
}

/// Takes one from the TTL.
#[inline(always)]
fn count_hop<const N: usize>(h: &mut [u8; N], ip: Ipv4) {
    const TTL: usize = HEADER_LEN + 8;
    h[TTL..TTL + 4].copy_from_slice(&ip.hop_counted());
}

/// Takes one from the hop limit.
#[inline(always)]
fn count_hop_v6<const N: usize>(h: &mut [u8; N]) {
    h[HEADER_LEN + 7] -= 1;
}

/// Whether a frame that is not IPv4 is TCP or UDP over IPv6, and so not neighbour discovery.
#[inline(always)]
fn is_harmless<const N: usize>(eth: Ethernet, h: &[u8; N]) -> bool {
    eth.ethertype() == words::IPV6 && matches!(h[HEADER_LEN + 6], protocol::TCP | protocol::UDP)
}
