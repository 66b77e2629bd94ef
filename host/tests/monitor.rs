//! What the monitor reports, while `ip` changes things.

mod common;

use std::os::fd::AsFd;

use common::{TestNetns, root, wait_for};
use encap::Mac;
use host::{Event, Monitor, NeighborState};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Reads until an event matches; returns it and drops those before it.
fn expect<T>(monitor: &mut Monitor, what: &str, mut matches: impl FnMut(&Event) -> Option<T>) -> T {
    let mut seen = Vec::new();
    wait_for(what, || {
        let events = monitor.read().unwrap();
        let found = events.iter().find_map(&mut matches);
        seen.extend(events);
        found
    })
}

fn readable(monitor: &Monitor) -> bool {
    let mut fds = [PollFd::new(monitor.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO).unwrap() == 1
}

#[test]
fn links_addresses_and_routes() {
    if !root() {
        return;
    }
    let ns = TestNetns::new();
    let mut monitor = Monitor::in_netns(&ns.netns).unwrap();
    assert!(!readable(&monitor));
    assert!(monitor.read().unwrap().is_empty());

    ns.ip("link add va type veth peer name vb");
    let index = expect(&mut monitor, "the link", |e| match e {
        Event::LinkNew(l) if l.name == "va" => Some(l.index),
        _ => None,
    });
    assert_eq!(ns.json("link show dev va")[0]["ifindex"], index);

    ns.ip("link set vb up");
    ns.ip("link set va up mtu 1400");
    expect(&mut monitor, "the carrier", |e| match e {
        Event::LinkNew(l) if l.index == index && l.up && l.lower_up && l.mtu == 1400 => Some(()),
        _ => None,
    });

    for (address, flags) in [("10.1.0.1/24", ""), ("fd00::1/64", " nodad")] {
        ns.ip(&format!("addr add {address} dev va{flags}"));
        expect(&mut monitor, "the address", |e| match e {
            Event::AddressNew(a) if a.link == index => {
                (format!("{}/{}", a.ip, a.prefix_len) == address).then_some(())
            }
            _ => None,
        });
    }
    ns.ip("route add 192.0.2.0/24 via 10.1.0.2");
    let route = expect(&mut monitor, "the route", |e| match e {
        Event::RouteNew(r) if r.prefix.to_string() == "192.0.2.0/24" => Some(r.clone()),
        _ => None,
    });
    assert_eq!((route.oif, route.gateway), (Some(index), Some("10.1.0.2".parse().unwrap())));
    ns.ip("route del 192.0.2.0/24");
    expect(&mut monitor, "the route's end", |e| match e {
        Event::RouteDel(r) if *r == route => Some(()),
        _ => None,
    });
    ns.ip("-6 route add 2001:db8::/32 dev va");
    expect(&mut monitor, "the IPv6 route", |e| match e {
        Event::RouteNew(r) if r.prefix.to_string() == "2001:db8::/32" => Some(()),
        _ => None,
    });
    ns.ip("addr del 10.1.0.1/24 dev va");
    expect(&mut monitor, "the address's end", |e| match e {
        Event::AddressDel(a) if a.link == index && a.ip.is_ipv4() => Some(()),
        _ => None,
    });

    ns.ip("link del va");
    let name = expect(&mut monitor, "the link's end", |e| match e {
        Event::LinkDel { index: i, name } if *i == index => Some(name.clone()),
        _ => None,
    });
    assert_eq!(name, "va");
    // Read to the end, there is nothing to wake up for.
    wait_for("silence", || monitor.read().unwrap().is_empty().then_some(()));
    assert!(!readable(&monitor));
}

#[test]
fn queueing_disciplines_come_and_go() {
    if !root() {
        return;
    }
    let ns = TestNetns::new();
    ns.ip("link add va type veth peer name vb");
    let index = ns.json("link show dev va")[0]["ifindex"].as_u64().unwrap();
    let mut monitor = Monitor::in_netns(&ns.netns).unwrap();
    let mut changed = |line: &str| {
        ns.exec(line);
        expect(&mut monitor, line, |e| match e {
            Event::QdiscChanged { index: of } => Some(u64::from(*of)),
            // Classes are none of ours, and nothing to stumble over.
            Event::Overrun => Some(0),
            _ => None,
        })
    };
    assert_eq!(changed("tc qdisc add dev va root handle 1: htb"), index);
    ns.exec("tc class add dev va parent 1: classid 1:1 htb rate 1gbit");
    assert_eq!(changed("tc qdisc del dev va root"), index);
    assert_eq!(changed("tc qdisc add dev va clsact"), index);
}

#[test]
fn neighbours_come_and_go() {
    if !root() {
        return;
    }
    let ns = TestNetns::new();
    ns.ip("link add va type veth peer name vb");
    ns.ip("link set vb up");
    ns.ip("link set va up");
    let mut monitor = Monitor::in_netns(&ns.netns).unwrap();
    let ip: std::net::IpAddr = "10.1.0.2".parse().unwrap();
    let neighbor = |state: NeighborState, mac: Option<Mac>| {
        move |e: &Event| match e {
            Event::NeighborNew(n) if n.ip == ip => {
                (n.state == state && n.usable_mac() == mac).then_some(())
            }
            _ => None,
        }
    };
    let mac = |n| Mac([2, 0, 0, 0, 0, n]);
    ns.ip("neigh add 10.1.0.2 dev va lladdr 02:00:00:00:00:01 nud permanent");
    expect(&mut monitor, "it", neighbor(NeighborState::Permanent, Some(mac(1))));
    ns.ip("neigh replace 10.1.0.2 dev va lladdr 02:00:00:00:00:02 nud reachable");
    expect(&mut monitor, "its change", neighbor(NeighborState::Reachable, Some(mac(2))));
    ns.ip("neigh del 10.1.0.2 dev va");
    expect(&mut monitor, "its end", |e| match e {
        Event::NeighborDel(n) if n.ip == ip => Some(()),
        // `ip neigh del` marks it failed first.
        Event::NeighborNew(n) if n.ip == ip => n.usable_mac().is_none().then_some(()),
        _ => None,
    });

    // With its link set down, an entry goes too, and says so.
    ns.ip("neigh add 10.1.0.2 dev va lladdr 02:00:00:00:00:01 nud permanent");
    ns.ip("link set va down");
    expect(&mut monitor, "its end", |e| match e {
        Event::NeighborDel(n) if n.ip == ip => Some(()),
        _ => None,
    });
}

#[test]
fn leaving_a_bridge_is_not_the_end_of_a_link() {
    if !root() {
        return;
    }
    let ns = TestNetns::new();
    ns.ip("link add va type veth peer name vb");
    ns.ip("link add br0 type bridge");
    let mut monitor = Monitor::in_netns(&ns.netns).unwrap();
    ns.ip("link set va master br0");
    expect(&mut monitor, "the member", |e| match e {
        Event::LinkNew(l) if l.name == "va" && l.master.is_some() => Some(()),
        _ => None,
    });
    ns.ip("link set va nomaster");
    expect(&mut monitor, "it to leave", |e| match e {
        Event::LinkDel { .. } => panic!("{e:?}"),
        Event::LinkNew(l) if l.name == "va" && l.master.is_none() => Some(()),
        _ => None,
    });
}

#[test]
fn a_link_moved_to_another_namespace_is_gone() {
    if !root() {
        return;
    }
    let (ns, other) = (TestNetns::new(), TestNetns::new());
    ns.ip("link add va type veth peer name vb");
    let mut monitor = Monitor::in_netns(&ns.netns).unwrap();
    ns.ip(&format!("link set va netns {}", other.name));
    expect(&mut monitor, "the link to leave", |e| match e {
        Event::LinkDel { name, .. } if name == "va" => Some(()),
        _ => None,
    });
}

#[test]
fn lost_events_are_told() {
    if !root() {
        return;
    }
    let ns = TestNetns::new();
    ns.ip("link add va type veth peer name vb");
    ns.ip("link set vb up");
    ns.ip("link set va up");
    let mut monitor = Monitor::in_netns(&ns.netns).unwrap();
    // A buffer that holds next to nothing stands for a daemon that was away too long.
    nix::sys::socket::setsockopt(&monitor, nix::sys::socket::sockopt::RcvBuf, &2048).unwrap();
    for n in 1..=40 {
        ns.ip(&format!("addr add 10.1.0.{n}/24 dev va"));
    }
    let events = monitor.read().unwrap();
    assert_eq!(events.iter().filter(|e| **e == Event::Overrun).count(), 1, "{events:?}");
    // And it goes on working.
    ns.ip("addr add 10.2.0.1/24 dev va");
    expect(&mut monitor, "the address", |e| match e {
        Event::AddressNew(a) => (a.ip.to_string() == "10.2.0.1").then_some(()),
        _ => None,
    });
}
