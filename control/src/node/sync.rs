//! What follows the state beside the tables: the uplink's filter, the node's routes to pods, masquerading, the
//! routes in pods.

use fastpath::UplinkFilter;
use host::HostRoute;
use podswitch_api::state::Via;
use podswitch_api::{Encapsulation, Error};

use super::Node;
use super::ports::{Live, Maker};
use crate::masquerade::Rules;

impl Node {
    /// Tells the XDP program which frames of the uplink are ours.
    pub(super) fn sync_filter(&mut self) {
        let filter = self.wanted_filter();
        if filter != self.filter {
            match self.engine.set_uplink_filter(&filter) {
                Ok(()) => {
                    self.filter = filter;
                    self.warn("filter", None);
                }
                Err(e) => self.warn("filter", Some(format!("the uplink's filter: {e}"))),
            }
        }
    }

    pub(super) fn wanted_filter(&self) -> UplinkFilter {
        let mut filter = UplinkFilter::default();
        let Some(uplink) = &self.facts.uplink else { return filter };
        filter.vlan = uplink.vlan;
        for tunnel in &self.effective.tunnels {
            let local = tunnel.local.or_else(|| self.facts.address_towards(tunnel.remote));
            let Some(local) = local else { continue };
            match tunnel.encapsulation() {
                Some(Encapsulation::Vxlan { port, .. }) => filter.vxlan.push((local, port)),
                Some(Encapsulation::Ipip) => filter.ipip.push((tunnel.remote, local)),
                None => {}
            }
        }
        filter.vxlan.sort_unstable();
        filter.vxlan.dedup();
        if self.effective.native_routing_with(self.table_ids.routes.vias()) {
            filter.prefixes = self.effective.own_prefixes();
        }
        filter
    }

    /// Tells the node's kernel the way to the pods: through the host port.
    pub(super) fn sync_host_routes(&mut self) {
        let Some(host) = self.live.values().find_map(Live::host_port) else { return };
        let local = self.effective.own_prefixes();
        let local = local.into_iter().map(|prefix| HostRoute { prefix, mtu: None });
        let away = self.mtu_away();
        let announced = &self.table_ids.routes;
        // Where the state has a route of the same prefix, an announced one stands back.
        let announced = announced.announced().filter(|(prefix, _)| !announced.has(*prefix));
        let configured = self.desired.routes.iter().map(|r| (r.prefix, &r.via));
        let remote = announced
            .chain(configured)
            // A default route of the switch must not become the node's own.
            .filter(|(prefix, via)| prefix.len() > 0 && leaves_node(via))
            .map(|(prefix, _)| HostRoute { prefix, mtu: away });
        let routes: Vec<HostRoute> = local.chain(remote).collect();
        let problem = host.sync_routes(&self.kernel, &routes).err().map(|e| e.to_string());
        self.warn("routes", problem);
    }

    /// Makes the kernel masquerade for the pods that want it. What is only too much is left for the
    /// housekeeping.
    pub(super) fn sync_masquerade(&mut self) -> Result<(), Error> {
        let wanted = Rules::new(&self.effective, &self.attachments);
        let serves = match &self.masquerade {
            Some(rules) => rules.serve(&wanted),
            None => wanted.is_empty(),
        };
        if serves { Ok(()) } else { self.masquerade_by(wanted) }
    }

    /// Takes back what is masqueraded for pods that are gone.
    pub(super) fn tidy_masquerade(&mut self) {
        let wanted = Rules::new(&self.effective, &self.attachments);
        if self.masquerade.as_ref().is_some_and(|rules| *rules != wanted) {
            let problem = self.masquerade_by(wanted).err().map(|e| e.message);
            self.warn("masquerade", problem);
        }
    }

    pub(super) fn masquerade_by(&mut self, rules: Rules) -> Result<(), Error> {
        match rules.apply() {
            Ok(()) => {
                self.masquerade = Some(rules);
                self.warn("host ports", None);
            }
            Err(e) if rules.was_asked_for() => {
                return Err(Error::system(format!("masquerading: {e}")));
            }
            // Pods can do without host ports.
            Err(e) => self.warn(
                "host ports",
                Some(format!("pods cannot be redirected to pods, as host ports do it: {e}")),
            ),
        }
        Ok(())
    }

    /// Tells the pods the MTU of what leaves the node, when the uplink's has changed.
    pub(super) fn sync_pod_routes(&mut self) {
        let Some(uplink_mtu) = self.facts.uplink.as_ref().map(|u| u.mtu) else { return };
        let maker = Maker {
            kernel: &self.kernel,
            engine: &self.engine,
            state: &self.effective,
            uplink_mtu: Some(uplink_mtu),
        };
        for (name, live) in &mut self.live {
            if let Err(e) = maker.update_routes(live) {
                tracing::warn!("{name}: the MTU of the pod's routes: {e}");
            }
        }
    }
}

/// Whether a route leads to another node.
pub(super) fn leaves_node(via: &Via) -> bool {
    via.paths().iter().all(|v| matches!(v, Via::Tunnel(_) | Via::NextHop(_)))
}
