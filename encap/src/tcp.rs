//! TCP as far as a switch looks into it (RFC 9293; maximum segment size section 3.7.1).

use core::net::IpAddr;

use crate::checksum::{self, Sum};
use crate::ip::protocol;
use crate::wire::{self, error, view};

mod field {
    use crate::wire::Field;
    pub const SRC_PORT: Field = 0..2;
    pub const DST_PORT: Field = 2..4;
    pub const SEQUENCE: Field = 4..8;
    pub const ACK: Field = 8..12;
    pub const DATA_OFFSET: usize = 12;
    pub const FLAGS: usize = 13;
    pub const WINDOW: Field = 14..16;
    pub const CHECKSUM: Field = 16..18;
    pub const URGENT: Field = 18..20;
    pub const OPTIONS: usize = 20;
}

/// Bytes of a header without options.
pub const HEADER_LEN: usize = 20;

const OPTION_END: u8 = 0;
const OPTION_NOP: u8 = 1;
const OPTION_MSS: u8 = 2;
const OPTION_MSS_LEN: u8 = 4;

/// Control bits.
pub mod flag {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Synchronize sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Reset the connection.
    pub const RST: u8 = 0x04;
    /// Push.
    pub const PSH: u8 = 0x08;
    /// The acknowledgment field is significant.
    pub const ACK: u8 = 0x10;
    /// Urgent.
    pub const URG: u8 = 0x20;
    /// ECN echo (RFC 3168).
    pub const ECE: u8 = 0x40;
    /// Congestion window reduced (RFC 3168).
    pub const CWR: u8 = 0x80;
}

error! {
    /// Why bytes are not a TCP segment.
    Error {
        Truncated "shorter than its TCP header",
        HeaderLength "the data offset is below 20 bytes",
    }
}

view! {
    /// A TCP segment: the IP payload. Only the header must lie in the buffer.
    Error
}

impl<T: AsRef<[u8]>> View<T> {
    /// Whether the header, options included, fits the buffer.
    #[inline]
    pub fn check_len(&self) -> Result<(), Error> {
        let len = self.bytes().len();
        if len < HEADER_LEN {
            return Err(Error::Truncated);
        }
        match self.header_len() {
            n if n < HEADER_LEN => Err(Error::HeaderLength),
            n if n > len => Err(Error::Truncated),
            _ => Ok(()),
        }
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

    /// Sequence number.
    #[inline]
    pub fn sequence(&self) -> u32 {
        wire::read_u32(self.bytes(), field::SEQUENCE)
    }

    /// Acknowledgment number, significant with [`flag::ACK`].
    #[inline]
    pub fn ack(&self) -> u32 {
        wire::read_u32(self.bytes(), field::ACK)
    }

    /// Header length in bytes, options included.
    #[inline]
    pub fn header_len(&self) -> usize {
        usize::from(wire::read_u8(self.bytes(), field::DATA_OFFSET) >> 4) * 4
    }

    /// Control bits, see [`flag`].
    #[inline]
    pub fn flags(&self) -> u8 {
        wire::read_u8(self.bytes(), field::FLAGS)
    }

    /// Window, not scaled.
    #[inline]
    pub fn window(&self) -> u16 {
        wire::read_u16(self.bytes(), field::WINDOW)
    }

    /// The checksum as it is in the segment.
    #[inline]
    pub fn checksum(&self) -> u16 {
        wire::read_u16(self.bytes(), field::CHECKSUM)
    }

    /// Urgent pointer, significant with [`flag::URG`]: from the sequence number to the octet behind
    /// the urgent data (RFC 6093 section 3.1).
    #[inline]
    pub fn urgent(&self) -> u16 {
        wire::read_u16(self.bytes(), field::URGENT)
    }

    /// What follows the header, clipped to the buffer.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        wire::clip(self.bytes(), self.header_len(), usize::MAX)
    }

    /// Whether the checksum of a segment that is the whole buffer is right.
    #[inline]
    pub fn checksum_ok(&self, src: IpAddr, dst: IpAddr) -> bool {
        let b = self.bytes();
        Sum::ZERO.pseudo(src, dst, protocol::TCP, b.len() as u16).bytes(b).is_valid()
    }

    /// The maximum segment size option: its value in bytes. None when there is no such option,
    /// or one before it is malformed.
    #[inline]
    pub fn mss(&self) -> Option<u16> {
        let at = self.find_mss()?;
        Some(wire::read_u16(self.bytes(), at..at + 2))
    }

