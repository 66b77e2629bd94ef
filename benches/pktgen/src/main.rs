//! The command line of the packet generator.

use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use podswitch_pktgen::engine::{self, Limits};
use podswitch_pktgen::load::{Ends, Load, Mac, Sizes, Vxlan};
use podswitch_pktgen::measure::{Plan, measure};
use podswitch_pktgen::place::{self, Place};
use podswitch_pktgen::report::Report;
use podswitch_pktgen::search::{Found, Search, Trial};
use podswitch_pktgen::{plot, sink};
use serde::Serialize;

/// The longest load, in seconds: nothing runs on by mistake.
const LONGEST: f64 = 120.0;
/// What the help ends with.
const HELP: &str = "\
Examples:
  podswitch-pktgen measure left:eth0 right:eth0 --dst-mac 02:00:00:00:00:02
      As many 64-byte frames as a core offers, for three seconds, from eth0 of the network namespace
      `left` through whatever is between to eth0 of `right`: how many came?
  podswitch-pktgen measure left:eth0 right:eth0 --rate 20000 --sink xdp --plot latency.svg
      At 20,000 frames a second: how long did they take?
  podswitch-pktgen search left:eth0 right:eth0 --size imix --json
      RFC 2544: the highest rate without loss, and with half a percent of it.
  podswitch-pktgen measure left:eth0 right:eth0 --vni 7 --outer-src 192.0.2.2 --outer-dst 192.0.2.1 \\
        --outer-dst-mac 02:00:00:00:00:09 --arrives-in plain
      A load in VXLAN that arrives without it.

Sizes are those of the frame in memory; a wire adds 4 bytes of check sequence. The interface behind
the sending one must run NAPI for live frames to pass: an XDP program, or `ethtool -K DEV gro on`.

Exit codes:
  0  measured
  1  failed: the kernel refused, or an interface is not there
  2  wrong usage
  3  refused: the interface has a default route (see --force)";

/// Sends packets through a device under test and counts what comes out.
#[derive(Debug, Parser)]
#[command(name = "podswitch-pktgen", version, after_help = HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// One load: throughput, loss, latency.
    Measure(Measure),
    /// The throughput of RFC 2544: the highest rate at which no more than so much is lost.
    Search(SearchArgs),
}

#[derive(Debug, Args)]
struct Common {
    /// Where to send: DEV, or NETNS:DEV with a name that `ip netns` knows or a path.
    from: Place,
    /// Where to receive.
    to: Place,

    /// Bytes of a frame from 60 to 1514, or `imix`: 7 of 64, 4 of 570, 1 of 1514 (353.5 on average).
    #[arg(long, default_value = "64", help_heading = "Load")]
    size: Sizes,
    /// UDP source ports that take turns.
    #[arg(long, default_value_t = 1, help_heading = "Load")]
    flows: u32,
    /// Source MAC addresses that take turns.
    #[arg(long, default_value_t = 1, help_heading = "Load")]
    macs: u32,
    /// The source MAC address.
    #[arg(long, default_value = "02:00:00:00:00:01", help_heading = "Load")]
    src_mac: Mac,
    /// The destination MAC address.
    #[arg(long, default_value = "02:00:00:00:00:02", help_heading = "Load")]
    dst_mac: Mac,
    /// The source address.
    #[arg(long, default_value = "198.18.0.1", help_heading = "Load")]
    src: Ipv4Addr,
    /// The destination address. The default is of the network for benchmarks (RFC 2544).
    #[arg(long, default_value = "198.19.0.1", help_heading = "Load")]
    dst: Ipv4Addr,
    /// Put the load into VXLAN with this identifier.
    #[arg(long, requires = "outer_dst", requires = "outer_src", help_heading = "Encapsulation")]
    vni: Option<u32>,
    /// So many identifiers take turns.
    #[arg(long, default_value_t = 1, requires = "vni", help_heading = "Encapsulation")]
    vnis: u32,
    /// The outer source address.
    #[arg(long, requires = "vni", help_heading = "Encapsulation")]
    outer_src: Option<Ipv4Addr>,
    /// The outer destination address.
    #[arg(long, requires = "vni", help_heading = "Encapsulation")]
    outer_dst: Option<Ipv4Addr>,
    /// The outer source MAC address.
    #[arg(long, default_value = "02:00:00:00:00:01", help_heading = "Encapsulation")]
    outer_src_mac: Mac,
    /// The outer destination MAC address.
    #[arg(long, default_value = "02:00:00:00:00:02", help_heading = "Encapsulation")]
    outer_dst_mac: Mac,
    /// How the frames arrive, where the device encapsulates or decapsulates. Default: as sent.
    #[arg(long, help_heading = "Encapsulation")]
    arrives_in: Option<Arrival>,

    /// Seconds that each load lasts, 120 at most.
    #[arg(long, default_value_t = 3.0, value_parser = seconds, help_heading = "Method")]
    seconds: f64,
    /// How frames are sent.
    #[arg(long, value_enum, default_value_t = engine::Kind::Auto, help_heading = "Method")]
    engine: engine::Kind,
    /// How frames are received.
    #[arg(long, value_enum, default_value_t = sink::Kind::Count, help_heading = "Method")]
    sink: sink::Kind,
    /// The CPU that sends.
    #[arg(long, help_heading = "Method")]
    cpu: Option<usize>,
    /// The CPU that receives, with `--sink xdp`.
    #[arg(long, help_heading = "Method")]
    sink_cpu: Option<usize>,
    /// The queue of the AF_XDP sockets.
    #[arg(long, default_value_t = 0, help_heading = "Method")]
    queue: u32,
    /// Send even on an interface that has a default route.
    #[arg(long, help_heading = "Method")]
    force: bool,

