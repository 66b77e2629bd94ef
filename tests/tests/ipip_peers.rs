//! IPIP in all four combinations: to the kernel's raw sockets and a TUN device, and to a kernel whose tunnel
//! is BPF programs at tc.

use podswitch_tests::{
    Capture, Daemon, Hook, Lab, Netns, Node, Wire, attach_bpf, exchange, frames_of, ping,
    send_frames, tool,
};

/// The node's configuration: pods of both families through one IPIP tunnel to `remote`, of which `more`
/// says more.
fn config(remote: &str, more: &str) -> String {
    let tunnel =
        format!("[[tunnel]]\nname = \"peer\"\nkind = \"ipip\"\nremote = \"{remote}\"\n{more}\n");
    Node::config_through(&tunnel, ["peer", "peer"])
}

fn node(lab: &Lab, wire: &Wire, remote: &str, more: &str) -> (Netns, Netns, Daemon) {
    let (us, pod) = (lab.netns("n1"), lab.netns("pod1"));
    wire.plug(&us, "uplink0");
    us.ip("addr add 192.0.2.1/24 dev uplink0");
    us.ip("addr add 2001:db8::1/64 dev uplink0 nodad");
    let daemon = Daemon::start(lab, &us, &config(remote, more));
    daemon.cli(&format!(
        "port add --netns {} --ifname eth0 --ip 10.244.1.5/24 --ip fd00:10:244:1::5/64 pod1",
        pod.path()
    ));
    (us, pod, daemon)
}

/// Packets of every kind, of both families, between pod and peer: each has these outer headers on the wire.
fn exchange_through_tunnel(lab: &Lab, wire: &Wire, [pod, peer]: [&Netns; 2], outer: &str) {
    let tap = wire.tap();
    exchange((pod, "10.244.1.5"), (peer, "10.244.2.5"));
    exchange((pod, "fd00:10:244:1::5"), (peer, "fd00:10:244:2::5"));
    let seen = tap.end(lab);
    for inner in ["ip:tcp", "ip:udp", "ip:icmp", "ipv6:tcp", "ipv6:udp", "ipv6:icmpv6"] {
        seen.assert_seen(&format!("eth:ethertype:{outer}:{inner}"));
    }
}

/// Both families of pods over one family of the underlay, with this encapsulation limit in the packets
/// of both ends.
fn over(ours: &str, theirs: &str, outer: &str, limit: Option<u8>) {
    let Some(lab) = Lab::beside_others() else { return };
    let (wire, peer) = (Wire::new(&lab), lab.netns("peer"));
    wire.plug_kernel(&peer, "eth0", &["192.0.2.2/24", "2001:db8::2/64"]);
    let (limit, more) = match limit {
        Some(limit) => (limit.to_string(), format!("encapsulation_limit = {limit}")),
        None => Default::default(),
    };
    let line = format!("{} {theirs} {ours} {limit}", tool("ipip_peer.py"));
    let _tunnel = peer.spawn(&line).expect_line("ready");
    peer.ip(&format!("link set tun0 up mtu {}", if limit.is_empty() { 1460 } else { 1452 }));
    peer.ip("addr add 10.244.2.5/32 dev tun0");
    peer.ip("addr add fd00:10:244:2::5/128 dev tun0 nodad");
    peer.ip("route add 10.244.1.0/24 dev tun0 src 10.244.2.5");
    peer.ip("-6 route add fd00:10:244:1::/64 dev tun0 src fd00:10:244:2::5");
    let (_us, pod, daemon) = node(&lab, &wire, theirs, &more);

    exchange_through_tunnel(&lab, &wire, [&pod, &peer], outer);
    daemon.finish();
}

#[test]
fn ipv4_and_ipv6_in_ipv4() {
    over("192.0.2.1", "192.0.2.2", "ip", None);
}

#[test]
fn ipv4_and_ipv6_in_ipv6() {
    over("2001:db8::1", "2001:db8::2", "ipv6", None);
}

/// RFC 2473 section 4.1.1, as Linux's ip6tnl does it by default: the outer header of every packet, in both
/// directions, has destination options.
#[test]
fn encapsulation_limits_of_both_ends() {
    over("2001:db8::1", "2001:db8::2", "ipv6:ipv6.dstopts", Some(4));
}

