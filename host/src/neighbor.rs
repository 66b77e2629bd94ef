//! Neighbours: which hardware address an IP address of a link has (ARP, RFC 826; neighbour
//! discovery, RFC 4861).

use std::net::IpAddr;

use encap::Mac;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourExtFlags, NeighbourFlags, NeighbourMessage,
    NeighbourState,
};
use netlink_packet_route::route::RouteType;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::error::Result;
use crate::handle::{Handle, family};

/// How much the kernel trusts an entry (RFC 4861 section 7.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NeighborState {
    /// Made, and nothing else yet.
    None,
    /// Being resolved; no address is known.
    Incomplete,
    /// Confirmed lately.
    Reachable,
    /// Not confirmed for a while.
    Stale,
    /// Used while stale; probed soon.
    Delay,
    /// Being probed.
    Probe,
    /// Did not answer.
    Failed,
    /// The link needs no resolution.
    NoArp,
    /// Set by an administrator.
    Permanent,
}

impl NeighborState {
    /// Whether an entry in this state has a hardware address to send to (`NUD_VALID`).
    pub fn is_usable(self) -> bool {
        use NeighborState as S;
        matches!(self, S::Reachable | S::Stale | S::Delay | S::Probe | S::NoArp | S::Permanent)
    }
}

/// An entry of the neighbour table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbor {
    /// The index of the link.
    pub link: u32,
    /// The IP address.
    pub ip: IpAddr,
    /// The hardware address, when one is known.
    pub mac: Option<Mac>,
    /// How much the kernel trusts it.
    pub state: NeighborState,
    /// Whether the kernel keeps it resolved by itself ([`Handle::manage_neighbor`]).
    pub managed: bool,
}

impl Neighbor {
    /// The address to send to, if the entry can be used.
    pub fn usable_mac(&self) -> Option<Mac> {
        self.mac.filter(|_| self.state.is_usable())
    }
}

impl Handle {
    /// The neighbours on one link, or on all, both families.
    pub fn neighbors(&self, link: Option<u32>) -> Result<Vec<Neighbor>> {
        let mut neighbors = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut message = NeighbourMessage::default();
            message.header.family = family;
            message.attributes.extend(link.map(NeighbourAttribute::IfIndex));
            let request = RouteNetlinkMessage::GetNeighbour(message);
            let answers = match self.dump(&request, "list neighbours") {
                Ok(answers) => answers,
                Err(e) if e.is_not_found() => continue,
                Err(e) => return Err(e),
            };
            neighbors.extend(answers.iter().filter_map(|m| match m {
                RouteNetlinkMessage::NewNeighbour(m) if m.header.family == family => {
                    Neighbor::from_message(m)
                }
                _ => None,
            }));
        }
        neighbors.retain(|n| link.is_none_or(|index| n.link == index));
        Ok(neighbors)
    }

    /// What the kernel knows of a neighbour, if anything.
    pub fn neighbor(&self, link: u32, ip: IpAddr) -> Result<Option<Neighbor>> {
        let request = RouteNetlinkMessage::GetNeighbour(message(link, ip));
        let what = || format!("look up neighbour {ip} on interface {}", self.label(link));
        match self.request(&request, 0, what) {
            Ok(answers) => Ok(answers.iter().find_map(|m| match m {
                RouteNetlinkMessage::NewNeighbour(m) => Neighbor::from_message(m),
                _ => None,
            })),
            Err(e) if e.is_not_found() => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Sets the hardware address of a neighbour for good.
    pub fn set_permanent_neighbor(&self, link: u32, ip: IpAddr, mac: Mac) -> Result<()> {
        let mut message = message(link, ip);
        message.header.state = NeighbourState::Permanent;
        message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()));
        let request = RouteNetlinkMessage::NewNeighbour(message);
        self.request(&request, NLM_F_CREATE | NLM_F_REPLACE, || {
            format!("set neighbour {ip} on interface {} to {mac}", self.label(link))
        })?;
        Ok(())
    }

    /// Removes a neighbour.
    pub fn del_neighbor(&self, link: u32, ip: IpAddr) -> Result<()> {
        let request = RouteNetlinkMessage::DelNeighbour(message(link, ip));
        self.request(&request, 0, || {
            format!("remove neighbour {ip} from interface {}", self.label(link))
        })?;
        Ok(())
    }

    /// Makes the kernel resolve a neighbour now, as if it had a packet for it; returns at once.
    /// The outcome arrives at a [`crate::Monitor`]. An entry that an administrator set stays as it
    /// is, one that is managed is so no longer.
    pub fn probe_neighbor(&self, link: u32, ip: IpAddr) -> Result<()> {
        if self.is_fixed(link, ip)? {
            return Ok(());
        }
        let request = RouteNetlinkMessage::NewNeighbour(using(link, ip));
        self.request(&request, NLM_F_CREATE | NLM_F_REPLACE, || {
            format!("resolve neighbour {ip} on interface {}", self.label(link))
        })?;
        Ok(())
    }

    /// Makes the kernel resolve a neighbour and keep it resolved by itself, for packets that the
    /// kernel does not see (`ip neighbour add … managed`, Linux 5.16). Without it an entry goes
    /// stale and nobody notices when the neighbour's address changes. Ends with
    /// [`Handle::unmanage_neighbor`]. An entry that an administrator set stays as it is.
    pub fn manage_neighbor(&self, link: u32, ip: IpAddr) -> Result<()> {
        if self.is_fixed(link, ip)? {
            return Ok(());
        }
        let mut message = message(link, ip);
        message.attributes.push(NeighbourAttribute::ExtFlags(NeighbourExtFlags::Managed));
        let request = RouteNetlinkMessage::NewNeighbour(message);
        self.request(&request, NLM_F_CREATE | NLM_F_REPLACE, || {
            format!("keep neighbour {ip} on interface {} resolved", self.label(link))
        })?;
        Ok(())
    }

    /// Ends [`Handle::manage_neighbor`]. The entry stays, for the kernel's own packets, and ages
    /// like any other. Nothing happens when it is gone or was not managed.
    pub fn unmanage_neighbor(&self, link: u32, ip: IpAddr) -> Result<()> {
        if !self.neighbor(link, ip)?.is_some_and(|n| n.managed) {
            return Ok(());
        }
        let request = RouteNetlinkMessage::NewNeighbour(using(link, ip));
        let what = || format!("let go of neighbour {ip} on interface {}", self.label(link));
        match self.request(&request, NLM_F_REPLACE, what) {
            Err(e) if !e.is_not_found() => Err(e),
            _ => Ok(()),
        }
    }

    /// Whether an administrator set the entry. Being used or managed would silently turn it into
    /// an ordinary one (`__neigh_update` drops NUD_PERMANENT).
    fn is_fixed(&self, link: u32, ip: IpAddr) -> Result<bool> {
        use NeighborState::{NoArp, Permanent};
        Ok(self.neighbor(link, ip)?.is_some_and(|n| matches!(n.state, Permanent | NoArp)))
    }
}