    /// Where the value of the MSS option lies.
    fn find_mss(&self) -> Option<usize> {
        let header = wire::clip(self.bytes(), 0, self.header_len());
        let mut at = field::OPTIONS;
        loop {
            match *header.get(at)? {
                OPTION_END => return None,
                OPTION_NOP => at += 1,
                kind => {
                    let len = *header.get(at + 1)?;
                    let next = at + usize::from(len);
                    if len < 2 || next > header.len() {
                        return None;
                    }
                    if kind == OPTION_MSS {
                        return (len == OPTION_MSS_LEN).then_some(at + 2);
                    }
                    at = next;
                }
            }
        }
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> View<T> {
    /// Sets the source port; the checksum must be filled after.
    #[inline]
    pub fn set_src_port(&mut self, port: u16) {
        wire::write_u16(self.buffer.as_mut(), field::SRC_PORT, port);
    }

    /// Sets the destination port; the checksum must be filled after.
    #[inline]
    pub fn set_dst_port(&mut self, port: u16) {
        wire::write_u16(self.buffer.as_mut(), field::DST_PORT, port);
    }

    /// Sets the sequence number; here and below, the checksum must be filled after.
    #[inline]
    pub fn set_sequence(&mut self, sequence: u32) {
        wire::write_u32(self.buffer.as_mut(), field::SEQUENCE, sequence);
    }

    /// Sets the control bits, see [`flag`].
    #[inline]
    pub fn set_flags(&mut self, flags: u8) {
        wire::write_u8(self.buffer.as_mut(), field::FLAGS, flags);
    }

    /// Sets the urgent pointer.
    #[inline]
    pub fn set_urgent(&mut self, urgent: u16) {
        wire::write_u16(self.buffer.as_mut(), field::URGENT, urgent);
    }

    /// Sets the checksum.
    #[inline]
    pub fn set_checksum(&mut self, checksum: u16) {
        wire::write_u16(self.buffer.as_mut(), field::CHECKSUM, checksum);
    }

    /// Lowers the MSS option to `limit` bytes where it is above, and updates the checksum. Returns
    /// whether it did.
    #[inline]
    pub fn clamp_mss(&mut self, limit: u16) -> bool {
        let Some(at) = self.find_mss() else {
            return false;
        };
        let b = self.buffer.as_mut();
        let old = wire::read_u16(b, at..at + 2);
        if old <= limit {
            return false;
        }
        wire::write_u16(b, at..at + 2, limit);
        let sum = wire::read_u16(b, field::CHECKSUM);
        let sum = if at % 2 == 0 {
            checksum::update_u16(sum, old, limit)
        } else {
            checksum::update_u16_odd(sum, old, limit)
        };
        wire::write_u16(b, field::CHECKSUM, sum);
        true
    }

    /// Computes and stores the checksum of a segment that is the whole buffer.
    #[inline]
    pub fn fill_checksum(&mut self, src: IpAddr, dst: IpAddr) {
        wire::write_u16(self.buffer.as_mut(), field::CHECKSUM, 0);
        let b = self.bytes();
        let sum = Sum::ZERO.pseudo(src, dst, protocol::TCP, b.len() as u16).bytes(b).checksum();
        wire::write_u16(self.buffer.as_mut(), field::CHECKSUM, sum);
    }
}

/// A TCP header; the only option known here is the maximum segment size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repr {
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgment number.
    pub ack: u32,
    /// Control bits, see [`flag`].
    pub flags: u8,
    /// Window, not scaled.
    pub window: u16,
    /// Maximum segment size, sent with SYN.
    pub mss: Option<u16>,
}

impl Repr {
    /// Reads the header of `view`.
    #[inline]
    pub fn parse<T: AsRef<[u8]>>(view: &View<T>) -> Result<Repr, Error> {
        view.check_len()?;
        Ok(Repr {
            src_port: view.src_port(),
            dst_port: view.dst_port(),
            sequence: view.sequence(),
            ack: view.ack(),
            flags: view.flags(),
            window: view.window(),
            mss: view.mss(),
        })
    }

    /// Bytes that [`Repr::emit`] writes: the header.
    pub const fn buffer_len(&self) -> usize {
        HEADER_LEN + if self.mss.is_some() { OPTION_MSS_LEN as usize } else { 0 }
    }

    /// Writes the header, with a checksum of zero, to the front of `out`.
    #[inline]
    pub fn emit(&self, out: &mut [u8]) {
        let len = self.buffer_len();
        wire::write(out, 0..HEADER_LEN, [0; HEADER_LEN]);
        wire::write_u16(out, field::SRC_PORT, self.src_port);
        wire::write_u16(out, field::DST_PORT, self.dst_port);
        wire::write_u32(out, field::SEQUENCE, self.sequence);
        wire::write_u32(out, field::ACK, self.ack);
        wire::write_u8(out, field::DATA_OFFSET, (len as u8 / 4) << 4);
        wire::write_u8(out, field::FLAGS, self.flags);
        wire::write_u16(out, field::WINDOW, self.window);
        if let Some(mss) = self.mss {
            let [h, l] = mss.to_be_bytes();
            let at = field::OPTIONS..field::OPTIONS + usize::from(OPTION_MSS_LEN);
            wire::write(out, at, [OPTION_MSS, OPTION_MSS_LEN, h, l]);
        }
    }
}
