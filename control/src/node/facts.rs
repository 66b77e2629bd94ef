//! What the compiler needs to know of the world besides the desired state.

use encap::{Mac, Prefix};
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use switch::PortId;
use switch::tables::Offload;

/// The world, as far as the tables depend on it. Two equal facts give equal tables.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// Attached ports by name: bridge ports and pods.
    pub ports: BTreeMap<String, PortFacts>,
    /// The host port, when the node has one.
    pub host: Option<PortFacts>,
    /// The uplink, when there is one.
    pub uplink: Option<UplinkFacts>,
    /// The underlay's next hops, by the destination that was asked for.
    pub next_hops: HashMap<IpAddr, NextHopFacts>,
}

/// An attached port.
#[derive(Clone, Debug, PartialEq)]
pub struct PortFacts {
    /// Its identifier.
    pub id: PortId,
    /// MTU of the interface in bytes.
    pub mtu: u32,
    /// What it has to do with superpackets.
    pub offload: Offload,
    /// The MAC address at the far end: the pod's, or the node's own on the host port.
    pub mac: Mac,
}

/// The uplink.
#[derive(Clone, Debug, PartialEq)]
pub struct UplinkFacts {
    /// Its name, which is its port's.
    pub name: String,
    /// Its identifier.
    pub id: PortId,
    /// MTU of the interface in bytes.
    pub mtu: u32,
    /// Its own MAC address.
    pub mac: Mac,
    /// Its addresses, in the kernel's order.
    pub addresses: Vec<IpAddr>,
    /// The subnets that these are in.
    pub subnets: Vec<Prefix>,
    /// The VLAN that its frames are tagged with.
    pub vlan: Option<u16>,
}

/// How the kernel would reach an address of the underlay.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NextHopFacts {
    /// The next hop: a gateway, or the address itself.
    pub ip: IpAddr,
    /// The source address that the kernel would use.
    pub src: Option<IpAddr>,
    /// The next hop's MAC address, once resolved.
    pub mac: Option<Mac>,
    /// The MTU of the route, when it is below the uplink's.
    pub mtu: Option<u32>,
}

impl Facts {
    /// Our address towards `remote`: that of the kernel's route, if it is the uplink's, else the
    /// uplink's first one of the family.
    pub fn address_towards(&self, remote: IpAddr) -> Option<IpAddr> {
        let addresses = &self.uplink.as_ref()?.addresses;
        let src = self.next_hops.get(&remote).and_then(|hop| hop.src);
        src.filter(|src| addresses.contains(src))
            .or_else(|| addresses.iter().copied().find(|a| a.is_ipv4() == remote.is_ipv4()))
    }

    /// Whether `remote` is on a subnet of the uplink and reached without a router.
    pub fn is_on_our_subnet(&self, remote: IpAddr) -> bool {
        let covers = |u: &UplinkFacts| u.subnets.iter().any(|subnet| subnet.contains(remote));
        self.uplink.as_ref().is_some_and(covers)
            && self.next_hops.get(&remote).is_some_and(|hop| hop.ip == remote)
    }
}
