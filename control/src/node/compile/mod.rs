//! From the desired state and the facts to the tables: a pure function.

mod policy;
mod routes;

use super::facts::{Facts, UplinkFacts};
use super::ids::Ids;
use super::routes::Routes;
use encap::Mac;
use encap::tunnel::{LIMIT_LEN, OuterHeader};
use hashbrown::{HashMap, HashSet};
use podswitch_api::state::{
    DEFAULT_SEGMENT, Port as PortConfig, Segment as SegmentConfig, State, Tunnel as TunnelConfig,
    TunnelMode,
};
use podswitch_api::{Attachment, Encapsulation as Wanted};
use policy::{buckets, outer_policy, segment_policy, storms};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use switch::tables::{
    Egress, Encapsulation, Guard, HostPort, Neighbor, Neighbors, Offload, PathMtu, Port,
    PortPolicy, Role, Router, Segment, Slots, Storm, Tables, TokenBucket, Tunnel, Underlay,
    UplinkVlan,
};
use switch::waiting::Direction;
use switch::{Location, PortId, SegmentId, TunnelId};

/// Bytes of an Ethernet header with one VLAN tag: a port of MTU 1500 takes tagged frames of 1518.
const LINK_OVERHEAD: u32 = 18;

/// The identifiers that the tables use for names.
#[derive(Debug, Default)]
pub struct TableIds {
    /// Bridge domains.
    pub segments: Ids,
    /// Tunnels.
    pub tunnels: Ids,
    /// What the workers learn of the paths to the peers of tunnels, which outlives the tables.
    pub paths: HashMap<IpAddr, Arc<PathMtu>>,
    /// The neighbours that the router resolved, which outlive the tables too.
    pub neighbors: Arc<Neighbors>,
    /// The routes of the tables before, which share with the next ones all that stays.
    pub(super) routes: Routes,
    /// Token buckets by port, which live on as long as their rate stays.
    storms: BTreeMap<String, Arc<Storm>>,
    buckets: BTreeMap<(String, Direction), Arc<TokenBucket>>,
}

/// The tables of a state in a world. What the world does not give yet (a tunnel whose next hop is
/// not resolved, a port that is down) is in the tables as such, and drops under its name.
pub fn compile(state: &State, facts: &Facts, ids: &mut TableIds) -> Tables {
    for name in segment_names(state) {
        ids.segments.get_or_allocate(name);
    }
    for tunnel in &state.tunnels {
        ids.tunnels.get_or_allocate(&tunnel.name);
        ids.paths.entry(tunnel.remote).or_default();
    }
    let remotes: HashSet<IpAddr> = state.tunnels.iter().map(|t| t.remote).collect();
    ids.paths.retain(|remote, _| remotes.contains(remote));
    ids.storms = storms(state, &ids.storms);
    ids.buckets = buckets(state, &ids.buckets);
    let compiler = Compiler { state, facts, ids };
    let tunnels: Vec<Tunnel> = state.tunnels.iter().filter_map(|t| compiler.tunnel(t)).collect();
    let (routes, mut groups) = compiler.routes(&tunnels);
    let announced = compiler.announced(&tunnels, &mut groups);
    let ports = compiler.ports();
    let tables = Tables {
        offload: ports.iter().map(|port| port.offload).max().unwrap_or_default(),
        shaped: ids.buckets.keys().any(|(_, direction)| *direction == Direction::ToPort),
        ports: slots(ports.into_iter().map(|p| (p.id.index(), p))),
        segments: slots(compiler.segments(&tunnels).into_iter().map(|s| (s.id.index(), s))),
        underlay: Arc::new(compiler.underlay(&tunnels)),
        tunnels: slots(tunnels.into_iter().map(|t| (t.id.index(), t))),
        groups: groups.into(),
        router: compiler.router().map(Arc::new),
        neighbors: (state.routed_segments().iter())
            .any(|s| compiler.resolves(s))
            .then(|| ids.neighbors.clone()),
        vlan: compiler.vlan(),
        ..Tables::default()
    };
    let (fib, next_hops) = ids.routes.update(routes, |via| announced[via]);
    Tables { fib, next_hops, ..tables }.prepare()
}

/// The router's MAC address: derived from the node's first gateway address, so that it survives
/// restarts and differs between nodes. A node without pod CIDRs has one that comes from no segment's
/// gateway, since segments come and go with their pods.
pub fn router_mac(state: &State) -> Mac {
    let first = state.node.as_ref().and_then(|n| n.pod_cidrs.first()?.nth(1));
    Mac::derived_from(first.unwrap_or(host::ROUTER_V4.into()))
}

