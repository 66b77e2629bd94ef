//! Superpackets of TCP segments (generic receive offload).
//!
//! Segments are merged when nothing is lost by it: they differ in nothing but sequence number, lengths,
//! identification, PSH and checksums, and follow one another. It is stricter than Linux's
//! net/ipv4/tcp_offload.c, which lets a window go. An identification tells nothing of a packet that must
//! not be fragmented (RFC 6864 section 4.1: it is not to be looked at), and others are left alone.
//!
//! UDP is not merged: the bounds of its datagrams mean something, and only a socket that asked for it
//! (UDP_GRO) takes several at once; for all others the kernel would cut them apart again.

use crate::checksum::{self, Sum};
use crate::ethernet::{HEADER_LEN, ethertype};
use crate::ip::{IpVersion, protocol};
use crate::{ipv4, ipv6, tcp};

/// Bytes of the largest IP packet that segments are merged to.
pub const MAX_PACKET: usize = 65_535;

const V4: usize = HEADER_LEN + ipv4::HEADER_LEN;
const V6: usize = HEADER_LEN + ipv6::HEADER_LEN;

/// What a frame is to somebody who merges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Neither IP nor TCP in it: it may pass others.
    Other,
    /// Perhaps TCP, but not plainly so: fragments, options, extension headers, VLAN tags, anything
    /// damaged. It must not pass any.
    Opaque,
    /// A TCP segment behind plain headers.
    Tcp(Segment),
}

/// A TCP segment directly behind an Ethernet header and an IPv4 header without options or an IPv6 header
/// without extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    version: IpVersion,
    /// Whether it may be merged with others, as far as it shows alone.
    mergeable: bool,
    /// PSH: nothing goes behind it.
    push: bool,
    /// Bytes of all headers.
    headers: u16,
    /// Bytes of payload.
    payload: u16,
    sequence: u32,
}

impl Look {
    /// Looks at a frame of `len` bytes, whose first segment is `bytes`.
    #[inline]
    pub fn at(bytes: &[u8], len: usize) -> Look {
        const IPV4: [u8; 2] = ethertype::IPV4.to_be_bytes();
        const IPV6: [u8; 2] = ethertype::IPV6.to_be_bytes();
        const VLAN: [u8; 2] = ethertype::VLAN.to_be_bytes();
        const QINQ: [u8; 2] = ethertype::QINQ.to_be_bytes();
        let Some(header) = bytes.first_chunk::<HEADER_LEN>() else { return Look::Other };
        match [header[12], header[13]] {
            IPV4 => v4(bytes, len),
            IPV6 => v6(bytes, len),
            VLAN | QINQ => Look::Opaque,
            _ => Look::Other,
        }
    }
}

#[inline]
fn v4(bytes: &[u8], len: usize) -> Look {
    let Some(ip) = bytes[HEADER_LEN..].first_chunk::<{ ipv4::HEADER_LEN }>() else {
        return Look::Opaque;
    };
    let view = ipv4::View::new_unchecked(ip);
    if view.protocol() != protocol::TCP {
        return Look::Other;
    }
    // Version 4, five words; of flags and offset nothing but DF, which a segment that is merged has.
    let plain = ip[0] == 0x45 && !view.is_fragment() && ip[6] & 0x80 == 0;
    if !plain || view.total_len() + HEADER_LEN != len || !checksum::is_valid20(ip) {
        return Look::Opaque;
    }
    tcp_segment(bytes, len, IpVersion::V4, view.dont_fragment())
}

#[inline]
fn v6(bytes: &[u8], len: usize) -> Look {
    let Some(ip) = bytes[HEADER_LEN..].first_chunk::<{ ipv6::HEADER_LEN }>() else {
        return Look::Opaque;
    };
    let view = ipv6::View::new_unchecked(ip);
    match view.next_header() {
        protocol::TCP => {}
        next if ipv6::is_extension(next) => return Look::Opaque,
        _ => return Look::Other,
    }
    if view.version() != 6 || view.payload_len() + V6 != len {
        return Look::Opaque;
    }
    tcp_segment(bytes, len, IpVersion::V6, true)
}

#[inline(always)]
fn tcp_segment(bytes: &[u8], len: usize, version: IpVersion, mergeable: bool) -> Look {
    let at = start(version);
    let Some(header) = bytes[at..].first_chunk::<{ tcp::HEADER_LEN }>() else {
        return Look::Opaque;
    };
    let view = tcp::View::new_unchecked(header);
    let headers = at + view.header_len();
    if view.header_len() < tcp::HEADER_LEN || headers > bytes.len() {
        return Look::Opaque;
    }
    let payload = len - headers;
    let plain = view.flags() & !tcp::flag::PSH == tcp::flag::ACK;
    Look::Tcp(Segment {
        version,
        // With a byte of payload beside the headers, so that something is left of its buffer.
        mergeable: mergeable && plain && headers < bytes.len() && len - HEADER_LEN <= MAX_PACKET,
        push: view.flags() & tcp::flag::PSH != 0,
        headers: headers as u16,
        payload: payload.min(MAX_PACKET) as u16,
        sequence: view.sequence(),
    })
}

