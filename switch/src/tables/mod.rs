//! The tables: an immutable snapshot of all that is configured, and the one table that traffic
//! writes, the [`Fdb`].

mod adjacency;
mod bucket;
mod exact;
pub mod fdb;
pub mod fib;
mod group;
pub mod mixer;
pub mod neighbors;
mod next_hop;
mod path_mtu;
mod peers;
mod port;
mod segment;
mod slots;
mod storm;
mod tunnel;
mod underlay;

pub use adjacency::Adjacencies;
pub(crate) use adjacency::{Entrance, GroupHops, Hop, Owner, Statics, WayIn, WayOut};
pub use bucket::TokenBucket;
pub(crate) use fdb::FdbView;
pub use fdb::{Fdb, FdbEntry, Learned, Limits, Stamp, Station, Stations};
pub(crate) use fib::LpmView;
pub use fib::{Fib, Lpm, Rib};
pub use group::Group;
pub use neighbors::{NeighborEntry, NeighborState, Neighbors};
pub use next_hop::NextHop;
pub use path_mtu::PathMtu;
pub use port::{Guard, Offload, Port, PortPolicy, Role};
pub use segment::{Neighbor, Segment, SegmentPolicy, UnknownUnicast};
pub use slots::Slots;
pub use storm::Storm;
pub use tunnel::{Egress, Encapsulation, OuterPolicy, Tunnel};
pub use underlay::{Underlay, UplinkVlan};

use crate::ids::{PortId, SegmentId, TunnelId};
use encap::Mac;
use std::net::IpAddr;
use std::sync::Arc;

/// All that is configured, as of one moment. Built by the control thread, published in one step,
/// read by workers without a lock. Parts that did not change are shared between snapshots.
#[derive(Clone, Debug, Default)]
pub struct Tables {
    /// Ports by [`PortId`]; none where the identifier is not in use.
    pub ports: Slots<Port>,
    /// Whether a port limits the rate of what goes to it: if none does, nobody looks for it.
    pub shaped: bool,
    /// The most that a port has to do with superpackets: if none is [`Offload::Full`], none come in.
    pub offload: Offload,
    /// Segments by [`SegmentId`].
    pub segments: Slots<Segment>,
    /// Tunnels by [`TunnelId`].
    pub tunnels: Slots<Tunnel>,
    /// Longest-prefix match to an index into `next_hops`.
    pub fib: Fib,
    /// What the FIB's values mean.
    pub next_hops: Arc<[NextHop]>,
    /// Equal-cost next hops, by the index in [`NextHop::Group`].
    pub groups: Arc<[Group]>,
    /// The router of the node, if it has one.
    pub router: Option<Arc<Router>>,
    /// The neighbours that the router resolves; none where it resolves none. Like the FDB it is written
    /// by workers and outlives the snapshots that point to it.
    pub neighbors: Option<Arc<Neighbors>>,
    /// How frames of the underlay find their tunnel.
    pub underlay: Arc<Underlay>,
    /// The VLAN that the uplink's frames are tagged with, if any.
    pub vlan: Option<UplinkVlan>,
    /// What [`Tables::prepare`] derived from the above.
    pub adjacencies: Arc<Adjacencies>,
}

/// The node's router: what answers for the gateway addresses.
#[derive(Clone, Debug)]
pub struct Router {
    /// Frames to this address are routed; it is the gateway's in the pods' neighbour tables.
    pub mac: Mac,
    /// The gateway addresses, IPv4 and IPv6.
    pub addresses: Vec<IpAddr>,
    /// The node's own end of the host port.
    pub host: Option<HostPort>,
    /// Whether the maximum segment size that a SYN offers is lowered to what the path carries.
    pub clamp_mss: bool,
    /// ICMP errors that each worker may send per second; a tenth of them at once.
    pub icmp_errors: u32,
}

/// The port through which the node itself is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// The port of the switch.
    pub port: PortId,
    /// The MAC of the node's interface at the other end.
    pub mac: Mac,
}

impl Router {
    /// Whether `ip` is an address of the router. The list is one address per family and pod CIDR.
    #[inline]
    pub fn has_address(&self, ip: IpAddr) -> bool {
        self.addresses.contains(&ip)
    }

    /// The address that the router speaks from to `peer`: of its family, the one that has most in
    /// common with it, which is the gateway of the pod CIDR that `peer` is in, if it is in one (RFC
    /// 1812 section 4.3.2.4, RFC 6724 section 5 rule 8).
    pub fn address_towards(&self, peer: IpAddr) -> Option<IpAddr> {
        let common = |own: &&IpAddr| match (own, peer) {
            (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
            (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
            _ => 0,
        };
        let of_family = self.addresses.iter().filter(|a| a.is_ipv4() == peer.is_ipv4());
        of_family.rev().max_by_key(common).copied()
    }
}

impl Tables {
    /// Derives what the usual frame is forwarded by, as far as it is not there from an earlier snapshot.
    /// Without it every frame takes the general way; with it, too, once one of the tables is another.
    #[must_use]
    pub fn prepare(mut self) -> Tables {
        if !self.adjacencies.are_of(&self) {
            self.adjacencies = Arc::new(Adjacencies::of(&self, &self.adjacencies));
        }
        self
    }

    /// A port.
    #[inline]
    pub fn port(&self, id: PortId) -> Option<&Port> {
        self.ports.get(id.index())?.as_deref()
    }

    /// A segment.
    #[inline]
    pub fn segment(&self, id: SegmentId) -> Option<&Segment> {
        self.segments.get(id.index())?.as_deref()
    }

    /// A tunnel.
    #[inline]
    pub fn tunnel(&self, id: TunnelId) -> Option<&Tunnel> {
        self.tunnels.get(id.index())?.as_deref()
    }

    /// The next hop of a flow in a group; none where there is no such group.
    #[inline]
    pub fn pick(&self, group: u32, flow: u32) -> Option<&NextHop> {
        self.groups.get(group as usize)?.pick(flow)
    }

    /// The next hop of the longest prefix that holds `ip`.
    #[inline(always)]
    pub fn route(&self, ip: IpAddr) -> Option<&NextHop> {
        self.next_hops.get(self.fib.index(ip))
    }
}
