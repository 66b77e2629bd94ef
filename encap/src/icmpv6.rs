//! ICMPv6 (RFC 4443).

use core::net::Ipv6Addr;

use crate::checksum::{self, Sum};
use crate::ip::protocol;
use crate::wire::{self, error, view};

mod field {
    use crate::wire::Field;
    pub const TYPE: usize = 0;
    pub const CODE: usize = 1;
    pub const TYPE_CODE: Field = 0..2;
    pub const CHECKSUM: Field = 2..4;
    pub const IDENT: Field = 4..6;
    pub const SEQUENCE: Field = 6..8;
    pub const MTU: Field = 4..8;
    pub const REST: Field = 4..8;
}

/// Bytes of the header that all messages known here have.
pub const HEADER_LEN: usize = 8;

/// Message types.
pub mod message {
    /// Destination unreachable.
    pub const UNREACHABLE: u8 = 1;
    /// Packet too big.
    pub const PACKET_TOO_BIG: u8 = 2;
    /// Time exceeded.
    pub const TIME_EXCEEDED: u8 = 3;
    /// Parameter problem: a field that the packet could not be processed for.
    pub const PARAMETER_PROBLEM: u8 = 4;
    /// Echo request.
    pub const ECHO_REQUEST: u8 = 128;
    /// Echo reply.
    pub const ECHO_REPLY: u8 = 129;
    /// Router solicitation (RFC 4861).
    pub const ROUTER_SOLICIT: u8 = 133;
    /// Router advertisement (RFC 4861).
    pub const ROUTER_ADVERT: u8 = 134;
    /// Neighbour solicitation (RFC 4861), see [`crate::ndisc`].
    pub const NEIGHBOR_SOLICIT: u8 = 135;
    /// Neighbour advertisement (RFC 4861), see [`crate::ndisc`].
    pub const NEIGHBOR_ADVERT: u8 = 136;
}

/// Codes of "destination unreachable".
pub mod unreachable {
    /// No route to the destination.
    pub const NO_ROUTE: u8 = 0;
    /// Prohibited by an administrator.
    pub const PROHIBITED: u8 = 1;
    /// Beyond the scope of the source address.
    pub const SCOPE: u8 = 2;
    /// The host does not answer.
    pub const ADDRESS: u8 = 3;
    /// Nobody listens on the port.
    pub const PORT: u8 = 4;
}

error! {
    /// Why bytes are not a known ICMPv6 message.
    Error {
        Truncated "shorter than an ICMPv6 header",
        Checksum "the ICMPv6 checksum is wrong",
        Unknown "a message type other than echo, unreachable, too big and time exceeded",
    }
}

view! {
    /// An ICMPv6 message: the IPv6 upper layer.
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

    /// MTU of the next hop in "packet too big".
    #[inline]
    pub fn mtu(&self) -> u32 {
        wire::read_u32(self.bytes(), field::MTU)
    }

    /// Echo data, or the start of the packet that an error is about.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        wire::clip(self.bytes(), HEADER_LEN, usize::MAX)
    }

    /// Whether the checksum of a message wholly in the buffer is right.
    #[inline]
    pub fn checksum_ok(&self, src: Ipv6Addr, dst: Ipv6Addr) -> bool {
        self.sum(src, dst).is_valid()
    }

    #[inline]
    fn sum(&self, src: Ipv6Addr, dst: Ipv6Addr) -> Sum {
        let b = self.bytes();
        Sum::ZERO.pseudo_v6(src, dst, protocol::ICMPV6, b.len() as u32).bytes(b)
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
    pub fn set_rest(&mut self, word: u32) {
        wire::write_u32(self.buffer.as_mut(), field::REST, word);
    }

    /// Computes and stores the checksum over the whole buffer.
    #[inline]
    pub fn fill_checksum(&mut self, src: Ipv6Addr, dst: Ipv6Addr) {
        wire::write_u16(self.buffer.as_mut(), field::CHECKSUM, 0);
        let sum = self.sum(src, dst).checksum();
        wire::write_u16(self.buffer.as_mut(), field::CHECKSUM, sum);
    }

    /// Turns an echo request into its reply, and updates the checksum without a look at the data:
    /// they may continue in further segments. The swap of source and destination that goes with it
    /// does not change the sum; a reply from another source (multicast ping) needs
    /// [`View::fill_checksum`].
    #[inline]
    pub fn request_to_reply(&mut self) {
        let b = self.buffer.as_mut();
        let old = wire::read_u16(b, field::TYPE_CODE);
        let new = u16::from_be_bytes([message::ECHO_REPLY, old as u8]);
        let sum = checksum::update_u16(wire::read_u16(b, field::CHECKSUM), old, new);
        wire::write_u16(b, field::TYPE_CODE, new);
        wire::write_u16(b, field::CHECKSUM, sum);
    }
}

