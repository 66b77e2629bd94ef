//! Offloads and queues of a link, over ethtool's generic netlink family (Linux 5.6;
//! `Documentation/networking/ethtool-netlink.rst`).

use std::fs;

use netlink_packet_core::{
    DefaultNla, Emitable, NLA_F_NESTED, NLA_HEADER_SIZE, NlaBuffer, NlasIterator,
};
use netlink_sys::protocols::NETLINK_GENERIC;
use nix::errno::Errno;

use crate::error::{Error, Result};
use crate::link::Link;
use crate::netlink::Requester;
use crate::netns::Netns;

/// Size of `struct genlmsghdr`, bytes: command, version, two reserved.
const GENL_HEADER_LEN: usize = 4;

/// The controller of generic netlink, which knows the others by name.
mod ctrl {
    pub const ID: u16 = 0x10;
    pub const CMD_GETFAMILY: u8 = 3;
    pub const ATTR_FAMILY_ID: u16 = 1;
    pub const ATTR_FAMILY_NAME: u16 = 2;
}

/// Commands and attributes of the family `ethtool` (`linux/ethtool_netlink.h`).
mod et {
    pub const VERSION: u8 = 1;
    pub const MSG_FEATURES_GET: u8 = 11;
    pub const MSG_FEATURES_SET: u8 = 12;
    pub const MSG_RINGS_GET: u8 = 15;
    pub const MSG_CHANNELS_GET: u8 = 17;

    /// Attribute 1 of every message says which device is meant.
    pub const A_HEADER: u16 = 1;
    pub const A_HEADER_DEV_INDEX: u16 = 1;
    pub const A_FEATURES_WANTED: u16 = 3;
    pub const A_FEATURES_ACTIVE: u16 = 4;
    pub const A_RINGS_RX_MAX: u16 = 2;
    pub const A_RINGS_RX: u16 = 6;
    pub const A_CHANNELS_RX_MAX: u16 = 2;
    pub const A_CHANNELS_TX_MAX: u16 = 3;
    pub const A_CHANNELS_COMBINED_MAX: u16 = 5;
    pub const A_CHANNELS_RX_COUNT: u16 = 6;
    pub const A_CHANNELS_TX_COUNT: u16 = 7;
    pub const A_CHANNELS_COMBINED_COUNT: u16 = 9;

    pub const A_BITSET_BITS: u16 = 3;
    pub const A_BITSET_BITS_BIT: u16 = 1;
    pub const A_BITSET_BIT_NAME: u16 = 2;
    pub const A_BITSET_BIT_VALUE: u16 = 3;
}

/// What `ethtool -K DEV tx on|off` stands for.
const TX_CHECKSUM: [&str; 4] =
    ["tx-checksum-ipv4", "tx-checksum-ip-generic", "tx-checksum-ipv6", "tx-checksum-sctp"];

/// What `ethtool -K DEV rxvlan on|off` stands for.
const RX_VLAN: &str = "rx-vlan-hw-parse";

/// A connection to ethtool in one network namespace.
#[derive(Debug)]
pub struct Ethtool {
    requester: Requester,
    family: u16,
}

/// The offloads that are on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Features {
    active: Vec<String>,
}

/// How many queues a link uses, and could.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Channels {
    /// Receive queues in use.
    pub rx: u32,
    /// Transmit queues in use.
    pub tx: u32,
    /// Receive queues there could be.
    pub rx_max: u32,
    /// Transmit queues there could be.
    pub tx_max: u32,
}

/// Descriptors of each receive ring of a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rings {
    /// What they hold now.
    pub rx: u32,
    /// What they could hold.
    pub rx_max: u32,
}

impl Features {
    /// Whether a feature is on, by the kernel's name for it (`ethtool -k`, second level).
    pub fn has(&self, name: &str) -> bool {
        self.active.iter().any(|a| a == name)
    }

    /// Whether the link is given packets without their TCP and UDP checksums, to fill in.
    pub fn tx_checksum(&self) -> bool {
        TX_CHECKSUM.iter().any(|name| self.has(name))
    }

    /// Whether the device takes the VLAN tag off received frames and hands it over beside them.
    pub fn rx_vlan(&self) -> bool {
        self.has(RX_VLAN)
    }

    /// Whether the link is given TCP packets larger than its MTU, to cut up.
    pub fn tso(&self) -> bool {
        self.has("tx-tcp-segmentation") || self.has("tx-tcp6-segmentation")
    }

    /// Whether the kernel cuts up large packets just before the link.
    pub fn gso(&self) -> bool {
        self.has("tx-generic-segmentation")
    }

    /// Whether the link is given packets in pieces.
    pub fn scatter_gather(&self) -> bool {
        self.has("tx-scatter-gather")
    }
}

