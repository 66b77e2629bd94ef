//! Attachments: the pods that a container runtime plugged in.
//!
//! They are the runtime's, not the operator's: no part of the configuration, untouched when one is
//! applied, and there until the runtime removes them. What the switch is made of is the desired state
//! with the attachments laid over it ([`Attachments::over`]).
//!
//! Every change is in the log before it has any effect: a daemon that dies in the middle of one finds
//! the attachment when it starts again, and what the runtime does then, trying once more or removing,
//! leads to the same end.

mod entry;
pub mod log;
pub mod notes;

pub use entry::{Entry, exists, port_name, segment_of, validate, with_gateways};

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use podswitch_api::attachment::{AttachmentId, AttachmentIp, ValidAttachment};
use podswitch_api::state::{Segment, State, Switch};

use crate::ipam::{Ipam, IpamError};
use log::{Log, Record};

/// All attachments, and the addresses that the daemon gives them.
#[derive(Debug)]
pub struct Attachments {
    entries: BTreeMap<AttachmentId, Entry>,
    by_port: HashMap<String, AttachmentId>,
    /// Those without a port: their namespace is gone, or the kernel refused. They keep their
    /// addresses until they are removed.
    absent: BTreeSet<AttachmentId>,
    ipam: Ipam,
    log: Log,
}

/// Where the attachments are kept: beside the state file, else beside the socket, under `/run` as a
/// rule, since pods do not survive a boot either.
pub fn log_path(switch: &Switch) -> PathBuf {
    let mut path = switch.state_file.as_ref().unwrap_or(&switch.socket).as_os_str().to_owned();
    path.push(".attachments");
    path.into()
}

impl Attachments {
    /// The attachments of a log, and those removed ones whose interfaces may be left. Nothing is written
    /// before [`Attachments::compact`] or the first change.
    pub fn open(path: PathBuf, desired: &State) -> io::Result<(Attachments, Vec<Entry>)> {
        let mut all = Attachments {
            entries: BTreeMap::new(),
            by_port: HashMap::new(),
            absent: BTreeSet::new(),
            ipam: Ipam::default(),
            log: Log::at(path),
        };
        all.follow(desired);
        let content = all.log.read()?;
        if content.damaged > 0 {
            let (path, lines) = (all.log.path().display(), content.damaged);
            tracing::warn!("{path}: {lines} damaged lines are left out: a crash tore them off");
        }
        let mut removed = BTreeMap::new();
        for record in content.records {
            match record {
                Record::Add(entry) => {
                    removed.remove(&entry.id());
                    all.forget(&entry.id());
                    all.take_addresses(&entry);
                    all.remember(*entry);
                }
                Record::Del(id) => {
                    removed.extend(all.forget(&id).map(|entry| (id, entry)));
                }
                Record::Pool(memory) => all.ipam.remember(&[memory]),
            }
        }
        Ok((all, removed.into_values().collect()))
    }

    /// Where they are kept.
    pub fn path(&self) -> &Path {
        self.log.path()
    }

    /// Writes the log anew, without what is out of date; nothing, where there never was one.
    pub fn compact(&mut self) -> io::Result<()> {
        if self.entries.is_empty() && !self.log.path().exists() {
            return Ok(());
        }
        self.log.rewrite(&self.records())
    }

    /// The shortest log: what there is, then what the pools remember, which is of a later time.
    fn records(&self) -> Vec<Record> {
        let entries = self.entries.values().map(|e| Record::Add(Box::new(e.clone())));
        entries.chain(self.ipam.memory().into_iter().map(Record::Pool)).collect()
    }

    fn keep(&mut self, records: &[Record]) -> io::Result<()> {
        if self.log.is_wasteful(self.entries.len()) {
            self.log.rewrite(&self.records())?;
        }
        self.log.append(records)
    }

    /// Notes, as the log is read, which addresses an attachment took, and in what order.
    fn take_addresses(&mut self, entry: &Entry) {
        if entry.has_own_addresses() {
            for ip in entry.addresses() {
                self.ipam.take(ip);
                if !entry.wanted_addresses().contains(&ip) {
                    self.ipam.go_on_behind(ip);
                }
            }
        }
    }

