//! The rate limit of a port in one direction.

use core::sync::atomic::{AtomicU64, Ordering};

/// Units of the bucket's time in a millisecond: sixteenths of a nanosecond, so that a small frame at
/// 100 Gbit/s costs a whole number of them to within 1 %. 64 bits of them last for 36 years.
const UNITS: u64 = 16_000_000;
/// What may wait for a limit, in milliseconds at its rate.
const QUEUE_MS: u64 = 25;
/// What a bucket holds when nobody says, in milliseconds at its rate. The kernel may let a worker on a busy
/// machine wait for its turn that long, and what the bucket cannot hold meanwhile is lost to the limit.
const BURST_MS: u64 = 50;
/// The least that a bucket holds, in milliseconds at its rate: a worker may be woken so late.
const LEAST_BURST_MS: u64 = 10;

/// A token bucket, kept as the time at which it will be full again (the generic cell rate algorithm,
/// ITU-T I.371). One 64-bit word, which all workers share without a lock, so that the limit is the
/// port's however its frames are spread over workers.
///
/// What passes in any time *t* is at most `rate * t + burst`, where frames of more than half a burst
/// may exceed it by their own length: a bucket that is half full lets them pass and owes the rest. A
/// bucket may so be smaller than a frame, which otherwise would never pass.
#[derive(Debug)]
pub struct TokenBucket {
    /// Bits a second.
    rate: u64,
    /// Bits, as asked for.
    burst: Option<u64>,
    /// What it holds, as the time to fill it.
    depth: u64,
    full_at: AtomicU64,
}

impl TokenBucket {
    /// A full bucket for `rate` bits a second (one at least) that holds `burst` bits, but no less than
    /// 10 ms' worth; 50 ms' worth when it is not said.
    pub fn new(rate: u64, burst: Option<u64>) -> TokenBucket {
        let rate = rate.max(1);
        let depth = burst.map_or(BURST_MS * UNITS, |burst| {
            let time = u128::from(burst) * u128::from(UNITS) * 1000 / u128::from(rate);
            // A quarter of what the clock can count, so that sums do not wrap.
            u64::try_from(time).unwrap_or(u64::MAX).min(u64::MAX / 4)
        });
        let depth = depth.max(LEAST_BURST_MS * UNITS);
        TokenBucket { rate, burst, depth, full_at: AtomicU64::new(0) }
    }

    /// Whether it was made from these.
    pub fn is_of(&self, rate: u64, burst: Option<u64>) -> bool {
        (self.rate, self.burst) == (rate, burst)
    }

    /// Bits a second.
    pub const fn rate(&self) -> u64 {
        self.rate
    }

    /// Bits that it holds.
    pub fn burst(&self) -> u64 {
        let bits = u128::from(self.depth) * u128::from(self.rate) / (u128::from(UNITS) * 1000);
        u64::try_from(bits).unwrap_or(u64::MAX)
    }

    /// Bytes that may wait for it: so many that the last of them waits for 25 ms.
    pub const fn queue_bytes(&self) -> u64 {
        self.rate.saturating_mul(QUEUE_MS) / 8000
    }

    /// The time that `bytes` take at the rate. Rounded up: never more than the rate.
    fn cost(&self, bytes: usize) -> u64 {
        let time = (bytes as u128 * u128::from(8 * 1000 * UNITS)).div_ceil(u128::from(self.rate));
        u64::try_from(time).unwrap_or(u64::MAX).min(u64::MAX / 4)
    }

    /// How far ahead of the clock the bucket may be when something of this cost is to pass.
    fn lead(&self, cost: u64) -> u64 {
        self.depth - cost.min(self.depth / 2)
    }

