//! ICMP, ICMPv6 and neighbour discovery. The first 32 octets are the IPv6 addresses of the
//! pseudo-header, the next one says whether the checksum shall be put right first: a fuzzer does
//! not guess it.
#![no_main]

use encap::ndisc::{self, Error};
use encap::{icmpv4, icmpv6};
use etherparse::checksum::Sum16BitWords;
use etherparse::icmpv6::{Icmpv6PayloadSlice, NdpOptionSlice};
use etherparse::{Icmpv4Slice, Icmpv6Slice};
use libfuzzer_sys::fuzz_target;
use std::net::Ipv6Addr;

fuzz_target!(|input: &[u8]| {
    let Some((head, message)) = input.split_first_chunk::<33>() else {
        return;
    };
    let (src, dst) = head[..32].split_first_chunk::<16>().unwrap();
    let (src, dst) = (Ipv6Addr::from(*src), Ipv6Addr::from(<[u8; 16]>::try_from(dst).unwrap()));
    let mut message = message.to_vec();

    if head[32] & 1 != 0 && message.len() >= 8 {
        icmpv4::View::new_unchecked(&mut message).fill_checksum();
    }
    check_icmpv4(&message);
    if head[32] & 1 != 0 && message.len() >= 8 {
        icmpv6::View::new_unchecked(&mut message).fill_checksum(src, dst);
    }
    check_icmpv6(&message, src, dst);
    check_ndisc(&message, src, dst);
});

fn check_icmpv4(message: &[u8]) {
    let Ok(v) = icmpv4::View::new_checked(message) else {
        assert!(message.len() < 8);
        return;
    };
    let ok = Sum16BitWords::new().add_slice(message).ones_complement() == 0;
    assert_eq!(v.checksum_ok(), ok);
    if let Ok(s) = Icmpv4Slice::from_slice(message) {
        assert_eq!(
            (v.message_type(), v.code(), v.checksum()),
            (s.type_u8(), s.code_u8(), s.checksum())
        );
        let [a, b, c, d] = s.bytes5to8();
        assert_eq!(
            (v.ident(), v.sequence()),
            (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]))
        );
    }
    if let Ok(r) = icmpv4::Repr::parse(&v) {
        let mut out = vec![0; r.buffer_len()];
        r.emit(&mut out);
        assert!(icmpv4::View::new_unchecked(&out[..]).checksum_ok());
        let back = icmpv4::View::new_unchecked(&out[..]);
        assert_eq!(icmpv4::Repr::parse(&back), Ok(r));
        if matches!(r, icmpv4::Repr::EchoRequest { .. }) {
            let mut reply = message.to_vec();
            icmpv4::View::new_unchecked(&mut reply[..8]).request_to_reply();
            assert!(icmpv4::View::new_unchecked(&reply).checksum_ok());
        }
    }
}

fn check_icmpv6(message: &[u8], src: Ipv6Addr, dst: Ipv6Addr) {
    let Ok(v) = icmpv6::View::new_checked(message) else {
        assert!(message.len() < 8);
        return;
    };
    let s = Icmpv6Slice::from_slice(message).unwrap();
    assert_eq!(v.checksum_ok(src, dst), s.is_checksum_valid(src.octets(), dst.octets()));
    assert_eq!(
        (v.message_type(), v.code(), v.checksum()),
        (s.type_u8(), s.code_u8(), s.checksum())
    );
    assert_eq!(v.mtu(), u32::from_be_bytes(s.bytes5to8()));
    assert_eq!(v.payload(), &message[8..]);
    if let Ok(r) = icmpv6::Repr::parse(&v, src, dst) {
        let mut out = vec![0; r.buffer_len()];
        r.emit(&mut out, src, dst);
        let s = Icmpv6Slice::from_slice(&out).unwrap();
        assert!(s.is_checksum_valid(src.octets(), dst.octets()));
        assert_eq!(icmpv6::Repr::parse(&icmpv6::View::new_unchecked(&out[..]), src, dst), Ok(r));
        if matches!(r, icmpv6::Repr::EchoRequest { .. }) {
            let mut reply = message.to_vec();
            icmpv6::View::new_unchecked(&mut reply[..8]).request_to_reply();
            assert!(icmpv6::View::new_unchecked(&reply[..]).checksum_ok(dst, src));
        }
    }
}

fn check_ndisc(message: &[u8], src: Ipv6Addr, dst: Ipv6Addr) {
    let Ok(v) = ndisc::View::new_checked(message) else {
        return;
    };
    // Whatever passes the first check tiles into options in etherparse's eyes too.
    let s = Icmpv6Slice::from_slice(message).unwrap();
    let (target, options) = match s.payload_slice().unwrap() {
        Icmpv6PayloadSlice::NeighborSolicitation(p) => (p.target_address(), p.options_iterator()),
        Icmpv6PayloadSlice::NeighborAdvertisement(p) => (p.target_address(), p.options_iterator()),
        other => panic!("{other:?}"),
    };
    assert_eq!(v.target(), target);
    let (mut source, mut target_mac) = (None, None);
    for option in options {
        // An option of ours may be of a length that etherparse refuses for its kind; then it stops.
        let Ok(option) = option else { return };
        let (slot, address) = match &option {
            NdpOptionSlice::SourceLinkLayerAddress(o) => (&mut source, o.link_layer_address()),
            NdpOptionSlice::TargetLinkLayerAddress(o) => (&mut target_mac, o.link_layer_address()),
            _ => continue,
        };
        if slot.is_none() {
            *slot = <[u8; 6]>::try_from(address).ok();
        }
    }
    assert_eq!(v.source_mac().map(|m| m.0), source);
    assert_eq!(v.target_mac().map(|m| m.0), target_mac);

    assert_eq!(ndisc::Repr::parse(&v, src, dst, 254), Err(Error::HopLimit));
    match ndisc::Repr::parse(&v, src, dst, 255) {
        Ok(r) => {
            assert!(s.is_checksum_valid(src.octets(), dst.octets()) && !target.is_multicast());
            let mut out = [0; ndisc::MAX_LEN];
            let out = &mut out[..r.buffer_len()];
            r.emit(out, src, dst);
            let back = ndisc::View::new_checked(&*out).unwrap();
            assert_eq!(ndisc::Repr::parse(&back, src, dst, 255), Ok(r));
        }
        Err(e) => {
            assert_eq!(e == Error::Checksum, !s.is_checksum_valid(src.octets(), dst.octets()))
        }
    }
}
