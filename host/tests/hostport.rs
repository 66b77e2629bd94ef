//! The host port: what the node gets, that it survives a restart, and that it touches nothing of
//! others.

mod common;

use std::net::IpAddr;

use common::{TestNetns, root};
use encap::{Mac, Prefix};
use host::{Handle, HostPort, HostPortSpec, HostRoute, sysctl};
use serde_json::Value;

const H: Mac = Mac([2, 0, 0, 0, 0, 1]);
const G: Mac = Mac([0x0a, 0x58, 10, 244, 1, 1]);

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn prefixes(texts: &[&str]) -> Vec<HostRoute> {
    texts.iter().map(|t| t.parse::<Prefix>().unwrap().into()).collect()
}

fn spec() -> HostPortSpec {
    HostPortSpec {
        far_name: "podswitch0".into(),
        near_name: "pswhost".into(),
        mac: H,
        router_mac: G,
        addresses: vec![(ip("10.244.1.1"), 24), (ip("fd00:10:244:1::1"), 64)],
        mtu: 9000,
        queues: 2,
    }
}

fn find<'a>(list: &'a Value, key: &str, value: &str) -> &'a Value {
    list.as_array().unwrap().iter().find(|e| e[key] == value).unwrap_or(&Value::Null)
}

fn destinations(ns: &TestNetns, family: &str) -> Vec<String> {
    let routes = ns.json(&format!("{family} route show proto 112"));
    let mut all: Vec<_> = routes
        .as_array()
        .into_iter()
        .flatten()
        .map(|r| r["dst"].as_str().unwrap().to_owned())
        .collect();
    all.sort();
    all
}

fn check_all(ns: &TestNetns, port: &HostPort) {
    let seen = ns.json("addr show dev podswitch0");
    assert_eq!(seen[0]["ifindex"], port.far_index);
    assert_eq!(
        (seen[0]["address"].as_str(), seen[0]["mtu"].as_u64()),
        (Some("02:00:00:00:00:01"), Some(9000))
    );
    assert!(seen[0]["flags"].as_array().unwrap().iter().any(|f| f == "LOWER_UP"));
    let v4 = find(&seen[0]["addr_info"], "local", "10.244.1.1");
    assert_eq!((v4["prefixlen"].as_u64(), v4["noprefixroute"].as_bool()), (Some(24), Some(true)));
    let v6 = find(&seen[0]["addr_info"], "local", "fd00:10:244:1::1");
    assert_eq!((v6["noprefixroute"].as_bool(), &v6["tentative"]), (Some(true), &Value::Null));
    let near = ns.json("addr show dev pswhost");
    assert_eq!(near[0]["ifindex"], port.near_index);
    assert_eq!(near[0]["addr_info"].as_array().unwrap().len(), 0);
    for router in ["169.254.1.1", "fe80::1"] {
        let seen = ns.json(&format!("neigh show {router} dev podswitch0"));
        assert_eq!(
            (seen[0]["lladdr"].as_str(), seen[0]["state"][0].as_str()),
            (Some("0a:58:0a:f4:01:01"), Some("PERMANENT"))
        );
    }
    assert!(ns.exec("ethtool -k podswitch0").contains("tx-checksumming: off"));
    for (key, value) in [
        ("net/ipv4/conf/podswitch0/rp_filter", "2"),
        ("net/ipv4/conf/podswitch0/accept_local", "1"),
        ("net/ipv4/conf/podswitch0/send_redirects", "0"),
        ("net/ipv4/conf/all/send_redirects", "0"),
        ("net/ipv4/ip_forward", "1"),
        ("net/ipv6/conf/all/forwarding", "1"),
    ] {
        assert_eq!(ns.exec(&format!("cat /proc/sys/{key}")).trim(), value, "{key}");
    }
}

