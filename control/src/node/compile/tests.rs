//! What a desired state means in tables: the node of the README, in a world made by hand.

use super::*;
use crate::node::facts::{NextHopFacts, PortFacts, UplinkFacts};
use podswitch_api::state::Via;
use switch::DropReason;
use switch::tables::{NextHop, Offload, SegmentPolicy, UnknownUnicast};

const NODE: &str = r#"
    [node]
    name = "node1"
    pod_cidrs = ["10.244.1.0/24", "fd00:10:244:1::/64"]
    gateway = true
    [uplink]
    dev = "uplink0"
    [[port]]
    name = "pod-a"
    netns = "/run/netns/a"
    ifname = "eth0"
    ip = ["10.244.1.5/24", "fd00:10:244:1::5/64"]
    [[port]]
    dev = "eth1"
    [[tunnel]]
    name = "node2"
    kind = "vxlan"
    remote = "192.0.2.2"
    vni = 1
    [[tunnel]]
    name = "node3"
    kind = "ipip"
    remote = "192.0.2.3"
    [[route]]
    prefix = "10.244.2.0/24"
    via = "node2"
    [[route]]
    prefix = "10.244.3.0/24"
    via = "node3"
    [[route]]
    prefix = "10.244.4.0/24"
    via = "192.0.2.4"
    [[route]]
    prefix = "10.244.5.0/24"
    via = "blackhole"
"#;

fn mac(n: u8) -> Mac {
    Mac([2, 0, 0, 0, 0, n])
}

fn world() -> Facts {
    let port = |id, mtu, m| PortFacts { id: PortId(id), mtu, offload: Offload::None, mac: mac(m) };
    let hop = |last| NextHopFacts {
        ip: IpAddr::from([192, 0, 2, last]),
        src: Some([192, 0, 2, 1].into()),
        mac: (last != 3).then_some(mac(100 + last)),
        mtu: None,
    };
    Facts {
        ports: [("pod-a".to_owned(), port(1, 65535, 5)), ("eth1".to_owned(), port(2, 1500, 6))]
            .into(),
        host: Some(port(3, 65535, 7)),
        uplink: Some(UplinkFacts {
            name: "uplink0".into(),
            id: PortId(4),
            mtu: 1500,
            mac: mac(8),
            addresses: vec![[192, 0, 2, 1].into()],
            subnets: vec!["192.0.2.0/24".parse().unwrap()],
            vlan: None,
        }),
        next_hops: [2u8, 3, 4].map(|n| (IpAddr::from([192, 0, 2, n]), hop(n))).into(),
    }
}

fn tables() -> Tables {
    let state: State = toml::from_str(NODE).expect("the state is valid");
    compile(&state, &world(), &mut TableIds::default())
}

fn route(tables: &Tables, ip: &str) -> Option<NextHop> {
    tables.route(ip.parse().unwrap()).copied()
}

#[test]
fn routes_lead_where_the_state_says() {
    let t = tables();
    let pod = NextHop::Local { port: PortId(1), mac: mac(5) };
    assert_eq!(route(&t, "10.244.1.5"), Some(pod));
    assert_eq!(route(&t, "fd00:10:244:1::5"), Some(pod));
    assert_eq!(route(&t, "10.244.1.1"), Some(NextHop::Router));
    assert_eq!(route(&t, "fd00:10:244:1::1"), Some(NextHop::Router));
    let connected = NextHop::Connected(SegmentId(0));
    assert_eq!(route(&t, "10.244.1.6"), Some(connected), "no pod, but maybe a host behind eth1");
    assert_eq!(route(&t, "10.244.2.9"), Some(NextHop::Tunnel(TunnelId(0))));
    assert_eq!(route(&t, "10.244.3.9"), Some(NextHop::Tunnel(TunnelId(1))));
    let direct = NextHop::Direct { port: PortId(4), src: mac(8), dst: Some(mac(104)) };
    assert_eq!(route(&t, "10.244.4.9"), Some(direct));
    assert_eq!(route(&t, "10.244.5.9"), Some(NextHop::Blackhole));
    assert_eq!(route(&t, "192.0.2.1"), Some(NextHop::Host), "the node itself");
    assert_eq!(route(&t, "198.51.100.1"), Some(NextHop::Host), "the world");
}

