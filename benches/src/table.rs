//! The result, beside VPP's.

use crate::scenario::Scenario;
use crate::{packets, tsc};

/// A way of offering frames.
pub struct Load {
    /// What the column is called.
    pub name: &'static str,
    /// Frames that are forwarded at a time.
    pub batch: usize,
    /// Bytes of a frame before encapsulation.
    pub frame: usize,
    /// Whether another core wrote the headers just before.
    pub cold: bool,
}

const fn load(name: &'static str, batch: usize, frame: usize, cold: bool) -> Load {
    Load { name, batch, frame, cold }
}

/// All of them; the first is the one that VPP was measured under.
pub const LOADS: &[Load] = &[
    load("256", 256, packets::FRAME, false),
    load("64", 64, packets::FRAME, false),
    load("16", 16, packets::FRAME, false),
    load("4", 4, packets::FRAME, false),
    load("1", 1, packets::FRAME, false),
    load("353 B", 256, 353, false),
    load("1500 B", 256, 1500, false),
    load("cold", 256, packets::FRAME, true),
];

/// Clocks a packet.
#[derive(Clone, Copy, Debug)]
pub struct Clocks {
    /// The median vector's.
    pub median: f64,
    /// [`crate::rig::Rig::least_clocks_per_packet`].
    pub least: f64,
}

/// A path, its clocks a packet under each of [`LOADS`], and the speedup of a second worker.
pub type Row<'a> = (&'a Scenario, Vec<Option<Clocks>>, f64);

/// Prints what was measured.
pub fn print(rows: &[Row<'_>]) {
    if rows.is_empty() {
        return;
    }
    println!("\nClocks a packet, {}", machine());
    println!(
        "least: batches of 256 frames of 64 bytes, the vector that one in fifty was faster than:"
    );
    println!("what the code costs while nobody else has a part of the core. All else are medians:");
    println!(
        "batches of 256, 64, 16, 4 and 1 frames of 64 bytes; batches of 256 larger ones; headers that"
    );
    println!("another core wrote; and how many times as much two workers forward as one.\n");
    print!("{:<32} {:>6} {:>6} {:>7}", "path", "VPP", "bar", "least");
    LOADS.iter().for_each(|load| print!(" {:>7}", load.name));
    println!(" {:>5}", "two");
    for (scenario, clocks, speedup) in rows {
        print!("{:<32} {:>6.1} {:>6.0}", scenario.name(), scenario.vpp, scenario.at_most);
        let least = clocks.first().copied().flatten().map(|clocks| clocks.least);
        for clocks in [least].into_iter().chain(clocks.iter().map(|c| c.map(|c| c.median))) {
            let shown = clocks.map_or("-".into(), |clocks| format!("{clocks:.1}"));
            print!(" {shown:>7}");
        }
        println!(" {speedup:>5.2}");
    }
    println!("\nVPP was measured on an AMD Zen 4 with a TSC of 2.6 GHz: ratios to it are a hint.");
}

/// The processor, and the rate of its counter.
fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|l| l.strip_prefix("model name")?.split(": ").nth(1));
    format!("{}, TSC {:.2} GHz", model.unwrap_or("this processor"), tsc::per_nanosecond())
}
