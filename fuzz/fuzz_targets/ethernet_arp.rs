//! Ethernet, VLAN and ARP: both sides accept the same bytes and read the same from them.
#![no_main]

use encap::{arp, ethernet, vlan};
use etherparse::{ArpPacketSlice, Ethernet2Header, SingleVlanHeader};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|frame: &[u8]| {
    let theirs = Ethernet2Header::from_slice(frame);
    let ours = ethernet::View::new_checked(frame);
    assert_eq!(ours.is_ok(), theirs.is_ok());
    let (Ok(ours), Ok((header, rest))) = (ours, theirs) else {
        return;
    };
    assert_eq!((ours.dst().0, ours.src().0), (header.destination, header.source));
    assert_eq!((ours.ethertype(), ours.payload()), (header.ether_type.0, rest));
    let repr = ethernet::Repr::parse(&ours).unwrap();
    assert_eq!(repr.to_bytes(), header.to_bytes());

    match SingleVlanHeader::from_slice(rest) {
        Ok((tag, inner)) => {
            let v = vlan::View::new_checked(rest).unwrap();
            assert_eq!((v.priority(), v.vid()), (tag.pcp.value(), tag.vlan_id.value()));
            assert_eq!(v.drop_eligible(), tag.drop_eligible_indicator);
            assert_eq!((v.ethertype(), v.payload()), (tag.ether_type.0, inner));
        }
        Err(_) => assert!(vlan::View::new_checked(rest).is_err()),
    }

    let theirs =
        ArpPacketSlice::from_slice(rest).ok().and_then(|p| p.to_packet().try_eth_ipv4().ok());
    let ours = arp::View::new_checked(rest);
    assert_eq!(ours.is_ok(), theirs.is_some());
    if let (Ok(ours), Some(theirs)) = (ours, theirs) {
        let repr = arp::Repr::parse(&ours).unwrap();
        assert_eq!(u16::from(repr.operation), theirs.operation.0);
        assert_eq!(repr.sender_mac.0, theirs.sender_mac);
        assert_eq!(repr.target_mac.0, theirs.target_mac);
        assert_eq!(repr.sender_ip, theirs.sender_ipv4_addr());
        assert_eq!(repr.target_ip, theirs.target_ipv4_addr());
        let mut out = [0; arp::LEN];
        repr.emit(&mut out);
        assert_eq!(out, theirs.to_bytes());
        let _ = (repr.is_probe(), repr.is_announcement(), repr.reply(repr.target_mac));
    }
});
