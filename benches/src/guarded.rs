//! Rows as a pod of a cluster has them: it may use its own addresses only, and frames with others are dropped
//! (anti-spoofing).

use crate::rig::Setup;
use crate::scenario::{self, POD, SOURCE, Scenario, row, source};
use std::net::Ipv6Addr;
use std::sync::Arc;
use switch::tables::Guard;

/// Those of which the frames come from one pod. VPP has no such check in its figures.
pub const ROWS: &[Scenario] = &[
    row("L2 bridge", "1 MAC, guarded", 47.7, 24.0, |len| guarded(scenario::bridge(len, 1))),
    row("IPv4", "1 route, guarded", 58.0, 29.0, |len| guarded(scenario::route(len, 1))),
    row("IPv4", "10,000 routes, guarded", 67.6, 34.0, |len| guarded(scenario::route(len, 10_000))),
    row("bridge to VXLAN", "1 MAC, guarded", 93.8, 45.0, |len| {
        guarded(scenario::bridge_to_vxlan(len, 1))
    }),
    row("route to VXLAN", "1 peer, guarded", 139.7, 50.0, |len| {
        guarded(scenario::route_to_vxlan(len, 1))
    }),
    row("IPIP encap", "1 route, guarded", 86.0, 40.0, |len| guarded(scenario::ipip_encap(len, 1))),
];

/// The pod's other address.
pub(crate) fn own_v6() -> Ipv6Addr {
    "fd00::2".parse().expect("an address")
}

/// The same switch, whose pod may use no other addresses than those in the rows' frames.
pub(crate) fn guarded(mut setup: Setup) -> Setup {
    let port = setup.tables.ports[POD.index()].as_mut().expect("the pod's");
    let addresses = vec![SOURCE.into(), own_v6().into()];
    Arc::make_mut(port).policy.guard = Some(Guard { mac: source(0), addresses });
    setup
}
