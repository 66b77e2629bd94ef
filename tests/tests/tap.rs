//! Pods whose interface is a TAP device: superpackets, checksums, what survives and what goes.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use podswitch_tests::cni::{Call, plugin_path};
use podswitch_tests::{
    Capture, Daemon, Lab, Netns, Node, Pod, Way, Wire, exchange, iperf, join, ping, ping_sized,
    tool, wait_until,
};
use serde_json::{Value, json};

const NODE: &str =
    "[node]\npod_cidrs = [\"10.244.1.0/24\", \"fd00:10:244:1::/64\"]\ngateway = true\n";
/// The longest frame of an interface with an MTU of 1500.
const WIRE: usize = 1514;

/// One echo request, answered within a second: nothing that was slow to come up is forgiven.
#[track_caller]
fn ping_once(from: &Netns, to: &str) {
    from.sh(&format!("ping -n -c1 -W1 {to}"));
}

/// A node without an uplink, and a pod for each line of options.
fn node_with(lab: &Lab, options: &[&str]) -> (Node, Vec<Pod>) {
    let netns = lab.netns("n1");
    let node = Node::start_with(lab, &netns, 1, NODE);
    let pods = options.iter().zip(5..).map(|(o, host)| node.add_pod_with(lab, host, o)).collect();
    (node, pods)
}

/// The state of a port as `port list` has it.
fn port(daemon: &Daemon, name: &str) -> Value {
    let ports = daemon.json("port list");
    let found = ports.as_array().expect("a list").iter().find(|p| p["name"] == name);
    found.expect("the port is listed").clone()
}

#[test]
fn pods_of_both_types_on_one_node() {
    let Some(lab) = Lab::new() else { return };
    let options = ["--type tap", "--type tap", "--type veth", "", "--type tap --mtu 1500"];
    let (node, pods) = node_with(&lab, &options);
    let [one, two, veth, default, small] = &pods[..] else { unreachable!() };
    for other in [two, veth, default, small] {
        ping_once(&one.netns, &other.ip4);
        ping_once(&one.netns, &other.ip6);
    }
    ping_once(&one.netns, &node.gateway4());
    ping_once(&node.netns, &one.ip6);
    let shown = port(&node.daemon, &one.name);
    assert_eq!(
        (&shown["type"], &shown["mode"], &shown["mtu"]),
        (&"tap".into(), &"tap".into(), &65521.into())
    );
    assert!(shown["dev"].is_null(), "it has no end in the node: {shown}");
    assert_eq!(port(&node.daemon, &default.name)["type"], "veth");
    assert!(one.netns.ip("link show eth0").contains("mtu 65521"));
    assert!(small.netns.ip("link show eth0").contains("mtu 1500"));
    assert_eq!(shown["mac"], one.netns.mac("eth0"));

    for (a, b) in [(one, two), (one, veth), (two, veth)] {
        exchange((&a.netns, &a.ip4), (&b.netns, &b.ip4));
        exchange((&a.netns, &a.ip6), (&b.netns, &b.ip6));
    }
    ping_sized(&one.netns, &veth.ip4, &[65507]);
    ping_sized(&veth.netns, &one.ip4, &[65507]);
    exchange((&two.netns, &two.ip4), (&node.netns, &node.gateway4()));
    exchange((&one.netns, &one.ip6), (&node.netns, &node.gateway6()));
    for options in ["", "--reverse", "--parallel 4"] {
        iperf(&one.netns, &two.netns, &two.ip4, options);
        iperf(&small.netns, &two.netns, &two.ip4, options);
        // Packets of 1500 bytes on the one side, superpackets on the other.
        iperf(&small.netns, &veth.netns, &veth.ip6, options);
        iperf(&small.netns, &node.netns, &node.gateway4(), options);
    }
    node.daemon.cli(&format!("port del {}", one.name));
    assert_eq!(one.netns.links(), ["lo"], "removal takes the device away");
    node.daemon.finish();
    assert_eq!(two.netns.links(), ["lo"], "as SIGTERM does");
}

