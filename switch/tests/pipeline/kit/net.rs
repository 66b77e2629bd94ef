//! Tables, built up in a few lines.

use encap::tunnel::OuterHeader;
use encap::{Mac, Prefix, Vni};
use std::net::IpAddr;
use std::sync::Arc;
use switch::tables::{
    Egress, Encapsulation, Fib, Group, Guard, HostPort, Neighbor, NextHop, Offload, Port,
    PortPolicy, Role, Router, Segment, SegmentPolicy, Tunnel, Underlay,
};
use switch::{Fdb, Location, PortId, SegmentId, Tables, TunnelId};

/// What a port takes unless a test says otherwise: a 65535-byte MTU.
const MAX_FRAME: u32 = 65535 + 14;

/// A pod: where it is and how it is called.
#[derive(Clone, Copy, Debug)]
pub struct Pod {
    pub port: PortId,
    pub mac: Mac,
    pub v4: IpAddr,
    pub v6: IpAddr,
}

/// Tables in the making.
#[derive(Default)]
pub struct Net {
    tables: Tables,
    routes: Vec<(Prefix, u32)>,
    next_hops: Vec<NextHop>,
    groups: Vec<Group>,
}

impl Net {
    pub fn new() -> Net {
        Net::default()
    }

    fn port(&mut self, role: Role) -> PortId {
        let id = PortId(self.tables.ports.len() as u16);
        let (name, policy) = (format!("port{id}"), PortPolicy::default());
        let (max_frame, mtu) = (MAX_FRAME, MAX_FRAME - 14);
        let port = Port { id, name, role, max_frame, mtu, offload: Offload::None, policy };
        self.tables.ports.push(Some(Arc::new(port)));
        id
    }

    fn port_mut(&mut self, port: PortId) -> &mut Port {
        Arc::make_mut(self.tables.ports[port.index()].as_mut().unwrap())
    }

    /// Has the router clamp the maximum segment size of TCP.
    pub fn clamp_mss(&mut self) {
        Arc::make_mut(self.tables.router.as_mut().unwrap()).clamp_mss = true;
    }

    /// The largest frame that a port sends.
    pub fn max_frame(&mut self, port: PortId, bytes: u32) {
        let port = self.port_mut(port);
        (port.max_frame, port.mtu) = (bytes, bytes - 14);
    }

    /// Lets a port take superpackets.
    pub fn offload(&mut self, port: PortId) {
        self.port_mut(port).offload = Offload::Full;
    }

    /// Lets a port take merged TCP segments, at times.
    pub fn coalesce(&mut self, port: PortId) {
        self.port_mut(port).offload = Offload::Coalesce;
    }

    /// What a port may send into the switch.
    pub fn port_policy(&mut self, port: PortId) -> &mut PortPolicy {
        &mut self.port_mut(port).policy
    }

    /// What a segment floods and learns.
    pub fn policy(&mut self, segment: SegmentId) -> &mut SegmentPolicy {
        &mut self.segment_mut(segment).policy
    }

    /// The owner of an IP address.
    pub fn neighbor(&mut self, segment: SegmentId, ip: IpAddr, mac: Mac, at: Location) {
        self.segment_mut(segment).neighbors.insert(ip, Neighbor { mac, at });
    }

    /// A pod as the control plane makes it: guarded, its MAC address fixed, its IP addresses known.
    pub fn guarded(&mut self, segment: SegmentId, mac: Mac, addresses: &[&str]) -> PortId {
        let port = self.access(segment);
        let addresses: Vec<IpAddr> = addresses.iter().map(|ip| ip.parse().unwrap()).collect();
        for &ip in &addresses {
            self.to(Prefix::host(ip), NextHop::Local { port, mac });
            self.neighbor(segment, ip, mac, Location::Port(port));
        }
        self.fixed(segment, mac, Location::Port(port));
        self.port_policy(port).guard = Some(Guard { mac, addresses });
        port
    }

    pub fn segment(&mut self, routed: bool) -> SegmentId {
        let id = SegmentId(self.tables.segments.len() as u16);
        let segment = Segment {
            id,
            name: format!("segment{id}"),
            ageing: Fdb::DEFAULT_AGEING,
            flood: Vec::new(),
            statics: Default::default(),
            routed,
            policy: SegmentPolicy::default(),
            neighbors: Default::default(),
        };
        self.tables.segments.push(Some(Arc::new(segment)));
        id
    }

    fn segment_mut(&mut self, id: SegmentId) -> &mut Segment {
        Arc::make_mut(self.tables.segments[id.index()].as_mut().unwrap())
    }

    /// A port that is a member of a segment.
    pub fn access(&mut self, segment: SegmentId) -> PortId {
        let id = self.port(Role::Access(segment));
        self.segment_mut(segment).flood.push(Location::Port(id));
        id
    }

    /// A configured MAC address.
    pub fn fixed(&mut self, segment: SegmentId, mac: Mac, location: Location) {
        self.segment_mut(segment).statics.insert(mac, location);
    }

