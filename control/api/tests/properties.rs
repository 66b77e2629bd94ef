//! Properties of the desired state and of the envelope, on random ones.

use std::collections::BTreeMap;
use std::net::IpAddr;

use encap::{Mac, Prefix, Vni};
use podswitch_api::diff::{Change, Kind, Object, Op};
use podswitch_api::rpc::{Call, Id, Message};
use podswitch_api::state::{
    Dscp, FdbEntry, Neighbor, Node, PodKind, Port, Route, Segment, Shortcut, Switch, Tunnel,
    TunnelKind, TunnelMode, UnknownUnicast, Uplink, Via, XdpMode,
};
use podswitch_api::{InterfaceAddr, Request, State, parse_request};
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use serde_json::{Value, json};

/// Few names, so that references meet; some that are illegal.
fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => "[a-c]",
        1 => Just("default".to_owned()),
        1 => Just("host".to_owned()),
        1 => "\\PC{0,20}",
    ]
}

fn ip() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        4 => (0u8..4, 0u8..8).prop_map(|(a, b)| IpAddr::from([10, 244, a, b])),
        1 => any::<[u8; 4]>().prop_map(IpAddr::from),
        1 => (0u16..3).prop_map(|a| IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, a])),
        1 => any::<[u16; 8]>().prop_map(IpAddr::from),
    ]
}

fn prefix() -> impl Strategy<Value = Prefix> {
    (ip(), 0u8..=128).prop_map(|(ip, len)| {
        let len = if ip.is_ipv4() { len % 33 } else { len };
        Prefix::truncating(ip, len).unwrap()
    })
}

fn address() -> impl Strategy<Value = InterfaceAddr> {
    (ip(), 0u8..=128).prop_map(|(ip, len)| {
        let len = if ip.is_ipv4() { len % 33 } else { len };
        InterfaceAddr::new(ip, len).unwrap()
    })
}

fn mac() -> impl Strategy<Value = Mac> {
    prop_oneof![4 => (0u8..4).prop_map(|n| Mac([2, 0, 0, 0, 0, n])), 1 => any::<[u8; 6]>().prop_map(Mac)]
}

fn via() -> impl Strategy<Value = Via> {
    let one = prop_oneof![
        Just(Via::Host),
        Just(Via::Blackhole),
        Just(Via::Unreachable),
        Just(Via::Prohibited),
        ip().prop_map(Via::NextHop),
        name().prop_map(|n| Via::from(n.as_str())),
    ];
    prop_oneof![4 => one.clone(), 1 => vec(one, 0..4).prop_map(Via::of)]
}

prop_compose! {
    fn switch()(
        workers in any::<u16>(), cpus in vec(any::<u16>(), 0..3), nice in any::<i8>(), spin in any::<u32>(),
        busy_poll in of(any::<u32>()), ring in any::<u32>(),
        frames in any::<u32>(), bundles in any::<bool>(), alone in any::<bool>(),
        fdb_capacity in any::<u32>(), ageing in any::<u32>(), socket in "\\PC{0,120}",
        socket_group in of(name()), state_file in of("\\PC{0,9}"),
    ) -> Switch {
        let bulk = if alone { Shortcut::Off } else { Shortcut::Auto };
        let superpackets = if bundles { Shortcut::Auto } else { Shortcut::Off };
        Switch {
            superpackets,
            bulk,
            socket: socket.into(), socket_group, workers, cpus, nice, spin, busy_poll, ring, frames, fdb_capacity, ageing,
            state_file: state_file.map(Into::into),
        }
    }
}

prop_compose! {
    fn node()(
        name in of(name()), pod_cidrs in vec(prefix(), 0..3), gateway in any::<bool>(),
        host_interface in "[a-z]{0,17}", segment in name(), mtu in of(any::<u32>()),
        clamp_mss in any::<bool>(), icmp_errors in any::<u32>(),
    ) -> Node {
        Node {
            name, pod_cidrs, gateway, host_interface, segment, mtu, clamp_mss, icmp_errors,
        }
    }
}

prop_compose! {
    fn uplink()(
        dev in name(), queues in vec(0u32..3, 0..3), native_routing in of(any::<bool>()),
        vlan in of(any::<u16>()), vlan_dev in of(name()),
    ) -> Uplink {
        Uplink { dev, queues, mode: XdpMode::Native, native_routing, vlan, vlan_dev }
    }
}

prop_compose! {
    fn port()(
        name in name(), segment in name(), dev in of(name()), netns in of("/[a-c]{0,2}"),
        ifname in of(self::name()), ip in vec(address(), 0..3), mac in of(mac()),
        mtu in of(any::<u32>()), anti_spoof in of(any::<bool>()),
        storm_limit in of(any::<u32>()), fdb_limit in of(any::<u32>()),
        limits in vec(of(0..1u64 << 62), 4), tap in of(any::<bool>()),
    ) -> Port {
        // As the parser makes it: a port's name is its device's by default.
        let name = if name.is_empty() { dev.clone().unwrap_or_default() } else { name };
        let netns = netns.map(Into::into);
        let kind = tap.map(|tap| if tap { PodKind::Tap } else { PodKind::Veth });
        Port {
            name, segment, dev, netns, ifname, kind, ip, mac, mtu, anti_spoof, storm_limit, fdb_limit,
            ingress_rate: limits[0], ingress_burst: limits[1],
            egress_rate: limits[2], egress_burst: limits[3],
        }
    }
}

