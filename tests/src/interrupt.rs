//! What an interrupted run leaves to be done: SIGINT, SIGTERM and SIGHUP end a process without a `Drop`, and a
//! namespace outlives the process that made it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Once, OnceLock};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::netns::{inode, pins};

/// Set by the signal's handler itself: what a dying child brings about comes later.
static INTERRUPTED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// Makes those signals remove what this process's labs made, and end it with 128 and the signal's number, as a
/// shell has it.
pub(crate) fn clean_up() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // A run under nohup goes on.
        let nohup = is_ignored(SIGHUP);
        let wanted = [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|s| *s != SIGHUP || !nohup);
        let wanted: Vec<i32> = wanted.collect();
        let flag = INTERRUPTED.get_or_init(Arc::default);
        for &signal in &wanted {
            signal_hook::flag::register(signal, flag.clone()).expect("handling a signal");
        }
        let mut signals = Signals::new(&wanted).expect("handling signals");
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            rest_if_interrupted();
            before(panic);
        }));
        std::thread::spawn(move || {
            if let Some(signal) = signals.forever().next() {
                remove_all();
                std::process::exit(128 + signal);
            }
        });
    });
}

/// Never returns once a signal came: the thread would only make new what is being removed, or fail for what is
/// gone and end the process before all is.
pub(crate) fn rest_if_interrupted() {
    while INTERRUPTED.get().is_some_and(|flag| flag.load(Ordering::Acquire)) {
        std::thread::park();
    }
}

fn is_ignored(signal: i32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|m| u64::from_str_radix(m.trim(), 16).ok()).unwrap_or(0);
    mask >> (signal - 1) & 1 == 1
}

/// Until nothing is found: a thread may have been about to make a namespace.
fn remove_all() {
    const ATTEMPTS: u32 = 100;
    let prefix = format!("pst-{}-", std::process::id());
    for _ in 0..ATTEMPTS {
        let namespaces = named(Path::new("/run/netns"), &prefix);
        let processes: BTreeSet<i32> =
            descendants().into_iter().chain(inside(&namespaces)).collect();
        if namespaces.is_empty() && processes.is_empty() {
            break;
        }
        for pid in processes {
            // One that has just ended needs no signal.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        for namespace in &namespaces {
            remove(namespace);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    for folder in named(&std::env::temp_dir(), &prefix) {
        // What remains of it is harmless; `make clean-host` removes it too.
        let _ = fs::remove_dir_all(folder);
    }
}

fn named(folder: &Path, prefix: &str) -> Vec<PathBuf> {
    // Folders of labs end without the last hyphen, `pst-7-0`, and begin with all of the prefix.
    let entries = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let named = entries.filter(|e| e.file_name().to_string_lossy().starts_with(prefix));
    named.map(|e| e.path()).collect()
}

/// Removes a namespace and the pins of a daemon in it.
fn remove(namespace: &Path) {
    if let Some(inode) = inode(namespace) {
        let _ = fs::remove_dir_all(pins(inode));
    }
    // Not by `run`, which rests now. What fails is tried again.
    let _ = Command::new("timeout")
        .args(["5", "ip", "netns", "delete"])
        .args(namespace.file_name())
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .status();
}

/// The processes in namespaces, this one aside: its threads that are there end with it.
fn inside(namespaces: &[PathBuf]) -> Vec<i32> {
    let wanted: BTreeSet<u64> = namespaces.iter().filter_map(|n| inode(n)).collect();
    let is_inside = |pid: &i32| {
        inode(Path::new(&format!("/proc/{pid}/ns/net"))).is_some_and(|n| wanted.contains(&n))
    };
    let own = std::process::id().cast_signed();
    processes().map(|(pid, _)| pid).filter(|pid| *pid != own).filter(is_inside).collect()
}

/// The processes that this one started, and theirs, as far as they live.
fn descendants() -> Vec<i32> {
    let all: Vec<(i32, i32)> = processes().collect();
    let mut found = vec![std::process::id().cast_signed()];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        found.extend(all.iter().filter(|(_, ppid)| *ppid == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    found.split_off(1)
}

/// All that live, each with its parent.
fn processes() -> impl Iterator<Item = (i32, i32)> {
    let entries = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    entries.filter_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        // The name before may have spaces and parentheses: state, parent, …
        let mut words = stat.rsplit_once(')')?.1.split_whitespace();
        let lives = words.next()? != "Z";
        lives.then_some((pid, words.next()?.parse().ok()?))
    })
}
