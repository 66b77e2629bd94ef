//! The documents say what is true.

mod common;

use std::collections::BTreeSet;
use std::path::Path;

use common::Running;
use podswitch::config;
use podswitch_api::method::METHODS;
use podswitch_api::state::{
    DEFAULT_SOCKET, Dscp, FdbEntry, Neighbor, Node, PodKind, Port, Route, Segment, Shortcut, State,
    Switch, Tunnel, TunnelKind, TunnelMode, UnknownUnicast, Uplink, XdpMode,
};
use podswitch_api::{Code, Request};
use serde_json::Value;

const EXAMPLE: &str = include_str!("../../docs/podswitch.example.toml");
const API: &str = include_str!("../../docs/control-api.md");

/// A state with every key set; the compiler complains when one is missing.
fn every_key() -> State {
    let ip = "10.244.1.5/24".parse().unwrap();
    let mac: encap::Mac = "02:00:00:00:00:01".parse().unwrap();
    let name = || "name".to_owned();
    State {
        switch: Some(Switch {
            socket: "/s".into(),
            socket_group: Some(name()),
            workers: 1,
            cpus: vec![0],
            nice: 1,
            spin: 1,
            busy_poll: Some(1),
            ring: 64,
            superpackets: Shortcut::Off,
            bulk: Shortcut::Off,
            frames: 8192,
            fdb_capacity: 1,
            ageing: 1,
            state_file: Some("/f".into()),
        }),
        node: Some(Node {
            name: Some(name()),
            pod_cidrs: vec!["10.244.1.0/24".parse().unwrap()],
            gateway: true,
            host_interface: name(),
            segment: name(),
            mtu: Some(1500),
            clamp_mss: true,
            icmp_errors: 1,
        }),
        uplink: Some(Uplink {
            dev: name(),
            queues: vec![0],
            mode: XdpMode::Auto,
            native_routing: Some(true),
            vlan: Some(1),
            vlan_dev: Some(name()),
        }),
        segments: vec![Segment {
            name: name(),
            ageing: Some(1),
            fdb_limit: Some(1),
            unknown_unicast: UnknownUnicast::Drop,
            suppress: false,
            gateway: vec![ip],
        }],
        ports: vec![Port {
            name: name(),
            segment: name(),
            dev: Some(name()),
            netns: Some("/n".into()),
            ifname: Some(name()),
            kind: Some(PodKind::Tap),
            ip: vec![ip],
            mac: Some(mac),
            mtu: Some(1500),
            anti_spoof: Some(true),
            storm_limit: Some(1),
            fdb_limit: Some(1),
            ingress_rate: Some(1),
            ingress_burst: Some(1),
            egress_rate: Some(1),
            egress_burst: Some(1),
        }],
        tunnels: vec![Tunnel {
            name: name(),
            kind: TunnelKind::Vxlan,
            remote: "192.0.2.1".parse().unwrap(),
            local: Some("192.0.2.2".parse().unwrap()),
            vni: encap::Vni::new(1),
            port: Some(1),
            segment: Some(name()),
            local_mac: Some(mac),
            remote_mac: Some(mac),
            ttl: 1,
            df: false,
            dscp: Dscp::Fixed(1),
            source_ports: Some([1, 2]),
            encapsulation_limit: Some(1),
            mode: TunnelMode::CrossSubnet,
        }],
        routes: vec![Route { prefix: "10.0.0.0/8".parse().unwrap(), via: "host".into() }],
        neighbors: vec![Neighbor {
            ip: "10.244.1.5".parse().unwrap(),
            mac,
            port: Some(name()),
            tunnel: Some(name()),
        }],
        fdb: vec![FdbEntry { mac, segment: name(), port: Some(name()), tunnel: Some(name()) }],
    }
}

/// `section.key` of every key that a document sets.
fn keys(document: &Value) -> BTreeSet<String> {
    let mut out = BTreeSet::new();
    for (section, value) in document.as_object().unwrap() {
        let tables = value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
        for table in tables {
            out.extend(table.as_object().unwrap().keys().map(|key| format!("{section}.{key}")));
        }
    }
    out
}

