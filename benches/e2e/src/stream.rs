//! TCP between two pods of one node, beside the kernel's bridge: iperf3, both ends and the switch on the
//! machine's CPUs as the scheduler has it.

use podswitch_tests::{Lab, iperf};
use serde::Serialize;

use crate::Options;
use crate::pods::Pods;
use crate::summary::Summary;

/// Connections at once.
const STREAMS: [u32; 2] = [1, 8];

/// What one switch carried.
#[derive(Debug, Serialize)]
pub struct Cell {
    /// The switch.
    pub switch: String,
    /// Connections at once.
    pub streams: u32,
    /// Gbit/s of payload that arrived, one for each round.
    pub gbps: Option<Summary>,
}

/// Measures podswitch and the kernel's bridge in turns.
pub fn run(lab: &Lab, options: &Options) -> anyhow::Result<Vec<Cell>> {
    let switches = Pods::behind_each(lab, options);
    let mut cells = Vec::new();
    for streams in STREAMS {
        let mut seen: Vec<Vec<f64>> = switches.iter().map(|_| Vec::new()).collect();
        for round in 1..=options.rounds {
            for (switch, seen) in switches.iter().zip(&mut seen) {
                let [client, server, ..] = &switch.pods;
                let time = options.seconds.max(1.0);
                let more = format!("--parallel {streams} --time {time:.0}");
                let report = iperf(&client.0, &server.0, &server.1.to_string(), &more);
                let bits = report["sum_received"]["bits_per_second"].as_f64().unwrap_or(0.0);
                eprintln!(
                    "{streams} TCP, round {round}: {:6.2} Gbit/s  {}",
                    bits / 1e9,
                    switch.name
                );
                seen.push(bits / 1e9);
            }
        }
        for (switch, seen) in switches.iter().zip(seen) {
            let switch = switch.name.clone();
            cells.push(Cell { switch, streams, gbps: Summary::of(&seen) });
        }
    }
    switches.into_iter().for_each(Pods::finish);
    Ok(cells)
}

/// The table, in Markdown.
pub fn table(cells: &[Cell]) -> String {
    let mut text = String::from(
        "| TCP streams | switch | Gbit/s, median (min to max) | against the first |\n|---|---|---|---|\n",
    );
    for cell in cells {
        let Some(gbps) = &cell.gbps else { continue };
        let first = cells.iter().find(|c| c.streams == cell.streams).and_then(|c| c.gbps.as_ref());
        let ratio = first.map_or(1.0, |first| gbps.median / first.median);
        text += &format!(
            "| {} | {} | {:.2} ({:.2} to {:.2}) | {ratio:.2} |\n",
            cell.streams, cell.switch, gbps.median, gbps.min, gbps.max
        );
    }
    text
}
