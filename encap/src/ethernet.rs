//! Ethernet II frames (RFC 894, IEEE 802.3 clause 3).

use crate::Mac;
use crate::wire::{self, error, view};

mod field {
    use crate::wire::Field;
    pub const DST: Field = 0..6;
    pub const SRC: Field = 6..12;
    pub const ETHERTYPE: Field = 12..14;
}

/// Bytes of the header: two addresses and the EtherType.
pub const HEADER_LEN: usize = 14;

/// EtherTypes (IANA, IEEE 802 numbers).
pub mod ethertype {
    /// IPv4.
    pub const IPV4: u16 = 0x0800;
    /// ARP.
    pub const ARP: u16 = 0x0806;
    /// IPv6.
    pub const IPV6: u16 = 0x86dd;
    /// 802.1Q customer VLAN tag.
    pub const VLAN: u16 = 0x8100;
    /// 802.1ad service VLAN tag.
    pub const QINQ: u16 = 0x88a8;
    /// Values below are 802.3 lengths, not types.
    pub const MIN: u16 = 0x0600;
}

error! {
    /// Why bytes are not an Ethernet frame.
    Error {
        Truncated "shorter than an Ethernet header",
    }
}

view! {
    /// An Ethernet frame without preamble and FCS.
    Error
}

impl<T: AsRef<[u8]>> View<T> {
    /// Whether the header fits the buffer.
    #[inline]
    pub fn check_len(&self) -> Result<(), Error> {
        if self.bytes().len() < HEADER_LEN { Err(Error::Truncated) } else { Ok(()) }
    }

    /// Destination.
    #[inline]
    pub fn dst(&self) -> Mac {
        Mac(wire::read(self.bytes(), field::DST))
    }

    /// Source.
    #[inline]
    pub fn src(&self) -> Mac {
        Mac(wire::read(self.bytes(), field::SRC))
    }

    /// EtherType, or the length of an 802.3 frame when below [`ethertype::MIN`].
    #[inline]
    pub fn ethertype(&self) -> u16 {
        wire::read_u16(self.bytes(), field::ETHERTYPE)
    }

    /// What follows the header, padding included.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        wire::clip(self.bytes(), HEADER_LEN, usize::MAX)
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> View<T> {
    /// Sets the destination.
    #[inline]
    pub fn set_dst(&mut self, mac: Mac) {
        wire::write(self.buffer.as_mut(), field::DST, mac.0);
    }

    /// Sets the source.
    #[inline]
    pub fn set_src(&mut self, mac: Mac) {
        wire::write(self.buffer.as_mut(), field::SRC, mac.0);
    }

    /// Sets the EtherType.
    #[inline]
    pub fn set_ethertype(&mut self, value: u16) {
        wire::write_u16(self.buffer.as_mut(), field::ETHERTYPE, value);
    }

    /// What follows the header, writable.
    #[inline]
    pub fn payload_mut(&mut self) -> &mut [u8] {
        wire::clip_mut(self.buffer.as_mut(), HEADER_LEN, usize::MAX)
    }
}

/// An Ethernet header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repr {
    /// Destination.
    pub dst: Mac,
    /// Source.
    pub src: Mac,
    /// EtherType.
    pub ethertype: u16,
}

impl Repr {
    /// Reads the header of `view`.
    #[inline]
    pub fn parse<T: AsRef<[u8]>>(view: &View<T>) -> Result<Repr, Error> {
        view.check_len()?;
        Ok(Repr { dst: view.dst(), src: view.src(), ethertype: view.ethertype() })
    }

    /// Bytes that [`Repr::emit`] writes.
    pub const fn buffer_len(&self) -> usize {
        HEADER_LEN
    }

    /// Writes the header to the front of `out`.
    #[inline]
    pub fn emit(&self, out: &mut [u8]) {
        wire::write(out, 0..HEADER_LEN, self.to_bytes());
    }

    /// The header as it is on the wire: precompute it, then copy it in one move per packet.
    pub const fn to_bytes(&self) -> [u8; HEADER_LEN] {
        let (d, s, t) = (self.dst.0, self.src.0, self.ethertype.to_be_bytes());
        [d[0], d[1], d[2], d[3], d[4], d[5], s[0], s[1], s[2], s[3], s[4], s[5], t[0], t[1]]
    }
}

/// Destination and source as in [`Mac::to_u64`], and the EtherType: three loads for the forwarding
/// path. None when `frame` is shorter than a header.
#[inline(always)]
pub fn header(frame: &[u8]) -> Option<(u64, u64, u16)> {
    let h = frame.first_chunk::<HEADER_LEN>()?;
    // Whole words rather than octets put together, which would be loaded one by one.
    let dst = u64::from_be_bytes(*h.first_chunk()?) >> 16;
    let src = u64::from_be_bytes(*h[4..].first_chunk()?);
    Some((dst, src & 0xffff_ffff_ffff, u16::from_be_bytes(*h[12..].first_chunk()?)))
}

/// Overwrites both addresses; a frame shorter than a header is left alone.
#[inline(always)]
pub fn rewrite(frame: &mut [u8], dst: Mac, src: Mac) {
    if let Some(h) = frame.first_chunk_mut::<12>() {
        h[..6].copy_from_slice(&dst.0);
        h[6..].copy_from_slice(&src.0);
    }
}

/// The group address that carries an IPv6 multicast destination: `33:33` and its last four octets
/// (RFC 2464 section 7).
pub const fn ipv6_multicast(ip: core::net::Ipv6Addr) -> Mac {
    let o = ip.octets();
    Mac([0x33, 0x33, o[12], o[13], o[14], o[15]])
}

/// Whether `dst` (as in [`Mac::to_u64`]) is one of `01:80:c2:00:00:00` to `…:0f`, which a bridge
/// must not forward (IEEE 802.1Q table 8-1).
#[inline]
pub const fn is_bridge_reserved(dst: u64) -> bool {
    dst >> 4 == 0x0180_c200_0000 >> 4
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_agrees_with_the_view() {
        let bytes: [u8; 16] = core::array::from_fn(|i| 0x10 + i as u8);
        let v = View::new_checked(&bytes[..]).unwrap();
        let (dst, src, ty) = header(&bytes).unwrap();
        assert_eq!((Mac::from_u64(dst), Mac::from_u64(src), ty), (v.dst(), v.src(), v.ethertype()));
        assert_eq!(src >> 48, 0);
        assert_eq!(header(&bytes[..13]), None);
        assert_eq!(View::new_checked(&bytes[..13]), Err(Error::Truncated));
    }

    #[test]
    fn reserved_group_addresses() {
        for (mac, want) in [
            ("01:80:c2:00:00:00", true),
            ("01:80:c2:00:00:0f", true),
            ("01:80:c2:00:00:10", false),
            ("01:80:c1:ff:ff:ff", false),
            ("ff:ff:ff:ff:ff:ff", false),
        ] {
            assert_eq!(is_bridge_reserved(mac.parse::<Mac>().unwrap().to_u64()), want, "{mac}");
        }
    }

    #[test]
    fn rewrite_leaves_the_rest() {
        let mut f = [7u8; 15];
        rewrite(&mut f, Mac([1; 6]), Mac([2; 6]));
        assert_eq!(f, [1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 7, 7, 7]);
    }
}
