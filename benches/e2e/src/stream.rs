//! TCP between two pods of one node, beside the kernel's bridge, and of two nodes, beside the kernel's
//! vxlan: iperf3, both ends and the switches on the machine's CPUs as the scheduler has it.
//!
//! CPU time is that of iperf3's two ends and of podswitch, as the scheduler has it: what the kernel does for
//! them on their time is in it, what it does on threads of its own (ksoftirqd) is not.

use podswitch_tests::{Lab, iperf};
use serde::Serialize;
use serde_json::Value;

use crate::Options;
use crate::pods::{Pods, Workers};
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
    /// Whether the pods are on two nodes.
    pub across: bool,
    /// Gbit/s of payload that arrived, one for each round.
    pub gbps: Option<Summary>,
    /// Gbit for each second of CPU time, one for each round.
    pub per_cpu: Option<Summary>,
}

/// Measures podswitch and the kernel's switches in turns.
pub fn run(lab: &Lab, options: &Options) -> anyhow::Result<Vec<Cell>> {
    let mut cells = measure(Pods::behind_each(lab, options, Workers::Anywhere), options, false)?;
    cells.extend(measure(Pods::across_nodes(lab, options), options, true)?);
    Ok(cells)
}

fn measure(switches: Vec<Pods>, options: &Options, across: bool) -> anyhow::Result<Vec<Cell>> {
    let mut cells = Vec::new();
    for streams in STREAMS {
        let mut seen: Vec<(Vec<f64>, Vec<f64>)> =
            switches.iter().map(|_| Default::default()).collect();
        for round in 1..=options.rounds {
            for (switch, seen) in switches.iter().zip(&mut seen) {
                let (client, server) = (&switch.pods[0], &switch.pods[1]);
                let time = options.seconds.max(1.0);
                let more = format!("--parallel {streams} --time {time:.0}");
                let before = switch.cpu_time()?;
                let report = iperf(&client.0, &server.0, &server.1.to_string(), &more);
                let used = switch.cpu_time()? - before;
                let number = |at: &str| report.pointer(at).and_then(Value::as_f64).unwrap_or(0.0);
                let gbps = number("/sum_received/bits_per_second") / 1e9;
                let ends = number("/cpu_utilization_percent/host_total")
                    + number("/cpu_utilization_percent/remote_total");
                let cpus = ends / 100.0 + used.as_secs_f64() / number("/sum_received/seconds");
                eprintln!(
                    "{streams} TCP, round {round}: {gbps:6.2} Gbit/s, {:6.2} a CPU second, {:5} segments \
                     again  {}",
                    gbps / cpus,
                    number("/sum_sent/retransmits"),
                    switch.name
                );
                seen.0.push(gbps);
                seen.1.push(gbps / cpus);
            }
        }
        for (switch, seen) in switches.iter().zip(seen) {
            let switch = switch.name.clone();
            let (gbps, per_cpu) = (Summary::of(&seen.0), Summary::of(&seen.1));
            cells.push(Cell { switch, streams, across, gbps, per_cpu });
        }
    }
    switches.into_iter().for_each(Pods::finish);
    Ok(cells)
}

/// The table, in Markdown.
pub fn table(cells: &[Cell]) -> String {
    let mut text = String::from(
        "| pods of | TCP streams | switch | Gbit/s, median (min to max) | against the last | \
         Gbit a CPU second |\n|---|---|---|---|---|---|\n",
    );
    for cell in cells {
        let (Some(gbps), Some(per_cpu)) = (&cell.gbps, &cell.per_cpu) else { continue };
        let same = |c: &&Cell| (c.streams, c.across) == (cell.streams, cell.across);
        let kernel = cells.iter().rfind(same).and_then(|c| c.gbps.as_ref());
        let ratio = kernel.map_or(1.0, |kernel| gbps.median / kernel.median);
        text += &format!(
            "| {} | {} | {} | {:.2} ({:.2} to {:.2}) | {ratio:.2} | {:.2} |\n",
            if cell.across { "two nodes" } else { "one node" },
            cell.streams,
            cell.switch,
            gbps.median,
            gbps.min,
            gbps.max,
            per_cpu.median
        );
    }
    text
}
