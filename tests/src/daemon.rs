//! A podswitch under test, in a network namespace.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::command::{Finished, exit_code, run, wait_until};
use crate::counters::Counters;
use crate::lab::Lab;
use crate::netns::Netns;

const READY_WITHIN: Duration = Duration::from_secs(10);
const STOPPED_WITHIN: Duration = Duration::from_secs(5);

/// The binary under test: `PODSWITCH_BIN`, else what `cargo build` left in the target folder.
pub fn podswitch_path() -> PathBuf {
    if let Some(path) = std::env::var_os("PODSWITCH_BIN") {
        return path.into();
    }
    let program = std::env::current_exe().expect("a running program has a path");
    // A program is beside it in target/PROFILE, a test in target/PROFILE/deps.
    let folder = program.parent().expect("a program is in a folder");
    let folder = if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder };
    folder.join("podswitch")
}

/// Runs a podswitch command to its end.
pub fn podswitch(words: &[&str]) -> Finished {
    let path = podswitch_path();
    assert!(path.exists(), "{} is missing: run `cargo build -p podswitch`", path.display());
    let path = path.to_str().expect("the target folder's path is UTF-8").to_owned();
    run(&[&[path.as_str()], words].concat())
}

/// A running podswitch. Dropped without [`Daemon::finish`], as when a test fails, it is killed
/// and its log printed.
#[derive(Debug)]
pub struct Daemon {
    netns: Netns,
    child: Child,
    socket: PathBuf,
    log: PathBuf,
    links_before: Vec<String>,
    finished: bool,
}

impl Daemon {
    /// Starts a podswitch in a namespace and waits until it says that it is ready. The
    /// configuration is TOML without `socket`, which is added here.
    ///
    /// # Panics
    /// When it ends instead, or takes longer than ten seconds.
    #[track_caller]
    pub fn start(lab: &Lab, netns: &Netns, config: &str) -> Daemon {
        Daemon::start_binary(&podswitch_path(), lab, netns, config)
    }

    /// As [`Daemon::start`], with a binary of choice: another version, to compare with.
    ///
    /// # Panics
    /// As there.
    #[track_caller]
    pub fn start_binary(binary: &Path, lab: &Lab, netns: &Netns, config: &str) -> Daemon {
        Daemon::start_words(&[binary.as_os_str()], lab, netns, config)
    }

    /// As [`Daemon::start`], on a machine without the programs that a podswitch may execute, such as `nft`.
    ///
    /// # Panics
    /// As there.
    #[track_caller]
    pub fn start_without_tools(lab: &Lab, netns: &Netns, config: &str) -> Daemon {
        let binary = podswitch_path();
        let words = ["env".as_ref(), "PATH=/nonexistent".as_ref(), binary.as_os_str()];
        Daemon::start_words(&words, lab, netns, config)
    }

    #[track_caller]
    fn start_words(command: &[&OsStr], lab: &Lab, netns: &Netns, config: &str) -> Daemon {
        let name = netns.name().rsplit('-').next().expect("rsplit gives at least one");
        let file = lab.write(&format!("{name}.toml"), &with_socket(config, &socket_of(lab, netns)));
        let notify_path = lab.folder().join(format!("{name}.notify"));
        // A daemon started again in the same namespace uses the same name.
        let _ = std::fs::remove_file(&notify_path);
        let notify = UnixDatagram::bind(&notify_path).expect("binding the notification socket");
        notify.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout is allowed");

        let log = lab.folder().join(format!("{name}.log"));
        let stderr = File::options().create(true).append(true).open(&log).expect("opening the log");
        let links_before = netns.links();
        let words = netns.words(&[]);
        let child = Command::new(&words[0])
            .args(&words[1..])
            .args(command)
            .args(["run", "--config"])
            .arg(&file)
            .env("NOTIFY_SOCKET", &notify_path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .expect("starting podswitch");
        let socket = socket_of(lab, netns);
        let mut daemon =
            Daemon { netns: netns.clone(), child, socket, log, links_before, finished: false };
        daemon.wait_until_ready(&notify);
        daemon
    }

    #[track_caller]
    fn wait_until_ready(&mut self, notify: &UnixDatagram) {
        let deadline = Instant::now() + READY_WITHIN;
        let mut message = [0; 1024];
        while Instant::now() < deadline {
            if let Ok(n) = notify.recv(&mut message)
                && String::from_utf8_lossy(&message[..n]).lines().any(|l| l == "READY=1")
            {
                return;
            }
            if let Some(status) = self.child.try_wait().expect("asking for the daemon's state") {
                panic!("podswitch ended with {status}");
            }
        }
        panic!("podswitch was not ready within {READY_WITHIN:?}");
    }

    /// The path of the control socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The daemon's process.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// What the daemon logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Runs a podswitch command, split at spaces, on this daemon.
    pub fn try_cli(&self, line: &str) -> Finished {
        let socket = self.socket.to_str().expect("made of ASCII");
        let words = line.split_whitespace();
        podswitch(&["--socket", socket].into_iter().chain(words).collect::<Vec<_>>())
    }

    /// Runs a podswitch command, which must end with 0. Gives what it printed.
    #[track_caller]
    pub fn cli(&self, line: &str) -> String {
        self.try_cli(line).success()
    }

    /// What a podswitch command says with `--json`.
    #[track_caller]
    pub fn json(&self, line: &str) -> Value {
        let text = self.cli(&format!("{line} --json"));
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("`{line} --json`: {e}: {text}"))
    }

