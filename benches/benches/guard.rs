//! Instructions a packet, path by path, against the budget in `benches/budget.txt`.
//!
//! Clocks differ from run to run and machine to machine; the number of instructions does not. Each
//! path is run under callgrind, which counts what [`podswitch_benches::rig`] forwards with.
//!
//! `--clocks [BATCH [PATH]]` prints clocks instead, the fiftieth that was fastest and the median: to
//! run two builds in turn on a busy machine. With `cold` for a batch it is of 256, its headers written by
//! another core just before. `--costs` prints which part of its way needs how many of a
//! packet's instructions, path by path.

use podswitch_benches::headers::Headers;
use podswitch_benches::rig::{Rig, VECTOR};
use podswitch_benches::scenario::{self, Scenario};
use podswitch_benches::{costs, guard, packets};
use std::process::ExitCode;

/// Vectors that a path is counted over, and timed over.
const COUNTED: u64 = 16;
const TIMED: u64 = 2000;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    match args.next().as_deref() {
        // What callgrind runs.
        Some("--path") => {
            let name = args.next().expect("--path NAME [BATCH]");
            let batch = args.next().map_or(VECTOR, |n| n.parse().expect("--path NAME BATCH"));
            let wanted = |s: &&Scenario| s.name() == name;
            let scenario = scenario::every().find(wanted).expect("a path of the table");
            Rig::new((scenario.build)(packets::FRAME)).run(COUNTED, batch, &Headers::Warm);
            ExitCode::SUCCESS
        }
        Some("--clocks") => {
            let load = args.next().unwrap_or_else(|| VECTOR.to_string());
            let (batch, headers) = match load.as_str() {
                "cold" => (VECTOR, Headers::cold()),
                batch => (batch.parse().expect("--clocks BATCH"), Headers::Warm),
            };
            let wanted = args.next().unwrap_or_default();
            for scenario in scenario::every().filter(|s| s.name().contains(&wanted)) {
                let mut rig = Rig::new((scenario.build)(packets::FRAME));
                rig.run(TIMED, batch, &headers);
                let least = rig.least_clocks_per_packet().unwrap_or_default();
                let median = rig.clocks_per_packet().unwrap_or_default();
                let bar = scenario.at_most;
                println!("{:<32} {least:>7.1} {median:>7.1} {bar:>6.0}", scenario.name());
            }
            ExitCode::SUCCESS
        }
        Some("--costs") => {
            // Larger tables take the same way.
            let smallest = |s: &&Scenario| s.size.starts_with("1 ");
            match costs::print(scenario::ALL.iter().filter(smallest), COUNTED * VECTOR as u64) {
                Ok(()) => ExitCode::SUCCESS,
                Err(e) => {
                    eprintln!("{e}");
                    ExitCode::FAILURE
                }
            }
        }
        _ => guard::run(COUNTED * VECTOR as u64),
    }
}
