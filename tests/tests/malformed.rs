//! Malformed packets: each is dropped and counted under its name, and nothing else happens.

use std::collections::BTreeMap;
use std::time::Duration;

use podswitch_tests::{
    Capture, Daemon, Lab, Netns, Node, TwoNodes, Way, frames_of, hush, join, ping, send_frames,
    tool, wait_until,
};

/// Sends what a generator prints and asserts that exactly the drops that it names are counted.
#[track_caller]
fn dropped_by_name(daemon: &Daemon, from: &Netns, dev: &str, generator: &str) {
    let named = frames_of(&format!("{} {generator}", tool("malformed.py")));
    let mut expected: BTreeMap<String, u64> = BTreeMap::new();
    for (reason, _) in &named {
        *expected.entry(reason.clone()).or_default() += 1;
    }
    let before = daemon.counters().drops();
    let new_drops = || {
        let mut drops = daemon.counters().drops();
        for (reason, count) in &mut drops {
            *count -= before.get(reason).copied().unwrap_or(0);
        }
        drops.retain(|_, count| *count > 0);
        drops
    };

    // One kind at a time, so that a failure tells which frame it was.
    let mut sofar: BTreeMap<String, u64> = BTreeMap::new();
    for (n, (reason, frame)) in named.iter().enumerate() {
        let want = sofar.get(reason).copied().unwrap_or(0) + 1;
        send_frames(from, dev, std::slice::from_ref(frame));
        let arrived = || new_drops().values().sum::<u64>() > n as u64;
        wait_until(&format!("frame {n}, {reason}, is dropped"), Duration::from_secs(3), arrived);
        assert_eq!(new_drops().get(reason), Some(&want), "frame {n}, {reason}: {:?}", new_drops());
        sofar.insert(reason.clone(), want);
    }
    assert_eq!(new_drops(), expected);
}

fn mac_of_neighbour(netns: &Netns, ip: &str) -> String {
    let text = netns.ip(&format!("neigh show {ip}"));
    text.split("lladdr ").nth(1).and_then(|t| t.split(' ').next()).expect("a neighbour").to_owned()
}

#[test]
fn to_the_router() {
    let Some(lab) = Lab::beside_others() else { return };
    let cluster = TwoNodes::start(&lab, Way::Vxlan);
    let (node, [_, remote]) = (&cluster.nodes[0], &cluster.pods);
    // The frames come from many addresses: not from a pod that is held to its own.
    let (netns, ip4) = (lab.netns("sender"), "10.244.1.9");
    let path = netns.path();
    node.daemon.cli(&format!(
        "port add --netns {path} --ifname eth0 --ip {ip4}/24 --anti-spoof false sender"
    ));
    ping(&netns, &remote.ip4);
    let mac = mac_of_neighbour(&netns, &node.gateway4());
    // Silence on both sides: the pod's kernel, and the node's through the host port.
    hush(&netns);
    node.netns.sysctl("net.ipv6.conf.podswitch0.disable_ipv6", "1");

    dropped_by_name(&node.daemon, &netns, "eth0", &format!("router {mac}"));
    cluster.finish();
}

/// Asserts that nothing from the remote pod, in whose name the generators send, was received.
#[track_caller]
fn assert_none_arrived(capture: Capture) {
    const REMOTE: [u8; 4] = [10, 244, 2, 5];
    let frames = capture.end();
    assert!(!frames.iter().any(|frame| frame.windows(4).any(|w| w == REMOTE)), "{frames:x?}");
}

/// A node with an uplink to a namespace without a podswitch.
fn node_and_peer(lab: &Lab, way: Way) -> (Node, Netns) {
    let spaces = [lab.netns("n1"), lab.netns("peer")];
    join(&spaces[0], "uplink0", &spaces[1], "eth0");
    hush(&spaces[1]);
    // A silent peer answers no ARP, and answers to what it sends must not wait for that.
    let mac = spaces[1].mac("eth0");
    spaces[0].ip(&format!("neigh add 192.0.2.2 lladdr {mac} dev uplink0 nud permanent"));
    let node = Node::start(lab, &spaces[0], 1, way, "");
    let [_, peer] = spaces;
    (node, peer)
}

#[test]
fn vxlan_on_the_uplink() {
    let Some(lab) = Lab::beside_others() else { return };
    let (node, peer) = node_and_peer(&lab, Way::Vxlan);
    let pod = node.add_pod(&lab, 5);
    hush(&pod.netns);
    let tunnels = node.daemon.json("tunnel list");
    let vtep = tunnels[0]["local_mac"].as_str().expect("a tunnel has a VTEP").to_owned();
    let mac = node.netns.mac("uplink0");
    node.netns.sysctl("net.ipv6.conf.podswitch0.disable_ipv6", "1");
    let capture = Capture::start(&pod.netns, "eth0");

    dropped_by_name(&node.daemon, &peer, "eth0", &format!("uplink {mac} {vtep}"));
    assert_none_arrived(capture);
    node.daemon.finish();
}

#[test]
fn ipip_on_the_uplink() {
    let Some(lab) = Lab::beside_others() else { return };
    let (node, peer) = node_and_peer(&lab, Way::Ipip);
    let pod = node.add_pod(&lab, 5);
    hush(&pod.netns);
    let mac = node.netns.mac("uplink0");
    node.netns.sysctl("net.ipv6.conf.podswitch0.disable_ipv6", "1");
    let capture = Capture::start(&pod.netns, "eth0");

    dropped_by_name(&node.daemon, &peer, "eth0", &format!("ipip {mac}"));
    assert_none_arrived(capture);
    node.daemon.finish();
}