#[test]
fn with_pods_alone_nobody_is_asked_for() {
    let mut state: State = toml::from_str(NODE).unwrap();
    state.ports.retain(|p| p.dev.is_none());
    let t = compile(&state, &world(), &mut TableIds::default());
    assert_eq!(route(&t, "10.244.1.6"), Some(NextHop::Unreachable), "no such pod");
    assert!(t.neighbors.is_none());
}

#[test]
fn the_router_and_the_node_have_addresses_of_their_own() {
    let t = tables();
    let router = t.router.as_ref().unwrap();
    assert_eq!(router.mac, "0a:58:0a:f4:01:01".parse().unwrap());
    assert_eq!(router.addresses.len(), 2);
    assert_eq!(router.host, Some(HostPort { port: PortId(3), mac: mac(7) }));
}

#[test]
fn a_segment_knows_its_members_and_only_the_pods_by_address() {
    let t = tables();
    let segment = t.segment(SegmentId(0)).unwrap();
    let ports = [1, 2, 3].map(|n| Location::Port(PortId(n)));
    assert_eq!(segment.flood, ports);
    assert_eq!(segment.statics.get(&mac(5)), Some(&ports[0]));
    assert_eq!(segment.statics.get(&mac(6)), None, "what is behind eth1 is learned");
    assert_eq!(segment.statics.get(&mac(7)), Some(&ports[2]));
    assert!(segment.routed);
    assert_eq!(segment.ageing, 300);
}

#[test]
fn tunnels_have_the_mtu_that_their_header_leaves() {
    let t = tables();
    let vxlan = t.tunnel(TunnelId(0)).unwrap();
    assert_eq!(vxlan.mtu, 1450);
    assert!(vxlan.egress.is_some());
    let Encapsulation::Vxlan { local_mac, remote_mac, segment, .. } = vxlan.encapsulation else {
        panic!("not VXLAN");
    };
    assert_eq!(local_mac, "0a:58:c0:00:02:01".parse().unwrap());
    assert_eq!(remote_mac, "0a:58:c0:00:02:02".parse().unwrap());
    assert_eq!(segment, None);
    let ipip = t.tunnel(TunnelId(1)).unwrap();
    assert_eq!(ipip.mtu, 1480);
    assert!(ipip.egress.is_none(), "its next hop is not resolved");
}

/// RFC 2473 section 4.1.1: the option is eight bytes of each packet.
#[test]
fn an_encapsulation_limit_takes_its_room() {
    let mut facts = world();
    let peer: IpAddr = "2001:db8::3".parse().unwrap();
    let uplink = facts.uplink.as_mut().unwrap();
    uplink.addresses.push("2001:db8::1".parse().unwrap());
    let hop = NextHopFacts { ip: peer, src: None, mac: Some(mac(103)), mtu: None };
    facts.next_hops.insert(peer, hop);
    for (limit, mtu) in [(None, 1460), (Some(0), 1452), (Some(255), 1452)] {
        let mut state: State = toml::from_str(NODE).unwrap();
        state.tunnels[1].remote = peer;
        state.tunnels[1].encapsulation_limit = limit;
        let tables = compile(&state, &facts, &mut TableIds::default());
        let tunnel = tables.tunnel(TunnelId(1)).unwrap();
        assert_eq!((tunnel.mtu, tunnel.overhead), (mtu, 1500 - mtu));
        let header = &tunnel.egress.as_ref().unwrap().header;
        assert_eq!(header.has_encapsulation_limit(), limit.is_some());
        assert_eq!(header.ip_overhead() as u32, tunnel.overhead);
    }
}

