//! Nodes of each kind, where one kind ends and another one begins, and how they become one another.

use super::super::lines::Store;
use super::super::node::{
    self, ENTRIES, EXCEPTIONS, KIND, NARROW, NARROWEST, NODE, NONE, PLAIN, SPARSE,
};
use super::amend::{Story, looks, play, then};
use super::*;

/// A compressed node has no mark.
const COMPRESSED: u32 = 0;
/// The highest value of narrow and sparse nodes.
const NARROW_VALUE: u32 = NARROWEST - 1;

/// As many routes as there are nodes that are plain in any table, each with a node of its own that is written first.
fn others() -> impl Iterator<Item = (Prefix, u32)> {
    ["0.1.0.0/24", "0.2.0.0/24"].map(|p| (prefix(p), 9)).into_iter()
}

/// The network 10.1.`i`.0/24.
fn net(i: u32) -> Prefix {
    Prefix::truncating(IpAddr::V4((0x0a01_0000 | i << 8).into()), 24).unwrap()
}

/// The address 10.2.0.`i`.
fn host(i: u32) -> Prefix {
    Prefix::host(IpAddr::V4((0x0a02_0000 | i).into()))
}

/// The kind of the node of 10.1.0.0/16.
fn kind(fib: &Fib) -> u32 {
    let first = fib.v4.first(0x0a01);
    assert_ne!(first & NODE, 0);
    first & KIND
}

/// Of each network of 10.1.0.0/16 and each address of 10.2.0.0/24 the route must be that of the definition.
fn check(fib: &Fib, routes: &BTreeMap<Prefix, u32>) {
    for ip in (0..256).flat_map(|i| [0x0a01_0007 | i << 8, 0x0a02_0000 | i]) {
        let ip = IpAddr::V4(ip.into());
        assert_eq!(fib.lookup(ip), model(routes, ip), "{ip}");
    }
}

/// The kind of node that these routes of 10.1.0.0/16 make.
fn kind_of(routes: impl IntoIterator<Item = (Prefix, u32)>) -> u32 {
    let routes: BTreeMap<_, _> = others().chain(routes).collect();
    let fib = Rib::from_routes(routes.iter().map(|(&p, &v)| (p, v))).snapshot();
    check(&fib, &routes);
    kind(&fib)
}

/// All of 10.1.0.0/16, in two halves that end in its node.
fn background(value: u32) -> impl Iterator<Item = (Prefix, u32)> {
    ["10.1.0.0/17", "10.1.128.0/17"].map(|p| (prefix(p), value)).into_iter()
}

#[test]
fn sparse_is_what_has_few_exceptions_with_low_values() {
    let nets = |n: u32| (0..n).map(|i| (net(15 * i), i));
    assert_eq!(EXCEPTIONS, 16);
    for below in [None, Some(7), Some(NARROW_VALUE)] {
        let all = |n| below.into_iter().flat_map(background).chain(nets(n));
        assert_eq!(kind_of(all(1)), SPARSE);
        assert_eq!(kind_of(all(16)), SPARSE, "of {below:?}");
        // One of the seventeen has the value of the background.
        let n = if below == Some(7) { 18 } else { 17 };
        assert_eq!(kind_of(all(n)), COMPRESSED, "of {below:?}");
        assert_eq!(kind_of(all(3).chain([(net(255), NARROW_VALUE)])), SPARSE);
        assert_eq!(kind_of(all(3).chain([(net(255), NARROW_VALUE + 1)])), COMPRESSED);
        assert_eq!(kind_of(all(3).chain([(prefix("10.1.9.1/32"), 1)])), COMPRESSED);
    }
    assert_eq!(kind_of(background(NARROW_VALUE + 1)), COMPRESSED);
    assert_eq!(kind_of(background(3)), SPARSE, "without any exception");
}

#[test]
fn narrow_is_what_has_many_runs_with_low_values() {
    // One run more: the rest, of which there is no route.
    let nets = |n: u32, highest: u32| (0..n).map(move |i| (net(i), highest - i));
    assert_eq!(kind_of(nets(63, NARROW_VALUE)), COMPRESSED);
    assert_eq!(kind_of(nets(64, NARROW_VALUE)), NARROW);
    assert_eq!(kind_of(nets(256, NARROW_VALUE)), NARROW);
    assert_eq!(kind_of(nets(127, NARROW_VALUE + 1)), COMPRESSED);
    assert_eq!(kind_of(nets(128, NARROW_VALUE + 1)), PLAIN);
    assert_eq!(kind_of(nets(128, NARROW_VALUE).chain([(prefix("10.1.9.1/32"), 1)])), PLAIN);
}