    /// A pod on a port of its own, routed to.
    pub fn pod(&mut self, segment: SegmentId, mac: Mac, v4: &str, v6: &str) -> Pod {
        let port = self.access(segment);
        let (v4, v6): (IpAddr, IpAddr) = (v4.parse().unwrap(), v6.parse().unwrap());
        for ip in [v4, v6] {
            self.to(Prefix::host(ip), NextHop::Local { port, mac });
        }
        Pod { port, mac, v4, v6 }
    }

    pub fn uplink(&mut self, local: &[&str]) -> PortId {
        let id = self.port(Role::Uplink);
        let underlay = Arc::make_mut(&mut self.tables.underlay);
        local.iter().for_each(|ip| underlay.add_local(ip.parse().unwrap()));
        id
    }

    /// The node's router, and the routes to its own addresses.
    pub fn router(&mut self, mac: Mac, addresses: &[&str]) {
        let addresses: Vec<IpAddr> = addresses.iter().map(|ip| ip.parse().unwrap()).collect();
        for &ip in &addresses {
            self.to(Prefix::host(ip), NextHop::Router);
        }
        self.tables.router = Some(Arc::new(Router {
            mac,
            addresses,
            host: None,
            clamp_mss: false,
            icmp_errors: 1000,
        }));
    }

    /// The port to the node itself, in `segment`.
    pub fn host(&mut self, segment: SegmentId, mac: Mac) -> PortId {
        let port = self.access(segment);
        let router = Arc::make_mut(self.tables.router.as_mut().expect("a router first"));
        router.host = Some(HostPort { port, mac });
        port
    }

    fn to(&mut self, prefix: Prefix, next_hop: NextHop) {
        self.routes.push((prefix, self.next_hops.len() as u32));
        self.next_hops.push(next_hop);
    }

    /// Routes to 11.0.0.1, 11.0.1.1 and so on, by the next hops that there are in turn: so many that workers look
    /// ahead in their table.
    pub fn many_routes(&mut self) {
        let hops = 0..self.next_hops.len() as u32;
        let address = |i: u32| Prefix::host(IpAddr::V4((0x0b00_0001 | i << 8).into()));
        self.routes.extend((0..11_000).map(address).zip(hops.cycle()));
    }

    pub fn route(&mut self, prefix: &str, next_hop: NextHop) {
        self.to(prefix.parse().unwrap(), next_hop);
    }

    /// Next hops of equal cost.
    pub fn group(&mut self, members: &[NextHop]) -> NextHop {
        let members: Vec<_> = (1..).zip(members.iter().copied()).collect();
        self.groups.push(Group::new(&members));
        NextHop::Group(self.groups.len() as u32 - 1)
    }

    fn tunnel(
        &mut self,
        remote: &str,
        encapsulation: Encapsulation,
        egress: Option<(PortId, OuterHeader)>,
        mtu: u32,
    ) -> TunnelId {
        let id = TunnelId(self.tables.tunnels.len() as u16);
        let remote: IpAddr = remote.parse().unwrap();
        let overhead = match (&encapsulation, remote.is_ipv4()) {
            (Encapsulation::Vxlan { .. }, true) => 50,
            (Encapsulation::Vxlan { .. }, false) => 70,
            (Encapsulation::Ipip, true) => 20,
            (Encapsulation::Ipip, false) => 40,
        };
        self.tables.tunnels.push(Some(Arc::new(Tunnel {
            id,
            name: format!("tunnel{id}"),
            remote,
            encapsulation,
            mtu,
            overhead,
            path: Default::default(),
            outer: Default::default(),
            egress: egress.map(|(port, header)| Egress { port, header }),
        })));
        id
    }

    /// A VXLAN tunnel. `segment` is the one that it carries, if any; without `egress` its peer is
    /// unresolved.
    #[allow(clippy::too_many_arguments)]
    pub fn vxlan(
        &mut self,
        vni: u32,
        port: u16,
        remote: &str,
        segment: Option<SegmentId>,
        (local_mac, remote_mac): (Mac, Mac),
        egress: Option<(PortId, OuterHeader)>,
        mtu: u32,
    ) -> TunnelId {
        let vni = Vni::new(vni).unwrap();
        let id = self.tunnel(
            remote,
            Encapsulation::Vxlan { vni, segment, local_mac, remote_mac },
            egress,
            mtu,
        );
        if let Some(segment) = segment {
            self.segment_mut(segment).flood.push(Location::Tunnel(id));
        }
        self.underlay().add_vxlan(port, vni, remote.parse().unwrap(), id);
        id
    }

    pub fn ipip(
        &mut self,
        remote: &str,
        egress: Option<(PortId, OuterHeader)>,
        mtu: u32,
    ) -> TunnelId {
        let id = self.tunnel(remote, Encapsulation::Ipip, egress, mtu);
        self.underlay().add_ipip(remote.parse().unwrap(), id);
        id
    }

    fn underlay(&mut self) -> &mut Underlay {
        Arc::make_mut(&mut self.tables.underlay)
    }

    pub fn build(self) -> Tables {
        let ports = || self.tables.ports.iter().flatten();
        Tables {
            fib: Fib::build(&self.routes),
            next_hops: self.next_hops.into(),
            groups: self.groups.into(),
            shaped: ports().any(|p| p.policy.to_port.is_some()),
            offload: ports().map(|p| p.offload).max().unwrap_or_default(),
            ..self.tables
        }
        .prepare()
    }
}
