//! A pod's interface: a veth pair with one end in the pod's network namespace, or a TAP device that
//! was made there (`pod_tap.rs`), ready to use.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use encap::{Mac, Prefix};

use crate::address::AddressSpec;
use crate::error::{Error, Result};
use crate::ethtool::Ethtool;
use crate::handle::Handle;
use crate::link::Link;
use crate::netns::Netns;
use crate::route::Route;
use crate::sysctl;
use crate::veth::VethSpec;

/// The group of the node's ends of all pod interfaces, and of TAP devices in pods, so that they can
/// be told from others and removed together ([`Handle::delete_link_group`]): "psw" in ASCII.
pub const LINK_GROUP: u32 = 0x0070_7377;

/// The smallest MTU of a link that carries IPv6 (RFC 8200 section 5), bytes.
const IPV6_MTU_MIN: u32 = 1280;

/// The kernel's metric of IPv6 routes that nothing is said about (`IP6_RT_PRIO_USER`); that of IPv4 is 0.
const METRIC_IPV6: u32 = 1024;

/// How many interfaces of a pod may have a route to the same destinations, when nothing is said about
/// their metrics.
const INTERFACES: u32 = 64;

/// What a pod's interface shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodSpec {
    /// The name of the node's end of a veth.
    pub host_name: String,
    /// The path of the pod's network namespace.
    pub netns: PathBuf,
    /// The name of the pod's end, usually `eth0`.
    pub ifname: String,
    /// The hardware address of the pod's end.
    pub mac: Mac,
    /// The hardware address of the node's end; none: a random one.
    pub host_mac: Option<Mac>,
    /// Addresses of the pod's end, each with the length of the prefix that is on the link.
    pub addresses: Vec<(IpAddr, u8)>,
    /// Routes in the pod over this interface.
    pub routes: Vec<PodRoute>,
    /// MTU of both ends, bytes.
    pub mtu: u32,
    /// Queues of each end and kind.
    pub queues: u32,
}

/// A route in a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PodRoute {
    /// The destinations.
    pub prefix: Prefix,
    /// The gateway, which need not be in any prefix on the link; none: destinations are on the
    /// link.
    pub via: Option<IpAddr>,
    /// The MTU towards these destinations, bytes; none: the interface's.
    pub mtu: Option<u32>,
    /// The maximum segment size that TCP offers, bytes; none: what follows from the MTU.
    pub advmss: Option<u32>,
    /// The kernel's metric.
    pub metric: Option<u32>,
    /// The routing table; none: the main one.
    pub table: Option<u32>,
    /// How far the destinations are (`RT_SCOPE_*`); none: what follows from the rest.
    pub scope: Option<u8>,
}

impl PodRoute {
    /// A route to destinations on the link, or through a gateway, and nothing else said about it.
    pub fn new(prefix: Prefix, via: Option<IpAddr>) -> PodRoute {
        PodRoute { prefix, via, mtu: None, advmss: None, metric: None, table: None, scope: None }
    }
}

/// A pod's interface that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodInterface {
    /// The node's end; none of a TAP device.
    pub host: Option<HostEnd>,
    /// The index of the pod's end, in the pod's namespace.
    pub pod_index: u32,
    /// The hardware address of the pod's end.
    pub mac: Mac,
    /// The inode of the pod's namespace.
    pub netns_inode: u64,
}

/// The node's end of a pod's veth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostEnd {
    /// Its index.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Whether it is up: the last step of making the interface.
    pub up: bool,
}

impl PodInterface {
    /// Creates a pod's interface: `lo` and both ends up, checksums filled in by the pod's
    /// kernel (frames from an AF_XDP socket's peer must be complete), addresses usable at once.
    /// The node's end has no address and stays silent.
    ///
    /// All or nothing: when a step fails, the pair is removed again.
    ///
    /// # Errors
    /// `EEXIST` when either name is taken; whatever the kernel refuses, by name.
    pub fn create(node: &Handle, spec: &PodSpec) -> Result<PodInterface> {
        let netns = pod_netns(node, spec)?;
        let host = node.add_veth(&VethSpec {
            name: &spec.host_name,
            peer_name: &spec.ifname,
            peer_netns: Some(&netns),
            mtu: spec.mtu,
            queues: spec.queues,
            group: LINK_GROUP,
            mac: spec.host_mac,
            peer_mac: Some(spec.mac),
        })?;
        let finish = || {
            // Below that MTU the kernel does no IPv6 on a link, and has nothing to turn off.
            if spec.mtu >= IPV6_MTU_MIN {
                node.set_no_link_local(host.index)?;
            }
            let pod_index = netns.run(|| configure(spec, false))??;
            node.set_up(host.index)?;
            Ok(pod_index)
        };
        match finish() {
            Ok(pod_index) => Ok(PodInterface {
                host: Some(HostEnd { index: host.index, name: host.name, up: true }),
                pod_index,
                mac: spec.mac,
                netns_inode: netns.inode(),
            }),
            Err(e) => {
                if let Err(e) = node.delete_link(host.index) {
                    tracing::warn!(error = %e, "half-made pod interface left behind");
                }
                Err(e)
            }
        }
    }

