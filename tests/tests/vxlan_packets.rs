//! VXLAN packets one by one, built by scapy, over both underlays: what RFC 7348 says about each.

use std::collections::BTreeMap;
use std::time::Duration;

use podswitch_tests::{
    Capture, Lab, Node, Way, Wire, frames_of, hush, ping, send_frames, tool, wait_until,
};

/// What becomes of a packet, by its name: "taken", or the reason of the drop.
fn fate(name: &str) -> &str {
    name.split('/').next().unwrap_or(name)
}

/// Sends each packet of tools/tunnel_packets.py: it reaches the pod, or is dropped by the name that
/// it begins with.
fn each(us: &str, peer: &str, stranger: &str) {
    let Some(lab) = Lab::beside_others() else { return };
    let (wire, netns, other) = (Wire::new(&lab), lab.netns("n1"), lab.netns("peer"));
    wire.plug(&netns, "uplink0");
    wire.plug_kernel(&other, "eth0", &["192.0.2.2/24", "2001:db8::2/64"]);
    let config =
        |config: String| config.replace("remote = \"192.0.2.2\"", &format!("remote = \"{peer}\""));
    netns.ip("addr add 192.0.2.1/24 dev uplink0");
    netns.ip("addr add 2001:db8::1/64 dev uplink0 nodad");
    let node = Node::start_with(&lab, &netns, 1, &config(Node::config(1, Way::Vxlan)));
    let pod = node.add_pod(&lab, 5);
    ping(&netns, peer);
    hush(&pod.netns);
    hush(&other);
    netns.sysctl("net.ipv6.conf.podswitch0.disable_ipv6", "1");
    let vtep = node.daemon.json("tunnel list")[0]["local_mac"].clone();
    let (mac, vtep) = (netns.mac("uplink0"), vtep.as_str().expect("a VTEP's address"));
    let line = format!("{} vxlan {mac} {us} {peer} {stranger} {vtep}", tool("tunnel_packets.py"));
    let frames = frames_of(&line);

    let tap = wire.tap();
    let before = node.daemon.counters();
    let capture = Capture::start(&pod.netns, "eth0");
    let mut expected: BTreeMap<String, u64> = BTreeMap::new();
    // All of a kind at once: the tool says in which order they are.
    for same in frames.chunk_by(|(a, _), (b, _)| fate(a) == fate(b)) {
        let packets: Vec<Vec<u8>> = same.iter().map(|(_, frame)| frame.clone()).collect();
        send_frames(&other, "eth0", &packets);
        let fate = fate(&same[0].0);
        if fate != "taken" {
            expected.insert(fate.to_owned(), packets.len() as u64);
            let new = || node.daemon.counters().dropped(fate) - before.dropped(fate);
            let what = format!("{fate} for each of {}", packets.len());
            wait_until(&what, Duration::from_secs(2), || new() >= packets.len() as u64);
        }
    }
    // UDP to and from port 7, over IPv4 or IPv6: nothing else is of this test.
    let is_ours = |f: &Vec<u8>| [34, 54].iter().any(|at| f.get(*at..at + 4) == Some(&[0, 7, 0, 7]));
    let arrived: Vec<Vec<u8>> = capture.end().into_iter().filter(is_ours).collect();
    let taken: Vec<&str> =
        frames.iter().map(|(name, _)| name.as_str()).filter(|n| fate(n) == "taken").collect();
    for name in &taken {
        let is_it = |f: &&Vec<u8>| f.windows(name.len()).any(|w| w == name.as_bytes());
        assert_eq!(arrived.iter().filter(is_it).count(), 1, "{name}");
    }
    assert_eq!(arrived.len(), taken.len(), "nothing else reaches the pod");
    let mut drops = node.daemon.counters().drops();
    drops.retain(|reason, _| expected.contains_key(reason));
    for (reason, count) in &mut drops {
        *count -= before.dropped(reason);
    }
    assert_eq!(drops, expected);
    // What we sent in answer, if anything.
    tap.end_from(&lab, &mac);
    node.daemon.finish();
}

#[test]
fn over_ipv4() {
    each("192.0.2.1", "192.0.2.2", "192.0.2.66");
}

#[test]
fn over_ipv6() {
    each("2001:db8::1", "2001:db8::2", "2001:db8::66");
}
