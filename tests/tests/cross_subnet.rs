//! Tunnels that encapsulate only towards other subnets: `mode = "cross-subnet"`.

use std::time::Duration;

use podswitch_tests::{Lab, Netns, Node, Pod, Way, Wire, exchange, ping, wait_until};

/// Two nodes on a wire whose tunnels are for crossing subnets only, and a pod each.
fn nodes(lab: &Lab, wire: &Wire, kind: Way) -> ([Netns; 2], [Node; 2], [Pod; 2]) {
    let spaces = [lab.netns("n1"), lab.netns("n2")];
    let nodes = [(1u8, 1u8), (2, 130)].map(|(number, host)| {
        let space = &spaces[usize::from(number) - 1];
        wire.plug(space, "uplink0");
        space.ip(&format!("addr add 192.0.2.{host}/24 dev uplink0"));
        let other = if number == 1 { 130 } else { 1 };
        let remote = format!("remote = \"192.0.2.{}\"", 3 - number);
        let config = Node::config(number, kind)
            .replace(&remote, &format!("remote = \"192.0.2.{other}\"\nmode = \"cross-subnet\""))
            .replace("native_routing = true\n", "");
        Node::start_with(lab, space, number, &config)
    });
    let pods = [nodes[0].add_pod(lab, 5), nodes[1].add_pod(lab, 5)];
    (spaces, nodes, pods)
}

fn is_native(node: &Node) -> bool {
    node.daemon.json("tunnel list")[0]["native"] == true
}

fn switches_over(kind: Way, outer: &str) {
    let Some(lab) = Lab::beside_others() else { return };
    let wire = Wire::new(&lab);
    let (spaces, nodes, pods) = nodes(&lab, &wire, kind);
    let talk = || {
        exchange((&pods[0].netns, &pods[0].ip4), (&pods[1].netns, &pods[1].ip4));
        exchange((&pods[0].netns, &pods[0].ip6), (&pods[1].netns, &pods[1].ip6));
    };
    let follows = |native| {
        for node in &nodes {
            wait_until("the nodes follow", Duration::from_secs(2), || is_native(node) == native);
        }
    };
    assert!(nodes.iter().all(is_native));
    let tap = wire.tap();
    talk();
    let seen = tap.end(&lab);
    seen.assert_seen("eth:ethertype:ip:tcp");
    seen.assert_seen("eth:ethertype:ipv6:tcp");
    assert!(!seen.has(outer), "nothing is encapsulated on one subnet: {seen:?}");

    // The subnet is split: each half reaches the other through a router on the same wire.
    let router = lab.netns("router");
    wire.plug_kernel(&router, "eth0", &["192.0.2.126/25", "192.0.2.254/25"]);
    router.sysctl("net.ipv4.conf.all.send_redirects", "0");
    router.sysctl("net.ipv4.conf.eth0.send_redirects", "0");
    for (space, host, gateway) in [(&spaces[0], 1, 126), (&spaces[1], 130, 254)] {
        space.ip(&format!("addr add 192.0.2.{host}/25 dev uplink0"));
        space.ip(&format!("addr del 192.0.2.{host}/24 dev uplink0"));
        space.ip(&format!("route add default via 192.0.2.{gateway}"));
    }
    follows(false);
    ping(&pods[0].netns, &pods[1].ip4);
    let tap = wire.tap();
    talk();
    let seen = tap.end(&lab);
    seen.assert_seen(outer);
    assert!(!seen.has("eth:ethertype:ip:tcp"), "pods' packets are all encapsulated: {seen:?}");

    // And one again.
    for (space, host) in [(&spaces[0], 1), (&spaces[1], 130)] {
        space.ip(&format!("addr add 192.0.2.{host}/24 dev uplink0"));
        space.ip(&format!("addr del 192.0.2.{host}/25 dev uplink0"));
        space.ip("route del default");
    }
    follows(true);
    talk();
    for node in nodes {
        node.daemon.finish();
    }
}

#[test]
fn vxlan_where_a_router_is_between() {
    switches_over(Way::Vxlan, "eth:ethertype:ip:udp:vxlan:eth:ethertype:ip:tcp");
}

#[test]
fn ipip_where_a_router_is_between() {
    switches_over(Way::Ipip, "eth:ethertype:ip:ip:tcp");
}
