//! The pipeline's cost a packet: every path beside VPP's, and what becomes of it with smaller batches,
//! larger frames, cold headers and a second worker.
//!
//! `BENCH_QUICK` set makes it short. A filter as criterion takes it chooses rows.

use criterion::{BenchmarkGroup, Criterion, Throughput, measurement::WallTime};
use podswitch_benches::headers::Headers;
use podswitch_benches::rig::{Rig, VECTOR};
use podswitch_benches::scenario::{self, Scenario};
use podswitch_benches::table::{self, Clocks, Load};
use podswitch_benches::{tsc, workers};

fn main() {
    let (warm_up, measurement) = podswitch_benches::times();
    let mut criterion = Criterion::default()
        .warm_up_time(warm_up)
        .measurement_time(measurement)
        .nresamples(1000)
        .sample_size(10)
        .configure_from_args();

    let mut rows = Vec::new();
    for scenario in scenario::ALL {
        let mut group = criterion.benchmark_group(scenario.name());
        group.throughput(Throughput::Elements(VECTOR as u64));
        let clocks: Vec<_> =
            table::LOADS.iter().map(|l| measure(&mut group, scenario, l)).collect();
        group.finish();
        if clocks[0].is_some() {
            rows.push((scenario, clocks, workers::speedup(scenario)));
        }
    }
    table::print(&rows);
    criterion.final_summary();
}

/// Clocks a packet of a path under a load, unless criterion was told to leave it out.
fn measure(
    group: &mut BenchmarkGroup<'_, WallTime>,
    scenario: &Scenario,
    load: &Load,
) -> Option<Clocks> {
    // Built when criterion first asks, which for a row that was not chosen it never does.
    let mut rig: Option<(Rig, Headers)> = None;
    group.bench_function(load.name, |b| {
        b.iter_custom(|vectors| {
            let (rig, headers) = rig.get_or_insert_with(|| {
                let headers = if load.cold { Headers::cold() } else { Headers::Warm };
                (Rig::new((scenario.build)(load.frame)), headers)
            });
            tsc::duration(rig.run(vectors, load.batch, headers))
        });
    });
    let (rig, _) = rig.as_mut()?;
    Some(Clocks { median: rig.clocks_per_packet()?, least: rig.least_clocks_per_packet()? })
}
