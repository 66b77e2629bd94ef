//! IPv4 and IPv6, extension headers included.

use crate::{payload, v4, v6};
use encap::ecn::Ecn;
use encap::{ip, ipv4, ipv6};
use etherparse::{
    IpAuthHeader, IpDscp, IpEcn, IpFragOffset, IpNumber, Ipv4Header, Ipv4Options, Ipv6Extensions,
    Ipv6FlowLabel, Ipv6FragmentHeader, Ipv6Header, Ipv6RawExtHeader, Ipv6RoutingExtensions,
};
use proptest::prelude::*;

fn their_ipv4() -> impl Strategy<Value = Ipv4Header> {
    let words = proptest::collection::vec(any::<[u8; 4]>(), 0..=10);
    let flags = (any::<u16>(), any::<bool>(), any::<bool>(), 0u16..0x2000);
    (0u8..64, 0u8..4, flags, any::<u8>(), any::<u8>(), v4(), v4(), words).prop_map(
        |(dscp, ecn, (ident, df, mf, offset), ttl, protocol, src, dst, words)| {
            let mut h = Ipv4Header {
                dscp: IpDscp::try_new(dscp).unwrap(),
                ecn: IpEcn::try_new(ecn).unwrap(),
                identification: ident,
                dont_fragment: df,
                more_fragments: mf,
                fragment_offset: IpFragOffset::try_new(offset).unwrap(),
                time_to_live: ttl,
                protocol: IpNumber(protocol),
                source: src.octets(),
                destination: dst.octets(),
                ..Ipv4Header::default()
            };
            h.options = Ipv4Options::try_from(&words.concat()[..]).unwrap();
            h
        },
    )
}

fn bytes_of(mut h: Ipv4Header, data: &[u8]) -> (Ipv4Header, Vec<u8>) {
    h.set_payload_len(data.len()).unwrap();
    h.header_checksum = h.calc_header_checksum();
    let mut bytes = h.to_bytes().to_vec();
    bytes.extend(data);
    (h, bytes)
}