#[test]
fn the_underlay_knows_peers_and_vnis() {
    let t = tables();
    let vni = encap::Vni::new(1).unwrap();
    let peer = |n| IpAddr::from([192, 0, 2, n]);
    let u = &t.underlay;
    assert_eq!(u.vxlan_tunnel(4789, vni, peer(2)), Ok(TunnelId(0)));
    assert_eq!(u.vxlan_tunnel(4789, vni, peer(9)), Err(DropReason::VxlanUnknownPeer));
    let other = encap::Vni::new(2).unwrap();
    assert_eq!(u.vxlan_tunnel(4789, other, peer(2)), Err(DropReason::VxlanUnknownVni));
    assert_eq!(u.ipip_tunnel(peer(3)), Ok(TunnelId(1)));
    assert_eq!(u.ipip_tunnel(peer(2)), Err(DropReason::IpipUnknownPeer));
    assert!(u.is_local(peer(1)));
}

#[test]
fn identifiers_stay_when_the_state_changes() {
    let mut state: State = toml::from_str(NODE).unwrap();
    let mut ids = TableIds::default();
    compile(&state, &world(), &mut ids);
    state.tunnels.remove(0);
    state.routes.remove(0);
    let t = compile(&state, &world(), &mut ids);
    assert!(t.tunnel(TunnelId(0)).is_none());
    assert_eq!(t.tunnel(TunnelId(1)).unwrap().name, "node3");
    assert_eq!(route(&t, "10.244.3.9"), Some(NextHop::Tunnel(TunnelId(1))));
    assert_eq!(route(&t, "10.244.2.9"), Some(NextHop::Host), "its route is gone");
}

#[test]
fn several_ways_share_the_flows_of_those_that_can_be_used() {
    let mut state: State = toml::from_str(NODE).unwrap();
    state.routes[0].via = Via::of(vec!["node2".into(), "192.0.2.4".into(), "node3".into()]);
    let t = compile(&state, &world(), &mut TableIds::default());
    let Some(NextHop::Group(group)) = route(&t, "10.244.2.9") else { panic!("not a group") };
    let picked: std::collections::HashSet<_> =
        (0..256).filter_map(|f| t.pick(group, f).copied()).collect();
    let direct = NextHop::Direct { port: PortId(4), src: mac(8), dst: Some(mac(104)) };
    assert_eq!(picked, [NextHop::Tunnel(TunnelId(0)), direct].into(), "node3 is unresolved");

    let mut facts = world();
    facts.next_hops.remove(&IpAddr::from([192, 0, 2, 4]));
    let t = compile(&state, &facts, &mut TableIds::default());
    assert_eq!(route(&t, "10.244.2.9"), Some(NextHop::Tunnel(TunnelId(0))), "only one is left");
}

#[test]
fn without_a_node_nothing_is_routed() {
    let state = r#"
        [uplink]
        dev = "uplink0"
        [[port]]
        dev = "eth1"
        [[neighbor]]
        ip = "203.0.113.9"
        mac = "02:00:00:00:00:09"
        port = "eth1"
    "#;
    let state: State = toml::from_str(state).expect("the state is valid");
    let t = compile(&state, &world(), &mut TableIds::default());
    assert!(t.router.is_none());
    assert_eq!(route(&t, "203.0.113.9"), None, "there is no MAC address to route in the name of");
}

/// The tables when tunnels encapsulate only where they must, in a world changed by `change`.
fn cross_subnet(change: impl FnOnce(&mut Facts)) -> Tables {
    let mut state: State = toml::from_str(NODE).unwrap();
    state.tunnels.iter_mut().for_each(|t| t.mode = TunnelMode::CrossSubnet);
    assert!(state.native_routing(), "what peers of the subnet send as it is must be taken");
    let mut facts = world();
    change(&mut facts);
    compile(&state, &facts, &mut TableIds::default())
}

