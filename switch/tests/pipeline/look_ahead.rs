//! Tables that no cache holds, in which the destinations of many frames are looked up before their turn.

use crate::kit::{Lab, Net, Node, Packet, Via, gateway_mac};
use encap::Prefix;
use std::net::IpAddr;
use switch::heap::HeapFrame;
use switch::tables::{Fib, NextHop};
use switch::{DropReason, PortId};

/// A node with `n` routes more, every other one to pod a, and those between to pod b: to 11.0.0.1, 11.0.1.1 and
/// so on.
fn lab(n: u32) -> (Node, Lab) {
    let node = Node::new(1, Via::Vxlan4);
    let mut tables = node.tables.clone();
    let routes: Vec<_> = (0..n).map(|i| (Prefix::host(remote(i)), i % 2)).collect();
    tables.fib = Fib::build(&routes);
    assert!(tables.fib.is_large());
    tables.next_hops =
        [&node.a, &node.b].map(|pod| NextHop::Local { port: pod.port, mac: pod.mac }).into();
    (node, Lab::new(tables))
}

fn remote(i: u32) -> IpAddr {
    IpAddr::V4((0x0b00_0001 + (i << 8)).into())
}

fn packet(node: &Node, dst: IpAddr) -> Vec<u8> {
    Packet::new(node.a.mac, node.a.v4, gateway_mac(1), dst).udp((1, 2), b"far away")
}

#[test]
fn frames_of_all_sorts() {
    let (node, mut lab) = lab(60_000);
    let to = |dst: &str| HeapFrame::new(&packet(&node, dst.parse().unwrap()));
    let runt = |len| HeapFrame::new(&packet(&node, remote(0))[..len]);
    let frames = vec![to("11.0.0.1"), runt(12), to("11.0.1.1"), runt(33), to("11.0.1.2")];
    let outcome = lab.process(node.a.port, frames);
    let ports: Vec<_> = outcome.sent.iter().map(|(port, _)| *port).collect();
    assert_eq!(ports[..2], [node.a.port, node.b.port]);
    let count = |reason| outcome.drops.iter().find(|d| d.0 == reason).map_or(0, |d| d.1);
    assert_eq!(count(DropReason::EthTruncated), 1);
    assert_eq!(count(DropReason::Ipv4Malformed), 1);
    assert_eq!(count(DropReason::NoRoute), 1);
}

/// More frames than are looked up at once: each goes where its own destination is.
#[test]
fn each_of_many_frames_goes_its_own_way() {
    let (node, mut lab) = lab(60_000);
    let turns = |i: u32| i.wrapping_mul(0x9e37_79b9) >> 8;
    for n in [2, 63, 64, 65, 256, 300] {
        let order: Vec<u32> = (0..n).map(|i| turns(i) % 60_000).collect();
        let frames = order.iter().map(|&i| HeapFrame::new(&packet(&node, remote(i)))).collect();
        let ports: Vec<PortId> =
            lab.process(node.a.port, frames).sent.iter().map(|(port, _)| *port).collect();
        let wanted = order.iter().map(|i| [node.a.port, node.b.port][*i as usize % 2]);
        assert_eq!(ports, wanted.collect::<Vec<_>>(), "{n} frames");
    }
}

/// What the properties of the pipeline are tried with.
#[test]
fn a_net_of_many_routes_is_one() {
    let few = Node::new(1, Via::Vxlan4);
    assert!(!few.tables.fib.is_large());
    let many = Node::with(1, Via::Vxlan4, Net::many_routes);
    assert!(many.tables.fib.is_large());
}