#[test]
fn the_node_gets_all_it_needs() {
    if !root() {
        return;
    }
    let ns = TestNetns::new();
    // An uplink that listens to router advertisements must go on doing so as a router.
    ns.ip("link add uplink0 type veth peer name far0");
    let handle = ns.handle();
    let port = HostPort::create(&handle, &spec()).unwrap();
    check_all(&ns, &port);
    assert_eq!(ns.exec("cat /proc/sys/net/ipv6/conf/uplink0/accept_ra").trim(), "2");
    assert_eq!(ns.exec("cat /proc/sys/net/ipv6/conf/podswitch0/accept_ra").trim(), "0");
    assert!(destinations(&ns, "-4").is_empty());

    port.delete(&handle).unwrap();
    port.delete(&handle).unwrap();
    assert!(handle.link_by_name("podswitch0").unwrap().is_none());
    assert!(handle.link_by_name("pswhost").unwrap().is_none());
}

#[test]
fn routes_are_exactly_those_wanted_and_others_are_left_alone() {
    if !root() {
        return;
    }
    let ns = TestNetns::new();
    let handle = ns.handle();
    let port = HostPort::create(&handle, &spec()).unwrap();
    ns.ip("route add 198.51.100.0/24 dev podswitch0");
    port.sync_routes(
        &handle,
        &prefixes(&["10.244.1.0/24", "10.244.2.0/24", "fd00:10:244:1::/64", "fd00:10:244:2::/64"]),
    )
    .unwrap();
    assert_eq!(destinations(&ns, "-4"), ["10.244.1.0/24", "10.244.2.0/24"]);
    assert_eq!(destinations(&ns, "-6"), ["fd00:10:244:1::/64", "fd00:10:244:2::/64"]);
    let got = ns.json("route get 10.244.2.9");
    assert_eq!(
        (got[0]["gateway"].as_str(), got[0]["prefsrc"].as_str()),
        (Some("169.254.1.1"), Some("10.244.1.1"))
    );
    let got = ns.json("route get fd00:10:244:2::9");
    assert_eq!(
        (got[0]["gateway"].as_str(), got[0]["prefsrc"].as_str()),
        (Some("fe80::1"), Some("fd00:10:244:1::1"))
    );

    // Less one, one more, one changed; the same again changes nothing.
    let mut wanted = prefixes(&["10.244.1.0/24", "10.244.3.0/24", "fd00:10:244:1::/64"]);
    wanted[0].mtu = Some(1450);
    for _ in 0..2 {
        let mut monitor = host::Monitor::in_netns(&ns.netns).unwrap();
        port.sync_routes(&handle, &wanted).unwrap();
        assert_eq!(destinations(&ns, "-4"), ["10.244.1.0/24", "10.244.3.0/24"]);
        assert_eq!(destinations(&ns, "-6"), ["fd00:10:244:1::/64"]);
        let seen = ns.json("route show 10.244.1.0/24");
        assert_eq!(seen[0]["metrics"][0]["mtu"], 1450);
        let changes = monitor.read().unwrap();
        port.sync_routes(&handle, &wanted).unwrap();
        assert!(monitor.read().unwrap().is_empty(), "after {changes:?}");
    }

    // Someone else's route for a prefix: it stays, we say so, and do the rest.
    ns.ip("route add 10.244.7.0/24 dev podswitch0 proto static");
    wanted.extend(prefixes(&["10.244.7.0/24", "10.244.8.0/24"]));
    let e = port.sync_routes(&handle, &wanted).unwrap_err();
    assert!(e.is_exists() && e.to_string().contains("10.244.7.0/24"), "{e}");
    assert_eq!(destinations(&ns, "-4"), ["10.244.1.0/24", "10.244.3.0/24", "10.244.8.0/24"]);
    let all = ns.json("-4 route show");
    assert_eq!(find(&all, "dst", "10.244.7.0/24")["protocol"], "static");
    assert_ne!(find(&all, "dst", "198.51.100.0/24"), &Value::Null);

    port.sync_routes(&handle, &[]).unwrap();
    assert!(destinations(&ns, "-4").is_empty() && destinations(&ns, "-6").is_empty());
    assert_ne!(find(&ns.json("-4 route show"), "dst", "198.51.100.0/24"), &Value::Null);
}