    /// Print JSON, one document.
    #[arg(long, help_heading = "Output")]
    json: bool,
    /// Write a plot, SVG: latency by percentile, or the trials of a search.
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    plot: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Arrival {
    /// As they are.
    Plain,
    /// In VXLAN over IPv4.
    Vxlan,
}

#[derive(Debug, Args)]
struct Measure {
    #[command(flatten)]
    common: Common,
    /// Frames a second. Default: as fast as possible.
    #[arg(long, value_parser = positive)]
    rate: Option<f64>,
    /// Stop after so many frames.
    #[arg(long)]
    frames: Option<u64>,
}

#[derive(Debug, Args)]
struct SearchArgs {
    #[command(flatten)]
    common: Common,
    /// The highest rate to try, in frames a second.
    #[arg(long, default_value_t = 1_000_000.0, value_parser = positive)]
    max_rate: f64,
    /// How close to the truth, in percent of the highest rate.
    #[arg(long, default_value_t = 1.0, value_parser = positive)]
    precision: f64,
    /// What may be lost, in percent, one search each.
    #[arg(long, value_delimiter = ',', default_values_t = [0.0, 0.5])]
    tolerate: Vec<f64>,
}

fn positive(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if number.is_finite() && number > 0.0 { Ok(number) } else { Err("more than 0".to_owned()) }
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds = positive(text)?;
    if seconds <= LONGEST { Ok(seconds) } else { Err(format!("at most {LONGEST}")) }
}

impl Common {
    fn plan(&self, rate: Option<f64>, frames: Option<u64>) -> Plan {
        let ends = Ends { mac: (self.src_mac, self.dst_mac), ip: (self.src, self.dst) };
        let vxlan = match (self.vni, self.outer_src, self.outer_dst) {
            (Some(vni), Some(from), Some(to)) => {
                let mac = (self.outer_src_mac, self.outer_dst_mac);
                Some(Vxlan { ends: Ends { mac, ip: (from, to) }, vni, vnis: self.vnis })
            }
            _ => None,
        };
        let load = Load { sizes: self.size, ends, flows: self.flows, macs: self.macs, vxlan };
        let stamp_at = match self.arrives_in {
            None => load.fields().stamp,
            Some(Arrival::Plain) => podswitch_pktgen::load::HEADERS,
            Some(Arrival::Vxlan) => {
                podswitch_pktgen::load::VXLAN_HEADERS + podswitch_pktgen::load::HEADERS
            }
        };
        Plan {
            from: self.from.clone(),
            queue: self.queue,
            cpu: self.cpu,
            engine: self.engine,
            load,
            limits: Limits { time: Duration::from_secs_f64(self.seconds), frames, rate },
            sink: sink::Setup {
                kind: self.sink,
                place: self.to.clone(),
                queue: self.queue,
                cpu: self.sink_cpu,
                stamp_at,
            },
            force: self.force,
        }
    }

    fn print(&self, document: &impl Serialize, text: &str) -> anyhow::Result<()> {
        let mut out = io::stdout().lock();
        if self.json {
            serde_json::to_writer_pretty(&mut out, document).context("printing")?;
            writeln!(out).context("printing")
        } else {
            writeln!(out, "{text}").context("printing")
        }
    }
}

impl Measure {
    fn run(&self) -> anyhow::Result<()> {
        let common = &self.common;
        eprintln!("{} -> {}, {} s ...", common.from, common.to, common.seconds);
        let report = measure(&common.plan(self.rate, self.frames))?;
        common.print(&report, &report.to_string())?;
        let (Some(path), Some(latency)) = (&common.plot, &report.latency) else { return Ok(()) };
        let name = format!("{} bytes, {:.0} kpps", common.size, report.sent_pps / 1000.0);
        plot::latency(path, "Latency", &[(name, latency.clone())])
    }
}

impl SearchArgs {
    fn run(&self) -> anyhow::Result<()> {
        let common = &self.common;
        let trial = |rate: f64| {
            let report: Report = measure(&common.plan(Some(rate), None))?;
            let loss = report.loss * 100.0;
            let (sent, came) = (report.sent_pps / 1000.0, report.received_pps / 1000.0);
            eprintln!("sent {sent:9.1} kpps, received {came:9.1} kpps, lost {loss:7.3} %");
            Ok::<_, anyhow::Error>(Trial {
                asked_pps: rate,
                sent_pps: report.sent_pps,
                received_pps: report.received_pps,
                loss: report.loss,
            })
        };
        let mut founds = Vec::new();
        for percent in &self.tolerate {
            eprintln!("searching the highest rate with at most {percent} % lost ...");
            let search = Search {
                tolerance: percent / 100.0,
                most: self.max_rate,
                precision: self.precision / 100.0,
            };
            founds.push(search.run(trial)?);
        }
        common.print(&founds, &founds.iter().map(line).collect::<Vec<_>>().join("\n"))?;
        match &common.plot {
            Some(path) => plot::search(path, &format!("{} bytes", common.size), &founds),
            None => Ok(()),
        }
    }
}

fn line(found: &Found) -> String {
    let limit = if found.generator_limited { " (the generator's limit)" } else { "" };
    let (percent, kpps) = (found.tolerance * 100.0, found.pps / 1000.0);
    format!("at most {percent} % lost: {kpps:.1} kpps{limit}")
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match &cli.command {
        Command::Measure(measure) => measure.run(),
        Command::Search(search) => search.run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            // Best effort: there is no other way to say it.
            let _ = writeln!(io::stderr(), "podswitch-pktgen: {e:#}");
            ExitCode::from(if e.is::<place::Refused>() { 3 } else { 1 })
        }
    }
}
