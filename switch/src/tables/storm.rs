//! Storm control: broadcast and multicast of a port, limited to a rate.

use core::sync::atomic::{AtomicU64, Ordering};

/// The fewest frames that pass at once: what an interface that comes up sends at a time.
const LEAST_BURST: u64 = 16;
const NANOS: u64 = 1_000_000_000;

/// A token bucket, kept as the time at which it will be full again (the generic cell rate algorithm,
/// ITU-T I.371). One 64-bit word, which all workers share without a lock, so that the limit is the
/// port's however its frames are spread over workers.
#[derive(Debug)]
pub struct Storm {
    /// Frames a second.
    rate: u32,
    /// Nanoseconds of the engine's clock.
    full_at: AtomicU64,
}

impl Storm {
    /// A full bucket for `rate` frames a second; 0 lets nothing pass. It holds a tenth of a second's
    /// frames, 16 at least.
    pub const fn new(rate: u32) -> Storm {
        Storm { rate, full_at: AtomicU64::new(0) }
    }

    /// Frames a second.
    pub const fn rate(&self) -> u32 {
        self.rate
    }

    /// Frames that may pass at once after a silence.
    pub fn burst(&self) -> u64 {
        if self.rate == 0 { 0 } else { LEAST_BURST.max(u64::from(self.rate) / 10) }
    }

    /// Whether one more frame may pass at `now` milliseconds.
    #[inline]
    pub fn admit(&self, now: u64) -> bool {
        if self.rate == 0 {
            return false;
        }
        let (now, cost) = (now * (NANOS / 1000), NANOS / u64::from(self.rate));
        let depth = self.burst() * cost;
        let spend = |full_at: u64| Some(full_at.max(now) + cost).filter(|&t| t <= now + depth);
        self.full_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, spend).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of `offered` frames a millisecond pass in `millis` milliseconds.
    fn passed(storm: &Storm, start: u64, millis: u64, offered: u64) -> u64 {
        (start..start + millis)
            .map(|now| (0..offered).filter(|_| storm.admit(now)).count() as u64)
            .sum()
    }

    #[test]
    fn the_rate_is_kept_and_a_burst_passes() {
        for rate in [1u32, 10, 999, 1000, 30_000, 1_000_000] {
            let storm = Storm::new(rate);
            let got = passed(&storm, 5000, 10_000, 2000);
            let want = u64::from(rate) * 10 + storm.burst();
            assert!(got.abs_diff(want) <= 1 + want / 1000, "{rate}/s: {got}, not {want}");
        }
    }

    #[test]
    fn a_silence_fills_the_bucket_once() {
        let storm = Storm::new(100);
        assert_eq!(passed(&storm, 0, 1, 1000), 16);
        assert_eq!(passed(&storm, 1, 9, 10), 0, "one every 10 ms");
        assert_eq!(passed(&storm, 10, 1, 10), 1);
        assert_eq!(passed(&storm, 3_600_000, 1, 1000), 16, "not an hour's worth");
    }

    #[test]
    fn zero_lets_nothing_pass() {
        assert_eq!(passed(&Storm::new(0), 0, 100, 100), 0);
    }

    #[test]
    fn workers_share_the_limit() {
        let storm = Storm::new(1000);
        let passed: u64 = std::thread::scope(|s| {
            let run = || (0..2000u64).map(|ms| (0..5).filter(|_| storm.admit(ms)).count() as u64);
            let workers = [0; 4].map(|_| s.spawn(move || run().sum::<u64>()));
            workers.into_iter().map(|w| w.join().unwrap()).sum()
        });
        // Their clocks drift apart in this test: one that is ahead finds a fuller bucket.
        assert!((1900..=2200).contains(&passed), "{passed} in two seconds");
    }
}
