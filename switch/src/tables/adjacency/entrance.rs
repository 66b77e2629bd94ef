//! Where frames enter a segment: from a port, or out of a tunnel.

use super::NO_MAC_WORD;
use crate::ids::{Location, SegmentId, TunnelId};
use crate::tables::{Encapsulation, Guard, Port, Role, Segment, Tables, Tunnel};
use encap::words::{self, mac_word};
use std::net::IpAddr;

/// What is the same for all frames that come that way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entrance {
    pub segment: SegmentId,
    /// The port or tunnel, as [`Location::to_bits`].
    pub from: u32,
    /// Seconds after which an address is forgotten.
    pub ageing: u32,
    /// The router's MAC address if it serves the segment, as [`words::Ethernet::dst`] has it.
    pub gateway: u64,
    /// Whether the segment has addresses that are configured.
    pub statics: bool,
    /// The only addresses that frames may come from.
    pub owner: Option<Owner>,
    /// Whether there is nothing to ask of a frame that would not be asked of any.
    pub is_plain: bool,
}

/// Who is behind a port: one address of a family at most, and one at least.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owner {
    /// As [`words::Ethernet::src`] has it.
    pub mac: u64,
    /// As [`words::Ipv4::src`] has it.
    pub v4: Option<u32>,
    /// As [`words::Ipv6::src`] has it.
    pub v6: Option<[u64; 2]>,
}

impl Owner {
    /// None where an address cannot tell all that may be claimed.
    fn of(guard: &Guard) -> Option<Owner> {
        let mut owner = Owner { mac: mac_word(guard.mac.to_u64()), v4: None, v6: None };
        for ip in &guard.addresses {
            let is_second = match ip {
                IpAddr::V4(ip) => owner.v4.replace(u32::from_le_bytes(ip.octets())).is_some(),
                IpAddr::V6(ip) => owner.v6.replace(words::address_words(*ip)).is_some(),
            };
            if ip.is_unspecified() || is_second {
                return None;
            }
        }
        (owner.v4.is_some() || owner.v6.is_some()).then_some(owner)
    }
}

impl Entrance {
    fn to(segment: &Segment, from: Location, owner: Option<Owner>, tables: &Tables) -> Entrance {
        let statics = !segment.statics.is_empty();
        Entrance {
            segment: segment.id,
            from: from.to_bits(),
            ageing: segment.ageing,
            gateway: tables.gateway(segment),
            statics,
            owner,
            is_plain: owner.is_none() && !statics && !tables.clamps_mss(),
        }
    }

    /// None of a port that leads into no segment, and where more addresses than one are allowed.
    pub fn of_port(port: &Port, tables: &Tables) -> Option<Entrance> {
        let Role::Access(id) = port.role else { return None };
        let owner = match &port.policy.guard {
            Some(guard) => Some(Owner::of(guard)?),
            None => None,
        };
        Some(Entrance::to(tables.segment(id)?, Location::Port(port.id), owner, tables))
    }

    fn of_tunnel(id: TunnelId, segment: &Segment, tables: &Tables) -> Entrance {
        Entrance::to(segment, Location::Tunnel(id), None, tables)
    }
}

/// Where what comes out of a tunnel goes.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(crate) struct WayOut {
    /// The VTEP's own address, as [`words::Ethernet::dst`] has it; none of a frame where there is no VTEP.
    pub local_mac: u64,
    /// Into the segment that it carries, if any.
    pub entrance: Option<Entrance>,
}

/// Nowhere: there is no such tunnel.
impl Default for WayOut {
    fn default() -> WayOut {
        WayOut { local_mac: NO_MAC_WORD, entrance: None }
    }
}

impl WayOut {
    pub fn of(tunnel: &Tunnel, tables: &Tables) -> WayOut {
        let Encapsulation::Vxlan { segment, local_mac, .. } = tunnel.encapsulation else {
            return WayOut::default();
        };
        let segment = segment.and_then(|id| tables.segment(id));
        WayOut {
            local_mac: mac_word(local_mac.to_u64()),
            entrance: segment.map(|segment| Entrance::of_tunnel(tunnel.id, segment, tables)),
        }
    }
}
