//! Attachments: what a container runtime asks for over the control socket.

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use podswitch_api::attachment::{
    Addresses, Attachment, AttachmentAdd, AttachmentConfigure, AttachmentGc, AttachmentId,
    AttachmentIp, Removed,
};
use podswitch_api::state::{PodKind, State};
use podswitch_api::{Code, Error, Request, Response};

use super::{Node, ports};
use crate::attachment::notes::Notes;
use crate::attachment::{
    Attachments, Entry, exists, lay_over, log_path, port_name, segment_of, validate, with_gateways,
};
use crate::ipam::IpamError;

/// How long workers may take to take new tables up, before an answer is sent that says so.
const TAKEN_WITHIN: Duration = Duration::from_secs(1);

impl Node {
    /// Carries out a request about attachments; gives back any other.
    pub(super) fn call_attachment(
        &mut self,
        request: Request,
    ) -> Result<ControlFlow<Response, Request>, Error> {
        Ok(ControlFlow::Break(match request {
            Request::AttachmentAdd(add) => Response::AttachmentAdd(self.attach(add)?),
            Request::AttachmentConfigure(c) => Response::AttachmentConfigure(self.configure(c)?),
            Request::AttachmentDel(id) => Response::AttachmentDel(self.detach(&[id])?),
            Request::AttachmentGc(gc) => Response::AttachmentGc(self.collect_garbage(&gc)?),
            Request::AttachmentList(_) => {
                let all = self.attachments.iter().map(|e| self.view(e));
                Response::AttachmentList(all.collect())
            }
            Request::AttachmentCheck(check) => Response::AttachmentCheck(self.check(&check)),
            Request::AttachmentStatus(asked) => Response::AttachmentStatus(self.readiness(&asked)),
            Request::PortDel(by) if self.attachments.of_port(&by.name).is_some() => {
                return Err(Error::new(
                    Code::InUse,
                    format!(
                        "port {:?} belongs to a container: its runtime removes it, or `podswitch \
                         attachment del`",
                        by.name
                    ),
                ));
            }
            other => return Ok(ControlFlow::Continue(other)),
        }))
    }

    /// Plugs a pod in. Forwarding works when this returns.
    fn attach(&mut self, request: AttachmentAdd) -> Result<Attachment, Error> {
        validate(&request)?;
        if let Some(worker) = self.engine.failed_worker() {
            let message =
                format!("worker {worker} has ended, nothing is forwarded: restart the daemon");
            return Err(Error::system(message));
        }
        let netns_inode = inode(&request.netns)?;
        if let Some(entry) = self.attachments.get(&request.id()).cloned() {
            if entry.request != request || entry.netns_inode != netns_inode {
                return Err(exists(&entry.id()));
            }
            // It was asked for before, and the runtime has not heard the answer.
            return self.take_up(entry);
        }
        if let Some(message) = self.ports_exhausted(request.kind.unwrap_or_default()) {
            return Err(Error::new(Code::Exhausted, message));
        }
        let segment = segment_of(&request, &self.desired);
        let own = self.desired.node.as_ref().is_some_and(|n| n.gateway && n.segment == segment);
        let routed = request.gateway || own;
        let ips = self.addresses(&request, routed)?;
        let entry = Entry { request, ips, segment, routed, netns_inode };
        if let Err(e) = self.makes_sense(&entry) {
            if entry.has_own_addresses() {
                self.attachments.release(&entry.ips);
            }
            return Err(e);
        }
        self.attachments.insert(entry.clone()).map_err(|e| self.log_error(&e))?;
        let done = self.take_up(entry.clone());
        if done.is_err()
            && let Err(e) = self.attachments.remove(&[entry.id()])
        {
            // It is there again after a restart, for the runtime to remove.
            tracing::error!("{}", self.log_error(&e));
        }
        done
    }

