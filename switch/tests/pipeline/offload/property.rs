//! Cut up and merged again, a superpacket is what it was.

use super::*;
use crate::kit::uplink_mac;
use encap::checksum::Sum;
use encap::offload::Cut;
use proptest::collection::vec;
use proptest::prelude::*;

fn tcp() -> impl Strategy<Value = Tcp> {
    (any::<u32>(), any::<u32>(), any::<u16>(), any::<bool>()).prop_map(
        |(sequence, ack, window, push)| {
            let flags = if push { ACK | PSH } else { ACK };
            Tcp { sequence, ack, window, flags, urgent: 0 }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn cut_up_and_merged_it_is_the_same(
        tcp in tcp(),
        payload in vec(any::<u8>(), 2..20_000),
        size in 1u16..8900,
        six in any::<bool>(),
        tos in any::<u8>(),
    ) {
        let size = size.max((payload.len() / 100) as u16 + 1);
        prop_assume!(payload.len() > usize::from(size));
        let node = Node::with(1, Via::Native, |net| net.offload(PortId(1)));
        let far = Node::with(2, Via::Native, |net| net.offload(PortId(1)));
        let packet = from_a(&node, FAR[usize::from(six)]).tos(tos);
        let original = superpacket(tcp.frame(&packet, &payload), size);
        let before = original.to_vec();
        let outcome = lab(&node).process(node.a.port, vec![original]);
        prop_assert_eq!(payloads(&outcome.sent), payload);
        let batch = outcome.sent.iter().map(|(_, f)| HeapFrame::new(f)).collect();
        let arrived = lab(&far).process(far.uplink, batch);
        prop_assert_eq!(&arrived.gso_sizes, &[size]);
        let mut after = arrived.sent[0].1.clone();
        // Two routers: addresses of the link, two hops, and what follows from them.
        after[..12].copy_from_slice(&before[..12]);
        if six {
            after[21] += 2;
        } else {
            after[22] += 2;
            after[24..26].copy_from_slice(&before[24..26]);
        }
        prop_assert_eq!(after, before);
    }

    /// Whatever a pod hands over, it is refused, or what it stands for leaves as valid packets.
    #[test]
    fn damaged_superpackets(
        tcp in tcp(),
        payload in vec(any::<u8>(), 2..3000),
        size in 1u16..2000,
        six in any::<bool>(),
        udp in any::<bool>(),
        damage in vec((0usize..100, any::<u8>()), 0..4),
        header in vec((0usize..10, any::<u8>()), 0..2),
    ) {
        let node = node(Via::Vxlan4);
        let packet = from_a(&node, FAR[usize::from(six)]);
        let frame = if udp { packet.udp((7, 9), &payload) } else { tcp.frame(&packet, &payload) };
        let (frame, right) = handed_over(frame, size);
        let mut frame = frame.to_vec();
        let mut claimed = right.to_le_bytes();
        for (at, byte) in damage {
            let len = frame.len();
            frame[at % len] = byte;
        }
        for (at, byte) in header {
            claimed[at] = byte;
        }
        let mut handed = HeapFrame::new(&frame);
        let claimed = encap::offload::VnetHeader::from_le_bytes(claimed);
        if switch::offload::receive(&mut handed, &claimed).is_ok() {
            let whole = handed.gso_size();
            let outcome = lab(&node).process(node.a.port, vec![handed]);
            for (port, frame) in outcome.sent {
                if whole > 0 && port == node.uplink && frame[26..30] == [192, 0, 2, 1] {
                    // The headers inside and outside have 50 + 14 + 2 * 60 bytes at most.
                    let most = usize::from(whole) + 184;
                    prop_assert!(frame.len() <= most, "no larger than its size says");
                }
            }
        }
    }

    /// The headers of each packet against a checksum of the whole packet.
    #[test]
    fn every_header_is_right(
        tcp in tcp(),
        payload in vec(any::<u8>(), 1..4000),
        size in 1u16..1500,
        six in any::<bool>(),
    ) {
        let node = node(Via::Vxlan4);
        let packet = Packet { src_mac: uplink_mac(1), ..from_a(&node, FAR[usize::from(six)]) };
        let frame = tcp.frame(&packet, &payload);
        let layout = Layout::parse(&frame, frame.len()).unwrap();
        for (index, part) in payload.chunks(size.into()).enumerate() {
            let at = index * usize::from(size);
            let cut = Cut { index, at, len: part.len(), sum: Sum::ZERO.bytes(part) };
            let mut out = vec![0; layout.payload];
            layout.write_headers(&frame[..layout.payload], &cut, &mut out);
            out.extend_from_slice(part);
            prop_assert_eq!(decode(&out).payload, part);
        }
    }
}
