//! Flannel's VXLAN backend as the other node: the kernel's vxlan device, programmed as flanneld does.

use podswitch_tests::{Daemon, Lab, Netns, Node, Wire, exchange};

/// Our VTEPs' MAC addresses, one per family, as the `backend-data` annotations would tell them.
const VTEP4: &str = "0a:58:c0:00:02:01";
const VTEP6: &str = "0a:58:c0:00:02:61";

/// One family of flannel's way, seen from the flannel node: its device, the device's overhead, the
/// addresses of both nodes, their pod subnets' own addresses, and our VTEP's MAC.
struct Family {
    dev: &'static str,
    overhead: u32,
    node: (&'static str, &'static str),
    subnet: (&'static str, &'static str),
    bits: (u8, u8),
    vtep: &'static str,
}

const FAMILIES: [Family; 2] = [
    Family {
        dev: "flannel.1",
        overhead: 50,
        node: ("192.0.2.2", "192.0.2.1"),
        subnet: ("10.244.2.0", "10.244.1.0"),
        bits: (24, 32),
        vtep: VTEP4,
    },
    Family {
        dev: "flannel-v6.1",
        overhead: 70,
        node: ("2001:db8::2", "2001:db8::1"),
        subnet: ("fd00:10:244:2::", "fd00:10:244:1::"),
        bits: (64, 128),
        vtep: VTEP6,
    },
];

/// The node of flannel, with a pod behind `cni0`. Gives the node and the pod.
fn flannel_node(lab: &Lab, wire: &Wire) -> (Netns, Netns) {
    let (node, pod) = (lab.netns("flannel"), lab.netns("pod"));
    wire.plug_kernel(&node, "eth0", &["192.0.2.2/24", "2001:db8::2/64"]);
    for f in &FAMILIES {
        let ((us, them), (subnet, remote), (bits, host)) = (f.node, f.subnet, f.bits);
        let Family { dev, overhead, vtep, .. } = f;
        node.ip(&format!(
            "link add {dev} type vxlan id 1 local {us} dev eth0 dstport 8472 nolearning"
        ));
        node.ip(&format!("link set {dev} mtu {} up", 1500 - overhead));
        node.ip(&format!("addr add {subnet}/{host} dev {dev}"));
        node.ip(&format!("route add {remote}/{bits} via {remote} dev {dev} onlink"));
        node.ip(&format!("neigh add {remote} lladdr {vtep} dev {dev} nud permanent"));
        node.sh(&format!("bridge fdb add {vtep} dev {dev} dst {them} self permanent"));
    }
    node.ip("link add cni0 type bridge");
    node.ip("addr add 10.244.2.1/24 dev cni0");
    node.ip("addr add fd00:10:244:2::1/64 dev cni0 nodad");
    node.ip("link set cni0 mtu 1430 up");
    let name = pod.name();
    node.ip(&format!("link add veth0 mtu 1430 type veth peer name eth0 mtu 1430 netns {name}"));
    node.ip("link set veth0 master cni0 up");
    pod.ip("link set eth0 up");
    pod.ip("addr add 10.244.2.5/24 dev eth0");
    pod.ip("addr add fd00:10:244:2::5/64 dev eth0 nodad");
    pod.ip("route add default via 10.244.2.1");
    pod.ip("-6 route add default via fd00:10:244:2::1");
    (node, pod)
}

/// The configuration of our node: a tunnel per family, as flannel has a device per family.
fn config(flannel: &Netns) -> String {
    let (mac4, mac6) = (flannel.mac("flannel.1"), flannel.mac("flannel-v6.1"));
    let tunnel = |name, remote, (ours, theirs): (&str, &str)| {
        format!(
            "[[tunnel]]\nname = \"{name}\"\nkind = \"vxlan\"\nremote = \"{remote}\"\nvni = 1\n\
             port = 8472\nlocal_mac = \"{ours}\"\nremote_mac = \"{theirs}\"\n"
        )
    };
    let tunnels = tunnel("flannel4", "192.0.2.2", (VTEP4, &mac4))
        + &tunnel("flannel6", "2001:db8::2", (VTEP6, &mac6));
    Node::config_through(&tunnels, ["flannel4", "flannel6"])
}

#[test]
fn pods_of_a_podswitch_node_and_of_a_flannel_node() {
    let Some(lab) = Lab::beside_others() else { return };
    let (wire, us, ours) = (Wire::new(&lab), lab.netns("n1"), lab.netns("pod1"));
    let (flannel, theirs) = flannel_node(&lab, &wire);
    wire.plug(&us, "uplink0");
    us.ip("addr add 192.0.2.1/24 dev uplink0");
    us.ip("addr add 2001:db8::1/64 dev uplink0 nodad");
    us.sysctl("net.ipv4.ip_forward", "1");
    let daemon = Daemon::start(&lab, &us, &config(&flannel));
    daemon.cli(&format!(
        "port add --netns {} --ifname eth0 --ip 10.244.1.5/24 --ip fd00:10:244:1::5/64 pod1",
        ours.path()
    ));

    let tap = wire.tap();
    exchange((&ours, "10.244.1.5"), (&theirs, "10.244.2.5"));
    exchange((&ours, "fd00:10:244:1::5"), (&theirs, "fd00:10:244:2::5"));
    // The node itself reaches pods from the address of its own VTEP device, and is answered.
    exchange((&ours, "10.244.1.5"), (&flannel, "10.244.2.0"));
    let seen = tap.end(&lab);
    for (outer, inner) in [("ip", "ip"), ("ipv6", "ipv6")] {
        for upper in [if inner == "ip" { "icmp" } else { "icmpv6" }, "tcp", "udp"] {
            seen.assert_seen(&format!(
                "eth:ethertype:{outer}:udp:vxlan:eth:ethertype:{inner}:{upper}"
            ));
        }
    }

    let counters = daemon.finish();
    assert_eq!(counters.dropped("vxlan_inner_unknown"), 0, "{:?}", counters.drops());
}
