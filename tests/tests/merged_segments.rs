//! TCP segments that are merged for pods by veth: what a pod's kernel gets and finds, and that nothing of a
//! flow is overtaken, whatever is before the interface or behind it.

use podswitch_tests::{
    Capture, Lab, NODE, Node, Pod, exchange, iperf, join, kernel_counters, longest, ping, run, tool,
};

/// The longest frame of an interface with an MTU of 1500.
const WIRE: usize = 1514;
/// Pods whose streams are of ordinary segments.
const SMALL: [&str; 2] = ["--mtu 1500", "--mtu 1500"];

/// Superpackets that were sent to a pod.
fn superpackets(node: &Node, pod: &Pod) -> u64 {
    node.daemon.counters().port(&pod.name, "tx_superpackets")
}

/// A stream of writes of very different sizes arrives whole.
fn writes(from: &Pod, to: &Pod, address: &str, count: u32) {
    let writes = tool("writes.py");
    let server = to.netns.spawn(&format!("{writes} serve {address}")).expect_line("ready");
    let sent = from.netns.sh(&format!("{writes} send {address} {count}"));
    assert_eq!(server.end().trim(), format!("{} True", sent.trim()));
}

#[test]
fn a_pod_gets_superpackets() {
    let Some(lab) = Lab::beside_others() else { return };
    let (node, pods) = Node::with_pods(&lab, NODE, &SMALL);
    let [one, two] = &pods[..] else { unreachable!() };
    let capture = Capture::start(&two.netns, "eth0");
    exchange((&one.netns, &one.ip4), (&two.netns, &two.ip4));
    exchange((&one.netns, &one.ip6), (&two.netns, &two.ip6));
    let frames = capture.end();
    for ethertype in [[0x08, 0], [0x86, 0xdd]] {
        let longest = longest(&frames, ethertype, 6);
        assert!(longest > 4 * WIRE, "{longest}");
    }
    for options in ["", "--reverse", "--parallel 4", "--parallel 4 --bidir"] {
        iperf(&one.netns, &two.netns, &two.ip6, options);
    }
    for pod in &pods {
        assert!(superpackets(&node, pod) > 100, "{:?}", node.daemon.counters());
        assert_eq!(kernel_counters(&pod.netns, "TcpInCsumErrors"), 0);
    }
    node.daemon.finish();
}

/// Those that a TAP's pod hands over whole, and those that go to the node.
#[test]
fn between_pods_of_both_types_and_the_node() {
    let Some(lab) = Lab::beside_others() else { return };
    let options = ["--type tap --mtu 1500", "--mtu 1500"];
    let (node, pods) = Node::with_pods(&lab, NODE, &options);
    let [tap, veth] = &pods[..] else { unreachable!() };
    for options in ["", "--reverse", "--parallel 4"] {
        iperf(&tap.netns, &veth.netns, &veth.ip4, options);
        iperf(&tap.netns, &node.netns, &node.gateway4(), options);
        iperf(&veth.netns, &node.netns, &node.gateway6(), options);
    }
    writes(tap, veth, &veth.ip4, 2000);
    writes(veth, tap, &tap.ip6, 2000);
    assert!(superpackets(&node, veth) > 100, "{:?}", node.daemon.counters());
    node.daemon.finish();
}

/// Nothing before the interface, a far end that receives on another CPU, and one with GRO.
#[test]
fn nothing_of_a_flow_is_overtaken() {
    let Some(lab) = Lab::beside_others() else { return };
    let (node, pods) = Node::with_pods(&lab, NODE, &SMALL);
    let [one, two] = &pods[..] else { unreachable!() };
    let steer = "echo 1 > /sys/class/net/eth0/queues/rx-0/rps_cpus";
    for prepare in ["true", steer, "ethtool -K eth0 gro on"] {
        run(&two.netns.words(&["sh", "-c", prepare])).success();
        let before = superpackets(&node, two);
        // What is lost comes late.
        let lost = || {
            let counters = node.daemon.counters();
            counters.drops().values().sum::<u64>() + counters.missed()
        };
        let in_order = (0..5).any(|_| {
            let (losses, late) = (lost(), kernel_counters(&two.netns, "TcpExtTCPOFOQueue"));
            for address in [&two.ip4, &two.ip6] {
                writes(one, two, address, 1000);
            }
            let late = kernel_counters(&two.netns, "TcpExtTCPOFOQueue") - late;
            let is_whole = lost() == losses;
            assert!(!is_whole || late == 0, "{prepare}: {late} segments came late");
            is_whole
        });
        assert!(in_order, "{prepare}: something was lost every time");
        assert!(superpackets(&node, two) > before, "{prepare}");
    }
    node.daemon.finish();
}

