//! An IP packet as the router sees it, behind an Ethernet header: validated (RFC 1812 section 5.2.2, RFC
//! 8200 section 3).

use crate::frame::Frame;
use crate::reason::DropReason;
use encap::ethernet::HEADER_LEN;
use encap::ip::IpVersion;
use encap::{ipv4, ipv6};
use std::net::{IpAddr, Ipv4Addr};

/// What the router needs to know of a packet. What is asked once is read from the packet when it is asked.
///
/// Never handed as a whole to what is not inlined: that would keep it in memory, where wide loads wait
/// for the narrow stores before them, at 40 clocks a packet.
pub(super) struct Packet {
    pub dst: IpAddr,
    /// Bytes of the IP packet, padding excluded; of a superpacket those of its largest packet.
    pub len: usize,
    /// Whether an address is valid on its link only: such a packet may reach the router, but not
    /// pass it (RFC 4291 section 2.5.6).
    pub link_local: bool,
}

impl Packet {
    /// TTL or hop limit.
    #[inline(always)]
    pub(super) fn hops<F: Frame>(&self, frame: &F) -> u8 {
        let at = if self.dst.is_ipv4() { 8 } else { 7 };
        frame.bytes().get(HEADER_LEN + at).copied().unwrap_or(0)
    }
}

/// Whether a router may fragment the packet of a frame.
pub(super) fn may_fragment<F: Frame>(frame: &F) -> bool {
    let packet = frame.bytes().get(HEADER_LEN..).unwrap_or(&[]);
    IpVersion::of(packet) == Some(IpVersion::V4)
        && packet.len() >= ipv4::HEADER_LEN
        && !ipv4::View::new_unchecked(packet).dont_fragment()
}

/// The packet of most frames: IPv4 without options, between ordinary addresses. What [`check_v4`] says of
/// it, in a third of the instructions; none of a packet that is to be looked at more closely.
#[inline(always)]
pub(super) fn usual_v4<F: Frame>(frame: &F) -> Option<Packet> {
    let header = frame.bytes().get(HEADER_LEN..)?.first_chunk()?;
    let len = ipv4::usual_len(header, ipv4::HEADER_LEN as u16)?;
    let [.., s, _, _, _, d, d1, d2, d3] = *header;
    if len > frame.len() - HEADER_LEN || !is_ordinary(s) || !is_ordinary(d) {
        return None;
    }
    let dst = Ipv4Addr::new(d, d1, d2, d3);
    Some(Packet { dst: dst.into(), len, link_local: false })
}

/// The first segment of a frame from its IP header on, and what the frame holds from there, further
/// segments and padding included.
fn ip<F: Frame>(frame: &F) -> (&[u8], usize) {
    (frame.bytes().get(HEADER_LEN..).unwrap_or(&[]), frame.len().saturating_sub(HEADER_LEN))
}

/// Validates an IPv4 header (RFC 1812 section 5.2.2).
pub(super) fn check_v4<F: Frame>(frame: &F) -> Result<Packet, DropReason> {
    let (bytes, available) = ip(frame);
    let view =
        ipv4::View::new_checked_within(bytes, available).map_err(|_| DropReason::Ipv4Malformed)?;
    if !view.checksum_ok() {
        return Err(DropReason::Ipv4Checksum);
    }
    let (src, dst) = (view.src(), view.dst());
    Ok(Packet { dst: dst.into(), len: view.total_len(), link_local: check_addresses_v4(src, dst)? })
}

/// Whether an address is of a network that nothing is special about, which its first octet tells: not
/// 0, 127, 169 (link-local), 224 or above.
#[inline(always)]
pub(super) fn is_ordinary(first: u8) -> bool {
    const ORDINARY: [bool; 256] = {
        let mut ordinary = [false; 256];
        let mut first = 1;
        while first < 224 {
            ordinary[first] = first != 127 && first != 169;
            first += 1;
        }
        ordinary
    };
    ORDINARY[usize::from(first)]
}

/// The same of IPv6: those that are given out (RFC 4291 section 2.4, 2000::/3) and those that are made up
/// (RFC 4193, fc00::/7).
#[inline(always)]
pub(super) const fn is_ordinary_v6(first: u8) -> bool {
    first & 0xe0 == 0x20 || first & 0xfe == 0xfc
}

