//! Tunnels inside tunnels: the encapsulation limit that an IPv6 packet may carry (RFC 2473 section
//! 4.1.1). A tunnel packet that goes through IPIP over IPv6 is one that somebody else encapsulated: a
//! packet never enters the tunnel it came out of.

use super::Context;
use crate::frame::Frame;
use crate::ids::TunnelId;
use crate::tables::Encapsulation;
use encap::ethernet::HEADER_LEN;
use encap::ipv6;
use encap::tunnel::{EncapsulationLimit, LIMIT_LEN, encapsulation_limit};

/// The next header of a frame's IPv6 packet.
const NEXT_HEADER: usize = HEADER_LEN + 6;

/// Whether an IPv6 packet has extension headers, of which one may be a limit: all that other packets
/// pay.
#[inline(always)]
pub(super) fn may_be_limited<F: Frame>(frame: &F) -> bool {
    frame.bytes().get(NEXT_HEADER).is_some_and(|&next| ipv6::is_extension(next))
}

/// The limit of an IPv6 packet that is to enter a tunnel, if it has one and the tunnel is one that
/// heeds it: IPIP over IPv6. VXLAN carries frames, of which it knows nothing; over IPv4 there is no
/// such option.
pub(super) fn limit<F: Frame>(
    cx: &Context<'_>,
    frame: &F,
    id: TunnelId,
) -> Option<EncapsulationLimit> {
    let tunnel = cx.tables.tunnel(id)?;
    if tunnel.encapsulation != Encapsulation::Ipip || tunnel.remote.is_ipv4() {
        return None;
    }
    encapsulation_limit(frame.bytes().get(HEADER_LEN..)?)
}

/// What `mtu`, a tunnel's, leaves for packets with a limit: the outer header has one, too, even if the
/// tunnel's others have none.
pub(super) fn mtu(cx: &Context<'_>, id: TunnelId, mtu: u32) -> u32 {
    let egress = cx.tables.tunnel(id).and_then(|tunnel| tunnel.egress.as_ref());
    match egress {
        Some(egress) if egress.header.has_encapsulation_limit() => mtu,
        _ => mtu.saturating_sub(LIMIT_LEN as u32),
    }
}
