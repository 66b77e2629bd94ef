//! Superpackets of datagrams, cut up by etherparse as the kernel does it: the datagrams that they were made
//! of come out.

use crate::{ends, mac, payload};
use encap::offload::Partial;
use encap::offload::bundle::{Headers, MAX_HEADERS, MOST};
use encap::tunnel::OuterHeader;
use encap::{Vni, checksum::Sum, ipv4::Fragmentation};
use etherparse::{
    IpHeaders, LinkExtHeader, NetHeaders, PacketBuilder, PacketHeaders, TransportHeader, VlanHeader,
};
use proptest::prelude::*;
use std::net::IpAddr;

prop_compose! {
    /// Packets of one tunnel and one flow: all but the last of one size.
    fn run()(
        (src, dst) in ends(), macs in (mac(), mac()), vni in 0..=Vni::MAX, ttl: u8, tos: u8, port: u16,
        source_port: u16, tag in proptest::option::of(any::<u16>()), first in payload(300), n in 2..9usize,
        last in 0..300usize, df: bool, ident: u16, summed: bool,
    ) -> Vec<Vec<u8>> {
        let vni = Vni::new(vni).unwrap();
        let h = OuterHeader::vxlan(macs.0, macs.1, src, dst, port, vni, ttl).unwrap();
        (0..n).map(|i| {
            let len = if i + 1 == n { last.min(first.len()) } else { first.len() };
            let inner: Vec<u8> = first[..len].iter().map(|b| b.wrapping_add(i as u8)).collect();
            let mut frame = vec![0; h.len()];
            frame.extend(&inner);
            let fragmentation = if df { Fragmentation::Forbidden } else {
                Fragmentation::Allowed { ident: ident.wrapping_add(i as u16) }
            };
            h.write_vxlan(&mut frame[..h.len()], inner.len(), source_port, tos, fragmentation).unwrap();
            if summed {
                h.fill_udp_checksum(&mut frame, &[]).unwrap();
            }
            if let Some(tci) = tag {
                frame.splice(12..12, [0x81, 0].into_iter().chain(tci.to_be_bytes()));
            }
            frame
        }).collect()
    }
}

/// A superpacket of the frames, and the size of each.
fn bundled(frames: &[Vec<u8>]) -> (Vec<u8>, usize, encap::offload::VnetHeader) {
    let headers = Headers::read(&frames[0], frames[0].len()).unwrap();
    let payloads = frames.iter().map(|f| &f[headers.len()..]);
    let payload: Vec<u8> = payloads.flatten().copied().collect();
    let mut out = [0; MAX_HEADERS];
    let size = frames[0].len() - headers.len();
    let about = headers.write(&frames[0], payload.len(), size, &mut out);
    ([&out[..headers.len()], &payload].concat(), size, about)
}

/// The packets of a superpacket, by etherparse: lengths, identification and checksums anew.
fn cut(superpacket: &[u8], size: usize) -> Vec<Vec<u8>> {
    let p = PacketHeaders::from_ethernet_slice(superpacket).unwrap();
    let Some(TransportHeader::Udp(udp)) = p.transport.clone() else { panic!("{p:?}") };
    let vlans = p.link_exts.clone();
    let link = p.link.clone().unwrap().ethernet2().unwrap();
    let net = p.net.clone().unwrap();
    let chunks = p.payload.slice().chunks(size).enumerate();
    chunks
        .map(|(n, payload)| {
            let mut net = net.clone();
            if let NetHeaders::Ipv4(ip, _) = &mut net {
                ip.identification = ip.identification.wrapping_add(n as u16);
            }
            let net = match net {
                NetHeaders::Ipv4(ip, ext) => IpHeaders::Ipv4(ip, ext),
                NetHeaders::Ipv6(ip, ext) => IpHeaders::Ipv6(ip, ext),
                other => panic!("{other:?}"),
            };
            let step = PacketBuilder::ethernet2(link.source, link.destination);
            let step = match vlans.first() {
                Some(tag) => {
                    let LinkExtHeader::Vlan(tag) = tag.clone() else { panic!("{tag:?}") };
                    step.vlan(VlanHeader::Single(tag)).ip(net)
                }
                None => step.ip(net),
            };
            let mut out = Vec::new();
            step.udp(udp.source_port, udp.destination_port).write(&mut out, payload).unwrap();
            out
        })
        .collect()
}

