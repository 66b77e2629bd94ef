//! Tunnel packets that leave as UDP superpackets: the packets that the kernel makes of them, its own vxlan
//! device as the other end, and tshark's opinion.

use podswitch_tests::{
    Capture, Daemon, Lab, Netns, Node, Pod, Way, Wire, exchange, iperf, ping, run, tool,
};
use serde_json::json;

/// Where the outer UDP header is in a frame, over IPv4 and over IPv6.
const UDP: [usize; 2] = [34, 54];

/// A node with a pod, and a kernel as the other one, on a wire that sees complete packets.
struct Pair {
    wire: Wire,
    daemon: Daemon,
    netns: Netns,
    pod: Pod,
    peer: Netns,
}

impl Pair {
    /// A pod of the given type; `[switch]` with `settings`.
    fn new(lab: &Lab, v6: bool, pod: &str, settings: &str, tunnel: &str) -> Pair {
        Pair::prepared(lab, v6, pod, settings, tunnel, |us| {
            us.sh("ethtool -K uplink0 tx off");
        })
    }

    fn prepared(
        lab: &Lab,
        v6: bool,
        pod: &str,
        settings: &str,
        tunnel: &str,
        prepare: impl Fn(&Netns),
    ) -> Pair {
        let (wire, netns, peer) = (Wire::new(lab), lab.netns("n1"), lab.netns("k2"));
        let end = wire.plug(&netns, "uplink0");
        // A cable has an order. A veth hands packets to a queue of the sender's CPU, and what a queueing
        // discipline lets go later comes from another one.
        let steer = format!("echo 1 > /sys/class/net/{end}/queues/rx-0/rps_cpus");
        run(&["ip", "netns", "exec", wire.netns.name(), "sh", "-c", &steer]).success();
        prepare(&netns);
        wire.plug_kernel(&peer, "eth0", &["192.0.2.2/24", "2001:db8::2/64"]);
        let (ours, theirs) =
            if v6 { ("2001:db8::1", "2001:db8::2") } else { ("192.0.2.1", "192.0.2.2") };
        let vtep = "0a:58:00:00:00:01";
        peer.ip(&format!(
            "link add vx type vxlan id 1 remote {ours} local {theirs} dstport 4789 dev eth0"
        ));
        peer.ip("link set vx mtu 1430 up");
        peer.ip("addr add 10.244.2.5/32 dev vx");
        peer.ip("addr add fd00:10:244:2::5/128 dev vx nodad");
        let remote_mac = peer.mac("vx");
        for (via, prefix) in
            [("10.244.1.0", "10.244.1.0/24"), ("fd00:10:244:1::", "fd00:10:244:1::/64")]
        {
            peer.ip(&format!("neigh add {via} lladdr {vtep} dev vx nud permanent"));
            peer.ip(&format!("route add {prefix} via {via} dev vx onlink"));
        }
        let tunnel = format!(
            "[[tunnel]]\nname = \"peer\"\nkind = \"vxlan\"\nremote = \"{theirs}\"\nvni = 1\n\
             local_mac = \"{vtep}\"\nremote_mac = \"{remote_mac}\"\n{tunnel}"
        );
        let config = Node::config_through(&tunnel, ["peer", "peer"]);
        netns.ip("addr replace 192.0.2.1/24 dev uplink0");
        netns.ip("addr replace 2001:db8::1/64 dev uplink0 nodad");
        let config = format!("[switch]\n{settings}\n{config}");
        let node = Node::start_with(lab, &netns, 1, &config);
        let pod = node.add_pod_with(lab, 5, &format!("--type {pod}"));
        ping(&pod.netns, "10.244.2.5");
        Pair { wire, daemon: node.daemon, netns, pod, peer }
    }

    fn superpackets(&self) -> u64 {
        self.daemon.counters().port("uplink0", "tx_superpackets")
    }

    /// Packets that the peer's kernel found a wrong UDP checksum in.
    fn refused(&self) -> u64 {
        let count = |file: &str, name: &str| -> u64 {
            let text = self.peer.sh(&format!("cat /proc/net/{file}"));
            let columns: Vec<&str> = text.lines().filter(|l| l.starts_with("Udp")).collect();
            if file == "snmp" {
                let at = columns[0].split(' ').position(|c| c == name).expect("a column");
                columns[1].split(' ').nth(at).expect("a number").parse().expect("a number")
            } else {
                let line = columns.iter().find(|l| l.starts_with(name)).expect("a line");
                line.split_whitespace().last().expect("a number").parse().expect("a number")
            }
        };
        count("snmp", "InCsumErrors") + count("snmp6", "Udp6InCsumErrors")
    }

