//! How frames of the underlay find their tunnel.

use crate::ids::{PortId, TunnelId};
use crate::reason::DropReason;
use encap::Vni;
use hashbrown::{HashMap, HashSet};
use std::net::IpAddr;

/// What the underlay tells about a tunnel packet: its tunnel, by VNI and peer or by peer alone.
#[derive(Clone, Debug, Default)]
pub struct Underlay {
    /// The node's own addresses on the underlay.
    pub local: HashSet<IpAddr>,
    /// VXLAN tunnels by network identifier and peer.
    pub vxlan: HashMap<(Vni, IpAddr), TunnelId>,
    /// UDP ports on which VXLAN is received: a handful.
    pub vxlan_ports: Vec<u16>,
    /// The VNIs in use on each port.
    pub vnis: HashSet<(u16, Vni)>,
    /// IPIP tunnels by peer.
    pub ipip: HashMap<IpAddr, TunnelId>,
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
    /// The tunnel of a VXLAN packet to UDP port `port`.
    #[inline]
    pub fn vxlan_tunnel(&self, port: u16, vni: Vni, peer: IpAddr) -> Result<TunnelId, DropReason> {
        if !self.vnis.contains(&(port, vni)) {
            return Err(DropReason::VxlanUnknownVni);
        }
        self.vxlan.get(&(vni, peer)).copied().ok_or(DropReason::VxlanUnknownPeer)
    }

    /// The tunnel of an IPIP packet.
    #[inline]
    pub fn ipip_tunnel(&self, peer: IpAddr) -> Result<TunnelId, DropReason> {
        self.ipip.get(&peer).copied().ok_or(DropReason::IpipUnknownPeer)
    }
}
