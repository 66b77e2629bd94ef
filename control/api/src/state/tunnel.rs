//! Tunnels to other nodes.

use core::fmt;
use std::net::IpAddr;

use encap::{Mac, Vni};
use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::VXLAN_PORT;

/// `[[tunnel]]`: an encapsulation to another node. [`Tunnel::encapsulation`] tells which.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tunnel {
    /// The tunnel's name, which routes refer to.
    pub name: String,
    /// The encapsulation.
    pub kind: TunnelKind,
    /// The other node's underlay address.
    pub remote: IpAddr,
    /// Our underlay address; absent: the uplink's address of the family.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<IpAddr>,
    /// VXLAN only: the network identifier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vni: Option<Vni>,
    /// VXLAN only: the UDP destination port, [`VXLAN_PORT`] when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// VXLAN only: the segment that the tunnel extends. Unknown destinations are flooded into the
    /// tunnel, and MAC addresses are learned from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segment: Option<String>,
    /// VXLAN only: our VTEP's MAC address; absent: derived from `local`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_mac: Option<Mac>,
    /// VXLAN only: the other VTEP's MAC address; absent: derived from `remote`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote_mac: Option<Mac>,
    /// TTL or hop limit of the outer header.
    #[serde(default = "default_ttl")]
    pub ttl: u8,
    /// Whether an outer IPv4 header forbids fragmentation (DF). Without, an IPIP tunnel still
    /// copies the DF of an inner IPv4 packet (RFC 2003 section 3.1).
    #[serde(default = "default_df", skip_serializing_if = "is_default_df")]
    pub df: bool,
    /// The DSCP of the outer header.
    #[serde(default, skip_serializing_if = "Dscp::is_inherited")]
    pub dscp: Dscp,
    /// VXLAN only: the first and the last UDP source port that flows are spread over; absent: the
    /// dynamic ports, 49152 to 65535 (RFC 7348 section 5).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_ports: Option<[u16; 2]>,
    /// IPIP over IPv6 only: how many tunnels more a packet may enter inside this one (RFC 2473 section
    /// 4.1.1); absent: nothing is said about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encapsulation_limit: Option<u8>,
    /// When packets are encapsulated.
    #[serde(default, skip_serializing_if = "TunnelMode::is_always")]
    pub mode: TunnelMode,
}

/// The differentiated services code point of an outer header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dscp {
    /// `inherit`: that of the inner packet (RFC 2983 section 3.1).
    #[default]
    Inherit,
    /// A number from 0 to 63, the same for all packets.
    Fixed(u8),
}

impl Dscp {
    fn is_inherited(&self) -> bool {
        *self == Dscp::Inherit
    }
}

impl Serialize for Dscp {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            Dscp::Inherit => s.serialize_str("inherit"),
            Dscp::Fixed(dscp) => s.serialize_u8(*dscp),
        }
    }
}

impl<'de> Deserialize<'de> for Dscp {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Dscp, D::Error> {
        struct Word;
        impl Visitor<'_> for Word {
            type Value = Dscp;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"inherit\" or a number from 0 to 63")
            }

            fn visit_str<E: Error>(self, s: &str) -> Result<Dscp, E> {
                match s {
                    "inherit" => Ok(Dscp::Inherit),
                    other => Err(E::invalid_value(Unexpected::Str(other), &self)),
                }
            }

            fn visit_u64<E: Error>(self, n: u64) -> Result<Dscp, E> {
                let dscp =
                    u8::try_from(n).map_err(|_| E::invalid_value(Unexpected::Unsigned(n), &self));
                dscp.map(Dscp::Fixed)
            }

            fn visit_i64<E: Error>(self, n: i64) -> Result<Dscp, E> {
                let dscp =
                    u8::try_from(n).map_err(|_| E::invalid_value(Unexpected::Signed(n), &self));
                dscp.map(Dscp::Fixed)
            }
        }
        d.deserialize_any(Word)
    }
}

/// When a tunnel encapsulates routed packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TunnelMode {
    /// Always.
    #[default]
    Always,
    /// While the peer is not on the node's own subnet. To a peer that is, packets go as they are.
    CrossSubnet,
}

impl TunnelMode {
    fn is_always(&self) -> bool {
        *self == TunnelMode::Always
    }
}

/// The encapsulation of a tunnel, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TunnelKind {
    /// Ethernet in UDP (RFC 7348).
    Vxlan,
    /// IP in IP (RFC 2003, RFC 2473, RFC 4213).
    Ipip,
}

impl fmt::Display for TunnelKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TunnelKind::Vxlan => "vxlan",
            TunnelKind::Ipip => "ipip",
        })
    }
}

/// The encapsulation of a tunnel with what belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encapsulation<'a> {
    /// Ethernet in UDP.
    Vxlan {
        /// The network identifier.
        vni: Vni,
        /// The UDP destination port.
        port: u16,
        /// The segment that the tunnel extends.
        segment: Option<&'a str>,
        /// Our VTEP's MAC address, when given.
        local_mac: Option<Mac>,
        /// The other VTEP's MAC address, when given.
        remote_mac: Option<Mac>,
    },
    /// IP in IP.
    Ipip,
}

impl Tunnel {
    /// The encapsulation; none when VXLAN lacks its VNI, which
    /// [`State::validate`](crate::State::validate) refuses.
    pub fn encapsulation(&self) -> Option<Encapsulation<'_>> {
        Some(match self.kind {
            TunnelKind::Ipip => Encapsulation::Ipip,
            TunnelKind::Vxlan => Encapsulation::Vxlan {
                vni: self.vni?,
                port: self.port.unwrap_or(VXLAN_PORT),
                segment: self.segment.as_deref(),
                local_mac: self.local_mac,
                remote_mac: self.remote_mac,
            },
        })
    }
}

fn default_ttl() -> u8 {
    64
}

fn default_df() -> bool {
    true
}

fn is_default_df(df: &bool) -> bool {
    *df == default_df()
}
