//! ARP for Ethernet and IPv4 (RFC 826, RFC 5227).

use core::net::Ipv4Addr;

use crate::Mac;
use crate::ethernet::ethertype;
use crate::wire::{self, error, view};

mod field {
    use crate::wire::Field;
    pub const HTYPE: Field = 0..2;
    pub const PTYPE: Field = 2..4;
    pub const HLEN: usize = 4;
    pub const PLEN: usize = 5;
    pub const OPER: Field = 6..8;
    pub const SHA: Field = 8..14;
    pub const SPA: Field = 14..18;
    pub const THA: Field = 18..24;
    pub const TPA: Field = 24..28;
}

/// Bytes of an ARP packet for Ethernet and IPv4.
pub const LEN: usize = 28;

/// Hardware type of Ethernet.
const HTYPE_ETHERNET: u16 = 1;

/// What an ARP packet asks or says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Who has the target protocol address?
    Request,
    /// The sender has it.
    Reply,
    /// RARP, InARP and the like, by number.
    Other(u16),
}

impl From<u16> for Operation {
    #[inline]
    fn from(v: u16) -> Operation {
        match v {
            1 => Operation::Request,
            2 => Operation::Reply,
            v => Operation::Other(v),
        }
    }
}

impl From<Operation> for u16 {
    #[inline]
    fn from(v: Operation) -> u16 {
        match v {
            Operation::Request => 1,
            Operation::Reply => 2,
            Operation::Other(v) => v,
        }
    }
}

error! {
    /// Why bytes are not an ARP packet for Ethernet and IPv4.
    Error {
        Truncated "shorter than an ARP packet",
        Hardware "the hardware type is not Ethernet",
        Protocol "the protocol type is not IPv4",
        AddressLength "the address lengths are not 6 and 4",
    }
}

view! {
    /// An ARP packet, trailing Ethernet padding allowed.
    Error
}

impl<T: AsRef<[u8]>> View<T> {
    /// Whether the packet fits the buffer and is for Ethernet and IPv4.
    #[inline]
    pub fn check_len(&self) -> Result<(), Error> {
        let b = self.bytes();
        if b.len() < LEN {
            return Err(Error::Truncated);
        }
        if wire::read_u16(b, field::HTYPE) != HTYPE_ETHERNET {
            return Err(Error::Hardware);
        }
        if wire::read_u16(b, field::PTYPE) != ethertype::IPV4 {
            return Err(Error::Protocol);
        }
        if (wire::read_u8(b, field::HLEN), wire::read_u8(b, field::PLEN)) != (6, 4) {
            return Err(Error::AddressLength);
        }
        Ok(())
    }

    /// Request, reply or another.
    #[inline]
    pub fn operation(&self) -> Operation {
        wire::read_u16(self.bytes(), field::OPER).into()
    }

    /// Sender hardware address.
    #[inline]
    pub fn sender_mac(&self) -> Mac {
        Mac(wire::read(self.bytes(), field::SHA))
    }

    /// Sender protocol address.
    #[inline]
    pub fn sender_ip(&self) -> Ipv4Addr {
        wire::read::<4>(self.bytes(), field::SPA).into()
    }

    /// Target hardware address; without meaning in a request.
    #[inline]
    pub fn target_mac(&self) -> Mac {
        Mac(wire::read(self.bytes(), field::THA))
    }

    /// Target protocol address.
    #[inline]
    pub fn target_ip(&self) -> Ipv4Addr {
        wire::read::<4>(self.bytes(), field::TPA).into()
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> View<T> {
    /// Sets hardware type, protocol type and address lengths.
    #[inline]
    pub fn set_fixed(&mut self) {
        let b = self.buffer.as_mut();
        wire::write_u16(b, field::HTYPE, HTYPE_ETHERNET);
        wire::write_u16(b, field::PTYPE, ethertype::IPV4);
        wire::write_u8(b, field::HLEN, 6);
        wire::write_u8(b, field::PLEN, 4);
    }

    /// Sets the operation.
    #[inline]
    pub fn set_operation(&mut self, v: Operation) {
        wire::write_u16(self.buffer.as_mut(), field::OPER, v.into());
    }

    /// Sets the sender's addresses.
    #[inline]
    pub fn set_sender(&mut self, mac: Mac, ip: Ipv4Addr) {
        let b = self.buffer.as_mut();
        wire::write(b, field::SHA, mac.0);
        wire::write(b, field::SPA, ip.octets());
    }

    /// Sets the target's addresses.
    #[inline]
    pub fn set_target(&mut self, mac: Mac, ip: Ipv4Addr) {
        let b = self.buffer.as_mut();
        wire::write(b, field::THA, mac.0);
        wire::write(b, field::TPA, ip.octets());
    }
}

/// An ARP packet for Ethernet and IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repr {
    /// Request, reply or another.
    pub operation: Operation,
    /// Sender hardware address.
    pub sender_mac: Mac,
    /// Sender protocol address.
    pub sender_ip: Ipv4Addr,
    /// Target hardware address, zero in a request.
    pub target_mac: Mac,
    /// Target protocol address.
    pub target_ip: Ipv4Addr,
}

impl Repr {
    /// Reads `view`.
    #[inline]
    pub fn parse<T: AsRef<[u8]>>(view: &View<T>) -> Result<Repr, Error> {
        view.check_len()?;
        Ok(Repr {
            operation: view.operation(),
            sender_mac: view.sender_mac(),
            sender_ip: view.sender_ip(),
            target_mac: view.target_mac(),
            target_ip: view.target_ip(),
        })
    }

