//! Anti-spoofing: a guarded pod says only what is its own.

use crate::kit::{
    Lab, Net, Packet, arp, arp_request, neighbor_advert, neighbor_solicit, router_solicit,
};
use encap::Mac;
use etherparse::ArpOperation;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use switch::{DropReason, Location, PortId};

const fn mac(n: u8) -> Mac {
    Mac([2, 0, 0, 0, 1, n])
}

const POD: Mac = mac(1);
const IP: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
const SECOND: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 3);
const IP6: Ipv6Addr = Ipv6Addr::new(0xfd00, 9, 0, 0, 0, 0, 0, 1);
const LINK: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0xd, 0xa, 0xb, 0xc);
/// Another pod.
const OTHER: Mac = mac(2);
const OTHER_IP: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);
const OTHER_IP6: Ipv6Addr = Ipv6Addr::new(0xfd00, 9, 0, 0, 0, 0, 0, 2);
const NOBODYS: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 77);
const NOBODYS6: Ipv6Addr = Ipv6Addr::new(0xfd00, 9, 0, 0, 0, 0, 0, 0x77);
const ALL_NODES: (Mac, Ipv6Addr) =
    (Mac([0x33, 0x33, 0, 0, 0, 1]), Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1));

fn solicited(ip: Ipv6Addr) -> (Mac, Ipv6Addr) {
    let [.., a, b, c] = ip.octets();
    let group =
        Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), u16::from_be_bytes([b, c]));
    (Mac([0x33, 0x33, 0xff, a, b, c]), group)
}

/// A segment with a guarded pod of three addresses, a second pod, and a bridge port.
struct Guarded {
    lab: Lab,
    pod: PortId,
    other: PortId,
    bridge: PortId,
}

fn guarded() -> Guarded {
    let mut net = Net::new();
    let segment = net.segment(false);
    net.policy(segment).suppress = true;
    let pod = net.guarded(segment, POD, &["10.9.0.1", "10.9.0.3", "fd00:9::1"]);
    let other = net.guarded(segment, OTHER, &["10.9.0.2", "fd00:9::2"]);
    let bridge = net.access(segment);
    Guarded { lab: Lab::new(net.build()), pod, other, bridge }
}

impl Guarded {
    /// The pod's frame passes, unchanged, also with tags.
    #[track_caller]
    fn passes(&mut self, frame: &[u8]) {
        for tags in TAGS {
            let frame = with_tags(frame, tags);
            let sent = self.lab.send(self.pod, &frame);
            assert!(!sent.is_empty());
            assert!(sent.iter().all(|(_, bytes)| *bytes == frame), "tags {tags:02x?}");
        }
    }

    /// The pod's frame is dropped, also with tags.
    #[track_caller]
    fn refuses(&mut self, frame: &[u8], reason: DropReason) {
        for tags in TAGS {
            assert_eq!(self.lab.dropped(self.pod, &with_tags(frame, tags)), reason, "{tags:02x?}");
        }
        assert_eq!(self.lab.fdb.count_in(switch::SegmentId(0)), 0, "nothing is learned from it");
    }
}

/// No tag, a priority tag, a VLAN, and a VLAN in a VLAN.
const TAGS: [&[u8]; 4] =
    [&[], &[0x81, 0, 0xe0, 0], &[0x81, 0, 0, 42], &[0x88, 0xa8, 0, 7, 0x81, 0, 0, 42]];

fn with_tags(frame: &[u8], tags: &[u8]) -> Vec<u8> {
    [&frame[..12], tags, &frame[12..]].concat()
}

fn packet(src: impl Into<IpAddr>, dst: impl Into<IpAddr>) -> Packet {
    Packet::new(POD, src.into(), OTHER, dst.into())
}

