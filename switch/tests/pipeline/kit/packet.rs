//! Packets by etherparse, which shares no code with the switch: an encoder for what goes in, and a
//! decoder, with every checksum verified, for what comes out.

use encap::Mac;
use etherparse::{
    IpDscp, IpEcn, IpFragOffset, IpHeaders, IpNumber, Ipv4Header, Ipv4Options, Ipv6Extensions,
    Ipv6FragmentHeader, Ipv6Header, LinkSlice, NetSlice, PacketBuilder, PacketBuilderStep,
    SlicedPacket, TransportSlice,
};
use std::net::IpAddr;

/// The headers of a packet to be built.
#[derive(Clone, Debug)]
pub struct Packet {
    pub src_mac: Mac,
    pub dst_mac: Mac,
    pub src: IpAddr,
    pub dst: IpAddr,
    pub ttl: u8,
    pub tos: u8,
    /// IPv4 options, a multiple of 4 bytes.
    pub options: Vec<u8>,
    /// Offset in units of 8 bytes, and whether more fragments follow.
    pub fragment: Option<(u16, bool)>,
    /// Whether a whole IPv4 packet may be fragmented.
    pub may_fragment: bool,
    /// The identification of an IPv4 packet.
    pub ident: u16,
}

impl Packet {
    pub fn new(src_mac: Mac, src: IpAddr, dst_mac: Mac, dst: IpAddr) -> Packet {
        let (options, fragment) = (Vec::new(), None);
        let (ttl, tos, ident, may_fragment) = (64, 0, 0, false);
        Packet { src_mac, dst_mac, src, dst, ttl, tos, options, fragment, may_fragment, ident }
    }

    /// The same with addresses as text.
    pub fn text(src_mac: Mac, src: &str, dst_mac: Mac, dst: &str) -> Packet {
        Packet::new(src_mac, src.parse().unwrap(), dst_mac, dst.parse().unwrap())
    }

    pub fn ttl(mut self, ttl: u8) -> Packet {
        self.ttl = ttl;
        self
    }

    pub fn tos(mut self, tos: u8) -> Packet {
        self.tos = tos;
        self
    }

    pub fn options(mut self, options: &[u8]) -> Packet {
        self.options = options.to_vec();
        self
    }

    pub fn fragment(mut self, offset: u16, more: bool) -> Packet {
        self.fragment = Some((offset, more));
        self
    }

    /// Of an IPv4 packet with this identification, without DF.
    pub fn may_fragment(mut self, ident: u16) -> Packet {
        (self.may_fragment, self.ident) = (true, ident);
        self
    }