proptest! {
    #[test]
    fn ipv4_reads_what_etherparse_writes(
        h in their_ipv4(), data in payload(60), padding in payload(30),
    ) {
        let (h, mut bytes) = bytes_of(h, &data);
        let total = bytes.len();
        bytes.extend(padding);
        let v = ipv4::View::new_checked(&bytes).unwrap();
        prop_assert_eq!((v.version(), v.header_len(), v.total_len()), (4, h.header_len(), total));
        prop_assert_eq!((v.dscp(), v.ecn().bits()), (h.dscp.value(), h.ecn.value()));
        prop_assert_eq!(v.ident(), h.identification);
        prop_assert_eq!((v.dont_fragment(), v.more_fragments()), (h.dont_fragment, h.more_fragments));
        prop_assert_eq!(v.fragment_offset(), usize::from(h.fragment_offset.value()) * 8);
        prop_assert_eq!(v.is_fragment(), h.is_fragmenting_payload());
        prop_assert_eq!((v.ttl(), v.protocol()), (h.time_to_live, h.protocol.0));
        prop_assert_eq!((v.src().octets(), v.dst().octets()), (h.source, h.destination));
        prop_assert_eq!((v.options(), v.payload()), (&h.options[..], &data[..]));
        prop_assert_eq!(v.checksum(), h.header_checksum);
        prop_assert!(v.checksum_ok());
        let ours = ipv4::Repr::parse(&v).unwrap();
        prop_assert_eq!(ours.payload_len, data.len());

        // A payload that goes on in further segments, and one that does not.
        let header = &bytes[..v.header_len()];
        prop_assert!(ipv4::View::new_checked_within(header, total).is_ok());
        prop_assert_eq!(
            ipv4::View::new_checked_within(header, total - 1).err(), Some(ipv4::Error::TotalLength)
        );
        prop_assert_eq!(
            ipv4::View::new_checked_within(&header[..header.len() - 1], total).err(),
            Some(ipv4::Error::Truncated)
        );
    }

    #[test]
    fn etherparse_reads_the_ipv4_that_we_write(
        src in v4(), dst in v4(), protocol: u8, tos: u8, ttl: u8, ident: u16, df: bool,
        payload_len in 0usize..=65515,
    ) {
        let ours =
            ipv4::Repr { src, dst, protocol, tos, ttl, ident, dont_fragment: df, payload_len };
        let mut out = vec![0xff; ours.buffer_len()];
        ours.emit(&mut out);
        let (h, _) = Ipv4Header::from_slice(&out).unwrap();
        prop_assert_eq!(h.header_checksum, h.calc_header_checksum());
        prop_assert_eq!(usize::from(h.payload_len().unwrap()), payload_len);
        prop_assert_eq!(h.dscp.value() << 2 | h.ecn.value(), tos);
        prop_assert_eq!((h.dont_fragment, h.is_fragmenting_payload()), (df, false));
        prop_assert_eq!((h.identification, h.time_to_live, h.protocol.0), (ident, ttl, protocol));
        prop_assert_eq!((h.source, h.destination), (src.octets(), dst.octets()));
        let v = ipv4::View::new_checked_within(&out[..], 20 + payload_len).unwrap();
        prop_assert_eq!(ipv4::Repr::parse(&v), Ok(ours));
    }

    #[test]
    fn any_flipped_bit_of_the_ipv4_header_fails_the_checksum(
        h in their_ipv4(), bit: prop::sample::Index,
    ) {
        let (h, mut bytes) = bytes_of(h, &[]);
        let bit = bit.index(h.header_len() * 8);
        prop_assume!(bit >= 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(!ipv4::View::new_unchecked(&bytes).checksum_ok());
    }

    /// TTL and ECN: the incremental checksum is that of a header made anew.
    #[test]
    fn ipv4_in_place_changes_keep_the_checksum(h in their_ipv4(), ecn in 0u8..4) {
        let (mut h, mut bytes) = bytes_of(h, &[1, 2, 3]);
        let before = bytes.clone();
        let mut v = ipv4::View::new_checked(&mut bytes).unwrap();
        match v.decrement_ttl() {
            Ok(()) => h.time_to_live -= 1,
            Err(ip::TtlExpired::Expired) => {
                prop_assert!(h.time_to_live < 2);
                prop_assert_eq!(v.into_inner(), &before);
                return Ok(());
            }
        }
        v.replace_ecn(Ecn::from_tos(ecn));
        h.ecn = IpEcn::try_new(ecn).unwrap();
        prop_assert_eq!(bytes, bytes_of(h, &[1, 2, 3]).1);
    }

    #[test]
    fn ipv6_both_ways(
        src in v6(), dst in v6(), class: u8, label in 0u32..1 << 20, next: u8, hops: u8,
        data in payload(60), padding in payload(30), ecn in 0u8..4,
    ) {
        let mut theirs = Ipv6Header {
            traffic_class: class,
            flow_label: Ipv6FlowLabel::try_new(label).unwrap(),
            payload_length: data.len() as u16,
            next_header: IpNumber(next),
            hop_limit: hops,
            source: src.octets(),
            destination: dst.octets(),
        };
        let mut bytes = theirs.to_bytes().to_vec();
        bytes.extend(&data);
        bytes.extend(&padding);
        let v = ipv6::View::new_checked(&bytes).unwrap();
        prop_assert_eq!((v.version(), v.total_len()), (6, 40 + data.len()));
        prop_assert_eq!((v.dscp(), v.ecn().bits()), (theirs.dscp().value(), theirs.ecn().value()));
        prop_assert_eq!(v.payload(), &data[..]);
        let ours = ipv6::Repr::parse(&v).unwrap();
        prop_assert_eq!(ours, ipv6::Repr {
            src, dst, next_header: next, traffic_class: class, flow_label: label, hop_limit: hops,
            payload_len: data.len(),
        });
        let mut out = vec![0xff; ours.buffer_len()];
        ours.emit(&mut out);
        prop_assert_eq!(Ipv6Header::from_slice(&out).unwrap().0, theirs.clone());
        prop_assert!(ipv6::View::new_checked_within(&out[..], 40 + data.len()).is_ok());
        prop_assert_eq!(
            ipv6::View::new_checked_within(&out[..], 39 + data.len()).err(),
            Some(ipv6::Error::PayloadLength)
        );

        let mut v = ipv6::View::new_unchecked(&mut out[..]);
        v.replace_ecn(Ecn::from_tos(ecn));
        theirs.set_ecn(IpEcn::try_new(ecn).unwrap());
        match v.decrement_hop_limit() {
            Ok(()) => theirs.hop_limit -= 1,
            Err(ip::TtlExpired::Expired) => prop_assert!(hops < 2),
        }
        prop_assert_eq!(Ipv6Header::from_slice(&out).unwrap().0, theirs);
    }

    /// Every combination of the extension headers that etherparse knows, in RFC 8200's order.
    #[test]
    fn extension_headers_are_walked_to_the_upper_layer(
        hop in proptest::option::of(ext_data()),
        options in proptest::option::of(ext_data()),
        routing in proptest::option::of((ext_data(), proptest::option::of(ext_data()))),
        fragment in proptest::option::of((0u16..0x2000, any::<bool>(), any::<u32>())),
        auth in proptest::option::of(proptest::collection::vec(any::<[u8; 4]>(), 0..6)),
        upper in prop_oneof![Just(6u8), Just(17), Just(58), Just(50), Just(59), Just(253)],
        data in payload(20),
    ) {
        let raw = |d: &[u8]| Ipv6RawExtHeader::new_raw(IpNumber(0), d).unwrap();
        let mut exts = Ipv6Extensions {
            hop_by_hop_options: hop.as_deref().map(raw),
            destination_options: options.as_deref().map(raw),
            routing: routing.map(|(r, last)| Ipv6RoutingExtensions {
                routing: raw(&r),
                final_destination_options: last.as_deref().map(raw),
            }),
            fragment: fragment.map(|(o, more, id)| {
                Ipv6FragmentHeader::new(IpNumber(0), IpFragOffset::try_new(o).unwrap(), more, id)
            }),
            auth: auth.map(|icv| IpAuthHeader::new(IpNumber(0), 1, 2, &icv.concat()).unwrap()),
        };
        let first = exts.set_next_headers(IpNumber(upper));
        let header = Ipv6Header {
            payload_length: (exts.header_len() + data.len()) as u16,
            next_header: first,
            ..Ipv6Header::default()
        };
        let mut bytes = header.to_bytes().to_vec();
        exts.write(&mut bytes, first).unwrap();
        bytes.extend(&data);

        let v = ipv6::View::new_checked(&bytes).unwrap();
        let got = v.upper_layer().unwrap();
        prop_assert_eq!(ipv6::upper_layer(&bytes), Ok(got));
        let fragment = exts.fragment.as_ref().map(|f| ipv6::Fragment {
            offset: usize::from(f.fragment_offset.value()) * 8,
            more: f.more_fragments,
            ident: f.identification,
        });
        prop_assert_eq!(got.fragment, fragment);
        prop_assert_eq!(got.is_fragment(), exts.is_fragmenting_payload());
        if got.is_later_fragment() {
            // What follows is the middle of something: only the fragment header is read.
            let behind = usize::from(exts.auth.is_some()) * exts.auth.as_ref().map_or(0, |a| a.header_len())
                + exts.routing.as_ref().and_then(|r| r.final_destination_options.as_ref()).map_or(0, |o| o.header_len());
            prop_assert_eq!(got.offset, 40 + exts.header_len() - behind);
        } else {
            prop_assert_eq!(got.protocol, upper);
            prop_assert_eq!(got.offset, 40 + exts.header_len());
            // A chain cut anywhere before its end is truncated, never misread.
            for n in 40..got.offset {
                prop_assert_eq!(ipv6::upper_layer(&bytes[..n]), Err(ipv6::Error::Truncated));
            }
        }
    }
}

/// Payloads that a raw extension header may have: 6 octets and multiples of 8 more.
fn ext_data() -> impl Strategy<Value = Vec<u8>> {
    (0usize..4).prop_flat_map(|n| proptest::collection::vec(any::<u8>(), 6 + 8 * n))
}

#[test]
fn endless_extension_headers_are_given_up_on() {
    let n = ipv6::MAX_EXTENSION_HEADERS;
    let packet = |headers: usize| {
        let mut bytes = Ipv6Header {
            payload_length: headers as u16 * 8,
            next_header: IpNumber(60),
            ..Ipv6Header::default()
        }
        .to_bytes()
        .to_vec();
        for i in 1..=headers {
            bytes.extend([if i == headers { 17 } else { 60 }, 0, 1, 4, 0, 0, 0, 0]);
        }
        bytes
    };
    assert_eq!(ipv6::upper_layer(&packet(n)).unwrap().protocol, 17);
    assert_eq!(ipv6::upper_layer(&packet(n + 1)), Err(ipv6::Error::TooManyHeaders));
}

#[test]
fn each_contradiction_of_an_ipv4_header_has_its_error() {
    let (_, good) = bytes_of(Ipv4Header::default(), &[0; 8]);
    let with = |at: usize, value: u8| {
        let mut b = good.clone();
        b[at] = value;
        ipv4::View::new_checked(b).err()
    };
    assert_eq!(with(0, 0x45), None);
    assert_eq!(with(0, 0x55), Some(ipv4::Error::Version));
    assert_eq!(with(0, 0x44), Some(ipv4::Error::HeaderLength));
    assert_eq!(with(0, 0x40), Some(ipv4::Error::HeaderLength));
    assert_eq!(with(0, 0x4f), Some(ipv4::Error::Truncated));
    assert_eq!(with(0, 0x46), None);
    assert_eq!(with(3, 19), Some(ipv4::Error::TotalLength));
    assert_eq!(with(3, 28), None);
    assert_eq!(with(3, 29), Some(ipv4::Error::TotalLength));
    for n in 0..20 {
        assert_eq!(ipv4::View::new_checked(&good[..n]).err(), Some(ipv4::Error::Truncated));
    }
    let mut wrong = good.clone();
    wrong[10] ^= 1;
    let v = ipv4::View::new_checked(&wrong).unwrap();
    assert_eq!(ipv4::Repr::parse(&v), Err(ipv4::Error::Checksum));
}

#[test]
fn a_router_forwards_from_2_on() {
    for (ttl, want) in [(0, None), (1, None), (2, Some(1)), (255, Some(254))] {
        let h = Ipv4Header { time_to_live: ttl, ..Ipv4Header::default() };
        let (_, mut four) = bytes_of(h, &[]);
        let mut six = Ipv6Header { hop_limit: ttl, ..Ipv6Header::default() }.to_bytes();
        let mut v4 = ipv4::View::new_checked(&mut four).unwrap();
        let mut v6 = ipv6::View::new_checked(&mut six).unwrap();
        assert_eq!(v4.decrement_ttl().is_ok(), want.is_some());
        assert_eq!(v6.decrement_hop_limit().is_ok(), want.is_some());
        let left = want.unwrap_or(ttl);
        assert_eq!((v4.ttl(), v6.hop_limit(), v4.checksum_ok()), (left, left, true));
    }
}
