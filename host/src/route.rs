//! Routes, and what the kernel would do with a packet to some address.

use std::net::IpAddr;

use encap::Prefix;
use netlink_packet_core::{NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteMetric,
    RouteProtocol, RouteScope, RouteType, RouteVia,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::errno::Errno;

use crate::error::Result;
use crate::handle::{Handle, family};

/// What a route does with packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RouteKind {
    /// Sends them to a next hop.
    Unicast,
    /// Delivers them to this node.
    Local,
    /// Drops them without a word.
    Blackhole,
    /// Drops them with ICMP host unreachable.
    Unreachable,
    /// Drops them with ICMP administratively prohibited.
    Prohibit,
    /// Something else; the kernel's number (`RTN_*`).
    Other(u8),
}

/// A route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The destinations it is for.
    pub prefix: Prefix,
    /// What it does with packets.
    pub kind: RouteKind,
    /// The next hop; none: destinations are on the link. In a list also none for a multipath
    /// route: ask [`Handle::route_get`] about a destination.
    pub gateway: Option<IpAddr>,
    /// The index of the link that packets leave on.
    pub oif: Option<u32>,
    /// The gateway is on the link, even if no route says so.
    pub onlink: bool,
    /// The source address of packets that the node itself sends on it.
    pub prefsrc: Option<IpAddr>,
    /// The MTU of the route, bytes; none: the link's.
    pub mtu: Option<u32>,
    /// The maximum segment size that TCP offers on it, bytes; none: what follows from the MTU.
    pub advmss: Option<u32>,
    /// How far its destinations are (`RT_SCOPE_*`): none: what follows from the rest. IPv6 has none.
    pub scope: Option<u8>,
    /// Its preference, the smaller the better; none: the kernel's default (0 for IPv4, 1024 for
    /// IPv6).
    pub metric: Option<u32>,
    /// Who made it (`RTPROT_*`): 2 the kernel, 4 an administrator, [`crate::ROUTE_PROTOCOL`]
    /// podswitch.
    pub protocol: u8,
    /// The table that it is in; 254 is the main one.
    pub table: u32,
}

impl Route {
    /// The main table.
    pub const TABLE_MAIN: u32 = 254;
    /// The protocol number of routes that an administrator makes (`RTPROT_STATIC`).
    pub const PROTOCOL_STATIC: u8 = 4;

    /// A route of the main table to destinations that are on the link.
    pub fn on_link(prefix: Prefix, oif: u32) -> Route {
        Route {
            prefix,
            kind: RouteKind::Unicast,
            gateway: None,
            oif: Some(oif),
            onlink: false,
            prefsrc: None,
            mtu: None,
            advmss: None,
            scope: None,
            metric: None,
            protocol: Route::PROTOCOL_STATIC,
            table: Route::TABLE_MAIN,
        }
    }

    /// A route of the main table through a gateway that is taken to be on the link.
    pub fn via(prefix: Prefix, gateway: IpAddr, oif: u32) -> Route {
        Route { gateway: Some(gateway), onlink: true, ..Route::on_link(prefix, oif) }
    }

    /// A route of the main table that drops packets.
    pub fn blackhole(prefix: Prefix) -> Route {
        Route { kind: RouteKind::Blackhole, oif: None, ..Route::on_link(prefix, 0) }
    }
}

/// Where the kernel would send a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResolvedRoute {
    /// The index of the link; that of `lo` for the node's own addresses.
    pub oif: u32,
    /// The next hop; none: the destination is on the link.
    pub gateway: Option<IpAddr>,
    /// The source address that the node would use.
    pub prefsrc: Option<IpAddr>,
    /// The MTU of the route or, when smaller, the path MTU that the kernel learned, bytes; none:
    /// the link's.
    pub mtu: Option<u32>,
    /// Whether the destination is the node itself.
    pub local: bool,
}

impl Handle {
    /// The routes of the main table, both families.
    pub fn routes(&self) -> Result<Vec<Route>> {
        self.routes_where(None, None)
    }

    /// The routes of the main table that were made by `protocol`, and over the link `oif`, both
    /// families. The kernel does the filtering.
    pub fn routes_where(&self, protocol: Option<u8>, oif: Option<u32>) -> Result<Vec<Route>> {
        self.routes_in(Some(Route::TABLE_MAIN), protocol, oif)
    }

    /// The routes of all tables over a link, both families, those that the kernel made for the link's
    /// own addresses included.
    pub fn routes_of_all_tables(&self, oif: u32) -> Result<Vec<Route>> {
        self.routes_in(None, None, Some(oif))
    }

