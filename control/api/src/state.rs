//! The desired state: what an operator or a cluster wants the switch to be.
//!
//! One shape everywhere: the TOML configuration file, the JSON of `config.apply`, and the
//! parameters of `port.add` and its like are these types. Unknown keys are refused. The types say
//! what can be written; [`State::validate`](crate::State::validate) says what makes sense.

use core::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use encap::{Mac, Prefix, Vni};
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::addr::InterfaceAddr;

/// Where the control socket is unless `[switch] socket` says otherwise.
pub const DEFAULT_SOCKET: &str = "/run/podswitch/podswitch.sock";
/// The segment that exists without being declared.
pub const DEFAULT_SEGMENT: &str = "default";
/// The UDP port of VXLAN (RFC 7348 section 8).
pub const VXLAN_PORT: u16 = 4789;

/// A configuration file read: the same as the desired state.
pub type Config = State;

/// The whole desired state.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct State {
    /// Settings of the process, fixed while it runs. Absent in an `apply`: unchanged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub switch: Option<Switch>,
    /// What makes the switch a node's router. Absent: a bridge only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<Node>,
    /// The interface towards the other nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uplink: Option<Uplink>,
    /// Bridge domains; `default` exists without being declared.
    #[serde(default, rename = "segment", skip_serializing_if = "Vec::is_empty")]
    pub segments: Vec<Segment>,
    /// Bridge ports and pods.
    #[serde(default, rename = "port", skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Port>,
    /// Tunnels to other nodes.
    #[serde(default, rename = "tunnel", skip_serializing_if = "Vec::is_empty")]
    pub tunnels: Vec<Tunnel>,
    /// Where prefixes go.
    #[serde(default, rename = "route", skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    /// Static IP neighbours behind bridge ports.
    #[serde(default, rename = "neighbor", skip_serializing_if = "Vec::is_empty")]
    pub neighbors: Vec<Neighbor>,
    /// Static MAC addresses.
    #[serde(default, rename = "fdb", skip_serializing_if = "Vec::is_empty")]
    pub fdb: Vec<FdbEntry>,
}

// `remote = "Self"` makes the derived functions inherent, so that these can go around them.
impl Serialize for State {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        State::serialize(self, s)
    }
}

impl<'de> Deserialize<'de> for State {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<State, D::Error> {
        // Never a list, whose elements serde would take as the fields in order: an empty one
        // would be an empty state, and applying it would remove everything.
        struct Table;
        impl<'de> Visitor<'de> for Table {
            type Value = State;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table of keys")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<State, A::Error> {
                State::deserialize(MapAccessDeserializer::new(map))
            }
        }
        d.deserialize_map(Table)
    }
}

impl Serialize for Port {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        Port::serialize(self, s)
    }
}

impl<'de> Deserialize<'de> for Port {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Port, D::Error> {
        let mut port = Port::deserialize(d)?;
        if port.name.is_empty() {
            port.name = port.dev.clone().unwrap_or_default();
        }
        Ok(port)
    }
}

impl State {
    /// The settings of the process, defaults where the section is absent.
    pub fn switch_or_default(&self) -> Switch {
        self.switch.clone().unwrap_or_default()
    }

    /// Whether packets for the pod CIDRs may arrive on the uplink without encapsulation: as
    /// `[uplink] native_routing` says, else when a route has a plain next hop.
    pub fn native_routing(&self) -> bool {
        let has_native = || self.routes.iter().any(|r| matches!(r.via, Via::NextHop(_)));
        self.uplink.as_ref().is_some_and(|u| u.native_routing.unwrap_or_else(has_native))
    }

    /// Whether a segment of this name exists.
    pub fn has_segment(&self, name: &str) -> bool {
        name == DEFAULT_SEGMENT || self.segments.iter().any(|s| s.name == name)
    }
}

/// `[switch]`: settings of the process, fixed while it runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Switch {
    /// The path of the control socket.
    pub socket: PathBuf,
    /// The group that may read from the control socket; root's by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub socket_group: Option<String>,
    /// How many worker threads forward packets.
    pub workers: u16,
    /// The CPU of each worker, in order; empty: not pinned.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cpus: Vec<u16>,
    /// Packet buffers of 4096 bytes per worker.
    pub frames: u32,
    /// The most MAC addresses that can be learned.
    pub fdb_capacity: u32,
    /// Seconds after which a learned MAC address that stays silent is forgotten.
    pub ageing: u32,
    /// Where objects added over the API are kept across restarts; absent: they are not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state_file: Option<PathBuf>,
}

impl Default for Switch {
    fn default() -> Switch {
        Switch {
            socket: PathBuf::from(DEFAULT_SOCKET),
            socket_group: None,
            workers: 1,
            cpus: Vec::new(),
            frames: 8192,
            fdb_capacity: 65536,
            ageing: 300,
            state_file: None,
        }
    }
}

/// `[node]`: what makes the switch the router of a node's pods.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Node {
    /// The node's name, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The prefixes that the addresses of the node's pods come from.
    pub pod_cidrs: Vec<Prefix>,
    /// Whether the node has a host port that holds the gateway addresses.
    pub gateway: bool,
    /// The node's own interface into the pod network.
    pub host_interface: String,
    /// The segment of the gateway.
    pub segment: String,
    /// The largest IP packet that may leave the node, in bytes; absent: what the uplink carries
    /// less the largest tunnel header.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Whether the maximum segment size that TCP offers is lowered to what the path carries.
    pub clamp_mss: bool,
}

