//! Rules for ports.

use std::collections::HashMap;
use std::net::IpAddr;

use encap::Prefix;

use super::{At, Check, IPV4_MTU_MIN, IPV6_MTU_MIN};
use crate::addr::InterfaceAddr;
use crate::diff::Kind;
use crate::state::{Attachment, PodInterface, Port, State};

/// Names that counters and tables use for the daemon's own ports.
const RESERVED: [&str; 2] = ["host", "uplink"];

pub(super) fn ports(check: &mut Check, state: &State) {
    check.unique::<Port>(state, "name");
    let mut taken = Taken::default();
    let host = state.host_interface();
    if let Some(host) = &host {
        taken.devs.insert(host, "[node] host_interface".to_owned());
    }
    if let Some(u) = &state.uplink {
        taken.devs.insert(&u.dev, "[uplink] dev".to_owned());
    }
    for (i, port) in state.ports.iter().enumerate() {
        let at = At { kind: Kind::Port, index: Some(i), name: &port.name };
        if port.name.is_empty() {
            check.wrong(at, "name", "", "a name: only a port with `dev` has one by default");
        } else {
            check.name(at, "name", &port.name);
        }
        if RESERVED.contains(&port.name.as_str()) {
            let expected = "another name: the switch's own port has this one";
            check.wrong(at, "name", format_args!("{:?}", port.name), expected);
        }
        check.segment(at, state, &port.segment);
        check.fdb_limit(at, port.fdb_limit);
        if let Some(limit) = port.storm_limit {
            check.range(at, "storm_limit", limit, 1, 100_000_000);
        }
        rate(check, at, "ingress_rate", port.ingress_rate, "ingress_burst", port.ingress_burst);
        rate(check, at, "egress_rate", port.egress_rate, "egress_burst", port.egress_burst);
        match port.attachment() {
            Some(Attachment::Device(dev)) => device(check, at, port, dev, &mut taken),
            Some(Attachment::Pod(pod)) => {
                interface(check, at, state, (&port.segment, pod), &mut taken);
            }
            None => contradiction(check, at, port),
        }
    }
}

/// The most bits that a bucket may hold, and that may pass in a second.
const BITS_MAX: u64 = 1_000_000_000_000;
/// The lowest rate: a frame of 64 KiB takes nine minutes.
const RATE_MIN: u64 = 1000;

fn rate(
    check: &mut Check,
    at: At<'_>,
    rate_key: &'static str,
    rate: Option<u64>,
    burst_key: &'static str,
    burst: Option<u64>,
) {
    if let Some(rate) = rate {
        check.range(at, rate_key, rate, RATE_MIN, BITS_MAX);
    }
    if let Some(burst) = burst {
        check.range(at, burst_key, burst, 1, BITS_MAX);
        if rate.is_none() {
            check.wrong(at, burst_key, burst, format!("`{rate_key}` beside it"));
        }
    }
}

/// What only one port can have, and who has it.
#[derive(Default)]
struct Taken<'a> {
    devs: HashMap<&'a str, String>,
    interfaces: HashMap<(&'a std::path::Path, &'a str), String>,
    /// By segment: segments may overlap, unless the router serves them.
    ips: HashMap<(Option<&'a str>, IpAddr), String>,
    macs: HashMap<(&'a str, encap::Mac), String>,
}

fn contradiction(check: &mut Check, at: At<'_>, port: &Port) {
    let quoted = |s: &str| format!("{s:?}");
    match (&port.dev, &port.netns, &port.ifname) {
        (None, None, None) => check.wrong(
            at,
            "",
            "",
            "either `dev`, an existing interface, or `netns` and `ifname`, a pod's",
        ),
        (Some(dev), _, _) => check.wrong(
            at,
            "dev",
            quoted(dev),
            "no `dev` beside `netns` and `ifname`: a port is an existing interface or a pod's",
        ),
        (None, Some(_), _) => {
            check.wrong(at, "ifname", "", "the name of the interface in the pod, like \"eth0\"");
        }
        (None, None, Some(_)) => check.wrong(
            at,
            "netns",
            "",
            "the path of the pod's network namespace, like \"/run/netns/pod1\"",
        ),
    }
}

fn device<'a>(check: &mut Check, at: At<'_>, port: &'a Port, dev: &'a str, taken: &mut Taken<'a>) {
    check.ifname(at, "dev", dev);
    if let Some(by) = taken.devs.get(dev) {
        let expected = format!("an interface that is free: {by} has this one");
        check.wrong(at, "dev", format_args!("{dev:?}"), expected);
    } else {
        taken.devs.insert(dev, at.to_string());
    }
    let present = [
        ("type", port.kind.is_some()),
        ("ip", !port.ip.is_empty()),
        ("mac", port.mac.is_some()),
        ("mtu", port.mtu.is_some()),
        ("anti_spoof", port.anti_spoof.is_some()),
    ];
    for (key, _) in present.into_iter().filter(|(_, is)| *is) {
        let expected = "no such key beside `dev`: it is for pods, whose interface podswitch makes";
        check.wrong(at, key, "", expected);
    }
}

