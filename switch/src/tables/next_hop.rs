//! What a route leads to.

use crate::ids::{PortId, SegmentId, TunnelId};
use encap::Mac;

/// What a route leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NextHop {
    /// A pod or host on a local port, whose MAC address is known.
    Local {
        /// The port it is behind.
        port: PortId,
        /// Its MAC address.
        mac: Mac,
    },
    /// A host on a segment, whose MAC address is to be resolved.
    Connected(SegmentId),
    /// A resolved host on a segment that a tunnel carries. Not in tables: what [`NextHop::Connected`]
    /// comes to.
    Behind {
        /// The tunnel it is behind.
        tunnel: TunnelId,
        /// Its MAC address.
        mac: Mac,
    },
    /// Another node, through a tunnel.
    Tunnel(TunnelId),
    /// A router or node on the underlay, without encapsulation.
    Direct {
        /// The uplink.
        port: PortId,
        /// The uplink's own MAC address.
        src: Mac,
        /// The MAC address of the next hop; none while the kernel is still resolving it.
        dst: Option<Mac>,
    },
    /// One of several next hops of equal cost: an index into [`crate::Tables::groups`].
    Group(u32),
    /// An address of the router itself.
    Router,
    /// The node's kernel, which routes it on.
    Host,
    /// Dropped without a word.
    Blackhole,
    /// Dropped; the sender is to be told that nobody is there.
    Unreachable,
    /// Dropped; the sender is to be told that it is forbidden.
    Prohibited,
}