#[test]
fn a_pod_speaks_for_itself() {
    let mut g = guarded();
    for src in [IP, SECOND] {
        g.passes(&packet(src, OTHER_IP).udp((1, 2), b"hello"));
    }
    g.passes(&packet(IP6, OTHER_IP6).tcp((1, 2), b"hello"));
    g.passes(&[&OTHER.0[..], &POD.0, &[0x88, 0xb5], b"no IP at all"].concat());
    // Options, fragments, extension headers and padding hide nothing and break nothing.
    g.passes(&packet(IP, OTHER_IP).options(&[1; 40]).udp((1, 2), b""));
    g.passes(&packet(IP, OTHER_IP).fragment(9, true).carry(17, b"the middle"));
    g.passes(&packet(IP6, OTHER_IP6).fragment(9, false).carry(17, b"the end"));
    g.passes(&packet(IP6, OTHER_IP6).carry(60, &[17, 0, 1, 4, 0, 0, 0, 0, 0, 1, 0, 2, 0, 8, 0, 0]));
    g.passes(&[packet(IP, OTHER_IP).udp((1, 2), b"short"), vec![0; 13]].concat());
}

#[test]
fn frames_of_64_kib_are_checked_by_their_first_buffer() {
    let mut g = guarded();
    let large = |src: IpAddr, dst: IpAddr| packet(src, dst).udp((1, 2), &[0x5a; 65_000]);
    for (own, other, dst) in [
        (IpAddr::V4(IP), IpAddr::V4(OTHER_IP), IpAddr::V4(OTHER_IP)),
        (IP6.into(), OTHER_IP6.into(), OTHER_IP6.into()),
    ] {
        g.passes(&large(own, dst));
        g.refuses_large(&large(other, dst));
    }
}

impl Guarded {
    #[track_caller]
    fn refuses_large(&mut self, frame: &[u8]) {
        assert_eq!(self.lab.dropped(self.pod, frame), DropReason::SpoofedIp);
    }
}

#[test]
fn another_source_mac() {
    let mut g = guarded();
    for src in [OTHER, mac(0x99)] {
        let frame = Packet::new(src, IP.into(), OTHER, OTHER_IP.into()).udp((1, 2), b"");
        g.refuses(&frame, DropReason::SpoofedMac);
        g.refuses(&[&[0xff; 6][..], &src.0, &[0x88, 0xb5, 1, 2]].concat(), DropReason::SpoofedMac);
    }
    // Whoever is not guarded may: what is behind a bridge port is not known.
    g.lab.send(g.bridge, &[&[0xff; 6][..], &mac(0x99).0, &[0x88, 0xb5, 1, 2]].concat());
}

#[test]
fn another_ip_source() {
    let mut g = guarded();
    for src in [OTHER_IP, NOBODYS, Ipv4Addr::UNSPECIFIED, Ipv4Addr::new(169, 254, 0, 1)] {
        g.refuses(&packet(src, OTHER_IP).udp((1, 2), b""), DropReason::SpoofedIp);
        g.refuses(&packet(src, OTHER_IP).options(&[1; 8]).tcp((1, 2), b""), DropReason::SpoofedIp);
        let fragment = packet(src, OTHER_IP).fragment(100, false).carry(17, b"the end");
        g.refuses(&fragment, DropReason::SpoofedIp);
    }
    for src in [OTHER_IP6, NOBODYS6, "::1".parse().unwrap(), "ff02::1".parse().unwrap()] {
        g.refuses(&packet(src, OTHER_IP6).udp((1, 2), b""), DropReason::SpoofedIp);
        g.refuses(
            &packet(src, OTHER_IP6).carry(60, &[59, 0, 1, 4, 0, 0, 0, 0]),
            DropReason::SpoofedIp,
        );
    }
    // An IPv4 pod has no IPv6 address but those of its link.
    g.refuses(&packet(Ipv6Addr::UNSPECIFIED, OTHER_IP6).udp((1, 2), b""), DropReason::SpoofedIp);
}

