//! The tables are replaced while packets flow: none is lost, none goes astray.

use std::collections::HashSet;
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt::RcvBufForce};
use podswitch_tests::{BRIDGE, Daemon, Hosts, Lab, Netns, Node, TwoNodes, Way, ping};

/// Sends numbered datagrams from one namespace to another for as long as `meanwhile` takes.
/// Fails if one is lost, or comes twice. Gives how many there were.
///
/// Never more of them are on the way than the ports between have buffers for, so that a machine on
/// which everybody waits for a CPU loses none either.
#[track_caller]
fn numbered_datagrams(
    daemons: &[&Daemon],
    (from, to): (&Netns, &Netns),
    address: &str,
    meanwhile: impl FnOnce(),
) -> u32 {
    const GAP: Duration = Duration::from_micros(100);
    const WINDOW: usize = 128;
    const PATIENCE: Duration = Duration::from_secs(5);
    let receiver = to.enter(|| UdpSocket::bind("[::]:9")).expect("binding");
    setsockopt(&receiver, RcvBufForce, &(16 << 20)).expect("root may have a large buffer");
    receiver.set_read_timeout(Some(Duration::from_millis(500))).expect("a timeout is allowed");
    let sender = from.enter(|| UdpSocket::bind("[::]:0")).expect("binding");
    let target = (address.parse::<std::net::IpAddr>().expect("an address"), 9);
    let target = match target.0 {
        std::net::IpAddr::V4(v4) => (v4.to_ipv6_mapped().into(), 9),
        v6 => (v6, 9),
    };

    let (stop, arrived) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let sending = scope.spawn(|| {
            let mut number = 0_u32;
            let mut last = Instant::now();
            while !stop.load(Ordering::Relaxed) && last.elapsed() < PATIENCE {
                if number as usize - arrived.load(Ordering::Relaxed) >= WINDOW {
                    std::thread::sleep(GAP);
                    continue;
                }
                sender.send_to(&number.to_be_bytes(), target).expect("sending");
                number += 1;
                last = Instant::now();
                while last.elapsed() < GAP {
                    std::hint::spin_loop();
                }
            }
            number
        });
        let receiving = scope.spawn(|| {
            let (mut seen, mut message) = (HashSet::new(), [0; 16]);
            loop {
                match receiver.recv(&mut message) {
                    Ok(n) => {
                        let number = message[..n].try_into().expect("four bytes");
                        assert!(seen.insert(u32::from_be_bytes(number)), "a datagram came twice");
                        arrived.store(seen.len(), Ordering::Relaxed);
                    }
                    // Nothing for a while: the last one was sent, or all that may be are on the way.
                    Err(_) if stop.load(Ordering::Relaxed) => return seen,
                    Err(_) => {}
                }
            }
        });
        meanwhile();
        stop.store(true, Ordering::Relaxed);
        let sent = sending.join().expect("the sender does not panic");
        let seen = receiving.join().expect("the receiver does not panic");
        let lost: Vec<u32> = (0..sent).filter(|n| !seen.contains(n)).collect();
        assert!(
            lost.is_empty(),
            "lost {} of {sent}, from {:?} to {:?}: {:?}",
            lost.len(),
            lost.first(),
            lost.last(),
            daemons.iter().map(|d| d.counters()).collect::<Vec<_>>(),
        );
        sent
    })
}

#[test]
fn replacing_the_tables_of_a_bridge_loses_nothing() {
    let Some(lab) = Lab::new() else { return };
    let Hosts { switch, hosts } = Hosts::pair(&lab);
    let daemon = Daemon::start(&lab, &switch, BRIDGE);
    ping(&hosts[0], "10.9.0.2");
    let other = format!(
        "{BRIDGE}[[segment]]\nname = \"blue\"\n\
         [[fdb]]\nmac = \"02:00:00:00:00:99\"\nport = \"eth1\"\n"
    );

    let sent = numbered_datagrams(&[&daemon], (&hosts[0], &hosts[1]), "10.9.0.2", || {
        for _ in 0..15 {
            daemon.apply(&lab, &other);
            daemon.apply(&lab, BRIDGE);
        }
    });
    assert!(sent > 500, "the load was too small: {sent}");
    let generation = daemon.json("show status")["generation"].as_u64();
    assert!(generation >= Some(30), "the tables were published: {generation:?}");
    daemon.finish();
}

