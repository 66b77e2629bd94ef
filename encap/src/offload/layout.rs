//! Where the headers of a superpacket are.

use super::{Error, MAX_HEADERS, Partial};
use crate::checksum::Sum;
use crate::ethernet::{self, ethertype};
use crate::ip::{IpVersion, protocol};
use crate::{ipv4, ipv6, tcp, udp, vlan};

/// VLAN tags that are looked behind.
const MAX_TAGS: usize = 2;

/// What a superpacket carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP: segmentation offload (TSO).
    Tcp,
    /// UDP: datagrams of one size to one receiver (USO).
    Udp,
}

impl Transport {
    /// Its protocol number.
    pub const fn protocol(self) -> u8 {
        match self {
            Transport::Tcp => protocol::TCP,
            Transport::Udp => protocol::UDP,
        }
    }

    /// Where the checksum lies in its header, in bytes.
    pub const fn checksum_at(self) -> usize {
        match self {
            Transport::Tcp => 16,
            Transport::Udp => 6,
        }
    }
}

/// The headers of a TCP segment or UDP datagram in an Ethernet frame, and of what a superpacket of it
/// consists. Places are counted in bytes from the Ethernet header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Of the IP header.
    pub version: IpVersion,
    /// What is behind it.
    pub transport: Transport,
    /// Where the IP header starts: behind the Ethernet header and VLAN tags.
    pub network: usize,
    /// Where the TCP or UDP header starts: behind options and extension headers.
    pub header: usize,
    /// Where the payload starts.
    pub payload: usize,
    /// Bytes of payload; at least one.
    pub payload_len: usize,
}

impl Layout {
    /// Finds the headers in `bytes`, the first segment of a frame of `len` bytes in all, and validates
    /// them: lengths are those of the frame, nothing is a fragment, a TCP segment has neither SYN nor
    /// RST. Of IPv6's extension headers hop-by-hop and destination options may be there; a routing
    /// header changes what the checksum covers (RFC 8200 section 8.1).
    pub fn parse(bytes: &[u8], len: usize) -> Result<Layout, Error> {
        let (network, kind) = behind_tags(bytes)?;
        let packet = &bytes[network..];
        let available = len.checked_sub(network).ok_or(Error::Truncated)?;
        let (version, at, next) = match kind {
            ethertype::IPV4 => ipv4_header(packet, available)?,
            ethertype::IPV6 => ipv6_headers(packet, available)?,
            _ => return Err(Error::NotIp),
        };
        let header = network + at;
        let inner = bytes.get(header..).ok_or(Error::Truncated)?;
        let (transport, header_len) = match next {
            protocol::TCP => {
                let view = tcp::View::new_checked(inner).map_err(|_| Error::Truncated)?;
                if view.flags() & (tcp::flag::SYN | tcp::flag::RST) != 0 {
                    return Err(Error::Flags);
                }
                (Transport::Tcp, view.header_len())
            }
            protocol::UDP => {
                let datagram =
                    inner.first_chunk::<{ udp::HEADER_LEN }>().ok_or(Error::Truncated)?;
                if udp::View::new_unchecked(datagram).len() != len - header {
                    return Err(Error::Length);
                }
                (Transport::Udp, udp::HEADER_LEN)
            }
            _ => return Err(Error::Transport),
        };
        let payload = header + header_len;
        let payload_len = len.checked_sub(payload).ok_or(Error::Length)?;
        if payload_len == 0 {
            return Err(Error::Empty);
        }
        if payload > MAX_HEADERS {
            return Err(Error::HeadersLength);
        }
        Ok(Layout { version, transport, network, header, payload, payload_len })
    }

    /// How many packets a superpacket with `size` bytes of payload in each stands for.
    pub const fn packets(&self, size: u16) -> usize {
        match size {
            0 => 1,
            _ => self.payload_len.div_ceil(size as usize),
        }
    }

