//! How fast the fastpath carries TCP between two hosts, against the kernel's bridge in the same
//! run. Not asserted: run it by hand on a quiet machine, as root:
//! `cargo test --release -p fastpath --test throughput -- --ignored --nocapture`

mod common;

use common::{Lab, assert_conserved, attach, patch_panel, sh};
use fastpath::EngineConfig;
use fastpath::config::Preference;
use std::time::Duration;

#[test]
#[ignore = "a measurement, for a quiet machine"]
fn tcp_against_the_kernel_bridge() {
    const SECONDS: u32 = 3;
    for mtu in [1500, 9000, 65_535] {
        let lab = Lab::new(2, mtu, 1);
        sh("ip link add br0 type bridge && ip link set br0 up && \
            ip link set p0 master br0 && ip link set p1 master br0");
        // One with XDP off, since attaching it turns the hosts' segmentation offload off for good.
        eprintln!("MTU {mtu:5}, kernel bridge: {:5.2} Gbit/s", lab.iperf(SECONDS, ""));
        sh("ip link set p0 nomaster; ip link set p1 nomaster");
        for spin in [0, 20, 100] {
            let config = EngineConfig { spin: Duration::from_micros(spin), ..Default::default() };
            let engine = patch_panel(config);
            for n in 0..2 {
                attach(&engine, n, Preference::Auto).unwrap();
            }
            let rate = lab.iperf(SECONDS, "");
            eprintln!("MTU {mtu:5}, spinning {spin:3} us: {rate:5.2} Gbit/s");
            assert_conserved(&engine.counters());
            engine.stop();
        }
    }
}

/// Small datagrams, to be profiled: `perf record -g` on the worker's thread says what a packet
/// costs here and what in the kernel.
#[test]
#[ignore = "a measurement, for a quiet machine"]
fn small_datagrams() {
    let lab = Lab::new(2, 1500, 1);
    for spin in [0, 20, 100] {
        let config = EngineConfig { spin: Duration::from_micros(spin), ..Default::default() };
        let engine = patch_panel(config);
        for n in 0..2 {
            attach(&engine, n, Preference::Auto).unwrap();
        }
        let before = engine.counters().ports[1].1.tx_frames;
        lab.iperf(3, "-u -b 0 -l 18");
        let counters = engine.counters();
        let sent = counters.ports[1].1.tx_frames - before;
        eprintln!("64-byte frames, spinning {spin:3} us: {:.0} kpps", sent as f64 / 3e3);
        assert_conserved(&counters);
        engine.stop();
    }
}
