//! The kernel's vxlan devices as the other nodes: every underlay, port and checksum; metadata mode;
//! several segments and several peers.

use podswitch_tests::{
    Capture, Daemon, Hosts, Lab, Links, Netns, Node, Wire, exchange, iperf, iperf_udp, ping,
    send_frames,
};

const OURS: (&str, &str) = ("192.0.2.1", "2001:db8::1");

/// Plugs the switch's namespace into the wire, with its addresses.
fn plug_us(wire: &Wire, us: &Netns) {
    wire.plug(us, "uplink0");
    us.ip(&format!("addr add {}/24 dev uplink0", OURS.0));
    us.ip(&format!("addr add {}/64 dev uplink0 nodad", OURS.1));
}

/// A kernel node on the wire with 192.0.2.`number` and 2001:db8::`number`.
fn kernel_node(lab: &Lab, wire: &Wire, number: u8) -> Netns {
    let node = lab.netns(&format!("k{number}"));
    let addresses = [format!("192.0.2.{number}/24"), format!("2001:db8::{number}/64")];
    wire.plug_kernel(&node, "eth0", &addresses.each_ref().map(String::as_str));
    node
}

/// A segment that reaches from a bridge port to the kernel's vxlan device, made with `options`.
fn a_segment(port: u16, v6: bool, options: &str) {
    let Some(lab) = Lab::beside_others() else { return };
    let Hosts { switch, hosts } = Hosts::new(&lab, 1, Links { mtu: 1430, queues: 1 });
    let wire = Wire::new(&lab);
    plug_us(&wire, &switch);
    let peer = kernel_node(&lab, &wire, 2);
    let (ours, theirs) = if v6 { (OURS.1, "2001:db8::2") } else { (OURS.0, "192.0.2.2") };
    peer.ip(&format!(
        "link add vx type vxlan id 77 remote {ours} local {theirs} dstport {port} dev eth0 {options}"
    ));
    peer.ip("link set vx mtu 1430 up");
    peer.ip("addr add 10.9.0.77/24 dev vx");
    peer.ip("addr add fd00:9::77/64 dev vx nodad");
    let daemon = Daemon::start(
        &lab,
        &switch,
        &format!(
            "[uplink]\ndev = \"uplink0\"\n[[port]]\ndev = \"eth1\"\n\
             [[tunnel]]\nname = \"peer\"\nkind = \"vxlan\"\nremote = \"{theirs}\"\n\
             vni = 77\nport = {port}\nsegment = \"default\"\n"
        ),
    );

    let tap = wire.tap();
    exchange((&hosts[0], "10.9.0.1"), (&peer, "10.9.0.77"));
    exchange((&hosts[0], "fd00:9::1"), (&peer, "fd00:9::77"));
    let kernels_own = options.starts_with("udp6zerocsumtx");
    if kernels_own {
        // Until the switch is there its node's kernel gets them, which wants to have one.
        switch.forgive_checksums();
    }
    let seen = if kernels_own { tap.end_from(&lab, &switch.mac("uplink0")) } else { tap.end(&lab) };
    let outer = if v6 { "ipv6" } else { "ip" };
    for inner in ["ip:tcp", "ip:udp", "ip:icmp", "ipv6:tcp", "ipv6:udp", "ipv6:icmpv6", "arp"] {
        seen.assert_seen(&format!("eth:ethertype:{outer}:udp:vxlan:eth:ethertype:{inner}"));
    }
    ping(&peer, "10.9.0.1");
    iperf(&hosts[0], &peer, "10.9.0.77", "");
    iperf(&hosts[0], &peer, "10.9.0.77", "--reverse");
    iperf_udp(&hosts[0], &peer, "10.9.0.77", "--bitrate 5M --length 1300");
    let fdb = daemon.json("fdb list").to_string();
    assert!(
        fdb.contains(&peer.mac("vx")),
        "the kernel's address is learned from the tunnel: {fdb}"
    );
    daemon.finish();
}

#[test]
fn ipv4_port_4789_without_checksums() {
    a_segment(4789, false, "noudpcsum");
}

#[test]
fn ipv4_port_4789_with_checksums() {
    a_segment(4789, false, "udpcsum");
}

#[test]
fn ipv4_port_8472_without_checksums() {
    a_segment(8472, false, "noudpcsum");
}

