use super::station::tag;
use super::*;
use crate::ids::{PortId, TunnelId};

const AGEING: u32 = 300;
const SEG: SegmentId = SegmentId(1);
const P1: Location = Location::Port(PortId(1));
const P2: Location = Location::Port(PortId(2));

fn mac(n: u64) -> Mac {
    Mac::from_u64(0x0200_0000_0000 | n)
}

#[test]
fn learns_moves_and_ages() {
    let fdb = Fdb::new(1024);
    assert_eq!(fdb.lookup(SEG, mac(1), 10), None);
    assert_eq!(fdb.learn(SEG, mac(1), P1, 10, AGEING), Learned::New);
    assert_eq!(fdb.lookup(SEG, mac(1), 10), Some(P1));
    assert_eq!(fdb.learn(SEG, mac(1), P1, 200, AGEING), Learned::Known);
    assert_eq!(fdb.learn(SEG, mac(1), P2, 200, AGEING), Learned::Moved);
    assert_eq!(fdb.lookup(SEG, mac(1), 499), Some(P2));
    assert_eq!(fdb.lookup(SEG, mac(1), 500), None, "aged out after 300 s");
}

#[test]
fn knows_what_it_need_not_learn() {
    let fdb = Fdb::new(1024);
    let knows = |segment, n, at, now| {
        let station = Station::new(segment, mac(n).to_u64());
        fdb.knows(station, Stamp::new(at, now, AGEING))
    };
    assert!(!knows(SEG, 1, P1, 10));
    fdb.learn(SEG, mac(1), P1, 10, AGEING);
    assert!(knows(SEG, 1, P1, 10));
    assert!(!knows(SEG, 1, P1, 11), "to be noted again, a second later");
    assert!(!knows(SEG, 1, P2, 10), "it has moved");
    assert!(!knows(SEG, 2, P1, 10) && !knows(SegmentId(2), 1, P1, 10), "another station");
    fdb.flush(|_, _, _| true);
    assert!(!knows(SEG, 1, P1, 10));
    // Two that prefer one slot and share a tag.
    let at = |n| {
        let Station(key) = Station::new(SEG, mac(n).to_u64());
        let hash = hash(key);
        (hash as usize & (fdb.buckets.len() - 1), way(hash), tag(hash))
    };
    let mut seen = std::collections::HashMap::new();
    let (a, b) = (0..).find_map(|n| Some((seen.insert(at(n), n)?, n))).unwrap();
    fdb.learn(SEG, mac(a), P1, 10, AGEING);
    assert!(knows(SEG, a, P1, 10) && !knows(SEG, b, P1, 10));
}

#[test]
fn segments_are_apart() {
    let fdb = Fdb::new(1024);
    fdb.learn(SEG, mac(1), P1, 0, AGEING);
    fdb.learn(SegmentId(2), mac(1), Location::Tunnel(TunnelId(7)), 0, AGEING);
    assert_eq!(fdb.lookup(SEG, mac(1), 0), Some(P1));
    assert_eq!(fdb.lookup(SegmentId(2), mac(1), 0), Some(Location::Tunnel(TunnelId(7))));
    assert_eq!(fdb.lookup(SegmentId(3), mac(1), 0), None);
}

#[test]
fn holds_its_capacity_and_reuses_what_aged_out() {
    let fdb = Fdb::new(10_000);
    for n in 0..10_000 {
        assert_eq!(fdb.learn(SEG, mac(n), P1, 0, AGEING), Learned::New, "address {n}");
    }
    assert_eq!(fdb.entries(0).len(), 10_000);
    for n in 10_000..20_000 {
        assert_eq!(fdb.learn(SEG, mac(n), P2, 400, AGEING), Learned::New, "address {n}");
    }
    assert_eq!(fdb.entries(400).len(), 10_000);
}

#[test]
fn says_when_it_is_full() {
    let fdb = Fdb::new(4);
    let full =
        (0..1000).filter(|&n| fdb.learn(SEG, mac(n), P1, 0, AGEING) == Learned::Full).count();
    assert_eq!(full + fdb.entries(0).len(), 1000);
    assert!(full >= 1000 - 8);
}

#[test]
fn flushes_by_location() {
    let fdb = Fdb::new(1024);
    for n in 0..100 {
        fdb.learn(SEG, mac(n), if n % 2 == 0 { P1 } else { P2 }, 0, AGEING);
    }
    assert_eq!(fdb.flush(|_, _, at| at == P1), 50);
    assert!(fdb.entries(0).iter().all(|e| e.location == P2));
    assert_eq!(fdb.entries(0).len(), 50);
}