    /// Gives the daemon a whole desired state, in TOML without `socket`.
    #[track_caller]
    pub fn apply(&self, lab: &Lab, config: &str) -> String {
        let file = lab.write("apply.toml", &with_socket(config, &self.socket));
        self.cli(&format!("apply -f {}", file.display()))
    }

    /// The state of a port as `port list` has it.
    #[track_caller]
    pub fn port(&self, name: &str) -> Value {
        let ports = self.json("port list");
        let found = ports.as_array().and_then(|ports| ports.iter().find(|p| p["name"] == name));
        found.unwrap_or_else(|| panic!("no port {name} in {ports}")).clone()
    }

    /// The counters.
    #[track_caller]
    pub fn counters(&self) -> Counters {
        Counters(self.json("show counters"))
    }

    /// Kills the daemon as a crash would: it cannot clean up.
    ///
    /// # Panics
    /// When it cannot be killed.
    pub fn crash(mut self) {
        self.child.kill().expect("killing the daemon");
        self.child.wait().expect("reaping the daemon");
        self.finished = true;
    }

    /// Asserts that every frame is accounted for, ends the daemon with SIGTERM and asserts that it
    /// left nothing. Gives the counters' last state.
    #[track_caller]
    pub fn finish(self) -> Counters {
        let links = self.links_before.clone();
        self.finish_leaving(&links)
    }

    /// As [`Daemon::finish`], where the interfaces that shall be left are not those that the daemon
    /// found: it took over another one's.
    #[track_caller]
    pub fn finish_leaving<S: AsRef<str>>(mut self, links: &[S]) -> Counters {
        // On a busy machine a worker may be in the middle of a batch when the counters are read.
        let mut counters = self.counters();
        for _ in 0..20 {
            if counters.is_conserved() {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
            counters = self.counters();
        }
        counters.assert_conserved();

        kill(self.pid(), Signal::SIGTERM).expect("the daemon runs");
        let mut status = None;
        wait_until("podswitch ends on SIGTERM", STOPPED_WITHIN, || {
            status = self.child.try_wait().expect("asking for the daemon's state");
            status.is_some()
        });
        let code = status.map(exit_code);
        assert_eq!(code, Some(0), "the exit code on SIGTERM");
        assert!(!self.socket.exists(), "podswitch left its socket");
        assert!(!self.netns.pins().exists(), "podswitch left pins: {:?}", self.netns.pins());
        let links: Vec<&str> = links.iter().map(AsRef::as_ref).collect();
        assert_eq!(self.netns.links(), links, "the interfaces that podswitch left");
        assert!(!self.netns.ip("-d link show").contains("xdp"), "podswitch left XDP programs");
        self.finished = true;
        counters
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if !self.finished {
            // Best effort, in a test that already fails.
            let _ = self.child.kill();
            let _ = self.child.wait();
            // A closed stderr is why a bench may be ending: a second panic would leave everything behind.
            let (name, log) = (self.netns.name(), self.log());
            let _ = writeln!(std::io::stderr(), "---- the daemon in {name} said:\n{log}----");
        }
    }
}

fn socket_of(lab: &Lab, netns: &Netns) -> PathBuf {
    let name = netns.name().rsplit('-').next().expect("rsplit gives at least one");
    lab.folder().join(format!("{name}.sock"))
}

/// The configuration with `[switch] socket` added.
fn with_socket(config: &str, socket: &Path) -> String {
    let line = format!("socket = \"{}\"", socket.display());
    match config.split_once("[switch]\n") {
        Some((before, after)) => format!("{before}[switch]\n{line}\n{after}"),
        None => format!("[switch]\n{line}\n\n{config}"),
    }
}
