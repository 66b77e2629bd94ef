//! The uplink is shared: what is not for pods goes on to the kernel, whether we live or not.

use std::path::Path;
use std::time::Duration;

use podswitch_tests::{
    Background, Daemon, Lab, Netns, Node, TwoNodes, Way, iperf, iperf_udp, join, ping,
};
use serde_json::Value;

/// The nodes' own TCP connection: see demo/session.py.
struct Session {
    _server: Background,
    client: Background,
}

impl Session {
    fn start(server: &Netns, client: &Netns, address: &str) -> Session {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../demo/session.py");
        let script = format!("/usr/bin/python3 {}", script.display());
        let server = server.spawn(&format!("{script} serve {address} 22")).expect_line("listening");
        let client = client.spawn(&format!("{script} talk {address} 22")).expect_line("connected");
        Session { _server: server, client }
    }

    /// Asserts that every byte came back and that it never stood still for a second.
    #[track_caller]
    fn end(self) {
        let seen: Value = serde_json::from_str(&self.client.end()).expect("it prints JSON");
        assert!(seen["error"].is_null() && seen["intact"] == true, "{seen}");
        assert!(seen["messages"].as_u64() > Some(10), "{seen}");
        assert!(seen["longest_gap"].as_f64() < Some(1.0), "{seen}");
    }
}

#[test]
fn the_nodes_own_connection_outlives_start_traffic_and_stop() {
    let Some(lab) = Lab::beside_others() else { return };
    let spaces = [lab.netns("n1"), lab.netns("n2")];
    join(&spaces[0], "uplink0", &spaces[1], "uplink0");
    spaces[1].ip("addr add 192.0.2.2/24 dev uplink0");
    spaces[0].ip("addr add 192.0.2.1/24 dev uplink0");
    let session = Session::start(&spaces[1], &spaces[0], "192.0.2.2");

    let nodes = [1, 2].map(|n| Node::start(&lab, &spaces[usize::from(n) - 1], n, Way::Vxlan, ""));
    let pods = [nodes[0].add_pod(&lab, 5), nodes[1].add_pod(&lab, 5)];
    ping(&pods[0].netns, &pods[1].ip4);
    iperf(&pods[0].netns, &pods[1].netns, &pods[1].ip4, "");
    for node in nodes {
        node.daemon.finish();
    }
    std::thread::sleep(Duration::from_millis(300));
    session.end();
}

#[test]
fn everything_that_is_not_ours_passes_to_the_kernel() {
    let Some(lab) = Lab::beside_others() else { return };
    let cluster = TwoNodes::start(&lab, Way::Vxlan);
    let [one, two] = &cluster.nodes;

    ping(&one.netns, &two.ip4);
    ping(&one.netns, &two.ip6);
    iperf(&one.netns, &two.netns, &two.ip4, "");
    iperf_udp(&one.netns, &two.netns, &two.ip6, "--bitrate 5M --length 1300");
    // VXLAN on a port that is not ours belongs to the kernel's own devices.
    for (node, n, remote) in [(one, 1, &two.ip4), (two, 2, &one.ip4)] {
        node.netns
            .ip(&format!("link add vx type vxlan id 1 remote {remote} dstport 4790 dev uplink0"));
        node.netns.ip("link set vx up");
        node.netns.ip(&format!("addr add 10.8.0.{n}/24 dev vx"));
    }
    ping(&one.netns, "10.8.0.2");
    for node in [one, two] {
        node.netns.ip("link delete vx");
    }
    cluster.finish();
}

#[test]
fn a_crash_leaves_the_uplink_working_and_the_next_start_takes_over() {
    let Some(lab) = Lab::beside_others() else { return };
    let TwoNodes { nodes: [one, two], pods } = TwoNodes::start(&lab, Way::Vxlan);
    ping(&pods[0].netns, &pods[1].ip4);
    let session = Session::start(&two.netns, &one.netns, &two.ip4);
    let links: Vec<String> = one.netns.links();

    let Node { netns, daemon, ip4, .. } = one;
    let socket = daemon.socket().to_owned();
    daemon.crash();
    assert!(socket.exists(), "a crash leaves its socket for the next start to take over");
    ping(&netns, &two.ip4);
    iperf(&two.netns, &netns, &ip4, "");

    // The dead daemon's interfaces are there still; who starts next takes over what it needs.
    let config = Node::config(1, Way::Vxlan);
    let again = Daemon::start(&lab, &netns, &config);
    ping(&netns, &two.ip4);
    ping(&netns, &pods[1].ip4);
    session.end();

    let name = pods[0].name.clone();
    let path = pods[0].netns.path();
    again.cli(&format!("port add --netns {path} --ifname eth0 --ip {}/24 {name}", pods[0].ip4));
    ping(&pods[0].netns, &pods[1].ip4);
    assert_eq!(netns.links().len(), links.len(), "nothing is doubled: {:?}", netns.links());
    again.cli(&format!("port del {name}"));
    two.daemon.finish();
    again.finish_leaving(&["lo", "uplink0"]);
}
