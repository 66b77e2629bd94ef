//! Pods behind a switch: four of one node behind podswitch or the kernel's bridge, or two of two nodes
//! with VXLAN between them, podswitch's or the kernel's.

use std::net::Ipv4Addr;
use std::time::Duration;

use podswitch_tests::{Daemon, Lab, Netns, join, ping};

use crate::switches::Podswitch;
use crate::{Options, SWITCH_CPU, scale};

/// How many pods there are on one node.
pub const PODS: usize = 4;
/// The MTU of pods whose packets cross the wire in VXLAN.
const OVERLAY_MTU: u32 = 1450;

/// One of them: its namespace, where its interface is `eth0`, and its address.
pub type Pod = (Netns, Ipv4Addr);

/// The pods, and what connects them.
#[derive(Debug)]
pub struct Pods {
    /// The switch's name.
    pub name: String,
    /// The pods.
    pub pods: Vec<Pod>,
    /// Where the switches are: with them the pods' interfaces would go.
    _nodes: Vec<Netns>,
    daemons: Vec<Daemon>,
}

/// Where workers run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workers {
    /// Where the scheduler puts them.
    Anywhere,
    /// On [`SWITCH_CPU`].
    Pinned,
}

impl Workers {
    /// Of the names of namespaces.
    fn prefix(self) -> &'static str {
        match self {
            Workers::Anywhere => "o",
            Workers::Pinned => "c",
        }
    }

    /// What `[switch]` says of it.
    pub fn settings(self) -> String {
        match self {
            Workers::Anywhere => String::new(),
            Workers::Pinned => format!("workers = 1\ncpus = [{SWITCH_CPU}]\n"),
        }
    }
}

impl Pods {
    /// The podswitches that were asked for, ours first, and the kernel's bridge.
    pub fn behind_each(lab: &Lab, options: &Options, workers: Workers) -> Vec<Pods> {
        let ours = ours(options).zip(0..);
        let mut all: Vec<Pods> =
            ours.map(|((p, pod), n)| behind_podswitch(lab, &p, pod, n, workers)).collect();
        all.push(behind_bridge(lab, workers));
        all
    }

    /// The same on two nodes each: podswitches with VXLAN between them, and the kernel's vxlan devices.
    pub fn across_nodes(lab: &Lab, options: &Options) -> Vec<Pods> {
        let mut all: Vec<Pods> =
            ours(options).zip(0..).map(|((p, pod), n)| across_podswitch(lab, &p, pod, n)).collect();
        all.push(across_kernel(lab));
        all
    }

    /// CPU time that podswitch's processes have used.
    pub fn cpu_time(&self) -> anyhow::Result<Duration> {
        self.daemons.iter().map(|d| scale::cpu_time(&d.pid().to_string())).sum()
    }

    /// Every frame is accounted for.
    pub fn finish(self) {
        self.daemons.into_iter().for_each(|daemon| _ = daemon.finish());
    }
}

/// Each podswitch that was asked for, with each kind of pod.
fn ours(options: &Options) -> impl Iterator<Item = (Podswitch, &str)> {
    let all = Podswitch::all(options).into_iter();
    all.flat_map(|p| options.pod.iter().map(move |pod| (p.clone(), pod.as_str())))
}

/// What a table calls a podswitch with such pods.
fn named(podswitch: &Podswitch, pod: &str) -> String {
    if pod == "veth" { podswitch.name().to_owned() } else { format!("{}, {pod}", podswitch.name()) }
}

/// Adds a pod, of a type and perhaps an MTU.
pub fn add(daemon: &Daemon, netns: &Netns, ip: Ipv4Addr, pod: &str) {
    let (kind, mtu) = match pod.split_once(',') {
        Some((kind, mtu)) => (kind, format!("--mtu {mtu}")),
        None => (pod, String::new()),
    };
    let (path, name) = (netns.path(), netns.name());
    daemon.cli(&format!(
        "port add --netns {path} --ifname eth0 --type {kind} {mtu} --ip {ip}/24 {name}"
    ));
}

fn address(n: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 244, 1, 5 + n as u8)
}

fn behind_podswitch(
    lab: &Lab,
    podswitch: &Podswitch,
    pod: &str,
    number: usize,
    workers: Workers,
) -> Pods {
    let prefix = workers.prefix();
    let node = lab.netns(&format!("{prefix}{number}"));
    let config = "[node]\npod_cidrs = [\"10.244.1.0/24\"]\ngateway = true\n";
    let daemon = podswitch.daemon(lab, &node, &workers.settings(), config);
    let pods = (0..PODS).map(|n| {
        let (netns, ip) = (lab.netns(&format!("{prefix}{number}p{n}")), address(n));
        add(&daemon, &netns, ip, pod);
        (netns, ip)
    });
    let pods = pods.collect();
    Pods { name: named(podswitch, pod), _nodes: vec![node], pods, daemons: vec![daemon] }
}

