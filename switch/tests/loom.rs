//! The lock-free tables under loom: every interleaving of a few threads, and every value that the
//! memory model lets a load return. `make loom`.
//!
//! Who reads is the thread that is spawned: loom remembers only the last access to each atomic, and
//! where the writer's own reads come last it would miss what they have to do with the other thread.
#![cfg(loom)]

use encap::Mac;
use loom::thread;
use std::net::IpAddr;
use std::sync::Arc;
use switch::tables::fib::{Lpm, Routes};
use switch::tables::{Learned, Limits, Neighbors, Station};
use switch::{Fdb, Location, PortId, SegmentId, publish};

const SEG: SegmentId = SegmentId(1);
const P1: Location = Location::Port(PortId(1));
const P2: Location = Location::Port(PortId(2));
const AGEING: u32 = 300;

fn mac(n: u64) -> Mac {
    Mac::from_u64(0x0200_0000_0000 | n)
}

fn station(n: u64) -> Station {
    Station::new(SEG, mac(n).to_u64())
}

fn ip(n: u32) -> IpAddr {
    IpAddr::V4(n.into())
}

/// Explores what at most three preemptions can do, which finds nearly everything, in bounded time.
fn explore(test: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.max_branches = 10_000;
    model.check(test);
}

/// A reader never goes back to an older snapshot, and ends with the newest.
#[test]
fn snapshots_arrive_in_order_and_none_is_missed() {
    explore(|| {
        let (mut publisher, mut readers) = publish::channel(Arc::new(0), 1);
        let mut reader = readers.remove(0);
        let worker = thread::spawn(move || {
            let mut seen = 0;
            for _ in 0..3 {
                let now = *reader.current();
                assert!(now >= seen);
                seen = now;
            }
            reader
        });
        publisher.publish(Arc::new(1));
        publisher.publish(Arc::new(2));
        let mut reader = worker.join().unwrap();
        assert_eq!(*reader.current(), 2, "the flag is up as long as something is in the cell");
        publisher.collect();
        assert!(!publisher.is_pending());
    });
}

/// The reader frees nothing: each snapshot it is done with is freed by the publisher.
#[test]
fn snapshots_are_freed_by_the_publisher() {
    explore(|| {
        let first = Arc::new(0);
        let (mut publisher, mut readers) = publish::channel(first.clone(), 1);
        let mut reader = readers.remove(0);
        let worker = thread::spawn(move || {
            reader.current();
            reader
        });
        publisher.publish(Arc::new(1));
        let mut reader = worker.join().unwrap();
        reader.current();
        assert_eq!(Arc::strong_count(&first), 2, "in the queue, until it is collected");
        publisher.collect();
        assert_eq!(Arc::strong_count(&first), 1);
    });
}

/// Two routes always have the same value. A reader finds them so in every snapshot, though what older
/// ones led to is written over as soon as they have come back.
#[test]
fn a_snapshot_of_routes_stays_as_it_was() {
    const ROUTES: [u32; 2] = [0x0a00_0100, 0x0a00_0200];
    const LAST: u32 = 3;
    fn change_and_look() {
        let mut routes = Routes::new();
        let mut version = |value| -> Arc<Lpm<u32>> {
            for key in ROUTES {
                routes.insert(key, 24, value);
            }
            Arc::new(routes.snapshot())
        };
        let (mut publisher, mut readers) = publish::channel(version(0), 1);
        let mut reader = readers.remove(0);
        let worker = thread::spawn(move || {
            for _ in 0..2 {
                let now = reader.current();
                let [a, b] = ROUTES.map(|key| now.lookup(key + 7));
                assert!(a.is_some() && a == b, "{a:?} {b:?}");
            }
            reader
        });
        (1..=LAST).for_each(|value| publisher.publish(version(value)));
        let mut reader = worker.join().unwrap();
        assert_eq!(reader.current().lookup(ROUTES[0]), Some(LAST));
    }
    // A table does not fit the stack that loom gives its first thread.
    let roomy = || thread::Builder::new().stack_size(1 << 20);
    explore(move || roomy().spawn(change_and_look).unwrap().join().unwrap());
}

