//! The throughput of RFC 2544, section 26.1: the highest rate at which the device loses no more than
//! is tolerated, by binary search.
//!
//! The RFC tolerates nothing (non-drop rate, NDR); the partial drop rate (PDR) of FD.io's CSIT
//! tolerates half a percent. The RFC's trials last a minute each; these last as long as they are told.

use serde::Serialize;

/// One trial.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Trial {
    /// Frames a second that were asked for.
    pub asked_pps: f64,
    /// Frames a second that were sent: less, where the generator is slower.
    pub sent_pps: f64,
    /// Frames a second that came.
    pub received_pps: f64,
    /// Part that was lost, from 0 to 1.
    pub loss: f64,
}

/// How far to search.
#[derive(Clone, Copy, Debug)]
pub struct Search {
    /// The part that may be lost, from 0 to 1.
    pub tolerance: f64,
    /// The rate to begin with, and the highest, in frames a second.
    pub most: f64,
    /// How close to the truth the answer is, as a part of `most`.
    pub precision: f64,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Found {
    /// The part that was tolerated.
    pub tolerance: f64,
    /// The highest rate at which no more was lost, in frames a second; 0 if there was none.
    pub pps: f64,
    /// Whether it was the generator that could not go faster.
    pub generator_limited: bool,
    /// The trials, in order.
    pub trials: Vec<Trial>,
}

impl Search {
    /// Searches. `trial` runs one at a rate.
    pub fn run<E>(&self, mut trial: impl FnMut(f64) -> Result<Trial, E>) -> Result<Found, E> {
        let (mut low, mut high) = (0.0, self.most);
        let mut trials = Vec::new();
        let mut best: Option<Trial> = None;
        let mut rate = self.most;
        loop {
            let outcome = trial(rate)?;
            trials.push(outcome);
            if outcome.loss <= self.tolerance {
                low = rate;
                if best.is_none_or(|b| outcome.sent_pps > b.sent_pps) {
                    best = Some(outcome);
                }
                // Asking for more would send no more.
                if outcome.sent_pps < rate * 0.98 {
                    break;
                }
            } else {
                // What the generator sent was too much already.
                high = rate.min(outcome.sent_pps.max(low));
            }
            if high - low <= self.precision * self.most {
                break;
            }
            rate = f64::midpoint(low, high);
        }
        Ok(Found {
            tolerance: self.tolerance,
            pps: best.map_or(0.0, |b| b.sent_pps),
            generator_limited: best.is_some_and(|b| b.sent_pps < b.asked_pps * 0.98),
            trials,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    /// A device that forwards up to `capacity`, behind a generator that sends up to `fastest`.
    fn device(capacity: f64, fastest: f64) -> impl FnMut(f64) -> Result<Trial, Infallible> {
        move |asked_pps| {
            let sent_pps = asked_pps.min(fastest);
            let received_pps = sent_pps.min(capacity);
            Ok(Trial { asked_pps, sent_pps, received_pps, loss: 1.0 - received_pps / sent_pps })
        }
    }

    fn search(tolerance: f64, most: f64) -> Search {
        Search { tolerance, most, precision: 0.01 }
    }

    #[test]
    fn the_capacity_is_found_within_the_precision() {
        for capacity in [37_000.0, 400_000.0, 990_000.0] {
            let Ok(found) = search(0.0, 1e6).run(device(capacity, 1e9));
            let below = capacity - found.pps;
            assert!((0.0..=10_000.0).contains(&below), "{capacity}: {found:?}");
            assert!(found.trials.len() <= 8 && !found.generator_limited, "{found:?}");
        }
    }

    #[test]
    fn a_tolerated_loss_raises_the_rate() {
        let Ok(ndr) = search(0.0, 1e5).run(device(50_000.0, 1e9));
        let Ok(pdr) = search(0.2, 1e5).run(device(50_000.0, 1e9));
        assert!(ndr.pps <= 50_000.0);
        assert!((61_000.0..=62_501.0).contains(&pdr.pps), "{pdr:?}");
    }

    #[test]
    fn a_slow_generator_ends_the_search_and_is_named() {
        let Ok(found) = search(0.0, 1e6).run(device(1e9, 300_000.0));
        assert_eq!((found.pps, found.trials.len()), (300_000.0, 1));
        assert!(found.generator_limited);
    }

    /// A first trial above both: the search goes on below what was sent.
    #[test]
    fn a_slow_generator_above_the_capacity_is_no_limit() {
        let Ok(found) = search(0.0, 1e6).run(device(200_000.0, 300_000.0));
        assert!((190_000.0..=200_000.0).contains(&found.pps), "{found:?}");
        assert!(!found.generator_limited);
    }

    #[test]
    fn a_device_that_always_loses_has_no_throughput() {
        let lossy = |rate| {
            Ok::<_, Infallible>(Trial {
                asked_pps: rate,
                sent_pps: rate,
                received_pps: rate / 2.0,
                loss: 0.5,
            })
        };
        let Ok(found) = search(0.005, 1e5).run(lossy);
        assert_eq!(found.pps, 0.0);
        assert!(found.trials.len() < 12);
    }
}
