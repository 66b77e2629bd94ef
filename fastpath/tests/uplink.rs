//! What the XDP program takes from an uplink, and what it leaves to the kernel.

mod common;

use common::{Lab, can_run, patch_panel, sh, spec};
use fastpath::config::{AttachSpec, Role, UplinkFilter};
use fastpath::{Engine, EngineConfig};
use switch::PortId;

/// Frames by scapy, which shares no code with ours: (an expression, whether it is ours).
const FRAMES: &[(&str, bool)] = &[
    ("IP(src=peer,dst=us)/UDP(sport=7,dport=4789)/VXLAN(vni=1)/inner", true),
    ("IP(src=peer,dst=us)/UDP(sport=7,dport=8472)/VXLAN(vni=1)/inner", true),
    ("IP(src=peer,dst=us)/UDP(sport=7,dport=4790)/VXLAN(vni=1)/inner", false),
    ("IP(src=peer,dst=\"10.0.0.77\")/UDP(sport=7,dport=4789)/VXLAN(vni=1)/inner", false),
    ("IP(src=peer,dst=us,options=[IPOption_NOP()]*4)/UDP(dport=4789)/VXLAN(vni=1)/inner", true),
    ("IP(src=peer,dst=us,flags=1)/UDP(sport=7,dport=4789)/VXLAN(vni=1)/inner", false),
    ("IP(src=peer,dst=us,frag=8,proto=17)/bytes(64)", false),
    ("IP(src=peer,dst=us)/TCP(dport=22)", false),
    ("IP(src=peer,dst=us)/TCP(dport=4789)", false),
    ("IP(src=peer,dst=us)/ICMP()", false),
    ("IP(src=peer,dst=us,proto=4)/IP(dst=\"10.244.1.5\")/UDP()", true),
    ("IP(src=peer,dst=us,proto=41)/IPv6(dst=\"fd00::5\")/UDP()", true),
    ("IP(src=\"10.0.0.66\",dst=us,proto=4)/IP(dst=\"10.244.1.5\")/UDP()", false),
    ("IP(src=peer,dst=us,proto=4,flags=1)/IP(dst=\"10.244.1.5\")/UDP()", false),
    ("IP(src=peer,dst=\"10.244.1.5\")/UDP()", true),
    ("IP(src=peer,dst=\"10.244.1.5\",flags=1)/UDP()", true),
    ("IP(src=peer,dst=\"10.245.1.5\")/UDP()", false),
    ("IPv6(src=peer6,dst=us6)/UDP(dport=4789)/VXLAN(vni=1)/inner", true),
    ("IPv6(src=peer6,dst=us6)/TCP(dport=22)", false),
    ("IPv6(src=peer6,dst=us6,nh=4)/IP(dst=\"10.244.1.5\")/UDP()", true),
    ("IPv6(src=peer6,dst=us6,nh=41)/IPv6(dst=\"fd00:10:244:1::5\")/UDP()", true),
    ("IPv6(src=peer6,dst=\"fd00:10:244:1::5\")/UDP()", true),
    ("IPv6(src=peer6,dst=\"fd00:10:244:2::5\")/UDP()", false),
    ("IPv6(src=peer6,dst=us6)/ICMPv6ND_NS(tgt=us6)", false),
    // ICMP errors: of a router on the way, about packets that we sent.
    ("IP(src=hop,dst=us)/ICMP(type=3,code=4,nexthopmtu=1400)/lost/UDP(sport=7,dport=4789)", true),
    ("IP(src=hop,dst=us)/ICMP(type=11)/lost/UDP(sport=7,dport=8472)/VXLAN(vni=1)/inner", true),
    ("IP(src=hop,dst=us)/ICMP(type=3,code=1)/IP(src=us,dst=peer,proto=4)/IP()/UDP()", true),
    ("IP(src=hop,dst=us)/ICMP(type=3,code=1)/IP(src=us,dst=peer,proto=41)/IPv6()/UDP()", true),
    ("IP(src=hop,dst=us)/ICMP(type=3)/IP(src=us,dst=\"10.0.0.66\",proto=4)/IP()/UDP()", false),
    ("IP(src=hop,dst=us)/ICMP(type=3,code=1)/lost/UDP(sport=7,dport=53)", false),
    ("IP(src=hop,dst=us)/ICMP(type=3,code=1)/lost/TCP(sport=7,dport=4789)", false),
    ("IP(src=hop,dst=us)/ICMP(type=3)/IP(src=\"10.0.0.66\",dst=peer)/UDP(dport=4789)", false),
    ("IP(src=hop,dst=us)/ICMP(type=12)/lost/UDP(sport=7,dport=4789)", false),
    ("IP(src=hop,dst=us)/ICMP(type=3)/bytes(19)", false),
    ("IPv6(src=hop6,dst=us6)/ICMPv6PacketTooBig(mtu=1400)/lost6/UDP(dport=4789)", true),
    ("IPv6(src=hop6,dst=us6)/ICMPv6TimeExceeded()/lost6/UDP(dport=4789)", true),
    ("IPv6(src=hop6,dst=us6)/ICMPv6DestUnreach()/IPv6(src=us6,dst=peer6,nh=41)/IPv6()", true),
    ("IPv6(src=hop6,dst=us6)/ICMPv6DestUnreach()/lost6/UDP(dport=53)", false),
    ("IPv6(src=hop6,dst=us6)/ICMPv6DestUnreach()/IPv6(src=peer6,dst=us6)/UDP(dport=4789)", false),
    ("IPv6(src=hop6,dst=us6)/ICMPv6EchoRequest(data=bytes(64))", false),
    ("ARP(psrc=peer,pdst=us)", false),
    ("Dot1Q(vlan=5)/IP(src=peer,dst=us)/UDP(dport=4789)/VXLAN(vni=1)/inner", false),
    ("Dot1Q(vlan=6)/IP(src=peer,dst=us)/UDP(dport=4789)/VXLAN(vni=1)/inner", false),
    ("Dot1Q(vlan=5)/Dot1Q(vlan=5)/IP(src=peer,dst=us)/UDP(dport=4789)/VXLAN(vni=1)/inner", false),
    ("Dot1Q(vlan=5,prio=7)/IPv6(src=peer6,dst=us6)/UDP(dport=4789)/VXLAN(vni=1)/inner", false),
    ("Dot1Q(vlan=5)/IP(src=peer,dst=\"10.244.1.5\")/UDP()", false),
    ("Dot1Q(vlan=5)/IP(src=peer,dst=us)/TCP(dport=22)", false),
    ("Dot1Q(vlan=5)/ARP(psrc=peer,pdst=us)", false),
    ("b\"\\x45\\x00\"", false),
];

