//! The container's network namespace, as far as the plugin itself looks into it.

use std::io;
use std::path::Path;

use host::{Handle, LINK_GROUP, Netns};

use crate::error::{Code, Error};

/// A container's namespace, told apart from the node's own.
#[derive(Debug)]
pub struct Container {
    netns: Netns,
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
        Ok(Container { netns })
    }

    /// Whether it has an interface of this name.
    pub fn has(&self, ifname: &str) -> Result<bool, Error> {
        Ok(Handle::in_netns(&self.netns)?.link_by_name(ifname)?.is_some())
    }
}

/// Removes an interface from a namespace without the daemon's help, if it is one of podswitch's:
/// a veth whose other end is in the node's namespace and in the daemon's link group. Another
/// plugin's interface of the same name stays. Says whether there was one.
pub fn remove_ours(path: &Path, ifname: &str) -> Result<bool, Error> {
    if path.as_os_str().is_empty()
        || matches!(std::fs::symlink_metadata(path), Err(e) if e.kind() == io::ErrorKind::NotFound)
    {
        return Ok(false);
    }
    let Ok(netns) = Netns::open(path) else {
        // A file that was a namespace once: with the namespace went its interfaces.
        return Ok(false);
    };
    let node = Handle::current()?;
    if netns == *node.netns() {
        return Ok(false);
    }
    let Some(link) = Handle::in_netns(&netns)?.link_by_name(ifname)? else {
        return Ok(false);
    };
    let Some(peer) = link.lower.filter(|_| link.kind.as_deref() == Some("veth")) else {
        return Ok(false);
    };
    let ours = node.link_by_index(peer)?.is_some_and(|end| {
        end.group == LINK_GROUP
            && end.kind.as_deref() == Some("veth")
            && end.lower == Some(link.index)
    });
    if !ours {
        return Ok(false);
    }
    match node.delete_link(peer) {
        Ok(()) => Ok(true),
        Err(e) if e.is_not_found() => Ok(false),
        Err(e) => Err(e.into()),
    }
}