/// TCP and UDP superpackets arrive as such, whatever the MTU.
#[test]
fn superpackets_pass_whole_between_pods() {
    let Some(lab) = Lab::new() else { return };
    let tap = "--type tap --mtu 1500";
    let (node, pods) = node_with(&lab, &[tap, tap]);
    let [one, two] = &pods[..] else { unreachable!() };
    let capture = Capture::start(&two.netns, "eth0");
    exchange((&one.netns, &one.ip4), (&two.netns, &two.ip4));
    exchange((&one.netns, &one.ip6), (&two.netns, &two.ip6));
    for address in [&two.ip4, &two.ip6] {
        one.netns.sh(&format!("{} {address}", tool("uso.py")));
    }
    let frames = capture.end();
    let longest = |ethertype: [u8; 2], protocol: u8| {
        let is = |f: &&Vec<u8>| {
            let at = if ethertype == [0x08, 0] { 23 } else { 20 };
            f[12..14] == ethertype && f[at] == protocol
        };
        frames.iter().filter(is).map(Vec::len).max().unwrap_or(0)
    };
    for ethertype in [[0x08, 0], [0x86, 0xdd]] {
        assert!(longest(ethertype, 6) > 4 * WIRE, "TCP: {}", longest(ethertype, 6));
        assert!(longest(ethertype, 17) > 4 * WIRE, "UDP: {}", longest(ethertype, 17));
    }
    node.daemon.finish();
}

/// What leaves the node fits the wire, and every checksum on it is right, by tshark's account.
fn between_nodes(way: Way) {
    let Some(lab) = Lab::new() else { return };
    let wire = Wire::new(&lab);
    let spaces = [lab.netns("n1"), lab.netns("n2")];
    spaces.iter().for_each(|space| _ = wire.plug(space, "uplink0"));
    let nodes = [1, 2].map(|n| Node::start(&lab, &spaces[usize::from(n) - 1], n, way, ""));
    let pods = [0, 1].map(|n: usize| nodes[n].add_pod_with(&lab, 5, "--type tap"));
    let veth = nodes[1].add_pod(&lab, 6);

    let (tap, capture) = (wire.tap(), Capture::start(&wire.netns, "br0"));
    exchange((&pods[0].netns, &pods[0].ip4), (&pods[1].netns, &pods[1].ip4));
    exchange((&pods[0].netns, &pods[0].ip6), (&pods[1].netns, &pods[1].ip6));
    exchange((&pods[0].netns, &pods[0].ip4), (&veth.netns, &veth.ip4));
    tap.end(&lab);
    let longest = capture.end().iter().map(Vec::len).max().unwrap_or(0);
    assert!((1400..=WIRE).contains(&longest), "the longest frame on the wire has {longest} bytes");
    for options in ["", "--reverse", "--parallel 4"] {
        iperf(&pods[0].netns, &pods[1].netns, &pods[1].ip4, options);
        iperf(&pods[0].netns, &veth.netns, &veth.ip6, options);
    }
    let _spaces = spaces;
    for node in nodes {
        node.daemon.finish();
    }
}

#[test]
fn between_nodes_over_vxlan() {
    between_nodes(Way::Vxlan);
}

#[test]
fn between_nodes_over_ipip() {
    between_nodes(Way::Ipip);
}

#[test]
fn between_nodes_natively() {
    between_nodes(Way::Native);
}

