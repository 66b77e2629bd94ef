//! The kernel's own packet generator, where there is one: Documentation/networking/pktgen.rst.
//!
//! It is told what to do by lines that are written to files of /proc/net/pktgen, and says in the same
//! files what came of it. Its frames carry its own mark and not ours, so that they are counted by the
//! receiving kernel ([`crate::sink::Kind::Kernel`]).

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use nix::sched::sched_getcpu;

use crate::engine::{Limits, Sent};
use crate::load::{DISCARD, FIRST_PORT, Load, Sizes};

/// Where it is: the namespace's of the calling thread, which need not be the process's.
const ROOT: &str = "/proc/thread-self/net/pktgen";
/// What runs and ends it.
const CONTROL: &str = "pgctrl";

/// The generator, with one device on one of its threads.
#[derive(Debug)]
pub struct Pktgen {
    root: PathBuf,
    thread: String,
    device: String,
}

/// What the generator says of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Outcome {
    frames: u64,
    time: Duration,
}

impl Pktgen {
    /// Prepares to send a load on an interface of the calling thread's namespace, from the CPU that it runs
    /// on.
    pub fn open(dev: &str, queue: u32, load: &Load, limits: &Limits) -> anyhow::Result<Pktgen> {
        let lines = commands(load, limits, queue)?;
        ensure!(Path::new(ROOT).join(CONTROL).exists(), "{}", why_not());
        // It has a thread for each CPU.
        let cpu = sched_getcpu().context("asking which CPU this is")?;
        let pktgen = Pktgen {
            root: ROOT.into(),
            thread: format!("kpktgend_{cpu}"),
            device: format!("{dev}@{queue}"),
        };
        pktgen.write(&pktgen.thread, "rem_device_all")?;
        pktgen.write(&pktgen.thread, &format!("add_device {}", pktgen.device))?;
        for line in lines {
            pktgen.write(&pktgen.device, &line)?;
        }
        Ok(pktgen)
    }

    /// Sends until a limit is reached.
    pub fn run(&mut self, limits: &Limits) -> anyhow::Result<Sent> {
        let (done, is_done) = channel::<()>();
        let time = limits.time;
        std::thread::scope(|scope| {
            let this = &*self;
            let stop = scope.spawn(move || {
                // The command that begins returns when all is sent, or when another one ends it.
                match is_done.recv_timeout(time) {
                    Ok(()) => Ok(()),
                    Err(_) => this.write(CONTROL, "stop"),
                }
            });
            let start = Instant::now();
            let begun = self.write(CONTROL, "start");
            let took = start.elapsed();
            let _ = done.send(());
            let ended = stop.join().unwrap_or(Ok(()));
            begun.and(ended)?;
            let text = fs::read_to_string(self.root.join(&self.device))
                .with_context(|| format!("reading what pktgen says of {}", self.device))?;
            let outcome = outcome(&text)?;
            Ok(Sent { frames: outcome.frames, time: outcome.time.min(took) })
        })
    }

    fn write(&self, file: &str, line: &str) -> anyhow::Result<()> {
        fs::write(self.root.join(file), format!("{line}\n"))
            .with_context(|| format!("pktgen refuses `{line}` for {file}"))
    }
}

impl Drop for Pktgen {
    fn drop(&mut self) {
        // It refuses only what it does not have.
        let _ = self.write(&self.thread, "rem_device_all");
    }
}

/// Whether the generator can send a load, where there is one.
pub fn check(load: &Load, limits: &Limits) -> anyhow::Result<()> {
    commands(load, limits, 0).map(drop)
}

