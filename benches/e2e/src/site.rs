//! Where a switch is measured: a namespace for it, one for what sends, one for what receives.

use std::net::Ipv4Addr;

use podswitch_pktgen::load::{Ends, HEADERS, Load, Mac, Sizes, VXLAN_HEADERS, Vxlan};
use podswitch_pktgen::place::Place;
use podswitch_tests::{Lab, Netns, hush};

/// The way that the load takes through a switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Route {
    /// Within a segment.
    Bridged,
    /// Through a router, from a pod to another node, unencapsulated.
    Routed,
    /// From a pod to another node, in VXLAN.
    Encap,
    /// From another node, in VXLAN, to a pod.
    Decap,
}

/// The pod at one side, which is where the load begins or ends.
pub const POD: &str = "10.244.1.5";
/// The pod's gateway.
pub const GATEWAY: &str = "10.244.1.1";
/// A pod of the other node.
pub const FAR_POD: &str = "10.244.2.5";
/// The switch's underlay address, and the other node's.
pub const UNDERLAY: [&str; 2] = ["192.0.2.1", "192.0.2.2"];
/// The inner MAC addresses of the tunnel's ends, ours and the other node's.
pub const VTEP: [&str; 2] = ["02:00:00:00:0a:01", "02:00:00:00:0a:02"];
/// VXLAN's network identifier.
pub const VNI: u32 = 1;
/// The MTU of all links that are made here: room for 1500 bytes and a tunnel header.
const MTU: u32 = 1600;

/// The namespaces of one switch. Interfaces are `eth0` at the ends, `in0` and `out0` at the switch.
#[derive(Debug)]
pub struct Site {
    /// What sends.
    pub from: Netns,
    /// What forwards.
    pub switch: Netns,
    /// What receives.
    pub to: Netns,
}

impl Site {
    /// The namespaces, still without interfaces.
    pub fn new(lab: &Lab, name: &str) -> Site {
        let netns = |end: &str| lab.netns(&format!("{name}{end}"));
        let site = Site { from: netns("f"), switch: netns("s"), to: netns("t") };
        for netns in [&site.from, &site.switch, &site.to] {
            netns.sysctl("net.ipv6.conf.all.disable_ipv6", "1");
            netns.sysctl("net.ipv6.conf.default.disable_ipv6", "1");
            netns.sysctl("net.ipv4.conf.all.rp_filter", "0");
        }
        site
    }

    /// Joins the sending side to the switch.
    pub fn join_in(&self) {
        self.join(&self.from, "in0", 1);
    }

    /// Joins the receiving side to the switch.
    pub fn join_out(&self) {
        self.join(&self.to, "out0", 2);
    }

    fn join(&self, end: &Netns, dev: &str, n: u8) {
        let (size, peer) = (format!("mtu {MTU}"), end.name());
        self.switch.ip(&format!(
            "link add {dev} {size} address 02:00:00:00:01:0{n} type veth \
             peer name eth0 {size} address 02:00:00:00:00:0{n} netns {peer}"
        ));
        for (netns, dev) in [(&self.switch, dev), (end, "eth0")] {
            netns.ip(&format!("link set {dev} up"));
        }
        end.sh("ethtool -K eth0 tx off");
        // So that the driver's NAPI takes what live frames bring, also without an XDP program.
        self.switch.sh(&format!("ethtool -K {dev} gro on"));
    }

    /// Both sides joined, and all kernels silent: nothing but the load is on the wires.
    pub fn join_silently(&self) {
        self.join_in();
        self.join_out();
        for netns in [&self.from, &self.switch, &self.to] {
            hush(netns);
        }
    }

    /// Gives the receiving end GRO, as pods on a busy node have. It takes frames from the backlog of the CPU
    /// that sends all the same while the switch's end has TSO (`veth_xmit`): in one go what the kernel forwards,
    /// and one by one what an AF_XDP socket sends. What arrived is dropped before its IP stack, which
    /// would look up a route for each datagram, on the CPU of the switch that sent it.
    pub fn quicken(&self, lab: &Lab) {
        self.to.sh("ethtool -K eth0 gro on");
        let rules = lab.write(
            "sink.nft",
            "table netdev sink {
                chain arrived {
                    type filter hook ingress device eth0 priority 0;
                    ip protocol udp drop
                }
            }\n",
        );
        self.to.sh(&format!("nft -f {}", rules.display()));
    }

    /// Where the load is sent.
    pub fn place_in(&self) -> Place {
        Place { netns: Some(self.from.path().into()), dev: "eth0".into() }
    }

    /// Where it arrives.
    pub fn place_out(&self) -> Place {
        Place { netns: Some(self.to.path().into()), dev: "eth0".into() }
    }

    /// The load of a route, and where its stamp is when it arrives. `entrance` is the MAC address that
    /// a router listens to.
    pub fn load(&self, route: Route, size: usize, entrance: Option<&str>) -> (Load, usize) {
        let mac = |text: &str| text.parse::<Mac>().expect("a MAC address");
        let ip = |text: &str| text.parse::<Ipv4Addr>().expect("an IPv4 address");
        let source = mac(&self.from.mac("eth0"));
        let target = mac(&entrance.map_or_else(|| self.to.mac("eth0"), str::to_owned));
        let (ends, vxlan) = match route {
            Route::Bridged | Route::Routed | Route::Encap => {
                (Ends { mac: (source, target), ip: (ip(POD), ip(FAR_POD)) }, None)
            }
            Route::Decap => {
                let outer = Ends { mac: (source, target), ip: (ip(UNDERLAY[1]), ip(UNDERLAY[0])) };
                let mac = (mac(VTEP[1]), mac(VTEP[0]));
                let inner = Ends { mac, ip: (ip(FAR_POD), ip(POD)) };
                (inner, Some(Vxlan { ends: outer, vni: VNI, vnis: 1 }))
            }
        };
        let load = Load { sizes: Sizes::Fixed(size), ends, flows: 1, macs: 1, vxlan };
        let stamp_at = if route == Route::Encap { VXLAN_HEADERS + HEADERS } else { HEADERS };
        (load, stamp_at)
    }
}