#[test]
fn ipv4_port_8472_with_checksums() {
    a_segment(8472, false, "udpcsum");
}

#[test]
fn ipv6_port_4789_without_checksums() {
    a_segment(4789, true, "udp6zerocsumtx udp6zerocsumrx");
}

#[test]
fn ipv6_port_4789_with_checksums() {
    a_segment(4789, true, "noudp6zerocsumtx noudp6zerocsumrx");
}

#[test]
fn ipv6_port_8472_without_checksums() {
    a_segment(8472, true, "udp6zerocsumtx udp6zerocsumrx");
}

#[test]
fn ipv6_port_8472_with_checksums() {
    a_segment(8472, true, "noudp6zerocsumtx noudp6zerocsumrx");
}

/// One vxlan device for all VNIs and peers: routes say where to (`ip route … encap ip`).
fn metadata_mode(v6: bool) {
    let Some(lab) = Lab::beside_others() else { return };
    let (wire, us, pod) = (Wire::new(&lab), lab.netns("n1"), lab.netns("pod1"));
    plug_us(&wire, &us);
    let peer = kernel_node(&lab, &wire, 2);
    let (ours, theirs) = if v6 { (OURS.1, "2001:db8::2") } else { (OURS.0, "192.0.2.2") };
    peer.ip("link add vx type vxlan external dstport 4789");
    peer.ip("link set vx mtu 1430 up");
    peer.ip("addr add 10.244.2.1/32 dev vx");
    peer.ip("addr add fd00:10:244:2::1/128 dev vx nodad");
    let encap = format!("encap {} id 5 dst {ours}", if v6 { "ip6" } else { "ip" });
    let vtep = "0a:58:00:00:00:01";
    for (via, prefix) in
        [("10.244.1.0", "10.244.1.0/24"), ("fd00:10:244:1::", "fd00:10:244:1::/64")]
    {
        peer.ip(&format!("neigh add {via} lladdr {vtep} dev vx nud permanent"));
        peer.ip(&format!("route add {prefix} {encap} via {via} dev vx onlink"));
    }
    let remote_mac = peer.mac("vx");
    let tunnel = format!(
        "[[tunnel]]\nname = \"peer\"\nkind = \"vxlan\"\nremote = \"{theirs}\"\nvni = 5\n\
         local_mac = \"{vtep}\"\nremote_mac = \"{remote_mac}\"\n"
    );
    let daemon = Daemon::start(&lab, &us, &Node::config_through(&tunnel, ["peer", "peer"]));
    daemon.cli(&format!(
        "port add --netns {} --ifname eth0 --ip 10.244.1.5/24 --ip fd00:10:244:1::5/64 pod1",
        pod.path()
    ));

    let tap = wire.tap();
    exchange((&pod, "10.244.1.5"), (&peer, "10.244.2.1"));
    exchange((&pod, "fd00:10:244:1::5"), (&peer, "fd00:10:244:2::1"));
    // Over IPv6 the kernel leaves the UDP checksum out in this mode.
    tap.end_from(&lab, &us.mac("uplink0"));
    daemon.finish();
}

#[test]
fn metadata_mode_over_ipv4() {
    metadata_mode(false);
}

#[test]
fn metadata_mode_over_ipv6() {
    metadata_mode(true);
}

/// The VNI, the segment and the subnet's third number of each segment.
const SEGMENTS: [(u32, &str, u8); 2] = [(10, "red", 1), (20, "blue", 2)];

