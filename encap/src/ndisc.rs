//! Neighbour solicitations and advertisements (RFC 4861 sections 4.3, 4.4, 4.6.1 and 7.1).

use core::net::Ipv6Addr;

use crate::Mac;
use crate::icmpv6::{self, message};
use crate::wire::{self, error, view};

mod field {
    use crate::wire::Field;
    pub const TYPE: usize = 0;
    pub const CODE: usize = 1;
    pub const FLAGS: usize = 4;
    pub const FLAGS_RESERVED: Field = 4..8;
    pub const TARGET: Field = 8..24;
    pub const OPTIONS: usize = 24;
}

/// Bytes before the options.
pub const HEADER_LEN: usize = 24;
/// Bytes of a message with one link-layer address option.
pub const MAX_LEN: usize = HEADER_LEN + OPTION_LEN;
/// The only hop limit: the packet has not been through a router.
pub const HOP_LIMIT: u8 = 255;

const ROUTER: u8 = 0x80;
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;

const OPTION_LEN: usize = 8;
const OPTION_SOURCE_LLADDR: u8 = 1;
const OPTION_TARGET_LLADDR: u8 = 2;

error! {
    /// Why a message is not valid (RFC 4861 sections 7.1.1 and 7.1.2).
    Error {
        Truncated "shorter than a neighbour discovery message",
        Type "neither a solicitation nor an advertisement",
        HopLimit "the hop limit is not 255",
        Checksum "the ICMPv6 checksum is wrong",
        Code "the code is not 0",
        TargetMulticast "the target is a multicast address",
        Option "an option is empty or leaves the message",
        UnspecifiedSource "from the unspecified address, but not to a solicited-node address or with a source link-layer address",
        SolicitedMulticast "a solicited advertisement was sent to a multicast address",
    }
}

view! {
    /// A neighbour solicitation or advertisement: the whole ICMPv6 message.
    Error
}

impl<T: AsRef<[u8]>> View<T> {
    /// Checks the length, type and code, and that the options tile the message.
    #[inline]
    pub fn check_len(&self) -> Result<(), Error> {
        let b = self.bytes();
        if b.len() < HEADER_LEN {
            return Err(Error::Truncated);
        }
        if !matches!(b[field::TYPE], message::NEIGHBOR_SOLICIT | message::NEIGHBOR_ADVERT) {
            return Err(Error::Type);
        }
        if b[field::CODE] != 0 {
            return Err(Error::Code);
        }
        let mut rest = &b[field::OPTIONS..];
        while let Some(&[_, units]) = rest.first_chunk() {
            let len = usize::from(units) * 8;
            if len == 0 || len > rest.len() {
                return Err(Error::Option);
            }
            rest = &rest[len..];
        }
        if rest.is_empty() { Ok(()) } else { Err(Error::Option) }
    }

    /// [`message::NEIGHBOR_SOLICIT`] or [`message::NEIGHBOR_ADVERT`].
    #[inline]
    pub fn message_type(&self) -> u8 {
        wire::read_u8(self.bytes(), field::TYPE)
    }

    /// The address asked for or told of.
    #[inline]
    pub fn target(&self) -> Ipv6Addr {
        wire::read::<16>(self.bytes(), field::TARGET).into()
    }

    /// R of an advertisement: the sender is a router.
    #[inline]
    pub fn router(&self) -> bool {
        wire::read_u8(self.bytes(), field::FLAGS) & ROUTER != 0
    }

    /// S of an advertisement: it answers a solicitation.
    #[inline]
    pub fn solicited(&self) -> bool {
        wire::read_u8(self.bytes(), field::FLAGS) & SOLICITED != 0
    }

    /// O of an advertisement: it replaces what is cached.
    #[inline]
    pub fn override_cache(&self) -> bool {
        wire::read_u8(self.bytes(), field::FLAGS) & OVERRIDE != 0
    }

    /// The source link-layer address option, if there is one for Ethernet.
    #[inline]
    pub fn source_mac(&self) -> Option<Mac> {
        self.option(OPTION_SOURCE_LLADDR)
    }

    /// The target link-layer address option, if there is one for Ethernet.
    #[inline]
    pub fn target_mac(&self) -> Option<Mac> {
        self.option(OPTION_TARGET_LLADDR)
    }

