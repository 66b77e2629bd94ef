//! Rules for the sections that exist once, and for segments.

use std::collections::HashSet;
use std::os::unix::ffi::OsStrExt;

use super::{At, Check, IPV4_MTU_MIN, IPV6_MTU_MIN};
use crate::diff::Kind;
use crate::state::{Segment, State};

/// The longest path of a Unix socket in bytes: `sun_path` less the terminating zero.
const SOCKET_PATH_MAX: usize = 107;
/// The longest ageing time in seconds, the kernel bridge's.
const AGEING_MAX: u32 = 1_000_000;

pub(super) fn switch(check: &mut Check, state: &State) {
    let Some(s) = &state.switch else { return };
    let at = At::section(Kind::Switch);
    if !(1..=SOCKET_PATH_MAX).contains(&s.socket.as_os_str().as_bytes().len()) {
        let expected = format!("a path of 1 to {SOCKET_PATH_MAX} bytes");
        check.wrong(at, "socket", s.socket.display(), expected);
    }
    if s.socket_group.as_deref() == Some("") {
        check.wrong(at, "socket_group", "\"\"", "a group's name");
    }
    check.range(at, "workers", s.workers.into(), 1, 64);
    let distinct: HashSet<_> = s.cpus.iter().collect();
    if distinct.len() != s.cpus.len() {
        check.wrong(at, "cpus", format_args!("{:?}", s.cpus), "each CPU once");
    }
    if !s.cpus.is_empty() && s.cpus.len() != usize::from(s.workers) {
        let expected = format!("as many CPUs as there are workers, {}", s.workers);
        check.wrong(at, "cpus", format_args!("{:?}", s.cpus), expected);
    }
    if !(-20..=19).contains(&s.nice) {
        check.wrong(at, "nice", s.nice, "-20 to 19");
    }
    check.range(at, "spin", s.spin, 0, 1_000_000);
    if let Some(busy_poll) = s.busy_poll {
        check.range(at, "busy_poll", busy_poll, 1, 1_000_000);
    }
    if !s.ring.is_power_of_two() || !(64..=16_384).contains(&s.ring) {
        check.wrong(at, "ring", s.ring, "a power of two, 64 to 16384");
    }
    check.range(at, "frames", s.frames, 1024, 65_536);
    check.range(at, "fdb_capacity", s.fdb_capacity, 16, 1 << 24);
    check.range(at, "ageing", s.ageing, 1, AGEING_MAX);
    if let Some(file) = &s.state_file
        && (file.as_os_str().is_empty() || *file == s.socket)
    {
        check.wrong(at, "state_file", file.display(), "a path of its own");
    }
}

pub(super) fn node(check: &mut Check, state: &State) {
    let Some(n) = &state.node else { return };
    let at = At::section(Kind::Node);
    if let Some(name) = &n.name {
        check.name(at, "name", name);
    }
    if n.gateway && n.pod_cidrs.is_empty() {
        check.wrong(at, "pod_cidrs", "[]", "at least one prefix, since gateway = true");
    }
    for (i, p) in n.pod_cidrs.iter().enumerate() {
        let first = p.addr();
        if p.len() == 0 || first.is_multicast() || first.is_loopback() {
            check.wrong(at, "pod_cidrs", p, "a prefix of unicast addresses");
        }
        if let Some(other) = n.pod_cidrs[..i].iter().find(|o| o.covers(*p) || p.covers(**o)) {
            check.wrong(at, "pod_cidrs", p, format!("a prefix that does not overlap {other}"));
        }
        let longest = if p.is_ipv4() { 30 } else { 126 };
        if n.gateway && p.len() > longest {
            let expected = format!("at most {longest} bits, to hold the gateway and a pod");
            check.wrong(at, "pod_cidrs", p, expected);
        }
    }
    check.ifname(at, "host_interface", &n.host_interface);
    check.segment(at, state, &n.segment);
    let has_v6 = n.pod_cidrs.iter().any(|p| !p.is_ipv4());
    check.range(at, "icmp_errors", n.icmp_errors, 0, 1_000_000);
    check.mtu(at, n.mtu, if has_v6 { IPV6_MTU_MIN } else { IPV4_MTU_MIN });
}

pub(super) fn uplink(check: &mut Check, state: &State) {
    let Some(u) = &state.uplink else { return };
    let at = At::section(Kind::Uplink);
    check.ifname(at, "dev", &u.dev);
    if state.host_interface().is_some_and(|host| host == u.dev) {
        let expected = "an interface other than [node] host_interface";
        check.wrong(at, "dev", format_args!("{:?}", u.dev), expected);
    }
    if let Some(vlan) = u.vlan {
        // IEEE 802.1Q table 9-2: 0 is no VLAN, 4095 is reserved.
        check.range(at, "vlan", vlan.into(), 1, 4094);
    }
    if let Some(dev) = &u.vlan_dev {
        check.ifname(at, "vlan_dev", dev);
        if u.vlan.is_none() {
            check.wrong(at, "vlan_dev", format_args!("{dev:?}"), "`vlan` beside it");
        }
        if *dev == u.dev {
            let expected = "another interface than `dev`, whose frames have no tag";
            check.wrong(at, "vlan_dev", format_args!("{dev:?}"), expected);
        }
    }
    let distinct: HashSet<_> = u.queues.iter().collect();
    if distinct.len() != u.queues.len() {
        check.wrong(at, "queues", format_args!("{:?}", u.queues), "each queue once");
    }
}

pub(super) fn segments(check: &mut Check, state: &State) {
    check.unique::<Segment>(state, "name");
    for (i, s) in state.segments.iter().enumerate() {
        let at = At { kind: Kind::Segment, index: Some(i), name: &s.name };
        check.name(at, "name", &s.name);
        if let Some(ageing) = s.ageing {
            check.range(at, "ageing", ageing, 1, AGEING_MAX);
        }
        check.fdb_limit(at, s.fdb_limit);
        for (i, gateway) in s.gateway.iter().enumerate() {
            let (ip, prefix) = (gateway.addr(), gateway.prefix());
            check.unicast(at, "gateway", ip);
            if prefix.len() == 0 || gateway.is_reserved_in(prefix) {
                let expected = "the router's address with the length of the segment's prefix";
                check.wrong(at, "gateway", gateway, expected);
            }
            if s.gateway[..i].iter().any(|g| g.addr() == ip) {
                check.wrong(at, "gateway", gateway, "each address once");
            }
        }
    }
}