/// Two kernel nodes, each with a device per segment, in a namespace of its own behind it.
fn meshed_peers(lab: &Lab, wire: &Wire) -> Vec<Vec<Netns>> {
    let kernel = [2u8, 3];
    let behind = |&number: &u8| {
        let node = kernel_node(lab, wire, number);
        let other = 5 - number;
        let device = |&(vni, name, subnet): &(u32, &str, u8)| {
            let host = lab.netns(&format!("{name}{number}"));
            node.ip(&format!(
                "link add vx{vni} type vxlan id {vni} local 192.0.2.{number} dstport 4789 dev eth0"
            ));
            // Head-end replication, on the kernel's side too.
            for to in [1, other] {
                let entry = "fdb append 00:00:00:00:00:00";
                node.sh(&format!("bridge {entry} dev vx{vni} dst 192.0.2.{to} self permanent"));
            }
            node.ip(&format!("link set vx{vni} netns {}", host.name()));
            host.ip(&format!("link set vx{vni} mtu 1430 up"));
            // The same addresses in both segments' hosts would do as well; these are easier to read.
            host.ip(&format!("addr add 10.9.{subnet}.{number}/24 dev vx{vni}"));
            (host, node.clone())
        };
        SEGMENTS.iter().map(device).collect::<Vec<_>>()
    };
    let nodes: Vec<Vec<(Netns, Netns)>> = kernel.iter().map(behind).collect();
    // The node's namespace is the underlay of its devices and lives as long as the lab does: its
    // handle is kept behind that of the host.
    nodes.into_iter().map(|n| n.into_iter().flat_map(|(h, n)| [h, n]).collect()).collect()
}

#[test]
fn several_segments_and_several_peers_in_each() {
    let Some(lab) = Lab::beside_others() else { return };
    let Hosts { switch, hosts } = Hosts::new(&lab, 2, Links { mtu: 1430, queues: 1 });
    let wire = Wire::new(&lab);
    plug_us(&wire, &switch);
    let peers = meshed_peers(&lab, &wire);
    let mut config = String::from("[uplink]\ndev = \"uplink0\"\n");
    for (i, (vni, segment, subnet)) in SEGMENTS.into_iter().enumerate() {
        let dev = format!("eth{}", i + 1);
        config += &format!(
            "[[segment]]\nname = \"{segment}\"\n[[port]]\ndev = \"{dev}\"\nsegment = \"{segment}\"\n"
        );
        for peer in [2, 3] {
            config += &format!(
                "[[tunnel]]\nname = \"{segment}{peer}\"\nkind = \"vxlan\"\n\
                 remote = \"192.0.2.{peer}\"\nvni = {vni}\nsegment = \"{segment}\"\n"
            );
        }
        hosts[i].ip("addr flush dev eth0");
        hosts[i].ip(&format!("addr add 10.9.{subnet}.1/24 dev eth0"));
        // The two segments' hosts have one MAC address: segments are apart.
        hosts[i].ip("link set eth0 address 02:00:00:00:00:77");
    }
    let daemon = Daemon::start(&lab, &switch, &config);

    for (i, (_, _, subnet)) in SEGMENTS.into_iter().enumerate() {
        for (peer, number) in peers.iter().zip([2, 3]) {
            let (ours, theirs) = (format!("10.9.{subnet}.1"), format!("10.9.{subnet}.{number}"));
            exchange((&hosts[i], &ours), (&peer[2 * i], &theirs));
        }
        let (two, three) = (&peers[0][2 * i], format!("10.9.{subnet}.3"));
        ping(two, &three);
    }

    // A broadcast from our host comes once to each peer of its segment and to no other segment; one
    // from a peer comes to us and, by us, to nobody else.
    let capture = |netns: &Netns, vni: u32| Capture::start(netns, &format!("vx{vni}"));
    let (mut broadcast, probe) = (vec![0xff; 6], b"podswitch broadcast");
    broadcast.extend([2, 0, 0, 0, 0, 0x77, 0x88, 0xb5]);
    broadcast.extend(probe);
    let count = |capture: Capture| {
        capture.end().iter().filter(|f| f.windows(probe.len()).any(|w| w == probe)).count()
    };
    let red = [capture(&peers[0][0], 10), capture(&peers[1][0], 10)];
    let blue = [capture(&peers[0][2], 20), capture(&peers[1][2], 20)];
    send_frames(&hosts[0], "eth0", &[broadcast.clone()]);
    assert_eq!(red.map(count), [1, 1], "head-end replication to both peers of the segment");
    assert_eq!(blue.map(count), [0, 0], "not into another segment");

    let (ours, third) = (Capture::start(&hosts[0], "eth0"), capture(&peers[1][0], 10));
    broadcast[11] = 0x78;
    send_frames(&peers[0][0], "vx10", &[broadcast]);
    assert_eq!(count(ours), 1, "from the overlay to our host");
    assert_eq!(count(third), 1, "from the peer alone, not through us: split horizon");
    daemon.finish();
}
