//! Two workers on one switch.

use crate::headers::Headers;
use crate::packets;
use crate::rig::{Rig, VECTOR};
use crate::scenario::Scenario;
use std::sync::Barrier;
use std::thread;

/// Vectors that each of two workers forwards.
const VECTORS: u64 = 400;

/// How many times as many packets two workers forward as one, which needs `alone` clocks for each: they
/// share the tables and what is learned, and each has its own buffers. Medians: on a machine whose
/// cores are wanted elsewhere, this is what two workers would reach with a core each.
pub fn speedup(scenario: &Scenario, alone: f64) -> f64 {
    let mut first = Rig::new((scenario.build)(packets::FRAME));
    let mut second = first.beside((scenario.build)(packets::FRAME));
    let start = Barrier::new(2);
    let run = |rig: &mut Rig| {
        start.wait();
        rig.run(VECTORS, VECTOR, &Headers::Warm);
        alone / rig.clocks_per_packet().unwrap_or(f64::INFINITY)
    };
    thread::scope(|s| {
        let other = s.spawn(|| run(&mut second));
        run(&mut first) + other.join().expect("the other worker")
    })
}
