//! IPv6 and its extension headers (RFC 8200, RFC 7045).

use core::net::Ipv6Addr;

use crate::ip::{TtlExpired, protocol};
use crate::wire::{self, error, view};

mod field {
    use crate::wire::Field;
    pub const VER_TC: Field = 0..2;
    pub const VER_TC_FL: Field = 0..4;
    pub const PAYLOAD_LEN: Field = 4..6;
    pub const NEXT_HEADER: usize = 6;
    pub const HOP_LIMIT: usize = 7;
    pub const SRC: Field = 8..24;
    pub const DST: Field = 24..40;
    /// Of a fragment extension header: offset in units of 8, 2 reserved bits, M.
    pub const FRAGMENT_OFFSET: Field = 2..4;
    pub const FRAGMENT_IDENT: Field = 4..8;
}

/// Bytes of the fixed header.
pub const HEADER_LEN: usize = 40;
/// How many extension headers [`upper_layer`] walks over: one of each kind that RFC 8200 section
/// 4.1 recommends an order for, and destination options twice.
pub const MAX_EXTENSION_HEADERS: usize = 8;

error! {
    /// Why bytes are not an IPv6 packet.
    Error {
        Truncated "shorter than its IPv6 headers",
        Version "the version is not 6",
        PayloadLength "the payload length is longer than the packet",
        TooManyHeaders "more extension headers than are looked at",
    }
}

view! {
    /// An IPv6 packet. The buffer may be longer than the packet, and with
    /// [`View::new_checked_within`] shorter than its payload. Jumbograms (RFC 2675) are not
    /// supported: their payload length of zero means an empty payload.
    Error
}

impl<T: AsRef<[u8]>> View<T> {
    /// Like [`View::new_checked`] for a packet whose payload may continue beyond `buffer`, in
    /// further segments: `available` bytes of frame in all, counted from the IPv6 header.
    #[inline(always)]
    pub fn new_checked_within(buffer: T, available: usize) -> Result<View<T>, Error> {
        let view = View::new_unchecked(buffer);
        view.check_within(available)?;
        Ok(view)
    }

    /// Checks version and payload length against the buffer.
    #[inline]
    pub fn check_len(&self) -> Result<(), Error> {
        self.check_within(self.bytes().len())
    }

    #[inline(always)]
    fn check_within(&self, available: usize) -> Result<(), Error> {
        let b = self.bytes();
        let Some(h) = b.first_chunk::<HEADER_LEN>() else {
            return Err(match b.first() {
                Some(v) if v >> 4 != 6 => Error::Version,
                _ => Error::Truncated,
            });
        };
        if h[0] >> 4 != 6 {
            return Err(Error::Version);
        }
        if HEADER_LEN + usize::from(u16::from_be_bytes([h[4], h[5]])) > available {
            return Err(Error::PayloadLength);
        }
        Ok(())
    }

    /// IP version, 6 after a check.
    #[inline]
    pub fn version(&self) -> u8 {
        wire::read_u8(self.bytes(), 0) >> 4
    }

    /// Traffic class: DSCP and ECN, as IPv4's tos.
    #[inline]
    pub fn traffic_class(&self) -> u8 {
        (wire::read_u16(self.bytes(), field::VER_TC) >> 4) as u8
    }

    /// Differentiated services code point, 6 bits.
    #[inline]
    pub fn dscp(&self) -> u8 {
        self.traffic_class() >> 2
    }

    /// Explicit congestion notification.
    #[inline]
    pub fn ecn(&self) -> crate::ecn::Ecn {
        crate::ecn::Ecn::from_tos(self.traffic_class())
    }

    /// Flow label, 20 bits.
    #[inline]
    pub fn flow_label(&self) -> u32 {
        wire::read_u32(self.bytes(), field::VER_TC_FL) & 0x000f_ffff
    }

    /// Bytes after the fixed header, extension headers included, as the header says.
    #[inline]
    pub fn payload_len(&self) -> usize {
        usize::from(wire::read_u16(self.bytes(), field::PAYLOAD_LEN))
    }

    /// Fixed header and payload in bytes.
    #[inline]
    pub fn total_len(&self) -> usize {
        HEADER_LEN + self.payload_len()
    }

    /// What follows the fixed header: an extension header or the upper layer.
    #[inline]
    pub fn next_header(&self) -> u8 {
        wire::read_u8(self.bytes(), field::NEXT_HEADER)
    }

    /// Hop limit.
    #[inline]
    pub fn hop_limit(&self) -> u8 {
        wire::read_u8(self.bytes(), field::HOP_LIMIT)
    }

    /// Source.
    #[inline]
    pub fn src(&self) -> Ipv6Addr {
        wire::read::<16>(self.bytes(), field::SRC).into()
    }