/// A request that counts as a use of the entry. It leaves its state alone but clears all flags
/// that it does not set itself.
fn using(link: u32, ip: IpAddr) -> NeighbourMessage {
    let mut message = message(link, ip);
    message.header.flags = NeighbourFlags::Use;
    message
}

fn message(link: u32, ip: IpAddr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = family(ip);
    message.header.ifindex = link;
    message.header.kind = RouteType::Unspec;
    message.attributes.push(NeighbourAttribute::Destination(ip.into()));
    message
}

impl Neighbor {
    /// `None` for other tables of the kernel that speak the same messages: a bridge's FDB,
    /// proxy entries.
    pub(crate) fn from_message(message: &NeighbourMessage) -> Option<Neighbor> {
        let header = &message.header;
        if header.flags.contains(NeighbourFlags::Proxy) {
            return None;
        }
        let (mut ip, mut mac, mut managed) = (None, None, false);
        for attribute in &message.attributes {
            match attribute {
                NeighbourAttribute::Destination(NeighbourAddress::Inet(a)) => {
                    ip = Some(IpAddr::from(*a));
                }
                NeighbourAttribute::Destination(NeighbourAddress::Inet6(a)) => {
                    ip = Some(IpAddr::from(*a));
                }
                NeighbourAttribute::LinkLayerAddress(a) => {
                    mac = a.as_slice().try_into().ok().map(Mac);
                }
                NeighbourAttribute::ExtFlags(f) => {
                    managed = f.contains(NeighbourExtFlags::Managed);
                }
                _ => {}
            }
        }
        Some(Neighbor { link: header.ifindex, ip: ip?, mac, state: state(header.state), managed })
    }
}

fn state(state: NeighbourState) -> NeighborState {
    match state {
        NeighbourState::Incomplete => NeighborState::Incomplete,
        NeighbourState::Reachable => NeighborState::Reachable,
        NeighbourState::Stale => NeighborState::Stale,
        NeighbourState::Delay => NeighborState::Delay,
        NeighbourState::Probe => NeighborState::Probe,
        NeighbourState::Failed => NeighborState::Failed,
        NeighbourState::Noarp => NeighborState::NoArp,
        NeighbourState::Permanent => NeighborState::Permanent,
        _ => NeighborState::None,
    }
}
