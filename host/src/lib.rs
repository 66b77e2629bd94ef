//! The node's kernel as podswitch uses it: links, addresses, routes, neighbours and offloads,
//! in any network namespace, over netlink. Synchronous; one [`Handle`] is one socket.
//!
//! Two objects are built from those: [`PodInterface`], a pod's veth pair set up on both ends,
//! and [`HostPort`], the pair that connects the node itself. [`Monitor`] reports what others
//! change.
//!
//! Nothing here forwards a packet or decides what should exist; it makes the kernel agree with
//! what it is told, and says in the error what the kernel would not do.
#![forbid(unsafe_code)]

mod address;
mod error;
mod ethtool;
mod handle;
mod hostport;
mod link;
mod monitor;
mod neighbor;
mod netlink;
mod netns;
mod pod;
mod pod_state;
mod pod_tap;
mod route;
pub mod sysctl;
mod veth;

pub use address::{Address, AddressSpec};
pub use error::{Error, Result};
pub use ethtool::{Channels, Ethtool, Features, Rings};
pub use handle::Handle;
pub use hostport::{HostPort, HostPortSpec, HostRoute, ROUTE_PROTOCOL, ROUTER_V4, ROUTER_V6};
pub use link::{Link, XdpMode};
pub use monitor::{Event, Monitor};
pub use neighbor::{Neighbor, NeighborState};
pub use netns::Netns;
pub use pod::{HostEnd, LINK_GROUP, PodInterface, PodRoute, PodSpec};
pub use pod_state::PodState;
pub use pod_tap::TAP_MTU_MAX;
pub use route::{ResolvedRoute, Route, RouteKind};
pub use veth::VethSpec;
