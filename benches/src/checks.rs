//! What each check costs: pairs of switches that differ in one thing, which the second has configured or
//! has to do, and the packets that meet it. See `benches/checks.rs`.

use encap::Mac;
use encap::tunnel::OuterHeader;
use std::net::Ipv4Addr;
use std::sync::Arc;
use switch::tables::{
    Egress, Encapsulation, Fib, Group, Neighbor, Neighbors, NextHop, PortPolicy, Segment, Storm,
    Tunnel, UplinkVlan,
};
use switch::{Location, PortId, Tables, TunnelId};

use crate::guarded::{guarded, own_v6};
use crate::packets::{self, ETH, FRAME, IPV6, VXLAN};
use crate::rig::{Setup, Vary};
use crate::scenario::{
    LOCAL, OTHER, PEER_MAC, POD, ROUTER, SEGMENT, SOURCE, UPLINK, UPLINK_MAC, add_vxlan, bridge,
    bridge_to_vxlan, inside, learned, peer, route, route_to_vxlan, source, station, tables,
    vxlan_to_bridge,
};

/// One check.
pub struct Check {
    /// What is checked or done.
    pub name: &'static str,
    /// The packets that meet it, and the path that they take.
    pub packets: &'static str,
    /// The switch without it (false) and with it.
    pub build: fn(bool) -> Setup,
}

const fn check(name: &'static str, packets: &'static str, build: fn(bool) -> Setup) -> Check {
    Check { name, packets, build }
}

/// All checks that can be absent.
pub const ALL: &[Check] = &[
    check("anti-spoofing", "IPv4, bridged", guard_v4),
    check("anti-spoofing", "IPv6, bridged", guard_v6),
    check("MAC addresses that are configured", "IPv4, bridged", fixed),
    check("FDB limits of segment and port", "IPv4, bridged", fdb_limits),
    check("suppression", "IPv4, bridged", |on| suppress(bridge(FRAME, 1), on)),
    check("suppression: answered, not flooded to one", "ARP request", question),
    check("storm control", "broadcast to one port", storm),
    check("defence of the gateway's address", "IPv6, bridged", defence),
    check("equal cost, four ways", "IPv4, routed into VXLAN", equal_cost),
    check("host behind a bridged port", "IPv4, routed", resolved),
    check("MSS clamping", "UDP, routed", |on| clamp(route(FRAME, 1), on)),
    check("MSS clamping", "TCP data, routed", |on| clamp(tcp(false), on)),
    check("MSS clamping, lowered", "TCP SYN, routed", |on| clamp(tcp(true), on)),
    check("IPv4 options", "IPv4, routed", options),
    check("Ethernet padding", "IPv4, routed", padding),
    check("a path MTU that was reported", "IPv4, routed into VXLAN", path_mtu),
    check("outer header without DF", "IPv4, bridged into VXLAN", |on| {
        outer(on, |tunnel| tunnel.outer.dont_fragment = false)
    }),
    check("outer DSCP fixed", "IPv4, bridged into VXLAN", |on| {
        outer(on, |tunnel| tunnel.outer.dscp = Some(46))
    }),
    check("a range of source ports", "IPv4, bridged into VXLAN", |on| {
        outer(on, |tunnel| tunnel.outer.source_ports = 5000..=5999)
    }),
    check("a congestion mark", "IPv4, out of VXLAN", congestion),
    check("uplink on a VLAN", "IPv4, bridged into VXLAN", vlan),
    check("encapsulation limit, configured", "IPv6, into IPIP over IPv6", |on| ipip6(on, false)),
    check("encapsulation limit, the packet's", "IPv6, into IPIP over IPv6", |on| ipip6(false, on)),
];

/// As long before as behind; that the content is right is for other tests.
fn same_length(before: &[u8], after: &[u8]) {
    assert_eq!(before.len(), after.len());
}

fn anything(_: &[u8], _: &[u8]) {}

fn same_again() -> Vary {
    Box::new(|_| ())
}

fn policy(tables: &mut Tables, port: PortId) -> &mut PortPolicy {
    let port = tables.ports[port.index()].as_mut().expect("one of the three");
    &mut Arc::make_mut(port).policy
}

