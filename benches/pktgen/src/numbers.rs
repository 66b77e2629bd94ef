//! Numbers on command lines, for clap: what is out of range is refused before anything starts.

use std::ops::RangeInclusive;

/// The longest load, in seconds: nothing runs on by mistake.
const LONGEST: f64 = 120.0;

/// A number more than 0.
pub fn positive(text: &str) -> Result<f64, String> {
    let expected = || "expected a number more than 0".to_owned();
    let number: f64 = text.parse().map_err(|_| expected())?;
    if number.is_finite() && number > 0.0 { Ok(number) } else { Err(expected()) }
}

/// Seconds of a load.
pub fn seconds(text: &str) -> Result<f64, String> {
    seconds_up_to(text, LONGEST)
}

/// Seconds, at least one of a thousand parts.
pub fn seconds_up_to(text: &str, most: f64) -> Result<f64, String> {
    within(text, 0.001..=most)
}

/// A part of something, in percent.
pub fn percent(text: &str) -> Result<f64, String> {
    within(text, 0.0..=100.0)
}

fn within(text: &str, range: RangeInclusive<f64>) -> Result<f64, String> {
    let number: Option<f64> = text.parse().ok();
    number
        .filter(|n| range.contains(n))
        .ok_or_else(|| format!("expected a number from {} to {}", range.start(), range.end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_out_of_range_are_refused_with_the_range() {
        assert_eq!(
            (positive("0.5"), seconds("120"), percent("100")),
            (Ok(0.5), Ok(120.0), Ok(100.0))
        );
        for bad in ["0", "-1", "inf", "NaN", "x"] {
            assert!(positive(bad).is_err(), "{bad}");
            assert_eq!(
                seconds(bad),
                Err("expected a number from 0.001 to 120".to_owned()),
                "{bad}"
            );
        }
        assert_eq!(percent("101"), Err("expected a number from 0 to 100".to_owned()));
    }
}
