//! The rows of the comparison: what each of them forwards, and through which tables.

use encap::tunnel::OuterHeader;
use encap::{Mac, Prefix, Vni};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use switch::tables::{
    Egress, Encapsulation, Fib, NextHop, Offload, Port, PortPolicy, Role, Router, Segment,
    SegmentPolicy, Tunnel, Underlay,
};
use switch::{Fdb, Location, PortId, SegmentId, Tables, TunnelId};

use crate::guarded;
use crate::packets::{self, ETH, IPV4, Sequence, VXLAN};
use crate::rig::{Setup, Vary};

/// One row: its name, what VPP needs in clocks a packet, where our bar is, and how it is built.
pub struct Scenario {
    /// The path.
    pub path: &'static str,
    /// How large the tables are that it uses.
    pub size: &'static str,
    /// Clocks a packet of VPP, on an AMD Zen 4 with a TSC of 2.6 GHz.
    pub vpp: f64,
    /// Ours, at most.
    pub at_most: f64,
    /// The switch and its traffic, of frames so many bytes long before encapsulation.
    pub build: fn(usize) -> Setup,
}

impl Scenario {
    /// Path and tables.
    pub fn name(&self) -> String {
        format!("{}, {}", self.path, self.size)
    }
}

/// All rows.
pub const ALL: &[Scenario] = &[
    row("L2 bridge", "1 MAC", 47.7, 24.0, |len| bridge(len, 1)),
    row("L2 bridge", "10,000 MACs", 99.4, 50.0, |len| bridge(len, 10_000)),
    row("IPv4", "1 route", 58.0, 29.0, |len| route(len, 1)),
    row("IPv4", "10,000 routes", 67.6, 34.0, |len| route(len, 10_000)),
    row("IPv4", "500,000 routes", 210.5, 80.0, |len| route(len, 500_000)),
    row("bridge to VXLAN", "1 MAC", 93.8, 45.0, |len| bridge_to_vxlan(len, 1)),
    row("bridge to VXLAN", "10,000 MACs", 147.9, 70.0, |len| bridge_to_vxlan(len, 10_000)),
    row("route to VXLAN", "1 peer", 139.7, 50.0, |len| route_to_vxlan(len, 1)),
    row("route to VXLAN", "1,000 peers", 151.7, 60.0, |len| route_to_vxlan(len, 1000)),
    row("VXLAN to bridge", "1 MAC", 113.9, 55.0, |len| vxlan_to_bridge(len, 1)),
    row("VXLAN to bridge", "10,000 MACs", 178.8, 85.0, |len| vxlan_to_bridge(len, 10_000)),
    row("IPIP encap", "1 route", 86.0, 40.0, |len| ipip_encap(len, 1)),
    row("IPIP encap", "10,000 routes", 100.0, 50.0, |len| ipip_encap(len, 10_000)),
    row("IPIP decap", "1 route", 211.0, 55.0, |len| ipip_decap(len, 1)),
    row("IPIP decap", "10,000 routes", 219.0, 65.0, |len| ipip_decap(len, 10_000)),
];

/// All rows, and those of guarded pods.
pub fn every() -> impl Iterator<Item = &'static Scenario> {
    ALL.iter().chain(guarded::ROWS)
}

pub(crate) const fn row(
    path: &'static str,
    size: &'static str,
    vpp: f64,
    at_most: f64,
    build: fn(usize) -> Setup,
) -> Scenario {
    Scenario { path, size, vpp, at_most, build }
}

pub(crate) const SEGMENT: SegmentId = SegmentId(0);
pub(crate) const POD: PortId = PortId(0);
pub(crate) const OTHER: PortId = PortId(1);
pub(crate) const UPLINK: PortId = PortId(2);
pub(crate) const ROUTER: Mac = Mac([0x0a, 0x58, 10, 0, 0, 1]);
pub(crate) const UPLINK_MAC: Mac = Mac([2, 0, 0, 0, 0xff, 1]);
pub(crate) const PEER_MAC: Mac = Mac([2, 0, 0, 0, 0xff, 2]);
pub(crate) const LOCAL: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
pub(crate) const SOURCE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const VNI: u32 = 100;
/// Next hops that routes share.
pub const NEXT_HOPS: u32 = 64;

