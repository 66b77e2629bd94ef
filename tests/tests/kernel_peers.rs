//! The kernel as the neighbour: its bridge, its router, and IPIP through a TUN device.

use podswitch_tests::{
    BRIDGE, Background, Daemon, Hosts, Lab, Links, Netns, Node, Way, Wire, exchange, iperf, join,
    ping, tool,
};

/// The other node's namespace: `eth0` on the wire with 192.0.2.2, checksums complete.
fn kernel_node(lab: &Lab, switch: &Netns) -> Netns {
    let peer = lab.netns("peer");
    join(switch, "uplink0", &peer, "eth0");
    peer.sh("ethtool -K eth0 tx off");
    peer.ip("addr add 192.0.2.2/24 dev eth0");
    peer.ip("addr add 2001:db8::2/64 dev eth0 nodad");
    peer.sysctl("net.ipv4.ip_forward", "1");
    peer.sysctl("net.ipv6.conf.all.forwarding", "1");
    peer
}

/// A segment that goes on behind a port, over a bridge of the kernel's.
#[test]
fn a_segment_and_the_kernels_bridge() {
    let Some(lab) = Lab::beside_others() else { return };
    let Hosts { switch, hosts } = Hosts::new(&lab, 1, Links::default());
    let (bridge, behind) = (Wire::new(&lab), lab.netns("behind"));
    bridge.plug(&switch, "eth2");
    bridge.plug_kernel(&behind, "eth0", &["10.9.0.77/24", "fd00:9::77/64"]);
    let daemon = Daemon::start(&lab, &switch, BRIDGE);

    let tap = bridge.tap();
    exchange((&hosts[0], "10.9.0.1"), (&behind, "10.9.0.77"));
    exchange((&hosts[0], "fd00:9::1"), (&behind, "fd00:9::77"));
    let seen = tap.end(&lab);
    for protocols in ["ip:tcp", "ip:udp", "ip:icmp", "ipv6:tcp", "ipv6:udp", "ipv6:icmpv6", "arp"] {
        seen.assert_seen(&format!("eth:ethertype:{protocols}"));
    }
    daemon.finish();
}

#[test]
fn pods_and_the_kernels_router() {
    let Some(lab) = Lab::beside_others() else { return };
    let switch = lab.netns("n1");
    let router = kernel_node(&lab, &switch);
    router.ip("route add 10.244.1.0/24 via 192.0.2.1");
    router.ip("-6 route add fd00:10:244:1::/64 via 2001:db8::1");
    let behind = lab.netns("behind");
    join(&router, "pods", &behind, "eth0");
    for (address, family, gateway) in [("10.244.2", "", ".1"), ("fd00:10:244:2:", "-6 ", ":1")] {
        let (length, separator) = if family.is_empty() { (24, ".") } else { (64, ":") };
        router.ip(&format!("{family}addr add {address}{gateway}/{length} dev pods"));
        behind.ip(&format!("{family}addr add {address}{separator}5/{length} dev eth0"));
        behind.ip(&format!("{family}route add default via {address}{gateway}"));
    }
    let node = Node::start(&lab, &switch, 1, Way::Native, "");
    let pod = node.add_pod(&lab, 5);

    for address in ["10.244.2.5", "fd00:10:244:2::5"] {
        ping(&pod.netns, address);
        iperf(&pod.netns, &behind, address, "");
        iperf(&pod.netns, &behind, address, "--reverse");
    }
    ping(&behind, &pod.ip4);
    node.daemon.finish();
}

