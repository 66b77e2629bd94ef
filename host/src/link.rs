//! Links: what the kernel calls network devices.

use encap::Mac;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoVlan, LinkAttribute, LinkExtentMask,
    LinkFlags, LinkInfo, LinkMessage, LinkXdp, XdpAttached,
};
use nix::errno::Errno;

use crate::error::{Error, Result};
use crate::handle::Handle;

/// The longest interface name, bytes (`IFNAMSIZ` less the terminating zero).
const NAME_MAX: usize = 15;

/// How an XDP program is attached to a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XdpMode {
    /// In the driver.
    Native,
    /// In the generic receive path, after an skb was made.
    Generic,
    /// In the device.
    Offloaded,
    /// Several programs at several places.
    Multiple,
}

/// A network device as the kernel describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The interface index, unique in the namespace.
    pub index: u32,
    /// The name.
    pub name: String,
    /// The hardware address, if it is an Ethernet one.
    pub mac: Option<Mac>,
    /// Maximum transmission unit in bytes, without the link header.
    pub mtu: u32,
    /// Whether it is set up (IFF_UP).
    pub up: bool,
    /// Whether it has a carrier (IFF_LOWER_UP).
    pub lower_up: bool,
    /// Whether it is a loopback device.
    pub loopback: bool,
    /// The group it is in; 0 unless someone put it into another.
    pub group: u32,
    /// The index of the bridge, bond or VRF that it is a member of.
    pub master: Option<u32>,
    /// The kind of a virtual device, such as `veth` or `vxlan`; none for hardware.
    pub kind: Option<String>,
    /// The VLAN of a VLAN interface (IEEE 802.1Q), 1 to 4094.
    pub vlan: Option<u16>,
    /// The index of the device below it or of the veth peer, in the namespace
    /// [`Link::link_netnsid`] when that is set.
    pub lower: Option<u32>,
    /// The local id of the namespace that [`Link::lower`] counts in; none: this one.
    pub link_netnsid: Option<i32>,
    /// Number of receive queues that exist (those in use: [`crate::Ethtool::channels`]).
    pub num_rx_queues: u32,
    /// Number of transmit queues that exist.
    pub num_tx_queues: u32,
    /// How many users hold it in promiscuous mode.
    pub promiscuity: u32,
    /// The XDP program attached to it, if any.
    pub xdp: Option<XdpMode>,
    /// The bus and the name of the hardware device behind it, such as `("pci", "0000:00:03.0")`.
    pub parent: Option<(String, String)>,
}

