//! What changes in a network namespace, as it happens.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use netlink_packet_core::NLMSG_OVERRUN;
use netlink_packet_route::route::RouteFlags;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_ROUTE;
use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};

use crate::address::Address;
use crate::error::{Error, Result};
use crate::handle::decode;
use crate::link::Link;
use crate::neighbor::Neighbor;
use crate::netlink::{Answer, messages, receive};
use crate::netns::Netns;
use crate::route::Route;

/// Multicast groups of rtnetlink (`RTNLGRP_*`).
mod group {
    pub const LINK: u32 = 1;
    pub const NEIGH: u32 = 3;
    pub const TC: u32 = 4;
    pub const IPV4_IFADDR: u32 = 5;
    pub const IPV4_ROUTE: u32 = 7;
    pub const IPV6_IFADDR: u32 = 9;
    pub const IPV6_ROUTE: u32 = 11;
}

/// Receive buffer, bytes: some 4,000 events between two reads.
const BUFFER: usize = 4 << 20;
/// Room for one datagram, bytes.
const DATAGRAM: usize = 64 * 1024;

/// Something that changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A link appeared or changed.
    LinkNew(Link),
    /// A link is gone, or left the namespace.
    LinkDel {
        /// Its index.
        index: u32,
        /// Its name.
        name: String,
    },
    /// An address appeared or changed.
    AddressNew(Address),
    /// An address is gone.
    AddressDel(Address),
    /// A route appeared or changed, in any table.
    RouteNew(Route),
    /// A route is gone. The kernel does not say so for IPv4 routes that go with an address or
    /// with their link being set down: take those events as changes of routes too.
    RouteDel(Route),
    /// A neighbour appeared or changed its state or hardware address.
    NeighborNew(Neighbor),
    /// A neighbour is gone.
    NeighborDel(Neighbor),
    /// A queueing discipline of a link was set, changed or removed.
    QdiscChanged {
        /// The link's index.
        index: u32,
    },
    /// Events were lost: read again whatever matters.
    Overrun,
}

/// A non-blocking subscription to the changes of links, their queueing disciplines, addresses, routes and neighbours
/// in one network namespace.
///
/// Subscribe first and read the tables then, or changes between the two are missed.
#[derive(Debug)]
pub struct Monitor {
    socket: Socket,
    buffer: Vec<u8>,
}

impl Monitor {
    /// Subscribes in the namespace of the calling thread.
    pub fn current() -> Result<Monitor> {
        let what = "subscribe to changes of the network";
        let socket = subscribe().map_err(|e| Error::io(what, e))?;
        Ok(Monitor { socket, buffer: Vec::with_capacity(DATAGRAM) })
    }

    /// Subscribes in `netns`.
    pub fn in_netns(netns: &Netns) -> Result<Monitor> {
        netns.run(Monitor::current)?
    }

    /// All events since the last read, oldest first; none when nothing happened. The file
    /// descriptor is readable when there are some, and must be read until it is empty, which
    /// this does.
    pub fn read(&mut self) -> Result<Vec<Event>> {
        let mut events = Vec::new();
        loop {
            match receive(&self.socket, &mut self.buffer, libc::MSG_DONTWAIT) {
                Ok(true) => decode_datagram(&self.buffer, &mut events),
                Ok(false) => {}
                Err(e) => match Errno::from_raw(e.raw_os_error().unwrap_or(0)) {
                    Errno::EAGAIN => return Ok(events),
                    Errno::ENOBUFS => overrun(&mut events),
                    _ => return Err(Error::io("read changes of the network", e)),
                },
            }
        }
    }
}

impl AsRawFd for Monitor {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn subscribe() -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.set_non_blocking(true)?;
    // Beyond the system's limit where we may (CAP_NET_ADMIN), else up to it.
    if setsockopt(&socket, sockopt::RcvBufForce, &BUFFER).is_err() {
        setsockopt(&socket, sockopt::RcvBuf, &BUFFER)?;
    }
    for group in [
        group::LINK,
        group::NEIGH,
        group::TC,
        group::IPV4_IFADDR,
        group::IPV4_ROUTE,
        group::IPV6_IFADDR,
        group::IPV6_ROUTE,
    ] {
        socket.add_membership(group)?;
    }
    Ok(socket)
}

fn overrun(events: &mut Vec<Event>) {
    if events.last() != Some(&Event::Overrun) {
        events.push(Event::Overrun);
    }
}

fn decode_datagram(datagram: &[u8], events: &mut Vec<Event>) {
    for message in messages(datagram) {
        let answer = match message {
            Ok(m) if m.message_type() == NLMSG_OVERRUN => {
                overrun(events);
                continue;
            }
            Ok(m) => Answer { kind: m.message_type(), payload: m.payload().to_vec() },
            Err(reason) => {
                tracing::warn!(reason, "change of the network not understood");
                return overrun(events);
            }
        };
        if is_traffic_control(answer.kind) {
            events.extend(qdisc_event(&answer));
            continue;
        }
        match decode(&answer) {
            Ok(message) => events.extend(event(message)),
            // It may have been one that matters.
            Err(reason) => {
                tracing::warn!(reason, "change of the network not understood");
                overrun(events);
            }
        }
    }
}

/// Whether a message is of the group TC: of a discipline, or of its classes, filters and their actions.
fn is_traffic_control(kind: u16) -> bool {
    // Chains of filters, which libc does not name (linux/rtnetlink.h).
    const CHAINS: std::ops::RangeInclusive<u16> = 100..=102;
    (libc::RTM_NEWQDISC..=libc::RTM_GETTFILTER).contains(&kind)
        || (libc::RTM_NEWACTION..=libc::RTM_GETACTION).contains(&kind)
        || CHAINS.contains(&kind)
}

/// Only which link it is about is of interest: there are many kinds of disciplines, with attributes of their own.
fn qdisc_event(message: &Answer) -> Option<Event> {
    if !matches!(message.kind, libc::RTM_NEWQDISC | libc::RTM_DELQDISC) {
        return None;
    }
    // `struct tcmsg` (rtnetlink(7)): the family, three bytes of padding, the index.
    let index = message.payload.get(4..8)?.try_into().ok()?;
    Some(Event::QdiscChanged { index: u32::from_ne_bytes(index) })
}

/// `None` for what other tables send to the same groups: a bridge's ports and FDB, multicast
/// routing, routes cached for one destination.
fn event(message: RouteNetlinkMessage) -> Option<Event> {
    use RouteNetlinkMessage as M;
    match message {
        M::NewLink(m) if m.header.interface_family == AddressFamily::Unspec => {
            Some(Event::LinkNew(Link::from_message(&m)))
        }
        M::DelLink(m) if m.header.interface_family == AddressFamily::Unspec => {
            let link = Link::from_message(&m);
            Some(Event::LinkDel { index: link.index, name: link.name })
        }
        M::NewAddress(m) => Address::from_message(&m).map(Event::AddressNew),
        M::DelAddress(m) => Address::from_message(&m).map(Event::AddressDel),
        M::NewRoute(m) if !m.header.flags.contains(RouteFlags::Cloned) => {
            Route::from_message(&m).map(Event::RouteNew)
        }
        M::DelRoute(m) if !m.header.flags.contains(RouteFlags::Cloned) => {
            Route::from_message(&m).map(Event::RouteDel)
        }
        M::NewNeighbour(m) => Neighbor::from_message(&m).map(Event::NeighborNew),
        M::DelNeighbour(m) => Neighbor::from_message(&m).map(Event::NeighborDel),
        _ => None,
    }
}
