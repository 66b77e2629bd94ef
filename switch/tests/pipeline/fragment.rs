//! IPv4 fragmentation: cut up by the switch, put together by hand.

use crate::kit::{Lab, Node, Packet, Seen, Via, decode, fill_checksum, gateway_mac};
use etherparse::Ipv4Header;
use switch::{DropReason, PortId};

const DST: &str = "10.244.1.11";

/// A node whose pod b is behind a port of this MTU.
fn lab(mtu: u32) -> (Node, Lab) {
    let node = Node::with(1, Via::Vxlan4, |net| net.max_frame(PortId(2), mtu + 14));
    assert_eq!(node.b.port, PortId(2));
    let lab = Lab::new(node.tables.clone());
    (node, lab)
}

fn packet(node: &Node) -> Packet {
    Packet::new(node.a.mac, node.a.v4, gateway_mac(1), DST.parse().unwrap()).may_fragment(0x1234)
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 + i / 256) as u8).collect()
}

/// The header of a fragment, its checksum verified, and its data.
fn piece(frame: &[u8]) -> (Ipv4Header, &[u8]) {
    let (header, data) = Ipv4Header::from_slice(&frame[14..]).unwrap();
    assert_eq!(header.header_checksum, header.calc_header_checksum());
    assert_eq!(usize::from(header.total_len), frame.len() - 14);
    (header, data)
}

/// Puts fragments together: offsets in order, every byte once. Where the data start, whether more
/// follows, and the data.
fn reassemble(frames: &[Vec<u8>]) -> (usize, bool, Vec<u8>) {
    let mut pieces: Vec<_> = frames.iter().map(|f| piece(f)).collect();
    pieces.sort_by_key(|p| p.0.fragment_offset.value());
    let start = usize::from(pieces[0].0.fragment_offset.value()) * 8;
    let mut data = Vec::new();
    for (n, (header, piece)) in pieces.iter().enumerate() {
        assert_eq!(usize::from(header.fragment_offset.value()) * 8, start + data.len());
        let last = n + 1 == pieces.len();
        assert!(last || (header.more_fragments && piece.len() % 8 == 0));
        data.extend_from_slice(piece);
    }
    (start, pieces.last().unwrap().0.more_fragments, data)
}

/// Sends a packet that must be cut up; the fragments, all of which are accounted for.
fn cut(lab: &mut Lab, node: &Node, frame: &[u8], mtu: usize) -> Vec<Vec<u8>> {
    let outcome = lab.receive(node.a.port, frame);
    assert_eq!(outcome.drops, [], "{outcome:?}");
    assert_eq!(outcome.originated as usize + 1, outcome.sent.len(), "all but one are new");
    let frames: Vec<Vec<u8>> = outcome.sent.into_iter().map(|(_, frame)| frame).collect();
    assert!(frames.len() > 1 && frames.iter().all(|f| f.len() <= 14 + mtu));
    frames
}

#[test]
fn every_size_around_the_edges() {
    for mtu in [68, 576, 1000, 1400, 1500] {
        let (node, mut lab) = lab(mtu as u32);
        let whole = packet(&node).udp((5, 6), &pattern(mtu - 28));
        assert_eq!(lab.pass(node.a.port, &whole, node.b.port).len(), 14 + mtu, "not cut");
        for len in (mtu - 27..mtu - 10).chain([2 * mtu, 3 * mtu + 5, 10_000, 65_507]) {
            let frame = packet(&node).tos(0xb8).udp((5, 6), &pattern(len));
            let frames = cut(&mut lab, &node, &frame, mtu);
            for frame in &frames {
                let (header, _) = piece(frame);
                assert_eq!(header.identification, 0x1234);
                assert_eq!((header.time_to_live, header.protocol.0), (63, 17));
                assert_eq!(header.dscp.value() << 2, 0xb8);
                assert_eq!(frame[..6], node.b.mac.0);
                assert_eq!(frame[6..12], gateway_mac(1).0);
            }
            let (start, more, data) = reassemble(&frames);
            assert_eq!((start, more), (0, false));
            assert!(data == frame[34..], "mtu {mtu}, {len} bytes");
        }
    }
}

/// In order, so that what needs the ports of the first one sees it first, and each but the last as
/// large as it may be.
#[test]
fn in_order_and_full() {
    let (node, mut lab) = lab(1500);
    let frames = cut(&mut lab, &node, &packet(&node).udp((5, 6), &pattern(4000)), 1500);
    let offsets: Vec<u16> = frames.iter().map(|f| piece(f).0.fragment_offset.value()).collect();
    assert_eq!(offsets, [0, 185, 370]);
    assert_eq!(frames.iter().map(Vec::len).collect::<Vec<_>>(), [1514, 1514, 14 + 20 + 1048]);
}

