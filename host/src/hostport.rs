//! The host port: the veth pair through which the node itself reaches its pods, and they it.
//!
//! The far end is an ordinary interface of the node that holds the gateway addresses; the near
//! end belongs to the switch. Behind the far end the kernel sees one router, the switch: all
//! pods, here and on other nodes, are reached by routes through it.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use encap::{Mac, Prefix};

use crate::address::AddressSpec;
use crate::error::{Error, Result};
use crate::ethtool::Ethtool;
use crate::handle::Handle;
use crate::link::Link;
use crate::route::Route;
use crate::sysctl;
use crate::veth::VethSpec;

/// The route protocol number that marks routes as podswitch's, so that a daemon that starts
/// finds what an earlier one left.
pub const ROUTE_PROTOCOL: u8 = 112;
/// The switch as the node's kernel addresses it, IPv4. Never on a wire.
pub const ROUTER_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// The switch as the node's kernel addresses it, IPv6. Never on a wire.
pub const ROUTER_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

/// What the host port shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPortSpec {
    /// The name of the node's interface, `podswitch0`.
    pub far_name: String,
    /// The name of the switch's end, `pswhost`.
    pub near_name: String,
    /// The hardware address of the node's interface.
    pub mac: Mac,
    /// The hardware address of the switch as a router.
    pub router_mac: Mac,
    /// The gateway addresses of the pods, held by the node's interface.
    pub addresses: Vec<(IpAddr, u8)>,
    /// MTU of both ends, bytes.
    pub mtu: u32,
    /// Queues of each end and kind.
    pub queues: u32,
}

/// A prefix of pods that the node reaches through the switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HostRoute {
    /// The destinations.
    pub prefix: Prefix,
    /// The MTU towards them, bytes; none: the interface's.
    pub mtu: Option<u32>,
}

impl From<Prefix> for HostRoute {
    fn from(prefix: Prefix) -> HostRoute {
        HostRoute { prefix, mtu: None }
    }
}

/// A host port that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// The index of the node's interface.
    pub far_index: u32,
    /// The index of the switch's end.
    pub near_index: u32,
    far_name: String,
    sources: Sources,
}

/// The source addresses of what the node sends to pods: the first gateway of each family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sources {
    v4: Option<IpAddr>,
    v6: Option<IpAddr>,
}

impl HostPort {
    /// Creates the host port, or makes one that an earlier daemon left agree with `spec`: call
    /// it again whenever something may have been changed under it.
    ///
    /// Turns IP forwarding of the node on, which nothing turns off again: others may rely on it
    /// by then. When a step fails, a pair that did not exist before is removed.
    ///
    /// # Errors
    /// [`Error::Invalid`] when one of the names belongs to something else.
    pub fn create(node: &Handle, spec: &HostPortSpec) -> Result<HostPort> {
        let existing = find(node, spec)?;
        let existed = existing.is_some();
        let (far, near) = match existing {
            Some(pair) => pair,
            None => add(node, spec)?,
        };
        match configure(node, spec, &far, &near) {
            Ok(()) => Ok(HostPort {
                far_index: far.index,
                near_index: near.index,
                far_name: far.name,
                sources: Sources {
                    v4: spec.addresses.iter().map(|a| a.0).find(|ip| ip.is_ipv4()),
                    v6: spec.addresses.iter().map(|a| a.0).find(|ip| ip.is_ipv6()),
                },
            }),
            Err(e) => {
                if !existed && let Err(e) = node.delete_link(far.index) {
                    tracing::warn!(error = %e, "half-made host port left behind");
                }
                Err(e)
            }
        }
    }

