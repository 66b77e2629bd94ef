//! Every name of a drop has a frame that ends under it. The match below has no default: whoever adds
//! a reason says here who counts it, or shows a frame.

use crate::kit::{
    Lab, Net, Node, Packet, Via, arp_request, gateway_mac, ipip, tunnels, uplink_mac, vxlan,
};
use encap::Mac;
use switch::heap::HeapFrame;
use switch::tables::{Offload, Storm, UnknownUnicast};
use switch::{DropReason, Frame, Location, PortId, SegmentId};

/// Who counts a reason.
enum By {
    /// The pipeline: what it made of a frame.
    Pipeline(Vec<(DropReason, u64)>),
    /// The pipeline, of frames that waited for a neighbour: `resolve.rs` has each.
    Resolver,
    /// The pipeline, of frames that waited for a rate limit: `shape.rs`.
    Shaper,
    /// The ports, which know of rings and interfaces; `fastpath` tests them.
    Ports,
}

/// The pod on the port of [`guarded`].
const GUARDED: Mac = Mac([2, 0, 0, 1, 0, 12]);

/// A guarded pod of the routed segment, put into the tables.
fn guarded(lab: &mut Lab) -> PortId {
    let address = ["10.244.1.12", "fd00:10:244:1::12"];
    let mut port = None;
    let node = Node::with(1, Via::Vxlan4, |net| {
        port = Some(net.guarded(SegmentId(0), GUARDED, &address));
    });
    lab.tables = node.tables;
    port.unwrap()
}

