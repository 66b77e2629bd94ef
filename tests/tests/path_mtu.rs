//! Packets too large for their way, and hops that run out: what real senders make of it.

use podswitch_tests::tshark::{BROKEN, CHECKS};
use podswitch_tests::{
    Capture, Lab, Netns, Node, Pod, TwoNodes, Way, hex, iperf, join, ping, ping_all, run,
    write_pcap,
};

/// The largest packet that fits the tunnel on an uplink of MTU 1500.
fn inner_mtu(way: Way) -> u32 {
    match way {
        Way::Vxlan => 1450,
        Way::Ipip => 1480,
        Way::Native => 1500,
    }
}

/// Lets a pod believe that its packets may be as large as its interface takes.
fn without_route_mtu(pod: &Pod, gateway4: &str, gateway6: &str) {
    pod.netns.ip("route flush dev eth0 scope global");
    pod.netns.ip("-6 route del default");
    pod.netns.ip(&format!("route replace default via {gateway4} dev eth0 onlink"));
    pod.netns.ip(&format!("-6 route replace default via {gateway6} dev eth0 onlink"));
}

/// Two nodes whose pods do not know the path's MTU.
fn ignorant_pods(lab: &Lab, way: Way) -> (TwoNodes, Netns) {
    // What a pod's kernel gets merged has checksums that tshark finds wrong.
    let single = "[switch]\nsuperpackets = \"off\"\n";
    let (cluster, wire) = TwoNodes::start_on_a_bridge(lab, way, single);
    for (node, pod) in cluster.nodes.iter().zip(&cluster.pods) {
        without_route_mtu(pod, &node.gateway4(), &node.gateway6());
    }
    let [one, two] = &cluster.pods;
    ping(&one.netns, &two.ip4);
    ping(&one.netns, &two.ip6);
    (cluster, wire)
}

/// Path MTU discovery (RFC 1191, RFC 8201) with a kernel's TCP at both ends, pings of every size
/// around the limit, and nothing on the wire that tshark complains of.
fn discovers_the_mtu(way: Way) {
    let Some(lab) = Lab::beside_others() else { return };
    let (cluster, wire) = ignorant_pods(&lab, way);
    let [one, two] = &cluster.pods;
    let mtu = inner_mtu(way);
    let uplink = Capture::start(&wire, "br0");
    let inside = Capture::start(&one.netns, "eth0");

    for (to, headers) in [(&two.ip4, 28), (&two.ip6, 48)] {
        let largest = mtu - headers;
        // What does not fit is refused with the MTU; then the kernel knows by itself.
        let text =
            one.netns.try_sh(&format!("ping -n -c2 -i0.2 -W1 -M do -s {} {to}", largest + 1));
        assert_ne!(text.code, 0, "{}", text.stdout);
        let told = text.stdout + &text.stderr;
        assert!(
            told.contains(&format!("mtu={mtu}")) || told.contains(&format!("mtu = {mtu}")),
            "{told}"
        );
        ping_all(&one.netns, 2, to, &format!("-M do -s {largest}"));
        for (from, to_pod, address) in
            [(one, two, to), (two, one, if headers == 28 { &one.ip4 } else { &one.ip6 })]
        {
            let end = iperf(&from.netns, &to_pod.netns, address, "--bitrate 10M");
            let bits = end["sum_received"]["bits_per_second"].as_f64().expect("a number");
            // A black hole would let next to nothing through; speed is for the benches.
            assert!(bits > 1e6, "{bits} bit/s from {} to {address}", from.name);
        }
    }
    let known = one.netns.ip(&format!("route get {}", two.ip4));
    assert!(known.contains(&format!("mtu {mtu}")), "the kernel learned the MTU: {known}");

    let faults = [("wire", uplink.end()), ("pod", inside.end())]
        .map(|(name, frames)| faults(&lab, name, &frames));
    assert_eq!(faults, ["", ""], "tshark finds faults: frame, complaint");
    cluster.finish();
}

/// What tshark complains of: a line for each frame, with its length and the state of each checksum
/// (0 is bad), and the frame in hexadecimal.
fn faults(lab: &Lab, name: &str, frames: &[Vec<u8>]) -> String {
    // Errors quote only the start of a packet, whose checksums cover more: those are left out.
    let filter = format!("{BROKEN} && !(icmp.type == 3 || icmp.type == 11 || icmpv6.type < 128)");
    let quoting = "(icmp.type == 3 || icmp.type == 11 || icmpv6.type < 128) && \
         (icmp.checksum.status == 0 || icmpv6.checksum.status == 0)";
    let file = lab.folder().join(format!("{name}.pcap"));
    write_pcap(&file, frames);
    let file = file.to_str().expect("made of ASCII");
    let fields = "frame.number frame.protocols frame.len ip.checksum.status udp.checksum.status \
         tcp.checksum.status icmp.checksum.status icmpv6.checksum.status _ws.malformed _ws.expert.message";
    let fields: Vec<&str> = fields.split_whitespace().flat_map(|field| ["-e", field]).collect();
    let text = [filter.as_str(), quoting]
        .map(|filter| {
            let words = [
                &["tshark", "-n", "-r", file],
                &CHECKS[..],
                &["-E", "separator=/s"],
                &fields,
                &["-Y", filter],
            ];
            run(&words.concat()).success()
        })
        .concat();
    // The folder goes with the test, so what is needed to understand a fault is in the message.
    let with_frame = |line: &str| {
        let number = line.split(' ').next().and_then(|number| number.parse::<usize>().ok());
        let frame = number.and_then(|number| frames.get(number - 1));
        format!("{line}\n{}\n", frame.map(|f| hex(f)).unwrap_or_default())
    };
    text.lines().map(with_frame).collect()
}

