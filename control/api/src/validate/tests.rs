//! Each rule by an example that breaks it, from a base that breaks none.

use crate::state::State;
use serde_json::{Value, json};

fn base() -> Value {
    json!({
        "switch": {"workers": 2, "cpus": [0, 1]},
        "node": {"name": "node1", "pod_cidrs": ["10.244.1.0/24", "fd00:10:244:1::/64"],
                 "gateway": true},
        "uplink": {"dev": "uplink0"},
        "segment": [{"name": "blue"}],
        "port": [
            {"dev": "eth1"},
            {"name": "web", "netns": "/run/netns/web", "ifname": "eth0",
             "ip": ["10.244.1.5/24", "fd00:10:244:1::5/64"], "mac": "02:00:00:00:00:05"},
            {"name": "db", "netns": "/run/netns/db", "ifname": "eth0", "ip": ["10.244.1.6/24"]}
        ],
        "tunnel": [
            {"name": "node2", "kind": "vxlan", "remote": "192.0.2.2", "vni": 1},
            {"name": "node3", "kind": "ipip", "remote": "192.0.2.3"},
            {"name": "blue2", "kind": "vxlan", "remote": "192.0.2.2", "vni": 7, "segment": "blue"}
        ],
        "route": [
            {"prefix": "10.244.2.0/24", "via": "node2"},
            {"prefix": "10.244.3.0/24", "via": "192.0.2.3"}
        ],
        "neighbor": [{"ip": "10.244.1.9", "mac": "02:00:00:00:00:09", "port": "eth1"}],
        "fdb": [
            {"mac": "02:00:00:00:00:0a", "port": "eth1"},
            {"mac": "02:00:00:00:00:0b", "segment": "blue", "tunnel": "blue2"}
        ]
    })
}

fn errors(value: Value) -> Vec<String> {
    let state: State = serde_json::from_value(value).unwrap();
    let errors = state.validate().err().unwrap_or_default();
    errors.iter().map(ToString::to_string).collect()
}

/// Sets what a JSON pointer names, in the base, and expects exactly these errors.
#[track_caller]
fn breaks(pointer: &str, value: Value, expected: &[&str]) {
    let mut state = base();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    match state.pointer_mut(parent).unwrap() {
        Value::Object(map) if value.is_null() => _ = map.remove(key),
        Value::Object(map) => _ = map.insert(key.to_owned(), value),
        Value::Array(list) if key == "-" => list.push(value),
        Value::Array(list) => list[key.parse::<usize>().unwrap()] = value,
        other => panic!("{other}"),
    }
    assert_eq!(errors(state), expected, "{pointer}");
}

#[test]
fn the_base_and_the_smallest_states_are_valid() {
    assert_eq!(errors(base()), [""; 0]);
    assert_eq!(errors(json!({})), [""; 0]);
    let bridge = json!({"port": [{"dev": "eth1", "segment": "default"}, {"dev": "eth2"}]});
    assert_eq!(errors(bridge), [""; 0]);
}

#[test]
fn switch() {
    breaks(
        "/switch/workers",
        json!(0),
        &[
            "switch.workers = 0: expected 1 to 64",
            "switch.cpus = [0, 1]: expected as many CPUs as there are workers, 0",
        ],
    );
    breaks("/switch/cpus", json!([1, 1]), &["switch.cpus = [1, 1]: expected each CPU once"]);
    breaks(
        "/switch/socket",
        json!("x".repeat(108)),
        &[&format!("switch.socket = {}: expected a path of 1 to 107 bytes", "x".repeat(108))],
    );
    breaks("/switch/nice", json!(20), &["switch.nice = 20: expected -20 to 19"]);
    breaks("/switch/spin", json!(1_000_001), &["switch.spin = 1000001: expected 0 to 1000000"]);
    breaks("/switch/busy_poll", json!(0), &["switch.busy_poll = 0: expected 1 to 1000000"]);
    for ring in [32, 2000, 32_768] {
        let expected = format!("switch.ring = {ring}: expected a power of two, 64 to 16384");
        breaks("/switch/ring", json!(ring), &[&expected]);
    }
    breaks("/switch/frames", json!(16), &["switch.frames = 16: expected 1024 to 65536"]);
    breaks("/switch/ageing", json!(0), &["switch.ageing = 0: expected 1 to 1000000"]);
    breaks("/switch/fdb_capacity", json!(1), &["switch.fdb_capacity = 1: expected 16 to 16777216"]);
    breaks(
        "/switch/socket_group",
        json!(""),
        &["switch.socket_group = \"\": expected a group's name"],
    );
    breaks(
        "/switch/state_file",
        json!("/run/podswitch/podswitch.sock"),
        &["switch.state_file = /run/podswitch/podswitch.sock: expected a path of its own"],
    );
}