/// A kernel's vxlan device as the other node: it completes and verifies checksums by itself.
#[test]
fn to_the_kernels_vxlan() {
    let Some(lab) = Lab::new() else { return };
    let (wire, us, peer) = (Wire::new(&lab), lab.netns("n1"), lab.netns("k2"));
    wire.plug(&us, "uplink0");
    us.ip("addr add 192.0.2.1/24 dev uplink0");
    wire.plug_kernel(&peer, "eth0", &["192.0.2.2/24"]);
    peer.ip("link add vx type vxlan id 77 remote 192.0.2.1 local 192.0.2.2 dstport 4789 dev eth0");
    peer.ip("link set vx mtu 1430 up");
    peer.ip("addr add 10.9.0.77/24 dev vx");
    peer.ip("addr add fd00:9::77/64 dev vx nodad");
    let daemon = Daemon::start(
        &lab,
        &us,
        "[uplink]\ndev = \"uplink0\"\n[[tunnel]]\nname = \"peer\"\nkind = \"vxlan\"\n\
         remote = \"192.0.2.2\"\nvni = 77\nsegment = \"default\"\n",
    );
    let pod = lab.netns("pod1");
    daemon.cli(&format!(
        "port add --netns {} --ifname eth0 --type tap --mtu 1430 --ip 10.9.0.1/24 --ip fd00:9::1/64 pod1",
        pod.path()
    ));
    let tap = wire.tap();
    exchange((&pod, "10.9.0.1"), (&peer, "10.9.0.77"));
    exchange((&pod, "fd00:9::1"), (&peer, "fd00:9::77"));
    tap.end(&lab).assert_seen("eth:ethertype:ip:udp:vxlan:eth:ethertype:ip:tcp");
    for options in ["", "--reverse", "--parallel 4"] {
        iperf(&pod, &peer, "10.9.0.77", options);
    }
    daemon.finish();
}

/// A pod describes its packets as something that they are not: each is forwarded right or dropped under
/// a name, and others notice nothing.
#[test]
fn a_hostile_pod() {
    let Some(lab) = Lab::new() else { return };
    let (node, pods) = node_with(&lab, &["--type tap", "--type tap", "--type veth"]);
    let [hostile, tap, veth] = &pods[..] else { unreachable!() };
    ping(&tap.netns, &veth.ip4);
    for victim in [tap, veth] {
        // It sends wrong checksums in packets that it claims to be complete.
        victim.netns.forgive_checksums();
        let mac = victim.netns.mac("eth0");
        let line = format!("{} eth0 {mac} {} {}", tool("vnet_hdr.py"), hostile.ip4, victim.ip4);
        let taken: u64 = hostile.netns.sh(&line).trim().parse().expect("a number");
        assert!(taken > 500, "its kernel let {taken} pass");
    }
    ping_once(&tap.netns, &veth.ip4);
    ping_once(&hostile.netns, &tap.ip4);
    exchange((&tap.netns, &tap.ip4), (&veth.netns, &veth.ip4));
    let counters = node.daemon.finish();
    assert!(counters.dropped("offload_invalid") > 0, "{counters:?}");
}

/// Sends bytes through a connection and waits until they have come back.
#[track_caller]
fn echo(stream: &mut TcpStream, len: usize) {
    let sent: Vec<u8> = (0..len).map(|i| i as u8).collect();
    let mut received = vec![0; len];
    let mut writer = stream.try_clone().expect("one more descriptor");
    let bytes = sent.clone();
    let writing = std::thread::spawn(move || writer.write_all(&bytes));
    stream.read_exact(&mut received).expect("the connection lives");
    writing.join().expect("no panic").expect("the connection lives");
    assert!(sent == received, "the bytes that came back are others");
}

/// An echo server in one namespace and a connection to it from another.
fn connect(server: &Netns, client: &Netns, address: &str) -> TcpStream {
    let listener = server.enter(|| TcpListener::bind((address, 7777)).expect("binding"));
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("accepting");
        let mut writer = stream.try_clone().expect("one more descriptor");
        // Ends with the connection.
        let _ = std::io::copy(&mut stream, &mut writer);
    });
    let stream = client.enter(|| TcpStream::connect((address, 7777)).expect("connecting"));
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout is allowed");
    stream
}