/// The `i`th station that sends.
pub(crate) fn source(i: u32) -> Mac {
    Mac::from_u64(0x0200_0000_0000 | u64::from(i))
}

/// The `i`th station that is sent to.
pub(crate) fn station(i: u32) -> Mac {
    Mac::from_u64(0x0210_0000_0000 | u64::from(i))
}

/// The network identifier of the tunnels.
pub fn vni() -> Vni {
    Vni::new(VNI).expect("24 bits")
}

/// The `i`th peer.
pub fn peer(i: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(u32::from(Ipv4Addr::new(172, 16, 0, 1)) + i)
}

/// An address in the `i`th /24.
pub(crate) fn inside(i: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x1000_0000 + (i << 8) + 7)
}

/// `value(i)` for each of `n` /24 prefixes.
pub(crate) fn fib(n: u32, value: impl Fn(u32) -> u32) -> Fib {
    let routes: Vec<_> = (0..n)
        .map(|i| (Prefix::truncating(inside(i).into(), 24).expect("24 of 32"), value(i)))
        .collect();
    Fib::build(&routes)
}

/// Two ports of a segment that has a router, and an uplink.
pub(crate) fn tables() -> Tables {
    let port = |id: PortId, role| {
        let (name, policy) = (format!("port{id}"), PortPolicy::default());
        // As veths and uplinks are by default.
        let offload = match role {
            Role::Access(_) => Offload::Coalesce,
            Role::Uplink => Offload::None,
        };
        Some(Arc::new(Port { id, name, role, max_frame: 9014, mtu: 9000, offload, policy }))
    };
    let segment = Segment {
        id: SEGMENT,
        name: "bench".into(),
        ageing: Fdb::DEFAULT_AGEING,
        flood: vec![Location::Port(POD), Location::Port(OTHER)],
        statics: Default::default(),
        routed: true,
        policy: SegmentPolicy::default(),
        neighbors: Default::default(),
    };
    let mut underlay = Underlay::default();
    underlay.add_local(LOCAL.into());
    let router = Router {
        mac: ROUTER,
        addresses: vec![[10, 0, 0, 1].into()],
        host: None,
        clamp_mss: false,
        icmp_errors: 1000,
    };
    Tables {
        ports: [
            port(POD, Role::Access(SEGMENT)),
            port(OTHER, Role::Access(SEGMENT)),
            port(UPLINK, Role::Uplink),
        ]
        .into_iter()
        .collect(),
        segments: [Some(Arc::new(segment))].into_iter().collect(),
        router: Some(Arc::new(router)),
        underlay: Arc::new(underlay),
        offload: Offload::Coalesce,
        ..Tables::default()
    }
}

/// Adds a VXLAN tunnel to the `i`th peer.
pub(crate) fn add_vxlan(tables: &mut Tables, i: u32) {
    let (id, vni) = (TunnelId(i as u16), vni());
    let remote = IpAddr::V4(peer(i));
    let header = OuterHeader::vxlan(UPLINK_MAC, PEER_MAC, LOCAL.into(), remote, 4789, vni, 64)
        .expect("IPv4");
    let local_mac = Mac::derived_from(LOCAL.into());
    let remote_mac = Mac::derived_from(remote);
    tables.tunnels.push(Some(Arc::new(Tunnel {
        id,
        name: format!("peer{i}"),
        remote,
        encapsulation: Encapsulation::Vxlan { vni, segment: Some(SEGMENT), local_mac, remote_mac },
        mtu: 8950,
        overhead: 50,
        path: Default::default(),
        outer: Default::default(),
        egress: Some(Egress { port: UPLINK, header }),
    })));
    Arc::make_mut(&mut tables.underlay).add_vxlan(4789, vni, remote, id);
}

/// A switch with VXLAN tunnels to `n` peers.
pub fn vxlan_tunnels(n: u32) -> Tables {
    let mut tables = tables();
    (0..n).for_each(|i| add_vxlan(&mut tables, i));
    tables
}

