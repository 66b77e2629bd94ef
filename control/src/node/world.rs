//! The facts, gathered from the kernel.

use super::facts::{Facts, NextHopFacts, UplinkFacts};
use super::ports::{Live, Wanted};
use host::{Event, Handle};
use podswitch_api::state::{State, Via};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// What is watched of the kernel on behalf of the underlay.
#[derive(Debug, Default)]
pub struct World {
    /// Next hops that the kernel keeps resolved because we asked it to, by interface.
    managed: BTreeSet<(u32, IpAddr)>,
}

impl World {
    /// Reads the facts that a state depends on, and asks the kernel to resolve what it must.
    pub fn gather(
        &mut self,
        kernel: &Handle,
        state: &State,
        live: &BTreeMap<String, Live>,
    ) -> host::Result<Facts> {
        let mut facts = Facts::default();
        let mut uplink_index = None;
        for (name, port) in live.iter().filter(|(_, p)| p.attached.is_some()) {
            match &port.wanted {
                Wanted::Port(_) => {
                    facts.ports.insert(name.clone(), port.facts());
                }
                Wanted::Host { .. } => facts.host = Some(port.facts()),
                Wanted::Uplink(_) => {
                    uplink_index = Some(port.ifindex);
                    facts.uplink = uplink(kernel, name, port)?;
                }
            }
        }
        let mut wanted = BTreeSet::new();
        if let (Some(index), true) = (uplink_index, facts.uplink.is_some()) {
            for destination in underlay_destinations(state) {
                if let Some(hop) = next_hop(kernel, index, destination)? {
                    wanted.insert((index, hop.ip));
                    facts.next_hops.insert(destination, hop);
                }
            }
        }
        self.manage(kernel, wanted);
        Ok(facts)
    }

    /// Whether an event may change the facts. Neighbours come and go all the time: only those that
    /// are next hops count.
    pub fn concerns(&self, event: &Event) -> bool {
        match event {
            Event::NeighborNew(n) | Event::NeighborDel(n) => self.managed.contains(&(n.link, n.ip)),
            _ => true,
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

/// The addresses of the underlay that a state sends to.
fn underlay_destinations(state: &State) -> BTreeSet<IpAddr> {
    let paths = state.routes.iter().flat_map(|r| r.via.paths());
    let native = paths.filter_map(|via| match via {
        Via::NextHop(ip) => Some(*ip),
        _ => None,
    });
    state.tunnels.iter().map(|t| t.remote).chain(native).collect()
}

/// The uplink as it is now; none while its interface is gone.
fn uplink(kernel: &Handle, name: &str, port: &Live) -> host::Result<Option<UplinkFacts>> {
    let Some(link) = kernel.link_by_index(port.ifindex)? else { return Ok(None) };
    let addresses = kernel
        .addresses(Some(port.ifindex))?
        .into_iter()
        .filter(|a| !a.link_local && !a.tentative && !a.dad_failed)
        .map(|a| a.ip)
        .collect();
    Ok(Some(UplinkFacts {
        name: name.to_owned(),
        id: port.id,
        mtu: link.mtu,
        mac: link.mac.unwrap_or_default(),
        addresses,
    }))
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
    Ok(Some(NextHopFacts { ip, mac, mtu: route.mtu }))
}