    /// Gives an attachment whose addresses were to come later these. Its interface stays the same:
    /// somebody asks over it. When that is refused the attachment is as it was, but for addresses that
    /// the interface got before the kernel refused one, until the runtime removes it.
    fn configure(&mut self, c: AttachmentConfigure) -> Result<Attachment, Error> {
        let id = c.id();
        let Some(before) = self.attachments.get(&id).cloned() else {
            let message = format!("there is no attachment {id}: attachment.add makes one");
            return Err(Error::new(Code::NotFound, message));
        };
        let mut entry = before.clone();
        let wanted = Addresses::Plugin { ips: c.ips };
        if entry.request.addresses == wanted && entry.request.routes == c.routes {
            // It was asked for before, and the answer was not heard.
            return self.take_up(entry);
        }
        let live = self.live.get(&port_name(&id)).filter(|live| live.attached.is_some());
        let (Addresses::Later, Some(live)) = (&entry.request.addresses, live) else {
            return Err(exists(&id));
        };
        // Its own would derive from its addresses.
        entry.request.mac = Some(live.mac);
        entry.request.addresses = wanted;
        entry.request.routes = c.routes;
        validate(&entry.request)?;
        entry.ips = self.addresses(&entry.request, entry.routed)?;
        self.makes_sense(&entry)?;
        self.attachments.insert(entry.clone()).map_err(|e| self.log_error(&e))?;
        let done = self.transition(self.desired.clone()).and_then(|()| self.sync_masquerade());
        if let Err(e) = done {
            if let Err(e) = self.attachments.insert(before) {
                tracing::error!("{}", self.log_error(&e));
            }
            return Err(e);
        }
        self.settle(&id);
        Ok(self.view(&entry))
    }

    /// Makes what an attachment needs, as far as it is not there.
    fn take_up(&mut self, entry: Entry) -> Result<Attachment, Error> {
        let id = entry.id();
        let name = port_name(&id);
        // A port whose interface somebody removed is made anew.
        if self.live.get(&name).is_some_and(|l| l.attached.is_none()) {
            self.take_down(&name);
        }
        let was_absent = self.attachments.is_absent(&id);
        self.attachments.set_absent(&id, false);
        let desired = self.desired.clone();
        let done = self.transition(desired).and_then(|()| self.sync_masquerade());
        if let Err(e) = done {
            self.attachments.set_absent(&id, true);
            // Nothing of it is left, but for its place in the log if it had one before.
            if let Err(e) = self.transition(self.desired.clone()) {
                tracing::error!("{id}: {e}");
            }
            self.attachments.set_absent(&id, was_absent);
            return Err(e);
        }
        self.settle(&id);
        Ok(self.view(&entry))
    }

    /// Waits until the workers forward for an attachment, and has its pod tell the segment where its
    /// addresses are.
    fn settle(&self, id: &AttachmentId) {
        if !self.engine.wait_until_taken(TAKEN_WITHIN) {
            tracing::warn!("{id}: the workers have not taken up the new tables yet");
        }
        if let Some(live) = self.live.get(&port_name(id))
            && let Err(e) = live.announce()
        {
            tracing::warn!("{id}: {e}");
        }
    }

    /// Whether the state makes sense with an attachment more.
    fn makes_sense(&self, entry: &Entry) -> Result<(), Error> {
        for ip in entry.addresses() {
            let in_use = |by: String| {
                Error::new(Code::InUse, format!("{ip} is in use: {by} has it; remove that first"))
            };
            if let Some(other) = self.attachments.owner_of(ip)
                && other.id() != entry.id()
                && (other.segment == entry.segment || other.routed && entry.routed)
            {
                return Err(in_use(other.id().to_string()));
            }
            let port = self.desired.ports.iter().find(|p| p.ip.iter().any(|a| a.addr() == ip));
            if let Some(port) = port
                && (port.segment == entry.segment
                    || entry.routed && self.effective.is_routed(&port.segment))
            {
                return Err(in_use(format!("port {:?}", port.name)));
            }
        }
        let mut next = self.attachments.over_without(&self.desired, &entry.id());
        lay_over(&mut next, entry);
        next.validate().map_err(Error::invalid)
    }

    /// The addresses of a new attachment.
    fn addresses(
        &mut self,
        request: &AttachmentAdd,
        routed: bool,
    ) -> Result<Vec<AttachmentIp>, Error> {
        match &request.addresses {
            Addresses::Later | Addresses::None => Ok(Vec::new()),
            Addresses::Plugin { ips } => Ok(with_gateways(ips, routed)),
            Addresses::Node { ips } => {
                self.attachments.allocate(&self.desired, ips).map_err(ipam_error)
            }
        }
    }

    /// Unplugs pods; those that are not plugged in are passed over.
    fn detach(&mut self, ids: &[AttachmentId]) -> Result<Removed, Error> {
        let known = ids.iter().filter(|id| self.attachments.get(id).is_some());
        let removed: Vec<AttachmentId> = known.cloned().collect();
        if !removed.is_empty() {
            self.attachments.remove(&removed).map_err(|e| self.log_error(&e))?;
            self.transition(self.desired.clone())?;
        }
        Ok(Removed { removed })
    }

    fn collect_garbage(&mut self, gc: &AttachmentGc) -> Result<Removed, Error> {
        let stale = self.attachments.stale(&gc.network, &gc.valid);
        self.detach(&stale)
    }

