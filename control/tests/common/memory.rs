//! A backend without a data plane: it edits the state as the real one does, and tells of
//! interfaces, counters and learned addresses that it makes up.

use std::collections::BTreeMap;
use std::net::IpAddr;

use encap::{Mac, Prefix};
use podswitch::Backend;
use podswitch_api::attachment::{
    self, AttachmentAdd, AttachmentConfigure, AttachmentId, AttachmentIp, Checked, Problem,
    Readiness, Removed, Unready,
};
use podswitch_api::method::{Applied, Empty, RouteUpdated};
use podswitch_api::state::{
    self, Attachment, DEFAULT_SEGMENT, PodKind, State, TunnelKind, VXLAN_PORT,
};
use podswitch_api::view::{
    API_VERSION, Counters, FdbInfo, Flushed, NeighborInfo, Oper, Origin, PortCounters, PortInfo,
    PortRole, RouteInfo, SegmentInfo, Status, TunnelInfo, UplinkInfo, WorkerInfo,
};
use podswitch_api::{Code, Error, InterfaceAddr, Request, Response};

/// The underlay address that the switch claims to have.
const UNDERLAY: &str = "192.0.2.1";

/// The switch.
pub struct Memory {
    pub state: State,
    pub learned: Vec<FdbInfo>,
    attachments: Vec<attachment::Attachment>,
    generation: u64,
}

impl Memory {
    pub fn new(state: State) -> Memory {
        let learned = FdbInfo {
            mac: Mac([2, 0, 0, 0, 0, 0x2a]),
            segment: DEFAULT_SEGMENT.to_owned(),
            port: Some("eth1".to_owned()),
            tunnel: None,
            origin: Origin::Learned,
            age: Some(12),
        };
        Memory { state, learned: vec![learned], attachments: Vec::new(), generation: 1 }
    }

    fn fdb(&self) -> impl Iterator<Item = FdbInfo> {
        self.learned.iter().cloned().chain(self.state.fdb.iter().map(entry))
    }

    /// Plugs a pod in, with the first address of the first pod CIDR.
    fn attach(&mut self, add: AttachmentAdd) -> Response {
        let node = self.state.node.clone().unwrap_or_default();
        let (id, cidr) = (add.id(), node.pod_cidrs[0]);
        let address = InterfaceAddr::new(cidr.nth(2).unwrap(), cidr.len()).unwrap();
        let gateway = cidr.nth(1);
        let attached = attachment::Attachment {
            port: format!("{}/{}/{}", id.network, id.container_id, id.ifname),
            network: id.network,
            container_id: id.container_id,
            ifname: id.ifname,
            netns: add.netns,
            segment: add.segment.unwrap_or(node.segment),
            kind: PodKind::Veth,
            dev: Some("psw3a1f5e0c2b7".to_owned()),
            dev_mac: Some(Mac([0x0e, 0x3a, 0x1f, 0x5e, 0x0c, 0x2b])),
            mac: Mac::derived_from(address.addr()),
            mtu: add.mtu.unwrap_or(65535),
            ips: vec![AttachmentIp { address, gateway }],
            routes: add.routes,
        };
        self.attachments.push(attached.clone());
        Response::AttachmentAdd(attached)
    }

    fn configure(&mut self, c: AttachmentConfigure) -> Response {
        let known = self.attachments.iter_mut().find(|a| a.id() == c.id()).unwrap();
        (known.ips, known.routes) = (c.ips, c.routes);
        Response::AttachmentConfigure(known.clone())
    }

    fn detach(&mut self, stale: impl Fn(&AttachmentId) -> bool) -> Removed {
        let removed = self.attachments.extract_if(.., |a| stale(&a.id()));
        Removed { removed: removed.map(|a| a.id()).collect() }
    }