#[test]
fn node() {
    let mut empty = base();
    empty["node"]["pod_cidrs"] = json!([]);
    assert_eq!(
        errors(empty),
        ["node.pod_cidrs = []: expected at least one prefix, since gateway = true",]
    );
    breaks(
        "/node/pod_cidrs/-",
        json!("10.244.1.128/25"),
        &[
            "node.pod_cidrs = 10.244.1.128/25: expected a prefix that does not overlap 10.244.1.0/24",
        ],
    );
    breaks(
        "/node/pod_cidrs/-",
        json!("10.9.0.0/31"),
        &["node.pod_cidrs = 10.9.0.0/31: expected at most 30 bits, to hold the gateway and a pod"],
    );
    breaks(
        "/node/pod_cidrs/-",
        json!("224.0.0.0/8"),
        &["node.pod_cidrs = 224.0.0.0/8: expected a prefix of unicast addresses"],
    );
    breaks(
        "/node/host_interface",
        json!("a-name-too-long-"),
        &["node.host_interface = \"a-name-too-long-\": expected an interface's name: \
         1 to 15 bytes without /, :, % and spaces"],
    );
    breaks(
        "/node/segment",
        json!("red"),
        &["node.segment = \"red\": expected a segment that exists: `default`, or one declared as \
         [[segment]]"],
    );
    breaks("/node/mtu", json!(1279), &["node.mtu = 1279: expected 1280 to 65535 bytes"]);
}

#[test]
fn uplink() {
    breaks("/uplink/queues", json!([0, 0]), &["uplink.queues = [0, 0]: expected each queue once"]);
    breaks("/uplink/vlan", json!(0), &["uplink.vlan = 0: expected 1 to 4094"]);
    breaks("/uplink/vlan", json!(4095), &["uplink.vlan = 4095: expected 1 to 4094"]);
    breaks(
        "/uplink/vlan_dev",
        json!("br0"),
        &["uplink.vlan_dev = \"br0\": expected `vlan` beside it"],
    );
    let same = json!({"dev": "uplink0", "vlan": 100, "vlan_dev": "uplink0"});
    let expected = "expected another interface than `dev`, whose frames have no tag";
    breaks("/uplink", same, &[&format!("uplink.vlan_dev = \"uplink0\": {expected}")]);
    breaks(
        "/uplink/dev",
        json!("podswitch0"),
        &["uplink.dev = \"podswitch0\": expected an interface other than [node] host_interface"],
    );
    breaks(
        "/uplink/dev",
        json!("eth1"),
        &[
            "port \"eth1\".dev = \"eth1\": expected an interface that is free: [uplink] dev has this one",
        ],
    );
    let e = errors({
        let mut s = base();
        s.as_object_mut().unwrap().remove("uplink");
        s
    });
    assert_eq!(e.len(), 4, "three tunnels and a native next hop need it: {e:?}");
}

#[test]
fn names() {
    breaks(
        "/segment/-",
        json!({"name": "blue"}),
        &["segment[1].name = \"blue\": expected one that segment[0] does not have already"],
    );
    breaks(
        "/port/2/name",
        json!("web"),
        &["port[2].name = \"web\": expected one that port[1] does not have already"],
    );
    breaks(
        "/port/2/name",
        json!("a b"),
        &["port[2].name = \"a b\": expected 1 to 253 letters, digits or ._-/:@ that start with a \
         letter or digit"],
    );
    breaks(
        "/port/2/name",
        json!("host"),
        &[
            "port \"host\".name = \"host\": expected another name: the switch's own port has this one",
        ],
    );
    breaks(
        "/port/2/name",
        Value::Null,
        &["port[2].name: expected a name: only a port with `dev` has one by default"],
    );
    breaks(
        "/tunnel/1/name",
        json!("192.0.2.3"),
        &[
            "tunnel \"192.0.2.3\".name = \"192.0.2.3\": expected a name that a route's `via` does not \
         read as something else",
        ],
    );
}

