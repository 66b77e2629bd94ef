//! Routes, static neighbours and static MAC addresses.

use core::fmt;
use std::net::IpAddr;

use encap::{Mac, Prefix};
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::default_segment;

/// `[[route]]`: where packets to a prefix go. The longest prefix that matches wins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// The destination.
    pub prefix: Prefix,
    /// Where to.
    pub via: Via,
}

/// Where a route leads, written as one word.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Via {
    /// `host`: the node's kernel decides.
    Host,
    /// `blackhole`: dropped silently.
    Blackhole,
    /// `unreachable`: dropped, and the sender is told (ICMP).
    Unreachable,
    /// `prohibited`: dropped, and the sender is told that an administrator forbids it (ICMP).
    Prohibited,
    /// An IP address: unencapsulated, to this next hop on the underlay.
    NextHop(IpAddr),
    /// A tunnel's name.
    Tunnel(String),
    /// Several of the two before, of equal cost, written as an array: each flow takes one of them.
    Multipath(Vec<Via>),
}

impl Via {
    /// The most members of a multipath route.
    pub const MAX_PATHS: usize = 64;

    /// The ways of the route: one, or the members of a multipath route.
    pub fn paths(&self) -> &[Via] {
        match self {
            Via::Multipath(paths) => paths,
            one => std::slice::from_ref(one),
        }
    }

    /// One way, or several of equal cost.
    pub fn of(mut paths: Vec<Via>) -> Via {
        match paths.len() {
            1 => paths.swap_remove(0),
            _ => Via::Multipath(paths),
        }
    }
}

impl From<&str> for Via {
    fn from(s: &str) -> Via {
        match s {
            "host" => Via::Host,
            "blackhole" => Via::Blackhole,
            "unreachable" => Via::Unreachable,
            "prohibited" => Via::Prohibited,
            s => match s.parse() {
                Ok(ip) => Via::NextHop(ip),
                Err(_) => Via::Tunnel(s.to_owned()),
            },
        }
    }
}

impl core::str::FromStr for Via {
    type Err = core::convert::Infallible;

    fn from_str(s: &str) -> Result<Via, Self::Err> {
        Ok(Via::from(s))
    }
}

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Via::Host => f.write_str("host"),
            Via::Blackhole => f.write_str("blackhole"),
            Via::Unreachable => f.write_str("unreachable"),
            Via::Prohibited => f.write_str("prohibited"),
            Via::NextHop(ip) => ip.fmt(f),
            Via::Tunnel(name) => f.write_str(name),
            Via::Multipath(paths) => {
                for (i, path) in paths.iter().enumerate() {
                    write!(f, "{}{path}", if i > 0 { ", " } else { "" })?;
                }
                Ok(())
            }
        }
    }
}

impl Serialize for Via {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            Via::Multipath(paths) => paths.serialize(s),
            one => s.collect_str(one),
        }
    }
}

impl<'de> Deserialize<'de> for Via {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Via, D::Error> {
        struct OneOrMany;

        impl<'de> Visitor<'de> for OneOrMany {
            type Value = Via;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "a tunnel's name, an IP address, \"host\", \"blackhole\", \"unreachable\", \
                     \"prohibited\", or an array of tunnels and addresses",
                )
            }

            fn visit_str<E: serde::de::Error>(self, s: &str) -> Result<Via, E> {
                Ok(Via::from(s))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Via, A::Error> {
                let mut paths = Vec::new();
                while let Some(path) = seq.next_element::<String>()? {
                    paths.push(Via::from(path.as_str()));
                }
                Ok(Via::of(paths))
            }
        }

        d.deserialize_any(OneOrMany)
    }
}

/// `[[neighbor]]`: the MAC address of an IP address behind a port, or behind a tunnel that extends
/// a segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Neighbor {
    /// The neighbour's address.
    pub ip: IpAddr,
    /// Its MAC address.
    pub mac: Mac,
    /// The port it is behind: either this or `tunnel`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<String>,
    /// The tunnel it is behind: either this or `port`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tunnel: Option<String>,
}

/// `[[fdb]]`: a MAC address whose place is fixed. It is neither learned elsewhere nor aged out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FdbEntry {
    /// The MAC address.
    pub mac: Mac,
    /// The segment.
    #[serde(default = "default_segment")]
    pub segment: String,
    /// The port it is behind: either this or `tunnel`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<String>,
    /// The tunnel it is behind: either this or `port`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tunnel: Option<String>,
}
