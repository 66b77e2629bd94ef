//! What the daemon tells about itself: the results of `list`, `status.get` and `counters.get`.
//!
//! Unlike the desired state, these types accept unknown keys, so that an older client reads a
//! newer daemon's answers.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use encap::{Mac, Prefix, Vni};
use serde::{Deserialize, Serialize};

use crate::addr::InterfaceAddr;
use crate::state::{PodKind, PortLimits, TunnelKind, UnknownUnicast, Via};

/// The version of this API. It grows when a change would break a client.
pub const API_VERSION: u32 = 1;

/// The result of `status.get`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The daemon's version.
    pub version: String,
    /// The version of the API, [`API_VERSION`].
    pub api: u32,
    /// The daemon's process.
    pub pid: u32,
    /// Seconds since the daemon was ready.
    pub uptime: u64,
    /// `[node] name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The uplink, when there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uplink: Option<UplinkInfo>,
    /// The workers, in order.
    #[serde(default)]
    pub workers: Vec<WorkerInfo>,
    /// How many snapshots of the tables were published.
    pub generation: u64,
    /// How many ports there are, the uplink and the host port included.
    pub ports: usize,
    /// How many routes there are, those of local pods included.
    pub routes: usize,
    /// How many tunnels there are.
    pub tunnels: usize,
    /// How many MAC addresses are known, learned and static.
    pub fdb: usize,
    /// What an operator should know: an uplink in generic mode, links that are not pinned.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// The uplink in `status.get`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UplinkInfo {
    /// The interface.
    pub dev: String,
    /// How its program is attached and whether frames are copied: `zero-copy`, `native`,
    /// `generic`.
    pub mode: String,
    /// The receive queues in use.
    pub queues: Vec<u32>,
    /// The underlay addresses that tunnels use.
    pub addresses: Vec<IpAddr>,
    /// MTU in bytes.
    pub mtu: u32,
}

/// A worker in `status.get`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkerInfo {
    /// Its number, from 0.
    pub id: u16,
    /// The CPU it is pinned to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<u16>,
    /// Packet buffers in all.
    pub frames: u32,
    /// Packet buffers that are free.
    pub frames_free: u32,
    /// The snapshot of the tables it uses.
    pub generation: u64,
}

/// Whether something works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Oper {
    /// Frames flow.
    Up,
    /// The interface is gone or down, or the next hop is unresolved.
    Down,
}

/// What kind of port it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PortRole {
    /// An existing interface taken as a bridge port.
    Device,
    /// A pod's interface.
    Pod,
    /// The node's own interface into the pod network.
    Host,
    /// The interface towards the other nodes.
    Uplink,
}

/// A port, in `port.list` and as the result of `port.add`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PortInfo {
    /// The port's name.
    pub name: String,
    /// What kind of port it is.
    pub role: PortRole,
    /// The bridge domain; the uplink has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segment: Option<String>,
    /// The interface in the daemon's network namespace; a TAP device of a pod is not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dev: Option<String>,
    /// The interface's index in the daemon's network namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ifindex: Option<u32>,
    /// Whether frames flow.
    pub state: Oper,
    /// How its program is attached and whether frames are copied: `zero-copy`, `native`,
    /// `generic`; or `tap`.
    pub mode: String,
    /// How many queues are in use.
    pub queues: u32,
    /// MTU in bytes, as the pod or the interface sees it.
    pub mtu: u32,
    /// The MAC address of the pod's interface, or of the interface itself.
    pub mac: Mac,
    /// Pods: what the interface is.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<PodKind>,
    /// The pod's network namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netns: Option<PathBuf>,
    /// The interface's name in the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ifname: Option<String>,
    /// The pod's addresses, or the host port's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ip: Vec<InterfaceAddr>,
    /// The gateway addresses that the pod uses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gateways: Vec<IpAddr>,
    /// Pods: whether frames must come from the pod's own addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anti_spoof: Option<bool>,
    /// How many MAC addresses are learned behind the port.
    #[serde(default)]
    pub fdb: u32,
    /// What it is limited to.
    #[serde(flatten)]
    pub limits: PortLimits,
}

/// A segment, in `segment.list` and as the result of `segment.add`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SegmentInfo {
    /// The segment's name.
    pub name: String,
    /// Seconds after which a learned address is forgotten.
    pub ageing: u32,
    /// How many MAC addresses are learned in it.
    #[serde(default)]
    pub fdb: u32,
    /// The most MAC addresses to be learned in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fdb_limit: Option<u32>,
    /// What becomes of frames to a MAC address that is not known.
    #[serde(default)]
    pub unknown_unicast: UnknownUnicast,
    /// Whether ARP and ND requests for known addresses are answered on the spot.
    #[serde(default)]
    pub suppress: bool,
    /// The router's addresses in it; none: it is bridged only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gateway: Vec<InterfaceAddr>,
    /// The names of its ports.
    pub ports: Vec<String>,
    /// The names of the tunnels that extend it.
    pub tunnels: Vec<String>,
}

/// Where a table entry comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// The configuration or the API.
    Static,
    /// A routing protocol, by `route.update`.
    Announced,
    /// Follows from a local pod or from the node's own addresses.
    Local,
    /// Learned from traffic.
    Learned,
    /// The kernel's tables.
    Kernel,
}

