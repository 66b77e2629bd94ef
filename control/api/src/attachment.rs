//! Attachments: pods plugged in by a container runtime (CNI), with the names the CNI
//! specification uses.

use core::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use encap::{Mac, Prefix};
use serde::{Deserialize, Serialize};

use crate::addr::InterfaceAddr;
use crate::state::PodKind;

/// What identifies an attachment: the CNI specification's tuple of network name, `CNI_CONTAINERID`
/// and `CNI_IFNAME`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttachmentId {
    /// The name of the network configuration.
    pub network: String,
    /// The container, as the runtime names it.
    pub container_id: String,
    /// The interface's name in the container.
    pub ifname: String,
}

impl fmt::Display for AttachmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of container {} in network {}", self.ifname, self.container_id, self.network)
    }
}

/// A route in the pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttachmentRoute {
    /// The destinations.
    pub dst: Prefix,
    /// The next hop; absent: the gateway of the address of the same family.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gw: Option<IpAddr>,
    /// MTU in bytes; absent: what the way to these destinations carries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// The advertised maximum segment size of TCP, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advmss: Option<u32>,
    /// The kernel's metric.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u32>,
    /// The routing table; absent: main.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<u32>,
    /// The scope, as in rtnetlink.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<u8>,
}

/// An address of the pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttachmentIp {
    /// The address, with the length of the prefix that is on the link.
    pub address: InterfaceAddr,
    /// The gateway of that prefix.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
}

/// How fast one direction of a pod may go: a token bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// Bits per second of Ethernet frames, without preamble and FCS.
    pub rate: u64,
    /// Bits that may go at once; absent, or 4294967295, which runtimes say when they mean nothing by it:
    /// what the rate gives in 50 ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<u64>,
}

/// Where a pod's addresses come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "from", rename_all = "lowercase", deny_unknown_fields)]
pub enum Addresses {
    /// The daemon: one of each family that `[node] pod_cidrs` has.
    Node {
        /// Ask for these, instead of any (`runtimeConfig.ips`).
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        ips: Vec<IpAddr>,
    },
    /// Another IPAM plugin, which has allocated these.
    Plugin {
        /// The addresses.
        ips: Vec<AttachmentIp>,
    },
    /// Another IPAM plugin, which asks for them over the pod's interface, such as `dhcp`:
    /// `attachment.configure` brings them. Until then the pod is one on layer 2.
    Later,
    /// Nobody: a pod on layer 2 only.
    None,
}

/// The parameters of `attachment.add`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttachmentAdd {
    /// The name of the network configuration.
    pub network: String,
    /// The container, as the runtime names it.
    pub container_id: String,
    /// The interface's name in the container.
    pub ifname: String,
    /// The pod's network namespace, as a path.
    pub netns: PathBuf,
    /// The segment, made when it is missing; absent: the node's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segment: Option<String>,
    /// Pods of different VLANs of a segment do not hear each other: each VLAN is a segment of its
    /// own, named `segment.vlan`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<u16>,
    /// What the interface is; absent: a veth.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<PodKind>,
    /// Where the addresses come from.
    pub addresses: Addresses,
    /// Whether the switch holds the gateway addresses, answers for them and routes; always so in
    /// the node's own segment.
    #[serde(default)]
    pub gateway: bool,
    /// Whether the pod gets a default route of each family through the gateway, when `routes` has
    /// none.
    #[serde(default)]
    pub default_route: bool,
    /// Routes in the pod.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<AttachmentRoute>,
    /// The MAC address of the pod's interface; absent: derived from the first address, else from
    /// the identity of the attachment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
    /// The MTU of the pod's interface, in bytes; absent: as large as the switch carries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Whether what the pod sends beyond the pod network and the nodes gets the node's address.
    #[serde(default)]
    pub masquerade: bool,
    /// Whether frames must come from the pod's own addresses.
    #[serde(default = "yes")]
    pub anti_spoof: bool,
    /// What the pod may receive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress: Option<RateLimit>,
    /// What the pod may send.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<RateLimit>,
}

impl AttachmentAdd {
    /// What identifies the attachment.
    pub fn id(&self) -> AttachmentId {
        AttachmentId {
            network: self.network.clone(),
            container_id: self.container_id.clone(),
            ifname: self.ifname.clone(),
        }
    }
}

impl AttachmentCheck {
    /// What identifies the attachment.
    pub fn id(&self) -> AttachmentId {
        AttachmentId {
            network: self.network.clone(),
            container_id: self.container_id.clone(),
            ifname: self.ifname.clone(),
        }
    }
}