/// The highest value of all is an entry like any other, beside the marks of nodes.
#[test]
fn the_highest_value() {
    let highest = (1 << 30) - 2;
    for n in [1, 3, 200] {
        kind_of((0..n).map(|i| (net(i), highest - i)));
        kind_of((0..n).map(|i| (net(i), highest - i)).chain([(prefix("10.1.0.9/32"), highest)]));
    }
}

/// When it is written anew: it is not where nothing but values changes that it can hold.
#[test]
fn a_node_changes_its_kind_with_its_entries() {
    let mut routes: BTreeMap<_, _> = others().chain((0..16).map(|i| (net(2 * i), i))).collect();
    let mut rib = Rib::from_routes(routes.iter().map(|(&p, &v)| (p, v)));
    let mut fib = rib.snapshot();
    assert_eq!(kind(&fib), SPARSE);
    let steps = [
        (vec![(net(77), Some(3))], COMPRESSED),
        (vec![(net(2), None)], SPARSE),
        (vec![(net(77), Some(NARROW_VALUE))], SPARSE),
        (vec![(net(77), Some(NARROW_VALUE + 1))], COMPRESSED),
        (vec![(net(77), Some(NARROW_VALUE))], COMPRESSED),
        (vec![(net(77), None)], SPARSE),
        (vec![(prefix("10.1.77.1/32"), Some(2))], COMPRESSED),
        (vec![(prefix("10.1.77.1/32"), None)], SPARSE),
        (vec![(prefix("10.1.128.0/17"), Some(8))], COMPRESSED),
        (vec![(prefix("10.1.0.0/17"), Some(8))], SPARSE),
        ((100..160).map(|i| (net(i), Some(i))).collect(), NARROW),
        (vec![(net(111), Some(NARROW_VALUE + 1))], COMPRESSED),
        (vec![(net(111), Some(111)), (prefix("10.1.0.0/17"), None)], NARROW),
        ((100..160).map(|i| (net(i), None)).collect(), COMPRESSED),
        (vec![(prefix("10.1.128.0/17"), None)], SPARSE),
    ];
    for (changes, wanted) in steps {
        for &(prefix, value) in &changes {
            match value {
                Some(value) => (rib.insert(prefix, value), routes.insert(prefix, value)),
                None => (rib.remove(prefix), routes.remove(&prefix)),
            };
        }
        fib = rib.amend().unwrap_or(fib);
        check(&fib, &routes);
        assert_eq!(kind(&fib), wanted, "after {changes:?}");
    }
}

/// New values are stored where the old ones are: those that share a word in one step, and each once.
#[test]
fn values_that_share_a_word_change_in_one_store() {
    for (n, expected) in [(16, SPARSE), (80, NARROW)] {
        let mut routes: BTreeMap<_, _> =
            others().chain(background(8)).chain((0..n).map(|i| (net(i), 10 + i))).collect();
        let mut rib = Rib::from_routes(routes.iter().map(|(&p, &v)| (p, v)));
        let fib = rib.snapshot();
        assert_eq!(kind(&fib), expected);
        let before = fib.v4.first(0x0a01);
        let mut change = |changes: &[(Prefix, u32)], stores: usize| {
            for &(prefix, value) in changes {
                rib.insert(prefix, value);
                routes.insert(prefix, value);
            }
            assert_eq!(looks(&fib, || assert!(rib.amend().is_none())), stores, "{changes:?}");
            assert_eq!(fib.v4.first(0x0a01), before);
            check(&fib, &routes);
        };
        for i in 0..n {
            change(&[(net(i), NARROW_VALUE - i)], 1);
        }
        change(&[(net(0), 1), (net(1), 2)], 1);
        change(&[(net(1), 3), (net(2), 4)], 2);
        let half_of_what_is_left = (256 - n as usize) / 2;
        let stores = if expected == SPARSE { 1 } else { half_of_what_is_left };
        change(&background(NARROW_VALUE).collect::<Vec<_>>(), stores);
    }
}

/// What no exception has been made of has an entry all the same, with which its byte is looked up.
#[test]
fn a_background_changes_without_exceptions() {
    let mut routes: BTreeMap<_, _> = others().chain(background(8)).collect();
    let mut rib = Rib::from_routes(routes.iter().map(|(&p, &v)| (p, v)));
    let fib = rib.snapshot();
    for (prefix, value) in background(11) {
        rib.insert(prefix, value);
        routes.insert(prefix, value);
    }
    assert!(rib.amend().is_none());
    assert_eq!(kind(&fib), SPARSE);
    check(&fib, &routes);
}

