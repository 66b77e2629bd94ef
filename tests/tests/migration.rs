//! A node moves over from the reference bridge plugin: one word of the configuration changes while pods
//! run.

use std::time::Duration;

use podswitch_tests::cni::{Call, REFERENCE, plugin_path};
use podswitch_tests::{Daemon, Lab, Netns, join, ping, wait_until};
use serde_json::{Value, json};

/// A node that runs the bridge plugin, with a way to the world.
struct Site {
    lab: Lab,
    node: Netns,
    world: Netns,
}

impl Site {
    fn call(&self, kind: &str, command: &str, pod: &Netns, daemon: Option<&Daemon>) -> Call {
        let conf = json!({
            "cniVersion": "1.0.0", "name": "pod-network", "type": kind, "bridge": "cni0",
            "isGateway": true, "ipMasq": true,
            "ipam": {"type": "host-local", "subnet": "10.244.0.0/16",
                     "routes": [{"dst": "0.0.0.0/0"}],
                     "dataDir": self.lab.folder().join("reservations").display().to_string()},
        });
        let plugin = match kind {
            "podswitch-cni" => plugin_path(),
            reference => format!("{REFERENCE}/{reference}").into(),
        };
        let call = Call::new(&plugin, command, &conf)
            .env("CNI_CONTAINERID", pod.name())
            .env("CNI_NETNS", pod.path())
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", REFERENCE);
        match daemon {
            Some(d) => call.env("PODSWITCH_SOCKET", d.socket().to_str().expect("ASCII")),
            None => call,
        }
    }

    /// The addresses that host-local has given away.
    fn reserved(&self) -> Vec<String> {
        let folder = self.lab.folder().join("reservations/pod-network");
        let names = std::fs::read_dir(folder).expect("host-local made it");
        let names = names.map(|f| f.expect("a file").file_name().to_string_lossy().into_owned());
        let mut names: Vec<String> = names.filter(|n| n.starts_with("10.")).collect();
        names.sort();
        names
    }
}

fn address(result: &Value) -> &str {
    let address = result["ips"][0]["address"].as_str().expect("an address");
    address.split('/').next().expect("split gives at least one")
}

#[test]
fn a_node_moves_over_from_the_bridge_plugin() {
    let Some(lab) = Lab::new() else { return };
    let (node, world) = (lab.netns("node"), lab.netns("world"));
    join(&node, "wan0", &world, "wan0");
    node.ip("addr add 198.51.100.1/24 dev wan0");
    world.ip("addr add 198.51.100.9/24 dev wan0");
    node.sysctl("net.ipv4.ip_forward", "1");
    let site = Site { lab, node, world };
    let [old, idle, new, next] = ["old", "idle", "new", "next"].map(|name| site.lab.netns(name));
    for pod in [&old, &idle] {
        site.call("bridge", "ADD", pod, None).run(&site.node).result();
    }
    ping(&old, "198.51.100.9");
    let chains = || site.node.sh("iptables -t nat -S").matches("-A POSTROUTING").count();
    assert_eq!(chains(), 2);

    // The word changes. Pods that run go on, new ones are ours.
    let daemon = Daemon::start(&site.lab, &site.node, "[switch]\nworkers = 1\n");
    let ours = |command: &str, pod: &Netns| {
        site.call("podswitch-cni", command, pod, Some(&daemon)).run(&site.node)
    };
    let added = [&new, &next].map(|pod| ours("ADD", pod).result());
    assert_eq!(site.reserved().len(), 4, "nobody gets an address twice");
    ping(&new, address(&added[1]));
    ping(&new, "10.244.0.1");
    ping(&old, "198.51.100.9");
    let warnings = || daemon.json("show status")["warnings"].to_string();
    assert!(
        warnings().contains("10.244.0.0/16"),
        "the node's route is the bridge's: {}",
        warnings()
    );

    // The runtime drains the node. DEL of the bridge's pods is ours now, and leaves nothing.
    ours("DEL", &old).silence();
    ours("DEL", &old).silence();
    assert_eq!((old.links(), chains()), (vec!["lo".to_owned()], 1));
    assert_eq!(site.reserved().len(), 3);
    // Nor does it when the namespace has gone before.
    let call = site.call("podswitch-cni", "DEL", &idle, Some(&daemon)).without("CNI_NETNS");
    call.run(&site.node).silence();
    assert_eq!(site.reserved().len(), 2);
    drop(idle);

    // The last step is the operator's.
    site.node.ip("link delete cni0");
    wait_until("the node reaches the new pods", Duration::from_secs(10), || {
        site.node.try_sh(&format!("ping -c1 -W1 {}", address(&added[0]))).code == 0
    });
    ping(&new, "198.51.100.9");
    assert_eq!(warnings(), "[]");
    for pod in [&new, &next] {
        ours("DEL", pod).silence();
    }
    assert_eq!(site.reserved(), [""; 0]);
    assert!(site.world.links().contains(&"wan0".to_owned()));
    daemon.finish_leaving(&["lo", "wan0"]);
}
