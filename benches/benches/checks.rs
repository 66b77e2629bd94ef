//! What each check costs, in instructions a packet without it and with it, and in clocks.
//!
//! Instructions are counted by callgrind and repeat exactly. Clocks are those of the vector that one in
//! fifty was faster than, the lowest of a few runs of both switches in turn.

use podswitch_benches::checks::{ALL, Check};
use podswitch_benches::guard;
use podswitch_benches::headers::Headers;
use podswitch_benches::rig::{Rig, VECTOR};
use std::process::ExitCode;

/// Vectors that a path is counted over, and timed over in each run.
const COUNTED: u64 = 16;
const TIMED: u64 = 500;
const RUNS: usize = 5;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    // What callgrind runs.
    if args.next().as_deref() == Some("--check") {
        let (number, on) = (args.next().expect("a number"), args.next().expect("on or off"));
        let check = &ALL[number.parse::<usize>().expect("a number")];
        Rig::new((check.build)(on == "on")).run(COUNTED, VECTOR, &Headers::Warm);
        return ExitCode::SUCCESS;
    }
    println!("| check | packets | instructions without | with | more | clocks without | with |");
    println!("|---|---|---|---|---|---|---|");
    for (number, check) in ALL.iter().enumerate() {
        let count = |on: &str| {
            let total = guard::count(&["--check", &number.to_string(), on])?;
            Ok::<_, std::io::Error>(total as f64 / (COUNTED * VECTOR as u64) as f64)
        };
        let (without, with) = match (count("off"), count("on")) {
            (Ok(without), Ok(with)) => (without, with),
            (Err(e), _) | (_, Err(e)) => {
                eprintln!("{}: callgrind: {e}", check.name);
                return ExitCode::FAILURE;
            }
        };
        let [off, on] = clocks(check);
        println!(
            "| {} | {} | {without:.0} | {with:.0} | {:+.0} | {off:.0} | {on:.0} |",
            check.name,
            check.packets,
            with - without
        );
    }
    ExitCode::SUCCESS
}

/// Clocks a packet without a check and with it.
fn clocks(check: &Check) -> [f64; 2] {
    let mut rigs = [false, true].map(|on| Rig::new((check.build)(on)));
    let mut best = [f64::INFINITY; 2];
    for _ in 0..RUNS {
        for (rig, best) in rigs.iter_mut().zip(&mut best) {
            rig.run(TIMED, VECTOR, &Headers::Warm);
            *best = best.min(rig.least_clocks_per_packet().unwrap_or(f64::INFINITY));
        }
    }
    best
}
