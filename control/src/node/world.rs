//! The facts, gathered from the kernel.

use super::facts::{Facts, NextHopFacts, UplinkFacts};
use super::ports::{Live, Wanted};
use encap::Prefix;
use host::{Address, Event, Handle, Link};
use podswitch_api::state::{State, Uplink, Via};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// What is watched of the kernel on behalf of the underlay.
#[derive(Debug, Default)]
pub struct World {
    /// Next hops that the kernel keeps resolved because we asked it to, by interface.
    managed: BTreeSet<(u32, IpAddr)>,
}

impl World {
    /// Reads the facts that a state depends on, and routes beside it that lead to `announced`, and asks the
    /// kernel to resolve what it must.
    pub fn gather<'a>(
        &mut self,
        kernel: &Handle,
        state: &'a State,
        announced: impl Iterator<Item = &'a Via>,
        live: &BTreeMap<String, Live>,
    ) -> host::Result<Facts> {
        let mut facts = Facts::default();
        // The interface with the uplink's addresses and routes: the uplink itself, or the VLAN's.
        let mut uplink_index = None;
        for (name, port) in live.iter().filter(|(_, p)| p.attached.is_some()) {
            match &port.wanted {
                Wanted::Port(_) | Wanted::Attached(..) => {
                    facts.ports.insert(name.clone(), port.facts());
                }
                Wanted::Host { .. } => facts.host = Some(port.facts()),
                Wanted::Uplink(config) => {
                    if let Some(link) = underlay_link(kernel, config, port)? {
                        uplink_index = Some(link.index);
                        facts.uplink = Some(uplink(kernel, name, port, config, &link)?);
                    }
                }
            }
        }
        let mut wanted = BTreeSet::new();
        if let (Some(index), true) = (uplink_index, facts.uplink.is_some()) {
            for destination in underlay_destinations(state, announced) {
                if let Some(hop) = next_hop(kernel, index, destination)? {
                    wanted.insert((index, hop.ip));
                    facts.next_hops.insert(destination, hop);
                }
            }
        }
        self.manage(kernel, wanted);
        Ok(facts)
    }

    /// Takes note of an event. Whether it may change the facts: neighbours come and go all the
    /// time, and only those that are next hops count.
    pub fn note(&mut self, event: &Event) -> bool {
        match event {
            Event::NeighborNew(n) => self.managed.contains(&(n.link, n.ip)),
            // The kernel forgets what it keeps resolved when the link goes down: ask once more.
            Event::NeighborDel(n) => self.managed.remove(&(n.link, n.ip)),
            Event::QdiscChanged { .. } => false,
            Event::Overrun => {
                self.managed.clear();
                true
            }
            _ => true,
        }
    }

    /// Asks the kernel once more for the next hops that it could not resolve. Left alone, it would
    /// try again only every five seconds (`interval_probe_time_ms`).
    pub fn ask_again(&self, kernel: &Handle, facts: &Facts) {
        let unresolved = facts.next_hops.values().filter(|hop| hop.mac.is_none());
        for hop in unresolved {
            for &(link, ip) in self.managed.iter().filter(|(_, ip)| *ip == hop.ip) {
                if let Err(e) = kernel.manage_neighbor(link, ip) {
                    tracing::debug!("next hop {ip}: {e}");
                }
            }
        }
    }

    /// Keeps exactly these next hops resolved.
    fn manage(&mut self, kernel: &Handle, wanted: BTreeSet<(u32, IpAddr)>) {
        for &(link, ip) in wanted.difference(&self.managed) {
            // A kernel before 5.16 cannot keep them resolved; asking once is the best it does.
            if let Err(e) =
                kernel.manage_neighbor(link, ip).or_else(|_| kernel.probe_neighbor(link, ip))
            {
                tracing::warn!("next hop {ip}: {e}");
            }
        }
        for &(link, ip) in self.managed.difference(&wanted) {
            let _ = kernel.unmanage_neighbor(link, ip);
        }
        self.managed = wanted;
    }

    /// Lets go of every next hop.
    pub fn release(&mut self, kernel: &Handle) {
        self.manage(kernel, BTreeSet::new());
    }
}

/// The addresses of the underlay that a state and routes beside it send to.
fn underlay_destinations<'a>(
    state: &'a State,
    announced: impl Iterator<Item = &'a Via>,
) -> BTreeSet<IpAddr> {
    let vias = state.routes.iter().map(|r| &r.via).chain(announced);
    let native = vias.flat_map(Via::paths).filter_map(|via| match via {
        Via::NextHop(ip) => Some(*ip),
        _ => None,
    });
    state.tunnels.iter().map(|t| t.remote).chain(native).collect()
}

/// The interface that has the uplink's addresses: itself, or the VLAN's. None while it is gone.
fn underlay_link(kernel: &Handle, config: &Uplink, port: &Live) -> host::Result<Option<Link>> {
    match (config.vlan, &config.vlan_dev) {
        (None, _) => kernel.link_by_index(port.ifindex),
        (Some(_), Some(dev)) => kernel.link_by_name(dev),
        (Some(vlan), None) => {
            let is_ours = |l: &Link| l.vlan == Some(vlan) && l.lower == Some(port.ifindex);
            Ok(kernel.links()?.into_iter().find(is_ours))
        }
    }
}

/// The uplink as it is now, `link` having its addresses.
fn uplink(
    kernel: &Handle,
    name: &str,
    port: &Live,
    config: &Uplink,
    link: &Link,
) -> host::Result<UplinkFacts> {
    let addresses: Vec<Address> = kernel
        .addresses(Some(link.index))?
        .into_iter()
        .filter(|a| !a.link_local && !a.tentative && !a.dad_failed)
        .collect();
    let device_mtu = kernel.link_by_index(port.ifindex)?.map_or(link.mtu, |device| device.mtu);
    let subnet = |a: &Address| Prefix::truncating(a.peer.unwrap_or(a.ip), a.prefix_len).ok();
    Ok(UplinkFacts {
        name: name.to_owned(),
        id: port.id,
        mtu: link.mtu.min(device_mtu),
        mac: link.mac.unwrap_or_default(),
        subnets: addresses.iter().filter_map(subnet).collect(),
        addresses: addresses.iter().map(|a| a.ip).collect(),
        vlan: config.vlan,
    })
}

/// How the kernel would send to `destination`, if it would use the uplink.
fn next_hop(
    kernel: &Handle,
    uplink: u32,
    destination: IpAddr,
) -> host::Result<Option<NextHopFacts>> {
    let Some(route) = kernel.route_get(destination)?.filter(|r| r.oif == uplink && !r.local) else {
        return Ok(None);
    };
    let ip = route.gateway.unwrap_or(destination);
    let mac = kernel.neighbor(uplink, ip)?.and_then(|n| n.usable_mac());
    Ok(Some(NextHopFacts { ip, src: route.prefsrc, mac, mtu: route.mtu }))
}