#[test]
fn a_daemon_that_comes_back_takes_over_what_it_left() {
    if !root() {
        return;
    }
    let ns = TestNetns::new();
    let handle = ns.handle();
    let first = HostPort::create(&handle, &spec()).unwrap();
    first.sync_routes(&handle, &prefixes(&["10.244.2.0/24", "10.244.3.0/24"])).unwrap();

    // Meanwhile someone meddled.
    ns.ip("addr add 10.9.9.9/24 dev podswitch0");
    ns.ip("addr del 10.244.1.1/24 dev podswitch0");
    ns.ip("addr add 10.244.1.1/24 dev podswitch0");
    ns.ip("link set podswitch0 mtu 1500 address 02:00:00:00:00:77");
    ns.ip("link set podswitch0 down");

    let handle: Handle = ns.handle();
    let second = HostPort::create(&handle, &spec()).unwrap();
    assert_eq!(second, first, "the same pair");
    check_all(&ns, &second);
    let seen = ns.json("addr show dev podswitch0");
    assert_eq!(find(&seen[0]["addr_info"], "local", "10.9.9.9"), &Value::Null);
    second.sync_routes(&handle, &prefixes(&["10.244.3.0/24", "10.244.4.0/24"])).unwrap();
    assert_eq!(destinations(&ns, "-4"), ["10.244.3.0/24", "10.244.4.0/24"]);

    // Another number of queues needs another pair.
    let third = HostPort::create(&handle, &HostPortSpec { queues: 1, ..spec() }).unwrap();
    assert_ne!(third.far_index, first.far_index);
    check_all(&ns, &third);
}

#[test]
fn what_is_not_ours_is_not_taken() {
    if !root() {
        return;
    }
    let ns = TestNetns::new();
    let handle = ns.handle();
    for existing in ["podswitch0 type bridge", "pswhost type bridge"] {
        ns.ip(&format!("link add {existing}"));
        let e = HostPort::create(&handle, &spec()).unwrap_err();
        assert!(e.to_string().contains("is not part of a host port"), "{e}");
        ns.ip(&format!("link del {}", existing.split(' ').next().unwrap()));
    }
    // Both names there, but not each other's ends.
    ns.ip("link add podswitch0 type veth peer name other0");
    ns.ip("link add pswhost type veth peer name other1");
    let e = HostPort::create(&handle, &spec()).unwrap_err();
    assert!(e.to_string().contains("is not part of a host port"), "{e}");
    ns.ip("link del podswitch0");
    ns.ip("link del pswhost");
    // Half way: an address that cannot be.
    let bad = HostPortSpec { addresses: vec![(ip("10.0.0.1"), 24), (ip("ff02::1"), 64)], ..spec() };
    let e = HostPort::create(&handle, &bad).unwrap_err();
    assert!(e.to_string().contains("ff02::1"), "{e}");
    assert_eq!(handle.links().unwrap().len(), 1, "only lo");
}

#[test]
fn without_ipv6_gateways_ipv6_is_left_alone() {
    if !root() {
        return;
    }
    let ns = TestNetns::new();
    let handle = ns.handle();
    let v4 = HostPortSpec { addresses: vec![(ip("10.244.1.1"), 24)], ..spec() };
    HostPort::create(&handle, &v4).unwrap();
    let forwarding =
        ns.netns.run(|| sysctl::read("net/ipv6/conf/all/forwarding").unwrap()).unwrap();
    assert_eq!(forwarding, "0");
    let seen = ns.json("neigh show fe80::1 dev podswitch0");
    assert!(seen.get(0).is_none());
}
