//! Packets of several segments whose checksum a pod left to its device: superpackets of one packet.

use super::*;
use crate::kit::uplink_mac;
use switch::DropReason;

/// What a pod's kernel hands over of a packet that is not to be cut up.
fn partial(mut frame: Vec<u8>) -> (HeapFrame, VnetHeader) {
    let layout = Layout::parse(&frame, frame.len()).unwrap();
    layout.fill_partial(&mut frame);
    let (csum_start, csum_offset) = (layout.header as u16, layout.transport.checksum_at() as u16);
    let header = VnetHeader { flags: 1, csum_start, csum_offset, ..VnetHeader::default() };
    (HeapFrame::new(&frame), header)
}

/// The same as a TAP port receives it.
fn received(frame: Vec<u8>) -> HeapFrame {
    let (mut frame, header) = partial(frame);
    switch::offload::receive(&mut frame, &header).unwrap();
    frame
}

/// Bytes of payload that fit the MTU of every tunnel.
const LEN: usize = 8000;

/// Packets of both protocols.
fn packets(packet: &Packet) -> [Vec<u8>; 2] {
    [Tcp::default().frame(packet, &data(LEN)), packet.udp((7, 9), &data(LEN))]
}

/// Nobody sums its bytes, and the device is told that they are not summed.
#[test]
fn partial_from_tap_to_tap() {
    let node = both();
    for dst in NEAR {
        for sent in packets(&from_a(&node, dst)) {
            let (_, claim) = partial(sent.clone());
            let outcome = lab(&node).process(node.a.port, vec![received(sent.clone())]);
            assert_eq!((outcome.gso_sizes, outcome.originated), (vec![LEN as u16], 0));
            let frame = &outcome.sent[0].1;
            let layout = Layout::parse(frame, frame.len()).unwrap();
            let mut right = frame.clone();
            layout.fill_partial(&mut right);
            assert_eq!(*frame, right, "the checksum is still partial");
            assert_eq!(frame[layout.payload..], sent[layout.payload..]);
            let told =
                switch::offload::describe(&HeapFrame::superpacket(frame, LEN as u16)).unwrap();
            assert_eq!(told, VnetHeader { hdr_len: layout.payload as u16, ..claim });
        }
    }
}

/// The receiving kernel believes what it is told of the checksum: it is told nothing wrong.
#[test]
fn a_wrong_partial_checksum_is_put_right() {
    let node = both();
    for dst in NEAR {
        for sent in packets(&from_a(&node, dst)) {
            let (right, header) = partial(sent);
            let mut wrong = right.clone();
            wrong.bytes_mut()[usize::from(header.csum_start + header.csum_offset)] ^= 0xff;
            switch::offload::receive(&mut wrong, &header).unwrap();
            assert_eq!(wrong.to_vec(), right.to_vec());
        }
    }
}

/// Where packets are wanted it is one, in the buffers that it came in.
#[test]
fn complete_to_everybody_else() {
    for via in Via::ALL {
        let node = node(via);
        for dst in NEAR.into_iter().chain(FAR) {
            for sent in packets(&from_a(&node, dst)) {
                let mut lab = lab(&node);
                lab.budget = 0;
                let outcome = lab.process(node.a.port, vec![received(sent)]);
                assert_eq!((outcome.drops, outcome.originated), (vec![], 0), "{via:?} {dst}");
                assert_eq!((outcome.sent.len(), outcome.gso_sizes), (1, vec![0]));
                let frame = inner(via, dst, &outcome.sent[0].1);
                let seen = decode(&frame);
                assert_eq!((seen.payload, seen.ttl), (data(LEN), 63), "{via:?} {dst}");
                assert!(seen.protocol == 6 || seen.has_checksum);
            }
        }
    }
}

