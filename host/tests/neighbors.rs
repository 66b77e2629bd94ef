//! Neighbours, against what `ip` sees, and what makes the kernel resolve one.

mod common;

use std::net::IpAddr;

use common::{TestNetns, root, wait_for, wait_long_for};
use encap::Mac;
use host::{AddressSpec, Handle, Link, NeighborState, VethSpec, sysctl};
use serde_json::Value;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

const MAC: Mac = Mac([2, 0, 0, 0, 0, 9]);

/// Two namespaces joined by a wire: `a` with 10.1.0.1 and fd00::1, `b` with .2 and ::2.
fn wire() -> (TestNetns, TestNetns, Handle, Link, Link) {
    let (one, two) = (TestNetns::new(), TestNetns::new());
    let (handle, other) = (one.handle(), two.handle());
    let a = handle
        .add_veth(&VethSpec {
            name: "a",
            peer_name: "b",
            peer_netns: Some(&two.netns),
            mtu: 1500,
            queues: 1,
            group: 0,
            mac: None,
            peer_mac: Some(MAC),
        })
        .unwrap();
    let b = other.require_link("b").unwrap();
    for (handle, link, n) in [(&handle, &a, 1), (&other, &b, 2)] {
        let v4 = AddressSpec::new(ip(&format!("10.1.0.{n}")), 24);
        let v6 = AddressSpec::new(ip(&format!("fd00::{n}")), 64);
        handle.add_address(link.index, &v4).unwrap();
        handle.add_address(link.index, &v6).unwrap();
        handle.set_up(link.index).unwrap();
    }
    (one, two, handle, a, b)
}

#[test]
fn permanent_neighbours() {
    if !root() {
        return;
    }
    let (ns, _other, handle, a, _b) = wire();
    for address in ["169.254.1.1", "fe80::1"] {
        let address = ip(address);
        handle.set_permanent_neighbor(a.index, address, MAC).unwrap();
        let entry = handle.neighbor(a.index, address).unwrap().unwrap();
        assert_eq!((entry.state, entry.mac), (NeighborState::Permanent, Some(MAC)));
        assert_eq!(entry.usable_mac(), Some(MAC));
        let seen = ns.json(&format!("neigh show {address} dev a"));
        assert_eq!(seen[0]["lladdr"], MAC.to_string());
        assert_eq!(seen[0]["state"][0], "PERMANENT");
        assert!(handle.neighbors(Some(a.index)).unwrap().contains(&entry));
        assert!(handle.neighbors(None).unwrap().contains(&entry));

        // Again, with another address: the last one holds.
        let mac = Mac([2, 0, 0, 0, 0, 10]);
        handle.set_permanent_neighbor(a.index, address, mac).unwrap();
        assert_eq!(handle.neighbor(a.index, address).unwrap().unwrap().mac, Some(mac));

        handle.del_neighbor(a.index, address).unwrap();
        assert_eq!(handle.neighbor(a.index, address).unwrap(), None);
        assert!(ns.json(&format!("neigh show {address} dev a")).get(0).is_none());
        assert!(handle.del_neighbor(a.index, address).unwrap_err().is_not_found());
    }
    let e = handle.set_permanent_neighbor(4242, ip("169.254.1.1"), MAC).unwrap_err();
    assert!(e.is_not_found() && e.to_string().contains("169.254.1.1"), "{e}");
}

#[test]
fn a_probe_resolves_and_finds_out_failures() {
    if !root() {
        return;
    }
    let (_ns, _other, handle, a, _b) = wire();
    for address in ["10.1.0.2", "fd00::2"] {
        let address = ip(address);
        assert_eq!(handle.neighbor(a.index, address).unwrap(), None, "nobody asked yet");
        handle.probe_neighbor(a.index, address).unwrap();
        let entry = wait_for("the answer", || {
            handle.neighbor(a.index, address).unwrap().filter(|n| n.usable_mac().is_some())
        });
        assert_eq!(entry.mac, Some(MAC));
        // And again, which must not make it forget.
        handle.probe_neighbor(a.index, address).unwrap();
        assert_eq!(handle.neighbor(a.index, address).unwrap().unwrap().usable_mac(), Some(MAC));
    }
    let nobody = ip("10.1.0.77");
    handle.probe_neighbor(a.index, nobody).unwrap();
    let entry = handle.neighbor(a.index, nobody).unwrap().unwrap();
    assert_eq!((entry.state, entry.usable_mac()), (NeighborState::Incomplete, None));
    wait_long_for("the failure", 15, || {
        let entry = handle.neighbor(a.index, nobody).unwrap();
        // A failed entry may be collected before we look.
        entry.is_none_or(|n| n.state == NeighborState::Failed).then_some(())
    });
}

