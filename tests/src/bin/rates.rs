//! Measures how exactly rate limits shape: the table of docs/performance.md. As root; see `make
//! bench-rates`.

use std::time::Duration;

use podswitch_tests::{Limit, RatedPods, Stream};

/// Limits in Mbit/s.
const LIMITS: [u64; 4] = [1, 10, 100, 500];
/// Frames that a window holds at least: the last one that arrives in it or does not is then 1 %.
const FRAMES: u64 = 100;

fn main() {
    let seconds = std::env::args().nth(1).map_or(5, |n| n.parse().expect("seconds, a number"));
    println!(
        "| MTU | limit, Mbit/s | of | stream | offered | arrives | of the limit | missed | too many |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for (mtu, more) in [(65535, ""), (1500, "mtu = 1500")] {
        let Some(pods) = RatedPods::new(1, more) else { std::process::exit(1) };
        for mbits in LIMITS {
            let window = Duration::from_secs(seconds.max(FRAMES * mtu * 8 / (mbits * 1_000_000)));
            for limit in [Limit::Ingress, Limit::Egress] {
                pods.limit(limit, mbits * 1_000_000);
                for stream in [Stream::Udp, Stream::Tcp] {
                    let seen = pods.stream(stream, mbits * 1_000_000, window);
                    println!(
                        "| {mtu} | {mbits} | {limit:?} | {stream:?} | {:.1} | {:.2} | {:.1} % | {} | {} |",
                        seen.offered / 1e6,
                        seen.arrived / 1e6,
                        seen.arrived / mbits as f64 / 1e4,
                        seen.missed,
                        seen.limited,
                    );
                }
            }
        }
        pods.daemon.finish();
    }
}
