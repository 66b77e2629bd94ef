//! Rules for tunnels.

use std::collections::HashMap;

use super::{At, Check};
use crate::diff::Kind;
use crate::state::{Dscp, State, Tunnel, TunnelKind, TunnelMode, Via};

pub(super) fn tunnels(check: &mut Check, state: &State) {
    check.unique::<Tunnel>(state, "name");
    let mut peers = HashMap::new();
    for (i, t) in state.tunnels.iter().enumerate() {
        let at = At { kind: Kind::Tunnel, index: Some(i), name: &t.name };
        check.name(at, "name", &t.name);
        if !matches!(Via::from(t.name.as_str()), Via::Tunnel(_)) {
            let expected = "a name that a route's `via` does not read as something else";
            check.wrong(at, "name", format_args!("{:?}", t.name), expected);
        }
        if state.uplink.is_none() {
            check.wrong(at, "", "", "an [uplink] section: tunnels run over it");
        }
        endpoints(check, at, state, t);
        match t.kind {
            TunnelKind::Vxlan => vxlan(check, at, state, t),
            TunnelKind::Ipip => ipip(check, at, t),
        }
        if t.ttl == 0 {
            check.wrong(at, "ttl", 0, "1 to 255");
        }
        if let Dscp::Fixed(dscp @ 64..) = t.dscp {
            check.wrong(at, "dscp", dscp, "\"inherit\" or 0 to 63");
        }
        if t.mode == TunnelMode::CrossSubnet {
            cross_subnet(check, at, state, t);
        }
        // A packet that arrives is told apart by its sender, and its VNI if it has one.
        if let Some(by) = peers.get(&(t.kind, t.vni, t.remote)) {
            let expected = match t.kind {
                TunnelKind::Vxlan => format!("a VNI that {by} does not use to the same remote"),
                TunnelKind::Ipip => format!("a remote that {by} does not have"),
            };
            match t.vni {
                Some(vni) => check.wrong(at, "vni", vni, expected),
                None => check.wrong(at, "remote", t.remote, expected),
            }
        } else {
            peers.insert((t.kind, t.vni, t.remote), at.to_string());
        }
    }
}

/// A peer on our own subnet sends to our pods without encapsulation, as we do to its pods.
fn cross_subnet(check: &mut Check, at: At<'_>, state: &State, t: &Tunnel) {
    if t.segment.is_some() {
        let expected = "\"always\", since the tunnel carries a segment's frames";
        check.wrong(at, "mode", "\"cross-subnet\"", expected);
    }
    if state.uplink.as_ref().is_some_and(|u| u.native_routing == Some(false)) {
        let expected = "\"always\", or no native_routing = false in [uplink]";
        check.wrong(at, "mode", "\"cross-subnet\"", expected);
    }
}

fn endpoints(check: &mut Check, at: At<'_>, state: &State, t: &Tunnel) {
    if check.unicast(at, "remote", t.remote) {
        let cidrs = state.node.iter().flat_map(|n| &n.pod_cidrs);
        if let Some(cidr) = cidrs.into_iter().find(|p| p.contains(t.remote)) {
            let expected = format!("the other node's underlay address, not one of pods in {cidr}");
            check.wrong(at, "remote", t.remote, expected);
        }
    }
    let Some(local) = t.local else { return };
    check.unicast(at, "local", local);
    if local.is_ipv4() != t.remote.is_ipv4() {
        let expected = format!("an address of the family of remote = {}", t.remote);
        check.wrong(at, "local", local, expected);
    }
    if local == t.remote {
        check.wrong(at, "local", local, "an address other than remote");
    }
}

fn vxlan(check: &mut Check, at: At<'_>, state: &State, t: &Tunnel) {
    if t.vni.is_none() {
        let expected = format!("a network identifier from 0 to {}", encap::Vni::MAX);
        check.wrong(at, "vni", "", expected);
    }
    if t.port == Some(0) {
        check.wrong(at, "port", 0, "1 to 65535");
    }
    if let Some(segment) = &t.segment {
        check.segment(at, state, segment);
    }
    check.mac(at, "local_mac", t.local_mac);
    check.mac(at, "remote_mac", t.remote_mac);
    if let Some([first, last]) = t.source_ports
        && (first == 0 || first > last)
    {
        let expected = "[first, last], two ports from 1 to 65535 in order";
        check.wrong(at, "source_ports", format_args!("[{first}, {last}]"), expected);
    }
    if let Some(limit) = t.encapsulation_limit {
        let expected = "no such key: it is for kind = \"ipip\" over IPv6";
        check.wrong(at, "encapsulation_limit", limit, expected);
    }
}

fn ipip(check: &mut Check, at: At<'_>, t: &Tunnel) {
    let present = [
        ("vni", t.vni.is_some()),
        ("port", t.port.is_some()),
        ("segment", t.segment.is_some()),
        ("local_mac", t.local_mac.is_some()),
        ("remote_mac", t.remote_mac.is_some()),
        ("source_ports", t.source_ports.is_some()),
    ];
    for (key, _) in present.into_iter().filter(|(_, is)| *is) {
        check.wrong(at, key, "", "no such key: kind = \"ipip\" carries IP packets, not frames");
    }
    if let (Some(limit), true) = (t.encapsulation_limit, t.remote.is_ipv4()) {
        let expected = "no such key: the option is one of IPv6, and remote is IPv4";
        check.wrong(at, "encapsulation_limit", limit, expected);
    }
}
