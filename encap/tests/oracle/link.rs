//! Ethernet, VLAN and ARP.

use crate::{mac, payload, v4};
use encap::{Mac, arp, ethernet, vlan};
use etherparse::{
    ArpEthIpv4Packet, ArpOperation, ArpPacket, EtherType, Ethernet2Header, SingleVlanHeader,
    VlanId, VlanPcp,
};
use proptest::prelude::*;

proptest! {
    #[test]
    fn ethernet_reads_what_etherparse_writes(
        dst in mac(), src in mac(), ty: u16, data in payload(40),
    ) {
        let theirs =
            Ethernet2Header { source: src.0, destination: dst.0, ether_type: EtherType(ty) };
        let mut bytes = theirs.to_bytes().to_vec();
        bytes.extend(&data);
        let v = ethernet::View::new_checked(&bytes).unwrap();
        prop_assert_eq!((v.dst(), v.src(), v.ethertype()), (dst, src, ty));
        prop_assert_eq!(v.payload(), &data[..]);
        prop_assert_eq!(ethernet::header(&bytes), Some((dst.to_u64(), src.to_u64(), ty)));

        let ours = ethernet::Repr::parse(&v).unwrap();
        let mut out = vec![0; ours.buffer_len()];
        ours.emit(&mut out);
        prop_assert_eq!(Ethernet2Header::from_slice(&out).unwrap().0, theirs);
        prop_assert_eq!(&out[..], &ours.to_bytes()[..]);
    }

    #[test]
    fn ethernet_setters(mut bytes in payload(40), dst in mac(), src in mac(), ty: u16) {
        prop_assume!(bytes.len() >= 14);
        let mut rewritten = bytes.clone();
        let mut v = ethernet::View::new_unchecked(&mut bytes);
        v.set_dst(dst);
        v.set_src(src);
        ethernet::rewrite(&mut rewritten, dst, src);
        prop_assert_eq!(v.ethertype(), ethernet::View::new_unchecked(&rewritten).ethertype());
        prop_assert_eq!(&rewritten[..12], &v.into_inner()[..12]);
        let mut v = ethernet::View::new_unchecked(&mut rewritten);
        v.set_ethertype(ty);
        v.payload_mut().fill(0xaa);
        let (h, rest) = Ethernet2Header::from_slice(&rewritten).unwrap();
        prop_assert_eq!((Mac(h.destination), Mac(h.source), h.ether_type.0), (dst, src, ty));
        prop_assert!(rest.iter().all(|b| *b == 0xaa));
    }

    #[test]
    fn vlan_both_ways(priority in 0u8..8, drop_eligible: bool, vid in 0u16..4096, ethertype: u16) {
        let theirs = SingleVlanHeader {
            pcp: VlanPcp::try_new(priority).unwrap(),
            drop_eligible_indicator: drop_eligible,
            vlan_id: VlanId::try_new(vid).unwrap(),
            ether_type: EtherType(ethertype),
        };
        let ours = vlan::Repr { priority, drop_eligible, vid, ethertype };
        let bytes = theirs.to_bytes();
        prop_assert_eq!(vlan::Repr::parse(&vlan::View::new_checked(&bytes).unwrap()), Ok(ours));
        let mut out = vec![0xff; ours.buffer_len()];
        ours.emit(&mut out);
        prop_assert_eq!(SingleVlanHeader::from_slice(&out).unwrap().0, theirs);
    }

    #[test]
    fn arp_both_ways(
        op: u16, sha in mac(), spa in v4(), tha in mac(), tpa in v4(), padding in payload(18),
    ) {
        let theirs = ArpEthIpv4Packet {
            operation: ArpOperation(op),
            sender_mac: sha.0,
            sender_ipv4: spa.octets(),
            target_mac: tha.0,
            target_ipv4: tpa.octets(),
        };
        let mut bytes = theirs.to_bytes().to_vec();
        bytes.extend(padding);
        let ours = arp::Repr::parse(&arp::View::new_checked(&bytes).unwrap()).unwrap();
        prop_assert_eq!(ours, arp::Repr {
            operation: op.into(),
            sender_mac: sha,
            sender_ip: spa,
            target_mac: tha,
            target_ip: tpa,
        });
        let mut out = vec![0xff; ours.buffer_len()];
        ours.emit(&mut out);
        let back = ArpPacket::from_slice(&out).unwrap().try_eth_ipv4().unwrap();
        prop_assert_eq!(back, theirs);
    }
}
