//! ARP and ND suppression: who is known is answered for, and nobody else is asked.

use crate::kit::{
    Lab, Net, Node, Packet, Via, arp, arp_request, decode, neighbor_advert, neighbor_solicit,
    read_advert, uplink_mac, vxlan,
};
use encap::Mac;
use etherparse::{ArpOperation, NetSlice, SlicedPacket};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use switch::{DropReason, Location, PortId, SegmentId};

const fn mac(n: u8) -> Mac {
    Mac([2, 0, 0, 0, 1, n])
}

const ALICE: (Mac, Ipv4Addr) = (mac(1), Ipv4Addr::new(10, 9, 0, 1));
const BOB: (Mac, Ipv4Addr) = (mac(2), Ipv4Addr::new(10, 9, 0, 2));
const ALICE6: (Mac, Ipv6Addr) = (mac(1), Ipv6Addr::new(0xfd00, 9, 0, 0, 0, 0, 0, 1));
const BOB6: (Mac, Ipv6Addr) = (mac(2), Ipv6Addr::new(0xfd00, 9, 0, 0, 0, 0, 0, 2));
/// Where neighbours listen for solicitations of an address that ends in `::2`.
const SOLICITED: (Mac, Ipv6Addr) =
    (Mac([0x33, 0x33, 0xff, 0, 0, 2]), Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 2));

/// A segment of four ports that knows Alice on the first and Bob on the second.
fn lab() -> (Lab, Vec<PortId>) {
    let mut net = Net::new();
    let segment = net.segment(false);
    let ports: Vec<_> = (0..4).map(|_| net.access(segment)).collect();
    net.policy(segment).suppress = true;
    let mut know =
        |ip: IpAddr, mac, n: usize| net.neighbor(segment, ip, mac, Location::Port(ports[n]));
    know(ALICE.1.into(), ALICE.0, 0);
    know(BOB.1.into(), BOB.0, 1);
    know(ALICE6.1.into(), ALICE6.0, 0);
    know(BOB6.1.into(), BOB6.0, 1);
    (Lab::new(net.build()), ports)
}

#[track_caller]
fn assert_arp_reply(frame: &[u8], from: (Mac, Ipv4Addr), to: (Mac, Ipv4Addr)) {
    let packet = SlicedPacket::from_ethernet(frame).unwrap();
    let Some(NetSlice::Arp(arp)) = packet.net else { panic!("not ARP") };
    assert_eq!((&frame[..6], &frame[6..12]), (&to.0.0[..], &from.0.0[..]), "Ethernet");
    assert_eq!(arp.operation(), ArpOperation::REPLY);
    assert_eq!(
        (arp.sender_hw_addr(), arp.sender_protocol_addr()),
        (&from.0.0[..], &from.1.octets()[..])
    );
    assert_eq!(
        (arp.target_hw_addr(), arp.target_protocol_addr()),
        (&to.0.0[..], &to.1.octets()[..])
    );
}

#[test]
fn a_request_for_a_known_address_is_answered_and_not_flooded() {
    let (mut lab, p) = lab();
    let request = arp_request(ALICE, Mac::BROADCAST, BOB.1);
    assert_arp_reply(&lab.pass(p[0], &request, p[0]), BOB, ALICE);
    // Padded to 60 bytes, as a NIC does.
    let padded = [request, vec![0x55; 18]].concat();
    assert_arp_reply(&lab.pass(p[0], &padded, p[0]), BOB, ALICE);
    let request = neighbor_solicit(ALICE6, SOLICITED, BOB6.1, 255);
    let reply = lab.pass(p[0], &request, p[0]);
    let seen = decode(&reply);
    assert_eq!((seen.dst_mac, seen.src_mac, seen.padding), (ALICE6.0, BOB6.0, 0));
    let advert = read_advert(&reply);
    assert_eq!((advert.src, advert.dst, advert.hop_limit), (BOB6.1, ALICE6.1, 255));
    assert_eq!((advert.target_mac, advert.target), BOB6);
    assert!(!advert.router && advert.solicited && advert.override_cache);
}

