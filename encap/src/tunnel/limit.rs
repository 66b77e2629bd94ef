//! The tunnel encapsulation limit (RFC 2473 section 4.1.1): how many tunnels more a packet may enter
//! before it leaves the one it is in.

use crate::ip::protocol;
use crate::ipv6::{self, MAX_EXTENSION_HEADERS};

/// Bytes by which the option makes an outer header longer: a destination options header of its own.
pub const LIMIT_LEN: usize = 8;

/// RFC 2473 section 4.1.1: skipped by who does not know it, never changed on the way.
const TUNNEL_ENCAPSULATION_LIMIT: u8 = 4;
/// RFC 8200 section 4.2: a single octet without a length.
const PAD1: u8 = 0;
const PADN: u8 = 1;
/// Next header and length.
const HEADER: usize = 2;

/// The destination options header that carries `limit`, before `next_header`.
#[inline]
pub(super) const fn header(next_header: u8, limit: u8) -> [u8; LIMIT_LEN] {
    [next_header, 0, TUNNEL_ENCAPSULATION_LIMIT, 1, limit, PADN, 1, 0]
}

/// A limit that a packet carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncapsulationLimit {
    /// How many tunnels more the packet may enter.
    pub value: u8,
    /// Where that octet is, in bytes from the IPv6 header on.
    pub offset: usize,
}

/// The first limit in the extension headers of an IPv6 packet, which may be cut off. The search ends
/// at another IPv6 header, at whatever is no extension header, and where nothing can be read.
pub fn encapsulation_limit(packet: &[u8]) -> Option<EncapsulationLimit> {
    let view = ipv6::View::new_checked_within(packet, usize::MAX).ok()?;
    let (mut next, mut offset) = (view.next_header(), ipv6::HEADER_LEN);
    for _ in 0..MAX_EXTENSION_HEADERS {
        if !ipv6::is_extension(next) {
            return None;
        }
        let header = packet.get(offset..)?;
        let (len, is_later_fragment) = ipv6::extension_len(next, header.first_chunk()?);
        if next == protocol::DESTINATION_OPTIONS
            && let Some((at, value)) = in_options(header.get(..len).unwrap_or(header))
        {
            return Some(EncapsulationLimit { value, offset: offset + at });
        }
        if is_later_fragment {
            return None;
        }
        (next, offset) = (header[0], offset + len);
    }
    None
}

/// The limit among the options of a header, and where it is.
fn in_options(header: &[u8]) -> Option<(usize, u8)> {
    let mut at = HEADER;
    loop {
        match *header.get(at..)? {
            [PAD1, ..] => at += 1,
            [TUNNEL_ENCAPSULATION_LIMIT, 1, limit, ..] => return Some((at + 2, limit)),
            [_, len, ..] => at += 2 + usize::from(len),
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An IPv6 packet whose first extension header is of kind `next`.
    fn packet(next: u8, rest: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x60, 0, 0, 0, 0, rest.len() as u8, next, 64];
        packet.extend([0; 32]);
        packet.extend_from_slice(rest);
        packet
    }

    const AT_ONCE: [u8; 8] = [41, 0, 4, 1, 7, 1, 1, 0];

    #[track_caller]
    fn finds(next: u8, rest: &[&[u8]], want: Option<(u8, usize)>) {
        let want = want.map(|(value, offset)| EncapsulationLimit { value, offset });
        assert_eq!(encapsulation_limit(&packet(next, &rest.concat())), want);
    }

    #[test]
    fn found_where_rfc_2473_looks_for_it() {
        finds(60, &[&AT_ONCE], Some((7, 44)));
        finds(60, &[&[41, 0, 0, 0, 0, 4, 1, 0]], Some((0, 47)));
        finds(60, &[&[41, 0, 1, 1, 9, 4, 1, 3]], Some((3, 47)));
        // An option that nobody knows, and one of the same number but another length.
        finds(60, &[&[41, 1, 0x1e, 2, 4, 1, 4, 2, 9, 9, 4, 1, 5, 1, 1, 0]], Some((5, 52)));
        let other = |next: u8| [next, 0, 1, 4, 0, 0, 0, 0];
        finds(0, &[&other(60), &AT_ONCE], Some((7, 52)));
        finds(60, &[&other(43), &other(60), &AT_ONCE], Some((7, 60)));
        finds(44, &[&[60, 0, 0, 1, 0, 0, 0, 9], &AT_ONCE], Some((7, 52)));
        // An authentication header counts in words of four octets.
        finds(51, &[&[60, 4], &[0; 22], &AT_ONCE], Some((7, 68)));
    }

    #[test]
    fn not_found_elsewhere() {
        finds(17, &[&AT_ONCE], None);
        finds(41, &[&packet(60, &AT_ONCE)], None);
        finds(50, &[&AT_ONCE], None);
        finds(0, &[&AT_ONCE], None);
        finds(44, &[&[60, 0, 0, 8, 0, 0, 0, 9], &AT_ONCE], None);
        finds(60, &[&[41, 0, 1, 4, 4, 1, 0, 0]], None);
        for len in 0..48 {
            let limit = encapsulation_limit(&packet(60, &AT_ONCE)[..len]);
            assert_eq!(limit.is_some(), len >= 48, "{len} bytes of it");
        }
        // Nine headers are more than are looked at.
        let chain = [[60, 0, 1, 4, 0, 0, 0, 0]; 8].concat();
        finds(60, &[&chain, &AT_ONCE], None);
        finds(60, &[&chain[8..], &AT_ONCE], Some((7, 40 + 7 * 8 + 4)));
    }
}
