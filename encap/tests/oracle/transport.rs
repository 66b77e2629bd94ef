//! UDP and TCP.

use crate::{ends, payload};
use encap::{tcp, udp};
use etherparse::{TcpHeader, TcpOptionElement, UdpHeader};
use proptest::prelude::*;
use std::net::IpAddr;

fn their_udp(src: IpAddr, dst: IpAddr, sport: u16, dport: u16, data: &[u8]) -> UdpHeader {
    match (src, dst) {
        (IpAddr::V4(s), IpAddr::V4(d)) => {
            let mut h = UdpHeader::without_ipv4_checksum(sport, dport, data.len()).unwrap();
            h.checksum = h.calc_checksum_ipv4_raw(s.octets(), d.octets(), data).unwrap();
            h
        }
        (IpAddr::V6(s), IpAddr::V6(d)) => {
            let mut h = UdpHeader::without_ipv4_checksum(sport, dport, data.len()).unwrap();
            h.checksum = h.calc_checksum_ipv6_raw(s.octets(), d.octets(), data).unwrap();
            h
        }
        _ => unreachable!(),
    }
}

fn their_tcp_checksum(h: &TcpHeader, src: IpAddr, dst: IpAddr, data: &[u8]) -> u16 {
    match (src, dst) {
        (IpAddr::V4(s), IpAddr::V4(d)) => {
            h.calc_checksum_ipv4_raw(s.octets(), d.octets(), data).unwrap()
        }
        (IpAddr::V6(s), IpAddr::V6(d)) => {
            h.calc_checksum_ipv6_raw(s.octets(), d.octets(), data).unwrap()
        }
        _ => unreachable!(),
    }
}

proptest! {
    #[test]
    fn udp_both_ways(
        (src, dst) in ends(), sport: u16, dport: u16, data in payload(60), padding in payload(9),
        flip: prop::sample::Index,
    ) {
        let theirs = their_udp(src, dst, sport, dport, &data);
        let mut bytes = theirs.to_bytes().to_vec();
        bytes.extend(&data);
        let len = bytes.len();
        bytes.extend(&padding);
        let v = udp::View::new_checked(&bytes).unwrap();
        prop_assert_eq!((v.src_port(), v.dst_port(), v.len()), (sport, dport, len));
        prop_assert_eq!(v.payload(), &data[..]);
        prop_assert!(v.checksum_ok(src, dst));
        let ours = udp::Repr::parse(&v).unwrap();

        let mut out = vec![0xff; ours.buffer_len()];
        ours.emit(&mut out);
        out.extend(&data);
        udp::View::new_unchecked(&mut out).fill_checksum(src, dst);
        prop_assert_eq!(UdpHeader::from_slice(&out).unwrap().0, theirs);

        let bit = flip.index(len * 8);
        prop_assume!(!(32..48).contains(&bit));
        out[bit / 8] ^= 1 << (bit % 8);
        let v = udp::View::new_checked(&out).unwrap();
        // A flip may leave zero, which says that there is no checksum.
        prop_assert!(!v.checksum_ok(src, dst) || (v.checksum() == 0 && src.is_ipv4()));
    }

    #[test]
    fn tcp_both_ways(
        (src, dst) in ends(), ports: (u16, u16), seq: u32, ack: u32, flags: u8, window: u16,
        mss: u16, before in 0usize..4, has_mss: bool, data in payload(40), limit: u16,
    ) {
        let mut theirs = TcpHeader::new(ports.0, ports.1, seq, window);
        theirs.acknowledgment_number = ack;
        theirs.fin = flags & tcp::flag::FIN != 0;
        theirs.syn = flags & tcp::flag::SYN != 0;
        theirs.rst = flags & tcp::flag::RST != 0;
        theirs.psh = flags & tcp::flag::PSH != 0;
        theirs.ack = flags & tcp::flag::ACK != 0;
        theirs.urg = flags & tcp::flag::URG != 0;
        theirs.ece = flags & tcp::flag::ECE != 0;
        theirs.cwr = flags & tcp::flag::CWR != 0;
        // Any number of NOPs puts the MSS at even and odd offsets.
        let mut options = vec![TcpOptionElement::Noop; before];
        options.push(TcpOptionElement::WindowScale(7));
        if has_mss {
            options.push(TcpOptionElement::MaximumSegmentSize(mss));
        }
        theirs.set_options(&options).unwrap();
        theirs.checksum = their_tcp_checksum(&theirs, src, dst, &data);
        let mut bytes = theirs.to_bytes().to_vec();
        bytes.extend(&data);

        let v = tcp::View::new_checked(&bytes).unwrap();
        let ours = tcp::Repr::parse(&v).unwrap();
        prop_assert_eq!(ours, tcp::Repr {
            src_port: ports.0, dst_port: ports.1, sequence: seq, ack, flags, window,
            mss: has_mss.then_some(mss),
        });
        prop_assert_eq!((v.header_len(), v.payload()), (theirs.header_len(), &data[..]));
        prop_assert_eq!(v.checksum(), theirs.checksum);
        prop_assert!(v.checksum_ok(src, dst));

        // Clamping: the value and the checksum are those of a header made anew.
        let mut clamped = bytes.clone();
        let did = tcp::View::new_unchecked(&mut clamped).clamp_mss(limit);
        prop_assert_eq!(did, has_mss && mss > limit);
        if did {
            *options.last_mut().unwrap() = TcpOptionElement::MaximumSegmentSize(limit);
            theirs.set_options(&options).unwrap();
            theirs.checksum = their_tcp_checksum(&theirs, src, dst, &data);
        }
        let (back, rest) = TcpHeader::from_slice(&clamped).unwrap();
        prop_assert_eq!((&back, rest), (&theirs, &data[..]));

        let mut out = vec![0xff; ours.buffer_len()];
        ours.emit(&mut out);
        out.extend(&data);
        tcp::View::new_unchecked(&mut out).fill_checksum(src, dst);
        let (back, rest) = TcpHeader::from_slice(&out).unwrap();
        prop_assert_eq!(back.checksum, their_tcp_checksum(&back, src, dst, rest));
        prop_assert_eq!((back.sequence_number, back.window_size), (seq, window));
        let found = back.options_iterator().find_map(|o| match o {
            Ok(TcpOptionElement::MaximumSegmentSize(m)) => Some(m),
            _ => None,
        });
        prop_assert_eq!(found, has_mss.then_some(mss));
        prop_assert_eq!((back.syn, back.cwr), (theirs.syn, theirs.cwr));
    }
}