#[test]
fn limits_of_segment_and_port() {
    let fdb = Fdb::new(1024);
    let limits = || Limits { segment: Some(5), port: Some(3) };
    let station = |segment, n| Station::new(segment, mac(n).to_u64());
    let learn = |segment, n, at, now| fdb.learn_within(station(segment, n), at, now, 10, limits);
    for n in 0..3 {
        assert_eq!(learn(SEG, n, P1, 0), Learned::New);
    }
    assert_eq!(learn(SEG, 3, P1, 0), Learned::Limited, "the port's");
    assert_eq!(fdb.lookup(SEG, mac(3), 0), None);
    assert_eq!(learn(SEG, 0, P1, 1), Learned::Known, "who is known is refreshed");
    assert_eq!((learn(SEG, 4, P2, 0), learn(SEG, 5, P2, 0)), (Learned::New, Learned::New));
    assert_eq!(learn(SEG, 6, P2, 0), Learned::Limited, "the segment's");
    assert_eq!(learn(SEG, 4, P1, 0), Learned::Limited, "a move to a full port");
    assert_eq!(fdb.lookup(SEG, mac(4), 0), Some(P2), "stays where it was");
    assert_eq!(learn(SEG, 0, P2, 0), Learned::Moved, "within the segment's limit");
    assert_eq!(learn(SEG, 7, Location::Tunnel(TunnelId(1)), 0), Learned::Limited);
    assert_eq!(learn(SegmentId(2), 7, P1, 0), Learned::New, "another segment");
    assert_eq!((fdb.count_in(SEG), fdb.count_in(SegmentId(2))), (5, 1));
    assert_eq!((fdb.count_at(PortId(1)), fdb.count_at(PortId(2))), (3, 3));
    // What aged out makes room once it is swept.
    assert_eq!(learn(SEG, 8, P1, 50), Learned::Limited);
    assert_eq!(fdb.sweep(50, usize::MAX), 6);
    assert_eq!((fdb.count_in(SEG), fdb.count_at(PortId(1))), (0, 0));
    assert_eq!(learn(SEG, 8, P1, 50), Learned::New);
}

#[test]
fn sweeping_in_steps_comes_by_everywhere_and_keeps_the_living() {
    let fdb = Fdb::new(1000);
    for n in 0..1000 {
        fdb.learn(SEG, mac(n), P1, 0, if n % 2 == 0 { 10 } else { 100 });
    }
    let buckets = fdb.buckets.len();
    let swept: usize = (0..buckets.div_ceil(7)).map(|_| fdb.sweep(20, 7)).sum();
    assert_eq!(swept, 500);
    assert_eq!((fdb.count_in(SEG), fdb.entries(20).len()), (500, 500));
    assert_eq!(fdb.flush(|_, _, _| true), 500);
    assert_eq!((fdb.count_in(SEG), fdb.count_at(PortId(1))), (0, 0));
}

/// Four threads that do a step each again and again, beside one another, with random numbers of their own and
/// the number of the step.
fn four_threads(steps: u32, step: impl Fn(u64, u32) + Sync) {
    std::thread::scope(|s| {
        for t in 0..4u64 {
            let step = &step;
            s.spawn(move || {
                let mut x = t + 1;
                for i in 0..steps {
                    x = x.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                    step(x, i);
                }
            });
        }
    });
}

/// Threads learn, move, flush and sweep; what is counted afterwards is what is there.
#[test]
fn concurrent_changes_leave_the_counts_right() {
    let fdb = Fdb::new(64);
    four_threads(100_000, |x, i| {
        let (n, port) = (x >> 33 & 0xff, PortId((x >> 45 & 3) as u16));
        let limits = || Limits { segment: Some(100), port: Some(40) };
        let now = i / 100;
        let station = Station::new(SEG, mac(n).to_u64());
        fdb.learn_within(station, Location::Port(port), now, 2, limits);
        assert!(fdb.count_in(SEG) <= 100 + 4, "each worker adds before it looks");
        if i % 64 == 0 {
            fdb.sweep(now, 3);
        }
        if i % 999 == 0 {
            fdb.flush(|_, _, at| at == Location::Port(port));
        }
    });
    let all: Vec<_> = fdb.slots().map(|(_, value, _)| Location::from_bits(value as u32)).collect();
    assert_eq!(fdb.count_in(SEG) as usize, all.len());
    for port in (0..4).map(PortId) {
        let here = all.iter().filter(|&&at| at == Location::Port(port)).count();
        assert_eq!(fdb.count_at(port) as usize, here, "port {port}");
    }
}

/// Four threads learn and look up; an address is only ever found where somebody put it: the
/// location is a function of the address, so a torn entry would show.
#[test]
fn concurrent_lookups_see_no_torn_entry() {
    let fdb = Fdb::new(64);
    let home = |n: u64| Location::Port(PortId((n % 1000) as u16));
    four_threads(200_000, |x, i| {
        let n = x >> 33 & 0xff;
        // The clock runs, so that slots age out and are claimed for other keys.
        let now = i / 100;
        if x & 1 == 0 {
            fdb.learn(SEG, mac(n), home(n), now, 2);
        } else if let Some(found) = fdb.lookup(SEG, mac(n), now) {
            assert_eq!(found, home(n));
        }
    });
}
