//! Whether a pod could be plugged in now, and whether one that is plugged in is as it should be.

use std::net::IpAddr;

use fastpath::AttachMode;
use podswitch_api::attachment::{
    AttachmentCheck, AttachmentStatus, Checked, Problem, Readiness, Unready,
};
use podswitch_api::state::PodKind;
use switch::Location;
use switch::ids::MAX_PORTS;

use super::{Node, ports};
use crate::attachment::{Entry, port_name};
use crate::ipam::IpamError;
use crate::masquerade::Rules;

/// The part of a worker's buffers that is not promised to ports: some are under way, and the first ports hold
/// more than they need while there is plenty, up to this part together (`fastpath/src/fill.rs`).
const NOT_PROMISED: u32 = 4;
/// Why there is no port for another pod, when it is not for buffers.
pub(super) const NO_IDENTIFIER: &str = "all 4096 ports are in use: remove pods";

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
        if let Some(message) = self.ports_exhausted(PodKind::Veth) {
            problem(Unready::PortsExhausted, message);
        }
        if asked.masquerade
            && let Err(e) = Rules::new(&self.effective, &self.attachments).check()
        {
            problem(Unready::NoMasquerade, format!("masquerading: {e}"));
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

    /// Why there is no port for another pod with such an interface. A TAP holds no buffers.
    pub(super) fn ports_exhausted(&self, kind: PodKind) -> Option<String> {
        let switch = self.desired.switch_or_default();
        let taken = self.live.values().filter_map(|live| {
            let attached = live.attached.as_ref().filter(|a| a.mode != AttachMode::Tap)?;
            let queues = attached.queues.len();
            let sockets = u32::try_from(queues.div_ceil(switch.workers.into())).ok()?;
            Some(buffers_of(sockets))
        });
        let wanted = match kind {
            PodKind::Veth => taken.sum::<u32>() + buffers_of(1),
            PodKind::Tap => 0,
        };
        ports_exhausted(self.live.len(), wanted, switch.frames)
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
        if let Some((dev, ifindex)) = live.node_end() {
            match self.kernel.link_by_index(ifindex) {
                Ok(Some(link)) if link.name == dev => {
                    if !link.up {
                        differences.push(format!("the interface {dev} is down"));
                    }
                    if link.mtu < live.mtu {
                        let (is, should) = (link.mtu, live.mtu);
                        differences
                            .push(format!("the MTU of {dev} is {is}, and should be {should}"));
                    }
                }
                _ => differences.push(format!("the interface {dev} does not exist")),
            }
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
        match entry.request.kind.unwrap_or_default() {
            PodKind::Veth => {
                let paired = live.is_none_or(|l| found.link.lower == Some(l.ifindex));
                if found.link.kind.as_deref() != Some("veth") || !paired {
                    differences
                        .push(format!("{ifname} is not the other end of the port's interface"));
                }
            }
            PodKind::Tap => {
                let ours = live.is_none_or(|l| l.is_tap_with_index(found.link.index));
                if !found.link.is_our_tap() || !ours {
                    differences.push(format!("{ifname} is not the port's TAP device"));
                } else if found.link.up && !found.link.lower_up {
                    differences.push(format!("{ifname} has no carrier: the switch has let it go"));
                }
            }
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
        // An AF_XDP socket gets packets as they are: those that TCP and UDP send would be wrong.
        let is_veth = entry.request.kind.unwrap_or_default() == PodKind::Veth;
        if is_veth && found.tx_checksum {
            differences.push(format!(
                "transmit checksum offload of {ifname} is on, and should be off (`ethtool -K {ifname} tx off`)"
            ));
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

/// Buffers that a worker keeps for what so many of its sockets receive.
fn buffers_of(sockets: u32) -> u32 {
    sockets * fastpath::least_buffers()
}

/// Why there is no port for another pod beside so many, when a worker's `frames` buffers have to do for
/// `wanted` of them.
fn ports_exhausted(live: usize, wanted: u32, frames: u32) -> Option<String> {
    if live >= MAX_PORTS {
        Some(NO_IDENTIFIER.to_owned())
    } else if wanted > frames - frames / NOT_PROMISED {
        Some(format!(
            "the {frames} packet buffers of a worker are too few for another port: remove pods, or raise \
             [switch] frames"
        ))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::ids::Ids;

    /// STATUS says so exactly when ADD finds no identifier.
    #[test]
    fn ports_are_exhausted_when_no_identifier_is_left() {
        let mut ids = Ids::default();
        let mut next = |n: usize| {
            let id = ids.get_or_allocate(&format!("pod{n}"));
            id.filter(|&id| usize::from(id) < MAX_PORTS)
        };
        for n in 0..MAX_PORTS {
            assert_eq!(ports_exhausted(n, 0, 4096), None);
            assert!(next(n).is_some(), "{n}");
        }
        let exhausted = ports_exhausted(MAX_PORTS, 0, 4096);
        assert!(exhausted.is_some_and(|m| m.contains("in use")));
        assert_eq!(next(MAX_PORTS), None);
        assert!(NO_IDENTIFIER.contains(&MAX_PORTS.to_string()));
    }

    /// 255 pods and the node with the default of buffers, a quarter of which is left.
    #[test]
    fn ports_are_exhausted_when_buffers_are_too_few() {
        let frames = podswitch_api::state::Switch::default().frames;
        assert_eq!(ports_exhausted(255, buffers_of(256), frames), None);
        let exhausted = ports_exhausted(256, buffers_of(257), frames);
        assert!(exhausted.is_some_and(|m| m.contains("[switch] frames")));
    }
}
