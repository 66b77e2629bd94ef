//! Which runs of slots in the socket map are free.

/// Free runs, (first, length), in ascending order and never adjacent.
pub struct Slots {
    free: Vec<(u32, u32)>,
}

impl Slots {
    pub fn new(count: u32) -> Slots {
        Slots { free: vec![(0, count)] }
    }

    /// The first free run of `count` slots.
    pub fn take(&mut self, count: u32) -> Option<u32> {
        let at = self.free.iter().position(|&(_, len)| len >= count)?;
        let (first, len) = self.free[at];
        if len == count {
            self.free.remove(at);
        } else {
            self.free[at] = (first + count, len - count);
        }
        Some(first)
    }

    /// Makes a run that was taken free again.
    pub fn give(&mut self, first: u32, count: u32) {
        let at = self.free.partition_point(|&(f, _)| f < first);
        self.free.insert(at, (first, count));
        if at + 1 < self.free.len() && first + count == self.free[at + 1].0 {
            self.free[at].1 += self.free.remove(at + 1).1;
        }
        if at > 0 && self.free[at - 1].0 + self.free[at - 1].1 == first {
            self.free[at - 1].1 += self.free.remove(at).1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_disjoint_and_merge_again() {
        let mut slots = Slots::new(10);
        let (a, b, c) = (slots.take(4).unwrap(), slots.take(3).unwrap(), slots.take(3).unwrap());
        assert_eq!((a, b, c), (0, 4, 7));
        assert_eq!(slots.take(1), None);
        slots.give(b, 3);
        assert_eq!(slots.take(4), None);
        slots.give(a, 4);
        assert_eq!(slots.free, [(0, 7)]);
        slots.give(c, 3);
        assert_eq!(slots.free, [(0, 10)]);
        assert_eq!(slots.take(10), Some(0));
    }
}