#[test]
fn malformed_headers_are_no_way_around() {
    let mut g = guarded();
    let v4 = packet(IP, OTHER_IP).udp((1, 2), b"");
    for len in [14, 20, 33] {
        assert_eq!(g.lab.dropped(g.pod, &v4[..len]), DropReason::Ipv4Malformed);
    }
    let v6 = packet(IP6, OTHER_IP6).udp((1, 2), b"");
    for len in [14, 30, 53] {
        assert_eq!(g.lab.dropped(g.pod, &v6[..len]), DropReason::Ipv6Malformed);
    }
    let endless = packet(IP6, OTHER_IP6).carry(60, &[60, 0, 1, 4, 0, 0, 0, 0].repeat(12));
    assert_eq!(g.lab.dropped(g.pod, &endless), DropReason::Ipv6Malformed);
    let arp = arp_request((POD, IP), Mac::BROADCAST, OTHER_IP);
    assert_eq!(g.lab.dropped(g.pod, &arp[..40]), DropReason::ArpMalformed);
    let tags = [0x81, 0, 0, 1].repeat(5);
    assert_eq!(
        g.lab.dropped(g.pod, &with_tags(&v4, &tags)),
        DropReason::SpoofedIp,
        "too many tags"
    );
    assert_eq!(g.lab.dropped(g.pod, &with_tags(&v4, &tags)[..26]), DropReason::EthTruncated);
}

/// RFC 2131 section 4.1: from nobody, to everybody.
#[test]
fn dhcp_without_an_address() {
    let mut g = guarded();
    let all = Ipv4Addr::BROADCAST;
    g.passes(&packet(Ipv4Addr::UNSPECIFIED, all).udp((68, 67), b"discover"));
    for frame in [
        packet(Ipv4Addr::UNSPECIFIED, all).udp((68, 68), b""),
        packet(Ipv4Addr::UNSPECIFIED, all).tcp((68, 67), b""),
        packet(Ipv4Addr::UNSPECIFIED, OTHER_IP).udp((68, 67), b""),
        packet(Ipv4Addr::UNSPECIFIED, all).fragment(0, true).carry(17, &[0, 68, 0, 67, 0, 8, 0, 0]),
    ] {
        g.refuses(&frame, DropReason::SpoofedIp);
    }
}

#[test]
fn arp_of_its_own() {
    let mut g = guarded();
    for ip in [IP, SECOND] {
        g.passes(&arp_request((POD, ip), Mac::BROADCAST, NOBODYS));
        g.passes(&arp(ArpOperation::REPLY, (POD, ip), OTHER, (OTHER, OTHER_IP)));
        g.passes(&arp(ArpOperation::REQUEST, (POD, ip), Mac::BROADCAST, (Mac::ZERO, ip)));
        g.passes(&arp_request((POD, Ipv4Addr::UNSPECIFIED), Mac::BROADCAST, ip));
    }
}

#[test]
fn arp_that_claims_anothers_address() {
    let mut g = guarded();
    for ip in [OTHER_IP, NOBODYS] {
        for (operation, to) in
            [(ArpOperation::REPLY, OTHER), (ArpOperation::REQUEST, Mac::BROADCAST)]
        {
            // As a request or reply, and as an announcement.
            g.refuses(&arp(operation, (POD, ip), to, (OTHER, OTHER_IP)), DropReason::SpoofedArp);
            g.refuses(&arp(operation, (POD, ip), to, (Mac::ZERO, ip)), DropReason::SpoofedArp);
        }
    }
    // The right IP with another MAC, in an Ethernet frame that is the pod's own.
    let mut reply = arp(ArpOperation::REPLY, (OTHER, IP), OTHER, (OTHER, OTHER_IP));
    reply[6..12].copy_from_slice(&POD.0);
    g.refuses(&reply, DropReason::SpoofedArp);
    let nobody = (POD, Ipv4Addr::UNSPECIFIED);
    g.refuses(&arp(ArpOperation::REPLY, nobody, OTHER, (OTHER, OTHER_IP)), DropReason::SpoofedArp);
}