#[test]
fn a_request_for_an_unknown_address_is_flooded_as_it_is() {
    let (mut lab, p) = lab();
    let arp = arp_request(ALICE, Mac::BROADCAST, Ipv4Addr::new(10, 9, 0, 9));
    assert_eq!(lab.send(p[0], &arp), [(p[1], arp.clone()), (p[2], arp.clone()), (p[3], arp)]);
    let nd = neighbor_solicit(ALICE6, SOLICITED, "fd00:9::9:2".parse().unwrap(), 255);
    assert_eq!(lab.ports(p[0], &nd), p[1..]);
}

/// RFC 5227 section 2.1.1 and RFC 4862 section 5.4: asked before use.
#[test]
fn a_probe_for_an_address_in_use_is_answered() {
    let (mut lab, p) = lab();
    let nobody = (mac(7), Ipv4Addr::UNSPECIFIED);
    let probe = arp_request(nobody, Mac::BROADCAST, BOB.1);
    assert_arp_reply(&lab.pass(p[2], &probe, p[2]), BOB, nobody);
    let probe = neighbor_solicit((mac(7), Ipv6Addr::UNSPECIFIED), SOLICITED, BOB6.1, 255);
    let reply = lab.pass(p[2], &probe, p[2]);
    assert_eq!(decode(&reply).dst_mac, Mac([0x33, 0x33, 0, 0, 0, 1]), "to all nodes");
    let advert = read_advert(&reply);
    assert_eq!((advert.target, advert.target_mac, advert.solicited), (BOB6.1, BOB6.0, false));
    assert_eq!(advert.dst, "ff02::1".parse::<Ipv6Addr>().unwrap());
}

#[test]
fn a_probe_for_ones_own_address_is_not_answered_against_oneself() {
    let (mut lab, p) = lab();
    let probe = arp_request((BOB.0, Ipv4Addr::UNSPECIFIED), Mac::BROADCAST, BOB.1);
    assert_eq!(lab.ports(p[1], &probe), [p[0], p[2], p[3]], "the others may object");
    // Nor when Bob probes from another place than he was configured to be at.
    assert_eq!(lab.ports(p[2], &probe), [p[0], p[1], p[3]]);
    let own = (Mac([0x33, 0x33, 0xff, 0, 0, 2]), SOLICITED.1);
    let probe = neighbor_solicit((BOB6.0, Ipv6Addr::UNSPECIFIED), own, BOB6.1, 255);
    assert_eq!(lab.ports(p[1], &probe), [p[0], p[2], p[3]]);
}

#[test]
fn who_asks_behind_the_owners_port_is_heard_by_the_owner() {
    let (mut lab, p) = lab();
    let neighbour = (mac(8), Ipv4Addr::new(10, 9, 0, 8));
    let request = arp_request(neighbour, Mac::BROADCAST, BOB.1);
    assert_eq!(lab.ports(p[1], &request), [p[0], p[2], p[3]]);
}

#[test]
fn announcements_pass() {
    let (mut lab, p) = lab();
    // Gratuitous ARP as request and as reply, of the owner and of somebody who takes over.
    for who in [BOB, (mac(9), BOB.1)] {
        for operation in [ArpOperation::REQUEST, ArpOperation::REPLY] {
            let told = arp(operation, who, Mac::BROADCAST, (Mac::ZERO, who.1));
            assert_eq!(lab.send(p[1], &told), [0, 2, 3].map(|n| (p[n], told.clone())));
        }
    }
    // An unsolicited advertisement (RFC 4861 section 7.2.6).
    let all = (Mac([0x33, 0x33, 0, 0, 0, 1]), "ff02::1".parse().unwrap());
    let told = neighbor_advert(BOB6, all, BOB6.1, Some(BOB6.0));
    assert_eq!(lab.send(p[1], &told), [0, 2, 3].map(|n| (p[n], told.clone())));
    // And the bridge learns from it where Bob is now.
    lab.send(p[3], &told);
    assert_eq!(lab.fdb.lookup(SegmentId(0), BOB6.0, lab.now.seconds()), Some(Location::Port(p[3])));
}

