//! What an interface is: its MTU, its queues, and the XDP program it runs.

use crate::error::Error;
use crate::sys;
use netlink_packet_core::{NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    InfoKind, LinkAttribute, LinkInfo, LinkMessage, LinkXdp, XdpAttached,
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use std::io;

/// The XDP program that an interface runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Running {
    /// The kernel's identifier of the program.
    pub program: u32,
    /// Whether the kernel's stack runs it rather than the driver.
    pub generic: bool,
}

/// An interface's MTU in bytes, without the Ethernet header.
pub fn mtu(ifname: &str) -> Result<u32, Error> {
    sys::mtu(ifname).map_err(Error::interface(ifname, "read the MTU"))
}

/// How many receive queues an interface has.
pub fn rx_queues(ifname: &str) -> Result<u32, Error> {
    sys::rx_queues(ifname).map_err(Error::interface(ifname, "read the number of queues"))
}

/// The XDP program that runs on an interface, if one does.
pub fn running_program(ifname: &str, ifindex: u32) -> Result<Option<Running>, Error> {
    let attributes =
        link_attributes(ifindex).map_err(Error::interface(ifname, "read the XDP state"))?;
    Ok(xdp_of(attributes))
}

fn xdp_of(attributes: Vec<LinkAttribute>) -> Option<Running> {
    let (mut program, mut generic) = (None, false);
    for attribute in attributes {
        let LinkAttribute::Xdp(xdp) = attribute else { continue };
        for item in xdp {
            match item {
                LinkXdp::ProgId(id) => program = Some(id),
                LinkXdp::Attached(how) => generic = how == XdpAttached::SocketBuffer,
                _ => {}
            }
        }
    }
    program.map(|program| Running { program, generic })
}

/// Whether what the kernel is left to finish of a packet is finished when it leaves an interface. A veth says
/// that it does so, and hands the packet over as it is, to a kernel that knows; but whoever reads it with
/// XDP does not. What is made of other interfaces may be made of veths.
pub fn finishes_packets(ifname: &str, ifindex: u32) -> Result<bool, Error> {
    let error = || Error::interface(ifname, "read the offloads");
    // Devices of drivers have no kind.
    let has_kind = |a: &LinkAttribute| {
        let LinkAttribute::LinkInfo(info) = a else { return false };
        info.iter().any(|info| matches!(info, LinkInfo::Kind(_)))
    };
    let is_virtual = link_attributes(ifindex).map_err(error())?.iter().any(has_kind);
    Ok(!is_virtual || !sys::offloads_checksums(ifname).map_err(error())?)
}

/// Whether an interface takes TCP superpackets as they are. A veth does unless its other end runs an XDP program,
/// to whom everything must be a packet, and complete.
pub fn takes_segments(ifname: &str) -> Result<bool, Error> {
    sys::offloads_segmentation(ifname).map_err(Error::interface(ifname, "read the offloads"))
}

/// Whether frames may go in bulk to an interface. It has to be a veth, since to other devices a packet means more than its
/// bytes; without a queueing discipline, which AF_XDP's frames pass by and these do not; and its far end may not run an
/// XDP program in generic mode, which AF_XDP's frames are shown and these are not.
pub fn takes_bulk(ifname: &str, ifindex: u32) -> Result<bool, Error> {
    let error = || Error::interface(ifname, "read whether it takes frames in bulk");
    let (mut is_veth, mut is_plain, mut far, mut netns) = (false, false, None, None);
    for attribute in link_attributes(ifindex).map_err(error())? {
        match attribute {
            LinkAttribute::LinkInfo(info) => {
                is_veth = info.contains(&LinkInfo::Kind(InfoKind::Veth));
            }
            // A veth that has never been up has `noop`, and will have none.
            LinkAttribute::Qdisc(name) => is_plain = ["noqueue", "noop"].contains(&&*name),
            LinkAttribute::Link(index) => far = Some(index),
            LinkAttribute::LinkNetNsId(id) => netns = Some(id),
            _ => {}
        }
    }
    let (true, true, Some(far)) = (is_veth, is_plain, far) else { return Ok(false) };
    let far = attributes_in(far, netns).map_err(error())?;
    Ok(!xdp_of(far).is_some_and(|running| running.generic))
}

/// The attributes of one interface.
fn link_attributes(ifindex: u32) -> io::Result<Vec<LinkAttribute>> {
    attributes_in(ifindex, None)
}

/// The attributes of one interface (RTM_GETLINK, rtnetlink(7)), in the namespace that has this identifier in ours
/// (network_namespaces(7)), or in ours.
fn attributes_in(ifindex: u32, netns: Option<i32>) -> io::Result<Vec<LinkAttribute>> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut link = LinkMessage::default();
    link.header.index = ifindex;
    link.attributes.extend(netns.map(LinkAttribute::IfNetnsId));
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST;
    let mut request = NetlinkMessage::new(header, RouteNetlinkMessage::GetLink(link).into());
    request.finalize();
    let mut bytes = vec![0; request.buffer_len()];
    request.serialize(&mut bytes);
    socket.send(&bytes, 0)?;
    let (answer, _) = socket.recv_from_full()?;
    let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer)
        .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e.to_string()))?;
    match answer.payload {
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => Ok(link.attributes),
        NetlinkPayload::Error(e) => Err(e.to_io()),
        _ => Err(io::Error::from(io::ErrorKind::InvalidData)),
    }
}
