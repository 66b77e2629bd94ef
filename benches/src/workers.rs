//! Two workers on one switch.

use crate::cores;
use crate::headers::Headers;
use crate::packets;
use crate::rig::{Rig, VECTOR};
use crate::scenario::Scenario;
use std::hint::spin_loop;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Times that one worker forwards alone, and then both.
const ROUNDS: usize = 25;
/// Vectors that each forwards each time.
const VECTORS: u64 = 100;

/// How many times as many packets two workers forward as one: they share the tables and what is learned,
/// and each has its own buffers, and its own core. Medians of the vectors of a round, and of the rounds: on
/// a machine whose cores are wanted elsewhere, or change their clock, this is what two workers would reach
/// with a core each.
pub fn speedup(scenario: &Scenario) -> f64 {
    cores::keep_to(0);
    let mut first = Rig::new((scenario.build)(packets::FRAME));
    let mut second = first.beside((scenario.build)(packets::FRAME));
    let turns = Turns::default();
    let mut ratios = thread::scope(|s| {
        let other = s.spawn(|| {
            cores::keep_to(1);
            let each = |_| {
                turns.meet();
                clocks(&mut second)
            };
            (0..ROUNDS).map(each).collect::<Vec<_>>()
        });
        let each = |_| {
            let alone = clocks(&mut first);
            turns.meet();
            (alone, clocks(&mut first))
        };
        let first: Vec<_> = (0..ROUNDS).map(each).collect();
        let second = other.join().expect("the other worker");
        let speedup =
            |((alone, first), second): (&(f64, f64), &f64)| alone / first + alone / second;
        first.iter().zip(&second).map(speedup).collect::<Vec<_>>()
    });
    let (_, &mut median, _) = ratios.select_nth_unstable_by(ROUNDS / 2, f64::total_cmp);
    median
}

/// Clocks a packet.
fn clocks(rig: &mut Rig) -> f64 {
    rig.forget();
    rig.run(VECTORS, VECTOR, &Headers::Warm);
    rig.clocks_per_packet().unwrap_or(f64::INFINITY)
}

/// Where two threads wait for each other, awake: one that slept would begin after the other.
#[derive(Default)]
struct Turns(AtomicUsize);

impl Turns {
    fn meet(&self) {
        let before = self.0.fetch_add(1, Ordering::AcqRel);
        let all = before - before % 2 + 2;
        while self.0.load(Ordering::Acquire) < all {
            spin_loop();
        }
    }
}
