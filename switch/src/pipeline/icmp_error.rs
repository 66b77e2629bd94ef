//! ICMP errors: the sender of a packet that is not forwarded is told why (RFC 792, RFC 1812 section
//! 4.3, RFC 4443).

use super::{Context, Origin, Verdict, egress, own};
use crate::frame::{Frame, Io};
use crate::reason::DropReason;
use encap::ethernet::{self, HEADER_LEN};
use encap::ip::{IpVersion, protocol};
use encap::{Mac, icmpv4, icmpv6, ipv4, ipv6};
use std::cell::Cell;
use std::net::IpAddr;

/// An ICMP error over IPv4, its own header included, is not longer than what every host takes (RFC
/// 1812 section 4.3.2.3).
const MAX_V4: usize = 576;
/// One over IPv6 is not longer than what every link carries (RFC 4443 section 2.4 (c)).
const MAX_V6: usize = 1280;
/// The smallest MTU of an IPv6 link (RFC 8200 section 5), and so the least that a "packet too big"
/// may report: hosts ignore a lower one (RFC 8201 section 4).
const MIN_V6_MTU: u32 = 1280;
/// TTL or hop limit of the errors.
const HOPS: u8 = 64;
/// Precedence "internetwork control" (RFC 1812 section 4.3.2.5).
const TOS: u8 = 0xc0;

/// What a sender is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Report {
    /// The TTL or hop limit ran out on the way.
    TimeExceeded,
    /// No route leads there.
    NetworkUnreachable,
    /// A route leads there, but the host is not to be reached.
    HostUnreachable,
    /// An administrator forbids it.
    Prohibited,
    /// The next hop takes packets of at most so many bytes (RFC 1191 section 4, RFC 8201).
    TooBig(u32),
    /// The octet at this place in the IPv6 packet, counted from its header, has a value with which it
    /// is not forwarded (RFC 4443 section 3.4).
    ParameterProblem(u32),
}

/// A packet that is not forwarded, and whose sender is told. Its frame is, behind an Ethernet
/// header, the IP packet as it was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// The name under which the packet is counted.
    pub reason: DropReason,
    /// What the sender is told.
    pub report: Report,
    /// Where the packet came from.
    pub origin: Origin,
}

/// A token bucket: how many errors a worker may send (RFC 4443 section 2.4 (f), RFC 1812 section
/// 4.3.2.8).
#[derive(Debug)]
pub(super) struct Limiter {
    tokens: Cell<u64>,
    /// In milliseconds.
    filled: Cell<u64>,
}

impl Limiter {
    pub fn new() -> Limiter {
        Limiter { tokens: Cell::new(u64::MAX), filled: Cell::new(0) }
    }

    /// Takes a token at `now` milliseconds, if there is one, of `per_second` in the long run, and a
    /// tenth of a second's at once.
    fn take(&self, now: u64, per_second: u32) -> bool {
        let fresh = now.saturating_sub(self.filled.get()).saturating_mul(per_second.into()) / 1000;
        if fresh > 0 {
            self.filled.set(now);
        }
        let burst = per_second.div_ceil(10).into();
        let tokens = self.tokens.get().saturating_add(fresh).min(burst);
        self.tokens.set(tokens.saturating_sub(1));
        tokens > 0
    }
}

/// Tells the sender of `frame`, if it is one that may be told and the limit allows it. The frame
/// itself stays with the caller, to be dropped.
#[cold]
pub(super) fn send<I: Io>(cx: &Context<'_>, refusal: &Refusal, frame: &I::Frame, io: &mut I) {
    let packet = frame.bytes().get(HEADER_LEN..).unwrap_or(&[]);
    let Some(router) = &cx.tables.router else { return };
    let Some(sender) = sender(packet) else { return };
    let Some(own) = router.address_towards(sender) else { return };
    cx.counters.originated.add(1);
    if !cx.limiter.take(cx.millis, router.icmp_errors) {
        return cx.counters.drop(DropReason::IcmpRateLimited);
    }
    let Some(mut error) = io.alloc() else {
        return cx.counters.drop(DropReason::NoBuffer);
    };
    let sent = write(refusal.report, (own, sender), frame, &mut error)
        .and_then(|()| out(cx, router.mac, refusal.origin, frame, &mut error));
    cx.conclude(sent, error, io);
}