#[test]
fn path_mtu_discovery_through_vxlan() {
    discovers_the_mtu(Way::Vxlan);
}

#[test]
fn path_mtu_discovery_through_ipip() {
    discovers_the_mtu(Way::Ipip);
}

#[test]
fn path_mtu_discovery_natively() {
    discovers_the_mtu(Way::Native);
}

/// Without DF the switch cuts packets up before it encapsulates them, and the far kernel puts them
/// together.
#[test]
fn fragmentation_before_encapsulation() {
    for way in [Way::Vxlan, Way::Ipip, Way::Native] {
        let Some(lab) = Lab::beside_others() else { return };
        let (cluster, wire) = ignorant_pods(&lab, way);
        let [one, two] = &cluster.pods;
        let capture = Capture::start(&wire, "br0");
        for size in [1500, 4000, 20_000, 60_000] {
            // Not more at once than 41 fragments, which rings have room for.
            (0..3).for_each(|_| ping_all(&one.netns, 1, &two.ip4, &format!("-M dont -s {size}")));
        }
        let frames = capture.end();
        assert!(frames.iter().all(|f| f.len() <= 1514), "every outer packet fits the wire");
        assert!(frames.len() >= 3 * 2 * (2 + 3 + 14 + 41));
        assert_eq!(faults(&lab, "wire", &frames), "");
        cluster.finish();
    }
}

/// traceroute by ping with a small TTL: the gateways of both nodes, then the pod.
#[test]
fn traceroute_shows_both_gateways() {
    for way in [Way::Vxlan, Way::Ipip, Way::Native] {
        let Some(lab) = Lab::beside_others() else { return };
        let cluster = TwoNodes::start(&lab, way);
        let [one, two] = &cluster.pods;
        ping(&one.netns, &two.ip4);
        ping(&one.netns, &two.ip6);
        let [first, second] = &cluster.nodes;
        for (to, gateways) in [
            (&two.ip4, [first.gateway4(), second.gateway4()]),
            (&two.ip6, [first.gateway6(), second.gateway6()]),
        ] {
            for (ttl, gateway) in (1..).zip(&gateways) {
                let text = one.netns.try_sh(&format!("ping -n -c1 -W1 -t{ttl} {to}")).stdout;
                let told = text.to_lowercase();
                assert!(
                    told.contains(&format!("from {gateway}")) && told.contains("time"),
                    "{way:?}, hop {ttl}: {text}"
                );
            }
            one.netns.sh(&format!("ping -n -c1 -W1 -t3 {to}"));
        }
        // Within a node's segment there is no hop: the frame is bridged, the TTL stays.
        let neighbour = first.add_pod(&lab, 9);
        ping(&one.netns, &neighbour.ip4);
        cluster.finish();
    }
}

/// A pod that does not exist, a route that says unreachable: the sender's kernel hears of it.
#[test]
fn unreachable_is_told() {
    let Some(lab) = Lab::beside_others() else { return };
    let cluster = TwoNodes::start(&lab, Way::Vxlan);
    let [one, two] = &cluster.pods;
    ping(&one.netns, &two.ip4);
    cluster.nodes[0].daemon.cli("route add 10.99.0.0/16 unreachable");
    cluster.nodes[0].daemon.cli("route add fd00:99::/64 unreachable");
    for (to, from) in [
        ("10.99.0.1", "10.244.1.1"),
        ("fd00:99::1", "fd00:10:244:1::1"),
        ("10.244.2.77", "10.244.2.1"),
        ("fd00:10:244:2::77", "fd00:10:244:2::1"),
    ] {
        let text = one.netns.try_sh(&format!("ping -n -c1 -W1 {to}")).stdout;
        assert!(
            text.to_lowercase().contains(&format!("from {from}")) && text.contains("nreachable"),
            "{to}: {text}"
        );
    }
    cluster.finish();
}

