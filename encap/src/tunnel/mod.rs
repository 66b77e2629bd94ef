//! Outer headers of tunnels: VXLAN (RFC 7348) and IP in IP (RFC 2003, RFC 2473, RFC 4213).
//!
//! ```text
//! VXLAN  Ethernet 14 | IPv4 20 or IPv6 40 | UDP 8 | VXLAN 8 | inner Ethernet frame
//! IPIP   Ethernet 14 | IPv4 20 or IPv6 40 [ | encapsulation limit 8 ] | inner IPv4 or IPv6 packet
//! ```
//!
//! [`OuterHeader`] writes them, [`parse_outer`] reads them.

mod decap;
mod encap;
mod limit;
mod template;
mod usual;

pub use decap::{Kind, Outer, OuterError, parse_outer, parse_outer_v4, parse_outer_v6};
pub use encap::{FamilyMismatch, IPIP4_LEN, OuterHeader, VXLAN4_LEN, WriteError};
pub use limit::{EncapsulationLimit, LIMIT_LEN, encapsulation_limit};
pub use template::Template;
pub use usual::{UsualIpip, UsualVxlan};

use crate::checksum::Sum;

/// Adds the first `len` octets of a datagram that starts in `first` and goes on in `rest`.
fn sum_segments(mut sum: Sum, first: &[u8], rest: &[&[u8]], len: usize) -> Sum {
    let mut left = len;
    for segment in core::iter::once(&first).chain(rest) {
        let n = segment.len().min(left);
        sum = sum.bytes(&segment[..n]);
        left -= n;
    }
    sum
}
