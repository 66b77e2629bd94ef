//! What a measurement came to, for people and as JSON.

use hdrhistogram::Histogram;
use serde::Serialize;

/// One measurement.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// How frames were sent.
    pub engine: &'static str,
    /// How they were received.
    pub sink: crate::sink::Kind,
    /// Mean size of a frame as it was sent, in bytes, without the frame check sequence.
    pub frame_bytes: f64,
    /// How long frames were sent, in seconds.
    pub seconds: f64,
    /// Frames sent.
    pub sent: u64,
    /// Frames sent a second.
    pub sent_pps: f64,
    /// Frames received.
    pub received: u64,
    /// Frames received a second of sending.
    pub received_pps: f64,
    /// Bits received a second of sending, of the frames as they arrived.
    pub received_bps: f64,
    /// Frames that were not the generator's.
    pub others: u64,
    /// Part of the frames that was lost, from 0 to 1.
    pub loss: f64,
    /// How long frames took.
    pub latency: Option<Latency>,
    /// The receiving interface's own counters, over the same time.
    pub kernel: KernelCounters,
}

/// What the kernel counted meanwhile on the interface that receives.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct KernelCounters {
    /// Frames received.
    pub rx_frames: u64,
    /// Frames dropped on reception.
    pub rx_dropped: u64,
}

/// Latency, in microseconds.
#[derive(Clone, Debug, Serialize)]
pub struct Latency {
    /// Frames with a time.
    pub samples: u64,
    /// The shortest.
    pub min: f64,
    /// The median.
    pub p50: f64,
    /// 90 of 100 took at most this.
    pub p90: f64,
    /// 99 of 100.
    pub p99: f64,
    /// 999 of 1000.
    pub p99_9: f64,
    /// The longest.
    pub max: f64,
    /// Pairs of (part of the frames, microseconds), for a plot.
    pub distribution: Vec<(f64, f64)>,
}

impl Latency {
    /// Of a histogram of nanoseconds.
    pub fn of(histogram: &Histogram<u64>) -> Latency {
        const HALVINGS: u32 = 5;
        let micros = |n: u64| n as f64 / 1000.0;
        let at = |q: f64| micros(histogram.value_at_quantile(q));
        let distribution = histogram
            .iter_quantiles(HALVINGS)
            .map(|v| (v.quantile_iterated_to(), micros(v.value_iterated_to())))
            .collect();
        Latency {
            samples: histogram.len(),
            min: micros(histogram.min()),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p99_9: at(0.999),
            max: micros(histogram.max()),
            distribution,
        }
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kpps = |pps: f64| pps / 1000.0;
        writeln!(
            f,
            "sent      {:>12} frames of {:.1} bytes in {:.2} s: {:.1} kpps ({})",
            self.sent,
            self.frame_bytes,
            self.seconds,
            kpps(self.sent_pps),
            self.engine
        )?;
        writeln!(
            f,
            "received  {:>12} frames: {:.1} kpps, {:.1} Mbit/s",
            self.received,
            kpps(self.received_pps),
            self.received_bps / 1e6
        )?;
        write!(f, "lost      {:>11.3} %", self.loss * 100.0)?;
        if let Some(l) = &self.latency {
            write!(
                f,
                "\nlatency   min {:.1}  p50 {:.1}  p90 {:.1}  p99 {:.1}  p99.9 {:.1}  max {:.1} us",
                l.min, l.p50, l.p90, l.p99, l.p99_9, l.max
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_in_microseconds() {
        let mut histogram = Histogram::<u64>::new(3).unwrap();
        (1..=1000).for_each(|n| histogram.record(n * 1000).unwrap());
        let latency = Latency::of(&histogram);
        let near = |value: f64, expected: f64| (value - expected).abs() / expected < 0.002;
        assert!(near(latency.p50, 500.0) && near(latency.p99_9, 999.0), "{latency:?}");
        assert!(near(latency.min, 1.0) && near(latency.max, 1000.0), "{latency:?}");
        assert!(latency.distribution.is_sorted_by(|a, b| a.1 <= b.1));
    }
}
