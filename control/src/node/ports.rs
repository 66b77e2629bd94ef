//! Ports made real: interfaces created or taken, and attached to the engine.

use super::compile::{path_mtu, router_mac};
use super::facts::PortFacts;
use crate::attachment::Attachments;
use crate::names;
use encap::{Mac, Prefix};
use fastpath::{AttachSpec, Attached, Engine, PortSnapshot, Preference, Role};
use host::{Ethtool, Handle, HostPort, HostPortSpec, Link, PodInterface, PodRoute, PodSpec};
use podswitch_api::attachment::AttachmentRoute;
use podswitch_api::state::{Port, State, Uplink, XdpMode};
use podswitch_api::{Attachment, Code, Error};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use switch::PortId;

/// The MTU inside the node: the largest that the kernel gives a veth. What leaves the node has a
/// smaller one by its route.
pub const NODE_MTU: u32 = 65535;
/// The switch's end of the host port.
const HOST_NEAR: &str = "pswhost";

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

/// The routes in a pod that a container runtime plugged in.
#[derive(Clone, Debug, PartialEq)]
pub struct PodRoutes {
    /// With their next hops.
    routes: Vec<AttachmentRoute>,
    /// The MTU of all routes that say nothing else, those of the prefixes on the link included, in bytes.
    mtu: Option<u32>,
}

impl PodRoutes {
    /// As the kernel gets them; `away` is the MTU of what leaves the node, if it is less than the
    /// interface's.
    fn specs(&self, port: &Port, away: Option<u32>) -> Vec<PodRoute> {
        let away = away.into_iter().chain(self.mtu).min();
        let routes = self.routes.iter().map(|r| attached_route(r, away));
        let on_link = port.ip.iter().map(|a| a.prefix()).filter(|_| self.mtu.is_some());
        let is_there =
            |prefix: &Prefix| self.routes.iter().any(|r| r.dst == *prefix && r.gw.is_none());
        let on_link = on_link.filter(|prefix| !is_there(prefix));
        let on_link =
            on_link.map(|prefix| PodRoute { mtu: self.mtu, ..PodRoute::new(prefix, None) });
        on_link.chain(routes).collect()
    }
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
                Wanted::Attached(interface(p), PodRoutes { routes, mtu: entry.route_mtu() })
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
    let Port { name, segment, dev, netns, ifname, ip, mac, mtu, .. } = port.clone();
    Port { name, segment, dev, netns, ifname, ip, mac, mtu, ..Port::default() }
}

/// What a port is made of.
#[derive(Debug)]
enum Object {
    /// An interface that was there before: whether it was promiscuous then.
    Device {
        promiscuous: bool,
    },
    /// With the routes that it was given.
    Pod(PodInterface, Vec<PodRoute>),
    Host(HostPort, HostPortSpec),
    /// Whether the driver took VLAN tags off received frames before.
    Uplink {
        rx_vlan: bool,
    },
}

/// A port that exists.
#[derive(Debug)]
pub struct Live {
    /// Its identifier.
    pub id: PortId,
    /// What it was made from.
    pub wanted: Wanted,
    /// The interface that is attached, in the daemon's namespace.
    pub dev: String,
    /// Its index.
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
        PortFacts { id: self.id, mtu: self.mtu, mac: self.mac }
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
            (Some(netns), Object::Pod(pod, _)) => pod.announce(netns),
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

    /// Removes pods' interfaces in one request, since one by one the kernel takes 20 ms for each, and
    /// detaches their ports.
    pub fn close_pods(&self, pods: &[Live]) {
        // Not by index alone: another interface may have it by now.
        let is_there = |live: &&Live| {
            let link = self.kernel.link_by_index(live.ifindex).ok().flatten();
            link.is_some_and(|l| l.name == live.dev)
        };
        let indexes: Vec<u32> = pods.iter().filter(is_there).map(|l| l.ifindex).collect();
        if let Err(e) = self.kernel.delete_links(&indexes) {
            tracing::warn!("{e}");
        }
        for live in pods {
            self.detach(live);
        }
    }

    fn detach(&self, live: &Live) {
        if live.attached.is_some()
            && let Err(e) = self.engine.detach(live.id)
        {
            tracing::warn!("port on {}: {e}", live.dev);
        }
    }