#[test]
fn a_peer_on_the_subnet_gets_packets_as_they_are() {
    let t = cross_subnet(|_| {});
    let direct = |dst| Some(NextHop::Direct { port: PortId(4), src: mac(8), dst });
    assert_eq!(route(&t, "10.244.2.9"), direct(Some(mac(102))));
    assert_eq!(route(&t, "10.244.3.9"), direct(None), "its next hop is not resolved");
    assert!(
        t.tunnel(TunnelId(0)).unwrap().egress.is_some(),
        "what it sends in the tunnel is taken"
    );
}

#[test]
fn a_peer_off_the_subnet_gets_packets_in_the_tunnel() {
    let tunnel = Some(NextHop::Tunnel(TunnelId(0)));
    let narrow = |f: &mut Facts| {
        f.uplink.as_mut().unwrap().subnets = vec!["192.0.2.0/31".parse().unwrap()];
    };
    assert_eq!(route(&cross_subnet(narrow), "10.244.2.9"), tunnel, "another subnet");
    let routed = |f: &mut Facts| {
        f.next_hops.get_mut(&IpAddr::from([192, 0, 2, 2])).unwrap().ip = [192, 0, 2, 254].into();
    };
    assert_eq!(route(&cross_subnet(routed), "10.244.2.9"), tunnel, "behind a router all the same");
    let unknown = |f: &mut Facts| f.next_hops.clear();
    assert_eq!(route(&cross_subnet(unknown), "10.244.2.9"), tunnel, "no way to it at present");
    assert_eq!(route(&cross_subnet(|f| f.uplink = None), "10.244.2.9"), tunnel, "no uplink");
}

#[test]
fn our_end_is_the_address_that_the_kernel_would_use() {
    let mut facts = world();
    let uplink = facts.uplink.as_mut().unwrap();
    uplink.addresses = vec![[198, 51, 100, 1].into(), [192, 0, 2, 1].into()];
    let peer = IpAddr::from([192, 0, 2, 2]);
    assert_eq!(facts.address_towards(peer), Some([192, 0, 2, 1].into()));
    facts.next_hops.get_mut(&peer).unwrap().src = Some([203, 0, 113, 1].into());
    assert_eq!(facts.address_towards(peer), Some([198, 51, 100, 1].into()), "not the uplink's");
}

#[test]
fn an_uplink_on_a_vlan_says_so() {
    let state: State = toml::from_str(NODE).unwrap();
    let mut facts = world();
    facts.uplink.as_mut().unwrap().vlan = Some(100);
    let t = compile(&state, &facts, &mut TableIds::default());
    assert_eq!(t.vlan, Some(UplinkVlan { port: PortId(4), id: 100 }));
    assert_eq!(tables().vlan, None);
}

/// A state with a second segment, and everything that a segment and a port may restrict.
const RESTRICTED: &str = r#"
    [node]
    pod_cidrs = ["10.244.1.0/24", "fd00:10:244:1::/64"]
    gateway = true
    [uplink]
    dev = "uplink0"
    [[segment]]
    name = "blue"
    fdb_limit = 100
    unknown_unicast = "drop"
    suppress = false
    [[port]]
    name = "pod-a"
    netns = "/run/netns/a"
    ifname = "eth0"
    ip = ["10.244.1.5/24", "fd00:10:244:1::5/64"]
    storm_limit = 500
    [[port]]
    name = "eth1"
    netns = "/run/netns/a"
    ifname = "eth1"
    segment = "blue"
    ip = ["10.9.0.5/24"]
    anti_spoof = false
    fdb_limit = 7
    [[tunnel]]
    name = "blue2"
    kind = "vxlan"
    remote = "192.0.2.2"
    vni = 7
    segment = "blue"
    [[neighbor]]
    ip = "10.9.0.9"
    mac = "02:00:00:00:00:09"
    tunnel = "blue2"
    [[neighbor]]
    ip = "10.244.1.9"
    mac = "02:00:00:00:00:0a"
    port = "pod-a"
