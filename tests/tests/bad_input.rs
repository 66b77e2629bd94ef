//! Bad input: a one-line error that names the thing and the cure, an exit code by the written
//! policy, and nothing half applied.

use std::os::unix::net::UnixListener;

use podswitch_tests::{
    BRIDGE, Daemon, Finished, Hosts, Lab, Netns, TwoNodes, Way, ping, podswitch, podswitch_path,
};

/// Failed at run time: the configuration is well-formed and this machine cannot do it.
const FAILED: i32 = 1;
/// Usage, or a bad configuration.
const USAGE: i32 = 2;
/// No daemon answers.
const UNREACHABLE: i32 = 3;
/// The caller may not.
const REFUSED: i32 = 4;

const NODE: &str = "[node]\nname = \"n\"\npod_cidrs = [\"10.244.1.0/24\"]\ngateway = true\n";

/// Asserts an exit code and that the complaint is one line with all of these words.
#[track_caller]
fn complains(result: &Finished, code: i32, words: &[&str]) {
    assert_eq!(result.code, code, "{result:?}");
    let lines: Vec<&str> = result.stderr.lines().filter(|line| !line.is_empty()).collect();
    assert_eq!(lines.len(), 1, "one line: {}", result.stderr);
    for word in words {
        assert!(lines[0].contains(word), "it should name {word:?}: {}", lines[0]);
    }
}

/// Runs `podswitch run` on a configuration that must be refused, and asserts that nothing is left.
#[track_caller]
fn refused(lab: &Lab, netns: &Netns, config: &str, code: i32, words: &[&str]) {
    let socket = lab.folder().join("bad.sock");
    let config = if config.contains("socket =") {
        config.to_owned()
    } else if config.contains("[switch]\n") {
        config.replace("[switch]\n", &format!("[switch]\nsocket = \"{}\"\n", socket.display()))
    } else {
        format!("[switch]\nsocket = \"{}\"\n{config}", socket.display())
    };
    let links = netns.links();
    let file = lab.write("bad.toml", &config);
    let program = podswitch_path();
    let result = netns.try_sh(&format!("{} run --config {}", program.display(), file.display()));
    complains(&result, code, words);
    assert_eq!(netns.links(), links, "nothing half applied");
    assert!(!netns.pins().exists(), "nothing half applied: pins");
    assert!(!socket.exists(), "nothing half applied: the socket");
}

#[test]
fn configurations_that_say_what_cannot_be() {
    let Some(lab) = Lab::beside_others() else { return };
    let netns = lab.netns("sw");
    let cases: &[(&str, &[&str])] = &[
        ("[[port]]\ndev = \"eth1\"\nsegmnt = \"blue\"\n", &["segmnt", "segment"]),
        ("[[prot]]\ndev = \"eth1\"\n", &["prot", "port"]),
        ("[switch]\nworkers = \"one\"\n", &["workers", "one"]),
        ("[switch]\nbulk = \"on\"\n", &["bulk", "on", "auto", "off"]),
        ("[switch]\ncpus = [4095]\n", &["switch.cpus", "4095", "online"]),
        ("[[port]]\nname = \"e\"\ndev = \"e%d\"\n", &["dev", "e%d", "interface's name"]),
        ("[[port]]\ndev = 7\n", &["dev", "7"]),
        ("[switch\n", &["bad.toml:3", "]"]),
        ("[[segment]]\nname = \"blue\"\n[[segment]]\nname = \"blue\"\n", &["blue"]),
        (
            "[[port]]\ndev = \"eth1\"\n[[port]]\nname = \"again\"\ndev = \"eth1\"\n",
            &["again", "eth1"],
        ),
        (
            "[node]\npod_cidrs = [\"10.244.1.0/24\"]\n[[route]]\nprefix = \"10.1.0.0/16\"\nvia = \"nowhere\"\n",
            &["nowhere", "tunnel"],
        ),
        ("[[route]]\nprefix = \"10.1.0.0/33\"\nvia = \"host\"\n", &["10.1.0.0/33"]),
        ("[[fdb]]\nmac = \"02:00\"\nport = \"eth1\"\n", &["mac", "02:00"]),
        (
            "[uplink]\ndev = \"eth1\"\n[[tunnel]]\nname = \"t\"\nkind = \"vxlan\"\nremote = \"192.0.2.2\"\n",
            &["vni"],
        ),
        (
            "[uplink]\ndev = \"eth1\"\n[[tunnel]]\nname = \"t\"\nkind = \"vxlan\"\nremote = \"192.0.2.2\"\nvni = 16777216\n",
            &["vni", "16777216"],
        ),
        (
            "[uplink]\ndev = \"eth1\"\n[[tunnel]]\nname = \"t\"\nkind = \"gre\"\nremote = \"192.0.2.2\"\n",
            &["kind", "gre", "vxlan"],
        ),
    ];
    for (config, words) in cases {
        refused(&lab, &netns, config, USAGE, words);
    }
    let pod = format!(
        "{NODE}[[port]]\nname = \"p\"\nnetns = \"{}\"\nifname = \"eth0\"\nip = [\"10.9.9.9/24\"]\n",
        netns.path()
    );
    refused(&lab, &netns, &pod, USAGE, &["10.9.9.9", "10.244.1.0/24"]);
}