/// RFC 5227: a probe makes who is probing the same address give it up. One for an address that is
/// known to be taken is answered, so that the pod sees its mistake.
#[test]
fn arp_probes_for_anothers_address() {
    let mut g = guarded();
    let probe = |ip| arp_request((POD, Ipv4Addr::UNSPECIFIED), Mac::BROADCAST, ip);
    g.refuses(&probe(NOBODYS), DropReason::SpoofedArp);
    let reply = g.lab.pass(g.pod, &probe(OTHER_IP), g.pod);
    assert_eq!(reply[6..12], OTHER.0);
}

#[test]
fn link_local_sources_and_nobody() {
    let mut g = guarded();
    g.passes(&packet(LINK, ALL_NODES.1).udp((546, 547), b"DHCPv6"));
    g.passes(&neighbor_solicit((POD, LINK), solicited(NOBODYS6), NOBODYS6, 255));
    g.passes(&router_solicit((POD, LINK), Some(POD)));
    g.passes(&router_solicit((POD, Ipv6Addr::UNSPECIFIED), None));
    let mld: Ipv6Addr = "ff02::16".parse().unwrap();
    // MLDv2, behind a hop-by-hop option as RFC 3810 section 5 wants it.
    let report = [&[58, 0, 5, 2, 0, 0, 1, 0, 143, 0][..], &[0; 26]].concat();
    g.passes(&packet(Ipv6Addr::UNSPECIFIED, mld).carry(0, &report));
    g.passes(&packet(LINK, mld).carry(0, &report));
    let echo = packet(Ipv6Addr::UNSPECIFIED, ALL_NODES.1).echo(1, 1, b"");
    g.refuses(&echo, DropReason::SpoofedIp);
    let end = packet(Ipv6Addr::UNSPECIFIED, ALL_NODES.1).fragment(9, false).carry(58, &[0; 16]);
    g.refuses(&end, DropReason::SpoofedIp);
}

#[test]
fn neighbour_discovery_of_its_own() {
    let mut g = guarded();
    for target in [IP6, LINK] {
        let probe = neighbor_solicit((POD, Ipv6Addr::UNSPECIFIED), solicited(target), target, 255);
        g.passes(&probe);
        for lladdr in [Some(POD), None] {
            g.passes(&neighbor_advert((POD, target), ALL_NODES, target, lladdr));
        }
    }
    g.passes(&neighbor_solicit((POD, IP6), solicited(NOBODYS6), NOBODYS6, 255));
}

#[test]
fn neighbour_discovery_that_claims_anothers_address() {
    let mut g = guarded();
    let nd = DropReason::SpoofedNd;
    for target in [OTHER_IP6, NOBODYS6] {
        for src in [IP6, LINK] {
            g.refuses(&neighbor_advert((POD, src), ALL_NODES, target, Some(POD)), nd);
        }
        g.refuses(
            &neighbor_advert((POD, target), ALL_NODES, target, Some(POD)),
            DropReason::SpoofedIp,
        );
    }
    g.refuses(&neighbor_advert((POD, IP6), ALL_NODES, IP6, Some(OTHER)), nd);
    // Somebody else's MAC in a solicitation would poison the asked one's cache.
    let mut ask = neighbor_solicit((OTHER, IP6), solicited(NOBODYS6), NOBODYS6, 255);
    ask[6..12].copy_from_slice(&POD.0);
    g.refuses(&ask, nd);
    g.refuses(&router_solicit((POD, LINK), Some(OTHER)), nd);
    // The second of two options is looked at too.
    let own = [1, 1, 2, 0, 0, 0, 1, 1];
    let two =
        [&[135, 0, 0, 0, 0, 0, 0, 0][..], &NOBODYS6.octets(), &own, &[1, 1, 2, 0, 0, 0, 1, 2]];
    g.refuses(&packet(IP6, solicited(NOBODYS6).1).carry(58, &two.concat()), nd);
    let empty = [&[135, 0, 0, 0, 0, 0, 0, 0][..], &NOBODYS6.octets(), &[1, 0, 0, 0, 0, 0, 0, 0]];
    let empty = packet(IP6, solicited(NOBODYS6).1).carry(58, &empty.concat());
    g.refuses(&empty, DropReason::IcmpMalformed);
}