    fn builder(&self) -> PacketBuilderStep<IpHeaders> {
        let headers = match (self.src, self.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                let (offset, more) = self.fragment.unwrap_or_default();
                let header = Ipv4Header {
                    dscp: IpDscp::try_new(self.tos >> 2).unwrap(),
                    ecn: IpEcn::try_new(self.tos & 3).unwrap(),
                    time_to_live: self.ttl,
                    source: src.octets(),
                    destination: dst.octets(),
                    options: Ipv4Options::try_from(&self.options[..]).unwrap(),
                    fragment_offset: IpFragOffset::try_new(offset).unwrap(),
                    more_fragments: more,
                    dont_fragment: self.fragment.is_none() && !self.may_fragment,
                    identification: self.ident,
                    ..Ipv4Header::default()
                };
                IpHeaders::Ipv4(header, Default::default())
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                let header = Ipv6Header {
                    traffic_class: self.tos,
                    hop_limit: self.ttl,
                    source: src.octets(),
                    destination: dst.octets(),
                    ..Ipv6Header::default()
                };
                let fragment = self.fragment.map(|(offset, more)| {
                    let offset = IpFragOffset::try_new(offset).unwrap();
                    Ipv6FragmentHeader::new(IpNumber::UDP, offset, more, 7)
                });
                let extensions = Ipv6Extensions { fragment, ..Default::default() };
                IpHeaders::Ipv6(header, extensions)
            }
            _ => panic!("addresses of two families"),
        };
        PacketBuilder::ethernet2(self.src_mac.0, self.dst_mac.0).ip(headers)
    }

    pub fn udp(&self, (src, dst): (u16, u16), payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        self.builder().udp(src, dst).write(&mut out, payload).unwrap();
        out
    }

    pub fn tcp(&self, (src, dst): (u16, u16), payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        self.builder().tcp(src, dst, 1, 1000).syn().write(&mut out, payload).unwrap();
        out
    }

    /// A SYN that offers a maximum segment size.
    pub fn syn(&self, (src, dst): (u16, u16), mss: u16) -> Vec<u8> {
        let mut out = Vec::new();
        let builder = self.builder().tcp(src, dst, 1, 1000).syn();
        let option = etherparse::TcpOptionElement::MaximumSegmentSize(mss);
        builder.options(&[option]).unwrap().write(&mut out, &[]).unwrap();
        out
    }

    /// An echo request.
    pub fn echo(&self, ident: u16, sequence: u16, data: &[u8]) -> Vec<u8> {
        let (mut out, builder) = (Vec::new(), self.builder());
        if self.src.is_ipv4() {
            builder.icmpv4_echo_request(ident, sequence).write(&mut out, data).unwrap();
        } else {
            builder.icmpv6_echo_request(ident, sequence).write(&mut out, data).unwrap();
        }
        out
    }

    /// An ICMP or ICMPv6 message of these bytes, its checksum put right.
    pub fn icmp(&self, message: &[u8]) -> Vec<u8> {
        let mut message = message.to_vec();
        message[2..4].fill(0);
        let (protocol, pseudo) = match (self.src, self.dst) {
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                let len = (message.len() as u32).to_be_bytes();
                (58, [&src.octets()[..], &dst.octets(), &len, &[0, 0, 0, 58]].concat())
            }
            _ => (1, Vec::new()),
        };
        let sum = etherparse::checksum::Sum16BitWords::new().add_slice(&pseudo).add_slice(&message);
        message[2..4].copy_from_slice(&sum.ones_complement().to_ne_bytes());
        self.carry(protocol, &message)
    }

    /// Any upper layer. etherparse refuses to write numbers of extension headers that are not
    /// there, which is what a malformed packet needs: they are written over an experimental one.
    pub fn carry(&self, protocol: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        self.builder().write(&mut out, IpNumber(253), payload).unwrap();
        match (self.src.is_ipv4(), self.fragment) {
            (true, _) => {
                out[23] = protocol;
                fill_checksum(&mut out);
            }
            (false, None) => out[20] = protocol,
            (false, Some(_)) => out[54] = protocol,
        }
        out
    }
}

/// Puts the IPv4 header checksum of a frame right.
pub fn fill_checksum(frame: &mut [u8]) {
    let header = Ipv4Header::from_slice(&frame[14..]).unwrap().0;
    frame[24..26].copy_from_slice(&header.calc_header_checksum().to_be_bytes());
}

/// The eight bytes of RFC 7348 section 5, written by hand.
pub fn vxlan_header(vni: u32) -> [u8; 8] {
    let v = vni.to_be_bytes();
    [0x08, 0, 0, 0, v[1], v[2], v[3], 0]
}

/// `inner`, an Ethernet frame, in VXLAN.
pub fn vxlan(outer: &Packet, port: u16, vni: u32, inner: &[u8]) -> Vec<u8> {
    outer.udp((50_000, port), &[&vxlan_header(vni), inner].concat())
}

/// `inner`, an IP packet, in IP.
pub fn ipip(outer: &Packet, inner: &[u8]) -> Vec<u8> {
    outer.carry(if inner[0] >> 4 == 4 { 4 } else { 41 }, inner)
}

/// A decoded packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub src_mac: Mac,
    pub dst_mac: Mac,
    pub src: IpAddr,
    pub dst: IpAddr,
    pub ttl: u8,
    pub tos: u8,
    pub protocol: u8,
    pub dont_fragment: bool,
    pub options: Vec<u8>,
    /// Of UDP and TCP.
    pub ports: (u16, u16),
    /// Of UDP: absent (zero) or right.
    pub has_checksum: bool,
    /// Of ICMP: type and code.
    pub icmp: (u8, u8),
    /// Of an ICMP echo: identifier and sequence number.
    pub echo: (u16, u16),
    /// What the innermost header read here carries.
    pub payload: Vec<u8>,
    /// Bytes of the frame behind the IP packet.
    pub padding: usize,
}

impl Seen {
    /// The inner frame of a VXLAN packet, and its VNI.
    pub fn vxlan(&self) -> (u32, &[u8]) {
        assert_eq!(self.protocol, 17);
        let (header, inner) = self.payload.split_at(8);
        assert_eq!(header[..4], [8, 0, 0, 0], "VXLAN flags and reserved bits");
        assert_eq!(header[7], 0, "VXLAN reserved bits");
        (u32::from_be_bytes([0, header[4], header[5], header[6]]), inner)
    }
}

