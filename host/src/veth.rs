//! Creating veth pairs.

use std::os::fd::{AsFd, AsRawFd};

use encap::Mac;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkInfo, LinkMessage,
};
use nix::errno::Errno;

use crate::error::{Error, Result};
use crate::handle::Handle;
use crate::link::{Link, check_name};
use crate::netns::Netns;

/// A veth pair to create.
#[derive(Clone, Debug)]
pub struct VethSpec<'a> {
    /// The name of the end in the handle's namespace.
    pub name: &'a str,
    /// The name of the other end.
    pub peer_name: &'a str,
    /// The namespace of the other end; none: the handle's own.
    pub peer_netns: Option<&'a Netns>,
    /// MTU of both ends, bytes.
    pub mtu: u32,
    /// Receive queues and transmit queues of each end.
    pub queues: u32,
    /// The group to put the end in the handle's namespace into; 0: none.
    pub group: u32,
    /// The hardware address of the end in the handle's namespace; none: a random one.
    pub mac: Option<Mac>,
    /// The hardware address of the other end; none: a random one.
    pub peer_mac: Option<Mac>,
}

impl Handle {
    /// Creates a veth pair in one request, so that neither end is ever seen with another name,
    /// address or MTU, or in another namespace. Both ends are down. Returns the near end.
    ///
    /// # Errors
    /// [`Error::Kernel`] with `EEXIST` when a name is taken in its namespace.
    pub fn add_veth(&self, spec: &VethSpec<'_>) -> Result<Link> {
        let what = || format!("create veth {} with peer {}", spec.name, spec.peer_name);
        for name in [spec.name, spec.peer_name] {
            check_name(name).map_err(|reason| Error::invalid(what(), reason))?;
        }
        let end = |name: &str, mac: Option<Mac>| {
            let mut message = LinkMessage::default();
            message.attributes = vec![
                LinkAttribute::IfName(name.to_owned()),
                LinkAttribute::Mtu(spec.mtu),
                LinkAttribute::NumTxQueues(spec.queues),
                LinkAttribute::NumRxQueues(spec.queues),
            ];
            message.attributes.extend(mac.map(|m| LinkAttribute::Address(m.0.to_vec())));
            message
        };
        let mut peer = end(spec.peer_name, spec.peer_mac);
        peer.attributes
            .extend(spec.peer_netns.map(|ns| LinkAttribute::NetNsFd(ns.as_fd().as_raw_fd())));
        let mut message = end(spec.name, spec.mac);
        message.attributes.push(LinkAttribute::Group(spec.group));
        message.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ]));
        let request = RouteNetlinkMessage::NewLink(message);
        self.request(&request, NLM_F_CREATE | NLM_F_EXCL, what).map_err(|mut e| {
            if let Error::Kernel { errno: Errno::EEXIST, detail, .. } = &mut e {
                // The kernel does not say which of the two.
                let near = matches!(self.link_by_name(spec.name), Ok(Some(_)));
                let taken = if near { spec.name } else { spec.peer_name };
                *detail = Some(format!("an interface {taken} exists already"));
            }
            e
        })?;
        self.require_link(spec.name)
    }
}
