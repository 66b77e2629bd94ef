//! Addresses and routes, against what `ip` sees.

mod common;

use std::net::IpAddr;

use common::{TestNetns, root, wait_for};
use encap::Prefix;
use host::{AddressSpec, Handle, Link, ResolvedRoute, Route, RouteKind, VethSpec};
use nix::errno::Errno;
use serde_json::Value;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn prefix(text: &str) -> Prefix {
    text.parse().unwrap()
}

/// A namespace with a veth pair `a`-`b`, both up.
fn setup() -> (TestNetns, Handle, Link) {
    let ns = TestNetns::new();
    let handle = ns.handle();
    let spec = VethSpec {
        name: "a",
        peer_name: "b",
        peer_netns: None,
        mtu: 1500,
        queues: 1,
        group: 0,
        mac: None,
        peer_mac: None,
    };
    let link = handle.add_veth(&spec).unwrap();
    handle.set_up(handle.require_link("b").unwrap().index).unwrap();
    handle.set_up(link.index).unwrap();
    // IPv6 starts with the carrier, and with an address of the kernel's own.
    wait_for("the link-local address", || {
        let all = handle.addresses(Some(link.index)).unwrap();
        all.iter().any(|a| a.link_local && a.ip.is_ipv6()).then_some(())
    });
    (ns, handle, link)
}

fn find<'a>(list: &'a Value, key: &str, value: &str) -> Option<&'a Value> {
    list.as_array()?.iter().find(|e| e[key] == value)
}

#[test]
fn addresses_are_added_listed_and_removed() {
    if !root() {
        return;
    }
    let (ns, handle, link) = setup();
    let plain = AddressSpec::new(ip("10.1.0.1"), 24);
    let quiet = AddressSpec { noprefixroute: true, ..AddressSpec::new(ip("fd00::1"), 64) };
    let slow = AddressSpec { nodad: false, ..AddressSpec::new(ip("fd00::2"), 64) };
    for spec in [plain, quiet, slow] {
        handle.add_address(link.index, &spec).unwrap();
    }
    let listed = handle.addresses(Some(link.index)).unwrap();
    let get = |text: &str| listed.iter().find(|a| a.ip == ip(text)).unwrap();
    assert_eq!((get("10.1.0.1").prefix_len, get("10.1.0.1").peer), (24, None));
    assert!(!get("10.1.0.1").noprefixroute && !get("10.1.0.1").tentative);
    assert!(get("fd00::1").noprefixroute && !get("fd00::1").tentative);
    assert!(get("fd00::2").tentative && !get("fd00::2").noprefixroute);

    let seen = ns.json("addr show dev a");
    let seen = &seen[0]["addr_info"];
    assert_eq!(find(seen, "local", "10.1.0.1").unwrap()["prefixlen"], 24);
    assert_eq!(find(seen, "local", "fd00::1").unwrap()["noprefixroute"], true);
    assert_eq!(find(seen, "local", "fd00::1").unwrap()["nodad"], true);
    assert_eq!(find(seen, "local", "fd00::2").unwrap()["tentative"], true);
    assert_eq!(seen.as_array().unwrap().len(), listed.len());
    assert!(find(&ns.json("route show"), "dst", "10.1.0.0/24").is_some());

    // All links: those of lo too.
    handle.set_up(handle.require_link("lo").unwrap().index).unwrap();
    let all = handle.addresses(None).unwrap();
    assert!(all.iter().any(|a| a.ip == ip("127.0.0.1")) && all.len() > listed.len());

    // Again, with another flag.
    handle.replace_address(link.index, &plain).unwrap();
    let quiet = AddressSpec { noprefixroute: true, ..slow };
    handle.replace_address(link.index, &quiet).unwrap();
    let seen = &ns.json("addr show dev a")[0]["addr_info"];
    assert_eq!(find(seen, "local", "fd00::2").unwrap()["noprefixroute"], true);

    handle.del_address(link.index, plain.ip, 24).unwrap();
    assert!(find(&ns.json("addr show dev a")[0]["addr_info"], "local", "10.1.0.1").is_none());
}

#[test]
fn addresses_that_cannot_be() {
    if !root() {
        return;
    }
    let (_ns, handle, link) = setup();
    let spec = AddressSpec::new(ip("10.1.0.1"), 24);
    handle.add_address(link.index, &spec).unwrap();
    let e = handle.add_address(link.index, &spec).unwrap_err();
    assert!(e.is_exists(), "{e}");
    assert!(e.to_string().starts_with("add address 10.1.0.1/24 to interface a: "), "{e}");
    let e = handle.del_address(link.index, ip("10.1.0.9"), 24).unwrap_err();
    assert_eq!(e.errno(), Some(Errno::EADDRNOTAVAIL), "{e}");
    let e = handle.add_address(link.index, &AddressSpec::new(ip("10.1.0.1"), 33)).unwrap_err();
    assert!(e.to_string().contains("longer than the address"), "{e}");
    let e = handle.add_address(4242, &spec).unwrap_err();
    assert!(e.is_not_found() && e.to_string().contains("interface with index 4242"), "{e}");
    assert!(handle.addresses(Some(4242)).unwrap_or_default().is_empty());
}

