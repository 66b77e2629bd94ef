//! The usual frame of a port.

use super::super::batch::Batch;
use super::super::{GROUPED, LOOK_AGAIN, NO_HEADROOM, OTHER};
use super::{LEAST, LEAST_V6, Side, UDP, UDP_V6, Usual, count_hop, count_hop_v6};
use crate::frame::Frame;
use crate::ids::{Location, TunnelId};
use crate::tables::{Entrance, Owner, WayIn};
use encap::ethernet::HEADER_LEN;
use encap::flow;
use encap::ip::has_ports;
use encap::words::{self, Ethernet, Ipv4, Ipv6};

/// The first of the bits of tunnels, see [`Location::to_bits`].
const TUNNELS: u32 = Location::Tunnel(TunnelId(0)).to_bits();

/// The frames of a port: for each the port that it leaves through, or [`OTHER`] of one that is not simply sent.
///
/// If they are `LOOKED_UP` their fates begin as the index of the next hop of what would be their destination's
/// address if they are packets of IPv4: the FIB is not asked, whatever its nodes are.
#[inline(always)]
pub(in crate::pipeline) fn access<F: Frame, const LOOKED_UP: bool>(
    batch: &Batch<'_>,
    frames: &mut [F],
    fates: &mut [u32],
) {
    match batch.entrance() {
        Some(entrance) if entrance.is_plain && (LOOKED_UP || batch.is_plain()) => {
            access_with::<F, false, LOOKED_UP>(batch, entrance, frames, fates);
        }
        Some(entrance) => access_with::<F, true, LOOKED_UP>(batch, entrance, frames, fates),
        None => batch.access_all(frames, fates),
    }
}

/// The same of one frame: nothing is made ready but what it comes to.
#[inline(always)]
pub(in crate::pipeline) fn access_alone<F: Frame>(batch: &Batch<'_>, frame: &mut F) -> u32 {
    match batch.entrance() {
        Some(entrance) if entrance.is_plain && batch.is_plain() => {
            access_one::<F, false>(batch, entrance, frame)
        }
        Some(entrance) => access_one::<F, true>(batch, entrance, frame),
        None => batch.context().access(frame),
    }
}

/// In a function of its own, in which there is nothing but the quick way: what is called is out of its way.
#[inline(never)]
fn access_with<F: Frame, const FULL: bool, const LOOKED_UP: bool>(
    batch: &Batch<'_>,
    entrance: &Entrance,
    frames: &mut [F],
    fates: &mut [u32],
) {
    let usual = Usual::<false>::new(batch);
    let side = Side::of(entrance, usual.now());
    for (frame, to) in frames.iter_mut().zip(fates) {
        let next_hop = LOOKED_UP.then_some(*to);
        *to = match usual.access::<F, FULL>(&side, frame, next_hop) {
            to if to >= GROUPED => access_again::<F, FULL>(batch, entrance, frame, to),
            to => to,
        };
    }
}

/// As above.
#[inline(never)]
fn access_one<F: Frame, const FULL: bool>(
    batch: &Batch<'_>,
    entrance: &Entrance,
    frame: &mut F,
) -> u32 {
    let usual = Usual::<true>::new(batch);
    match usual.access::<F, FULL>(&Side::of(entrance, usual.now()), frame, None) {
        to if to >= GROUPED => access_again::<F, FULL>(batch, entrance, frame, to),
        to => to,
    }
}

#[inline(never)]
fn access_again<F: Frame, const FULL: bool>(
    batch: &Batch<'_>,
    entrance: &Entrance,
    frame: &mut F,
    mut to: u32,
) -> u32 {
    if !FULL && to == LOOK_AGAIN {
        let usual = Usual::<true>::new(batch);
        to = usual.access::<F, true>(&Side::of(entrance, usual.now()), frame, None);
    }
    if to == GROUPED {
        to = Usual::<true>::new(batch).route::<F, true, true>(frame, None);
    }
    match to {
        OTHER | LOOK_AGAIN | GROUPED => batch.context().access(frame),
        NO_HEADROOM => batch.context().note_no_headroom(),
        port => port,
    }
}

