//! Routes that a routing protocol announces over the socket: beside the configuration's, by the thousand, and
//! changing while packets flow.

use std::fmt::Write as _;

use podswitch_tests::{Lab, Node, Pod, TwoNodes, Way, ping, unanswered};
use serde_json::{Value, json};

/// Carries out lines of `podswitch route update`; what it says.
fn update(lab: &Lab, node: &Node, lines: &str) -> Value {
    let file = lab.write("changes.txt", lines);
    node.daemon.json(&format!("route update {}", file.display()))
}

fn reaches(from: &Pod, to: &Pod) -> bool {
    from.netns.try_sh(&format!("ping -n -c1 -W1 {}", to.ip4)).code == 0
}

/// The node's own kernel has a route for a prefix.
fn kernel_has(node: &Node, prefix: &str) -> bool {
    node.netns.sh(&format!("ip route show exact {prefix}")).contains("podswitch0")
}

#[test]
fn announced_routes_come_and_go() {
    let Some(lab) = Lab::new() else { return };
    let cluster = TwoNodes::start(&lab, Way::Vxlan);
    let ([node, other], [one, two]) = (&cluster.nodes, &cluster.pods);
    // The configuration without its IPv4 route.
    let pod = format!(
        "[[port]]\nname = \"{}\"\nnetns = \"{}\"\nifname = \"eth0\"\nip = [\"{}/24\", \"{}/64\"]\n",
        one.name,
        one.netns.path(),
        one.ip4,
        one.ip6
    );
    let config = Node::config(1, Way::Vxlan) + &pod;
    let without = config.replace("[[route]]\nprefix = \"10.244.2.0/24\"\nvia = \"node2\"\n", "");
    assert_ne!(config, without);
    let changes = node.daemon.apply(&lab, &without);
    assert!(!changes.contains("port"), "{changes}");
    assert!(!reaches(one, two), "there is no route");

    let added = update(&lab, node, "add 10.244.2.0/24 node2 # the other node's pods\n");
    assert_eq!(added, json!({"added": 1, "replaced": 0, "removed": 0, "announced": 1}));
    // At the first try: it is in effect when it is answered, in the node's kernel too.
    ping(&one.netns, &two.ip4);
    ping(&node.netns, &two.ip4);
    assert!(kernel_has(node, "10.244.2.0/24"));
    let listed = node.daemon.json("route list");
    let ours = listed.as_array().unwrap().iter().find(|r| r["prefix"] == "10.244.2.0/24");
    assert_eq!(
        ours,
        Some(
            &json!({"prefix": "10.244.2.0/24", "via": "node2", "origin": "announced", "state": "up"})
        )
    );

    // No part of the configuration; the configuration's own comes first, and leaves it in place.
    node.daemon.apply(&lab, &without);
    ping(&one.netns, &two.ip4);
    let blocked = without.clone() + "[[route]]\nprefix = \"10.244.2.0/24\"\nvia = \"blackhole\"\n";
    node.daemon.apply(&lab, &blocked);
    assert!(!reaches(one, two), "the configuration decides");
    assert!(!kernel_has(node, "10.244.2.0/24"));
    node.daemon.apply(&lab, &without);
    ping(&one.netns, &two.ip4);
    ping(&node.netns, &two.ip4);

    // Elsewhere, and back; then nowhere.
    assert_eq!(update(&lab, node, "add 10.244.2.0/24 unreachable\n")["replaced"], 1);
    assert!(!reaches(one, two));
    assert!(!kernel_has(node, "10.244.2.0/24"));
    update(&lab, node, &format!("add 10.244.2.0/24 {}\n", other.ip4));
    ping(&one.netns, &two.ip4);
    update(&lab, node, "add 10.244.2.0/24 node2\n");
    ping(&one.netns, &two.ip4);
    let gone = update(&lab, node, "del 10.244.2.0/24\ndel 10.99.0.0/16\n");
    assert_eq!(gone, json!({"added": 0, "replaced": 0, "removed": 1, "announced": 0}));
    assert!(!reaches(one, two));
    assert!(!kernel_has(node, "10.244.2.0/24"));
    cluster.finish();
}

#[test]
fn what_makes_no_sense_is_refused_whole() {
    let Some(lab) = Lab::new() else { return };
    let cluster = TwoNodes::start(&lab, Way::Vxlan);
    let node = &cluster.nodes[0];
    for (lines, expected) in [
        (
            "add 10.7.0.0/16 node2\nadd 10.8.0.0/16 node9\n",
            "route[1].via = \"node9\": expected a tunnel",
        ),
        ("add 10.7.0.0/16 2001:db8::9\n", "expected a next hop of the family of 10.7.0.0/16"),
        (
            "add 10.7.0.0/16 node2\nadd 10.8.0.0/16 10.244.1.7\n",
            "expected a next hop on the underlay",
        ),
        ("add 10.7.0.0/16\n", "line 1 = \"add 10.7.0.0/16\": expected `add PREFIX VIA...`"),
    ] {
        let file = lab.write("wrong.txt", lines);
        let refused = node.daemon.try_cli(&format!("route update {}", file.display()));
        assert_eq!(refused.code, 2, "{lines}{}", refused.stderr);
        assert!(refused.stderr.contains(expected), "{}", refused.stderr);
        let listed = node.daemon.cli("route list");
        assert!(!listed.contains("announced"), "nothing of it is done: {listed}");
    }
    cluster.finish();
}

/// Twenty thousand routes change as fast as they can while two pods talk; nothing is lost.
#[test]
fn nothing_is_lost_while_routes_change() {
    let Some(lab) = Lab::new() else { return };
    let cluster = TwoNodes::start(&lab, Way::Vxlan);
    let ([node, _], [one, two]) = (&cluster.nodes, &cluster.pods);
    let lines = |via: &str| {
        (0..20_000).fold(String::new(), |mut text, i| {
            let _ = writeln!(text, "add 10.{}.{}.0/24 {via}", 100 + i / 256, i % 256);
            text
        })
    };
    assert_eq!(update(&lab, node, &lines("node2"))["announced"], 20_000);
    ping(&one.netns, &two.ip4);
    let before = cluster.nodes.each_ref().map(|n| n.daemon.counters().missed());
    let text = std::thread::scope(|scope| {
        let ping = format!("ping -n -i 0.005 -c 400 -w 20 {}", two.ip4);
        let pings = scope.spawn(move || one.netns.sh(&ping));
        for via in ["unreachable", "node2", "blackhole"] {
            update(&lab, node, &lines(via));
        }
        pings.join().expect("no panic")
    });
    let missed = cluster.nodes.each_ref().map(|n| n.daemon.counters().missed());
    assert_eq!(missed, before, "a busy machine: frames were lost before the switch");
    assert_eq!(unanswered(&text), [0; 0], "{text}");
    let removed = update(&lab, node, &lines("x").replace(" x", "").replace("add", "del"));
    assert_eq!((&removed["removed"], &removed["announced"]), (&json!(20_000), &json!(0)));
    assert!(!kernel_has(node, "10.100.1.0/24"));
    cluster.finish();
}
