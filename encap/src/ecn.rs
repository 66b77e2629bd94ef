//! Congestion marks through tunnels (RFC 6040), and the octet that carries them with the DSCP.

use crate::ethernet::{self, ethertype};
use crate::ip::IpVersion;
use crate::wire::error;
use crate::{ipv4, ipv6};

/// The ECN field: the low two bits of IPv4's tos and IPv6's traffic class (RFC 3168 section 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Ecn {
    /// The transport does not understand congestion marks.
    NotEct = 0b00,
    /// ECN-capable, codepoint 1 (RFC 9331: L4S).
    Ect1 = 0b01,
    /// ECN-capable, codepoint 0.
    Ect0 = 0b10,
    /// Congestion experienced.
    Ce = 0b11,
}

impl Ecn {
    /// The field in the octet `tos`.
    #[inline(always)]
    pub const fn from_tos(tos: u8) -> Ecn {
        match tos & 3 {
            0b00 => Ecn::NotEct,
            0b01 => Ecn::Ect1,
            0b10 => Ecn::Ect0,
            _ => Ecn::Ce,
        }
    }

    /// The two bits.
    #[inline(always)]
    pub const fn bits(self) -> u8 {
        self as u8
    }
}

error! {
    /// The outer header says congestion, and the inner transport could not be told except by loss.
    CongestionLoss {
        Drop "outer CE on an inner packet that is not ECN-capable (RFC 6040 section 4.2)",
    }
}

/// The outer field at encapsulation, normal mode: a copy of the inner one (RFC 6040 section 4.1).
#[inline(always)]
pub const fn encap(inner: Ecn) -> Ecn {
    inner
}

/// The inner field at decapsulation (RFC 6040 figure 4).
#[inline(always)]
pub const fn decap(outer: Ecn, inner: Ecn) -> Result<Ecn, CongestionLoss> {
    match (inner, outer) {
        (Ecn::NotEct, Ecn::Ce) => Err(CongestionLoss::Drop),
        (Ecn::NotEct, _) => Ok(Ecn::NotEct),
        (Ecn::Ce, _) | (_, Ecn::Ce) => Ok(Ecn::Ce),
        (Ecn::Ect0, Ecn::Ect1) => Ok(Ecn::Ect1),
        (inner, _) => Ok(inner),
    }
}

/// The tos octet of the outer header for an inner one: the DSCP is copied (uniform model, RFC 2983
/// section 3.1), ECN is copied by [`encap`], which leaves the octet as it is.
#[inline(always)]
pub const fn outer_tos(inner: u8) -> u8 {
    inner & !3 | encap(Ecn::from_tos(inner)).bits()
}

/// The tos or traffic class of the IP packet `packet`, 0 if it is none.
#[inline]
pub fn packet_tos(packet: &[u8]) -> u8 {
    match *packet {
        [a, b, ..] if a >> 4 == 4 => b,
        [a, b, ..] if a >> 4 == 6 => a << 4 | b >> 4,
        _ => 0,
    }
}

/// The tos or traffic class of the IP packet in the Ethernet frame `frame`, behind VLAN tags if
/// any; 0 for other frames.
#[inline]
pub fn frame_tos(frame: &[u8]) -> u8 {
    match ip_offset(frame) {
        Some((_, at)) => packet_tos(frame.get(at..).unwrap_or(&[])),
        None => 0,
    }
}

/// Carries the mark of an outer header over to the IP packet that was inside; the IPv4 checksum is
/// updated. Something other than IP is left alone.
#[inline]
pub fn decap_packet(packet: &mut [u8], outer_tos: u8) -> Result<(), CongestionLoss> {
    match IpVersion::of(packet) {
        Some(v) => decap_ip(v, packet, outer_tos),
        None => Ok(()),
    }
}

/// Like [`decap_packet`] for the IP packet in an Ethernet frame, behind VLAN tags if any.
#[inline(always)]
pub fn decap_frame(frame: &mut [u8], outer_tos: u8) -> Result<(), CongestionLoss> {
    // Only CE and ECT(1) on the outside can change anything: the usual packet ends here.
    // Their low bit is set, that of the other two is not.
    if outer_tos & 1 == 0 {
        return Ok(());
    }
    decap_marked(frame, outer_tos)
}

#[inline(never)]
fn decap_marked(frame: &mut [u8], outer_tos: u8) -> Result<(), CongestionLoss> {
    match ip_offset(frame) {
        Some((v, at)) => decap_ip(v, frame.get_mut(at..).unwrap_or(&mut []), outer_tos),
        None => Ok(()),
    }
}

fn decap_ip(version: IpVersion, packet: &mut [u8], outer: u8) -> Result<(), CongestionLoss> {
    let outer = Ecn::from_tos(outer);
    match version {
        IpVersion::V4 => {
            if packet.len() >= ipv4::HEADER_LEN {
                let mut v = ipv4::View::new_unchecked(packet);
                v.replace_ecn(decap(outer, v.ecn())?);
            }
        }
        IpVersion::V6 => {
            if packet.len() >= ipv6::HEADER_LEN {
                let mut v = ipv6::View::new_unchecked(packet);
                v.replace_ecn(decap(outer, v.ecn())?);
            }
        }
    }
    Ok(())
}

