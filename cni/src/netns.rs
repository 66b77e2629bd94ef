//! The container's network namespace, as far as the plugin itself looks into it.

use std::io;
use std::path::Path;

use host::{Handle, LINK_GROUP, Link, Netns};

use crate::error::{Code, Error};

/// A container's namespace, told apart from the node's own.
#[derive(Debug)]
pub struct Container {
    handle: Handle,
}

impl Container {
    /// Opens the namespace at `CNI_NETNS`.
    ///
    /// # Errors
    /// [`Code::InvalidEnvironment`] when it is none, or the one that the plugin itself runs in.
    pub fn open(path: &Path) -> Result<Container, Error> {
        let invalid =
            |what: String| Error::new(Code::InvalidEnvironment, format!("CNI_NETNS: {what}"));
        let netns = Netns::open(path).map_err(|e| invalid(e.to_string()))?;
        if netns == Netns::current()? {
            let path = path.display();
            return Err(invalid(format!(
                "{path} is the network namespace of the node itself: expected the container's"
            )));
        }
        // Only who enters it learns that it is a namespace of another kind.
        let handle = Handle::in_netns(&netns).map_err(|e| match e {
            host::Error::Invalid { .. } => invalid(e.to_string()),
            e => Error::from(e),
        })?;
        Ok(Container { handle })
    }

    /// Whether it has an interface of this name.
    pub fn has(&self, ifname: &str) -> Result<bool, Error> {
        Ok(self.handle.link_by_name(ifname)?.is_some())
    }
}

/// Whose an interface in a container is, as far as the kernel tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// There is no such interface.
    Nobody,
    /// A veth whose other end is in the node's namespace and in the daemon's link group, or a TAP device
    /// that is in that group itself.
    Us,
    /// A veth whose other end is a port of a Linux bridge in the node's namespace.
    Bridge,
    /// Another one.
    Unknown,
}

/// Removes an interface from a namespace without the daemon's help, if it is one of podswitch's. Another
/// plugin's interface of the same name stays. Says whose it was.
pub fn remove_ours(path: &Path, ifname: &str) -> Result<Owner, Error> {
    if path.as_os_str().is_empty()
        || matches!(std::fs::symlink_metadata(path), Err(e) if e.kind() == io::ErrorKind::NotFound)
    {
        return Ok(Owner::Nobody);
    }
    let Ok(netns) = Netns::open(path) else {
        // A file that was a namespace once: with the namespace went its interfaces.
        return Ok(Owner::Nobody);
    };
    let node = Handle::current()?;
    if netns == *node.netns() {
        return Ok(Owner::Unknown);
    }
    let pod = Handle::in_netns(&netns)?;
    let Some(link) = pod.link_by_name(ifname)? else {
        return Ok(Owner::Nobody);
    };
    if link.is_our_tap() {
        return removed(pod.delete_link(link.index));
    }
    let Some(peer) = link.lower.filter(|_| link.kind.as_deref() == Some("veth")) else {
        return Ok(Owner::Unknown);
    };
    let is_other_end =
        |end: &Link| end.kind.as_deref() == Some("veth") && end.lower == Some(link.index);
    let Some(end) = node.link_by_index(peer)?.filter(is_other_end) else {
        return Ok(Owner::Unknown);
    };
    if end.group != LINK_GROUP {
        let master = end.master.map_or(Ok(None), |master| node.link_by_index(master))?;
        let bridge = master.is_some_and(|link| link.kind.as_deref() == Some("bridge"));
        return Ok(if bridge { Owner::Bridge } else { Owner::Unknown });
    }
    removed(node.delete_link(peer))
}

/// Whose an interface of ours was, once it was to be removed.
fn removed(result: host::Result<()>) -> Result<Owner, Error> {
    match result {
        Ok(()) => Ok(Owner::Us),
        Err(e) if e.is_not_found() => Ok(Owner::Nobody),
        Err(e) => Err(e.into()),
    }
}