#[test]
fn what_a_port_is_attached_to() {
    breaks(
        "/port/0",
        json!({"name": "x"}),
        &[
            "port \"x\": expected either `dev`, an existing interface, or `netns` and `ifname`, a pod's",
            "neighbor \"10.244.1.9\".port = \"eth1\": expected a port that exists",
            "fdb \"02:00:00:00:00:0a\".port = \"eth1\": expected a port that exists",
        ],
    );
    breaks(
        "/port/1/dev",
        json!("eth2"),
        &[
            "port \"web\".dev = \"eth2\": expected no `dev` beside `netns` and `ifname`: a port is an \
         existing interface or a pod's",
        ],
    );
    breaks(
        "/port/1/ifname",
        Value::Null,
        &["port \"web\".ifname: expected the name of the interface in the pod, like \"eth0\""],
    );
    breaks(
        "/port/1/netns",
        Value::Null,
        &["port \"web\".netns: expected the path of the pod's network namespace, like \
         \"/run/netns/pod1\""],
    );
    breaks(
        "/port/-",
        json!({"name": "again", "dev": "eth1"}),
        &[
            "port \"again\".dev = \"eth1\": expected an interface that is free: port \"eth1\" has this one",
        ],
    );
    breaks(
        "/port/0/mtu",
        json!(1500),
        &["port \"eth1\".mtu: expected no such key beside `dev`: it is for pods, whose interface \
         podswitch makes"],
    );
    breaks(
        "/port/2/netns",
        json!("/run/netns/web"),
        &[
            "port \"db\".ifname = \"eth0\": expected a name that port \"web\" does not have in the same \
         namespace",
        ],
    );
    breaks("/port/1/mtu", json!(1000), &["port \"web\".mtu = 1000: expected 1280 to 65535 bytes"]);
    breaks("/port/2/mtu", json!(67), &["port \"db\".mtu = 67: expected 68 to 65535 bytes"]);
    breaks("/port/2/type", json!("tap"), &[]);
    let tap = json!({"name": "tap", "netns": "/n", "ifname": "eth0", "type": "tap", "mtu": 65522});
    breaks("/port/-", tap, &["port \"tap\".mtu = 65522: expected 68 to 65521 bytes"]);
    breaks(
        "/port/0/type",
        json!("veth"),
        &[
            "port \"eth1\".type: expected no such key beside `dev`: it is for pods, whose interface \
           podswitch makes",
        ],
    );
}

#[test]
fn limits() {
    for (section, name) in [("segment", "blue"), ("port", "eth1")] {
        breaks(
            &format!("/{section}/0/fdb_limit"),
            json!(0),
            &[&format!("{section} {name:?}.fdb_limit = 0: expected 1 to 16777216")],
        );
        breaks(&format!("/{section}/0/fdb_limit"), json!(1), &[]);
    }
    breaks(
        "/port/0/storm_limit",
        json!(0),
        &["port \"eth1\".storm_limit = 0: expected 1 to 100000000"],
    );
    for direction in ["ingress", "egress"] {
        let (rate, burst) = (format!("{direction}_rate"), format!("{direction}_burst"));
        breaks(
            &format!("/port/0/{rate}"),
            json!(999),
            &[&format!("port \"eth1\".{rate} = 999: expected 1000 to 1000000000000")],
        );
        breaks(&format!("/port/0/{rate}"), json!(5_000_000_000u64), &[]);
        breaks(
            &format!("/port/0/{burst}"),
            json!(80_000),
            &[&format!("port \"eth1\".{burst} = 80000: expected `{rate}` beside it")],
        );
    }
    breaks("/node/icmp_errors", json!(0), &[]);
    breaks(
        "/node/icmp_errors",
        json!(1_000_001),
        &["node.icmp_errors = 1000001: expected 0 to 1000000"],
    );
    breaks("/port/1/anti_spoof", json!(false), &[]);
    breaks(
        "/port/0/anti_spoof",
        json!(true),
        &["port \"eth1\".anti_spoof: expected no such key beside `dev`: it is for pods, whose \
             interface podswitch makes"],
    );
}

