//! ICMP for IPv4 (RFC 792; next-hop MTU RFC 1191).

use crate::checksum;
use crate::wire::{self, error, view};

mod field {
    use crate::wire::Field;
    pub const TYPE: usize = 0;
    pub const CODE: usize = 1;
    pub const TYPE_CODE: Field = 0..2;
    pub const CHECKSUM: Field = 2..4;
    pub const IDENT: Field = 4..6;
    pub const SEQUENCE: Field = 6..8;
    pub const NEXT_HOP_MTU: Field = 6..8;
    pub const REST: Field = 4..8;
}

/// Bytes of the header that all messages have.
pub const HEADER_LEN: usize = 8;

/// Message types.
pub mod message {
    /// Echo reply.
    pub const ECHO_REPLY: u8 = 0;
    /// Destination unreachable.
    pub const UNREACHABLE: u8 = 3;
    /// Echo request.
    pub const ECHO_REQUEST: u8 = 8;
    /// Time exceeded.
    pub const TIME_EXCEEDED: u8 = 11;
}

/// Codes of "destination unreachable".
pub mod unreachable {
    /// No route to the network.
    pub const NETWORK: u8 = 0;
    /// The host does not answer.
    pub const HOST: u8 = 1;
    /// The protocol is not spoken there.
    pub const PROTOCOL: u8 = 2;
    /// Nobody listens on the port.
    pub const PORT: u8 = 3;
    /// DF is set and the packet too big for the next hop (RFC 1191).
    pub const FRAGMENTATION_NEEDED: u8 = 4;
    /// Prohibited by an administrator (RFC 1812 section 5.2.7.1).
    pub const PROHIBITED: u8 = 13;
}

error! {
    /// Why bytes are not a known ICMP message.
    Error {
        Truncated "shorter than an ICMP header",
        Checksum "the ICMP checksum is wrong",
        Unknown "a message type other than echo, unreachable and time exceeded",
    }
}

view! {
    /// An ICMP message: the IPv4 payload.
    Error
}

impl<T: AsRef<[u8]>> View<T> {
    /// Whether the header fits the buffer.
    #[inline]
    pub fn check_len(&self) -> Result<(), Error> {
        if self.bytes().len() < HEADER_LEN { Err(Error::Truncated) } else { Ok(()) }
    }

    /// Message type, see [`message`].
    #[inline]
    pub fn message_type(&self) -> u8 {
        wire::read_u8(self.bytes(), field::TYPE)
    }

    /// Code, whose meaning depends on the type.
    #[inline]
    pub fn code(&self) -> u8 {
        wire::read_u8(self.bytes(), field::CODE)
    }

    /// The checksum as it is in the message.
    #[inline]
    pub fn checksum(&self) -> u16 {
        wire::read_u16(self.bytes(), field::CHECKSUM)
    }

    /// Identifier of an echo message.
    #[inline]
    pub fn ident(&self) -> u16 {
        wire::read_u16(self.bytes(), field::IDENT)
    }

    /// Sequence number of an echo message.
    #[inline]
    pub fn sequence(&self) -> u16 {
        wire::read_u16(self.bytes(), field::SEQUENCE)
    }

    /// MTU of the next hop in "fragmentation needed"; 0 from routers older than RFC 1191.
    #[inline]
    pub fn next_hop_mtu(&self) -> u16 {
        wire::read_u16(self.bytes(), field::NEXT_HOP_MTU)
    }

    /// Echo data, or the start of the packet that an error is about.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        wire::clip(self.bytes(), HEADER_LEN, usize::MAX)
    }

    /// Whether the checksum of a message wholly in the buffer is right.
    #[inline]
    pub fn checksum_ok(&self) -> bool {
        checksum::is_valid(self.bytes())
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> View<T> {
    /// Sets type and code.
    #[inline]
    pub fn set_type_code(&mut self, message_type: u8, code: u8) {
        wire::write(self.buffer.as_mut(), field::TYPE_CODE, [message_type, code]);
    }

    /// Sets the four octets after the checksum.
    #[inline]
    pub fn set_rest(&mut self, high: u16, low: u16) {
        let word = u32::from(high) << 16 | u32::from(low);
        wire::write_u32(self.buffer.as_mut(), field::REST, word);
    }

    /// Computes and stores the checksum over the whole buffer.
    #[inline]
    pub fn fill_checksum(&mut self) {
        wire::write_u16(self.buffer.as_mut(), field::CHECKSUM, 0);
        let sum = checksum::checksum(self.bytes());
        wire::write_u16(self.buffer.as_mut(), field::CHECKSUM, sum);
    }

    /// Turns an echo request into its reply, and updates the checksum without a look at the data:
    /// they may continue in further segments.
    #[inline]
    pub fn request_to_reply(&mut self) {
        let b = self.buffer.as_mut();
        let old = wire::read_u16(b, field::TYPE_CODE);
        let new = u16::from_be_bytes([message::ECHO_REPLY, old as u8]);
        let sum = checksum::update_u16(wire::read_u16(b, field::CHECKSUM), old, new);
        // A reply may consist of zeros only. Its checksum is then 0xffff, and the update says 0; for
        // any other reply the two are the same to a receiver.
        let sum = if sum == 0 { 0xffff } else { sum };
        wire::write_u16(b, field::TYPE_CODE, new);
        wire::write_u16(b, field::CHECKSUM, sum);
    }
}

/// The ICMP messages that a router sends and answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repr<'a> {
    /// "Are you there?"
    EchoRequest {
        /// Identifier, the same for one ping.
        ident: u16,
        /// Sequence number.
        sequence: u16,
        /// Returned as it is.
        data: &'a [u8],
    },
    /// "I am."
    EchoReply {
        /// Identifier of the request.
        ident: u16,
        /// Sequence number of the request.
        sequence: u16,
        /// Data of the request.
        data: &'a [u8],
    },
    /// The packet could not be delivered.
    Unreachable {
        /// Why, see [`mod@unreachable`].
        code: u8,
        /// MTU of the next hop, with [`unreachable::FRAGMENTATION_NEEDED`]; otherwise 0.
        next_hop_mtu: u16,
        /// The packet's IPv4 header and the start of its payload.
        packet: &'a [u8],
    },
    /// The TTL ran out (code 0) or reassembly took too long (code 1).
    TimeExceeded {
        /// 0 in transit, 1 in reassembly.
        code: u8,
        /// The packet's IPv4 header and the start of its payload.
        packet: &'a [u8],
    },
}

