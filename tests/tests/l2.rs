//! Layer 2 with kernels as neighbours: limits, storm control, suppression, duplicate address
//! detection, anti-spoofing, and pods with several interfaces and addresses.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use podswitch_tests::{
    BRIDGE, Capture, Daemon, Hosts, Lab, Netns, frames_of, hush, ping, send_frames, tool,
    unanswered, wait_until,
};

const BROADCAST: [u8; 6] = [0xff; 6];
const ARP: [u8; 2] = [0x08, 0x06];

fn station(n: u8) -> [u8; 6] {
    [0x02, 0, 0, 0, 0, n]
}

fn frame(to: [u8; 6], from: [u8; 6]) -> Vec<u8> {
    let mut frame = [&to[..], &from[..], &[0x88, 0xb5]].concat();
    frame.resize(60, 0);
    frame
}

/// Pods of one segment, and a switch that is nothing but their bridge.
struct Pods {
    switch: Netns,
    pods: Vec<Netns>,
    config: String,
}

impl Pods {
    /// Pods with the addresses 10.9.0.n/24 and fd00:9::n/64 on `eth0`; `port` is added to each.
    fn new(lab: &Lab, count: usize, port: &str) -> Pods {
        let switch = lab.netns("sw");
        let pods: Vec<Netns> = (1..=count).map(|n| lab.netns(&format!("p{n}"))).collect();
        let mut config = String::new();
        for (pod, n) in pods.iter().zip(1..) {
            config += &format!(
                "[[port]]\nname = \"p{n}\"\nnetns = \"{}\"\nifname = \"eth0\"\n\
                 ip = [\"10.9.0.{n}/24\", \"fd00:9::{n}/64\"]\n{port}",
                pod.path()
            );
        }
        Pods { switch, pods, config }
    }
}

/// Waits until an address of `eth0` is settled; whether its owner found a duplicate.
fn is_duplicate(pod: &Netns, address: &str) -> bool {
    let mut text = String::new();
    wait_until("duplicate address detection ends", Duration::from_secs(10), || {
        text = pod.ip("-6 -o addr show dev eth0");
        let line = text.lines().find(|l| l.contains(address)).unwrap_or_default().to_owned();
        line.contains("dadfailed") || !line.contains("tentative")
    });
    text.lines().any(|l| l.contains(address) && l.contains("dadfailed"))
}

#[test]
fn known_pods_are_answered_for_and_nobody_else_is_asked() {
    let Some(lab) = Lab::beside_others() else { return };
    let Pods { switch, pods, config } = Pods::new(&lab, 3, "");
    let daemon = Daemon::start(&lab, &switch, &config);
    let carol = Capture::start(&pods[2], "eth0");

    ping(&pods[0], "10.9.0.2");
    ping(&pods[0], "fd00:9::2");
    ping(&pods[1], "fd00:9::1");
    let neighbours = pods[0].ip("neigh show dev eth0");
    assert!(neighbours.contains(&pods[1].mac("eth0")), "{neighbours}");

    let heard = carol.end();
    let asked = |f: &&Vec<u8>| f[12..14] == ARP || f[12..14] == [0x86, 0xdd] && f[54] == 135;
    let asked: Vec<_> = heard.iter().filter(asked).collect();
    assert!(asked.is_empty(), "requests for known pods were flooded: {asked:02x?}");
    daemon.finish();
}

#[test]
fn without_suppression_requests_are_flooded() {
    let Some(lab) = Lab::beside_others() else { return };
    let Pods { switch, pods, config } = Pods::new(&lab, 3, "");
    let off = "[[segment]]\nname = \"default\"\nsuppress = false\n";
    let daemon = Daemon::start(&lab, &switch, &(config + off));
    let carol = Capture::start(&pods[2], "eth0");
    ping(&pods[0], "10.9.0.2");
    assert!(carol.end().iter().any(|f| f[12..14] == ARP));
    daemon.finish();
}

/// RFC 4862 section 5.4, by the kernel: its own addresses are its own, another pod's is taken.
#[test]
fn duplicate_address_detection_works() {
    let Some(lab) = Lab::beside_others() else { return };
    let Pods { switch, pods, config } = Pods::new(&lab, 2, "");
    let daemon = Daemon::start(&lab, &switch, &config);

    for (pod, own) in pods.iter().zip(["fd00:9::1", "fd00:9::2"]) {
        // podswitch itself knows that its pods' addresses are their own, and spares them the wait.
        pod.sysctl("net.ipv6.conf.eth0.accept_dad", "1");
        // Probed for again, as after a restart of the interface.
        pod.ip(&format!("addr del {own}/64 dev eth0"));
        pod.ip(&format!("addr add {own}/64 dev eth0"));
        assert!(!is_duplicate(pod, own), "{own} was found to be its own duplicate");
    }
    pods[0].ip("addr add fd00:9::2/128 dev eth0");
    assert!(is_duplicate(&pods[0], "fd00:9::2/128"), "the other pod's address was not defended");
    daemon.finish();
}

