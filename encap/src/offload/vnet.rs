//! The header before a packet to or from a virtio network device (VIRTIO 1.3 section 5.1.6), as a TAP
//! device has it with IFF_VNET_HDR.

use super::{Error, Layout, MAX_DATAGRAMS, MAX_PACKETS, Transport};
use crate::checksum::Sum;
use crate::ethernet;
use crate::ip::IpVersion;
use crate::{tcp, udp};

/// `flags`: the checksum is partial.
const NEEDS_CSUM: u8 = 1;
/// `gso_type`.
mod gso {
    pub const NONE: u8 = 0;
    pub const TCPV4: u8 = 1;
    pub const TCPV6: u8 = 4;
    pub const UDP_L4: u8 = 5;
    /// Beside TCPV4 or TCPV6: CWR is set.
    pub const ECN: u8 = 0x80;
}

/// `struct virtio_net_hdr`, without `num_buffers`. All zeros: an ordinary packet, complete.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VnetHeader {
    /// VIRTIO_NET_HDR_F_*.
    pub flags: u8,
    /// VIRTIO_NET_HDR_GSO_*.
    pub gso_type: u8,
    /// Bytes of headers, a hint.
    pub hdr_len: u16,
    /// Bytes of payload of each packet.
    pub gso_size: u16,
    /// Where what the checksum covers starts, besides the pseudo-header; it goes up to the end.
    pub csum_start: u16,
    /// Where the checksum lies, from there.
    pub csum_offset: u16,
}

/// What a guest hands over, and so it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// A packet with nothing left to do.
    Complete,
    /// A packet whose checksum is partial.
    Partial(Partial),
    /// A superpacket.
    Superpacket(Layout),
}

/// A checksum that is to be completed: the field holds what is to be added to the sum over the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partial {
    /// Where the bytes start that it covers; they end with the packet.
    pub start: usize,
    /// Where the field lies.
    pub field: usize,
}

impl Partial {
    /// The value of the field, of the sum over the bytes, the field as it is included. A zero is sent
    /// as all ones, which is the same to all but UDP, where zero means "none" (RFC 768).
    pub const fn complete(sum: Sum) -> u16 {
        sum.udp_checksum()
    }
}

impl VnetHeader {
    /// Bytes on the wire.
    pub const LEN: usize = 10;

    /// Reads it, little-endian as VIRTIO has it.
    pub const fn from_le_bytes(b: [u8; VnetHeader::LEN]) -> VnetHeader {
        VnetHeader {
            flags: b[0],
            gso_type: b[1],
            hdr_len: u16::from_le_bytes([b[2], b[3]]),
            gso_size: u16::from_le_bytes([b[4], b[5]]),
            csum_start: u16::from_le_bytes([b[6], b[7]]),
            csum_offset: u16::from_le_bytes([b[8], b[9]]),
        }
    }

    /// The bytes, little-endian as VIRTIO has them.
    pub const fn to_le_bytes(self) -> [u8; VnetHeader::LEN] {
        let ([l, m], [s, t]) = (self.hdr_len.to_le_bytes(), self.gso_size.to_le_bytes());
        let ([c, d], [o, p]) = (self.csum_start.to_le_bytes(), self.csum_offset.to_le_bytes());
        [self.flags, self.gso_type, l, m, s, t, c, d, o, p]
    }

    /// Holds the header against the headers of the packet that it is about: `bytes` is the first
    /// segment of a frame of `len` bytes. Whoever wrote it is not to be believed.
    ///
    /// A partial checksum may be anywhere in the first segment, as VIRTIO allows: that of a tunnel's
    /// inner packet, too. A superpacket is one only if it is TCP or UDP over IP, as the header says,
    /// with its own checksum partial, and larger than one packet.
    pub fn check(&self, bytes: &[u8], len: usize) -> Result<Claim, Error> {
        if self.gso_type == gso::NONE {
            if self.flags & NEEDS_CSUM == 0 {
                return Ok(Claim::Complete);
            }
            let start = usize::from(self.csum_start);
            let field = start + usize::from(self.csum_offset);
            if start < ethernet::HEADER_LEN || field + 2 > bytes.len() {
                return Err(Error::Claim);
            }
            return Ok(Claim::Partial(Partial { start, field }));
        }
        let layout = Layout::parse(bytes, len)?;
        let (version, transport) = match self.gso_type & !gso::ECN {
            gso::TCPV4 => (Some(IpVersion::V4), Transport::Tcp),
            gso::TCPV6 => (Some(IpVersion::V6), Transport::Tcp),
            gso::UDP_L4 if self.gso_type & gso::ECN == 0 => (None, Transport::Udp),
            _ => return Err(Error::Claim),
        };
        let is_as_claimed = layout.transport == transport
            && version.is_none_or(|version| layout.version == version)
            && self.flags & NEEDS_CSUM != 0
            && usize::from(self.csum_start) == layout.header
            && usize::from(self.csum_offset) == transport.checksum_at()
            && usize::from(self.hdr_len) <= len;
        if !is_as_claimed {
            return Err(Error::Claim);
        }
        if self.gso_size == 0 {
            return Err(Error::Empty);
        }
        let most = match transport {
            Transport::Tcp => MAX_PACKETS,
            Transport::Udp => MAX_DATAGRAMS,
        };
        match layout.packets(self.gso_size) {
            1 => Ok(Claim::Partial(layout.partial())),
            n if n > most => Err(Error::TooMany),
            _ => Ok(Claim::Superpacket(layout)),
        }
    }

    /// The header of a superpacket of UDP, whose header is at `udp`, with `size` bytes of payload in each
    /// datagram.
    pub const fn of_datagrams(udp: usize, size: u16) -> VnetHeader {
        VnetHeader {
            flags: NEEDS_CSUM,
            gso_type: gso::UDP_L4,
            hdr_len: (udp + udp::HEADER_LEN) as u16,
            gso_size: size,
            csum_start: udp as u16,
            csum_offset: Transport::Udp.checksum_at() as u16,
        }
    }

    /// The header of a superpacket with these headers and `size` bytes of payload in each packet. If it is a single
    /// one, it is an ordinary packet whose checksum is partial.
    pub fn of_superpacket(layout: &Layout, headers: &[u8], size: u16) -> VnetHeader {
        let is_single = layout.packets(size) == 1;
        let gso_type = match (layout.transport, layout.version) {
            (Transport::Udp, _) => gso::UDP_L4,
            (Transport::Tcp, version) => {
                let tcp = tcp::View::new_unchecked(&headers[layout.header..]);
                let ecn = if tcp.flags() & tcp::flag::CWR != 0 { gso::ECN } else { 0 };
                ecn | if version == IpVersion::V4 { gso::TCPV4 } else { gso::TCPV6 }
            }
        };
        VnetHeader {
            flags: NEEDS_CSUM,
            gso_type: if is_single { gso::NONE } else { gso_type },
            hdr_len: layout.payload as u16,
            gso_size: if is_single { 0 } else { size },
            csum_start: layout.header as u16,
            csum_offset: layout.transport.checksum_at() as u16,
        }
    }
}