/// The lines that describe a load to the generator.
fn commands(load: &Load, limits: &Limits, queue: u32) -> anyhow::Result<Vec<String>> {
    let Sizes::Fixed(size) = load.sizes else {
        bail!(
            "--engine kernel with --size imix: the kernel's generator sends frames of one size \
             here; use --engine xdp"
        );
    };
    ensure!(
        load.vxlan.is_none(),
        "--engine kernel with --vni: the kernel's generator knows no VXLAN; use --engine live or \
         xdp"
    );
    let (source, target) = load.ends.ip;
    let last = u32::from(FIRST_PORT) + load.flows;
    ensure!(
        last <= 65_535,
        "--flows {} with --engine kernel: expected {} at most",
        load.flows,
        65_535 - FIRST_PORT
    );
    let (sources, turn) = (load.sources(), load.macs - 1);
    ensure!(
        sources.first.checked_add(turn) == Some(sources.low(turn)),
        "the kernel's generator counts all addresses from --src-mac {} up: expected one from which \
         --macs {} do not reach --dst-mac {}, nor the end of 32 bits",
        load.ends.mac.0,
        load.macs,
        load.ends.mac.1
    );
    let mut lines = vec![
        // Without end: until it is stopped.
        format!("count {}", limits.frames.unwrap_or(0)),
        // It counts as we do, without the check sequence.
        format!("pkt_size {size}"),
        // Each frame of its own: what varies must, and what receives may write to it.
        "clone_skb 0".to_owned(),
        format!("queue_map_min {queue}"),
        format!("queue_map_max {queue}"),
        format!("src_min {source}"),
        format!("src_max {source}"),
        format!("dst_min {target}"),
        format!("dst_max {target}"),
        format!("src_mac {}", load.ends.mac.0),
        format!("dst_mac {}", load.ends.mac.1),
        format!("src_mac_count {}", if load.macs > 1 { load.macs } else { 0 }),
        format!("udp_src_min {FIRST_PORT}"),
        // The first one that is not sent.
        format!("udp_src_max {last}"),
        format!("udp_dst_min {DISCARD}"),
        format!("udp_dst_max {DISCARD}"),
    ];
    match limits.rate {
        // Whole frames a second: it takes no fractions.
        Some(rate) => lines.push(format!("ratep {}", rate.round().max(1.0))),
        // No `burst`: a veth refuses it.
        None => lines.push("delay 0".to_owned()),
    }
    Ok(lines)
}

/// Reads the frames and the microseconds of a device's result, such as
/// `Result: OK: 13101142(c12220741+d880401) usec, 10000000 (60byte,0frags)`.
fn outcome(text: &str) -> anyhow::Result<Outcome> {
    let line = text.lines().find_map(|l| l.trim().strip_prefix("Result: "));
    let line = line.context("pktgen says nothing of a result")?;
    let read = || -> Option<Outcome> {
        let rest = line.strip_prefix("OK: ")?;
        let (time, rest) = rest.split_once('(')?;
        let (_, rest) = rest.split_once("usec, ")?;
        let (frames, _) = rest.split_once(' ')?;
        let time = Duration::from_micros(time.parse().ok()?);
        Some(Outcome { frames: frames.parse().ok()?, time })
    };
    read().with_context(|| format!("pktgen: {line}"))
}

/// What is missing where there is no /proc/net/pktgen.
fn why_not() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let release = read("/proc/sys/kernel/osrelease").trim().to_owned();
    let modules = format!("/lib/modules/{release}/modules.dep");
    missing(&release, &read(&modules))
}

