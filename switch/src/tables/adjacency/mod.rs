//! Adjacencies: what the usual frame needs to know of its way, side by side in memory, where the tables
//! that it comes from are objects behind pointers.
//!
//! They are derived from a snapshot of the tables, and hold what they were derived from: so nobody can
//! change that in place, and one look at the pointers tells whether they are those of a snapshot.

mod entrance;

pub(crate) use entrance::{Entrance, Owner, WayOut};

use super::exact::Exact;
use super::slots::Slots;
use super::{
    Encapsulation, Group, NextHop, PathMtu, Port, Router, Segment, Station, Tables, Tunnel,
};
use encap::ethernet::HEADER_LEN;
use encap::tunnel::Template;
use encap::words::{self, mac_word};
use std::sync::Arc;

/// What is derived from [`Tables`], by the identifiers and indices of those.
#[derive(Clone, Debug, Default)]
pub struct Adjacencies {
    of: Sources,
    /// Bytes of the largest frame that each port sends; 0 where there is no port.
    pub(crate) max_frame: Arc<[u32]>,
    /// By port: where its frames enter, if they do in the usual way.
    pub(crate) entrances: Arc<[Option<Entrance>]>,
    /// By the index of the next hop.
    pub(crate) hops: Arc<[Hop]>,
    /// By group: how flows are divided among its members.
    pub(crate) groups: Arc<[GroupHops]>,
    /// By tunnel: how it is entered.
    pub(crate) ways_in: Arc<[WayIn]>,
    /// By tunnel: where it ends here.
    pub(crate) ways_out: Arc<[WayOut]>,
    pub(crate) statics: Arc<Statics>,
}

/// Where stations are whose place is configured, of all segments, as [`crate::Location::to_bits`].
#[derive(Clone, Debug, Default)]
pub(crate) struct Statics(Exact<0>);

impl Statics {
    fn of(segments: &Slots<Segment>) -> Statics {
        let mut statics = Statics::default();
        for segment in segments.iter().flatten() {
            for (mac, at) in segment.statics.iter().filter(|(mac, _)| !mac.is_multicast()) {
                statics.0.insert(Station::new(segment.id, mac.to_u64()).word(), at.to_bits());
            }
        }
        statics
    }

    /// Whether none is.
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Of an address that is not a group's.
    #[inline(always)]
    pub fn get(&self, station: Station) -> Option<u32> {
        self.0.get(station.word())
    }
}

#[derive(Clone, Debug, Default)]
struct Sources {
    ports: Slots<Port>,
    tunnels: Slots<Tunnel>,
    segments: Slots<Segment>,
    next_hops: Arc<[NextHop]>,
    groups: Arc<[Group]>,
    router: Option<Arc<Router>>,
}

/// A next hop.
#[derive(Clone, Copy, Debug, Default)]
#[repr(align(32))]
pub(crate) struct Hop {
    /// The Ethernet header of a packet of IPv4 that is sent there.
    pub header: words::Ethernet,
    /// Bytes of the largest frame that goes there out of a port; 0: it does not, or not in the usual way.
    pub max_frame: u32,
    /// The port, or the group that [`Hop::group`] says.
    pub port: u16,
    /// The tunnel that leads there, where `max_frame` is 0; beyond all of them if none does.
    pub tunnel: u16,
}

/// The members of a group.
#[derive(Clone, Debug)]
pub(crate) struct GroupHops {
    hops: Box<[Hop]>,
    group: Group,
}

impl GroupHops {
    fn of(group: &Group, tables: &Tables) -> GroupHops {
        let hops = group.members().iter().map(|hop| Hop::of(hop, tables)).collect();
        GroupHops { hops, group: group.clone() }
    }

    /// That of a flow. None of them is a group.
    #[inline(always)]
    pub fn pick(&self, flow: u32) -> Option<&Hop> {
        self.hops.get(self.group.member(flow)).filter(|hop| hop.group().is_none())
    }
}