impl Handle {
    /// All links.
    pub fn links(&self) -> Result<Vec<Link>> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
        let answers = self.dump(&RouteNetlinkMessage::GetLink(message), "list links")?;
        Ok(answers
            .iter()
            .filter_map(|m| match m {
                RouteNetlinkMessage::NewLink(m) => Some(Link::from_message(m)),
                _ => None,
            })
            .collect())
    }

    /// The link called `name`, if there is one.
    pub fn link_by_name(&self, name: &str) -> Result<Option<Link>> {
        if check_name(name).is_err() {
            return Ok(None);
        }
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        self.get_link(message, || format!("look up interface {name}"))
    }

    /// The link with this index, if there is one.
    pub fn link_by_index(&self, index: u32) -> Result<Option<Link>> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        self.get_link(message, || format!("look up interface {index}"))
    }

    /// The link called `name`.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is none.
    pub fn require_link(&self, name: &str) -> Result<Link> {
        self.link_by_name(name)?
            .ok_or_else(|| Error::NotFound { what: format!("interface {name}") })
    }

    /// The name of a link for an error message, or its index when it has none any more.
    pub(crate) fn label(&self, index: u32) -> String {
        match self.link_by_index(index) {
            Ok(Some(link)) => link.name,
            _ => format!("with index {index}"),
        }
    }

    fn get_link(
        &self,
        mut message: LinkMessage,
        what: impl FnOnce() -> String,
    ) -> Result<Option<Link>> {
        message.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
        match self.request(&RouteNetlinkMessage::GetLink(message), 0, what) {
            Ok(answers) => Ok(answers.iter().find_map(|m| match m {
                RouteNetlinkMessage::NewLink(m) => Some(Link::from_message(m)),
                _ => None,
            })),
            Err(e) if e.errno() == Some(Errno::ENODEV) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Removes a link; removing one end of a veth pair removes both.
    pub fn delete_link(&self, index: u32) -> Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        self.request(&RouteNetlinkMessage::DelLink(message), 0, || {
            format!("delete interface {}", self.label(index))
        })?;
        Ok(())
    }

    /// Removes the link called `name`; says whether there was one.
    pub fn delete_link_by_name(&self, name: &str) -> Result<bool> {
        if check_name(name).is_err() {
            return Ok(false);
        }
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        match self.request(&RouteNetlinkMessage::DelLink(message), 0, || {
            format!("delete interface {name}")
        }) {
            Ok(_) => Ok(true),
            Err(e) if e.is_not_found() => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Removes all links of a group at once, which takes hardly longer than one. Nothing happens
    /// when there are none.
    pub fn delete_link_group(&self, group: u32) -> Result<()> {
        let what = || format!("delete the interfaces of group {group}");
        if group == 0 {
            return Err(Error::invalid(what(), "every interface is in group 0 by default"));
        }
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::Group(group));
        match self.request(&RouteNetlinkMessage::DelLink(message), 0, what) {
            Err(e) if !e.is_not_found() => Err(e),
            _ => Ok(()),
        }
    }

    /// Removes these links at once, which takes hardly longer than one: gathered in a group of their
    /// own first. Links that are gone already are passed over.
    pub fn delete_links(&self, indexes: &[u32]) -> Result<()> {
        // Different for each process, so that two that do this at once do not meet.
        let group = 0x7073_0000 | std::process::id() & 0xffff;
        for &index in indexes {
            let gathered = self.set_attribute(index, LinkAttribute::Group(group), || {
                format!("set the group of interface {}", self.label(index))
            });
            match gathered {
                Err(e) if !e.is_not_found() => return Err(e),
                _ => {}
            }
        }
        if indexes.is_empty() { Ok(()) } else { self.delete_link_group(group) }
    }

    /// Sets a link up (`ip link set up`).
    pub fn set_up(&self, index: u32) -> Result<()> {
        self.set_flag(index, LinkFlags::Up, true, "set up")
    }

    /// Sets a link down. The kernel forgets its IPv6 addresses and all routes over it.
    pub fn set_down(&self, index: u32) -> Result<()> {
        self.set_flag(index, LinkFlags::Up, false, "set down")
    }

    /// Makes a link receive frames to all addresses, or no longer. On or off, not counted.
    pub fn set_promisc(&self, index: u32, on: bool) -> Result<()> {
        self.set_flag(index, LinkFlags::Promisc, on, "set promiscuous mode of")
    }

    /// Sets the MTU, bytes.
    pub fn set_mtu(&self, index: u32, mtu: u32) -> Result<()> {
        self.set_attribute(index, LinkAttribute::Mtu(mtu), || {
            format!("set the MTU of interface {} to {mtu}", self.label(index))
        })
    }

    /// Sets the hardware address.
    pub fn set_mac(&self, index: u32, mac: Mac) -> Result<()> {
        self.set_attribute(index, LinkAttribute::Address(mac.0.to_vec()), || {
            format!("set the address of interface {} to {mac}", self.label(index))
        })
    }

    /// Renames a link.
    pub fn set_name(&self, index: u32, name: &str) -> Result<()> {
        let what = || format!("rename interface {} to {name}", self.label(index));
        check_name(name).map_err(|reason| Error::invalid(what(), reason))?;
        self.set_attribute(index, LinkAttribute::IfName(name.to_owned()), what)
    }

    /// Keeps the kernel from giving the link an IPv6 link-local address of its own, so that it
    /// stays silent when it is set up. Set it before.
    pub fn set_no_link_local(&self, index: u32) -> Result<()> {
        let none = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
        let spec = LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![none])]);
        self.set_attribute(index, spec, || {
            format!("turn off link-local addresses on interface {}", self.label(index))
        })
    }

    /// Gives a link that is down its hardware address, its MTU and its group.
    pub(crate) fn set_identity(&self, index: u32, mac: Mac, mtu: u32, group: u32) -> Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.attributes = vec![
            LinkAttribute::Address(mac.0.to_vec()),
            LinkAttribute::Mtu(mtu),
            LinkAttribute::Group(group),
        ];
        let what = || format!("set address, MTU and group of {}", self.label(index));
        self.request(&RouteNetlinkMessage::SetLink(message), 0, what)?;
        Ok(())
    }

    fn set_flag(&self, index: u32, flag: LinkFlags, on: bool, verb: &str) -> Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.header.change_mask = flag;
        if on {
            message.header.flags = flag;
        }
        self.request(&RouteNetlinkMessage::SetLink(message), 0, || {
            format!("{verb} interface {}", self.label(index))
        })?;
        Ok(())
    }

    fn set_attribute(
        &self,
        index: u32,
        attribute: LinkAttribute,
        what: impl FnOnce() -> String,
    ) -> Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.attributes.push(attribute);
        self.request(&RouteNetlinkMessage::SetLink(message), 0, what)?;
        Ok(())
    }
}