/// A link of the underlay, behind a router, that is narrower than the uplinks: its errors are about
/// tunnel packets. The switch heeds them and passes them on, and TCP gets through.
#[test]
fn a_narrow_link_on_the_underlay() {
    for way in [Way::Vxlan, Way::Ipip] {
        let Some(lab) = Lab::beside_others() else { return };
        let spaces = [lab.netns("n1"), lab.netns("n2")];
        let routers = [lab.netns("r1"), lab.netns("r2")];
        for (space, router) in spaces.iter().zip(&routers) {
            join(space, "uplink0", router, "node");
        }
        join(&routers[0], "wan", &routers[1], "wan");
        underlay_of_routers(&routers, 1300);
        let nodes = [1, 2].map(|n| Node::start(&lab, &spaces[n - 1], n as u8, way, ""));
        let pods = [nodes[0].add_pod(&lab, 5), nodes[1].add_pod(&lab, 5)];
        let [one, two] = &pods;
        ping(&one.netns, &two.ip4);
        ping(&one.netns, &two.ip6);

        let mtu = 1300 - (1500 - inner_mtu(way));
        // The first large packet is lost on the way, and its sender told the inner MTU.
        let text = one.netns.try_sh(&format!("ping -n -c3 -i0.2 -W1 -M do -s 1400 {}", two.ip4));
        let told = text.stdout + &text.stderr;
        assert!(told.contains(&format!("mtu = {mtu}")), "{way:?}: {told}");
        let largest = mtu - 28;
        ping_all(&one.netns, 3, &two.ip4, &format!("-M do -s {largest}"));
        // Whoever lets his packets be cut up need not know.
        // The first answer is lost, and tells the other node.
        one.netns.try_sh(&format!("ping -n -c1 -W1 -M dont -s 1400 {}", two.ip4));
        ping_all(&one.netns, 3, &two.ip4, "-M dont -s 1400");
        iperf(&two.netns, &one.netns, &one.ip4, "");
        let underlay = nodes[0].daemon.counters().dropped("underlay_error");
        assert!(underlay >= 1, "the errors of the underlay are counted: {underlay}");
        for node in nodes {
            node.daemon.finish();
        }
    }
}

/// Two routers that stand in for one wire between the nodes: they answer for each other's side by
/// proxy ARP, and their link carries only so much.
fn underlay_of_routers(routers: &[Netns; 2], mtu: u32) {
    for (router, own) in routers.iter().zip([1, 2]) {
        let other = 3 - own;
        router.sysctl("net.ipv4.ip_forward", "1");
        router.sysctl("net.ipv4.conf.node.proxy_arp", "1");
        router.ip(&format!("link set wan mtu {mtu}"));
        router.ip(&format!("addr add 198.51.100.{own}/24 dev wan"));
        router.ip(&format!("route add 192.0.2.{own}/32 dev node"));
        router.ip(&format!("route add 192.0.2.{other}/32 via 198.51.100.{other}"));
    }
}

/// The segment size that TCP offers is lowered on the way, both ways.
#[test]
fn mss_is_clamped() {
    let Some(lab) = Lab::beside_others() else { return };
    let cluster = TwoNodes::start(&lab, Way::Vxlan);
    let [one, two] = &cluster.pods;
    for (number, node) in (1..).zip(&cluster.nodes) {
        without_route_mtu(&cluster.pods[number - 1], &node.gateway4(), &node.gateway6());
    }
    ping(&one.netns, &two.ip4);
    let syns = |clamp: bool| {
        let capture = Capture::start(&two.netns, "eth0");
        iperf(&one.netns, &two.netns, &two.ip4, "--bitrate 2M");
        let frames = capture.end();
        let file = lab.folder().join(format!("syn-{clamp}.pcap"));
        write_pcap(&file, &frames);
        let file = file.to_str().expect("made of ASCII").to_owned();
        let filter = "tcp.flags.syn == 1 && tcp.flags.ack == 0 && tcp.dstport == 5201";
        let words = ["tshark", "-n", "-r", &file, "-Y", filter, "-Tfields", "-e"];
        run(&[&words[..], &["tcp.options.mss_val"]].concat()).success()
    };
    let before = syns(false);
    assert!(before.lines().all(|l| l.parse::<u32>().is_ok_and(|mss| mss > 1410)), "{before}");
    for (number, (node, pod)) in (1..).zip(cluster.nodes.iter().zip(&cluster.pods)) {
        let config = Node::config(number, Way::Vxlan)
            .replace("gateway = true\n", "gateway = true\nclamp_mss = true\n");
        let port = format!(
            "[[port]]\nname = \"{}\"\nnetns = \"{}\"\nifname = \"eth0\"\nip = [\"{}/24\", \"{}/64\"]\n",
            pod.name,
            pod.netns.path(),
            pod.ip4,
            pod.ip6
        );
        node.daemon.apply(&lab, &(config + &port));
    }
    let after = syns(true);
    assert!(!after.is_empty() && after.lines().all(|mss| mss == "1410"), "{after}");
    cluster.finish();
}