fn segment(tables: &mut Tables) -> &mut Segment {
    Arc::make_mut(tables.segments[SEGMENT.index()].as_mut().expect("the only one"))
}

fn tunnel(tables: &mut Tables) -> &mut Tunnel {
    Arc::make_mut(tables.tunnels[0].as_mut().expect("the first one"))
}

/// IPv6 from one station to another, in the shortest frame.
fn bridge6() -> Setup {
    let to = "fd00::3".parse().expect("an address");
    let frame = packets::udp6(FRAME, source(0), station(0), own_v6(), to);
    Setup { frame, vary: same_again(), ..bridge(FRAME, 1) }
}

fn guard_v4(on: bool) -> Setup {
    let setup = bridge(FRAME, 1);
    if on { guarded(setup) } else { setup }
}

fn guard_v6(on: bool) -> Setup {
    let setup = bridge6();
    if on { guarded(setup) } else { setup }
}

fn fixed(on: bool) -> Setup {
    let mut setup = bridge(FRAME, 1);
    if on {
        let statics = &mut segment(&mut setup.tables).statics;
        statics.insert(source(0), Location::Port(POD));
        statics.insert(station(0), Location::Port(OTHER));
    }
    setup
}

fn fdb_limits(on: bool) -> Setup {
    let mut setup = bridge(FRAME, 1);
    if on {
        segment(&mut setup.tables).policy.fdb_limit = Some(1000);
        policy(&mut setup.tables, POD).fdb_limit = Some(100);
    }
    setup
}

/// With an owner for the address that is asked for.
fn suppress(mut setup: Setup, on: bool) -> Setup {
    let segment = segment(&mut setup.tables);
    segment.policy.suppress = on;
    let owner = Neighbor { mac: station(0), at: Location::Port(OTHER) };
    segment.neighbors.insert(inside(0).into(), owner);
    setup
}

/// A question that the segment floods to its other port, or answers.
fn question(on: bool) -> Setup {
    let frame = packets::arp_request(source(0), SOURCE, inside(0));
    let egress = if on { POD } else { OTHER };
    let setup = Setup { frame, vary: same_again(), egress, check: same_length, ..bridge(FRAME, 1) };
    suppress(setup, on)
}

fn storm(on: bool) -> Setup {
    let frame = packets::udp(FRAME, source(0), Mac::BROADCAST, SOURCE, Ipv4Addr::BROADCAST);
    let mut setup = Setup { frame, vary: same_again(), ..bridge(FRAME, 1) };
    // More than the bench offers.
    let rate = || Arc::new(Storm::new(1_000_000_000));
    policy(&mut setup.tables, POD).storm = on.then(rate);
    setup
}

fn defence(on: bool) -> Setup {
    let mut setup = bridge6();
    segment(&mut setup.tables).routed = on;
    setup
}

/// Picks the last octet of the destination, so that flows differ.
fn vary_host() -> Vary {
    let mut sequence = packets::Sequence::new();
    Box::new(move |frame| {
        let net = u32::from(inside(0)) & !0xff;
        packets::set_dst(frame, ETH, (net | sequence.below(256)).into());
    })
}

fn equal_cost(on: bool) -> Setup {
    let mut setup = route_to_vxlan(FRAME, 1);
    (1..4).for_each(|i| add_vxlan(&mut setup.tables, i));
    if on {
        let ways: Vec<_> = (0..4).map(|i| (u64::from(i), NextHop::Tunnel(TunnelId(i)))).collect();
        setup.tables.groups = [Group::new(&ways)].into();
        setup.tables.next_hops = [NextHop::Group(0)].into();
    }
    let check = |before: &[u8], after: &[u8]| assert_eq!(before.len() + VXLAN, after.len());
    Setup { vary: vary_host(), check, ..setup }
}

/// Routed to one address: configured, or resolved by the router.
fn resolved(on: bool) -> Setup {
    let mut setup = route(FRAME, 1);
    let neighbors = Neighbors::default();
    neighbors.confirm(SEGMENT, inside(0).into(), station(0), Setup::now());
    setup.tables.neighbors = Some(Arc::new(neighbors));
    if on {
        setup.tables.next_hops = [NextHop::Connected(SEGMENT)].into();
    }
    setup
}

