//! Addresses: neighbours and the forwarding database.

use std::collections::BTreeMap;

use encap::Mac;
use podswitch_api::method::FdbFilter;
use podswitch_api::state::Neighbor;
use podswitch_api::view::{FdbInfo, NeighborInfo, NeighborState, Origin};
use podswitch_api::{Code, Error};
use switch::{Location, PortId, SegmentId, TunnelId};

use crate::node::Node;

impl Node {
    pub(in crate::node) fn neighbor_infos(&self) -> Vec<NeighborInfo> {
        let mut out: Vec<NeighborInfo> =
            self.effective.neighbors.iter().map(static_neighbor).collect();
        for port in &self.effective.ports {
            let mac = self.live.get(&port.name).map(|l| l.mac);
            out.extend(port.ip.iter().map(|a| NeighborInfo {
                ip: a.addr(),
                mac,
                port: Some(port.name.clone()),
                tunnel: None,
                origin: Origin::Local,
                state: None,
            }));
        }
        if let Some(uplink) = &self.facts.uplink {
            let hops: BTreeMap<_, _> =
                self.facts.next_hops.values().map(|h| (h.ip, h.mac)).collect();
            out.extend(hops.into_iter().map(|(ip, mac)| NeighborInfo {
                ip,
                mac,
                port: Some(uplink.name.clone()),
                tunnel: None,
                origin: Origin::Kernel,
                state: None,
            }));
        }
        out.extend(self.resolved_neighbors());
        out
    }

    /// The hosts that the router resolved itself, or tries to.
    fn resolved_neighbors(&self) -> impl Iterator<Item = NeighborInfo> + '_ {
        use switch::tables::NeighborState as Known;
        let now = self.engine.now().seconds();
        self.table_ids.neighbors.entries(now).into_iter().map(move |n| {
            let at = n.mac.and_then(|mac| self.fdb.lookup(n.segment, mac, now));
            let segment = self.tables.segment(n.segment);
            let (port, tunnel) = match at {
                Some(Location::Port(id)) => (Some(self.port_name(id)), None),
                Some(Location::Tunnel(id)) => {
                    (None, self.tables.tunnel(id).map(|t| t.name.clone()))
                }
                None => (segment.map(|s| s.name.clone()), None),
            };
            let state = Some(match n.state {
                Known::Incomplete => NeighborState::Incomplete,
                Known::Reachable => NeighborState::Reachable,
                Known::Stale => NeighborState::Stale,
                Known::Failed => NeighborState::Failed,
            });
            NeighborInfo { ip: n.ip, mac: n.mac, port, tunnel, origin: Origin::Learned, state }
        })
    }

    pub(in crate::node) fn static_fdb(&self) -> Vec<FdbInfo> {
        let mut out = Vec::new();
        for segment in self.tables.segments.iter().flatten() {
            for (&mac, &at) in &segment.statics {
                let is_configured =
                    self.effective.fdb.iter().any(|e| e.mac == mac && e.segment == segment.name);
                let origin = if is_configured { Origin::Static } else { Origin::Local };
                out.push(self.fdb_info(mac, segment.id, at, origin, None));
            }
        }
        out
    }

    pub(in crate::node) fn fdb_infos(&self, filter: &FdbFilter) -> Result<Vec<FdbInfo>, Error> {
        let matches = self.fdb_matcher(filter)?;
        let now = self.engine.now().seconds();
        let learned = self.fdb.entries(now).into_iter().map(|e| {
            let ageing = self.tables.segment(e.segment).map_or(0, |s| s.ageing);
            let age = u64::from(ageing.saturating_sub(e.remaining));
            (e.segment, e.mac, e.location, Origin::Learned, Some(age))
        });
        let mut out: Vec<FdbInfo> = learned
            .filter(|&(segment, mac, at, ..)| matches(segment, mac, at))
            .map(|(segment, mac, at, origin, age)| self.fdb_info(mac, segment, at, origin, age))
            .collect();
        out.extend(self.static_fdb().into_iter().filter(|f| {
            filter.segment.as_ref().is_none_or(|s| *s == f.segment)
                && filter.port.as_ref().is_none_or(|p| f.port.as_ref() == Some(p))
                && filter.tunnel.as_ref().is_none_or(|t| f.tunnel.as_ref() == Some(t))
        }));
        out.sort_by(|a, b| (&a.segment, a.mac).cmp(&(&b.segment, b.mac)));
        Ok(out)
    }

    fn fdb_info(
        &self,
        mac: Mac,
        segment: SegmentId,
        at: Location,
        origin: Origin,
        age: Option<u64>,
    ) -> FdbInfo {
        let (port, tunnel) = match at {
            Location::Port(id) => (Some(self.port_name(id)), None),
            Location::Tunnel(id) => (None, self.tables.tunnel(id).map(|t| t.name.clone())),
        };
        let segment = self.tables.segment(segment).map_or_else(String::new, |s| s.name.clone());
        FdbInfo { mac, segment, port, tunnel, origin, age }
    }

    fn port_name(&self, id: PortId) -> String {
        self.port_ids.name(id.0).unwrap_or("?").to_owned()
    }

    /// Which learned entries a filter means. A name that does not exist is an error, not an empty
    /// answer.
    pub(in crate::node) fn fdb_matcher(
        &self,
        filter: &FdbFilter,
    ) -> Result<impl Fn(SegmentId, Mac, Location) -> bool + use<>, Error> {
        let unknown = |kind: &str, name: &str| {
            Error::new(Code::NotFound, format!("there is no {kind} {name:?}"))
        };
        let segment = match &filter.segment {
            Some(s) => Some(self.table_ids.segments.get(s).ok_or_else(|| unknown("segment", s))?),
            None => None,
        };
        let port = match &filter.port {
            Some(p) => Some(self.live.get(p).ok_or_else(|| unknown("port", p))?.id),
            None => None,
        };
        let tunnel = match &filter.tunnel {
            Some(t) => Some(self.table_ids.tunnels.get(t).ok_or_else(|| unknown("tunnel", t))?),
            None => None,
        };
        Ok(move |s: SegmentId, _: Mac, at: Location| {
            segment.is_none_or(|id| s == SegmentId(id))
                && port.is_none_or(|id| at == Location::Port(id))
                && tunnel.is_none_or(|id| at == Location::Tunnel(TunnelId(id)))
        })
    }
}

pub(super) fn static_neighbor(n: &Neighbor) -> NeighborInfo {
    NeighborInfo {
        ip: n.ip,
        mac: Some(n.mac),
        port: n.port.clone(),
        tunnel: n.tunnel.clone(),
        origin: Origin::Static,
        state: None,
    }
}
