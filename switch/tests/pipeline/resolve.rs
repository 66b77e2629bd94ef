//! Hosts behind bridged ports, whose MAC addresses the router resolves: a host of smoltcp's wire formats
//! answers, etherparse decodes, and every frame that waits is accounted for.

use crate::kit::{Node, Packet, Via, decode, gateway_mac, ipip, uplink_mac};
use encap::Mac;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol,
    Icmpv6Packet, Icmpv6Repr, IpProtocol, Ipv6Packet, Ipv6Repr, NdiscNeighborFlags, NdiscRepr,
    RawHardwareAddress,
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use switch::heap::{HeapFrame, HeapIo};
use switch::tables::{NeighborState, NextHop};
use switch::{DropReason, Fdb, Millis, PortId, SegmentId, Tables, Worker, WorkerCounters};

const HOST: Mac = Mac([2, 0, 0, 0, 8, 1]);
const HOST4: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 5);
const HOST6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x77, 0, 0, 0, 0, 0, 5);

/// A node with a bridged port in its own segment, and a worker that keeps what waits.
struct Lab {
    node: Node,
    tables: Tables,
    counters: Arc<WorkerCounters>,
    worker: Worker,
    io: HeapIo,
    /// The bridged port.
    port: PortId,
    now: Millis,
}

impl Lab {
    fn new() -> Lab {
        let mut port = PortId(0);
        let routed = SegmentId(0);
        let node = Node::with(1, Via::Vxlan4, |net| {
            port = net.access(routed);
            net.route("10.77.0.0/24", NextHop::Connected(routed));
            net.route("fd00:77::/64", NextHop::Connected(routed));
        });
        let mut tables = node.tables.clone();
        tables.neighbors = Some(Arc::default());
        let counters = Arc::new(WorkerCounters::new(tables.ports.len() + 1));
        let worker = Worker::new(counters.clone(), Arc::new(Fdb::new(64)));
        let (io, now) = (HeapIo::default(), Millis(1_000_000));
        Lab { node, tables, counters, worker, io, port, now }
    }

    /// Processes a frame: what was sent for it.
    fn receive(&mut self, port: PortId, frame: &[u8]) -> Vec<(PortId, Vec<u8>)> {
        let mut batch = vec![HeapFrame::new(frame)];
        self.worker.process(&self.tables, port, self.now, &mut batch, &mut self.io);
        self.sent()
    }

    /// Lets time pass.
    fn wait(&mut self, millis: u64) -> Vec<(PortId, Vec<u8>)> {
        self.now.0 += millis;
        self.worker.tick(&self.tables, self.now, &mut self.io);
        self.sent()
    }

    fn sent(&mut self) -> Vec<(PortId, Vec<u8>)> {
        let sent = self.io.sent.clone();
        self.assert_conserved();
        self.io.sent.clear();
        for (port, _) in &sent {
            self.counters.port(*port).tx_frames.add(1);
        }
        sent
    }

    fn assert_conserved(&self) {
        let sum = |f: &dyn Fn(&switch::PortCounters) -> u64| -> u64 {
            self.counters.ports().iter().map(f).sum()
        };
        let came = sum(&|p| p.rx_frames.get() + p.originated.get());
        let gone = sum(&|p| p.tx_frames.get() + p.dropped() + p.held.get());
        assert_eq!(came, gone + self.io.sent.len() as u64, "received + originated = sent + …");
    }

    fn held(&self) -> u64 {
        self.counters.ports().iter().map(|p| p.held.get()).sum()
    }

    fn drops(&self, reason: DropReason) -> u64 {
        self.counters.ports().iter().map(|p| p.drops(reason)).sum()
    }

    /// A packet of pod a to the host.
    fn packet(&self, dst: IpAddr, payload: &[u8]) -> Vec<u8> {
        let a = &self.node.a;
        let src = if dst.is_ipv4() { a.v4 } else { a.v6 };
        Packet::new(a.mac, src, gateway_mac(1), dst).udp((7, 9), payload)
    }

    fn state(&self, ip: IpAddr) -> Option<NeighborState> {
        let neighbors = self.tables.neighbors.as_ref().unwrap();
        neighbors.get(SegmentId(0), ip, self.now.seconds()).map(|n| n.state)
    }
}

