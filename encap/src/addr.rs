//! Addresses and identifiers that can only hold legal values.

use core::fmt;
use core::str::FromStr;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A 48-bit IEEE 802 MAC address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// `ff:ff:ff:ff:ff:ff`.
    pub const BROADCAST: Mac = Mac([0xff; 6]);
    /// `00:00:00:00:00:00`, never a legal source.
    pub const ZERO: Mac = Mac([0; 6]);

    /// The address as the low 48 bits of an integer, first octet most significant.
    #[inline]
    pub const fn to_u64(self) -> u64 {
        let b = self.0;
        u64::from_be_bytes([0, 0, b[0], b[1], b[2], b[3], b[4], b[5]])
    }

    /// The inverse of [`Mac::to_u64`]; the high 16 bits are ignored.
    #[inline]
    pub const fn from_u64(v: u64) -> Mac {
        let b = v.to_be_bytes();
        Mac([b[2], b[3], b[4], b[5], b[6], b[7]])
    }

    /// Whether the group bit is set: multicast, broadcast included.
    #[inline]
    pub const fn is_multicast(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// Whether this is `ff:ff:ff:ff:ff:ff`.
    #[inline]
    pub fn is_broadcast(self) -> bool {
        self == Mac::BROADCAST
    }

    /// Whether the address may be the source of a frame: neither a group address nor zero
    /// (IEEE 802.3 clause 3.2.3).
    #[inline]
    pub fn is_valid_source(self) -> bool {
        !self.is_multicast() && self != Mac::ZERO
    }

    /// A locally administered address derived from an IP address, `0a:58` and four octets, so
    /// that both ends of a tunnel compute the same one. IPv6 addresses are folded by xor.
    pub fn derived_from(ip: IpAddr) -> Mac {
        let o = match ip {
            IpAddr::V4(a) => a.octets(),
            IpAddr::V6(a) => {
                let x = a.octets();
                core::array::from_fn(|i| x[i] ^ x[i + 4] ^ x[i + 8] ^ x[i + 12])
            }
        };
        Mac([0x0a, 0x58, o[0], o[1], o[2], o[3]])
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let b = self.0;
        write!(f, "{:02x}:{:02x}:{:02x}:{:02x}:{:02x}:{:02x}", b[0], b[1], b[2], b[3], b[4], b[5])
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a text is not a MAC address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MacError;

impl fmt::Display for MacError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected a MAC address like 02:00:00:00:00:01")
    }
}

impl std::error::Error for MacError {}

impl FromStr for Mac {
    type Err = MacError;

    fn from_str(s: &str) -> Result<Mac, MacError> {
        let mut out = [0u8; 6];
        let mut parts = s.split(':');
        for o in &mut out {
            let p = parts.next().ok_or(MacError)?;
            if p.len() != 2 || !p.bytes().all(|c| c.is_ascii_hexdigit()) {
                return Err(MacError);
            }
            *o = u8::from_str_radix(p, 16).map_err(|_| MacError)?;
        }
        if parts.next().is_some() {
            return Err(MacError);
        }
        Ok(Mac(out))
    }
}

/// A VXLAN network identifier: 24 bits (RFC 7348 section 5).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Vni(u32);

impl Vni {
    /// The largest VNI.
    pub const MAX: u32 = 0x00ff_ffff;

    /// A VNI, unless `v` needs more than 24 bits.
    #[inline]
    pub const fn new(v: u32) -> Option<Vni> {
        if v <= Vni::MAX { Some(Vni(v)) } else { None }
    }

    /// The identifier in the high 24 bits of a VXLAN header's second word; the low 8, which are
    /// reserved there, are ignored.
    #[inline]
    pub const fn from_high_bits(word: u32) -> Vni {
        Vni(word >> 8)
    }

    /// The identifier as an integer.
    #[inline]
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Vni {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Vni {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Vni({})", self.0)
    }
}

/// An IP prefix whose host bits are zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Prefix {
    addr: IpAddr,
    len: u8,
}

/// Why a prefix is not legal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrefixError {
    /// Not `address/length`.
    Syntax,
    /// The length exceeds 32 (IPv4) or 128 (IPv6).
    Length,
    /// Bits beyond the length are set; the value is the prefix that was probably meant.
    HostBits(Prefix),
}

