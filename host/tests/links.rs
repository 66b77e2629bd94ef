//! Namespaces, links, offloads and settings, against what `ip` and `ethtool` see.

mod common;

use common::{TestNetns, root};
use encap::Mac;
use host::{Ethtool, Handle, Netns, VethSpec, XdpMode, sysctl};

fn veth<'a>(name: &'a str, peer_name: &'a str) -> VethSpec<'a> {
    VethSpec {
        name,
        peer_name,
        peer_netns: None,
        mtu: 1500,
        queues: 1,
        group: 0,
        mac: None,
        peer_mac: None,
    }
}

#[test]
fn namespaces_are_told_apart_and_never_leak() {
    if !root() {
        return;
    }
    let before = Netns::current().unwrap();
    let ns = TestNetns::new();
    assert_ne!(ns.netns, before);
    let inside = ns.netns.run(|| Netns::current().unwrap().inode()).unwrap();
    assert_eq!(inside, ns.netns.inode());
    assert_eq!(ns.handle().netns().inode(), ns.netns.inode());

    let panicked = std::panic::catch_unwind(|| ns.netns.run(|| panic!("inside")));
    assert!(panicked.is_err());
    assert_eq!(Netns::current().unwrap(), before);
}

#[test]
fn what_is_no_namespace_is_refused() {
    let e = Netns::open("/run/netns/host-does-not-exist").unwrap_err();
    assert!(e.is_not_found(), "{e}");
    assert!(e.to_string().contains("/run/netns/host-does-not-exist"), "{e}");
    for other in ["/proc/self/cmdline", "/"] {
        let e = Netns::open(other).unwrap_err();
        assert!(e.to_string().contains("is not a network namespace"), "{e}");
    }
    // A namespace of another kind shows when it is entered.
    let e = Netns::open("/proc/self/ns/mnt").unwrap().run(|| ()).unwrap_err();
    assert!(e.to_string().contains("is not a network namespace"), "{e}");
}

#[test]
fn a_veth_pair_is_created_whole_in_both_namespaces() {
    if !root() {
        return;
    }
    let (node, pod) = (TestNetns::new(), TestNetns::new());
    let handle = node.handle();
    let (mac, peer_mac) = (Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2]));
    let link = handle
        .add_veth(&VethSpec {
            name: "psw0123456789ab",
            peer_name: "eth0",
            peer_netns: Some(&pod.netns),
            mtu: 9000,
            queues: 3,
            group: 0,
            mac: Some(mac),
            peer_mac: Some(peer_mac),
        })
        .unwrap();
    assert_eq!((link.mtu, link.mac, link.up), (9000, Some(mac), false));
    assert_eq!((link.num_rx_queues, link.num_tx_queues), (3, 3));
    assert_eq!(link.kind.as_deref(), Some("veth"));
    assert!(link.link_netnsid.is_some(), "the peer is elsewhere");

    let near = node.json("link show dev psw0123456789ab");
    assert_eq!(near[0]["ifindex"], link.index);
    assert_eq!(near[0]["address"], mac.to_string());
    let far = pod.json("link show dev eth0");
    assert_eq!(far[0]["address"], peer_mac.to_string());
    assert_eq!(far[0]["mtu"], 9000);
    assert_eq!(far[0]["num_tx_queues"], 3);
    assert_eq!(far[0]["num_rx_queues"], 3);
    assert_eq!(far[0]["link_index"], link.index);

    // The same link by every way of asking.
    assert_eq!(handle.link_by_index(link.index).unwrap().as_ref(), Some(&link));
    assert!(handle.links().unwrap().contains(&link));
    assert_eq!(handle.links().unwrap().len(), node.json("link show").as_array().unwrap().len());

    assert!(handle.delete_link_by_name("psw0123456789ab").unwrap());
    assert!(!handle.delete_link_by_name("psw0123456789ab").unwrap());
    assert!(pod.handle().link_by_name("eth0").unwrap().is_none());
}

