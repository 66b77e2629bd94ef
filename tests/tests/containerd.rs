//! A real container runtime: containerd and runc, told over CRI what a kubelet tells them, plug pods into
//! the switch on two nodes. The reference bridge plugin first, which proves the harness.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use podswitch_api::method::Empty;
use podswitch_api::{Client, Request, Response};
use podswitch_tests::{
    Containerd, Lab, Netns, Node, Sandbox, Way, join, podswitch_path, wait_until,
};
use serde_json::{Value, json};

/// The plugin under test, which is built beside `podswitch`.
fn plugin_path() -> PathBuf {
    podswitch_path().with_file_name("podswitch-cni")
}

fn conflist(socket: &Path) -> Value {
    json!({
        "cniVersion": "1.0.0", "name": "podswitch", "plugins": [
            {"type": "podswitch-cni", "socket": socket, "capabilities": {"bandwidth": true}},
            {"type": "portmap", "capabilities": {"portMappings": true}, "snat": true},
        ],
    })
}

/// A node with a runtime. The runtime goes first.
struct Worker {
    runtime: Containerd,
    node: Node,
    config: String,
    /// The interfaces before any of it.
    links: Vec<String>,
}

impl Worker {
    fn start(lab: &Lab, netns: &Netns, number: u8) -> Worker {
        let (config, links) = (Node::config(number, Way::Vxlan), netns.links());
        let node = Node::start(lab, netns, number, Way::Vxlan, "");
        let list = conflist(node.daemon.socket());
        let runtime = Containerd::start(lab, netns, Some(&plugin_path()), &list);
        Worker { runtime, node, config, links }
    }

    /// A node without others: its uplink leads nowhere.
    fn alone(lab: &Lab) -> Worker {
        let netns = lab.netns("n1");
        netns.ip("link add uplink0 type veth peer name wire0");
        netns.ip("link set uplink0 up");
        Worker::start(lab, &netns, 1)
    }

    /// The containers that the daemon has attached.
    fn attached(&self) -> BTreeSet<String> {
        let mut client = Client::connect(self.node.daemon.socket()).expect("the daemon listens");
        match client.call(&Request::AttachmentList(Empty {})) {
            Ok(Response::AttachmentList(all)) => all.into_iter().map(|a| a.container_id).collect(),
            other => panic!("attachment.list: {other:?}"),
        }
    }

    /// What there is of pods: interfaces, ports, addresses learned.
    fn footprint(&self) -> (Vec<String>, Vec<String>, usize) {
        let daemon = &self.node.daemon;
        let ports = daemon.json("port list");
        let names = ports.as_array().expect("a list").iter();
        let names = names.filter_map(|p| p["name"].as_str().map(str::to_owned)).collect();
        let fdb = daemon.json("fdb list").as_array().expect("a list").len();
        (self.node.netns.links(), names, fdb)
    }

    /// The daemon dies as by a crash, and another one takes its place.
    fn crash_daemon(self, lab: &Lab) -> Worker {
        let Worker { runtime, node, config, links } = self;
        let Node { netns, daemon, .. } = node;
        daemon.crash();
        let node = Node::start_with(lab, &netns, config_number(&config), &config);
        Worker { runtime, node, config, links }
    }

    /// Removes all pods; the runtime and the daemon must end with nothing left.
    fn finish(self) {
        self.runtime.finish();
        self.node.daemon.finish_leaving(&self.links);
    }
}

fn config_number(config: &str) -> u8 {
    if config.contains("name = \"node1\"") { 1 } else { 2 }
}

fn cluster(lab: &Lab) -> [Worker; 2] {
    let spaces = ["n1", "n2"].map(|name| lab.netns(name));
    join(&spaces[0], "uplink0", &spaces[1], "uplink0");
    [1, 2].map(|n| Worker::start(lab, &spaces[usize::from(n) - 1], n))
}

/// Ends both nodes. Neither namespace may go, and with it the wire, before both are done.
fn finish(workers: [Worker; 2]) {
    let _wire = workers.each_ref().map(|worker| worker.node.netns.clone());
    for worker in workers {
        worker.finish();
    }
}

fn reaches(pod: &Sandbox, address: &str) {
    pod.sh(&format!("ping -n -c1 -W2 {address}"));
}

/// The harness itself, on the plugin that everybody knows.
#[test]
fn the_reference_bridge_plugin() {
    let Some(lab) = Lab::beside_others() else { return };
    let node = lab.netns("n1");
    let ipam = json!({"type": "host-local", "subnet": "10.244.0.0/16", "dataDir": lab.folder()});
    let bridge = json!({"type": "bridge", "bridge": "cni0", "isGateway": true, "ipam": ipam});
    let list = json!({"cniVersion": "1.0.0", "name": "pod-network", "plugins": [bridge]});
    let mut runtime = Containerd::start(&lab, &node, None, &list);
    let pods = runtime.run_pods(2, &json!({}));
    let container = runtime.run_container(&pods[0], &["sleep", "100"]);
    runtime.exec(&container, &format!("ping -c1 -W2 {}", pods[1].ip));
    node.sh(&format!("ping -c1 -W2 {}", pods[0].ip));
    runtime.finish();
    assert_eq!(node.links(), ["lo", "cni0"]);
}

