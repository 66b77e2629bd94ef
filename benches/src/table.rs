//! The result beside VPP's.

use crate::scenario::Scenario;
use crate::tsc;

/// Prints what was measured, in clocks a packet.
pub fn print(batch: usize, rows: &[(&Scenario, f64)]) {
    if rows.is_empty() {
        return;
    }
    println!("\nThe pipeline, 64-byte frames, {batch} at a time, {}", machine());
    println!(
        "{:<16} {:<15} {:>8} {:>8} {:>8} {:>8} {:>7}",
        "path", "tables", "clocks", "ns", "at most", "VPP", "of VPP"
    );
    for (row, clocks) in rows {
        println!(
            "{:<16} {:<15} {:>8.1} {:>8.1} {:>8.0} {:>8.1} {:>6.0}%{}",
            row.path,
            row.size,
            clocks,
            clocks / tsc::per_nanosecond(),
            row.at_most,
            row.vpp,
            100.0 * clocks / row.vpp,
            if *clocks > row.at_most { "  over" } else { "" }
        );
    }
    println!(
        "VPP was measured on an AMD Zen 4 with a TSC of 2.6 GHz: compare ratios between rows."
    );
}

/// The processor, and the rate of its counter.
fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|l| l.strip_prefix("model name")?.split(": ").nth(1));
    format!("{}, TSC {:.2} GHz", model.unwrap_or("this processor"), tsc::per_nanosecond())
}
