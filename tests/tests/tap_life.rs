//! Pods whose interface is a TAP device: what survives and what goes.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use podswitch_tests::cni::{Call, plugin_path};
use podswitch_tests::{
    Daemon, Lab, NODE, Netns, Node, Pod, exchange, iperf, join, ping, ping_once, wait_until,
};
use serde_json::{Value, json};

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
    let Some(lab) = Lab::beside_others() else { return };
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
    let Some(lab) = Lab::beside_others() else { return };
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
        assert_eq!(daemon.port("pod5")["queues"], queues);
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
    let Some(lab) = Lab::beside_others() else { return };
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
            daemon.port("pod")["state"] == "down"
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
    let Some(lab) = Lab::beside_others() else { return };
    let (node, _) = Node::with_pods(&lab, NODE, &[]);
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

/// A pod deletes its interface: while nobody says a word, when only a read tells, and while it is talked to.
#[test]
fn a_device_goes() {
    let Some(lab) = Lab::beside_others() else { return };
    let (node, pods) = Node::with_pods(&lab, NODE, &["--type tap", "--type tap", "--type tap"]);
    let [talker, heard, silent] = &pods[..] else { unreachable!() };
    let goes = |pod: &Pod| {
        pod.netns.ip("link del eth0");
        wait_until("the port is down", Duration::from_secs(5), || {
            node.daemon.port(&pod.name)["state"] == "down"
        });
        assert_idle(&node.daemon);
    };
    // What their kernels multicast would tell as well.
    for space in [&node.netns, &talker.netns, &heard.netns] {
        space.sysctl("net.ipv6.conf.all.disable_ipv6", "1");
    }
    goes(silent);
    ping_once(&talker.netns, &heard.ip4);
    let flood = talker.netns.spawn(&format!("ping -q -n -i0.002 {}", heard.ip4));
    goes(heard);
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
    let Some(lab) = Lab::beside_others() else { return };
    let (node, pods) = Node::with_pods(&lab, NODE, &["--type tap", "--type veth"]);
    let [one, two] = &pods[..] else { unreachable!() };
    ping(&two.netns, &one.ip4);
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
    let Some(lab) = Lab::beside_others() else { return };
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

    // A runtime that does not know the namespace any more: only the daemon can remove what is there.
    daemon.crash();
    Call::new(&plugin_path(), "DEL", &conf)
        .env("CNI_CONTAINERID", one.name())
        .env("CNI_IFNAME", "eth0")
        .env("CNI_PATH", "/nowhere")
        .env("PODSWITCH_SOCKET", socket.to_str().expect("made of ASCII"))
        .run(&node)
        .silence();
    assert!(one.ip("-d link show eth0").contains("tun type tap"));
    let daemon = Daemon::start(&lab, &node, NODE);
    assert_eq!(one.links(), ["lo"]);
    call("ADD", &one, &conf).result();
    let mut gc = conf.clone();
    gc["cni.dev/valid-attachments"] = json!([]);
    call("GC", &one, &gc).silence();
    assert_eq!((one.links(), two.links()), (vec!["lo".to_owned()], vec!["lo".to_owned()]));
    daemon.finish_leaving(&["lo"]);
}