#[test]
fn what_is_asked_in_person_reaches_the_person() {
    let (mut lab, p) = lab();
    lab.send(p[1], &arp(ArpOperation::REPLY, BOB, Mac::BROADCAST, BOB));
    let request = arp_request(ALICE, BOB.0, BOB.1);
    assert_eq!(lab.pass(p[0], &request, p[1]), request);
    let request = neighbor_solicit(ALICE6, BOB6, BOB6.1, 255);
    assert_eq!(lab.pass(p[0], &request, p[1]), request);
    let reply = arp(ArpOperation::REPLY, ALICE, BOB.0, BOB);
    assert_eq!(lab.pass(p[0], &reply, p[1]), reply);
}

#[test]
fn other_kinds_of_arp_are_carried() {
    let (mut lab, p) = lab();
    let request = arp_request(ALICE, Mac::BROADCAST, BOB.1);
    for (at, value) in [(15, 6), (16, 0x86), (18, 8), (21, 3)] {
        let mut other = request.clone();
        other[at] = value;
        assert_eq!(lab.send(p[0], &other)[0], (p[1], other.clone()), "byte {at}");
    }
    assert_eq!(lab.ports(p[0], &request[..30]), p[1..], "cut short");
    // In a VLAN of its own, addresses mean something else.
    let tagged = [&request[..12], &[0x81, 0, 0, 42], &request[12..]].concat();
    assert_eq!(lab.send(p[0], &tagged)[2], (p[3], tagged.clone()));
}

#[test]
fn a_forged_solicitation_is_not_answered() {
    let (mut lab, p) = lab();
    let far = neighbor_solicit(ALICE6, SOLICITED, BOB6.1, 254);
    assert_eq!(lab.dropped(p[0], &far), DropReason::IcmpMalformed, "it came through a router");
    let mut broken = neighbor_solicit(ALICE6, SOLICITED, BOB6.1, 255);
    broken[56] ^= 1;
    assert_eq!(lab.dropped(p[0], &broken), DropReason::IcmpMalformed, "its checksum");
}

#[test]
fn without_suppression_everything_is_flooded() {
    let (lab, p) = lab();
    let mut tables = lab.tables.clone();
    std::sync::Arc::make_mut(tables.segments[0].as_mut().unwrap()).policy.suppress = false;
    let mut lab = Lab::new(tables);
    assert_eq!(lab.ports(p[0], &arp_request(ALICE, Mac::BROADCAST, BOB.1)), p[1..]);
    assert_eq!(lab.ports(p[0], &neighbor_solicit(ALICE6, SOLICITED, BOB6.1, 255)), p[1..]);
}

/// Two nodes of a segment: whoever asks across is answered by the first switch that knows.
#[test]
fn suppression_spans_the_overlay() {
    let mut node = Node::new(1, Via::Vxlan4);
    let at = Location::Tunnel(crate::kit::tunnels::BLUE);
    let blue = std::sync::Arc::make_mut(node.tables.segments[node.blue.index()].as_mut().unwrap());
    blue.policy.suppress = true;
    let (bob, alice) = (
        switch::tables::Neighbor { mac: BOB.0, at },
        switch::tables::Neighbor { mac: ALICE.0, at: Location::Port(node.blue_ports[0]) },
    );
    blue.neighbors.insert(BOB.1.into(), bob);
    blue.neighbors.insert(ALICE.1.into(), alice);
    let mut lab = Lab::new(node.tables.clone());
    let here = node.blue_ports[0];
    assert_arp_reply(&lab.pass(here, &arp_request(ALICE, Mac::BROADCAST, BOB.1), here), BOB, ALICE);
    // The other way: asked through the tunnel, answered through it.
    let outer = Packet::text(uplink_mac(2), "192.0.2.2", uplink_mac(1), "192.0.2.1");
    let asked = vxlan(&outer, 4789, 100, &arp_request(BOB, Mac::BROADCAST, ALICE.1));
    let answer = decode(&lab.pass(node.uplink, &asked, node.uplink));
    assert_eq!(answer.dst.to_string(), "192.0.2.2");
    assert_arp_reply(answer.vxlan().1, ALICE, BOB);
    // Through a tunnel about somebody behind the same tunnel: neither answered nor sent back.
    let asked = arp_request((mac(7), Ipv4Addr::new(10, 9, 0, 7)), Mac::BROADCAST, BOB.1);
    assert_eq!(lab.ports(node.uplink, &vxlan(&outer, 4789, 100, &asked)), node.blue_ports);
}
