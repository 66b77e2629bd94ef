//! One attachment: what was asked for, and what follows from it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use encap::{Mac, Prefix};
use podswitch_api::attachment::{
    Addresses, Attachment, AttachmentAdd, AttachmentId, AttachmentIp, AttachmentRoute, RateLimit,
};
use podswitch_api::state::{DEFAULT_SEGMENT, PodKind, Port, State};
use podswitch_api::validate::NAME_MAX;
use podswitch_api::{Code, Error, FieldError, InterfaceAddr};
use serde::{Deserialize, Serialize};

use crate::names;

/// The rate, in bits per second, below which the largest frame of the switch takes longer than the 25 ms
/// that a port's queue holds: TCP comes to a standstill over a handful of such frames.
const SLOW: u64 = 65_549 * 8 * 40;
/// The largest packet of pods with a slower limit, bytes.
const SLOW_MTU: u32 = 1500;
/// The scope of a route whose destinations are on the link (`RT_SCOPE_LINK`).
const SCOPE_LINK: u8 = 253;
/// The longest name of a network and of a container, in bytes.
const ID_MAX: usize = 1024;

/// An attachment: the request, and what was decided when it was carried out. Everything else follows
/// from these, so that they are all that is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// What was asked for.
    pub request: AttachmentAdd,
    /// The pod's addresses.
    pub ips: Vec<AttachmentIp>,
    /// The segment it is in.
    pub segment: String,
    /// Whether the switch is its gateway.
    pub routed: bool,
    /// The inode of the pod's network namespace: another one may have its path later.
    pub netns_inode: u64,
}

/// The rate and the burst of a port, as a runtime asks for them. containerd and its like, which know of a
/// rate only, say the largest number of 32 bits for the burst: half a gigabyte before any limit is
/// felt is not what anybody meant.
fn limit(limit: RateLimit) -> (Option<u64>, Option<u64>) {
    (Some(limit.rate), limit.burst.filter(|&burst| burst != u64::from(u32::MAX)))
}

/// The segment that a request is for.
pub fn segment_of(request: &AttachmentAdd, state: &State) -> String {
    let node = || state.node.as_ref().map_or(DEFAULT_SEGMENT, |n| n.segment.as_str());
    let name = request.segment.as_deref().unwrap_or_else(node);
    match request.vlan {
        Some(vlan) => format!("{name}.{vlan}"),
        None => name.to_owned(),
    }
}