/// The frames of `sent` that left through `port`.
fn through(sent: &[(PortId, Vec<u8>)], port: PortId) -> Vec<&[u8]> {
    sent.iter().filter(|(p, _)| *p == port).map(|(_, f)| &f[..]).collect()
}

fn ethernet(dst: Mac, src: Mac, kind: EthernetProtocol, len: usize) -> EthernetFrame<Vec<u8>> {
    let mut frame = EthernetFrame::new_unchecked(vec![0; EthernetFrame::<&[u8]>::buffer_len(len)]);
    frame.set_dst_addr(EthernetAddress(dst.0));
    frame.set_src_addr(EthernetAddress(src.0));
    frame.set_ethertype(kind);
    frame
}

/// What the host says to an ARP request of the router.
fn arp_answer(question: &[u8]) -> Vec<u8> {
    let frame = EthernetFrame::new_checked(question).unwrap();
    assert!(frame.dst_addr().is_broadcast());
    let request = ArpRepr::parse(&ArpPacket::new_checked(frame.payload()).unwrap()).unwrap();
    let ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Request,
        source_hardware_addr: asker,
        source_protocol_addr: asker_ip,
        target_protocol_addr,
        ..
    } = request
    else {
        panic!("not a request: {request:?}");
    };
    assert_eq!((asker.0, target_protocol_addr), (gateway_mac(1).0, HOST4));
    let reply = ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Reply,
        source_hardware_addr: EthernetAddress(HOST.0),
        source_protocol_addr: HOST4,
        target_hardware_addr: asker,
        target_protocol_addr: asker_ip,
    };
    let mut out = ethernet(Mac(asker.0), HOST, EthernetProtocol::Arp, reply.buffer_len());
    reply.emit(&mut ArpPacket::new_unchecked(out.payload_mut()));
    out.into_inner()
}

/// What the host says to a neighbour solicitation of the router.
fn nd_answer(question: &[u8]) -> Vec<u8> {
    nd_answer_of(question, HOST, NdiscNeighborFlags::SOLICITED | NdiscNeighborFlags::OVERRIDE)
}

/// What a host says to it that has another MAC address, or sets other flags.
fn nd_answer_of(question: &[u8], mac: Mac, flags: NdiscNeighborFlags) -> Vec<u8> {
    let frame = EthernetFrame::new_checked(question).unwrap();
    let ip = Ipv6Packet::new_checked(frame.payload()).unwrap();
    assert_eq!(ip.hop_limit(), 255);
    let icmp = Icmpv6Packet::new_checked(ip.payload()).unwrap();
    let caps = smoltcp::phy::ChecksumCapabilities::default();
    let solicit = Icmpv6Repr::parse(&ip.src_addr(), &ip.dst_addr(), &icmp, &caps).unwrap();
    let Icmpv6Repr::Ndisc(NdiscRepr::NeighborSolicit { target_addr, lladdr: Some(asker) }) =
        solicit
    else {
        panic!("not a solicitation: {solicit:?}");
    };
    assert_eq!((asker.as_bytes(), target_addr), (&gateway_mac(1).0[..], HOST6));
    let advert = Icmpv6Repr::Ndisc(NdiscRepr::NeighborAdvert {
        flags,
        target_addr: HOST6,
        lladdr: Some(RawHardwareAddress::from_bytes(&mac.0)),
    });
    let header = Ipv6Repr {
        src_addr: HOST6,
        dst_addr: ip.src_addr(),
        next_header: IpProtocol::Icmpv6,
        payload_len: advert.buffer_len(),
        hop_limit: 255,
    };
    let len = header.buffer_len() + advert.buffer_len();
    let mut out = ethernet(gateway_mac(1), mac, EthernetProtocol::Ipv6, len);
    let mut packet = Ipv6Packet::new_unchecked(out.payload_mut());
    header.emit(&mut packet);
    let mut icmp = Icmpv6Packet::new_unchecked(packet.payload_mut());
    advert.emit(&HOST6, &ip.src_addr(), &mut icmp, &caps);
    out.into_inner()
}

type Answer = fn(&[u8]) -> Vec<u8>;
const FAMILIES: [(IpAddr, Answer); 2] =
    [(IpAddr::V4(HOST4), arp_answer), (IpAddr::V6(HOST6), nd_answer)];

