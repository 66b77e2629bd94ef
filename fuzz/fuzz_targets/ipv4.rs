//! IPv4: both sides read the same; changes in place leave a checksum right or wrong as it was.
#![no_main]

use encap::ecn::{self, Ecn};
use encap::{flow, ipv4};
use etherparse::Ipv4Header;
use etherparse::checksum::Sum16BitWords;
use libfuzzer_sys::fuzz_target;

/// Their opinion, over the bytes as they are: `Ipv4Header` does not keep the reserved flag.
fn checksum_ok(header: &[u8]) -> bool {
    Sum16BitWords::new().add_slice(header).ones_complement() == 0
}

fuzz_target!(|packet: &[u8]| {
    // Stricter here: etherparse reads the header alone, and leaves the total length to others.
    let theirs = Ipv4Header::from_slice(packet)
        .ok()
        .filter(|(h, _)| (h.header_len()..=packet.len()).contains(&usize::from(h.total_len)));
    let ours = ipv4::View::new_checked(packet);
    assert_eq!(ours.is_ok(), theirs.is_some());
    let _ = (flow::hash_packet(packet), ecn::packet_tos(packet));
    let (Ok(ours), Some((h, rest))) = (ours, theirs) else {
        return;
    };
    assert_eq!(ours.header_len(), h.header_len());
    assert_eq!(ours.tos(), h.dscp.value() << 2 | h.ecn.value());
    assert_eq!(ours.ident(), h.identification);
    assert_eq!((ours.dont_fragment(), ours.more_fragments()), (h.dont_fragment, h.more_fragments));
    assert_eq!(ours.fragment_offset(), usize::from(h.fragment_offset.value()) * 8);
    assert_eq!(ours.is_fragment(), h.is_fragmenting_payload());
    assert_eq!((ours.ttl(), ours.protocol()), (h.time_to_live, h.protocol.0));
    assert_eq!((ours.src().octets(), ours.dst().octets()), (h.source, h.destination));
    assert_eq!(ours.options(), &h.options[..]);
    assert_eq!(ours.payload(), &rest[..usize::from(h.total_len) - h.header_len()]);
    let ok = checksum_ok(&packet[..h.header_len()]);
    assert_eq!(ours.checksum_ok(), ok);
    assert_eq!(ipv4::Repr::parse(&ours).is_ok(), ok);

    let mut copy = packet.to_vec();
    let mut view = ipv4::View::new_checked(&mut copy[..]).unwrap();
    assert_eq!(view.decrement_ttl().is_ok(), h.time_to_live >= 2);
    view.replace_ecn(Ecn::from_tos(h.time_to_live));
    assert_eq!(view.checksum_ok(), ok);
    let _ = ecn::decap_packet(&mut copy, packet[packet.len() - 1]);
    assert_eq!(checksum_ok(&copy[..h.header_len()]), ok);
    let mut view = ipv4::View::new_checked(&mut copy[..]).unwrap();
    view.fill_checksum();
    assert!(checksum_ok(&copy[..h.header_len()]));
});