    /// Detaches a port and undoes what was done to its interface. Goes on where something is gone.
    pub fn close(&self, live: Live) {
        // A pod's interface goes first: its end unbinds the sockets while the kernel holds the lock
        // under which it waits for an expedited grace period only. Closing a bound socket waits for an
        // ordinary one, as long again as the deletion takes.
        let is_pod = live.is_pod();
        if !is_pod {
            self.detach(&live);
        }
        let done = match &live.object {
            Object::Device { promiscuous: true } | Object::Uplink { rx_vlan: false } => Ok(()),
            Object::Uplink { rx_vlan: true } => {
                Ethtool::current().and_then(|e| e.set_rx_vlan(live.ifindex, true))
            }
            Object::Device { promiscuous: false } => self.kernel.set_promisc(live.ifindex, false),
            Object::Pod(pod, _) => pod.delete(self.kernel).map(|_| ()),
            Object::Host(host, _) => host.delete(self.kernel),
        };
        match done {
            Err(e) if !e.is_not_found() => tracing::warn!("{e}"),
            _ => {}
        }
        if is_pod {
            self.detach(&live);
        }
    }

    /// An existing interface, which nobody else may be using.
    fn free_link(&self, dev: &str) -> Result<Link, Error> {
        let link = self.kernel.link_by_name(dev).map_err(kernel_error)?.ok_or_else(|| {
            Error::system(format!(
                "{dev}: there is no such interface in this network namespace; \
                 `ip link` lists those that there are"
            ))
        })?;
        if link.loopback {
            return Err(Error::system(format!("{dev}: the loopback interface carries no frames")));
        }
        if let Some(master) = link.master {
            let master = self.kernel.link_by_index(master).ok().flatten();
            let master = master.map_or_else(|| "another interface".to_owned(), |m| m.name);
            return Err(Error::system(format!(
                "{dev} is taken: it is a member of {master}; \
                 release it with `ip link set dev {dev} nomaster`"
            )));
        }
        Ok(link)
    }

    fn attach(
        &self,
        id: PortId,
        dev: &str,
        ifindex: u32,
        role: Role,
        uplink: Option<&Uplink>,
    ) -> Result<Attached, Error> {
        let queues = uplink.map(|u| u.queues.clone()).filter(|q| !q.is_empty());
        let mode = match uplink.map(|u| u.mode) {
            None | Some(XdpMode::Auto) => Preference::Auto,
            Some(XdpMode::Native) => Preference::Native,
            Some(XdpMode::Generic) => Preference::Generic,
        };
        let spec = AttachSpec { ifname: dev.to_owned(), ifindex, role, queues, mode };
        self.engine.attach(id, &spec).map_err(engine_error)
    }

    fn open_device(&self, id: PortId, port: &Port, dev: &str) -> Result<Live, Error> {
        let link = self.free_link(dev)?;
        let attached = self.attach(id, dev, link.index, Role::Port, None)?;
        let live = Live {
            id,
            wanted: Wanted::Port(port.clone()),
            dev: dev.to_owned(),
            ifindex: link.index,
            mtu: link.mtu,
            mac: link.mac.unwrap_or_default(),
            attached: Some(attached),
            baseline: PortSnapshot::default(),
            object: Object::Device { promiscuous: link.promiscuity > 0 },
        };
        // A bridge port hears frames that are not for its own address.
        let ready = self
            .kernel
            .set_promisc(link.index, true)
            .and_then(|()| if link.up { Ok(()) } else { self.kernel.set_up(link.index) });
        match ready {
            Ok(()) => Ok(live),
            Err(e) => {
                self.close(live);
                Err(kernel_error(e))
            }
        }
    }

    fn open_uplink(&self, id: PortId, uplink: &Uplink) -> Result<Live, Error> {
        let link = self.free_link(&uplink.dev)?;
        let stacked = stacked(uplink, &link)?;
        let rx_vlan = uplink.vlan.is_some() && keep_tags(link.index).map_err(kernel_error)?;
        let wanted = stacked.as_ref().unwrap_or(uplink);
        let attached = self.attach(id, &uplink.dev, link.index, Role::Uplink, Some(wanted))?;
        Ok(Live {
            id,
            wanted: Wanted::Uplink(uplink.clone()),
            dev: uplink.dev.clone(),
            ifindex: link.index,
            mtu: link.mtu,
            mac: link.mac.unwrap_or_default(),
            attached: Some(attached),
            baseline: PortSnapshot::default(),
            object: Object::Uplink { rx_vlan },
        })
    }

    fn host_spec(&self, interface: &str) -> HostPortSpec {
        let router_mac = router_mac(self.state);
        HostPortSpec {
            far_name: interface.to_owned(),
            near_name: HOST_NEAR.to_owned(),
            mac: host_mac(router_mac),
            router_mac,
            addresses: (self.state.gateways().iter())
                .map(|a| (a.addr(), a.prefix().len()))
                .collect(),
            mtu: NODE_MTU,
            queues: self.queues(),
        }
    }

