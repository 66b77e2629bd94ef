//! The results of the objects' commands as tables.

use comfy_table::Cell;
use podswitch_api::Response;
use podswitch_api::attachment::Attachment;
use podswitch_api::view::{
    FdbInfo, NeighborInfo, NeighborState, Origin, PortInfo, PortRole, RouteInfo, SegmentInfo,
    TunnelInfo,
};

use super::announce;
use super::out::{list, or_dash, render, state, table};

/// A response for people. An object that was added is shown like one that is listed; an object
/// that was removed needs no words.
pub fn show(response: Response) -> String {
    match response {
        Response::PortAdd(p) => ports(&[p]),
        Response::PortList(p) => ports(&p),
        Response::SegmentAdd(s) => segments(&[s]),
        Response::SegmentList(s) => segments(&s),
        Response::TunnelAdd(t) => tunnels(&[t]),
        Response::TunnelList(t) => tunnels(&t),
        Response::RouteAdd(r) => routes(&[r]),
        Response::RouteList(r) => routes(&r),
        Response::RouteUpdate(done) => announce::show(&done),
        Response::NeighborAdd(n) => neighbors(&[n]),
        Response::NeighborList(n) => neighbors(&n),
        Response::FdbAdd(e) => fdb(&[e]),
        Response::FdbList(e) => fdb(&e),
        Response::FdbFlush(f) => match f.flushed {
            1 => "1 address forgotten".to_owned(),
            n => format!("{n} addresses forgotten"),
        },
        Response::NeighborFlush(f) => match f.flushed {
            1 => "1 neighbour forgotten".to_owned(),
            n => format!("{n} neighbours forgotten"),
        },
        Response::AttachmentAdd(a) | Response::AttachmentConfigure(a) => attachments(&[a]),
        Response::AttachmentList(a) => attachments(&a),
        Response::AttachmentCheck(c) => match c.differences.is_empty() {
            true => "as it should be".to_owned(),
            false => c.differences.join("\n"),
        },
        Response::AttachmentStatus(r) => match r.problems.is_empty() {
            true => "ready".to_owned(),
            false => r.problems.into_iter().map(|p| p.message).collect::<Vec<_>>().join("\n"),
        },
        Response::AttachmentDel(r) => match r.removed.is_empty() {
            true => "there was no such attachment".to_owned(),
            false => String::new(),
        },
        _ => String::new(),
    }
}

fn attachments(attachments: &[Attachment]) -> String {
    let mut table = table([
        "NETWORK",
        "CONTAINER",
        "INTERFACE",
        "SEGMENT",
        "ADDRESSES",
        "MAC",
        "DEVICE",
        "NETNS",
    ]);
    for a in attachments {
        let ips: Vec<_> = a.ips.iter().map(|ip| ip.address).collect();
        table.add_row([
            Cell::new(&a.network),
            Cell::new(&a.container_id),
            Cell::new(&a.ifname),
            Cell::new(&a.segment),
            Cell::new(list(&ips)),
            Cell::new(a.mac),
            Cell::new(or_dash(a.dev.as_ref())),
            Cell::new(a.netns.display()),
        ]);
    }
    render(table, &[])
}

fn ports(ports: &[PortInfo]) -> String {
    let mut table = table([
        "PORT",
        "KIND",
        "SEGMENT",
        "STATE",
        "DEVICE",
        "MODE",
        "MTU",
        "MAC",
        "LEARNED",
        "ADDRESSES",
    ]);
    for p in ports {
        let role = match p.role {
            PortRole::Device => "device",
            PortRole::Pod => "pod",
            PortRole::Host => "host",
            PortRole::Uplink => "uplink",
        };
        table.add_row([
            Cell::new(&p.name),
            Cell::new(role),
            Cell::new(or_dash(p.segment.as_ref())),
            state(p.state),
            Cell::new(or_dash(p.dev.as_ref())),
            Cell::new(&p.mode),
            Cell::new(p.mtu),
            Cell::new(p.mac),
            Cell::new(learned(p.fdb, p.limits.fdb_limit)),
            Cell::new(list(&p.ip)),
        ]);
    }
    render(table, &[6, 8])
}

