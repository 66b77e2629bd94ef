//! Ports made real: interfaces created or taken, and attached to the engine.

mod links;
mod pod;
mod tap;

use super::facts::PortFacts;
use crate::attachment::Attachments;
use crate::names;
use encap::Mac;
use fastpath::{Attached, Engine, PortSnapshot, Tap};
use host::{Handle, HostPort, HostPortSpec, PodInterface, PodRoute};
use pod::PodRoutes;
use podswitch_api::state::{PodKind, Port, State, Uplink};
use podswitch_api::{Attachment, Code, Error};
use std::collections::BTreeMap;
use std::net::IpAddr;
use switch::PortId;
use switch::tables::Offload;

/// The MTU inside the node: the largest that the kernel gives a veth. What leaves the node has a
/// smaller one by its route.
pub const NODE_MTU: u32 = 65535;

/// A port as the desired state wants it. Two equal ones need no change of the system.
#[derive(Clone, Debug, PartialEq)]
pub enum Wanted {
    /// An existing interface as a bridge port, or a pod's veth.
    Port(Port),
    /// The veth of a pod that a container runtime plugged in.
    Attached(Port, PodRoutes),
    /// The host port: the interface's name. Its addresses may change while it is there.
    Host { interface: String },
    /// The uplink.
    Uplink(Uplink),
}

impl Wanted {
    /// The port, unless it is the uplink or the host port.
    pub fn port(&self) -> Option<&Port> {
        match self {
            Wanted::Port(port) | Wanted::Attached(port, _) => Some(port),
            Wanted::Host { .. } | Wanted::Uplink(_) => None,
        }
    }
}

/// The ports that a state with its attachments wants, by name.
pub fn wanted(state: &State, attachments: &Attachments) -> BTreeMap<String, Wanted> {
    let ports = state.ports.iter().map(|p| {
        let wanted = match attachments.of_port(&p.name) {
            Some(entry) => {
                let routes = entry.resolved_routes();
                Wanted::Attached(interface(p), PodRoutes::new(routes, entry.route_mtu()))
            }
            None => Wanted::Port(interface(p)),
        };
        (p.name.clone(), wanted)
    });
    let uplink = state.uplink.iter().map(|u| (u.dev.clone(), Wanted::Uplink(u.clone())));
    let host = state.host_interface().map(|name| (name.clone(), Wanted::Host { interface: name }));
    ports.chain(uplink).chain(host).collect()
}

/// A port as far as its interface is concerned: what is only in the tables changes nothing of it.
fn interface(port: &Port) -> Port {
    let Port { name, segment, dev, netns, ifname, kind, ip, mac, mtu, .. } = port.clone();
    let kind = netns.is_some().then(|| kind.unwrap_or_default());
    Port { name, segment, dev, netns, ifname, kind, ip, mac, mtu, ..Port::default() }
}

/// What a port is made of.
#[derive(Debug)]
enum Object {
    /// An interface that was there before: whether it was promiscuous then.
    Device {
        promiscuous: bool,
    },
    /// With the routes that it was given, and the device where it is a TAP.
    Pod(PodInterface, Vec<PodRoute>, Option<Device>),
    Host(HostPort, HostPortSpec),
    /// Whether the driver took VLAN tags off received frames before.
    Uplink {
        rx_vlan: bool,
    },
}

/// A pod's TAP device. It was opened in the pod's namespace, which it keeps alive: see
/// [`Live::is_orphan`].
#[derive(Debug)]
struct Device {
    /// One of its queues once more: closed last, it decides whether the device stays. None once the
    /// device is gone.
    queue: Option<Tap>,
}

/// A port that exists.
#[derive(Debug)]
pub struct Live {
    /// Its identifier.
    pub id: PortId,
    /// What it was made from.
    pub wanted: Wanted,
    /// The interface that is attached: in the daemon's namespace, or, a TAP device, in the pod's.
    pub dev: String,
    /// Its index in the daemon's namespace; 0 of a TAP device, which is not there.
    pub ifindex: u32,
    /// MTU in bytes.
    pub mtu: u32,
    /// The MAC address at the far end: the pod's or the node's; the interface's own otherwise.
    pub mac: Mac,
    /// What the port's counters stood at when it was made: identifiers are used again.
    pub baseline: PortSnapshot,
    /// How it is attached; none once its interface is gone.
    pub attached: Option<Attached>,
    object: Object,
}

impl Live {
    /// What the tables need to know of it.
    pub fn facts(&self) -> PortFacts {
        let is_tap = self.is_tap();
        let offload = match &self.attached {
            _ if is_tap => Offload::Full,
            Some(attached) if attached.coalesces => Offload::Coalesce,
            _ => Offload::None,
        };
        // A TAP device may be given more than it may send: what other pods do.
        let most = is_tap && self.mtu == PodKind::Tap.mtu_max();
        let mtu = if most { NODE_MTU } else { self.mtu };
        PortFacts { id: self.id, mtu, offload, mac: self.mac }
    }