/// A host takes over another one's address and says so, as a kernel does with `arp_notify`.
#[test]
fn gratuitous_arp_passes_and_updates() {
    let Some(lab) = Lab::beside_others() else { return };
    let Hosts { switch, hosts } = Hosts::new(&lab, 3, Default::default());
    let config = format!("{BRIDGE}[[port]]\ndev = \"eth3\"\n");
    let daemon = Daemon::start(&lab, &switch, &config);

    ping(&hosts[0], "10.9.0.2");
    let owner = |mac: &str| hosts[0].ip("neigh show 10.9.0.2").contains(mac);
    assert!(owner(&hosts[1].mac("eth0")));
    hosts[1].ip("addr del 10.9.0.2/24 dev eth0");
    hosts[2].sysctl("net.ipv4.conf.eth0.arp_notify", "1");
    hosts[2].ip("addr add 10.9.0.2/24 dev eth0");
    hosts[2].ip("link set eth0 down");
    hosts[2].ip("link set eth0 up");
    wait_until("the announcement is heard", Duration::from_secs(5), || {
        owner(&hosts[2].mac("eth0"))
    });
    ping(&hosts[0], "10.9.0.2");
    daemon.finish();
}

/// What scapy makes of a pod's identity is dropped under its name and heard by nobody.
#[test]
fn a_pod_cannot_pretend_to_be_another() {
    let Some(lab) = Lab::beside_others() else { return };
    let Pods { switch, pods, config } = Pods::new(&lab, 2, "");
    let daemon = Daemon::start(&lab, &switch, &config);
    ping(&pods[0], "10.9.0.2");

    let [own, other] = [pods[0].mac("eth0"), pods[1].mac("eth0")];
    let tool = tool("spoofed.py");
    let spoofed = frames_of(&format!("{tool} {own} 10.9.0.1 fd00:9::1 {other} 10.9.0.2 fd00:9::2"));
    let mut expected: BTreeMap<String, u64> = BTreeMap::new();
    for (reason, _) in &spoofed {
        *expected.entry(reason.clone()).or_default() += 1;
    }
    assert_eq!(expected.len(), 4, "four names: {expected:?}");

    let heard = Capture::start(&pods[1], "eth0");
    let frames: Vec<Vec<u8>> = spoofed.into_iter().map(|(_, frame)| frame).collect();
    send_frames(&pods[0], "eth0", &frames);
    let drops = || {
        let drops = daemon.counters().drops();
        drops.into_iter().filter(|(r, _)| r.starts_with("spoofed")).collect::<BTreeMap<_, _>>()
    };
    wait_until("all are dropped", Duration::from_secs(5), || drops() == expected);
    for leaked in heard.end() {
        assert!(!frames.contains(&leaked), "leaked: {leaked:02x?}");
    }
    // The honest pod is none the worse, and one that says so may do as it likes.
    ping(&pods[0], "10.9.0.2");
    ping(&pods[1], "fd00:9::1");
    daemon.apply(&lab, &config.replacen("ip = [", "anti_spoof = false\nip = [", 1));
    let heard = Capture::start(&pods[1], "eth0");
    send_frames(&pods[0], "eth0", &frames[..1]);
    assert!(heard.end().contains(&frames[0]), "anti_spoof = false");
    assert_eq!(drops(), expected);
    daemon.finish();
}

/// Two addresses more than the pod has, by the kernel's own means: neither is of any use to it.
#[test]
fn a_pod_that_takes_another_address_is_not_heard() {
    let Some(lab) = Lab::beside_others() else { return };
    let Pods { switch, pods, config } = Pods::new(&lab, 2, "");
    let daemon = Daemon::start(&lab, &switch, &config);
    ping(&pods[0], "10.9.0.2");
    pods[0].ip("addr add 10.9.0.77/24 dev eth0");
    let from = |address: &str| pods[0].try_sh(&format!("ping -n -c2 -W1 -I {address} 10.9.0.2"));
    assert_ne!(from("10.9.0.77").code, 0);
    assert_eq!(from("10.9.0.1").code, 0);
    assert!(daemon.counters().dropped("spoofed_ip") >= 2);
    daemon.finish();
}