    fn report(&self, request: Request) -> Response {
        let s = &self.state;
        match request {
            Request::StatusGet(_) => Response::StatusGet(self.status()),
            Request::CountersGet(_) => Response::CountersGet(counters(s)),
            Request::ConfigGet(_) => Response::ConfigGet(s.clone()),
            Request::PortList(_) => {
                Response::PortList(s.ports.iter().map(|p| port(s, p)).collect())
            }
            Request::PortAdd(p) => Response::PortAdd(port(s, &p)),
            Request::SegmentList(_) => {
                let declared = s.segments.iter().map(|x| x.name.as_str());
                let default = (!s.segments.iter().any(|x| x.name == DEFAULT_SEGMENT))
                    .then_some(DEFAULT_SEGMENT);
                let names = default.into_iter().chain(declared);
                Response::SegmentList(names.map(|n| segment(s, n)).collect())
            }
            Request::SegmentAdd(x) => Response::SegmentAdd(segment(s, &x.name)),
            Request::TunnelList(_) => Response::TunnelList(s.tunnels.iter().map(tunnel).collect()),
            Request::TunnelAdd(t) => Response::TunnelAdd(tunnel(&t)),
            Request::RouteList(_) => Response::RouteList(routes(s)),
            Request::RouteAdd(r) => Response::RouteAdd(route(&r)),
            Request::RouteUpdate(u) => Response::RouteUpdate(RouteUpdated {
                added: u.add.len(),
                removed: u.del.len(),
                announced: u.add.len(),
                ..RouteUpdated::default()
            }),
            Request::NeighborList(_) => {
                Response::NeighborList(s.neighbors.iter().map(neighbor).collect())
            }
            Request::NeighborAdd(n) => Response::NeighborAdd(neighbor(&n)),
            Request::FdbList(f) => Response::FdbList(
                self.fdb()
                    .filter(|e| f.segment.as_ref().is_none_or(|s| *s == e.segment))
                    .filter(|e| f.port.is_none() || f.port == e.port)
                    .filter(|e| f.tunnel.is_none() || f.tunnel == e.tunnel)
                    .collect(),
            ),
            Request::FdbAdd(e) => Response::FdbAdd(entry(&e)),
            Request::PortDel(_) => Response::PortDel(Empty {}),
            Request::SegmentDel(_) => Response::SegmentDel(Empty {}),
            Request::TunnelDel(_) => Response::TunnelDel(Empty {}),
            Request::RouteDel(_) => Response::RouteDel(Empty {}),
            Request::NeighborDel(_) => Response::NeighborDel(Empty {}),
            Request::FdbDel(_) => Response::FdbDel(Empty {}),
            Request::AttachmentList(_) => Response::AttachmentList(self.attachments.clone()),
            Request::AttachmentCheck(c) => {
                let known = self.attachments.iter().any(|a| a.id() == c.id());
                let unknown = (!known).then(|| format!("there is no attachment {}", c.id()));
                let differences = unknown.into_iter().collect();
                Response::AttachmentCheck(Checked { differences })
            }
            Request::AttachmentStatus(_) => Response::AttachmentStatus(Readiness {
                problems: vec![Problem {
                    kind: Unready::UplinkDown,
                    message: "the uplink uplink0 is gone: pods do not reach other nodes".to_owned(),
                }],
            }),
            Request::ConfigApply(_)
            | Request::FdbFlush(_)
            | Request::NeighborFlush(_)
            | Request::AttachmentAdd(_)
            | Request::AttachmentConfigure(_)
            | Request::AttachmentDel(_)
            | Request::AttachmentGc(_) => {
                unreachable!("answered before")
            }
        }
    }