#[test]
fn pods_of_two_nodes_outlive_restarts_of_everything() {
    let Some(lab) = Lab::beside_others() else { return };
    let [mut one, mut two] = cluster(&lab);
    let empty = one.footprint();
    let a = one.runtime.run_pod(&json!({}));
    let b = two.runtime.run_pod(&json!({}));
    let check = |one: &Worker, two: &Worker| {
        for ip in b.ips.iter().chain([&one.node.ip4, &one.node.ip6, &two.node.ip4]) {
            reaches(&a, ip);
        }
        for ip in &a.ips {
            reaches(&b, ip);
            one.node.netns.sh(&format!("ping -n -c1 -W2 {ip}"));
        }
    };
    assert_eq!((a.ips.len(), b.ips.len()), (2, 2), "an IPv4 and an IPv6 address each");
    check(&one, &two);
    let container = one.runtime.run_container(&a, &["sleep", "1000"]);
    one.runtime.exec(&container, &format!("ping -c1 -W2 {}", b.ip));

    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        one.runtime.end(signal);
        check(&one, &two);
        one.runtime.resume();
        assert_eq!(one.runtime.pods(), std::slice::from_ref(&a.id), "it still knows its pod");
        one.runtime.exec(&container, &format!("ping -c1 -W2 {}", b.ip));
    }

    let index = a.sh("ip -o link show dev eth0");
    let mut one = one.crash_daemon(&lab);
    check(&one, &two);
    assert_eq!(a.sh("ip -o link show dev eth0"), index, "the interface is the same");
    let c = one.runtime.run_pod(&json!({}));
    reaches(&c, &b.ip);
    assert!(!a.ips.contains(&c.ip), "{} twice", c.ip);

    one.runtime.remove(&[a.id.clone(), c.id.clone()]);
    wait_until("nothing of the pods is left", Duration::from_secs(5), || {
        let (links, ports, _) = one.footprint();
        (links, ports) == (empty.0.clone(), empty.1.clone())
    });
    assert_eq!(one.attached(), BTreeSet::new());
    finish([one, two]);
}

/// The runtime, then the daemon, killed while they plug pods in. What is left half done is cleaned up
/// by the runtime's own DEL or, for what it has forgotten, by the GC of the specification.
#[test]
fn killed_in_the_middle_of_an_add() {
    let Some(lab) = Lab::beside_others() else { return };
    let mut worker = Worker::alone(&lab);
    let empty = worker.footprint();

    for delay in [60, 150, 300] {
        let requests = (0..4).map(|_| worker.runtime.pod(&json!({}))).collect();
        worker.runtime.send("RunPodSandbox", requests);
        std::thread::sleep(Duration::from_millis(delay));
        worker.runtime.end(Signal::SIGKILL);
        worker.runtime.resume();
        let known = worker.runtime.pods();
        worker.runtime.remove(&known);
    }
    let pod = worker.runtime.run_pod(&json!({}));
    gc(&worker, &[&pod.id]);
    assert_eq!(worker.attached(), BTreeSet::from([pod.id.clone()]));

    for delay in [60, 150, 300] {
        let requests = (0..4).map(|_| worker.runtime.pod(&json!({}))).collect();
        worker.runtime.send("RunPodSandbox", requests);
        std::thread::sleep(Duration::from_millis(delay));
        worker = worker.crash_daemon(&lab);
        for answer in worker.runtime.answers() {
            // What was interrupted fails and says so; it does not pretend.
            if let Err(e) = answer {
                assert!(e.contains("failed to setup network"), "{e}");
            }
        }
        let known = worker.runtime.pods().into_iter().filter(|id| *id != pod.id);
        worker.runtime.remove(&known.collect::<Vec<_>>());
    }
    wait_until("only the pod that stayed is attached", Duration::from_secs(5), || {
        worker.attached() == BTreeSet::from([pod.id.clone()])
    });
    reaches(&pod, "10.244.1.1");
    worker.runtime.remove(&[pod.id]);
    let (links, ports, _) = worker.footprint();
    assert_eq!((links, ports), (empty.0, empty.1));
    let notes = worker.node.daemon.socket().with_extension("sock.pending");
    let left = std::fs::read_dir(notes).map_or(0, Iterator::count);
    assert_eq!(left, 0, "notes that nobody carried out");
    worker.finish();
}

