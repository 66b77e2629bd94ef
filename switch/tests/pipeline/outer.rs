//! The choices that a tunnel's outer header leaves: DF, DSCP, source ports.

use crate::kit::{Lab, Node, Packet, Seen, Via, decode, gateway_mac};
use std::collections::HashSet;
use std::sync::Arc;
use switch::tables::OuterPolicy;

const TUNNELS: [Via; 4] = [Via::Vxlan4, Via::Vxlan6, Via::Ipip4, Via::Ipip6];

fn lab(via: Via, outer: &OuterPolicy) -> (Node, Lab) {
    let node = Node::new(1, via);
    let mut tables = node.tables.clone();
    for tunnel in tables.tunnels.iter_mut().flatten() {
        Arc::make_mut(tunnel).outer = outer.clone();
    }
    (node, Lab::new(tables))
}

fn from_pod(node: &Node, v4: bool) -> Packet {
    let (src, dst) = if v4 { (node.a.v4, "10.244.2.10") } else { (node.a.v6, "fd00:10:244:2::10") };
    Packet::new(node.a.mac, src, gateway_mac(1), dst.parse().unwrap())
}

/// The outer header of a packet sent into the tunnel, and its identification if it is IPv4.
fn sent(lab: &mut Lab, node: &Node, frame: &[u8]) -> (Seen, u16) {
    let out = lab.pass(node.a.port, frame, node.uplink);
    (decode(&out), u16::from_be_bytes([out[18], out[19]]))
}

/// RFC 6864: a packet that may be fragmented has an identification of its own, one that may not has
/// none. RFC 2003 section 3.1: what may not be fragmented inside IPIP may not be outside.
#[test]
fn df_and_identification() {
    for (via, df, inner_df, want) in [
        (Via::Vxlan4, true, false, true),
        (Via::Vxlan4, false, false, false),
        (Via::Vxlan4, false, true, false),
        (Via::Ipip4, true, false, true),
        (Via::Ipip4, false, false, false),
        (Via::Ipip4, false, true, true),
    ] {
        let (node, mut lab) =
            lab(via, &OuterPolicy { dont_fragment: df, ..OuterPolicy::default() });
        let mut idents = HashSet::new();
        for n in 0..1000 {
            let mut packet = from_pod(&node, true);
            if !inner_df {
                packet = packet.may_fragment(n);
            }
            let (seen, ident) = sent(&mut lab, &node, &packet.udp((1, 2), b"same flow"));
            assert_eq!(seen.dont_fragment, want, "{via:?} df = {df}, inner {inner_df}");
            idents.insert(ident);
        }
        assert_eq!(idents.len(), if want { 1 } else { 1000 });
        assert!(!want || idents.contains(&0));
    }
    // An inner IPv6 packet has no DF to copy (RFC 4213 section 3.2.1).
    let (node, mut lab) =
        lab(Via::Ipip4, &OuterPolicy { dont_fragment: false, ..OuterPolicy::default() });
    assert!(!sent(&mut lab, &node, &from_pod(&node, false).udp((1, 2), b"")).0.dont_fragment);
}

/// The DSCP is the inner one (RFC 2983 uniform model) or a fixed one; ECN is RFC 6040's either way.
#[test]
fn dscp_and_ecn() {
    for via in TUNNELS {
        for v4 in [true, false] {
            for inner in [0, 1, 2, 3, 0x2e << 2, 0xff] {
                for (dscp, want) in
                    [(None, inner), (Some(0), inner & 3), (Some(46), 46 << 2 | inner & 3)]
                {
                    let (node, mut lab) = lab(via, &OuterPolicy { dscp, ..OuterPolicy::default() });
                    let frame = from_pod(&node, v4).tos(inner).udp((1, 2), b"");
                    assert_eq!(sent(&mut lab, &node, &frame).0.tos, want, "{via:?} {dscp:?}");
                }
            }
        }
    }
}

/// Every flow in the range, and the range made use of.
#[test]
fn source_ports() {
    for via in [Via::Vxlan4, Via::Vxlan6] {
        for range in [5000..=5007, 443..=443, 1..=65535] {
            let outer = OuterPolicy { source_ports: range.clone(), ..OuterPolicy::default() };
            let (node, mut lab) = lab(via, &outer);
            let ports: HashSet<u16> = (0..200)
                .map(|n| sent(&mut lab, &node, &from_pod(&node, true).udp((n, 2), b"")).0.ports.0)
                .collect();
            assert!(ports.iter().all(|port| range.contains(port)), "{range:?}: {ports:?}");
            assert!(ports.len() >= range.len().min(150), "{range:?}: {} ports", ports.len());
        }
    }
}

/// All fragments of a packet have one source port, though only the first has ports of its own (RFC
/// 7348 section 5: the path must be the flow's).
#[test]
fn fragments_take_one_way() {
    let (node, mut lab) = lab(Via::Vxlan4, &OuterPolicy::default());
    for v4 in [true, false] {
        let ports: HashSet<u16> = [(0, true), (185, true), (370, false)]
            .map(|(offset, more)| {
                let first = if offset == 0 { 0x11 } else { 0x77 };
                from_pod(&node, v4).fragment(offset, more).carry(17, &[first; 64])
            })
            .map(|frame| sent(&mut lab, &node, &frame).0.ports.0)
            .into();
        assert_eq!(ports.len(), 1);
    }
}

/// RFC 6438 section 3, RFC 6437 section 2: a flow keeps one label, which is never zero; flows differ.
#[test]
fn flow_labels() {
    for via in [Via::Vxlan6, Via::Ipip6] {
        let (node, mut lab) = lab(via, &OuterPolicy::default());
        let mut label = |frame: &[u8]| {
            let out = lab.pass(node.a.port, frame, node.uplink);
            etherparse::Ipv6HeaderSlice::from_slice(&out[14..]).unwrap().flow_label().value()
        };
        for v4 in [true, false] {
            let mut labels = HashSet::new();
            for port in 0..200 {
                let of_flow = label(&from_pod(&node, v4).udp((port, 2), b"first"));
                assert_ne!(of_flow, 0);
                assert_eq!(label(&from_pod(&node, v4).tos(3).udp((port, 2), &[0; 900])), of_flow);
                labels.insert(of_flow);
            }
            assert!(labels.len() > 190, "{via:?}: {} labels", labels.len());
        }
    }
}
