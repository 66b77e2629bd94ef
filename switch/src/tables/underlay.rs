//! How frames of the underlay find their tunnel.

use super::mixer::{HashMap, HashSet};
use crate::ids::{PortId, TunnelId};
use crate::reason::DropReason;
use encap::Vni;
use std::net::IpAddr;

/// What the underlay tells about a tunnel packet: its tunnel, by VNI and peer or by peer alone.
#[derive(Clone, Debug, Default)]
pub struct Underlay {
    /// The node's own addresses. One of each family is usually all there is: it is looked at first.
    first: [Option<u128>; 2],
    others: HashSet<u128>,
    /// Tunnels by network identifier and peer, each with the UDP port that it receives on.
    vxlan: HashMap<(u32, u128), (TunnelId, u16)>,
    /// UDP ports on which VXLAN is received: a handful.
    vxlan_ports: Vec<u16>,
    /// The VNIs in use on each port.
    vnis: HashSet<(u32, u32)>,
    /// IPIP tunnels by peer.
    ipip: HashMap<u128, TunnelId>,
}

/// An address of either family; those of IPv4 as mapped ones (RFC 4291 section 2.5.5.2).
#[inline(always)]
fn key(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(a) => 0xffff << 32 | u128::from(a.to_bits()),
        IpAddr::V6(a) => a.to_bits(),
    }
}

/// An uplink on a VLAN (IEEE 802.1Q): every frame it sends or takes has this tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UplinkVlan {
    /// The uplink.
    pub port: PortId,
    /// The VLAN identifier, 1 to 4094.
    pub id: u16,
}

impl Underlay {
    /// Adds an address of the node on the underlay.
    pub fn add_local(&mut self, ip: IpAddr) {
        let first = &mut self.first[usize::from(ip.is_ipv6())];
        if first.is_some_and(|first| first != key(ip)) {
            self.others.insert(key(ip));
        } else {
            *first = Some(key(ip));
        }
    }

    /// Adds a VXLAN tunnel whose packets come to UDP port `port`. One VNI and peer have one tunnel.
    pub fn add_vxlan(&mut self, port: u16, vni: Vni, peer: IpAddr, id: TunnelId) {
        self.vnis.insert((port.into(), vni.get()));
        if !self.vxlan_ports.contains(&port) {
            self.vxlan_ports.push(port);
        }
        self.vxlan.insert((vni.get(), key(peer)), (id, port));
    }

    /// Adds an IPIP tunnel.
    pub fn add_ipip(&mut self, peer: IpAddr, id: TunnelId) {
        self.ipip.insert(key(peer), id);
    }

    /// Whether an address is the node's own.
    #[inline(always)]
    pub fn is_local(&self, ip: IpAddr) -> bool {
        let key = key(ip);
        self.first[usize::from(ip.is_ipv6())] == Some(key) || self.is_other(key)
    }

    #[inline(never)]
    fn is_other(&self, key: u128) -> bool {
        self.others.contains(&key)
    }

    /// Whether VXLAN is received on a UDP port.
    #[inline(always)]
    pub fn is_vxlan_port(&self, port: u16) -> bool {
        self.vxlan_ports.contains(&port)
    }

    /// The tunnel of a VXLAN packet to UDP port `port`. One of a VNI and peer that a tunnel on another
    /// port has is taken, too, as long as the VNI is in use on this one.
    #[inline(always)]
    pub fn vxlan_tunnel(&self, port: u16, vni: Vni, peer: IpAddr) -> Result<TunnelId, DropReason> {
        match self.vxlan.get(&(vni.get(), key(peer))) {
            Some(&(id, on)) if on == port => Ok(id),
            known => {
                let known = known.map(|&(id, _)| id);
                self.vxlan_tunnel_elsewhere(port, vni, known)
            }
        }
    }

    #[cold]
    fn vxlan_tunnel_elsewhere(
        &self,
        port: u16,
        vni: Vni,
        known: Option<TunnelId>,
    ) -> Result<TunnelId, DropReason> {
        if !self.vnis.contains(&(port.into(), vni.get())) {
            return Err(DropReason::VxlanUnknownVni);
        }
        known.ok_or(DropReason::VxlanUnknownPeer)
    }

    /// The VXLAN tunnel of this VNI to a peer, whatever its port.
    pub fn vxlan_to(&self, vni: Vni, peer: IpAddr) -> Option<TunnelId> {
        self.vxlan.get(&(vni.get(), key(peer))).map(|&(id, _)| id)
    }

    /// The tunnel of an IPIP packet.
    #[inline(always)]
    pub fn ipip_tunnel(&self, peer: IpAddr) -> Result<TunnelId, DropReason> {
        self.ipip.get(&key(peer)).copied().ok_or(DropReason::IpipUnknownPeer)
    }
}