    fn status(&self) -> Status {
        let s = &self.state;
        Status {
            version: "0.1.0".to_owned(),
            api: API_VERSION,
            pid: 4711,
            uptime: 42,
            node: s.node.as_ref().and_then(|n| n.name.clone()),
            uplink: s.uplink.as_ref().map(|u| UplinkInfo {
                dev: u.dev.clone(),
                mode: "native".to_owned(),
                queues: vec![0],
                addresses: vec![UNDERLAY.parse().unwrap()],
                mtu: 1500,
            }),
            workers: vec![WorkerInfo {
                id: 0,
                cpu: None,
                frames: 4096,
                frames_free: 3072,
                generation: self.generation,
            }],
            generation: self.generation,
            ports: s.ports.len(),
            routes: routes(s).len(),
            tunnels: s.tunnels.len(),
            fdb: self.fdb().count(),
            warnings: Vec::new(),
        }
    }
}

impl Backend for Memory {
    fn call(&mut self, request: Request) -> Result<Response, Error> {
        if let Request::PortAdd(p) = &request
            && p.dev.as_deref() == Some("eth9")
        {
            let message = "there is no interface \"eth9\": `ip link` tells which there are";
            return Err(Error::new(Code::System, message));
        }
        let next = self.state.edited(&request)?;
        match request {
            Request::ConfigApply(apply) => {
                let changes = self.state.diff(&next);
                if !apply.dry_run {
                    self.state = next;
                    self.generation += 1;
                }
                Ok(Response::ConfigApply(Applied { changes, applied: !apply.dry_run }))
            }
            Request::NeighborFlush(_) => Ok(Response::NeighborFlush(Flushed { flushed: 0 })),
            Request::AttachmentAdd(add) => Ok(self.attach(add)),
            Request::AttachmentConfigure(c) => Ok(self.configure(c)),
            Request::AttachmentDel(id) => Ok(Response::AttachmentDel(self.detach(|a| *a == id))),
            Request::AttachmentGc(gc) => {
                let known =
                    |id: &AttachmentId| gc.valid.iter().any(|v| v.container_id == id.container_id);
                Ok(Response::AttachmentGc(self.detach(|id| id.network == gc.network && !known(id))))
            }
            Request::FdbFlush(_) => {
                let flushed = self.learned.drain(..).count() as u64;
                Ok(Response::FdbFlush(Flushed { flushed }))
            }
            request => {
                if request.writes() {
                    self.state = next;
                    self.generation += 1;
                }
                Ok(self.report(request))
            }
        }
    }
}

fn port(s: &State, p: &state::Port) -> PortInfo {
    let index = s.ports.iter().position(|o| o.name == p.name).unwrap_or_default() as u32;
    let base = PortInfo {
        name: p.name.clone(),
        role: PortRole::Device,
        segment: Some(p.segment.clone()),
        dev: Some(p.name.clone()),
        ifindex: Some(10 + index),
        state: Oper::Up,
        mode: "native".to_owned(),
        queues: 1,
        mtu: 1500,
        mac: Mac([2, 0, 0, 0, 1, index as u8]),
        kind: None,
        netns: None,
        ifname: None,
        ip: Vec::new(),
        gateways: Vec::new(),
        anti_spoof: None,
        fdb: 0,
        limits: p.limits(),
    };
    match p.attachment() {
        Some(Attachment::Pod(pod)) => PortInfo {
            role: PortRole::Pod,
            dev: Some("psw5f1d7a80c34".to_owned()),
            kind: Some(pod.kind),
            mtu: pod.mtu.unwrap_or(65535),
            mac: pod
                .mac
                .or_else(|| pod.ip.first().map(|a| Mac::derived_from(a.addr())))
                .unwrap_or(base.mac),
            netns: Some(pod.netns.to_owned()),
            ifname: Some(pod.ifname.to_owned()),
            ip: pod.ip.to_vec(),
            gateways: s.node.iter().flat_map(|n| n.gateways()).map(|g| g.addr()).collect(),
            anti_spoof: Some(p.is_guarded()),
            ..base
        },
        _ => PortInfo { dev: p.dev.clone(), ..base },
    }
}

