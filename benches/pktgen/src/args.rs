//! The arguments of the packet generator.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::builder::RangedI64ValueParser;
use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand};
use podswitch_pktgen::engine::{self, Limits};
use podswitch_pktgen::load::{
    Ends, HEADERS, LAST_VNI, Load, MOST_FLOWS, MOST_MACS, MOST_VNIS, Mac, Sizes, VXLAN_HEADERS,
    Vxlan,
};
use podswitch_pktgen::measure::Plan;
use podswitch_pktgen::numbers::{percent, positive, seconds};
use podswitch_pktgen::place::Place;
use podswitch_pktgen::{plot, sink};

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
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// One load: throughput, loss, latency.
    Measure(Measure),
    /// The throughput of RFC 2544: the highest rate at which no more than so much is lost.
    Search(SearchArgs),
}

#[derive(Debug, Args)]
pub struct Common {
    /// Where to send: DEV, or NETNS:DEV with a name that `ip netns` knows or a path.
    pub from: Place,
    /// Where to receive.
    pub to: Place,

    /// Bytes of a frame from 60 to 1514, or `imix`: 7 of 64, 4 of 570, 1 of 1514 (353.5 on average).
    #[arg(long, default_value = "64", help_heading = "Load")]
    pub size: Sizes,
    /// UDP source ports that take turns, 1 to 64512.
    #[arg(long, default_value_t = 1, value_parser = to(1, MOST_FLOWS), help_heading = "Load")]
    flows: u32,
    /// Source MAC addresses that take turns, 1 to 65536: from --src-mac up, without --dst-mac.
    #[arg(long, default_value_t = 1, value_parser = to(1, MOST_MACS), help_heading = "Load")]
    macs: u32,
    /// The source MAC address, the first if several take turns.
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
    /// Put the load into VXLAN with this identifier, 0 to 16777215.
    #[arg(long, requires = "outer_dst", requires = "outer_src", value_parser = to(0, LAST_VNI),
          help_heading = "Encapsulation")]
    vni: Option<u32>,
    /// So many identifiers take turns, 1 to 65536: they count up from --vni in the last 16 bits.
    #[arg(long, default_value_t = 1, requires = "vni", value_parser = to(1, MOST_VNIS),
          help_heading = "Encapsulation")]
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

    /// Seconds that each load lasts, 0.001 to 120.
    #[arg(long, default_value_t = 3.0, value_parser = seconds, help_heading = "Method")]
    pub seconds: f64,
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
    pub json: bool,
    /// Write a plot, SVG: latency by percentile (with `--sink xdp`, and `--engine xdp` or a rate), or the
    /// trials of a search.
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub plot: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum Arrival {
    /// As they are.
    Plain,
    /// In VXLAN over IPv4.
    Vxlan,
}

#[derive(Debug, Args)]
pub struct Measure {
    #[command(flatten)]
    pub common: Common,
    /// Frames a second, more than 0; not with `--engine live`. Default: as fast as possible.
    #[arg(long, value_parser = positive)]
    pub rate: Option<f64>,
    /// Stop after so many frames, 1 at least.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub frames: Option<u64>,
}

#[derive(Debug, Args)]
pub struct SearchArgs {
    #[command(flatten)]
    pub common: Common,
    /// The highest rate to try, in frames a second.
    #[arg(long, default_value_t = 1_000_000.0, value_parser = positive)]
    pub max_rate: f64,
    /// How close to the truth, in percent of the highest rate.
    #[arg(long, default_value_t = 1.0, value_parser = positive)]
    pub precision: f64,
    /// What may be lost, in percent from 0 to 100, one search each.
    #[arg(long, value_parser = percent, value_delimiter = ',', default_values_t = [0.0, 0.5])]
    pub tolerate: Vec<f64>,
}

/// A whole number from `least` to `most`.
fn to(least: u32, most: u32) -> RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(i64::from(least)..=i64::from(most))
}

impl Common {
    /// What to measure.
    pub fn plan(&self, rate: Option<f64>, frames: Option<u64>) -> Plan {
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
            Some(Arrival::Plain) => HEADERS,
            Some(Arrival::Vxlan) => VXLAN_HEADERS + HEADERS,
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

    /// Refuses what cannot be measured or plotted, by the option that is wrong.
    fn check(&self, plan: &Plan, plots_latency: bool) -> anyhow::Result<()> {
        plan.check()?;
        let Some(path) = &self.plot else { return Ok(()) };
        let named = path.display();
        ensure!(
            !plots_latency || plan.has_latency(),
            "--plot {named}: it would have no latency to show; expected --sink xdp, and --engine xdp \
             or a --rate"
        );
        plot::check(path).with_context(|| format!("--plot {named}: expected a file to write"))
    }
}

impl Cli {
    /// The arguments. Wrong ones end the program, with a message and code 2, before anything has begun.
    pub fn checked() -> Cli {
        let cli = Cli::parse();
        let (name, result) = match &cli.command {
            Command::Measure(Measure { common, rate, frames }) => {
                ("measure", common.check(&common.plan(*rate, *frames), true))
            }
            Command::Search(SearchArgs { common, max_rate, .. }) => {
                ("search", common.check(&common.plan(Some(*max_rate), None), false))
            }
        };
        if let Err(e) = result {
            let mut command = Cli::command();
            command.build();
            let command = command.find_subcommand_mut(name).expect("one of those above");
            command.error(ErrorKind::ValueValidation, format!("{e:#}")).exit();
        }
        cli
    }
}
