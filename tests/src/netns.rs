//! Network namespaces, and the veth pairs between them.

use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sched::{CloneFlags, setns};

use crate::command::{Background, Finished, run};
use crate::lab::Lab;
use crate::rates::receives;

/// Which namespace a file is.
pub(crate) fn inode(path: &Path) -> Option<u64> {
    std::fs::metadata(path).ok().map(|meta| meta.ino())
}

/// Where a daemon in a namespace keeps its pins.
pub(crate) fn pins(inode: u64) -> PathBuf {
    Path::new("/sys/fs/bpf/podswitch").join(inode.to_string())
}

/// A network namespace. Dropping its last clone kills what runs in it and removes it with all its
/// links. If its kernel received TCP, UDP or ICMP with a wrong checksum meanwhile, the test fails.
#[derive(Debug, Clone)]
pub struct Netns(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: String,
    path: PathBuf,
    /// A test sends packets with wrong checksums here.
    forgives: AtomicBool,
}

impl Netns {
    pub(crate) fn new(name: &str) -> Netns {
        run(&["ip", "netns", "add", name]).success();
        let path = Path::new("/run/netns").join(name);
        let forgives = AtomicBool::new(false);
        let netns = Netns(Arc::new(Inner { name: name.to_owned(), path, forgives }));
        netns.ip("link set lo up");
        netns
    }

    /// The namespace's name, as `ip netns` knows it.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Lets the namespace's kernel receive wrong checksums, which fail a test otherwise.
    pub fn forgive_checksums(&self) {
        self.0.forgives.store(true, Ordering::Relaxed);
    }

    /// The namespace as a file.
    pub fn path(&self) -> &str {
        self.0.path.to_str().expect("made of ASCII")
    }

    /// Where a daemon in this namespace keeps its pins.
    pub fn pins(&self) -> PathBuf {
        pins(inode(&self.0.path).expect("the namespace is there"))
    }

    /// The command line that runs words in here. nsenter, not `ip netns exec`: that would mount
    /// another /sys, without bpffs.
    pub fn words(&self, words: &[&str]) -> Vec<String> {
        let enter = ["nsenter".to_owned(), format!("--net={}", self.path())];
        enter.into_iter().chain(words.iter().map(|w| (*w).to_owned())).collect()
    }

    /// Runs a command line, split at spaces, to its end.
    pub fn try_sh(&self, line: &str) -> Finished {
        run(&self.words(&line.split_whitespace().collect::<Vec<_>>()))
    }

    /// Runs a command line, split at spaces, which must end with 0. Gives what it printed.
    #[track_caller]
    pub fn sh(&self, line: &str) -> String {
        self.try_sh(line).success()
    }

    /// Starts a command line, split at spaces, in the background.
    pub fn spawn(&self, line: &str) -> Background {
        Background::start(&self.words(&line.split_whitespace().collect::<Vec<_>>()))
    }

    /// The `ip` command on this namespace. Gives what it printed.
    #[track_caller]
    pub fn ip(&self, line: &str) -> String {
        let words: Vec<&str> =
            ["ip", "-n", self.name()].into_iter().chain(line.split(' ')).collect();
        run(&words).success()
    }

    /// The rate at which `eth0` in here receives in the next `window`: bits per second of Ethernet frames.
    #[track_caller]
    pub fn receives(&self, window: Duration) -> f64 {
        receives(|line| self.sh(line), window)
    }

    /// Sets one of the namespace's kernel settings, such as `net.ipv4.ip_forward`.
    #[track_caller]
    pub fn sysctl(&self, key: &str, value: &str) {
        let path = format!("/proc/sys/{}", key.replace('.', "/"));
        let words = self.words(&["sh", "-c", &format!("echo {value} > {path}")]);
        run(&words).success();
    }

    /// The names of the interfaces in here.
    pub fn links(&self) -> Vec<String> {
        let name = |line: &str| Some(line.split(": ").nth(1)?.split('@').next()?.to_owned());
        self.ip("-o link show").lines().filter_map(name).collect()
    }