/// Seconds after which a segment forgets a silent address: its own setting, else the switch's.
pub fn ageing(state: &State, segment: &str) -> u32 {
    let own = state.segments.iter().find(|s| s.name == segment).and_then(|s| s.ageing);
    own.unwrap_or_else(|| state.switch_or_default().ageing)
}

/// A segment as declared; `default` need not be.
pub fn segment(state: &State, name: &str) -> SegmentConfig {
    state.segments.iter().find(|s| s.name == name).cloned().unwrap_or_default()
}

/// Bytes that a tunnel adds to an IP packet.
fn overhead(tunnel: &TunnelConfig) -> u32 {
    let ip = if tunnel.remote.is_ipv4() { 20 } else { 40 };
    match tunnel.encapsulation() {
        // UDP, VXLAN, and the inner Ethernet header.
        Some(Wanted::Vxlan { .. }) => ip + 8 + 8 + 14,
        _ if tunnel.encapsulation_limit.is_some() => ip + LIMIT_LEN as u32,
        _ => ip,
    }
}

/// The largest IP packet that may leave the node for another one: `[node] mtu`, or what the uplink
/// carries less the largest header of a tunnel. VXLAN over IPv4 is assumed at least, so that pods
/// that exist before their first tunnel keep a right MTU.
pub fn path_mtu(state: &State, uplink_mtu: u32) -> u32 {
    let configured = state.node.as_ref().and_then(|n| n.mtu);
    let largest = state.tunnels.iter().map(overhead).max().unwrap_or(0).max(50);
    configured.unwrap_or(uplink_mtu.saturating_sub(largest))
}

/// Whether packets for a tunnel's peer go as they are at present: it is on our own subnet, and the
/// tunnel is for crossing subnets only.
pub fn goes_natively(tunnel: &TunnelConfig, facts: &Facts) -> bool {
    tunnel.mode == TunnelMode::CrossSubnet && facts.is_on_our_subnet(tunnel.remote)
}

/// Every segment: declared, default, or referred to.
fn segment_names(state: &State) -> impl Iterator<Item = &str> {
    let declared = state.segments.iter().map(|s| s.name.as_str());
    std::iter::once(DEFAULT_SEGMENT).chain(declared)
}

fn slots<T>(items: impl IntoIterator<Item = (usize, T)>) -> Slots<T> {
    let mut out = Vec::new();
    for (index, item) in items {
        if out.len() <= index {
            out.resize_with(index + 1, || None);
        }
        out[index] = Some(Arc::new(item));
    }
    out.into_iter().collect()
}

struct Compiler<'a> {
    state: &'a State,
    facts: &'a Facts,
    ids: &'a TableIds,
}