#[test]
fn routes_are_added_listed_and_removed() {
    if !root() {
        return;
    }
    let (ns, handle, link) = setup();
    for (address, len) in [("10.1.0.1", 32), ("fd00::1", 128)] {
        handle.add_address(link.index, &AddressSpec::new(ip(address), len)).unwrap();
    }
    let v4 = Route {
        prefsrc: Some(ip("10.1.0.1")),
        mtu: Some(1400),
        protocol: 112,
        ..Route::via(prefix("10.2.0.0/16"), ip("169.254.1.1"), link.index)
    };
    let v6 = Route {
        prefsrc: Some(ip("fd00::1")),
        mtu: Some(1380),
        protocol: 112,
        ..Route::via(prefix("fd02::/16"), ip("fe80::1"), link.index)
    };
    let on_link = Route { metric: Some(7), ..Route::on_link(prefix("10.3.0.0/24"), link.index) };
    let default = Route::via(prefix("0.0.0.0/0"), ip("169.254.1.1"), link.index);
    let hole = Route::blackhole(prefix("10.4.0.0/16"));
    let hole6 = Route::blackhole(prefix("fd04::/16"));
    let mixed = Route::via(prefix("10.5.0.0/16"), ip("fe80::1"), link.index);
    for route in [&v4, &v6, &on_link, &default, &hole, &hole6, &mixed] {
        handle.add_route(route).unwrap();
    }

    let seen = ns.json("route show");
    let r = find(&seen, "dst", "10.2.0.0/16").unwrap();
    assert_eq!((r["gateway"].as_str(), r["dev"].as_str()), (Some("169.254.1.1"), Some("a")));
    assert_eq!((r["prefsrc"].as_str(), r["protocol"].as_str()), (Some("10.1.0.1"), Some("112")));
    assert_eq!(r["metrics"][0]["mtu"], 1400);
    assert!(r["flags"].as_array().unwrap().iter().any(|f| f == "onlink"));
    let r = find(&seen, "dst", "10.3.0.0/24").unwrap();
    assert_eq!((r["metric"].as_u64(), r["scope"].as_str()), (Some(7), Some("link")));
    assert_eq!(find(&seen, "dst", "default").unwrap()["gateway"], "169.254.1.1");
    assert_eq!(find(&seen, "dst", "10.4.0.0/16").unwrap()["type"], "blackhole");
    let r = find(&seen, "dst", "10.5.0.0/16").unwrap();
    assert_eq!(r["via"]["host"], "fe80::1");
    let seen = ns.json("-6 route show");
    let r = find(&seen, "dst", "fd02::/16").unwrap();
    assert_eq!((r["gateway"].as_str(), r["prefsrc"].as_str()), (Some("fe80::1"), Some("fd00::1")));
    assert_eq!(r["metrics"][0]["mtu"], 1380);
    assert_eq!(find(&seen, "dst", "fd04::/16").unwrap()["type"], "blackhole");

    // What is read back is what was written, but for the defaults that the kernel fills in.
    let listed = handle.routes().unwrap();
    let get = |p: Prefix| listed.iter().find(|r| r.prefix == p).unwrap();
    assert_eq!(get(v4.prefix), &v4);
    assert_eq!(get(v6.prefix), &Route { metric: Some(1024), ..v6.clone() });
    assert_eq!(get(on_link.prefix), &on_link);
    assert_eq!(get(hole.prefix), &hole);
    assert_eq!(get(mixed.prefix), &mixed);
    let v6_seen = ns.json("-6 route show").as_array().unwrap().len();
    let v4_seen = ns.json("route show").as_array().unwrap().len();
    assert_eq!(listed.len(), v4_seen + v6_seen);
    let ours = handle.routes_where(Some(112), Some(link.index)).unwrap();
    assert_eq!(ours.iter().map(|r| r.prefix).collect::<Vec<_>>(), [v4.prefix, v6.prefix]);
    assert!(handle.routes_where(Some(112), Some(4242)).unwrap().is_empty());

    handle.replace_route(&Route { mtu: None, ..v4.clone() }).unwrap();
    assert!(find(&ns.json("route show"), "dst", "10.2.0.0/16").unwrap().get("metrics").is_none());
    for route in [&v6, &on_link, &hole, &hole6, &mixed] {
        handle.del_route(route).unwrap();
    }
    handle.del_route(&Route { mtu: None, ..v4 }).unwrap();
    assert!(find(&ns.json("route show"), "dst", "10.2.0.0/16").is_none());
    assert!(find(&ns.json("-6 route show"), "dst", "fd02::/16").is_none());
}

