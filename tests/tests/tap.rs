//! Pods whose interface is a TAP device: superpackets and checksums.

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use podswitch_tests::{
    Capture, Daemon, Lab, NODE, Node, Way, Wire, exchange, iperf, longest, ping, ping_once,
    ping_sized, tool,
};
use std::net::IpAddr;

/// The longest frame of an interface with an MTU of 1500.
const WIRE: usize = 1514;

#[test]
fn pods_of_both_types_on_one_node() {
    let Some(lab) = Lab::beside_others() else { return };
    let options = ["--type tap", "--type tap", "--type veth", "", "--type tap --mtu 1500"];
    let (node, pods) = Node::with_pods(&lab, NODE, &options);
    let [one, two, veth, default, small] = &pods[..] else { unreachable!() };
    for other in [two, veth, default, small] {
        ping_once(&one.netns, &other.ip4);
        ping_once(&one.netns, &other.ip6);
    }
    ping_once(&one.netns, &node.gateway4());
    ping_once(&node.netns, &one.ip6);
    let shown = node.daemon.port(&one.name);
    assert_eq!(
        (&shown["type"], &shown["mode"], &shown["mtu"]),
        (&"tap".into(), &"tap".into(), &65521.into())
    );
    assert!(shown["dev"].is_null(), "it has no end in the node: {shown}");
    assert_eq!(node.daemon.port(&default.name)["type"], "veth");
    assert!(one.netns.ip("link show eth0").contains("mtu 65521"));
    assert!(small.netns.ip("link show eth0").contains("mtu 1500"));
    assert_eq!(shown["mac"], one.netns.mac("eth0"));

    for (a, b) in [(one, two), (one, veth), (two, veth)] {
        exchange((&a.netns, &a.ip4), (&b.netns, &b.ip4));
        exchange((&a.netns, &a.ip6), (&b.netns, &b.ip6));
    }
    ping_sized(&one.netns, &veth.ip4, &[65507]);
    ping_sized(&veth.netns, &one.ip4, &[65507]);
    exchange((&two.netns, &two.ip4), (&node.netns, &node.gateway4()));
    exchange((&one.netns, &one.ip6), (&node.netns, &node.gateway6()));
    for options in ["", "--reverse", "--parallel 4"] {
        iperf(&one.netns, &two.netns, &two.ip4, options);
        iperf(&small.netns, &two.netns, &two.ip4, options);
        // Packets of 1500 bytes on the one side, superpackets on the other.
        iperf(&small.netns, &veth.netns, &veth.ip6, options);
        iperf(&small.netns, &node.netns, &node.gateway4(), options);
    }
    node.daemon.cli(&format!("port del {}", one.name));
    assert_eq!(one.netns.links(), ["lo"], "removal takes the device away");
    node.daemon.finish();
    assert_eq!(two.netns.links(), ["lo"], "as SIGTERM does");
}

/// TCP and UDP superpackets arrive as such, whatever the MTU.
#[test]
fn superpackets_pass_whole_between_pods() {
    let Some(lab) = Lab::beside_others() else { return };
    let tap = "--type tap --mtu 1500";
    let (node, pods) = Node::with_pods(&lab, NODE, &[tap, tap]);
    let [one, two] = &pods[..] else { unreachable!() };
    let capture = Capture::start(&two.netns, "eth0");
    exchange((&one.netns, &one.ip4), (&two.netns, &two.ip4));
    exchange((&one.netns, &one.ip6), (&two.netns, &two.ip6));
    for address in [&two.ip4, &two.ip6] {
        one.netns.sh(&format!("{} {address}", tool("uso.py")));
    }
    let frames = capture.end();
    let longest = |ethertype, protocol| longest(&frames, ethertype, protocol);
    for ethertype in [[0x08, 0], [0x86, 0xdd]] {
        assert!(longest(ethertype, 6) > 4 * WIRE, "TCP: {}", longest(ethertype, 6));
        assert!(longest(ethertype, 17) > 4 * WIRE, "UDP: {}", longest(ethertype, 17));
    }
    node.daemon.finish();
}

/// A large packet, whose checksum its pod leaves to the device, is summed by nobody on its way to another TAP, and
/// is complete where it comes to a veth.
#[test]
fn a_large_packet_is_summed_where_it_must_be() {
    let Some(lab) = Lab::beside_others() else { return };
    let options = ["--type tap", "--type tap", "--type veth"];
    let (node, pods) = Node::with_pods(&lab, NODE, &options);
    let [one, two, veth] = &pods[..] else { unreachable!() };
    for (to, complete) in [(two, false), (veth, true)] {
        let capture = Capture::start(&to.netns, "eth0");
        exchange((&one.netns, &one.ip4), (&to.netns, &to.ip4));
        exchange((&one.netns, &one.ip6), (&to.netns, &to.ip6));
        let frames = capture.end();
        for source in [&one.ip4, &one.ip6] {
            let source: IpAddr = source.parse().unwrap();
            let large = frames.iter().filter(|frame| frame.len() > 10 * WIRE);
            let seen: Vec<bool> = large.filter_map(|f| tcp_is_complete(f, source)).collect();
            assert!(
                !seen.is_empty() && seen.iter().all(|&is| is == complete),
                "{source}: {seen:?}"
            );
        }
    }
    node.daemon.finish();
}

