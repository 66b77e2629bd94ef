//! Two workers, each with its queue of every port.

use podswitch_tests::{BRIDGE, Daemon, Hosts, Lab, Links, Node, Way, iperf, iperf_udp, ping};

#[test]
fn two_workers_share_the_ports() {
    let Some(lab) = Lab::new() else { return };
    let Hosts { switch, hosts } = Hosts::new(&lab, 2, Links { mtu: 1500, queues: 2 });
    let daemon = Daemon::start(&lab, &switch, &BRIDGE.replace("workers = 1", "workers = 2"));

    ping(&hosts[0], "10.9.0.2");
    ping(&hosts[1], "fd00:9::1");
    iperf(&hosts[0], &hosts[1], "10.9.0.2", "--parallel 8");
    iperf(&hosts[0], &hosts[1], "fd00:9::2", "--parallel 8 --reverse");
    iperf_udp(&hosts[0], &hosts[1], "10.9.0.2", "--bitrate 1M --length 1400 --parallel 8");

    let status = daemon.json("show status");
    assert_eq!(status["workers"].as_array().map(Vec::len), Some(2), "{status}");
    let ports = daemon.json("port list");
    assert!(ports.as_array().is_some_and(|p| p.iter().all(|p| p["queues"] == 2)), "{ports}");
    daemon.finish();
}

#[test]
fn two_workers_carry_pods_between_nodes() {
    let Some(lab) = Lab::new() else { return };
    let spaces = [lab.netns("n1"), lab.netns("n2")];
    let (queues, peer) = ("numtxqueues 2 numrxqueues 2", spaces[1].name());
    spaces[0].ip(&format!(
        "link add uplink0 {queues} type veth peer name uplink0 {queues} netns {peer}"
    ));
    for space in &spaces {
        space.ip("link set uplink0 up");
    }
    let workers = "[switch]\nworkers = 2\n";
    let nodes =
        [1, 2].map(|n| Node::start(&lab, &spaces[usize::from(n) - 1], n, Way::Vxlan, workers));
    let pods = [nodes[0].add_pod(&lab, 5), nodes[1].add_pod(&lab, 5)];

    ping(&pods[0].netns, &pods[1].ip4);
    ping(&pods[1].netns, &pods[0].ip6);
    iperf(&pods[0].netns, &pods[1].netns, &pods[1].ip4, "--parallel 8");
    iperf(&pods[0].netns, &pods[1].netns, &pods[1].ip6, "--parallel 8 --reverse");
    ping(&nodes[0].netns, &pods[1].ip4);
    for node in nodes {
        node.daemon.finish();
    }
}
