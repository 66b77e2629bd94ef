//! Whether a pod could be plugged in now, and whether one that is plugged in is as it should be.

use std::net::IpAddr;

use podswitch_api::attachment::{
    AttachmentCheck, AttachmentStatus, Checked, Problem, Readiness, Unready,
};
use switch::Location;

use super::{Node, ports};
use crate::attachment::{Entry, port_name};
use crate::ipam::IpamError;

impl Node {
    /// Why a pod could not be plugged in, or would have limited connectivity.
    pub(super) fn readiness(&mut self, asked: &AttachmentStatus) -> Readiness {
        let mut problems = Vec::new();
        let mut problem = |kind, message: String| problems.push(Problem { kind, message });
        if let Some(worker) = self.engine.failed_worker() {
            problem(
                Unready::NotForwarding,
                format!("worker {worker} has ended: restart the daemon"),
            );
        }
        if let Some(message) = ports_exhausted(self.live.len()) {
            problem(Unready::PortsExhausted, message);
        }
        if asked.allocate
            && let Err(e) = self.attachments.check(&self.desired)
        {
            let kind = match e {
                IpamError::NoPodCidr => Unready::NoPodCidr,
                _ => Unready::AddressesExhausted,
            };
            problem(kind, e.to_string());
        }
        if let Some(uplink) = &self.effective.uplink {
            let dev = &uplink.dev;
            let link = self.kernel.link_by_name(dev).ok().flatten();
            match link {
                None => problem(
                    Unready::UplinkDown,
                    format!("the uplink {dev} is gone: pods do not reach other nodes"),
                ),
                Some(link) if !link.up || !link.lower_up => problem(
                    Unready::UplinkDown,
                    format!(
                        "the uplink {dev} is down: pods do not reach other nodes; \
                         `ip link set {dev} up`, or look at its cable"
                    ),
                ),
                Some(_) => {}
            }
        }
        Readiness { problems }
    }

    /// What differs between an attachment and what should be: every difference, a sentence each.
    pub(super) fn check(&self, asked: &AttachmentCheck) -> Checked {
        let Some(entry) = self.attachments.get(&asked.id()) else {
            return Checked { differences: vec![format!("there is no attachment {}", asked.id())] };
        };
        let mut differences = Vec::new();
        if entry.request.netns != asked.netns {
            differences.push(format!(
                "the network namespace is {}, and should be {}",
                entry.request.netns.display(),
                asked.netns.display()
            ));
        }
        self.check_port(entry, &mut differences);
        self.check_interface(entry, asked, &mut differences);
        Checked { differences }
    }

    /// The switch's side: the port, the place of the MAC address, the routes to the addresses.
    fn check_port(&self, entry: &Entry, differences: &mut Vec<String>) {
        let name = port_name(&entry.id());
        let Some(live) = self.live.get(&name) else {
            differences.push(format!("port {name:?} does not exist"));
            return;
        };
        if live.attached.is_none() {
            differences.push(format!("port {name:?} is down: the interface {} is gone", live.dev));
        }
        match self.kernel.link_by_index(live.ifindex) {
            Ok(Some(link)) if link.name == live.dev && link.up => {}
            Ok(Some(link)) if link.name == live.dev => {
                differences.push(format!("the interface {} is down", live.dev));
            }
            _ => differences.push(format!("the interface {} does not exist", live.dev)),
        }
        let segment = self.table_ids.segments.get(&entry.segment).map(switch::SegmentId);
        let segment = segment.and_then(|id| self.tables.segment(id));
        let Some(segment) = segment else {
            differences.push(format!("segment {:?} does not exist", entry.segment));
            return;
        };
        let here = Location::Port(live.id);
        if segment.statics.get(&live.mac) != Some(&here) {
            differences.push(format!(
                "the forwarding database of segment {:?} does not lead to the port for {}",
                entry.segment, live.mac
            ));
        }
        for ip in entry.addresses() {
            let owner = segment.neighbors.get(&ip);
            if owner.is_none_or(|n| n.mac != live.mac || n.at != here) {
                differences.push(format!("the switch does not know {ip} to be the pod's"));
            }
        }
    }

