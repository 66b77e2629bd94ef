//! The demo removes what it made, also when it is interrupted. (`make demo` runs it to its end.)

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use podswitch_tests::{Lab, podswitch_path, run, wait_until};

/// Starts the demo, sends it a signal once its output contains `moment`, and asserts that nothing
/// of it is left.
fn interrupted(moment: &str, signal: Signal) {
    let Some(lab) = Lab::new() else { return };
    let output = lab.folder().join("demo.log");
    let log = std::fs::File::create(&output).expect("creating the log");
    let mut demo = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../demo/run"))
        .env("PODSWITCH_BIN", podswitch_path())
        .stdout(log)
        .stderr(Stdio::null())
        .spawn()
        .expect("starting the demo");
    let said = || std::fs::read_to_string(&output).unwrap_or_default();
    wait_until(&format!("the demo says {moment}"), Duration::from_secs(20), || {
        assert_eq!(demo.try_wait().expect("asking for its state"), None, "it ended: {}", said());
        said().contains(moment)
    });

    kill(Pid::from_raw(demo.id().cast_signed()), signal).expect("the demo runs");
    let status = demo.wait().expect("waiting for the demo");
    assert_eq!(status.code(), Some(130), "{}", said());
    let prefix = format!("psd-{}-", demo.id());
    let namespaces = run(&["ip", "netns", "list"]).success();
    assert!(!namespaces.contains(&prefix), "{namespaces}");
    assert_eq!(
        processes_that_name(&prefix),
        Vec::<String>::new(),
        "processes of the demo are left"
    );
}

/// The command lines of running processes that contain a text.
fn processes_that_name(text: &str) -> Vec<String> {
    let entries = std::fs::read_dir("/proc").expect("reading /proc").filter_map(Result::ok);
    // A process may end while this looks.
    let lines = entries.filter_map(|e| std::fs::read(e.path().join("cmdline")).ok());
    lines
        .map(|line| String::from_utf8_lossy(&line).into_owned())
        .filter(|l| l.contains(text))
        .collect()
}

#[test]
fn interrupted_while_it_builds() {
    interrupted("namespaces: two nodes", Signal::SIGTERM);
}

#[test]
fn interrupted_while_packets_flow() {
    interrupted("On one node", Signal::SIGINT);
}
