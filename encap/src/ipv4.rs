//! IPv4 (RFC 791; DSCP RFC 2474, ECN RFC 3168, identification RFC 6864).

use core::net::Ipv4Addr;

use crate::checksum;
use crate::ip::TtlExpired;
use crate::wire::{self, error, view};

mod field {
    use crate::wire::Field;
    pub const VER_IHL: usize = 0;
    pub const TOS: usize = 1;
    pub const TOTAL_LEN: Field = 2..4;
    pub const IDENT: Field = 4..6;
    pub const FRAGMENT: Field = 6..8;
    pub const TTL: usize = 8;
    pub const PROTOCOL: usize = 9;
    pub const CHECKSUM: Field = 10..12;
    pub const SRC: Field = 12..16;
    pub const DST: Field = 16..20;
    pub const OPTIONS: usize = 20;
}

const DF: u16 = 0x4000;
const MF: u16 = 0x2000;
const OFFSET_MASK: u16 = 0x1fff;

/// Bytes of a header without options.
pub const HEADER_LEN: usize = 20;
/// The largest header, options included.
pub const MAX_HEADER_LEN: usize = 60;

error! {
    /// Why bytes are not an IPv4 packet.
    Error {
        Truncated "shorter than its IPv4 header",
        Version "the version is not 4",
        HeaderLength "the header length is below 20 bytes",
        TotalLength "the total length is shorter than the header or longer than the packet",
        Checksum "the header checksum is wrong",
    }
}

view! {
    /// An IPv4 packet. The buffer may be longer than the packet (Ethernet pads short frames), and
    /// with [`View::new_checked_within`] shorter than its payload, but never than its header.
    Error
}

impl<T: AsRef<[u8]>> View<T> {
    /// Like [`View::new_checked`] for a packet whose payload may continue beyond `buffer`, in
    /// further segments: `available` bytes of frame in all, counted from the IPv4 header.
    #[inline(always)]
    pub fn new_checked_within(buffer: T, available: usize) -> Result<View<T>, Error> {
        let view = View::new_unchecked(buffer);
        view.check_within(available)?;
        Ok(view)
    }

    /// Checks version, header length and total length against the buffer. The checksum is a
    /// separate step: [`View::checksum_ok`].
    #[inline]
    pub fn check_len(&self) -> Result<(), Error> {
        self.check_within(self.bytes().len())
    }

    #[inline(always)]
    fn check_within(&self, available: usize) -> Result<(), Error> {
        let b = self.bytes();
        let Some(h) = b.first_chunk::<HEADER_LEN>() else {
            // A short buffer of another version is better called by its name.
            return Err(match b.first() {
                Some(v) if v >> 4 != 4 => Error::Version,
                _ => Error::Truncated,
            });
        };
        let total = usize::from(u16::from_be_bytes([h[2], h[3]]));
        let mut header_len = HEADER_LEN;
        if h[0] != 0x45 {
            if h[0] >> 4 != 4 {
                return Err(Error::Version);
            }
            header_len = usize::from(h[0] & 0xf) * 4;
            if header_len < HEADER_LEN {
                return Err(Error::HeaderLength);
            }
            if header_len > b.len() {
                return Err(Error::Truncated);
            }
        }
        if total < header_len || total > available {
            return Err(Error::TotalLength);
        }
        Ok(())
    }

    /// IP version, 4 after a check.
    #[inline]
    pub fn version(&self) -> u8 {
        wire::read_u8(self.bytes(), field::VER_IHL) >> 4
    }

    /// Header length in bytes, options included.
    #[inline]
    pub fn header_len(&self) -> usize {
        usize::from(wire::read_u8(self.bytes(), field::VER_IHL) & 0xf) * 4
    }

    /// The former type of service octet: DSCP and ECN.
    #[inline]
    pub fn tos(&self) -> u8 {
        wire::read_u8(self.bytes(), field::TOS)
    }

    /// Differentiated services code point, 6 bits.
    #[inline]
    pub fn dscp(&self) -> u8 {
        self.tos() >> 2
    }

    /// Explicit congestion notification.
    #[inline]
    pub fn ecn(&self) -> crate::ecn::Ecn {
        crate::ecn::Ecn::from_tos(self.tos())
    }

    /// Header and payload in bytes, as the header says.
    #[inline]
    pub fn total_len(&self) -> usize {
        usize::from(wire::read_u16(self.bytes(), field::TOTAL_LEN))
    }

    /// Identification, which has meaning for fragments only.
    #[inline]
    pub fn ident(&self) -> u16 {
        wire::read_u16(self.bytes(), field::IDENT)
    }

    #[inline]
    fn fragment_word(&self) -> u16 {
        wire::read_u16(self.bytes(), field::FRAGMENT)
    }

    /// DF: must not be fragmented.
    #[inline]
    pub fn dont_fragment(&self) -> bool {
        self.fragment_word() & DF != 0
    }