    /// Destination.
    #[inline]
    pub fn dst(&self) -> Ipv6Addr {
        wire::read::<16>(self.bytes(), field::DST).into()
    }

    /// What follows the fixed header, without Ethernet padding; clipped to the buffer.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        wire::clip(self.bytes(), HEADER_LEN, self.total_len())
    }

    /// The upper-layer protocol behind the extension headers; see [`upper_layer`].
    #[inline]
    pub fn upper_layer(&self) -> Result<UpperLayer, Error> {
        let h = self.next_header();
        if !is_extension(h) {
            return Ok(UpperLayer { protocol: h, offset: HEADER_LEN, fragment: None });
        }
        walk(h, wire::clip(self.bytes(), 0, self.total_len()))
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> View<T> {
    /// Sets version 6, traffic class and flow label; surplus high bits of the label are ignored.
    #[inline]
    pub fn set_version_class_label(&mut self, traffic_class: u8, flow_label: u32) {
        let word = 6 << 28 | u32::from(traffic_class) << 20 | flow_label & 0x000f_ffff;
        wire::write_u32(self.buffer.as_mut(), field::VER_TC_FL, word);
    }

    /// Sets the flow label; its surplus high bits are ignored.
    #[inline]
    pub fn set_flow_label(&mut self, flow_label: u32) {
        self.set_version_class_label(self.traffic_class(), flow_label);
    }

    /// Sets the payload length in bytes.
    #[inline]
    pub fn set_payload_len(&mut self, len: u16) {
        wire::write_u16(self.buffer.as_mut(), field::PAYLOAD_LEN, len);
    }

    /// Sets the next header.
    #[inline]
    pub fn set_next_header(&mut self, protocol: u8) {
        wire::write_u8(self.buffer.as_mut(), field::NEXT_HEADER, protocol);
    }

    /// Sets the hop limit.
    #[inline]
    pub fn set_hop_limit(&mut self, hop_limit: u8) {
        wire::write_u8(self.buffer.as_mut(), field::HOP_LIMIT, hop_limit);
    }

    /// Sets the source.
    #[inline]
    pub fn set_src(&mut self, ip: Ipv6Addr) {
        wire::write(self.buffer.as_mut(), field::SRC, ip.octets());
    }

    /// Sets the destination.
    #[inline]
    pub fn set_dst(&mut self, ip: Ipv6Addr) {
        wire::write(self.buffer.as_mut(), field::DST, ip.octets());
    }

    /// What follows the fixed header, writable, clipped to the buffer.
    #[inline]
    pub fn payload_mut(&mut self) -> &mut [u8] {
        let to = self.total_len();
        wire::clip_mut(self.buffer.as_mut(), HEADER_LEN, to)
    }

    /// Takes one from the hop limit. A packet whose hop limit is 0 or 1 stays as it is.
    #[inline(always)]
    pub fn decrement_hop_limit(&mut self) -> Result<(), TtlExpired> {
        let b = self.buffer.as_mut();
        let old = wire::read_u8(b, field::HOP_LIMIT);
        if old < 2 {
            return Err(TtlExpired::Expired);
        }
        wire::write_u8(b, field::HOP_LIMIT, old - 1);
        Ok(())
    }

    /// Replaces the ECN bits.
    #[inline]
    pub fn replace_ecn(&mut self, ecn: crate::ecn::Ecn) {
        let b = self.buffer.as_mut();
        let word = wire::read_u16(b, field::VER_TC) & !0x30 | u16::from(ecn.bits()) << 4;
        wire::write_u16(b, field::VER_TC, word);
    }
}

/// What an IPv6 packet carries behind its extension headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpperLayer {
    /// Its protocol number. Of a later fragment, the one its fragment header names, which may be
    /// that of a further extension header.
    pub protocol: u8,
    /// Where it starts, in bytes from the fixed header's start.
    pub offset: usize,
    /// The fragment header met on the way.
    pub fragment: Option<Fragment>,
}

impl UpperLayer {
    /// Whether the upper-layer header is in another fragment.
    #[inline]
    pub fn is_later_fragment(&self) -> bool {
        self.fragment.is_some_and(|f| f.offset != 0)
    }

    /// Whether this is a piece of a packet. An atomic fragment (RFC 6946: offset 0 and no more to
    /// come) is not.
    #[inline]
    pub fn is_fragment(&self) -> bool {
        self.fragment.is_some_and(|f| f.offset != 0 || f.more)
    }
}

/// An IPv6 fragment header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// Offset of the fragment in bytes, a multiple of 8.
    pub offset: usize,
    /// Not the last fragment.
    pub more: bool,
    /// Identification.
    pub ident: u32,
}