/// Decodes an IP packet in an Ethernet frame, and panics unless every length and checksum of it is
/// right.
pub fn decode(frame: &[u8]) -> Seen {
    let packet = SlicedPacket::from_ethernet(frame).unwrap_or_else(|e| panic!("{e}: {frame:02x?}"));
    let Some(LinkSlice::Ethernet2(eth)) = &packet.link else { panic!("not Ethernet") };
    let mut seen = Seen {
        src_mac: Mac(eth.source()),
        dst_mac: Mac(eth.destination()),
        src: IpAddr::from([0; 4]),
        dst: IpAddr::from([0; 4]),
        ttl: 0,
        tos: 0,
        protocol: 0,
        dont_fragment: false,
        options: Vec::new(),
        ports: (0, 0),
        has_checksum: false,
        icmp: (0, 0),
        echo: (0, 0),
        payload: Vec::new(),
        padding: 0,
    };
    match packet.net.as_ref().expect("a network layer") {
        NetSlice::Ipv4(ip) => {
            let h = ip.header();
            assert_eq!(h.header_checksum(), h.to_header().calc_header_checksum(), "IPv4 checksum");
            (seen.src, seen.dst) = (h.source_addr().into(), h.destination_addr().into());
            (seen.ttl, seen.tos) = (h.ttl(), h.dcp().value() << 2 | h.ecn().value());
            (seen.protocol, seen.dont_fragment) = (h.protocol().0, h.dont_fragment());
            seen.options = h.options().to_vec();
            seen.payload = ip.payload().payload.to_vec();
            seen.padding = frame.len() - 14 - usize::from(h.total_len());
        }
        NetSlice::Ipv6(ip) => {
            let h = ip.header();
            (seen.src, seen.dst) = (h.source_addr().into(), h.destination_addr().into());
            (seen.ttl, seen.tos) = (h.hop_limit(), h.traffic_class());
            seen.protocol = ip.payload().ip_number.0;
            seen.payload = ip.payload().payload.to_vec();
            seen.padding = frame.len() - 54 - usize::from(h.payload_length());
        }
        other => panic!("not IP: {other:?}"),
    }
    match packet.transport {
        Some(TransportSlice::Udp(udp)) => {
            seen.ports = (udp.source_port(), udp.destination_port());
            assert_eq!(usize::from(udp.length()), 8 + udp.payload().len(), "UDP length");
            let header = udp.to_header();
            let want = match (seen.src, seen.dst) {
                (IpAddr::V4(s), IpAddr::V4(d)) => {
                    header.calc_checksum_ipv4_raw(s.octets(), d.octets(), udp.payload())
                }
                (IpAddr::V6(s), IpAddr::V6(d)) => {
                    header.calc_checksum_ipv6_raw(s.octets(), d.octets(), udp.payload())
                }
                _ => unreachable!(),
            };
            seen.has_checksum = udp.checksum() != 0;
            if seen.has_checksum {
                assert_eq!(udp.checksum(), want.unwrap(), "UDP checksum");
            }
            seen.payload = udp.payload().to_vec();
        }
        Some(TransportSlice::Tcp(tcp)) => {
            seen.ports = (tcp.source_port(), tcp.destination_port());
            let want = match (seen.src, seen.dst) {
                (IpAddr::V4(s), IpAddr::V4(d)) => tcp.calc_checksum_ipv4(s.octets(), d.octets()),
                (IpAddr::V6(s), IpAddr::V6(d)) => tcp.calc_checksum_ipv6(s.octets(), d.octets()),
                _ => unreachable!(),
            };
            assert_eq!(tcp.checksum(), want.unwrap(), "TCP checksum");
            seen.payload = tcp.payload().to_vec();
        }
        Some(TransportSlice::Icmpv4(icmp)) => {
            let want = icmp.icmp_type().calc_checksum(icmp.payload());
            assert_eq!(icmp.checksum(), want, "ICMP checksum");
            seen.icmp = (icmp.type_u8(), icmp.code_u8());
            seen.echo = echo_words(icmp.bytes5to8());
            seen.payload = icmp.payload().to_vec();
        }
        Some(TransportSlice::Icmpv6(icmp)) => {
            let (IpAddr::V6(s), IpAddr::V6(d)) = (seen.src, seen.dst) else {
                panic!("ICMPv6 in IPv4")
            };
            assert!(icmp.is_checksum_valid(s.octets(), d.octets()), "ICMPv6 checksum");
            seen.icmp = (icmp.type_u8(), icmp.code_u8());
            seen.echo = echo_words(icmp.bytes5to8());
            seen.payload = icmp.payload().to_vec();
        }
        _ => {}
    }
    seen
}

fn echo_words([a, b, c, d]: [u8; 4]) -> (u16, u16) {
    (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]))
}