    /// MF: not the last fragment.
    #[inline]
    pub fn more_fragments(&self) -> bool {
        self.fragment_word() & MF != 0
    }

    /// Offset of the fragment's payload in bytes, a multiple of 8.
    #[inline]
    pub fn fragment_offset(&self) -> usize {
        usize::from(self.fragment_word() & OFFSET_MASK) * 8
    }

    /// Whether this is a piece of a packet: MF set, or an offset.
    #[inline]
    pub fn is_fragment(&self) -> bool {
        self.fragment_word() & (MF | OFFSET_MASK) != 0
    }

    /// Time to live.
    #[inline]
    pub fn ttl(&self) -> u8 {
        wire::read_u8(self.bytes(), field::TTL)
    }

    /// Protocol of the payload, see [`crate::ip::protocol`].
    #[inline]
    pub fn protocol(&self) -> u8 {
        wire::read_u8(self.bytes(), field::PROTOCOL)
    }

    /// The header checksum as it is in the packet.
    #[inline]
    pub fn checksum(&self) -> u16 {
        wire::read_u16(self.bytes(), field::CHECKSUM)
    }

    /// Source.
    #[inline]
    pub fn src(&self) -> Ipv4Addr {
        wire::read::<4>(self.bytes(), field::SRC).into()
    }

    /// Destination.
    #[inline]
    pub fn dst(&self) -> Ipv4Addr {
        wire::read::<4>(self.bytes(), field::DST).into()
    }

    /// Options with their padding, empty in most packets.
    #[inline]
    pub fn options(&self) -> &[u8] {
        wire::clip(self.bytes(), field::OPTIONS, self.header_len())
    }

    /// The payload, without Ethernet padding; clipped to the buffer.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        wire::clip(self.bytes(), self.header_len(), self.total_len())
    }

    /// Whether the header checksum is right.
    #[inline(always)]
    pub fn checksum_ok(&self) -> bool {
        match self.bytes().first_chunk() {
            Some(h) if h[0] == 0x45 => checksum::is_valid20(h),
            _ => checksum::is_valid(wire::clip(self.bytes(), 0, self.header_len())),
        }
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> View<T> {
    /// Sets version 4 and the header length in bytes, a multiple of 4 from 20 to 60.
    #[inline]
    pub fn set_header_len(&mut self, len: usize) {
        wire::write_u8(self.buffer.as_mut(), field::VER_IHL, 0x40 | (len / 4) as u8 & 0xf);
    }

    /// Sets DSCP and ECN; the checksum must be filled after.
    #[inline]
    pub fn set_tos(&mut self, tos: u8) {
        wire::write_u8(self.buffer.as_mut(), field::TOS, tos);
    }

    /// Sets the total length in bytes.
    #[inline]
    pub fn set_total_len(&mut self, len: u16) {
        wire::write_u16(self.buffer.as_mut(), field::TOTAL_LEN, len);
    }

    /// Sets the identification.
    #[inline]
    pub fn set_ident(&mut self, ident: u16) {
        wire::write_u16(self.buffer.as_mut(), field::IDENT, ident);
    }

    /// Sets DF, MF and the offset in bytes, a multiple of 8.
    #[inline]
    pub fn set_fragment(&mut self, df: bool, mf: bool, offset: usize) {
        let word =
            (offset / 8) as u16 & OFFSET_MASK | if df { DF } else { 0 } | if mf { MF } else { 0 };
        wire::write_u16(self.buffer.as_mut(), field::FRAGMENT, word);
    }

    /// Sets the time to live.
    #[inline]
    pub fn set_ttl(&mut self, ttl: u8) {
        wire::write_u8(self.buffer.as_mut(), field::TTL, ttl);
    }

    /// Sets the protocol of the payload.
    #[inline]
    pub fn set_protocol(&mut self, protocol: u8) {
        wire::write_u8(self.buffer.as_mut(), field::PROTOCOL, protocol);
    }

    /// Sets the source.
    #[inline]
    pub fn set_src(&mut self, ip: Ipv4Addr) {
        wire::write(self.buffer.as_mut(), field::SRC, ip.octets());
    }

    /// Sets the destination.
    #[inline]
    pub fn set_dst(&mut self, ip: Ipv4Addr) {
        wire::write(self.buffer.as_mut(), field::DST, ip.octets());
    }

    /// The payload, writable, clipped to the buffer.
    #[inline]
    pub fn payload_mut(&mut self) -> &mut [u8] {
        let (from, to) = (self.header_len(), self.total_len());
        wire::clip_mut(self.buffer.as_mut(), from, to)
    }

    /// Computes and stores the header checksum.
    #[inline]
    pub fn fill_checksum(&mut self) {
        wire::write_u16(self.buffer.as_mut(), field::CHECKSUM, 0);
        let sum = checksum::checksum(wire::clip(self.bytes(), 0, self.header_len()));
        wire::write_u16(self.buffer.as_mut(), field::CHECKSUM, sum);
    }

    /// Takes one from the TTL and updates the checksum (RFC 1624). A packet whose TTL is 0 or 1
    /// stays as it is.
    #[inline(always)]
    pub fn decrement_ttl(&mut self) -> Result<(), TtlExpired> {
        let b = self.buffer.as_mut();
        // TTL, protocol and checksum at once, the TTL lowest.
        let word = u32::from_le_bytes(wire::read(b, field::TTL..field::CHECKSUM.end));
        if word & 0xff < 2 {
            return Err(TtlExpired::Expired);
        }
        // What RFC 1624's equation 3 comes to when a word loses 0x0100: the checksum gains as much,
        // which is 1 in this order of its octets, and the carry comes round, already at 0xffff, which is
        // zero.
        let carry = if word >= 0xfffe_0000 { 1 << 16 } else { 0 };
        let counted = word.wrapping_add((1 << 16) - 1).wrapping_add(carry);
        wire::write(b, field::TTL..field::CHECKSUM.end, counted.to_le_bytes());
        Ok(())
    }

    /// Replaces the ECN bits and updates the checksum.
    #[inline]
    pub fn replace_ecn(&mut self, ecn: crate::ecn::Ecn) {
        let b = self.buffer.as_mut();
        let old = wire::read_u16(b, 0..2);
        let new = old & !3 | u16::from(ecn.bits());
        if new != old {
            let sum = checksum::update_u16(wire::read_u16(b, field::CHECKSUM), old, new);
            wire::write_u16(b, 0..2, new);
            wire::write_u16(b, field::CHECKSUM, sum);
        }
    }
}

/// The total length of a header without options that is in order, checksum included: what
/// [`View::new_checked_within`] and [`View::checksum_ok`] let pass, in a few wide loads, if the packet is
/// no longer than what is there, which is for the caller to look at. None of one that is not in order, has
/// options, or is shorter than `least` bytes, which are at least a header.
#[inline(always)]
pub fn usual_len(header: &[u8; HEADER_LEN], least: u16) -> Option<usize> {
    debug_assert!(usize::from(least) >= HEADER_LEN);
    let first = u32::from_be_bytes([header[0], header[1], header[2], header[3]]);
    // Without the tos: zeros and the length if version and header length are right, else far above.
    let total = (first ^ 0x4500_0000) & 0xff00_ffff;
    let longer = total.wrapping_sub(least.into());
    (longer <= u32::from(u16::MAX - least) && checksum::is_valid20(header))
        .then_some(total as usize)
}

/// How a packet that we send may be treated on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fragmentation {
    /// DF is set. The packet is atomic, so its identification is 0 (RFC 6864 section 4.1).
    Forbidden,
    /// Routers may fragment it: the identification should not repeat for the same addresses and
    /// protocol while fragments live.
    Allowed {
        /// Identification.
        ident: u16,
    },
}