    /// Bytes that [`Repr::emit`] writes.
    pub const fn buffer_len(&self) -> usize {
        LEN
    }

    /// Writes the packet to the front of `out`.
    #[inline]
    pub fn emit(&self, out: &mut [u8]) {
        let mut v = View::new_unchecked(out);
        v.set_fixed();
        v.set_operation(self.operation);
        v.set_sender(self.sender_mac, self.sender_ip);
        v.set_target(self.target_mac, self.target_ip);
    }

    /// Whether this is a probe, which asks before using an address (RFC 5227 section 2.1.1): it
    /// must not be learned from.
    #[inline]
    pub fn is_probe(&self) -> bool {
        self.operation == Operation::Request && self.sender_ip.is_unspecified()
    }

    /// Whether this announces the sender's own address (RFC 5227 section 2.3, "gratuitous ARP").
    #[inline]
    pub fn is_announcement(&self) -> bool {
        self.sender_ip == self.target_ip && !self.sender_ip.is_unspecified()
    }

    /// The answer to a request, from the owner of the requested address.
    #[inline]
    #[must_use]
    pub fn reply(&self, owner: Mac) -> Repr {
        Repr {
            operation: Operation::Reply,
            sender_mac: owner,
            sender_ip: self.target_ip,
            target_mac: self.sender_mac,
            target_ip: self.sender_ip,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// scapy: raw(ARP(op=1, hwsrc="02:00:00:00:00:01", psrc="10.0.0.1", pdst="10.0.0.2"))
    const REQUEST: [u8; 28] =
        [0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 10, 0, 0, 2];

    #[test]
    fn request_and_reply() {
        let r = Repr::parse(&View::new_checked(&REQUEST[..]).unwrap()).unwrap();
        assert_eq!(r.operation, Operation::Request);
        assert_eq!(r.sender_mac, "02:00:00:00:00:01".parse().unwrap());
        assert_eq!(r.target_ip, Ipv4Addr::new(10, 0, 0, 2));
        assert!(!r.is_probe() && !r.is_announcement());
        let owner = Mac([2, 0, 0, 0, 0, 2]);
        let a = r.reply(owner);
        assert_eq!((a.sender_mac, a.sender_ip), (owner, r.target_ip));
        assert_eq!((a.target_mac, a.target_ip), (r.sender_mac, r.sender_ip));
        let mut out = [0; LEN];
        r.emit(&mut out);
        assert_eq!(out, REQUEST);
    }

    #[test]
    fn probe_and_announcement() {
        let ip = Ipv4Addr::new(10, 0, 0, 1);
        let mut r = Repr {
            operation: Operation::Request,
            sender_mac: Mac([2; 6]),
            sender_ip: Ipv4Addr::UNSPECIFIED,
            target_mac: Mac::ZERO,
            target_ip: ip,
        };
        assert!(r.is_probe() && !r.is_announcement());
        r.sender_ip = ip;
        assert!(!r.is_probe() && r.is_announcement());
    }

    #[test]
    fn each_fixed_field_is_checked() {
        for (at, want) in [
            (0, Error::Hardware),
            (2, Error::Protocol),
            (4, Error::AddressLength),
            (5, Error::AddressLength),
        ] {
            let mut b = REQUEST;
            b[at] ^= 0x40;
            assert_eq!(View::new_checked(&b[..]), Err(want));
        }
        for n in 0..LEN {
            assert_eq!(View::new_checked(&REQUEST[..n]), Err(Error::Truncated));
        }
    }
}