/// `modules` is the kernel's modules.dep.
fn missing(release: &str, modules: &str) -> String {
    let has_module = modules.lines().any(|line| {
        let path = line.split(':').next().unwrap_or_default();
        path.rsplit('/').next().is_some_and(|file| file.starts_with("pktgen.ko"))
    });
    if has_module {
        "the kernel's generator is not loaded: `modprobe pktgen`".to_owned()
    } else {
        format!(
            "the kernel {release} has no generator: there is no /proc/net/pktgen and no module pktgen \
             (CONFIG_NET_PKTGEN); use --engine live or xdp"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::{Ends, Mac, Vxlan};

    const ENDS: Ends = Ends {
        mac: (Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0xab, 2])),
        ip: (std::net::Ipv4Addr::new(198, 18, 0, 1), std::net::Ipv4Addr::new(198, 19, 0, 1)),
    };
    const LOAD: Load = Load { sizes: Sizes::Fixed(64), ends: ENDS, flows: 4, macs: 1, vxlan: None };
    const LIMITS: Limits = Limits { time: Duration::from_secs(1), frames: None, rate: None };

    fn has(lines: &[String], line: &str) -> bool {
        lines.iter().any(|l| l == line)
    }

    /// Commands as Documentation/networking/pktgen.rst lists them.
    #[test]
    fn a_load_is_told_in_the_kernels_words() {
        const KNOWN: [&str; 18] = [
            "delay",
            "count",
            "pkt_size",
            "clone_skb",
            "queue_map_min",
            "queue_map_max",
            "src_min",
            "src_max",
            "dst_min",
            "dst_max",
            "src_mac",
            "dst_mac",
            "src_mac_count",
            "udp_src_min",
            "udp_src_max",
            "udp_dst_min",
            "udp_dst_max",
            "ratep",
        ];
        let lines = commands(&LOAD, &LIMITS, 3).unwrap();
        for line in &lines {
            let (word, value) = line.split_once(' ').unwrap();
            assert!(KNOWN.contains(&word), "{word}");
            assert!(!value.is_empty() && !value.contains(' '), "{line}");
        }
        for line in [
            "count 0",
            "pkt_size 64",
            "dst_mac 02:00:00:00:ab:02",
            "src_min 198.18.0.1",
            "dst_max 198.19.0.1",
            "udp_src_min 1024",
            "udp_src_max 1028",
            "udp_dst_min 9",
            "queue_map_max 3",
            "src_mac_count 0",
            "delay 0",
        ] {
            assert!(has(&lines, line), "{line}: {lines:?}");
        }
        let limits = Limits { frames: Some(7), rate: Some(1999.6), ..LIMITS };
        let lines = commands(&Load { macs: 5, ..LOAD }, &limits, 0).unwrap();
        for line in ["count 7", "ratep 2000", "src_mac_count 5"] {
            assert!(has(&lines, line), "{line}: {lines:?}");
        }
        assert!(!has(&lines, "delay 0"), "it would end the rate");
    }

    #[test]
    fn what_it_cannot_send_is_refused() {
        let vxlan = Some(Vxlan { ends: ENDS, vni: 1, vnis: 1 });
        for load in [
            Load { sizes: Sizes::Imix, ..LOAD },
            Load { vxlan, ..LOAD },
            Load { flows: 65_000, ..LOAD },
            // It would send from the destination's address.
            Load { macs: 0xab02, ..LOAD },
        ] {
            assert!(commands(&load, &LIMITS, 0).is_err(), "{load:?}");
        }
    }

    /// The example of the kernel's documentation, and what a refused command leaves behind.
    #[test]
    fn results_are_read() {
        let text = "Params: count 10000000  min_pkt_size: 60  max_pkt_size: 60\n\
             Current:\n     pkts-sofar: 10000000  errors: 39664\n\
             Result: OK: 13101142(c12220741+d880401) usec, 10000000 (60byte,0frags)\n  \
             763292pps 390Mb/sec (390805504bps) errors: 39664\n";
        let time = Duration::from_micros(13_101_142);
        assert_eq!(outcome(text).unwrap(), Outcome { frames: 10_000_000, time });
        let error = outcome("Current:\nResult: Unknown parameter\n").unwrap_err().to_string();
        assert_eq!(error, "pktgen: Unknown parameter");
        assert!(outcome("").is_err());
        assert!(outcome("Result: OK: count=0\n").is_err(), "set up, and not run");
    }

    #[test]
    fn the_error_names_what_is_missing() {
        let dep = "kernel/net/core/pktgen.ko.xz:\nkernel/net/core/other.ko: x.ko\n";
        assert!(missing("6.1", dep).contains("modprobe pktgen"));
        for dep in ["", "kernel/net/core/other.ko: kernel/net/core/pktgen.ko\n"] {
            let said = missing("6.1.0-x", dep);
            assert!(said.contains("6.1.0-x") && said.contains("CONFIG_NET_PKTGEN"), "{said}");
        }
    }
}