    /// The first option of `kind` with room for exactly a MAC address (RFC 2464 section 6).
    fn option(&self, kind: u8) -> Option<Mac> {
        let mut rest = wire::clip(self.bytes(), field::OPTIONS, usize::MAX);
        while let Some(&[k, units, a, b, c, d, e, f]) = rest.first_chunk::<OPTION_LEN>() {
            if k == kind && units == 1 {
                return Some(Mac([a, b, c, d, e, f]));
            }
            rest = rest.get(usize::from(units).max(1) * 8..).unwrap_or(&[]);
        }
        None
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> View<T> {
    /// Sets the type, and the code to 0.
    #[inline]
    pub fn set_message_type(&mut self, message_type: u8) {
        wire::write(self.buffer.as_mut(), 0..2, [message_type, 0]);
    }

    /// Sets the flags of an advertisement and clears what is reserved.
    #[inline]
    pub fn set_flags(&mut self, router: bool, solicited: bool, override_cache: bool) {
        let flags = if router { ROUTER } else { 0 }
            | if solicited { SOLICITED } else { 0 }
            | if override_cache { OVERRIDE } else { 0 };
        wire::write(self.buffer.as_mut(), field::FLAGS_RESERVED, [flags, 0, 0, 0]);
    }

    /// Sets the target.
    #[inline]
    pub fn set_target(&mut self, ip: Ipv6Addr) {
        wire::write(self.buffer.as_mut(), field::TARGET, ip.octets());
    }

    /// Writes one link-layer address option behind the header.
    #[inline]
    fn set_option(&mut self, kind: u8, mac: Mac) {
        let [a, b, c, d, e, f] = mac.0;
        let at = field::OPTIONS..field::OPTIONS + OPTION_LEN;
        wire::write(self.buffer.as_mut(), at, [kind, 1, a, b, c, d, e, f]);
    }
}

/// A neighbour solicitation or advertisement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repr {
    /// Who has `target`?
    Solicit {
        /// The address asked for.
        target: Ipv6Addr,
        /// The asker's MAC; absent when an address is asked for before use (duplicate address
        /// detection).
        source_mac: Option<Mac>,
    },
    /// The sender, or one it speaks for, has `target`.
    Advert {
        /// The address told of.
        target: Ipv6Addr,
        /// The sender is a router.
        router: bool,
        /// It answers a solicitation.
        solicited: bool,
        /// It replaces what is cached.
        override_cache: bool,
        /// The MAC of `target`.
        target_mac: Option<Mac>,
    },
}

impl Repr {
    /// Reads a message that came in an IPv6 packet with these header fields, under all rules of
    /// RFC 4861 section 7.1.
    pub fn parse<T: AsRef<[u8]>>(
        view: &View<T>,
        src: Ipv6Addr,
        dst: Ipv6Addr,
        hop_limit: u8,
    ) -> Result<Repr, Error> {
        if hop_limit != HOP_LIMIT {
            return Err(Error::HopLimit);
        }
        view.check_len()?;
        if !icmpv6::View::new_unchecked(view.bytes()).checksum_ok(src, dst) {
            return Err(Error::Checksum);
        }
        let target = view.target();
        if target.is_multicast() {
            return Err(Error::TargetMulticast);
        }
        if view.message_type() == message::NEIGHBOR_SOLICIT {
            let source_mac = view.source_mac();
            if src.is_unspecified() && (!is_solicited_node(dst) || source_mac.is_some()) {
                return Err(Error::UnspecifiedSource);
            }
            return Ok(Repr::Solicit { target, source_mac });
        }
        if dst.is_multicast() && view.solicited() {
            return Err(Error::SolicitedMulticast);
        }
        Ok(Repr::Advert {
            target,
            router: view.router(),
            solicited: view.solicited(),
            override_cache: view.override_cache(),
            target_mac: view.target_mac(),
        })
    }

    fn mac(&self) -> Option<Mac> {
        match *self {
            Repr::Solicit { source_mac, .. } => source_mac,
            Repr::Advert { target_mac, .. } => target_mac,
        }
    }

    /// Bytes that [`Repr::emit`] writes, at most [`MAX_LEN`].
    pub fn buffer_len(&self) -> usize {
        HEADER_LEN + if self.mac().is_some() { OPTION_LEN } else { 0 }
    }

    /// Writes the ICMPv6 message, checksum included, to the front of `out`. Its packet must have
    /// [`HOP_LIMIT`].
    pub fn emit(&self, out: &mut [u8], src: Ipv6Addr, dst: Ipv6Addr) {
        let len = self.buffer_len();
        let out = wire::clip_mut(out, 0, len);
        let mut v = View::new_unchecked(&mut *out);
        let kind = match *self {
            Repr::Solicit { target, .. } => {
                v.set_message_type(message::NEIGHBOR_SOLICIT);
                v.set_flags(false, false, false);
                v.set_target(target);
                OPTION_SOURCE_LLADDR
            }
            Repr::Advert { target, router, solicited, override_cache, .. } => {
                v.set_message_type(message::NEIGHBOR_ADVERT);
                v.set_flags(router, solicited, override_cache);
                v.set_target(target);
                OPTION_TARGET_LLADDR
            }
        };
        if let Some(mac) = self.mac() {
            v.set_option(kind, mac);
        }
        icmpv6::View::new_unchecked(out).fill_checksum(src, dst);
    }
}

/// The multicast address on which a node hears solicitations for `target` (RFC 4291 section 2.7.1).
pub const fn solicited_node(target: Ipv6Addr) -> Ipv6Addr {
    let low = target.to_bits() & 0x00ff_ffff;
    Ipv6Addr::from_bits(SOLICITED_NODE_PREFIX | low)
}

/// Whether `ip` is a solicited-node multicast address.
pub const fn is_solicited_node(ip: Ipv6Addr) -> bool {
    ip.to_bits() & !0x00ff_ffff == SOLICITED_NODE_PREFIX
}

/// `ff02::1:ff00:0/104`.
const SOLICITED_NODE_PREFIX: u128 = 0xff02_0000_0000_0000_0000_0001_ff00_0000;