/// Whether a next header is an extension header that says where it ends (RFC 7045).
#[inline(always)]
pub const fn is_extension(next_header: u8) -> bool {
    use protocol::{AH, DESTINATION_OPTIONS, FRAGMENT, HIP, HOP_BY_HOP, MOBILITY, ROUTING, SHIM6};
    matches!(
        next_header,
        HOP_BY_HOP | ROUTING | FRAGMENT | AH | DESTINATION_OPTIONS | MOBILITY | HIP | SHIM6
    )
}

/// Finds the upper-layer protocol of `packet`, which starts with a checked fixed header.
///
/// Stops at the first header that is no extension (ESP and "no next header" included), and at a
/// later fragment. Headers must lie in `packet` as a whole; at most
/// [`MAX_EXTENSION_HEADERS`] are looked at, so that the cost of a packet is bounded.
#[inline]
pub fn upper_layer(packet: &[u8]) -> Result<UpperLayer, Error> {
    View::new_checked_within(packet, usize::MAX)?.upper_layer()
}

/// The walk itself, out of line: few packets have extension headers.
#[inline(never)]
fn walk(first: u8, packet: &[u8]) -> Result<UpperLayer, Error> {
    let (mut next, mut offset, mut fragment) = (first, HEADER_LEN, None);
    for _ in 0..MAX_EXTENSION_HEADERS {
        let header: &[u8; 8] =
            packet.get(offset..).and_then(|b| b.first_chunk()).ok_or(Error::Truncated)?;
        let (len, is_later_fragment) = extension_len(next, header);
        if next == protocol::FRAGMENT {
            let word = wire::read_u16(header, field::FRAGMENT_OFFSET);
            let f = Fragment {
                offset: usize::from(word & !7),
                // A piece stays one, whatever a second header inside it says.
                more: word & 1 != 0 || fragment.is_some_and(|f: Fragment| f.more),
                ident: wire::read_u32(header, field::FRAGMENT_IDENT),
            };
            fragment = Some(f);
            if is_later_fragment {
                return Ok(UpperLayer { protocol: header[0], offset: offset + len, fragment });
            }
        }
        next = header[0];
        offset += len;
        if offset > packet.len() {
            return Err(Error::Truncated);
        }
        if !is_extension(next) {
            return Ok(UpperLayer { protocol: next, offset, fragment });
        }
    }
    Err(Error::TooManyHeaders)
}

/// The length in bytes of an extension header of kind `next`, of which `header` is the start, and
/// whether it says that what follows is the middle of something.
#[inline(always)]
pub(crate) fn extension_len(next: u8, header: &[u8; 8]) -> (usize, bool) {
    match next {
        protocol::FRAGMENT => (8, wire::read_u16(header, field::FRAGMENT_OFFSET) & !7 != 0),
        // RFC 4302 section 2.2: in 4-octet units, minus 2.
        protocol::AH => ((usize::from(header[1]) + 2) * 4, false),
        _ => ((usize::from(header[1]) + 1) * 8, false),
    }
}

/// An IPv6 fixed header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repr {
    /// Source.
    pub src: Ipv6Addr,
    /// Destination.
    pub dst: Ipv6Addr,
    /// What follows the fixed header.
    pub next_header: u8,
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// Flow label, 20 bits.
    pub flow_label: u32,
    /// Hop limit.
    pub hop_limit: u8,
    /// Bytes after the fixed header; at most 65,535 to be emitted.
    pub payload_len: usize,
}

impl Repr {
    /// Reads the fixed header of `view`.
    #[inline]
    pub fn parse<T: AsRef<[u8]>>(view: &View<T>) -> Result<Repr, Error> {
        view.check_within(usize::MAX)?;
        Ok(Repr {
            src: view.src(),
            dst: view.dst(),
            next_header: view.next_header(),
            traffic_class: view.traffic_class(),
            flow_label: view.flow_label(),
            hop_limit: view.hop_limit(),
            payload_len: view.payload_len(),
        })
    }

    /// Bytes that [`Repr::emit`] writes: the fixed header.
    pub const fn buffer_len(&self) -> usize {
        HEADER_LEN
    }

    /// Writes the fixed header to the front of `out`.
    #[inline]
    pub fn emit(&self, out: &mut [u8]) {
        debug_assert!(self.payload_len <= usize::from(u16::MAX));
        let mut v = View::new_unchecked(out);
        v.set_version_class_label(self.traffic_class, self.flow_label);
        v.set_payload_len(self.payload_len as u16);
        v.set_next_header(self.next_header);
        v.set_hop_limit(self.hop_limit);
        v.set_src(self.src);
        v.set_dst(self.dst);
    }
}
