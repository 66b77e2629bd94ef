//! Tunnels to other nodes.

use crate::ids::{PortId, SegmentId, TunnelId};
use encap::tunnel::OuterHeader;
use encap::{Mac, Vni, ecn, flow};
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use super::PathMtu;

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
    /// [`Tunnel::path_mtu`] is what counts.
    pub mtu: u32,
    /// Bytes by which the outer packet is longer than the inner IP packet.
    pub overhead: u32,
    /// What the underlay told of the path to the peer. Shared by all tunnels to it, and by all
    /// snapshots.
    pub path: Arc<PathMtu>,
    /// What the outer header says besides addresses.
    pub outer: OuterPolicy,
    /// How to reach the peer; none while the kernel knows no route or neighbour.
    pub egress: Option<Egress>,
}

/// The choices that an outer header leaves to the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OuterPolicy {
    /// Whether an outer IPv4 header forbids fragmentation. Without, it has an identification.
    pub dont_fragment: bool,
    /// The outer DSCP; none: that of the inner packet (RFC 2983 section 3.1). ECN is always that of
    /// RFC 6040.
    pub dscp: Option<u8>,
    /// VXLAN: the UDP source ports that flows are spread over.
    pub source_ports: RangeInclusive<u16>,
}

impl Default for OuterPolicy {
    fn default() -> OuterPolicy {
        OuterPolicy { dont_fragment: true, dscp: None, source_ports: flow::DEFAULT_SOURCE_PORTS }
    }
}

impl OuterPolicy {
    /// DSCP and ECN of the outer header around a packet whose own are `inner`.
    #[inline(always)]
    pub fn tos(&self, inner: u8) -> u8 {
        let tos = ecn::outer_tos(inner);
        match self.dscp {
            None => tos,
            Some(dscp) => with_dscp(tos, dscp),
        }
    }
}

#[cold]
fn with_dscp(tos: u8, dscp: u8) -> u8 {
    dscp << 2 | tos & 3
}

impl Tunnel {
    /// The largest IP packet that reaches the peer, in bytes: what the uplink leaves, or less while
    /// the underlay is known to carry less. `now` is in seconds.
    #[inline(always)]
    pub fn path_mtu(&self, now: u32) -> u32 {
        match self.path.get(now) {
            None => self.mtu,
            Some(path) => self.mtu.min(path.saturating_sub(self.overhead)),
        }
    }
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
