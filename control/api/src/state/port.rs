//! Ports: existing interfaces and pods.

use std::path::{Path, PathBuf};

use encap::Mac;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::default_segment;
use crate::addr::InterfaceAddr;

/// `[[port]]`: an existing interface taken as a bridge port, or a pod's interface that podswitch
/// makes. [`Port::attachment`] tells which.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Pods only: what the interface is; a veth when absent.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<PodKind>,
    /// The pod's addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ip: Vec<InterfaceAddr>,
    /// The MAC address of the pod's interface; absent: derived from the first address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
    /// The MTU of the pod's interface, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Pods only: whether frames must come from the pod's own MAC and IP addresses; true when
    /// absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anti_spoof: Option<bool>,
    /// Broadcast and multicast frames that may come in per second; absent: not limited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storm_limit: Option<u32>,
    /// The most MAC addresses to be learned behind the port; absent: as many as fit the table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fdb_limit: Option<u32>,
    /// The rate of what goes to the pod or out of the interface, in bits a second from the Ethernet
    /// header on; absent: not limited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress_rate: Option<u64>,
    /// Bits that may go to it at once after a silence; absent: 50 ms at the rate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress_burst: Option<u64>,
    /// The rate of what comes from the pod or in through the interface, in bits a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress_rate: Option<u64>,
    /// Bits that may come from it at once after a silence; absent: 50 ms at the rate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress_burst: Option<u64>,
}

/// What a pod's interface is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PodKind {
    /// A veth pair, its node end under an AF_XDP socket.
    #[default]
    Veth,
    /// A TAP device in the pod: it hands over TCP and UDP superpackets whole (TSO, USO).
    Tap,
}

impl PodKind {
    /// As it is written in configurations.
    pub const fn name(self) -> &'static str {
        match self {
            PodKind::Veth => "veth",
            PodKind::Tap => "tap",
        }
    }

    /// The largest MTU that the kernel gives such an interface, in bytes.
    pub const fn mtu_max(self) -> u32 {
        match self {
            PodKind::Veth => 65_535,
            // Less the Ethernet header.
            PodKind::Tap => 65_521,
        }
    }
}

impl core::str::FromStr for PodKind {
    type Err = String;

    fn from_str(text: &str) -> Result<PodKind, String> {
        let kinds = [PodKind::Veth, PodKind::Tap];
        let kind = kinds.into_iter().find(|k| k.name() == text);
        kind.ok_or_else(|| "expected \"veth\" or \"tap\"".to_owned())
    }
}

/// The limits of a [`Port`], as they are shown: the keys of the same names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PortLimits {
    /// Broadcast and multicast frames that may come in per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storm_limit: Option<u32>,
    /// The most MAC addresses to be learned behind the port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fdb_limit: Option<u32>,
    /// Bits a second that may go to the pod or out of the interface.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ingress_rate: Option<u64>,
    /// Bits that may go to it at once after a silence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ingress_burst: Option<u64>,
    /// Bits a second that may come from the pod or in through the interface.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub egress_rate: Option<u64>,
    /// Bits that may come from it at once after a silence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub egress_burst: Option<u64>,
}

/// What a port is attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attachment<'a> {
    /// An existing interface.
    Device(&'a str),
    /// An interface that podswitch makes in a pod's network namespace.
    Pod(PodInterface<'a>),
}

/// The interface of a pod, as desired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PodInterface<'a> {
    /// The pod's network namespace.
    pub netns: &'a Path,
    /// The interface's name in the pod.
    pub ifname: &'a str,
    /// What it is.
    pub kind: PodKind,
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
                kind: self.kind.unwrap_or_default(),
                ip: &self.ip,
                mac: self.mac,
                mtu: self.mtu,
            })),
            _ => None,
        }
    }

    /// Whether frames must come from the port's own addresses: a pod's, unless it says otherwise.
    pub fn is_guarded(&self) -> bool {
        matches!(self.attachment(), Some(Attachment::Pod(_))) && self.anti_spoof.unwrap_or(true)
    }

    /// What the port is limited to.
    pub fn limits(&self) -> PortLimits {
        PortLimits {
            storm_limit: self.storm_limit,
            fdb_limit: self.fdb_limit,
            ingress_rate: self.ingress_rate,
            ingress_burst: self.ingress_burst,
            egress_rate: self.egress_rate,
            egress_burst: self.egress_burst,
        }
    }

    /// A bridge port on the existing interface `dev`, named after it.
    pub fn device(dev: &str, segment: &str) -> Port {
        Port {
            name: dev.to_owned(),
            segment: segment.to_owned(),
            dev: Some(dev.to_owned()),
            ..Port::default()
        }
    }

    /// A pod's port in the default segment.
    pub fn pod(name: &str, netns: PathBuf, ifname: &str, ip: Vec<InterfaceAddr>) -> Port {
        Port {
            name: name.to_owned(),
            segment: default_segment(),
            netns: Some(netns),
            ifname: Some(ifname.to_owned()),
            ip,
            ..Port::default()
        }
    }
}

// `remote = "Self"` makes the derived functions inherent, so that the second can fill in the name.
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