    /// Makes the kernel's routes to pods exactly these: adds what is missing, changes what
    /// differs, removes what podswitch once made and is not wanted any more. Routes of others
    /// are never touched.
    ///
    /// # Errors
    /// `EEXIST` when someone else has a route for one of the prefixes; the routes that could be
    /// made are there then.
    pub fn sync_routes(&self, node: &Handle, routes: &[HostRoute]) -> Result<()> {
        let mut wanted: HashMap<Prefix, Route> =
            routes.iter().map(|r| (r.prefix, self.route(r))).collect();
        let mut first_error = None;
        let mut keep = |result: Result<()>| {
            if let Err(e) = result {
                first_error.get_or_insert(e);
            }
        };
        for route in node.routes_where(Some(ROUTE_PROTOCOL), Some(self.far_index))? {
            match wanted.remove(&route.prefix) {
                Some(want) if same(&want, &route) => {}
                Some(want) => keep(node.replace_route(&want)),
                None => match node.del_route(&route) {
                    Err(e) if e.is_not_found() => {}
                    result => keep(result),
                },
            }
        }
        // In order, so that what fails is the same each time.
        let mut missing: Vec<_> = wanted.into_values().collect();
        missing.sort_by_key(|route| route.prefix);
        for route in missing {
            keep(node.add_route(&route));
        }
        first_error.map_or(Ok(()), Err)
    }

    /// Adds some of the kernel's routes to pods, and removes others: what [`HostPort::sync_routes`] comes to
    /// when only these differ, in a time that does not depend on how many there are.
    ///
    /// # Errors
    /// As there.
    pub fn change_routes(
        &self,
        node: &Handle,
        add: impl Iterator<Item = HostRoute>,
        del: impl Iterator<Item = Prefix>,
    ) -> Result<()> {
        let removed = del.map(|prefix| match node.del_route(&self.route(&prefix.into())) {
            Err(e) if e.is_not_found() => Ok(()),
            result => result,
        });
        let added = add.map(|route| node.add_route(&self.route(&route)));
        // All of them, whatever becomes of the first.
        let results: Vec<Result<()>> = removed.chain(added).collect();
        results.into_iter().collect()
    }

    /// Removes the pair, and with it its addresses, routes and neighbours; nothing happens when
    /// it is gone already.
    pub fn delete(&self, node: &Handle) -> Result<()> {
        match node.link_by_index(self.far_index)? {
            Some(link) if link.name == self.far_name => {}
            _ => return Ok(()),
        }
        match node.delete_link(self.far_index) {
            Err(e) if !e.is_not_found() => Err(e),
            _ => Ok(()),
        }
    }

    fn route(&self, route: &HostRoute) -> Route {
        let (gateway, prefsrc) = if route.prefix.is_ipv4() {
            (ROUTER_V4.into(), self.sources.v4)
        } else {
            (ROUTER_V6.into(), self.sources.v6)
        };
        Route {
            prefsrc,
            mtu: route.mtu,
            protocol: ROUTE_PROTOCOL,
            ..Route::via(route.prefix, gateway, self.far_index)
        }
    }
}

/// Whether the kernel's route is what is wanted; flags and metrics are as the kernel defaults
/// them.
fn same(wanted: &Route, found: &Route) -> bool {
    (wanted.gateway, wanted.prefsrc, wanted.mtu, wanted.kind)
        == (found.gateway, found.prefsrc, found.mtu, found.kind)
}

/// The pair if it exists as `spec` has it; a pair whose queues differ is removed, for queues are
/// given at creation.
fn find(node: &Handle, spec: &HostPortSpec) -> Result<Option<(Link, Link)>> {
    let far = node.link_by_name(&spec.far_name)?;
    let near = node.link_by_name(&spec.near_name)?;
    let foreign = |name: &str| {
        Error::invalid(
            format!("create host port {} with {}", spec.far_name, spec.near_name),
            format!("an interface {name} exists and is not part of a host port"),
        )
    };
    let (far, near) = match (far, near) {
        (None, None) => return Ok(None),
        (Some(far), Some(near)) => (far, near),
        (Some(link), None) | (None, Some(link)) => return Err(foreign(&link.name)),
    };
    let paired = [(&far, &near), (&near, &far)].iter().all(|(a, b)| {
        a.kind.as_deref() == Some("veth") && a.lower == Some(b.index) && a.link_netnsid.is_none()
    });
    if !paired {
        return Err(foreign(&far.name));
    }
    if far.num_rx_queues != spec.queues || far.num_tx_queues != spec.queues {
        node.delete_link(far.index)?;
        return Ok(None);
    }
    Ok(Some((far, near)))
}

fn add(node: &Handle, spec: &HostPortSpec) -> Result<(Link, Link)> {
    let far = node.add_veth(&VethSpec {
        name: &spec.far_name,
        peer_name: &spec.near_name,
        peer_netns: None,
        mtu: spec.mtu,
        queues: spec.queues,
        group: 0,
        mac: Some(spec.mac),
        peer_mac: None,
    })?;
    let near = node.require_link(&spec.near_name)?;
    Ok((far, near))
}

