//! Tunnel packets. The first octet says how to prepare the frame, the second where its first segment
//! ends; the rest is the frame from its Ethernet header on.
//!
//! What our parser accepts, etherparse accepts and finds at the same place; writing the outer header
//! anew and parsing it gives the same; a cut into segments changes nothing but what can be read.
#![no_main]

use encap::ipv4::Fragmentation;
use encap::tunnel::{Kind, Outer, OuterError, OuterHeader, parse_outer};
use encap::{Mac, ecn, flow, ipv4};
use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use libfuzzer_sys::fuzz_target;

const RIGHT_CHECKSUM: u8 = 1;
const ONE_PORT: u8 = 2;

fuzz_target!(|input: &[u8]| {
    let Some((&[how, cut], frame)) = input.split_first_chunk() else {
        return;
    };
    let mut frame = frame.to_vec();
    if how & RIGHT_CHECKSUM != 0
        && frame.len() > 14
        && let Ok(mut v) = ipv4::View::new_checked(&mut frame[14..])
    {
        v.fill_checksum();
    }
    let port = |p: u16| how & ONE_PORT == 0 || p == 4789;
    let whole = parse_outer(&frame, frame.len(), port);

    // The same in two segments: the same, or an error because a header is cut.
    let first = &frame[..frame.len().min(usize::from(cut))];
    let part = parse_outer(first, frame.len(), port);
    assert!(part == whole || part.is_err(), "{part:?} {whole:?}");

    let _ = (flow::hash_frame(&frame), ecn::frame_tos(&frame));
    match whole {
        Ok(outer) => check(&frame, outer),
        Err(e) => check_refusal(&frame, e),
    }
});

fn check(frame: &[u8], outer: Outer) {
    let inner = &frame[outer.inner_offset..outer.inner_offset + outer.inner_len];
    // etherparse is stricter about the order and number of IPv6 extension headers.
    let Ok(p) = SlicedPacket::from_ethernet(frame) else {
        assert!(
            outer.inner_offset > 54
                || !matches!(outer.kind, Kind::Vxlan { .. } | Kind::Ipip { .. })
        );
        return;
    };
    match p.net.as_ref().unwrap() {
        NetSlice::Ipv4(ip) => {
            assert_eq!(
                (outer.src, outer.dst),
                (ip.header().source_addr().into(), ip.header().destination_addr().into())
            );
            assert!(!ip.is_payload_fragmented());
        }
        NetSlice::Ipv6(ip) => {
            assert_eq!(
                (outer.src, outer.dst),
                (ip.header().source_addr().into(), ip.header().destination_addr().into())
            );
            assert_eq!(outer.tos, ip.header().traffic_class());
        }
        NetSlice::Arp(_) => panic!("ARP is not a tunnel packet"),
    }
    let (a, b) = (Mac([2; 6]), Mac([4; 6]));
    match outer.kind {
        Kind::Vxlan { vni, dst_port, checksum } => {
            let Some(TransportSlice::Udp(udp)) = &p.transport else { panic!("{:?}", p.transport) };
            assert_eq!((udp.destination_port(), udp.checksum()), (dst_port, checksum));
            assert_eq!(&udp.payload()[8..], inner);
            let _ = outer.udp_checksum_ok(frame, &[]);
            let h = OuterHeader::vxlan(a, b, outer.src, outer.dst, dst_port, vni, 64).unwrap();
            let mut again = vec![0; h.len()];
            h.write_vxlan(&mut again, inner.len(), 1, outer.tos, Fragmentation::Forbidden).unwrap();
            again.extend(inner);
            h.fill_udp_checksum(&mut again, &[]).unwrap();
            let back = parse_outer(&again, again.len(), |p| p == dst_port).unwrap();
            assert!(back.udp_checksum_ok(&again, &[]));
            let Kind::Vxlan { checksum, .. } = back.kind else { panic!("{back:?}") };
            let kind = Kind::Vxlan { vni, dst_port, checksum };
            assert_eq!(back, Outer { kind, inner_offset: h.len(), ..outer });
            let _ = ecn::decap_frame(&mut again[h.len()..], outer.tos);
        }
        Kind::Ipip { inner: version } => {
            let h = OuterHeader::ipip(a, b, outer.src, outer.dst, 64).unwrap();
            let mut again = vec![0; h.len()];
            let df = Fragmentation::Forbidden;
            h.write_ipip(&mut again, inner.len(), version, outer.tos, df).unwrap();
            again.extend(inner);
            let back = parse_outer(&again, again.len(), |_| true).unwrap();
            assert_eq!(back, Outer { inner_offset: h.len(), ..outer });
            let _ = ecn::decap_packet(&mut again[h.len()..], outer.tos);
        }
        Kind::Other { .. } => {}
    }
}

/// A refusal is either etherparse's too, or one of the rules that it has not.
fn check_refusal(frame: &[u8], e: OuterError) {
    let fine = SlicedPacket::from_ethernet(frame).is_ok();
    match e {
        OuterError::EthTruncated | OuterError::Ipv4Malformed => assert!(!fine, "{e:?}"),
        // Other protocols, VLAN tags; checksums; fragments; a UDP length of zero; what is in the
        // payload; more extension headers than we walk over, or in another order.
        _ => {}
    }
}
