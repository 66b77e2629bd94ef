//! An uplink that stands on other devices, as a bond does: a bridge with its addresses, whose way
//! out changes from one member to the other. See docs/bond.md.

use std::time::Duration;

use podswitch_tests::{Lab, Node, Way, Wire, exchange, ping, wait_until};

#[test]
fn traffic_follows_from_member_to_member() {
    let Some(lab) = Lab::beside_others() else { return };
    let wire = Wire::new(&lab);
    let spaces = [lab.netns("n1"), lab.netns("n2")];
    // Two cables to the same wire, of which one carries at a time: there is no loop.
    let stacked = &spaces[0];
    stacked.ip("link add uplink0 type bridge");
    for member in ["one", "two"] {
        stacked.ip(&format!(
            "link add {member} type veth peer name {member} netns {}",
            wire.netns.name()
        ));
        stacked.ip(&format!("link set {member} master uplink0"));
        wire.netns.ip(&format!("link set {member} master br0 up"));
    }
    stacked.ip("link set uplink0 address 02:00:00:00:00:b0 up");
    stacked.ip("link set one up");
    wire.plug(&spaces[1], "uplink0");
    let nodes = [1, 2].map(|n| Node::start(&lab, &spaces[usize::from(n) - 1], n, Way::Vxlan, ""));
    let pods = [nodes[0].add_pod(&lab, 5), nodes[1].add_pod(&lab, 5)];
    let status = nodes[0].daemon.json("show status");
    assert_eq!(status["uplink"]["mode"], "generic", "{status}");

    let tap = wire.tap();
    exchange((&pods[0].netns, &pods[0].ip4), (&pods[1].netns, &pods[1].ip4));
    for (down, up) in [("one", "two"), ("two", "one")] {
        stacked.ip(&format!("link set {down} down"));
        stacked.ip(&format!("link set {up} up"));
        // The ping is for the switches to learn the new way, as by what a bond sends at a failover.
        // Unlike a bond, a bridge loses its carrier meanwhile, which takes the kernel two seconds.
        wait_until("traffic is back", Duration::from_secs(6), || {
            spaces[0].try_sh("ping -n -c1 -W0.1 192.0.2.2");
            pods[0].netns.try_sh(&format!("ping -n -c1 -W0.2 {}", pods[1].ip4)).code == 0
        });
        ping(&pods[1].netns, &pods[0].ip6);
    }
    exchange((&pods[0].netns, &pods[0].ip6), (&pods[1].netns, &pods[1].ip6));
    tap.end(&lab).assert_seen("eth:ethertype:ip:udp:vxlan:eth:ethertype:ipv6:tcp");
    for node in nodes {
        node.daemon.finish();
    }
}
