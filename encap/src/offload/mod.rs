//! Segmentation and checksum offload in software: superpackets, their packets, and back.
//!
//! A *superpacket* is a frame that stands for several packets of one flow: TCP (TSO) or UDP (USO) over
//! IPv4 or IPv6, with one set of headers before the payload of all of them, and a size, that of the
//! payload of each packet but the last. Its checksum is *partial*: the field holds the sum of the
//! pseudo-header, folded and not complemented, and whoever makes packets of it does the rest (VIRTIO
//! 1.3 section 5.1.6.2; Linux's CHECKSUM_PARTIAL).
//!
//! [`Layout`] finds the headers and writes those of each packet, [`merge`] makes a superpacket of TCP
//! segments and [`bundle`] one of UDP datagrams, [`VnetHeader`] is how a guest and a TAP device tell one
//! from an ordinary packet.

pub mod bundle;
mod layout;
pub mod merge;
mod segment;
mod vnet;

pub use layout::{Layout, Transport};
pub use segment::Cut;
pub use vnet::{Claim, Partial, VnetHeader};

use crate::wire::error;

/// The most packets that one superpacket may stand for: at 65,535 bytes, packets of 64 bytes of payload
/// each. Linux makes none that are smaller, and a frame that costs its sender one system call should
/// not cost a switch tens of thousands of packets.
pub const MAX_PACKETS: usize = 1024;
/// The same for UDP (Linux's UDP_MAX_SEGMENTS).
pub const MAX_DATAGRAMS: usize = 128;
/// The most bytes of headers, from the Ethernet header on.
pub const MAX_HEADERS: usize = 512;

error! {
    /// Why a frame is not a superpacket, or not the one that is claimed.
    Error {
        Truncated "the headers are not in the first segment as a whole",
        NotIp "neither IPv4 nor IPv6",
        Header "an IP header that contradicts itself",
        Length "a length in a header is not that of the frame",
        Fragment "a fragment, or a header that only fragments and routed packets have",
        Transport "neither TCP nor UDP",
        Flags "a TCP segment that opens or resets a connection",
        Empty "no payload, or a size of zero",
        HeadersLength "more bytes of headers than are dealt with",
        TooMany "it would be too many packets",
        Claim "the description names another place, protocol or version than the headers",
    }
}
