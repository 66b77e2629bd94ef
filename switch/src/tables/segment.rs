//! Segments: bridge domains.

use super::mixer::HashMap;
use crate::ids::{Location, SegmentId};
use encap::Mac;
use std::net::IpAddr;

/// A bridge domain.
#[derive(Clone, Debug)]
pub struct Segment {
    /// Its identifier.
    pub id: SegmentId,
    /// Its name, for people.
    pub name: String,
    /// Seconds after which a learned address that stays silent is forgotten.
    pub ageing: u32,
    /// Where broadcast, multicast and unknown unicast go: every member port, and the tunnels that
    /// carry this segment to other nodes.
    pub flood: Vec<Location>,
    /// MAC addresses that are configured. They win over learned ones and never move.
    pub statics: HashMap<Mac, Location>,
    /// Whether the node's router serves this segment.
    pub routed: bool,
    /// What is flooded, and how much is learned.
    pub policy: SegmentPolicy,
    /// The IP addresses of the segment whose owner is configured: pods' and static neighbours'.
    pub neighbors: HashMap<IpAddr, Neighbor>,
}

/// What a segment floods and learns. The default floods all and learns what fits the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SegmentPolicy {
    /// What becomes of frames to an address that is not known.
    pub unknown_unicast: UnknownUnicast,
    /// Whether requests for the addresses in [`Segment::neighbors`] are answered on the spot.
    pub suppress: bool,
    /// The most MAC addresses to be learned in it; none: as many as fit the table.
    pub fdb_limit: Option<u32>,
}

/// What becomes of frames to an address that is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnknownUnicast {
    /// They go everywhere in the segment.
    #[default]
    Flood,
    /// They are dropped.
    Drop,
}

/// The owner of an IP address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbor {
    /// Its MAC address.
    pub mac: Mac,
    /// Where it is.
    pub at: Location,
}