#[test]
fn a_packet_waits_for_the_answer_and_goes() {
    for (host, answer) in FAMILIES {
        let mut lab = Lab::new();
        let (a, port) = (lab.node.a.port, lab.port);
        let sent = lab.receive(a, &lab.packet(host, b"first"));
        let questions = through(&sent, port);
        assert_eq!(questions.len(), 1, "one question, to everybody in the segment");
        assert_eq!(lab.held(), 1);
        assert_eq!(lab.state(host), Some(NeighborState::Incomplete));
        // More packets wait with it, and nobody is asked again.
        assert!(lab.receive(a, &lab.packet(host, b"second")).is_empty());

        let sent = lab.receive(port, &answer(questions[0]));
        assert_eq!(lab.drops(DropReason::Consumed), 1);
        assert_eq!(lab.held(), 0);
        assert_eq!(lab.state(host), Some(NeighborState::Reachable));
        let arrived: Vec<_> = through(&sent, port).into_iter().map(decode).collect();
        let payloads: Vec<_> = arrived.iter().map(|p| &p.payload[..]).collect();
        assert_eq!(payloads, [&b"first"[..], b"second"], "in order");
        assert!(arrived.iter().all(|p| (p.dst_mac, p.src_mac) == (HOST, gateway_mac(1))));
        assert!(arrived.iter().all(|p| p.ttl == 63 && p.dst == host));

        let sent = lab.receive(a, &lab.packet(host, b"third"));
        assert_eq!(decode(through(&sent, port)[0]).payload, b"third", "at once");
    }
}

#[test]
fn nobody_answers() {
    for (host, _) in FAMILIES {
        let mut lab = Lab::new();
        let (a, port) = (lab.node.a.port, lab.port);
        let mut asked = through(&lab.receive(a, &lab.packet(host, b"x")), port).len();
        assert!(lab.wait(500).is_empty(), "not before a second is over");
        for _ in 0..2 {
            asked += through(&lab.wait(1000), port).len();
        }
        assert_eq!(asked, 3);
        let sent = lab.wait(1000);
        assert_eq!(lab.drops(DropReason::NeighborFailed), 1);
        assert_eq!((lab.held(), sent.len()), (0, 1), "the sender is told");
        let error = decode(&sent[0].1);
        let host_unreachable = if host.is_ipv4() { (3, 1) } else { (1, 3) };
        assert_eq!((sent[0].0, error.icmp), (a, host_unreachable));
        assert_eq!(lab.state(host), Some(NeighborState::Failed));

        // For a while senders are refused at once, and nobody is asked; then it is tried again.
        let sent = lab.receive(a, &lab.packet(host, b"x"));
        assert_eq!((through(&sent, port).len(), through(&sent, a).len()), (0, 1));
        lab.wait(6000);
        assert_eq!(through(&lab.receive(a, &lab.packet(host, b"x")), port).len(), 1);
    }
}

#[test]
fn the_queue_keeps_the_newest() {
    let mut lab = Lab::new();
    let (a, port) = (lab.node.a.port, lab.port);
    let question = lab.receive(a, &lab.packet(HOST4.into(), &[0]));
    for n in 1..10u8 {
        lab.receive(a, &lab.packet(HOST4.into(), &[n]));
    }
    assert_eq!((lab.held(), lab.drops(DropReason::NeighborQueueFull)), (4, 6));
    let sent = lab.receive(port, &arp_answer(through(&question, port)[0]));
    let arrived: Vec<u8> = through(&sent, port).iter().map(|f| decode(f).payload[0]).collect();
    assert_eq!(arrived, [6, 7, 8, 9]);
}

#[test]
fn more_hosts_than_can_be_asked_for() {
    let mut lab = Lab::new();
    let a = lab.node.a.port;
    for n in 0..100u8 {
        lab.receive(a, &lab.packet(IpAddr::from([10, 77, 0, n]), b"x"));
    }
    assert_eq!(lab.held(), 64);
    assert_eq!(lab.drops(DropReason::NeighborUnresolved), 36);
    for _ in 0..4 {
        lab.wait(1000);
    }
    assert_eq!((lab.held(), lab.drops(DropReason::NeighborFailed)), (0, 64));
    let asked: u64 = lab.counters.ports().iter().map(|port| port.asked.get()).sum();
    assert_eq!(asked, 3 * 64);
}

