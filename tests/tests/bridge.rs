//! A bridge of existing interfaces, with kernels at the other ends.

use std::time::Duration;

use podswitch_tests::{
    BRIDGE, Capture, Daemon, Hosts, Lab, Links, iperf, iperf_udp, ping, ping_all, send_frames,
    wait_until,
};

const BROADCAST: [u8; 6] = [0xff; 6];

/// A frame of 60 bytes with an EtherType for experiments (IEEE 802).
fn frame(to: [u8; 6], from: [u8; 6], mark: u8) -> Vec<u8> {
    let mut frame = [&to[..], &from[..], &[0x88, 0xb5, mark]].concat();
    frame.resize(60, 0);
    frame
}

fn station(n: u8) -> [u8; 6] {
    [0x02, 0, 0, 0, 0, n]
}

#[test]
fn the_smallest_configuration_joins_two_hosts() {
    let Some(lab) = Lab::new() else { return };
    let Hosts { switch, hosts } = Hosts::pair(&lab);
    let daemon = Daemon::start(&lab, &switch, BRIDGE);

    ping(&hosts[0], "10.9.0.2");
    ping(&hosts[1], "10.9.0.1");
    ping(&hosts[0], "fd00:9::2");
    for (family, address) in [("-4", "10.9.0.2"), ("-6", "fd00:9::2")] {
        let neighbours = hosts[0].ip(&format!("{family} neigh show {address}"));
        let mac = hosts[1].mac("eth0");
        assert!(neighbours.contains(&mac), "ARP and ND pass the bridge: {neighbours}");
    }
    let fdb = daemon.json("fdb list").to_string();
    assert!(fdb.contains(&hosts[0].mac("eth0")) && fdb.contains(&hosts[1].mac("eth0")), "{fdb}");
    daemon.finish();
}

#[test]
fn tcp_and_udp_streams_pass() {
    let Some(lab) = Lab::new() else { return };
    let Hosts { switch, hosts } = Hosts::pair(&lab);
    let daemon = Daemon::start(&lab, &switch, BRIDGE);

    ping(&hosts[0], "10.9.0.2");
    for (to, options) in
        [("10.9.0.2", ""), ("10.9.0.2", "--reverse"), ("fd00:9::2", "--parallel 4")]
    {
        let end = iperf(&hosts[0], &hosts[1], to, options);
        let bits = end["sum_received"]["bits_per_second"].as_f64().expect("a number");
        assert!(bits > 50e6, "{bits} bit/s to {to} {options}");
    }
    iperf_udp(&hosts[0], &hosts[1], "10.9.0.2", "--bitrate 5M --length 1400");
    daemon.finish();
}

/// By raw frames: not every kernel has VLAN devices.
#[test]
fn vlan_tagged_frames_are_carried_as_they_are() {
    let Some(lab) = Lab::new() else { return };
    let Hosts { switch, hosts } = Hosts::silent(&lab, 2);
    let daemon = Daemon::start(&lab, &switch, BRIDGE);
    let tagged = |tags: &[[u8; 4]], size| {
        let plain = frame(station(2), station(1), 7);
        let mut frame = [&plain[..12], &tags.concat(), &plain[12..]].concat();
        frame.resize(size, 0xaa);
        frame
    };
    let (customer, service) = ([0x81, 0x00, 0xb0, 0x2a], [0x88, 0xa8, 0x00, 0x07]);
    let frames = [
        tagged(&[customer], 60),
        tagged(&[customer], 1518),
        tagged(&[service, customer], 64),
        tagged(&[customer, customer, customer], 80),
    ];

    let capture = Capture::start(&hosts[1], "eth0");
    send_frames(&hosts[0], "eth0", &frames);
    assert_eq!(capture.end(), frames);
    daemon.finish();
}

#[test]
fn frames_of_64_kib_pass() {
    let Some(lab) = Lab::new() else { return };
    let Hosts { switch, hosts } = Hosts::new(&lab, 2, Links { mtu: 65535, queues: 1 });
    let daemon = Daemon::start(&lab, &switch, BRIDGE);

    ping(&hosts[0], "10.9.0.2");
    for size in [1472, 4000, 9000, 65507] {
        ping_all(&hosts[0], 3, "10.9.0.2", &format!("-M do -s {size}"));
    }
    iperf(&hosts[0], &hosts[1], "10.9.0.2", "");
    daemon.finish();
}

