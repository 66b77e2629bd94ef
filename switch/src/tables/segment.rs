//! Segments: bridge domains.

use crate::ids::{Location, SegmentId};
use encap::Mac;
use hashbrown::HashMap;

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
}