"#;

fn restricted() -> State {
    let state: State = toml::from_str(RESTRICTED).expect("the state is valid");
    assert_eq!(state.validate(), Ok(()));
    state
}

#[test]
fn a_pods_port_is_guarded_unless_told_otherwise() {
    let t = compile(&restricted(), &world(), &mut TableIds::default());
    let policy = |id| &t.port(PortId(id)).unwrap().policy;
    let addresses = ["10.244.1.5", "fd00:10:244:1::5"].map(|ip| ip.parse().unwrap()).to_vec();
    assert_eq!(policy(1).guard, Some(Guard { mac: mac(5), addresses }));
    assert_eq!(policy(1).storm.as_ref().map(|s| s.rate()), Some(500));
    assert_eq!(policy(1).fdb_limit, None);
    assert_eq!((policy(2).guard.as_ref(), policy(2).fdb_limit), (None, Some(7)));
    assert!(policy(3).guard.is_none() && policy(4).guard.is_none(), "the node and the uplink");
    assert!(tables().port(PortId(2)).unwrap().policy.guard.is_none(), "what is behind is unknown");
}

#[test]
fn a_segment_floods_learns_and_answers_as_declared() {
    let t = compile(&restricted(), &world(), &mut TableIds::default());
    let [default, blue] = [0, 1].map(|id| t.segment(SegmentId(id)).unwrap());
    let by_default = SegmentPolicy { suppress: true, ..SegmentPolicy::default() };
    assert_eq!(default.policy, by_default, "what is not declared");
    assert_eq!(
        blue.policy,
        SegmentPolicy {
            unknown_unicast: UnknownUnicast::Drop,
            suppress: false,
            fdb_limit: Some(100),
        }
    );
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    let owner = |n, at| Some(Neighbor { mac: mac(n), at });
    let (pod, port) = (Location::Port(PortId(1)), Location::Port(PortId(2)));
    let tunnel = Location::Tunnel(TunnelId(0));
    assert_eq!(default.neighbors.get(&ip("10.244.1.5")).copied(), owner(5, pod));
    assert_eq!(default.neighbors.get(&ip("fd00:10:244:1::5")).copied(), owner(5, pod));
    assert_eq!(default.neighbors.get(&ip("10.244.1.9")).copied(), owner(10, pod));
    assert_eq!(blue.neighbors.get(&ip("10.9.0.5")).copied(), owner(6, port));
    assert_eq!(blue.neighbors.get(&ip("10.9.0.9")).copied(), owner(9, tunnel));
    assert_eq!((default.neighbors.len(), blue.neighbors.len()), (3, 2));
    assert_eq!(blue.statics.get(&mac(9)), Some(&tunnel), "who is answered for is found");
}

/// Segments are apart in L3 too: only the gateway's is routed.
#[test]
fn what_is_in_another_segment_is_not_routed_to() {
    let t = compile(&restricted(), &world(), &mut TableIds::default());
    assert_eq!(route(&t, "10.9.0.5"), Some(NextHop::Host));
    let pod = NextHop::Local { port: PortId(1), mac: mac(5) };
    assert_eq!(route(&t, "10.244.1.5"), Some(pod));
    let neighbor = NextHop::Local { port: PortId(1), mac: mac(10) };
    assert_eq!(route(&t, "10.244.1.9"), Some(neighbor));
}