fn yes() -> bool {
    true
}

/// The parameters of `attachment.configure`: what an IPAM plugin found out over the interface of an
/// attachment whose addresses come later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttachmentConfigure {
    /// The name of the network configuration.
    pub network: String,
    /// The container, as the runtime names it.
    pub container_id: String,
    /// The interface's name in the container.
    pub ifname: String,
    /// The addresses.
    pub ips: Vec<AttachmentIp>,
    /// Routes in the pod.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<AttachmentRoute>,
}

impl AttachmentConfigure {
    /// What identifies the attachment.
    pub fn id(&self) -> AttachmentId {
        AttachmentId {
            network: self.network.clone(),
            container_id: self.container_id.clone(),
            ifname: self.ifname.clone(),
        }
    }
}

/// An attachment that exists: the result of `attachment.add`, and a line of `attachment.list`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// The name of the network configuration.
    pub network: String,
    /// The container, as the runtime names it.
    pub container_id: String,
    /// The interface's name in the container.
    pub ifname: String,
    /// The pod's network namespace, as a path.
    pub netns: PathBuf,
    /// The name of its port.
    pub port: String,
    /// Its segment.
    pub segment: String,
    /// What the interface is.
    #[serde(default, rename = "type")]
    pub kind: PodKind,
    /// The node's end of the interface; a TAP device has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dev: Option<String>,
    /// The MAC address of the node's end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dev_mac: Option<Mac>,
    /// The MAC address of the pod's end.
    pub mac: Mac,
    /// The MTU of the pod's end, in bytes.
    pub mtu: u32,
    /// The addresses, with their gateways.
    pub ips: Vec<AttachmentIp>,
    /// The routes in the pod.
    pub routes: Vec<AttachmentRoute>,
}

impl Attachment {
    /// What identifies it.
    pub fn id(&self) -> AttachmentId {
        AttachmentId {
            network: self.network.clone(),
            container_id: self.container_id.clone(),
            ifname: self.ifname.clone(),
        }
    }
}

/// The parameters of `attachment.check`: what the caller believes to be there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttachmentCheck {
    /// The name of the network configuration.
    pub network: String,
    /// The container, as the runtime names it.
    pub container_id: String,
    /// The interface's name in the container.
    pub ifname: String,
    /// The pod's network namespace, as a path.
    pub netns: PathBuf,
    /// The addresses that the interface must have; empty: those of the attachment.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ips: Vec<InterfaceAddr>,
    /// The routes that must be there; empty: those of the attachment.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<AttachmentRoute>,
    /// The MAC address that the interface must have; absent: the attachment's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
}

/// The result of `attachment.check`: sentences, none when all is as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checked {
    /// What differs: which thing, what it is and what it should be.
    pub differences: Vec<String>,
}

/// An attachment that the runtime knows, in `attachment.gc`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ValidAttachment {
    /// The container, as the runtime names it.
    pub container_id: String,
    /// The interface's name in the container.
    pub ifname: String,
}

/// The parameters of `attachment.gc`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttachmentGc {
    /// The network; attachments of others stay.
    pub network: String,
    /// The attachments that stay.
    pub valid: Vec<ValidAttachment>,
}

/// The result of `attachment.gc` and `attachment.del`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    /// What was removed.
    pub removed: Vec<AttachmentId>,
}

/// The parameters of `attachment.status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttachmentStatus {
    /// The network.
    pub network: String,
    /// Whether the daemon is to allocate addresses.
    #[serde(default)]
    pub allocate: bool,
    /// Whether what pods send to the world is to get the node's address.
    #[serde(default)]
    pub masquerade: bool,
}

/// Why `attachment.add` would fail now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unready {
    /// No port is free, or no packet buffers.
    PortsExhausted,
    /// No address of one of the families is free.
    AddressesExhausted,
    /// The daemon has no prefix to allocate from.
    NoPodCidr,
    /// Pods are to reach the world under the node's address, and the node's kernel cannot be told.
    NoMasquerade,
    /// The switch does not forward: a worker has ended.
    NotForwarding,
    /// The uplink is down or gone: pods would not reach other nodes.
    UplinkDown,
}

/// A reason in [`Readiness`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Which.
    pub kind: Unready,
    /// A sentence with the cure.
    pub message: String,
}

/// The result of `attachment.status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readiness {
    /// Why `attachment.add` would fail, or pods would have limited connectivity; none: it would
    /// work.
    pub problems: Vec<Problem>,
}