#[test]
fn probes_for_anothers_ipv6_address() {
    let mut g = guarded();
    let probe = |ip| neighbor_solicit((POD, Ipv6Addr::UNSPECIFIED), solicited(ip), ip, 255);
    g.refuses(&probe(NOBODYS6), DropReason::SpoofedNd);
    let reply = g.lab.pass(g.pod, &probe(OTHER_IP6), g.pod);
    assert_eq!(reply[6..12], OTHER.0);
}

/// RFC 6105 and RFC 7113: no pod is a router, by extension headers and fragments neither.
#[test]
fn a_pod_is_no_router() {
    let mut g = guarded();
    for kind in [134, 137] {
        let message = [&[kind, 0, 0, 0, 64, 0, 7, 8][..], &[0; 32]].concat();
        for src in [LINK, IP6] {
            let packet = packet(src, ALL_NODES.1);
            g.refuses(&packet.carry(58, &message), DropReason::SpoofedNd);
            let behind = [&[58, 0, 1, 4, 0, 0, 0, 0][..], &message].concat();
            g.refuses(&packet.carry(60, &behind), DropReason::SpoofedNd);
            g.refuses(&packet.carry(0, &behind), DropReason::SpoofedNd);
            let first = packet.clone().fragment(0, true).carry(58, &message);
            g.refuses(&first, DropReason::SpoofedNd);
            // The type pushed into the next fragment.
            g.refuses(&packet.clone().fragment(0, true).carry(58, &[]), DropReason::SpoofedNd);
        }
    }
    // RFC 6980: neighbour discovery does not come in fragments.
    let advert = neighbor_advert((POD, IP6), ALL_NODES, IP6, Some(POD));
    let pieces = packet(IP6, ALL_NODES.1).fragment(0, true).carry(58, &advert[54..]);
    g.refuses(&pieces, DropReason::SpoofedNd);
}

#[test]
fn a_pod_without_known_addresses_may_have_any_that_nobody_has() {
    let mut net = Net::new();
    let segment = net.segment(true);
    let pod = net.guarded(segment, POD, &[]);
    net.guarded(segment, OTHER, &["10.9.0.2", "fd00:9::2"]);
    net.router(mac(0xfe), &["10.9.0.254"]);
    let mut lab = Lab::new(net.build());
    let gateway = Ipv4Addr::new(10, 9, 0, 254);
    assert!(!lab.send(pod, &packet(NOBODYS, OTHER_IP).udp((1, 2), b"")).is_empty());
    assert!(!lab.send(pod, &arp_request((POD, NOBODYS), Mac::BROADCAST, IP)).is_empty());
    for taken in [OTHER_IP, gateway] {
        let spoofed = packet(taken, NOBODYS).udp((1, 2), b"");
        assert_eq!(lab.dropped(pod, &spoofed), DropReason::SpoofedIp);
        let claim = arp(ArpOperation::REPLY, (POD, taken), Mac::BROADCAST, (POD, taken));
        assert_eq!(lab.dropped(pod, &claim), DropReason::SpoofedArp);
    }
    let advert = neighbor_advert((POD, LINK), ALL_NODES, OTHER_IP6, Some(POD));
    assert_eq!(lab.dropped(pod, &advert), DropReason::SpoofedNd);
    let raw = [&[0xff; 6][..], &mac(9).0, &[0x88, 0xb5]].concat();
    assert_eq!(lab.dropped(pod, &raw), DropReason::SpoofedMac);
}

