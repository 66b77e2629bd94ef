//! Rate limits of ports, measured between two pods of one node by their kernels' counters.

use std::ops::RangeInclusive;
use std::time::Duration;

use podswitch_tests::{Limit, RatedPods, Stream};

/// How much of its rate a limit must give, and at most.
const WITHIN: RangeInclusive<f64> = 0.95..=1.05;
const WINDOW: Duration = Duration::from_secs(2);

/// What part of a limit a stream gets. Where others starve the machine a stream may get less than it
/// could: one that does is measured again, four times at most.
#[track_caller]
fn assert_shaped(pods: &RatedPods, limit: Limit, mbits: u64, stream: Stream) {
    let rate = mbits * 1_000_000;
    let measure = || pods.stream(stream, rate, WINDOW);
    let is_enough = |got: f64| got / rate as f64 >= *WITHIN.start();
    let mut seen = measure();
    for _ in 0..4 {
        if is_enough(seen.arrived) {
            break;
        }
        seen = measure();
    }
    let part = seen.arrived / rate as f64;
    assert!(WITHIN.contains(&part), "{limit:?} {mbits} Mbit/s, {stream:?}: {part} of it, {seen:?}");
    if stream == Stream::Udp {
        // A quarter of the limit, since a starved machine offers less.
        let excess = rate / 4 * WINDOW.as_secs() / 8 / 1512;
        assert!(seen.limited > excess, "of {excess} too many at least {} are named", seen.limited);
    }
}

#[test]
fn streams_get_the_rate_of_the_limit() {
    let Some(pods) = RatedPods::new(1, "") else { return };
    let index = pods.pods[0].ip("-o link show dev eth0");
    for (limit, mbits) in [(Limit::Ingress, 10), (Limit::Egress, 100), (Limit::Ingress, 500)] {
        pods.limit(limit, mbits * 1_000_000);
        for stream in [Stream::Udp, Stream::Tcp] {
            assert_shaped(&pods, limit, mbits, stream);
        }
        let slow = &pods.daemon.json("port list")[usize::from(limit == Limit::Ingress)];
        let key = if limit == Limit::Ingress { "ingress_rate" } else { "egress_rate" };
        assert_eq!(slow[key], mbits * 1_000_000, "{slow}");
    }
    assert_eq!(pods.pods[0].ip("-o link show dev eth0"), index, "the interface is the same");
    pods.daemon.finish();
}

#[test]
fn a_slow_limit_with_small_packets() {
    let Some(pods) = RatedPods::new(1, "mtu = 1500") else { return };
    for limit in [Limit::Ingress, Limit::Egress] {
        pods.limit(limit, 1_000_000);
        for stream in [Stream::Udp, Stream::Tcp] {
            assert_shaped(&pods, limit, 1, stream);
        }
    }
    pods.daemon.finish();
}

/// The queue is short: a ping beside a stream that fills it waits for 25 ms, not for seconds.
#[test]
fn what_waits_waits_for_a_bounded_time() {
    let Some(pods) = RatedPods::new(1, "") else { return };
    pods.limit(Limit::Egress, 20_000_000);
    let slowest = std::thread::scope(|s| {
        let stream = s.spawn(|| pods.stream(Stream::Udp, 20_000_000, WINDOW));
        std::thread::sleep(Duration::from_millis(1500));
        let text = pods.pods[0].try_sh("ping -n -c20 -i0.05 -W1 10.9.0.2").stdout;
        stream.join().expect("streaming");
        let times = text.split("time=").skip(1).filter_map(|t| t.split(' ').next());
        times.filter_map(|t| t.parse::<f64>().ok()).fold(0.0, f64::max)
    });
    // A busy machine adds to it; a queue without a bound would hold more than a second.
    assert!((5.0..200.0).contains(&slowest), "{slowest} ms");
    pods.daemon.finish();
}
