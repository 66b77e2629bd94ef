//! The same frames through a podswitch and through the kernel's bridge: what comes out must be
//! the same. scapy builds the frames.

use podswitch_tests::{BRIDGE, Capture, Daemon, Hosts, Lab, Netns, frames_of, send_frames, tool};

/// What each of the other hosts receives when the first sends the frames.
fn received(hosts: &[Netns], frames: &[Vec<u8>]) -> Vec<Vec<Vec<u8>>> {
    let captures: Vec<_> = hosts[1..].iter().map(|host| Capture::start(host, "eth0")).collect();
    send_frames(&hosts[0], "eth0", frames);
    captures.into_iter().map(Capture::end).collect()
}

fn through_the_kernel(lab: &Lab, frames: &[Vec<u8>]) -> Vec<Vec<Vec<u8>>> {
    let Hosts { switch, hosts } = Hosts::silent(lab, 3);
    // Where br_netfilter is loaded it drops malformed IP, which is a firewall's business.
    for hook in ["iptables", "ip6tables", "arptables"] {
        switch.try_sh(&format!("sysctl -qw net.bridge.bridge-nf-call-{hook}=0"));
    }
    switch.ip("link add br0 type bridge mcast_snooping 0");
    switch.ip("link set br0 up");
    for n in 1..=3 {
        switch.ip(&format!("link set eth{n} master br0"));
    }
    received(&hosts, frames)
}

fn through_podswitch(lab: &Lab, frames: &[Vec<u8>]) -> Vec<Vec<Vec<u8>>> {
    let Hosts { switch, hosts } = Hosts::silent(lab, 3);
    let daemon = Daemon::start(lab, &switch, &format!("{BRIDGE}[[port]]\ndev = \"eth3\"\n"));
    let frames = received(&hosts, frames);
    daemon.finish();
    frames
}

#[test]
fn odd_frames_fare_as_in_the_kernels_bridge() {
    let Some(lab) = Lab::new() else { return };
    let named = frames_of(&tool("odd_frames.py"));
    let frames: Vec<Vec<u8>> = named.iter().map(|(_, frame)| frame.clone()).collect();

    let expected = through_the_kernel(&lab, &frames);
    let seen = through_podswitch(&lab, &frames);

    assert!(
        expected.iter().all(|host| host.len() > 40),
        "the kernel's bridge forwarded too little"
    );
    let name =
        |frame: &Vec<u8>| named.iter().find(|(_, f)| f == frame).map_or("?", |(name, _)| name);
    for (host, (expected, seen)) in expected.iter().zip(&seen).enumerate() {
        let names = |frames: &[Vec<u8>]| frames.iter().map(name).collect::<Vec<_>>().join("\n");
        assert_eq!(names(seen), names(expected), "at host {}, by name", host + 2);
        assert_eq!(seen, expected, "at host {}, by their bytes", host + 2);
    }
}