fn on_or_off(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}

impl Ethtool {
    /// Connects in the namespace of the calling thread.
    pub fn current() -> Result<Ethtool> {
        let what = "find the kernel's ethtool interface";
        let requester = Requester::open(NETLINK_GENERIC).map_err(|e| Error::io(what, e))?;
        let name = DefaultNla::new(ctrl::ATTR_FAMILY_NAME, b"ethtool\0".to_vec());
        let message = generic(ctrl::CMD_GETFAMILY, 1, &[name]);
        let answers = requester.request(ctrl::ID, 0, &message, || what.into())?;
        let family = answers
            .iter()
            .flat_map(|a| attributes(a.payload.get(GENL_HEADER_LEN..).unwrap_or_default()))
            .find(|a| a.kind() == ctrl::ATTR_FAMILY_ID)
            .and_then(|a| Some(u16::from_ne_bytes(a.value().try_into().ok()?)))
            .ok_or_else(|| Error::NotFound { what: what.into() })?;
        Ok(Ethtool { requester, family })
    }

    /// Connects in `netns`.
    pub fn in_netns(netns: &Netns) -> Result<Ethtool> {
        netns.run(Ethtool::current)?
    }

    /// The offloads of a link.
    pub fn features(&self, index: u32) -> Result<Features> {
        let what = || format!("read the offloads of interface {index}");
        let answers = self.ask(et::MSG_FEATURES_GET, index, None, what)?;
        let mut features = Features::default();
        for answer in &answers {
            let active = attributes(answer).filter(|a| a.kind() == et::A_FEATURES_ACTIVE);
            for bits in active.flat_map(|a| nested(&a, et::A_BITSET_BITS)) {
                for bit in nested_all(&bits, et::A_BITSET_BITS_BIT) {
                    features.active.extend(nested(&bit, et::A_BITSET_BIT_NAME).map(|n| text(&n)));
                }
            }
        }
        Ok(features)
    }

    /// Turns transmit checksum offload on or off, and with it what depends on it (TSO).
    ///
    /// # Errors
    /// [`Error::Invalid`] when the driver does not let it be turned off.
    pub fn set_tx_checksum(&self, index: u32, on: bool) -> Result<()> {
        let what = || format!("turn {} checksum offload of interface {index}", on_or_off(on));
        self.set_features(index, &TX_CHECKSUM, on, what)?;
        // The kernel takes a wish for an offload that is fixed without a word.
        if !on && self.features(index)?.tx_checksum() {
            return Err(Error::invalid(what(), "the driver keeps it on"));
        }
        Ok(())
    }

    /// Turns on or off that the device takes the VLAN tag off received frames. An XDP program sees
    /// a frame without the tag then, and cannot ask for it.
    ///
    /// # Errors
    /// When the device does not have it, or keeps it on.
    pub fn set_rx_vlan(&self, index: u32, on: bool) -> Result<()> {
        let what = || format!("turn {} VLAN offload of interface {index}", on_or_off(on));
        self.set_features(index, &[RX_VLAN], on, what)?;
        if self.features(index)?.rx_vlan() != on {
            return Err(Error::invalid(what(), "the driver keeps it as it is"));
        }
        Ok(())
    }

    fn set_features(
        &self,
        index: u32,
        names: &[&str],
        on: bool,
        what: impl FnOnce() -> String,
    ) -> Result<()> {
        let bits: Vec<_> = names
            .iter()
            .map(|name| {
                let mut bit =
                    vec![DefaultNla::new(et::A_BITSET_BIT_NAME, format!("{name}\0").into())];
                if on {
                    bit.push(DefaultNla::new(et::A_BITSET_BIT_VALUE, Vec::new()));
                }
                nest(et::A_BITSET_BITS_BIT, &bit)
            })
            .collect();
        let wanted = nest(et::A_FEATURES_WANTED, &[nest(et::A_BITSET_BITS, &bits)]);
        self.ask(et::MSG_FEATURES_SET, index, Some(wanted), what)?;
        Ok(())
    }