/// The plugin's GC, as runtimes call it that know of it.
fn gc(worker: &Worker, valid: &[&String]) {
    let list: Vec<Value> =
        valid.iter().map(|id| json!({"containerID": id, "ifname": "eth0"})).collect();
    let conf = json!({
        "cniVersion": "1.1.0", "name": "podswitch", "type": "podswitch-cni",
        "socket": worker.node.daemon.socket(), "cni.dev/valid-attachments": list,
    });
    let mut plugin = Command::new("nsenter")
        .arg(format!("--net={}", worker.node.netns.path()))
        .arg(plugin_path())
        .envs([("CNI_COMMAND", "GC"), ("CNI_PATH", "/usr/lib/cni")])
        .stdin(Stdio::piped())
        .spawn()
        .expect("starting the plugin");
    let mut input = plugin.stdin.take().expect("piped");
    input.write_all(conf.to_string().as_bytes()).expect("the plugin reads");
    drop(input);
    assert!(plugin.wait().expect("reaping the plugin").success(), "GC");
}

#[test]
fn a_hundred_pods_up_and_down() {
    let Some(lab) = Lab::new() else { return };
    let mut worker = Worker::alone(&lab);
    let empty = worker.footprint();
    let start = Instant::now();
    let pods = worker.runtime.run_pods(100, &json!({}));
    let up = start.elapsed();
    let addresses: BTreeSet<&String> = pods.iter().flat_map(|p| &p.ips).collect();
    assert_eq!(addresses.len(), 200, "an IPv4 and an IPv6 address each, none twice");
    for pair in pods.windows(2).step_by(9) {
        pair.iter().zip(pair.iter().rev()).for_each(|(from, to)| reaches(from, &to.ip));
    }
    let ids: Vec<String> = pods.into_iter().map(|pod| pod.id).collect();
    let start = Instant::now();
    worker.runtime.remove(&ids);
    println!("100 pods: up in {up:?}, down in {:?}", start.elapsed());
    assert_eq!(worker.footprint(), empty);
    assert_eq!(worker.attached(), BTreeSet::new());
    worker.finish();
}

/// A pod's port on the node, by the chained `portmap` plugin; its rates, by `runtimeConfig`.
#[test]
fn host_ports_and_bandwidth() {
    let Some(lab) = Lab::new() else { return };
    let [mut one, mut two] = cluster(&lab);
    let web = one.runtime.run_pod(&json!({
        "port_mappings": [{"container_port": 5201, "host_port": 8080}],
    }));
    let limits = json!({
        "annotations": {
            "kubernetes.io/ingress-bandwidth": "20M", "kubernetes.io/egress-bandwidth": "10M",
        },
    });
    let slow = one.runtime.run_pod(&limits);
    let client = two.runtime.run_pod(&json!({}));

    let server = web.spawn("iperf3 --server --one-off --forceflush");
    wait_until("iperf3 listens", Duration::from_secs(5), || web.sh("ss -Hltn").contains(":5201 "));
    let node = one.node.ip4.clone();
    two.node.netns.sh(&format!("iperf3 --client {node} --port 8080 --time 1"));
    drop(server);
    // A pod of another node, and one of the same: whose answer would else take the direct way, past the
    // kernel that redirected.
    for from in [&client, &slow] {
        let server = web.spawn("iperf3 --server --one-off --forceflush");
        wait_until("iperf3 listens", Duration::from_secs(5), || {
            web.sh("ss -Hltn").contains(":5201 ")
        });
        from.sh(&format!("iperf3 --client {node} --port 8080 --time 1"));
        drop(server);
    }

    let ports = one.node.daemon.json("port list");
    let port =
        ports.as_array().expect("a list").iter().find(|p| p["ip"].to_string().contains(&slow.ip));
    let limits = port.map(|p| (&p["ingress_rate"], &p["egress_rate"]));
    assert_eq!(limits, Some((&json!(20_000_000), &json!(10_000_000))), "{port:?}");
    let server = slow.spawn("iperf3 --server --forceflush");
    wait_until("iperf3 listens", Duration::from_secs(5), || slow.sh("ss -Hltn").contains(":5201 "));
    for (option, rate) in [("", 20e6), ("--reverse", 10e6)] {
        let line = format!("iperf3 --client {} --time 5 {option}", slow.ip);
        let receiver = if option.is_empty() { &slow } else { &client };
        let measure = || {
            let stream = client.spawn(&line);
            std::thread::sleep(Duration::from_millis(1500));
            let part = receiver.receives(Duration::from_secs(3)) / rate;
            stream.end();
            part
        };
        // A busy machine may take its time; twice is enough to tell.
        let part = Some(measure()).filter(|part| *part > 0.95).unwrap_or_else(measure);
        assert!((0.95..1.05).contains(&part), "{part} of {rate} bit/s {option}");
    }
    drop(server);
    finish([one, two]);
}
