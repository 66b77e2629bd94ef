//! Two nodes: pods on different nodes over each kind of underlay, and the nodes themselves.

use podswitch_tests::{Lab, Node, TwoNodes, Way, iperf, iperf_udp, ping, ping_all};

fn pods_talk(way: Way) {
    let Some(lab) = Lab::beside_others() else { return };
    let cluster = TwoNodes::start(&lab, way);
    let [one, two] = &cluster.pods;

    ping(&one.netns, &two.ip4);
    ping(&two.netns, &one.ip4);
    ping(&one.netns, &two.ip6);
    for (from, to, address) in [(one, two, &two.ip4), (two, one, &one.ip6)] {
        let end = iperf(&from.netns, &to.netns, address, "");
        let bits = end["sum_received"]["bits_per_second"].as_f64().expect("a number");
        assert!(bits > 20e6, "{bits} bit/s from {} to {address}", from.name);
    }
    iperf_udp(&one.netns, &two.netns, &two.ip4, "--bitrate 5M --length 1300");
    cluster.finish();
}

#[test]
fn pods_talk_over_vxlan() {
    pods_talk(Way::Vxlan);
}

#[test]
fn pods_talk_over_ipip() {
    pods_talk(Way::Ipip);
}

#[test]
fn pods_talk_routed_natively() {
    pods_talk(Way::Native);
}

#[test]
fn the_node_reaches_pods_and_pods_their_node() {
    let Some(lab) = Lab::beside_others() else { return };
    let cluster = TwoNodes::start(&lab, Way::Vxlan);
    let ([node, _], [own, remote]) = (&cluster.nodes, &cluster.pods);

    for address in [&own.ip4, &own.ip6, &remote.ip4, &remote.ip6] {
        ping(&node.netns, address);
    }
    for address in [node.gateway4(), node.gateway6(), node.ip4.clone(), node.ip6.clone()] {
        ping(&own.netns, &address);
    }
    // TCP too: a checksum left to a device would show here.
    iperf(&node.netns, &own.netns, &own.ip4, "");
    iperf(&own.netns, &node.netns, &node.gateway4(), "");
    iperf(&node.netns, &remote.netns, &remote.ip4, "");
    cluster.finish();
}

#[test]
fn pods_of_one_node_talk_in_frames_of_64_kib() {
    let Some(lab) = Lab::beside_others() else { return };
    let cluster = TwoNodes::start(&lab, Way::Native);
    let node = &cluster.nodes[0];
    let pods = [2, 3].map(|host| lab.netns(&format!("big{host}")));
    for (pod, host) in pods.iter().zip([2, 3]) {
        let (path, ip) = (pod.path(), format!("10.244.1.{host}/24"));
        node.daemon
            .cli(&format!("port add --netns {path} --ifname eth0 --mtu 65535 --ip {ip} big{host}"));
    }

    ping(&pods[0], "10.244.1.3");
    ping_all(&pods[0], 3, "10.244.1.3", "-M do -s 65507");
    iperf(&pods[0], &pods[1], "10.244.1.3", "");
    cluster.finish();
}

#[test]
fn a_pod_comes_as_described_and_goes_without_a_trace() {
    let Some(lab) = Lab::beside_others() else { return };
    let cluster = TwoNodes::start(&lab, Way::Vxlan);
    let node = &cluster.nodes[0];
    let links = node.netns.links();
    let pod = node.add_pod(&lab, 77);

    let addresses = pod.netns.ip("addr show dev eth0");
    assert!(addresses.contains("10.244.1.77/24") && addresses.contains("fd00:10:244:1::77/64"));
    let routes = pod.netns.ip("route show") + &pod.netns.ip("-6 route show");
    for gateway in ["default via 10.244.1.1 ", "default via fd00:10:244:1::1 "] {
        assert!(routes.contains(gateway), "{routes}");
    }
    let offloads = pod.netns.sh("ethtool -k eth0");
    assert!(offloads.contains("tx-checksumming: off"), "{offloads}");
    ping(&pod.netns, &cluster.pods[0].ip4);

    node.daemon.cli(&format!("port del {}", pod.name));
    assert_eq!(pod.netns.links(), ["lo"]);
    assert_eq!(node.netns.links(), links);
    assert!(!node.daemon.cli("port list").contains(&pod.name));
    ping(&cluster.pods[0].netns, &cluster.pods[1].ip4);
    cluster.finish();
}

#[test]
fn a_pods_namespace_that_vanishes_takes_only_its_port() {
    let Some(lab) = Lab::beside_others() else { return };
    let cluster = TwoNodes::start(&lab, Way::Vxlan);
    let node = &cluster.nodes[0];
    let pod = node.add_pod(&lab, 78);
    ping(&pod.netns, &cluster.pods[0].ip4);

    let name = pod.name.clone();
    drop(pod);
    ping(&cluster.pods[0].netns, &cluster.pods[1].ip4);
    node.daemon.cli(&format!("port del {name}"));
    cluster.finish();
}

#[test]
fn reconfigured_from_way_to_way_while_it_runs() {
    let Some(lab) = Lab::beside_others() else { return };
    let cluster = TwoNodes::start(&lab, Way::Vxlan);
    for way in [Way::Ipip, Way::Native, Way::Vxlan] {
        for ((node, pod), number) in cluster.nodes.iter().zip(&cluster.pods).zip(1..) {
            let port = format!(
                "[[port]]\nname = \"{}\"\nnetns = \"{}\"\nifname = \"eth0\"\nip = [\"{}/24\", \"{}/64\"]\n",
                pod.name,
                pod.netns.path(),
                pod.ip4,
                pod.ip6
            );
            node.daemon.apply(&lab, &(Node::config(number, way) + &port));
        }
        ping(&cluster.pods[0].netns, &cluster.pods[1].ip4);
        ping(&cluster.pods[1].netns, &cluster.pods[0].ip6);
    }
    cluster.finish();
}