/// A frame that is dropped for `reason`.
fn example(reason: DropReason) -> By {
    let node = Node::new(1, Via::Vxlan4);
    let mut lab = Lab::new(node.tables.clone());
    let (pod, uplink) = (node.a.port, node.uplink);

    let station = Mac([2, 0, 0, 0, 1, 1]);
    let raw = |dst: Mac, src: Mac| [&dst.0[..], &src.0, &[0x88, 0xb5], &[0; 46]].concat();
    let routed = |dst: &str| Packet::text(node.a.mac, "10.244.1.10", gateway_mac(1), dst);
    let routed6 = Packet::text(node.a.mac, "fd00::1", gateway_mac(1), "fd00::2");
    let outer = Packet::text(uplink_mac(2), "192.0.2.2", uplink_mac(1), "192.0.2.1");
    let stranger = Packet::text(uplink_mac(2), "192.0.2.9", uplink_mac(1), "192.0.2.1");
    let inner = Packet::text(Mac::ZERO, "10.244.2.10", Mac([2; 6]), "10.244.1.10");
    let inner = inner.udp((1, 2), b"payload");
    let flip = |mut frame: Vec<u8>, at: usize| {
        frame[at] ^= 0x55;
        frame
    };

    let (port, frame) = match reason {
        DropReason::IcmpRateLimited => {
            let late = routed("10.244.1.11").ttl(1).udp((1, 2), b"");
            let mut drops = lab.process(pod, vec![HeapFrame::new(&late); 101]).drops;
            drops.retain(|d| d.0 != DropReason::TtlExceeded);
            return By::Pipeline(drops);
        }
        DropReason::UnderlayError => {
            let lost = Packet::text(uplink_mac(1), "192.0.2.1", uplink_mac(2), "192.0.2.2");
            let lost = ipip(&lost, &inner[14..]);
            let quoted = [&[11, 1, 0, 0, 0, 0, 0, 0], &lost[14..]].concat();
            (uplink, outer.icmp(&quoted))
        }
        DropReason::EncapsulationLimit => {
            lab.tables = Node::new(1, Via::Ipip6).tables;
            let spent = [59, 0, 4, 1, 0, 1, 1, 0];
            let dst = "fd00:10:244:2::10";
            let nested = Packet::text(node.a.mac, "fd00:10:244:1::10", gateway_mac(1), dst);
            (pod, nested.carry(60, &spent))
        }
        DropReason::EthTruncated => (pod, vec![0; 13]),
        DropReason::EthSourceInvalid => (pod, raw(station, Mac::BROADCAST)),
        DropReason::EthReserved => (pod, raw(Mac([1, 0x80, 0xc2, 0, 0, 0]), station)),
        DropReason::PortUnknown => (PortId(60), raw(station, station)),
        DropReason::PortDown => {
            lab.tables.ports[node.b.port.index()] = None;
            (pod, routed("10.244.1.11").udp((1, 2), b""))
        }
        DropReason::SpoofedMac => (guarded(&mut lab), raw(Mac::BROADCAST, station)),
        DropReason::SpoofedArp => {
            let other = (GUARDED, [10, 244, 1, 10].into());
            (guarded(&mut lab), arp_request(other, Mac::BROADCAST, [10, 244, 1, 1].into()))
        }
        DropReason::SpoofedIp => {
            let other = Packet::text(GUARDED, "10.244.1.10", gateway_mac(1), "10.244.1.11");
            (guarded(&mut lab), other.udp((1, 2), b""))
        }
        DropReason::SpoofedNd => {
            let other = Packet::text(GUARDED, "fe80::9", Mac([0x33, 0x33, 0, 0, 0, 1]), "ff02::1");
            (guarded(&mut lab), other.carry(58, &[134; 16]))
        }
        DropReason::UnknownUnicast => {
            let mut net = Net::new();
            let segment = net.segment(false);
            let port = net.access(segment);
            net.policy(segment).unknown_unicast = UnknownUnicast::Drop;
            lab = Lab::new(net.build());
            (port, raw(Mac([2, 0, 0, 0, 1, 2]), station))
        }
        DropReason::Storm => {
            let mut net = Net::new();
            let segment = net.segment(false);
            let port = net.access(segment);
            net.port_policy(port).storm = Some(Storm::new(0).into());
            lab = Lab::new(net.build());
            (port, raw(Mac::BROADCAST, station))
        }
        DropReason::FloodEmpty => {
            let mut net = Net::new();
            let segment = net.segment(false);
            let port = net.access(segment);
            lab = Lab::new(net.build());
            (port, raw(Mac::BROADCAST, station))
        }
        DropReason::SplitHorizon => {
            let from = |peer: &Packet, frame: &[u8]| vxlan(peer, 4789, 100, frame);
            lab.send(uplink, &from(&outer, &raw(Mac::BROADCAST, station)));
            let other = Packet::text(uplink_mac(2), "192.0.2.3", uplink_mac(1), "192.0.2.1");
            (uplink, from(&other, &raw(station, Mac([2, 0, 0, 0, 1, 2]))))
        }
        DropReason::TunnelRoutedOnly => {
            let node = Node::with(1, Via::Vxlan4, |net| {
                net.fixed(SegmentId(0), station, Location::Tunnel(tunnels::IPIP4));
            });
            lab.tables = node.tables;
            (pod, raw(station, Mac([2, 0, 0, 0, 1, 2])))
        }
        DropReason::Hairpin => {
            lab.send(pod, &raw(Mac::BROADCAST, station));
            (pod, raw(station, Mac([2, 0, 0, 0, 1, 2])))
        }
        DropReason::NoBuffer => {
            lab.budget = 0;
            (pod, raw(Mac::BROADCAST, station))
        }
        DropReason::NoHeadroom => {
            let bytes = routed("10.244.2.10").udp((1, 2), &[0; 300]);
            let mut frame = HeapFrame::new(&bytes[256..]);
            frame.push(256).unwrap();
            frame.bytes_mut()[..256].copy_from_slice(&bytes[..256]);
            return By::Pipeline(lab.process(pod, vec![frame]).drops);
        }
        DropReason::OffloadInvalid => {
            // What no TAP port lets in: a superpacket of ICMP.
            let frame = HeapFrame::superpacket(&routed("10.244.1.11").echo(1, 1, &[0; 100]), 10);
            lab.tables.offload = Offload::Full;
            std::sync::Arc::make_mut(lab.tables.ports[pod.index()].as_mut().unwrap()).offload =
                Offload::Full;
            return By::Pipeline(lab.process(pod, vec![frame]).drops);
        }
        DropReason::GatewayConflict => {
            let claim = (node.a.mac, [10, 244, 1, 1].into());
            (pod, arp_request(claim, Mac::BROADCAST, [10, 244, 1, 1].into()))
        }
        DropReason::ArpMalformed => {
            let asker = (node.a.mac, [10, 244, 1, 10].into());
            (pod, arp_request(asker, Mac::BROADCAST, [10, 244, 1, 1].into())[..40].to_vec())
        }
        DropReason::Ipv4Malformed => (pod, flip(routed("10.244.1.11").udp((1, 2), b""), 14)),
        DropReason::Ipv4Checksum => (pod, flip(routed("10.244.1.11").udp((1, 2), b""), 24)),
        DropReason::Ipv6Malformed => (pod, flip(routed6.udp((1, 2), b""), 14)),
        DropReason::IpAddressInvalid => (pod, routed("127.0.0.1").udp((1, 2), b"")),
        DropReason::IpMulticastUnrouted => (pod, routed("224.0.0.1").udp((1, 2), b"")),
        DropReason::TtlExceeded => (pod, routed("10.244.1.11").ttl(1).udp((1, 2), b"")),
        DropReason::NoRoute => (pod, routed("203.0.113.1").udp((1, 2), b"")),
        DropReason::RouteBlackhole => (pod, routed("10.251.0.1").udp((1, 2), b"")),
        DropReason::RouteUnreachable => (pod, routed("10.252.0.1").udp((1, 2), b"")),
        DropReason::RouteProhibited => (pod, routed("10.253.0.1").udp((1, 2), b"")),
        DropReason::NeighborUnresolved => (pod, routed("10.250.5.1").udp((1, 2), b"")),
        DropReason::MtuExceeded => (pod, routed("10.244.2.10").udp((1, 2), &[0; 9000])),
        DropReason::IcmpMalformed => (pod, flip(routed("10.244.1.1").echo(1, 1, b""), 36)),
        DropReason::NotForUs => (uplink, outer.tcp((1, 22), b"")),
        DropReason::EtherTypeUnrouted => (pod, raw(gateway_mac(1), station)),
        DropReason::HostPortMissing => {
            std::sync::Arc::make_mut(lab.tables.router.as_mut().unwrap()).host = None;
            (pod, routed("198.18.0.1").udp((1, 2), b""))
        }
        DropReason::UdpMalformed => (uplink, outer.carry(17, &[0; 7])),
        DropReason::OuterFragment => (uplink, outer.fragment(0, true).carry(4, &inner[14..])),
        DropReason::VxlanMalformed => (uplink, outer.udp((1, 4789), &[8, 0, 0])),
        DropReason::VxlanFlags => (uplink, outer.udp((1, 4789), &[0; 60])),
        DropReason::VxlanUnknownVni => (uplink, vxlan(&outer, 4789, 999, &inner)),
        DropReason::VxlanUnknownPeer => (uplink, vxlan(&stranger, 4789, 1, &inner)),
        DropReason::VxlanInnerUnknown => (uplink, vxlan(&outer, 4789, 1, &inner)),
        DropReason::IpipUnknownPeer => (uplink, ipip(&stranger, &inner[14..])),
        DropReason::IpipMalformed => (uplink, outer.carry(41, &inner[14..])),
        DropReason::EcnInvalid => (uplink, ipip(&outer.tos(3), &inner[14..])),
        DropReason::RouteLoop => (node.host, routed("198.18.0.1").udp((1, 2), b"")),
        DropReason::NestedTunnel => {
            let back = Packet::text(Mac::ZERO, "10.244.2.10", Mac::ZERO, "10.250.2.1");
            (uplink, ipip(&outer, &back.udp((1, 2), b"")[14..]))
        }
        DropReason::NeighborFailed | DropReason::NeighborQueueFull | DropReason::Consumed => {
            return By::Resolver;
        }
        DropReason::RateLimited => return By::Shaper,
        DropReason::TxRingFull
        | DropReason::TxRefused
        | DropReason::TxTooManySegments
        | DropReason::Shutdown => return By::Ports,
    };
    By::Pipeline(lab.receive(port, &frame).drops)
}

#[test]
fn every_reason_has_a_frame() {
    for &reason in DropReason::ALL {
        let By::Pipeline(drops) = example(reason) else { continue };
        assert!(drops.iter().any(|d| d.0 == reason), "{}: got {drops:?}", reason.name());
        assert!(drops.iter().all(|d| d.0 == reason), "{}: got {drops:?}", reason.name());
    }
}

/// Names are what operators and dashboards hold on to: lower case words, each used once.
#[test]
fn names_are_unique() {
    let mut names: Vec<_> = DropReason::ALL.iter().map(|r| r.name()).collect();
    for name in &names {
        assert!(name.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_'));
    }
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), DropReason::COUNT);
}