    /// Numbered datagrams to the peer: how many were sent, how many came, late, twice and wrong.
    fn numbered(&self, bursts: u32) -> Vec<u64> {
        let numbered = tool("numbered.py");
        let receiver = self.peer.spawn(&format!("{numbered} receive 10.244.2.5"));
        let receiver = receiver.expect_line("ready");
        let sent = self.pod.netns.sh(&format!("{numbered} send 10.244.2.5 {bursts}"));
        std::thread::sleep(std::time::Duration::from_millis(300));
        let text = format!("{} {}", sent.trim(), receiver.end());
        text.split_whitespace().map(|n| n.parse().expect("a number")).collect()
    }
}

/// The outer UDP checksums of our VXLAN packets among frames.
fn checksums(frames: &[Vec<u8>], from: &str, v6: bool) -> Vec<u16> {
    let mac: Vec<u8> =
        from.split(':').map(|b| u8::from_str_radix(b, 16).expect("a MAC address")).collect();
    let at = UDP[usize::from(v6)];
    let ours =
        frames.iter().filter(|f| f[6..12] == mac && f.get(at + 2..at + 4) == Some(&[18, 181]));
    ours.map(|f| u16::from_be_bytes([f[at + 6], f[at + 7]])).collect()
}

fn to_a_kernel(v6: bool, pod: &str, tunnel: &str) {
    let Some(lab) = Lab::new() else { return };
    let pair = Pair::new(&lab, v6, pod, "", tunnel);
    let tap = pair.wire.tap();
    exchange((&pair.pod.netns, &pair.pod.ip4), (&pair.peer, "10.244.2.5"));
    exchange((&pair.pod.netns, &pair.pod.ip6), (&pair.peer, "fd00:10:244:2::5"));
    let seen = tap.end(&lab);
    let outer = if v6 { "ipv6" } else { "ip" };
    seen.assert_seen(&format!("eth:ethertype:{outer}:udp:vxlan:eth:ethertype:ip:tcp"));
    seen.assert_seen(&format!("eth:ethertype:{outer}:udp:vxlan:eth:ethertype:ipv6:tcp"));
    assert!(pair.superpackets() > 0, "{:?}", pair.daemon.counters());
    for options in ["", "--parallel 4", "--reverse"] {
        iperf(&pair.pod.netns, &pair.peer, "10.244.2.5", options);
    }
    // What comes back is merged again, whatever the pod's interface is.
    let merged = pair.daemon.counters().total("coalesced");
    assert!(merged > 100, "{:?}", pair.daemon.counters());
    assert_eq!(pair.refused(), 0, "the peer's kernel verifies what is not zero");
    pair.daemon.finish();
}

#[test]
fn over_ipv4_from_a_tap() {
    to_a_kernel(false, "tap", "");
}

#[test]
fn over_ipv4_from_a_veth() {
    to_a_kernel(false, "veth", "");
}

#[test]
fn over_ipv6_from_a_tap() {
    to_a_kernel(true, "tap", "");
}

/// Each packet then has an identification of its own.
#[test]
fn without_df() {
    to_a_kernel(false, "tap", "df = false\n");
}

/// Each packet arrives once, whole and in its place, and leaves the interface as one frame of the wire.
#[test]
fn every_datagram_arrives_in_its_place() {
    let Some(lab) = Lab::new() else { return };
    let pair = Pair::new(&lab, false, "tap", "", "");
    let n = 100 * 43;
    for _ in 0..3 {
        assert_eq!(pair.numbered(100), [n, n, 0, 0, 0]);
    }
    // With a capture on the way the peer's kernel changes the order: presumably its vxlan device queues what the
    // capture has a copy of apart from the rest.
    let capture = Capture::start(&pair.wire.netns, "br0");
    let [sent, came, _, twice, wrong] = pair.numbered(100)[..] else { unreachable!() };
    assert_eq!((sent, came, twice, wrong), (n, n, 0, 0));
    let frames = capture.end();
    assert!(frames.iter().all(|f| f.len() <= 1514), "what leaves fits the wire");
    let sums = checksums(&frames, &pair.netns.mac("uplink0"), false);
    // What was part of a superpacket has one.
    assert!(sums.iter().filter(|&&s| s != 0).count() > 1000, "{}", sums.len());
    assert!(pair.superpackets() >= 100 / 2, "{}", pair.superpackets());
    pair.daemon.finish();
}

