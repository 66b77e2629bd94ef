//! MAC addresses, and those that take turns as sources.

use std::str::FromStr;

/// A MAC address, as `02:00:00:00:00:01`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mac(pub [u8; 6]);

impl FromStr for Mac {
    type Err = String;

    fn from_str(text: &str) -> Result<Mac, String> {
        let expected = || format!("not a MAC address: {text}; expected one as 02:00:00:00:00:01");
        let mut mac = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut mac {
            let part = parts.next().filter(|p| p.len() == 2).unwrap_or_default();
            *byte = u8::from_str_radix(part, 16).map_err(|_| expected())?;
        }
        if parts.next().is_some() { Err(expected()) } else { Ok(Mac(mac)) }
    }
}

impl std::fmt::Display for Mac {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.map(|byte| format!("{byte:02x}")).join(":"))
    }
}

impl Mac {
    /// Whether it is of a group: nobody's, and no bridge learns it.
    pub fn is_group(self) -> bool {
        self.0[0] & 1 != 0
    }

    fn halves(self) -> ([u8; 2], u32) {
        let [a, b, low @ ..] = self.0;
        ([a, b], u32::from_be_bytes(low))
    }
}

/// Source addresses that take turns: they count up from the first in the last 32 bits, where the bit of
/// groups is not, and leave out the destination. A bridge that saw it as a source would send the load
/// back to where it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sources {
    /// The last 32 bits of the first.
    pub first: u32,
    /// From this turn on addresses are one higher: it would be the destination's. 0 if it is none's.
    pub gap: u32,
}

impl Sources {
    /// From `first` on, without `destination`, which is another one.
    pub fn new(first: Mac, destination: Mac) -> Sources {
        let ((high, first), (other, last)) = (first.halves(), destination.halves());
        Sources { first, gap: if high == other { last.wrapping_sub(first) } else { 0 } }
    }

    /// The last 32 bits of the address whose turn it is.
    pub fn low(self, turn: u32) -> u32 {
        let over = self.gap != 0 && turn >= self.gap;
        self.first.wrapping_add(turn).wrapping_add(u32::from(over))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mac(text: &str) -> Mac {
        text.parse().unwrap()
    }

    #[test]
    fn addresses_are_read_and_written() {
        assert_eq!("02:00:00:0a:00:01".parse(), Ok(Mac([2, 0, 0, 10, 0, 1])));
        assert_eq!(mac("02:00:00:0a:00:01").to_string(), "02:00:00:0a:00:01");
        assert!("02:00:00:00:00".parse::<Mac>().is_err());
        assert!("02:00:00:00:00:01:02".parse::<Mac>().is_err());
        assert!(mac("01:00:5e:00:00:01").is_group() && !mac("02:00:00:00:00:01").is_group());
    }

    #[test]
    fn sources_begin_at_the_first_and_leave_out_the_destination() {
        let lows = |from: &str, to: &str| {
            let sources = Sources::new(mac(from), mac(to));
            [0, 1, 2, 65_535].map(|turn| sources.low(turn))
        };
        let there = "02:00:00:00:00:02";
        assert_eq!(lows("02:00:00:00:00:01", there), [1, 3, 4, 0x1_0001]);
        assert_eq!(lows("02:00:00:00:ab:cd", there), [0xabcd, 0xabce, 0xabcf, 0x1_abcc]);
        assert_eq!(lows("02:00:ff:ff:ff:ff", there), [u32::MAX, 0, 1, 0xffff], "two is the end");
        assert_eq!(lows("0a:00:00:00:00:01", there), [1, 2, 3, 0x1_0000], "another's");
    }
}