impl Default for Node {
    fn default() -> Node {
        Node {
            name: None,
            pod_cidrs: Vec::new(),
            gateway: false,
            host_interface: "podswitch0".to_owned(),
            segment: default_segment(),
            mtu: None,
            clamp_mss: false,
        }
    }
}

impl Node {
    /// The gateway addresses: the first address of each pod CIDR, none without `gateway`.
    pub fn gateways(&self) -> impl Iterator<Item = InterfaceAddr> + '_ {
        let cidrs = if self.gateway { &self.pod_cidrs[..] } else { &[] };
        cidrs.iter().filter_map(|p| InterfaceAddr::new(p.nth(1)?, p.len()).ok())
    }
}

/// `[uplink]`: the interface towards the other nodes. Only tunnel packets, and with native
/// routing those for the pod CIDRs, are taken from it; all else stays with the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Uplink {
    /// The interface.
    pub dev: String,
    /// The receive queues to use; empty: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub queues: Vec<u32>,
    /// How the XDP program is attached.
    #[serde(default)]
    pub mode: XdpMode,
    /// Whether to take packets for the pod CIDRs that arrive without encapsulation; absent: when
    /// any route has a plain IP address as `via`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub native_routing: Option<bool>,
}

/// How an XDP program is attached to an interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum XdpMode {
    /// In the driver when it can, else generic.
    #[default]
    Auto,
    /// In the driver, or not at all.
    Native,
    /// In the network stack: slower, works with every driver.
    Generic,
}

/// `[[segment]]`: a bridge domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Segment {
    /// The segment's name.
    pub name: String,
    /// Seconds after which a learned address is forgotten; absent: `[switch] ageing`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ageing: Option<u32>,
}

/// `[[port]]`: an existing interface taken as a bridge port, or a pod's interface that podswitch
/// makes. [`Port::attachment`] tells which.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct Port {
    /// The port's name; read as `dev` when absent.
    #[serde(default)]
    pub name: String,
    /// The bridge domain.
    #[serde(default = "default_segment")]
    pub segment: String,
    /// An existing interface of the daemon's network namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dev: Option<String>,
    /// The pod's network namespace, as a path such as `/run/netns/pod1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netns: Option<PathBuf>,
    /// The name of the interface in the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ifname: Option<String>,
    /// The pod's addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ip: Vec<InterfaceAddr>,
    /// The MAC address of the pod's interface; absent: derived from the first address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
    /// The MTU of the pod's interface, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
}

/// What a port is attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attachment<'a> {
    /// An existing interface.
    Device(&'a str),
    /// A veth pair into a pod's network namespace.
    Pod(PodInterface<'a>),
}

/// The interface of a pod, as desired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PodInterface<'a> {
    /// The pod's network namespace.
    pub netns: &'a std::path::Path,
    /// The interface's name in the pod.
    pub ifname: &'a str,
    /// The pod's addresses.
    pub ip: &'a [InterfaceAddr],
    /// The interface's MAC address; absent: derived from the first address.
    pub mac: Option<Mac>,
    /// The interface's MTU, in bytes.
    pub mtu: Option<u32>,
}

impl Port {
    /// What the port is attached to; none when the keys contradict each other, which
    /// [`State::validate`](crate::State::validate) refuses.
    pub fn attachment(&self) -> Option<Attachment<'_>> {
        match (&self.dev, &self.netns, &self.ifname) {
            (Some(dev), None, None) => Some(Attachment::Device(dev)),
            (None, Some(netns), Some(ifname)) => Some(Attachment::Pod(PodInterface {
                netns,
                ifname,
                ip: &self.ip,
                mac: self.mac,
                mtu: self.mtu,
            })),
            _ => None,
        }
    }

    /// A bridge port on the existing interface `dev`, named after it.
    pub fn device(dev: &str, segment: &str) -> Port {
        Port {
            name: dev.to_owned(),
            segment: segment.to_owned(),
            dev: Some(dev.to_owned()),
            netns: None,
            ifname: None,
            ip: Vec::new(),
            mac: None,
            mtu: None,
        }
    }

    /// A pod's port in the default segment.
    pub fn pod(name: &str, netns: PathBuf, ifname: &str, ip: Vec<InterfaceAddr>) -> Port {
        Port {
            name: name.to_owned(),
            segment: default_segment(),
            dev: None,
            netns: Some(netns),
            ifname: Some(ifname.to_owned()),
            ip,
            mac: None,
            mtu: None,
        }
    }
}

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
                f.write_str("a tunnel's name, an IP address, \"host\", \"blackhole\", \"unreachable\", or an array of tunnels and addresses")
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

/// `[[neighbor]]`: the MAC address of an IP address behind a bridge port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Neighbor {
    /// The neighbour's address.
    pub ip: IpAddr,
    /// Its MAC address.
    pub mac: Mac,
    /// The port it is behind.
    pub port: String,
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

pub(crate) fn default_segment() -> String {
    DEFAULT_SEGMENT.to_owned()
}

fn default_ttl() -> u8 {
    64
}
