//! A set of numbers as ranges: as small for a /64 as for a /30, since what is taken of a prefix lies
//! together.

use std::collections::BTreeMap;

/// A set of numbers. Ranges neither overlap nor touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges {
    /// The last of each range by its first.
    ranges: BTreeMap<u128, u128>,
}

impl Ranges {
    /// The range that holds `n`, if there is one.
    fn around(&self, n: u128) -> Option<(u128, u128)> {
        let (&first, &last) = self.ranges.range(..=n).next_back()?;
        (n <= last).then_some((first, last))
    }

    /// Whether `n` is in the set.
    pub fn contains(&self, n: u128) -> bool {
        self.around(n).is_some()
    }

    /// Puts `n` into the set; whether it was not there.
    pub fn insert(&mut self, n: u128) -> bool {
        if self.contains(n) {
            return false;
        }
        let before = n.checked_sub(1).and_then(|p| self.around(p));
        let after = n.checked_add(1).and_then(|s| self.around(s));
        if let Some((first, _)) = after {
            self.ranges.remove(&first);
        }
        let first = before.map_or(n, |(first, _)| first);
        let last = after.map_or(n, |(_, last)| last);
        self.ranges.insert(first, last);
        true
    }

    /// Takes `n` out of the set; whether it was there.
    pub fn remove(&mut self, n: u128) -> bool {
        let Some((first, last)) = self.around(n) else { return false };
        self.ranges.remove(&first);
        if first < n {
            self.ranges.insert(first, n - 1);
        }
        if n < last {
            self.ranges.insert(n + 1, last);
        }
        true
    }

    /// The smallest number from `from` to `to` that is not in the set.
    pub fn first_absent(&self, from: u128, to: u128) -> Option<u128> {
        let n = match self.around(from) {
            Some((_, last)) => last.checked_add(1)?,
            None => from,
        };
        (n <= to).then_some(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn a_set_like_any_other(ops in prop::collection::vec((any::<bool>(), 0u128..40), 0..200)) {
            let (mut ranges, mut set) = (Ranges::default(), BTreeSet::new());
            for (insert, n) in ops {
                if insert {
                    prop_assert_eq!(ranges.insert(n), set.insert(n));
                } else {
                    prop_assert_eq!(ranges.remove(n), set.remove(&n));
                }
                for from in 0..40 {
                    prop_assert_eq!(ranges.contains(from), set.contains(&from));
                    let absent = (from..=38).find(|n| !set.contains(n));
                    prop_assert_eq!(ranges.first_absent(from, 38), absent);
                }
                let ends: Vec<(u128, u128)> = ranges.ranges.clone().into_iter().collect();
                for pair in ends.windows(2) {
                    prop_assert!(pair[0].1 + 1 < pair[1].0, "ranges touch: {:?}", ends);
                }
            }
        }
    }

    #[test]
    fn the_ends_of_all_numbers() {
        let mut ranges = Ranges::default();
        assert!(ranges.insert(u128::MAX) && ranges.insert(0));
        assert_eq!(ranges.first_absent(0, u128::MAX), Some(1));
        assert_eq!(ranges.first_absent(u128::MAX, u128::MAX), None);
    }
}