/// An IPv4 header without options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repr {
    /// Source.
    pub src: Ipv4Addr,
    /// Destination.
    pub dst: Ipv4Addr,
    /// Protocol of the payload.
    pub protocol: u8,
    /// DSCP and ECN.
    pub tos: u8,
    /// Time to live.
    pub ttl: u8,
    /// Identification.
    pub ident: u16,
    /// DF: must not be fragmented.
    pub dont_fragment: bool,
    /// Bytes after the header; at most 65,515 to be emitted.
    pub payload_len: usize,
}

impl Repr {
    /// Reads and verifies the header of `view`. Options and fragment position are left out: ask the
    /// view.
    #[inline]
    pub fn parse<T: AsRef<[u8]>>(view: &View<T>) -> Result<Repr, Error> {
        view.check_within(usize::MAX)?;
        if !view.checksum_ok() {
            return Err(Error::Checksum);
        }
        Ok(Repr {
            src: view.src(),
            dst: view.dst(),
            protocol: view.protocol(),
            tos: view.tos(),
            ttl: view.ttl(),
            ident: view.ident(),
            dont_fragment: view.dont_fragment(),
            payload_len: view.total_len() - view.header_len(),
        })
    }

    /// Bytes that [`Repr::emit`] writes: the header.
    pub const fn buffer_len(&self) -> usize {
        HEADER_LEN
    }

    /// Writes the header, checksum included, to the front of `out`.
    #[inline]
    pub fn emit(&self, out: &mut [u8]) {
        debug_assert!(self.payload_len <= usize::from(u16::MAX) - HEADER_LEN);
        let mut v = View::new_unchecked(out);
        v.set_header_len(HEADER_LEN);
        v.set_tos(self.tos);
        v.set_total_len((HEADER_LEN + self.payload_len) as u16);
        v.set_ident(self.ident);
        v.set_fragment(self.dont_fragment, false, 0);
        v.set_ttl(self.ttl);
        v.set_protocol(self.protocol);
        v.set_src(self.src);
        v.set_dst(self.dst);
        v.fill_checksum();
    }
}