/// Whether a packet with these addresses may be routed, and whether one of them is valid on its link
/// only.
fn check_addresses_v4(src: Ipv4Addr, dst: Ipv4Addr) -> Result<bool, DropReason> {
    if dst.is_multicast() || dst.is_broadcast() {
        return Err(DropReason::IpMulticastUnrouted);
    }
    // RFC 1812 section 5.3.7: never forwarded, network 0 included.
    let is_nobody = |ip: Ipv4Addr| ip.is_loopback() || ip.octets()[0] == 0;
    let invalid = src.is_multicast() || src.is_broadcast() || is_nobody(src) || is_nobody(dst);
    if invalid {
        return Err(DropReason::IpAddressInvalid);
    }
    Ok(src.is_link_local() || dst.is_link_local())
}

/// Validates an IPv6 header (RFC 8200 section 3, RFC 4291 section 2.5 for the addresses).
pub(super) fn check_v6<F: Frame>(frame: &F) -> Result<Packet, DropReason> {
    let (bytes, available) = ip(frame);
    let view =
        ipv6::View::new_checked_within(bytes, available).map_err(|_| DropReason::Ipv6Malformed)?;
    let (src, dst) = (view.src(), view.dst());
    if dst.is_multicast() {
        return Err(DropReason::IpMulticastUnrouted);
    }
    let invalid = src.is_multicast()
        || src.is_loopback()
        || src.is_unspecified()
        || dst.is_loopback()
        || dst.is_unspecified();
    if invalid {
        return Err(DropReason::IpAddressInvalid);
    }
    let link_local = src.is_unicast_link_local() || dst.is_unicast_link_local();
    Ok(Packet { dst: dst.into(), len: view.total_len(), link_local })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heap::HeapFrame;
    use encap::checksum;
    use proptest::prelude::*;

    fn fix(frame: &mut [u8]) {
        frame[HEADER_LEN + 10..HEADER_LEN + 12].fill(0);
        let sum = checksum::checksum(&frame[HEADER_LEN..HEADER_LEN + 20]);
        frame[HEADER_LEN + 10..HEADER_LEN + 12].copy_from_slice(&sum.to_be_bytes());
    }

    /// What is usual is in order, and says the same.
    fn agree(bytes: &[u8]) -> Result<bool, TestCaseError> {
        let frame = HeapFrame::new(bytes);
        let usual = usual_v4(&frame);
        let is_usual = usual.is_some();
        if let Some(usual) = usual {
            let Ok(packet) = check_v4(&frame) else { panic!("{bytes:02x?}") };
            prop_assert_eq!((usual.dst, usual.len), (packet.dst, packet.len));
            prop_assert!(!packet.link_local);
        }
        Ok(is_usual)
    }

    #[test]
    fn one_octet_at_a_time() {
        let mut whole = vec![0; HEADER_LEN + 40];
        whole[HEADER_LEN..HEADER_LEN + 20].copy_from_slice(&[
            0x45, 3, 0, 40, 1, 2, 0x40, 0, 9, 17, 0, 0, 10, 1, 2, 3, 10, 4, 5, 6,
        ]);
        fix(&mut whole);
        assert!(agree(&whole).unwrap());
        let mut usual = 0;
        for (at, value) in (0..20).flat_map(|at| (0..=255).map(move |value| (at, value))) {
            let mut frame = whole.clone();
            frame[HEADER_LEN + at] = value;
            agree(&frame).unwrap();
            fix(&mut frame);
            usual += usize::from(agree(&frame).unwrap());
        }
        // Any value of 15 octets, two of them the checksum that is put right; the right version and header
        // length; a length that is a header's at least, and what is there at most; ordinary addresses.
        assert_eq!(usual, 15 * 256 + 1 + (1 + 21) + 2 * (223 - 2), "no more, no less");
    }

    proptest! {
        #[test]
        fn random_headers(mut bytes in prop::collection::vec(any::<u8>(), 34..90), fixed: bool) {
            bytes[HEADER_LEN] = 0x45;
            bytes[HEADER_LEN + 2] = 0;
            if fixed {
                fix(&mut bytes);
            }
            agree(&bytes)?;
        }
    }
}