proptest! {
    #[test]
    fn a_superpacket_that_is_cut_up_is_what_it_was_made_of(frames in run()) {
        let headers = Headers::read(&frames[0], frames[0].len()).unwrap();
        for (n, frame) in frames.iter().enumerate().skip(1) {
            prop_assert_eq!(Headers::read(frame, frame.len()), Some(headers));
            prop_assert!(headers.continues(&frames[0], frame, n));
        }
        let (superpacket, size, about) = bundled(&frames);
        let udp = headers.len() - 8;
        prop_assert_eq!(usize::from(about.csum_start), udp);
        prop_assert_eq!((usize::from(about.gso_size), about.csum_offset, about.flags), (size, 6, 1));
        let packets = cut(&superpacket, size);
        prop_assert_eq!(packets.len(), frames.len());
        for (packet, frame) in packets.iter().zip(&frames) {
            let (mut got, mut want) = (packet.clone(), frame.clone());
            // A checksum comes where there was none. Where there was one, it was right.
            if want[udp + 6..udp + 8] == [0, 0] {
                got[udp + 6..udp + 8].fill(0);
            }
            let ip = udp - 20;
            if got[12..14] == [8, 0] && got[20] & 0x40 != 0
                || got[12..14] == [0x81, 0] && got[16..18] == [8, 0] && got[24] & 0x40 != 0
            {
                // With DF the identification means nothing; the kernel counts it up all the same.
                for b in [&mut got, &mut want] {
                    b[ip + 4..ip + 6].fill(0);
                    b[ip + 10..ip + 12].fill(0);
                }
            }
            prop_assert_eq!(got, want);
        }
        // The checksum is partial: completed over all of it, it is that of the one large datagram.
        let mut whole = superpacket.clone();
        let sum = Partial::complete(Sum::ZERO.bytes(&superpacket[udp..]));
        whole[udp + 6..udp + 8].copy_from_slice(&sum.to_be_bytes());
        let p = PacketHeaders::from_ethernet_slice(&whole).unwrap();
        let Some(TransportHeader::Udp(header)) = p.transport else { panic!() };
        let want = match p.net.unwrap() {
            NetHeaders::Ipv4(ip, _) => header.calc_checksum_ipv4(&ip, p.payload.slice()).unwrap(),
            NetHeaders::Ipv6(ip, _) => header.calc_checksum_ipv6(&ip, p.payload.slice()).unwrap(),
            other => panic!("{other:?}"),
        };
        prop_assert_eq!(sum, want);
    }

    /// A packet whose headers differ in anything that cutting up does not restore is no part of it.
    #[test]
    fn what_differs_is_told(frames in run(), at in 0..100usize, bit in 0..8u8) {
        let headers = Headers::read(&frames[0], frames[0].len()).unwrap();
        let at = at % headers.len();
        let mut other = frames[1].clone();
        other[at] ^= 1 << bit;
        if Headers::read(&other, other.len()) == Some(headers)
            && headers.continues(&frames[0], &other, 1)
        {
            let (superpacket, size, _) = bundled(&[frames[0].clone(), frames[1].clone()]);
            let again = &cut(&superpacket, size)[1];
            let differs: Vec<usize> = (0..headers.len()).filter(|&i| again[i] != other[i]).collect();
            let udp = headers.len() - 8;
            let restored = |i: &usize| {
                // The UDP checksum, and IPv4's identification and checksum.
                (udp + 6..udp + 8).contains(i)
                    || headers.source_and_port(&frames[0]).0.is_ipv4()
                        && [udp - 16, udp - 15, udp - 10, udp - 9].contains(i)
            };
            prop_assert!(differs.iter().all(restored), "{differs:?} at {at}");
        }
    }

    /// Only whole datagrams, with nothing behind them.
    #[test]
    fn what_is_no_datagram_is_not_read(frames in run(), cut in 1..400usize) {
        let frame = &frames[0];
        let short = &frame[..frame.len().saturating_sub(cut)];
        prop_assert_eq!(Headers::read(short, short.len()), None);
        let long = [&frame[..], &[0]].concat();
        prop_assert_eq!(Headers::read(&long, long.len()), None);
        let headers = Headers::read(frame, frame.len()).unwrap();
        let (src, port) = headers.source_and_port(frame);
        prop_assert_eq!(Headers::read(frame, frame.len()).map(|h| h.len()), Some(headers.len()));
        let parsed = PacketHeaders::from_ethernet_slice(frame).unwrap();
        let want: IpAddr = match parsed.net.unwrap() {
            NetHeaders::Ipv4(ip, _) => ip.source.into(),
            NetHeaders::Ipv6(ip, _) => ip.source.into(),
            other => panic!("{other:?}"),
        };
        prop_assert_eq!((src, port), (want, parsed.transport.unwrap().udp().unwrap().destination_port));
    }
}

#[test]
fn a_superpacket_is_no_longer_than_an_ip_packet_can_be() {
    let (a, b): (IpAddr, IpAddr) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
    let mac = encap::Mac([2; 6]);
    let h = OuterHeader::vxlan(mac, mac, a, b, 4789, Vni::new(1).unwrap(), 64).unwrap();
    let mut frame = vec![0; h.len() + 100];
    h.write_vxlan(&mut frame[..50], 100, 1, 0, Fragmentation::Forbidden).unwrap();
    let headers = Headers::read(&frame, frame.len()).unwrap();
    assert!(headers.fits(65_507) && !headers.fits(65_508));
    assert!(headers.fits(1000 * MOST));
}