/// Values at the end of what 16 bits hold, and a few that come again.
fn values() -> impl Strategy<Value = u32> {
    prop_oneof![4 => 0u32..4, 1 => NARROW_VALUE - 2..NARROW_VALUE + 2]
}

/// Routes that make a node of `n` networks and another one of `n` addresses, some less to begin with; and steps
/// around that.
fn around(n: u32) -> impl Strategy<Value = Story> {
    let single = prop_oneof![(0..n + 3).prop_map(net), (0..n + 3).prop_map(host)];
    let wide = prop::sample::select(vec![
        "10.1.0.0/16",
        "10.1.0.0/17",
        "10.1.128.0/17",
        "10.1.0.0/20",
        "10.1.4.0/23",
        "10.1.5.9/32",
        "10.2.0.0/24",
        "10.2.0.0/25",
        "10.2.0.128/25",
        "10.2.0.0/28",
        "10.2.0.4/31",
    ]);
    let any = prop_oneof![3 => single, 2 => wide.prop_map(prefix)];
    let steps = prop::collection::vec((any, prop::option::weighted(0.6, values()), then()), 1..30);
    let first = prop::collection::vec((values(), values(), prop::bool::weighted(0.9)), n as usize);
    (first, prop::option::of(0u32..4), steps).prop_map(move |(first, below, steps)| {
        let all = (0..n).zip(first).filter(|&(_, (.., is_there))| is_there);
        let all = all.flat_map(|(i, (a, b, _))| [(net(i), a), (host(i), b)]);
        let below = below.into_iter().flat_map(background);
        (others().chain(below).chain(all).collect(), steps)
    })
}

proptest! {
    #[test]
    fn stores_around_the_most_exceptions(story in around(EXCEPTIONS as u32)) {
        play(&story)?;
    }

    #[test]
    fn stores_around_the_fewest_runs_of_a_narrow_node(story in around(70)) {
        play(&story)?;
    }

    /// Also bytes that differ in one bit, beside each other: where one is found, the next one seems to be.
    #[test]
    fn each_byte_is_found_in_a_sparse_node(
        exceptions in prop::collection::btree_map(any::<u8>(), 0..=NARROWEST, 0..20usize),
        near in prop::collection::vec((any::<u8>(), 0u32..8), 0..4),
        background in prop_oneof![Just(NONE), 1..=NARROWEST],
        above in any::<u32>(),
    ) {
        let mut entries = [background; ENTRIES];
        for (&byte, &entry) in &exceptions {
            entries[usize::from(byte)] = entry;
        }
        for &(byte, bit) in &near {
            entries[usize::from(byte)] = 1;
            entries[usize::from(byte ^ 1 << bit)] = 2;
        }
        let different = entries.iter().filter(|&&entry| entry != background).count();
        let mut words = Vec::new();
        prop_assert_eq!(node::thinned(&entries, above, &mut words), different <= EXCEPTIONS);
        if different <= EXCEPTIONS {
            let mut store = Store::new();
            let at = store.write(&words);
            let lines = store.from(at);
            for (byte, &entry) in (0..=u8::MAX).zip(&entries) {
                prop_assert_eq!(node::sparse(&lines[0], byte), entry, "{}", byte);
            }
            prop_assert_eq!(node::entries::<u32>(lines, SPARSE), entries);
            prop_assert_eq!(node::above(lines, SPARSE), above);
            prop_assert_eq!(node::lines::<u32>(lines, SPARSE), 1);
        }
    }

    #[test]
    fn each_entry_is_found_in_a_narrow_node(
        entries in prop::array::uniform32(prop::array::uniform8(0..=NARROWEST)),
        high in prop::option::weighted(0.2, any::<u8>()),
        above in any::<u32>(),
    ) {
        let mut entries: [u32; ENTRIES] = core::array::from_fn(|i| entries[i / 8][i % 8]);
        let mut words = Vec::new();
        if let Some(byte) = high {
            entries[usize::from(byte)] = NARROWEST + 1;
        }
        prop_assert_eq!(node::narrowed(&entries, above, &mut words), high.is_none());
        if high.is_none() {
            let mut store = Store::new();
            let at = store.write(&words);
            let lines = store.from(at);
            for (byte, &entry) in (0..=u8::MAX).zip(&entries) {
                prop_assert_eq!(node::entry::<u32>(lines, NARROW, byte), entry, "{}", byte);
            }
            prop_assert_eq!(node::entries::<u32>(lines, NARROW), entries);
            prop_assert_eq!(node::above(lines, NARROW), above);
            prop_assert_eq!(node::lines::<u32>(lines, NARROW), 9);
        }
    }
}
