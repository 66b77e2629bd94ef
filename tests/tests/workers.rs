//! Two workers, each with its queue of every port.

use podswitch_tests::{BRIDGE, Daemon, Hosts, Lab, Links, iperf, iperf_udp, ping};

#[test]
fn two_workers_share_the_ports() {
    let Some(lab) = Lab::new() else { return };
    let Hosts { switch, hosts } = Hosts::new(&lab, 2, Links { mtu: 1500, queues: 2 });
    let daemon = Daemon::start(&lab, &switch, &BRIDGE.replace("workers = 1", "workers = 2"));

    ping(&hosts[0], "10.9.0.2");
    ping(&hosts[1], "fd00:9::1");
    iperf(&hosts[0], &hosts[1], "10.9.0.2", "--parallel 8");
    iperf(&hosts[0], &hosts[1], "fd00:9::2", "--parallel 8 --reverse");
    iperf_udp(&hosts[0], &hosts[1], "10.9.0.2", "--bitrate 2M --length 1400 --parallel 8");

    let status = daemon.json("show status");
    assert_eq!(status["workers"].as_array().map(Vec::len), Some(2), "{status}");
    let ports = daemon.json("port list");
    assert!(ports.as_array().is_some_and(|p| p.iter().all(|p| p["queues"] == 2)), "{ports}");
    daemon.finish();
}
