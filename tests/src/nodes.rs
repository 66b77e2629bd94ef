//! Two nodes on a wire, each with a podswitch and a pod.

use crate::counters::Counters;
use crate::daemon::Daemon;
use crate::lab::Lab;
use crate::netns::{Netns, join};

/// The configuration of node 1 without an uplink: a gateway of both families.
pub const NODE: &str =
    "[node]\npod_cidrs = [\"10.244.1.0/24\", \"fd00:10:244:1::/64\"]\ngateway = true\n";

/// How packets travel between the nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// In VXLAN, VNI 1, port 4789.
    Vxlan,
    /// IP in IP.
    Ipip,
    /// Unencapsulated.
    Native,
}

/// A pod: a namespace in which its node's podswitch made `eth0`.
#[derive(Debug)]
pub struct Pod {
    /// The pod's namespace.
    pub netns: Netns,
    /// Its port's name.
    pub name: String,
    /// Its IPv4 address.
    pub ip4: String,
    /// Its IPv6 address.
    pub ip6: String,
}

/// A node: a namespace with an uplink and a podswitch.
#[derive(Debug)]
pub struct Node {
    /// The node's namespace.
    pub netns: Netns,
    /// Its podswitch.
    pub daemon: Daemon,
    /// Its IPv4 address on the wire.
    pub ip4: String,
    /// Its IPv6 address on the wire.
    pub ip6: String,
    number: u8,
}

impl Node {
    /// A node whose namespace has an interface `uplink0`, which gets the addresses of node
    /// `number` (1 or 2). The kernel forwards. Its daemon starts with [`Node::config`] and `more`.
    #[track_caller]
    pub fn start(lab: &Lab, netns: &Netns, number: u8, way: Way, more: &str) -> Node {
        let (ip4, ip6) = (format!("192.0.2.{number}"), format!("2001:db8::{number}"));
        netns.ip(&format!("addr replace {ip4}/24 dev uplink0"));
        netns.ip(&format!("addr replace {ip6}/64 dev uplink0 nodad"));
        Node::start_with(lab, netns, number, &(Node::config(number, way) + more))
    }

    /// A node whose `uplink0` has its addresses already, with a configuration of its own.
    #[track_caller]
    pub fn start_with(lab: &Lab, netns: &Netns, number: u8, config: &str) -> Node {
        let (ip4, ip6) = (format!("192.0.2.{number}"), format!("2001:db8::{number}"));
        netns.sysctl("net.ipv4.ip_forward", "1");
        netns.sysctl("net.ipv6.conf.all.forwarding", "1");
        let daemon = Daemon::start(lab, netns, config);
        Node { netns: netns.clone(), daemon, ip4, ip6, number }
    }

    /// Node 1 without an uplink, with a configuration of its own and a pod for each line of options.
    #[track_caller]
    pub fn with_pods(lab: &Lab, config: &str, options: &[&str]) -> (Node, Vec<Pod>) {
        let netns = lab.netns("n1");
        let node = Node::start_with(lab, &netns, 1, config);
        let pods = options.iter().zip(5..);
        let pods = pods.map(|(o, host)| node.add_pod_with(lab, host, o)).collect();
        (node, pods)
    }

    /// The name of a pod's interface in the node.
    pub fn dev(&self, pod: &Pod) -> String {
        self.daemon.port(&pod.name)["dev"].as_str().expect("a name").to_owned()
    }

    /// The configuration of node `number`, with routes to the other node's pods.
    pub fn config(number: u8, way: Way) -> String {
        let other = 3 - number;
        let tunnel = match way {
            Way::Vxlan => "kind = \"vxlan\"\nvni = 1\nport = 4789\n",
            Way::Ipip => "kind = \"ipip\"\n",
            Way::Native => "",
        };
        let (mut via4, mut via6) = (format!("node{other}"), format!("node{other}"));
        let mut text = format!(
            "[node]\nname = \"node{number}\"\n\
             pod_cidrs = [\"10.244.{number}.0/24\", \"fd00:10:244:{number}::/64\"]\n\
             gateway = true\n[uplink]\ndev = \"uplink0\"\nnative_routing = true\n"
        );
        if way == Way::Native {
            (via4, via6) = (format!("192.0.2.{other}"), format!("2001:db8::{other}"));
        } else {
            text += &format!(
                "[[tunnel]]\nname = \"node{other}\"\nremote = \"192.0.2.{other}\"\n{tunnel}"
            );
        }
        text + &format!(
            "[[route]]\nprefix = \"10.244.{other}.0/24\"\nvia = \"{via4}\"\n\
             [[route]]\nprefix = \"fd00:10:244:{other}::/64\"\nvia = \"{via6}\"\n"
        )
    }

