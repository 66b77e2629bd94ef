//! The fastpath on real interfaces: two hosts in network namespaces, joined by two AF_XDP ports.
//!
//! Needs root. The pipeline is a patch panel, so that what is seen here is the fastpath alone.

mod common;

use common::{Lab, assert_conserved, attach, can_run, patch_panel, wait_for};
use fastpath::EngineConfig;
use fastpath::config::{AttachMode, Preference};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use switch::{DropReason, PortId};

#[test]
fn ping_and_tcp_cross() {
    if !can_run() {
        return;
    }
    let lab = Lab::new(2, 1500, 1);
    let engine = patch_panel(EngineConfig::default());
    for n in 0..2 {
        let attached = attach(&engine, n, Preference::Auto).unwrap();
        assert_eq!(attached.mode, AttachMode::Native);
        assert!(attached.frags && !attached.pinned && !attached.taken_over);
        assert_eq!((attached.mtu, attached.queues), (1500, vec![0]));
    }
    lab.at(0, "ping -c 3 -i 0.2 -W 1 10.0.0.2");
    eprintln!("TCP at MTU 1500: {:.2} Gbit/s", lab.iperf(2, ""));
    lab.at(0, "ping -c 2 -i 0.2 -W 1 10.0.0.2");
    let counters = engine.counters();
    assert_conserved(&counters);
    assert_eq!(counters.ports.len(), 2);
    engine.stop();
    let link = common::sh("ip link show p0");
    assert!(!link.contains("xdp"), "{link}");
}

#[test]
fn frames_of_64_kib_cross_whole() {
    if !can_run() {
        return;
    }
    let lab = Lab::new(2, 65_535, 1);
    let engine = patch_panel(EngineConfig::default());
    for n in 0..2 {
        assert!(attach(&engine, n, Preference::Auto).unwrap().frags);
    }
    for size in [56, 3812, 3813, 9000, 65_507] {
        lab.at(0, &format!("ping -c 2 -i 0.05 -W 1 -M do -s {size} 10.0.0.2"));
    }
    eprintln!("TCP at MTU 65535: {:.2} Gbit/s", lab.iperf(2, ""));
    let counters = engine.counters();
    assert_conserved(&counters);
    assert!(counters.ports[0].1.rx_bytes / counters.ports[0].1.rx_frames > 30_000);
}

#[test]
fn generic_mode_works_where_native_does_not() {
    if !can_run() {
        return;
    }
    let lab = Lab::new(2, 1500, 1);
    let engine = patch_panel(EngineConfig::default());
    assert_eq!(attach(&engine, 0, Preference::Generic).unwrap().mode, AttachMode::Generic);
    assert_eq!(attach(&engine, 1, Preference::Native).unwrap().mode, AttachMode::Native);
    lab.at(0, "ping -c 3 -i 0.2 -W 1 10.0.0.2");
    let error = attach(&engine, 0, Preference::Auto).unwrap_err();
    assert!(matches!(error, fastpath::Error::PortInUse(PortId(0))));
    engine.detach(PortId(0)).unwrap();
    let error = attach(&engine, 0, Preference::ZeroCopy).unwrap_err().to_string();
    assert!(error.contains("p0: zero-copy mode is not available"), "{error}");
    // The failure left nothing behind.
    attach(&engine, 0, Preference::Auto).unwrap();
    lab.at(0, "ping -c 3 -i 0.2 -W 1 10.0.0.2");
    assert_conserved(&engine.counters());
}

/// A process that is about to execute another program holds a copy of each of our descriptors until it does. That
/// keeps no program on an interface that was detached.
#[test]
fn detached_while_other_threads_start_processes() {
    if !can_run() {
        return;
    }
    let _lab = Lab::new(1, 1500, 1);
    let engine = patch_panel(EngineConfig::default());
    let done = AtomicBool::new(false);
    std::thread::scope(|s| {
        for _ in 0..2 {
            s.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    Command::new("true").status().unwrap();
                }
            });
        }
        let outcome: Result<(), _> = (0..50).try_for_each(|_| {
            attach(&engine, 0, Preference::Auto)?;
            engine.detach(PortId(0))
        });
        done.store(true, Ordering::Relaxed);
        outcome.unwrap();
    });
}

