//! The topology that most tests run on: a node with everything that the switch knows.
//!
//! ```text
//! segment 0, routed      host port, pods a and b: 10.244.n.0/24, fd00:10:244:n::/64
//! segment 1 "blue"       two bridge ports, VNI 100 over IPv4 to the peer and to a third node
//! segment 2 "green"      two bridge ports, VNI 200 over IPv6 to the peer
//! uplink                 192.0.2.n, 2001:db8::n
//! ```
//!
//! Nodes 1 and 2 are each other's peers: what one encapsulates, the other one decapsulates.

use super::net::{Net, Pod};
use encap::Mac;
use encap::tunnel::OuterHeader;
use std::net::IpAddr;
use std::sync::Arc;
use switch::tables::{NextHop, Storm, UnknownUnicast};
use switch::{PortId, SegmentId, Tables};

/// How a node reaches its peer's pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    Vxlan4,
    Vxlan6,
    Ipip4,
    Ipip6,
    Native,
}

impl Via {
    pub const ALL: [Via; 5] = [Via::Vxlan4, Via::Vxlan6, Via::Ipip4, Via::Ipip6, Via::Native];
}

/// The tunnels of a node, in the order of their identifiers.
pub mod tunnels {
    use switch::TunnelId;

    pub const VXLAN4: TunnelId = TunnelId(0);
    pub const VXLAN6: TunnelId = TunnelId(1);
    pub const IPIP4: TunnelId = TunnelId(2);
    pub const IPIP6: TunnelId = TunnelId(3);
    pub const BLUE: TunnelId = TunnelId(4);
    pub const GREEN: TunnelId = TunnelId(5);
    /// Its peer's MAC address is not known.
    pub const LOST: TunnelId = TunnelId(6);
    /// To a third node, for the mesh of the blue segment.
    pub const BLUE3: TunnelId = TunnelId(7);
}

/// What the wire between the nodes carries: an MTU of 9000.
pub const UPLINK_MAX_FRAME: u32 = 9000 + 14;

/// The inner destination of routed packets to node `n`.
pub fn vtep_mac(n: u8) -> Mac {
    Mac([0x0a, 0x58, 192, 0, 2, n])
}

pub fn uplink_mac(n: u8) -> Mac {
    Mac([2, 0, 0, 0, 0xff, n])
}

/// The router of node `n`.
pub fn gateway_mac(n: u8) -> Mac {
    Mac([0x0a, 0x58, 10, 244, n, 1])
}

/// The kernel's end of the host port of node `n`.
pub fn host_mac(n: u8) -> Mac {
    Mac([2, 0, 0, 0, 0xee, n])
}

/// A node, and what a test needs to know to talk to it.
pub struct Node {
    pub tables: Tables,
    pub n: u8,
    pub routed: SegmentId,
    pub blue: SegmentId,
    pub green: SegmentId,
    pub host: PortId,
    pub a: Pod,
    pub b: Pod,
    pub blue_ports: [PortId; 2],
    pub green_ports: [PortId; 2],
    pub uplink: PortId,
}

impl Node {
    /// Node `n`, 1 or 2, which reaches its peer's pods `via` one of its tunnels or natively.
    pub fn new(n: u8, via: Via) -> Node {
        Node::with(n, via, |_| ())
    }

