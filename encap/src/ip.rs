//! What IPv4 and IPv6 have in common.

use crate::wire::error;

/// IP protocol numbers (IANA), the same in IPv4's protocol and IPv6's next header field.
pub mod protocol {
    /// IPv6 hop-by-hop options.
    pub const HOP_BY_HOP: u8 = 0;
    /// ICMP for IPv4.
    pub const ICMP: u8 = 1;
    /// IPv4 in IP (RFC 2003).
    pub const IPIP: u8 = 4;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// DCCP.
    pub const DCCP: u8 = 33;
    /// IPv6 in IP (RFC 2473, RFC 4213).
    pub const IPV6: u8 = 41;
    /// IPv6 routing header.
    pub const ROUTING: u8 = 43;
    /// IPv6 fragment header.
    pub const FRAGMENT: u8 = 44;
    /// Encapsulating security payload: what follows is encrypted.
    pub const ESP: u8 = 50;
    /// Authentication header.
    pub const AH: u8 = 51;
    /// ICMPv6.
    pub const ICMPV6: u8 = 58;
    /// IPv6: nothing follows.
    pub const NO_NEXT: u8 = 59;
    /// IPv6 destination options.
    pub const DESTINATION_OPTIONS: u8 = 60;
    /// SCTP.
    pub const SCTP: u8 = 132;
    /// IPv6 mobility header.
    pub const MOBILITY: u8 = 135;
    /// UDP-Lite.
    pub const UDP_LITE: u8 = 136;
    /// Host identity protocol.
    pub const HIP: u8 = 139;
    /// Shim6.
    pub const SHIM6: u8 = 140;
}

/// Whether the first four bytes of the protocol are a source and a destination port.
#[inline]
pub const fn has_ports(protocol: u8) -> bool {
    use protocol::{DCCP, SCTP, TCP, UDP, UDP_LITE};
    matches!(protocol, TCP | UDP | SCTP | DCCP | UDP_LITE)
}

/// The version of an IP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum IpVersion {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl IpVersion {
    /// The version in the first octet of `packet`, or none when it is neither 4 nor 6.
    #[inline]
    pub fn of(packet: &[u8]) -> Option<IpVersion> {
        match packet.first()? >> 4 {
            4 => Some(IpVersion::V4),
            6 => Some(IpVersion::V6),
            _ => None,
        }
    }

    /// The EtherType that carries it.
    #[inline]
    pub const fn ethertype(self) -> u16 {
        match self {
            IpVersion::V4 => crate::ethernet::ethertype::IPV4,
            IpVersion::V6 => crate::ethernet::ethertype::IPV6,
        }
    }

    /// The protocol number that carries it in another IP packet.
    #[inline]
    pub const fn protocol(self) -> u8 {
        match self {
            IpVersion::V4 => protocol::IPIP,
            IpVersion::V6 => protocol::IPV6,
        }
    }
}

error! {
    /// A router may not forward the packet.
    TtlExpired {
        Expired "the TTL or hop limit is 0 or 1",
    }
}