impl Compiler<'_> {
    fn segment_id(&self, name: &str) -> Option<SegmentId> {
        self.ids.segments.get(name).map(SegmentId)
    }

    fn tunnel_id(&self, name: &str) -> Option<TunnelId> {
        self.ids.tunnels.get(name).map(TunnelId)
    }

    fn port_id(&self, name: &str) -> Option<PortId> {
        self.facts.ports.get(name).map(|p| p.id)
    }

    /// Whether the router asks for hosts of a segment that it does not know: where there is more in it
    /// than pods.
    fn resolves(&self, segment: &str) -> bool {
        let bridged = |p: &PortConfig| p.segment == segment && p.dev.is_some();
        let spans = |t: &TunnelConfig| t.segment.as_deref() == Some(segment);
        self.state.ports.iter().any(bridged) || self.state.tunnels.iter().any(spans)
    }

    /// The segment that the node's own interface is in.
    fn host_segment(&self) -> Option<&str> {
        self.state.routed_segments().first().copied()
    }

    fn vlan(&self) -> Option<UplinkVlan> {
        let uplink = self.facts.uplink.as_ref()?;
        Some(UplinkVlan { port: uplink.id, id: uplink.vlan? })
    }

    fn router(&self) -> Option<Router> {
        self.state.is_router().then(|| Router {
            mac: router_mac(self.state),
            addresses: self.state.gateways().iter().map(|a| a.addr()).collect(),
            host: self.facts.host.as_ref().map(|h| HostPort { port: h.id, mac: h.mac }),
            clamp_mss: self.state.node.as_ref().is_some_and(|n| n.clamp_mss),
            icmp_errors: self.state.node.clone().unwrap_or_default().icmp_errors,
        })
    }

    fn ports(&self) -> Vec<Port> {
        let port = |id, name: &str, role, mtu| Port {
            id,
            name: name.to_owned(),
            role,
            max_frame: mtu + LINK_OVERHEAD,
            policy: PortPolicy::default(),
            mtu,
            offload: Offload::None,
        };
        let mut ports = Vec::new();
        for config in &self.state.ports {
            if let Some(facts) = self.facts.ports.get(&config.name)
                && let Some(segment) = self.segment_id(&config.segment)
            {
                let role = Role::Access(segment);
                let policy = self.port_policy(config, facts.mac);
                let offload = facts.offload;
                let port = port(facts.id, &config.name, role, facts.mtu);
                ports.push(Port { policy, offload, ..port });
            }
        }
        if let (Some(name), Some(host)) = (self.state.host_interface(), &self.facts.host)
            && let Some(segment) = self.host_segment().and_then(|s| self.segment_id(s))
        {
            let port = port(host.id, &name, Role::Access(segment), host.mtu);
            ports.push(Port { offload: host.offload, ..port });
        }
        if let Some(uplink) = &self.facts.uplink {
            ports.push(port(uplink.id, &uplink.name, Role::Uplink, uplink.mtu));
        }
        ports
    }

    fn port_policy(&self, config: &PortConfig, mac: Mac) -> PortPolicy {
        let guard = || Guard { mac, addresses: config.ip.iter().map(|a| a.addr()).collect() };
        let limit = |direction| self.ids.buckets.get(&(config.name.clone(), direction)).cloned();
        PortPolicy {
            guard: config.is_guarded().then(guard),
            storm: self.ids.storms.get(&config.name).cloned(),
            fdb_limit: config.fdb_limit,
            to_port: limit(Direction::ToPort),
            from_port: limit(Direction::FromPort),
        }
    }

    /// The IP addresses whose owner is configured: segment, address, owner.
    fn neighbors(&self) -> Vec<(SegmentId, IpAddr, Neighbor)> {
        let mut out = Vec::new();
        for port in &self.state.ports {
            if let (Some(facts), Some(segment)) =
                (self.facts.ports.get(&port.name), self.segment_id(&port.segment))
            {
                let owner = Neighbor { mac: facts.mac, at: Location::Port(facts.id) };
                out.extend(port.ip.iter().map(|a| (segment, a.addr(), owner)));
            }
        }
        for neighbor in &self.state.neighbors {
            let port = neighbor.port.as_deref().and_then(|name| {
                let port = self.state.ports.iter().find(|p| p.name == name)?;
                Some((&port.segment, Location::Port(self.port_id(name)?)))
            });
            let tunnel = neighbor.tunnel.as_deref().and_then(|name| {
                let tunnel = self.state.tunnels.iter().find(|t| t.name == name)?;
                Some((tunnel.segment.as_ref()?, Location::Tunnel(self.tunnel_id(name)?)))
            });
            if let Some((segment, at)) = port.or(tunnel)
                && let Some(segment) = self.segment_id(segment)
            {
                out.push((segment, neighbor.ip, Neighbor { mac: neighbor.mac, at }));
            }
        }
        out
    }

    fn segments(&self, tunnels: &[Tunnel]) -> Vec<Segment> {
        let mut segments: BTreeMap<SegmentId, Segment> = segment_names(self.state)
            .filter_map(|name| {
                let id = self.segment_id(name)?;
                let routed = self.state.is_routed(name);
                let (flood, statics) = (Vec::new(), Default::default());
                let ageing = ageing(self.state, name);
                let name = name.to_owned();
                let (policy, neighbors) = (segment_policy(self.state, &name), Default::default());
                Some((id, Segment { id, name, ageing, flood, statics, routed, policy, neighbors }))
            })
            .collect();
        let mut member = |name: &str, location: Location, mac: Option<Mac>| {
            if let Some(s) = self.segment_id(name).and_then(|id| segments.get_mut(&id)) {
                s.flood.push(location);
                if let Some(mac) = mac {
                    s.statics.insert(mac, location);
                }
            }
        };
        for port in &self.state.ports {
            if let Some(facts) = self.facts.ports.get(&port.name) {
                // A pod's address is known; what is behind a bridged interface is learned.
                let is_pod = matches!(port.attachment(), Some(Attachment::Pod(_)));
                member(&port.segment, Location::Port(facts.id), is_pod.then_some(facts.mac));
            }
        }
        if let (Some(segment), Some(host)) = (self.host_segment(), &self.facts.host) {
            member(segment, Location::Port(host.id), Some(host.mac));
        }
        for tunnel in tunnels {
            if let Encapsulation::Vxlan { segment: Some(id), .. } = tunnel.encapsulation
                && let Some(segment) = segments.get_mut(&id)
            {
                segment.flood.push(Location::Tunnel(tunnel.id));
            }
        }
        for entry in &self.state.fdb {
            let location = match (&entry.port, &entry.tunnel) {
                (Some(port), _) => self.port_id(port).map(Location::Port),
                (None, Some(tunnel)) => self.tunnel_id(tunnel).map(Location::Tunnel),
                (None, None) => None,
            };
            if let (Some(location), Some(id)) = (location, self.segment_id(&entry.segment))
                && let Some(segment) = segments.get_mut(&id)
            {
                segment.statics.insert(entry.mac, location);
            }
        }
        for (id, ip, owner) in self.neighbors() {
            if let Some(segment) = segments.get_mut(&id) {
                segment.neighbors.insert(ip, owner);
                // Who is answered for is found, too; an [[fdb]] entry knows better.
                segment.statics.entry(owner.mac).or_insert(owner.at);
            }
        }
        segments.into_values().collect()
    }

    fn tunnel(&self, config: &TunnelConfig) -> Option<Tunnel> {
        let uplink = self.facts.uplink.as_ref();
        let local = self.local_address(config);
        let encapsulation = match config.encapsulation()? {
            Wanted::Ipip => Encapsulation::Ipip,
            Wanted::Vxlan { vni, segment, local_mac, remote_mac, .. } => Encapsulation::Vxlan {
                vni,
                segment: segment.and_then(|s| self.segment_id(s)),
                local_mac: local_mac.or_else(|| local.map(Mac::derived_from)).unwrap_or(Mac::ZERO),
                remote_mac: remote_mac.unwrap_or_else(|| Mac::derived_from(config.remote)),
            },
        };
        let hop = self.facts.next_hops.get(&config.remote);
        let carries = uplink.map_or(0, |u| u.mtu);
        let carries = hop.and_then(|h| h.mtu).map_or(carries, |m| m.min(carries));
        Some(Tunnel {
            id: self.tunnel_id(&config.name)?,
            name: config.name.clone(),
            remote: config.remote,
            encapsulation,
            mtu: carries.saturating_sub(overhead(config)),
            overhead: overhead(config),
            path: self.ids.paths.get(&config.remote).cloned().unwrap_or_default(),
            outer: outer_policy(config),
            egress: uplink.and_then(|u| self.egress(config, u, local?)),
        })
    }

    /// Our end of a tunnel: as configured, else the uplink's address of the family.
    fn local_address(&self, config: &TunnelConfig) -> Option<IpAddr> {
        config.local.or_else(|| self.facts.address_towards(config.remote))
    }

    fn egress(&self, config: &TunnelConfig, uplink: &UplinkFacts, local: IpAddr) -> Option<Egress> {
        let dst_mac = self.facts.next_hops.get(&config.remote)?.mac?;
        let (src_mac, remote, ttl) = (uplink.mac, config.remote, config.ttl);
        let header = match config.encapsulation()? {
            Wanted::Ipip => {
                let header = OuterHeader::ipip(src_mac, dst_mac, local, remote, ttl);
                match config.encapsulation_limit {
                    None => header,
                    Some(limit) => header.map(|h| h.with_encapsulation_limit(limit)),
                }
            }
            Wanted::Vxlan { vni, port, .. } => {
                OuterHeader::vxlan(src_mac, dst_mac, local, remote, port, vni, ttl)
            }
        };
        // Families differ only in a configuration that was refused.
        Some(Egress { port: uplink.id, header: header.ok()? })
    }

    fn underlay(&self, tunnels: &[Tunnel]) -> Underlay {
        let mut underlay = Underlay::default();
        let uplink = self.facts.uplink.iter().flat_map(|u| &u.addresses);
        uplink.for_each(|&ip| underlay.add_local(ip));
        for (tunnel, config) in tunnels.iter().zip(&self.state.tunnels) {
            config.local.iter().for_each(|&ip| underlay.add_local(ip));
            match config.encapsulation() {
                Some(Wanted::Vxlan { vni, port, .. }) => {
                    underlay.add_vxlan(port, vni, tunnel.remote, tunnel.id);
                }
                _ => {
                    underlay.add_ipip(tunnel.remote, tunnel.id);
                }
            }
        }
        underlay
    }
}

#[cfg(test)]
mod tests;
