//! UDP (RFC 768, RFC 8200 section 8.1).

use core::net::IpAddr;

use crate::checksum::Sum;
use crate::ip::protocol;
use crate::wire::{self, error, view};

mod field {
    use crate::wire::Field;
    pub const SRC_PORT: Field = 0..2;
    pub const DST_PORT: Field = 2..4;
    pub const LENGTH: Field = 4..6;
    pub const CHECKSUM: Field = 6..8;
}

/// Bytes of the header.
pub const HEADER_LEN: usize = 8;

error! {
    /// Why bytes are not a UDP datagram.
    Error {
        Truncated "shorter than a UDP header",
        Length "the UDP length is below 8 or longer than the IP payload",
    }
}

view! {
    /// A UDP datagram. The buffer may be longer than the datagram, and with
    /// [`View::new_checked_within`] shorter than its payload.
    Error
}

impl<T: AsRef<[u8]>> View<T> {
    /// Like [`View::new_checked`] for a datagram that may continue beyond `buffer`, in further
    /// segments: `available` bytes of IP payload in all.
    #[inline(always)]
    pub fn new_checked_within(buffer: T, available: usize) -> Result<View<T>, Error> {
        let view = View::new_unchecked(buffer);
        view.check_within(available)?;
        Ok(view)
    }

    /// Checks the length field against the buffer.
    #[inline]
    pub fn check_len(&self) -> Result<(), Error> {
        self.check_within(self.bytes().len())
    }

    #[inline(always)]
    fn check_within(&self, available: usize) -> Result<(), Error> {
        if self.bytes().len() < HEADER_LEN || available < HEADER_LEN {
            return Err(Error::Truncated);
        }
        if self.len() < HEADER_LEN || self.len() > available {
            return Err(Error::Length);
        }
        Ok(())
    }

    /// Source port.
    #[inline]
    pub fn src_port(&self) -> u16 {
        wire::read_u16(self.bytes(), field::SRC_PORT)
    }

    /// Destination port.
    #[inline]
    pub fn dst_port(&self) -> u16 {
        wire::read_u16(self.bytes(), field::DST_PORT)
    }

    /// Header and payload in bytes, as the header says.
    #[allow(clippy::len_without_is_empty)]
    #[inline]
    pub fn len(&self) -> usize {
        usize::from(wire::read_u16(self.bytes(), field::LENGTH))
    }

    /// The checksum field; 0 means none.
    #[inline]
    pub fn checksum(&self) -> u16 {
        wire::read_u16(self.bytes(), field::CHECKSUM)
    }

    /// The payload, clipped to the buffer.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        wire::clip(self.bytes(), HEADER_LEN, self.len())
    }

    /// Whether the checksum of a datagram wholly in the buffer is right. "None" is, over IPv4; over
    /// IPv6 it is not (the exception of RFC 6935 for tunnels is the caller's to make).
    #[inline]
    pub fn checksum_ok(&self, src: IpAddr, dst: IpAddr) -> bool {
        if self.checksum() == 0 {
            return src.is_ipv4();
        }
        Sum::ZERO
            .pseudo(src, dst, protocol::UDP, self.len() as u16)
            .bytes(wire::clip(self.bytes(), 0, self.len()))
            .is_valid()
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> View<T> {
    /// Sets the source port.
    #[inline]
    pub fn set_src_port(&mut self, port: u16) {
        wire::write_u16(self.buffer.as_mut(), field::SRC_PORT, port);
    }

    /// Sets the destination port.
    #[inline]
    pub fn set_dst_port(&mut self, port: u16) {
        wire::write_u16(self.buffer.as_mut(), field::DST_PORT, port);
    }

    /// Sets the length of header and payload in bytes.
    #[inline]
    pub fn set_len(&mut self, len: u16) {
        wire::write_u16(self.buffer.as_mut(), field::LENGTH, len);
    }

    /// Sets the checksum field; 0 means none.
    #[inline]
    pub fn set_checksum(&mut self, checksum: u16) {
        wire::write_u16(self.buffer.as_mut(), field::CHECKSUM, checksum);
    }

    /// The payload, writable, clipped to the buffer.
    #[inline]
    pub fn payload_mut(&mut self) -> &mut [u8] {
        let to = self.len();
        wire::clip_mut(self.buffer.as_mut(), HEADER_LEN, to)
    }

    /// Computes and stores the checksum of a datagram wholly in the buffer.
    #[inline]
    pub fn fill_checksum(&mut self, src: IpAddr, dst: IpAddr) {
        self.set_checksum(0);
        let sum = Sum::ZERO.pseudo(src, dst, protocol::UDP, self.len() as u16).bytes(wire::clip(
            self.bytes(),
            0,
            self.len(),
        ));
        self.set_checksum(sum.udp_checksum());
    }
}

/// A UDP header; the checksum is the view's business, because it covers the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repr {
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// Bytes after the header; at most 65,527 to be emitted.
    pub payload_len: usize,
}

impl Repr {
    /// Reads the header of `view`.
    #[inline]
    pub fn parse<T: AsRef<[u8]>>(view: &View<T>) -> Result<Repr, Error> {
        view.check_within(usize::MAX)?;
        Ok(Repr {
            src_port: view.src_port(),
            dst_port: view.dst_port(),
            payload_len: view.len() - HEADER_LEN,
        })
    }

    /// Bytes that [`Repr::emit`] writes: the header.
    pub const fn buffer_len(&self) -> usize {
        HEADER_LEN
    }

    /// Writes the header, without a checksum, to the front of `out`.
    #[inline]
    pub fn emit(&self, out: &mut [u8]) {
        debug_assert!(self.payload_len <= usize::from(u16::MAX) - HEADER_LEN);
        let mut v = View::new_unchecked(out);
        v.set_src_port(self.src_port);
        v.set_dst_port(self.dst_port);
        v.set_len((HEADER_LEN + self.payload_len) as u16);
        v.set_checksum(0);
    }
}