prop_compose! {
    fn segment()(
        name in name(), ageing in of(any::<u32>()), fdb_limit in of(any::<u32>()),
        floods in any::<bool>(), suppress in any::<bool>(), gateway in vec(address(), 0..2),
    ) -> Segment {
        let unknown_unicast = if floods { UnknownUnicast::Flood } else { UnknownUnicast::Drop };
        Segment { name, ageing, fdb_limit, unknown_unicast, suppress, gateway }
    }
}

prop_compose! {
    fn tunnel()(
        name in name(), vxlan in any::<bool>(), remote in ip(), local in of(ip()),
        vni in of(0u32..4), port in of(any::<u16>()), segment in of(self::name()),
        local_mac in of(mac()), remote_mac in of(mac()), ttl in any::<u8>(),
        df in any::<bool>(), dscp in prop_oneof![Just(Dscp::Inherit), (0..64u8).prop_map(Dscp::Fixed)],
        source_ports in of(any::<[u16; 2]>()), encapsulation_limit in of(any::<u8>()),
    ) -> Tunnel {
        let kind = if vxlan { TunnelKind::Vxlan } else { TunnelKind::Ipip };
        let vni = vni.and_then(Vni::new);
        let mode = if ttl.is_multiple_of(2) { TunnelMode::CrossSubnet } else { TunnelMode::Always };
        Tunnel {
            name, kind, remote, local, vni, port, segment, local_mac, remote_mac, ttl, df, dscp,
            source_ports, encapsulation_limit, mode,
        }
    }
}

prop_compose! {
    fn state()(
        switch in of(switch()), node in of(node()), uplink in of(uplink()),
        segments in vec(segment(), 0..3),
        ports in vec(port(), 0..4), tunnels in vec(tunnel(), 0..4),
        routes in vec((prefix(), via()), 0..4),
        neighbors in vec((ip(), mac(), of(name()), of(name())), 0..3),
        fdb in vec((mac(), name(), of(name()), of(name())), 0..3),
    ) -> State {
        State {
            switch, node, uplink, ports, tunnels,
            segments,
            routes: routes.into_iter().map(|(prefix, via)| Route { prefix, via }).collect(),
            neighbors: neighbors.into_iter()
                .map(|(ip, mac, port, tunnel)| Neighbor { ip, mac, port, tunnel }).collect(),
            fdb: fdb.into_iter()
                .map(|(mac, segment, port, tunnel)| FdbEntry { mac, segment, port, tunnel })
                .collect(),
        }
    }
}

/// The state with one object of each key, as every valid state has.
fn without_duplicates(mut s: State) -> State {
    fn once<T: Object>(s: &mut State) {
        let mut seen = std::collections::HashSet::new();
        T::list_mut(s).retain(|o| seen.insert(o.key().to_string()));
    }
    once::<Segment>(&mut s);
    once::<Port>(&mut s);
    once::<Tunnel>(&mut s);
    once::<Route>(&mut s);
    once::<Neighbor>(&mut s);
    once::<FdbEntry>(&mut s);
    s
}

/// A state as a bag of objects by kind and key: what a diff is about.
type Objects = BTreeMap<(Kind, String), Value>;

fn objects(s: &State) -> Objects {
    fn list<T: Object>(s: &State, out: &mut Objects) {
        for o in T::list(s) {
            out.insert((T::KIND, o.key().to_string()), serde_json::to_value(o).unwrap());
        }
    }
    let mut out = Objects::new();
    let mut section = |kind, value: Value| {
        if !value.is_null() {
            out.insert((kind, String::new()), value);
        }
    };
    section(Kind::Switch, json!(s.switch_or_default()));
    section(Kind::Node, json!(s.node));
    section(Kind::Uplink, json!(s.uplink));
    list::<Segment>(s, &mut out);
    list::<Port>(s, &mut out);
    list::<Tunnel>(s, &mut out);
    list::<Route>(s, &mut out);
    list::<Neighbor>(s, &mut out);
    list::<FdbEntry>(s, &mut out);
    out
}

fn carry_out(objects: &mut Objects, changes: &[Change]) {
    for c in changes {
        let key = (c.kind, c.name.clone());
        assert_eq!(objects.get(&key), c.before.as_ref(), "before is what was there");
        match (&c.after, c.op) {
            (Some(after), Op::Add | Op::Change) => _ = objects.insert(key, after.clone()),
            (None, Op::Remove) => _ = objects.remove(&key),
            _ => panic!("{c:?}"),
        }
    }
}