    /// The pod interface that exists between `host_name` and `ifname` in `netns`, if there is
    /// one: a veth pair whose ends are each other's peers. Its settings are not compared.
    pub fn find(
        node: &Handle,
        host_name: &str,
        netns: &Path,
        ifname: &str,
    ) -> Result<Option<PodInterface>> {
        let Some(host) = node.link_by_name(host_name)? else {
            return Ok(None);
        };
        let netns = Netns::open(netns)?;
        let Some(pod) = Handle::in_netns(&netns)?.link_by_name(ifname)? else {
            return Ok(None);
        };
        let is_veth = |link: &Link| link.kind.as_deref() == Some("veth");
        let paired = is_veth(&host)
            && is_veth(&pod)
            && host.lower == Some(pod.index)
            && pod.lower == Some(host.index);
        Ok(paired.then(|| PodInterface {
            host: Some(HostEnd { index: host.index, name: host.name, up: host.up }),
            pod_index: pod.index,
            mac: pod.mac.unwrap_or_default(),
            netns_inode: netns.inode(),
        }))
    }

    /// Gives an interface that was made without addresses those of `spec`, and its routes.
    ///
    /// # Errors
    /// Whatever the kernel refuses; what it took before that stays.
    pub fn give_addresses(&self, spec: &PodSpec) -> Result<()> {
        Netns::open(&spec.netns)?.run(|| {
            let pod = Handle::current()?;
            address(&pod, self.pod_index, spec)?;
            route(&pod, self.pod_index, spec)
        })?
    }

    /// Gives the routes that [`PodInterface::create`] made another MTU, or the same again. Routes
    /// that are not there are made.
    pub fn set_routes(&self, netns: &Path, routes: &[PodRoute]) -> Result<()> {
        Netns::open(netns)?.run(|| {
            let pod = Handle::current()?;
            let there = pod.routes_of_all_tables(self.pod_index)?;
            for route in routes {
                let mut wanted = kernel_route(route, self.pod_index);
                let is_it = |r: &&Route| {
                    same_way(r, &wanted) && wanted.metric.is_none_or(|m| r.metric == Some(m))
                };
                match there.iter().find(is_it) {
                    // What is replaced might be another interface's.
                    Some(route) if shares_its_metric(route) => {
                        pod.del_route(route)?;
                        add_beside(&pod, wanted)?;
                    }
                    // With its own metric: another interface has the usual one, perhaps.
                    Some(route) => {
                        wanted.metric = route.metric;
                        pod.replace_route(&wanted)?;
                    }
                    None => add_beside(&pod, wanted)?,
                }
            }
            Ok(())
        })?
    }

    /// Makes the pod's kernel tell the segment where its addresses are. It would do so by itself when the
    /// interface is set up, before anybody can hear it.
    pub fn announce(&self, netns: &Path) -> Result<()> {
        // Setting the address that it has counts as a change of it.
        Netns::open(netns)?.run(|| Handle::current()?.set_mac(self.pod_index, self.mac))?
    }

    /// Removes a veth; nothing happens when it is gone already, for instance with its namespace. Says
    /// whether it was there. A TAP device goes with its descriptors.
    pub fn delete(&self, node: &Handle) -> Result<bool> {
        let Some(host) = &self.host else { return Ok(false) };
        // Not by name alone: another may have it by now.
        match node.link_by_index(host.index)? {
            Some(link) if link.name == host.name => {}
            _ => return Ok(false),
        }
        match node.delete_link(host.index) {
            Ok(()) => Ok(true),
            Err(e) if e.is_not_found() => Ok(false),
            Err(e) => Err(e),
        }
    }
}

/// The pod's namespace, which must not be the node's.
pub(crate) fn pod_netns(node: &Handle, spec: &PodSpec) -> Result<Netns> {
    let netns = Netns::open(&spec.netns)?;
    if netns == *node.netns() {
        return Err(Error::invalid(
            format!("create pod interface {}", spec.ifname),
            format!("{} is the network namespace of the node itself", netns.name()),
        ));
    }
    Ok(netns)
}

