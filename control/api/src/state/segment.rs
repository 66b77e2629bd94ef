//! Segments: bridge domains.

use core::fmt;

use serde::{Deserialize, Serialize};

use super::default_segment;
use crate::addr::InterfaceAddr;

/// `[[segment]]`: a bridge domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Segment {
    /// The segment's name.
    pub name: String,
    /// Seconds after which a learned address is forgotten; absent: `[switch] ageing`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ageing: Option<u32>,
    /// The most MAC addresses to be learned in the segment; absent: as many as fit the table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fdb_limit: Option<u32>,
    /// What becomes of frames to a MAC address that is not known.
    #[serde(default)]
    pub unknown_unicast: UnknownUnicast,
    /// Whether ARP and ND requests for pods and static neighbours are answered on the spot, and
    /// not flooded.
    #[serde(default = "yes")]
    pub suppress: bool,
    /// The addresses that the switch's router has in the segment, each with the prefix that it serves;
    /// empty: the segment is bridged only, unless it is the node's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gateway: Vec<InterfaceAddr>,
}

impl Default for Segment {
    fn default() -> Segment {
        Segment {
            name: default_segment(),
            ageing: None,
            fdb_limit: None,
            unknown_unicast: UnknownUnicast::Flood,
            suppress: true,
            gateway: Vec::new(),
        }
    }
}

fn yes() -> bool {
    true
}

/// What becomes of frames to a MAC address that is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UnknownUnicast {
    /// They go everywhere in the segment.
    #[default]
    Flood,
    /// They are dropped.
    Drop,
}

impl fmt::Display for UnknownUnicast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            UnknownUnicast::Flood => "flood",
            UnknownUnicast::Drop => "drop",
        })
    }
}