#[test]
fn udp_lengths_are_checked() {
    let mut b = [0u8; 12];
    for (len, available, want) in [
        (7, 12, Some(udp::Error::Length)),
        (8, 12, None),
        (12, 12, None),
        (13, 12, Some(udp::Error::Length)),
        (13, 13, None),
        (12, 11, Some(udp::Error::Length)),
        (8, 7, Some(udp::Error::Truncated)),
    ] {
        b[5] = len;
        assert_eq!(udp::View::new_checked_within(&b, available).err(), want, "{len} {available}");
    }
    assert_eq!(udp::View::new_checked_within(&b[..7], 100).err(), Some(udp::Error::Truncated));
}

#[test]
fn malformed_tcp_options_hide_the_mss() {
    let mut b = [0u8; 28];
    b[12] = 0x70;
    let mss = |b: &[u8; 28], options: [u8; 8]| {
        let mut b = *b;
        b[20..].copy_from_slice(&options);
        tcp::View::new_checked(&b).unwrap().mss()
    };
    assert_eq!(mss(&b, [2, 4, 5, 0xb4, 0, 0, 0, 0]), Some(1460));
    assert_eq!(mss(&b, [1, 1, 1, 1, 2, 4, 5, 0xb4]), Some(1460));
    assert_eq!(mss(&b, [0, 0, 0, 0, 2, 4, 5, 0xb4]), None, "behind the end of options");
    assert_eq!(mss(&b, [3, 0, 0, 0, 2, 4, 5, 0xb4]), None, "an option of length 0");
    assert_eq!(mss(&b, [3, 1, 0, 0, 2, 4, 5, 0xb4]), None, "an option of length 1");
    assert_eq!(mss(&b, [2, 3, 5, 2, 4, 5, 0xb4, 0]), None, "an MSS of another length");
    assert_eq!(mss(&b, [1, 1, 1, 1, 1, 1, 2, 4]), None, "an MSS beyond the header");
    assert_eq!(mss(&b, [1, 1, 1, 1, 1, 1, 1, 2]), None, "a kind without a length");
    b[12] = 0x40;
    assert_eq!(tcp::View::new_checked(&b).err(), Some(tcp::Error::HeaderLength));
    b[12] = 0x80;
    assert_eq!(tcp::View::new_checked(&b).err(), Some(tcp::Error::Truncated));
}
