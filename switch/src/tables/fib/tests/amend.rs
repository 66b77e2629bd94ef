//! Changes of a table that somebody looks into: whenever that is, each address has the route of before or the
//! one of after, by the definition.

use super::*;
use core::cell::RefCell;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

std::thread_local! {
    static WATCHER: RefCell<Option<Watcher>> = const { RefCell::new(None) };
}

/// Called after each store into memory that readers look into: into a slot of the root, or elsewhere.
pub(in crate::tables::fib) fn stored(slot: Option<usize>) {
    WATCHER.with_borrow_mut(|watcher| watcher.iter_mut().for_each(|w| w.look(slot)));
}

/// An address, its routes before and after, and whether the latter has been seen.
type Expected = (IpAddr, [Option<u32>; 2], bool);

/// Somebody who looks whenever a word has changed.
struct Watcher {
    fib: Fib,
    /// By slot of the root.
    expected: BTreeMap<usize, Vec<Expected>>,
    looks: usize,
}

impl Watcher {
    fn look(&mut self, slot: Option<usize>) {
        self.looks += 1;
        // That a store is of no concern to other slots is for the end to see.
        let slots = slot.map_or(0..=usize::MAX, |slot| slot..=slot);
        let concerned = self.expected.range_mut(slots).flat_map(|(_, all)| all);
        for &mut (ip, [before, after], ref mut is_seen) in concerned {
            let found = self.fib.lookup(ip);
            *is_seen |= found == after && before != after;
            let wanted = if *is_seen { after } else { before };
            assert_eq!(found, wanted, "{ip}, of {before:?} and {after:?}");
        }
    }
}

/// How many words that readers of a table look into are stored meanwhile.
pub(super) fn looks(fib: &Fib, change: impl FnOnce()) -> usize {
    WATCHER.set(Some(Watcher { fib: fib.clone(), expected: BTreeMap::new(), looks: 0 }));
    change();
    WATCHER.take().unwrap().looks
}

fn slot(ip: IpAddr) -> usize {
    match ip {
        IpAddr::V4(a) => u32::from(a).root(),
        IpAddr::V6(a) => u128::from(a).root(),
    }
}

/// What is done after a step.
#[derive(Clone, Copy, Debug)]
pub(super) enum Then {
    /// The next step.
    Nothing,
    /// The table is amended.
    Amend,
    /// A snapshot is taken, and the one before is held.
    Snapshot,
    /// As before, but nobody holds the one before.
    Forget,
}

pub(super) fn then() -> impl Strategy<Value = Then> {
    prop_oneof![
        6 => Just(Then::Nothing),
        8 => Just(Then::Amend),
        1 => Just(Then::Snapshot),
        1 => Just(Then::Forget),
    ]
}

/// Some routes to begin with, and steps.
pub(super) type Story = (Vec<(Prefix, u32)>, Vec<(Prefix, Option<u32>, Then)>);

fn stories(of: impl Strategy<Value = Prefix>) -> impl Strategy<Value = Story> {
    prop::collection::vec(of, 1..30).prop_flat_map(|prefixes| {
        let first = prop::collection::vec((prop::sample::select(prefixes.clone()), 0u32..5), 0..20);
        let value = prop_oneof![3 => (0u32..5).prop_map(Some), 2 => Just(None)];
        let step = (prop::sample::select(prefixes), value, then());
        (first, prop::collection::vec(step, 1..40))
    })
}