#[test]
fn limits_of_learned_addresses_hold_and_are_counted() {
    let Some(lab) = Lab::beside_others() else { return };
    let Hosts { switch, hosts } = Hosts::silent(&lab, 2);
    let config = BRIDGE.replace("[switch]", "[switch]\nageing = 3").replacen(
        "dev = \"eth1\"",
        "dev = \"eth1\"\nfdb_limit = 10",
        1,
    );
    let config = config + "[[segment]]\nname = \"default\"\nfdb_limit = 15\n";
    let daemon = Daemon::start(&lab, &switch, &config);

    let from =
        |first: u8| (first..first + 50).map(|n| frame(BROADCAST, station(n))).collect::<Vec<_>>();
    let other = Capture::start(&hosts[1], "eth0");
    send_frames(&hosts[0], "eth0", &from(1));
    send_frames(&hosts[1], "eth0", &from(101));
    assert_eq!(other.end().len(), 50, "who is not learned is forwarded all the same");
    let counters = daemon.counters();
    assert_eq!(
        (counters.port("eth1", "not_learned"), counters.port("eth2", "not_learned")),
        (40, 45)
    );
    let listed = |line: &str, name: &str| {
        let all = daemon.json(line);
        let found = all.as_array().expect("a list").iter().find(|o| o["name"] == name).cloned();
        found.expect("it is listed")
    };
    let port = listed("port list", "eth1");
    assert_eq!((&port["fdb"], &port["fdb_limit"]), (&10.into(), &10.into()));
    let segment = listed("segment list", "default");
    assert_eq!((&segment["fdb"], &segment["fdb_limit"]), (&15.into(), &15.into()));
    assert!(daemon.cli("segment list").contains("15/15"));
    assert!(daemon.cli("show counters").contains("NOT LEARNED"));

    // Flushed by port; what is left ages out and makes room without being asked for.
    assert_eq!(daemon.json("fdb flush --port eth2")["flushed"], 5);
    assert_eq!(listed("segment list", "default")["fdb"], 10);
    assert_eq!(daemon.json("fdb flush --segment default")["flushed"], 10);
    send_frames(&hosts[0], "eth0", &from(1)[..3]);
    assert_eq!(listed("port list", "eth1")["fdb"], 3);
    wait_until("they age out", Duration::from_secs(10), || listed("port list", "eth1")["fdb"] == 0);
    daemon.finish();
}

/// While the switch stands still, the kernel drops what its ring has no room for. Those frames too are
/// accounted for, beside the sum.
#[test]
fn what_the_kernel_drops_is_told() {
    const SENT: u64 = 6000;
    let Some(lab) = Lab::new() else { return };
    let Hosts { switch, hosts } = Hosts::silent(&lab, 2);
    let daemon = Daemon::start(&lab, &switch, BRIDGE);
    let frames: Vec<Vec<u8>> = (0..SENT).map(|_| frame(station(2), station(1))).collect();

    kill(daemon.pid(), Signal::SIGSTOP).expect("stopping the daemon");
    send_frames(&hosts[0], "eth0", &frames);
    kill(daemon.pid(), Signal::SIGCONT).expect("letting it go on");
    let missed = || {
        let all = daemon.json("show counters");
        let port = all["ports"].as_array()?.iter().find(|p| p["port"] == "eth1")?.clone();
        let missed: u64 = port["missed"].as_object()?.values().filter_map(|n| n.as_u64()).sum();
        Some((port["rx_frames"].as_u64()?, missed))
    };
    wait_until("every frame is accounted for", Duration::from_secs(5), || {
        missed().is_some_and(|(received, missed)| received + missed == SENT)
    });
    let (_, missed) = missed().expect("some were missed");
    assert!(missed > SENT / 8, "no ring holds {SENT} frames: {missed}");
    assert!(daemon.cli("show drops").contains("no_buffer"));
    daemon.finish();
}

/// Broadcast far above the limit, and unicast beside it that notices nothing.
#[test]
fn a_storm_is_held_to_its_rate() {
    let Some(lab) = Lab::new() else { return };
    let Hosts { switch, hosts } = Hosts::pair(&lab);
    let config = BRIDGE.replacen("dev = \"eth1\"", "dev = \"eth1\"\nstorm_limit = 200", 1);
    let daemon = Daemon::start(&lab, &switch, &config);
    ping(&hosts[0], "10.9.0.2");

    let heard = Capture::start(&hosts[1], "eth0");
    let storm = vec![frame(BROADCAST, station(1)); 4000];
    let start = Instant::now();
    std::thread::scope(|s| {
        let sending = s.spawn(|| send_frames(&hosts[0], "eth0", &storm));
        let text = hosts[0].sh("ping -n -c10 -i0.05 -w5 10.9.0.2");
        assert_eq!(unanswered(&text), [0; 0], "unicast beside the storm: {text}");
        sending.join().expect("sending");
    });
    let seconds = start.elapsed().as_secs_f64();
    let passed = heard.end().iter().filter(|f| f[12..14] == [0x88, 0xb5]).count() as f64;
    let at_most = 200.0 * seconds + 20.0;
    assert!(passed <= at_most, "{passed} frames passed in {seconds} s");
    assert!(passed >= 20.0, "the rate itself passes: {passed} in {seconds} s");
    let dropped = daemon.counters().dropped("storm");
    assert!(dropped as f64 >= 4000.0 - at_most, "{dropped} dropped by name");
    daemon.finish();
}

