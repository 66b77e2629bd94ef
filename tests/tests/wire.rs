//! What we put on the wire, read by tshark: every header well-formed, every checksum right.

use std::collections::BTreeSet;

use podswitch_tests::tshark::{CHECKS, FAULTS};
use podswitch_tests::{Capture, Lab, TwoNodes, Way, iperf, ping, run, write_pcap};

/// Runs traffic between the pods of two nodes and gives what tshark says of each packet on the
/// wire: its protocols, one in the other, and the outer UDP source port. Fails on any fault.
fn traffic_on_the_wire(lab: &Lab, way: Way) -> Vec<(String, String)> {
    let (cluster, wire) = TwoNodes::start_on_a_bridge(lab, way, "");
    let [one, two] = &cluster.pods;
    ping(&one.netns, &two.ip4);
    ping(&one.netns, &two.ip6);
    let capture = Capture::start(&wire, "br0");
    for address in [&two.ip4, &two.ip6] {
        ping(&one.netns, address);
        iperf(&one.netns, &two.netns, address, "--bitrate 2M");
    }
    let file = lab.folder().join("wire.pcap");
    write_pcap(&file, &capture.end());
    cluster.finish();

    let tshark = |words: &[&str]| {
        let file = file.to_str().expect("made of ASCII");
        run(&[&["tshark", "-r", file], &CHECKS[..], words].concat()).success()
    };
    let faults = tshark(&["-Y", FAULTS, "-e", "frame.number", "-e", "_ws.expert.message"]);
    assert_eq!(faults, "", "tshark finds faults: frame, complaint");
    let packets = tshark(&["-e", "frame.protocols", "-e", "udp.srcport"]);
    let fields = |line: &str| {
        let (protocols, port) = line.split_once('\t').expect("two fields");
        (protocols.to_owned(), port.to_owned())
    };
    packets.lines().map(fields).collect()
}

#[track_caller]
fn assert_seen(packets: &[(String, String)], protocols: &str) {
    let seen: BTreeSet<&str> = packets.iter().map(|(protocols, _)| protocols.as_str()).collect();
    assert!(seen.iter().any(|p| p.starts_with(protocols)), "no {protocols}: {seen:#?}");
}

#[test]
fn vxlan() {
    let Some(lab) = Lab::beside_others() else { return };
    let packets = traffic_on_the_wire(&lab, Way::Vxlan);
    let outer = "eth:ethertype:ip:udp:vxlan:eth:ethertype";
    for inner in ["ip:icmp", "ip:tcp", "ipv6:icmpv6", "ipv6:tcp"] {
        assert_seen(&packets, &format!("{outer}:{inner}"));
    }
    let tunnelled = packets.iter().filter(|(protocols, _)| protocols.starts_with(outer));
    let ports: BTreeSet<u16> =
        tunnelled.filter_map(|(_, port)| port.split(',').next()?.parse().ok()).collect();
    assert!(ports.iter().all(|port| *port >= 49152), "RFC 7348 section 5: {ports:?}");
    assert!(ports.len() >= 4, "each flow has its own source port: {ports:?}");
}

#[test]
fn ipip() {
    let Some(lab) = Lab::beside_others() else { return };
    let packets = traffic_on_the_wire(&lab, Way::Ipip);
    for inner in ["ip:icmp", "ip:tcp", "ipv6:icmpv6", "ipv6:tcp"] {
        assert_seen(&packets, &format!("eth:ethertype:ip:{inner}"));
    }
}

#[test]
fn native() {
    let Some(lab) = Lab::beside_others() else { return };
    let packets = traffic_on_the_wire(&lab, Way::Native);
    for inner in ["ip:icmp", "ip:tcp", "ipv6:icmpv6", "ipv6:tcp"] {
        assert_seen(&packets, &format!("eth:ethertype:{inner}"));
    }
}