impl Link {
    pub(crate) fn from_message(message: &LinkMessage) -> Link {
        let flags = message.header.flags;
        let mut link = Link {
            index: message.header.index,
            name: String::new(),
            mac: None,
            mtu: 0,
            up: flags.contains(LinkFlags::Up),
            lower_up: flags.contains(LinkFlags::LowerUp),
            loopback: flags.contains(LinkFlags::Loopback),
            group: 0,
            master: None,
            kind: None,
            vlan: None,
            lower: None,
            link_netnsid: None,
            num_rx_queues: 1,
            num_tx_queues: 1,
            promiscuity: 0,
            xdp: None,
            parent: None,
        };
        let (mut bus, mut device) = (None, None);
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name.clone_from(name),
                LinkAttribute::Address(a) => link.mac = a.as_slice().try_into().ok().map(Mac),
                LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
                LinkAttribute::Group(group) => link.group = *group,
                LinkAttribute::Controller(index) => link.master = Some(*index),
                LinkAttribute::Link(index) => link.lower = Some(*index).filter(|i| *i != 0),
                LinkAttribute::LinkNetNsId(id) => link.link_netnsid = Some(*id),
                LinkAttribute::NumRxQueues(n) => link.num_rx_queues = *n,
                LinkAttribute::NumTxQueues(n) => link.num_tx_queues = *n,
                LinkAttribute::Promiscuity(n) => link.promiscuity = *n,
                LinkAttribute::Xdp(xdp) => link.xdp = xdp_mode(xdp),
                LinkAttribute::ParentDevBusName(name) => bus = Some(name.clone()),
                LinkAttribute::ParentDevName(name) => device = Some(name.clone()),
                LinkAttribute::LinkInfo(info) => {
                    link.kind = info.iter().find_map(|i| match i {
                        LinkInfo::Kind(kind) => Some(kind.to_string()),
                        _ => None,
                    });
                    link.vlan = info.iter().find_map(vlan_id);
                }
                _ => {}
            }
        }
        link.parent = bus.zip(device);
        link
    }
}

fn vlan_id(info: &LinkInfo) -> Option<u16> {
    let LinkInfo::Data(InfoData::Vlan(vlan)) = info else { return None };
    vlan.iter().find_map(|v| match v {
        InfoVlan::Id(id) => Some(*id),
        _ => None,
    })
}

fn xdp_mode(attributes: &[LinkXdp]) -> Option<XdpMode> {
    attributes.iter().find_map(|a| match a {
        LinkXdp::Attached(XdpAttached::Driver) => Some(XdpMode::Native),
        LinkXdp::Attached(XdpAttached::SocketBuffer) => Some(XdpMode::Generic),
        LinkXdp::Attached(XdpAttached::Hardware) => Some(XdpMode::Offloaded),
        LinkXdp::Attached(XdpAttached::Multiple) => Some(XdpMode::Multiple),
        _ => None,
    })
}

/// What the kernel demands of an interface name (`dev_valid_name`), checked here because it
/// would cut a longer one short in some requests and refuse it in others.
pub(crate) fn check_name(name: &str) -> std::result::Result<(), String> {
    let legal = !name.is_empty()
        && name.len() <= NAME_MAX
        && name != "."
        && name != ".."
        && !name.bytes().any(|b| b == b'/' || b == b':' || b == 0 || b.is_ascii_whitespace());
    if legal {
        Ok(())
    } else {
        Err(format!(
            "{name:?} is no interface name (1 to {NAME_MAX} bytes, without '/', ':' and spaces)"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interface_names() {
        for good in ["a", "eth0", "psw0123456789ab", "br-lan.1"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a b", "a:1", "a\0", "0123456789abcdef"] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}
