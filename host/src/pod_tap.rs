//! A pod's interface that is a TAP device.

use std::path::Path;

use encap::Mac;
use nix::errno::Errno;

use crate::error::{Error, Result};
use crate::handle::Handle;
use crate::link::Link;
use crate::netns::Netns;
use crate::pod::{LINK_GROUP, PodInterface, PodSpec, configure, pod_netns};

/// The largest MTU that the kernel gives a TAP device, bytes: 65535 less the Ethernet header.
pub const TAP_MTU_MAX: u32 = 65_521;

impl PodInterface {
    /// Makes a TAP device a pod's interface: `create` makes one under `spec.ifname`, on a thread in the pod's
    /// namespace, and it is set up there. Its MTU is at most [`TAP_MTU_MAX`]. What `create` returned comes
    /// back with it, and its error as it is.
    ///
    /// It is not made in the node's namespace and moved: the kernel then waits some 20 ms until nobody uses
    /// it there any more.
    ///
    /// # Errors
    /// `EEXIST` when the pod has an interface of the name; whatever the kernel refuses, by name. What
    /// `create` returned has been dropped, and the device with its descriptors.
    pub fn plug_in_tap<T: Send, E: Send>(
        node: &Handle,
        spec: &PodSpec,
        create: impl FnOnce() -> std::result::Result<T, E> + Send,
    ) -> Result<std::result::Result<(PodInterface, T), E>> {
        let netns = pod_netns(node, spec)?;
        let (mac, mtu) = (spec.mac, spec.mtu.min(TAP_MTU_MAX));
        netns.run(|| {
            let pod = Handle::current()?;
            if pod.link_by_name(&spec.ifname)?.is_some() {
                let detail = format!("an interface {} exists in the pod already", spec.ifname);
                let what = format!("create pod interface {}", spec.ifname);
                return Err(Error::Kernel { what, errno: Errno::EEXIST, detail: Some(detail) });
            }
            let device = match create() {
                Ok(device) => device,
                Err(e) => return Ok(Err(e)),
            };
            let index = pod.require_link(&spec.ifname)?.index;
            pod.set_identity(index, mac, mtu, LINK_GROUP)?;
            let pod_index = configure(spec, true)?;
            let netns_inode = netns.inode();
            Ok(Ok((PodInterface { host: None, pod_index, mac, netns_inode }, device)))
        })?
    }

    /// The TAP device of ours that a pod has under a name, if it has one. Its settings are not compared.
    pub fn find_tap(netns: &Path, ifname: &str) -> Result<Option<PodInterface>> {
        let netns = Netns::open(netns)?;
        let pod = Handle::in_netns(&netns)?.link_by_name(ifname)?.filter(Link::is_our_tap);
        Ok(pod.map(|pod| PodInterface {
            host: None,
            pod_index: pod.index,
            mac: pod.mac.unwrap_or(Mac::ZERO),
            netns_inode: netns.inode(),
        }))
    }

    /// Removes the TAP device of ours that a pod has under a name; says whether there was one.
    pub fn remove_tap(netns: &Path, ifname: &str) -> Result<bool> {
        let pod = Handle::in_netns(&Netns::open(netns)?)?;
        let Some(link) = pod.link_by_name(ifname)?.filter(Link::is_our_tap) else {
            return Ok(false);
        };
        match pod.delete_link(link.index) {
            Ok(()) => Ok(true),
            Err(e) if e.is_not_found() => Ok(false),
            Err(e) => Err(e),
        }
    }
}

impl Link {
    /// Whether it is a TAP device that podswitch made: those of others are in no group of ours.
    pub fn is_our_tap(&self) -> bool {
        self.kind.as_deref() == Some("tun") && self.group == LINK_GROUP
    }
}