/// RFC 791 section 3.1: all options in the first fragment, those with the copied flag in the rest.
#[test]
fn options_are_copied_by_their_flag() {
    let (node, mut lab) = lab(576);
    // Record route (not copied), a security option (copied, 0x82), padding, router alert (copied).
    let options = [7, 7, 4, 0, 0, 0, 0, 1, 0x82, 5, 1, 2, 3, 0x94, 4, 0, 0, 0, 0, 0];
    let frame = packet(&node).options(&options).udp((5, 6), &pattern(2000));
    let frames = cut(&mut lab, &node, &frame, 576);
    for (n, frame) in frames.iter().enumerate() {
        let (header, _) = piece(frame);
        match n {
            0 => assert_eq!(header.options.as_slice(), options),
            _ => assert_eq!(header.options.as_slice(), [0x82, 5, 1, 2, 3, 0x94, 4, 0, 0, 0, 0, 0]),
        }
    }
    assert!(reassemble(&frames).2 == frame[54..]);

    // An option that claims more than there is ends the list.
    let broken = [0x82, 5, 1, 2, 3, 0x83, 40, 0];
    let mut frame = packet(&node).options(&[1; 8]).udp((5, 6), &pattern(2000));
    frame[34..42].copy_from_slice(&broken);
    fill_checksum(&mut frame);
    let frames = cut(&mut lab, &node, &frame, 576);
    let (header, _) = Ipv4Header::from_slice(&frames[1][14..]).unwrap();
    assert_eq!(header.options.as_slice(), [0x82, 5, 1, 2, 3, 0, 0, 0]);
    assert!(reassemble(&frames).2 == frame[42..]);
}

/// A fragment is cut up once more: its offset is kept, and its "more" too.
#[test]
fn fragments_of_fragments() {
    let (node, mut lab) = lab(576);
    for more in [true, false] {
        let mut frame = packet(&node).fragment(100, more).carry(17, &pattern(1600));
        frame[18..20].copy_from_slice(&[0xab, 0xcd]);
        fill_checksum(&mut frame);
        let frames = cut(&mut lab, &node, &frame, 576);
        let (start, still_more, data) = reassemble(&frames);
        assert_eq!((start, still_more), (800, more));
        assert!(data == frame[34..]);
        assert!(frames.iter().all(|f| piece(f).0.identification == 0xabcd));
    }
}

/// Before encapsulation: every outer packet fits, and holds a fragment. All fragments of a packet
/// take one way: the flow's hash does not need ports.
#[test]
fn before_every_tunnel() {
    for via in Via::ALL {
        let (one, two) = (Node::new(1, via), Node::new(2, via));
        let (mut from, mut to) = (Lab::new(one.tables.clone()), Lab::new(two.tables.clone()));
        let packet = Packet::new(one.a.mac, one.a.v4, gateway_mac(1), two.a.v4).may_fragment(77);
        let frame = packet.udp((5, 6), &pattern(30_000));
        let outcome = from.receive(one.a.port, &frame);
        assert_eq!(outcome.drops, [], "{via:?}");
        let mut arrived = Vec::new();
        let mut ports = Vec::new();
        for (port, outer) in outcome.sent {
            assert_eq!(port, one.uplink);
            assert!(outer.len() <= 9014, "{via:?}: {}", outer.len());
            if let Via::Vxlan4 | Via::Vxlan6 = via {
                let Seen { ports: (source, _), dont_fragment, .. } = decode(&outer);
                assert!(dont_fragment || via == Via::Vxlan6, "the outer packet stays whole");
                ports.push(source);
            }
            arrived.push(to.pass(two.uplink, &outer, two.a.port));
        }
        ports.dedup();
        assert!(ports.len() <= 1, "one source port: {ports:?}");
        let (_, more, data) = reassemble(&arrived);
        assert!(!more && data == frame[34..], "{via:?}");
        // Out of order is all the same: nothing is held back.
        assert!(arrived.len() > 3);
    }
}

#[test]
fn not_with_df_and_not_without_room_or_buffers() {
    let (node, mut lab) = lab(1000);
    let mut frame = packet(&node).udp((5, 6), &pattern(2000));
    frame[20] |= 0x40;
    fill_checksum(&mut frame);
    assert_eq!(lab.refused(node.a.port, &frame).0, DropReason::MtuExceeded);

    // The pieces that were made are sent; the packet itself is dropped.
    let frame = packet(&node).udp((5, 6), &pattern(4000));
    lab.budget = 2;
    let outcome = lab.receive(node.a.port, &frame);
    assert_eq!((outcome.sent.len(), outcome.originated), (2, 2));
    assert_eq!(outcome.drops, [(DropReason::NoBuffer, 1)]);

    let (node, mut lab) = self::lab(27);
    let frame = packet(&node).udp((5, 6), b"0123456789");
    assert_eq!(lab.dropped(node.a.port, &frame), DropReason::MtuExceeded);
}