    fn routes_in(
        &self,
        table: Option<u32>,
        protocol: Option<u8>,
        oif: Option<u32>,
    ) -> Result<Vec<Route>> {
        let mut routes = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut message = RouteMessage::default();
            message.header.address_family = family;
            message.header.table = if table.is_some() {
                RouteHeader::RT_TABLE_MAIN
            } else {
                RouteHeader::RT_TABLE_UNSPEC
            };
            message.header.protocol = protocol.unwrap_or(0).into();
            message.attributes.extend(oif.map(RouteAttribute::Oif));
            let what = "list routes";
            let answers = match self.dump(&RouteNetlinkMessage::GetRoute(message), what) {
                Ok(answers) => answers,
                // The table or the family has never been used, or the link is gone.
                Err(e) if e.is_not_found() => continue,
                Err(e) => return Err(e),
            };
            routes.extend(answers.iter().filter_map(|m| match m {
                // A kernel without the family answers with another's routes.
                RouteNetlinkMessage::NewRoute(m) if m.header.address_family == family => {
                    Route::from_message(m)
                }
                _ => None,
            }));
        }
        routes.retain(|r| {
            table.is_none_or(|t| r.table == t)
                && protocol.is_none_or(|p| r.protocol == p)
                && (oif.is_none() || r.oif == oif)
        });
        Ok(routes)
    }

    /// Adds a route.
    ///
    /// # Errors
    /// [`crate::Error::Kernel`] with `EEXIST` when there is one for the prefix with the same
    /// metric.
    pub fn add_route(&self, route: &Route) -> Result<()> {
        let message = RouteNetlinkMessage::NewRoute(route.to_message());
        self.request(&message, NLM_F_CREATE | NLM_F_EXCL, || self.describe("add", route))?;
        Ok(())
    }

    /// Adds a route behind those that there are for the prefix with the same metric.
    pub fn append_route(&self, route: &Route) -> Result<()> {
        let message = RouteNetlinkMessage::NewRoute(route.to_message());
        self.request(&message, NLM_F_CREATE | NLM_F_APPEND, || self.describe("add", route))?;
        Ok(())
    }

    /// Adds a route, in the place of one for the same prefix with the same metric if there is
    /// one, whoever made that.
    pub fn replace_route(&self, route: &Route) -> Result<()> {
        let message = RouteNetlinkMessage::NewRoute(route.to_message());
        self.request(&message, NLM_F_CREATE | NLM_F_REPLACE, || self.describe("set", route))?;
        Ok(())
    }

    /// Removes a route. All that is set in `route` must match.
    ///
    /// # Errors
    /// [`crate::Error::Kernel`] with `ESRCH` when there is none.
    pub fn del_route(&self, route: &Route) -> Result<()> {
        let message = RouteNetlinkMessage::DelRoute(route.to_message());
        self.request(&message, 0, || self.describe("remove", route))?;
        Ok(())
    }

    /// Where the kernel would send a packet to `destination`; none when it has no route to it,
    /// or one that drops.
    pub fn route_get(&self, destination: IpAddr) -> Result<Option<ResolvedRoute>> {
        let mut message = RouteMessage::default();
        message.header.address_family = family(destination);
        message.header.destination_prefix_length = Prefix::host(destination).len();
        message.attributes.push(RouteAttribute::Destination(destination.into()));
        let what = || format!("look up the route to {destination}");
        let answers = match self.request(&RouteNetlinkMessage::GetRoute(message), 0, what) {
            Ok(answers) => answers,
            Err(e) => {
                return match e.errno() {
                    // No route, unreachable, prohibited, blackhole (which is EINVAL).
                    Some(
                        Errno::ENETUNREACH | Errno::EHOSTUNREACH | Errno::EACCES | Errno::EINVAL,
                    ) => Ok(None),
                    _ => Err(e),
                };
            }
        };
        Ok(answers.iter().find_map(|m| match m {
            RouteNetlinkMessage::NewRoute(m) => {
                let route = Route::from_message(m)?;
                let local = route.kind == RouteKind::Local;
                if !local && route.kind != RouteKind::Unicast {
                    return None;
                }
                Some(ResolvedRoute {
                    oif: route.oif?,
                    gateway: route.gateway,
                    prefsrc: route.prefsrc,
                    mtu: route.mtu,
                    local,
                })
            }
            _ => None,
        }))
    }

    fn describe(&self, verb: &str, route: &Route) -> String {
        use std::fmt::Write;
        let mut text = format!("{verb} route {}", route.prefix);
        if let Some(gateway) = route.gateway {
            let _ = write!(text, " via {gateway}");
        }
        if let Some(oif) = route.oif {
            let _ = write!(text, " on interface {}", self.label(oif));
        }
        text
    }
}