fn clamp(mut setup: Setup, on: bool) -> Setup {
    let router = setup.tables.router.as_mut().expect("there is one");
    Arc::make_mut(router).clamp_mss = on;
    setup
}

fn tcp(syn: bool) -> Setup {
    let frame = packets::tcp(source(0), ROUTER, SOURCE, inside(0), syn);
    Setup { frame, check: same_length, ..route(FRAME, 1) }
}

/// Of the same length with four octets of options and without.
fn options(on: bool) -> Setup {
    let frame = if on {
        packets::udp_with_options(FRAME, source(0), ROUTER, SOURCE, inside(0))
    } else {
        packets::udp(FRAME, source(0), ROUTER, SOURCE, inside(0))
    };
    Setup { frame, vary: same_again(), ..route(FRAME, 1) }
}

fn padding(on: bool) -> Setup {
    let mut frame = packets::udp(50, source(0), ROUTER, SOURCE, inside(0));
    if on {
        frame.resize(60, 0);
    }
    let check = |_: &[u8], after: &[u8]| assert_eq!(after.len(), 50);
    Setup { frame, check, ..route(FRAME, 1) }
}

fn path_mtu(on: bool) -> Setup {
    let setup = route_to_vxlan(FRAME, 1);
    if on {
        let tunnel = setup.tables.tunnels[0].as_ref().expect("the first one");
        tunnel.path.learn(1400, Setup::now());
    }
    setup
}

fn outer(on: bool, change: impl FnOnce(&mut Tunnel)) -> Setup {
    let mut setup = bridge_to_vxlan(FRAME, 1);
    if on {
        change(tunnel(&mut setup.tables));
    }
    setup
}

/// Congestion experienced outside, and a transport inside that can hear of it.
fn congestion(on: bool) -> Setup {
    let mut setup = vxlan_to_bridge(FRAME, 1);
    packets::set_tos(&mut setup.frame, ETH, if on { 3 } else { 2 });
    packets::set_tos(&mut setup.frame, VXLAN + ETH, 2);
    let check = |before: &[u8], after: &[u8]| assert_eq!(before.len() - VXLAN, after.len());
    Setup { check, ..setup }
}

fn vlan(on: bool) -> Setup {
    let mut setup = bridge_to_vxlan(FRAME, 1);
    setup.tables.vlan = on.then_some(UplinkVlan { port: UPLINK, id: 100 });
    Setup { check: anything, ..setup }
}

/// A tunnel packet of somebody else's into a tunnel over IPv6: the tunnel has an encapsulation limit, the
/// packet has.
fn ipip6(configured: bool, own: bool) -> Setup {
    let mut tables = tables();
    let (local, remote) = (LOCAL.to_ipv6_mapped(), peer(0).to_ipv6_mapped());
    let header = OuterHeader::ipip(UPLINK_MAC, PEER_MAC, local.into(), remote.into(), 64);
    let mut header = header.expect("one family");
    if configured {
        header = header.with_encapsulation_limit(4);
    }
    tables.tunnels.push(Some(Arc::new(Tunnel {
        id: TunnelId(0),
        name: "peer".into(),
        remote: remote.into(),
        encapsulation: Encapsulation::Ipip,
        mtu: 8900,
        overhead: 40,
        path: Default::default(),
        outer: Default::default(),
        egress: Some(Egress { port: UPLINK, header }),
    })));
    let to = "fd01::2".parse().expect("an address");
    let prefix = "fd01::/64".parse().expect("a prefix");
    tables.fib = Fib::build(&[(prefix, 0)]);
    tables.next_hops = [NextHop::Tunnel(TunnelId(0))].into();
    let mut frame = packets::udp6(FRAME + IPV6, source(0), ROUTER, own_v6(), to);
    // What is inside is of no importance to who does not look.
    frame[ETH + 6] = 41;
    if own {
        frame[ETH + 6] = 60;
        frame[ETH + IPV6..ETH + IPV6 + 8].copy_from_slice(&[41, 0, 4, 1, 4, 1, 1, 0]);
    }
    Setup {
        tables,
        fdb: learned(1, Location::Port(POD), Location::Port(OTHER)),
        ingress: POD,
        egress: UPLINK,
        frame,
        vary: same_again(),
        check: anything,
    }
}
