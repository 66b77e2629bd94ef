//! `podswitch show`.

use comfy_table::Cell;
use podswitch_api::method::Empty;
use podswitch_api::view::{Counters, PortCounters, Status};
use podswitch_api::{Request, Response, State};

use super::out::{Failure, Out, list, or_dash, render, table};
use super::{Daemon, object};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  podswitch show                 how the switch is
  podswitch show counters        frames and bytes of every port
  podswitch show drops           why frames were lost, by port and reason
  podswitch show config --json   the desired state, as `apply` takes it")]
pub struct Show {
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Clone, Copy, Debug, Default, clap::Subcommand)]
enum What {
    /// How the switch is.
    #[default]
    Status,
    /// Frames and bytes of every port.
    Counters,
    /// Why frames were lost, by port and reason.
    Drops,
    /// The desired state.
    Config,
    /// All tables: ports, routes, tunnels, neighbours, MAC addresses.
    Tables,
}

impl Show {
    pub fn run(&self, daemon: &Daemon, out: &Out) -> Result<(), Failure> {
        let request = match self.what.unwrap_or_default() {
            What::Status => Request::StatusGet(Empty {}),
            What::Counters | What::Drops => Request::CountersGet(Empty {}),
            What::Config => Request::ConfigGet(Empty {}),
            What::Tables => return object::tables(daemon, out),
        };
        let drops = matches!(self.what, Some(What::Drops));
        daemon.call(&request, out, |response| match response {
            Response::StatusGet(s) => status(&s),
            Response::CountersGet(c) if drops => self::drops(&c),
            Response::CountersGet(c) => counters(&c),
            Response::ConfigGet(state) => config(&state),
            _ => String::new(),
        })
    }
}

fn status(s: &Status) -> String {
    let mut lines = vec![
        format!("podswitch {}, API {}, process {}", s.version, s.api, s.pid),
        format!("up for      {}", duration(s.uptime)),
    ];
    if let Some(node) = &s.node {
        lines.push(format!("node        {node}"));
    }
    if let Some(u) = &s.uplink {
        lines.push(format!(
            "uplink      {} ({}, queues {}, MTU {}, addresses {})",
            u.dev,
            u.mode,
            list(&u.queues),
            u.mtu,
            list(&u.addresses)
        ));
    }
    lines.push(format!(
        "tables      {} ports, {} routes, {} tunnels, {} MAC addresses; snapshot {}",
        s.ports, s.routes, s.tunnels, s.fdb, s.generation
    ));
    for w in &s.workers {
        lines.push(format!(
            "worker {:<4} CPU {}, {} of {} buffers free, snapshot {}",
            w.id,
            or_dash(w.cpu),
            w.frames_free,
            w.frames,
            w.generation
        ));
    }
    lines.extend(s.warnings.iter().map(|w| format!("warning: {w}")));
    lines.join("\n")
}

fn duration(seconds: u64) -> String {
    let (d, h, m, s) = (seconds / 86400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    match (d, h, m) {
        (0, 0, 0) => format!("{s} s"),
        (0, 0, m) => format!("{m} min {s} s"),
        (0, h, m) => format!("{h} h {m} min"),
        (d, h, _) => format!("{d} d {h} h"),
    }
}

fn counters(c: &Counters) -> String {
    let mut table = table([
        "PORT",
        "RX FRAMES",
        "RX BYTES",
        "TX FRAMES",
        "TX BYTES",
        "TX BULK",
        "TX SUPERPACKETS",
        "ORIGINATED",
        "COALESCED",
        "DROPPED",
        "MISSED",
        "NOT LEARNED",
    ]);
    for p in &c.ports {
        table.add_row([
            Cell::new(&p.port),
            Cell::new(p.rx_frames),
            Cell::new(p.rx_bytes),
            Cell::new(p.tx_frames),
            Cell::new(p.tx_bytes),
            Cell::new(p.tx_bulk),
            Cell::new(p.tx_superpackets),
            Cell::new(p.originated),
            Cell::new(p.coalesced),
            Cell::new(p.dropped()),
            Cell::new(p.missed()),
            Cell::new(p.not_learned),
        ]);
    }
    format!("{}\n{}", render(table, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]), sum(c))
}

/// The books: what came in and was made is what went out, alone or as part of another frame, was dropped,
/// or is still queued.
fn sum(c: &Counters) -> String {
    let all = |f: fn(&PortCounters) -> u64| c.ports.iter().map(f).sum::<u64>();
    let (rx, originated) = (all(|p| p.rx_frames), all(|p| p.originated));
    let (tx, coalesced) = (all(|p| p.tx_frames), all(|p| p.coalesced));
    let (dropped, in_flight) = (all(PortCounters::dropped), c.in_flight);
    format!(
        "received {rx} + originated {originated} = \
         sent {tx} + coalesced {coalesced} + dropped {dropped} + in flight {in_flight}"
    )
}

fn drops(c: &Counters) -> String {
    let mut table = table(["PORT", "REASON", "FRAMES", "MEANING"]);
    let mut any = false;
    for p in &c.ports {
        for (reason, n) in p.drops.iter().chain(&p.missed).filter(|(_, n)| **n > 0) {
            any = true;
            let meaning = c.reasons.get(reason).map_or("", String::as_str);
            table.add_row([
                Cell::new(&p.port),
                Cell::new(reason),
                Cell::new(n),
                Cell::new(meaning),
            ]);
        }
    }
    if any { render(table, &[2]) } else { "no frame was dropped".to_owned() }
}

/// As TOML, which can be kept as a configuration file.
fn config(state: &State) -> String {
    let text =
        toml::to_string(state).unwrap_or_else(|e| format!("# not to be written as TOML: {e}"));
    match text.trim_end() {
        "" => "# nothing is configured".to_owned(),
        text => text.to_owned(),
    }
}