    /// The pod's side: the interface, its addresses and routes.
    fn check_interface(
        &self,
        entry: &Entry,
        asked: &AttachmentCheck,
        differences: &mut Vec<String>,
    ) {
        let ifname = &entry.request.ifname;
        let found = host::PodState::read(&entry.request.netns, ifname);
        let found = match found {
            Ok(Some(found)) => found,
            Ok(None) => {
                differences.push(format!("there is no interface {ifname} in the pod"));
                return;
            }
            Err(e) => {
                differences.push(e.to_string());
                return;
            }
        };
        if !found.link.up {
            differences.push(format!("{ifname} is down"));
        }
        let live = self.live.get(&port_name(&entry.id()));
        let paired = live.is_none_or(|l| found.link.lower == Some(l.ifindex));
        if found.link.kind.as_deref() != Some("veth") || !paired {
            differences.push(format!("{ifname} is not the other end of the port's interface"));
        }
        let mac = asked.mac.or(entry.request.mac);
        let mac = mac.unwrap_or_else(|| ports::pod_mac(&entry.port()));
        if found.link.mac != Some(mac) {
            let is = found.link.mac.map_or_else(|| "none".to_owned(), |m| m.to_string());
            differences.push(format!("the MAC address of {ifname} is {is}, and should be {mac}"));
        }
        // Smaller is what a plugin later in the chain may have made it.
        if let Some(live) = live
            && found.link.mtu > live.mtu
        {
            let (is, should) = (found.link.mtu, live.mtu);
            differences
                .push(format!("the MTU of {ifname} is {is}, and should be {should} at most"));
        }
        let own: Vec<_> = entry.ips.iter().map(|ip| ip.address).collect();
        for ip in if asked.ips.is_empty() { &own } else { &asked.ips } {
            let is_it = |a: &host::Address| a.ip == ip.addr() && a.prefix_len == ip.prefix().len();
            if !found.addresses.iter().any(is_it) {
                differences.push(format!("{ifname} does not have the address {ip}"));
            }
        }
        let own = entry.resolved_routes();
        for wanted in if asked.routes.is_empty() { &own } else { &asked.routes } {
            let gateway = wanted.gw.or_else(|| {
                let same = own.iter().find(|r| r.dst == wanted.dst && r.table == wanted.table);
                same.and_then(|r| r.gw)
            });
            let is_it = |r: &host::Route| {
                r.prefix == wanted.dst
                    && (gateway.is_none() || r.gateway == gateway)
                    && wanted.table.is_none_or(|table| r.table == table)
            };
            if !found.routes.iter().any(is_it) {
                let via = gateway.map(|gw: IpAddr| format!(" via {gw}")).unwrap_or_default();
                differences.push(format!("there is no route to {}{via} on {ifname}", wanted.dst));
            }
        }
    }
}

/// Why there is no port for another pod beside so many.
fn ports_exhausted(live: usize) -> Option<String> {
    let most = switch::ids::MAX_PORTS;
    (live >= most).then(|| format!("all {most} ports are in use: remove pods"))
}

#[cfg(test)]
mod tests {
    use super::ports_exhausted;
    use crate::node::ids::Ids;

    /// STATUS says so exactly when ADD finds no identifier.
    #[test]
    fn ports_are_exhausted_when_no_identifier_is_left() {
        let mut ids = Ids::default();
        let mut next = |n: usize| {
            let id = ids.get_or_allocate(&format!("pod{n}"));
            id.filter(|&id| usize::from(id) < switch::ids::MAX_PORTS)
        };
        for n in 0..switch::ids::MAX_PORTS {
            assert_eq!(ports_exhausted(n), None);
            assert!(next(n).is_some(), "{n}");
        }
        assert!(ports_exhausted(switch::ids::MAX_PORTS).is_some_and(|m| m.contains("in use")));
        assert_eq!(next(switch::ids::MAX_PORTS), None);
    }
}
