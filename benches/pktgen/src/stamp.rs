//! The stamp in a frame's payload, by which the sink knows the generator's frames and how long they
//! took.
//!
//! ```text
//!  0        4          8                16
//!  ├ magic ─┼ sequence ┼ nanoseconds ───┤   network byte order
//! ```

use nix::time::{ClockId, clock_gettime};

/// The first bytes of a stamp.
pub const MAGIC: [u8; 4] = *b"psgn";
/// Bytes of a stamp.
pub const LEN: usize = 16;

/// What a frame tells about its departure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The number of the frame, from 0; it wraps.
    pub sequence: u32,
    /// When it was sent, by [`now`]; 0 when it tells no time.
    pub nanoseconds: u64,
}

impl Stamp {
    /// The stamp's bytes.
    pub fn bytes(self) -> [u8; LEN] {
        let mut bytes = [0; LEN];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4..8].copy_from_slice(&self.sequence.to_be_bytes());
        bytes[8..].copy_from_slice(&self.nanoseconds.to_be_bytes());
        bytes
    }

    /// The stamp that begins at `at` in a frame, if there is one.
    pub fn find(frame: &[u8], at: usize) -> Option<Stamp> {
        let bytes: &[u8; LEN] = frame.get(at..at + LEN)?.try_into().ok()?;
        let (magic, rest) = bytes.split_first_chunk::<4>()?;
        let (sequence, time) = rest.split_first_chunk::<4>()?;
        (*magic == MAGIC).then_some(Stamp {
            sequence: u32::from_be_bytes(*sequence),
            nanoseconds: u64::from_be_bytes(time.try_into().ok()?),
        })
    }
}

/// The kernel's monotonic clock, in nanoseconds: the same in all namespaces of a machine.
pub fn now() -> u64 {
    // The clock exists on every Linux, so that this cannot fail.
    let time =
        clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap_or(nix::sys::time::TimeSpec::new(0, 0));
    time.tv_sec().unsigned_abs() * 1_000_000_000 + time.tv_nsec().unsigned_abs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_found_where_it_was_put_and_nowhere_else() {
        let stamp = Stamp { sequence: 0x0102_0304, nanoseconds: 0x1122_3344_5566_7788 };
        let mut frame = vec![0; 60];
        frame[42..58].copy_from_slice(&stamp.bytes());
        assert_eq!(frame[46..50], [1, 2, 3, 4], "network byte order");
        assert_eq!(Stamp::find(&frame, 42), Some(stamp));
        assert_eq!(Stamp::find(&frame, 41), None);
        assert_eq!(Stamp::find(&frame[..57], 42), None, "cut short");
    }
}
