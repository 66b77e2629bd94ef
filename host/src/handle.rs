//! A connection to the routing tables of one network namespace.

use std::net::IpAddr;

use netlink_packet_core::{NetlinkDeserializable, NetlinkHeader, NetlinkSerializable};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;

use crate::error::{Error, Result};
use crate::netlink::{Answer, Requester};
use crate::netns::Netns;

/// A connection to the links, addresses, routes and neighbours of one network namespace.
///
/// It can move between threads but serves one at a time, and works from a thread in any
/// namespace. Methods are grouped by what they touch, in the crate's files of that name.
#[derive(Debug)]
pub struct Handle {
    requester: Requester,
    netns: Netns,
}

impl Handle {
    /// Connects to the namespace of the calling thread.
    pub fn current() -> Result<Handle> {
        let netns = Netns::current()?;
        let requester = Requester::open(NETLINK_ROUTE)
            .map_err(|e| Error::io("open a netlink route socket", e))?;
        Ok(Handle { requester, netns })
    }

    /// Connects to `netns`.
    ///
    /// # Errors
    /// [`Error::Io`] when the process may not enter it (CAP_SYS_ADMIN).
    pub fn in_netns(netns: &Netns) -> Result<Handle> {
        netns.run(Handle::current)?
    }

    /// The namespace it is connected to.
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// Sends a request that changes something, or asks for one object.
    pub(crate) fn request(
        &self,
        message: &RouteNetlinkMessage,
        flags: u16,
        what: impl FnOnce() -> String,
    ) -> Result<Vec<RouteNetlinkMessage>> {
        let (kind, payload) = encode(message);
        let mut what = Lazy::new(what);
        let answers = self.requester.request(kind, flags, &payload, || what.take())?;
        answers
            .into_iter()
            .map(|a| decode(&a).map_err(|reason| Error::Protocol { what: what.take(), reason }))
            .collect()
    }

    /// Reads a table. An entry that cannot be understood is left out, with a warning: one exotic
    /// device must not hide all others.
    pub(crate) fn dump(
        &self,
        message: &RouteNetlinkMessage,
        what: &str,
    ) -> Result<Vec<RouteNetlinkMessage>> {
        let (kind, payload) = encode(message);
        let answers = self.requester.dump(kind, &payload, || what.to_owned())?;
        Ok(answers
            .iter()
            .filter_map(|a| {
                decode(a).inspect_err(|reason| tracing::warn!(what, reason, "entry skipped")).ok()
            })
            .collect())
    }
}

/// A text that is needed at most once, in one of two places.
struct Lazy<F>(Option<F>);

impl<F: FnOnce() -> String> Lazy<F> {
    fn new(f: F) -> Lazy<F> {
        Lazy(Some(f))
    }

    fn take(&mut self) -> String {
        self.0.take().map(|f| f()).unwrap_or_default()
    }
}

fn encode(message: &RouteNetlinkMessage) -> (u16, Vec<u8>) {
    let mut payload = vec![0; message.buffer_len()];
    message.serialize(&mut payload);
    (message.message_type(), payload)
}

pub(crate) fn decode(answer: &Answer) -> Result<RouteNetlinkMessage, String> {
    let mut header = NetlinkHeader::default();
    header.message_type = answer.kind;
    RouteNetlinkMessage::deserialize(&header, &answer.payload).map_err(|e| e.to_string())
}

/// The address family of `ip`.
pub(crate) fn family(ip: IpAddr) -> AddressFamily {
    match ip {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}