    /// Like [`Node::new`], with more in its tables.
    pub fn with(n: u8, via: Via, more: impl FnOnce(&mut Net)) -> Node {
        let peer = 3 - n;
        let mut net = Net::new();
        let [routed, blue, green] = [net.segment(true), net.segment(false), net.segment(false)];

        net.router(gateway_mac(n), &[&format!("10.244.{n}.1"), &format!("fd00:10:244:{n}::1")]);
        let host = net.host(routed, host_mac(n));
        let [a, b] = [10, 11].map(|i| {
            let mac = Mac([2, 0, 0, n, 0, i]);
            net.pod(routed, mac, &format!("10.244.{n}.{i}"), &format!("fd00:10:244:{n}::{i}"))
        });
        let blue_ports = [net.access(blue), net.access(blue)];
        let green_ports = [net.access(green), net.access(green)];

        let (local4, local6) = (format!("192.0.2.{n}"), format!("2001:db8::{n}"));
        let (peer4, peer6) = (format!("192.0.2.{peer}"), format!("2001:db8::{peer}"));
        let uplink = net.uplink(&[&local4, &local6]);
        net.max_frame(uplink, UPLINK_MAX_FRAME);

        let macs = (uplink_mac(n), uplink_mac(peer));
        let outer = |remote: &str| -> (IpAddr, IpAddr) {
            let remote: IpAddr = remote.parse().unwrap();
            (if remote.is_ipv4() { &local4 } else { &local6 }.parse().unwrap(), remote)
        };
        let vxlan = |remote: &str, port, vni| {
            let (src, dst) = outer(remote);
            let vni = encap::Vni::new(vni).unwrap();
            let header = OuterHeader::vxlan(macs.0, macs.1, src, dst, port, vni, 64).unwrap();
            Some((uplink, header))
        };
        let ipip = |remote: &str| {
            let (src, dst) = outer(remote);
            Some((uplink, OuterHeader::ipip(macs.0, macs.1, src, dst, 64).unwrap()))
        };
        let vteps = (vtep_mac(n), vtep_mac(peer));
        // The MTU of a VXLAN tunnel leaves room for the inner Ethernet header.
        net.vxlan(1, 4789, &peer4, None, vteps, vxlan(&peer4, 4789, 1), 8950);
        net.vxlan(6, 8472, &peer6, None, vteps, vxlan(&peer6, 8472, 6), 8930);
        net.ipip(&peer4, ipip(&peer4), 8980);
        net.ipip(&peer6, ipip(&peer6), 8960);
        net.vxlan(100, 4789, &peer4, Some(blue), vteps, vxlan(&peer4, 4789, 100), 8950);
        net.vxlan(200, 8472, &peer6, Some(green), vteps, vxlan(&peer6, 8472, 200), 8930);
        net.vxlan(7, 4789, "192.0.2.99", None, vteps, None, 8950);
        net.vxlan(100, 4789, "192.0.2.3", Some(blue), vteps, vxlan("192.0.2.3", 4789, 100), 8950);

        let direct = |dst| NextHop::Direct { port: uplink, src: macs.0, dst };
        let via = match via {
            Via::Vxlan4 => NextHop::Tunnel(tunnels::VXLAN4),
            Via::Vxlan6 => NextHop::Tunnel(tunnels::VXLAN6),
            Via::Ipip4 => NextHop::Tunnel(tunnels::IPIP4),
            Via::Ipip6 => NextHop::Tunnel(tunnels::IPIP6),
            Via::Native => direct(Some(macs.1)),
        };
        let any = net.group(&[
            NextHop::Tunnel(tunnels::VXLAN4),
            NextHop::Tunnel(tunnels::IPIP6),
            direct(Some(macs.1)),
        ]);
        let reached = [
            NextHop::Tunnel(tunnels::VXLAN4),
            NextHop::Tunnel(tunnels::VXLAN6),
            NextHop::Tunnel(tunnels::IPIP4),
            NextHop::Tunnel(tunnels::IPIP6),
            direct(Some(macs.1)),
            direct(None),
            NextHop::Tunnel(tunnels::LOST),
            any,
        ];
        net.route(&format!("10.244.{peer}.0/24"), via);
        net.route(&format!("fd00:10:244:{peer}::/64"), via);
        for (i, next_hop) in reached.into_iter().enumerate() {
            net.route(&format!("10.250.{i}.0/24"), next_hop);
            net.route(&format!("fd00:10:250:{i}::/64"), next_hop);
        }
        for (v4, v6, next_hop) in [
            ("10.251.0.0/16", "fd00:10:251::/48", NextHop::Blackhole),
            ("10.252.0.0/16", "fd00:10:252::/48", NextHop::Unreachable),
            ("10.253.0.0/16", "fd00:10:253::/48", NextHop::Prohibited),
            ("198.18.0.0/15", "2001:2::/48", NextHop::Host),
        ] {
            net.route(v4, next_hop);
            net.route(v6, next_hop);
        }
        more(&mut net);
        let tables = net.build();
        Node { tables, n, routed, blue, green, host, a, b, blue_ports, green_ports, uplink }
    }
}

/// To be added with [`Node::with`]: a segment under every policy there is, with two guarded pods, and
/// a bridge port that may flood nothing.
pub fn policed(net: &mut Net) {
    let segment = net.segment(true);
    let policy = net.policy(segment);
    policy.suppress = true;
    policy.unknown_unicast = UnknownUnicast::Drop;
    policy.fdb_limit = Some(4);
    for i in [20u8, 21] {
        let mac = Mac([2, 0, 0, 0, 7, i]);
        net.guarded(segment, mac, &[&format!("10.244.1.{i}"), &format!("fd00:10:244:1::{i}")]);
    }
    let port = net.access(segment);
    net.port_policy(port).fdb_limit = Some(1);
    net.port_policy(port).storm = Some(Arc::new(Storm::new(0)));
}
