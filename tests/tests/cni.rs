//! The CNI plugin as a node uses it: installed, chained, many at once.

use std::collections::HashSet;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use podswitch_tests::cni::{Call, List, REFERENCE, plugin_path};
use podswitch_tests::{Daemon, Lab, Netns, node_and_outside, ping, podswitch, wait_until};
use serde_json::{Value, json};

const NODE: &str = "[node]\nname = \"node1\"\npod_cidrs = [\"10.244.1.0/24\", \
                    \"fd00:10:244:1::/64\"]\ngateway = true\n";

/// A call for a container's `eth0`, with the reference plugins to delegate to.
fn call(daemon: &Daemon, command: &str, container: &Netns, conf: &Value) -> Call {
    Call::new(&plugin_path(), command, conf)
        .env("CNI_CONTAINERID", container.name())
        .env("CNI_NETNS", container.path())
        .env("CNI_IFNAME", "eth0")
        .env("CNI_PATH", REFERENCE)
        .env("PODSWITCH_SOCKET", daemon.socket().to_str().expect("made of ASCII"))
}

fn address(result: &Value) -> &str {
    let address = result["ips"][0]["address"].as_str().expect("an address");
    address.split('/').next().expect("split gives at least one")
}

#[test]
fn a_configuration_of_the_bridge_plugin_works_with_one_word_changed() {
    let Some(lab) = Lab::beside_others() else { return };
    let node = lab.netns("node");
    let daemon = Daemon::start(&lab, &node, "[switch]\nworkers = 1\n");
    let mut conf: Value = serde_json::from_str(
        r#"{"cniVersion":"0.3.1","name":"pod-network","type":"podswitch-cni","bridge":"cni0",
            "isGateway":true,"ipMasq":true,"ipam":{"type":"host-local","subnet":"10.244.0.0/16",
            "routes":[{"dst":"0.0.0.0/0"}]}}"#,
    )
    .expect("JSON");
    // Its reservations are not this machine's.
    conf["ipam"]["dataDir"] = lab.folder().join("reservations").display().to_string().into();
    let pods = [lab.netns("one"), lab.netns("two")];
    let results: Vec<Value> =
        pods.iter().map(|pod| call(&daemon, "ADD", pod, &conf).run(&node).result()).collect();
    assert_eq!(results[0]["ips"][0]["version"], "4");
    ping(&pods[0], "10.244.0.1");
    ping(&pods[0], address(&results[1]));
    ping(&node, address(&results[0]));
    for pod in &pods {
        call(&daemon, "DEL", pod, &conf).run(&node).silence();
        assert_eq!(pod.links(), ["lo"]);
    }
    daemon.finish();
}

/// Addresses as they are written into the configuration, given out by the reference plugin `static`.
#[test]
fn addresses_of_the_static_plugin() {
    let Some(lab) = Lab::beside_others() else { return };
    let node = lab.netns("node");
    let daemon = Daemon::start(&lab, &node, NODE);
    let mut conf = json!({
        "cniVersion": "1.0.0", "name": "net", "type": "podswitch-cni", "isDefaultGateway": true,
        "ipam": {"type": "static", "addresses": [
            {"address": "10.244.1.77/24", "gateway": "10.244.1.1"},
            {"address": "fd00:10:244:1::77/64", "gateway": "fd00:10:244:1::1"},
        ]},
    });
    let pod = lab.netns("pod");
    let result = call(&daemon, "ADD", &pod, &conf).run(&node).result();
    let ips = result["ips"].as_array().expect("addresses");
    let given: Vec<&str> = ips.iter().filter_map(|ip| ip["address"].as_str()).collect();
    assert_eq!(given, ["10.244.1.77/24", "fd00:10:244:1::77/64"]);
    for gateway in ["10.244.1.1", "fd00:10:244:1::1"] {
        ping(&pod, gateway);
    }
    ping(&node, "10.244.1.77");
    ping(&node, "fd00:10:244:1::77");
    conf["prevResult"] = result;
    call(&daemon, "CHECK", &pod, &conf).run(&node).silence();
    call(&daemon, "DEL", &pod, &conf).run(&node).silence();
    assert_eq!(pod.links(), ["lo"]);
    daemon.finish();
}

#[test]
fn a_hundred_at_once() {
    let Some(lab) = Lab::new() else { return };
    let node = lab.netns("node");
    let daemon = Daemon::start(&lab, &node, NODE);
    let conf = json!({"cniVersion": "1.1.0", "name": "net", "type": "podswitch-cni"});
    let pods: Vec<Netns> = (0..100).map(|n| lab.netns(&format!("p{n}"))).collect();
    let start = |command| {
        let running: Vec<_> =
            pods.iter().map(|pod| call(&daemon, command, pod, &conf).start(&node)).collect();
        running.into_iter().map(|r| r.end()).collect::<Vec<_>>()
    };
    let results: Vec<Value> = start("ADD").iter().map(|said| said.result()).collect();
    for family in 0..2 {
        let distinct: HashSet<String> =
            results.iter().map(|r| r["ips"][family]["address"].to_string()).collect();
        assert_eq!(distinct.len(), pods.len());
    }
    ping(&pods[0], address(&results[99]));
    start("DEL").iter().for_each(|said| said.silence());
    assert!(pods.iter().all(|pod| pod.links() == ["lo"]));
    daemon.finish();
}

