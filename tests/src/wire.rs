//! The underlay between nodes, where everything can be captured, and tshark's opinion of it.

use std::collections::BTreeSet;

use crate::command::run;
use crate::lab::Lab;
use crate::netns::{Netns, join};
use crate::peers::{Capture, write_pcap};
use crate::tshark::{CHECKS, FAULTS};

/// A bridge that nodes are plugged into.
#[derive(Debug)]
pub struct Wire {
    /// The namespace of the bridge, `br0`.
    pub netns: Netns,
}

impl Wire {
    /// A wire without nodes.
    #[track_caller]
    pub fn new(lab: &Lab) -> Wire {
        Wire::named(lab, "wire")
    }

    /// One of several wires.
    #[track_caller]
    pub fn named(lab: &Lab, name: &str) -> Wire {
        let netns = lab.netns(name);
        netns.ip("link add br0 type bridge mcast_snooping 0");
        netns.ip("link set br0 up promisc on");
        Wire { netns }
    }

    /// Gives a namespace an interface on the wire. Gives the name of the wire's end.
    #[track_caller]
    pub fn plug(&self, node: &Netns, dev: &str) -> String {
        let end = format!("to-{}", node.name().rsplit('-').next().expect("rsplit gives one"));
        join(node, dev, &self.netns, &end);
        self.netns.ip(&format!("link set {end} master br0"));
        end
    }

    /// As [`Wire::plug`], for a kernel that speaks IP itself: its checksums are complete, as they
    /// would be on a cable, and it forwards.
    #[track_caller]
    pub fn plug_kernel(&self, node: &Netns, dev: &str, addresses: &[&str]) {
        self.plug(node, dev);
        node.sh(&format!("ethtool -K {dev} tx off"));
        for address in addresses {
            let nodad = if address.contains(':') { " nodad" } else { "" };
            node.ip(&format!("addr add {address} dev {dev}{nodad}"));
        }
        node.sysctl("net.ipv4.ip_forward", "1");
        node.sysctl("net.ipv6.conf.all.forwarding", "1");
    }

    /// Captures all that passes, until [`Tap::end`].
    #[track_caller]
    pub fn tap(&self) -> Tap {
        Tap(Capture::start(&self.netns, "br0"))
    }
}

/// A capture of the wire that is going on.
#[derive(Debug)]
pub struct Tap(Capture);

impl Tap {
    /// Ends the capture and asserts that tshark finds no fault in it. Gives the protocols of each
    /// kind of packet, one in the other, such as `eth:ethertype:ip:udp:vxlan:eth:ethertype:ip:tcp`.
    #[track_caller]
    pub fn end(self, lab: &Lab) -> Protocols {
        self.check(lab, "frame")
    }

    /// As [`Tap::end`], but faults count only in frames with this source MAC address. For peers whose
    /// own packets tshark complains of, such as those with a zero checksum over IPv6.
    #[track_caller]
    pub fn end_from(self, lab: &Lab, mac: &str) -> Protocols {
        self.check(lab, &format!("eth.src#1 == {mac}"))
    }

    #[track_caller]
    fn check(self, lab: &Lab, whose: &str) -> Protocols {
        let file = lab.folder().join("wire.pcap");
        write_pcap(&file, &self.0.end());
        let tshark = |words: &[&str]| {
            let file = file.to_str().expect("made of ASCII");
            run(&[&["tshark", "-r", file, "-d", "udp.port==8472,vxlan"], &CHECKS[..], words]
                .concat())
            .success()
        };
        let faults = format!("{whose} && {FAULTS}");
        let faults = tshark(&["-Y", &faults, "-e", "frame.number", "-e", "_ws.expert.message"]);
        let first: Vec<&str> = faults.lines().take(5).collect();
        assert!(first.is_empty(), "tshark finds faults: frame, complaint: {first:#?}");
        Protocols(tshark(&["-e", "frame.protocols"]).lines().map(str::to_owned).collect())
    }
}

/// The protocols that were seen on a wire.
#[derive(Debug)]
pub struct Protocols(BTreeSet<String>);

impl Protocols {
    /// Asserts that such packets were seen.
    #[track_caller]
    pub fn assert_seen(&self, protocols: &str) {
        assert!(self.has(protocols), "no {protocols}: {self:#?}");
    }

    /// Whether such packets were seen.
    pub fn has(&self, protocols: &str) -> bool {
        self.0.iter().any(|p| p.starts_with(protocols))
    }
}