#[test]
fn a_connection_survives_the_daemons_death() {
    let Some(lab) = Lab::new() else { return };
    let netns = lab.netns("n1");
    let [one, two] = ["one", "two"].map(|n| lab.netns(n));
    let mut config = NODE.to_owned();
    for (pod, host) in [(&one, 5), (&two, 6)] {
        config += &format!(
            "[[port]]\nname = \"pod{host}\"\nnetns = \"{}\"\nifname = \"eth0\"\ntype = \"tap\"\n\
             ip = [\"10.244.1.{host}/24\", \"fd00:10:244:1::{host}/64\"]\n",
            pod.path()
        );
    }
    let daemon = Daemon::start(&lab, &netns, &config);
    let index =
        |netns: &Netns| netns.ip("-o link show dev eth0").split(':').next().map(str::to_owned);
    let before = index(&one);
    let mut streams =
        ["10.244.1.6", "fd00:10:244:1::6"].map(|address| connect(&two, &one, address));
    streams.iter_mut().for_each(|s| echo(s, 1 << 20));
    daemon.crash();
    assert!(one.ip("link show eth0").contains("NO-CARRIER"), "nobody is behind it");

    let daemon = Daemon::start(&lab, &netns, &config);
    streams.iter_mut().for_each(|s| echo(s, 1 << 20));
    assert_eq!(index(&one), before, "the interface is the one that it was");
    ping_once(&two, "10.244.1.5");
    ping_once(&two, "10.244.1.1");

    // Another type is another interface, also for a daemon that finds the old one.
    daemon.crash();
    let other = config.replacen("type = \"tap\"", "type = \"veth\"", 1);
    let daemon = Daemon::start(&lab, &netns, &other);
    ping_once(&one, "10.244.1.6");
    assert!(one.ip("-d link show eth0").contains("veth"));
    daemon.crash();
    let daemon = Daemon::start(&lab, &netns, &config);
    ping_once(&one, "10.244.1.6");
    assert!(one.ip("-d link show eth0").contains("tun type tap"));

    // And so is one with another address.
    daemon.crash();
    let mac = "02:00:00:00:00:05";
    let other = config.replacen("type = \"tap\"", &format!("type = \"tap\"\nmac = \"{mac}\""), 1);
    let daemon = Daemon::start(&lab, &netns, &other);
    assert_eq!(one.mac("eth0"), mac);
    ping_once(&one, "10.244.1.6");
    daemon.finish_leaving(&["lo"]);
    assert_eq!((one.links(), two.links()), (vec!["lo".to_owned()], vec!["lo".to_owned()]));
}

/// A queue for each worker; a device that an earlier daemon made with one queue keeps it, and the workers
/// share it.
#[test]
fn several_workers() {
    let Some(lab) = Lab::new() else { return };
    let netns = lab.netns("n1");
    let [one, two] = ["one", "two"].map(|n| lab.netns(n));
    let config = |workers: u32| {
        let mut text = format!("[switch]\nworkers = {workers}\n{NODE}");
        for (pod, host) in [(&one, 5), (&two, 6)] {
            text += &format!(
                "[[port]]\nname = \"pod{host}\"\nnetns = \"{}\"\nifname = \"eth0\"\ntype = \"tap\"\n\
                 ip = [\"10.244.1.{host}/24\"]\n",
                pod.path()
            );
        }
        text
    };
    let talk = |daemon: &Daemon, queues: u32| {
        assert_eq!(port(daemon, "pod5")["queues"], queues);
        exchange((&one, "10.244.1.5"), (&two, "10.244.1.6"));
        iperf(&one, &two, "10.244.1.6", "--parallel 8");
    };
    let daemon = Daemon::start(&lab, &netns, &config(2));
    talk(&daemon, 2);
    daemon.crash();
    let daemon = Daemon::start(&lab, &netns, &config(1));
    talk(&daemon, 1);
    daemon.finish_leaving(&["lo"]);
    let daemon = Daemon::start(&lab, &netns, &config(1));
    daemon.crash();
    let daemon = Daemon::start(&lab, &netns, &config(2));
    talk(&daemon, 1);
    daemon.finish_leaving(&["lo"]);
}

