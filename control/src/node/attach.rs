//! Attachments: what a container runtime asks for over the control socket.

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use podswitch_api::attachment::{
    Addresses, Attachment, AttachmentAdd, AttachmentGc, AttachmentId, AttachmentIp, Removed,
};
use podswitch_api::{Code, Error, Request, Response};

use super::{Node, ports};
use crate::attachment::{Entry, exists, port_name, segment_of, validate, with_gateways};
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
                        "port {:?} belongs to a container: the runtime removes it, or `podswitch \
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
        let id = request.id();
        let netns_inode = inode(&request.netns)?;
        if let Some(entry) = self.attachments.get(&id) {
            return self.attached_before(entry, &request, netns_inode);
        }
        let segment = segment_of(&request, &self.desired);
        let ips = self.addresses(&request, &segment)?;
        let entry = Entry { request, ips, segment, netns_inode };
        self.attachments.insert(entry.clone());
        if let Err(e) = self.transition(self.desired.clone()) {
            self.attachments.remove(&id);
            return Err(e);
        }
        if !self.engine.wait_until_taken(TAKEN_WITHIN) {
            tracing::warn!("{id}: the workers have not taken up the new tables yet");
        }
        Ok(self.view(&entry))
    }

    /// The answer to a request that was carried out before: the same one, if it is the same.
    fn attached_before(
        &self,
        entry: &Entry,
        request: &AttachmentAdd,
        netns_inode: u64,
    ) -> Result<Attachment, Error> {
        if entry.request == *request && entry.netns_inode == netns_inode {
            Ok(self.view(entry))
        } else {
            Err(exists(&entry.id()))
        }
    }

    /// The addresses of a new attachment.
    fn addresses(
        &mut self,
        request: &AttachmentAdd,
        segment: &str,
    ) -> Result<Vec<AttachmentIp>, Error> {
        let own = self.desired.node.as_ref().is_some_and(|n| n.gateway && n.segment == segment);
        match &request.addresses {
            Addresses::None => Ok(Vec::new()),
            Addresses::Plugin { ips } => Ok(with_gateways(ips, request.gateway || own)),
            Addresses::Node { ips } => {
                self.attachments.allocate(&self.desired, ips).map_err(ipam_error)
            }
        }
    }

    /// Unplugs pods; those that are not plugged in are passed over.
    fn detach(&mut self, ids: &[AttachmentId]) -> Result<Removed, Error> {
        let removed: Vec<Entry> = ids.iter().filter_map(|id| self.attachments.remove(id)).collect();
        if !removed.is_empty() {
            self.transition(self.desired.clone())?;
        }
        Ok(Removed { removed: removed.iter().map(Entry::id).collect() })
    }

    fn collect_garbage(&mut self, gc: &AttachmentGc) -> Result<Removed, Error> {
        let stale = self.attachments.stale(&gc.network, &gc.valid);
        self.detach(&stale)
    }

    fn view(&self, entry: &Entry) -> Attachment {
        let port = entry.port();
        match self.live.get(&port_name(&entry.id())) {
            Some(live) => entry.view(live.mac, live.mtu),
            None => entry.view(ports::pod_mac(&port), port.mtu.unwrap_or(ports::NODE_MTU)),
        }
    }
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