    /// Whether it is a pod's TAP device.
    pub fn is_tap(&self) -> bool {
        matches!(self.object, Object::Pod(_, _, Some(_)))
    }

    /// What it is in the daemon's namespace: name and index.
    pub fn node_end(&self) -> Option<(&str, u32)> {
        (!self.is_tap()).then_some((&self.dev, self.ifindex))
    }

    /// Whether it is a pod's.
    pub fn is_pod(&self) -> bool {
        matches!(self.object, Object::Pod(..))
    }

    /// Whether only addresses and routes are missing to what is wanted: the port can be given them, and
    /// is not made anew.
    pub fn can_become(&self, wanted: &Wanted) -> bool {
        let (Wanted::Attached(is, _), Wanted::Attached(shall, _)) = (&self.wanted, wanted) else {
            return false;
        };
        let bare = Port { ip: Vec::new(), mac: is.mac, ..shall.clone() };
        is.ip.is_empty() && !shall.ip.is_empty() && pod_mac(shall) == self.mac && bare == *is
    }

    /// Makes a pod tell its segment where its addresses are.
    pub fn announce(&self) -> host::Result<()> {
        match (self.wanted.port().and_then(|p| p.netns.as_ref()), &self.object) {
            (Some(netns), Object::Pod(pod, ..)) => pod.announce(netns),
            _ => Ok(()),
        }
    }

    /// The host port's interfaces, if that is what it is.
    pub fn host_port(&self) -> Option<&HostPort> {
        match &self.object {
            Object::Host(host, _) => Some(host),
            _ => None,
        }
    }
}

/// What making a port needs.
pub struct Maker<'a> {
    /// The kernel.
    pub kernel: &'a Handle,
    /// The data plane.
    pub engine: &'a Engine,
    /// The state that wants the port.
    pub state: &'a State,
    /// The uplink's MTU, when there is one.
    pub uplink_mtu: Option<u32>,
}

/// What the kernel refused over netlink, as the API tells it.
pub fn kernel_error(e: host::Error) -> Error {
    let code = if e.is_permission() { Code::PermissionDenied } else { Code::System };
    Error::new(code, e.to_string())
}

/// What the data plane could not do, as the API tells it.
pub fn engine_error(e: fastpath::Error) -> Error {
    let is_permission = matches!(e.errno(), Some(libc::EPERM | libc::EACCES));
    let code = if is_permission { Code::PermissionDenied } else { Code::System };
    Error::new(code, e.to_string())
}

impl Maker<'_> {
    /// Makes a port and attaches it. When a step fails, nothing of it is left.
    pub fn open(&self, id: PortId, wanted: &Wanted) -> Result<Live, Error> {
        let before = self.engine.counters().ports.into_iter().find(|(p, _)| *p == id);
        let live = self.make(id, wanted)?;
        Ok(Live { baseline: before.map(|(_, c)| c).unwrap_or_default(), ..live })
    }

    fn make(&self, id: PortId, wanted: &Wanted) -> Result<Live, Error> {
        match wanted {
            Wanted::Uplink(uplink) => self.open_uplink(id, uplink),
            Wanted::Host { interface } => self.open_host(id, interface),
            Wanted::Attached(port, _) => self.open_pod(id, port, wanted),
            Wanted::Port(port) => match port.attachment() {
                Some(Attachment::Device(dev)) => self.open_device(id, port, dev),
                Some(Attachment::Pod(_)) => self.open_pod(id, port, wanted),
                None => {
                    Err(Error::new(Code::InvalidParams, "a port needs dev, or netns and ifname"))
                }
            },
        }
    }
}

/// The gateways that a pod uses: one per family, from a prefix of its segment that its address is in.
pub fn gateways(state: &State, port: &Port) -> Vec<IpAddr> {
    let mut out: Vec<IpAddr> = Vec::new();
    for gateway in state.gateways_in(&port.segment) {
        let serves = port.ip.iter().any(|a| gateway.prefix().contains(a.addr()));
        if serves && !out.iter().any(|g| g.is_ipv4() == gateway.addr().is_ipv4()) {
            out.push(gateway.addr());
        }
    }
    out
}

/// The MAC address of a pod: as configured, else from its first address, else from its name.
pub fn pod_mac(port: &Port) -> Mac {
    port.mac
        .or_else(|| port.ip.first().map(|a| Mac::derived_from(a.addr())))
        .unwrap_or_else(|| names::pod_mac(&port.name))
}