/// The way of an error: back to the station that the packet came from, or, when that was not in a
/// segment of ours, by the routes.
fn out<F: Frame>(
    cx: &Context<'_>,
    router: Mac,
    origin: Origin,
    frame: &F,
    error: &mut F,
) -> Result<Verdict, DropReason> {
    match origin {
        Origin::Segment(_, from) => {
            let station = ethernet::View::new_unchecked(frame.bytes()).src();
            ethernet::rewrite(error.bytes_mut(), station, router);
            egress::to_location(cx, error, from).map(Verdict::Send)
        }
        _ => own::originate(cx, error),
    }
}

/// The sender of `packet`, if there may be an error about it (RFC 1122 section 3.2.2, RFC 1812
/// section 4.3.2.7, RFC 4443 section 2.4 (e)). The packet may be cut off behind its header.
fn sender(packet: &[u8]) -> Option<IpAddr> {
    match IpVersion::of(packet)? {
        IpVersion::V4 => {
            let view = ipv4::View::new_checked_within(packet, usize::MAX).ok()?;
            let (src, dst) = (view.src(), view.dst());
            // No single host: "this network", loopback, multicast, reserved, broadcast.
            let of_a_host = !matches!(src.octets()[0], 0 | 127 | 224..=255);
            let to_a_host = !matches!(dst.octets()[0], 224..=255);
            let is_error = view.protocol() == protocol::ICMP
                && packet.get(view.header_len()).is_none_or(|&kind| is_error_v4(kind));
            // An error about a later fragment could not be matched by ports.
            (of_a_host && to_a_host && view.fragment_offset() == 0 && !is_error).then(|| src.into())
        }
        IpVersion::V6 => {
            let view = ipv6::View::new_checked_within(packet, usize::MAX).ok()?;
            let upper = view.upper_layer().ok()?;
            let src = view.src();
            let of_a_host = !src.is_unspecified() && !src.is_multicast() && !src.is_loopback();
            let is_error = upper.protocol == protocol::ICMPV6
                && (upper.is_later_fragment()
                    || packet.get(upper.offset).is_none_or(|&kind| is_error_v6(kind)));
            (of_a_host && !view.dst().is_multicast() && !is_error).then(|| src.into())
        }
    }
}

/// Destination unreachable, source quench, redirect, time exceeded, parameter problem.
const fn is_error_v4(kind: u8) -> bool {
    matches!(kind, 3 | 4 | 5 | 11 | 12)
}

/// Error messages are those below 128; a redirect (RFC 4861) is to be treated as one.
const fn is_error_v6(kind: u8) -> bool {
    kind < 128 || kind == 137
}

