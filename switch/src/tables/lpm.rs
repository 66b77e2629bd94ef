//! Longest-prefix match: a trie of 8-bit strides whose nodes are one cache line each.
//!
//! A node's 256 entries are run-length compressed: a bit says where an entry differs from the one
//! before it, and the rank of the key's byte among those bits indexes the entries. A node may skip
//! bytes that all its prefixes share, so that a sparse IPv6 table is a few levels deep. IPv4 starts
//! at a table of the first 16 bits. A /24 among a million costs three cache lines.
//!
//! Immutable: a changed table is built anew from its routes. `docs/decisions/0002-lpm.md` has what
//! was measured.

use encap::Prefix;
use std::net::IpAddr;

/// An address as an integer, first bit most significant.
pub trait Key: Copy + Ord + Sized {
    /// Bits of an address.
    const BITS: u8;
    /// Bits that index the root table.
    const ROOT_BITS: u8;
    /// The first [`Key::ROOT_BITS`] bits.
    fn root(self) -> usize;
    /// Byte `i`, the first being 0.
    fn byte(self, i: u8) -> u8;
    /// Whether the first `bits` bits equal those of `other`.
    fn agrees(self, other: Self, bits: u8) -> bool;
    /// How many leading bits two keys share.
    fn shared(self, other: Self) -> u8;
}

impl Key for u32 {
    const BITS: u8 = 32;
    const ROOT_BITS: u8 = 16;
    #[inline]
    fn root(self) -> usize {
        (self >> 16) as usize
    }
    #[inline]
    fn byte(self, i: u8) -> u8 {
        (self >> (24 - 8 * u32::from(i & 3))) as u8
    }
    #[inline]
    fn agrees(self, other: u32, bits: u8) -> bool {
        bits == 0 || (self ^ other) >> (32 - u32::from(bits)) == 0
    }
    fn shared(self, other: u32) -> u8 {
        (self ^ other).leading_zeros() as u8
    }
}

impl Key for u128 {
    const BITS: u8 = 128;
    const ROOT_BITS: u8 = 0;
    #[inline]
    fn root(self) -> usize {
        0
    }
    #[inline]
    fn byte(self, i: u8) -> u8 {
        (self >> (120 - 8 * u32::from(i & 15))) as u8
    }
    #[inline]
    fn agrees(self, other: u128, bits: u8) -> bool {
        bits == 0 || (self ^ other) >> (128 - u32::from(bits)) == 0
    }
    fn shared(self, other: u128) -> u8 {
        (self ^ other).leading_zeros() as u8
    }
}

/// No route.
const NONE: u32 = 0;
/// Marks an entry as the index of a node. Otherwise it is a value plus one, or [`NONE`].
const NODE: u32 = 1 << 31;

#[derive(Clone, Debug)]
#[repr(align(64))]
struct Node<K> {
    /// Bit `i`: entry `i` differs from entry `i - 1`. Bit 0 is always set.
    change: [u64; 4],
    /// Bits of `change` before each word.
    rank: [u8; 4],
    /// Index of the first entry.
    base: u32,
    /// The entry for keys that disagree with `path` in the skipped bytes.
    otherwise: u32,
    /// The byte that indexes this node.
    byte: u8,
    /// A key whose first `byte` bytes all keys below this node share.
    path: K,
}

/// An immutable longest-prefix-match table from prefixes to values below 2^31 - 1.
#[derive(Clone, Debug)]
pub struct Lpm<K> {
    root: Box<[u32]>,
    nodes: Vec<Node<K>>,
    entries: Vec<u32>,
}

/// One route while a table is built: the prefix's bits, its length, its value plus one.
#[derive(Clone, Copy)]
struct Route<K> {
    key: K,
    len: u8,
    entry: u32,
}

impl<K: Key> Default for Lpm<K> {
    fn default() -> Lpm<K> {
        Lpm::build(core::iter::empty())
    }
}

impl<K: Key> Lpm<K> {
    /// A table of `routes`: (bits, length, value). Bits beyond the length must be zero. Of two equal
    /// prefixes the last wins.
    pub fn build(routes: impl IntoIterator<Item = (K, u8, u32)>) -> Lpm<K> {
        let mut all: Vec<Route<K>> = routes
            .into_iter()
            .map(|(key, len, value)| Route { key, len, entry: (value & !NODE) + 1 })
            .collect();
        // Sorted so that a prefix comes right before those it covers; stable, for "the last wins".
        all.sort_by_key(|r| (r.key, r.len));
        let mut lpm = Lpm {
            root: vec![NONE; 1 << K::ROOT_BITS].into_boxed_slice(),
            nodes: Vec::new(),
            entries: Vec::new(),
        };
        // Short routes paint ranges of the root; the longer ones below one root entry become a subtrie.
        let (short, long): (Vec<_>, Vec<_>) = all.iter().partition(|r| r.len <= K::ROOT_BITS);
        for r in by_length(short) {
            let first = r.key.root();
            lpm.root[first..first + (1 << (K::ROOT_BITS - r.len))].fill(r.entry);
        }
        for group in long.chunk_by(|a, b| a.key.root() == b.key.root()) {
            let slot = group[0].key.root();
            lpm.root[slot] = lpm.subtrie(group, K::ROOT_BITS / 8, lpm.root[slot]);
        }
        lpm
    }