/// Whether the checksum of a TCP segment that somebody sent is right; nothing of any other packet.
fn tcp_is_complete(frame: &[u8], from: IpAddr) -> Option<bool> {
    let packet = SlicedPacket::from_ethernet(frame).ok()?;
    let Some(TransportSlice::Tcp(tcp)) = &packet.transport else { return None };
    let (source, sum): (IpAddr, _) = match packet.net? {
        NetSlice::Ipv4(ip) => {
            let ip = ip.header();
            (ip.source_addr().into(), tcp.calc_checksum_ipv4(ip.source(), ip.destination()))
        }
        NetSlice::Ipv6(ip) => {
            let ip = ip.header();
            (ip.source_addr().into(), tcp.calc_checksum_ipv6(ip.source(), ip.destination()))
        }
        NetSlice::Arp(_) => return None,
    };
    (from == source).then(|| sum.ok() == Some(tcp.checksum()))
}

/// What leaves the node fits the wire, and every checksum on it is right, by tshark's account.
fn between_nodes(way: Way) {
    let Some(lab) = Lab::beside_others() else { return };
    let wire = Wire::new(&lab);
    let spaces = [lab.netns("n1"), lab.netns("n2")];
    spaces.iter().for_each(|space| _ = wire.plug(space, "uplink0"));
    let nodes = [1, 2].map(|n| Node::start(&lab, &spaces[usize::from(n) - 1], n, way, ""));
    let pods = [0, 1].map(|n: usize| nodes[n].add_pod_with(&lab, 5, "--type tap"));
    let veth = nodes[1].add_pod(&lab, 6);

    let (tap, capture) = (wire.tap(), Capture::start(&wire.netns, "br0"));
    exchange((&pods[0].netns, &pods[0].ip4), (&pods[1].netns, &pods[1].ip4));
    exchange((&pods[0].netns, &pods[0].ip6), (&pods[1].netns, &pods[1].ip6));
    exchange((&pods[0].netns, &pods[0].ip4), (&veth.netns, &veth.ip4));
    tap.end(&lab);
    let longest = capture.end().iter().map(Vec::len).max().unwrap_or(0);
    assert!((1400..=WIRE).contains(&longest), "the longest frame on the wire has {longest} bytes");
    for options in ["", "--reverse", "--parallel 4"] {
        iperf(&pods[0].netns, &pods[1].netns, &pods[1].ip4, options);
        iperf(&pods[0].netns, &veth.netns, &veth.ip6, options);
    }
    let _spaces = spaces;
    for node in nodes {
        node.daemon.finish();
    }
}

#[test]
fn between_nodes_over_vxlan() {
    between_nodes(Way::Vxlan);
}

#[test]
fn between_nodes_over_ipip() {
    between_nodes(Way::Ipip);
}

#[test]
fn between_nodes_natively() {
    between_nodes(Way::Native);
}

/// A kernel's vxlan device as the other node: it completes and verifies checksums by itself.
#[test]
fn to_the_kernels_vxlan() {
    let Some(lab) = Lab::beside_others() else { return };
    let (wire, us, peer) = (Wire::new(&lab), lab.netns("n1"), lab.netns("k2"));
    wire.plug(&us, "uplink0");
    us.ip("addr add 192.0.2.1/24 dev uplink0");
    wire.plug_kernel(&peer, "eth0", &["192.0.2.2/24"]);
    peer.ip("link add vx type vxlan id 77 remote 192.0.2.1 local 192.0.2.2 dstport 4789 dev eth0");
    peer.ip("link set vx mtu 1430 up");
    peer.ip("addr add 10.9.0.77/24 dev vx");
    peer.ip("addr add fd00:9::77/64 dev vx nodad");
    let daemon = Daemon::start(
        &lab,
        &us,
        "[uplink]\ndev = \"uplink0\"\n[[tunnel]]\nname = \"peer\"\nkind = \"vxlan\"\n\
         remote = \"192.0.2.2\"\nvni = 77\nsegment = \"default\"\n",
    );
    let pod = lab.netns("pod1");
    daemon.cli(&format!(
        "port add --netns {} --ifname eth0 --type tap --mtu 1430 --ip 10.9.0.1/24 --ip fd00:9::1/64 pod1",
        pod.path()
    ));
    let tap = wire.tap();
    exchange((&pod, "10.9.0.1"), (&peer, "10.9.0.77"));
    exchange((&pod, "fd00:9::1"), (&peer, "fd00:9::77"));
    tap.end(&lab).assert_seen("eth:ethertype:ip:udp:vxlan:eth:ethertype:ip:tcp");
    for options in ["", "--reverse", "--parallel 4"] {
        iperf(&pod, &peer, "10.9.0.77", options);
    }
    daemon.finish();
}

/// A pod describes its packets as something that they are not: each is forwarded right or dropped under
/// a name, and others notice nothing.
#[test]
fn a_hostile_pod() {
    let Some(lab) = Lab::beside_others() else { return };
    let (node, pods) = Node::with_pods(&lab, NODE, &["--type tap", "--type tap", "--type veth"]);
    let [hostile, tap, veth] = &pods[..] else { unreachable!() };
    ping(&tap.netns, &veth.ip4);
    for victim in [tap, veth] {
        // It sends wrong checksums in packets that it claims to be complete.
        victim.netns.forgive_checksums();
        let mac = victim.netns.mac("eth0");
        let line = format!("{} eth0 {mac} {} {}", tool("vnet_hdr.py"), hostile.ip4, victim.ip4);
        let taken: u64 = hostile.netns.sh(&line).trim().parse().expect("a number");
        assert!(taken > 500, "its kernel let {taken} pass");
    }
    ping_once(&tap.netns, &veth.ip4);
    ping_once(&hostile.netns, &tap.ip4);
    exchange((&tap.netns, &tap.ip4), (&veth.netns, &veth.ip4));
    let counters = node.daemon.finish();
    assert!(counters.dropped("offload_invalid") > 0, "{counters:?}");
}
