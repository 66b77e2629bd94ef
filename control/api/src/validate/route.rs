//! Rules for routes, static neighbours and static MAC addresses.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use encap::Prefix;

use super::{At, Check};
use crate::diff::Kind;
use crate::method::RouteUpdate;
use crate::state::{FdbEntry, Neighbor, Port, Route, State, Tunnel, Via};

const NO_ROUTER: &str = "a [node] section, or a segment with a gateway: only a router routes";

pub(super) fn routes(check: &mut Check, state: &State) {
    check.unique::<Route>(state, "prefix");
    let pods: HashMap<Prefix, &str> = state
        .ports
        .iter()
        .flat_map(|p| p.ip.iter().map(|ip| (Prefix::host(ip.addr()), p.name.as_str())))
        .collect();
    let tunnels = by_name(&state.tunnels, |t: &Tunnel| &t.name);
    let routes = state.node.is_some() || state.is_router();
    let own = state.own_prefixes();
    let one = |check: &mut Check, at: At<'_>, r: &Route| {
        if !routes {
            check.wrong(at, "", "", NO_ROUTER);
        } else if own.contains(&r.prefix) {
            check.wrong(at, "prefix", r.prefix, "a prefix other than the node's own pod CIDR");
        }
        if let Some(pod) = pods.get(&r.prefix) {
            let expected = format!("a prefix other than the address of port {pod:?}");
            check.wrong(at, "prefix", r.prefix, expected);
        }
        via(check, at, state, r, &|name| tunnels.contains_key(name));
    };
    for (i, r) in state.routes.iter().enumerate() {
        let at = At { kind: Kind::Route, index: Some(i), name: "" };
        let before = check.errors.len();
        one(check, at, r);
        // Of many thousand routes only those are written out that something is wrong with.
        if check.errors.len() > before {
            check.errors.truncate(before);
            one(check, At { name: &r.prefix.to_string(), ..at }, r);
        }
    }
}

/// Routes that are announced. They may well be for what the state has a route for, too: then they stand
/// back.
pub(super) fn announced(
    check: &mut Check,
    state: &State,
    update: &RouteUpdate,
    tunnel_exists: &dyn Fn(&str) -> bool,
) {
    let is_router = state.node.is_some() || state.is_router();
    let mut seen = HashSet::with_capacity(update.add.len() + update.del.len());
    for (i, route) in update.add.iter().enumerate() {
        let at = At { kind: Kind::Route, index: Some(i), name: "" };
        if !is_router {
            check.wrong(at, "", "", NO_ROUTER);
        }
        if !seen.insert(route.prefix) {
            check.wrong(at, "prefix", route.prefix, "each prefix once");
        }
        via(check, at, state, route, tunnel_exists);
    }
    for prefix in update.del.iter().filter(|p| seen.contains(*p)) {
        let at = At { kind: Kind::Route, index: None, name: "" };
        check.wrong(at, "del", prefix, "a prefix that is not in `add`, too");
    }
}

fn via(
    check: &mut Check,
    at: At<'_>,
    state: &State,
    r: &Route,
    tunnel_exists: &dyn Fn(&str) -> bool,
) {
    if let Via::Multipath(paths) = &r.via {
        multipath(check, at, paths);
    }
    for path in r.via.paths() {
        match path {
            Via::Tunnel(name) if !tunnel_exists(name) => {
                let expected = "a tunnel that exists, an IP address, \
                                \"host\", \"blackhole\", \"unreachable\" or \"prohibited\"";
                check.wrong(at, "via", format_args!("{name:?}"), expected);
            }
            Via::NextHop(ip) => next_hop(check, at, state, r, *ip),
            Via::Host if state.node.is_some() && state.gateways().is_empty() => {
                let expected = "[node] gateway = true: without it there is no host port";
                check.wrong(at, "via", "\"host\"", expected);
            }
            _ => {}
        }
    }
}

/// The ways of equal cost must be such as carry packets away, and differ.
fn multipath(check: &mut Check, at: At<'_>, paths: &[Via]) {
    if !(2..=Via::MAX_PATHS).contains(&paths.len()) {
        let expected = format!("2 to {} tunnels or addresses", Via::MAX_PATHS);
        check.wrong(at, "via", format_args!("[{} elements]", paths.len()), expected);
    }
    for (i, path) in paths.iter().enumerate() {
        if !matches!(path, Via::Tunnel(_) | Via::NextHop(_)) {
            check.wrong(at, "via", path, "a tunnel or an IP address, when there are several");
        }
        if paths[..i].contains(path) {
            check.wrong(at, "via", path, "each tunnel or address once");
        }
    }
}

