//! ARP by etherparse, neighbour discovery by smoltcp.

use encap::Mac;
use etherparse::{ArpHardwareId, ArpOperation, ArpPacket, EtherType, PacketBuilder};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    EthernetAddress, Icmpv6Packet, Icmpv6Repr, IpProtocol, Ipv6Packet, Ipv6Repr,
    NdiscNeighborFlags, NdiscRepr,
};
use std::net::{Ipv4Addr, Ipv6Addr};

/// Who has `target`? Asked by `(mac, ip)`; of 0.0.0.0 it is a probe for duplicates (RFC 5227).
pub fn arp_request((mac, ip): (Mac, Ipv4Addr), to: Mac, target: Ipv4Addr) -> Vec<u8> {
    arp(ArpOperation::REQUEST, (mac, ip), to, (Mac::ZERO, target))
}

/// Any ARP packet.
pub fn arp(
    operation: ArpOperation,
    (mac, ip): (Mac, Ipv4Addr),
    to: Mac,
    (target_mac, target): (Mac, Ipv4Addr),
) -> Vec<u8> {
    let packet = ArpPacket::new(
        ArpHardwareId::ETHERNET,
        EtherType::IPV4,
        operation,
        &mac.0,
        &ip.octets(),
        &target_mac.0,
        &target.octets(),
    );
    let mut out = Vec::new();
    PacketBuilder::ethernet2(mac.0, to.0).arp(packet.unwrap()).write(&mut out).unwrap();
    out
}

/// A neighbour solicitation. Of `::` it is a probe for duplicates, which has no link-layer address
/// (RFC 4862 section 5.4.2).
pub fn neighbor_solicit(
    (mac, src): (Mac, Ipv6Addr),
    (to_mac, dst): (Mac, Ipv6Addr),
    target: Ipv6Addr,
    hop_limit: u8,
) -> Vec<u8> {
    let lladdr = (!src.is_unspecified()).then(|| EthernetAddress(mac.0).into());
    let message = Icmpv6Repr::Ndisc(NdiscRepr::NeighborSolicit { target_addr: target, lladdr });
    let header = Ipv6Repr {
        src_addr: src,
        dst_addr: dst,
        next_header: IpProtocol::Icmpv6,
        payload_len: message.buffer_len(),
        hop_limit,
    };
    let mut packet = vec![0; 40 + message.buffer_len()];
    header.emit(&mut Ipv6Packet::new_unchecked(&mut packet[..]));
    let mut icmp = Icmpv6Packet::new_unchecked(&mut packet[40..]);
    message.emit(&src, &dst, &mut icmp, &ChecksumCapabilities::default());
    [&to_mac.0[..], &mac.0, &[0x86, 0xdd], &packet].concat()
}

/// A neighbour advertisement of `(mac, src)` for `target`, with the option that `lladdr` gives.
pub fn neighbor_advert(
    (mac, src): (Mac, Ipv6Addr),
    (to_mac, dst): (Mac, Ipv6Addr),
    target: Ipv6Addr,
    lladdr: Option<Mac>,
) -> Vec<u8> {
    let message = Icmpv6Repr::Ndisc(NdiscRepr::NeighborAdvert {
        flags: NdiscNeighborFlags::OVERRIDE,
        target_addr: target,
        lladdr: lladdr.map(|mac| EthernetAddress(mac.0).into()),
    });
    icmpv6((mac, src), (to_mac, dst), &message)
}

/// A router solicitation, with the option that `lladdr` gives.
pub fn router_solicit((mac, src): (Mac, Ipv6Addr), lladdr: Option<Mac>) -> Vec<u8> {
    let lladdr = lladdr.map(|mac| EthernetAddress(mac.0).into());
    let routers = (Mac([0x33, 0x33, 0, 0, 0, 2]), Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2));
    icmpv6((mac, src), routers, &Icmpv6Repr::Ndisc(NdiscRepr::RouterSolicit { lladdr }))
}

fn icmpv6(
    (mac, src): (Mac, Ipv6Addr),
    (to_mac, dst): (Mac, Ipv6Addr),
    message: &Icmpv6Repr<'_>,
) -> Vec<u8> {
    let header = Ipv6Repr {
        src_addr: src,
        dst_addr: dst,
        next_header: IpProtocol::Icmpv6,
        payload_len: message.buffer_len(),
        hop_limit: 255,
    };
    let mut packet = vec![0; 40 + message.buffer_len()];
    header.emit(&mut Ipv6Packet::new_unchecked(&mut packet[..]));
    let mut icmp = Icmpv6Packet::new_unchecked(&mut packet[40..]);
    message.emit(&src, &dst, &mut icmp, &ChecksumCapabilities::default());
    [&to_mac.0[..], &mac.0, &[0x86, 0xdd], &packet].concat()
}

/// A neighbour advertisement, as smoltcp reads it.
#[derive(Debug, PartialEq, Eq)]
pub struct Advert {
    pub src: Ipv6Addr,
    pub dst: Ipv6Addr,
    pub hop_limit: u8,
    pub target: Ipv6Addr,
    pub target_mac: Mac,
    pub router: bool,
    pub solicited: bool,
    pub override_cache: bool,
}

/// Reads a neighbour advertisement; panics on anything else and on a wrong checksum.
pub fn read_advert(frame: &[u8]) -> Advert {
    let packet = Ipv6Packet::new_checked(&frame[14..]).expect("IPv6");
    let header = Ipv6Repr::parse(&packet).expect("IPv6");
    let icmp = Icmpv6Packet::new_checked(packet.payload()).expect("ICMPv6");
    let checks = ChecksumCapabilities::default();
    let message = Icmpv6Repr::parse(&header.src_addr, &header.dst_addr, &icmp, &checks);
    let Ok(Icmpv6Repr::Ndisc(NdiscRepr::NeighborAdvert { flags, target_addr, lladdr })) = message
    else {
        panic!("not a neighbour advertisement: {message:?}")
    };
    let lladdr = lladdr.expect("a target link-layer address");
    Advert {
        src: header.src_addr,
        dst: header.dst_addr,
        hop_limit: header.hop_limit,
        target: target_addr,
        target_mac: Mac(lladdr.as_bytes().try_into().expect("six octets")),
        router: flags.contains(NdiscNeighborFlags::ROUTER),
        solicited: flags.contains(NdiscNeighborFlags::SOLICITED),
        override_cache: flags.contains(NdiscNeighborFlags::OVERRIDE),
    }
}