/// A pod goes while it is talked to, without a word to the daemon: one that the daemon has made, and one
/// that it has found.
#[test]
fn a_namespace_goes_under_traffic() {
    let Some(lab) = Lab::new() else { return };
    let netns = lab.netns("n1");
    let talker = lab.netns("talker");
    for found in [false, true] {
        let pod = lab.netns("pod");
        let port_of = |pod: &Netns, host: u8, name: &str| {
            format!(
                "[[port]]\nname = \"{name}\"\nnetns = \"{}\"\nifname = \"eth0\"\ntype = \"tap\"\n\
                 ip = [\"10.244.1.{host}/24\"]\n",
                pod.path()
            )
        };
        let config = NODE.to_owned() + &port_of(&talker, 5, "talker") + &port_of(&pod, 6, "pod");
        let mut daemon = Daemon::start(&lab, &netns, &config);
        if found {
            daemon.crash();
            daemon = Daemon::start(&lab, &netns, &config);
        }
        ping_once(&talker, "10.244.1.6");
        join(&talker, "witness", &pod, "eth1");
        let flood = talker.spawn("ping -q -n -i0.002 10.244.1.6");
        drop(pod);
        wait_until("the port is down", Duration::from_secs(5), || {
            port(&daemon, "pod")["state"] == "down"
        });
        wait_until("the namespace is gone, and its interfaces", Duration::from_secs(5), || {
            !talker.links().contains(&"witness".to_owned())
        });
        assert_idle(&daemon);
        ping_once(&talker, "10.244.1.1");
        drop(flood);
        daemon.cli("port del pod");
        daemon.finish_leaving(&["lo"]);
    }
}

/// The worker does not spin on what is no more.
#[track_caller]
fn assert_idle(daemon: &Daemon) {
    let before = cpu(daemon);
    std::thread::sleep(Duration::from_secs(1));
    let busy = cpu(daemon) - before;
    assert!(busy < 50, "{busy} ticks of CPU in a second: the worker spins");
}

/// A pod that has an interface of the name keeps it, and gets no other.
#[test]
fn a_name_that_is_taken() {
    let Some(lab) = Lab::new() else { return };
    let (node, _) = node_with(&lab, &[]);
    let pod = lab.netns("pod");
    pod.ip("link add eth0 type bridge");
    let line =
        format!("port add --netns {} --ifname eth0 --type tap --ip 10.244.1.9/24 p", pod.path());
    let refused = node.daemon.try_cli(&line);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains("an interface eth0 exists in the pod already"), "{refused:?}");
    assert!(pod.ip("-d link show eth0").contains("bridge"));
    pod.ip("link del eth0");
    node.daemon.cli(&line);
    ping_once(&pod, &node.gateway4());
    node.daemon.finish();
}

/// A pod deletes its interface: while it is talked to, and while nobody says a word, when only a read tells.
#[test]
fn a_device_goes() {
    let Some(lab) = Lab::new() else { return };
    let (node, pods) = node_with(&lab, &["--type tap", "--type tap", "--type tap"]);
    let [talker, heard, silent] = &pods[..] else { unreachable!() };
    ping_once(&talker.netns, &heard.ip4);
    let flood = talker.netns.spawn(&format!("ping -q -n -i0.002 {}", heard.ip4));
    for pod in [heard, silent] {
        pod.netns.ip("link del eth0");
        wait_until("the port is down", Duration::from_secs(5), || {
            port(&node.daemon, &pod.name)["state"] == "down"
        });
        assert_idle(&node.daemon);
    }
    drop(flood);
    for pod in [heard, silent] {
        node.daemon.cli(&format!("port del {}", pod.name));
    }
    ping_once(&talker.netns, &node.gateway4());
    node.daemon.finish();
}

