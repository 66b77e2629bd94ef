//! What the node tells about itself.

mod counters;
mod learned;

use learned::static_neighbor;

use super::compile::{ageing, goes_natively, segment};
use super::ports::{Live, Wanted, gateways};
use super::{EMPTY, Node};
use encap::{Mac, Prefix};
use fastpath::{AttachMode, Attached};
use podswitch_api::state::{DEFAULT_SEGMENT, Port, PortLimits, Route, Segment, Tunnel};
use podswitch_api::view::{
    API_VERSION, Oper, Origin, PortInfo, PortRole, RouteInfo, SegmentInfo, Status, TunnelInfo,
    UplinkInfo, WorkerInfo,
};
use podswitch_api::{Attachment, Code, Encapsulation, Error, InterfaceAddr, Request, Response};
use switch::{SegmentId, TunnelId};

/// What an operator should know of how a port is attached.
pub fn warnings(name: &str, attached: &Attached) -> Vec<String> {
    let mut out = Vec::new();
    if attached.mode == AttachMode::Generic {
        out.push(format!(
            "{name}: the driver cannot run XDP programs, generic mode is slow; \
             use a driver with native XDP"
        ));
    }
    if !attached.frags {
        out.push(format!("{name}: frames larger than 3840 bytes do not pass: no XDP multi-buffer"));
    }
    out
}

impl Node {
    /// Answers a request whose change, if it makes one, is in effect.
    pub(super) fn report(&self, request: Request) -> Result<Response, Error> {
        Ok(match request {
            Request::StatusGet(_) => Response::StatusGet(self.status()),
            Request::CountersGet(_) => Response::CountersGet(self.counters()),
            Request::ConfigGet(_) => Response::ConfigGet(self.desired.clone()),
            Request::PortAdd(p) => Response::PortAdd(found(self.port_info(&p.name))?),
            Request::PortList(_) => Response::PortList(self.port_infos()),
            Request::SegmentAdd(s) => Response::SegmentAdd(self.segment_info(&s.name)),
            Request::SegmentList(_) => Response::SegmentList(self.segment_infos()),
            Request::TunnelAdd(t) => Response::TunnelAdd(self.tunnel_info(&t)),
            Request::TunnelList(_) => Response::TunnelList(
                self.effective.tunnels.iter().map(|t| self.tunnel_info(t)).collect(),
            ),
            Request::RouteAdd(r) => Response::RouteAdd(self.route_info(&r)),
            Request::RouteList(_) => Response::RouteList(self.route_infos()),
            Request::NeighborAdd(n) => Response::NeighborAdd(static_neighbor(&n)),
            Request::NeighborList(_) => Response::NeighborList(self.neighbor_infos()),
            Request::FdbAdd(e) => {
                let entries = self.static_fdb();
                Response::FdbAdd(found(
                    entries.into_iter().find(|f| f.mac == e.mac && f.segment == e.segment),
                )?)
            }
            Request::FdbList(filter) => Response::FdbList(self.fdb_infos(&filter)?),
            Request::PortDel(_) => Response::PortDel(EMPTY),
            Request::SegmentDel(_) => Response::SegmentDel(EMPTY),
            Request::TunnelDel(_) => Response::TunnelDel(EMPTY),
            Request::RouteDel(_) => Response::RouteDel(EMPTY),
            Request::NeighborDel(_) => Response::NeighborDel(EMPTY),
            Request::FdbDel(_) => Response::FdbDel(EMPTY),
            Request::ConfigApply(_)
            | Request::FdbFlush(_)
            | Request::NeighborFlush(_)
            | Request::RouteUpdate(_)
            | Request::AttachmentAdd(_)
            | Request::AttachmentConfigure(_)
            | Request::AttachmentDel(_)
            | Request::AttachmentCheck(_)
            | Request::AttachmentGc(_)
            | Request::AttachmentList(_)
            | Request::AttachmentStatus(_) => {
                return Err(Error::new(Code::Internal, "the request was not carried out"));
            }
        })
    }

