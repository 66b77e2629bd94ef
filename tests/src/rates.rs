//! Rate limits, measured as the kernel's queueing disciplines measure theirs: bits of whole frames, by
//! the counters of the pods' kernels, over a window in the middle of a stream.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::command::wait_until;
use crate::daemon::Daemon;
use crate::lab::Lab;
use crate::netns::Netns;
use crate::peers::ping;

/// Which way a limit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Of what goes to the second pod.
    Ingress,
    /// Of what comes from the first pod.
    Egress,
}

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// One TCP connection.
    Tcp,
    /// UDP of 1470 bytes, at one and a half times the limit.
    Udp,
}

/// What a window of a stream saw. Rates are in bits per second of Ethernet frames, without preamble and
/// FCS.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// What the first pod sent.
    pub offered: f64,
    /// What reached the second pod.
    pub arrived: f64,
    /// Frames that the kernel dropped before the switch saw them.
    pub missed: u64,
    /// Frames that were dropped as too many.
    pub limited: u64,
}

/// Two pods of one node whose limits are changed while the daemon runs.
#[derive(Debug)]
pub struct RatedPods {
    lab: Lab,
    /// Their daemon.
    pub daemon: Daemon,
    /// The pods, `p1` and `p2`.
    pub pods: [Netns; 2],
    workers: u16,
    more: &'static str,
}

impl RatedPods {
    /// Two pods without limits; `more` are keys of both ports, in TOML.
    #[track_caller]
    pub fn new(workers: u16, more: &'static str) -> Option<RatedPods> {
        let lab = Lab::new()?;
        let (switch, pods) = (lab.netns("sw"), ["p1", "p2"].map(|name| lab.netns(name)));
        let daemon = Daemon::start(&lab, &switch, &config(workers, more, &pods, ["", ""]));
        ping(&pods[0], ADDRESS);
        Some(RatedPods { lab, daemon, pods, workers, more })
    }

    /// Sets one limit, in bits per second, in place of the one before.
    #[track_caller]
    pub fn limit(&self, limit: Limit, rate: u64) {
        let keys = match limit {
            Limit::Ingress => [String::new(), format!("ingress_rate = {rate}")],
            Limit::Egress => [format!("egress_rate = {rate}"), String::new()],
        };
        let keys = keys.each_ref().map(String::as_str);
        self.daemon.apply(&self.lab, &config(self.workers, self.more, &self.pods, keys));
    }

    /// Sends from the first pod to the second, and looks at what happens in `window` after the first
    /// second, in which TCP finds the rate.
    #[track_caller]
    pub fn stream(&self, kind: Stream, rate: u64, window: Duration) -> Window {
        let listener = self.pods[1].spawn("iperf3 --server --one-off --forceflush");
        wait_until("iperf3 listens", Duration::from_secs(5), || {
            self.pods[1].sh("ss -Hltn").contains(":5201 ")
        });
        let seconds = window.as_secs() + 3;
        let options = match kind {
            Stream::Tcp => String::new(),
            Stream::Udp => format!("--udp --length 1470 --bitrate {}", rate * 3 / 2),
        };
        let client = format!("iperf3 --client {ADDRESS} --time {seconds} {options}");
        let client = self.pods[0].spawn(&client);
        std::thread::sleep(Duration::from_millis(1500));
        let before = self.sample();
        std::thread::sleep(window);
        let after = self.sample();
        // What is said at the end may take its time at a low rate, and tells nothing more.
        drop((client, listener));
        let elapsed = (after.at - before.at).as_secs_f64();
        let rate = |n: u64| 8.0 * n as f64 / elapsed;
        Window {
            offered: rate(after.sent - before.sent),
            arrived: rate(after.received - before.received),
            missed: after.missed - before.missed,
            limited: after.limited - before.limited,
        }
    }

    #[track_caller]
    fn sample(&self) -> Sample {
        let counters = self.daemon.counters();
        let sent = bytes(|line| self.pods[0].sh(line), "tx");
        let received = bytes(|line| self.pods[1].sh(line), "rx");
        Sample {
            at: Instant::now(),
            sent,
            received,
            missed: counters.missed(),
            limited: counters.dropped("rate_limited"),
        }
    }
}

/// The counters at a time.
struct Sample {
    at: Instant,
    sent: u64,
    received: u64,
    missed: u64,
    limited: u64,
}

const ADDRESS: &str = "10.9.0.2";

/// The rate at which a pod's `eth0` receives in the next `window`: bits per second of Ethernet frames. `sh` runs
/// a command line in the pod.
#[track_caller]
pub(crate) fn receives(sh: impl Fn(&str) -> String, window: Duration) -> f64 {
    let (before, start) = (bytes(&sh, "rx"), Instant::now());
    std::thread::sleep(window);
    let after = bytes(&sh, "rx");
    8.0 * (after - before) as f64 / start.elapsed().as_secs_f64()
}

/// Bytes that a pod's `eth0` has sent (`tx`) or received (`rx`).
#[track_caller]
fn bytes(sh: impl Fn(&str) -> String, way: &str) -> u64 {
    let text = sh("ip -s -json link show dev eth0");
    let links: Value = serde_json::from_str(&text).expect("ip writes JSON");
    links[0]["stats64"][way]["bytes"].as_u64().expect("a number")
}

fn config(workers: u16, more: &str, pods: &[Netns; 2], keys: [&str; 2]) -> String {
    let mut config = format!("[switch]\nworkers = {workers}\n");
    for ((pod, n), keys) in pods.iter().zip(1..).zip(keys) {
        config += &format!(
            "[[port]]\nname = \"p{n}\"\nnetns = \"{}\"\nifname = \"eth0\"\n\
             ip = [\"10.9.0.{n}/24\"]\n{more}\n{keys}\n",
            pod.path()
        );
    }
    config
}
