//! The packets of a superpacket, header by header (Linux's net/ipv4/tcp_offload.c and udp_offload.c do
//! the same; RFC 9293 section 3.1, RFC 3168 section 6.1.2 for CWR).

use super::{Layout, Transport};
use crate::checksum::Sum;
use crate::ip::IpVersion;
use crate::{ipv4, ipv6, tcp, udp};

/// One packet of a superpacket.
#[derive(Clone, Copy, Debug)]
pub struct Cut {
    /// Which one, from 0.
    pub index: usize,
    /// Where its payload starts in that of the superpacket.
    pub at: usize,
    /// Bytes of its payload.
    pub len: usize,
    /// The sum of its payload.
    pub sum: Sum,
}

impl Layout {
    /// Writes the headers of one packet to `out`, which is as long as they are: `headers`, those of the
    /// superpacket, with lengths, identification, sequence number, control bits and checksums of its
    /// own.
    pub fn write_headers(&self, headers: &[u8], cut: &Cut, out: &mut [u8]) {
        out.copy_from_slice(&headers[..self.payload]);
        let packet_len = self.payload - self.network + cut.len;
        let packet = &mut out[self.network..];
        match self.version {
            IpVersion::V4 => {
                let mut ip = ipv4::View::new_unchecked(packet);
                ip.set_total_len(packet_len as u16);
                // Each packet has its own, as it must where DF is not set (RFC 6864 section 4).
                ip.set_ident(ip.ident().wrapping_add(cut.index as u16));
                ip.fill_checksum();
            }
            IpVersion::V6 => {
                let len = packet_len - ipv6::HEADER_LEN;
                ipv6::View::new_unchecked(packet).set_payload_len(len as u16);
            }
        }
        let pseudo = self.pseudo_header(out, cut.len).fold();
        let header = &mut out[self.header..];
        match self.transport {
            Transport::Tcp => {
                let mut tcp = tcp::View::new_unchecked(&mut *header);
                tcp.set_sequence(tcp.sequence().wrapping_add(cut.at as u32));
                let is_last = cut.at + cut.len == self.payload_len;
                tcp.set_flags(flags(tcp.flags(), cut.index == 0, is_last));
                if tcp.flags() & tcp::flag::URG != 0 {
                    // Counted from the sequence number; behind the urgent data there is none.
                    let urgent = usize::from(tcp.urgent()).saturating_sub(cut.at);
                    tcp.set_urgent(urgent as u16);
                    if urgent == 0 {
                        tcp.set_flags(tcp.flags() & !tcp::flag::URG);
                    }
                }
                tcp.set_checksum(0);
            }
            Transport::Udp => {
                let mut udp = udp::View::new_unchecked(&mut *header);
                udp.set_len((udp::HEADER_LEN + cut.len) as u16);
                udp.set_checksum(0);
            }
        }
        // Headers are even in length: the sum of the payload is not swapped.
        let sum = Sum::ZERO.bytes(header).u16(pseudo).u16(cut.sum.fold());
        let checksum = match self.transport {
            Transport::Tcp => sum.checksum(),
            Transport::Udp => sum.udp_checksum(),
        };
        let at = self.checksum_at();
        out[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
    }
}

/// The control bits of a packet: the last one ends the data, the first one says that the congestion
/// window was reduced.
const fn flags(of_all: u8, is_first: bool, is_last: bool) -> u8 {
    use tcp::flag::{CWR, FIN, PSH};
    let mut flags = of_all;
    if !is_first {
        flags &= !CWR;
    }
    if !is_last {
        flags &= !(FIN | PSH);
    }
    flags
}
