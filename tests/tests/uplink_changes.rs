//! What is known of the uplink follows the kernel: addresses, MTU, link state, routes, neighbours,
//! and the device itself. Traffic goes on, or is back within two seconds.

use std::time::Duration;

use podswitch_tests::{
    Lab, Netns, Node, Pod, Tap, Way, Wire, exchange, ping, run, unanswered, wait_until,
};

/// Within which traffic must be back after a change that interrupts it.
const BACK: Duration = Duration::from_secs(2);

/// Two nodes on a wire with a pod each.
struct Net {
    wire: Wire,
    spaces: [Netns; 2],
    nodes: [Node; 2],
    pods: [Pod; 2],
    /// All that passed: nothing of it may be wrong, whatever changes meanwhile.
    tap: Tap,
}

impl Net {
    #[track_caller]
    fn new(lab: &Lab, way: Way) -> Net {
        let wire = Wire::new(lab);
        let spaces = [lab.netns("n1"), lab.netns("n2")];
        for space in &spaces {
            wire.plug(space, "uplink0");
        }
        let nodes = [1, 2].map(|n| Node::start(lab, &spaces[usize::from(n) - 1], n, way, ""));
        let pods = [nodes[0].add_pod(lab, 5), nodes[1].add_pod(lab, 5)];
        let tap = wire.tap();
        let net = Net { wire, spaces, nodes, pods, tap };
        net.talk();
        net
    }

    /// The pods reach each other at once.
    #[track_caller]
    fn talk(&self) {
        let [one, two] = &self.pods;
        ping(&one.netns, &two.ip4);
        ping(&two.netns, &one.ip6);
    }

    /// The pods reach each other again soon, in both directions and families.
    #[track_caller]
    fn recovers(&self, after: &str) {
        let [one, two] = &self.pods;
        answers(&one.netns, &two.ip4, after);
        self.talk();
    }

    #[track_caller]
    fn finish(self, lab: &Lab) {
        self.tap.end(lab);
        for node in self.nodes {
            node.daemon.finish();
        }
    }
}

/// Waits until `from` gets an answer from `to`.
#[track_caller]
fn answers(from: &Netns, to: &str, after: &str) {
    wait_until(&format!("{to} answers after {after}"), BACK, || {
        from.try_sh(&format!("ping -n -c1 -W0.1 {to}")).code == 0
    });
}

/// Waits until `from` gets no answer from `to`.
#[track_caller]
fn is_silent(from: &Netns, to: &str) {
    wait_until(&format!("{to} does not answer"), BACK, || {
        from.try_sh(&format!("ping -n -c1 -W0.2 {to}")).code != 0
    });
}

fn tunnel_mtu(node: &Node) -> u64 {
    node.daemon.json("tunnel list")[0]["mtu"].as_u64().expect("a tunnel has an MTU")
}

#[test]
fn an_address_more_disturbs_nothing() {
    let Some(lab) = Lab::beside_others() else { return };
    let net = Net::new(&lab, Way::Vxlan);
    let ping = format!("ping -n -c60 -i0.01 -w10 {}", net.pods[1].ip4);
    let pinging = net.pods[0].netns.spawn(&ping);
    let node = &net.spaces[0];
    for change in ["add", "del"] {
        for address in ["198.51.100.1/24", "192.0.2.111/24", "2001:db8:1::1/64"] {
            node.ip(&format!("addr {change} {address} dev uplink0"));
        }
    }
    let report = pinging.end();
    assert_eq!(unanswered(&report), [0; 0], "{report}");
    let local = net.nodes[0].daemon.json("tunnel list")[0]["local"].clone();
    assert_eq!(local, "192.0.2.1");
    net.finish(&lab);
}

#[test]
fn the_address_is_removed_and_comes_back() {
    let Some(lab) = Lab::beside_others() else { return };
    let net = Net::new(&lab, Way::Vxlan);
    let [one, two] = &net.pods;
    net.spaces[0].ip("addr del 192.0.2.1/24 dev uplink0");
    is_silent(&one.netns, &two.ip4);
    assert_eq!(net.nodes[0].daemon.json("tunnel list")[0]["state"], "down");
    net.spaces[0].ip("addr add 192.0.2.1/24 dev uplink0");
    net.recovers("the address came back");
    net.finish(&lab);
}

#[test]
fn the_address_changes() {
    let Some(lab) = Lab::beside_others() else { return };
    let net = Net::new(&lab, Way::Vxlan);
    // In this order: the kernel removes a subnet's further addresses with its first one.
    net.spaces[0].ip("addr del 192.0.2.1/24 dev uplink0");
    net.spaces[0].ip("addr add 192.0.2.11/24 dev uplink0");
    let other = &net.nodes[1].daemon;
    for prefix in ["10.244.1.0/24", "fd00:10:244:1::/64"] {
        other.cli(&format!("route del {prefix}"));
    }
    other.cli("tunnel del node1");
    // Our VTEP's MAC address goes with the address that it is derived from.
    other.cli("tunnel add --remote 192.0.2.11 --vni 1 node1");
    for prefix in ["10.244.1.0/24", "fd00:10:244:1::/64"] {
        other.cli(&format!("route add {prefix} node1"));
    }
    net.recovers("the address changed");
    assert_eq!(net.nodes[0].daemon.json("tunnel list")[0]["local"], "192.0.2.11");
    net.finish(&lab);
}