impl Route {
    fn to_message(&self) -> RouteMessage {
        let mut message = RouteMessage::default();
        let header = &mut message.header;
        header.address_family = family(self.prefix.addr());
        header.destination_prefix_length = self.prefix.len();
        // Larger tables need the attribute; with it the kernel ignores the header's field.
        header.table = u8::try_from(self.table).unwrap_or(RouteHeader::RT_TABLE_UNSPEC);
        header.protocol = RouteProtocol::from(self.protocol);
        header.kind = self.kind.into();
        // An IPv4 next hop must have a wider scope than its destination; IPv6 ignores it.
        header.scope = match (self.scope, self.kind, self.gateway) {
            (Some(scope), ..) => RouteScope::from(scope),
            (None, RouteKind::Unicast, None) => RouteScope::Link,
            (None, RouteKind::Local, _) => RouteScope::Host,
            _ => RouteScope::Universe,
        };
        if self.onlink && self.gateway.is_some() {
            header.flags |= RouteFlags::Onlink;
        }
        let attributes = &mut message.attributes;
        attributes.push(RouteAttribute::Destination(self.prefix.addr().into()));
        attributes.push(RouteAttribute::Table(self.table));
        attributes.extend(self.gateway.map(|g| match (self.prefix.addr(), g) {
            // RFC 8950: an IPv4 route through an IPv6 next hop.
            (IpAddr::V4(_), IpAddr::V6(g)) => RouteAttribute::Via(RouteVia::Inet6(g)),
            _ => RouteAttribute::Gateway(g.into()),
        }));
        attributes.extend(self.oif.map(RouteAttribute::Oif));
        attributes.extend(self.prefsrc.map(|a| RouteAttribute::PrefSource(a.into())));
        attributes.extend(self.metric.map(RouteAttribute::Priority));
        let metrics = [self.mtu.map(RouteMetric::Mtu), self.advmss.map(RouteMetric::Advmss)];
        let metrics: Vec<RouteMetric> = metrics.into_iter().flatten().collect();
        if !metrics.is_empty() {
            attributes.push(RouteAttribute::Metrics(metrics));
        }
        message
    }

    /// `None` for routes of other families.
    pub(crate) fn from_message(message: &RouteMessage) -> Option<Route> {
        let header = &message.header;
        let any = match header.address_family {
            AddressFamily::Inet => IpAddr::from([0u8; 4]),
            AddressFamily::Inet6 => IpAddr::from([0u8; 16]),
            _ => return None,
        };
        let mut destination = any;
        let mut route = Route {
            kind: header.kind.into(),
            onlink: header.flags.contains(RouteFlags::Onlink),
            protocol: header.protocol.into(),
            table: header.table.into(),
            oif: None,
            ..Route::on_link(Prefix::host(any), 0)
        };
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Destination(a) => destination = ip(a)?,
                RouteAttribute::Gateway(a) => route.gateway = ip(a),
                RouteAttribute::Via(RouteVia::Inet(a)) => route.gateway = Some((*a).into()),
                RouteAttribute::Via(RouteVia::Inet6(a)) => route.gateway = Some((*a).into()),
                RouteAttribute::PrefSource(a) => route.prefsrc = ip(a),
                RouteAttribute::Oif(index) => route.oif = Some(*index),
                RouteAttribute::Priority(metric) => route.metric = Some(*metric),
                RouteAttribute::Table(table) => route.table = *table,
                RouteAttribute::Metrics(metrics) => {
                    route.mtu = metrics.iter().find_map(|m| match m {
                        RouteMetric::Mtu(mtu) => Some(*mtu).filter(|mtu| *mtu != 0),
                        _ => None,
                    });
                    route.advmss = metrics.iter().find_map(|m| match m {
                        RouteMetric::Advmss(mss) => Some(*mss).filter(|mss| *mss != 0),
                        _ => None,
                    });
                }
                _ => {}
            }
        }
        route.prefix = Prefix::truncating(destination, header.destination_prefix_length).ok()?;
        Some(route)
    }
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(a) => Some((*a).into()),
        RouteAddress::Inet6(a) => Some((*a).into()),
        _ => None,
    }
}

impl From<RouteType> for RouteKind {
    fn from(kind: RouteType) -> RouteKind {
        match kind {
            RouteType::Unicast => RouteKind::Unicast,
            RouteType::Local => RouteKind::Local,
            RouteType::BlackHole => RouteKind::Blackhole,
            RouteType::Unreachable => RouteKind::Unreachable,
            RouteType::Prohibit => RouteKind::Prohibit,
            other => RouteKind::Other(other.into()),
        }
    }
}

impl From<RouteKind> for RouteType {
    fn from(kind: RouteKind) -> RouteType {
        match kind {
            RouteKind::Unicast => RouteType::Unicast,
            RouteKind::Local => RouteType::Local,
            RouteKind::Blackhole => RouteType::BlackHole,
            RouteKind::Unreachable => RouteType::Unreachable,
            RouteKind::Prohibit => RouteType::Prohibit,
            RouteKind::Other(n) => RouteType::from(n),
        }
    }
}
