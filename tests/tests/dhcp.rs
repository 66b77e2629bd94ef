//! Addresses by DHCP: the reference `dhcp` plugin under ours, and a server on an ordinary segment behind a
//! bridge port.

use std::time::{Duration, Instant};

use podswitch_tests::cni::{Call, REFERENCE, Said, plugin_path};
use podswitch_tests::{Background, Daemon, Lab, Netns, join, ping, wait_until};
use serde_json::{Value, json};

/// A node with a bridge port to a segment that has a DHCP server, and the daemon of the `dhcp` plugin.
struct Site {
    lab: Lab,
    node: Netns,
    lan: Netns,
    daemon: Daemon,
    config: String,
    _leases: Background,
}

impl Site {
    fn new() -> Option<Site> {
        let lab = Lab::beside_others()?;
        let (node, lan) = (lab.netns("node"), lab.netns("lan"));
        join(&node, "lan0", &lan, "eth0");
        // AF_XDP hands frames over as they are: the server's must be complete.
        lan.sh("ethtool -K eth0 tx off");
        lan.ip("address add 10.77.0.1/24 dev eth0");
        let config = "[switch]\nworkers = 1\n[[port]]\ndev = \"lan0\"\nsegment = \"lan\"\n[[segment]]\nname = \"lan\"\n";
        let daemon = Daemon::start(&lab, &node, config);
        let socket = lab.folder().join("dhcp.sock");
        // Seconds that it tries to reach a server, instead of minutes.
        let leases = node.spawn(&format!(
            "{REFERENCE}/dhcp daemon -timeout 1s -resendmax 1s -socketpath {}",
            socket.display()
        ));
        wait_until("the plugin's daemon listens", Duration::from_secs(5), || socket.exists());
        Some(Site { lab, node, lan, daemon, config: config.into(), _leases: leases })
    }

    /// A server with one address to give, which also tells a router and a route.
    fn serve(&self) -> Background {
        let leases = self.lab.write("leases", "");
        let config = format!(
            "start 10.77.0.50\nend 10.77.0.50\nmax_leases 1\ninterface eth0\nlease_file {}\n\
             pidfile {}\nopt subnet 255.255.255.0\nopt router 10.77.0.1\nopt lease 600\n\
             opt staticroutes 10.99.0.0/16 10.77.0.1\n",
            leases.display(),
            self.lab.folder().join("udhcpd.pid").display()
        );
        let file = self.lab.write("udhcpd.conf", &config);
        // Nobody has the address: it need not be probed for long.
        self.lan.spawn(&format!("busybox udhcpd -f -a 100 {}", file.display()))
    }

    fn conf(&self) -> Value {
        let socket = self.lab.folder().join("dhcp.sock");
        json!({
            "cniVersion": "1.0.0", "name": "lan", "type": "podswitch-cni", "bridge": "lan",
            "ipam": {"type": "dhcp", "daemonSocketPath": socket},
        })
    }

    fn call(&self, command: &str, pod: &Netns, result: Option<&Value>) -> Said {
        let mut conf = self.conf();
        if let Some(result) = result {
            conf["prevResult"] = result.clone();
        }
        Call::new(&plugin_path(), command, &conf)
            .env("CNI_CONTAINERID", pod.name())
            .env("CNI_NETNS", pod.path())
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", REFERENCE)
            .env("PODSWITCH_SOCKET", self.daemon.socket().to_str().expect("made of ASCII"))
            .run(&self.node)
    }

    fn attachments(&self) -> usize {
        self.daemon.json("attachment list").as_array().expect("a list").len()
    }
}

#[test]
fn a_lease_is_taken_kept_and_given_back() {
    let Some(mut site) = Site::new() else { return };
    let server = site.serve();
    let (one, two) = (site.lab.netns("one"), site.lab.netns("two"));
    let result = site.call("ADD", &one, None).result();
    assert_eq!(result["ips"][0]["address"], "10.77.0.50/24", "{result}");
    assert_eq!(result["ips"][0]["gateway"], "10.77.0.1");
    assert_eq!(result["interfaces"][1]["mac"], one.mac("eth0"));
    let routes = one.ip("route show");
    assert!(routes.contains("10.99.0.0/16 via 10.77.0.1"), "{routes}");
    one.sh("ping -c1 -W1 10.77.0.1");
    ping(&site.lan, "10.77.0.50");
    site.call("CHECK", &one, Some(&result)).silence();

    // Nothing but the address is the pod's, though its frames were let pass before it had one.
    one.ip("address add 10.77.0.51/24 dev eth0");
    assert_ne!(one.try_sh("ping -c1 -W1 -I 10.77.0.51 10.77.0.1").code, 0);
    one.ip("address del 10.77.0.51/24 dev eth0");

    // The server has no other address.
    assert!(site.call("ADD", &two, None).error()["code"].is_u64());
    assert_eq!((two.links(), site.attachments()), (vec!["lo".to_owned()], 1));

    // A daemon that comes back finds the pod with what it got.
    let (index, mac) = (one.ip("-o link show dev eth0"), one.mac("eth0"));
    let Site { lab, node, lan, daemon, config, _leases } = site;
    daemon.crash();
    let daemon = Daemon::start(&lab, &node, &config);
    site = Site { lab, node, lan, daemon, config, _leases };
    assert_eq!((one.ip("-o link show dev eth0"), one.mac("eth0")), (index, mac));
    ping(&one, "10.77.0.1");
    site.call("CHECK", &one, Some(&result)).silence();

    site.call("DEL", &one, Some(&result)).silence();
    site.call("DEL", &one, None).silence();
    assert_eq!(one.links(), ["lo"]);
    // It was released, not left to expire.
    let result = site.call("ADD", &two, None).result();
    assert_eq!(result["ips"][0]["address"], "10.77.0.50/24");
    site.call("DEL", &two, Some(&result)).silence();
    assert_eq!(site.attachments(), 0);
    drop(server);
    site.daemon.finish_leaving(&["lo", "lan0"]);
}

#[test]
fn with_no_server_nothing_is_left() {
    let Some(site) = Site::new() else { return };
    let pod = site.lab.netns("pod");
    let start = Instant::now();
    let error = site.call("ADD", &pod, None).error();
    assert!(error["msg"].as_str().is_some_and(|msg| msg.contains("dhcp")), "{error}");
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
    assert_eq!((pod.links(), site.attachments()), (vec!["lo".to_owned()], 0));
    // A runtime follows up.
    site.call("DEL", &pod, None).silence();
    let before = site.node.links();
    site.daemon.finish_leaving(&before);
}
