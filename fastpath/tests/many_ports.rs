//! As many ports as the defaults promise room for.
//!
//! Needs root.

mod common;

use common::{Lab, assert_conserved, attach, can_run, patch_panel, sh, wait_for};
use fastpath::EngineConfig;
use fastpath::config::Preference;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use switch::DropReason;

/// Frames from the far ends of veth pairs `p0`, `p1`, … to their near ends.
struct Senders(Vec<OwnedFd>);

impl Senders {
    fn new(n: usize) -> Senders {
        Senders((0..n).map(|n| packet_socket(&format!("q{n}"))).collect())
    }

    /// Sends one frame of `len` bytes; whether the kernel took it.
    fn send(&self, n: usize, len: usize) -> bool {
        let mut frame = vec![0x5a; len];
        frame[..14].copy_from_slice(&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5]);
        nix::unistd::write(&self.0[n], &frame).is_ok()
    }
}

fn packet_socket(dev: &str) -> OwnedFd {
    use nix::libc;
    let index = nix::net::if_::if_nametoindex(dev).unwrap();
    // SAFETY: no pointers are passed.
    let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    assert!(fd >= 0);
    // SAFETY: a new descriptor that nobody else has.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: any bit pattern is a legal address.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_ifindex = index as i32;
    let len = size_of_val(&address) as u32;
    // SAFETY: the kernel reads `len` bytes of the address, which has as many.
    let r = unsafe { libc::bind(fd.as_raw_fd(), std::ptr::from_ref(&address).cast(), len) };
    assert_eq!(r, 0);
    fd
}

/// As many ports as the defaults promise room for: each has its floor, whatever one of them is sent, and
/// gets the largest frame through.
#[test]
fn two_hundred_and_fifty_six_ports_at_the_defaults() {
    const PORTS: usize = 256;
    if !can_run() {
        return;
    }
    let _lab = Lab::new(0, 1500, 1);
    let hush = "net.ipv6.conf.default.disable_ipv6=1";
    let pairs: String = (0..PORTS)
        .map(|n| format!("link add p{n} up mtu 65535 type veth peer name q{n}\n"))
        .chain((0..PORTS).map(|n| format!("link set q{n} up mtu 65535\n")))
        .collect();
    sh(&format!("sysctl -qw {hush} && ip -batch - <<END\n{pairs}END"));
    let engine = patch_panel(EngineConfig::default());
    for n in 0..PORTS as u16 {
        attach(&engine, n, Preference::Auto).unwrap();
    }
    let senders = Senders::new(PORTS);
    let seen = |n: usize| {
        let port = &engine.counters().ports[n].1;
        (port.rx_frames, port.dropped_as(DropReason::NoBuffer), port.kernel.rx_dropped)
    };
    let stop = AtomicBool::new(false);
    std::thread::scope(|s| {
        s.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                senders.send(0, 1514);
            }
        });
        // What the first ports held while there was plenty has come back.
        std::thread::sleep(Duration::from_secs(2));
        engine.collect();
        for n in (2..PORTS).step_by(9) {
            let before = seen(n);
            for _ in 0..12 {
                assert!(senders.send(n, 60));
            }
            let after = (before.0 + 12, before.1, before.2);
            wait_for("the burst", || seen(n).0 >= after.0);
            assert_eq!(seen(n), after, "port {n}: a burst of its floor, nothing lost");
        }
        stop.store(true, Ordering::Relaxed);
    });
    let stop = AtomicBool::new(false);
    std::thread::scope(|s| {
        s.spawn(|| {
            // As the daemon does.
            while !stop.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_secs(1));
                engine.collect();
            }
        });
        for n in (0..PORTS).step_by(3) {
            let (mut tries, before) = (0, seen(n));
            wait_for("a frame of 64 KiB", || {
                tries += 1;
                senders.send(n, 65_549);
                std::thread::sleep(Duration::from_millis(if tries == 1 { 2 } else { 50 }));
                let now = seen(n);
                assert_eq!(now.2, before.2, "port {n}: none is lost where nobody sees it");
                now.0 - now.1 > before.0 - before.1
            });
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_conserved(&engine.counters());
}