    /// The configuration of node 1, whose routes to the other node's pods go through `tunnels`: their
    /// TOML, and the names of those for IPv4 and for IPv6.
    pub fn config_through(tunnels: &str, [via4, via6]: [&str; 2]) -> String {
        format!(
            "[node]\npod_cidrs = [\"10.244.1.0/24\", \"fd00:10:244:1::/64\"]\ngateway = true\n\
             [uplink]\ndev = \"uplink0\"\n{tunnels}\
             [[route]]\nprefix = \"10.244.2.0/24\"\nvia = \"{via4}\"\n\
             [[route]]\nprefix = \"fd00:10:244:2::/64\"\nvia = \"{via6}\"\n"
        )
    }

    /// Adds a pod with the host number `host`, 2 to 254.
    #[track_caller]
    pub fn add_pod(&self, lab: &Lab, host: u8) -> Pod {
        self.add_pod_with(lab, host, "")
    }

    /// As [`Node::add_pod`], with more options of `podswitch port add`.
    #[track_caller]
    pub fn add_pod_with(&self, lab: &Lab, host: u8, options: &str) -> Pod {
        let number = self.number;
        let name = format!("pod{number}x{host}");
        let netns = lab.netns(&name);
        let (ip4, ip6) =
            (format!("10.244.{number}.{host}"), format!("fd00:10:244:{number}::{host}"));
        let path = netns.path();
        self.daemon.cli(&format!(
            "port add --netns {path} --ifname eth0 --ip {ip4}/24 --ip {ip6}/64 {options} {name}"
        ));
        Pod { netns, name, ip4, ip6 }
    }

    /// The first IPv4 address of the node's pod CIDR.
    pub fn gateway4(&self) -> String {
        format!("10.244.{}.1", self.number)
    }

    /// The first IPv6 address of the node's pod CIDR.
    pub fn gateway6(&self) -> String {
        format!("fd00:10:244:{}::1", self.number)
    }
}

/// Two nodes with a pod each.
#[derive(Debug)]
pub struct TwoNodes {
    /// The nodes.
    pub nodes: [Node; 2],
    /// The pod of each.
    pub pods: [Pod; 2],
}

impl TwoNodes {
    /// Starts both nodes on a veth pair and adds a pod to each.
    #[track_caller]
    pub fn start(lab: &Lab, way: Way) -> TwoNodes {
        let spaces = [lab.netns("n1"), lab.netns("n2")];
        join(&spaces[0], "uplink0", &spaces[1], "uplink0");
        TwoNodes::start_in(lab, way, &spaces, "")
    }

    /// Starts both nodes on a bridge, `br0` in the namespace that this gives too, where what
    /// passes between them can be captured. `more` is added to both configurations.
    #[track_caller]
    pub fn start_on_a_bridge(lab: &Lab, way: Way, more: &str) -> (TwoNodes, Netns) {
        let wire = lab.netns("wire");
        wire.ip("link add br0 type bridge mcast_snooping 0");
        wire.ip("link set br0 up promisc on");
        let spaces = [lab.netns("n1"), lab.netns("n2")];
        for (space, dev) in spaces.iter().zip(["node1", "node2"]) {
            join(space, "uplink0", &wire, dev);
            wire.ip(&format!("link set {dev} master br0"));
        }
        (TwoNodes::start_in(lab, way, &spaces, more), wire)
    }

    #[track_caller]
    fn start_in(lab: &Lab, way: Way, spaces: &[Netns; 2], more: &str) -> TwoNodes {
        let nodes = [1, 2].map(|n| Node::start(lab, &spaces[usize::from(n) - 1], n, way, more));
        let pods = [nodes[0].add_pod(lab, 5), nodes[1].add_pod(lab, 5)];
        TwoNodes { nodes, pods }
    }

    /// Ends both nodes; every frame must be accounted for and nothing left.
    #[track_caller]
    pub fn finish(self) -> [Counters; 2] {
        // Neither namespace may go, and with it the wire, before both daemons are done.
        let _wire = self.nodes.each_ref().map(|node| node.netns.clone());
        self.nodes.map(|node| node.daemon.finish())
    }
}
