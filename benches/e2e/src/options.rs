//! The arguments of the benches: wrong ones are refused before anything starts.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::builder::RangedU64ValueParser;
use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, ValueEnum};
use podswitch_api::state::PodKind;
use podswitch_api::validate::IPV4_MTU_MIN;
use podswitch_pktgen::load::{MAX_SIZE, MIN_SIZE};
use podswitch_pktgen::{numbers, sink};

use crate::pods::Workers;
use crate::site::Route;
use crate::switches;

/// Seconds of a turn: half a minute is what a command is waited for, iperf3 as well.
const LONGEST: f64 = 20.0;

/// Measures podswitch beside other switches, in network namespaces, and prints tables in Markdown.
///
/// Needs root, two CPUs, and a release build of podswitch (PODSWITCH_BIN, else the one beside this
/// program). Switches that are not installed, or do not start, say why in the table.
#[derive(Debug, Parser)]
#[command(name = "podswitch-bench-e2e", version)]
pub struct Options {
    /// What to measure. Default: all.
    #[arg(long, value_enum, value_delimiter = ',')]
    pub only: Vec<What>,
    /// The ways through a switch.
    #[arg(long, value_enum, value_delimiter = ',',
          default_values_t = [Route::Bridged, Route::Routed, Route::Encap, Route::Decap])]
    pub routes: Vec<Route>,
    /// Bytes of a frame, before encapsulation, 60 to 1514.
    #[arg(long, value_parser = whole().range(MIN_SIZE as u64..=MAX_SIZE as u64), value_delimiter = ',',
          default_values_t = [64, 353, 1500])]
    pub sizes: Vec<usize>,
    /// Rounds: how often each switch has its turn, 1 at least.
    #[arg(long, value_parser = whole().range(1..), default_value_t = 5)]
    pub rounds: usize,
    /// Seconds of a turn, 0.001 to 20.
    #[arg(long, value_parser = seconds, default_value_t = 1.0)]
    pub seconds: f64,
    /// A peer beside podswitch, by the name that tables have; several times for several. Default: all.
    #[arg(long = "switch", value_name = "NAME", value_parser = peer)]
    pub switches: Vec<String>,
    /// Measures podswitch once more with these keys in `[switch]`: `--variant spin=20`; several
    /// keys with a comma between. May be given several times.
    #[arg(long, value_name = "KEYS")]
    pub variant: Vec<String>,
    /// What podswitch's pods have, with the MTU in bytes behind a comma if it is not the default:
    /// `--pod veth --pod tap,1500`. May be given several times; throughput always has veths.
    #[arg(long, value_name = "TYPE[,MTU]", value_parser = pod, default_values = ["veth"])]
    pub pod: Vec<String>,
    /// Measures another podswitch binary too. May be given several times.
    #[arg(long, value_name = "BINARY", value_parser = file)]
    pub against: Vec<PathBuf>,
    /// How the receiving end counts. With `count` and `xdp` its XDP program costs the kernel a copy of
    /// each frame that a copy-mode AF_XDP socket sent, and none of those that it forwarded itself.
    #[arg(long, value_enum, default_value_t = sink::Kind::Kernel)]
    pub sink: sink::Kind,
    /// Where plots (SVG), results.json and results.md go.
    #[arg(long, default_value = "target/bench-e2e")]
    pub out: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum What {
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

fn whole() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new()
}

fn seconds(text: &str) -> Result<f64, String> {
    numbers::seconds_up_to(text, LONGEST)
}

fn peer(text: &str) -> Result<String, String> {
    let names = switches::peer_names();
    let known = names.iter().any(|name| name == text);
    if known { Ok(text.to_owned()) } else { Err(format!("expected one of: {}", names.join("; "))) }
}

/// A type of pods, and perhaps their MTU.
fn pod(text: &str) -> Result<String, String> {
    let (kind, mtu) = text.split_once(',').map_or((text, None), |(kind, mtu)| (kind, Some(mtu)));
    let kind = PodKind::from_str(kind).map_err(|_| "expected veth or tap first".to_owned())?;
    let fits = |mtu: &str| mtu.parse().is_ok_and(|n| (IPV4_MTU_MIN..=kind.mtu_max()).contains(&n));
    match mtu {
        Some(mtu) if !fits(mtu) => {
            Err(format!("expected an MTU from {IPV4_MTU_MIN} to {}", kind.mtu_max()))
        }
        _ => Ok(text.to_owned()),
    }
}

fn file(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    if path.is_file() { Ok(path) } else { Err("expected a file that is there".to_owned()) }
}

impl Options {
    /// The arguments. Wrong ones end the program, with a message and code 2.
    pub fn checked() -> Options {
        let options = Options::parse();
        for keys in &options.variant {
            if let Err(why) = options.check_variant(keys) {
                let message = format!("--variant {keys}: expected keys of [switch]: {why}");
                Options::command().error(ErrorKind::ValueValidation, message).exit();
            }
        }
        options
    }

    /// Whether what is measured.
    pub fn wants(&self, what: &[What]) -> bool {
        self.only.is_empty() || self.only.iter().any(|w| what.contains(w))
    }

    /// Whether podswitch would start with these keys beside those that the benches give it.
    fn check_variant(&self, keys: &str) -> Result<(), String> {
        let is_pinned = self.wants(&[What::Throughput, What::Latency]);
        let workers = if is_pinned { Workers::Pinned } else { Workers::Anywhere };
        let lines = switches::settings(keys);
        let text = format!("[switch]\nsocket = \"/run/a.sock\"\n{}{lines}", workers.settings());
        let parsed = podswitch::config::parse_toml(Path::new("here"), &text);
        // Without the place in a file that nobody wrote.
        let why = |line: &String| line.splitn(2, ": ").last().unwrap_or_default().to_owned();
        parsed.map(drop).map_err(|e| e.lines().iter().map(why).collect::<Vec<_>>().join("; "))
    }
}