#[test]
fn unknown_unicast_is_dropped_where_the_segment_says_so() {
    let Some(lab) = Lab::beside_others() else { return };
    let Hosts { switch, hosts } = Hosts::silent(&lab, 2);
    let drop = "[[segment]]\nname = \"default\"\nunknown_unicast = \"drop\"\n";
    let daemon = Daemon::start(&lab, &switch, &format!("{BRIDGE}{drop}"));
    let heard = Capture::start(&hosts[1], "eth0");
    let (unknown, all) = (frame(station(2), station(1)), frame(BROADCAST, station(1)));
    send_frames(&hosts[0], "eth0", &[unknown, all.clone()]);
    assert_eq!(heard.end(), [all]);
    assert_eq!(daemon.counters().dropped("unknown_unicast"), 1);
    daemon.finish();
}

/// One pod in two segments, peers of the same MAC address in each, and several addresses a port.
#[test]
fn a_pod_in_two_segments_with_overlapping_addresses() {
    let Some(lab) = Lab::new() else { return };
    let (switch, pod) = (lab.netns("sw"), lab.netns("pod"));
    let peers = ["red", "blue"].map(|name| lab.netns(name));
    let mut config = String::new();
    for ((segment, ifname), peer) in [("red", "eth0"), ("blue", "eth1")].iter().zip(&peers) {
        let net = if *segment == "red" { 1 } else { 2 };
        let (pod, peer) = (pod.path(), peer.path());
        config += &format!(
            "[[segment]]\nname = \"{segment}\"\n\
             [[port]]\nname = \"pod-{segment}\"\nnetns = \"{pod}\"\nifname = \"{ifname}\"\n\
             segment = \"{segment}\"\nmac = \"02:00:00:00:00:01\"\n\
             ip = [\"10.{net}.0.1/24\", \"10.{net}.0.11/24\", \"fd00:{net}::1/64\", \"fd00:{net}::11/64\"]\n\
             [[port]]\nname = \"peer-{segment}\"\nnetns = \"{peer}\"\nifname = \"eth0\"\n\
             segment = \"{segment}\"\nmac = \"02:00:00:00:00:02\"\n\
             ip = [\"10.{net}.0.2/24\", \"fd00:{net}::2/64\"]\n"
        );
    }
    let daemon = Daemon::start(&lab, &switch, &config);
    for (peer, net) in peers.iter().zip(1..) {
        for own in ["1", "11"] {
            ping(peer, &format!("10.{net}.0.{own}"));
            ping(peer, &format!("fd00:{net}::{own}"));
        }
        ping(&pod, &format!("10.{net}.0.2"));
        ping(&pod, &format!("fd00:{net}::2"));
    }
    // The segments are apart, though the MAC addresses are the same.
    let other = peers[0].try_sh("ping -n -c1 -W1 10.2.0.2");
    assert_ne!(other.code, 0);
    let places = daemon.json("fdb list");
    let count = places.as_array().expect("a list").iter();
    let count = count.filter(|e| e["mac"] == "02:00:00:00:00:02").count();
    assert_eq!(count, 2, "one place in each segment: {places}");
    hush(&pod);
    daemon.finish();
}

/// Only what the tables say changes: the pod's interface stays, with its connections.
#[test]
fn policy_changes_leave_the_interface_alone() {
    let Some(lab) = Lab::new() else { return };
    let Pods { switch, pods, config } = Pods::new(&lab, 2, "");
    let daemon = Daemon::start(&lab, &switch, &config);
    ping(&pods[0], "10.9.0.2");
    let index = pods[0].ip("-o link show dev eth0");
    let limits = "fdb_limit = 5\nstorm_limit = 100\nanti_spoof = false\nip = [";
    daemon.apply(&lab, &config.replace("ip = [", limits));
    assert_eq!(pods[0].ip("-o link show dev eth0"), index);
    let port = &daemon.json("port list")[0];
    assert_eq!((&port["anti_spoof"], &port["storm_limit"]), (&false.into(), &100.into()));
    ping(&pods[0], "10.9.0.2");
    daemon.finish();
}
