//! VXLAN (RFC 7348 section 5).

use crate::Vni;
use crate::wire::{self, error, view};

mod field {
    use crate::wire::Field;
    pub const FLAGS: usize = 0;
    /// VNI in the high 24 bits, 8 reserved bits below.
    pub const VNI: Field = 4..8;
}

/// Bytes of the header.
pub const HEADER_LEN: usize = 8;
/// The I flag: the VNI is valid.
pub const FLAG_VNI: u8 = 0x08;
/// The UDP port that IANA assigned.
pub const PORT: u16 = 4789;

error! {
    /// Why bytes are not a VXLAN packet.
    Error {
        Truncated "shorter than a VXLAN header",
        Flags "the I flag is not set",
    }
}

view! {
    /// A VXLAN packet: the UDP payload. Reserved bits are ignored on receipt.
    Error
}

impl<T: AsRef<[u8]>> View<T> {
    /// Checks the length, and that the VNI is valid.
    #[inline(always)]
    pub fn check_len(&self) -> Result<(), Error> {
        let b = self.bytes();
        if b.len() < HEADER_LEN {
            return Err(Error::Truncated);
        }
        if b[field::FLAGS] & FLAG_VNI == 0 {
            return Err(Error::Flags);
        }
        Ok(())
    }

    /// All eight flags; seven of them are reserved.
    #[inline]
    pub fn flags(&self) -> u8 {
        wire::read_u8(self.bytes(), field::FLAGS)
    }

    /// The network identifier.
    #[inline(always)]
    pub fn vni(&self) -> Vni {
        Vni::from_high_bits(wire::read_u32(self.bytes(), field::VNI))
    }

    /// The inner Ethernet frame, clipped to the buffer.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        wire::clip(self.bytes(), HEADER_LEN, usize::MAX)
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> View<T> {
    /// Writes the whole header: the I flag, the VNI, and zero in all that is reserved.
    #[inline]
    pub fn set_vni(&mut self, vni: Vni) {
        wire::write(self.buffer.as_mut(), 0..HEADER_LEN, Repr { vni }.to_bytes());
    }
}

/// A VXLAN header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repr {
    /// The network identifier.
    pub vni: Vni,
}

impl Repr {
    /// Reads the header of `view`.
    #[inline]
    pub fn parse<T: AsRef<[u8]>>(view: &View<T>) -> Result<Repr, Error> {
        view.check_len()?;
        Ok(Repr { vni: view.vni() })
    }

    /// Bytes that [`Repr::emit`] writes.
    pub const fn buffer_len(&self) -> usize {
        HEADER_LEN
    }

    /// Writes the header to the front of `out`.
    #[inline]
    pub fn emit(&self, out: &mut [u8]) {
        View::new_unchecked(out).set_vni(self.vni);
    }

    /// The header as it is on the wire.
    #[inline]
    pub const fn to_bytes(&self) -> [u8; HEADER_LEN] {
        let v = self.vni.get().to_be_bytes();
        [FLAG_VNI, 0, 0, 0, v[1], v[2], v[3], 0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// scapy: raw(VXLAN(vni=0x123456, flags=0x08))
    const HEADER: [u8; 8] = [0x08, 0, 0, 0, 0x12, 0x34, 0x56, 0];

    #[test]
    fn header() {
        let vni = Vni::new(0x12_3456).unwrap();
        assert_eq!(View::new_checked(&HEADER[..]).unwrap().vni(), vni);
        let mut out = [0xff; HEADER_LEN];
        Repr { vni }.emit(&mut out);
        assert_eq!(out, HEADER);
    }

    #[test]
    fn reserved_bits_are_ignored_and_the_i_flag_is_not() {
        let mut b = [0xff; 9];
        b[4..7].copy_from_slice(&[0, 0, 1]);
        let v = View::new_checked(&b[..]).unwrap();
        assert_eq!((v.vni().get(), v.payload()), (1, &[0xff][..]));
        b[0] = !FLAG_VNI;
        assert_eq!(View::new_checked(&b[..]), Err(Error::Flags));
        for n in 0..HEADER_LEN {
            assert_eq!(View::new_checked(&HEADER[..n]), Err(Error::Truncated));
        }
    }
}
