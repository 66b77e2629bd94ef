//! The kernel's counters of an interface.

use std::fs;

use anyhow::Context;

/// What an interface counted since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Bytes received.
    pub rx_bytes: u64,
    /// Frames received.
    pub rx_frames: u64,
    /// Frames dropped on reception.
    pub rx_dropped: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Frames sent.
    pub tx_frames: u64,
}

/// The counters of `dev`, in the calling thread's network namespace.
pub fn read(dev: &str) -> anyhow::Result<Counters> {
    let text = fs::read_to_string("/proc/thread-self/net/dev").context("reading the counters")?;
    parse(&text, dev).with_context(|| format!("there is no interface {dev}"))
}

/// One line of /proc/net/dev: eight numbers of reception, eight of transmission.
fn parse(text: &str, dev: &str) -> Option<Counters> {
    let numbers = text.lines().find_map(|line| {
        let (name, rest) = line.split_once(':')?;
        (name.trim() == dev).then_some(rest)
    })?;
    let n: Vec<u64> = numbers.split_whitespace().map_while(|w| w.parse().ok()).collect();
    Some(Counters {
        rx_bytes: *n.first()?,
        rx_frames: *n.get(1)?,
        rx_dropped: *n.get(3)?,
        tx_bytes: *n.get(8)?,
        tx_frames: *n.get(9)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_found_by_the_whole_name() {
        let text =
            "Inter-|   Receive\n face |bytes\n  eth0: 1 2 3 4 5 6 7 8 9 10 11 12\n eth01: 0\n";
        let counters = parse(text, "eth0").unwrap();
        assert_eq!((counters.rx_bytes, counters.rx_frames, counters.rx_dropped), (1, 2, 4));
        assert_eq!((counters.tx_bytes, counters.tx_frames), (9, 10));
        assert_eq!(parse(text, "eth"), None);
        assert_eq!(parse(text, "eth01"), None, "not all numbers are there");
    }
}