    /// Builds the node for `routes`, which agree in their first `byte` bytes and are longer than
    /// that; `inherited` is the entry of the longest shorter prefix.
    fn subtrie(&mut self, routes: &[Route<K>], byte: u8, inherited: u32) -> u32 {
        let (first, last) = (routes[0], routes[routes.len() - 1]);
        let shortest = routes.iter().map(|r| r.len).min().unwrap_or(K::BITS);
        // The node looks at the first byte in which the keys differ or a prefix ends.
        let skip_to = (first.key.shared(last.key) / 8).min((shortest - 1) / 8).max(byte);
        let mut slots = [inherited; 256];
        let (here, below): (Vec<_>, Vec<_>) =
            routes.iter().partition(|r| r.len <= 8 * (skip_to + 1));
        for r in by_length(here) {
            let start = usize::from(r.key.byte(skip_to));
            slots[start..start + (1 << (8 * (skip_to + 1) - r.len))].fill(r.entry);
        }
        for group in below.chunk_by(|a, b| a.key.byte(skip_to) == b.key.byte(skip_to)) {
            let slot = usize::from(group[0].key.byte(skip_to));
            slots[slot] = self.subtrie(group, skip_to + 1, slots[slot]);
        }
        let mut node = Node {
            change: [0; 4],
            rank: [0; 4],
            base: self.entries.len() as u32,
            otherwise: inherited,
            byte: skip_to,
            path: first.key,
        };
        for i in 0..256 {
            if i == 0 || slots[i] != slots[i - 1] {
                node.change[i / 64] |= 1 << (i % 64);
                self.entries.push(slots[i]);
            }
        }
        for w in 1..4 {
            node.rank[w] = node.rank[w - 1] + node.change[w - 1].count_ones() as u8;
        }
        self.nodes.push(node);
        (self.nodes.len() - 1) as u32 | NODE
    }

    /// The value of the longest prefix that holds `key`.
    #[inline(always)]
    pub fn lookup(&self, key: K) -> Option<u32> {
        let mut entry = self.root[key.root()];
        while entry & NODE != 0 {
            let node = &self.nodes[(entry & !NODE) as usize];
            if !key.agrees(node.path, 8 * node.byte) {
                entry = node.otherwise;
                break;
            }
            let byte = key.byte(node.byte);
            let word = usize::from(byte >> 6);
            let upto = node.change[word] & (u64::MAX >> (63 - (byte & 63)));
            let rank = u32::from(node.rank[word]) + upto.count_ones() - 1;
            entry = self.entries[(node.base + rank) as usize];
        }
        entry.checked_sub(1)
    }

    /// Bytes of memory held.
    pub fn memory(&self) -> usize {
        size_of_val(&*self.root)
            + self.nodes.capacity() * size_of::<Node<K>>()
            + self.entries.capacity() * size_of::<u32>()
    }
}

/// Shorter prefixes first, so that longer ones paint over them; equal ones stay in order.
fn by_length<K>(mut routes: Vec<Route<K>>) -> Vec<Route<K>> {
    routes.sort_by_key(|r| r.len);
    routes
}

/// The two tables of a router.
#[derive(Clone, Debug, Default)]
pub struct Fib {
    /// IPv4 routes.
    pub v4: Lpm<u32>,
    /// IPv6 routes.
    pub v6: Lpm<u128>,
}

impl Fib {
    /// A table of routes to values below 2^31 - 1. Of two equal prefixes the last wins.
    pub fn build(routes: &[(Prefix, u32)]) -> Fib {
        let v4 = routes.iter().filter_map(|&(p, value)| match p.addr() {
            IpAddr::V4(a) => Some((u32::from(a), p.len(), value)),
            IpAddr::V6(_) => None,
        });
        let v6 = routes.iter().filter_map(|&(p, value)| match p.addr() {
            IpAddr::V6(a) => Some((u128::from(a), p.len(), value)),
            IpAddr::V4(_) => None,
        });
        Fib { v4: Lpm::build(v4), v6: Lpm::build(v6) }
    }