#[test]
fn a_link_is_changed_as_told() {
    if !root() {
        return;
    }
    let ns = TestNetns::new();
    let handle = ns.handle();
    let a = handle.add_veth(&veth("a", "b")).unwrap();
    let b = handle.require_link("b").unwrap();
    assert_eq!((a.lower, a.link_netnsid), (Some(b.index), None));

    let mac = Mac([2, 0, 0, 0, 7, 7]);
    handle.set_mtu(a.index, 3000).unwrap();
    handle.set_mac(a.index, mac).unwrap();
    handle.set_name(a.index, "renamed").unwrap();
    handle.set_no_link_local(a.index).unwrap();
    handle.set_promisc(a.index, true).unwrap();
    handle.set_up(a.index).unwrap();
    handle.set_up(b.index).unwrap();
    let seen = ns.json("link show dev renamed");
    assert_eq!(seen[0]["mtu"], 3000);
    assert_eq!(seen[0]["address"], mac.to_string());
    assert_eq!(seen[0]["promiscuity"], 1);
    assert_eq!(seen[0]["inet6_addr_gen_mode"], "none");
    let flags = seen[0]["flags"].as_array().unwrap();
    for flag in ["UP", "LOWER_UP", "PROMISC"] {
        assert!(flags.iter().any(|f| f == flag), "{flag} in {flags:?}");
    }
    let link = handle.require_link("renamed").unwrap();
    assert!(link.up && link.lower_up && link.promiscuity == 1 && link.mac == Some(mac));
    let addresses = handle.addresses(Some(a.index)).unwrap();
    assert!(addresses.is_empty(), "it stays silent: {addresses:?}");

    handle.set_promisc(a.index, false).unwrap();
    handle.set_down(a.index).unwrap();
    let link = handle.require_link("renamed").unwrap();
    assert!(!link.up && !link.lower_up && link.promiscuity == 0);

    ns.ip("link add br0 type bridge");
    ns.ip("link set renamed master br0");
    let bridge = handle.require_link("br0").unwrap();
    assert_eq!(bridge.kind.as_deref(), Some("bridge"));
    assert_eq!(bridge.driver().as_deref(), Some("bridge"));
    assert_eq!(handle.require_link("renamed").unwrap().master, Some(bridge.index));
    assert!(handle.require_link("lo").unwrap().loopback);
}

#[test]
fn errors_name_the_object_and_keep_the_number() {
    if !root() {
        return;
    }
    let (node, pod) = (TestNetns::new(), TestNetns::new());
    let handle = node.handle();
    handle.add_veth(&veth("a", "b")).unwrap();

    let e = handle.add_veth(&veth("a", "c")).unwrap_err();
    assert!(e.is_exists(), "{e}");
    assert!(e.to_string().starts_with("create veth a with peer c: "), "{e}");
    assert!(e.to_string().contains("an interface a exists already (EEXIST)"), "{e}");
    assert!(handle.link_by_name("c").unwrap().is_none());

    pod.ip("link add eth0 type bridge");
    let e = handle
        .add_veth(&VethSpec { peer_netns: Some(&pod.netns), ..veth("d", "eth0") })
        .unwrap_err();
    assert!(e.is_exists(), "{e}");
    assert!(e.to_string().contains("an interface eth0 exists already (EEXIST)"), "{e}");
    assert!(handle.link_by_name("d").unwrap().is_none(), "nothing half made");

    let e = handle.add_veth(&veth("a-name-that-is-too-long", "c")).unwrap_err();
    assert!(e.to_string().contains("no interface name"), "{e}");
    let e = handle.require_link("nope").unwrap_err();
    assert_eq!(e.to_string(), "interface nope: not found");
    let e = handle.set_mtu(handle.require_link("a").unwrap().index, 10).unwrap_err();
    assert_eq!(e.errno(), Some(nix::errno::Errno::EINVAL));
    assert!(e.to_string().starts_with("set the MTU of interface a to 10: "), "{e}");
    assert!(e.to_string().to_lowercase().contains("mtu less than"), "the kernel's words: {e}");
    let e = handle.set_up(4242).unwrap_err();
    assert!(e.is_not_found(), "{e}");
    assert!(handle.delete_link(4242).unwrap_err().is_not_found());
    assert!(handle.link_by_index(4242).unwrap().is_none());
}