#[test]
fn routes_that_cannot_be() {
    if !root() {
        return;
    }
    let (_ns, handle, link) = setup();
    let route = Route::on_link(prefix("10.2.0.0/16"), link.index);
    handle.add_route(&route).unwrap();
    let e = handle.add_route(&route).unwrap_err();
    assert!(e.is_exists() && e.to_string().starts_with("add route 10.2.0.0/16 on interface a: "));
    let e = handle.del_route(&Route::on_link(prefix("10.9.0.0/16"), link.index)).unwrap_err();
    assert!(e.is_not_found() && e.errno() == Some(Errno::ESRCH), "{e}");
    // Not on the link and not said to be.
    let off =
        Route { onlink: false, ..Route::via(prefix("10.8.0.0/16"), ip("192.0.2.1"), link.index) };
    let e = handle.add_route(&off).unwrap_err();
    assert!(e.errno().is_some() && e.to_string().contains("via 192.0.2.1"), "{e}");
    // An IPv6 prefix through an IPv4 gateway.
    let wrong = Route::via(prefix("fd08::/16"), ip("192.0.2.1"), link.index);
    assert!(handle.add_route(&wrong).unwrap_err().errno().is_some());
    // A source address that the node does not have.
    let source = Route {
        prefsrc: Some(ip("192.0.2.7")),
        ..Route::on_link(prefix("10.7.0.0/16"), link.index)
    };
    assert_eq!(handle.add_route(&source).unwrap_err().errno(), Some(Errno::EINVAL));
    let e = handle.add_route(&Route::on_link(prefix("10.6.0.0/16"), 4242)).unwrap_err();
    assert!(e.is_not_found(), "{e}");
}

#[test]
fn the_kernel_says_where_it_would_send() {
    if !root() {
        return;
    }
    let (ns, handle, link) = setup();
    for (address, len) in [("10.1.0.1", 24), ("fd00::1", 64)] {
        handle.add_address(link.index, &AddressSpec::new(ip(address), len)).unwrap();
    }
    handle.set_up(handle.require_link("lo").unwrap().index).unwrap();
    let near = |gateway: Option<&str>, source: &str, mtu| ResolvedRoute {
        oif: link.index,
        gateway: gateway.map(ip),
        prefsrc: Some(ip(source)),
        mtu,
        local: false,
    };
    let get = |text: &str| handle.route_get(ip(text)).unwrap();
    assert_eq!(get("10.1.0.9"), Some(near(None, "10.1.0.1", None)));
    assert_eq!(get("fd00::9"), Some(near(None, "fd00::1", None)));
    assert_eq!(get("192.0.2.1"), None, "no route");
    assert_eq!(get("2001:db8::1"), None, "no route");
    assert!(get("10.1.0.1").unwrap().local);
    // The kernel makes the local route of an IPv6 address from a work queue, a little later.
    wait_for("the local route", || get("fd00::1").unwrap().local.then_some(()));

    let via =
        |p: &str, g: &str| Route { mtu: Some(1300), ..Route::via(prefix(p), ip(g), link.index) };
    handle.add_route(&via("192.0.2.0/24", "10.1.0.254")).unwrap();
    handle.add_route(&via("2001:db8::/32", "fd00::fe")).unwrap();
    assert_eq!(get("192.0.2.1"), Some(near(Some("10.1.0.254"), "10.1.0.1", Some(1300))));
    assert_eq!(get("2001:db8::1"), Some(near(Some("fd00::fe"), "fd00::1", Some(1300))));
    let seen = ns.json("route get 192.0.2.1");
    assert_eq!(
        (seen[0]["gateway"].as_str(), seen[0]["dev"].as_str()),
        (Some("10.1.0.254"), Some("a"))
    );

    // Longer prefixes that drop, by each of their names.
    for (kind, bit) in
        [(RouteKind::Blackhole, 1), (RouteKind::Unreachable, 2), (RouteKind::Prohibit, 3)]
    {
        for address in [format!("192.0.2.{bit}"), format!("2001:db8::{bit}")] {
            let drop = Route { kind, ..Route::blackhole(Prefix::host(ip(&address))) };
            handle.add_route(&drop).unwrap();
            assert_eq!(get(&address), None, "{kind:?}");
        }
    }
    // A route over a link that goes down is no route.
    handle.set_down(link.index).unwrap();
    wait_for("the route to go", || get("192.0.2.9").is_none().then_some(()));
}
