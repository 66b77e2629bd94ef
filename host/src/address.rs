//! IP addresses of links.

use std::net::IpAddr;

use encap::Prefix;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressScope,
};

use crate::error::{Error, Result};
use crate::handle::{Handle, family};

/// An address that a link has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The index of the link.
    pub link: u32,
    /// The address.
    pub ip: IpAddr,
    /// The length of the prefix that is on the link, bits.
    pub prefix_len: u8,
    /// The other end of a point-to-point link, when it is given.
    pub peer: Option<IpAddr>,
    /// Whether it is valid on this link only (IPv6 link-local, IPv4 scope link).
    pub link_local: bool,
    /// Whether the kernel made no route for the prefix.
    pub noprefixroute: bool,
    /// Whether duplicate address detection (RFC 4862 section 5.4) has not ended yet, so that
    /// the address cannot be used.
    pub tentative: bool,
    /// Whether another node was found to have the address.
    pub dad_failed: bool,
}

/// An address to give to a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressSpec {
    /// The address.
    pub ip: IpAddr,
    /// The length of the prefix that is on the link, bits.
    pub prefix_len: u8,
    /// Do not make a route for the prefix.
    pub noprefixroute: bool,
    /// IPv6: use it at once, without duplicate address detection.
    pub nodad: bool,
}

impl AddressSpec {
    /// An address with its prefix route, used at once.
    pub fn new(ip: IpAddr, prefix_len: u8) -> AddressSpec {
        AddressSpec { ip, prefix_len, noprefixroute: false, nodad: true }
    }
}

impl Handle {
    /// The addresses of one link, or of all.
    pub fn addresses(&self, link: Option<u32>) -> Result<Vec<Address>> {
        let mut message = AddressMessage::default();
        message.header.index = link.unwrap_or(0);
        let answers = self.dump(&RouteNetlinkMessage::GetAddress(message), "list addresses")?;
        Ok(answers
            .iter()
            .filter_map(|m| match m {
                RouteNetlinkMessage::NewAddress(m) => Address::from_message(m),
                _ => None,
            })
            .filter(|a| link.is_none_or(|index| a.link == index))
            .collect())
    }

    /// Gives an address to a link.
    ///
    /// # Errors
    /// [`Error::Kernel`] with `EEXIST` when the link has it.
    pub fn add_address(&self, link: u32, spec: &AddressSpec) -> Result<()> {
        self.new_address(link, spec, NLM_F_EXCL)
    }

    /// Gives an address to a link that may have it already. An IPv6 address then gets the flags
    /// given here; an IPv4 address keeps those it has.
    pub fn replace_address(&self, link: u32, spec: &AddressSpec) -> Result<()> {
        self.new_address(link, spec, NLM_F_REPLACE)
    }

    /// Takes an address from a link.
    ///
    /// # Errors
    /// [`Error::Kernel`] with `EADDRNOTAVAIL` when the link does not have it.
    pub fn del_address(&self, link: u32, ip: IpAddr, prefix_len: u8) -> Result<()> {
        let what =
            || format!("remove address {ip}/{prefix_len} from interface {}", self.label(link));
        let message = message(link, ip, prefix_len)
            .ok_or_else(|| Error::invalid(what(), "the prefix is longer than the address"))?;
        self.request(&RouteNetlinkMessage::DelAddress(message), 0, what)?;
        Ok(())
    }

    fn new_address(&self, link: u32, spec: &AddressSpec, flags: u16) -> Result<()> {
        let AddressSpec { ip, prefix_len, noprefixroute, nodad } = *spec;
        let what = || format!("add address {ip}/{prefix_len} to interface {}", self.label(link));
        let mut message = message(link, ip, prefix_len)
            .ok_or_else(|| Error::invalid(what(), "the prefix is longer than the address"))?;
        let mut bits = AddressFlags::empty();
        bits.set(AddressFlags::Noprefixroute, noprefixroute);
        bits.set(AddressFlags::Nodad, nodad && ip.is_ipv6());
        message.attributes.push(AddressAttribute::Flags(bits));
        self.request(&RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | flags, what)?;
        Ok(())
    }
}

fn message(link: u32, ip: IpAddr, prefix_len: u8) -> Option<AddressMessage> {
    Prefix::truncating(ip, prefix_len).ok()?;
    let mut message = AddressMessage::default();
    message.header.family = family(ip);
    message.header.prefix_len = prefix_len;
    message.header.index = link;
    message.attributes = vec![AddressAttribute::Local(ip), AddressAttribute::Address(ip)];
    Some(message)
}

impl Address {
    /// `None` for messages without an address (multicast and anycast lists).
    pub(crate) fn from_message(message: &AddressMessage) -> Option<Address> {
        let (mut address, mut local) = (None, None);
        let mut flags = AddressFlags::from_bits_retain(message.header.flags.bits().into());
        for attribute in &message.attributes {
            match attribute {
                AddressAttribute::Address(ip) => address = Some(*ip),
                AddressAttribute::Local(ip) => local = Some(*ip),
                // All flags; the header holds the low eight only.
                AddressAttribute::Flags(f) => flags = *f,
                _ => {}
            }
        }
        // With a peer, IFA_LOCAL is ours and IFA_ADDRESS the peer's; without, IPv4 has both
        // alike and IPv6 only IFA_ADDRESS.
        let ip = local.or(address)?;
        Some(Address {
            link: message.header.index,
            ip,
            prefix_len: message.header.prefix_len,
            peer: address.filter(|a| *a != ip),
            link_local: message.header.scope == AddressScope::Link,
            noprefixroute: flags.contains(AddressFlags::Noprefixroute),
            tentative: message.header.flags.contains(AddressHeaderFlags::Tentative)
                && !flags.contains(AddressFlags::Optimistic),
            dad_failed: flags.contains(AddressFlags::Dadfailed),
        })
    }
}