/// A pod may be in several segments; another segment is another world of addresses.
#[test]
fn segments_may_overlap() {
    let port = |name: &str, netns: &str, ifname: &str, ip: &str| {
        json!({"name": name, "netns": netns, "ifname": ifname, "segment": "blue", "ip": [ip],
               "mac": "02:00:00:00:00:05"})
    };
    breaks("/port/-", port("b", "/run/netns/web", "eth1", "10.9.0.5/24"), &[]);
    breaks("/port/-", port("b", "/run/netns/b", "eth0", "10.244.1.5/24"), &[]);
    breaks("/port/-", port("b", "/run/netns/b", "eth0", "10.244.1.1/24"), &[]);
}

#[test]
fn pod_addresses() {
    let ip = |ip: &str, expected: &str| {
        let expected = format!("port \"db\".ip = {ip}: expected {expected}");
        breaks("/port/2/ip", json!([ip]), &[&expected]);
    };
    ip("10.244.2.5/24", "an address in the node's pod CIDR 10.244.1.0/24 or fd00:10:244:1::/64");
    ip("10.244.1.1/24", "another address: this one is the gateway's");
    let reserved = "a pod's address, not the network's own or its broadcast address";
    ip("10.244.1.0/24", reserved);
    ip("10.244.1.255/24", reserved);
    ip("10.244.1.255/32", reserved);
    ip("fd00:10:244:1::/64", reserved);
    ip("10.244.1.5/24", "an address that is free: port \"web\" has this one");
    breaks(
        "/port/2/ip",
        json!(["127.0.0.1/8"]),
        &["port \"db\".ip = 127.0.0.1: expected the address of one host, not of a group or the \
          loopback"],
    );
    ip("10.244.1.7/0", "a prefix length of at least 1");
    breaks(
        "/port/2/mac",
        json!("02:00:00:00:00:05"),
        &[
            "port \"db\".mac = 02:00:00:00:00:05: expected an address that is free: port \"web\" has \
         this one",
        ],
    );
    breaks(
        "/port/2/mac",
        json!("01:00:00:00:00:05"),
        &[
            "port \"db\".mac = 01:00:00:00:00:05: expected a MAC address that is neither zero nor a \
         group's",
        ],
    );
}

#[test]
fn tunnels() {
    breaks(
        "/tunnel/0/vni",
        Value::Null,
        &["tunnel \"node2\".vni: expected a network identifier from 0 to 16777215"],
    );
    breaks(
        "/tunnel/1/vni",
        json!(5),
        &[
            "tunnel \"node3\".vni: expected no such key: kind = \"ipip\" carries IP packets, not frames",
        ],
    );
    breaks(
        "/tunnel/0/vni",
        json!(7),
        &[
            "tunnel \"blue2\".vni = 7: expected a VNI that tunnel \"node2\" does not use to the same \
         remote",
        ],
    );
    breaks(
        "/tunnel/-",
        json!({"name": "t", "kind": "ipip", "remote": "192.0.2.3"}),
        &["tunnel \"t\".remote = 192.0.2.3: expected a remote that tunnel \"node3\" does not have"],
    );
    breaks(
        "/tunnel/0/local",
        json!("2001:db8::1"),
        &["tunnel \"node2\".local = 2001:db8::1: expected an address of the family of remote = \
         192.0.2.2"],
    );
    breaks(
        "/tunnel/0/local",
        json!("192.0.2.2"),
        &["tunnel \"node2\".local = 192.0.2.2: expected an address other than remote"],
    );
    breaks(
        "/tunnel/0/remote",
        json!("10.244.1.7"),
        &[
            "tunnel \"node2\".remote = 10.244.1.7: expected the other node's underlay address, not one \
         of pods in 10.244.1.0/24",
        ],
    );
    breaks(
        "/tunnel/0/remote",
        json!("255.255.255.255"),
        &["tunnel \"node2\".remote = 255.255.255.255: expected the address of one host, not of a \
         group or the loopback"],
    );
    breaks("/tunnel/0/port", json!(0), &["tunnel \"node2\".port = 0: expected 1 to 65535"]);
    breaks("/tunnel/0/ttl", json!(0), &["tunnel \"node2\".ttl = 0: expected 1 to 255"]);
    breaks("/tunnel/0/mode", json!("cross-subnet"), &[]);
    breaks(
        "/tunnel/2/mode",
        json!("cross-subnet"),
        &["tunnel \"blue2\".mode = \"cross-subnet\": \
           expected \"always\", since the tunnel carries a segment's frames"],
    );
    breaks(
        "/tunnel/0/dscp",
        json!(64),
        &["tunnel \"node2\".dscp = 64: expected \"inherit\" or 0 to 63"],
    );
    for ports in [[0, 5], [6, 5]] {
        let [first, last] = ports;
        breaks(
            "/tunnel/0/source_ports",
            json!(ports),
            &[&format!(
                "tunnel \"node2\".source_ports = [{first}, {last}]: expected [first, last], two \
                 ports from 1 to 65535 in order"
            )],
        );
    }
    breaks(
        "/tunnel/0/encapsulation_limit",
        json!(4),
        &["tunnel \"node2\".encapsulation_limit = 4: expected no such key: it is for kind = \
         \"ipip\" over IPv6"],
    );
    breaks(
        "/tunnel/1/encapsulation_limit",
        json!(0),
        &["tunnel \"node3\".encapsulation_limit = 0: expected no such key: the option is one of \
         IPv6, and remote is IPv4"],
    );
    breaks(
        "/tunnel/1",
        json!({"name": "node3", "kind": "ipip", "remote": "2001:db8::3", "encapsulation_limit": 0}),
        &[],
    );
    breaks(
        "/tunnel/0/segment",
        json!("red"),
        &["tunnel \"node2\".segment = \"red\": expected a segment that exists: `default`, or one \
         declared as [[segment]]"],
    );
    breaks(
        "/tunnel/0/remote_mac",
        json!("00:00:00:00:00:00"),
        &[
            "tunnel \"node2\".remote_mac = 00:00:00:00:00:00: expected a MAC address that is neither \
         zero nor a group's",
        ],
    );
}