#[test]
fn a_token_bucket_lives_as_long_as_its_rate() {
    let (mut state, mut ids) = (restricted(), TableIds::default());
    let storm = |t: &Tables| t.port(PortId(1)).unwrap().policy.storm.clone().unwrap();
    let first = storm(&compile(&state, &world(), &mut ids));
    let again = storm(&compile(&state, &world(), &mut ids));
    assert!(Arc::ptr_eq(&first, &again), "an unrelated change fills no bucket");
    state.ports[0].storm_limit = Some(600);
    assert_eq!(storm(&compile(&state, &world(), &mut ids)).rate(), 600);
    assert!(!compile(&state, &world(), &mut ids).shaped);
    state.ports[0].egress_rate = Some(1_000_000);
    assert!(!compile(&state, &world(), &mut ids).shaped, "only what goes to ports is looked up");
    state.ports[0].ingress_rate = Some(2_000_000);
    let policy = |t: &Tables| t.port(PortId(1)).unwrap().policy.clone();
    let first = compile(&state, &world(), &mut ids);
    assert!(first.shaped);
    state.ports[0].egress_burst = Some(1_000_000);
    let (first, again) = (policy(&first), policy(&compile(&state, &world(), &mut ids)));
    let (to, still) = (first.to_port.unwrap(), again.to_port.unwrap());
    assert!(Arc::ptr_eq(&to, &still), "the other direction's limit has not changed");
    assert_eq!((to.rate(), to.burst()), (2_000_000, 100_000), "50 ms at the rate");
    let from = [first.from_port, again.from_port].map(|b| b.map(|b| (b.rate(), b.burst())));
    assert_eq!(from, [Some((1_000_000, 50_000)), Some((1_000_000, 1_000_000))]);
}

#[test]
fn the_router_serves_every_segment_with_a_gateway() {
    const BRIDGES: &str = r#"
        [[segment]]
        name = "cni0"
        gateway = ["10.244.0.1/16"]
        [[segment]]
        name = "plain"
        [[port]]
        name = "pod-a"
        netns = "/run/netns/a"
        ifname = "eth0"
        ip = ["10.244.1.5/16"]
        segment = "cni0"
        [[port]]
        dev = "eth1"
        segment = "plain"
    "#;
    let state: State = toml::from_str(BRIDGES).unwrap();
    let t = compile(&state, &world(), &mut TableIds::default());
    let segment = |t: &Tables, name: &str| {
        t.segments.iter().flatten().find(|s| s.name == name).cloned().unwrap()
    };
    let router = t.router.clone().unwrap();
    assert_eq!(router.addresses, [IpAddr::from([10, 244, 0, 1])]);
    assert_eq!(router.mac, Mac::derived_from(host::ROUTER_V4.into()), "of no segment's gateway");
    assert!(segment(&t, "cni0").routed && !segment(&t, "plain").routed);
    assert_eq!(route(&t, "10.244.0.1"), Some(NextHop::Router));
    assert_eq!(route(&t, "10.244.9.9"), Some(NextHop::Unreachable));
    assert_eq!(route(&t, "10.244.1.5"), Some(NextHop::Local { port: PortId(1), mac: mac(5) }));
    assert_eq!(route(&t, "198.51.100.1"), Some(NextHop::Host));
    let host = t.port(PortId(3)).unwrap();
    assert_eq!(host.role, Role::Access(segment(&t, "cni0").id));
    assert_eq!(host.name, "podswitch0");

    // Beside a node's own pods, whose longer prefix wins.
    let both: State = toml::from_str(&format!(
        "{NODE}\n[[segment]]\nname = \"cni0\"\ngateway = [\"10.244.0.1/16\"]"
    ))
    .unwrap();
    let t = compile(&both, &world(), &mut TableIds::default());
    assert_eq!(t.router.clone().unwrap().mac, tables().router.clone().unwrap().mac);
    assert_eq!(route(&t, "10.244.9.9"), Some(NextHop::Unreachable));
    assert_eq!(route(&t, "10.244.1.9"), Some(NextHop::Connected(SegmentId(0))));
    assert_eq!(route(&t, "10.244.2.9"), route(&tables(), "10.244.2.9"));
    assert_eq!(route(&t, "10.244.0.1"), Some(NextHop::Router));
}