#[test]
fn offloads_and_queues() {
    if !root() {
        return;
    }
    let ns = TestNetns::new();
    let handle = ns.handle();
    let a = handle.add_veth(&VethSpec { queues: 2, ..veth("a", "b") }).unwrap();
    let ethtool = Ethtool::in_netns(&ns.netns).unwrap();
    let features = ethtool.features(a.index).unwrap();
    assert!(
        features.tx_checksum() && features.tso() && features.gso() && features.scatter_gather()
    );

    ethtool.set_tx_checksum(a.index, false).unwrap();
    let features = ethtool.features(a.index).unwrap();
    assert!(!features.tx_checksum() && !features.tso());
    let seen = ns.exec("ethtool -k a");
    assert!(seen.contains("tx-checksumming: off"), "{seen}");
    assert!(seen.contains("tx-tcp-segmentation: off"), "{seen}");
    assert_eq!(features.scatter_gather(), seen.contains("scatter-gather: on"));
    assert_eq!(features.gso(), seen.contains("generic-segmentation-offload: on"));
    assert!(ns.exec("ethtool -k b").contains("tx-checksumming: on"), "the peer is untouched");

    ethtool.set_tx_checksum(a.index, true).unwrap();
    assert!(ns.exec("ethtool -k a").contains("tx-checksumming: on"));

    let channels = ethtool.channels(a.index).unwrap().unwrap();
    assert_eq!((channels.rx, channels.tx, channels.rx_max, channels.tx_max), (2, 2, 2, 2));
    let lo = handle.require_link("lo").unwrap();
    assert_eq!(ethtool.channels(lo.index).unwrap(), None);
    let e = ethtool.set_tx_checksum(lo.index, false).unwrap_err();
    assert!(e.to_string().contains("the driver keeps it on"), "{e}");
    assert!(ethtool.features(4242).unwrap_err().is_not_found());
}

#[test]
fn settings_are_of_the_namespace_they_are_made_in() {
    if !root() {
        return;
    }
    let ns = TestNetns::new();
    ns.ip("link add a.b type bridge");
    let key = "net/ipv4/conf/a.b/rp_filter";
    ns.netns
        .run(|| {
            assert!(sysctl::ensure(key, "2").unwrap());
            assert!(!sysctl::ensure(key, "2").unwrap(), "nothing to change");
            assert_eq!(sysctl::read(key).unwrap(), "2");
            let e = sysctl::write("net/ipv4/conf/nope/rp_filter", "2").unwrap_err();
            assert!(e.is_not_found() && e.to_string().contains("conf/nope/rp_filter"), "{e}");
            assert!(sysctl::write(key, "many").is_err());
        })
        .unwrap();
    assert_eq!(ns.exec("cat /proc/sys/net/ipv4/conf/a.b/rp_filter").trim(), "2");
    assert!(sysctl::read(key).is_err(), "not in the namespace of the test");
}

#[test]
fn an_attached_xdp_program_shows() {
    if !root() {
        return;
    }
    let ns = TestNetns::new();
    let handle = ns.handle();
    let a = handle.add_veth(&veth("a", "b")).unwrap();
    assert_eq!(a.xdp, None);
    // Two instructions: r0 = XDP_PASS; exit.
    let object = pass_program();
    for (keyword, mode) in [("xdpgeneric", XdpMode::Generic), ("xdpdrv", XdpMode::Native)] {
        ns.ip(&format!("link set dev a {keyword} obj {object} sec xdp"));
        assert_eq!(handle.require_link("a").unwrap().xdp, Some(mode));
        ns.ip(&format!("link set dev a {keyword} off"));
        assert_eq!(handle.require_link("a").unwrap().xdp, None);
    }
    std::fs::remove_file(object).unwrap();
}

