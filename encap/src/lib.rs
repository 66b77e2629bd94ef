//! Wire formats of the pod network: views over bytes that cannot panic, checksums, and the
//! outer headers of VXLAN and IPIP tunnels.
//!
//! No I/O, no clock, no allocation on the packet path, no `unsafe`. Multi-byte fields are in
//! network byte order on the wire and in host byte order in every accessor.
#![forbid(unsafe_code)]

pub mod addr;

pub use addr::{Mac, Prefix, PrefixError, Vni};