#[test]
fn replacing_the_routes_of_a_node_loses_nothing() {
    let Some(lab) = Lab::new() else { return };
    let cluster = TwoNodes::start(&lab, Way::Vxlan);
    let (node, [one, two]) = (&cluster.nodes[0], &cluster.pods);
    let daemons = cluster.nodes.each_ref().map(|n| &n.daemon);
    ping(&one.netns, &two.ip4);
    let port = format!(
        "[[port]]\nname = \"{}\"\nnetns = \"{}\"\nifname = \"eth0\"\nip = [\"{}/24\", \"{}/64\"]\n",
        one.name,
        one.netns.path(),
        one.ip4,
        one.ip6
    );
    let route = |n: usize| format!("[[route]]\nprefix = \"172.20.{n}.0/24\"\nvia = \"node2\"\n");
    let few = Node::config(1, Way::Vxlan) + &port;
    let many = few.clone() + &(0..200).map(route).collect::<String>();

    numbered_datagrams(&daemons, (&one.netns, &two.netns), &two.ip4, || {
        for _ in 0..10 {
            node.daemon.apply(&lab, &many);
            node.daemon.apply(&lab, &few);
        }
        for n in 0..10 {
            node.daemon.cli(&format!("route add 172.21.{n}.0/24 node2"));
        }
    });
    cluster.finish();
}

#[test]
fn adding_and_removing_pods_disturbs_no_other() {
    let Some(lab) = Lab::new() else { return };
    let cluster = TwoNodes::start(&lab, Way::Vxlan);
    let (node, [one, two]) = (&cluster.nodes[0], &cluster.pods);
    let daemons = cluster.nodes.each_ref().map(|n| &n.daemon);
    ping(&one.netns, &two.ip4);

    numbered_datagrams(&daemons, (&one.netns, &two.netns), &two.ip4, || {
        for host in 20..26 {
            let pod = node.add_pod(&lab, host);
            node.daemon.cli(&format!("port del {}", pod.name));
        }
    });
    cluster.finish();
}

#[test]
fn a_dry_run_lists_the_differences_and_changes_nothing() {
    let Some(lab) = Lab::new() else { return };
    let Hosts { switch, hosts: _hosts } = Hosts::pair(&lab);
    let daemon = Daemon::start(&lab, &switch, BRIDGE);
    let before = daemon.json("show config");
    let socket = daemon.socket().display();
    let more =
        format!("[switch]\nsocket = \"{socket}\"\nworkers = 1\n[[segment]]\nname = \"blue\"\n");
    let file =
        lab.write("more.toml", &(more + BRIDGE.split_once("workers = 1").expect("it has").1));

    let changes = daemon.cli(&format!("apply -f {} --dry-run", file.display()));
    assert!(changes.contains("blue") && !changes.contains("eth1"), "{changes}");
    assert_eq!(daemon.json("show config"), before);
    daemon.cli(&format!("apply -f {}", file.display()));
    assert!(daemon.cli("segment list").contains("blue"));
    daemon.finish();
}

#[test]
fn an_apply_that_fails_changes_nothing() {
    let Some(lab) = Lab::new() else { return };
    let Hosts { switch, hosts } = Hosts::pair(&lab);
    let daemon = Daemon::start(&lab, &switch, BRIDGE);
    let before = daemon.json("show config");
    for wrong in [
        "[[segment]]\nname = \"blue\"\n[[port]]\ndev = \"missing0\"\nsegment = \"blue\"\n",
        "[[segment]]\nname = \"blue\"\n[[fdb]]\nmac = \"02:00:00:00:00:01\"\nport = \"nobody\"\n",
    ] {
        let socket = daemon.socket().display();
        let text = BRIDGE.replace("[switch]", &format!("[switch]\nsocket = \"{socket}\"")) + wrong;
        let file = lab.write("wrong.toml", &text);
        let result = daemon.try_cli(&format!("apply -f {}", file.display()));
        assert_ne!(result.code, 0, "{result:?}");
        assert_eq!(daemon.json("show config"), before, "{}", result.stderr);
        assert!(!daemon.cli("segment list").contains("blue"));
    }
    ping(&hosts[0], "10.9.0.2");
    daemon.finish();
}
