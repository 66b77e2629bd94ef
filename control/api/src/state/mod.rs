//! The desired state: what an operator or a cluster wants the switch to be.
//!
//! One shape everywhere: the TOML configuration file, the JSON of `config.apply`, and the
//! parameters of `port.add` and its like are these types. Unknown keys are refused. The types say
//! what can be written; [`State::validate`](crate::State::validate) says what makes sense.

mod port;
mod route;
mod segment;
mod tunnel;

use core::fmt;
use std::path::PathBuf;

use encap::Prefix;
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::addr::InterfaceAddr;
pub use port::{Attachment, PodInterface, PodKind, Port, PortLimits};
pub use route::{FdbEntry, Neighbor, Route, Via};
pub use segment::{Segment, UnknownUnicast};
pub use tunnel::{Dscp, Encapsulation, Tunnel, TunnelKind, TunnelMode};

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

impl State {
    /// The settings of the process, defaults where the section is absent.
    pub fn switch_or_default(&self) -> Switch {
        self.switch.clone().unwrap_or_default()
    }

    /// Whether packets for the pod CIDRs may arrive on the uplink without encapsulation: as
    /// `[uplink] native_routing` says, else when a route has a plain next hop or a tunnel is for
    /// peers of other subnets only.
    pub fn native_routing(&self) -> bool {
        self.native_routing_with(std::iter::empty())
    }

    /// The same with routes beside the state's, which lead there.
    pub fn native_routing_with<'a>(&'a self, vias: impl Iterator<Item = &'a Via>) -> bool {
        let has_native = || {
            let vias = self.routes.iter().map(|r| &r.via).chain(vias);
            vias.flat_map(Via::paths).any(|via| matches!(via, Via::NextHop(_)))
                || self.tunnels.iter().any(|t| t.mode == TunnelMode::CrossSubnet)
        };
        self.uplink.as_ref().is_some_and(|u| u.native_routing.unwrap_or_else(has_native))
    }

    /// The gateway addresses of a segment: in the node's own, the first address of each pod CIDR; in any,
    /// what it declares.
    pub fn gateways_in(&self, segment: &str) -> Vec<InterfaceAddr> {
        let node = self.node.iter().filter(|n| n.segment == segment).flat_map(Node::gateways);
        let declared = self.segments.iter().filter(|s| s.name == segment).flat_map(|s| &s.gateway);
        node.chain(declared.copied()).collect()
    }

    /// All gateway addresses, the node's first, each once: segments may share one.
    pub fn gateways(&self) -> Vec<InterfaceAddr> {
        let mut out: Vec<InterfaceAddr> = Vec::new();
        let node = self.node.iter().flat_map(Node::gateways);
        for gateway in node.chain(self.segments.iter().flat_map(|s| s.gateway.iter().copied())) {
            if !out.iter().any(|g| g.addr() == gateway.addr()) {
                out.push(gateway);
            }
        }
        out
    }

    /// Whether the router serves a segment: the node's, if it has pods, and those with a gateway.
    pub fn is_routed(&self, segment: &str) -> bool {
        let is_nodes = |n: &Node| n.segment == segment && !n.pod_cidrs.is_empty();
        self.node.as_ref().is_some_and(is_nodes)
            || self.segments.iter().any(|s| s.name == segment && !s.gateway.is_empty())
    }

    /// Whether there is a router at all.
    pub fn is_router(&self) -> bool {
        self.node.as_ref().is_some_and(|n| !n.pod_cidrs.is_empty())
            || self.segments.iter().any(|s| !s.gateway.is_empty())
    }

    /// The names of the segments that the router serves, the node's first.
    pub fn routed_segments(&self) -> Vec<&str> {
        let node = self.node.iter().filter(|n| !n.pod_cidrs.is_empty()).map(|n| n.segment.as_str());
        let declared = self.segments.iter().filter(|s| !s.gateway.is_empty());
        let mut out: Vec<&str> = Vec::new();
        for name in node.chain(declared.map(|s| s.name.as_str())) {
            if !out.contains(&name) {
                out.push(name);
            }
        }
        out
    }

    /// The prefixes of a segment whose addresses are its members': the pod CIDRs in the node's own, and
    /// those of its gateways.
    pub fn prefixes_in(&self, segment: &str) -> Vec<Prefix> {
        let node = self.node.iter().filter(|n| n.segment == segment).flat_map(|n| &n.pod_cidrs);
        let declared = self.segments.iter().filter(|s| s.name == segment).flat_map(|s| &s.gateway);
        let mut out: Vec<Prefix> = node.copied().collect();
        for prefix in declared.map(|g| g.prefix()) {
            if !out.contains(&prefix) {
                out.push(prefix);
            }
        }
        out
    }

    /// The prefixes of all segments that the router serves.
    pub fn own_prefixes(&self) -> Vec<Prefix> {
        let mut out: Vec<Prefix> = Vec::new();
        for prefix in self.routed_segments().iter().flat_map(|s| self.prefixes_in(s)) {
            if !out.contains(&prefix) {
                out.push(prefix);
            }
        }
        out
    }

    /// The name of the node's own interface into the pod network; none where there is no gateway.
    pub fn host_interface(&self) -> Option<String> {
        let named = || self.node.clone().unwrap_or_default().host_interface;
        (!self.gateways().is_empty()).then(named)
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
    /// The workers' nice value: -20 is served first, 19 last; 0, the default: the daemon's own.
    pub nice: i8,
    /// Microseconds that a worker looks for more work before it sleeps.
    pub spin: u32,
    /// Microseconds that a worker polls the driver for; absent: it waits for interrupts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub busy_poll: Option<u32>,
    /// Descriptors in each ring of a socket.
    pub ring: u32,
    /// Whether packets of one flow that follow one another are handed to the kernel as one superpacket: tunnel packets
    /// out of an uplink as UDP, TCP segments to pods and to the node as TCP. It helps where the interface is in copy mode.
    pub superpackets: Shortcut,
    /// Whether many frames are handed to the kernel in one system call. It helps to veths, from 16 frames on.
    pub bulk: Shortcut,
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
            nice: 0,
            spin: 0,
            busy_poll: None,
            ring: 2048,
            superpackets: Shortcut::Auto,
            bulk: Shortcut::Auto,
            frames: 4096,
            fdb_capacity: 65536,
            ageing: 300,
            state_file: None,
        }
    }
}