    fn status(&self) -> Status {
        let counters = self.engine.counters();
        let settings = self.effective.switch_or_default();
        let workers = counters.buffers.iter().zip(0u16..).map(|(&(frames, free), id)| WorkerInfo {
            id,
            cpu: settings.cpus.get(usize::from(id)).copied(),
            frames,
            frames_free: free,
            generation: self.generation,
        });
        let attached = self
            .live
            .iter()
            .filter_map(|(name, l)| l.attached.as_ref().map(|a| (name, a)))
            .flat_map(|(name, a)| warnings(name, a));
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            api: API_VERSION,
            pid: std::process::id(),
            uptime: self.started.elapsed().as_secs(),
            node: self.effective.node.as_ref().and_then(|n| n.name.clone()),
            uplink: self.uplink_info(),
            workers: workers.collect(),
            generation: self.generation,
            ports: self.live.len(),
            routes: self.route_infos().len(),
            tunnels: self.effective.tunnels.len(),
            fdb: self.fdb.entries(self.engine.now().seconds()).len() + self.static_fdb().len(),
            warnings: self.warnings.values().cloned().chain(attached).collect(),
        }
    }

    fn uplink_info(&self) -> Option<UplinkInfo> {
        let uplink = self.facts.uplink.as_ref()?;
        let attached = self.live.get(&uplink.name)?.attached.as_ref()?;
        Some(UplinkInfo {
            dev: uplink.name.clone(),
            mode: attached.mode.name().to_owned(),
            queues: attached.queues.clone(),
            addresses: uplink.addresses.clone(),
            mtu: uplink.mtu,
        })
    }

    fn port_infos(&self) -> Vec<PortInfo> {
        self.live.keys().filter_map(|name| self.port_info(name)).collect()
    }

    fn port_info(&self, name: &str) -> Option<PortInfo> {
        let live = self.live.get(name)?;
        let mut info = PortInfo {
            name: name.to_owned(),
            role: PortRole::Device,
            segment: None,
            dev: live.node_end().map(|(dev, _)| dev.to_owned()),
            ifindex: live.node_end().map(|(_, ifindex)| ifindex),
            state: if live.attached.is_some() { Oper::Up } else { Oper::Down },
            mode: live.attached.as_ref().map_or("", |a| a.mode.name()).to_owned(),
            queues: live.attached.as_ref().map_or(0, |a| a.queues.len() as u32),
            mtu: live.mtu,
            mac: live.mac,
            kind: None,
            netns: None,
            ifname: None,
            ip: Vec::new(),
            gateways: Vec::new(),
            anti_spoof: None,
            fdb: self.fdb.count_at(live.id),
            limits: PortLimits::default(),
        };
        // What is only in the tables is not part of what the interface was made from.
        if let Some(port) = self.effective.ports.iter().find(|p| p.name == name) {
            let is_pod = matches!(port.attachment(), Some(Attachment::Pod(_)));
            info.anti_spoof = is_pod.then(|| port.is_guarded());
            info.limits = port.limits();
        }
        match &live.wanted {
            Wanted::Uplink(_) => info.role = PortRole::Uplink,
            Wanted::Host { .. } => {
                info.role = PortRole::Host;
                info.segment = self.host_segment();
                info.ip = self.effective.gateways();
            }
            Wanted::Port(port) | Wanted::Attached(port, _) => {
                info.segment = Some(port.segment.clone());
                if let Some(Attachment::Pod(pod)) = port.attachment() {
                    info.role = PortRole::Pod;
                    info.kind = Some(pod.kind);
                    info.netns = Some(pod.netns.to_owned());
                    info.ifname = Some(pod.ifname.to_owned());
                    info.ip = pod.ip.to_vec();
                    info.gateways = gateways(&self.effective, port);
                }
            }
        }
        Some(info)
    }

    /// The segment that the node's own interface is in.
    fn host_segment(&self) -> Option<String> {
        self.effective.routed_segments().first().map(|s| (*s).to_owned())
    }

    fn segment_infos(&self) -> Vec<SegmentInfo> {
        let declared = self.effective.segments.iter().map(|s: &Segment| s.name.as_str());
        let implied = (!self.effective.segments.iter().any(|s| s.name == DEFAULT_SEGMENT))
            .then_some(DEFAULT_SEGMENT);
        implied.into_iter().chain(declared).map(|name| self.segment_info(name)).collect()
    }

    fn segment_info(&self, name: &str) -> SegmentInfo {
        let in_segment = |live: &Live| match &live.wanted {
            Wanted::Port(p) | Wanted::Attached(p, _) => p.segment == name,
            Wanted::Host { .. } => self.host_segment().as_deref() == Some(name),
            Wanted::Uplink(_) => false,
        };
        let tunnels = self.effective.tunnels.iter();
        let declared = segment(&self.effective, name);
        let id = self.table_ids.segments.get(name);
        SegmentInfo {
            name: name.to_owned(),
            ageing: ageing(&self.effective, name),
            fdb: id.map_or(0, |id| self.fdb.count_in(SegmentId(id))),
            fdb_limit: declared.fdb_limit,
            unknown_unicast: declared.unknown_unicast,
            suppress: declared.suppress,
            gateway: self.effective.gateways_in(name),
            ports: self
                .live
                .iter()
                .filter(|(_, l)| in_segment(l))
                .map(|(n, _)| n.clone())
                .collect(),
            tunnels: tunnels
                .filter(|t| t.segment.as_deref() == Some(name))
                .map(|t| t.name.clone())
                .collect(),
        }
    }

    fn tunnel_info(&self, config: &Tunnel) -> TunnelInfo {
        let local = config.local.or_else(|| self.facts.address_towards(config.remote));
        let hop = self.facts.next_hops.get(&config.remote);
        let id = self.table_ids.tunnels.get(&config.name);
        let compiled = id.and_then(|id| self.tables.tunnel(TunnelId(id)));
        let up = compiled.is_some_and(|t| t.egress.is_some());
        let mut info = TunnelInfo {
            name: config.name.clone(),
            kind: config.kind,
            local,
            remote: config.remote,
            vni: None,
            port: None,
            segment: None,
            local_mac: None,
            remote_mac: None,
            next_hop: hop.map(|h| h.ip),
            next_hop_mac: hop.and_then(|h| h.mac),
            mtu: compiled.map_or(0, |t| t.mtu),
            native: goes_natively(config, &self.facts),
            state: if up { Oper::Up } else { Oper::Down },
        };
        if let Some(Encapsulation::Vxlan { vni, port, segment, local_mac, remote_mac }) =
            config.encapsulation()
        {
            info.vni = Some(vni);
            info.port = Some(port);
            info.segment = segment.map(str::to_owned);
            info.local_mac = local_mac.or_else(|| local.map(Mac::derived_from));
            info.remote_mac = remote_mac.or_else(|| Some(Mac::derived_from(config.remote)));
        }
        info
    }

    /// The routes that were configured, and those that follow from the node's pods and addresses.
    fn route_infos(&self) -> Vec<RouteInfo> {
        let local = |prefix, port: Option<&str>, via| RouteInfo {
            prefix,
            via,
            port: port.map(str::to_owned),
            origin: Origin::Local,
            state: Oper::Up,
        };
        let mut out: Vec<RouteInfo> =
            self.effective.routes.iter().map(|r| self.route_info(r)).collect();
        let announced = self.table_ids.routes.announced().map(|(prefix, via)| {
            let route = Route { prefix, via: via.clone() };
            RouteInfo { origin: Origin::Announced, ..self.route_info(&route) }
        });
        out.extend(announced);
        if let Some(node) = &self.effective.node {
            let host = self.facts.host.as_ref().map(|_| node.host_interface.as_str());
            let gateways = node.gateways().map(|g| local(Prefix::host(g.addr()), host, None));
            out.extend(gateways);
        }
        let routed =
            |p: &&Port| self.effective.node.as_ref().is_some_and(|n| n.segment == p.segment);
        for port in self.effective.ports.iter().filter(routed) {
            let up = self.live.get(&port.name).is_some_and(|l| l.attached.is_some());
            let state = if up { Oper::Up } else { Oper::Down };
            out.extend(port.ip.iter().map(|a: &InterfaceAddr| RouteInfo {
                state,
                ..local(Prefix::host(a.addr()), Some(&port.name), None)
            }));
        }
        out.sort_by_key(|r| r.prefix);
        out
    }

    fn route_info(&self, route: &Route) -> RouteInfo {
        use switch::tables::NextHop;
        let up = match self.tables.route(route.prefix.addr()) {
            Some(NextHop::Tunnel(id)) => {
                self.tables.tunnel(*id).is_some_and(|t| t.egress.is_some())
            }
            Some(NextHop::Direct { dst, .. }) => dst.is_some(),
            Some(NextHop::Group(_)) => true,
            Some(NextHop::Host) => self.facts.host.is_some(),
            Some(_) => true,
            None => false,
        };
        RouteInfo {
            prefix: route.prefix,
            via: Some(route.via.clone()),
            port: None,
            origin: Origin::Static,
            state: if up { Oper::Up } else { Oper::Down },
        }
    }
}

fn found<T>(info: Option<T>) -> Result<T, Error> {
    info.ok_or_else(|| Error::new(Code::Internal, "what was added is not there"))
}