fn pass_program() -> String {
    let base = std::env::temp_dir().join(format!("host-{}-pass", std::process::id()));
    let (source, object) = (base.with_extension("c"), base.with_extension("o"));
    std::fs::write(
        &source,
        "__attribute__((section(\"xdp\"), used)) int pass(void *ctx) { return 2; }\n\
         char _license[] __attribute__((section(\"license\"), used)) = \"GPL\";\n",
    )
    .unwrap();
    let (from, to) = (source.to_str().unwrap(), object.to_str().unwrap());
    common::run("clang", &["-O2", "-g", "-target", "bpf", "-c", from, "-o", to]);
    std::fs::remove_file(&source).unwrap();
    to.to_owned()
}

#[test]
fn a_handle_serves_its_namespace_from_any_thread() {
    if !root() {
        return;
    }
    let (one, two) = (TestNetns::new(), TestNetns::new());
    let handle = one.handle();
    handle.add_veth(&veth("a", "b")).unwrap();
    two.netns
        .run(move || {
            assert!(handle.link_by_name("a").unwrap().is_some());
            assert!(Handle::current().unwrap().link_by_name("a").unwrap().is_none());
        })
        .unwrap();
}

/// A table that others change while it is read is read again, until it is whole.
#[test]
fn lists_are_whole_while_others_change_them() {
    if !root() {
        return;
    }
    let ns = TestNetns::new();
    let handle = ns.handle();
    // More than one datagram of links.
    for n in 0..40 {
        handle.add_veth(&veth(&format!("stay{n}"), &format!("peer{n}"))).unwrap();
    }
    let done = std::sync::atomic::AtomicBool::new(false);
    let other = ns.handle();
    std::thread::scope(|scope| {
        let done = &done;
        scope.spawn(move || {
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                let link = other.add_veth(&veth("come", "go")).unwrap();
                other.delete_link(link.index).unwrap();
            }
        });
        for _ in 0..100 {
            let links = handle.links().unwrap();
            let stayed = links.iter().filter(|l| l.name.starts_with("stay")).count();
            assert_eq!(stayed, 40);
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

#[test]
fn what_is_not_permitted_says_what_is_needed() {
    if !root() {
        return;
    }
    use nix::unistd::{Gid, Uid, setresgid, setresuid};
    let ns = TestNetns::new();
    let handle = ns.handle();
    let lo = handle.require_link("lo").unwrap();
    let path = ns.path();
    // setresuid of libc changes all threads, so in a child: it is this test again, as nobody.
    if std::env::var_os("HOST_TEST_AS_NOBODY").is_none() {
        let program = std::env::current_exe().unwrap();
        let output = std::process::Command::new(program)
            .args(["--exact", "what_is_not_permitted_says_what_is_needed", "--nocapture"])
            .env("HOST_TEST_AS_NOBODY", "1")
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        return;
    }
    let root = Uid::from_raw(0);
    let nobody = (Gid::from_raw(65534), Uid::from_raw(65534));
    setresgid(nobody.0, nobody.0, Gid::from_raw(0)).unwrap();
    setresuid(nobody.1, nobody.1, root).unwrap();
    let entered = Netns::open(&path).unwrap().run(|| ()).unwrap_err();
    let local = Handle::current().unwrap();
    let set = local.set_up(lo.index).unwrap_err();
    // Back to root, to clean up.
    setresuid(root, root, root).unwrap();
    assert!(entered.is_permission() && entered.to_string().contains("CAP_SYS_ADMIN"), "{entered}");
    assert!(set.is_permission() && set.to_string().contains("CAP_NET_ADMIN"), "{set}");
    assert!(set.to_string().starts_with("set up interface lo: "), "{set}");
}