fn interface<'a>(
    check: &mut Check,
    at: At<'_>,
    state: &State,
    (segment, pod): (&'a str, PodInterface<'a>),
    taken: &mut Taken<'a>,
) {
    if pod.netns.as_os_str().is_empty() {
        check.wrong(at, "netns", "\"\"", "the path of the pod's network namespace");
    }
    check.ifname(at, "ifname", pod.ifname);
    if let Some(by) = taken.interfaces.get(&(pod.netns, pod.ifname)) {
        let expected = format!("a name that {by} does not have in the same namespace");
        check.wrong(at, "ifname", format_args!("{:?}", pod.ifname), expected);
    } else {
        taken.interfaces.insert((pod.netns, pod.ifname), at.to_string());
    }
    let domain = (!state.is_routed(segment)).then_some(segment);
    for ip in pod.ip {
        address(check, at, state, segment, *ip);
        if let Some(by) = taken.ips.get(&(domain, ip.addr())) {
            check.wrong(at, "ip", ip, format!("an address that is free: {by} has this one"));
        } else {
            taken.ips.insert((domain, ip.addr()), at.to_string());
        }
    }
    check.mac(at, "mac", pod.mac);
    if let Some(mac) = pod.mac {
        if let Some(by) = taken.macs.get(&(segment, mac)) {
            check.wrong(at, "mac", mac, format!("an address that is free: {by} has this one"));
        } else {
            taken.macs.insert((segment, mac), at.to_string());
        }
    }
    let has_v6 = pod.ip.iter().any(|a| a.addr().is_ipv6());
    let mtu_min = if has_v6 { IPV6_MTU_MIN } else { IPV4_MTU_MIN };
    check.mtu_up_to(at, pod.mtu, mtu_min, pod.kind.mtu_max());
}

fn address(check: &mut Check, at: At<'_>, state: &State, segment: &str, ip: InterfaceAddr) {
    if !check.unicast(at, "ip", ip.addr()) {
        return;
    }
    let own = ip.prefix();
    if own.len() == 0 {
        check.wrong(at, "ip", ip, "a prefix length of at least 1");
    }
    // Where the node's own pods are, every address is one that the router serves. What is in another
    // segment may have other addresses too.
    let prefixes = state.prefixes_in(segment);
    let prefix = prefixes.iter().find(|p| p.contains(ip.addr()));
    let is_nodes = state.node.as_ref().is_some_and(|n| n.segment == segment);
    if is_nodes && !prefixes.is_empty() && prefix.is_none() {
        let list: Vec<String> = prefixes.iter().map(Prefix::to_string).collect();
        let expected = format!("an address in the node's pod CIDR {}", list.join(" or "));
        check.wrong(at, "ip", ip, expected);
    }
    if ip.is_reserved_in(own) || prefix.is_some_and(|p| ip.is_reserved_in(*p)) {
        let expected = "a pod's address, not the network's own or its broadcast address";
        check.wrong(at, "ip", ip, expected);
    }
    let gateways = if state.is_routed(segment) { state.gateways() } else { Vec::new() };
    if gateways.iter().any(|g| g.addr() == ip.addr()) {
        check.wrong(at, "ip", ip, "another address: this one is the gateway's");
    }
}