fn filter() -> UplinkFilter {
    let ip = |text: &str| text.parse().unwrap();
    UplinkFilter {
        vxlan: vec![(ip("10.0.0.254"), 4789), (ip("10.0.0.254"), 8472), (ip("fd01::254"), 4789)],
        ipip: vec![(ip("10.0.0.1"), ip("10.0.0.254")), (ip("fd01::1"), ip("fd01::254"))],
        vlan: None,
        prefixes: vec!["10.244.1.0/24".parse().unwrap(), "fd00:10:244:1::/64".parse().unwrap()],
    }
}

/// Sends frames one by one; how many of each came to the port.
fn taken(lab: &Lab, engine: &fastpath::Engine, mac: &str) -> Vec<u64> {
    let expressions: Vec<&str> = FRAMES.iter().map(|(e, _)| *e).collect();
    let script = format!(
        "import sys, time\n\
         from scapy.all import *\n\
         from scapy.layers.vxlan import VXLAN\n\
         peer, us, peer6, us6 = \"10.0.0.1\", \"10.0.0.254\", \"fd01::1\", \"fd01::254\"\n\
         hop, hop6 = \"10.0.0.9\", \"fd01::9\"\n\
         lost, lost6 = IP(src=us, dst=peer), IPv6(src=us6, dst=peer6)\n\
         inner = Ether(src=\"02:00:00:00:00:01\", dst=\"02:00:00:00:00:02\")/IP()/UDP()\n\
         s = conf.L2socket(iface=\"eth0\")\n\
         for p in [{}]:\n\
         \x20   sys.stdin.readline()\n\
         \x20   s.send(Ether(src=\"02:00:00:00:00:01\", dst=\"{mac}\")/p)\n\
         \x20   print(\"sent\", flush=True)\n",
        expressions.join(", ")
    );
    let path = std::env::temp_dir().join(format!("fastpath-uplink-{}.py", std::process::id()));
    std::fs::write(&path, script).unwrap();
    let mut child = std::process::Command::new("ip")
        .args(["netns", "exec", &lab.host(0), "/usr/bin/python3"])
        .arg(&path)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    use std::io::{BufRead, Write};
    let mut input = child.stdin.take().unwrap();
    let mut lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines();
    let rx = || engine.counters().ports[0].1.rx_frames;
    let counts = FRAMES.iter().map(|(expression, _)| {
        let before = rx();
        input.write_all(b"\n").unwrap();
        assert_eq!(lines.next().unwrap_or_else(|| panic!("{expression}")).unwrap(), "sent");
        std::thread::sleep(std::time::Duration::from_millis(20));
        rx() - before
    });
    let counts = counts.collect();
    child.wait().unwrap();
    std::fs::remove_file(path).unwrap();
    counts
}