/// What `change` makes of `before` is seen by a reader in no other order than one address after the other: of
/// each the route of before, then the one of after. `looks` are an address and these two.
fn amended(
    before: &'static [(u32, u8, u32)],
    change: fn(&mut Routes<u32>),
    looks: &'static [(u32, Option<u32>, Option<u32>)],
) {
    let change_and_look = move || {
        let mut routes = Routes::from_routes(before.iter().copied());
        let table = routes.snapshot();
        let worker = {
            let table = table.clone();
            thread::spawn(move || {
                for &(key, old, new) in looks {
                    let found = [(); 2].map(|()| table.lookup(key));
                    assert!([[old, old], [old, new], [new, new]].contains(&found), "{found:?}");
                }
            })
        };
        change(&mut routes);
        assert!(routes.amend().is_none(), "they see it where they look");
        worker.join().unwrap();
        for &(key, _, new) in looks {
            assert_eq!(table.lookup(key), new);
        }
    };
    let roomy = || thread::Builder::new().stack_size(1 << 20);
    explore(move || roomy().spawn(change_and_look).unwrap().join().unwrap());
}

/// A route below the root comes, and one goes.
#[test]
fn a_node_is_whole_when_it_is_found() {
    amended(
        &[(0x0a00_0000, 24, 1), (0x0a00_0200, 24, 2)],
        |routes| {
            routes.insert(0x0a00_0100, 24, 3);
            routes.remove(0x0a00_0200, 24);
        },
        &[(0x0a00_0107, None, Some(3)), (0x0a00_0207, Some(2), None)],
    );
}

/// A route comes that covers, goes that was covered, and the one around both changes: three words of a slot.
#[test]
fn both_words_of_a_slot_change() {
    amended(
        &[(0x0a00_0000, 16, 1), (0x0a00_0200, 24, 2)],
        |routes| {
            routes.insert(0x0a00_0000, 16, 4);
            routes.insert(0x0a00_0100, 24, 3);
            routes.remove(0x0a00_0200, 24);
        },
        &[(0x0a00_0107, Some(1), Some(3)), (0x0a00_0207, Some(2), Some(4))],
    );
}

/// First a longer route comes, then the shorter one changes that it covers now: who began to look before all
/// that must not end up with what the shorter one has become.
#[test]
fn a_slow_reader_mixes_no_times() {
    fn change(routes: &mut Routes<u32>) {
        routes.insert(0x0a00_0100, 24, 3);
        assert!(routes.amend().is_none(), "it is done where they look");
        routes.insert(0x0a00_0000, 16, 4);
    }
    amended(
        &[(0x0a00_0000, 16, 1), (0x0a00_0200, 24, 2)],
        change,
        &[(0x0a00_0107, Some(1), Some(3))],
    );
}

/// A value changes where it is, and then the node around it.
#[test]
fn a_value_changes_in_its_node() {
    fn change(routes: &mut Routes<u32>) {
        routes.insert(0x0a00_0100, 24, 3);
        assert!(routes.amend().is_none());
        routes.remove(0x0a00_0200, 24);
    }
    amended(
        &[(0x0a00_0100, 24, 1), (0x0a00_0200, 24, 2)],
        change,
        &[(0x0a00_0107, Some(1), Some(3)), (0x0a00_0207, Some(2), None)],
    );
}

/// As above where entries have 32 bits: the node is compressed.
#[test]
fn a_value_changes_in_a_compressed_node() {
    fn change(routes: &mut Routes<u32>) {
        routes.insert(0x0a00_0100, 24, 100_003);
        assert!(routes.amend().is_none());
        routes.remove(0x0a00_0200, 24);
    }
    amended(
        &[(0x0a00_0100, 24, 100_001), (0x0a00_0200, 24, 100_002)],
        change,
        &[(0x0a00_0107, Some(100_001), Some(100_003)), (0x0a00_0207, Some(100_002), None)],
    );
}

/// Two entries are one word: neither is anything else while both change, together and then one of them.
#[test]
fn two_values_change_in_one_word() {
    fn change(routes: &mut Routes<u32>) {
        routes.insert(0x0a00_0100, 24, 3);
        routes.insert(0x0a00_0200, 24, 4);
        assert!(routes.amend().is_none());
        routes.insert(0x0a00_0200, 24, 5);
    }
    amended(
        &[(0x0a00_0100, 24, 1), (0x0a00_0200, 24, 4)],
        change,
        &[(0x0a00_0207, Some(4), Some(5)), (0x0a00_0107, Some(1), Some(3))],
    );
}

/// As many addresses as the two buckets hold, which age out at 10.
fn full() -> (Fdb, Vec<Mac>) {
    let fdb = Fdb::new(4);
    let held = (0..100).map(mac).filter(|&m| fdb.learn(SEG, m, P1, 0, 10) == Learned::New);
    let held: Vec<Mac> = held.take(8).collect();
    assert_eq!(held.len(), 8);
    (fdb, held)
}

