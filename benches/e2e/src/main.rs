//! podswitch beside other switches: throughput, latency, TCP, and the cost of idling.
//!
//! Everything happens in network namespaces of this run's own. Throughput is one interleaved run: every
//! switch is started at a site of its own and sleeps until it is its turn, A B C A B C, so that what else
//! happens on the machine happens to all of them.
#![forbid(unsafe_code)]

mod latency;
mod pods;
mod scale;
mod site;
mod stream;
mod summary;
mod switches;
mod throughput;

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, ensure};
use clap::{Parser, ValueEnum};
use podswitch_pktgen::sink;
use podswitch_tests::{Lab, podswitch_path};
use serde::Serialize;

use site::Route;

/// The CPU of the generator.
const SENDER_CPU: usize = 0;
/// What tables call the podswitch under test.
const OURS: &str = "podswitch";
/// The CPU of the switch that is measured.
const SWITCH_CPU: usize = 1;

/// Measures podswitch beside other switches, in network namespaces, and prints tables in Markdown.
///
/// Needs root, two CPUs, and a release build of podswitch (PODSWITCH_BIN, else the one beside this
/// program). Switches that are not installed, or do not start, say why in the table.
#[derive(Debug, Parser)]
#[command(name = "podswitch-bench-e2e", version)]
struct Options {
    /// What to measure. Default: all.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<What>,
    /// The ways through a switch.
    #[arg(long, value_enum, value_delimiter = ',',
          default_values_t = [Route::Bridged, Route::Routed, Route::Encap, Route::Decap])]
    routes: Vec<Route>,
    /// Bytes of a frame, before encapsulation.
    #[arg(long, value_delimiter = ',', default_values_t = [64, 353, 1500])]
    sizes: Vec<usize>,
    /// Rounds: how often each switch has its turn.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of a turn.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// A peer beside podswitch, by the name that tables have; several times for several. Default: all.
    #[arg(long = "switch", value_name = "NAME")]
    switches: Vec<String>,
    /// Measures podswitch once more with these keys in `[switch]`: `--variant spin=20`; several
    /// keys with a comma between. May be given several times.
    #[arg(long, value_name = "KEYS")]
    variant: Vec<String>,
    /// What podswitch's pods have, with the MTU in bytes behind a comma if it is not the default:
    /// `--pod veth --pod tap,1500`. May be given several times; throughput always has veths.
    #[arg(long, value_name = "TYPE[,MTU]", default_values = ["veth"])]
    pod: Vec<String>,
    /// Measures another podswitch binary too. May be given several times.
    #[arg(long, value_name = "BINARY")]
    against: Vec<PathBuf>,
    /// How the receiving end counts. With `count` and `xdp` its XDP program costs the kernel a copy of
    /// each frame that a copy-mode AF_XDP socket sent, and none of those that it forwarded itself.
    #[arg(long, value_enum, default_value_t = sink::Kind::Kernel)]
    sink: sink::Kind,
    /// Where plots (SVG), results.json and results.md go.
    #[arg(long, default_value = "target/bench-e2e")]
    out: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    /// Frames a second through a switch, beside its peers.
    Throughput,
    /// Round trips of UDP between pods, and the first packet after a silence.
    Latency,
    /// TCP between pods.
    Stream,
    /// CPU time with 200 silent pods (measured together with `memory`).
    Idle,
    /// Memory of a pod's port and of a daemon with 250 pods (measured together with `idle`).
    Memory,
}

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
    let options = Options::parse();
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("bench-e2e: {e:#}");
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

    let wanted =
        |what: &[What]| options.only.is_empty() || options.only.iter().any(|w| what.contains(w));
    let mut results = Results { machine: machine(), ..Results::default() };
    let mut text = format!("{}\n", results.machine);
    if wanted(&[What::Throughput]) {
        results.throughput = throughput::run(&lab, options)?;
        throughput::plots(&results.throughput, options)?;
        write!(text, "\n{}", throughput::table(&results.throughput))?;
    }
    if wanted(&[What::Latency]) {
        results.latency = latency::run(&lab, options)?;
        latency::plots(&results.latency, options)?;
        write!(text, "\n{}", latency::table(&results.latency))?;
        results.first = latency::first::run(&lab, options)?;
        latency::first::plots(&results.first, options)?;
        write!(text, "\n{}", latency::first::table(&results.first))?;
    }
    if wanted(&[What::Stream]) {
        results.stream = stream::run(&lab, options)?;
        write!(text, "\n{}", stream::table(&results.stream))?;
    }
    if wanted(&[What::Idle, What::Memory]) {
        let scale = scale::run(&lab, options)?;
        write!(text, "\n{}", scale::table(&scale))?;
        results.scale = Some(scale);
    }
    println!("{text}");
    let json = serde_json::to_string_pretty(&results).context("writing JSON")?;
    std::fs::write(options.out.join("results.json"), json).context("writing results.json")?;
    std::fs::write(options.out.join("results.md"), text).context("writing results.md")?;
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
