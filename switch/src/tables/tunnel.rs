//! Tunnels to other nodes.

use crate::ids::{PortId, SegmentId, TunnelId};
use encap::tunnel::OuterHeader;
use encap::{Mac, Vni};
use std::net::IpAddr;

/// A tunnel to one peer.
#[derive(Clone, Debug)]
pub struct Tunnel {
    /// Its identifier.
    pub id: TunnelId,
    /// Its name, for people.
    pub name: String,
    /// The peer's underlay address.
    pub remote: IpAddr,
    /// How packets are carried.
    pub encapsulation: Encapsulation,
    /// The largest IP packet it carries, in bytes: what the underlay's MTU leaves.
    pub mtu: u32,
    /// How to reach the peer; none while the kernel knows no route or neighbour.
    pub egress: Option<Egress>,
}

/// How a tunnel carries packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encapsulation {
    /// VXLAN, RFC 7348.
    Vxlan {
        /// The network identifier.
        vni: Vni,
        /// The segment that it carries; none for a tunnel that carries routed packets only.
        segment: Option<SegmentId>,
        /// This node's VTEP: inner frames to this MAC address are routed.
        local_mac: Mac,
        /// The peer's VTEP: routed packets go to this inner MAC address.
        remote_mac: Mac,
    },
    /// IP in IP: RFC 2003, RFC 4213 and RFC 2473.
    Ipip,
}

/// How to reach a peer on the underlay.
#[derive(Clone, Debug)]
pub struct Egress {
    /// The uplink.
    pub port: PortId,
    /// The outer header, prebuilt, Ethernet included.
    pub header: OuterHeader,
}
