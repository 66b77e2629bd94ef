//! The benches remove what they made, also when they are interrupted or nobody reads what they say.

use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use podswitch_tests::{Lab, podswitch_path, run, wait_until};

const BENCH: &str = env!("CARGO_BIN_EXE_podswitch-bench-e2e");

/// A bench that has a daemon, all its output into pipes.
fn started(lab: &Lab) -> Child {
    // Who runs the tests may have them ignore SIGHUP, as nohup does, and the bench would, too.
    let bench = Command::new("env")
        .args(["--default-signal=HUP", BENCH])
        .args(["--only", "stream", "--rounds", "1", "--seconds", "1", "--out"])
        .arg(lab.folder())
        .env("PODSWITCH_BIN", podswitch_path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starting the bench");
    wait_until("the bench has a daemon", Duration::from_secs(30), || {
        let named = processes_of(&bench);
        named.iter().any(|line| line.contains(" run --config "))
    });
    bench
}

/// The command lines of processes that name one of its namespaces or folders.
fn processes_of(bench: &Child) -> Vec<String> {
    let prefix = format!("pst-{}-", bench.id());
    let entries = std::fs::read_dir("/proc").expect("reading /proc").filter_map(Result::ok);
    // A process may end while this looks.
    let lines = entries.filter_map(|e| std::fs::read(e.path().join("cmdline")).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    lines.filter(|line| line.contains(&prefix)).collect()
}

/// Waits for its end; nothing of it is left then.
fn leaves_nothing(mut bench: Child) -> ExitStatus {
    let mut status = None;
    wait_until("the bench ends", Duration::from_secs(30), || {
        status = bench.try_wait().expect("asking for its state");
        status.is_some()
    });
    assert_eq!(processes_of(&bench), Vec::<String>::new(), "processes are left");
    let prefix = format!("pst-{}-", bench.id());
    for folder in [Path::new("/run/netns"), &std::env::temp_dir()] {
        let entries = std::fs::read_dir(folder).expect("reading a folder").filter_map(Result::ok);
        let mut names = entries.map(|e| e.file_name().to_string_lossy().into_owned());
        assert_eq!(names.find(|n| n.starts_with(&prefix)), None, "left in {}", folder.display());
    }
    status.expect("waited for")
}

#[test]
fn a_signal_ends_it_and_all_that_it_started() {
    let Some(lab) = Lab::new() else { return };
    for (signal, code) in [("-INT", 130), ("-TERM", 143), ("-HUP", 129)] {
        let bench = started(&lab);
        run(&["kill", signal, &bench.id().to_string()]).success();
        assert_eq!(leaves_nothing(bench).code(), Some(code), "{signal}");
    }
}

/// As behind `| head`, and where the terminal is gone without a signal.
#[test]
fn closed_pipes_end_it_and_all_that_it_started() {
    let Some(lab) = Lab::new() else { return };
    let mut bench = started(&lab);
    bench.stdout = None;
    bench.stderr = None;
    assert!(!leaves_nothing(bench).success());
}