fn segments(segments: &[SegmentInfo]) -> String {
    let mut table = table([
        "SEGMENT",
        "AGEING",
        "LEARNED",
        "UNKNOWN UNICAST",
        "SUPPRESS",
        "GATEWAYS",
        "PORTS",
        "TUNNELS",
    ]);
    for s in segments {
        table.add_row([
            Cell::new(&s.name),
            Cell::new(format!("{} s", s.ageing)),
            Cell::new(learned(s.fdb, s.fdb_limit)),
            Cell::new(s.unknown_unicast),
            Cell::new(if s.suppress { "yes" } else { "no" }),
            Cell::new(list(&s.gateway)),
            Cell::new(list(&s.ports)),
            Cell::new(list(&s.tunnels)),
        ]);
    }
    render(table, &[1, 2])
}

/// How many addresses are learned, of how many that may be.
fn learned(count: u32, limit: Option<u32>) -> String {
    match limit {
        Some(limit) => format!("{count}/{limit}"),
        None => count.to_string(),
    }
}

fn tunnels(tunnels: &[TunnelInfo]) -> String {
    let mut table = table([
        "TUNNEL",
        "KIND",
        "STATE",
        "LOCAL",
        "REMOTE",
        "VNI",
        "PORT",
        "SEGMENT",
        "MTU",
        "NEXT HOP",
        "NEXT HOP MAC",
    ]);
    for t in tunnels {
        table.add_row([
            Cell::new(&t.name),
            Cell::new(t.kind),
            if t.native { Cell::new("native") } else { state(t.state) },
            Cell::new(or_dash(t.local)),
            Cell::new(t.remote),
            Cell::new(or_dash(t.vni)),
            Cell::new(or_dash(t.port)),
            Cell::new(or_dash(t.segment.as_ref())),
            Cell::new(t.mtu),
            Cell::new(or_dash(t.next_hop)),
            Cell::new(or_dash(t.next_hop_mac)),
        ]);
    }
    render(table, &[5, 6, 8])
}

fn routes(routes: &[RouteInfo]) -> String {
    let mut table = table(["PREFIX", "VIA", "ORIGIN", "STATE"]);
    for r in routes {
        let via = match (&r.via, &r.port) {
            (Some(via), _) => via.to_string(),
            (None, Some(port)) => format!("port {port}"),
            (None, None) => "-".to_owned(),
        };
        table.add_row([
            Cell::new(r.prefix),
            Cell::new(via),
            Cell::new(origin(r.origin)),
            state(r.state),
        ]);
    }
    render(table, &[])
}

fn neighbors(neighbors: &[NeighborInfo]) -> String {
    let mut table = table(["ADDRESS", "MAC", "BEHIND", "ORIGIN", "STATE"]);
    for n in neighbors {
        table.add_row([
            Cell::new(n.ip),
            Cell::new(or_dash(n.mac)),
            Cell::new(behind(n.port.as_ref(), n.tunnel.as_ref())),
            Cell::new(origin(n.origin)),
            Cell::new(or_dash(n.state.map(neighbor_state))),
        ]);
    }
    render(table, &[])
}

fn neighbor_state(state: NeighborState) -> &'static str {
    match state {
        NeighborState::Incomplete => "incomplete",
        NeighborState::Reachable => "reachable",
        NeighborState::Stale => "stale",
        NeighborState::Failed => "failed",
    }
}

fn fdb(entries: &[FdbInfo]) -> String {
    let mut table = table(["MAC", "SEGMENT", "BEHIND", "ORIGIN", "AGE"]);
    for e in entries {
        let age = e.age.map(|a| format!("{a} s"));
        table.add_row([
            Cell::new(e.mac),
            Cell::new(&e.segment),
            Cell::new(behind(e.port.as_ref(), e.tunnel.as_ref())),
            Cell::new(origin(e.origin)),
            Cell::new(or_dash(age)),
        ]);
    }
    render(table, &[4])
}

fn behind(port: Option<&String>, tunnel: Option<&String>) -> String {
    match (port, tunnel) {
        (Some(port), _) => format!("port {port}"),
        (None, Some(tunnel)) => format!("tunnel {tunnel}"),
        (None, None) => "-".to_owned(),
    }
}

fn origin(origin: Origin) -> &'static str {
    match origin {
        Origin::Static => "static",
        Origin::Announced => "announced",
        Origin::Local => "local",
        Origin::Learned => "learned",
        Origin::Kernel => "kernel",
    }
}