/// Where the TCP header starts.
#[inline(always)]
const fn start(version: IpVersion) -> usize {
    match version {
        IpVersion::V4 => V4,
        IpVersion::V6 => V6,
    }
}

impl Segment {
    /// Whether others may be merged with it: it has data, and no control bits but ACK and PSH.
    #[inline]
    pub const fn is_mergeable(&self) -> bool {
        self.mergeable
    }

    /// Whether it is the last of those that it is merged with.
    #[inline]
    pub const fn is_last(&self) -> bool {
        self.push
    }

    /// Bytes of all headers.
    #[inline]
    pub fn headers_len(&self) -> usize {
        self.headers.into()
    }

    /// Bytes of payload.
    #[inline]
    pub const fn payload_len(&self) -> u16 {
        self.payload
    }

    /// Where what the TCP checksum covers starts in the frame.
    #[inline]
    pub const fn tcp_start(&self) -> usize {
        start(self.version)
    }

    /// The sum of the pseudo-header, for `len` bytes of TCP header and payload. `bytes` are those that
    /// were looked at.
    pub fn pseudo_header(&self, bytes: &[u8], payload: usize) -> Sum {
        let len = self.headers_len() - self.tcp_start() + payload;
        match self.version {
            IpVersion::V4 => {
                let ip = ipv4::View::new_unchecked(&bytes[HEADER_LEN..]);
                Sum::ZERO.pseudo_v4(ip.src(), ip.dst(), protocol::TCP, len as u16)
            }
            IpVersion::V6 => {
                let ip = ipv6::View::new_unchecked(&bytes[HEADER_LEN..]);
                Sum::ZERO.pseudo_v6(ip.src(), ip.dst(), protocol::TCP, len as u32)
            }
        }
    }

    /// Whether two segments are of one flow: of the same addresses and ports. `bytes` and `others` are
    /// those of the two frames.
    #[inline]
    pub fn is_same_flow(&self, bytes: &[u8], other: &Segment, others: &[u8]) -> bool {
        self.version == other.version
            && match self.version {
                IpVersion::V4 => bytes[HEADER_LEN + 12..V4 + 4] == others[HEADER_LEN + 12..V4 + 4],
                IpVersion::V6 => bytes[HEADER_LEN + 8..V6 + 4] == others[HEADER_LEN + 8..V6 + 4],
            }
    }

    /// Whether the headers of `next`, a segment of the same flow, say what those of this one say, which
    /// has `payload` bytes in all by now, and whether it goes on where those end.
    pub fn is_continued_by(
        &self,
        bytes: &[u8],
        payload: usize,
        next: &Segment,
        others: &[u8],
    ) -> bool {
        let at = self.tcp_start();
        // The ends of what is equal, and where it goes on, from the Ethernet header.
        let ip_fits = match self.version {
            // Total length, identification and checksum differ, flags and TTL do not.
            IpVersion::V4 => {
                bytes[..HEADER_LEN + 2] == others[..HEADER_LEN + 2]
                    && bytes[HEADER_LEN + 6..HEADER_LEN + 10]
                        == others[HEADER_LEN + 6..HEADER_LEN + 10]
            }
            // The payload length differs.
            IpVersion::V6 => {
                bytes[..HEADER_LEN + 4] == others[..HEADER_LEN + 4]
                    && bytes[HEADER_LEN + 6..HEADER_LEN + 8]
                        == others[HEADER_LEN + 6..HEADER_LEN + 8]
            }
        };
        next.mergeable
            && self.headers == next.headers
            && next.sequence == self.sequence.wrapping_add(payload as u32)
            && ip_fits
            // Acknowledgment and data offset; window; urgent pointer and options.
            && bytes[at + 8..at + 13] == others[at + 8..at + 13]
            && bytes[at + 14..at + 16] == others[at + 14..at + 16]
            && bytes[at + 18..self.headers_len()] == others[at + 18..self.headers_len()]
            && self.headers_len() - HEADER_LEN + payload + usize::from(next.payload) <= MAX_PACKET
    }

    /// Makes the headers of this segment those of a superpacket with `payload` bytes in all, of which
    /// the last ones were sent with PSH if `push` says so.
    pub fn finish(&self, bytes: &mut [u8], payload: usize, push: bool) {
        let len = self.headers_len() - HEADER_LEN + payload;
        let at = self.tcp_start();
        let packet = &mut bytes[HEADER_LEN..];
        match self.version {
            IpVersion::V4 => {
                let mut ip = ipv4::View::new_unchecked(packet);
                ip.set_total_len(len as u16);
                ip.fill_checksum();
            }
            IpVersion::V6 => {
                let len = len - ipv6::HEADER_LEN;
                ipv6::View::new_unchecked(packet).set_payload_len(len as u16);
            }
        }
        let partial = self.pseudo_header(bytes, payload).fold();
        let mut tcp = tcp::View::new_unchecked(&mut bytes[at..]);
        if push {
            tcp.set_flags(tcp.flags() | tcp::flag::PSH);
        }
        tcp.set_checksum(partial);
    }
}