/// The ICMPv6 messages that a router sends and answers, neighbour discovery aside.
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
        /// The start of the packet.
        packet: &'a [u8],
    },
    /// The packet is too big for the next hop.
    PacketTooBig {
        /// MTU of the next hop.
        mtu: u32,
        /// The start of the packet.
        packet: &'a [u8],
    },
    /// The hop limit ran out (code 0) or reassembly took too long (code 1).
    TimeExceeded {
        /// 0 in transit, 1 in reassembly.
        code: u8,
        /// The start of the packet.
        packet: &'a [u8],
    },
}

impl<'a> Repr<'a> {
    /// Reads and verifies a message wholly in the buffer.
    #[inline]
    pub fn parse(view: &View<&'a [u8]>, src: Ipv6Addr, dst: Ipv6Addr) -> Result<Repr<'a>, Error> {
        view.check_len()?;
        if !view.checksum_ok(src, dst) {
            return Err(Error::Checksum);
        }
        let (code, payload) = (view.code(), wire::clip(view.buffer, HEADER_LEN, usize::MAX));
        let (ident, sequence) = (view.ident(), view.sequence());
        Ok(match view.message_type() {
            message::ECHO_REQUEST => Repr::EchoRequest { ident, sequence, data: payload },
            message::ECHO_REPLY => Repr::EchoReply { ident, sequence, data: payload },
            message::UNREACHABLE => Repr::Unreachable { code, packet: payload },
            message::PACKET_TOO_BIG => Repr::PacketTooBig { mtu: view.mtu(), packet: payload },
            message::TIME_EXCEEDED => Repr::TimeExceeded { code, packet: payload },
            _ => return Err(Error::Unknown),
        })
    }

    fn payload(&self) -> &'a [u8] {
        match *self {
            Repr::EchoRequest { data, .. } | Repr::EchoReply { data, .. } => data,
            Repr::Unreachable { packet, .. }
            | Repr::PacketTooBig { packet, .. }
            | Repr::TimeExceeded { packet, .. } => packet,
        }
    }

    /// Bytes that [`Repr::emit`] writes.
    pub fn buffer_len(&self) -> usize {
        HEADER_LEN + self.payload().len()
    }

    /// Writes the message, checksum included, to the front of `out`.
    #[inline]
    pub fn emit(&self, out: &mut [u8], src: Ipv6Addr, dst: Ipv6Addr) {
        let payload = self.payload();
        wire::copy(out, HEADER_LEN, payload);
        let len = self.buffer_len();
        let mut v = View::new_unchecked(wire::clip_mut(out, 0, len));
        let (message_type, code, rest) = match *self {
            Repr::EchoRequest { ident, sequence, .. } => {
                (message::ECHO_REQUEST, 0, u32::from(ident) << 16 | u32::from(sequence))
            }
            Repr::EchoReply { ident, sequence, .. } => {
                (message::ECHO_REPLY, 0, u32::from(ident) << 16 | u32::from(sequence))
            }
            Repr::Unreachable { code, .. } => (message::UNREACHABLE, code, 0),
            Repr::PacketTooBig { mtu, .. } => (message::PACKET_TOO_BIG, 0, mtu),
            Repr::TimeExceeded { code, .. } => (message::TIME_EXCEEDED, code, 0),
        };
        v.set_type_code(message_type, code);
        v.set_rest(rest);
        v.fill_checksum(src, dst);
    }
}