impl<const ON_DEMAND: bool> Usual<'_, ON_DEMAND> {
    /// A frame of a port: the port that it leaves through, or [`OTHER`], [`LOOK_AGAIN`] or [`GROUPED`] and as
    /// it came, or [`NO_HEADROOM`].
    ///
    /// Without `FULL` nobody owns the port and no address is configured. What is not where it would rather be
    /// in the FDB or the FIB, and routed IPv6, are to be looked at again with it. `next_hop` is the index of that of
    /// a packet of IPv4, if it has been looked up.
    #[inline(always)]
    fn access<F: Frame, const FULL: bool>(
        &self,
        side: &Side,
        frame: &mut F,
        next_hop: Option<u32>,
    ) -> u32 {
        if !frame.is_whole() {
            return OTHER;
        }
        let bytes = frame.bytes();
        let len = bytes.len();
        let Some(h) = bytes.first_chunk::<LEAST>() else { return OTHER };
        let eth = Ethernet::read(h);
        if FULL
            && let Some(owner) = &side.owner
            && (eth.src() != owner.mac || !speaks_for(owner, eth, bytes))
        {
            return OTHER;
        }
        if !self.is_known::<FULL>(side, eth) {
            return LOOK_AGAIN;
        }
        if eth.dst() != side.gateway {
            let Some(to) = self.locate::<FULL, LEAST>(side, eth, h) else { return OTHER };
            return match self.max_frame().get(to as usize) {
                Some(&max) if len <= max as usize && to != side.from => to,
                Some(_) => OTHER,
                None => self.bridge_to_vxlan(frame, eth, to, len),
            };
        }
        match eth.ethertype() {
            words::IPV4 => self.route::<F, FULL, false>(frame, next_hop),
            words::IPV6 if FULL => self.route_v6::<F, FULL>(frame),
            words::IPV6 => LOOK_AGAIN,
            _ => OTHER,
        }
    }

    /// A packet of IPv4 to the router: onward out of a port or into a tunnel. Without `GROUPS` it is
    /// [`GROUPED`] and as it came where there are several next hops of equal cost.
    #[inline(always)]
    fn route<F: Frame, const FULL: bool, const GROUPS: bool>(
        &self,
        frame: &mut F,
        next_hop: Option<u32>,
    ) -> u32 {
        let bytes = frame.bytes_mut();
        let len = bytes.len();
        let Some(h) = bytes.first_chunk_mut::<LEAST>() else { return OTHER };
        let ip = Ipv4::read::<HEADER_LEN, LEAST>(h);
        let Some(hop) = self.next_hop::<FULL>(ip, len - HEADER_LEN, next_hop) else {
            return LOOK_AGAIN;
        };
        if FULL
            && self.clamp_mss()
            && self.may_be_clamped::<FULL>(ip.protocol(), self.tcp_flags::<FULL>(bytes, UDP))
        {
            return OTHER;
        }
        let Some(h) = bytes.first_chunk_mut::<LEAST>() else { return OTHER };
        let hop = if GROUPS {
            let Some(hop) = self.of_group(hop, || flow::hash_plain(ip, ports(h))) else {
                return OTHER;
            };
            hop
        } else {
            hop
        };
        if len <= hop.max_frame as usize {
            hop.header.write(h);
            count_hop(h, ip);
            return hop.port.into();
        }
        let Some(way) = self.ways_in().get(usize::from(hop.tunnel)) else {
            return if hop.group().is_some() { GROUPED } else { OTHER };
        };
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

    /// The same of IPv6, TCP or UDP; into IPIP it goes the general way.
    #[inline(always)]
    fn route_v6<F: Frame, const FULL: bool>(&self, frame: &mut F) -> u32 {
        let bytes = frame.bytes_mut();
        let len = bytes.len();
        let flags = self.tcp_flags::<FULL>(bytes, UDP_V6);
        let Some(h) = bytes.first_chunk_mut::<LEAST_V6>() else { return OTHER };
        let ip = Ipv6::read::<HEADER_LEN, LEAST_V6>(h);
        let Some(hop) = self.next_hop_v6(ip, len - HEADER_LEN) else { return OTHER };
        if self.may_be_clamped::<FULL>(ip.next_header(), flags) {
            return OTHER;
        }
        let flow = || {
            let ports = h[UDP_V6..].first_chunk().copied().unwrap_or_default();
            flow::hash_plain_ipv6(ip, ports)
        };
        let Some(hop) = self.of_group(hop, flow) else { return OTHER };
        if len <= hop.max_frame as usize {
            hop.header.write_addresses(h);
            count_hop_v6(h);
            return hop.port.into();
        }
        let Some(way) = self.ways_in().get(usize::from(hop.tunnel)) else { return OTHER };
        if hop.max_frame != 0 || !way.routes(len) || !self.passes(way, len) {
            return OTHER;
        }
        let flow = flow();
        way.inner.write_addresses(h);
        count_hop_v6(h);
        push_vxlan(frame, way, len, flow, ip.traffic_class())
    }

    /// A frame of a segment into a tunnel, which is given as in [`Location::to_bits`].
    #[inline(always)]
    fn bridge_to_vxlan<F: Frame>(&self, frame: &mut F, eth: Ethernet, to: u32, len: usize) -> u32 {
        let Some(way) = self.ways_in().get(to.wrapping_sub(TUNNELS) as usize) else {
            return if eth.has_group() { OTHER } else { LOOK_AGAIN };
        };
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

/// Whether a packet's source is the address of who is behind the port. In neighbour discovery, and behind an
/// extension header, more could be claimed.
#[inline(always)]
fn speaks_for(owner: &Owner, eth: Ethernet, frame: &[u8]) -> bool {
    match eth.ethertype() {
        words::IPV4 => frame
            .first_chunk::<LEAST>()
            .is_some_and(|h| owner.v4 == Some(Ipv4::read::<HEADER_LEN, LEAST>(h).src())),
        words::IPV6 => frame.first_chunk::<UDP_V6>().is_some_and(|h| {
            let ip = Ipv6::read::<HEADER_LEN, UDP_V6>(h);
            ip.is_version_6() && has_ports(ip.next_header()) && owner.v6 == Some(ip.src())
        }),
        _ => false,
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