/// A route, in `route.list` and as the result of `route.add`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RouteInfo {
    /// The destination.
    pub prefix: Prefix,
    /// Where to; none for a local pod's route, which has a `port`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<Via>,
    /// The local pod's port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<String>,
    /// Where the entry comes from.
    pub origin: Origin,
    /// Whether packets can go there now.
    pub state: Oper,
}

/// A tunnel, in `tunnel.list` and as the result of `tunnel.add`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TunnelInfo {
    /// The tunnel's name.
    pub name: String,
    /// The encapsulation.
    pub kind: TunnelKind,
    /// Our underlay address; none while the uplink has none of the family.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<IpAddr>,
    /// The other node's underlay address.
    pub remote: IpAddr,
    /// VXLAN: the network identifier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vni: Option<Vni>,
    /// VXLAN: the UDP destination port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// VXLAN: the segment that the tunnel extends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segment: Option<String>,
    /// VXLAN: our VTEP's MAC address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_mac: Option<Mac>,
    /// VXLAN: the other VTEP's MAC address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote_mac: Option<Mac>,
    /// The underlay's next hop towards `remote`, by the kernel's routes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_hop: Option<IpAddr>,
    /// The next hop's MAC address, by the kernel's neighbours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_hop_mac: Option<Mac>,
    /// The largest inner IP packet in bytes.
    pub mtu: u32,
    /// Whether routed packets go unencapsulated at present: `mode` is `cross-subnet`, and the
    /// other node is on our subnet.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub native: bool,
    /// Whether the next hop is resolved.
    pub state: Oper,
}

/// A neighbour, in `neighbor.list` and as the result of `neighbor.add`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NeighborInfo {
    /// The neighbour's address.
    pub ip: IpAddr,
    /// Its MAC address; none while unresolved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
    /// The port it is behind; for a resolved one, where the bridge last saw it, or its segment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<String>,
    /// The tunnel it is behind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tunnel: Option<String>,
    /// Where the entry comes from.
    pub origin: Origin,
    /// What is known of a neighbour that the router resolves itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<NeighborState>,
}

/// What is known of a neighbour that the router resolves (RFC 4861 section 7.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NeighborState {
    /// Asked for, no answer yet.
    Incomplete,
    /// Confirmed within the last 30 seconds.
    Reachable,
    /// Confirmed a while ago: used, and asked again.
    Stale,
    /// Did not answer.
    Failed,
}

/// An FDB entry, in `fdb.list` and as the result of `fdb.add`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FdbInfo {
    /// The MAC address.
    pub mac: Mac,
    /// The segment.
    pub segment: String,
    /// The port it is behind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<String>,
    /// The tunnel it is behind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tunnel: Option<String>,
    /// Where the entry comes from.
    pub origin: Origin,
    /// Seconds since it was last seen; only learned entries have an age.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age: Option<u64>,
}

/// The result of `fdb.flush`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flushed {
    /// How many learned entries were forgotten.
    pub flushed: u64,
}

/// The result of `counters.get`. At every moment
/// `rx + originated = tx + coalesced + dropped + in flight`, summed over all ports.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Counters {
    /// The ports, the uplink and the host port included.
    pub ports: Vec<PortCounters>,
    /// Frames that are queued for transmission.
    pub in_flight: u64,
    /// One sentence for every reason that occurs in `drops`, and every cause in `missed`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub reasons: BTreeMap<String, String>,
}

/// The counters of a port since the daemon started, all workers together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PortCounters {
    /// The port's name.
    pub port: String,
    /// Frames received from the interface.
    pub rx_frames: u64,
    /// Bytes received, from the Ethernet header on.
    pub rx_bytes: u64,
    /// Frames handed to the interface.
    pub tx_frames: u64,
    /// Bytes handed to the interface.
    pub tx_bytes: u64,
    /// Superpackets that left through a packet socket: of an uplink several of `tx_frames` in each, which are frames
    /// of a tunnel's flow; of another port one of `tx_frames` each, of TCP segments that are `coalesced`.
    #[serde(default)]
    pub tx_superpackets: u64,
    /// Of `tx_frames`, those that were sent in bulk: many in one system call, past the interface's TX ring.
    #[serde(default)]
    pub tx_bulk: u64,
    /// Frames that the switch made while it handled this port's: copies, replies, fragments, and the
    /// packets of superpackets.
    pub originated: u64,
    /// Frames of this port that were sent as part of a superpacket that another one began, to a port
    /// that takes such.
    #[serde(default)]
    pub coalesced: u64,
    /// Frames whose source MAC address could not be learned, because the table is full or a
    /// `fdb_limit` is reached. They are forwarded all the same, and no part of the sum.
    #[serde(default)]
    pub not_learned: u64,
    /// ARP requests, neighbour solicitations and echo requests that the switch answered itself.
    #[serde(default)]
    pub answered: u64,
    /// ARP requests and neighbour solicitations that the router sent.
    #[serde(default)]
    pub asked: u64,
    /// Dropped frames by reason; reasons that never occurred are left out.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub drops: BTreeMap<String, u64>,
    /// Frames that the kernel dropped before the switch saw them, by cause; causes that never
    /// occurred are left out. They are in no other counter.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub missed: BTreeMap<String, u64>,
}

impl PortCounters {
    /// Dropped frames of all reasons.
    pub fn dropped(&self) -> u64 {
        self.drops.values().sum()
    }

    /// Frames of all causes that the switch never saw.
    pub fn missed(&self) -> u64 {
        self.missed.values().sum()
    }
}
