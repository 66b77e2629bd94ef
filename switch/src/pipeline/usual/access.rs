//! The usual frame of a port.

use super::super::batch::Batch;
use super::super::{NO_HEADROOM, OTHER};
use super::{LEAST, Side, UDP, Usual, count_hop, each};
use crate::frame::Frame;
use crate::ids::{Location, TunnelId};
use crate::tables::{Entrance, WayIn};
use encap::ethernet::HEADER_LEN;
use encap::flow;
use encap::words::{self, Ethernet, Ipv4};

/// The first of the bits of tunnels, see [`Location::to_bits`].
const TUNNELS: u32 = Location::Tunnel(TunnelId(0)).to_bits();

/// The frames of a port: for each the port that it leaves through, or [`OTHER`] of one that is not simply sent.
/// `ALONE`: there is one of them.
#[inline(always)]
pub(in crate::pipeline) fn access<F: Frame, const ALONE: bool>(
    batch: &Batch<'_>,
    frames: &mut [F],
    fates: &mut [u32],
) {
    match batch.entrance() {
        Some(entrance) if entrance.is_plain && batch.is_plain() => {
            access_with::<F, false, ALONE>(batch, entrance, frames, fates);
        }
        Some(entrance) => access_with::<F, true, ALONE>(batch, entrance, frames, fates),
        None => batch.access_all(frames, fates),
    }
}

/// In a function of its own, in which there is nothing but the quick way: what is called is out of its way.
#[inline(never)]
fn access_with<F: Frame, const FULL: bool, const ALONE: bool>(
    batch: &Batch<'_>,
    entrance: &Entrance,
    frames: &mut [F],
    fates: &mut [u32],
) {
    let usual = Usual::new(batch);
    let side = Side::of(entrance, usual.now);
    each::<F, ALONE>(frames, fates, |frame| match usual.access::<F, FULL>(&side, frame) {
        to if to >= NO_HEADROOM => access_again::<F, FULL>(batch, entrance, frame, to),
        to => to,
    });
}

#[inline(never)]
fn access_again<F: Frame, const FULL: bool>(
    batch: &Batch<'_>,
    entrance: &Entrance,
    frame: &mut F,
    mut to: u32,
) -> u32 {
    if !FULL && to == OTHER {
        let usual = Usual::new(batch);
        to = usual.access::<F, true>(&Side::of(entrance, usual.now), frame);
    }
    match to {
        OTHER => batch.context().access(frame),
        NO_HEADROOM => batch.context().note_no_headroom(),
        port => port,
    }
}

impl Usual<'_> {
    /// A frame of a port: the port that it leaves through, or [`OTHER`] and as it came, or [`NO_HEADROOM`].
    ///
    /// Without `FULL` nobody owns the port, no address is configured, and what is not where it would rather
    /// be in the FDB is [`OTHER`], too.
    #[inline(always)]
    fn access<F: Frame, const FULL: bool>(&self, side: &Side, frame: &mut F) -> u32 {
        if !frame.is_whole() {
            return OTHER;
        }
        let bytes = frame.bytes_mut();
        let len = bytes.len();
        let Some(h) = bytes.first_chunk_mut::<LEAST>() else { return OTHER };
        let eth = Ethernet::read(h);
        if FULL && let Some(owner) = side.owner {
            let ip = Ipv4::read::<HEADER_LEN, LEAST>(h).src();
            if eth.src() != owner.mac || eth.ethertype() != words::IPV4 || ip != owner.ip {
                return OTHER;
            }
        }
        if !self.is_known::<FULL>(side, eth) {
            return OTHER;
        }
        if eth.dst() != side.gateway {
            let Some(to) = self.locate::<FULL, LEAST>(side, eth, h) else { return OTHER };
            return match self.max_frame.get(to as usize) {
                Some(&max) if len <= max as usize && to != side.from => to,
                Some(_) => OTHER,
                None => self.bridge_to_vxlan(frame, eth, to, len),
            };
        }
        if eth.ethertype() != words::IPV4 {
            return OTHER;
        }
        self.route::<F, FULL>(frame)
    }

    /// A packet of IPv4 to the router: onward out of a port or into a tunnel.
    #[inline(always)]
    fn route<F: Frame, const FULL: bool>(&self, frame: &mut F) -> u32 {
        let bytes = frame.bytes_mut();
        let len = bytes.len();
        let Some(h) = bytes.first_chunk_mut::<LEAST>() else { return OTHER };
        let ip = Ipv4::read::<HEADER_LEN, LEAST>(h);
        let Some(hop) = self.next_hop::<FULL>(ip, len - HEADER_LEN) else { return OTHER };
        if FULL
            && self.clamp_mss
            && self.may_be_clamped::<FULL>(ip, self.tcp_flags::<FULL>(bytes, 0))
        {
            return OTHER;
        }
        let Some(h) = bytes.first_chunk_mut::<LEAST>() else { return OTHER };
        if len <= hop.max_frame as usize {
            hop.header.write(h);
            count_hop(h, ip);
            return hop.port.into();
        }
        let Some(way) = self.ways_in.get(usize::from(hop.tunnel)) else { return OTHER };
        if hop.max_frame != 0 {
            return OTHER;
        }
        if way.routes(len) && self.passes(way, len) {
            let flow = flow::hash_plain(ip, ports(h));
            way.inner.write(h);
            count_hop(h, ip);
            return push_vxlan(frame, way, len, flow, ip.tos());
        }
        if way.routes_ipip(len) && self.passes(way, len) {
            count_hop(h, ip);
            // The outer header takes the place of the Ethernet header.
            frame.pull(HEADER_LEN);
            let Some(out) = frame.push_exactly() else { return NO_HEADROOM };
            way.outer.write_ipip(out, len - HEADER_LEN, ip.tos());
            return way.port.into();
        }
        OTHER
    }

    /// A frame of a segment into a tunnel, which is given as in [`Location::to_bits`].
    #[inline(always)]
    fn bridge_to_vxlan<F: Frame>(&self, frame: &mut F, eth: Ethernet, to: u32, len: usize) -> u32 {
        let Some(way) = self.ways_in.get(to.wrapping_sub(TUNNELS) as usize) else { return OTHER };
        if !(way.bridges(len) && self.passes(way, len)) {
            return OTHER;
        }
        let Some(h) = frame.bytes().first_chunk::<LEAST>() else { return OTHER };
        let ip = Ipv4::read::<HEADER_LEN, LEAST>(h);
        let (flow, tos) = if eth.ethertype() == words::IPV4 && ip.has_no_options() {
            (flow::hash_plain(ip, ports(h)), ip.tos())
        } else {
            hash_and_tos(frame)
        };
        push_vxlan(frame, way, len, flow, tos)
    }
}

/// Puts the outer headers before a frame of `len` bytes.
#[inline(always)]
fn push_vxlan<F: Frame>(frame: &mut F, way: &WayIn, len: usize, flow: u32, tos: u8) -> u32 {
    let (first, count) = way.source_ports;
    let source_port = flow::source_port_of(flow, first, count);
    let Some(out) = frame.push_exactly() else { return NO_HEADROOM };
    way.outer.write_vxlan(out, len, source_port, tos);
    way.port.into()
}

/// The octets behind an IPv4 header without options.
#[inline(always)]
fn ports(h: &[u8; LEAST]) -> [u8; 4] {
    h[UDP..].first_chunk().copied().unwrap_or_default()
}

#[inline(never)]
fn hash_and_tos<F: Frame>(frame: &F) -> (u32, u8) {
    flow::hash_and_tos(frame.bytes())
}