    /// The MAC address of an interface in here.
    ///
    /// # Panics
    /// When there is no such interface.
    pub fn mac(&self, dev: &str) -> String {
        let text = self.ip(&format!("-o link show dev {dev}"));
        let after = text.split("link/ether ").nth(1).expect("an Ethernet interface");
        after.split(' ').next().expect("split gives at least one").to_owned()
    }

    /// Runs a closure on a thread of this namespace, so that the sockets it opens belong here.
    ///
    /// # Panics
    /// When the namespace cannot be entered, or the closure panics.
    pub fn enter<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        let file = std::fs::File::open(&self.0.path).expect("the namespace is there");
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                setns(file.as_fd(), CloneFlags::CLONE_NEWNET).expect("entering the namespace");
                f()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let wrong = wrong_checksums(&self.path);
        // A test that fails may leave processes and pins; nothing here may panic again.
        if let Ok(meta) = std::fs::metadata(&self.path) {
            let pins = Path::new("/sys/fs/bpf/podswitch").join(meta.ino().to_string());
            let _ = std::fs::remove_dir_all(pins);
        }
        for pid in run(&["ip", "netns", "pids", &self.name]).stdout.split_whitespace() {
            run(&["kill", "-9", pid]);
        }
        run(&["ip", "netns", "delete", &self.name]);
        if !self.forgives.load(Ordering::Relaxed) && !std::thread::panicking() {
            assert!(wrong.is_empty(), "{} received wrong checksums: {wrong:?}", self.name);
        }
    }
}

/// What the namespace's kernel counts of received packets with a wrong checksum, those that it does
/// count: `TcpInCsumErrors`, `Icmp6InCsumErrors` and so on (proc_net_snmp(5)).
fn wrong_checksums(netns: &Path) -> Vec<String> {
    let enter = format!("--net={}", netns.display());
    let text = run(&["nsenter", &enter, "cat", "/proc/net/snmp", "/proc/net/snmp6"]).stdout;
    let mut found = Vec::new();
    let mut names: Vec<&str> = Vec::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            // snmp6 has a name and a value on each line, snmp a line of names, then one of values.
            [name, value] if name.ends_with("InCsumErrors") => {
                found.push((name.to_owned(), value.to_owned()));
            }
            [_, first, ..] if first.parse::<i64>().is_err() => names = words,
            [kind, ..] if names.first() == Some(&kind) => {
                let values = names.iter().zip(&words).filter(|(name, _)| **name == "InCsumErrors");
                let kind = kind.trim_end_matches(':');
                found.extend(values.map(|(name, n)| (format!("{kind}{name}"), (*n).to_owned())));
            }
            _ => {}
        }
    }
    let wrong = found.into_iter().filter(|(_, value)| value != "0");
    wrong.map(|(name, value)| format!("{name} {value}")).collect()
}

/// Joins two namespaces by a veth pair with the given interface names; both ends are up.
#[track_caller]
pub fn join(one: &Netns, one_dev: &str, other: &Netns, other_dev: &str) {
    let peer = other.name();
    one.ip(&format!("link add {one_dev} type veth peer name {other_dev} netns {peer}"));
    one.ip(&format!("link set {one_dev} up"));
    other.ip(&format!("link set {other_dev} up"));
}

/// A node whose kernel forwards, and a machine beyond it: `up0` of the node with 192.0.2.1/24 leads to `eth0` of
/// the other with 192.0.2.9/24, which has no routes to pods.
#[track_caller]
pub fn node_and_outside(lab: &Lab) -> [Netns; 2] {
    let (node, outside) = (lab.netns("node"), lab.netns("outside"));
    join(&node, "up0", &outside, "eth0");
    node.ip("address add 192.0.2.1/24 dev up0");
    outside.ip("address add 192.0.2.9/24 dev eth0");
    node.sysctl("net.ipv4.ip_forward", "1");
    [node, outside]
}