/// Where the IP packet of `frame` starts, behind up to two VLAN tags.
#[inline]
pub(crate) fn ip_offset(frame: &[u8]) -> Option<(IpVersion, usize)> {
    let (_, _, mut ty) = ethernet::header(frame)?;
    let mut at = ethernet::HEADER_LEN;
    for _ in 0..3 {
        let version = match ty {
            ethertype::IPV4 => IpVersion::V4,
            ethertype::IPV6 => IpVersion::V6,
            ethertype::VLAN | ethertype::QINQ => {
                let tag = frame.get(at..)?.first_chunk::<4>()?;
                ty = u16::from_be_bytes([tag[2], tag[3]]);
                at += 4;
                continue;
            }
            _ => return None,
        };
        return (IpVersion::of(frame.get(at..)?)? == version).then_some((version, at));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::Ecn::{Ce, Ect0, Ect1, NotEct};
    use super::*;

    /// RFC 6040 figure 4, as printed: rows are the inner header, columns the outer one, in the
    /// order Not-ECT, ECT(0), ECT(1), CE.
    #[test]
    fn rfc6040_figure_4() {
        let columns = [NotEct, Ect0, Ect1, Ce];
        let rows = [
            (NotEct, [Some(NotEct), Some(NotEct), Some(NotEct), None]),
            (Ect0, [Some(Ect0), Some(Ect0), Some(Ect1), Some(Ce)]),
            (Ect1, [Some(Ect1), Some(Ect1), Some(Ect1), Some(Ce)]),
            (Ce, [Some(Ce), Some(Ce), Some(Ce), Some(Ce)]),
        ];
        for (inner, wants) in rows {
            for (outer, want) in columns.into_iter().zip(wants) {
                assert_eq!(decap(outer, inner).ok(), want, "inner {inner:?} outer {outer:?}");
            }
        }
    }

    /// RFC 6040 figure 3, normal mode.
    #[test]
    fn rfc6040_figure_3() {
        for e in [NotEct, Ect0, Ect1, Ce] {
            assert_eq!(encap(e), e);
            assert_eq!(Ecn::from_tos(0xfc | e.bits()), e);
        }
        for tos in 0..=255 {
            assert_eq!(outer_tos(tos), tos);
        }
    }

    /// What [`decap_frame`] does without a look at the inner packet is what figure 4 says, too.
    #[test]
    fn frames_follow_figure_4() {
        let all = [NotEct, Ect0, Ect1, Ce];
        for (inner, outer) in all.into_iter().flat_map(|i| all.map(|o| (i, o))) {
            let mut frame = [0u8; 14 + 40];
            frame[12..14].copy_from_slice(&[0x86, 0xdd]);
            let mut v = ipv6::View::new_unchecked(&mut frame[14..]);
            v.set_version_class_label(inner.bits(), 0);
            let got = decap_frame(&mut frame, outer.bits());
            assert_eq!(got.err(), decap(outer, inner).err());
            let left = Ecn::from_tos(frame_tos(&frame));
            assert_eq!(
                left,
                decap(outer, inner).unwrap_or(inner),
                "inner {inner:?} outer {outer:?}"
            );
        }
    }

    #[test]
    fn marks_reach_the_inner_packet() {
        let mut frame = [0u8; 14 + 4 + 20];
        frame[12..18].copy_from_slice(&[0x81, 0x00, 0, 5, 0x08, 0x00]);
        let repr = ipv4::Repr {
            src: [10, 0, 0, 1].into(),
            dst: [10, 0, 0, 2].into(),
            protocol: 17,
            tos: 0xb8 | Ect0.bits(),
            ttl: 9,
            ident: 0,
            dont_fragment: true,
            payload_len: 0,
        };
        repr.emit(&mut frame[18..]);
        assert_eq!(frame_tos(&frame), 0xba);
        decap_frame(&mut frame, Ce.bits()).unwrap();
        let v = ipv4::View::new_checked(&frame[18..]).unwrap();
        assert_eq!((v.tos(), v.checksum_ok()), (0xbb, true));

        ipv4::Repr { tos: 0xb8, ..repr }.emit(&mut frame[18..]);
        assert_eq!(decap_frame(&mut frame, Ce.bits()), Err(CongestionLoss::Drop));

        let mut six = [0u8; 40];
        ipv6::View::new_unchecked(&mut six[..]).set_version_class_label(0xb9, 0xfffff);
        assert_eq!(packet_tos(&six), 0xb9);
        decap_packet(&mut six, Ce.bits()).unwrap();
        let v = ipv6::View::new_checked(&six[..]).unwrap();
        assert_eq!((v.traffic_class(), v.flow_label(), v.version()), (0xbb, 0xfffff, 6));
    }
}
