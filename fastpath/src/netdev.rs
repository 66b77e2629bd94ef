//! What an interface is: its MTU, its queues, and the XDP program it runs.

use crate::error::Error;
use crate::sys;
use crate::xsk::InBulk;
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
    let queues = sys::queues(ifname);
    queues.map(|(rx, _)| rx).map_err(Error::interface(ifname, "read the number of queues"))
}

/// The XDP program that runs on an interface, if one does.
pub fn running_program(ifname: &str, ifindex: u32) -> Result<Option<Running>, Error> {
    let attributes =
        link_attributes(ifindex).map_err(Error::interface(ifname, "read the XDP state"))?;
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
    Ok(program.map(|program| Running { program, generic }))
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

/// Which frames may be sent in bulk to an interface: of a veth, since to other devices a packet means more than its
/// bytes, and without a queueing discipline, which AF_XDP's frames pass by and these do not. `beside`: superpackets
/// are sent, too.
pub fn in_bulk(ifname: &str, ifindex: u32, beside: bool) -> Result<InBulk, Error> {
    let error = || Error::interface(ifname, "read the queueing discipline");
    let (mut is_veth, mut is_plain) = (false, false);
    for attribute in link_attributes(ifindex).map_err(error())? {
        match attribute {
            LinkAttribute::LinkInfo(info) => {
                is_veth = info.contains(&LinkInfo::Kind(InfoKind::Veth));
            }
            LinkAttribute::Qdisc(discipline) => is_plain = discipline == "noqueue",
            _ => {}
        }
    }
    if !(is_veth && is_plain) {
        return Ok(InBulk::Never);
    }
    let (_, tx_queues) = sys::queues(ifname).map_err(error())?;
    Ok(if beside && tx_queues > 1 { InBulk::AllButLast } else { InBulk::All })
}

/// The attributes of one interface (RTM_GETLINK, rtnetlink(7)).
fn link_attributes(ifindex: u32) -> io::Result<Vec<LinkAttribute>> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut link = LinkMessage::default();
    link.header.index = ifindex;
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
