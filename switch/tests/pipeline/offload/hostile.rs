//! What a pod may claim of a frame, and what becomes of it.

use super::*;
use switch::DropReason::OffloadInvalid;
use switch::heap::SEGMENT;

fn received(frame: &[u8], header: VnetHeader) -> Result<HeapFrame, switch::DropReason> {
    let mut frame = HeapFrame::new(frame);
    switch::offload::receive(&mut frame, &header).map(|()| frame)
}

fn good(node: &Node, dst: &str) -> (Vec<u8>, VnetHeader) {
    let (frame, header) = handed_over(Tcp::default().frame(&from_a(node, dst), &data(5000)), 1000);
    (frame.to_vec(), header)
}

/// Each field of the header must be that of the packet.
#[test]
fn a_description_that_does_not_fit() {
    let node = node(Via::Vxlan4);
    for dst in NEAR {
        let (frame, right) = good(&node, dst);
        assert_eq!(received(&frame, right).unwrap().gso_size(), 1000);
        assert!(received(&frame, VnetHeader { hdr_len: 0, ..right }).is_ok(), "only a hint");
        let other = if dst.contains(':') { 1 } else { 4 };
        for wrong in [
            VnetHeader { flags: 0, ..right },
            VnetHeader { gso_type: other, ..right },
            VnetHeader { gso_type: 5, ..right },
            VnetHeader { gso_type: 3, ..right },
            VnetHeader { gso_type: 2, ..right },
            VnetHeader { gso_type: 0x85, ..right },
            VnetHeader { gso_size: 0, ..right },
            VnetHeader { gso_size: 4, ..right },
            VnetHeader { csum_start: right.csum_start - 1, ..right },
            VnetHeader { csum_offset: 6, ..right },
            VnetHeader { hdr_len: 6000, ..right },
        ] {
            assert_eq!(received(&frame, wrong).err(), Some(OffloadInvalid), "{wrong:?}");
        }
    }
}

/// So must the headers be those of a superpacket.
#[test]
fn headers_that_contradict_themselves() {
    let node = node(Via::Vxlan4);
    let (v4, of_v4) = good(&node, NEAR[0]);
    let (v6, of_v6) = good(&node, NEAR[1]);
    let wrong_v4 = [
        (12, 0x08, 0x06),
        (14, 0x45, 0x44),
        (14, 0x45, 0x46),
        (14, 0x45, 0x65),
        (17, v4[17], v4[17] + 1),
        (17, v4[17], v4[17] - 1),
        (20, 0x40, 0x20),
        (21, 0, 1),
        (23, 6, 17),
        (46, 0x80, 0x40),
        (47, ACK, ACK | SYN),
        (47, ACK, ACK | RST),
    ];
    let wrong_v6 = [
        (14, 0x60, 0x40),
        (19, v6[19], v6[19] + 1),
        (19, v6[19], v6[19] - 1),
        (20, 6, 44),
        (20, 6, 43),
        (20, 6, 0),
        (20, 6, 59),
    ];
    for (frame, header, wrong) in [(&v4, of_v4, &wrong_v4[..]), (&v6, of_v6, &wrong_v6)] {
        for &(at, was, is) in wrong {
            let mut frame = frame.clone();
            assert!(frame[at] == was || at == 12, "byte {at} is {:#x}", frame[at]);
            frame[at] = is;
            assert_eq!(received(&frame, header).err(), Some(OffloadInvalid), "byte {at}: {is:#x}");
        }
        for len in [0, 13, 14, 33, 53, 60, header.hdr_len.into()] {
            assert_eq!(received(&frame[..len], header).err(), Some(OffloadInvalid), "{len} bytes");
        }
    }
}

/// More packets than anybody would send in one.
#[test]
fn too_many_packets() {
    let node = node(Via::Vxlan4);
    let tcp =
        |len, size| handed_over(Tcp::default().frame(&from_a(&node, NEAR[0]), &data(len)), size);
    let udp = |len, size| handed_over(from_a(&node, NEAR[0]).udp((1, 2), &data(len)), size);
    for ((frame, header), fine) in [
        (tcp(10_240, 10), true),
        (tcp(10_241, 10), false),
        (udp(1280, 10), true),
        (udp(1281, 10), false),
    ] {
        let outcome = received(&frame.to_vec(), header);
        assert_eq!(outcome.is_ok(), fine, "{header:?}");
    }
}

/// No larger than one packet: it is one, and its checksum is completed.
#[test]
fn a_superpacket_of_one_packet() {
    let node = node(Via::Vxlan4);
    for dst in NEAR {
        let packet = from_a(&node, dst);
        for frame in [Tcp::default().frame(&packet, &data(1000)), packet.udp((7, 9), &data(1000))] {
            let (partial, header) = handed_over(frame.clone(), 1000);
            let done = received(&partial.to_vec(), header).unwrap();
            assert_eq!((done.gso_size(), done.to_vec()), (0, frame));
        }
    }
}