impl fmt::Display for PrefixError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PrefixError::Syntax => f.write_str("expected a prefix like 10.244.1.0/24"),
            PrefixError::Length => {
                f.write_str("expected a prefix length of at most 32 (IPv4) or 128 (IPv6)")
            }
            PrefixError::HostBits(p) => write!(f, "host bits are set; did you mean {p}?"),
        }
    }
}

impl std::error::Error for PrefixError {}

impl Prefix {
    /// A prefix, refused when the length is out of range or host bits are set.
    pub fn new(addr: IpAddr, len: u8) -> Result<Prefix, PrefixError> {
        let p = Prefix::truncating(addr, len)?;
        if p.addr == addr { Ok(p) } else { Err(PrefixError::HostBits(p)) }
    }

    /// A prefix with the host bits of `addr` cleared.
    pub fn truncating(addr: IpAddr, len: u8) -> Result<Prefix, PrefixError> {
        let addr = match addr {
            IpAddr::V4(a) if len <= 32 => {
                let mask = u32::MAX.checked_shl(32 - u32::from(len)).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from(u32::from(a) & mask))
            }
            IpAddr::V6(a) if len <= 128 => {
                let mask = u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from(u128::from(a) & mask))
            }
            _ => return Err(PrefixError::Length),
        };
        Ok(Prefix { addr, len })
    }

    /// The prefix that holds exactly `addr`.
    pub fn host(addr: IpAddr) -> Prefix {
        let len = if addr.is_ipv4() { 32 } else { 128 };
        Prefix { addr, len }
    }

    /// The lowest address, host bits zero.
    pub fn addr(self) -> IpAddr {
        self.addr
    }

    /// The prefix length in bits.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(self) -> u8 {
        self.len
    }

    /// Whether this is an IPv4 prefix.
    pub fn is_ipv4(self) -> bool {
        self.addr.is_ipv4()
    }

    /// Whether `ip` lies in the prefix; never across families.
    pub fn contains(self, ip: IpAddr) -> bool {
        self.is_ipv4() == ip.is_ipv4()
            && Prefix::truncating(ip, self.len).is_ok_and(|p| p.addr == self.addr)
    }

    /// Whether every address of `other` lies in this prefix.
    pub fn covers(self, other: Prefix) -> bool {
        other.len >= self.len && self.contains(other.addr)
    }

    /// The address `n` above the lowest one, if it is still in the prefix.
    pub fn nth(self, n: u128) -> Option<IpAddr> {
        let ip = match self.addr {
            IpAddr::V4(a) => IpAddr::V4(u32::from(a).checked_add(u32::try_from(n).ok()?)?.into()),
            IpAddr::V6(a) => IpAddr::V6(u128::from(a).checked_add(n)?.into()),
        };
        self.contains(ip).then_some(ip)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.len)
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Prefix {
    type Err = PrefixError;

    fn from_str(s: &str) -> Result<Prefix, PrefixError> {
        let (addr, len) = s.split_once('/').ok_or(PrefixError::Syntax)?;
        let addr = addr.parse().map_err(|_| PrefixError::Syntax)?;
        let len = len.parse().map_err(|_| PrefixError::Syntax)?;
        Prefix::new(addr, len)
    }
}

#[cfg(feature = "serde")]
mod serde_impls {
    use super::{Mac, Prefix, Vni};
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    impl Serialize for Mac {
        fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
            s.collect_str(self)
        }
    }
    impl<'de> Deserialize<'de> for Mac {
        fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
            let s = String::deserialize(d)?;
            s.parse().map_err(|e| D::Error::custom(format_args!("{s:?}: {e}")))
        }
    }
    impl Serialize for Prefix {
        fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
            s.collect_str(self)
        }
    }
    impl<'de> Deserialize<'de> for Prefix {
        fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
            let s = String::deserialize(d)?;
            s.parse().map_err(|e| D::Error::custom(format_args!("{s:?}: {e}")))
        }
    }
    impl Serialize for Vni {
        fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
            s.serialize_u32(self.get())
        }
    }
    impl<'de> Deserialize<'de> for Vni {
        fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
            let v = u32::deserialize(d)?;
            Vni::new(v).ok_or_else(|| {
                D::Error::custom(format_args!("{v}: expected a VNI of at most {}", Vni::MAX))
            })
        }
    }
}