    /// The value of the longest prefix that holds `ip`.
    #[inline(always)]
    pub fn lookup(&self, ip: IpAddr) -> Option<u32> {
        match ip {
            IpAddr::V4(a) => self.v4.lookup(u32::from(a)),
            IpAddr::V6(a) => self.v6.lookup(u128::from(a)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition: of the prefixes that hold the address, the longest; of equals, the last.
    fn model(routes: &[(Prefix, u32)], ip: IpAddr) -> Option<u32> {
        routes
            .iter()
            .filter(|(p, _)| p.contains(ip))
            .max_by_key(|(p, _)| p.len())
            .map(|&(_, value)| value)
    }

    fn prefix(s: &str) -> Prefix {
        s.parse().unwrap()
    }

    #[test]
    fn a_node_is_one_cache_line() {
        assert_eq!(size_of::<Node<u32>>(), 64);
        assert_eq!(size_of::<Node<u128>>(), 64);
    }

    #[test]
    fn empty_and_default_routes() {
        let none = Fib::build(&[]);
        assert_eq!(none.lookup("10.0.0.1".parse().unwrap()), None);
        assert_eq!(none.lookup("fd00::1".parse().unwrap()), None);
        let both = Fib::build(&[(prefix("0.0.0.0/0"), 4), (prefix("::/0"), 6)]);
        assert_eq!(both.lookup("255.255.255.255".parse().unwrap()), Some(4));
        assert_eq!(both.lookup("fd00::1".parse().unwrap()), Some(6));
    }

    #[test]
    fn a_host_route_inside_skipped_bytes_does_not_leak() {
        let fib = Fib::build(&[
            (prefix("fd00:10:244:1::/64"), 1),
            (prefix("fd00:10:244:1::5/128"), 2),
            (prefix("fd00:10:244:2::/64"), 3),
        ]);
        for (ip, want) in [
            ("fd00:10:244:1::5", Some(2)),
            ("fd00:10:244:1::6", Some(1)),
            ("fd00:10:244:1:8000::5", Some(1)),
            ("fd00:10:244:2::5", Some(3)),
            ("fd00:10:244:3::5", None),
            ("fd01:10:244:1::5", None),
        ] {
            assert_eq!(fib.lookup(ip.parse().unwrap()), want, "{ip}");
        }
    }

    /// Prefixes that crowd together, so that they cover each other and end inside shared bytes.
    fn crowded_v4() -> impl Strategy<Value = Prefix> {
        (prop_oneof![0u32..4, Just(0x0af4_0000), any::<u32>()], any::<u16>(), 0u8..=32).prop_map(
            |(high, low, len)| {
                Prefix::truncating(IpAddr::V4((high ^ u32::from(low)).into()), len).unwrap()
            },
        )
    }

    fn crowded_v6() -> impl Strategy<Value = Prefix> {
        (0u128..4, 0u128..4, 0u128..4, 0u8..=128).prop_map(|(a, b, c, len)| {
            let bits = 0xfd00_u128 << 112 | a << 78 | b << 47 | c;
            Prefix::truncating(IpAddr::V6(bits.into()), len).unwrap()
        })
    }

    proptest! {
        #[test]
        fn agrees_with_the_definition_v4(
            prefixes in prop::collection::vec(crowded_v4(), 0..60),
            probes in prop::collection::vec(any::<u32>(), 20),
        ) {
            let routes: Vec<_> = prefixes.into_iter().zip(0u32..).collect();
            let fib = Fib::build(&routes);
            let near = routes.iter().flat_map(|(p, _)| match p.addr() {
                IpAddr::V4(a) => [u32::from(a), u32::from(a) ^ 1, u32::from(a).wrapping_sub(1)],
                IpAddr::V6(_) => unreachable!(),
            });
            for ip in probes.into_iter().chain(near) {
                let ip = IpAddr::V4(ip.into());
                prop_assert_eq!(fib.lookup(ip), model(&routes, ip), "{}", ip);
            }
        }

        #[test]
        fn agrees_with_the_definition_v6(
            prefixes in prop::collection::vec(crowded_v6(), 0..60),
            flips in prop::collection::vec(0u32..128, 8),
        ) {
            let routes: Vec<_> = prefixes.into_iter().zip(0u32..).collect();
            let fib = Fib::build(&routes);
            for (p, _) in &routes {
                let IpAddr::V6(a) = p.addr() else { unreachable!() };
                let a = u128::from(a);
                for ip in flips.iter().map(|f| a ^ 1 << f).chain([a, a.wrapping_sub(1)]) {
                    let ip = IpAddr::V6(ip.into());
                    prop_assert_eq!(fib.lookup(ip), model(&routes, ip), "{}", ip);
                }
            }
        }
    }
}