    fn remember(&mut self, entry: Entry) {
        let id = entry.id();
        self.by_port.insert(port_name(&id), id.clone());
        self.entries.insert(id, entry);
    }

    fn forget(&mut self, id: &AttachmentId) -> Option<Entry> {
        let entry = self.entries.remove(id)?;
        self.by_port.remove(&port_name(id));
        self.absent.remove(id);
        if entry.has_own_addresses() {
            self.release(&entry.ips);
        }
        Some(entry)
    }

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

    /// Whether an attachment has no port.
    pub fn is_absent(&self, id: &AttachmentId) -> bool {
        self.absent.contains(id)
    }

    /// Notes whether an attachment has a port, or could have one.
    pub fn set_absent(&mut self, id: &AttachmentId, absent: bool) {
        if absent {
            self.absent.insert(id.clone());
        } else {
            self.absent.remove(id);
        }
    }

    /// Whether somebody else than the daemon's own allocation has an address.
    fn is_blocked(&self, state: &State, ip: IpAddr) -> bool {
        state.ports.iter().any(|p| p.ip.iter().any(|a| a.addr() == ip))
            || state.neighbors.iter().any(|n| n.ip == ip)
            || state.gateways().iter().any(|g| g.addr() == ip)
            || self.entries.values().any(|e| e.addresses().any(|a| a == ip))
    }

    /// The attachment that has an address.
    pub fn owner_of(&self, ip: IpAddr) -> Option<&Entry> {
        self.entries.values().find(|e| e.addresses().any(|a| a == ip))
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

    /// Adds an attachment, whose addresses are taken; it is on the disk when this returns. When that
    /// fails its addresses are given back.
    pub fn insert(&mut self, entry: Entry) -> io::Result<()> {
        if let Err(e) = self.keep(&[Record::Add(Box::new(entry.clone()))]) {
            if entry.has_own_addresses() {
                self.release(&entry.ips);
            }
            return Err(e);
        }
        self.remember(entry);
        Ok(())
    }

    /// Removes attachments, all or none, and gives their addresses back.
    pub fn remove(&mut self, ids: &[AttachmentId]) -> io::Result<()> {
        let records: Vec<Record> = ids.iter().cloned().map(Record::Del).collect();
        self.keep(&records)?;
        for id in ids {
            self.forget(id);
        }
        Ok(())
    }

    /// A desired state with the ports of the attachments that can have one, the segments that they
    /// need, and the gateways in these.
    pub fn over(&self, desired: &State) -> State {
        self.over_but(desired, |id| self.absent.contains(id))
    }

    /// As [`Attachments::over`], as if one attachment were not there.
    pub fn over_without(&self, desired: &State, id: &AttachmentId) -> State {
        self.over_but(desired, |other| other == id || self.absent.contains(other))
    }

    fn over_but(&self, desired: &State, is_left_out: impl Fn(&AttachmentId) -> bool) -> State {
        let mut state = desired.clone();
        for (_, entry) in self.entries.iter().filter(|(id, _)| !is_left_out(id)) {
            lay_over(&mut state, entry);
        }
        state
    }
}

/// Adds an attachment's port, and what it needs, to a state.
pub fn lay_over(state: &mut State, entry: &Entry) {
    let name = &entry.segment;
    let missing: Vec<_> = entry
        .gateways()
        .into_iter()
        .filter(|gw| !state.gateways_in(name).iter().any(|g| g.addr() == gw.addr()))
        .collect();
    if !state.has_segment(name) || !missing.is_empty() {
        let at = state.segments.iter().position(|s| s.name == *name).unwrap_or_else(|| {
            state.segments.push(Segment { name: name.clone(), ..Segment::default() });
            state.segments.len() - 1
        });
        for gateway in missing {
            if !state.segments[at].gateway.contains(&gateway) {
                state.segments[at].gateway.push(gateway);
            }
        }
    }
    state.ports.push(entry.port());
}

#[cfg(test)]
mod tests;