/// Frames for an interface that is down are dropped under a name; once it is up, it is tried again, also if
/// its pod says nothing.
#[test]
fn an_interface_goes_down_and_up() {
    let Some(lab) = Lab::new() else { return };
    let (node, pods) = node_with(&lab, &["--type tap", "--type veth"]);
    let [one, two] = &pods[..] else { unreachable!() };
    ping_once(&two.netns, &one.ip4);
    one.netns.sysctl("net.ipv6.conf.eth0.disable_ipv6", "1");
    one.netns.sysctl("net.ipv4.conf.eth0.arp_notify", "0");
    one.netns.ip("link set eth0 down");
    let unheard = two.netns.try_sh(&format!("ping -q -n -c5 -i0.05 -W1 {}", one.ip4));
    assert_ne!(unheard.code, 0, "an interface that is down answered");
    assert!(node.daemon.counters().dropped("port_down") > 0);
    let before = node.daemon.counters().dropped("port_down");
    one.netns.ip("link set eth0 up");
    ping(&two.netns, &one.ip4);
    let counters = node.daemon.finish();
    assert!(counters.dropped("port_down") < before + 20, "{counters:?}");
}

/// CPU time that the daemon has used, in ticks of 10 ms (proc_pid_stat(5), fields 14 and 15).
fn cpu(daemon: &Daemon) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", daemon.pid())).expect("it runs");
    let fields = stat.rsplit(") ").next().expect("rsplit gives one").split(' ');
    fields.skip(11).take(2).map(|n| n.parse::<u64>().expect("a number")).sum()
}

#[test]
fn by_the_cni_plugin() {
    let Some(lab) = Lab::new() else { return };
    let node = lab.netns("n1");
    let daemon = Daemon::start(&lab, &node, NODE);
    let socket = daemon.socket().to_owned();
    let conf = json!({"cniVersion": "1.1.0", "name": "net", "type": "podswitch-cni",
        "portType": "tap"});
    let call = |command: &str, pod: &Netns, conf: &Value| {
        Call::new(&plugin_path(), command, conf)
            .env("CNI_CONTAINERID", pod.name())
            .env("CNI_NETNS", pod.path())
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", "/nowhere")
            .env("PODSWITCH_SOCKET", socket.to_str().expect("made of ASCII"))
            .run(&node)
    };
    let [one, two] = ["one", "two"].map(|n| lab.netns(n));
    let result = call("ADD", &one, &conf).result();
    // The pod's interface alone: a TAP has no other end.
    assert_eq!(result["interfaces"].as_array().expect("interfaces").len(), 1, "{result}");
    assert_eq!(result["interfaces"][0]["sandbox"], one.path());
    assert_eq!(result["interfaces"][0]["mtu"], 65521);
    assert_eq!(result["ips"][0]["interface"], 0);
    assert!(one.ip("-d link show eth0").contains("tun type tap"));
    let mut own = conf.clone();
    own["args"] = json!({"cni": {"portType": "veth"}});
    call("ADD", &two, &own).result();
    assert!(two.ip("-d link show eth0").contains("veth"), "a pod's own wish");
    ping_once(&one, "10.244.1.3");
    let mut check = conf.clone();
    check["prevResult"] = result;
    call("CHECK", &one, &check).silence();
    own["args"]["cni"]["portType"] = "tun".into();
    let wrong = call("ADD", &lab.netns("three"), &own).fails_with(7);
    assert!(wrong.contains("args.cni.portType"), "{wrong}");

    // The daemon takes it up again; while it is down, DEL does what there is to do.
    daemon.crash();
    let daemon = Daemon::start(&lab, &node, NODE);
    ping_once(&two, "10.244.1.2");
    call("CHECK", &one, &check).silence();
    one.ip("link set eth0 down");
    assert!(call("CHECK", &one, &check).fails_with(103).contains("eth0 is down"));
    daemon.crash();
    call("DEL", &one, &conf).silence();
    assert_eq!(one.links(), ["lo"]);
    let daemon = Daemon::start(&lab, &node, NODE);
    assert_eq!(daemon.json("attachment list").as_array().expect("a list").len(), 1);
    call("ADD", &one, &conf).result();
    let mut gc = conf.clone();
    gc["cni.dev/valid-attachments"] = json!([]);
    call("GC", &one, &gc).silence();
    assert_eq!((one.links(), two.links()), (vec!["lo".to_owned()], vec!["lo".to_owned()]));
    daemon.finish_leaving(&["lo"]);
}