#[test]
fn ports_come_and_go_under_load() {
    if !can_run() {
        return;
    }
    let lab = Lab::new(2, 9000, 1);
    let engine = patch_panel(EngineConfig::default());
    attach(&engine, 0, Preference::Auto).unwrap();
    attach(&engine, 1, Preference::Auto).unwrap();
    std::thread::scope(|s| {
        let load = s.spawn(|| lab.iperf(4, ""));
        // At every moment, not only at the end.
        for _ in 0..50 {
            assert_conserved(&engine.counters());
            std::thread::sleep(Duration::from_millis(10));
        }
        for _ in 0..3 {
            std::thread::sleep(Duration::from_millis(700));
            engine.detach(PortId(1)).unwrap();
            attach(&engine, 1, Preference::Auto).unwrap();
        }
        eprintln!("TCP while a port is detached three times: {:.2} Gbit/s", load.join().unwrap());
    });
    let counters = engine.counters();
    assert_conserved(&counters);
    assert!(counters.ports[1].1.dropped() > 0, "frames met no port");
    // All buffers come back: what is not free is in the two fill rings.
    engine.detach(PortId(0)).unwrap();
    engine.detach(PortId(1)).unwrap();
    wait_for("the buffers", || {
        let (all, free) = engine.counters().buffers[0];
        all == free
    });
}

#[test]
fn an_interface_deleted_under_load_is_a_named_drop() {
    if !can_run() {
        return;
    }
    let lab = Lab::new(2, 1500, 1);
    let engine = patch_panel(EngineConfig::default());
    attach(&engine, 0, Preference::Auto).unwrap();
    attach(&engine, 1, Preference::Auto).unwrap();
    std::thread::scope(|s| {
        s.spawn(|| lab.try_at(0, "ping -f -w 2 10.0.0.2"));
        std::thread::sleep(Duration::from_millis(800));
        common::sh("ip link del p1");
        std::thread::sleep(Duration::from_millis(300));
    });
    lab.try_at(0, "arp -s 10.0.0.2 02:00:00:00:00:02; ping -c 3 -i 0.1 -W 1 10.0.0.2");
    let counters = engine.counters();
    assert_conserved(&counters);
    let p1 = &counters.ports[1].1;
    assert!(p1.dropped_as(DropReason::PortDown) > 0, "{p1:?}");
    engine.detach(PortId(1)).unwrap();
    assert_conserved(&engine.counters());
    engine.detach(PortId(0)).unwrap();
    wait_for("the buffers", || {
        let (all, free) = engine.counters().buffers[0];
        all == free
    });
}

#[test]
fn an_interface_that_is_down_comes_back() {
    if !can_run() {
        return;
    }
    let lab = Lab::new(2, 1500, 1);
    let engine = patch_panel(EngineConfig::default());
    attach(&engine, 0, Preference::Auto).unwrap();
    attach(&engine, 1, Preference::Auto).unwrap();
    lab.at(0, "ping -c 2 -i 0.1 -W 1 10.0.0.2");
    common::sh("ip link set p1 down");
    assert!(!lab.try_at(0, "ping -c 3 -i 0.1 -W 1 10.0.0.2").status.success());
    let down = engine.counters();
    assert!(down.ports[1].1.dropped_as(DropReason::PortDown) > 0);
    assert_conserved(&down);
    common::sh("ip link set p1 up");
    wait_for("the interface", || lab.try_at(0, "ping -c 1 -W 1 10.0.0.2").status.success());
    assert_conserved(&engine.counters());
    // It may be down when it is attached, too.
    engine.detach(PortId(1)).unwrap();
    common::sh("ip link set p1 down");
    attach(&engine, 1, Preference::Auto).unwrap();
    common::sh("ip link set p1 up");
    wait_for("the interface", || lab.try_at(0, "ping -c 1 -W 1 10.0.0.2").status.success());
    assert_conserved(&engine.counters());
}
