//! UDP and TCP: both sides accept and read the same; clamping the MSS keeps the checksum.
#![no_main]

use encap::{tcp, udp};
use etherparse::{TcpHeaderSlice, TcpOptionElement, UdpSlice};
use libfuzzer_sys::fuzz_target;
use std::net::{IpAddr, Ipv4Addr};

const SRC: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const DST: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));

fuzz_target!(|segment: &[u8]| {
    check_udp(segment);
    check_tcp(segment);
});

fn check_udp(datagram: &[u8]) {
    // Stricter here: a length of zero means a jumbogram (RFC 2675) to etherparse, and is an error.
    let theirs = UdpSlice::from_slice(datagram).ok().filter(|s| s.length() != 0);
    let ours = udp::View::new_checked(datagram);
    assert_eq!(ours.is_ok(), theirs.is_some());
    let (Ok(v), Some(s)) = (ours, theirs) else {
        return;
    };
    assert_eq!((v.src_port(), v.dst_port()), (s.source_port(), s.destination_port()));
    assert_eq!((v.checksum(), v.payload()), (s.checksum(), s.payload()));
    let mut copy = datagram.to_vec();
    let mut v = udp::View::new_unchecked(&mut copy[..]);
    v.fill_checksum(SRC, DST);
    assert!(v.checksum_ok(SRC, DST));
    let want = s.to_header().calc_checksum_ipv4_raw([10, 0, 0, 1], [10, 0, 0, 2], s.payload());
    assert_eq!(v.checksum(), want.unwrap());
}

fn check_tcp(segment: &[u8]) {
    let theirs = TcpHeaderSlice::from_slice(segment);
    let ours = tcp::View::new_checked(segment);
    assert_eq!(ours.is_ok(), theirs.is_ok());
    let (Ok(v), Ok(s)) = (ours, theirs) else {
        return;
    };
    assert_eq!((v.src_port(), v.dst_port()), (s.source_port(), s.destination_port()));
    assert_eq!((v.sequence(), v.ack()), (s.sequence_number(), s.acknowledgment_number()));
    assert_eq!((v.window(), v.checksum()), (s.window_size(), s.checksum()));
    assert_eq!(v.header_len(), s.slice().len());
    assert_eq!(
        (v.flags() & tcp::flag::SYN != 0, v.flags() & tcp::flag::CWR != 0),
        (s.syn(), s.cwr())
    );
    // etherparse stops at a malformed or unknown option, and knows the length of more kinds: when it
    // comes to an MSS, or to the end, there is no doubt.
    let mut mss = None;
    let mut sure = true;
    for option in s.options_iterator() {
        match option {
            Ok(TcpOptionElement::MaximumSegmentSize(m)) => {
                mss = Some(m);
                break;
            }
            Ok(_) => {}
            Err(_) => {
                sure = false;
                break;
            }
        }
    }
    if sure {
        assert_eq!(v.mss(), mss);
    }

    let mut copy = segment.to_vec();
    let mut v = tcp::View::new_unchecked(&mut copy[..]);
    v.fill_checksum(SRC, DST);
    assert!(v.checksum_ok(SRC, DST));
    let had = v.mss();
    assert_eq!(v.clamp_mss(1360), had.is_some_and(|m| m > 1360));
    assert_eq!(v.mss(), had.map(|m| m.min(1360)));
    assert!(v.checksum_ok(SRC, DST));
}