#[test]
fn a_neighbour_that_has_been_quiet_is_used_and_asked_again() {
    let mut lab = Lab::new();
    let (a, port) = (lab.node.a.port, lab.port);
    let question = lab.receive(a, &lab.packet(HOST4.into(), b"x"));
    lab.receive(port, &arp_answer(through(&question, port)[0]));
    lab.wait(40_000);
    let sent = lab.receive(a, &lab.packet(HOST4.into(), b"still"));
    let frames = through(&sent, port);
    assert_eq!(frames.len(), 2, "the packet and a question");
    assert_eq!(decode(frames[0]).payload, b"still");
    lab.receive(port, &arp_answer(frames[1]));
    assert_eq!(lab.state(HOST4.into()), Some(NeighborState::Reachable));
}

/// An answer that nobody asked for teaches the router nothing (it could be anybody's).
#[test]
fn odd_answers_are_not_believed() {
    // Nobody has a group address or none (RFC 1812 section 3.3.2); InARP (RFC 2390) is no answer.
    let changes: [(usize, &[u8], DropReason); 3] = [
        (22, &[0x01, 0, 0x5e, 0, 0, 1], DropReason::Consumed),
        (22, &[0; 6], DropReason::Consumed),
        (20, &[0, 9], DropReason::NotForUs),
    ];
    for (at, bytes, reason) in changes {
        let mut lab = Lab::new();
        let (a, port) = (lab.node.a.port, lab.port);
        let question = lab.receive(a, &lab.packet(HOST4.into(), b"x"));
        let mut answer = arp_answer(through(&question, port)[0]);
        answer[at..at + bytes.len()].copy_from_slice(bytes);
        assert!(lab.receive(port, &answer).is_empty());
        assert_eq!((lab.drops(reason), lab.held()), (1, 1), "{bytes:02x?}");
        assert_eq!(lab.state(HOST4.into()), Some(NeighborState::Incomplete));
    }
}

/// What waited is routed once more when there is an answer, and does not wait again: here the answer names
/// a MAC address that nobody in the segment has spoken from.
#[test]
fn nothing_waits_twice() {
    let mut lab = Lab::new();
    let (a, port) = (lab.node.a.port, lab.port);
    let question = lab.receive(a, &lab.packet(HOST4.into(), b"x"));
    let mut answer = arp_answer(through(&question, port)[0]);
    answer[22..28].copy_from_slice(&[2, 0, 0, 0, 8, 2]);
    assert!(lab.receive(port, &answer).is_empty());
    assert_eq!((lab.drops(DropReason::NeighborUnresolved), lab.held()), (1, 0));
}

#[test]
fn unasked_answers_are_not_believed() {
    let mut lab = Lab::new();
    let (a, port) = (lab.node.a.port, lab.port);
    let question = lab.receive(a, &lab.packet(HOST4.into(), b"x"));
    let answer = arp_answer(through(&question, port)[0]);
    let mut other = Lab::new();
    let port = other.port;
    assert!(other.receive(port, &answer).is_empty());
    assert_eq!(other.drops(DropReason::NotForUs), 1);
    assert_eq!(other.state(HOST4.into()), None);
}

#[test]
fn the_port_of_a_waiting_frame_goes_away() {
    let mut lab = Lab::new();
    let (a, port) = (lab.node.a.port, lab.port);
    let question = lab.receive(a, &lab.packet(HOST4.into(), b"x"));
    lab.tables.ports[a.index()] = None;
    assert!(lab.receive(port, &arp_answer(through(&question, port)[0])).is_empty());
    assert_eq!((lab.held(), lab.drops(DropReason::PortUnknown)), (0, 1));
}