/// Whether a request makes sense by itself. What it makes of the state is checked with the state.
pub fn validate(request: &AttachmentAdd) -> Result<(), Error> {
    let mut wrong: Vec<FieldError> = Vec::new();
    for (field, value) in [("network", &request.network), ("container_id", &request.container_id)] {
        // CNI specification 1.1.0, section 2 "Parameters" and section 1 "Network configuration
        // format": alphanumeric, then any of these too.
        let starts = value.starts_with(|c: char| c.is_ascii_alphanumeric());
        let legal = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
        if !starts || !value.chars().all(legal) || value.len() > ID_MAX {
            let expected = "letters, digits or _.- that start with a letter or digit";
            wrong.push(FieldError::new(field, format_args!("{value:?}"), expected));
        }
    }
    if let Some(vlan) = request.vlan.filter(|v| !(1..=4094).contains(v)) {
        wrong.push(FieldError::new("vlan", vlan, "1 to 4094"));
    }
    let given: Vec<IpAddr> = match &request.addresses {
        Addresses::Node { ips } => ips.clone(),
        Addresses::Plugin { ips } => ips.iter().map(|ip| ip.address.addr()).collect(),
        Addresses::Later | Addresses::None => Vec::new(),
    };
    for (i, ip) in given.iter().enumerate() {
        if given[..i].contains(ip) {
            wrong.push(FieldError::new("addresses.ips", ip, "each address once"));
        }
    }
    for route in &request.routes {
        if route.gw.is_some_and(|gw| gw.is_ipv4() != route.dst.is_ipv4()) {
            let expected = format!("routes whose `gw` is of the family of {}", route.dst);
            wrong.push(FieldError::new("routes", format_args!("{}", route.dst), expected));
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(Error::invalid(wrong)) }
}

/// The name of an attachment's port.
pub fn port_name(id: &AttachmentId) -> String {
    let legal = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
    let plain = format!("{}/{}/{}", id.network, id.container_id, id.ifname);
    let name: String = plain
        .split('/')
        .map(|part| part.chars().map(legal).collect::<String>())
        .collect::<Vec<_>>()
        .join("/");
    if name == plain && name.len() <= NAME_MAX {
        return name;
    }
    // Something was lost: a hash tells apart what looks alike now.
    let hash = format!("{:016x}", names::stable_hash(plain.as_bytes()));
    let shortened: String = name.chars().take(NAME_MAX - hash.len() - 1).collect();
    format!("{shortened}.{hash}")
}

fn any(v4: bool) -> Option<Prefix> {
    let any = if v4 { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    Prefix::new(any, 0).ok()
}

impl Entry {
    /// What identifies it.
    pub fn id(&self) -> AttachmentId {
        self.request.id()
    }

    /// Its addresses.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.ips.iter().map(|ip| ip.address.addr())
    }

    /// The addresses that were asked for by name.
    pub fn wanted_addresses(&self) -> &[IpAddr] {
        match &self.request.addresses {
            Addresses::Node { ips } => ips,
            _ => &[],
        }
    }

    /// The gateways that the switch has on its behalf, with the prefixes that its addresses are in.
    pub fn gateways(&self) -> Vec<InterfaceAddr> {
        let routed = self.ips.iter().filter(|_| self.routed);
        let gateway =
            |ip: &AttachmentIp| InterfaceAddr::new(ip.gateway?, ip.address.prefix().len()).ok();
        routed.filter_map(gateway).collect()
    }

    /// Whether the daemon gave it its addresses.
    pub fn has_own_addresses(&self) -> bool {
        matches!(self.request.addresses, Addresses::Node { .. })
    }

    /// Its port.
    pub fn port(&self) -> Port {
        let r = &self.request;
        let mut port = Port::pod(
            &port_name(&self.id()),
            r.netns.clone(),
            &r.ifname,
            self.ips.iter().map(|ip| ip.address).collect(),
        );
        port.segment.clone_from(&self.segment);
        port.mac = r.mac;
        port.mtu = r.mtu;
        port.kind = r.kind;
        port.anti_spoof = Some(r.anti_spoof);
        (port.ingress_rate, port.ingress_burst) = r.ingress.map_or((None, None), limit);
        (port.egress_rate, port.egress_burst) = r.egress.map_or((None, None), limit);
        port
    }

    /// The gateway of the addresses of a family.
    fn gateway(&self, v4: bool) -> Option<IpAddr> {
        self.ips.iter().filter_map(|ip| ip.gateway).find(|gw| gw.is_ipv4() == v4)
    }

    /// The routes in the pod: as asked for, and the default ones where none were.
    pub fn routes(&self) -> Vec<AttachmentRoute> {
        let mut routes = self.request.routes.clone();
        for v4 in [true, false] {
            let has_default = routes.iter().any(|r| r.dst.len() == 0 && r.dst.is_ipv4() == v4);
            if self.request.default_route
                && !has_default
                && let (Some(dst), Some(gw)) = (any(v4), self.gateway(v4))
            {
                routes.push(AttachmentRoute {
                    dst,
                    gw: Some(gw),
                    mtu: None,
                    advmss: None,
                    priority: None,
                    table: None,
                    scope: None,
                });
            }
        }
        routes
    }

    /// The routes with their next hops: the gateway of the family, where none is given.
    pub fn resolved_routes(&self) -> Vec<AttachmentRoute> {
        let mut routes = self.routes();
        for route in routes.iter_mut().filter(|r| r.scope != Some(SCOPE_LINK)) {
            route.gw = route.gw.or_else(|| self.gateway(route.dst.is_ipv4()));
        }
        routes
    }

    /// The largest packet, in bytes, that a pod with a slow limit shall send and ask others for. Its
    /// interface takes larger ones, such as datagrams of other pods of the segment, which nobody could
    /// tell that they are too large.
    pub fn route_mtu(&self) -> Option<u32> {
        let limits = [self.request.ingress, self.request.egress];
        let slowest = limits.iter().flatten().map(|limit| limit.rate).min()?;
        (slowest < SLOW && self.request.mtu.is_none()).then_some(SLOW_MTU)
    }

    /// What a caller is told of it. `mtu` is the pod's interface's.
    pub fn view(&self, mac: Mac, mtu: u32) -> Attachment {
        let (r, port) = (&self.request, port_name(&self.id()));
        let kind = r.kind.unwrap_or_default();
        let has_node_end = kind == PodKind::Veth;
        Attachment {
            network: r.network.clone(),
            container_id: r.container_id.clone(),
            ifname: r.ifname.clone(),
            netns: r.netns.clone(),
            segment: self.segment.clone(),
            kind,
            dev: has_node_end.then(|| names::host_name(&port)),
            dev_mac: has_node_end.then(|| names::host_mac(&port)),
            port,
            mac,
            mtu,
            ips: self.ips.clone(),
            routes: self.routes(),
        }
    }
}

/// The addresses that another plugin allocated, each with the gateway that the pod uses: where the
/// switch is the gateway and none is named, the first address of the prefix, as the reference bridge
/// plugin has it.
pub fn with_gateways(ips: &[AttachmentIp], routed: bool) -> Vec<AttachmentIp> {
    let first = |a: InterfaceAddr| a.prefix().nth(1).filter(|gw| *gw != a.addr());
    let gateway =
        |ip: &AttachmentIp| ip.gateway.or_else(|| routed.then(|| first(ip.address)).flatten());
    ips.iter().map(|ip| AttachmentIp { address: ip.address, gateway: gateway(ip) }).collect()
}

/// The answer to a request for an attachment that exists and is not what is asked for.
pub fn exists(id: &AttachmentId) -> Error {
    let message = format!(
        "there is an attachment {id} already, and it is not what is asked for: remove it first"
    );
    Error::new(Code::AlreadyExists, message)
}
