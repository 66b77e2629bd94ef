//! Four pods of one node behind a switch: podswitch, or the kernel's bridge.

use std::net::Ipv4Addr;

use podswitch_tests::{Daemon, Lab, Netns};

use crate::Options;
use crate::switches::Podswitch;

/// How many pods there are.
pub const PODS: usize = 4;

/// One of them: its namespace, where its interface is `eth0`, and its address.
pub type Pod = (Netns, Ipv4Addr);

/// The pods, and what connects them.
#[derive(Debug)]
pub struct Pods {
    /// The switch's name.
    pub name: String,
    /// The pods.
    pub pods: [Pod; PODS],
    /// Where the switch is: with it the pods' interfaces would go.
    _node: Netns,
    daemon: Option<Daemon>,
}

impl Pods {
    /// The podswitches that were asked for, ours first, and the kernel's bridge.
    pub fn behind_each(lab: &Lab, options: &Options) -> Vec<Pods> {
        let ours = Podswitch::all(options).into_iter().zip(0..);
        let mut all: Vec<Pods> = ours.map(|(p, n)| behind_podswitch(lab, &p, n)).collect();
        all.push(behind_bridge(lab));
        all
    }

    /// Every frame is accounted for.
    pub fn finish(self) {
        if let Some(daemon) = self.daemon {
            daemon.finish();
        }
    }
}

fn address(n: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 244, 1, 5 + n as u8)
}

fn behind_podswitch(lab: &Lab, podswitch: &Podswitch, number: usize) -> Pods {
    let node = lab.netns(&format!("o{number}"));
    let config = "[node]\npod_cidrs = [\"10.244.1.0/24\"]\ngateway = true\n";
    let daemon = podswitch.daemon(lab, &node, "", config);
    let pods = std::array::from_fn(|n| {
        let (netns, ip) = (lab.netns(&format!("o{number}p{n}")), address(n));
        let path = netns.path();
        daemon.cli(&format!("port add --netns {path} --ifname eth0 --ip {ip}/24 pod{n}"));
        (netns, ip)
    });
    Pods { name: podswitch.name().to_owned(), _node: node, pods, daemon: Some(daemon) }
}

fn behind_bridge(lab: &Lab) -> Pods {
    let node = lab.netns("b");
    node.ip("link add br0 type bridge mcast_snooping 0");
    node.ip("link set br0 up");
    let pods = std::array::from_fn(|n| {
        let (netns, ip) = (lab.netns(&format!("bp{n}")), address(n));
        let end = netns.name();
        node.ip(&format!("link add v{n} type veth peer name eth0 netns {end}"));
        node.ip(&format!("link set v{n} master br0 up"));
        netns.ip("link set eth0 up");
        netns.ip(&format!("addr add {ip}/24 dev eth0"));
        (netns, ip)
    });
    Pods { name: "kernel bridge".to_owned(), _node: node, pods, daemon: None }
}