/// RFC 4861 section 7.2.5: without the override flag an advertisement replaces nothing, but makes the
/// router ask again; unasked, one with it replaces, and makes it ask too.
#[test]
fn the_flags_of_an_advertisement() {
    use NeighborState::{Reachable, Stale};
    const OTHER: Mac = Mac([2, 0, 0, 0, 8, 2]);
    const S: NdiscNeighborFlags = NdiscNeighborFlags::SOLICITED;
    const O: NdiscNeighborFlags = NdiscNeighborFlags::OVERRIDE;
    let none = NdiscNeighborFlags::empty();
    for (from, flags, mac, state) in [
        (HOST, S | O, HOST, Reachable),
        (OTHER, S | O, OTHER, Reachable),
        (OTHER, S, HOST, Stale),
        (OTHER, none, HOST, Stale),
        (OTHER, O, OTHER, Stale),
        (HOST, S, HOST, Reachable),
        (HOST, O, HOST, Reachable),
        (HOST, none, HOST, Reachable),
    ] {
        let mut lab = Lab::new();
        let (a, port) = (lab.node.a.port, lab.port);
        let sent = lab.receive(a, &lab.packet(HOST6.into(), b"x"));
        let question = through(&sent, port)[0];
        lab.receive(port, &nd_answer(question));
        lab.wait(20_000);
        lab.receive(port, &nd_answer_of(question, from, flags));
        let known = lab.tables.neighbors.as_ref().unwrap();
        let known = known.get(SegmentId(0), HOST6.into(), lab.now.seconds()).unwrap();
        assert_eq!((known.mac, known.state), (Some(mac), state), "{from} {flags:?}");
        // Only an answer proves that the neighbour is there.
        let proved = state == Reachable && flags.contains(S);
        assert_eq!(
            known.age,
            if proved {
                0
            } else if state == Stale {
                30
            } else {
                20
            }
        );
        let sent = lab.receive(a, &lab.packet(HOST6.into(), b"y"));
        assert_eq!(through(&sent, port).len(), if state == Stale { 2 } else { 1 }, "asked again");
    }
}

/// What the router itself has to say to a host that it must ask for first waits like any packet: the
/// answer to an echo request, and an error about a packet, both through the uplink.
#[test]
fn the_routers_own_packets_wait_too() {
    for (host, gateway, nowhere, answer) in [
        (IpAddr::V4(HOST4), "10.244.1.1", "203.0.113.1", arp_answer as Answer),
        (IpAddr::V6(HOST6), "fd00:10:244:1::1", "2001:db8:9::1", nd_answer),
    ] {
        let mut lab = Lab::new();
        let (uplink, port) = (lab.node.uplink, lab.port);
        let outer = Packet::text(uplink_mac(2), "192.0.2.2", uplink_mac(1), "192.0.2.1");
        let from = |dst: &str| Packet::new(Mac::ZERO, host, Mac::ZERO, dst.parse().unwrap());
        let echo = ipip(&outer, &from(gateway).echo(1, 2, b"hello")[14..]);
        let lost = ipip(&outer, &from(nowhere).udp((1, 2), b"lost")[14..]);
        let sent = lab.receive(uplink, &echo);
        let questions = through(&sent, port);
        assert_eq!((questions.len(), lab.held()), (1, 1));
        assert!(lab.receive(uplink, &lost).is_empty());
        assert_eq!((lab.held(), lab.drops(DropReason::NoRoute)), (2, 1), "the lost one, no other");

        let sent = lab.receive(port, &answer(questions[0]));
        let arrived: Vec<_> = through(&sent, port).into_iter().map(decode).collect();
        let (reply, unreachable) =
            if host.is_ipv4() { ((0, 0), (3, 0)) } else { ((129, 0), (1, 0)) };
        assert_eq!(arrived.iter().map(|p| p.icmp).collect::<Vec<_>>(), [reply, unreachable]);
        for packet in &arrived {
            assert_eq!((packet.dst_mac, packet.src_mac), (HOST, gateway_mac(1)));
            assert_eq!((packet.dst, packet.ttl), (host, 64), "no hop is counted at its source");
        }

        // Nobody is told when nobody answers.
        let mut lab = Lab::new();
        lab.receive(uplink, &echo);
        for _ in 0..3 {
            lab.wait(1000);
        }
        assert_eq!((lab.held(), lab.drops(DropReason::NeighborFailed)), (0, 1));
        assert_eq!(lab.receive(uplink, &echo).len(), 0, "refused at once");
        assert_eq!(lab.drops(DropReason::NeighborFailed), 2);
    }
}