/// When frames leave by another way than the TX ring of their interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shortcut {
    /// Where it helps.
    #[default]
    Auto,
    /// Never.
    Off,
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
    /// ICMP errors that each worker may send per second.
    pub icmp_errors: u32,
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
            icmp_errors: 1000,
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
    /// The VLAN that the underlay is on (IEEE 802.1Q), 1 to 4094: frames are sent and taken with
    /// its tag, those of other VLANs and without a tag are the kernel's. Absent: untagged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<u16>,
    /// The interface that has the VLAN's addresses and routes; absent: the kernel's VLAN
    /// interface over `dev` with this `vlan`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan_dev: Option<String>,
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

pub(crate) fn default_segment() -> String {
    DEFAULT_SEGMENT.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn native_routing_follows_the_routes_unless_told() {
        let native = |uplink: serde_json::Value, via: serde_json::Value| {
            let routes = json!([{"prefix": "10.244.2.0/24", "via": via}]);
            let state: State =
                serde_json::from_value(json!({"uplink": uplink, "route": routes})).unwrap();
            state.native_routing()
        };
        let uplink = json!({"dev": "uplink0"});
        assert!(native(uplink.clone(), json!("192.0.2.2")));
        assert!(native(uplink.clone(), json!(["node2", "192.0.2.2"])));
        assert!(!native(uplink.clone(), json!("node2")));
        assert!(!native(json!(null), json!("192.0.2.2")), "without an uplink there is none");
        assert!(native(json!({"dev": "uplink0", "native_routing": true}), json!("node2")));
        assert!(!native(json!({"dev": "uplink0", "native_routing": false}), json!("192.0.2.2")));
    }
}