/// Rates as Kubernetes annotations ask for them, so slow that frames of 64 KiB would take half a second.
#[test]
fn a_slow_pod_is_shaped_to_its_rate() {
    let Some(lab) = Lab::new() else { return };
    let node = lab.netns("node");
    let daemon = Daemon::start(&lab, &node, NODE);
    let plain = json!({"cniVersion": "1.1.0", "name": "net", "type": "podswitch-cni"});
    let mut limited = plain.clone();
    let rate = 1_000_000;
    limited["runtimeConfig"] = json!({"bandwidth": {"ingressRate": rate, "egressRate": rate}});
    let (slow, other) = (lab.netns("slow"), lab.netns("other"));
    let at = call(&daemon, "ADD", &slow, &limited).run(&node).result();
    let peer = call(&daemon, "ADD", &other, &plain).run(&node).result();
    // What others send it is not lost for its size.
    other.sh(&format!("ping -c1 -W2 -s 9000 {}", address(&at)));
    for (client, server, to) in [(&other, &slow, &at), (&slow, &other, &peer)] {
        let measure = || {
            let listener = server.spawn("iperf3 --server --one-off --forceflush");
            wait_until("iperf3 listens", Duration::from_secs(5), || {
                server.sh("ss -Hltn").contains(":5201 ")
            });
            let stream = client.spawn(&format!("iperf3 --client {} --time 8", address(to)));
            std::thread::sleep(Duration::from_secs(2));
            let part = server.receives(Duration::from_secs(4)) / f64::from(rate);
            drop((stream, listener));
            part
        };
        // Where others starve the machine a stream may get less than it could.
        let part = Some(measure()).filter(|part| *part > 0.95).unwrap_or_else(measure);
        assert!((0.95..1.05).contains(&part), "{part} of {rate} bit/s to {}", server.name());
    }
    for (pod, conf) in [(&slow, &limited), (&other, &plain)] {
        let check = |result: &Value| {
            let mut conf = conf.clone();
            conf["prevResult"] = result.clone();
            call(&daemon, "CHECK", pod, &conf).run(&node).silence();
        };
        check(if pod.name() == slow.name() { &at } else { &peer });
        call(&daemon, "DEL", pod, conf).run(&node).silence();
    }
    daemon.finish();
}

#[test]
fn killed_in_the_middle_of_add() {
    let Some(lab) = Lab::beside_others() else { return };
    let node = lab.netns("node");
    let daemon = Daemon::start(&lab, &node, NODE);
    let conf = json!({"cniVersion": "1.1.0", "name": "net", "type": "podswitch-cni"});
    for delay in 0..12 {
        let pod = lab.netns(&format!("p{delay}"));
        let running = call(&daemon, "ADD", &pod, &conf).start(&node);
        std::thread::sleep(Duration::from_millis(2 * delay));
        running.kill();
        running.end();
        // As a runtime does after a failure.
        call(&daemon, "DEL", &pod, &conf).run(&node).silence();
        assert_eq!(pod.links(), ["lo"]);
        let result = call(&daemon, "ADD", &pod, &conf).run(&node).result();
        ping(&pod, "10.244.1.1");
        assert!(!address(&result).is_empty());
        call(&daemon, "DEL", &pod, &conf).run(&node).silence();
    }
    daemon.finish();
}

#[test]
fn installed_and_used_as_a_runtime_does() {
    let Some(lab) = Lab::beside_others() else { return };
    let [node, outside] = node_and_outside(&lab);
    let daemon = Daemon::start(&lab, &node, NODE);
    let (bin, conf) = (lab.folder().join("bin"), lab.folder().join("net.d"));
    std::fs::create_dir(&bin).expect("a new folder");
    let portmap = Path::new(REFERENCE).join("portmap");
    std::fs::copy(portmap, bin.join("portmap")).expect("Debian's plugin");
    let (bin, conf) = (bin.to_str().expect("ASCII"), conf.to_str().expect("ASCII"));
    let socket = daemon.socket().to_str().expect("ASCII").to_owned();
    let plugin = plugin_path().display().to_string();
    let folders = ["--socket", &socket, "cni", "install", "--bin-dir", bin, "--conf-dir", conf];
    let said = podswitch(&[&folders[..], &["--binary", &plugin]].concat()).success();
    assert_eq!(said.matches(": installed").count(), 2, "{said}");

    let list = List::read(&Path::new(conf).join("10-podswitch.conflist"), Path::new(bin));
    let (web, client) = (lab.netns("web"), lab.netns("client"));
    let port = json!({"hostPort": 8080, "containerPort": 80, "protocol": "tcp"});
    let mapped = json!({"portMappings": [port], "mac": "c2:11:22:33:44:55"});
    let result = list.add(&node, &web, &mapped);
    assert_eq!(web.mac("eth0"), "c2:11:22:33:44:55");
    let none = json!({});
    let other = list.add(&node, &client, &none);
    // Not of the other one: Debian's portmap 1.1.1 fails CHECK on pods with host ports.
    list.check(&node, &client, &none, &other).silence();
    ping(&client, address(&result));

    let server = web.enter(|| TcpListener::bind("0.0.0.0:80").expect("a port of its own"));
    let reach = || {
        let to = "192.0.2.1:8080".parse().expect("an address");
        outside.enter(|| TcpStream::connect_timeout(&to, Duration::from_secs(2)))
    };
    reach().expect("the host port leads to the pod");
    server.accept().expect("a connection");
    list.del(&node, &web, &mapped, Some(&result));
    assert!(reach().is_err(), "the host port is gone with the pod");
    list.del(&node, &client, &none, Some(&other));
    assert_eq!(web.links(), ["lo"]);

    let folders = ["cni", "uninstall", "--bin-dir", bin, "--conf-dir", conf];
    assert_eq!(podswitch(&folders).success().matches(": removed").count(), 2);
    daemon.finish();
}
