//! Senders are told what became of their packets: the kernel's ping understands the answers.

use podswitch_tests::{Lab, NODE, Netns, Node, TwoNodes, Way, Wire, ping, ping_all};

/// What ping says when its one packet is not answered, options and target given.
#[track_caller]
fn complaint(from: &Netns, line: &str) -> String {
    let result = from.try_sh(&format!("ping -n -c1 -W2 {line}"));
    assert_ne!(result.code, 0, "nothing should answer: {}", result.stdout);
    result.stdout + &result.stderr
}

#[test]
fn time_exceeded_comes_from_the_gateway() {
    let Some(lab) = Lab::beside_others() else { return };
    let cluster = TwoNodes::start(&lab, Way::Vxlan);
    let ([node, _], [pod, remote]) = (&cluster.nodes, &cluster.pods);
    ping(&pod.netns, &remote.ip4);

    for (target, gateway) in [(&remote.ip4, node.gateway4()), (&remote.ip6, node.gateway6())] {
        let said = complaint(&pod.netns, &format!("-t1 {target}"));
        assert!(said.contains("exceeded") && said.contains(&format!("From {gateway}")), "{said}");
    }
    let [counters, _] = cluster.finish();
    assert_eq!(counters.dropped("ttl_exceeded"), 2);
}

/// Between two segments of one node there is one hop, the gateway; within one there is none.
#[test]
fn traceroute_on_one_node() {
    let Some(lab) = Lab::beside_others() else { return };
    let (wire, netns) = (Wire::new(&lab), lab.netns("n1"));
    wire.plug(&netns, "uplink0");
    let blue = "[[segment]]\nname = \"blue\"\ngateway = [\"10.88.0.1/24\", \"fd00:88::1/64\"]\n";
    let node = Node::start(&lab, &netns, 1, Way::Native, blue);
    let [one, neighbour] = [5, 6].map(|n| node.add_pod(&lab, n));
    let other = lab.netns("other");
    let path = other.path();
    node.daemon.cli(&format!(
        "port add --netns {path} --ifname eth0 --segment blue --ip 10.88.0.5/24 \
         --ip fd00:88::5/64 other"
    ));
    for (far, near, gateway) in [
        ("10.88.0.5", &neighbour.ip4, node.gateway4()),
        ("fd00:88::5", &neighbour.ip6, node.gateway6()),
    ] {
        ping(&one.netns, far);
        let said = complaint(&one.netns, &format!("-t1 {far}"));
        assert!(said.contains("xceeded") && said.contains(&format!("From {gateway}")), "{said}");
        one.netns.sh(&format!("ping -n -c1 -W1 -t2 {far}"));
        ping(&one.netns, near);
        one.netns.sh(&format!("ping -n -c1 -W1 -t1 {near}"));
    }
    node.daemon.finish();
}

#[test]
fn packet_too_big_names_the_mtu_of_the_tunnel() {
    let Some(lab) = Lab::beside_others() else { return };
    let cluster = TwoNodes::start(&lab, Way::Vxlan);
    let ([node, _], [pod, remote]) = (&cluster.nodes, &cluster.pods);
    // Without the MTU that podswitch gave the pod's route, its kernel must be told by the router.
    let (gateway4, gateway6) = (node.gateway4(), node.gateway6());
    pod.netns.ip(&format!("route replace default via {gateway4} dev eth0 onlink"));
    pod.netns.ip("-6 route delete default");
    pod.netns.ip(&format!("-6 route add default via {gateway6} dev eth0"));
    ping(&pod.netns, &remote.ip4);
    ping(&pod.netns, &remote.ip6);

    let said = complaint(&pod.netns, &format!("-M do -s 1472 {}", remote.ip4));
    assert!(said.contains("mtu = 1450") || said.contains("mtu=1450"), "{said}");
    let said = complaint(&pod.netns, &format!("-M do -s 1452 {}", remote.ip6));
    assert!(said.contains("Packet too big: mtu=1450"), "{said}");
    // And now it knows: the kernel fragments by itself, in both families.
    for target in [&remote.ip4, &remote.ip6] {
        ping_all(&pod.netns, 3, target, "-s 4000");
    }
    cluster.finish();
}

/// The gateway's addresses are the node's own: its kernel must believe what comes from them.
#[test]
fn the_node_is_told_too() {
    let Some(lab) = Lab::beside_others() else { return };
    let (node, pods) = Node::with_pods(&lab, NODE, &["--mtu 1500", "--type tap --mtu 1400"]);
    for (pod, mtu) in pods.iter().zip([1500, 1400]) {
        let said = complaint(&node.netns, &format!("-M do -s 2000 {}", pod.ip4));
        assert!(said.contains(&format!("mtu = {mtu}")), "{said}");
        let said = complaint(&node.netns, &format!("-M do -s 2000 {}", pod.ip6));
        assert!(said.contains(&format!("Packet too big: mtu={mtu}")), "{said}");
        // And now it knows: the kernel fragments by itself.
        for target in [&pod.ip4, &pod.ip6] {
            ping_all(&node.netns, 3, target, "-s 4000");
        }
    }
    let said = complaint(&node.netns, "10.244.1.99");
    assert!(said.contains("Host Unreachable"), "{said}");
    node.daemon.finish();
}

#[test]
fn large_packets_that_may_be_fragmented_are() {
    let Some(lab) = Lab::beside_others() else { return };
    let cluster = TwoNodes::start(&lab, Way::Ipip);
    let ([node, _], [pod, remote]) = (&cluster.nodes, &cluster.pods);
    pod.netns.ip(&format!("route replace default via {} dev eth0 onlink", node.gateway4()));
    ping(&pod.netns, &remote.ip4);

    ping_all(&pod.netns, 3, &remote.ip4, "-M dont -s 6000");
    cluster.finish();
}

#[test]
fn unreachable_is_said_and_blackholes_are_silent() {
    let Some(lab) = Lab::beside_others() else { return };
    let cluster = TwoNodes::start(&lab, Way::Vxlan);
    let ([node, _], [pod, remote]) = (&cluster.nodes, &cluster.pods);
    ping(&pod.netns, &remote.ip4);
    node.daemon.cli("route add 172.20.0.0/16 unreachable");
    node.daemon.cli("route add 172.21.0.0/16 blackhole");
    node.daemon.cli("route add 172.22.0.0/16 prohibited");
    node.daemon.cli("route add 2001:db8:22::/48 prohibited");

    let said = complaint(&pod.netns, "172.20.0.1");
    assert!(said.contains("Unreachable"), "{said}");
    // What the kernel's ping makes of code 13, and of ICMPv6's code 1.
    let said = complaint(&pod.netns, "172.22.0.1");
    assert!(said.contains("Packet filtered"), "{said}");
    let said = complaint(&pod.netns, "2001:db8:22::1");
    assert!(said.contains("prohibited"), "{said}");
    let said = complaint(&pod.netns, "172.21.0.1");
    assert!(!said.contains("From"), "{said}");
    let [counters, _] = cluster.finish();
    assert_eq!(counters.dropped("route_unreachable"), 1);
    assert_eq!(counters.dropped("route_prohibited"), 2);
    assert_eq!(counters.dropped("route_blackhole"), 1);
}
