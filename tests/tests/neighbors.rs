//! A host on a bridged interface, with an address of the node's prefix that no pod has: the router finds
//! out its MAC address by itself, like any router would.

use podswitch_tests::{Lab, TwoNodes, Way, iperf, join, ping};

const HOST4: &str = "10.244.1.77";
const HOST6: &str = "fd00:10:244:1::77";

#[test]
fn a_host_on_a_bridged_interface_is_reached_from_everywhere() {
    let Some(lab) = Lab::beside_others() else { return };
    let cluster = TwoNodes::start(&lab, Way::Vxlan);
    let ([node, _], [own, remote]) = (&cluster.nodes, &cluster.pods);

    let host = lab.netns("host");
    join(&node.netns, "lan0", &host, "eth0");
    host.sh("ethtool -K eth0 tx off");
    host.ip(&format!("addr add {HOST4}/24 dev eth0"));
    host.ip(&format!("addr add {HOST6}/64 dev eth0 nodad"));
    host.ip(&format!("route add default via {} mtu 1450", node.gateway4()));
    host.ip(&format!("-6 route add default via {} mtu 1430", node.gateway6()));
    node.daemon.cli("port add --dev lan0 lan0");

    for address in [HOST4, HOST6] {
        ping(&node.netns, address);
        ping(&remote.netns, address);
        ping(&own.netns, address);
    }
    iperf(&remote.netns, &host, HOST4, "");
    let known = node.daemon.json("neighbor list");
    let learned = |ip: &str| {
        known
            .as_array()
            .unwrap()
            .iter()
            .find(|n| n["ip"] == ip && n["origin"] == "learned")
            .cloned()
    };
    for address in [HOST4, HOST6] {
        let entry = learned(address).unwrap_or_else(|| panic!("{address} is not in {known}"));
        assert_eq!(entry["mac"], host.mac("eth0"));
        assert_eq!(entry["port"], "lan0");
    }

    // Nobody there: the sender is told, and nothing is left waiting.
    let lost = remote.netns.try_sh("ping -n -c1 -W6 10.244.1.78");
    assert!(lost.stdout.contains("Destination Host Unreachable"), "{}", lost.stdout);

    node.daemon.cli("neighbor flush");
    ping(&node.netns, HOST4);

    node.daemon.cli("port del lan0");
    node.netns.ip("link del lan0");
    cluster.finish();
}
