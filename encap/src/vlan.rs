//! 802.1Q VLAN tags (IEEE 802.1Q clause 9.6): what follows EtherType 0x8100 or 0x88a8.

use crate::wire::{self, error, view};

mod field {
    use crate::wire::Field;
    pub const TCI: Field = 0..2;
    pub const ETHERTYPE: Field = 2..4;
}

/// Bytes after the tag's own EtherType: tag control information and the next EtherType.
pub const HEADER_LEN: usize = 4;

error! {
    /// Why bytes are not a VLAN tag.
    Error {
        Truncated "shorter than a VLAN tag",
    }
}

view! {
    /// A VLAN tag and what it encloses.
    Error
}

impl<T: AsRef<[u8]>> View<T> {
    /// Whether the tag fits the buffer.
    #[inline]
    pub fn check_len(&self) -> Result<(), Error> {
        if self.bytes().len() < HEADER_LEN { Err(Error::Truncated) } else { Ok(()) }
    }

    #[inline]
    fn tci(&self) -> u16 {
        wire::read_u16(self.bytes(), field::TCI)
    }

    /// Priority code point, 0 to 7.
    #[inline]
    pub fn priority(&self) -> u8 {
        (self.tci() >> 13) as u8
    }

    /// Drop eligible indicator.
    #[inline]
    pub fn drop_eligible(&self) -> bool {
        self.tci() & 0x1000 != 0
    }

    /// VLAN identifier, 12 bits; 0 means priority tag only.
    #[inline]
    pub fn vid(&self) -> u16 {
        self.tci() & 0x0fff
    }

    /// EtherType of what follows.
    #[inline]
    pub fn ethertype(&self) -> u16 {
        wire::read_u16(self.bytes(), field::ETHERTYPE)
    }

    /// What follows the tag.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        wire::clip(self.bytes(), HEADER_LEN, usize::MAX)
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> View<T> {
    /// Sets priority, drop eligibility and identifier; surplus high bits are ignored.
    #[inline]
    pub fn set_tci(&mut self, priority: u8, drop_eligible: bool, vid: u16) {
        let tci = u16::from(priority & 7) << 13 | u16::from(drop_eligible) << 12 | (vid & 0x0fff);
        wire::write_u16(self.buffer.as_mut(), field::TCI, tci);
    }

    /// Sets the EtherType of what follows.
    #[inline]
    pub fn set_ethertype(&mut self, value: u16) {
        wire::write_u16(self.buffer.as_mut(), field::ETHERTYPE, value);
    }
}

/// A VLAN tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repr {
    /// Priority code point, 0 to 7.
    pub priority: u8,
    /// Drop eligible indicator.
    pub drop_eligible: bool,
    /// VLAN identifier, 12 bits.
    pub vid: u16,
    /// EtherType of what follows.
    pub ethertype: u16,
}

impl Repr {
    /// Reads the tag of `view`.
    #[inline]
    pub fn parse<T: AsRef<[u8]>>(view: &View<T>) -> Result<Repr, Error> {
        view.check_len()?;
        Ok(Repr {
            priority: view.priority(),
            drop_eligible: view.drop_eligible(),
            vid: view.vid(),
            ethertype: view.ethertype(),
        })
    }

    /// Bytes that [`Repr::emit`] writes.
    pub const fn buffer_len(&self) -> usize {
        HEADER_LEN
    }

    /// Writes the tag to the front of `out`.
    #[inline]
    pub fn emit(&self, out: &mut [u8]) {
        let mut v = View::new_unchecked(out);
        v.set_tci(self.priority, self.drop_eligible, self.vid);
        v.set_ethertype(self.ethertype);
    }
}