#[test]
fn the_uplink_keeps_what_is_not_ours() {
    if !can_run() {
        return;
    }
    let lab = Lab::new(1, 1500, 1);
    sh("ip addr add 10.0.0.254/24 dev p0; sysctl -qw net.ipv6.conf.p0.disable_ipv6=0; \
        ip addr add fd01::254/64 dev p0 nodad");
    let engine = patch_panel(EngineConfig::default());
    engine.attach(PortId(0), &AttachSpec { role: Role::Uplink, ..spec("p0") }).unwrap();
    engine.set_uplink_filter(&filter()).unwrap();
    let mac = sh("ip -br link show p0").split_whitespace().nth(2).unwrap().to_owned();

    let counts = taken(&lab, &engine, &mac);
    let wrong: Vec<_> =
        FRAMES.iter().zip(&counts).filter(|((_, o), n)| **n != u64::from(*o)).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    lab.at(0, "ping -c 2 -i 0.1 -W 1 10.0.0.254");

    // On a VLAN: the same packets, but only those with its tag.
    engine.set_uplink_filter(&UplinkFilter { vlan: Some(5), ..filter() }).unwrap();
    let counts = taken(&lab, &engine, &mac);
    let ours: Vec<&str> =
        FRAMES.iter().zip(&counts).filter(|(_, n)| **n == 1).map(|((e, _), _)| *e).collect();
    let of_vlan_5 = [
        "Dot1Q(vlan=5)/IP(src=peer,dst=us)/UDP(dport=4789)/VXLAN(vni=1)/inner",
        "Dot1Q(vlan=5,prio=7)/IPv6(src=peer6,dst=us6)/UDP(dport=4789)/VXLAN(vni=1)/inner",
        "Dot1Q(vlan=5)/IP(src=peer,dst=\"10.244.1.5\")/UDP()",
    ];
    assert_eq!(ours, of_vlan_5);

    // An empty filter takes nothing.
    engine.set_uplink_filter(&UplinkFilter::default()).unwrap();
    assert!(taken(&lab, &engine, &mac).iter().all(|&n| n == 0));
}

/// Merged segments are for a kernel at the far end whose interface takes superpackets; beyond a bridge port, who takes
/// them has to have them finished.
#[test]
fn who_gets_merged_segments() {
    if !can_run() {
        return;
    }
    let _lab = Lab::new(1, 1500, 1);
    let coalesces = |engine: &Engine, role| {
        let attached = engine.attach(PortId(0), &AttachSpec { role, ..spec("p0") }).unwrap();
        engine.detach(PortId(0)).unwrap();
        attached.coalesces
    };
    let roles = [Role::End, Role::Port, Role::Uplink];
    let engine = patch_panel(EngineConfig::default());
    sh("ethtool -K p0 tx on tso on");
    assert_eq!(roles.map(|role| coalesces(&engine, role)), [true, false, false]);
    // As while the far end runs an XDP program.
    sh("ethtool -K p0 tso off");
    assert_eq!(roles.map(|role| coalesces(&engine, role)), [false; 3]);
    drop(engine);
    sh("ethtool -K p0 tso on");
    let engine = patch_panel(EngineConfig { superpackets: false, ..EngineConfig::default() });
    assert!(!coalesces(&engine, Role::End));
}