/// How frames are sent into a tunnel.
#[derive(Clone, Debug, Default)]
#[repr(align(64))]
pub(crate) struct WayIn {
    /// Bytes of the largest frame, before encapsulation, as far as is configured: of a segment's into VXLAN,
    /// of a routed packet's into VXLAN, and into IPIP. 0 where there is no such way.
    bridged: u32,
    routed: u32,
    ipip: u32,
    pub port: u16,
    /// The first UDP source port, and how many there are.
    pub source_ports: (u16, u32),
    /// The outer header.
    pub outer: Template,
    /// The inner Ethernet header of a routed packet of IPv4.
    pub inner: words::Ethernet,
    path: Arc<PathMtu>,
    /// Bytes that the outer packet is longer by than the inner one.
    overhead: u32,
}

impl WayIn {
    /// Whether a segment's frame of `len` bytes is carried over VXLAN, as far as is configured.
    #[inline(always)]
    pub fn bridges(&self, len: usize) -> bool {
        len <= self.bridged as usize
    }

    /// The same of a routed packet in an Ethernet frame.
    #[inline(always)]
    pub fn routes(&self, len: usize) -> bool {
        len <= self.routed as usize
    }

    /// The same of a routed packet over IPIP.
    #[inline(always)]
    pub fn routes_ipip(&self, len: usize) -> bool {
        len <= self.ipip as usize
    }

    /// Whether the path is not known to carry less. `now` is in seconds.
    #[inline(never)]
    pub fn passes(&self, len: usize, now: u32) -> bool {
        let most = |path: u32| path.saturating_sub(self.overhead) as usize + HEADER_LEN;
        self.path.get(now).is_none_or(|path| len <= most(path))
    }

    fn of(tunnel: &Tunnel) -> Option<WayIn> {
        let egress = tunnel.egress.as_ref()?;
        let outer = &tunnel.outer;
        // What is not the default is for the general way.
        if !outer.dont_fragment || outer.dscp.is_some() {
            return None;
        }
        let template = Template::of(&egress.header)?;
        let (first, last) = (*outer.source_ports.start(), *outer.source_ports.end());
        let most = |most: usize| tunnel.mtu.saturating_add(HEADER_LEN as u32).min(most as u32);
        let way = WayIn {
            port: egress.port.0,
            source_ports: (first, (u32::from(last) + 1).saturating_sub(first.into())),
            outer: template,
            path: tunnel.path.clone(),
            overhead: tunnel.overhead,
            ..WayIn::default()
        };
        Some(match tunnel.encapsulation {
            Encapsulation::Vxlan { segment, local_mac, remote_mac, .. } => {
                let most = most(Template::MOST_IN_VXLAN);
                let bridged = if segment.is_some() { most } else { 0 };
                let inner = words::Ethernet::ipv4(remote_mac, local_mac);
                WayIn { bridged, routed: most, inner, ..way }
            }
            Encapsulation::Ipip => WayIn { ipip: most(Template::MOST_IN_IPIP), ..way },
        })
    }
}

/// No MAC address as [`words::Ethernet::dst`] has it.
pub(crate) const NO_MAC_WORD: u64 = 1;