    fn open_host(&self, id: PortId, interface: &str) -> Result<Live, Error> {
        let spec = self.host_spec(interface);
        let host = HostPort::create(self.kernel, &spec).map_err(kernel_error)?;
        let (dev, ifindex) = (HOST_NEAR.to_owned(), host.near_index);
        match self.attach(id, &dev, ifindex, Role::Port, None) {
            Ok(attached) => Ok(Live {
                id,
                wanted: Wanted::Host { interface: interface.to_owned() },
                dev,
                ifindex,
                mtu: NODE_MTU,
                mac: spec.mac,
                attached: Some(attached),
                baseline: PortSnapshot::default(),
                object: Object::Host(host, spec),
            }),
            Err(e) => {
                let _ = host.delete(self.kernel);
                Err(e)
            }
        }
    }

    /// Gives the host port the gateway addresses that the state has now; nothing happens to any other
    /// port.
    pub fn update_host(&self, live: &mut Live) -> Result<(), Error> {
        let (Wanted::Host { interface }, Object::Host(host, spec)) =
            (&live.wanted, &mut live.object)
        else {
            return Ok(());
        };
        let wanted = self.host_spec(interface);
        if wanted != *spec {
            *host = HostPort::create(self.kernel, &wanted).map_err(kernel_error)?;
            live.mac = wanted.mac;
            *spec = wanted;
        }
        Ok(())
    }

    fn open_pod(&self, id: PortId, port: &Port, wanted: &Wanted) -> Result<Live, Error> {
        let spec = self.pod_spec(port, wanted);
        host::Netns::open(&spec.netns).map_err(|e| {
            Error::system(format!("{e}; give the path of a namespace, such as /run/netns/NAME"))
        })?;
        let kept = self.existing_pod(&spec)?;
        let adopted = kept.is_some();
        let routes = spec.routes.clone();
        let pod = match kept {
            Some(pod) => pod,
            None => PodInterface::create(self.kernel, &spec).map_err(kernel_error)?,
        };
        let (dev, ifindex) = (spec.host_name.clone(), pod.host_index);
        match self.attach(id, &dev, ifindex, Role::Port, None) {
            Ok(attached) => Ok(Live {
                id,
                wanted: wanted.clone(),
                dev,
                ifindex,
                mtu: spec.mtu,
                mac: pod.mac,
                attached: Some(attached),
                baseline: PortSnapshot::default(),
                object: Object::Pod(pod, routes),
            }),
            Err(e) => {
                // A pod's interface that was there before is the pod's: it stays.
                if !adopted {
                    let _ = pod.delete(self.kernel);
                }
                Err(e)
            }
        }
    }

    /// The interface that an earlier daemon made for this pod and left when it died; one that fits
    /// no more is removed.
    fn existing_pod(&self, spec: &PodSpec) -> Result<Option<PodInterface>, Error> {
        if self.kernel.link_by_name(&spec.host_name).map_err(kernel_error)?.is_none() {
            return Ok(None);
        }
        let found = PodInterface::find(self.kernel, &spec.host_name, &spec.netns, &spec.ifname);
        // The node's end is set up last: with it down, the interface was never finished.
        if let Ok(Some(pod)) = found
            && pod.mac == spec.mac
            && pod.host_up
        {
            return Ok(Some(pod));
        }
        self.kernel.delete_link_by_name(&spec.host_name).map_err(kernel_error)?;
        Ok(None)
    }

    /// Gives a pod without addresses those that it is wanted with, and its routes.
    pub fn give_addresses(&self, live: &mut Live, wanted: &Wanted) -> Result<(), Error> {
        let (Some(port), Object::Pod(pod, routes)) = (wanted.port(), &mut live.object) else {
            return Ok(());
        };
        let spec = self.pod_spec(port, wanted);
        pod.give_addresses(&spec).map_err(kernel_error)?;
        *routes = spec.routes;
        live.wanted = wanted.clone();
        Ok(())
    }

    /// Gives a pod's routes the MTU that the uplink leaves them now.
    pub fn update_routes(&self, live: &mut Live) -> host::Result<()> {
        let (Some(port), Object::Pod(pod, routes)) = (live.wanted.port(), &mut live.object) else {
            return Ok(());
        };
        let spec = self.pod_spec(port, &live.wanted);
        if spec.routes != *routes {
            pod.set_routes(&spec.netns, &spec.routes)?;
            *routes = spec.routes;
        }
        Ok(())
    }