/// A slot that aged out goes to another address while somebody looks the first one up: that one is
/// unknown or where it was, never where the other one is.
#[test]
fn a_slot_that_changes_hands_misleads_nobody() {
    explore(|| {
        let ((trial, held), (fdb, _)) = (full(), full());
        let fdb = Arc::new(fdb);
        trial.learn(SEG, mac(1000), P2, 20, AGEING);
        let victim = held.into_iter().find(|&m| trial.lookup(SEG, m, 9).is_none());
        let victim = victim.expect("one of the eight makes room");

        let other = fdb.clone();
        let reader = thread::spawn(move || {
            let found = other.lookup(SEG, victim, 9);
            assert!(found.is_none() || found == Some(P1), "{found:?}");
        });
        fdb.learn(SEG, mac(1000), P2, 20, AGEING);
        reader.join().unwrap();
        assert_eq!(fdb.lookup(SEG, mac(1000), 20), Some(P2));
    });
}

/// Two workers learn the same address: it is somewhere afterwards, and counted as often as it is held.
#[test]
fn two_workers_learn_one_address() {
    explore(|| {
        let fdb = Arc::new(Fdb::new(4));
        let other = fdb.clone();
        let learner = thread::spawn(move || other.learn(SEG, mac(1), P2, 0, AGEING));
        fdb.learn(SEG, mac(1), P1, 0, AGEING);
        learner.join().unwrap();
        assert!(matches!(fdb.lookup(SEG, mac(1), 0), Some(P1 | P2)));
        let held = u32::try_from(fdb.entries(0).len()).unwrap();
        assert_eq!(fdb.count_in(SEG), held);
        assert_eq!(fdb.count_at(PortId(1)) + fdb.count_at(PortId(2)), held);
    });
}

/// A limit is never passed by two workers together.
#[test]
fn a_limit_holds_for_two_workers() {
    explore(|| {
        let fdb = Arc::new(Fdb::new(4));
        let limits = || Limits { segment: Some(1), port: None };
        let other = fdb.clone();
        let learner = thread::spawn(move || other.learn_within(station(1), P1, 0, AGEING, limits));
        let here = fdb.learn_within(station(2), P1, 0, AGEING, limits);
        let there = learner.join().unwrap();
        let new = [here, there].into_iter().filter(|&l| l == Learned::New).count();
        assert!(new <= 1);
        assert_eq!(fdb.count_in(SEG), u32::try_from(new).unwrap());
    });
}

/// An address moves while another worker flushes it: the counts are those of what is left.
#[test]
fn a_move_and_a_flush() {
    explore(|| {
        let fdb = Arc::new(Fdb::new(4));
        fdb.learn(SEG, mac(1), P1, 0, AGEING);
        let other = fdb.clone();
        let flusher = thread::spawn(move || other.flush(|_, _, _| true));
        fdb.learn(SEG, mac(1), P2, 0, AGEING);
        flusher.join().unwrap();
        let held = u32::try_from(fdb.entries(0).len()).unwrap();
        assert_eq!(fdb.count_in(SEG), held);
        assert_eq!(fdb.count_at(PortId(1)) + fdb.count_at(PortId(2)), held);
    });
}

/// One slot, two addresses: a reader sees one of them whole, or nothing.
#[test]
fn a_neighbour_is_never_half_another() {
    explore(|| {
        let neighbors = Arc::new(Neighbors::default());
        neighbors.confirm(SEG, ip(1), mac(1), 0);
        let other = neighbors.clone();
        let reader = thread::spawn(move || {
            for (address, owner) in [(ip(1), mac(1)), (ip(2), mac(2))] {
                if let Some(found) = other.get(SEG, address, 1) {
                    assert_eq!(found.mac, Some(owner));
                }
            }
        });
        neighbors.confirm(SEG, ip(2), mac(2), 1);
        reader.join().unwrap();
        assert_eq!(neighbors.get(SEG, ip(2), 1).and_then(|n| n.mac), Some(mac(2)));
    });
}

/// Two writers on one slot: one of them wins, nothing is mixed.
#[test]
fn two_writers_of_one_slot() {
    explore(|| {
        let neighbors = Arc::new(Neighbors::default());
        let other = neighbors.clone();
        let writer = thread::spawn(move || other.confirm(SEG, ip(1), mac(1), 1));
        neighbors.confirm(SEG, ip(2), mac(2), 1);
        writer.join().unwrap();
        let all = neighbors.entries(1);
        assert_eq!(all.len(), 1);
        let is = |n: u32| all[0].ip == ip(n) && all[0].mac == Some(mac(n.into()));
        assert!(is(1) || is(2), "{all:?}");
    });
}