    /// The queues of a link; none when its driver has no such notion.
    pub fn channels(&self, index: u32) -> Result<Option<Channels>> {
        let what = || format!("read the queue counts of interface {index}");
        let answers = match self.ask(et::MSG_CHANNELS_GET, index, None, what) {
            Ok(answers) => answers,
            Err(e) if e.errno() == Some(Errno::EOPNOTSUPP) => return Ok(None),
            Err(e) => return Err(e),
        };
        let mut channels = Channels::default();
        for attribute in answers.iter().flat_map(|a| attributes(a)) {
            let Ok(count) = attribute.value().try_into().map(u32::from_ne_bytes) else {
                continue;
            };
            match attribute.kind() {
                et::A_CHANNELS_RX_COUNT => channels.rx += count,
                et::A_CHANNELS_TX_COUNT => channels.tx += count,
                et::A_CHANNELS_RX_MAX => channels.rx_max += count,
                et::A_CHANNELS_TX_MAX => channels.tx_max += count,
                // A combined channel has a queue of each kind.
                et::A_CHANNELS_COMBINED_COUNT => {
                    channels.rx += count;
                    channels.tx += count;
                }
                et::A_CHANNELS_COMBINED_MAX => {
                    channels.rx_max += count;
                    channels.tx_max += count;
                }
                _ => {}
            }
        }
        Ok(Some(channels))
    }

    /// The receive rings of a link; none when its driver has no such notion.
    pub fn rings(&self, index: u32) -> Result<Option<Rings>> {
        let what = || format!("read the ring sizes of interface {index}");
        let answers = match self.ask(et::MSG_RINGS_GET, index, None, what) {
            Ok(answers) => answers,
            Err(e) if e.errno() == Some(Errno::EOPNOTSUPP) => return Ok(None),
            Err(e) => return Err(e),
        };
        let mut rings = Rings::default();
        for attribute in answers.iter().flat_map(|a| attributes(a)) {
            let Ok(size) = attribute.value().try_into().map(u32::from_ne_bytes) else {
                continue;
            };
            match attribute.kind() {
                et::A_RINGS_RX => rings.rx = size,
                et::A_RINGS_RX_MAX => rings.rx_max = size,
                _ => {}
            }
        }
        Ok(Some(rings))
    }

    /// Sends a command about a link; returns the attributes of the answers.
    fn ask(
        &self,
        command: u8,
        index: u32,
        argument: Option<DefaultNla>,
        what: impl FnOnce() -> String,
    ) -> Result<Vec<Vec<u8>>> {
        let device = DefaultNla::new(et::A_HEADER_DEV_INDEX, index.to_ne_bytes().to_vec());
        let mut arguments = vec![nest(et::A_HEADER, &[device])];
        arguments.extend(argument);
        let message = generic(command, et::VERSION, &arguments);
        let answers = self.requester.request(self.family, 0, &message, what)?;
        Ok(answers
            .into_iter()
            .filter(|a| a.kind == self.family)
            .map(|a| a.payload.get(GENL_HEADER_LEN..).unwrap_or_default().to_vec())
            .collect())
    }
}

impl Link {
    /// The driver: the kind of a virtual device, the name of the kernel driver of hardware.
    pub fn driver(&self) -> Option<String> {
        if self.kind.is_some() {
            return self.kind.clone();
        }
        // Not under /sys/class/net, which shows the namespace that /sys was mounted in.
        let (bus, device) = self.parent.as_ref()?;
        let driver = fs::read_link(format!("/sys/bus/{bus}/devices/{device}/driver")).ok()?;
        Some(driver.file_name()?.to_str()?.to_owned())
    }
}

/// A generic netlink message: its header and attributes.
fn generic(command: u8, version: u8, attributes: &[DefaultNla]) -> Vec<u8> {
    let mut message = vec![0; GENL_HEADER_LEN + attributes.buffer_len()];
    message[0] = command;
    message[1] = version;
    attributes.emit(&mut message[GENL_HEADER_LEN..]);
    message
}

fn nest(kind: u16, children: &[DefaultNla]) -> DefaultNla {
    let mut value = vec![0; children.buffer_len()];
    children.emit(&mut value);
    DefaultNla::new(kind | NLA_F_NESTED, value)
}

/// The well-formed attributes at the start of `bytes`.
fn attributes(bytes: &[u8]) -> impl Iterator<Item = NlaBuffer<&[u8]>> {
    NlasIterator::new(bytes).map_while(|a| a.ok())
}

/// The attributes of this kind inside of `parent`.
fn nested_all<'a>(
    parent: &NlaBuffer<&'a [u8]>,
    kind: u16,
) -> impl Iterator<Item = NlaBuffer<&'a [u8]>> {
    // The buffer goes on beyond the attribute, with its siblings.
    let value = parent.into_inner().get(NLA_HEADER_SIZE..parent.length().into());
    attributes(value.unwrap_or_default()).filter(move |a| a.kind() == kind)
}

fn nested<'a>(parent: &NlaBuffer<&'a [u8]>, kind: u16) -> Option<NlaBuffer<&'a [u8]>> {
    nested_all(parent, kind).next()
}

fn text(attribute: &NlaBuffer<&[u8]>) -> String {
    String::from_utf8_lossy(attribute.value()).trim_end_matches('\0').to_owned()
}