    /// Carries out what was to be removed while nobody could be asked.
    pub(super) fn carry_out_notes(&mut self) {
        let notes = match self.notes.read() {
            Ok(notes) => notes,
            Err(e) => return self.warn("notes", Some(format!("notes of removals: {e}"))),
        };
        self.warn("notes", None);
        for note in notes {
            match self.detach(std::slice::from_ref(&note.id)) {
                Ok(_) => {
                    tracing::info!("{}: removed, as noted", note.id);
                    self.notes.done(&note);
                }
                Err(e) => tracing::warn!("{}: {e}", note.id),
            }
        }
    }

    fn view(&self, entry: &Entry) -> Attachment {
        let port = entry.port();
        match self.live.get(&port_name(&entry.id())) {
            Some(live) => entry.view(live.mac, live.mtu),
            None => {
                let mtu = port.kind.unwrap_or_default().mtu_max();
                entry.view(ports::pod_mac(&port), port.mtu.unwrap_or(mtu))
            }
        }
    }

    fn log_error(&self, e: &std::io::Error) -> Error {
        log_error(self.attachments.path(), e)
    }
}

fn log_error(path: &Path, e: &std::io::Error) -> Error {
    Error::system(format!("cannot keep attachments in {}: {e}", path.display()))
}

/// What an earlier daemon left of attachments: those that can be taken up again, with nothing of those
/// that were removed.
pub(super) fn restore(desired: &State, kernel: &host::Handle) -> Result<Attachments, Error> {
    let path = log_path(&desired.switch_or_default());
    let opened = Attachments::open(path.clone(), desired).map_err(|e| log_error(&path, &e))?;
    let (mut attachments, leftovers) = opened;
    for entry in leftovers {
        if remove_interface(kernel, &entry) {
            tracing::info!("{}: its interface is removed; it was unplugged before", entry.id());
        }
    }
    let notes = Notes::beside(&desired.switch_or_default().socket);
    for note in notes.read().unwrap_or_default() {
        if let Some(entry) = attachments.get(&note.id).cloned() {
            attachments.remove(std::slice::from_ref(&note.id)).map_err(|e| log_error(&path, &e))?;
            remove_interface(kernel, &entry);
            tracing::info!("{}: removed, as noted", note.id);
        }
        notes.done(&note);
    }
    attachments.compact().map_err(|e| log_error(&path, &e))?;

    // Each on its own, so that one that makes no sense any more spoils no other.
    let mut state = desired.clone();
    for entry in attachments.iter().cloned().collect::<Vec<Entry>>() {
        let why = match inode(&entry.request.netns) {
            Err(_) => Some("its network namespace is gone".to_owned()),
            Ok(inode) if inode != entry.netns_inode => {
                Some("its network namespace is another one".to_owned())
            }
            Ok(_) => None,
        };
        let why = why.or_else(|| {
            let before = state.clone();
            lay_over(&mut state, &entry);
            let errors = state.validate().err()?;
            state = before;
            Some(errors[0].to_string())
        });
        if let Some(why) = why {
            tracing::warn!("{}: not plugged in again, kept until it is removed: {why}", entry.id());
            attachments.set_absent(&entry.id(), true);
        }
    }
    Ok(attachments)
}

/// Removes what an earlier daemon left of a pod's interface; whether there was something.
fn remove_interface(kernel: &host::Handle, entry: &Entry) -> bool {
    let removed = match entry.request.kind.unwrap_or_default() {
        PodKind::Veth => {
            kernel.delete_link_by_name(&crate::names::host_name(&port_name(&entry.id())))
        }
        // Its path may be another pod's by now.
        PodKind::Tap if inode(&entry.request.netns).ok() != Some(entry.netns_inode) => Ok(false),
        PodKind::Tap => host::PodInterface::remove_tap(&entry.request.netns, &entry.request.ifname),
    };
    removed.unwrap_or_else(|e| {
        tracing::warn!("{e}");
        false
    })
}

/// The inode of a network namespace.
fn inode(netns: &Path) -> Result<u64, Error> {
    host::Netns::open(netns).map(|n| n.inode()).map_err(|e| {
        Error::system(format!("{e}; give the path of a namespace, such as /run/netns/NAME"))
    })
}

fn ipam_error(e: IpamError) -> Error {
    let code = match e {
        IpamError::NoPodCidr | IpamError::NotOurs { .. } => Code::InvalidParams,
        IpamError::Exhausted { .. } => Code::Exhausted,
        IpamError::Taken(_) => Code::InUse,
    };
    Error::new(code, e.to_string())
}
