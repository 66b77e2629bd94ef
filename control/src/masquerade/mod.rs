//! Masquerading: which packets get the node's address, as nftables of the node's kernel do it
//! (<https://wiki.nftables.org/wiki-nftables/index.php/Performing_Network_Address_Translation_(NAT)>).
//!
//! - What pods that asked for it send to the world gets the address that the node has there.
//! - What the kernel has redirected to a pod (`portmap`'s host ports, kube-proxy's services) and comes
//!   from another pod gets the address of the node's interface into the pod network. The pod's answer
//!   would go straight to the other pod, through the switch, past the kernel that has to put the
//!   redirected address back. Others than pods are answered by way of the kernel, and keep theirs.
//!
//! One table, `inet podswitch`, which is wholly ours: others' tables, such as kube-proxy's, are neither
//! read nor changed. Its sets have prefixes rather than pods where they can, so that a pod more or less
//! mostly changes nothing. Connections keep their translation when the table is replaced, which is
//! one transaction: it is conntrack's.

mod nft;

use std::collections::BTreeSet;
use std::net::IpAddr;

use encap::Prefix;
use podswitch_api::state::{State, Via};

use crate::attachment::Attachments;

/// Destinations that are no other node's and nobody's beyond it: multicast and link-local ones.
const NEVER: [&str; 5] =
    ["224.0.0.0/4", "169.254.0.0/16", "255.255.255.255/32", "ff00::/8", "fe80::/10"];

/// What is masqueraded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// From here: the pods that asked for it.
    sources: BTreeSet<Prefix>,
    /// Unless it goes there: pods, other nodes, and destinations that are not unicast.
    inside: BTreeSet<Prefix>,
    /// From here, when the kernel has redirected it to a pod: pods, of this node and others.
    direct: BTreeSet<Prefix>,
    /// The node's own interface into the pod network. What leaves by it goes to pods, all else to the
    /// world.
    interface: String,
}

impl Rules {
    /// The rules for a state with its attachments.
    pub fn new(state: &State, attachments: &Attachments) -> Rules {
        let (mut asking, mut others) = (Vec::new(), Vec::new());
        for entry in attachments.iter() {
            let list = if entry.request.masquerade { &mut asking } else { &mut others };
            list.extend(entry.ips.iter().map(|ip| ip.address));
        }
        let Some(interface) =
            state.host_interface().filter(|_| attachments.iter().next().is_some())
        else {
            return Rules::default();
        };
        let pods = pods(state);
        let direct = disjoint(pods.iter().copied());
        if asking.is_empty() {
            return Rules { direct, interface, ..Rules::default() };
        }
        let is_attached = |name: &str| attachments.of_port(name).is_some();
        let ports = state.ports.iter().filter(|p| !is_attached(&p.name));
        others.extend(ports.flat_map(|p| p.ip.iter().copied()));
        // A prefix stands for all pods in it, unless one of them did not ask.
        let is_mixed = |prefix: Prefix| others.iter().any(|ip| prefix.contains(ip.addr()));
        let sources = asking
            .iter()
            .map(|ip| if is_mixed(ip.prefix()) { Prefix::host(ip.addr()) } else { ip.prefix() });
        Rules {
            sources: disjoint(sources),
            inside: disjoint(inside(state, pods)),
            direct,
            interface,
        }
    }

    /// Whether nothing is masqueraded.
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty() && self.direct.is_empty()
    }

    /// Whether a pod asked for any of it.
    pub fn was_asked_for(&self) -> bool {
        !self.sources.is_empty()
    }

    /// Whether these rules do for what `wanted` does: they differ only in prefixes of pods that are
    /// gone.
    pub fn serve(&self, wanted: &Rules) -> bool {
        let same = self.interface == wanted.interface && self.direct == wanted.direct;
        let sources = self.inside == wanted.inside && self.sources.is_superset(&wanted.sources);
        same && (sources || !wanted.was_asked_for()) || wanted.is_empty()
    }
}

/// Where pods are: those of this node, and those that routes to other nodes lead to.
fn pods(state: &State) -> Vec<Prefix> {
    let leads_to_nodes = |via: &Via| matches!(via, Via::NextHop(_) | Via::Tunnel(_));
    // A default route leads to the world.
    let routes = state.routes.iter().filter(|r| r.prefix.len() > 0);
    let away = routes.filter(|r| r.via.paths().iter().any(leads_to_nodes)).map(|r| r.prefix);
    state.own_prefixes().into_iter().chain(away).collect()
}

/// The destinations that pods reach under their own addresses: pods, other nodes, and those that are
/// no unicast.
fn inside(state: &State, pods: Vec<Prefix>) -> Vec<Prefix> {
    let mut out = pods;
    out.extend(NEVER.iter().filter_map(|p| p.parse::<Prefix>().ok()));
    for via in state.routes.iter().flat_map(|r| r.via.paths()) {
        if let Via::NextHop(ip) = via {
            out.push(Prefix::host(*ip));
        }
    }
    let remotes: BTreeSet<IpAddr> = state.tunnels.iter().map(|t| t.remote).collect();
    out.extend(remotes.into_iter().map(Prefix::host));
    out
}

/// The prefixes that no other one covers: an interval set of nftables has no overlaps.
fn disjoint(prefixes: impl IntoIterator<Item = Prefix>) -> BTreeSet<Prefix> {
    let all: BTreeSet<Prefix> = prefixes.into_iter().collect();
    let covered = |p: &Prefix| all.iter().any(|o| o != p && o.covers(*p));
    all.iter().filter(|p| !covered(p)).copied().collect()
}

#[cfg(test)]
mod tests;