/// What is in the tunnel, for who is behind one.
fn inner(via: Via, dst: &str, frame: &[u8]) -> Vec<u8> {
    match via {
        _ if NEAR.contains(&dst) => frame.to_vec(),
        Via::Vxlan4 | Via::Vxlan6 => decode(frame).vxlan().1.to_vec(),
        Via::Ipip4 | Via::Ipip6 => {
            let kind = if dst.contains(':') { [0x86, 0xdd] } else { [8, 0] };
            [&[0; 12], &kind[..], &decode(frame).payload].concat()
        }
        Via::Native => frame.to_vec(),
    }
}

/// A small packet is completed at once, and so is what is no superpacket by its headers: the segment that opens a
/// connection, a fragment, and a packet whose partial checksum is not its own.
#[test]
fn others_are_completed_at_once() {
    let node = both();
    for dst in NEAR {
        let packet = from_a(&node, dst);
        for sent in [Tcp::default().frame(&packet, &data(1000)), packet.udp((7, 9), &data(3000))] {
            let outcome = lab(&node).process(node.a.port, vec![received(sent.clone())]);
            assert_eq!(outcome.gso_sizes, [0]);
            assert_eq!(payloads(&outcome.sent), decode(&sent).payload);
        }
    }
    let packet = from_a(&node, NEAR[0]);
    let syn = Tcp { flags: SYN, ..Tcp::default() }.frame(&packet, &data(5000));
    let fragment = packet.clone().may_fragment(5).fragment(0, true).udp((7, 9), &data(5000));
    let inner = packet.udp((7, 9), &data(5000));
    for (frame, csum_start, csum_offset) in [(syn, 34, 16), (fragment, 34, 6), (inner, 100, 6)] {
        let header = VnetHeader { flags: 1, csum_start, csum_offset, ..VnetHeader::default() };
        let mut frame = HeapFrame::new(&frame);
        switch::offload::receive(&mut frame, &header).unwrap();
        assert_eq!(frame.gso_size(), 0);
    }
}

/// Who sent it is told as if it had been complete.
#[test]
fn refused() {
    let node = node(Via::Native);
    for dst in FAR {
        for sent in packets(&from_a(&node, dst).ttl(1)) {
            let outcome = lab(&node).process(node.a.port, vec![received(sent)]);
            assert_eq!(outcome.drops, [(DropReason::TtlExceeded, 1)]);
            assert_eq!((outcome.sent.len(), outcome.gso_sizes), (1, vec![0]));
        }
    }
}

/// Flooded, each copy is complete.
#[test]
fn flooded() {
    let node = Node::with(1, Via::Vxlan4, |net| net.offload(PortId(3)));
    let packet = Packet::text(encap::Mac([2; 6]), "10.0.0.1", uplink_mac(2), "10.0.0.2");
    for sent in packets(&packet) {
        let outcome = lab(&node).process(node.blue_ports[0], vec![received(sent)]);
        assert!(outcome.sent.len() > 1);
        for (port, frame) in &outcome.sent {
            let decoded = decode(frame);
            let payload = if *port == node.uplink {
                decode(decoded.vxlan().1).payload
            } else {
                decoded.payload
            };
            assert_eq!(payload, data(LEN));
        }
    }
}

/// What may be fragmented is completed first.
#[test]
fn fragmented() {
    let node = node(Via::Vxlan4);
    let packet = from_a(&node, NEAR[0]).may_fragment(9);
    let narrow = Node::with(1, Via::Vxlan4, |net| {
        net.offload(PortId(1));
        net.max_frame(PortId(2), 1514);
    });
    for sent in packets(&packet) {
        let outcome = lab(&narrow).process(node.a.port, vec![received(sent.clone())]);
        assert_eq!(outcome.sent.len(), (sent.len() - 34).div_ceil(1480));
        let whole: Vec<u8> = outcome.sent.iter().flat_map(|(_, f)| f[34..].to_vec()).collect();
        let protocol = sent[23];
        assert_eq!(decode(&packet.carry(protocol, &whole)).payload, data(LEN));
    }
}