/// A next hop on the underlay.
fn next_hop(check: &mut Check, at: At<'_>, state: &State, r: &Route, ip: IpAddr) {
    if !check.unicast(at, "via", ip) {
        return;
    }
    if ip.is_ipv4() != r.prefix.is_ipv4() {
        let expected = format!("a next hop of the family of {}", r.prefix);
        check.wrong(at, "via", ip, expected);
    }
    if state.uplink.is_none() {
        let expected = "an [uplink] section for this next hop to be on";
        check.wrong(at, "via", ip, expected);
    }
    let cidrs = state.node.iter().flat_map(|n| &n.pod_cidrs);
    if let Some(cidr) = cidrs.into_iter().find(|p| p.contains(ip)) {
        let expected = format!("a next hop on the underlay, not a pod's in {cidr}");
        check.wrong(at, "via", ip, expected);
    }
}

pub(super) fn neighbors(check: &mut Check, state: &State) {
    check.unique::<Neighbor>(state, "ip");
    let ports = by_name(&state.ports, |p: &Port| &p.name);
    let tunnels = by_name(&state.tunnels, |t: &Tunnel| &t.name);
    for (i, n) in state.neighbors.iter().enumerate() {
        let name = n.ip.to_string();
        let at = At { kind: Kind::Neighbor, index: Some(i), name: &name };
        check.unicast(at, "ip", n.ip);
        check.mac(at, "mac", Some(n.mac));
        match (&n.port, &n.tunnel) {
            (Some(port), None) if !ports.contains_key(port.as_str()) => {
                check.wrong(at, "port", format_args!("{port:?}"), "a port that exists");
            }
            (None, Some(tunnel)) => {
                let found = tunnels.get(tunnel.as_str());
                if found.is_none_or(|t| t.segment.is_none()) {
                    let expected = "a tunnel that extends a segment";
                    check.wrong(at, "tunnel", format_args!("{tunnel:?}"), expected);
                }
            }
            (Some(_), None) => {}
            _ => check.wrong(at, "", "", "either `port` or `tunnel`"),
        }
    }
}

pub(super) fn fdb(check: &mut Check, state: &State) {
    check.unique::<FdbEntry>(state, "mac");
    let ports = by_name(&state.ports, |p: &Port| &p.name);
    let tunnels = by_name(&state.tunnels, |t: &Tunnel| &t.name);
    for (i, e) in state.fdb.iter().enumerate() {
        let name = e.mac.to_string();
        let at = At { kind: Kind::Fdb, index: Some(i), name: &name };
        check.mac(at, "mac", Some(e.mac));
        check.segment(at, state, &e.segment);
        match (&e.port, &e.tunnel) {
            (Some(port), None) => {
                let segment = ports.get(port.as_str()).map(|p| p.segment.as_str());
                member(check, at, "port", port, segment, &e.segment);
            }
            (None, Some(tunnel)) => {
                let segment = tunnels.get(tunnel.as_str()).map(|t| t.segment.as_deref());
                member(
                    check,
                    at,
                    "tunnel",
                    tunnel,
                    segment.map(Option::unwrap_or_default),
                    &e.segment,
                );
            }
            _ => check.wrong(at, "", "", "either `port` or `tunnel`"),
        }
    }
}

/// The port or tunnel `name` exists (it has a segment at all), and is in the entry's segment.
fn member(
    check: &mut Check,
    at: At<'_>,
    key: &'static str,
    name: &str,
    segment: Option<&str>,
    expected: &str,
) {
    let value = format!("{name:?}");
    match segment {
        None => check.wrong(at, key, value, format!("a {key} that exists")),
        Some(segment) if segment != expected => {
            check.wrong(at, key, value, format!("a {key} of segment {expected:?}"));
        }
        Some(_) => {}
    }
}

fn by_name<'a, T>(list: &'a [T], name: impl Fn(&'a T) -> &'a str) -> HashMap<&'a str, &'a T> {
    list.iter().map(|o| (name(o), o)).collect()
}
