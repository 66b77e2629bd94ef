//! Equal-cost next hops (RFC 2991, RFC 2992): flows spread, and each keeps its way.

use crate::kit::{Lab, Node, Packet, Via, decode, gateway_mac, uplink_mac};
use encap::Mac;
use std::collections::HashMap;
use switch::tables::{Fib, Group, NextHop};
use switch::{DropReason, PortId};

const FLOWS: u16 = 2000;

fn peer(n: u8) -> Mac {
    Mac([2, 0, 0, 0, 9, n])
}

/// A node whose route to the world is shared by these peers on its uplink.
fn lab(peers: &[u8]) -> (Node, Lab, PortId) {
    let node = Node::new(1, Via::Vxlan4);
    let uplink = node.uplink;
    let hop = |&n: &u8| {
        let (src, dst) = (uplink_mac(1), Some(peer(n)));
        (u64::from(n), NextHop::Direct { port: uplink, src, dst })
    };
    let members: Vec<_> = peers.iter().map(hop).collect();
    let mut tables = node.tables.clone();
    let any = ["0.0.0.0/0", "::/0"].map(|p| (p.parse().unwrap(), 0));
    tables.fib = Fib::build(&any);
    tables.next_hops = [NextHop::Group(0)].into();
    tables.groups = [Group::new(&members)].into();
    (node, Lab::new(tables), uplink)
}

/// The peer that each flow goes to.
fn ways(peers: &[u8], dst: &str) -> Vec<Mac> {
    let (node, mut lab, uplink) = lab(peers);
    let dst: std::net::IpAddr = dst.parse().unwrap();
    let src = if dst.is_ipv4() { node.a.v4 } else { node.a.v6 };
    let packet = Packet::new(node.a.mac, src, gateway_mac(1), dst);
    (0..FLOWS)
        .map(|port| {
            let first = decode(&lab.pass(node.a.port, &packet.udp((port, 53), b"a"), uplink));
            let again = decode(&lab.pass(node.a.port, &packet.udp((port, 53), b"more"), uplink));
            assert_eq!(first.dst_mac, again.dst_mac, "packets of one flow went two ways");
            assert_eq!(first.src_mac, uplink_mac(1));
            first.dst_mac
        })
        .collect()
}

#[test]
fn flows_spread_over_all_ways() {
    for dst in ["198.51.100.1", "2001:db8:99::1"] {
        let mut share: HashMap<Mac, usize> = HashMap::new();
        for mac in ways(&[1, 2, 3, 4], dst) {
            *share.entry(mac).or_default() += 1;
        }
        assert_eq!(share.len(), 4);
        let fair = usize::from(FLOWS) / 4;
        assert!(share.values().all(|n| (fair / 2..fair * 2).contains(n)), "{share:?}");
    }
}

#[test]
fn a_way_that_goes_moves_only_its_own_flows() {
    let before = ways(&[1, 2, 3, 4], "198.51.100.1");
    let after = ways(&[1, 2, 4], "198.51.100.1");
    for (b, a) in before.iter().zip(&after) {
        assert_eq!(*b == peer(3), a != b);
    }
}

#[test]
fn fragments_of_a_packet_go_one_way() {
    let (node, mut lab, uplink) = lab(&[1, 2, 3, 4]);
    let dst = "198.51.100.1".parse().unwrap();
    let whole = Packet::new(node.a.mac, node.a.v4, gateway_mac(1), dst);
    let first =
        lab.pass(node.a.port, &whole.clone().fragment(0, true).udp((1, 2), &[0; 32]), uplink);
    // Of a later fragment the bytes where ports would be are data, different in each.
    for fill in 0..50u8 {
        let later = whole.clone().fragment(40, false).carry(17, &[fill; 40]);
        let later = lab.pass(node.a.port, &later, uplink);
        assert_eq!(decode(&later).dst_mac, decode(&first).dst_mac);
    }
}

#[test]
fn a_group_that_is_not_there_is_no_route() {
    let (node, mut lab, _) = lab(&[1, 2]);
    lab.tables.groups = [].into();
    let dst = "198.51.100.1".parse().unwrap();
    let packet = Packet::new(node.a.mac, node.a.v4, gateway_mac(1), dst);
    assert_eq!(lab.refused(node.a.port, &packet.udp((1, 2), b"x")).0, DropReason::NoRoute);
}
