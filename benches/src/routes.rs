//! Routes as a large table has them.

use crate::packets::Sequence;
use encap::Prefix;
use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How many of a thousand routes of IPv4 are so long: the Internet's table, rounded, with a fifth of
/// pods' /32s added.
const LENGTHS_V4: &[(u32, u8)] = &[
    (1, 8),
    (1, 12),
    (2, 14),
    (8, 16),
    (7, 17),
    (11, 18),
    (20, 19),
    (35, 20),
    (40, 21),
    (90, 22),
    (85, 23),
    (500, 24),
    (200, 32),
];
/// The same of IPv6.
const LENGTHS_V6: &[(u32, u8)] = &[
    (5, 28),
    (15, 29),
    (110, 32),
    (50, 36),
    (80, 40),
    (100, 44),
    (440, 48),
    (100, 64),
    (100, 128),
];

fn length(lengths: &[(u32, u8)], sequence: &mut Sequence) -> u8 {
    let mut at = sequence.below(1000);
    for &(share, len) in lengths {
        match at.checked_sub(share) {
            Some(rest) => at = rest,
            None => return len,
        }
    }
    lengths[lengths.len() - 1].1
}

/// A random unicast address of IPv4.
pub fn address_v4(sequence: &mut Sequence) -> Ipv4Addr {
    let first = [1, 11, 16][sequence.below(3) as usize] + sequence.below(100) % 111;
    Ipv4Addr::from_bits((first << 24) | sequence.below(1 << 24))
}

/// `n` different routes of IPv4 at random places, of lengths as in the Internet's table, with /32s.
pub fn mixture_v4(n: usize) -> Vec<Prefix> {
    let sequence = &mut Sequence::new();
    distinct(n, || (address_v4(sequence).into(), length(LENGTHS_V4, sequence)))
}

/// `n` different routes of IPv6 inside 2000::/6, of lengths as in the Internet's table, with /64s and /128s.
pub fn mixture_v6(n: usize) -> Vec<Prefix> {
    let sequence = &mut Sequence::new();
    distinct(n, || {
        let word = |s: &mut Sequence| u128::from(s.below(u32::MAX));
        let bits = (0..4).fold(0, |bits, _| bits << 32 | word(sequence));
        let bits = 0x2000 << 112 | bits >> 6;
        (IpAddr::V6(Ipv6Addr::from_bits(bits)), length(LENGTHS_V6, sequence))
    })
}

fn distinct(n: usize, mut next: impl FnMut() -> (IpAddr, u8)) -> Vec<Prefix> {
    let mut seen = HashSet::with_capacity(n);
    let mut out = Vec::with_capacity(n);
    while out.len() < n {
        let (ip, len) = next();
        let prefix = Prefix::truncating(ip, len).expect("a length of the family");
        if seen.insert(prefix) {
            out.push(prefix);
        }
    }
    out
}

/// An address inside a prefix of IPv4.
pub fn inside_v4(prefix: &Prefix, sequence: &mut Sequence) -> Ipv4Addr {
    let IpAddr::V4(first) = prefix.addr() else { panic!("{prefix} is not of IPv4") };
    let rest = u32::MAX.checked_shr(prefix.len().into()).unwrap_or(0);
    Ipv4Addr::from_bits(first.to_bits() | sequence.below(u32::MAX) & rest)
}