#[test]
fn a_failed_neighbour_can_be_probed_again() {
    if !root() {
        return;
    }
    let (_ns, other, handle, a, b) = wire();
    let late = ip("10.1.0.3");
    handle.probe_neighbor(a.index, late).unwrap();
    wait_long_for("the failure", 15, || {
        let entry = handle.neighbor(a.index, late).unwrap();
        entry.is_none_or(|n| n.state == NeighborState::Failed).then_some(())
    });
    other.handle().add_address(b.index, &AddressSpec::new(late, 24)).unwrap();
    handle.probe_neighbor(a.index, late).unwrap();
    wait_for("the answer", || handle.neighbor(a.index, late).unwrap()?.usable_mac());
}

#[test]
fn a_managed_neighbour_follows_a_new_hardware_address() {
    if !root() {
        return;
    }
    let (ns, other, handle, a, b) = wire();
    // By default it takes the kernel half a minute to doubt an address. With these it notices at
    // the next of its rounds, which come every five seconds whatever the settings of a link say.
    let hasty = [
        ("base_reachable_time_ms", "500"),
        ("retrans_time_ms", "100"),
        ("delay_first_probe_time", "1"),
    ];
    ns.netns
        .run(|| {
            for (key, value) in hasty {
                sysctl::write(&format!("net/ipv4/neigh/a/{key}"), value).unwrap();
            }
        })
        .unwrap();
    let address = ip("10.1.0.2");
    handle.manage_neighbor(a.index, address).unwrap();
    let entry = wait_for("the answer", || {
        handle.neighbor(a.index, address).unwrap().filter(|n| n.usable_mac().is_some())
    });
    assert!(entry.managed && entry.mac == Some(MAC));
    assert_eq!(ns.json("neigh show 10.1.0.2 dev a")[0]["managed"], Value::Null);

    let moved = Mac([2, 0, 0, 0, 0, 11]);
    let peer = other.handle();
    peer.set_mac(b.index, moved).unwrap();
    wait_long_for("the new address", 20, || {
        (handle.neighbor(a.index, address).unwrap()?.mac == Some(moved)).then_some(())
    });

    handle.unmanage_neighbor(a.index, address).unwrap();
    let entry = handle.neighbor(a.index, address).unwrap().unwrap();
    assert!(!entry.managed && entry.usable_mac() == Some(moved), "{entry:?}");
    handle.unmanage_neighbor(a.index, ip("10.1.0.99")).unwrap();
}

/// An entry that an administrator made is neither resolved nor let go of.
#[test]
fn what_an_administrator_set_stays() {
    if !root() {
        return;
    }
    let (ns, _other, handle, a, _b) = wire();
    let address = ip("10.1.0.2");
    ns.ip("neigh add 10.1.0.2 dev a lladdr 02:00:00:00:00:44 nud permanent");
    handle.manage_neighbor(a.index, address).unwrap();
    handle.probe_neighbor(a.index, address).unwrap();
    handle.unmanage_neighbor(a.index, address).unwrap();
    let seen = ns.json("neigh show 10.1.0.2 dev a");
    assert_eq!(seen[0]["state"][0], "PERMANENT");
    assert_eq!(seen[0]["lladdr"], "02:00:00:00:00:44");
}

/// An address that is known stays usable when the kernel is told to keep it.
#[test]
fn managing_forgets_nothing() {
    if !root() {
        return;
    }
    let (_ns, _other, handle, a, _b) = wire();
    let address = ip("10.1.0.2");
    handle.probe_neighbor(a.index, address).unwrap();
    wait_for("the answer", || handle.neighbor(a.index, address).unwrap()?.usable_mac());
    for _ in 0..3 {
        handle.manage_neighbor(a.index, address).unwrap();
        let entry = handle.neighbor(a.index, address).unwrap().unwrap();
        assert!(entry.managed && entry.usable_mac() == Some(MAC), "{entry:?}");
        handle.unmanage_neighbor(a.index, address).unwrap();
        let entry = handle.neighbor(a.index, address).unwrap().unwrap();
        assert!(!entry.managed && entry.usable_mac() == Some(MAC), "{entry:?}");
    }
}