/// A queueing discipline in the node, which AF_XDP's frames pass by.
#[test]
fn a_queue_before_the_interface_keeps_the_order() {
    let Some(lab) = Lab::beside_others() else { return };
    let (node, pods) = Node::with_pods(&lab, NODE, &SMALL);
    let [one, two] = &pods[..] else { unreachable!() };
    let dev = node.dev(two);
    node.netns.sh(&format!("tc qdisc add dev {dev} root tbf rate 200mbit burst 64k limit 8000000"));
    writes(one, two, &two.ip4, 2000);
    assert!(superpackets(&node, two) > 10, "{:?}", node.daemon.counters());
    assert_eq!(kernel_counters(&two.netns, "TcpExtTCPOFOQueue"), 0);
    // What it drops has a name.
    let qdisc = "root tbf rate 20mbit burst 64k limit 100000";
    node.netns.sh(&format!("tc qdisc replace dev {dev} {qdisc}"));
    iperf(&one.netns, &two.netns, &two.ip4, "--bytes 8M");
    let counters = node.daemon.counters();
    counters.assert_conserved();
    node.daemon.finish();
}

#[test]
fn off_is_off() {
    let Some(lab) = Lab::beside_others() else { return };
    let config = format!("[switch]\nsuperpackets = \"off\"\n{NODE}");
    let (node, pods) = Node::with_pods(&lab, &config, &SMALL);
    let [one, two] = &pods[..] else { unreachable!() };
    let capture = Capture::start(&two.netns, "eth0");
    exchange((&one.netns, &one.ip4), (&two.netns, &two.ip4));
    let longest = capture.end().iter().map(Vec::len).max().unwrap_or(0);
    assert!((1000..=WIRE).contains(&longest), "{longest}");
    assert_eq!(superpackets(&node, two), 0);
    node.daemon.finish();
}

/// Beyond a bridge port there may be anybody: nothing leaves unfinished.
#[test]
fn not_where_packets_would_leave_unfinished() {
    let Some(lab) = Lab::beside_others() else { return };
    let (node, pods) = Node::with_pods(&lab, NODE, &SMALL[..1]);
    let outside = lab.netns("outside");
    join(&node.netns, "v0", &outside, "eth0");
    outside.sh("ethtool -K eth0 tx off");
    outside.ip("addr add 10.244.1.9/24 dev eth0");
    assert!(node.netns.sh("ethtool -k v0").contains("tcp-segmentation-offload: on"));
    node.daemon.cli("port add --dev v0 outside");
    exchange((&pods[0].netns, &pods[0].ip4), (&outside, "10.244.1.9"));
    assert_eq!(node.daemon.counters().port("outside", "tx_superpackets"), 0);
    node.daemon.finish_leaving(&["lo", "v0"]);
}

/// A pod's interface that goes down and comes back: what is not sent is dropped by name, and then it goes on.
#[test]
fn an_interface_that_is_down() {
    let Some(lab) = Lab::beside_others() else { return };
    let (node, pods) = Node::with_pods(&lab, NODE, &SMALL);
    let [one, two] = &pods[..] else { unreachable!() };
    iperf(&one.netns, &two.netns, &two.ip4, "");
    let before = superpackets(&node, two);
    let writes = tool("writes.py");
    let server = two.netns.spawn(&format!("{writes} serve {}", two.ip4)).expect_line("ready");
    let client = one.netns.spawn(&format!("{writes} send {} 20000", two.ip4));
    std::thread::sleep(std::time::Duration::from_millis(500));
    node.netns.ip(&format!("link set {} down", node.dev(two)));
    std::thread::sleep(std::time::Duration::from_millis(500));
    let counters = node.daemon.counters();
    counters.assert_conserved();
    assert!(counters.dropped("port_down") > 0, "{counters:?}");
    node.netns.ip(&format!("link set {} up", node.dev(two)));
    drop(client);
    drop(server);
    ping(&one.netns, &two.ip4);
    std::thread::sleep(std::time::Duration::from_millis(1500));
    iperf(&one.netns, &two.netns, &two.ip4, "");
    assert!(superpackets(&node, two) > before + 10);
    node.daemon.finish();
}