    /// Bytes of the largest of these packets, from its IP header on.
    pub fn packet_len(&self, size: u16) -> usize {
        self.payload - self.network + self.payload_len.min(usize::from(size))
    }

    /// The sum of the pseudo-header of a packet with `payload_len` bytes of payload. `headers` are
    /// those that were parsed.
    pub fn pseudo_header(&self, headers: &[u8], payload_len: usize) -> Sum {
        let len = self.payload - self.header + payload_len;
        let (packet, protocol) = (&headers[self.network..], self.transport.protocol());
        match self.version {
            IpVersion::V4 => {
                let ip = ipv4::View::new_unchecked(packet);
                Sum::ZERO.pseudo_v4(ip.src(), ip.dst(), protocol, len as u16)
            }
            IpVersion::V6 => {
                let ip = ipv6::View::new_unchecked(packet);
                Sum::ZERO.pseudo_v6(ip.src(), ip.dst(), protocol, len as u32)
            }
        }
    }

    /// Writes the partial checksum of the superpacket into its headers.
    pub fn fill_partial(&self, headers: &mut [u8]) {
        let sum = self.pseudo_header(headers, self.payload_len).fold();
        let at = self.checksum_at();
        headers[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    }

    /// The TCP or UDP checksum while it is partial.
    pub const fn partial(&self) -> Partial {
        Partial { start: self.header, field: self.checksum_at() }
    }

    /// Where the TCP or UDP checksum lies.
    pub const fn checksum_at(&self) -> usize {
        self.header + self.transport.checksum_at()
    }
}

/// Where the packet starts behind Ethernet header and tags, and its EtherType.
fn behind_tags(bytes: &[u8]) -> Result<(usize, u16), Error> {
    let (_, _, mut kind) = ethernet::header(bytes).ok_or(Error::Truncated)?;
    let mut at = ethernet::HEADER_LEN;
    for _ in 0..MAX_TAGS {
        if !matches!(kind, ethertype::VLAN | ethertype::QINQ) {
            break;
        }
        let tag = vlan::View::new_checked(&bytes[at..]).map_err(|_| Error::Truncated)?;
        kind = tag.ethertype();
        at += vlan::HEADER_LEN;
    }
    Ok((at, kind))
}

/// Version, length of the header, and protocol.
fn ipv4_header(packet: &[u8], available: usize) -> Result<(IpVersion, usize, u8), Error> {
    let ip = match ipv4::View::new_checked_within(packet, available) {
        Ok(ip) => ip,
        Err(ipv4::Error::Truncated) => return Err(Error::Truncated),
        Err(_) => return Err(Error::Header),
    };
    if ip.is_fragment() {
        return Err(Error::Fragment);
    }
    if ip.total_len() != available {
        return Err(Error::Length);
    }
    Ok((IpVersion::V4, ip.header_len(), ip.protocol()))
}

/// Version, length of the headers, and protocol.
fn ipv6_headers(packet: &[u8], available: usize) -> Result<(IpVersion, usize, u8), Error> {
    let ip = match ipv6::View::new_checked_within(packet, available) {
        Ok(ip) => ip,
        Err(ipv6::Error::Truncated) => return Err(Error::Truncated),
        Err(_) => return Err(Error::Header),
    };
    if ip.total_len() != available {
        return Err(Error::Length);
    }
    let (mut next, mut at) = (ip.next_header(), ipv6::HEADER_LEN);
    for _ in 0..ipv6::MAX_EXTENSION_HEADERS {
        match next {
            protocol::HOP_BY_HOP | protocol::DESTINATION_OPTIONS => {
                let header: &[u8; 8] =
                    packet.get(at..).and_then(|b| b.first_chunk()).ok_or(Error::Truncated)?;
                at += ipv6::extension_len(next, header).0;
                next = header[0];
            }
            _ if ipv6::is_extension(next) => return Err(Error::Fragment),
            _ => return Ok((IpVersion::V6, at, next)),
        }
    }
    Err(Error::Header)
}