#[test]
fn the_example_configuration_is_valid_and_has_every_key() {
    let name = Path::new("docs/podswitch.example.toml");
    config::parse_toml(name, EXAMPLE).unwrap();

    // With the optional keys, which are shown as comments without a blank.
    let all: String = EXAMPLE
        .lines()
        .map(|l| match l.strip_prefix('#') {
            Some(key) if key.starts_with(|c: char| c.is_ascii_alphabetic()) => key,
            _ => l,
        })
        .flat_map(|l| [l, "\n"])
        .collect();
    let parsed = config::parse_toml(name, &all).unwrap();
    let document: toml::Table = toml::from_str(&all).unwrap();
    let shown = keys(&serde_json::to_value(document).unwrap());
    let known = keys(&serde_json::to_value(every_key()).unwrap());
    assert_eq!(shown, known);

    // What is shown as a default is the default.
    let mut switch = parsed.switch.unwrap();
    switch.socket_group = None;
    switch.cpus.clear();
    switch.busy_poll = None;
    switch.state_file = None;
    assert_eq!(switch, Switch::default());
}

/// The blocks of examples: what is sent, and what is expected, if an answer is.
fn examples() -> Vec<(String, Option<Value>)> {
    let mut out = Vec::new();
    for block in API.split("```jsonrpc\n").skip(1) {
        let block = block.split("```").next().unwrap();
        let (sent, answer) = match block.split_once("\n<-- ") {
            Some((sent, answer)) => (sent, Some(serde_json::from_str(answer).unwrap())),
            None => (block, None),
        };
        let sent = sent.strip_prefix("--> ").expect("an example begins with what is sent");
        out.push((sent.split_whitespace().collect::<Vec<_>>().join(" "), answer));
    }
    out
}

#[test]
fn every_example_of_the_api_is_answered_as_it_says() {
    let daemon = Running::start();
    // The examples have the default socket, which a test cannot have.
    let socket = daemon.socket().display().to_string();
    let mut client = daemon.connect();
    let mut seen = BTreeSet::new();
    for (sent, expected) in examples() {
        let answer = client.ask(&sent.replace(DEFAULT_SOCKET, &socket)).to_string();
        let answer = answer.replace(&socket, DEFAULT_SOCKET);
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(Some(&answer), expected.as_ref(), "{sent}\nis answered by\n<-- {answer}");
        if let Ok(request) = serde_json::from_str::<Value>(&sent)
            && let Some(method) = request["method"].as_str()
        {
            // Typed, too: what the client makes of it.
            let params = request.get("params").cloned();
            if let (Some(result), Ok(r)) =
                (answer.get("result"), Request::from_parts(method, params))
            {
                r.decode(result.clone()).unwrap();
                seen.insert(method.to_owned());
            }
        }
    }
    let all: BTreeSet<String> = METHODS.iter().map(|m| (*m).to_owned()).collect();
    let missing: Vec<&String> = all.difference(&seen).collect();
    assert!(missing.is_empty(), "methods without an example that succeeds: {missing:?}");
}

#[test]
fn every_method_and_code_has_its_place() {
    for method in METHODS {
        let heading = format!("\n### {method}\n");
        let at = API.find(&heading).unwrap_or_else(|| panic!("no heading for {method}"));
        let section = &API[at + heading.len()..];
        let section = section.split("\n### ").next().unwrap();
        let writes = section.trim_start().starts_with("*Writes");
        let minimal = method.ends_with(".del")
            || method.ends_with(".add")
            || method.ends_with(".flush")
            || method.ends_with(".configure")
            || method.ends_with(".update")
            || method.ends_with(".gc")
            || *method == "config.apply";
        assert_eq!(writes, minimal, "{method} is marked as what it is");
    }
    for code in Code::ALL {
        let row = format!("| {} | {} | ", code.number(), code.name());
        assert!(API.contains(&row), "no row for {row}");
    }
}
