//! The address of an interface together with the length of its subnet's prefix.

use core::fmt;
use core::str::FromStr;
use std::net::IpAddr;

use encap::{Prefix, PrefixError};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An interface address such as `10.244.1.5/24`: unlike a [`Prefix`], its host bits count.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InterfaceAddr {
    addr: IpAddr,
    prefix: Prefix,
}

impl InterfaceAddr {
    /// The address `addr` in a subnet of `len` bits; refused when `len` exceeds the family's.
    pub fn new(addr: IpAddr, len: u8) -> Result<InterfaceAddr, PrefixError> {
        Ok(InterfaceAddr { addr, prefix: Prefix::truncating(addr, len)? })
    }

    /// The address.
    pub fn addr(self) -> IpAddr {
        self.addr
    }

    /// The subnet that the address lies in.
    pub fn prefix(self) -> Prefix {
        self.prefix
    }

    /// Whether the address names its subnet rather than a host in it: the IPv4 network and
    /// directed broadcast addresses (RFC 919), the IPv6 subnet-router anycast address
    /// (RFC 4291 section 2.6.1). Point-to-point and host prefixes have none (RFC 3021, RFC 6164).
    pub fn is_reserved_in(self, prefix: Prefix) -> bool {
        let width = if prefix.is_ipv4() { 32 } else { 128 };
        if !prefix.contains(self.addr) || prefix.len() + 1 >= width {
            return false;
        }
        let last = (1u128 << (width - prefix.len()).min(127)) - 1;
        self.addr == prefix.addr() || (prefix.is_ipv4() && prefix.nth(last) == Some(self.addr))
    }
}

impl fmt::Display for InterfaceAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.prefix.len())
    }
}

impl fmt::Debug for InterfaceAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a text is not an interface address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InterfaceAddrError;

impl fmt::Display for InterfaceAddrError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected an address with its prefix length like 10.244.1.5/24")
    }
}

impl std::error::Error for InterfaceAddrError {}

impl FromStr for InterfaceAddr {
    type Err = InterfaceAddrError;

    fn from_str(s: &str) -> Result<InterfaceAddr, InterfaceAddrError> {
        let (addr, len) = s.split_once('/').ok_or(InterfaceAddrError)?;
        let addr = addr.parse().map_err(|_| InterfaceAddrError)?;
        let len = len.parse().map_err(|_| InterfaceAddrError)?;
        InterfaceAddr::new(addr, len).map_err(|_| InterfaceAddrError)
    }
}

impl Serialize for InterfaceAddr {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for InterfaceAddr {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let s = String::deserialize(d)?;
        s.parse().map_err(|e| D::Error::custom(format_args!("{s:?}: {e}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(s: &str) -> InterfaceAddr {
        s.parse().unwrap()
    }

    #[test]
    fn round_trips_and_keeps_host_bits() {
        let a = addr("10.244.1.5/24");
        assert_eq!(a.to_string(), "10.244.1.5/24");
        assert_eq!(a.prefix(), "10.244.1.0/24".parse().unwrap());
        assert_eq!(addr("fd00::5/64").to_string(), "fd00::5/64");
        for bad in ["", "10.244.1.5", "10.244.1.5/33", "fd00::1/129", "x/24", "10.0.0.1/-1"] {
            assert_eq!(bad.parse::<InterfaceAddr>(), Err(InterfaceAddrError), "{bad}");
        }
    }

    #[test]
    fn reserved_addresses_of_a_subnet() {
        let v4: Prefix = "10.244.1.0/24".parse().unwrap();
        assert!(addr("10.244.1.0/24").is_reserved_in(v4));
        assert!(addr("10.244.1.255/24").is_reserved_in(v4));
        assert!(!addr("10.244.1.1/24").is_reserved_in(v4));
        assert!(!addr("10.244.2.0/24").is_reserved_in(v4), "not in the subnet at all");
        assert!(addr("0.0.0.0/0").is_reserved_in("0.0.0.0/0".parse().unwrap()));

        let v6: Prefix = "fd00:1::/64".parse().unwrap();
        assert!(addr("fd00:1::/64").is_reserved_in(v6));
        assert!(!addr("fd00:1::ffff:ffff:ffff:ffff/64").is_reserved_in(v6), "no broadcast in v6");

        for p in ["10.0.0.0/31", "10.0.0.0/32"] {
            assert!(!addr(p).is_reserved_in(p.parse().unwrap()), "{p}");
        }
        assert!(!addr("fd00::/127").is_reserved_in("fd00::/127".parse().unwrap()));
    }
}
