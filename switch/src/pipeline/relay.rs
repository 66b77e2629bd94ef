//! ICMP errors of the underlay about tunnel packets of ours: heeded, and passed on to the sender of
//! the packet inside (RFC 2003 section 4, RFC 2473 section 8; for VXLAN in the same way).

use super::icmp_error::Report;
use super::{Context, sum_from};
use crate::frame::Frame;
use crate::reason::DropReason;
use crate::tables::{Encapsulation, Tunnel};
use encap::checksum::Sum;
use encap::ethernet::{self, HEADER_LEN, ethertype};
use encap::ip::{IpVersion, protocol};
use encap::tunnel::{Outer, encapsulation_limit};
use encap::{Vni, icmpv4, icmpv6, ipv4, ipv6, udp, vxlan};
use std::net::IpAddr;

/// An IPv4 MTU below this is not believed, since a forged report must not grind a tunnel to dust; it
/// is what Linux has as `min_pmtu`.
const LEAST_V4: u32 = 552;
/// A report of less than every IPv6 link carries is discarded (RFC 8201 section 4).
const LEAST_V6: u32 = 1280;

/// What the underlay reports, in its own terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// The outer packet was too large for a link of this MTU.
    TooBig(u32),
    NetworkUnreachable,
    HostUnreachable,
    /// Of no interest to the inner sender.
    Other,
}

/// Reads an ICMP message to the node itself. What comes back is what the inner sender is told; the
/// frame is then the inner packet, as far as it was quoted. All else about tunnels ends here as
/// [`DropReason::UnderlayError`].
pub(super) fn receive<F: Frame>(
    cx: &Context<'_>,
    frame: &mut F,
    outer: &Outer,
) -> Result<Report, DropReason> {
    let start = outer.inner_offset;
    frame.truncate(start + outer.inner_len);
    let message = frame.bytes().get(start..).unwrap_or(&[]);
    if message.len() < icmpv4::HEADER_LEN {
        return Err(DropReason::IcmpMalformed);
    }
    let pseudo = match outer.dst {
        IpAddr::V4(_) => Sum::ZERO,
        IpAddr::V6(_) => {
            Sum::ZERO.pseudo(outer.src, outer.dst, protocol::ICMPV6, outer.inner_len as u16)
        }
    };
    if !sum_from(frame, start, pseudo).is_valid() {
        return Err(DropReason::IcmpMalformed);
    }
    let quoted = &message[icmpv4::HEADER_LEN..];
    let fault = match outer.dst {
        IpAddr::V4(_) => fault_v4(message, quoted)?,
        IpAddr::V6(_) => fault_v6(message, quoted)?,
    };
    let quote = Quote::parse(quoted, outer.dst).ok_or(DropReason::NotForUs)?;
    let tunnel = quote.tunnel(cx).ok_or(DropReason::NotForUs)?;
    let report = match fault {
        Fault::TooBig(mtu) => {
            tunnel.path.learn(mtu, cx.now);
            Report::TooBig(tunnel.path_mtu(cx.now).saturating_sub(quote.surplus(tunnel)))
        }
        Fault::NetworkUnreachable => Report::NetworkUnreachable,
        Fault::HostUnreachable => Report::HostUnreachable,
        Fault::Other => return Err(DropReason::UnderlayError),
    };
    let (at, version) = quote.inner.ok_or(DropReason::UnderlayError)?;
    let inner = quoted.get(at..).unwrap_or(&[]);
    if !wants_to_know(inner, report) {
        return Err(DropReason::UnderlayError);
    }
    // What the header before the inner packet was is of no importance: the router makes its own.
    frame.pull(start + icmpv4::HEADER_LEN + at - HEADER_LEN);
    let header = frame.bytes_mut().get_mut(..HEADER_LEN).ok_or(DropReason::IcmpMalformed)?;
    header[..12].fill(0);
    header[12..].copy_from_slice(&version.ethertype().to_be_bytes());
    Ok(report)
}

/// RFC 2003 sections 4.1 to 4.5. VXLAN's port unreachable, a peer that does not listen, is like
/// IPIP's protocol unreachable.
fn fault_v4(message: &[u8], quoted: &[u8]) -> Result<Fault, DropReason> {
    use icmpv4::{message as kind, unreachable};
    const SOURCE_ROUTE_FAILED: u8 = 5;
    let view = icmpv4::View::new_unchecked(message);
    Ok(match (view.message_type(), view.code()) {
        (kind::UNREACHABLE, unreachable::FRAGMENTATION_NEEDED) => {
            let mtu = match view.next_hop_mtu() {
                0 => plateau_below(quoted),
                mtu => mtu.into(),
            };
            Fault::TooBig(mtu.max(LEAST_V4))
        }
        (kind::UNREACHABLE, unreachable::NETWORK) => Fault::NetworkUnreachable,
        (kind::UNREACHABLE, SOURCE_ROUTE_FAILED) => Fault::Other,
        (kind::UNREACHABLE, _) | (kind::TIME_EXCEEDED, 0) => Fault::HostUnreachable,
        (kind::TIME_EXCEEDED, _) => Fault::Other,
        _ => return Err(DropReason::NotForUs),
    })
}

