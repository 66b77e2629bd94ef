//! podswitch beside other switches: throughput, latency, TCP, and the cost of idling.
//!
//! Everything happens in network namespaces of this run's own. Throughput is one interleaved run: every
//! switch is started at a site of its own and sleeps until it is its turn, A B C A B C, so that what else
//! happens on the machine happens to all of them.
#![forbid(unsafe_code)]

mod latency;
mod options;
mod pods;
mod scale;
mod site;
mod stream;
mod summary;
mod switches;
mod throughput;

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context, ensure};
use podswitch_tests::{Lab, podswitch_path};
use serde::Serialize;

use options::{Options, What};

/// The CPU of the generator.
const SENDER_CPU: usize = 0;
/// What tables call the podswitch under test.
const OURS: &str = "podswitch";
/// The CPU of the switch that is measured.
const SWITCH_CPU: usize = 1;

#[derive(Debug, Default, Serialize)]
struct Results {
    machine: String,
    throughput: Vec<throughput::Cell>,
    latency: Vec<latency::Cell>,
    first: Vec<latency::first::Cell>,
    stream: Vec<stream::Cell>,
    scale: Option<scale::Scale>,
}

fn main() -> ExitCode {
    let options = Options::checked();
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            // Best effort: there is no other way to say it.
            let _ = writeln!(std::io::stderr(), "bench-e2e: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> anyhow::Result<()> {
    let lab = Lab::new().context("this needs root")?;
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    ensure!(cpus > SWITCH_CPU, "two CPUs are needed: one sends, one forwards");
    ensure!(podswitch_path().exists(), "{} is missing", podswitch_path().display());
    std::fs::create_dir_all(&options.out).context("making the folder for results")?;

    let mut results = Results { machine: machine(), ..Results::default() };
    let mut text = format!("{}\n", results.machine);
    if options.wants(&[What::Throughput]) {
        results.throughput = throughput::run(&lab, options)?;
        throughput::plots(&results.throughput, options)?;
        write!(text, "\n{}", throughput::table(&results.throughput))?;
    }
    if options.wants(&[What::Latency]) {
        results.latency = latency::run(&lab, options)?;
        latency::plots(&results.latency, options)?;
        write!(text, "\n{}", latency::table(&results.latency))?;
        results.first = latency::first::run(&lab, options)?;
        latency::first::plots(&results.first, options)?;
        write!(text, "\n{}", latency::first::table(&results.first))?;
    }
    if options.wants(&[What::Stream]) {
        results.stream = stream::run(&lab, options)?;
        write!(text, "\n{}", stream::table(&results.stream))?;
    }
    if options.wants(&[What::Idle, What::Memory]) {
        let scale = scale::run(&lab, options)?;
        write!(text, "\n{}", scale::table(&scale))?;
        results.scale = Some(scale);
    }
    let json = serde_json::to_string_pretty(&results).context("writing JSON")?;
    std::fs::write(options.out.join("results.json"), json).context("writing results.json")?;
    std::fs::write(options.out.join("results.md"), &text).context("writing results.md")?;
    // Last, as nobody may be reading any more.
    writeln!(std::io::stdout(), "{text}").context("printing")?;
    eprintln!("plots and results are in {}", options.out.display());
    Ok(())
}

/// The machine, in one line.
fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo.lines().find(|l| l.starts_with("model name"));
    let model = model.and_then(|l| l.split(": ").nth(1)).unwrap_or("a CPU without a name");
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let release = read("/proc/sys/kernel/osrelease");
    let load = read("/proc/loadavg");
    let load = load.split(' ').next().unwrap_or_default();
    let version = release.split('-').next().unwrap_or_default();
    format!("{cpus} CPUs ({model}), Linux {}, load {load} at the start", version.trim())
}
