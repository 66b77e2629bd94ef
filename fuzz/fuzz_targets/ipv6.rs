//! IPv6 and its extension headers: both sides end at the same upper layer.
#![no_main]

use encap::ecn::{self, Ecn};
use encap::{flow, ipv6};
use etherparse::{Ipv6Header, Ipv6HeaderSlice};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|packet: &[u8]| {
    // Stricter here: the payload length is checked with the header.
    let theirs = Ipv6HeaderSlice::from_slice(packet)
        .ok()
        .map(|s| s.to_header())
        .filter(|h| 40 + usize::from(h.payload_length) <= packet.len());
    let ours = ipv6::View::new_checked(packet);
    assert_eq!(ours.is_ok(), theirs.is_some());
    let _ = (flow::hash_packet(packet), ipv6::upper_layer(packet));
    let (Ok(ours), Some(h)) = (ours, theirs) else {
        return;
    };
    let payload = &packet[40..40 + usize::from(h.payload_length)];
    assert_eq!((ours.traffic_class(), ours.flow_label()), (h.traffic_class, h.flow_label.value()));
    assert_eq!((ours.next_header(), ours.hop_limit()), (h.next_header.0, h.hop_limit));
    assert_eq!((ours.src(), ours.dst()), (h.source_addr(), h.destination_addr()));
    assert_eq!(ours.payload(), payload);
    let mut out = [0; 40];
    ipv6::Repr::parse(&ours).unwrap().emit(&mut out);
    assert_eq!(out, packet[..40]);

    let theirs = Ipv6Header::skip_all_header_extensions_in_slice(payload, h.next_header);
    match ours.upper_layer() {
        // etherparse reads on, into the middle of what was fragmented.
        Ok(u) if u.is_later_fragment() => assert!(u.offset <= 40 + payload.len()),
        Ok(u) => {
            let (protocol, rest) = theirs.unwrap();
            assert_eq!((u.protocol, &packet[u.offset..40 + payload.len()]), (protocol.0, rest));
        }
        Err(ipv6::Error::TooManyHeaders) => {}
        Err(e) => {
            assert_eq!(e, ipv6::Error::Truncated);
            assert!(theirs.is_err());
        }
    }

    let mut copy = packet.to_vec();
    let mut view = ipv6::View::new_checked(&mut copy[..]).unwrap();
    assert_eq!(view.decrement_hop_limit().is_ok(), h.hop_limit >= 2);
    view.replace_ecn(Ecn::from_tos(h.hop_limit));
    assert_eq!(view.ecn().bits(), h.hop_limit & 3);
    assert_eq!((view.dscp(), view.flow_label()), (h.dscp().value(), h.flow_label.value()));
    let _ = ecn::decap_packet(&mut copy, packet[packet.len() - 1]);
});
