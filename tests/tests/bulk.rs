//! Frames to pods sent in bulk: whether they are is up to the operator, and to what is before their interfaces. What
//! arrives is looked at in fastpath/tests/bulk.rs, and by every other test here that sends much.

use std::time::Duration;

use podswitch_tests::{Lab, NODE, Node, Pod, iperf, wait_until};

/// How many frames of a flood of small datagrams go to a pod in bulk.
fn in_bulk(node: &Node, from: &Pod, to: &Pod) -> u64 {
    let sent = || node.daemon.counters().port(&to.name, "tx_bulk");
    let before = sent();
    for address in [&to.ip4, &to.ip6] {
        iperf(&from.netns, &to.netns, address, "--udp --bitrate 0 --length 64 --time 1");
    }
    sent() - before
}

/// A queueing discipline that somebody else gives a pod's interface, as the `bandwidth` plugin does, may hold frames
/// back: what does not pass it must not come after what does.
#[test]
fn a_flood_goes_in_bulk_but_past_no_queueing_discipline() {
    let Some(lab) = Lab::beside_others() else { return };
    let (node, pods) = Node::with_pods(&lab, NODE, &["", ""]);
    let [one, two] = &pods[..] else { unreachable!() };
    let dev = node.dev(two);
    let goes = |what: &str, expected: bool| {
        wait_until(what, Duration::from_secs(60), || (in_bulk(&node, one, two) > 0) == expected);
    };
    goes("frames in bulk", true);
    node.netns.sh(&format!("tc qdisc add dev {dev} root tbf rate 10gbit burst 1m limit 10m"));
    goes("none in bulk", false);
    node.netns.sh(&format!("tc qdisc del dev {dev} root"));
    goes("frames in bulk again", true);
    node.daemon.counters().assert_conserved();
    node.daemon.finish();
}

#[test]
fn off_is_off() {
    let Some(lab) = Lab::beside_others() else { return };
    let (node, pods) =
        Node::with_pods(&lab, &format!("[switch]\nbulk = \"off\"\n{NODE}"), &["", ""]);
    let [one, two] = &pods[..] else { unreachable!() };
    assert_eq!(in_bulk(&node, one, two), 0);
    node.daemon.finish();
}
