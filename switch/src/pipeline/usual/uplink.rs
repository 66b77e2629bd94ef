//! The usual frame of the underlay.

use super::super::batch::Batch;
use super::super::{LOOK_AGAIN, OTHER};
use super::{LEAST, LEAST_V6, Side, UDP, UDP_V6, Usual, count_hop, count_hop_v6};
use crate::frame::Frame;
use encap::ethernet::HEADER_LEN;
use encap::ip::protocol;
use encap::ipv4;
use encap::tunnel::{IPIP4_LEN, UsualIpip, UsualVxlan, VXLAN4_LEN};
use encap::words::{self, Ethernet, Ipv4, Ipv6};

/// Octets of a frame in VXLAN at least: its outer headers, and those of an inner frame.
const LEAST_IN_VXLAN: usize = VXLAN4_LEN + LEAST;
/// The headers of an IPv4 packet in IPv4.
const LEAST_IN_IPIP: usize = IPIP4_LEN + ipv4::HEADER_LEN;

/// The frames of the underlay: for each the port that it leaves through, or [`OTHER`] of one that is not simply
/// sent.
#[inline(always)]
pub(in crate::pipeline) fn uplink<F: Frame>(
    batch: &Batch<'_>,
    frames: &mut [F],
    fates: &mut [u32],
) {
    match Look::of(batch) {
        Look::Quick => uplink_with::<F, false>(batch, frames, fates),
        Look::Full => uplink_with::<F, true>(batch, frames, fates),
        Look::General => batch.uplink_all(frames, fates),
    }
}

/// The same of one frame: nothing is made ready but what it comes to.
#[inline(always)]
pub(in crate::pipeline) fn uplink_alone<F: Frame>(batch: &Batch<'_>, frame: &mut F) -> u32 {
    match Look::of(batch) {
        Look::Quick => uplink_one::<F, false>(batch, frame),
        Look::Full => uplink_one::<F, true>(batch, frame),
        Look::General => batch.context().uplink(frame),
    }
}

/// How closely the frames of the underlay are looked at.
enum Look {
    Quick,
    Full,
    /// They all take the general way.
    General,
}

impl Look {
    #[inline(always)]
    fn of(batch: &Batch<'_>) -> Look {
        let is_unusual = batch.tables.vlan.is_some() || batch.port.policy.guard.is_some();
        if !batch.is_prepared() || is_unusual {
            Look::General
        } else if batch.is_plain()
            && !batch.tables.clamps_mss()
            && batch.tables.adjacencies.statics.is_empty()
        {
            Look::Quick
        } else {
            Look::Full
        }
    }
}

#[inline(never)]
fn uplink_with<F: Frame, const FULL: bool>(batch: &Batch<'_>, frames: &mut [F], fates: &mut [u32]) {
    let usual = Usual::<false>::new(batch);
    for (frame, to) in frames.iter_mut().zip(fates) {
        *to = match usual.uplink::<F, FULL>(frame) {
            to if to >= LOOK_AGAIN => uplink_again::<F, FULL>(batch, frame, to),
            to => to,
        };
    }
}

#[inline(never)]
fn uplink_one<F: Frame, const FULL: bool>(batch: &Batch<'_>, frame: &mut F) -> u32 {
    match Usual::<true>::new(batch).uplink::<F, FULL>(frame) {
        to if to >= LOOK_AGAIN => uplink_again::<F, FULL>(batch, frame, to),
        to => to,
    }
}

#[inline(never)]
fn uplink_again<F: Frame, const FULL: bool>(batch: &Batch<'_>, frame: &mut F, mut to: u32) -> u32 {
    if !FULL && to == LOOK_AGAIN {
        to = Usual::<true>::new(batch).uplink::<F, true>(frame);
    }
    if to >= LOOK_AGAIN { batch.context().uplink(frame) } else { to }
}