fn configure(node: &Handle, spec: &HostPortSpec, far: &Link, near: &Link) -> Result<()> {
    for link in [far, near] {
        if link.mtu != spec.mtu {
            node.set_mtu(link.index, spec.mtu)?;
        }
    }
    if far.mac != Some(spec.mac) {
        node.set_mac(far.index, spec.mac)?;
    }
    node.set_no_link_local(near.index)?;
    let ipv6 = spec.addresses.iter().any(|(ip, _)| ip.is_ipv6());
    node.netns().run(|| {
        Ethtool::current()?.set_tx_checksum(far.index, false)?;
        settings(&spec.far_name, ipv6)
    })??;

    for address in node.addresses(Some(far.index))? {
        // One with a prefix route would keep that, and it would hide ours.
        let wanted =
            address.noprefixroute && spec.addresses.contains(&(address.ip, address.prefix_len));
        if !wanted && !address.link_local {
            node.del_address(far.index, address.ip, address.prefix_len)?;
        }
    }
    for &(ip, prefix_len) in &spec.addresses {
        let address = AddressSpec { noprefixroute: true, ..AddressSpec::new(ip, prefix_len) };
        node.replace_address(far.index, &address)?;
    }
    node.set_up(near.index)?;
    node.set_up(far.index)?;
    for (router, family_used) in [
        (IpAddr::from(ROUTER_V4), spec.addresses.iter().any(|(ip, _)| ip.is_ipv4())),
        (IpAddr::from(ROUTER_V6), ipv6),
    ] {
        if family_used {
            node.set_permanent_neighbor(far.index, router, spec.router_mac)?;
        }
    }
    Ok(())
}

/// Kernel settings of the node's interface and of the node as a router, in the thread's
/// namespace.
fn settings(far: &str, ipv6: bool) -> Result<()> {
    let v4 = |key: &str| format!("net/ipv4/conf/{far}/{key}");
    // Loose: the kernel uses the larger of this and the value for all, and strict (1) would drop
    // packets that come back another way (RFC 3704).
    sysctl::ensure(&v4("rp_filter"), "2")?;
    // The gateway's addresses are the node's, too: what the router tells the node of its packets would be
    // dropped as a martian, and its path MTU never found. Pods are held to their own addresses by the switch
    // (`anti_spoof`).
    sysctl::ensure(&v4("accept_local"), "1")?;
    // What comes from a pod and leaves to another goes back out of the interface it came from;
    // nobody shall be told to go a shorter way. Either setting alone would leave redirects on.
    sysctl::ensure(&v4("send_redirects"), "0")?;
    sysctl::ensure("net/ipv4/conf/all/send_redirects", "0")?;
    sysctl::ensure("net/ipv4/ip_forward", "1")?;
    if ipv6 {
        let v6 = |key: &str| format!("net/ipv6/conf/{far}/{key}");
        sysctl::ensure(&v6("disable_ipv6"), "0")?;
        sysctl::ensure(&v6("accept_dad"), "0")?;
        sysctl::ensure(&v6("accept_ra"), "0")?;
        forward_ipv6()?;
    }
    Ok(())
}

/// Turns IPv6 forwarding on. A router ignores router advertisements unless told otherwise, so
/// interfaces that listened to them are told to go on: the node may have its default route from
/// there.
fn forward_ipv6() -> Result<()> {
    const FORWARDING: &str = "net/ipv6/conf/all/forwarding";
    if sysctl::read(FORWARDING)? == "1" {
        return Ok(());
    }
    let entries = std::fs::read_dir("/proc/sys/net/ipv6/conf")
        .map_err(|e| Error::io("list the interfaces that have IPv6", e))?;
    for name in entries.filter_map(|e| e.ok()?.file_name().into_string().ok()) {
        let key = format!("net/ipv6/conf/{name}/accept_ra");
        // An interface may go away while we look.
        if name != "all" && sysctl::read(&key).is_ok_and(|v| v == "1") {
            match sysctl::write(&key, "2") {
                Err(e) if !e.is_not_found() => return Err(e),
                _ => {}
            }
        }
    }
    sysctl::write(FORWARDING, "1")
}
