//! The pipeline's cost a packet, row by row beside VPP's.
//!
//! `BENCH_BATCH` (256) is how many frames are processed at a time, `BENCH_QUICK` set makes it short.

use criterion::{Criterion, Throughput};
use podswitch_benches::rig::{Rig, VECTOR};
use podswitch_benches::{scenario, table, tsc};
use std::env;

fn main() {
    let batch = env::var("BENCH_BATCH").map_or(VECTOR, |n| n.parse().expect("BENCH_BATCH"));
    assert!((1..=VECTOR).contains(&batch), "BENCH_BATCH: expected 1 to {VECTOR}");
    let (warm_up, measurement) = podswitch_benches::times();
    let mut criterion = Criterion::default()
        .warm_up_time(warm_up)
        .measurement_time(measurement)
        .sample_size(20)
        .configure_from_args();

    let mut results = Vec::new();
    for scenario in scenario::ALL {
        // Built when criterion first asks, which for a row that was not chosen it never does.
        let mut rig: Option<Rig> = None;
        let mut group = criterion.benchmark_group(scenario.path);
        group.throughput(Throughput::Elements(VECTOR as u64));
        group.bench_function(scenario.size, |b| {
            b.iter_custom(|vectors| {
                let rig = rig.get_or_insert_with(|| Rig::new((scenario.build)()));
                tsc::duration(rig.run(vectors, batch))
            });
        });
        group.finish();
        if let Some(clocks) = rig.as_mut().and_then(Rig::clocks_per_packet) {
            results.push((scenario, clocks));
        }
    }
    table::print(batch, &results);
    criterion.final_summary();
}
