//! Buffers are few and ports many. A process of its own, since it looks at what sockets it has.
//!
//! Needs root.

mod common;

use common::{Lab, assert_conserved, attach, can_run, patch_panel};
use fastpath::EngineConfig;
use fastpath::config::Preference;
use std::time::Duration;

/// Two pairs of hosts on few buffers: the first pair's ports hold most of them when they fall
/// silent, and give them up when the second pair needs them.
#[test]
fn buffers_of_silent_ports_go_to_busy_ones() {
    if !can_run() {
        return;
    }
    let lab = Lab::new(4, 9000, 1);
    let config = EngineConfig { frames_per_worker: 1024, ring_size: 512, ..Default::default() };
    let engine = patch_panel(config);
    for n in 0..4 {
        attach(&engine, n, Preference::Auto).unwrap();
    }
    let sockets = || {
        let fds = std::fs::read_dir("/proc/self/fd").unwrap();
        let names = fds.filter_map(|fd| std::fs::read_link(fd.unwrap().path()).ok());
        let mut names: Vec<_> = names.filter(|n| n.to_string_lossy().contains("socket:")).collect();
        names.sort();
        names.dedup();
        names
    };
    let first = lab.iperf(2, "");
    let before = sockets();
    std::thread::sleep(Duration::from_secs(7));
    engine.collect();
    assert_eq!(sockets(), before, "nobody was short");
    let second = std::thread::scope(|s| {
        let load = s.spawn(|| lab.iperf_between(2, 3, 4, ""));
        while !load.is_finished() {
            std::thread::sleep(Duration::from_millis(500));
            engine.collect();
            assert_conserved(&engine.counters());
        }
        load.join().unwrap()
    });
    eprintln!("first pair {first:.2} Gbit/s, second pair {second:.2} Gbit/s");
    assert_eq!(sockets(), before, "no socket had to be opened anew");
    assert!(second > first / 3.0, "{second:.2} of {first:.2} Gbit/s");
    lab.at(0, "ping -c 3 -i 0.1 -W 1 10.0.0.2");
    assert_conserved(&engine.counters());
}