/// Where the router does not serve a segment, its address is free there.
#[test]
fn the_gateways_address_in_a_segment_without_it() {
    let mut net = Net::new();
    let segment = net.segment(false);
    let (pod, other) = (net.guarded(segment, POD, &[]), net.access(segment));
    let gateway = Ipv4Addr::new(10, 9, 0, 254);
    net.router(mac(0xfe), &["10.9.0.254"]);
    let mut lab = Lab::new(net.build());
    lab.pass(pod, &packet(gateway, OTHER_IP).udp((1, 2), b""), other);
    lab.pass(pod, &arp_request((POD, gateway), Mac::BROADCAST, IP), other);
}

/// A frame to the router is checked before it is routed.
#[test]
fn spoofed_packets_are_not_routed() {
    let mut net = Net::new();
    let segment = net.segment(true);
    net.router(mac(0xfe), &["10.9.0.254"]);
    let pod = net.guarded(segment, POD, &["10.9.0.1"]);
    let other = net.guarded(segment, OTHER, &["10.9.0.2"]);
    let mut lab = Lab::new(net.build());
    let to_router = |src: Ipv4Addr| Packet::new(POD, src.into(), mac(0xfe), OTHER_IP.into());
    lab.pass(pod, &to_router(IP).udp((1, 2), b""), other);
    assert_eq!(lab.dropped(pod, &to_router(OTHER_IP).udp((1, 2), b"")), DropReason::SpoofedIp);
    assert_eq!(lab.dropped(pod, &to_router(NOBODYS).echo(1, 1, b"")), DropReason::SpoofedIp);
}

/// One pod, an interface in each of two segments with the same MAC address and another IP address:
/// neither speaks for the other.
#[test]
fn a_pod_in_two_segments() {
    let mut net = Net::new();
    let [red, blue] = [net.segment(false), net.segment(false)];
    let in_red = net.guarded(red, POD, &["10.9.0.1"]);
    let in_blue = net.guarded(blue, POD, &["10.9.0.3"]);
    let [red_other, blue_other] = [net.access(red), net.access(blue)];
    let mut lab = Lab::new(net.build());
    let all = |src: Ipv4Addr| {
        Packet::new(POD, src.into(), Mac::BROADCAST, Ipv4Addr::BROADCAST.into()).udp((1, 2), b"")
    };
    lab.pass(in_red, &all(IP), red_other);
    lab.pass(in_blue, &all(SECOND), blue_other);
    assert_eq!(lab.dropped(in_red, &all(SECOND)), DropReason::SpoofedIp);
    assert_eq!(lab.dropped(in_blue, &all(IP)), DropReason::SpoofedIp);
    // The same MAC address is in two places, one in each segment.
    let to = |n| Packet::new(mac(n), OTHER_IP.into(), POD, IP.into()).udp((1, 2), b"");
    lab.pass(red_other, &to(7), in_red);
    lab.pass(blue_other, &to(7), in_blue);
    assert_eq!(lab.fdb.lookup(red, mac(7), lab.now.seconds()), Some(Location::Port(red_other)));
    assert_eq!(lab.fdb.lookup(blue, mac(7), lab.now.seconds()), Some(Location::Port(blue_other)));
}

#[test]
fn guards_are_told_apart_by_port() {
    let mut g = guarded();
    let own = |from, ip: Ipv4Addr| Packet::new(from, ip.into(), mac(0x50), NOBODYS.into());
    g.lab.send(g.pod, &own(POD, IP).udp((1, 2), b""));
    g.lab.send(g.other, &own(OTHER, OTHER_IP).udp((1, 2), b""));
    assert_eq!(g.lab.dropped(g.other, &own(POD, IP).udp((1, 2), b"")), DropReason::SpoofedMac);
    assert_eq!(g.lab.dropped(g.other, &own(OTHER, IP).udp((1, 2), b"")), DropReason::SpoofedIp);
}
