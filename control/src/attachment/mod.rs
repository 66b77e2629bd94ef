//! Attachments: the pods that a container runtime plugged in.
//!
//! They are the runtime's, not the operator's: no part of the configuration, untouched when one is
//! applied, and there until the runtime removes them. What the switch is made of is the desired state
//! with the attachments laid over it ([`Attachments::over`]).

mod entry;

pub use entry::{Entry, exists, port_name, segment_of, validate, with_gateways};

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use podswitch_api::attachment::{AttachmentId, ValidAttachment};
use podswitch_api::state::{Segment, State};

use crate::ipam::{Ipam, IpamError};
use podswitch_api::attachment::AttachmentIp;

/// All attachments, and the addresses that the daemon gives them.
#[derive(Debug, Default)]
pub struct Attachments {
    entries: BTreeMap<AttachmentId, Entry>,
    by_port: HashMap<String, AttachmentId>,
    ipam: Ipam,
}

impl Attachments {
    /// An attachment.
    pub fn get(&self, id: &AttachmentId) -> Option<&Entry> {
        self.entries.get(id)
    }

    /// All of them, in the order of their identities.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// The attachment that a port belongs to.
    pub fn of_port(&self, port: &str) -> Option<&Entry> {
        self.entries.get(self.by_port.get(port)?)
    }

    /// The attachments of a network that are not among the valid ones.
    pub fn stale(&self, network: &str, valid: &[ValidAttachment]) -> Vec<AttachmentId> {
        let is_valid = |id: &AttachmentId| {
            let known =
                |v: &ValidAttachment| v.container_id == id.container_id && v.ifname == id.ifname;
            valid.iter().any(known)
        };
        let stale = |id: &&AttachmentId| id.network == network && !is_valid(id);
        self.entries.keys().filter(stale).cloned().collect()
    }

    /// Whether somebody else than the daemon's own allocation has an address.
    fn is_blocked(&self, state: &State, ip: IpAddr) -> bool {
        state.ports.iter().any(|p| p.ip.iter().any(|a| a.addr() == ip))
            || state.neighbors.iter().any(|n| n.ip == ip)
            || self.entries.values().any(|e| e.addresses().any(|a| a == ip))
    }

    /// Makes the pools those of the state's pod CIDRs.
    pub fn follow(&mut self, state: &State) {
        let node = state.node.clone().unwrap_or_default();
        if self.ipam.has_prefixes(&node.pod_cidrs, node.gateway) {
            return;
        }
        self.ipam.set_prefixes(&node.pod_cidrs, node.gateway);
        for entry in self.entries.values().filter(|e| e.has_own_addresses()) {
            for ip in entry.addresses() {
                self.ipam.take(ip);
            }
        }
    }

    /// Addresses for a pod, taken.
    pub fn allocate(
        &mut self,
        state: &State,
        wanted: &[IpAddr],
    ) -> Result<Vec<AttachmentIp>, IpamError> {
        self.follow(state);
        let mut ipam = std::mem::take(&mut self.ipam);
        let allocated = ipam.allocate(wanted, |ip| self.is_blocked(state, ip));
        self.ipam = ipam;
        allocated
    }

    /// Gives addresses back that no attachment got.
    pub fn release(&mut self, ips: &[AttachmentIp]) {
        for ip in ips {
            self.ipam.release(ip.address.addr());
        }
    }

    /// Whether an address of each family is free.
    pub fn check(&mut self, state: &State) -> Result<(), IpamError> {
        self.follow(state);
        self.ipam.check(|ip| self.is_blocked(state, ip))
    }

    /// Adds an attachment.
    pub fn insert(&mut self, entry: Entry) {
        let id = entry.id();
        self.by_port.insert(port_name(&id), id.clone());
        self.entries.insert(id, entry);
    }

    /// Removes an attachment, and gives its addresses back.
    pub fn remove(&mut self, id: &AttachmentId) -> Option<Entry> {
        let entry = self.entries.remove(id)?;
        self.by_port.remove(&port_name(id));
        if entry.has_own_addresses() {
            self.release(&entry.ips);
        }
        Some(entry)
    }

    /// A desired state with the ports of the attachments, but for those that are left `out`, and the
    /// segments that they need.
    pub fn over(&self, desired: &State, out: impl Fn(&AttachmentId) -> bool) -> State {
        let mut state = desired.clone();
        for (_, entry) in self.entries.iter().filter(|(id, _)| !out(id)) {
            if !state.has_segment(&entry.segment) {
                let name = entry.segment.clone();
                state.segments.push(Segment { name, ..Segment::default() });
            }
            state.ports.push(entry.port());
        }
        state
    }
}
