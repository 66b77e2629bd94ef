//! A node with many pods that say nothing: what it costs in CPU time and memory, the kernel's share
//! included.

use std::fs;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::Context;
use podswitch_tests::{Daemon, Lab, Netns};
use serde::Serialize;

use crate::summary::Summary;
use crate::{Options, pods};

/// Pods for the figure of a node that idles.
const IDLE_PODS: usize = 200;
/// Pods for the figure of memory.
const PODS: usize = 250;
/// Until new pods are silent: MLD reports come for ten seconds (RFC 3810 section 9.11), router solicitations at
/// intervals of four, which double (RFC 7559).
const HUSH: Duration = Duration::from_secs(30);
/// How long the daemon is watched while nothing happens.
const WATCH: Duration = Duration::from_secs(20);

/// What a node with many pods costs.
#[derive(Debug, Serialize)]
pub struct Scale {
    /// Pods while the daemon was watched.
    pub idle_pods: usize,
    /// Percent of one CPU that the daemon used then.
    pub idle_percent: f64,
    /// Pods while memory was read.
    pub pods: usize,
    /// The daemon's resident memory before the first pod, in KiB, its buffers included.
    pub daemon_before_kib: u64,
    /// And with all of them.
    pub daemon_kib: u64,
    /// What the kernel's memory grew by for the daemon and all pods' ports, in KiB.
    pub kernel_kib: i64,
    /// Of that, by line of /proc/meminfo.
    pub kernel_by_kind: Vec<(String, i64)>,
    /// KiB that one more port costs: both shares, from the growth over all ports.
    pub port_kib: f64,
    /// Milliseconds of `podswitch port add`, the start of the command included.
    pub add_ms: Summary,
}

/// Lines of /proc/meminfo that are memory of the kernel's own.
const KINDS: [&str; 5] = ["Slab", "KernelStack", "PageTables", "Percpu", "VmallocUsed"];

/// Starts a daemon, gives it pods and reads what that costs.
pub fn run(lab: &Lab, options: &Options) -> anyhow::Result<Scale> {
    eprintln!("scale: making {PODS} namespaces ...");
    let node = lab.netns("node");
    // The namespaces are the pods' own and not counted.
    let pods: Vec<Netns> = (0..PODS).map(|n| lab.netns(&format!("p{n}"))).collect();
    settle();
    let before = kernel_memory()?;
    let config = "[node]\npod_cidrs = [\"10.244.0.0/16\"]\ngateway = true\n";
    let daemon = Daemon::start(lab, &node, config);
    let pid = daemon.pid().to_string();
    let daemon_before_kib = resident(&pid)?;
    let kernel_at_start = kernel_memory()?;

    let mut times = Vec::new();
    let mut idle_percent = 0.0;
    for (n, pod) in pods.iter().enumerate() {
        let (high, low) = (n / 200, n % 200 + 10);
        let ip = Ipv4Addr::new(10, 244, high as u8, low as u8);
        let start = Instant::now();
        pods::add(&daemon, pod, ip, &options.pod[0]);
        times.push(start.elapsed().as_secs_f64() * 1000.0);
        if n + 1 == IDLE_PODS {
            eprintln!("scale: watching {IDLE_PODS} pods ...");
            std::thread::sleep(HUSH);
            let used = cpu_time(&pid)?;
            let start = Instant::now();
            std::thread::sleep(WATCH);
            let used = cpu_time(&pid)? - used;
            idle_percent = used.as_secs_f64() / start.elapsed().as_secs_f64() * 100.0;
        }
    }
    settle();
    let after = kernel_memory()?;
    let daemon_kib = resident(&pid)?;
    daemon.finish();

    let grown = |from: &[i64]| -> Vec<i64> { after.iter().zip(from).map(|(a, b)| a - b).collect() };
    let by_kind = grown(&before);
    let of_ports = grown(&kernel_at_start).iter().sum::<i64>();
    let growth = of_ports as f64 + daemon_kib as f64 - daemon_before_kib as f64;
    Ok(Scale {
        idle_pods: IDLE_PODS,
        idle_percent,
        pods: PODS,
        daemon_before_kib,
        daemon_kib,
        kernel_kib: by_kind.iter().sum(),
        kernel_by_kind: KINDS.iter().map(|k| (*k).to_owned()).zip(by_kind).collect(),
        port_kib: growth / PODS as f64,
        add_ms: Summary::of(&times).context("pods were added")?,
    })
}

/// What is freed with a delay, and what addresses and neighbours still have to say, is over after
/// this.
fn settle() {
    std::thread::sleep(Duration::from_secs(3));
}

/// KiB of each of [`KINDS`].
fn kernel_memory() -> anyhow::Result<Vec<i64>> {
    let text = fs::read_to_string("/proc/meminfo").context("reading /proc/meminfo")?;
    let kib = |kind: &&str| -> anyhow::Result<i64> {
        let line = text.lines().find(|l| l.split(':').next() == Some(*kind));
        let word = line.and_then(|l| l.split_whitespace().nth(1));
        word.and_then(|w| w.parse().ok()).with_context(|| format!("{kind} in /proc/meminfo"))
    };
    KINDS.iter().map(kib).collect()
}

/// KiB of a process's memory.
fn resident(pid: &str) -> anyhow::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).context("the daemon's status")?;
    let line = text.lines().find(|l| l.starts_with("VmRSS:")).context("VmRSS")?;
    line.split_whitespace().nth(1).and_then(|w| w.parse().ok()).context("VmRSS is a number")
}

/// CPU time of all threads of a process, to the nanosecond (Documentation/scheduler/sched-stats).
pub fn cpu_time(pid: &str) -> anyhow::Result<Duration> {
    let mut nanoseconds = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task")).context("the daemon's threads")? {
        let text = fs::read_to_string(task?.path().join("schedstat")).context("schedstat")?;
        let first = text.split_whitespace().next().and_then(|w| w.parse::<u64>().ok());
        nanoseconds += first.context("schedstat begins with a number")?;
    }
    Ok(Duration::from_nanos(nanoseconds))
}

/// The table, in Markdown.
pub fn table(scale: &Scale) -> String {
    let mib = |kib: f64| kib / 1024.0;
    let total = scale.kernel_kib as f64 + scale.daemon_kib as f64;
    let kinds: Vec<String> = scale
        .kernel_by_kind
        .iter()
        .map(|(kind, kib)| format!("{kind} {:.1}", mib(*kib as f64)))
        .collect();
    format!(
        "| what | measured |\n|---|---|\n\
         | CPU with {} silent pods | {:.2} % of one |\n\
         | one pod's port, kernel memory included | {:.0} KiB |\n\
         | daemon with {} pods, its own memory | {:.1} MiB ({:.1} before the first) |\n\
         | kernel memory for them | {:.1} MiB ({}) |\n\
         | both | {:.1} MiB |\n\
         | `podswitch port add` | {:.1} ms ({:.1} to {:.1}) |\n",
        scale.idle_pods,
        scale.idle_percent,
        scale.port_kib,
        scale.pods,
        mib(scale.daemon_kib as f64),
        mib(scale.daemon_before_kib as f64),
        mib(scale.kernel_kib as f64),
        kinds.join(", "),
        mib(total),
        scale.add_ms.median,
        scale.add_ms.min,
        scale.add_ms.max,
    )
}