#[test]
fn routes() {
    breaks(
        "/route/0/via",
        json!("node9"),
        &[
            "route \"10.244.2.0/24\".via = \"node9\": expected a tunnel that exists, an IP address, \
         \"host\", \"blackhole\", \"unreachable\" or \"prohibited\"",
        ],
    );
    breaks(
        "/route/0/via",
        json!("2001:db8::2"),
        &["route \"10.244.2.0/24\".via = 2001:db8::2: expected a next hop of the family of \
         10.244.2.0/24"],
    );
    breaks(
        "/route/0/via",
        json!("10.244.1.7"),
        &["route \"10.244.2.0/24\".via = 10.244.1.7: expected a next hop on the underlay, not a \
         pod's in 10.244.1.0/24"],
    );
    breaks(
        "/route/1/prefix",
        json!("10.244.2.0/24"),
        &["route[1].prefix = \"10.244.2.0/24\": expected one that route[0] does not have already"],
    );
    breaks(
        "/route/1/prefix",
        json!("10.244.1.0/24"),
        &[
            "route \"10.244.1.0/24\".prefix = 10.244.1.0/24: expected a prefix other than the node's \
         own pod CIDR",
        ],
    );
    breaks(
        "/route/1/prefix",
        json!("10.244.1.6/32"),
        &[
            "route \"10.244.1.6/32\".prefix = 10.244.1.6/32: expected a prefix other than the address \
         of port \"db\"",
        ],
    );
    let several = |via: Value, expected: &[&str]| breaks("/route/0/via", via, expected);
    several(json!(["node2", "192.0.2.9"]), &[]);
    several(json!(["node2"]), &[]);
    several(
        json!([]),
        &["route \"10.244.2.0/24\".via = [0 elements]: expected 2 to 64 tunnels or addresses"],
    );
    several(
        json!(["node2", "host", "node2"]),
        &[
            "route \"10.244.2.0/24\".via = host: expected a tunnel or an IP address, when there \
             are several",
            "route \"10.244.2.0/24\".via = node2: expected each tunnel or address once",
        ],
    );
    let no_node = json!({"route": [{"prefix": "10.0.0.0/8", "via": "host"}]});
    assert_eq!(
        errors(no_node),
        [
            "route \"10.0.0.0/8\": expected a [node] section, or a segment with a gateway: only a router routes",
        ]
    );
    let no_gateway = json!({"node": {}, "route": [{"prefix": "10.0.0.0/8", "via": "host"}]});
    assert_eq!(
        errors(no_gateway),
        [
            "route \"10.0.0.0/8\".via = \"host\": expected [node] gateway = true: without it there is \
         no host port",
        ]
    );
}