fn segment(s: &State, name: &str) -> SegmentInfo {
    let declared = s.segments.iter().find(|x| x.name == name);
    SegmentInfo {
        name: name.to_owned(),
        ageing: declared.and_then(|x| x.ageing).unwrap_or(s.switch_or_default().ageing),
        fdb: 0,
        fdb_limit: declared.and_then(|x| x.fdb_limit),
        unknown_unicast: declared.map(|x| x.unknown_unicast).unwrap_or_default(),
        suppress: declared.is_none_or(|x| x.suppress),
        gateway: s.gateways_in(name),
        ports: s.ports.iter().filter(|p| p.segment == name).map(|p| p.name.clone()).collect(),
        tunnels: s
            .tunnels
            .iter()
            .filter(|t| t.segment.as_deref() == Some(name))
            .map(|t| t.name.clone())
            .collect(),
    }
}

fn tunnel(t: &state::Tunnel) -> TunnelInfo {
    let local: IpAddr = t.local.unwrap_or_else(|| UNDERLAY.parse().unwrap());
    let vxlan = t.kind == TunnelKind::Vxlan;
    TunnelInfo {
        name: t.name.clone(),
        kind: t.kind,
        local: Some(local),
        remote: t.remote,
        vni: t.vni,
        port: vxlan.then_some(t.port.unwrap_or(VXLAN_PORT)),
        segment: t.segment.clone(),
        local_mac: vxlan.then(|| t.local_mac.unwrap_or_else(|| Mac::derived_from(local))),
        remote_mac: vxlan.then(|| t.remote_mac.unwrap_or_else(|| Mac::derived_from(t.remote))),
        next_hop: Some(t.remote),
        next_hop_mac: Some(Mac([2, 0, 0, 0, 2, 2])),
        mtu: if vxlan { 1450 } else { 1480 },
        native: false,
        state: Oper::Up,
    }
}

fn route(r: &state::Route) -> RouteInfo {
    let via = Some(r.via.clone());
    RouteInfo { prefix: r.prefix, via, port: None, origin: Origin::Static, state: Oper::Up }
}

fn routes(s: &State) -> Vec<RouteInfo> {
    let pods = s.ports.iter().flat_map(|p| {
        p.ip.iter().map(|ip| RouteInfo {
            prefix: Prefix::host(ip.addr()),
            via: None,
            port: Some(p.name.clone()),
            origin: Origin::Local,
            state: Oper::Up,
        })
    });
    s.routes.iter().map(route).chain(pods).collect()
}

fn neighbor(n: &state::Neighbor) -> NeighborInfo {
    NeighborInfo {
        ip: n.ip,
        mac: Some(n.mac),
        port: n.port.clone(),
        tunnel: n.tunnel.clone(),
        origin: Origin::Static,
        state: None,
    }
}

fn entry(e: &state::FdbEntry) -> FdbInfo {
    FdbInfo {
        mac: e.mac,
        segment: e.segment.clone(),
        port: e.port.clone(),
        tunnel: e.tunnel.clone(),
        origin: Origin::Static,
        age: None,
    }
}

fn counters(s: &State) -> Counters {
    let ports = s.ports.iter().map(|p| PortCounters {
        port: p.name.clone(),
        rx_frames: 1000,
        rx_bytes: 64000,
        tx_frames: 990,
        tx_bytes: 63360,
        tx_superpackets: 0,
        tx_bulk: 0,
        originated: 0,
        coalesced: 0,
        not_learned: 0,
        answered: 0,
        asked: 0,
        drops: BTreeMap::from([("no_route".to_owned(), 10)]),
        missed: BTreeMap::new(),
    });
    let ports: Vec<PortCounters> = ports.collect();
    let meaning = ("no_route".to_owned(), "No route matches the destination.".to_owned());
    let reasons = if ports.is_empty() { BTreeMap::new() } else { BTreeMap::from([meaning]) };
    Counters { ports, in_flight: 0, reasons }
}
