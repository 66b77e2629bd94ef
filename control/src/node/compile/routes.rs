//! Where packets go: the routes of a state in a world.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use encap::Prefix;
use hashbrown::HashMap;
use podswitch_api::Attachment;
use podswitch_api::state::Via;
use switch::tables::{Group, NextHop, Tunnel};

use super::{Compiler, goes_natively};
use crate::names::stable_hash;

impl Compiler<'_> {
    /// The routes, of which later ones win over earlier ones of the same prefix, and the groups of next
    /// hops that they lead to.
    pub(super) fn routes(&self, tunnels: &[Tunnel]) -> (Vec<(Prefix, NextHop)>, Vec<Group>) {
        let mut groups: Vec<Group> = Vec::new();
        let mut routes: Vec<(Prefix, NextHop)> = Vec::new();
        // Without a router, packets would leave in the name of nobody.
        if !self.state.is_router() {
            return (routes, groups);
        }
        if self.facts.host.is_some() {
            // What no route of ours matches is for the node's kernel to decide.
            for any in [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)] {
                // Unless a routing protocol knows better.
                let default = Prefix::new(any, 0).ok();
                let default = default.filter(|p| self.ids.routes.announced_via(*p).is_none());
                routes.extend(default.map(|p| (p, NextHop::Host)));
            }
        }
        routes.extend(self.own_prefixes());
        for route in &self.state.routes {
            let hop = self.hop(&route.via, tunnels, &mut groups);
            routes.extend(hop.map(|hop| (route.prefix, hop)));
        }
        for neighbor in &self.state.neighbors {
            if let Some(name) = &neighbor.port
                && self
                    .state
                    .ports
                    .iter()
                    .any(|p| p.name == *name && self.state.is_routed(&p.segment))
                && let Some(port) = self.port_id(name)
            {
                let hop = NextHop::Local { port, mac: neighbor.mac };
                routes.push((Prefix::host(neighbor.ip), hop));
            }
        }
        for port in self.state.ports.iter().filter(|p| self.state.is_routed(&p.segment)) {
            if let (Some(Attachment::Pod(pod)), Some(facts)) =
                (port.attachment(), self.facts.ports.get(&port.name))
            {
                let hop = NextHop::Local { port: facts.id, mac: facts.mac };
                routes.extend(pod.ip.iter().map(|a| (Prefix::host(a.addr()), hop)));
            }
        }
        let gateways = self.state.gateways();
        routes.extend(gateways.iter().map(|a| (Prefix::host(a.addr()), NextHop::Router)));
        (routes, groups)
    }

    /// Where announced routes lead. Those whose tunnel is gone lead nowhere, until it is back or they are
    /// withdrawn.
    pub(super) fn announced(
        &self,
        tunnels: &[Tunnel],
        groups: &mut Vec<Group>,
    ) -> HashMap<Via, NextHop> {
        let is_router = self.state.is_router();
        let mut vias: Vec<&Via> = self.ids.routes.vias().collect();
        vias.sort_unstable();
        vias.into_iter()
            .map(|via| {
                let hop = if is_router { self.hop(via, tunnels, groups) } else { None };
                (via.clone(), hop.unwrap_or(NextHop::Unreachable))
            })
            .collect()
    }

    fn hop(&self, via: &Via, tunnels: &[Tunnel], groups: &mut Vec<Group>) -> Option<NextHop> {
        match via {
            Via::Multipath(paths) => self.multipath(paths, tunnels, groups),
            one => self.next_hop(one),
        }
    }

    /// Where addresses of our own go that no pod has: somebody behind a bridged port may have one, else
    /// nobody. The kernel would only send it back. Of segments that share a prefix, the first where
    /// there may be somebody is asked.
    fn own_prefixes(&self) -> BTreeMap<Prefix, NextHop> {
        let mut out = BTreeMap::new();
        for name in self.state.routed_segments() {
            let asked = self.segment_id(name).filter(|_| self.resolves(name));
            let hop = asked.map_or(NextHop::Unreachable, NextHop::Connected);
            for prefix in self.state.prefixes_in(name) {
                let known = out.entry(prefix).or_insert(hop);
                if *known == NextHop::Unreachable {
                    *known = hop;
                }
            }
        }
        out
    }

    /// The next hop of a multipath route: the group of those of its ways that can be used, or the
    /// only one, or, when there is none, the first, to be dropped under the right name.
    fn multipath(
        &self,
        paths: &[Via],
        tunnels: &[Tunnel],
        groups: &mut Vec<Group>,
    ) -> Option<NextHop> {
        let hops: Vec<(u64, NextHop)> = paths
            .iter()
            .filter_map(|p| Some((stable_hash(p.to_string().as_bytes()), self.next_hop(p)?)))
            .collect();
        let is_usable = |hop: &NextHop| match *hop {
            NextHop::Tunnel(id) => tunnels.iter().any(|t| t.id == id && t.egress.is_some()),
            NextHop::Direct { dst, .. } => dst.is_some(),
            _ => true,
        };
        let usable: Vec<_> = hops.iter().copied().filter(|(_, hop)| is_usable(hop)).collect();
        match &usable[..] {
            [] => hops.first().map(|&(_, hop)| hop),
            [(_, only)] => Some(*only),
            _ => {
                let group = Group::new(&usable);
                let known = groups.iter().position(|g| *g == group);
                let index = known.unwrap_or_else(|| {
                    groups.push(group);
                    groups.len() - 1
                });
                Some(NextHop::Group(index as u32))
            }
        }
    }

    fn next_hop(&self, via: &Via) -> Option<NextHop> {
        Some(match via {
            Via::Host => NextHop::Host,
            Via::Blackhole => NextHop::Blackhole,
            Via::Unreachable => NextHop::Unreachable,
            Via::Prohibited => NextHop::Prohibited,
            Via::Multipath(paths) => self.next_hop(paths.first()?)?,
            Via::Tunnel(name) => {
                let config = self.state.tunnels.iter().find(|t| t.name == *name)?;
                if goes_natively(config, self.facts) {
                    self.direct(config.remote)?
                } else {
                    NextHop::Tunnel(self.tunnel_id(name)?)
                }
            }
            Via::NextHop(ip) => self.direct(*ip)?,
        })
    }

    /// Unencapsulated to a node or router of the underlay. Its address may be of the other family
    /// than the packets': what matters is its MAC address.
    fn direct(&self, ip: IpAddr) -> Option<NextHop> {
        let uplink = self.facts.uplink.as_ref()?;
        let dst = self.facts.next_hops.get(&ip).and_then(|h| h.mac);
        Some(NextHop::Direct { port: uplink.id, src: uplink.mac, dst })
    }
}
