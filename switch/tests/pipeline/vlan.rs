//! An uplink on a VLAN: the same packets as without, each behind the VLAN's tag.

use crate::kit::{Lab, Node, Packet, Via, gateway_mac};
use crate::underlay::{TUNNELS, arriving, inner};
use switch::DropReason;
use switch::tables::UplinkVlan;

const VLAN: u16 = 100;

/// A frame with an 802.1Q tag.
fn tagged(frame: &[u8], tci: u16) -> Vec<u8> {
    [&frame[..12], &[0x81, 0x00], &tci.to_be_bytes(), &frame[12..]].concat()
}

/// The same node twice: without and with its uplink on a VLAN.
fn labs(via: Via) -> (Node, Lab, Lab) {
    let node = Node::new(1, via);
    let (plain, mut on_vlan) = (Lab::new(node.tables.clone()), Lab::new(node.tables.clone()));
    on_vlan.tables.vlan = Some(UplinkVlan { port: node.uplink, id: VLAN });
    (node, plain, on_vlan)
}

#[test]
fn what_is_sent_has_the_tag() {
    for via in [Via::Vxlan4, Via::Vxlan6, Via::Ipip4, Via::Ipip6, Via::Native] {
        let (node, mut plain, mut on_vlan) = labs(via);
        for (src, dst) in [(node.a.v4, "10.244.2.10"), (node.a.v6, "fd00:10:244:2::10")] {
            let packet = Packet::new(node.a.mac, src, gateway_mac(1), dst.parse().unwrap());
            let frame = packet.udp((1, 2), b"x");
            let without = plain.pass(node.a.port, &frame, node.uplink);
            let with = on_vlan.pass(node.a.port, &frame, node.uplink);
            assert_eq!(with, tagged(&without, VLAN), "{via:?}");
        }
    }
}

#[test]
fn what_is_received_has_the_tag() {
    let (node, mut plain, mut on_vlan) = labs(Via::Native);
    for via in TUNNELS {
        for v6 in [false, true] {
            let frame = arriving(via, &inner(v6).udp((5, 6), b"through the tunnel"));
            let without = plain.pass(node.uplink, &frame, node.a.port);
            // Whatever the priority (IEEE 802.1Q clause 9.6).
            for tci in [VLAN, 7 << 13 | VLAN, 1 << 12 | VLAN] {
                let with = on_vlan.pass(node.uplink, &tagged(&frame, tci), node.a.port);
                assert_eq!(with, without, "{via:?}");
            }
        }
    }
}

#[test]
fn other_vlans_and_frames_without_a_tag_are_not_ours() {
    let (node, _, mut on_vlan) = labs(Via::Vxlan4);
    let frame = arriving(Via::Vxlan4, &inner(false).udp((5, 6), b"x"));
    for other in [frame.clone(), tagged(&frame, 101), tagged(&frame, 0)] {
        assert_eq!(on_vlan.dropped(node.uplink, &other), DropReason::NotForUs);
    }
    let cut = &tagged(&frame, VLAN)[..17];
    assert_eq!(on_vlan.dropped(node.uplink, cut), DropReason::EthTruncated);
}

#[test]
fn pods_keep_their_own_tags_and_have_none_of_ours() {
    let (node, _, mut on_vlan) = labs(Via::Vxlan4);
    let packet = Packet::new(node.a.mac, node.a.v4, node.b.mac, node.b.v4);
    let frame = tagged(&packet.udp((1, 2), b"x"), VLAN);
    // Where b is, the switch has learned.
    let hello = Packet::new(node.b.mac, node.b.v4, node.a.mac, node.a.v4).udp((1, 2), b"x");
    on_vlan.send(node.b.port, &hello);
    assert_eq!(on_vlan.pass(node.a.port, &frame, node.b.port), frame);
}