/// Writes an error about the packet in `frame` to `error`, behind room for an Ethernet header whose
/// EtherType it fills in.
fn write<F: Frame>(
    report: Report,
    (own, sender): (IpAddr, IpAddr),
    frame: &F,
    error: &mut F,
) -> Result<(), DropReason> {
    let offending = frame.len().saturating_sub(HEADER_LEN);
    let (version, headers, max) = match own {
        IpAddr::V4(_) => (IpVersion::V4, ipv4::HEADER_LEN + icmpv4::HEADER_LEN, MAX_V4),
        IpAddr::V6(_) => (IpVersion::V6, ipv6::HEADER_LEN + icmpv6::HEADER_LEN, MAX_V6),
    };
    let len = (headers + offending).min(max);
    error.resize(HEADER_LEN + len).map_err(|_| DropReason::NoBuffer)?;
    let bytes = error.bytes_mut();
    bytes[12..HEADER_LEN].copy_from_slice(&version.ethertype().to_be_bytes());
    let packet = &mut bytes[HEADER_LEN..];
    frame.copy_from(HEADER_LEN, &mut packet[headers..]);
    match (own, sender) {
        (IpAddr::V4(own), IpAddr::V4(sender)) => {
            let header = ipv4::Repr {
                src: own,
                dst: sender,
                protocol: protocol::ICMP,
                tos: TOS,
                ttl: HOPS,
                // An atomic datagram has no use for an identification (RFC 6864 section 4.1).
                ident: 0,
                dont_fragment: true,
                payload_len: len - ipv4::HEADER_LEN,
            };
            header.emit(packet);
            let mut message = icmpv4::View::new_unchecked(&mut packet[ipv4::HEADER_LEN..]);
            let (kind, code, mtu) = v4(report);
            message.set_type_code(kind, code);
            message.set_rest(0, mtu);
            message.fill_checksum();
        }
        (IpAddr::V6(own), IpAddr::V6(sender)) => {
            let header = ipv6::Repr {
                src: own,
                dst: sender,
                next_header: protocol::ICMPV6,
                traffic_class: 0,
                flow_label: 0,
                hop_limit: HOPS,
                payload_len: len - ipv6::HEADER_LEN,
            };
            header.emit(packet);
            let mut message = icmpv6::View::new_unchecked(&mut packet[ipv6::HEADER_LEN..]);
            let (kind, code, rest) = v6(report);
            message.set_type_code(kind, code);
            message.set_rest(rest);
            message.fill_checksum(own, sender);
        }
        _ => return Err(DropReason::NoRoute),
    }
    Ok(())
}

/// Type, code and next-hop MTU over IPv4.
fn v4(report: Report) -> (u8, u8, u16) {
    use icmpv4::{message, unreachable};
    match report {
        Report::TimeExceeded => (message::TIME_EXCEEDED, 0, 0),
        Report::NetworkUnreachable => (message::UNREACHABLE, unreachable::NETWORK, 0),
        Report::Prohibited => (message::UNREACHABLE, unreachable::PROHIBITED, 0),
        // What is only in IPv6 packets is no fault of one of IPv4.
        Report::HostUnreachable | Report::ParameterProblem(_) => {
            (message::UNREACHABLE, unreachable::HOST, 0)
        }
        Report::TooBig(mtu) => {
            let mtu = u16::try_from(mtu).unwrap_or(u16::MAX);
            (message::UNREACHABLE, unreachable::FRAGMENTATION_NEEDED, mtu)
        }
    }
}

/// Type, code, and MTU or pointer over IPv6.
fn v6(report: Report) -> (u8, u8, u32) {
    use icmpv6::{message, unreachable};
    match report {
        Report::TimeExceeded => (message::TIME_EXCEEDED, 0, 0),
        Report::NetworkUnreachable => (message::UNREACHABLE, unreachable::NO_ROUTE, 0),
        Report::HostUnreachable => (message::UNREACHABLE, unreachable::ADDRESS, 0),
        Report::Prohibited => (message::UNREACHABLE, unreachable::PROHIBITED, 0),
        Report::TooBig(mtu) => (message::PACKET_TOO_BIG, 0, mtu.max(MIN_V6_MTU)),
        Report::ParameterProblem(at) => (message::PARAMETER_PROBLEM, 0, at),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bucket_holds_a_burst_and_refills_by_time() {
        for (per_second, at_once, in_10_ms) in [(1000, 100, 10), (100, 10, 1), (5, 1, 0), (0, 0, 0)]
        {
            let bucket = Limiter::new();
            let burst = |now| (0..10_000).take_while(|_| bucket.take(now, per_second)).count();
            assert_eq!(burst(0), at_once);
            assert_eq!(burst(0), 0);
            assert_eq!(burst(10), in_10_ms);
            assert_eq!(burst(1_000_000), at_once, "never more than a burst");
            assert_eq!(
                burst(1_000_100) + burst(1_000_200),
                per_second as usize / 5,
                "parts add up"
            );
        }
        let bucket = Limiter::new();
        assert!(bucket.take(0, 1000));
        assert_eq!((0..100).filter(|_| bucket.take(0, 100)).count(), 10, "lowered at once");
    }
}