/// Adds an IPIP tunnel to the first peer.
fn add_ipip(tables: &mut Tables) {
    let remote = IpAddr::V4(peer(0));
    let header = OuterHeader::ipip(UPLINK_MAC, PEER_MAC, LOCAL.into(), remote, 64).expect("IPv4");
    tables.tunnels.push(Some(Arc::new(Tunnel {
        id: TunnelId(0),
        name: "peer".into(),
        remote,
        encapsulation: Encapsulation::Ipip,
        mtu: 8980,
        overhead: 20,
        path: Default::default(),
        outer: Default::default(),
        egress: Some(Egress { port: UPLINK, header }),
    })));
    Arc::make_mut(&mut tables.underlay).add_ipip(remote, TunnelId(0));
}

/// `n` sources at `from` and `n` stations at `to`, all of them known.
pub(crate) fn learned(n: u32, from: Location, to: Location) -> Fdb {
    let fdb = Fdb::new(65_536);
    for i in 0..n {
        fdb.learn(SEGMENT, source(i), from, Setup::now(), Fdb::DEFAULT_AGEING);
        fdb.learn(SEGMENT, station(i), to, Setup::now(), Fdb::DEFAULT_AGEING);
    }
    fdb
}

/// Picks the Ethernet addresses of the frame at `at` among `n` sources and `n` stations.
fn vary_macs(n: u32, at: usize) -> Vary {
    let mut sequence = Sequence::new();
    Box::new(move |frame| {
        frame[at..at + 6].copy_from_slice(&station(sequence.below(n)).0);
        frame[at + 6..at + 12].copy_from_slice(&source(sequence.below(n)).0);
    })
}

/// Picks the destination of the IPv4 header at `at` among `n` /24 prefixes.
fn vary_dst(n: u32, at: usize) -> Vary {
    let mut sequence = Sequence::new();
    Box::new(move |frame| packets::set_dst(frame, at, inside(sequence.below(n))))
}

pub(crate) fn bridge(len: usize, n: u32) -> Setup {
    Setup {
        tables: tables(),
        fdb: learned(n, Location::Port(POD), Location::Port(OTHER)),
        ingress: POD,
        egress: OTHER,
        frame: packets::udp(len, source(0), station(0), SOURCE, inside(0)),
        vary: vary_macs(n, 0),
        check: |before, after| assert_eq!(before, after),
    }
}

/// To pods on a port: `n` routes that share a few next hops.
fn local_routes(tables: &mut Tables, n: u32) {
    tables.fib = fib(n, |i| i % NEXT_HOPS);
    tables.next_hops =
        (0..NEXT_HOPS).map(|i| NextHop::Local { port: OTHER, mac: station(i) }).collect();
}

/// Routes to pods on a port by a table of one's own, whose values are below [`NEXT_HOPS`], to
/// destinations of one's own.
pub fn route_by(fib: Fib, destination: impl FnMut() -> Ipv4Addr + Send + 'static) -> Setup {
    let (mut setup, mut destination) = (route(packets::FRAME, 1), destination);
    setup.tables.fib = fib;
    setup.vary = Box::new(move |frame| packets::set_dst(frame, ETH, destination()));
    setup.check = packets::assert_routed;
    setup
}

pub(crate) fn route(len: usize, n: u32) -> Setup {
    let mut tables = tables();
    local_routes(&mut tables, n);
    Setup {
        tables,
        fdb: learned(1, Location::Port(POD), Location::Port(OTHER)),
        ingress: POD,
        egress: OTHER,
        frame: packets::udp(len, source(0), ROUTER, SOURCE, inside(0)),
        vary: vary_dst(n, ETH),
        check: |before, after| {
            packets::assert_routed(before, after);
            let prefix = (u32::from_be_bytes(*before[30..].first_chunk().unwrap()) >> 8) & 0xf_ffff;
            assert_eq!(after[..6], station(prefix % 64).0);
            assert_eq!(after[6..12], ROUTER.0);
        },
    }
}

/// Asserts that `after` is a VXLAN packet to `to`, and returns the frame inside.
fn assert_vxlan(after: &[u8], to: Ipv4Addr) -> &[u8] {
    let packet = etherparse::SlicedPacket::from_ethernet(after).expect("a packet");
    let Some(etherparse::NetSlice::Ipv4(ip)) = packet.net else { panic!("not IPv4") };
    let header = ip.header().to_header();
    assert_eq!(header.header_checksum, header.calc_header_checksum());
    assert_eq!((header.source, header.destination), (LOCAL.octets(), to.octets()));
    let Some(etherparse::TransportSlice::Udp(udp)) = packet.transport else { panic!("not UDP") };
    assert_eq!(udp.destination_port(), 4789);
    assert_eq!(udp.payload()[..8], [8, 0, 0, 0, 0, 0, VNI as u8, 0]);
    &after[VXLAN..]
}

