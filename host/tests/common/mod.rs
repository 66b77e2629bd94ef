//! Network namespaces for tests, and iproute2 as a second opinion on what the kernel has.
#![allow(dead_code, missing_docs)]

use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use host::{Handle, Netns};
use serde_json::Value;

/// Whether the tests can run: they make network namespaces. Not root: says so and skips, except
/// in CI, which must not skip.
pub fn root() -> bool {
    if nix::unistd::geteuid().is_root() {
        return true;
    }
    assert!(std::env::var_os("CI").is_none(), "CI must run these tests as root");
    eprintln!("skipped: needs root to make network namespaces");
    false
}

/// A network namespace that goes away with the value, also when the test panics.
pub struct TestNetns {
    pub name: String,
    pub netns: Netns,
    guard: Guard,
}

/// Removes the namespace, from the moment that it exists.
struct Guard(String);

impl TestNetns {
    pub fn new() -> TestNetns {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("host-{}-{n}", std::process::id());
        run("ip", &["netns", "add", &name]);
        let guard = Guard(name.clone());
        let netns = Netns::open(format!("/run/netns/{name}")).unwrap();
        TestNetns { name, netns, guard }
    }

    pub fn path(&self) -> String {
        format!("/run/netns/{}", self.name)
    }

    pub fn handle(&self) -> Handle {
        Handle::in_netns(&self.netns).unwrap()
    }

    /// `ip -n NAME ARGS`, which must succeed.
    pub fn ip(&self, args: &str) {
        let args: Vec<_> = ["-n", &self.name].into_iter().chain(args.split(' ')).collect();
        run("ip", &args);
    }

    /// What `ip -j ARGS` prints here; null when it prints nothing or fails.
    pub fn json(&self, args: &str) -> Value {
        let output = Command::new("ip")
            .args(["-n", &self.name, "-j", "-d"])
            .args(args.split(' '))
            .output()
            .unwrap();
        serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
    }

    /// The standard output of a command run here.
    pub fn exec(&self, command: &str) -> String {
        let args: Vec<_> =
            ["netns", "exec", &self.name].into_iter().chain(command.split(' ')).collect();
        String::from_utf8(run("ip", &args).stdout).unwrap()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

pub fn run(program: &str, args: &[&str]) -> Output {
    let output = Command::new(program).args(args).output().unwrap();
    assert!(
        output.status.success(),
        "{program} {}: {}",
        args.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// Waits until `condition` gives a value, for at most five seconds.
pub fn wait_for<T>(what: &str, condition: impl FnMut() -> Option<T>) -> T {
    wait_long_for(what, 5, condition)
}

/// Waits until `condition` gives a value, for at most that many seconds.
pub fn wait_long_for<T>(what: &str, seconds: u64, mut condition: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(seconds);
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < end, "timed out waiting for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