#[test]
fn devices_that_are_missing_or_taken() {
    let Some(lab) = Lab::beside_others() else { return };
    let Hosts { switch, hosts } = Hosts::pair(&lab);
    refused(&lab, &switch, "[[port]]\ndev = \"eth7\"\n", FAILED, &["eth7"]);
    // The second is missing: the first must be given back.
    let config = "[[port]]\ndev = \"eth1\"\n[[port]]\ndev = \"eth7\"\n";
    refused(&lab, &switch, config, FAILED, &["eth7"]);
    assert!(!switch.ip("-d link show").contains("xdp"), "eth1 was given back");

    let daemon = Daemon::start(&lab, &switch, BRIDGE);
    let file = lab.write(
        "taken.toml",
        &format!(
            "[switch]\nsocket = \"{}/other.sock\"\n[[port]]\ndev = \"eth1\"\n",
            lab.folder().display()
        ),
    );
    let program = podswitch_path();
    let result = switch.try_sh(&format!("{} run --config {}", program.display(), file.display()));
    complains(&result, FAILED, &["eth1"]);
    ping(&hosts[0], "10.9.0.2");
    daemon.finish();
}

#[test]
fn a_configuration_file_that_is_not_there() {
    let Some(lab) = Lab::beside_others() else { return };
    let path = lab.folder().join("nothing.toml");
    let result = podswitch(&["run", "--config", path.to_str().expect("ASCII")]);
    complains(&result, USAGE, &["nothing.toml"]);
}

#[test]
fn missing_capabilities() {
    let Some(lab) = Lab::beside_others() else { return };
    let Hosts { switch, hosts: _hosts } = Hosts::pair(&lab);
    let config = BRIDGE
        .replace("[switch]", &format!("[switch]\nsocket = \"{}/x.sock\"", lab.folder().display()));
    let file = lab.write("caps.toml", &config);
    let program = podswitch_path();
    let result = switch.try_sh(&format!(
        "setpriv --bounding-set=-net_admin,-sys_admin,-bpf --inh-caps=-all {} run --config {}",
        program.display(),
        file.display()
    ));
    complains(&result, REFUSED, &["CAP_"]);
}

#[test]
fn the_socket_of_a_live_daemon_and_of_a_dead_one() {
    let Some(lab) = Lab::beside_others() else { return };
    let Hosts { switch, hosts } = Hosts::pair(&lab);
    let daemon = Daemon::start(&lab, &switch, BRIDGE);
    let socket = daemon.socket().to_owned();

    let config = format!("[switch]\nsocket = \"{}\"\n", socket.display());
    let file = lab.write("second.toml", &config);
    let elsewhere = lab.netns("elsewhere");
    let program = podswitch_path();
    let result =
        elsewhere.try_sh(&format!("{} run --config {}", program.display(), file.display()));
    complains(&result, FAILED, &[socket.to_str().expect("ASCII")]);
    ping(&hosts[0], "10.9.0.2");
    daemon.finish();

    // What a killed daemon leaves: a socket that nobody listens on.
    drop(UnixListener::bind(&socket).expect("binding"));
    assert!(socket.exists());
    Daemon::start(&lab, &switch, BRIDGE).finish();

    // What is no socket is never removed.
    std::fs::write(&socket, "precious").expect("writing");
    let result = switch.try_sh(&format!("{} run --config {}", program.display(), file.display()));
    complains(&result, FAILED, &[socket.to_str().expect("ASCII")]);
    assert_eq!(std::fs::read_to_string(&socket).expect("it is there"), "precious");
}

