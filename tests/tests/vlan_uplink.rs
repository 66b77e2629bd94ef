//! An uplink on a VLAN: tunnels and native routes behind the tag, all else left to the kernel.

use podswitch_tests::{Hook, Lab, Netns, Node, Pod, Way, Wire, attach_bpf, exchange, ping};

const VLAN: u16 = 100;

fn ifindex(netns: &Netns, dev: &str) -> String {
    netns.ip(&format!("-o link show dev {dev}")).split(':').next().expect("an index").to_owned()
}

/// Gives a namespace an interface `vlan100` over its `uplink0`: the kernel's own VLAN interfaces are
/// a module that not every kernel has, so that tc and two BPF programs stand in (tools/vlan.bpf.c).
#[track_caller]
fn add_vlan_interface(lab: &Lab, netns: &Netns) {
    netns.ip("link add vlan100 type veth peer name vlan100x");
    netns.ip(&format!("link set vlan100 address {} mtu 1500", netns.mac("uplink0")));
    netns.sh("ethtool -K vlan100 tx off");
    for dev in ["vlan100", "vlan100x"] {
        netns.ip(&format!("link set {dev} up"));
    }
    let defines = [
        format!("-DVID={VLAN}"),
        format!("-DUPLINK={}", ifindex(netns, "uplink0")),
        format!("-DNEAR={}", ifindex(netns, "vlan100x")),
    ];
    let programs = [("vlan100x", Hook::Ingress, "tag"), ("uplink0", Hook::Ingress, "untag")];
    attach_bpf(lab, netns, "vlan.bpf.c", &defines, &programs);
}

/// Two nodes that reach each other on VLAN 100 of a wire, and untagged as 203.0.113.1 and .2.
fn nodes(lab: &Lab, wire: &Wire, way: Way) -> ([Node; 2], [Pod; 2]) {
    let nodes = [1u8, 2].map(|number| {
        let netns = lab.netns(&format!("n{number}"));
        let end = wire.plug(&netns, "uplink0");
        // A bridge takes the tag out of the frame, and a veth hands it over beside the frame, where
        // no XDP program sees it. A cable and a NIC with `rxvlan off` leave it in its place.
        wire.netns.sh(&format!("ethtool -K {end} txvlan off"));
        // A cable carries no incomplete checksums either: superpackets may be used.
        netns.sh("ethtool -K uplink0 tx off");
        netns.ip(&format!("addr add 203.0.113.{number}/24 dev uplink0"));
        add_vlan_interface(lab, &netns);
        netns.ip(&format!("addr add 192.0.2.{number}/24 dev vlan100"));
        netns.ip(&format!("addr add 2001:db8::{number}/64 dev vlan100 nodad"));
        let vlan = format!("dev = \"uplink0\"\nvlan = {VLAN}\nvlan_dev = \"vlan100\"");
        let config = Node::config(number, way).replace("dev = \"uplink0\"", &vlan);
        let node = Node::start_with(lab, &netns, number, &config);
        let offload = netns.sh("ethtool -k uplink0");
        assert!(offload.contains("rx-vlan-offload: off"), "{offload}");
        node
    });
    let pods = [nodes[0].add_pod(lab, 5), nodes[1].add_pod(lab, 5)];
    (nodes, pods)
}

fn over(way: Way, outer: &str) {
    let Some(lab) = Lab::beside_others() else { return };
    let wire = Wire::new(&lab);
    let (nodes, pods) = nodes(&lab, &wire, way);
    let tap = wire.tap();
    exchange((&pods[0].netns, &pods[0].ip4), (&pods[1].netns, &pods[1].ip4));
    exchange((&pods[0].netns, &pods[0].ip6), (&pods[1].netns, &pods[1].ip6));
    let seen = tap.end(&lab);
    for inner in ["ip:tcp", "ip:udp", "ip:icmp", "ipv6:tcp", "ipv6:udp", "ipv6:icmpv6"] {
        seen.assert_seen(&format!("eth:ethertype:vlan:ethertype:{outer}{inner}"));
        // Neighbour discovery is the kernels' and goes without a tag too.
        let untagged = format!("eth:ethertype:{outer}{inner}");
        assert!(inner.contains("icmp") || !seen.has(&untagged), "{inner} without a tag");
    }
    // The nodes' own packets, with the tag and without, are their kernels'.
    ping(&nodes[0].netns, "192.0.2.2");
    ping(&nodes[0].netns, "203.0.113.2");
    let spaces = nodes.each_ref().map(|node| node.netns.clone());
    for node in nodes {
        let superpackets = node.daemon.counters().port("uplink0", "tx_superpackets");
        assert_eq!(superpackets > 0, outer.contains("vxlan"), "{superpackets} superpackets");
        node.daemon.finish();
    }
    let offload = spaces[0].sh("ethtool -k uplink0");
    assert!(offload.contains("rx-vlan-offload: on"), "as it was before: {offload}");
}

#[test]
fn vxlan_on_a_vlan() {
    over(Way::Vxlan, "ip:udp:vxlan:eth:ethertype:");
}

#[test]
fn ipip_on_a_vlan() {
    over(Way::Ipip, "ip:");
}

#[test]
fn native_on_a_vlan() {
    over(Way::Native, "");
}
