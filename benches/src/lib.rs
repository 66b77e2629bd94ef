//! Benches of the pipeline: the rows of the comparison with FD.io VPP, each a switch with its
//! tables and an endless source of frames, and the clock that they are measured with.

pub mod checks;
pub mod churn;
pub mod cores;
pub mod costs;
pub mod guard;
pub mod guarded;
pub mod headers;
pub mod heap;
pub mod packets;
pub mod rig;
pub mod routes;
pub mod scenario;
pub mod table;
pub mod tsc;
pub mod workers;

use std::time::Duration;

/// How long each bench warms up and measures. With `BENCH_QUICK` set all of them together take two
/// minutes instead of ten, and say less.
pub fn times() -> (Duration, Duration) {
    let quick = std::env::var_os("BENCH_QUICK").is_some();
    let (warm_up, measurement) = if quick { (50, 250) } else { (500, 3000) };
    (Duration::from_millis(warm_up), Duration::from_millis(measurement))
}
