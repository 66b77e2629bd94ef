//! Hosts around a switch: the smallest configuration, a bridge of existing interfaces.

use crate::lab::Lab;
use crate::netns::Netns;

/// The smallest configuration, as README.md gives it, less the socket.
pub const BRIDGE: &str = r#"
[switch]
workers = 1

[[port]]
dev = "eth1"
segment = "default"

[[port]]
dev = "eth2"
segment = "default"
"#;

/// How the veth pairs of a [`Hosts`] are made.
#[derive(Debug, Clone, Copy)]
pub struct Links {
    /// MTU of all ends, in bytes.
    pub mtu: u32,
    /// Transmit and receive queues of all ends.
    pub queues: u32,
}

impl Default for Links {
    fn default() -> Links {
        Links { mtu: 1500, queues: 1 }
    }
}

/// A namespace for the switch with interfaces `eth1`, `eth2` …, and a host behind each, with the
/// addresses 10.9.0.n/24 and fd00:9::n/64 on its `eth0`.
#[derive(Debug)]
pub struct Hosts {
    /// Where the switch runs.
    pub switch: Netns,
    /// The hosts, the first behind `eth1`.
    pub hosts: Vec<Netns>,
}

impl Hosts {
    /// So many hosts around a switch.
    #[track_caller]
    pub fn new(lab: &Lab, count: usize, links: Links) -> Hosts {
        let switch = lab.netns("sw");
        let hosts: Vec<Netns> = (1..=count).map(|n| lab.netns(&format!("h{n}"))).collect();
        let Links { mtu, queues } = links;
        let size = format!("mtu {mtu} numtxqueues {queues} numrxqueues {queues}");
        for (host, n) in hosts.iter().zip(1..) {
            let (name, dev) = (host.name(), format!("eth{n}"));
            switch
                .ip(&format!("link add {dev} {size} type veth peer name eth0 {size} netns {name}"));
            switch.ip(&format!("link set {dev} up"));
            // AF_XDP hands over frames as they are: a checksum left to the device stays incomplete.
            host.sh("ethtool -K eth0 tx off");
            host.ip("link set eth0 up");
            host.ip(&format!("addr add 10.9.0.{n}/24 dev eth0"));
            host.ip(&format!("addr add fd00:9::{n}/64 dev eth0 nodad"));
        }
        Hosts { switch, hosts }
    }

    /// Two hosts, as [`BRIDGE`] wants them.
    #[track_caller]
    pub fn pair(lab: &Lab) -> Hosts {
        Hosts::new(lab, 2, Links::default())
    }

    /// Hosts whose kernels say nothing of their own, for tests that send and capture raw frames.
    #[track_caller]
    pub fn silent(lab: &Lab, count: usize) -> Hosts {
        let hosts = Hosts::new(lab, count, Links::default());
        for netns in hosts.hosts.iter().chain([&hosts.switch]) {
            hush(netns);
        }
        hosts
    }
}

/// Keeps a namespace's kernel from sending or answering anything by itself: no IPv6, no ARP.
#[track_caller]
pub fn hush(netns: &Netns) {
    netns.sysctl("net.ipv6.conf.all.disable_ipv6", "1");
    netns.sysctl("net.ipv4.conf.all.arp_ignore", "8");
}