/// Two routers of the kernel's to the same subnet, which itself has two ways back: both ways carry some
/// of the flows, in each direction.
#[test]
fn pods_and_two_kernel_routers_of_equal_cost() {
    let Some(lab) = Lab::beside_others() else { return };
    let (wire, far) = (Wire::new(&lab), Wire::named(&lab, "far"));
    let switch = lab.netns("n1");
    wire.plug(&switch, "uplink0");
    let routers = [2, 3].map(|n| {
        let router = lab.netns(&format!("r{n}"));
        wire.plug_kernel(
            &router,
            "near",
            &[&format!("192.0.2.{n}/24"), &format!("2001:db8::{n}/64")],
        );
        far.plug_kernel(
            &router,
            "far",
            &[&format!("10.244.2.{n}/24"), &format!("fd00:10:244:2::{n}/64")],
        );
        router.ip("route add 10.244.1.0/24 via 192.0.2.1");
        router.ip("-6 route add fd00:10:244:1::/64 via 2001:db8::1");
        router
    });
    let behind = lab.netns("behind");
    far.plug_kernel(&behind, "eth0", &["10.244.2.5/24", "fd00:10:244:2::5/64"]);
    behind.sysctl("net.ipv4.fib_multipath_hash_policy", "1");
    behind.ip("route add 10.244.1.0/24 nexthop via 10.244.2.2 nexthop via 10.244.2.3");
    behind.ip(
        "-6 route add fd00:10:244:1::/64 nexthop via fd00:10:244:2::2 nexthop via fd00:10:244:2::3",
    );
    let config = Node::config(1, Way::Native)
        .replace("via = \"192.0.2.2\"", "via = [\"192.0.2.2\", \"192.0.2.3\"]")
        .replace("via = \"2001:db8::2\"", "via = [\"2001:db8::2\", \"2001:db8::3\"]");
    switch.ip("addr add 192.0.2.1/24 dev uplink0");
    switch.ip("addr add 2001:db8::1/64 dev uplink0 nodad");
    let node = Node::start_with(&lab, &switch, 1, &config);
    let pod = node.add_pod(&lab, 5);

    let tap = wire.tap();
    exchange((&pod.netns, &pod.ip4), (&behind, "10.244.2.5"));
    exchange((&pod.netns, &pod.ip6), (&behind, "fd00:10:244:2::5"));
    let forwarded = |router: &Netns| {
        let text = router.sh("ip -s -s -j link show near");
        let json: serde_json::Value = serde_json::from_str(&text).expect("ip prints JSON");
        json[0]["stats64"]["rx"]["packets"].as_u64().expect("packets are counted")
    };
    for address in ["10.244.2.5", "fd00:10:244:2::5"] {
        let before = routers.each_ref().map(forwarded);
        iperf(&pod.netns, &behind, address, "--parallel 16 --bitrate 500K");
        let grown = [0, 1].map(|i| forwarded(&routers[i]) - before[i]);
        assert!(grown.iter().all(|&n| n > 50), "sixteen flows over two ways: {grown:?}");
    }
    let seen = tap.end(&lab);
    for packets in ["ip:tcp", "ip:udp", "ip:icmp", "ipv6:tcp", "ipv6:udp", "ipv6:icmpv6"] {
        seen.assert_seen(&format!("eth:ethertype:{packets}"));
    }
    node.daemon.finish();
}

/// The kernel's raw sockets and a TUN device as the other end of an IPIP tunnel.
fn ipip_peer(peer: &Netns) -> Background {
    let tunnel =
        peer.spawn(&format!("{} 192.0.2.2 192.0.2.1", tool("ipip_peer.py"))).expect_line("ready");
    peer.ip("link set tun0 up mtu 1480");
    peer.ip("addr add 10.244.2.5/32 dev tun0");
    peer.ip("addr add fd00:10:244:2::5/128 dev tun0 nodad");
    peer.ip("route add 10.244.1.0/24 dev tun0 src 10.244.2.5");
    peer.ip("-6 route add fd00:10:244:1::/64 dev tun0 src fd00:10:244:2::5");
    tunnel
}

#[test]
fn pods_and_an_ipip_tunnel_of_the_kernels_raw_sockets() {
    let Some(lab) = Lab::beside_others() else { return };
    let switch = lab.netns("n1");
    let peer = kernel_node(&lab, &switch);
    let _tunnel = ipip_peer(&peer);
    let node = Node::start(&lab, &switch, 1, Way::Ipip, "");
    let pod = node.add_pod(&lab, 5);

    for address in ["10.244.2.5", "fd00:10:244:2::5"] {
        ping(&pod.netns, address);
        iperf(&pod.netns, &peer, address, "");
        iperf(&pod.netns, &peer, address, "--reverse");
    }
    ping(&peer, &pod.ip4);
    ping(&peer, &pod.ip6);
    node.daemon.finish();
}