impl<'a> Repr<'a> {
    /// Reads and verifies a message wholly in the buffer.
    #[inline]
    pub fn parse(view: &View<&'a [u8]>) -> Result<Repr<'a>, Error> {
        view.check_len()?;
        if !view.checksum_ok() {
            return Err(Error::Checksum);
        }
        let (code, payload) = (view.code(), wire::clip(view.buffer, HEADER_LEN, usize::MAX));
        let (ident, sequence) = (view.ident(), view.sequence());
        Ok(match view.message_type() {
            message::ECHO_REQUEST => Repr::EchoRequest { ident, sequence, data: payload },
            message::ECHO_REPLY => Repr::EchoReply { ident, sequence, data: payload },
            message::UNREACHABLE => {
                Repr::Unreachable { code, next_hop_mtu: view.next_hop_mtu(), packet: payload }
            }
            message::TIME_EXCEEDED => Repr::TimeExceeded { code, packet: payload },
            _ => return Err(Error::Unknown),
        })
    }

    fn payload(&self) -> &'a [u8] {
        match *self {
            Repr::EchoRequest { data, .. } | Repr::EchoReply { data, .. } => data,
            Repr::Unreachable { packet, .. } | Repr::TimeExceeded { packet, .. } => packet,
        }
    }

    /// Bytes that [`Repr::emit`] writes.
    pub fn buffer_len(&self) -> usize {
        HEADER_LEN + self.payload().len()
    }

    /// Writes the message, checksum included, to the front of `out`.
    #[inline]
    pub fn emit(&self, out: &mut [u8]) {
        let payload = self.payload();
        wire::copy(out, HEADER_LEN, payload);
        let len = self.buffer_len();
        let mut v = View::new_unchecked(wire::clip_mut(out, 0, len));
        match *self {
            Repr::EchoRequest { ident, sequence, .. } => {
                v.set_type_code(message::ECHO_REQUEST, 0);
                v.set_rest(ident, sequence);
            }
            Repr::EchoReply { ident, sequence, .. } => {
                v.set_type_code(message::ECHO_REPLY, 0);
                v.set_rest(ident, sequence);
            }
            Repr::Unreachable { code, next_hop_mtu, .. } => {
                v.set_type_code(message::UNREACHABLE, code);
                v.set_rest(0, next_hop_mtu);
            }
            Repr::TimeExceeded { code, .. } => {
                v.set_type_code(message::TIME_EXCEEDED, code);
                v.set_rest(0, 0);
            }
        }
        v.fill_checksum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `ping` with identifier, sequence number and data of zero: RFC 1624's update alone would
    /// leave a checksum of 0, which no receiver accepts over zeros.
    #[test]
    fn reply_of_zeros_is_valid() {
        let mut message = [0; 16];
        Repr::EchoRequest { ident: 0, sequence: 0, data: &[0; 8] }.emit(&mut message);
        View::new_unchecked(&mut message).request_to_reply();
        assert!(View::new_unchecked(&message).checksum_ok());
        let mut reply = [0; 16];
        Repr::EchoReply { ident: 0, sequence: 0, data: &[0; 8] }.emit(&mut reply);
        assert_eq!(message, reply);
    }

    /// The other side of it: words that sum to 0xffff.
    #[test]
    fn reply_that_sums_to_all_ones_is_valid() {
        let mut message = [0; 16];
        Repr::EchoRequest { ident: 0xffff, sequence: 0, data: &[0; 8] }.emit(&mut message);
        View::new_unchecked(&mut message).request_to_reply();
        assert!(View::new_unchecked(&message).checksum_ok());
    }
}