#[test]
fn unknown_destinations_are_flooded_and_known_ones_are_not() {
    let Some(lab) = Lab::new() else { return };
    let Hosts { switch, hosts } = Hosts::silent(&lab, 3);
    let config = format!("{BRIDGE}[[port]]\ndev = \"eth3\"\n");
    let daemon = Daemon::start(&lab, &switch, &config);
    let captures: Vec<_> = hosts.iter().map(|host| Capture::start(host, "eth0")).collect();

    send_frames(&hosts[0], "eth0", &[frame(station(2), station(1), 1)]); // station 2 is unknown
    send_frames(&hosts[1], "eth0", &[frame(station(1), station(2), 2)]); // station 1 is known
    send_frames(&hosts[0], "eth0", &[frame(station(2), station(1), 3)]); // and now 2 is
    send_frames(&hosts[2], "eth0", &[frame(BROADCAST, station(3), 4)]);

    let marks = |frames: Vec<Vec<u8>>| frames.iter().map(|f| f[14]).collect::<Vec<u8>>();
    let seen: Vec<_> = captures.into_iter().map(|capture| marks(capture.end())).collect();
    assert_eq!(seen, [vec![2, 4], vec![1, 3, 4], vec![1]]);
    daemon.finish();
}

#[test]
fn segments_are_apart_whatever_the_frame() {
    let Some(lab) = Lab::new() else { return };
    let Hosts { switch, hosts } = Hosts::silent(&lab, 4);
    let config = "[[segment]]\nname = \"blue\"\n\
        [[port]]\ndev = \"eth1\"\n[[port]]\ndev = \"eth2\"\n\
        [[port]]\ndev = \"eth3\"\nsegment = \"blue\"\n[[port]]\ndev = \"eth4\"\nsegment = \"blue\"\n";
    let daemon = Daemon::start(&lab, &switch, config);
    let captures: Vec<_> = hosts.iter().map(|host| Capture::start(host, "eth0")).collect();

    // The same station in both segments, and one that only the other segment knows.
    send_frames(&hosts[1], "eth0", &[frame(BROADCAST, station(1), 1)]);
    send_frames(&hosts[3], "eth0", &[frame(BROADCAST, station(1), 2)]);
    send_frames(&hosts[0], "eth0", &[frame(station(1), station(2), 3)]);
    send_frames(&hosts[2], "eth0", &[frame(station(1), station(3), 4)]);
    send_frames(&hosts[2], "eth0", &[frame(station(2), station(3), 5)]);

    let marks = |frames: Vec<Vec<u8>>| frames.iter().map(|f| f[14]).collect::<Vec<u8>>();
    let seen: Vec<_> = captures.into_iter().map(|capture| marks(capture.end())).collect();
    assert_eq!(seen, [vec![1], vec![3], vec![2], vec![4, 5]]);
    daemon.finish();
}

#[test]
fn static_entries_win_over_learned_ones() {
    let Some(lab) = Lab::new() else { return };
    let Hosts { switch, hosts } = Hosts::silent(&lab, 3);
    let config = format!("{BRIDGE}[[port]]\ndev = \"eth3\"\n");
    let daemon = Daemon::start(&lab, &switch, &config);
    daemon.cli("fdb add 02:00:00:00:00:02 --port eth2");
    let captures: Vec<_> = hosts.iter().map(|host| Capture::start(host, "eth0")).collect();

    send_frames(&hosts[2], "eth0", &[frame(station(1), station(2), 1)]); // pretends to be station 2
    send_frames(&hosts[0], "eth0", &[frame(station(2), station(1), 2)]);

    let counts: Vec<_> =
        captures.into_iter().map(|c| c.end().iter().filter(|f| f[14] == 2).count()).collect();
    assert_eq!(counts, [0, 1, 0]);
    daemon.finish();
}

#[test]
fn learned_addresses_age_and_can_be_flushed() {
    let Some(lab) = Lab::new() else { return };
    let Hosts { switch, hosts } = Hosts::silent(&lab, 2);
    let daemon = Daemon::start(&lab, &switch, &BRIDGE.replace("[switch]", "[switch]\nageing = 2"));
    let known = |n| daemon.json("fdb list").to_string().contains(&format!("02:00:00:00:00:0{n}"));

    send_frames(&hosts[0], "eth0", &[frame(BROADCAST, station(1), 0)]);
    wait_until("the address is learned", Duration::from_secs(1), || known(1));
    wait_until("the address is forgotten", Duration::from_secs(8), || !known(1));

    send_frames(&hosts[1], "eth0", &[frame(BROADCAST, station(2), 0)]);
    wait_until("the address is learned", Duration::from_secs(1), || known(2));
    daemon.cli("fdb flush");
    assert!(!known(2));
    daemon.finish();
}