/// RFC 2473 section 8. Of parameter problems one is the inner sender's: more tunnels within each other
/// than the limit of ours allows.
fn fault_v6(message: &[u8], quoted: &[u8]) -> Result<Fault, DropReason> {
    use icmpv6::message as kind;
    let view = icmpv6::View::new_unchecked(message);
    Ok(match (view.message_type(), view.code()) {
        (kind::PACKET_TOO_BIG, _) if view.mtu() < LEAST_V6 => Fault::Other,
        (kind::PACKET_TOO_BIG, _) => Fault::TooBig(view.mtu()),
        (kind::UNREACHABLE, _) | (kind::TIME_EXCEEDED, 0) => Fault::HostUnreachable,
        (kind::PARAMETER_PROBLEM, 0) if is_spent(quoted, view.mtu()) => Fault::HostUnreachable,
        (kind::TIME_EXCEEDED | kind::PARAMETER_PROBLEM, _) => Fault::Other,
        _ => return Err(DropReason::NotForUs),
    })
}

/// Whether the octet at `pointer` is a packet's encapsulation limit, and there is nothing left of it.
fn is_spent(quoted: &[u8], pointer: u32) -> bool {
    encapsulation_limit(quoted)
        .is_some_and(|limit| limit.value == 0 && limit.offset == pointer as usize)
}

/// The MTU to assume when a router older than RFC 1191 reports none: the next common one below the
/// length of the packet (RFC 1191 section 7).
fn plateau_below(quoted: &[u8]) -> u32 {
    const PLATEAUS: [u32; 10] = [65535, 32000, 17914, 8166, 4352, 2002, 1492, 1006, 508, 296];
    let len =
        ipv4::View::new_checked_within(quoted, usize::MAX).map_or(0, |v| v.total_len() as u32);
    PLATEAUS.into_iter().find(|&mtu| mtu < len).unwrap_or(LEAST_V4)
}

/// Whether the sender of an inner packet can make use of a report: of "too big" only if it forbade
/// fragmentation (RFC 2003 section 5.1); we fragment for the others from now on.
fn wants_to_know(inner: &[u8], report: Report) -> bool {
    let dont_fragment = || {
        ipv4::View::new_checked_within(inner, usize::MAX)
            .is_ok_and(|view| view.checksum_ok() && view.dont_fragment())
    };
    match (IpVersion::of(inner), report) {
        (Some(IpVersion::V4), Report::TooBig(_)) => dont_fragment(),
        (version, _) => version.is_some(),
    }
}

/// What an ICMP error quotes of a tunnel packet.
struct Quote {
    peer: IpAddr,
    /// Of VXLAN, the VNI, if that much is quoted. None for IPIP.
    vni: Option<Option<Vni>>,
    /// Where the inner IP packet starts, and its version, if that much is quoted.
    inner: Option<(usize, IpVersion)>,
}

impl Quote {
    /// Reads the start of a packet that `local` sent. At least eight bytes behind the IP header are
    /// there (RFC 792).
    fn parse(quoted: &[u8], local: IpAddr) -> Option<Quote> {
        let (src, peer, proto, at) = match local {
            IpAddr::V4(_) => {
                let view = ipv4::View::new_checked_within(quoted, usize::MAX).ok()?;
                let first = view.fragment_offset() == 0;
                let at = first.then(|| view.header_len())?;
                (IpAddr::V4(view.src()), IpAddr::V4(view.dst()), view.protocol(), at)
            }
            IpAddr::V6(_) => {
                let view = ipv6::View::new_checked_within(quoted, usize::MAX).ok()?;
                let (src, dst) = (IpAddr::V6(view.src()), IpAddr::V6(view.dst()));
                let upper = view.upper_layer().ok().filter(|upper| !upper.is_later_fragment())?;
                (src, dst, upper.protocol, upper.offset)
            }
        };
        if src != local {
            return None;
        }
        let upper = quoted.get(at..)?;
        match proto {
            protocol::IPIP | protocol::IPV6 => {
                let inner = IpVersion::of(upper).map(|version| (at, version));
                Some(Quote { peer, vni: None, inner })
            }
            protocol::UDP if upper.len() >= udp::HEADER_LEN => {
                let frame_at = at + udp::HEADER_LEN + vxlan::HEADER_LEN;
                let vni = match vxlan::View::new_checked(&upper[udp::HEADER_LEN..]) {
                    Ok(view) => Some(view.vni()),
                    Err(vxlan::Error::Truncated) => None,
                    // No packet of ours: without the I flag it has no VNI (RFC 7348 section 5).
                    Err(vxlan::Error::Flags) => return None,
                };
                let inner =
                    quoted.get(frame_at..).and_then(ethernet::header).and_then(|(.., ty)| {
                        let version = match ty {
                            ethertype::IPV4 => IpVersion::V4,
                            ethertype::IPV6 => IpVersion::V6,
                            _ => return None,
                        };
                        Some((frame_at + HEADER_LEN, version))
                    });
                Some(Quote { peer, vni: Some(vni), inner })
            }
            _ => None,
        }
    }

    /// By how many bytes the outer IP header of this packet is longer than those of other packets of an
    /// IPIP tunnel: it has an encapsulation limit because the inner packet has one.
    fn surplus(&self, tunnel: &Tunnel) -> u32 {
        match (self.vni, self.inner) {
            (None, Some((at, _))) => (at as u32).saturating_sub(tunnel.overhead),
            _ => 0,
        }
    }

    /// The tunnel that the packet was sent through. Without a VNI, any to the same peer: they share
    /// their path.
    fn tunnel<'a>(&self, cx: &Context<'a>) -> Option<&'a Tunnel> {
        let underlay = &cx.tables.underlay;
        match self.vni {
            None => cx.tables.tunnel(underlay.ipip_tunnel(self.peer).ok()?),
            Some(Some(vni)) => cx.tables.tunnel(underlay.vxlan_to(vni, self.peer)?),
            Some(None) => cx.tables.tunnels.iter().flatten().map(|t| &**t).find(|t| {
                t.remote == self.peer && matches!(t.encapsulation, Encapsulation::Vxlan { .. })
            }),
        }
    }
}