    /// Takes the tokens of a frame of `bytes` at `now` milliseconds; false when there are too few.
    #[inline]
    pub fn take(&self, now: u64, bytes: usize) -> bool {
        let (now, cost) = (now.saturating_mul(UNITS), self.cost(bytes));
        let spend = |full_at: u64| {
            (full_at <= now.saturating_add(self.lead(cost)))
                .then(|| full_at.max(now).saturating_add(cost))
        };
        self.full_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, spend).is_ok()
    }

    /// The millisecond at which [`TokenBucket::take`] will succeed for a frame of `bytes`, if nobody
    /// takes before.
    pub fn ready_at(&self, bytes: usize) -> u64 {
        let full_at = self.full_at.load(Ordering::Relaxed);
        full_at.saturating_sub(self.lead(self.cost(bytes))).div_ceil(UNITS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What passes of frames that are always there, in bits by millisecond.
    fn greedy(bucket: &TokenBucket, start: u64, millis: u64, len: usize) -> Vec<u64> {
        let passed = |now| (0..).take_while(|_| bucket.take(now, len)).count();
        (start..start + millis).map(|now| 8 * (len * passed(now)) as u64).collect()
    }

    #[test]
    fn what_is_not_said_is_50_ms() {
        assert_eq!(TokenBucket::new(8_000_000, None).burst(), 400_000);
        assert_eq!(TokenBucket::new(8_000_000, None).queue_bytes(), 25_000);
        assert_eq!(TokenBucket::new(8_000_000, Some(8_000_000)).burst(), 8_000_000);
        assert_eq!(TokenBucket::new(8_000_000, Some(1)).burst(), 80_000, "10 ms at least");
    }

    #[test]
    fn a_silence_fills_the_bucket_once() {
        let bucket = TokenBucket::new(1_000_000, Some(100_000));
        let first = |at| greedy(&bucket, at, 1, 125)[0];
        assert_eq!(first(5), 100_000);
        assert_eq!(first(6), 1000);
        assert_eq!(first(3_600_000), 100_000, "not an hour's worth");
    }

    #[test]
    fn a_frame_larger_than_the_bucket_passes_and_is_paid_for() {
        let bucket = TokenBucket::new(1_000_000, Some(10_000));
        assert!(bucket.take(0, 65_549) && !bucket.take(500, 65_549));
        let ready = bucket.ready_at(65_549);
        assert!(!bucket.take(ready - 1, 65_549) && bucket.take(ready, 65_549), "{ready}");
        // 524 ms less half a bucket.
        assert_eq!(ready, 525 - 5);
    }

    #[test]
    fn extremes_do_not_overflow() {
        for rate in [0, 1, 1000, u64::MAX] {
            for burst in [None, Some(0), Some(u64::MAX)] {
                let bucket = TokenBucket::new(rate, burst);
                assert!(bucket.take(u64::MAX / UNITS, 65_549));
                bucket.take(u64::MAX, usize::MAX);
                bucket.ready_at(usize::MAX);
                let _ = (bucket.burst(), bucket.queue_bytes());
            }
        }
    }

    #[test]
    fn workers_share_the_limit() {
        let bucket = TokenBucket::new(10_000_000, Some(100_000));
        let run =
            || (0..2000u64).map(|now| u64::from(bucket.take(now, 1250)) * 10_000).sum::<u64>();
        let bits: u64 = std::thread::scope(|s| {
            [0; 4].map(|_| s.spawn(run)).into_iter().map(|w| w.join().unwrap()).sum()
        });
        // Each has had a chance a millisecond; their clocks drift apart in this test.
        assert!((19_000_000..=21_000_000).contains(&bits), "{bits} in two seconds at 10 Mbit/s");
    }

    proptest! {
        /// Over every window: at most `rate * t + burst` and the excess of one large frame. Over all
        /// of it, though its worker looks only every few milliseconds: no less than 95 %.
        #[test]
        fn the_rate_is_never_exceeded_and_always_given(
            rate in prop_oneof![100_000u64..10_000_000, 10_000_000..20_000_000_000u64],
            burst in prop_oneof![
                Just(None), (1u64..100_000_000).prop_map(Some),
            ],
            len in 60usize..65_550,
            start in 0u64..1 << 35,
            late in prop::collection::vec(1u64..5, 1..50),
        ) {
            // So long that one frame is 1 % of it.
            let cost = 8 * len as u64 * 1000 / rate;
            let millis = 2000.max(100 * cost).min(60_000);
            prop_assume!(rate * millis / 1000 / (8 * len as u64) < 300_000);
            let bucket = TokenBucket::new(rate, burst);
            let (mut now, mut passed) = (start, Vec::new());
            for &wait in late.iter().cycle() {
                let bits = greedy(&bucket, now, 1, len)[0];
                passed.push((now, bits));
                now += wait;
                if now > start + millis {
                    break;
                }
            }
            let excess = (8 * len as u64).saturating_sub(bucket.burst() / 2);
            let most = bucket.burst() + excess + 1;
            // The most that any window from its first millisecond on has above the rate.
            let (mut above, mut last) = (0u128, start);
            for &(at, bits) in &passed {
                let refill = u128::from(rate) * u128::from(at - last);
                above = above.saturating_sub(refill) + 1000 * u128::from(bits);
                prop_assert!(above <= 1000 * u128::from(most), "{above} > 1000 * {most} at {at}");
                last = at;
            }
            let all: u64 = passed.iter().map(|p| p.1).sum();
            prop_assert!(all * 100 >= rate * (last - start) / 1000 * 95, "{all} of {rate} bit/s");
        }
    }
}