pub(crate) fn bridge_to_vxlan(len: usize, n: u32) -> Setup {
    let mut tables = tables();
    add_vxlan(&mut tables, 0);
    Setup {
        tables,
        fdb: learned(n, Location::Port(POD), Location::Tunnel(TunnelId(0))),
        ingress: POD,
        egress: UPLINK,
        frame: packets::udp(len, source(0), station(0), SOURCE, inside(0)),
        vary: vary_macs(n, 0),
        check: |before, after| assert_eq!(assert_vxlan(after, peer(0)), before),
    }
}

pub(crate) fn route_to_vxlan(len: usize, n: u32) -> Setup {
    let mut tables = tables();
    (0..n).for_each(|i| add_vxlan(&mut tables, i));
    tables.fib = fib(n, |i| i);
    tables.next_hops = (0..n).map(|i| NextHop::Tunnel(TunnelId(i as u16))).collect();
    Setup {
        tables,
        fdb: learned(1, Location::Port(POD), Location::Port(OTHER)),
        ingress: POD,
        egress: UPLINK,
        frame: packets::udp(len, source(0), ROUTER, SOURCE, inside(0)),
        vary: vary_dst(n, ETH),
        check: |before, after| {
            let prefix = (u32::from_be_bytes(*before[30..].first_chunk().unwrap()) >> 8) & 0xf_ffff;
            let inner = assert_vxlan(after, peer(prefix));
            packets::assert_routed(before, inner);
            assert_eq!(inner[..6], Mac::derived_from(peer(prefix).into()).0);
        },
    }
}

pub(crate) fn vxlan_to_bridge(len: usize, n: u32) -> Setup {
    let mut tables = tables();
    add_vxlan(&mut tables, 0);
    let inner = packets::udp(len, source(0), station(0), SOURCE, inside(0));
    Setup {
        tables,
        fdb: learned(n, Location::Tunnel(TunnelId(0)), Location::Port(OTHER)),
        ingress: UPLINK,
        egress: OTHER,
        frame: packets::vxlan(PEER_MAC, UPLINK_MAC, peer(0), LOCAL, VNI, &inner),
        vary: vary_macs(n, VXLAN),
        check: |before, after| assert_eq!(&before[VXLAN..], after),
    }
}

pub(crate) fn ipip_encap(len: usize, n: u32) -> Setup {
    let mut tables = tables();
    add_ipip(&mut tables);
    tables.fib = fib(n, |_| 0);
    tables.next_hops = [NextHop::Tunnel(TunnelId(0))].into();
    Setup {
        tables,
        fdb: learned(1, Location::Port(POD), Location::Port(OTHER)),
        ingress: POD,
        egress: UPLINK,
        frame: packets::udp(len, source(0), ROUTER, SOURCE, inside(0)),
        vary: vary_dst(n, ETH),
        check: |before, after| {
            assert_eq!(after.len(), before.len() + IPV4);
            let outer = etherparse::Ipv4Header::from_slice(&after[ETH..]).expect("IPv4").0;
            assert_eq!(outer.header_checksum, outer.calc_header_checksum());
            assert_eq!((outer.protocol.0, outer.destination), (4, peer(0).octets()));
            let inner = [&after[..ETH], &after[ETH + IPV4..]].concat();
            packets::assert_routed(before, &inner);
        },
    }
}

fn ipip_decap(len: usize, n: u32) -> Setup {
    let mut tables = tables();
    add_ipip(&mut tables);
    local_routes(&mut tables, n);
    let inner = packets::udp(len, source(0), ROUTER, SOURCE, inside(0));
    Setup {
        tables,
        fdb: Fdb::new(4),
        ingress: UPLINK,
        egress: OTHER,
        frame: packets::ipip(PEER_MAC, UPLINK_MAC, peer(0), LOCAL, &inner),
        vary: vary_dst(n, ETH + IPV4),
        check: |before, after| {
            let inner = [&before[..ETH], &before[ETH + IPV4..]].concat();
            packets::assert_routed(&inner, after);
        },
    }
}