#[test]
fn neighbors_and_static_macs() {
    breaks(
        "/neighbor/0/port",
        json!("eth9"),
        &["neighbor \"10.244.1.9\".port = \"eth9\": expected a port that exists"],
    );
    breaks(
        "/neighbor/-",
        json!({"ip": "10.244.1.9", "mac": "02:00:00:00:00:01", "port": "eth1"}),
        &["neighbor[1].ip = \"10.244.1.9\": expected one that neighbor[0] does not have already"],
    );
    breaks(
        "/neighbor/0/tunnel",
        json!("blue2"),
        &["neighbor \"10.244.1.9\": expected either `port` or `tunnel`"],
    );
    let behind =
        |tunnel: &str| json!({"ip": "10.9.0.1", "mac": "02:00:00:00:00:01", "tunnel": tunnel});
    breaks("/neighbor/-", behind("blue2"), &[]);
    for tunnel in ["node2", "node3", "node9"] {
        let expected = format!(
            "neighbor \"10.9.0.1\".tunnel = {tunnel:?}: expected a tunnel that extends a segment"
        );
        breaks("/neighbor/-", behind(tunnel), &[&expected]);
    }
    breaks(
        "/fdb/0/port",
        json!("eth9"),
        &["fdb \"02:00:00:00:00:0a\".port = \"eth9\": expected a port that exists"],
    );
    breaks(
        "/fdb/0/segment",
        json!("blue"),
        &["fdb \"02:00:00:00:00:0a\".port = \"eth1\": expected a port of segment \"blue\""],
    );
    breaks(
        "/fdb/1/tunnel",
        json!("node3"),
        &["fdb \"02:00:00:00:00:0b\".tunnel = \"node3\": expected a tunnel of segment \"blue\""],
    );
    breaks(
        "/fdb/0/tunnel",
        json!("blue2"),
        &["fdb \"02:00:00:00:00:0a\": expected either `port` or `tunnel`"],
    );
    // The same address in two segments is two entries.
    breaks("/fdb/1/mac", json!("02:00:00:00:00:0a"), &[]);
}

#[test]
fn cross_subnet_takes_what_comes_natively() {
    let mut state = base();
    state["tunnel"][0]["mode"] = json!("cross-subnet");
    state["uplink"]["native_routing"] = json!(false);
    let expected = "tunnel \"node2\".mode = \"cross-subnet\": \
                    expected \"always\", or no native_routing = false in [uplink]";
    assert_eq!(errors(state), [expected]);
}

#[test]
fn gateways_of_segments() {
    let pod = |name: &str, segment: &str, ip: &str| {
        json!({"name": name, "netns": format!("/run/netns/{name}"), "ifname": "eth0",
               "segment": segment, "ip": [ip]})
    };
    let with = |blue: Value, green: Value, ports: Vec<Value>| {
        errors(json!({
            "node": {"pod_cidrs": ["10.244.1.0/24"], "gateway": true},
            "segment": [{"name": "blue", "gateway": blue}, {"name": "green", "gateway": green}],
            "port": ports
        }))
    };
    // Segments may overlap and share a gateway; their pods' addresses may not.
    let blue = json!(["10.244.0.1/16"]);
    let ports = vec![pod("a", "blue", "10.244.0.5/16"), pod("b", "green", "10.244.0.6/16")];
    assert_eq!(with(blue.clone(), blue.clone(), ports), Vec::<String>::new());
    let ports = vec![pod("a", "blue", "10.244.0.5/16"), pod("b", "green", "10.244.0.5/16")];
    assert_eq!(
        with(blue.clone(), blue.clone(), ports.clone()),
        [
            "port \"b\".ip = 10.244.0.5/16: expected an address that is free: port \"a\" has this one"
        ]
    );
    assert_eq!(with(blue.clone(), json!([]), ports), Vec::<String>::new(), "bridged only");
    let ports = vec![pod("a", "blue", "10.244.1.1/16")];
    assert_eq!(
        with(blue, json!([]), ports),
        ["port \"a\".ip = 10.244.1.1/16: expected another address: this one is the gateway's"]
    );
    for bad in ["10.244.0.0/16", "0.0.0.0/0", "224.0.0.1/24"] {
        assert!(!with(json!([bad]), json!([]), Vec::new()).is_empty(), "{bad}");
    }
    let twice = with(json!(["10.9.0.1/16", "10.9.0.1/24"]), json!([]), Vec::new());
    assert_eq!(twice, ["segment \"blue\".gateway = 10.9.0.1/24: expected each address once"]);
}