/// Additions that often make sense, each with the removal of what it adds.
fn plausible() -> impl Strategy<Value = (Request, Request)> {
    let request = |method: &str, params| Request::from_parts(method, Some(params)).unwrap();
    let pod = (0u8..4, 2u8..9).prop_map(move |(n, ip)| {
        let (name, netns) = (format!("pod{n}"), format!("/run/netns/{n}"));
        let add = json!({"name": name, "netns": netns, "ifname": "eth0",
            "ip": [format!("10.244.1.{ip}/24")]});
        (request("port.add", add), request("port.del", json!({"name": name})))
    });
    let tunnel = (0u8..3, 1u8..4).prop_map(move |(n, to)| {
        let name = format!("node{n}");
        let add = json!({"name": name, "kind": "ipip", "remote": format!("192.0.2.{to}")});
        (request("tunnel.add", add), request("tunnel.del", json!({"name": name})))
    });
    let route =
        (0u8..4, prop_oneof!["node[0-2]", Just("host".to_owned())]).prop_map(move |(n, via)| {
            let prefix = format!("10.244.{n}.0/24");
            let add = json!({"prefix": prefix, "via": via});
            (request("route.add", add), request("route.del", json!({"prefix": prefix})))
        });
    prop_oneof![pod, tunnel, route]
}

proptest! {
    #[test]
    fn validation_never_panics_and_says_where(s in state()) {
        if let Err(errors) = s.validate() {
            prop_assert!(!errors.is_empty());
            for e in errors {
                prop_assert!(!e.field.is_empty() && !e.expected.is_empty());
                prop_assert!(!e.to_string().contains('\n'), "{e:?}");
            }
        }
    }

    #[test]
    fn json_round_trips(s in state()) {
        let text = serde_json::to_string(&s).unwrap();
        prop_assert_eq!(serde_json::from_str::<State>(&text).unwrap(), s);
    }

    #[test]
    fn a_diff_carried_out_converges(a in state(), b in state()) {
        let (a, b) = (without_duplicates(a), without_duplicates(b));
        let changes = a.diff(&b);
        let mut now = objects(&a);
        carry_out(&mut now, &changes);
        let mut expected = objects(&b);
        if b.switch.is_none() {
            // Left out: it stays as it is.
            expected.insert((Kind::Switch, String::new()), json!(a.switch_or_default()));
        }
        prop_assert_eq!(now, expected);
        prop_assert_eq!(b.diff(&b), []);
    }

    #[test]
    fn order_is_no_difference(a in state()) {
        let a = without_duplicates(a);
        let mut b = a.clone();
        b.ports.reverse();
        b.routes.reverse();
        b.tunnels.reverse();
        prop_assert_eq!(a.diff(&b), []);
    }

    /// Every state on the way is valid, what was added can be removed, and then all is as before.
    #[test]
    fn edits_are_undone_by_their_opposite(requests in vec(plausible(), 1..30)) {
        let mut state: State = serde_json::from_value(json!({
            "node": {"pod_cidrs": ["10.244.1.0/24"], "gateway": true},
            "uplink": {"dev": "uplink0"}
        })).unwrap();
        let requests_are_routes = requests.iter().all(|(add, _)| add.method() == "route.add");
        let mut done = 0;
        for (add, del) in requests {
            if let Ok(next) = state.edited(&add) {
                prop_assert_eq!(next.validate(), Ok(()));
                prop_assert_eq!(next.edited(&del), Ok(state));
                state = next;
                done += 1;
            }
        }
        // Only routes into a tunnel that is not there, or to what is local, may all have failed.
        prop_assert!(done > 0 || requests_are_routes);
    }

    #[test]
    fn arbitrary_bytes_are_never_more_than_refused(bytes in vec(any::<u8>(), 0..300)) {
        let _ = parse_request(&bytes);
    }

    /// JSON that is nearly a request.
    #[test]
    fn near_requests_are_never_more_than_refused(
        method in prop_oneof!["[a-z]{1,8}\\.(add|del|list|get)", "\\PC{0,99}"],
        key in "\\PC{0,20}", value in "\\PC{0,200}", number in any::<f64>(),
    ) {
        let request = json!({"jsonrpc": "2.0", "id": number, "method": method,
            "params": {key.clone(): value, "config": {key: number}}});
        let _ = parse_request(request.to_string().as_bytes());
    }

    #[test]
    fn a_request_sent_is_the_request_received(s in state(), p in port(), t in tunnel()) {
        for request in [
            Request::ConfigApply(podswitch_api::method::Apply { config: s, dry_run: true }),
            Request::PortAdd(p),
            Request::TunnelAdd(t),
        ] {
            let call = Call { id: Some(Id::from(7)), request };
            let line = call.to_line();
            let (newline, line) = line.split_last().unwrap();
            prop_assert_eq!(*newline, b'\n');
            prop_assert!(!line.contains(&b'\n'));
            prop_assert_eq!(parse_request(line), Message::One(Ok(call)));
        }
    }
}