pub(super) fn play((first, steps): &Story) -> Result<(), TestCaseError> {
    let mut probes = probes(&steps.iter().map(|&(p, v, _)| (p, v, false)).collect::<Vec<_>>());
    probes.sort_unstable();
    probes.dedup();
    let mut rib = Rib::from_routes(first.iter().copied());
    let mut routes: BTreeMap<Prefix, u32> = first.iter().copied().collect();
    let mut seen = routes.clone();
    let mut fib = rib.snapshot();
    let mut held: Vec<(Fib, BTreeMap<Prefix, u32>)> = Vec::new();
    for &(prefix, value, then) in steps {
        match value {
            Some(value) => prop_assert_eq!(rib.insert(prefix, value), routes.insert(prefix, value)),
            None => prop_assert_eq!(rib.remove(prefix), routes.remove(&prefix)),
        }
        match then {
            Then::Nothing => continue,
            Then::Amend => {
                let mut expected = BTreeMap::<_, Vec<_>>::new();
                for &ip in &probes {
                    let both = [model(&seen, ip), model(&routes, ip)];
                    expected.entry(slot(ip)).or_default().push((ip, both, false));
                }
                WATCHER.set(Some(Watcher { fib: fib.clone(), expected, looks: 0 }));
                let other = rib.amend();
                WATCHER.take();
                fib = other.unwrap_or(fib);
            }
            Then::Snapshot => held.push((core::mem::replace(&mut fib, rib.snapshot()), seen)),
            Then::Forget => {
                held.clear();
                drop(fib);
                fib = rib.snapshot();
            }
        }
        seen = routes.clone();
        for &ip in &probes {
            prop_assert_eq!(fib.lookup(ip), model(&seen, ip), "{}", ip);
        }
        for (fib, routes) in &held {
            for &ip in &probes {
                prop_assert_eq!(fib.lookup(ip), model(routes, ip), "{} of before", ip);
            }
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn each_store_leaves_the_old_or_the_new_route_v4(story in stories(crowded_v4())) {
        play(&story)?;
    }

    #[test]
    fn each_store_leaves_the_old_or_the_new_route_v6(story in stories(crowded_v6())) {
        play(&story)?;
    }
}

/// A new value for a route that is there touches one word, and needs no new snapshot.
#[test]
fn a_new_value_is_one_store() {
    for all in [
        ["10.1.0.0/20", "10.1.2.0/24", "10.1.2.3/32"],
        ["fd00::/32", "fd00:1::/48", "fd00:1::7/128"],
    ] {
        let mut rib = Rib::from_routes(all.map(|p| (prefix(p), 1)));
        let fib = rib.snapshot();
        let p = prefix(all[2]);
        rib.insert(p, 2);
        assert_eq!(looks(&fib, || assert!(rib.amend().is_none())), 1);
        assert_eq!(fib.lookup(p.addr()), Some(2));
    }
}

/// Other threads look all the time. What each of them finds is the route of a moment between when it began
/// to look and when it had looked.
#[test]
fn whoever_looks_meanwhile_finds_a_route_of_the_time() {
    const CHANGES: usize = if cfg!(debug_assertions) { 2000 } else { 30_000 };
    // Slots with a node and without, at both levels, whose shorter prefixes change with the longer ones.
    let all: Vec<Prefix> = [
        "0.0.0.0/0",
        "10.0.0.0/8",
        "10.1.0.0/16",
        "10.1.0.0/17",
        "10.1.2.0/23",
        "10.1.2.0/24",
        "10.1.2.128/25",
        "10.1.2.3/32",
        "10.2.0.0/16",
        "10.2.2.0/24",
        "::/0",
        "fd00::/12",
        "fd00::/16",
        "fd00:1::/32",
        "fd00:1:1::/48",
        "fd00:1:1:1::/64",
        "fd00:1:1:1::7/128",
        "fd00:1:2::9/128",
    ]
    .map(prefix)
    .to_vec();
    let ips: Vec<IpAddr> = [
        "10.1.2.3",
        "10.1.2.4",
        "10.1.2.200",
        "10.1.3.1",
        "10.1.4.1",
        "10.1.200.1",
        "10.2.2.1",
        "10.2.3.1",
        "10.3.0.1",
        "fd00:1:1:1::7",
        "fd00:1:1:1::8",
        "fd00:1:1:2::7",
        "fd00:1:2::9",
        "fd00:2::1",
    ]
    .map(|ip| ip.parse().unwrap())
    .to_vec();
    let mut seed = 1u64;
    let mut random = move |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % below
    };
    let mut rib = Rib::new();
    let newest = Mutex::new((rib.snapshot(), 0));
    // What each address's route is after so many changes, how many are begun, and how many are done.
    let times: Vec<Vec<AtomicUsize>> =
        (0..=CHANGES).map(|_| ips.iter().map(|_| AtomicUsize::new(0)).collect()).collect();
    let [begun, done, snapshots] = [const { AtomicUsize::new(0) }; 3];
    let end = AtomicBool::new(false);
    std::thread::scope(|s| {
        let look = || {
            let mut looked = 0;
            while !end.load(Ordering::SeqCst) || looked == 0 {
                let (fib, number) = newest.lock().unwrap().clone();
                for (i, &ip) in ips.iter().enumerate() {
                    let from = done.load(Ordering::SeqCst);
                    let found = fib.lookup(ip).map_or(0, |value| value as usize + 1);
                    let to = begun.load(Ordering::SeqCst);
                    if snapshots.load(Ordering::SeqCst) != number {
                        break;
                    }
                    let mut then = (from..=to).map(|n| times[n][i].load(Ordering::SeqCst));
                    assert!(then.any(|right| right == found), "{ip} in {from}..={to}: {found}");
                    looked += 1;
                }
            }
        };
        let readers = [s.spawn(look), s.spawn(look)];
        let mut routes = BTreeMap::new();
        for (n, times) in times.iter().enumerate().skip(1) {
            for _ in 0..1 + random(4) {
                let p = all[random(all.len())];
                if random(3) == 0 {
                    rib.remove(p);
                    routes.remove(&p);
                } else {
                    let value = random(1000) as u32;
                    rib.insert(p, value);
                    routes.insert(p, value);
                }
            }
            for (ip, right) in ips.iter().zip(times) {
                right.store(model(&routes, *ip).map_or(0, |v| v as usize + 1), Ordering::SeqCst);
            }
            begun.store(n, Ordering::SeqCst);
            if let Some(fib) = rib.amend() {
                let mut newest = newest.lock().unwrap();
                *newest = (fib, newest.1 + 1);
                snapshots.store(newest.1, Ordering::SeqCst);
            }
            done.store(n, Ordering::SeqCst);
            if readers.iter().any(|r| r.is_finished()) {
                break;
            }
        }
        end.store(true, Ordering::SeqCst);
    });
}
