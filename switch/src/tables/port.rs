//! Ports.

use crate::ids::{PortId, SegmentId};

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
}

/// What a port does with the frames it receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A member of a segment: a bridged interface, a pod, or the node's host port.
    Access(SegmentId),
    /// The underlay: tunnels end here, and natively routed packets arrive here.
    Uplink,
}