impl Adjacencies {
    /// Those of these tables. Of what has not changed they are those of `before`.
    pub fn of(tables: &Tables, before: &Adjacencies) -> Adjacencies {
        let of = Sources {
            ports: tables.ports.clone(),
            tunnels: tables.tunnels.clone(),
            segments: tables.segments.clone(),
            next_hops: tables.next_hops.clone(),
            groups: tables.groups.clone(),
            router: tables.router.clone(),
        };
        let old = &before.of;
        let (ports, tunnels) = (old.ports.is(&of.ports), old.tunnels.is(&of.tunnels));
        let (segments, router) = (old.segments.is(&of.segments), same(&old.router, &of.router));
        let hops = ports && router && Arc::ptr_eq(&old.next_hops, &of.next_hops);
        let groups = ports && router && Arc::ptr_eq(&old.groups, &of.groups);
        let kept = |kept: bool, before: &Arc<[u32]>| kept.then(|| before.clone());
        Adjacencies {
            max_frame: kept(ports, &before.max_frame).unwrap_or_else(|| {
                of.ports.iter().map(|p| p.as_ref().map_or(0, |p| p.max_frame)).collect()
            }),
            entrances: if ports && segments && router {
                before.entrances.clone()
            } else {
                let entrance = |p: &Option<Arc<Port>>| Entrance::of_port(p.as_deref()?, tables);
                of.ports.iter().map(entrance).collect()
            },
            hops: if hops {
                before.hops.clone()
            } else {
                of.next_hops.iter().map(|hop| Hop::of(hop, tables)).collect()
            },
            groups: if groups {
                before.groups.clone()
            } else {
                of.groups.iter().map(|group| GroupHops::of(group, tables)).collect()
            },
            ways_in: if tunnels {
                before.ways_in.clone()
            } else {
                let way = |t: &Option<Arc<Tunnel>>| WayIn::of(t.as_deref()?);
                let tunnels = of.tunnels.iter().take(Hop::GROUP.into());
                tunnels.map(|t| way(t).unwrap_or_default()).collect()
            },
            statics: if segments {
                before.statics.clone()
            } else {
                Arc::new(Statics::of(&of.segments))
            },
            ways_out: if tunnels && segments && router {
                before.ways_out.clone()
            } else {
                let way = |t: &Option<Arc<Tunnel>>| Some(WayOut::of(t.as_deref()?, tables));
                of.tunnels.iter().map(|t| way(t).unwrap_or_default()).collect()
            },
            of,
        }
    }

    /// Whether they are those of these tables.
    #[inline(always)]
    pub(crate) fn are_of(&self, tables: &Tables) -> bool {
        let of = &self.of;
        of.ports.is(&tables.ports)
            && of.tunnels.is(&tables.tunnels)
            && of.segments.is(&tables.segments)
            && Arc::ptr_eq(&of.next_hops, &tables.next_hops)
            && Arc::ptr_eq(&of.groups, &tables.groups)
            && same(&of.router, &tables.router)
    }
}

#[inline(always)]
fn same<T>(a: &Option<Arc<T>>, b: &Option<Arc<T>>) -> bool {
    a.as_ref().map(Arc::as_ptr) == b.as_ref().map(Arc::as_ptr)
}

impl Tables {
    /// Whether the maximum segment size that a SYN offers may have to be lowered.
    #[inline(always)]
    pub(crate) fn clamps_mss(&self) -> bool {
        self.router.as_ref().is_some_and(|router| router.clamp_mss)
    }

    /// The router's MAC address in a segment, as [`words::Ethernet::dst`] has it.
    pub(crate) fn gateway(&self, segment: &Segment) -> u64 {
        match &self.router {
            Some(router) if segment.routed => mac_word(router.mac.to_u64()),
            _ => NO_MAC_WORD,
        }
    }
}

impl Hop {
    /// In the place of the tunnel: there is none.
    const NONE: u16 = u16::MAX;
    /// In the place of the tunnel: it is several next hops of equal cost.
    const GROUP: u16 = u16::MAX - 1;

    /// Which of [`Adjacencies::groups`] it is, if it is one.
    #[inline(always)]
    pub fn group(&self) -> Option<usize> {
        (self.tunnel == Hop::GROUP).then_some(self.port.into())
    }

    fn of(hop: &NextHop, tables: &Tables) -> Hop {
        let none = Hop { tunnel: Hop::NONE, ..Hop::default() };
        let out_of = |port: crate::PortId, dst, src| match tables.port(port) {
            Some(at) => Hop {
                header: words::Ethernet::ipv4(dst, src),
                max_frame: at.mtu.saturating_add(HEADER_LEN as u32),
                port: port.0,
                ..none
            },
            None => none,
        };
        match *hop {
            NextHop::Local { port, mac } => match &tables.router {
                Some(router) => out_of(port, mac, router.mac),
                None => none,
            },
            NextHop::Direct { port, src, dst: Some(dst) } => out_of(port, dst, src),
            NextHop::Tunnel(id) if id.0 < Hop::GROUP => Hop { tunnel: id.0, ..none },
            NextHop::Group(group) => match u16::try_from(group) {
                Ok(port) => Hop { tunnel: Hop::GROUP, port, ..none },
                Err(_) => none,
            },
            _ => none,
        }
    }
}