/// Checksums that are to be completed: of any size, in any number of buffers, odd lengths and places,
/// one inside of another packet, and a UDP checksum that is zero. Of what is in several buffers, when it leaves.
#[test]
fn partial_checksums_are_completed() {
    let node = node(Via::Vxlan4);
    for dst in NEAR {
        let packet = from_a(&node, dst);
        for len in [0, 1, 100, 101, 3840, 3841, 9001, 60_000] {
            for frame in [Tcp::default().frame(&packet, &data(len)), packet.udp((7, 9), &data(len))]
            {
                let header_at: u16 = if dst.contains(':') { 54 } else { 34 };
                let offset: u16 = if frame[23] == 17 || frame[20] == 17 { 6 } else { 16 };
                let field = usize::from(header_at + offset);
                let mut partial = frame.clone();
                // The pseudo-header's sum is what is missing from the sum over the bytes.
                partial[field..field + 2].fill(0);
                let rest = encap::checksum::sum(&partial[header_at.into()..]);
                let whole = u16::from_be_bytes([frame[field], frame[field + 1]]);
                let pseudo = !encap::checksum::update_u16(whole, rest, 0);
                let pseudo = if pseudo == 0 { 0xffff } else { pseudo };
                partial[field..field + 2].copy_from_slice(&pseudo.to_be_bytes());
                let header = VnetHeader {
                    flags: 1,
                    csum_start: header_at,
                    csum_offset: offset,
                    ..VnetHeader::default()
                };
                let done = received(&partial, header).unwrap();
                if done.gso_size() == 0 {
                    assert_eq!(done.to_vec(), frame, "{dst}, {len} bytes");
                    decode(&done.to_vec());
                    continue;
                }
                assert!(frame.len() > SEGMENT && usize::from(done.gso_size()) == len);
                let outcome = lab(&node).process(node.a.port, vec![done]);
                assert_eq!(outcome.gso_sizes, [0]);
                assert_eq!(decode(&outcome.sent[0].1).payload, data(len), "{dst}, {len} bytes");
            }
        }
        // A sum of zero is sent as all ones.
        let one = packet.udp((7, 9), &[0, 0]);
        let at = one.len() - 4;
        let frame = packet.udp((7, 9), &one[at..at + 2]);
        assert_eq!(frame[at..at + 2], [0xff, 0xff]);
    }
    // Places that are not in the headers.
    let frame = from_a(&node, NEAR[0]).udp((7, 9), &data(5000));
    for (csum_start, csum_offset) in [(0, 6), (13, 6), (3840, 0), (3838, 1), (65535, 65535)] {
        let header = VnetHeader { flags: 1, csum_start, csum_offset, ..VnetHeader::default() };
        assert_eq!(received(&frame, header).err(), Some(OffloadInvalid), "{csum_start}");
    }
    let header = VnetHeader { flags: 1, csum_start: 3838, csum_offset: 0, ..VnetHeader::default() };
    assert!(received(&frame, header).is_ok());
    // Complete, it stays as it is.
    assert_eq!(received(&frame, VnetHeader::default()).unwrap().to_vec(), frame);
}

/// What is written to a device is what another one reads.
#[test]
fn descriptions_match() {
    let node = both();
    for dst in NEAR {
        let packet = from_a(&node, dst);
        for flags in [ACK, ACK | CWR] {
            let tcp = Tcp { flags, ..Tcp::default() };
            for (frame, size) in
                [(tcp.frame(&packet, &data(5000)), 1000), (packet.udp((7, 9), &data(5000)), 1000)]
            {
                let sent = superpacket(frame, size);
                let header = switch::offload::describe(&sent).unwrap();
                assert_eq!(header.flags, 1);
                let bytes = header.to_le_bytes();
                assert_eq!(VnetHeader::from_le_bytes(bytes), header);
                let again = received(&sent.to_vec(), header).unwrap();
                assert_eq!((again.gso_size(), again.to_vec()), (size, sent.to_vec()));
                let is_tcp = sent.bytes()[if dst.contains(':') { 20 } else { 23 }] == 6;
                assert_eq!(header.gso_type & 0x80 != 0, is_tcp && flags & CWR != 0, "ECN");
            }
        }
    }
    let plain = HeapFrame::new(&from_a(&node, NEAR[0]).udp((7, 9), b"plain"));
    assert_eq!(switch::offload::describe(&plain), Ok(VnetHeader::default()));
    let wrong = HeapFrame::superpacket(&from_a(&node, NEAR[0]).echo(7, 9, b"plain"), 2);
    assert_eq!(switch::offload::describe(&wrong), Err(OffloadInvalid));
}

/// The source guard looks at superpackets, too.
#[test]
fn spoofed_superpackets() {
    let node = Node::with(1, Via::Vxlan4, |net| {
        crate::kit::policed(net);
        net.offload(PortId(8));
    });
    let port = node.tables.port(PortId(8)).unwrap();
    let mac = port.policy.guard.as_ref().expect("a guarded port").mac;
    let packet = Packet::text(mac, "10.244.1.99", gateway_mac(1), NEAR[0]);
    let sent = superpacket(Tcp::default().frame(&packet, &data(5000)), 1000);
    let reason = lab(&node).dropped_frame(PortId(8), sent);
    assert_eq!(reason, switch::DropReason::SpoofedIp);
}
