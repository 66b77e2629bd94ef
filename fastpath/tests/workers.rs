//! Two workers: each with a queue of every port, and ports with fewer queues than workers.

mod common;

use common::{Lab, assert_conserved, attach, can_run, patch_panel};
use fastpath::EngineConfig;
use fastpath::config::Preference;

fn two_workers() -> EngineConfig {
    EngineConfig { workers: 2, frames_per_worker: 4096, ..EngineConfig::default() }
}

#[test]
fn each_worker_has_a_queue_of_every_port() {
    if !can_run() {
        return;
    }
    let lab = Lab::new(2, 9000, 2);
    let engine = patch_panel(two_workers());
    for n in 0..2 {
        assert_eq!(attach(&engine, n, Preference::Auto).unwrap().queues, [0, 1]);
    }
    lab.at(0, "ping -c 3 -i 0.1 -W 1 10.0.0.2");
    eprintln!("8 TCP streams on two workers: {:.2} Gbit/s", lab.iperf(2, "-P 8"));
    let counters = engine.counters();
    assert_conserved(&counters);
    assert_eq!(counters.buffers.len(), 2);
    for n in 0..2 {
        engine.detach(switch::PortId(n)).unwrap();
    }
    common::wait_for("the buffers", || {
        engine.counters().buffers.iter().all(|(all, free)| all == free)
    });
}

/// The kernel's word for each thread of this process: its name and its nice value (proc_pid_stat(5)).
fn nice_values() -> Vec<(String, i32)> {
    let threads = std::fs::read_dir("/proc/self/task").unwrap();
    let stats = threads.map(|t| std::fs::read_to_string(t.unwrap().path().join("stat")).unwrap());
    let parse = |stat: String| {
        let (name, fields) = stat.split_once('(')?.1.rsplit_once(") ")?;
        Some((name.to_owned(), fields.split(' ').nth(16)?.parse().ok()?))
    };
    stats.map(|stat| parse(stat).unwrap()).collect()
}

#[test]
fn workers_come_before_other_threads() {
    if !can_run() {
        return;
    }
    let engine = patch_panel(EngineConfig { nice: -7, ..EngineConfig::default() });
    common::wait_for("the nice value", || nice_values().iter().any(|(_, nice)| *nice == -7));
    let raised = nice_values().into_iter().filter(|(_, nice)| *nice == -7);
    assert_eq!(raised.map(|(name, _)| name).collect::<Vec<_>>(), ["worker0"]);
    engine.stop();
}

/// One queue, two workers: only one of them has a socket, and the other sends through it.
#[test]
fn a_worker_without_a_queue_sends_through_another() {
    if !can_run() {
        return;
    }
    // p0 has two queues, so that both workers receive; p1 has one.
    let mut lab = Lab::new(1, 9000, 2);
    lab.add_host(1, 9000, 1);
    let engine = patch_panel(two_workers());
    assert_eq!(attach(&engine, 0, Preference::Auto).unwrap().queues, [0, 1]);
    assert_eq!(attach(&engine, 1, Preference::Auto).unwrap().queues, [0]);
    lab.at(0, "ping -c 3 -i 0.1 -W 1 10.0.0.2");
    eprintln!("8 TCP streams into a port of one queue: {:.2} Gbit/s", lab.iperf(2, "-P 8"));
    let counters = engine.counters();
    assert_conserved(&counters);
    // The workers end with frames between them, perhaps; none is lost.
    std::thread::scope(|s| {
        s.spawn(|| lab.try_at(0, "ping -f -w 1 -s 8000 10.0.0.2"));
        std::thread::sleep(std::time::Duration::from_millis(500));
        engine.stop();
    });
}