#[test]
fn commands_with_nobody_to_answer() {
    let Some(lab) = Lab::beside_others() else { return };
    let socket = lab.folder().join("nobody.sock");
    let result = podswitch(&["--socket", socket.to_str().expect("ASCII"), "port", "list"]);
    complains(&result, UNREACHABLE, &["nobody.sock"]);
    let result = podswitch(&["prot", "list"]);
    assert_eq!(result.code, USAGE, "{result:?}");
}

#[test]
fn commands_that_ask_for_what_cannot_be() {
    let Some(lab) = Lab::beside_others() else { return };
    let cluster = TwoNodes::start(&lab, Way::Vxlan);
    let (node, pod) = (&cluster.nodes[0], &cluster.pods[0]);
    let path = pod.netns.path();
    let links = node.netns.links();

    let cases: &[(String, &[&str])] = &[
        (
            format!("port add --netns {path} --ifname eth1 --ip 10.9.9.9/24 new"),
            &["10.9.9.9", "10.244.1.0/24"],
        ),
        (
            format!("port add --netns {path} --ifname eth1 --ip 10.244.1.9/24 {}", pod.name),
            &[&pod.name],
        ),
        (format!("port add --netns {path} --ifname eth1 --ip {}/24 new", pod.ip4), &[&pod.ip4]),
        (format!("port add --netns {path} --ifname eth0 --ip 10.244.1.9/24 new"), &["eth0"]),
        (
            "port add --netns /run/netns/nowhere --ifname eth0 --ip 10.244.1.9/24 new".to_owned(),
            &["/run/netns/nowhere"],
        ),
        ("port del nobody".to_owned(), &["nobody"]),
        ("route del 10.99.0.0/16".to_owned(), &["10.99.0.0/16"]),
        ("route add 10.99.0.0/16 nowhere".to_owned(), &["nowhere"]),
        ("route add 10.244.2.0/24 node2".to_owned(), &["10.244.2.0/24"]),
        ("tunnel del node2".to_owned(), &["node2"]),
        ("tunnel del nobody".to_owned(), &["nobody"]),
    ];
    let before = node.daemon.json("show config");
    for (line, words) in cases {
        let result = node.daemon.try_cli(line);
        assert!([FAILED, USAGE].contains(&result.code), "{line}: {result:?}");
        complains(&result, result.code, words);
    }
    assert_eq!(node.daemon.json("show config"), before, "nothing half applied");
    assert_eq!(node.netns.links(), links, "nothing half applied");
    assert_eq!(pod.netns.links(), ["lo", "eth0"], "nothing half applied");
    ping(&pod.netns, &cluster.pods[1].ip4);
    cluster.finish();
}

#[test]
fn readers_who_may_not_write() {
    let Some(lab) = Lab::beside_others() else { return };
    let Hosts { switch, hosts: _hosts } = Hosts::pair(&lab);
    let config = BRIDGE.replace("[switch]", "[switch]\nsocket_group = \"nogroup\"");
    let daemon = Daemon::start(&lab, &switch, &config);
    // Where anyone may execute it, whatever folder the build is in.
    let program = lab.folder().join("podswitch");
    std::fs::copy(podswitch_path(), &program).expect("copying the binary");
    let as_user = |group: &str, line: &str| {
        let socket = daemon.socket().display();
        let program = program.display();
        switch.try_sh(&format!(
            "setpriv --reuid=65534 --regid={group} --clear-groups {program} --socket {socket} {line}"
        ))
    };

    let read = as_user("nogroup", "port list");
    assert_eq!(read.code, 0, "{read:?}");
    assert!(read.stdout.contains("eth1"), "{read:?}");
    complains(&as_user("nogroup", "port del eth1"), REFUSED, &["port.del", "may only read"]);
    complains(&as_user("games", "port list"), REFUSED, &[daemon.socket().to_str().expect("ASCII")]);
    assert!(daemon.cli("port list").contains("eth1"));
    daemon.finish();
}
