//! Dying and coming back: pinned links, the kernel's path in between, and take-over.
//!
//! Needs root and a BPF file system.

mod common;

use common::{Lab, assert_conserved, attach, can_run, patch_panel, sh};
use fastpath::EngineConfig;
use fastpath::config::Preference;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

const PIN_DIR: &str = "FASTPATH_TEST_PIN_DIR";

fn config(pins: &Path) -> EngineConfig {
    EngineConfig { pin_dir: Some(pins.to_owned()), ..EngineConfig::default() }
}

/// Not a test of its own: the process that the test below kills.
#[test]
fn victim() {
    let Some(pins) = std::env::var_os(PIN_DIR) else { return };
    let engine = patch_panel(config(Path::new(&pins)));
    for n in 0..2 {
        assert!(attach(&engine, n, Preference::Auto).unwrap().pinned);
    }
    println!("\nready");
    loop {
        std::thread::park();
    }
}

fn start_victim(pins: &Path) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["victim", "--exact", "--nocapture"])
        .env(PIN_DIR, pins)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "ready"));
    child
}

/// The numbers of the pings that were not answered, of those before the last that was.
fn unanswered(text: &str) -> Vec<u32> {
    let numbers = text.split("icmp_seq=").skip(1);
    let answered: BTreeSet<u32> =
        numbers.filter_map(|t| t.split(' ').next()?.parse().ok()).collect();
    let last = answered.last().copied().unwrap();
    (1..=last).filter(|number| !answered.contains(number)).collect()
}

fn xdp_program(dev: &str) -> Option<String> {
    let link = sh(&format!("ip -d link show {dev}"));
    link.split("prog/xdp id ").nth(1).map(|rest| rest.split(' ').next().unwrap().to_owned())
}

#[test]
fn killed_the_kernel_takes_over_and_gives_back() {
    if !can_run() {
        return;
    }
    let lab = Lab::new(2, 1500, 1);
    // The kernel has a path of its own.
    sh("ip link add br0 type bridge forward_delay 0 && ip link set br0 up && \
        ip link set p0 master br0 && ip link set p1 master br0");
    let ping = || lab.at(0, "ping -c 3 -i 0.05 -W 1 10.0.0.2");
    ping();
    let mut victim = start_victim(&lab.pins());
    ping();
    let before = xdp_program("p0").unwrap();

    // A stream of pings from before the kill until after the take-over. With -w it goes on until so many are
    // answered: else it would wait for the last ones no longer than its interval.
    let pinger = Command::new("ip")
        .args(["netns", "exec", &lab.host(0), "ping", "-n", "-i", "0.005", "-c", "400", "-w", "20"])
        .arg("10.0.0.2")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(std::time::Duration::from_millis(500));
    let killed = Instant::now();
    victim.kill().unwrap();
    victim.wait().unwrap();
    let dying = killed.elapsed();
    assert_eq!(xdp_program("p0").as_ref(), Some(&before), "the link outlives the process");
    std::thread::sleep(std::time::Duration::from_millis(500));

    let engine = patch_panel(config(&lab.pins()));
    let begun = Instant::now();
    for n in 0..2 {
        let attached = attach(&engine, n, Preference::Auto).unwrap();
        assert!(attached.taken_over && attached.pinned);
    }
    let taking_over = begun.elapsed();
    let after = xdp_program("p0").unwrap();
    assert_ne!(before, after, "the program is the new process's");
    let text = String::from_utf8(pinger.wait_with_output().unwrap().stdout).unwrap();
    let lost = unanswered(&text);
    eprintln!("dying took {dying:?}, taking over {taking_over:?}; pings lost: {lost:?}");
    // What comes while the process is taken apart ends in its rings: on a busy machine that takes longer. Five
    // more are for the take-over, between the first port's and the second one's.
    let may = 5 + dying.as_millis() / 5;
    assert!(lost.len() as u128 <= may, "{lost:?}, {dying:?}, {taking_over:?}");
    let seen = engine.counters().ports[0].1.rx_frames;
    ping();
    let counters = engine.counters();
    assert!(counters.ports[0].1.rx_frames >= seen + 3, "the frames come to us again");
    assert_conserved(&counters);

    engine.stop();
    assert!(!lab.pins().exists());
    assert_eq!(xdp_program("p0"), None);
    ping();
}

#[test]
fn pins_of_interfaces_that_are_gone_do_no_harm() {
    if !can_run() {
        return;
    }
    let lab = Lab::new(2, 1500, 1);
    let mut victim = start_victim(&lab.pins());
    victim.kill().unwrap();
    victim.wait().unwrap();
    // p0 is another interface now; p1 is not attached any more.
    sh("ip link del p0");
    lab.join(0, 1500, 1);
    let engine = patch_panel(config(&lab.pins()));
    let attached = attach(&engine, 0, Preference::Auto).unwrap();
    assert!(attached.pinned && !attached.taken_over);
    assert!(xdp_program("p1").is_some());
    assert_eq!(engine.release_stale_pins(), ["p1"]);
    common::wait_for("the program to go", || xdp_program("p1").is_none());
    drop(engine);
    assert!(!lab.pins().exists());
}

#[test]
fn a_program_that_is_not_ours_is_left_alone() {
    if !can_run() {
        return;
    }
    let lab = Lab::new(1, 1500, 1);
    // Somebody else's: ours, pinned where this engine does not look.
    sh("ip link add p1 type veth peer name q1");
    let mut victim = start_victim(&lab.pins());
    let engine = patch_panel(EngineConfig::default());
    let error = attach(&engine, 0, Preference::Auto).unwrap_err().to_string();
    assert!(error.contains("p0: another XDP program (id "), "{error}");
    assert!(error.contains("ip link set dev p0 xdp off"), "{error}");
    victim.kill().unwrap();
    victim.wait().unwrap();
}