/// A queueing discipline, which AF_XDP's frames pass by: nothing is overtaken all the same. What it drops is
/// accounted for.
#[test]
fn a_queue_before_the_interface_keeps_the_order() {
    let Some(lab) = Lab::new() else { return };
    let pair = Pair::new(&lab, false, "tap", "", "");
    pair.netns.sh("tc qdisc add dev uplink0 root tbf rate 80mbit burst 64k limit 8000000");
    let n = 60 * 43;
    assert_eq!(pair.numbered(60), [n, n, 0, 0, 0]);
    assert!(pair.superpackets() > 10, "{}", pair.superpackets());
    let before = pair.superpackets();
    pair.netns.sh("tc qdisc replace dev uplink0 root tbf rate 20mbit burst 64k limit 100000");
    let [_, _, late, twice, wrong] = pair.numbered(60)[..] else { unreachable!() };
    assert_eq!((late, twice, wrong), (0, 0, 0));
    assert!(pair.superpackets() > before);
    let counters = pair.daemon.counters();
    assert!(counters.dropped("tx_ring_full") > 0, "{counters:?}");
    counters.assert_conserved();
    pair.daemon.finish();
}

#[test]
fn off_is_off() {
    let Some(lab) = Lab::new() else { return };
    let pair = Pair::new(&lab, false, "tap", "superpackets = \"off\"", "");
    not_used(&pair);
    pair.daemon.finish();
}

/// A veth that leaves checksums to the far end would have it see incomplete ones.
#[test]
fn not_where_packets_would_leave_unfinished() {
    let Some(lab) = Lab::new() else { return };
    let pair = Pair::prepared(&lab, false, "tap", "", "", |us| {
        assert!(us.sh("ethtool -k uplink0").contains("tx-checksumming: on"));
    });
    not_used(&pair);
    pair.daemon.finish();
}

#[track_caller]
fn not_used(pair: &Pair) {
    let capture = Capture::start(&pair.wire.netns, "br0");
    let [sent, came, _, twice, wrong] = pair.numbered(20)[..] else { unreachable!() };
    assert_eq!((sent, came, twice, wrong), (860, 860, 0, 0));
    let frames = capture.end();
    let sums = checksums(&frames, &pair.netns.mac("uplink0"), false);
    assert!(sums.len() >= 860 && sums.iter().all(|&s| s == 0), "{}", sums.len());
    assert_eq!(pair.superpackets(), 0);
}

/// An interface that goes down and comes back: what is not sent is dropped by name, and then it goes on.
#[test]
fn an_interface_that_is_down() {
    let Some(lab) = Lab::new() else { return };
    let pair = Pair::new(&lab, false, "tap", "", "");
    assert_eq!(pair.numbered(10), [430, 430, 0, 0, 0]);
    let before = pair.superpackets();
    pair.netns.ip("link set uplink0 down");
    assert_eq!(pair.numbered(10)[1], 0);
    let counters = pair.daemon.counters();
    counters.assert_conserved();
    assert!(counters.drops().values().sum::<u64>() > 0, "{counters:?}");
    pair.netns.ip("link set uplink0 up");
    ping(&pair.pod.netns, "10.244.2.5");
    std::thread::sleep(std::time::Duration::from_millis(1500));
    assert_eq!(pair.numbered(10), [430, 430, 0, 0, 0]);
    assert!(pair.superpackets() > before);
    pair.daemon.finish();
}

/// IPIP and native routes have no superpackets: UDP ones are of our tunnels only.
#[test]
fn what_is_not_vxlan_goes_as_it_is() {
    for way in [Way::Ipip, Way::Native] {
        let Some(lab) = Lab::new() else { return };
        let wire = Wire::new(&lab);
        let spaces = [lab.netns("n1"), lab.netns("n2")];
        for space in &spaces {
            wire.plug(space, "uplink0");
            space.sh("ethtool -K uplink0 tx off");
        }
        let nodes = [1, 2].map(|n| Node::start(&lab, &spaces[usize::from(n) - 1], n, way, ""));
        let pods = nodes.each_ref().map(|node| node.add_pod_with(&lab, 5, "--type tap"));
        exchange((&pods[0].netns, &pods[0].ip4), (&pods[1].netns, &pods[1].ip4));
        for address in [&pods[1].ip4, &pods[1].ip6] {
            pods[0].netns.sh(&format!("{} {address}", tool("uso.py")));
        }
        for node in nodes {
            assert_eq!(node.daemon.counters().port("uplink0", "tx_superpackets"), 0, "{way:?}");
            node.daemon.finish();
        }
    }
}

/// What the setting may be.
#[test]
fn the_setting_is_checked() {
    let Some(lab) = Lab::new() else { return };
    let file = lab.write("wrong.toml", "[switch]\nsuperpackets = \"on\"\n");
    let checked = podswitch_tests::podswitch(&["check", "--config", &file.display().to_string()]);
    assert_ne!(checked.code, 0);
    let said = json!(checked.stderr).to_string();
    assert!(said.contains("auto") && said.contains("off"), "{said}");
}