/// Sets up the pod's end; runs on a thread in the pod's namespace. Returns its index. With `offload`
/// the interface may be given packets whose checksums are not complete.
pub(crate) fn configure(spec: &PodSpec, offload: bool) -> Result<u32> {
    let pod = Handle::current()?;
    let link = pod.require_link(&spec.ifname)?;
    pod.set_up(pod.require_link("lo")?.index)?;
    if !offload {
        Ethtool::current()?.set_tx_checksum(link.index, false)?;
    }
    // As the reference bridge plugin has it: whoever remembers another MAC address for one of the pod's
    // addresses is told (gratuitous ARP, unsolicited neighbour advertisements).
    sysctl::ensure(&format!("net/ipv4/conf/{}/arp_notify", spec.ifname), "1")?;
    address(&pod, link.index, spec)?;
    pod.set_up(link.index)?;
    route(&pod, link.index, spec)?;
    Ok(link.index)
}

/// Gives the interface its addresses.
fn address(pod: &Handle, link: u32, spec: &PodSpec) -> Result<()> {
    if spec.addresses.iter().any(|(ip, _)| ip.is_ipv6()) {
        let conf = |key: &str| format!("net/ipv6/conf/{}/{key}", spec.ifname);
        // Container runtimes turn IPv6 off in new namespaces.
        sysctl::ensure("net/ipv6/conf/lo/disable_ipv6", "0")?;
        sysctl::ensure(&conf("disable_ipv6"), "0")?;
        sysctl::ensure(&conf("ndisc_notify"), "1")?;
        // Who sets the interface down and up again keeps its addresses, as with IPv4.
        sysctl::ensure(&conf("keep_addr_on_down"), "1")?;
        // The link-local address too is used at once, and no router but ours is listened to.
        sysctl::ensure(&conf("accept_dad"), "0")?;
        sysctl::ensure(&conf("accept_ra"), "0")?;
    }
    for &(ip, prefix_len) in &spec.addresses {
        let mut address = AddressSpec::new(ip, prefix_len);
        // The kernel's own route for the prefix would win over one with an MTU.
        let prefix = Prefix::truncating(ip, prefix_len).ok();
        address.noprefixroute =
            spec.routes.iter().any(|r| r.via.is_none() && Some(r.prefix) == prefix);
        pod.add_address(link, &address)?;
    }
    Ok(())
}

/// Gives the interface its routes, for which it has to be up.
fn route(pod: &Handle, link: u32, spec: &PodSpec) -> Result<()> {
    // Those on the link first: they may lead to the gateways of the others.
    let mut routes = spec.routes.clone();
    routes.sort_by_key(|route| route.via.is_some());
    for route in &routes {
        add_beside(pod, kernel_route(route, link))?;
    }
    Ok(())
}

/// Adds a route. Where another interface of the pod has one to the same destinations, and nothing was said
/// about the metric, it gets the next one that is free: the earlier interface's goes on being used, and this
/// one when that interface is gone.
fn add_beside(pod: &Handle, mut route: Route) -> Result<()> {
    let added = pod.add_route(&route);
    if route.metric.is_some() || !added.as_ref().is_err_and(Error::is_exists) {
        return added;
    }
    // Asked for twice, it is a mistake.
    if let Some(link) = route.oif
        && pod.routes_of_all_tables(link)?.iter().any(|r| same_way(r, &route))
    {
        return added;
    }
    if shares_its_metric(&route) {
        return pod.append_route(&route);
    }
    let first = if route.prefix.is_ipv4() { 0 } else { METRIC_IPV6 };
    for metric in first + 1..first + INTERFACES {
        route.metric = Some(metric);
        match pod.add_route(&route) {
            Err(e) if e.is_exists() => {}
            outcome => return outcome,
        }
    }
    added
}

/// Whether a route on the link has the metric of other interfaces' to the same destinations: with IPv6 those
/// with a larger one would not do for the gateway of a further route, which the kernel looks up by them.
fn shares_its_metric(route: &Route) -> bool {
    !route.prefix.is_ipv4()
        && route.gateway.is_none()
        && route.metric.is_none_or(|m| m == METRIC_IPV6)
}

/// Whether two routes over the same link are the same, whatever their metrics.
fn same_way(one: &Route, other: &Route) -> bool {
    one.prefix == other.prefix && one.gateway == other.gateway && one.table == other.table
}

fn kernel_route(route: &PodRoute, link: u32) -> Route {
    let base = match route.via {
        None => Route::on_link(route.prefix, link),
        Some(gateway) => Route::via(route.prefix, gateway, link),
    };
    Route {
        mtu: route.mtu,
        advmss: route.advmss,
        metric: route.metric,
        table: route.table.unwrap_or(base.table),
        scope: route.scope,
        ..base
    }
}
