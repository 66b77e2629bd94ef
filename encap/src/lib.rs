//! Wire formats of the pod network: views over bytes that cannot panic, checksums, and the
//! outer headers of VXLAN and IPIP tunnels.
//!
//! No I/O, no clock, no allocation on the packet path, no `unsafe`. Multi-byte fields are in
//! network byte order on the wire and in host byte order in every accessor.
//!
//! Every format is a module of the same shape: `View` reads and writes fields in place
//! (`new_checked` first, then no accessor can leave the buffer), `Repr` is the parsed form
//! (`parse`, `buffer_len`, `emit`), `Error` says in one word why bytes were refused. A frame's
//! payload may continue in further segments, so views of formats with a length field also have
//! `new_checked_within`, which takes the length of the whole.
#![forbid(unsafe_code)]

pub mod addr;
pub mod arp;
pub mod checksum;
pub mod ecn;
pub mod ethernet;
pub mod flow;
pub mod icmpv4;
pub mod icmpv6;
pub mod ip;
pub mod ipv4;
pub mod ipv6;
pub mod ndisc;
pub mod offload;
pub mod tcp;
pub mod tunnel;
pub mod udp;
pub mod vlan;
pub mod vxlan;
mod wire;
pub mod words;

pub use addr::{Mac, Prefix, PrefixError, Vni};
pub use ip::IpVersion;
