//! How frames of the underlay find their tunnel.

use super::mixer::{HashMap, HashSet};
use super::peers::Peers;
use crate::ids::{PortId, TunnelId};
use crate::reason::DropReason;
use encap::Vni;
use encap::tunnel::{UsualIpip, UsualVxlan};
use std::net::{IpAddr, Ipv4Addr};

/// What the underlay tells about a tunnel packet: its tunnel, by VNI and peer or by peer alone.
#[derive(Clone, Debug, Default)]
pub struct Underlay {
    /// The node's first address of IPv4, and the tunnels over IPv4: by network identifier and peer, and by
    /// peer alone. All of it is below once more; this is what the usual packet is looked up in.
    usual: Usual,
    vxlan4: Peers,
    ipip4: Peers,
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

/// An address of IPv4 in the low 32 bits, or none.
#[derive(Clone, Copy, Debug)]
struct Usual(u64);

impl Default for Usual {
    fn default() -> Usual {
        Usual(u64::MAX)
    }
}

impl Usual {
    #[inline(always)]
    fn is(self, ip: Ipv4Addr) -> bool {
        self.0 == u64::from(ip.to_bits())
    }
}

/// Network identifier and peer in one word.
#[inline(always)]
fn vxlan4_key(vni: Vni, peer: Ipv4Addr) -> u64 {
    u64::from(vni.get()) << 32 | u64::from(peer.to_bits())
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
            if let IpAddr::V4(ip) = ip {
                self.usual = Usual(ip.to_bits().into());
            }
        }
    }

    /// Adds a VXLAN tunnel whose packets come to UDP port `port`. One VNI and peer have one tunnel.
    pub fn add_vxlan(&mut self, port: u16, vni: Vni, peer: IpAddr, id: TunnelId) {
        self.vnis.insert((port.into(), vni.get()));
        if !self.vxlan_ports.contains(&port) {
            self.vxlan_ports.push(port);
        }
        self.vxlan.insert((vni.get(), key(peer)), (id, port));
        if let IpAddr::V4(peer) = peer {
            self.vxlan4.insert(vxlan4_key(vni, peer), (id, port));
        }
    }

    /// Adds an IPIP tunnel.
    pub fn add_ipip(&mut self, peer: IpAddr, id: TunnelId) {
        self.ipip.insert(key(peer), id);
        if let IpAddr::V4(peer) = peer {
            self.ipip4.insert(peer.to_bits().into(), (id, 0));
        }
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

    /// The tunnel of a VXLAN packet to the node's first address of IPv4, on the port that it receives on;
    /// none says nothing, but that [`Underlay::is_local`] and [`Underlay::vxlan_tunnel`] are to be asked.
    #[inline(always)]
    pub fn usual_vxlan(&self, packet: &UsualVxlan) -> Option<TunnelId> {
        if !self.usual.is(packet.dst) {
            return None;
        }
        let (id, port) = self.vxlan4.get(vxlan4_key(packet.vni, packet.src))?;
        (port == packet.dst_port).then_some(id)
    }

    /// The same of an IPIP packet, and [`Underlay::ipip_tunnel`].
    #[inline(always)]
    pub fn usual_ipip(&self, packet: &UsualIpip) -> Option<TunnelId> {
        if !self.usual.is(packet.dst) {
            return None;
        }
        self.ipip4.get(packet.src.to_bits().into()).map(|(id, _)| id)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said of the usual packet is what is said of any.
    #[test]
    fn the_usual_way_leads_where_the_other_one_does() {
        let mut underlay = Underlay::default();
        let ip = |n: u32| Ipv4Addr::from_bits(0xc000_0200 + n);
        let vni = |n: u32| Vni::new(n).unwrap();
        let packet =
            |dst, src, vni, dst_port| UsualVxlan { src, dst, tos: 0, dst_port, vni, inner_len: 60 };
        assert_eq!(underlay.usual_vxlan(&packet(ip(0), ip(1), vni(1), 4789)), None);
        assert_eq!(underlay.usual_vxlan(&packet(Ipv4Addr::UNSPECIFIED, ip(1), vni(1), 1)), None);
        underlay.add_local(ip(0).into());
        underlay.add_local(ip(9).into());
        for n in 1..200 {
            let (port, id) = (4789 + (n % 2) as u16, TunnelId(n as u16));
            underlay.add_vxlan(port, vni(n % 3), ip(n).into(), id);
            if n % 2 == 0 {
                underlay.add_ipip(ip(n).into(), id);
            }
        }
        let mut found = (0, 0);
        for (src, dst) in (0..250).flat_map(|src| [0, 9, 10].map(|dst| (ip(src), ip(dst)))) {
            for (n, port) in (0..4).flat_map(|n| [(n, 4789), (n, 4790), (n, 53)]) {
                if let Some(id) = underlay.usual_vxlan(&packet(dst, src, vni(n), port)) {
                    assert!(underlay.is_local(dst.into()) && underlay.is_vxlan_port(port));
                    assert_eq!(underlay.vxlan_tunnel(port, vni(n), src.into()), Ok(id));
                    found.0 += 1;
                }
            }
            if let Some(id) = underlay.usual_ipip(&UsualIpip { src, dst, tos: 0, inner_len: 60 }) {
                assert!(underlay.is_local(dst.into()));
                assert_eq!(underlay.ipip_tunnel(src.into()), Ok(id));
                found.1 += 1;
            }
        }
        assert_eq!(found, (199, 99), "each tunnel by its VNI, peer and port, to the first address");
    }
}
