//! Ports.

use super::bucket::TokenBucket;
use super::storm::Storm;
use crate::ids::{PortId, SegmentId};
use encap::Mac;
use std::net::IpAddr;
use std::sync::Arc;

/// A port of the switch.
#[derive(Clone, Debug)]
pub struct Port {
    /// Its identifier.
    pub id: PortId,
    /// Its name, for people.
    pub name: String,
    /// What it does with frames.
    pub role: Role,
    /// The largest frame it sends: bytes from the Ethernet header on, that header included.
    pub max_frame: u32,
    /// The largest IP packet that is routed out of it, in bytes.
    pub mtu: u32,
    /// What it has to do with superpackets.
    pub offload: Offload,
    /// What may pass through it.
    pub policy: PortPolicy,
}

/// What a port has to do with superpackets: see [`crate::Frame::gso_size`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Offload {
    /// Nothing: it hands over packets, and takes packets.
    #[default]
    None,
    /// It takes TCP segments merged, whenever [`crate::Io::takes_superpackets`] says so.
    Coalesce,
    /// It hands over superpackets, and takes any.
    Full,
}

/// What may pass through a port. The default is anything.
#[derive(Clone, Debug, Default)]
pub struct PortPolicy {
    /// Whose frames the port takes; none: anybody's.
    pub guard: Option<Guard>,
    /// The rate of broadcast and multicast; none: not limited.
    pub storm: Option<Arc<Storm>>,
    /// The most MAC addresses to be learned behind it; none: as many as fit the table.
    pub fdb_limit: Option<u32>,
    /// The rate of what is sent out of it, where [`super::Tables::shaped`] says that there are such
    /// limits; none: not limited.
    pub to_port: Option<Arc<TokenBucket>>,
    /// The rate of what comes from it; none: not limited.
    pub from_port: Option<Arc<TokenBucket>>,
}

/// Who is behind a port, so that nobody there can pretend to be another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guard {
    /// The only source address of frames.
    pub mac: Mac,
    /// The only source addresses of packets, besides those that are valid on the link only. When
    /// none are known, any that the switch does not know as another's.
    pub addresses: Vec<IpAddr>,
}

/// What a port does with the frames it receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A member of a segment: a bridged interface, a pod, or the node's host port.
    Access(SegmentId),
    /// The underlay: tunnels end here, and natively routed packets arrive here.
    Uplink,
}