/// Two namespaces on a wire that carries no packet larger than 1500 bytes, as a cable does.
fn wire(lab: &Lab, prefix: &str) -> [Netns; 2] {
    let nodes = [1, 2].map(|n| lab.netns(&format!("{prefix}n{n}")));
    join(&nodes[0], "uplink0", &nodes[1], "uplink0");
    for (node, n) in nodes.iter().zip(1..) {
        node.sh("ethtool -K uplink0 tso off gso off gro off tx off");
        node.ip(&format!("addr add 192.0.2.{n}/24 dev uplink0"));
        node.sysctl("net.ipv4.ip_forward", "1");
    }
    nodes
}

fn across_podswitch(lab: &Lab, podswitch: &Podswitch, pod: &str, number: usize) -> Pods {
    let nodes = wire(lab, &format!("x{number}"));
    let (mut pods, mut daemons) = (Vec::new(), Vec::new());
    for (node, n) in nodes.iter().zip([1, 2]) {
        let other = 3 - n;
        let config = format!(
            "[node]\npod_cidrs = [\"10.244.{n}.0/24\"]\ngateway = true\n[uplink]\n\
             dev = \"uplink0\"\n[[tunnel]]\nname = \"far\"\nkind = \"vxlan\"\n\
             remote = \"192.0.2.{other}\"\nvni = 1\n[[route]]\n\
             prefix = \"10.244.{other}.0/24\"\nvia = \"far\"\n"
        );
        let daemon = podswitch.daemon(lab, node, "", &config);
        let (netns, ip) = (lab.netns(&format!("x{number}p{n}")), Ipv4Addr::new(10, 244, n, 5));
        add(&daemon, &netns, ip, pod);
        pods.push((netns, ip));
        daemons.push(daemon);
    }
    ping(&pods[0].0, &pods[1].1.to_string());
    Pods { name: named(podswitch, pod), _nodes: nodes.into(), pods, daemons }
}

/// As flannel has it: each node's kernel routes between its pods' veths and a vxlan device.
fn across_kernel(lab: &Lab) -> Pods {
    let nodes = wire(lab, "k");
    let mut pods = Vec::new();
    for (node, n) in nodes.iter().zip([1u8, 2]) {
        let other = 3 - n;
        node.ip(&format!(
            "link add vx type vxlan id 1 local 192.0.2.{n} remote 192.0.2.{other} dstport 4789 dev uplink0"
        ));
        node.ip(&format!("link set vx mtu {OVERLAY_MTU} up"));
        node.ip(&format!("addr add 10.244.0.{n}/24 dev vx"));
        node.ip(&format!("route add 10.244.{other}.0/24 via 10.244.0.{other}"));
        let (netns, ip) = (lab.netns(&format!("kp{n}")), Ipv4Addr::new(10, 244, n, 5));
        node.ip(&format!(
            "link add v0 mtu {OVERLAY_MTU} type veth peer name eth0 mtu {OVERLAY_MTU} netns {}",
            netns.name()
        ));
        node.ip(&format!("addr add 10.244.{n}.1/24 dev v0"));
        node.ip("link set v0 up");
        netns.ip("link set eth0 up");
        netns.ip(&format!("addr add {ip}/24 dev eth0"));
        netns.ip(&format!("route add default via 10.244.{n}.1"));
        pods.push((netns, ip));
    }
    ping(&pods[0].0, &pods[1].1.to_string());
    Pods { name: "kernel vxlan".to_owned(), _nodes: nodes.into(), pods, daemons: Vec::new() }
}

fn behind_bridge(lab: &Lab, workers: Workers) -> Pods {
    let prefix = workers.prefix();
    let node = lab.netns(&format!("{prefix}b"));
    node.ip("link add br0 type bridge mcast_snooping 0");
    node.ip("link set br0 up");
    let pods = (0..PODS).map(|n| {
        let (netns, ip) = (lab.netns(&format!("{prefix}bp{n}")), address(n));
        let end = netns.name();
        node.ip(&format!("link add v{n} type veth peer name eth0 netns {end}"));
        node.ip(&format!("link set v{n} master br0 up"));
        netns.ip("link set eth0 up");
        netns.ip(&format!("addr add {ip}/24 dev eth0"));
        (netns, ip)
    });
    let pods = pods.collect();
    Pods { name: "kernel bridge".to_owned(), _nodes: vec![node], pods, daemons: Vec::new() }
}