/// Both families of pods to a kernel that has no tunnel device: two BPF programs (tools/ipip.bpf.c) on
/// the interface to the underlay, as BPF-based networks have them. Its TCP leaves in large segments that
/// the kernel cuts up behind the outer header.
fn to_bpf_over(ours: &str, theirs: &str, outer: &str) {
    let Some(lab) = Lab::beside_others() else { return };
    let (wire, peer) = (Wire::new(&lab), lab.netns("peer"));
    wire.plug_kernel(&peer, "eth0", &["192.0.2.2/24", "2001:db8::2/64"]);
    let (version, mtu) = if ours.contains(':') { (6, 1460) } else { (4, 1480) };
    let programs = [("eth0", Hook::Egress, "encap"), ("eth0", Hook::Ingress, "decap")];
    attach_bpf(&lab, &peer, "ipip.bpf.c", &[format!("-DUNDERLAY={version}")], &programs);
    peer.ip("addr add 10.244.2.5/32 dev lo");
    peer.ip("addr add fd00:10:244:2::5/128 dev lo nodad");
    // The next hop is the node: its MAC address is that of the outer header.
    for (prefix, via, src) in [
        ("10.244.1.0/24", "192.0.2.1", "10.244.2.5"),
        ("fd00:10:244:1::/64", "2001:db8::1", "fd00:10:244:2::5"),
    ] {
        peer.ip(&format!("route add {prefix} via {via} dev eth0 src {src} mtu {mtu}"));
    }
    let (us, pod, daemon) = node(&lab, &wire, theirs, "");
    ping(&us, theirs);

    exchange_through_tunnel(&lab, &wire, [&pod, &peer], outer);
    daemon.finish();
}

#[test]
fn ipv4_and_ipv6_in_ipv4_to_tc_bpf() {
    to_bpf_over("192.0.2.1", "192.0.2.2", "ip");
}

#[test]
fn ipv4_and_ipv6_in_ipv6_to_tc_bpf() {
    to_bpf_over("2001:db8::1", "2001:db8::2", "ipv6");
}

/// Of a pod's own tunnel packets those that may enter another tunnel do; of the others the pod's kernel
/// hears what is wrong with them, and where.
#[test]
fn a_pods_own_tunnel_packets() {
    let Some(lab) = Lab::beside_others() else { return };
    let (wire, peer) = (Wire::new(&lab), lab.netns("peer"));
    wire.plug_kernel(&peer, "eth0", &["192.0.2.2/24", "2001:db8::2/64"]);
    let (netns, pod, daemon) = node(&lab, &wire, "2001:db8::2", "");
    ping(&netns, "2001:db8::2");
    let sends = |limit: u8| pod.sh(&format!("{} fd00:10:244:2::5 {limit}", tool("nested.py")));

    let tap = wire.tap();
    assert_eq!(sends(1), "no error\n");
    tap.end(&lab).assert_seen("eth:ethertype:ipv6:ipv6.dstopts:ipv6:ipv6.dstopts:ipv6");
    assert_eq!(sends(0), "type 4, code 0, pointer 44\n", "RFC 4443 section 3.4");
    assert_eq!(daemon.counters().dropped("encapsulation_limit"), 1);
    daemon.finish();
}

/// Whether a frame is UDP from port 7 to port 7, over IPv4 or IPv6: what tools/tunnel_packets.py makes.
fn is_ours(frame: &[u8]) -> bool {
    [34, 54].iter().any(|at| frame.get(*at..at + 4) == Some(&[0, 7, 0, 7]))
}

/// From a peer of a tunnel the packet comes to the pod; from anyone else it is the kernel's, which
/// has no use for it.
fn only_from_the_peer(us: &str, peer: &str, stranger: &str) {
    let Some(lab) = Lab::beside_others() else { return };
    let (wire, other) = (Wire::new(&lab), lab.netns("peer"));
    wire.plug_kernel(&other, "eth0", &["192.0.2.2/24", "2001:db8::2/64"]);
    let (netns, pod, daemon) = node(&lab, &wire, peer, "");
    ping(&netns, peer);
    let mac = netns.mac("uplink0");
    let frames =
        frames_of(&format!("{} ipip {mac} {us} {peer} {stranger}", tool("tunnel_packets.py")));

    let taken = |name: &str| name.starts_with("taken");
    let frames = |of_peer: bool| -> Vec<Vec<u8>> {
        frames.iter().filter(|(name, _)| taken(name) == of_peer).map(|(_, f)| f.clone()).collect()
    };
    // The others first: to what comes to the pod its kernel answers, and to that the peer's, which
    // has no tunnel here.
    let received = || daemon.counters().port("uplink0", "rx_frames");
    let capture = Capture::start(&pod, "eth0");
    let before = received();
    send_frames(&other, "eth0", &frames(false));
    assert!(capture.end().iter().all(|f| !is_ours(f)), "the others' packets come to no pod");
    assert_eq!(received(), before, "they stay with the kernel");

    let capture = Capture::start(&pod, "eth0");
    send_frames(&other, "eth0", &frames(true));
    let arrived = capture.end().iter().filter(|f| is_ours(f)).count();
    assert_eq!(arrived, frames(true).len(), "the peer's packets come to the pod");
    daemon.finish();
}

#[test]
fn only_peers_are_heard_over_ipv4() {
    only_from_the_peer("192.0.2.1", "192.0.2.2", "192.0.2.66");
}

#[test]
fn only_peers_are_heard_over_ipv6() {
    only_from_the_peer("2001:db8::1", "2001:db8::2", "2001:db8::66");
}