impl<const ON_DEMAND: bool> Usual<'_, ON_DEMAND> {
    /// A frame of the underlay: the port that it leaves through, or [`OTHER`] or [`LOOK_AGAIN`] and as it came.
    #[inline(always)]
    fn uplink<F: Frame, const FULL: bool>(&self, frame: &mut F) -> u32 {
        if !frame.is_whole() {
            return OTHER;
        }
        let bytes = frame.bytes();
        let len = bytes.len();
        let Some(h) = bytes.first_chunk::<LEAST_IN_IPIP>() else { return OTHER };
        let outer = Ipv4::read::<HEADER_LEN, LEAST_IN_IPIP>(h);
        // ECN: only CE and ECT(1) on the outside can change anything inside, and have the low bit.
        let usual = Ethernet::read(h).ethertype() == words::IPV4
            && outer.is_sound(len - HEADER_LEN)
            && !outer.is_fragment()
            && outer.tos() & 1 == 0;
        if !usual {
            return OTHER;
        }
        match outer.protocol() {
            protocol::UDP => self.out_of_vxlan::<F, FULL>(frame, outer),
            protocol::IPIP => self.out_of_ipip::<F, FULL>(frame, outer),
            _ => OTHER,
        }
    }

    #[inline(always)]
    fn out_of_vxlan<F: Frame, const FULL: bool>(&self, frame: &mut F, outer: Ipv4) -> u32 {
        let bytes = frame.bytes_mut();
        let len = bytes.len();
        let flags = self.tcp_flags::<FULL>(bytes, VXLAN4_LEN + UDP);
        let Some(h) = bytes.first_chunk_mut::<LEAST_IN_VXLAN>() else { return OTHER };
        let Some(packet) = UsualVxlan::of(outer, h) else { return OTHER };
        let Some(id) = self.underlay().usual_vxlan(&packet) else { return OTHER };
        let Some(way) = self.ways_out().get(id.index()) else { return OTHER };
        let Some(inner) = h[VXLAN4_LEN..].first_chunk_mut::<LEAST>() else { return OTHER };
        let eth = Ethernet::read(inner);
        let len = len - VXLAN4_LEN;
        if eth.dst() == way.local_mac {
            if eth.ethertype() != words::IPV4 {
                return match eth.ethertype() {
                    words::IPV6 if FULL => self.route_v6_out_of_vxlan::<F, FULL>(frame),
                    words::IPV6 => LOOK_AGAIN,
                    _ => OTHER,
                };
            }
            let ip = Ipv4::read::<HEADER_LEN, LEAST>(inner);
            let Some(hop) = self.next_hop::<FULL>(ip, len - HEADER_LEN, None) else {
                return LOOK_AGAIN;
            };
            if len > hop.max_frame as usize || self.may_be_clamped::<FULL>(ip.protocol(), flags) {
                return OTHER;
            }
            hop.header.write(inner);
            count_hop(inner, ip);
            frame.pull(VXLAN4_LEN);
            return hop.port.into();
        }
        let Some(entrance) = &way.entrance else { return OTHER };
        let side = Side::of(entrance, self.now());
        // Few frames come for the gateway through a tunnel.
        if eth.dst() == side.gateway {
            return OTHER;
        }
        if !self.is_known::<FULL>(&side, eth) {
            return LOOK_AGAIN;
        }
        let Some(to) = self.locate::<FULL, LEAST>(&side, eth, inner) else { return OTHER };
        match self.max_frame().get(to as usize) {
            Some(&max) if len <= max as usize => {
                frame.pull(VXLAN4_LEN);
                to
            }
            _ => LOOK_AGAIN,
        }
    }

    /// A packet of IPv6, TCP or UDP, to the router.
    #[inline(always)]
    fn route_v6_out_of_vxlan<F: Frame, const FULL: bool>(&self, frame: &mut F) -> u32 {
        let bytes = frame.bytes_mut();
        let flags = self.tcp_flags::<FULL>(bytes, VXLAN4_LEN + UDP_V6);
        let Some(inner) = bytes.get_mut(VXLAN4_LEN..) else { return OTHER };
        let len = inner.len();
        let Some(inner) = inner.first_chunk_mut::<LEAST_V6>() else { return OTHER };
        let ip = Ipv6::read::<HEADER_LEN, LEAST_V6>(inner);
        let Some(hop) = self.next_hop_v6(ip, len - HEADER_LEN) else { return OTHER };
        if len > hop.max_frame as usize || self.may_be_clamped::<FULL>(ip.next_header(), flags) {
            return OTHER;
        }
        hop.header.write_addresses(inner);
        count_hop_v6(inner);
        frame.pull(VXLAN4_LEN);
        hop.port.into()
    }

    #[inline(always)]
    fn out_of_ipip<F: Frame, const FULL: bool>(&self, frame: &mut F, outer: Ipv4) -> u32 {
        let bytes = frame.bytes_mut();
        let len = bytes.len() - UsualIpip::LEN;
        let flags = self.tcp_flags::<FULL>(bytes, UsualIpip::LEN + ipv4::HEADER_LEN);
        let Some(h) = bytes.first_chunk_mut::<LEAST_IN_IPIP>() else { return OTHER };
        let packet = UsualIpip::of(outer, len);
        if self.underlay().usual_ipip(&packet).is_none() {
            return OTHER;
        }
        let ip = Ipv4::read::<{ UsualIpip::LEN }, LEAST_IN_IPIP>(h);
        let Some(hop) = self.next_hop::<FULL>(ip, len, None) else { return LOOK_AGAIN };
        let may_be_clamped = || self.may_be_clamped::<FULL>(ip.protocol(), flags);
        if len + HEADER_LEN > hop.max_frame as usize || may_be_clamped() {
            return OTHER;
        }
        const AT: usize = UsualIpip::LEN - HEADER_LEN;
        let Some(inner) = h[AT..].first_chunk_mut::<{ HEADER_LEN + ipv4::HEADER_LEN }>() else {
            return OTHER;
        };
        hop.header.write(inner);
        count_hop(inner, ip);
        frame.pull(AT);
        hop.port.into()
    }
}