#[test]
fn the_mtu_shrinks_and_grows() {
    let Some(lab) = Lab::beside_others() else { return };
    let net = Net::new(&lab, Way::Vxlan);
    let [one, two] = &net.pods;
    let fits = |size: u32| {
        let line = format!("ping -n -c1 -W0.3 -M do -s {} {}", size - 28, two.ip4);
        one.netns.try_sh(&line).code == 0
    };
    assert!(fits(1450));
    for mtu in [1400u32, 9000] {
        for space in [&net.wire.netns, &net.spaces[0], &net.spaces[1]] {
            for dev in ["br0", "to-n1", "to-n2", "uplink0"] {
                run(&["ip", "-n", space.name(), "link", "set", dev, "mtu", &mtu.to_string()]);
            }
        }
        let inner = mtu - 50;
        for node in &net.nodes {
            wait_until("the tunnel's MTU follows", BACK, || tunnel_mtu(node) == u64::from(inner));
        }
        wait_until("the pod's route follows", BACK, || fits(inner));
        assert!(!fits(inner + 1), "{mtu}");
        exchange((&one.netns, &one.ip4), (&two.netns, &two.ip4));
    }
    net.finish(&lab);
}

#[test]
fn the_link_goes_down_and_up() {
    let Some(lab) = Lab::beside_others() else { return };
    let net = Net::new(&lab, Way::Vxlan);
    let [one, two] = &net.pods;
    // An administrator's down, which takes routes, neighbours and IPv6 addresses away.
    net.spaces[0].ip("link set uplink0 down");
    is_silent(&one.netns, &two.ip4);
    net.spaces[0].ip("link set uplink0 up");
    net.recovers("the link came up");
    // A cable pulled, which takes the neighbours away.
    net.wire.netns.ip("link set to-n1 down");
    is_silent(&one.netns, &two.ip4);
    net.wire.netns.ip("link set to-n1 up");
    net.recovers("the carrier came back");
    // The same before anyone could have noticed.
    net.spaces[1].ip("link set uplink0 down");
    net.spaces[1].ip("link set uplink0 up");
    net.recovers("the link went down and up at once");
    net.finish(&lab);
}

#[test]
fn a_neighbours_mac_address_changes_and_our_own() {
    let Some(lab) = Lab::beside_others() else { return };
    for way in [Way::Vxlan, Way::Native] {
        let net = Net::new(&lab, way);
        net.spaces[1].ip("link set uplink0 address 02:00:00:00:22:22");
        net.recovers("the neighbour has another MAC address");
        net.spaces[0].ip("link set uplink0 address 02:00:00:00:11:11");
        net.recovers("we have another MAC address");
        net.finish(&lab);
    }
}

#[test]
fn the_device_is_deleted_and_made_anew() {
    let Some(lab) = Lab::beside_others() else { return };
    let net = Net::new(&lab, Way::Vxlan);
    let [one, two] = &net.pods;
    net.spaces[0].ip("link delete uplink0");
    is_silent(&one.netns, &two.ip4);
    ping(&one.netns, &net.nodes[0].gateway4());
    net.wire.plug(&net.spaces[0], "uplink0");
    net.spaces[0].ip("addr add 192.0.2.1/24 dev uplink0");
    net.spaces[0].ip("addr add 2001:db8::1/64 dev uplink0 nodad");
    net.recovers("the device came back");
    exchange((&one.netns, &one.ip4), (&two.netns, &two.ip4));
    net.finish(&lab);
}

/// A router between the wire, where it has 192.0.2.`number`, and another one.
fn router(lab: &Lab, near: &Wire, far: &Wire, number: u8) -> Netns {
    let router = lab.netns(&format!("r{number}"));
    near.plug_kernel(&router, "near", &[&format!("192.0.2.{number}/24")]);
    far.plug_kernel(&router, "far", &[&format!("198.51.100.{number}/24")]);
    router
}

#[test]
fn the_default_route_moves() {
    let Some(lab) = Lab::beside_others() else { return };
    let near = Wire::new(&lab);
    let far = Wire::named(&lab, "far");
    let routers = [250, 251].map(|n| router(&lab, &near, &far, n));
    let spaces = [lab.netns("n1"), lab.netns("n2")];
    near.plug(&spaces[0], "uplink0");
    far.plug(&spaces[1], "uplink0");
    let more = |remote: &str, number: u8| {
        Node::config(number, Way::Vxlan).replace(&format!("192.0.2.{}", 3 - number), remote)
    };
    spaces[0].ip("addr add 192.0.2.1/24 dev uplink0");
    spaces[1].ip("addr add 198.51.100.2/24 dev uplink0");
    spaces[0].ip("route add default via 192.0.2.250");
    spaces[1].ip("route add default via 198.51.100.250");
    let nodes = [
        Node::start_with(&lab, &spaces[0], 1, &more("198.51.100.2", 1)),
        Node::start_with(&lab, &spaces[1], 2, &more("192.0.2.1", 2)),
    ];
    let pods = [nodes[0].add_pod(&lab, 5), nodes[1].add_pod(&lab, 5)];
    let tap = near.tap();
    let net = Net { wire: near, spaces, nodes, pods, tap };
    net.talk();

    net.spaces[0].ip("route replace default via 192.0.2.251");
    net.spaces[1].ip("route replace default via 198.51.100.251");
    wait_until("the next hop follows", BACK, || {
        net.nodes[0].daemon.json("tunnel list")[0]["next_hop"] == "192.0.2.251"
    });
    routers[0].ip("link set near down");
    routers[0].ip("link set far down");
    net.recovers("the default route moved");

    // Gone, and back by another metric.
    net.spaces[0].ip("route delete default");
    is_silent(&net.pods[0].netns, &net.pods[1].ip4);
    net.spaces[0].ip("route add default via 192.0.2.251 metric 50");
    net.recovers("the default route came back");
    net.finish(&lab);
}