    fn pod_spec(&self, port: &Port, wanted: &Wanted) -> PodSpec {
        let away = path_mtu(self.state, self.uplink_mtu.unwrap_or(1500));
        // A segment that spans nodes has one MTU for all its members: L2 tells nobody that a frame
        // was too large.
        let spans = self.state.tunnels.iter().any(|t| t.segment.as_ref() == Some(&port.segment));
        let mtu = port.mtu.unwrap_or(if spans { away } else { NODE_MTU });
        let away = (away < mtu).then_some(away);
        let routes = match wanted {
            Wanted::Attached(_, routes) => routes.specs(port, away),
            _ => default_routes(gateways(self.state, port), away),
        };
        PodSpec {
            host_name: names::host_name(&port.name),
            host_mac: Some(names::host_mac(&port.name)),
            netns: port.netns.clone().unwrap_or_default(),
            ifname: port.ifname.clone().unwrap_or_default(),
            mac: pod_mac(port),
            addresses: port.ip.iter().map(|a| (a.addr(), a.prefix().len())).collect(),
            routes,
            mtu,
            queues: self.queues(),
        }
    }

    /// A queue for each worker, so that each sends and receives without asking another.
    fn queues(&self) -> u32 {
        self.state.switch_or_default().workers.into()
    }
}

/// How to attach a bond: in generic mode, where the bond's own device receives and sends, and the
/// bonding driver distributes and fails over. A native program on a bond runs on its members, whose
/// frames the kernel does not give to a socket of the bond (`xsk_rcv_check`). See docs/bond.md.
fn stacked(uplink: &Uplink, link: &Link) -> Result<Option<Uplink>, Error> {
    if !matches!(link.kind.as_deref(), Some("bond" | "team")) {
        return Ok(None);
    }
    if uplink.mode == XdpMode::Native {
        let dev = &uplink.dev;
        return Err(Error::system(format!(
            "{dev} is a bond: AF_XDP works on it in generic mode only; set [uplink] mode = \"auto\""
        )));
    }
    Ok(Some(Uplink { mode: XdpMode::Generic, ..uplink.clone() }))
}

/// Makes a device leave VLAN tags in received frames, where the XDP program looks for them. Whether
/// it took them out before.
fn keep_tags(link: u32) -> host::Result<bool> {
    let ethtool = Ethtool::current()?;
    let took = ethtool.features(link)?.rx_vlan();
    if took {
        ethtool.set_rx_vlan(link, false)?;
    }
    Ok(took)
}

/// A default route through each gateway; `away` is the MTU of what leaves the node, if it is less than
/// the interface's.
fn default_routes(gateways: Vec<IpAddr>, away: Option<u32>) -> Vec<PodRoute> {
    let route = |via: IpAddr| {
        let any = match via {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        Some(PodRoute { mtu: away, ..PodRoute::new(Prefix::new(any, 0).ok()?, Some(via)) })
    };
    gateways.into_iter().filter_map(route).collect()
}

/// A route as a container runtime wants it; one through a gateway has the MTU of what leaves the node,
/// unless it says otherwise.
fn attached_route(route: &AttachmentRoute, away: Option<u32>) -> PodRoute {
    PodRoute {
        prefix: route.dst,
        via: route.gw,
        mtu: route.mtu.or_else(|| away.filter(|_| route.gw.is_some())),
        advmss: route.advmss,
        metric: route.priority,
        table: route.table,
        scope: route.scope,
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

/// The MAC address of the node's interface: the router's with another local bit, so that the two
/// never coincide.
fn host_mac(router: Mac) -> Mac {
    let mut octets = router.0;
    octets[0] ^= 0x04;
    Mac(octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(kind: Option<&str>) -> Link {
        Link {
            index: 2,
            name: "bond0".into(),
            mac: None,
            mtu: 1500,
            up: true,
            lower_up: true,
            loopback: false,
            group: 0,
            master: None,
            kind: kind.map(str::to_owned),
            vlan: None,
            lower: None,
            link_netnsid: None,
            num_rx_queues: 16,
            num_tx_queues: 16,
            promiscuity: 0,
            xdp: None,
            parent: None,
        }
    }

    #[test]
    fn a_bond_is_taken_in_generic_mode_or_not_at_all() {
        let uplink = |mode| Uplink {
            dev: "bond0".into(),
            queues: Vec::new(),
            mode,
            native_routing: None,
            vlan: None,
            vlan_dev: None,
        };
        let generic = Some(uplink(XdpMode::Generic));
        for kind in ["bond", "team"] {
            assert_eq!(stacked(&uplink(XdpMode::Auto), &link(Some(kind))).unwrap(), generic);
            assert_eq!(stacked(&uplink(XdpMode::Generic), &link(Some(kind))).unwrap(), generic);
            let refused = stacked(&uplink(XdpMode::Native), &link(Some(kind))).unwrap_err();
            assert!(refused.to_string().contains("generic mode only"), "{refused}");
        }
        for kind in [None, Some("veth"), Some("bridge")] {
            assert_eq!(stacked(&uplink(XdpMode::Native), &link(kind)).unwrap(), None);
        }
    }
}
