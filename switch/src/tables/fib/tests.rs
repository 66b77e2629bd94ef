//! The tables against their definition, and against themselves as they were.

pub(super) mod amend;
mod kinds;

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// The definition: of the prefixes that hold the address, the longest.
fn model(routes: &BTreeMap<Prefix, u32>, ip: IpAddr) -> Option<u32> {
    let matching = routes.iter().filter(|(prefix, _)| prefix.contains(ip));
    matching.max_by_key(|(prefix, _)| prefix.len()).map(|(_, &value)| value)
}

fn prefix(s: &str) -> Prefix {
    s.parse().unwrap()
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
fn of_equal_prefixes_the_last_wins() {
    for p in ["10.0.0.0/8", "10.0.0.0/24", "10.0.0.1/32", "fd00::/16", "fd00::/64"].map(prefix) {
        let fib = Fib::build(&[(p, 1), (p, 3), (p, 2)]);
        assert_eq!(fib.lookup(p.addr()), Some(2), "{p}");
    }
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

/// What the words of a node leave room for is read right up to the last entry.
#[test]
fn a_full_node_of_each_level() {
    let hosts = |net: u32| (0..256).map(move |i| (Prefix::host(IpAddr::V4((net | i).into())), i));
    let nets = (0..256).map(|i| {
        (Prefix::truncating(IpAddr::V4((0x0a00_0000 | i << 8).into()), 24).unwrap(), 1000 + i)
    });
    let v6 = (0..256u128).map(|i| (Prefix::host(IpAddr::V6((0xfd00 << 112 | i).into())), i as u32));
    let routes: Vec<_> = nets.chain(hosts(0x0a00_0500)).chain(v6).collect();
    let fib = Fib::build(&routes);
    for i in 0..256 {
        assert_eq!(fib.lookup(IpAddr::V4((0x0a00_0500 | i).into())), Some(i));
        assert_eq!(fib.lookup(IpAddr::V6((0xfd00 << 112 | u128::from(i)).into())), Some(i));
        if i != 5 {
            assert_eq!(fib.lookup(IpAddr::V4((0x0a00_0001 | i << 8).into())), Some(1000 + i));
        }
    }
}

#[test]
fn a_table_that_nothing_is_left_of_holds_no_node() {
    let mut rib = Rib::new();
    let all = ["10.1.0.0/17", "10.1.2.3/32", "fd00:1::/64", "fd00:1::7/128", "10.0.0.0/9"];
    for p in all.map(prefix) {
        rib.insert(p, 1);
        rib.snapshot();
    }
    for p in all.map(prefix) {
        assert_eq!(rib.remove(p), Some(1));
        assert_eq!(rib.remove(p), None);
        rib.snapshot();
    }
    assert!(rib.is_empty());
    let fib = rib.snapshot();
    assert!(all.map(prefix).iter().all(|p| fib.lookup(p.addr()).is_none()));
    assert_eq!((fib.v4.nodes(), fib.v6.nodes()), (0, 0));
}

/// Changes that go on and on need no more memory than the first round of them, as long as nobody holds
/// on to old snapshots.
#[test]
fn memory_is_used_again() {
    let mut rib = Rib::new();
    let net = |i: u32| Prefix::truncating(IpAddr::V4((i.wrapping_mul(0x9e37_79b9)).into()), 24);
    for i in 0..4000 {
        rib.insert(net(i).unwrap(), i);
    }
    let mut after_a_round = 0;
    for round in 0..20 {
        for i in (0..4000).step_by(7) {
            rib.remove(net(i).unwrap());
            rib.snapshot();
            rib.insert(net(i).unwrap(), i + round);
            rib.snapshot();
        }
        let used = rib.snapshot().v4.memory();
        if round == 0 {
            after_a_round = used;
        }
        assert_eq!(used, after_a_round, "round {round}");
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

/// A prefix added or replaced with a value, or removed; and whether a snapshot is taken after it.
type Step = (Prefix, Option<u32>, bool);

fn steps(of: impl Strategy<Value = Prefix>) -> impl Strategy<Value = Vec<Step>> {
    // Few prefixes, so that many steps meet one that is there.
    prop::collection::vec(of, 1..40).prop_flat_map(|prefixes| {
        let value = prop_oneof![3 => (0u32..5).prop_map(Some), 2 => Just(None)];
        let step = (prop::sample::select(prefixes), value, prop::bool::weighted(0.4));
        prop::collection::vec(step, 1..120)
    })
}

/// Addresses in, at and just outside the prefixes.
fn probes(steps: &[Step]) -> Vec<IpAddr> {
    let around = |p: &Prefix| match p.addr() {
        IpAddr::V4(a) => {
            let a = u32::from(a);
            let last = a | u32::MAX.checked_shr(p.len().into()).unwrap_or(0);
            [a, a ^ 1, a.wrapping_sub(1), last, last.wrapping_add(1)].map(|a| IpAddr::V4(a.into()))
        }
        IpAddr::V6(a) => {
            let a = u128::from(a);
            let last = a | u128::MAX.checked_shr(p.len().into()).unwrap_or(0);
            [a, a ^ 1, a.wrapping_sub(1), last, last.wrapping_add(1)].map(|a| IpAddr::V6(a.into()))
        }
    };
    steps.iter().flat_map(|(p, ..)| around(p)).collect()
}

/// Does the steps, and asks every snapshot after the last of them: each answers as of its time.
fn replay(steps: &[Step]) -> Result<(), TestCaseError> {
    let (mut rib, mut routes) = (Rib::new(), BTreeMap::new());
    let mut held = Vec::new();
    for &(prefix, value, look) in steps {
        match value {
            Some(value) => prop_assert_eq!(rib.insert(prefix, value), routes.insert(prefix, value)),
            None => prop_assert_eq!(rib.remove(prefix), routes.remove(&prefix)),
        }
        prop_assert_eq!(rib.get(prefix), routes.get(&prefix).copied());
        prop_assert_eq!(rib.len(), routes.len());
        if look {
            held.push((rib.snapshot(), routes.clone()));
            // Some are let go of early, so that what only they led to is written over.
            if held.len() > 4 {
                held.remove(held.len() % 3);
            }
        }
    }
    held.push((rib.snapshot(), routes));
    for (fib, routes) in &held {
        for ip in probes(steps) {
            prop_assert_eq!(fib.lookup(ip), model(routes, ip), "{}", ip);
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn agrees_with_the_definition_v4(
        prefixes in prop::collection::vec(crowded_v4(), 0..60),
        ips in prop::collection::vec(any::<u32>(), 20),
    ) {
        let routes: Vec<_> = prefixes.into_iter().zip(0u32..).collect();
        let fib = Fib::build(&routes);
        let near = routes.iter().flat_map(|(p, _)| match p.addr() {
            IpAddr::V4(a) => [u32::from(a), u32::from(a) ^ 1, u32::from(a).wrapping_sub(1)],
            IpAddr::V6(_) => unreachable!(),
        });
        let all: BTreeMap<_, _> = routes.iter().copied().collect();
        for ip in ips.into_iter().chain(near) {
            let ip = IpAddr::V4(ip.into());
            prop_assert_eq!(fib.lookup(ip), model(&all, ip), "{}", ip);
        }
    }

    #[test]
    fn agrees_with_the_definition_v6(
        prefixes in prop::collection::vec(crowded_v6(), 0..60),
        flips in prop::collection::vec(0u32..128, 8),
    ) {
        let routes: Vec<_> = prefixes.into_iter().zip(0u32..).collect();
        let fib = Fib::build(&routes);
        let all: BTreeMap<_, _> = routes.iter().copied().collect();
        for (p, _) in &routes {
            let IpAddr::V6(a) = p.addr() else { unreachable!() };
            let a = u128::from(a);
            for ip in flips.iter().map(|f| a ^ 1 << f).chain([a, a.wrapping_sub(1)]) {
                let ip = IpAddr::V6(ip.into());
                prop_assert_eq!(fib.lookup(ip), model(&all, ip), "{}", ip);
            }
        }
    }

    #[test]
    fn changes_and_snapshots_v4(steps in steps(crowded_v4())) {
        replay(&steps)?;
    }

    #[test]
    fn changes_and_snapshots_v6(steps in steps(crowded_v6())) {
        replay(&steps)?;
    }
}
