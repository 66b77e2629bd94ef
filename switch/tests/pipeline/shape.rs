//! Rate limits, under a clock that the test moves: how much passes, in what order, and that every frame
//! is accounted for while it waits and after.

use crate::kit::Net;
use encap::Mac;
use proptest::prelude::*;
use std::sync::Arc;
use switch::heap::{HeapFrame, HeapIo};
use switch::tables::TokenBucket;
use switch::{DropReason, Fdb, Millis, PortId, Tables, Worker, WorkerCounters};

const A: PortId = PortId(0);
const B: PortId = PortId(1);
const C: PortId = PortId(2);

fn mac(port: PortId) -> Mac {
    Mac([2, 0, 0, 0, 1, port.0 as u8])
}

/// A bridge of three ports, each with one station.
struct Bridge {
    tables: Tables,
    counters: Arc<WorkerCounters>,
    worker: Worker,
    io: HeapIo,
    now: u64,
    /// Frames are numbered.
    next: u32,
    /// What was sent: port, number, length.
    sent: Vec<(PortId, u32, usize)>,
}

fn bits(rate: u64, burst: u64) -> Option<Arc<TokenBucket>> {
    Some(Arc::new(TokenBucket::new(rate, Some(burst))))
}

impl Bridge {
    fn new(with: impl FnOnce(&mut Net)) -> Bridge {
        let mut net = Net::new();
        let segment = net.segment(false);
        for port in [A, B, C] {
            assert_eq!(net.access(segment), port);
            net.fixed(segment, mac(port), switch::Location::Port(port));
        }
        with(&mut net);
        let counters = Arc::new(WorkerCounters::new(4));
        let worker = Worker::new(counters.clone(), Arc::new(Fdb::new(64)));
        let (io, sent) = (HeapIo::default(), Vec::new());
        Bridge { tables: net.build(), counters, worker, io, now: 1000, next: 0, sent }
    }

    /// Sends `count` frames of `len` bytes from one station to another.
    fn send(&mut self, from: PortId, to: PortId, count: usize, len: usize) {
        let mut batch = Vec::new();
        for _ in 0..count {
            let number = self.next.to_be_bytes();
            let head = [&mac(to).0[..], &mac(from).0, &[0x88, 0xb5], &number].concat();
            batch.push(HeapFrame::new(&[&head[..], &vec![0; len - head.len()]].concat()));
            self.next += 1;
        }
        self.worker.process(&self.tables, from, Millis(self.now), &mut batch, &mut self.io);
        self.account();
    }

    /// Lets time pass as an engine does: woken when something is due, and never for nothing.
    fn wait(&mut self, millis: u64) {
        let end = self.now + millis;
        while let Some(Millis(due)) = self.worker.due()
            && due <= end
        {
            assert!(due > self.now, "woken at {} for what was due at {due}", self.now);
            self.now = due;
            self.worker.tick(&self.tables, Millis(due), &mut self.io);
            self.account();
        }
        self.now = end;
    }

    fn account(&mut self) {
        for (port, frame) in std::mem::take(&mut self.io.sent) {
            self.counters.port(port).tx_frames.add(1);
            let number = u32::from_be_bytes(frame[14..18].try_into().unwrap());
            self.sent.push((port, number, frame.len()));
        }
        let sum = |f: &dyn Fn(&switch::PortCounters) -> u64| -> u64 {
            self.counters.ports().iter().map(f).sum()
        };
        let came = sum(&|p| p.rx_frames.get() + p.originated.get());
        assert_eq!(came, sum(&|p| p.tx_frames.get() + p.dropped() + p.held.get()));
        assert_eq!(sum(&|p| p.held.get()) > 0, self.worker.due().is_some(), "due while one waits");
    }

    /// How many frames wait that came from or go to a port.
    fn held(&self, port: PortId) -> u64 {
        self.counters.port(port).held.get()
    }

    fn limited(&self, port: PortId) -> u64 {
        self.counters.port(port).drops(DropReason::RateLimited)
    }

    /// The numbers of the frames that were sent since the last time.
    fn numbers(&mut self) -> Vec<u32> {
        self.sent.drain(..).map(|s| s.1).collect()
    }
}

#[test]
fn to_a_port_what_exceeds_the_bucket_waits_and_what_exceeds_the_queue_is_dropped() {
    // 125 bytes a millisecond, 25 of them at once; 25 more wait.
    let mut bridge = Bridge::new(|net| net.port_policy(B).to_port = bits(1_000_000, 25_000));
    bridge.send(A, B, 60, 125);
    assert_eq!(bridge.numbers(), (0..25).collect::<Vec<_>>());
    assert_eq!((bridge.held(B), bridge.limited(B)), (25, 10), "counted where the limit is");
    bridge.wait(10);
    assert_eq!(bridge.numbers(), (25..35).collect::<Vec<_>>());
    bridge.wait(15);
    assert_eq!(bridge.numbers(), (35..50).collect::<Vec<_>>());
    assert_eq!((bridge.held(B), bridge.worker.due()), (0, None), "asleep");
}

#[test]
fn from_a_port_frames_wait_before_anything_happens_to_them() {
    let mut bridge = Bridge::new(|net| net.port_policy(A).from_port = bits(1_000_000, 25_000));
    bridge.send(A, B, 30, 125);
    assert_eq!((bridge.numbers().len(), bridge.held(A)), (25, 5));
    // Where they go to is looked up when they leave.
    bridge.tables.ports[B.index()] = None;
    bridge.wait(100);
    assert_eq!((bridge.sent.len(), bridge.counters.port(A).drops(DropReason::PortDown)), (0, 5));
}

#[test]
fn others_are_not_limited_and_frames_keep_their_order() {
    let mut bridge = Bridge::new(|net| net.port_policy(B).to_port = bits(1_000_000, 25_000));
    bridge.send(A, B, 30, 125);
    bridge.numbers();
    bridge.send(A, C, 500, 125);
    bridge.send(B, A, 500, 125);
    assert_eq!(bridge.numbers().len(), 1000);
    // There may be tokens for a small frame, but it is not its turn.
    bridge.send(A, B, 1, 60);
    bridge.wait(1);
    assert_eq!(bridge.numbers(), [25]);
    bridge.wait(100);
    assert_eq!(bridge.numbers(), [26, 27, 28, 29, 1030]);
}

#[test]
fn both_directions_at_once_are_the_lower_of_the_two() {
    let mut bridge = Bridge::new(|net| {
        net.port_policy(A).from_port = bits(2_000_000, 20_000);
        net.port_policy(B).to_port = bits(1_000_000, 10_000);
    });
    for _ in 0..1000 {
        bridge.send(A, B, 3, 125);
        bridge.wait(1);
    }
    let all = bridge.numbers().len();
    assert!((1000..=1012).contains(&all), "{all} frames of a millisecond each in a second");
    assert!(bridge.limited(A) > 900 && bridge.limited(B) > 900, "each drops what it must");
}

#[test]
fn copies_and_answers_are_limited_too() {
    let mut bridge = Bridge::new(|net| net.port_policy(B).to_port = bits(1_000_000, 10_000));
    for _ in 0..30 {
        bridge.send(A, PortId(9), 1, 125);
    }
    let to = |bridge: &Bridge, port| bridge.sent.iter().filter(|s| s.0 == port).count();
    assert_eq!((to(&bridge, B), to(&bridge, C)), (10, 30));
}

#[test]
fn a_limit_that_is_lifted_lets_all_go() {
    let mut bridge = Bridge::new(|net| {
        net.port_policy(B).to_port = bits(8000, 8000);
        net.port_policy(C).from_port = bits(8000, 8000);
    });
    bridge.send(A, B, 5, 1000);
    bridge.send(C, A, 5, 1000);
    bridge.numbers();
    assert_eq!((bridge.held(B), bridge.held(C)), (4, 4));
    for port in [B, C] {
        let policy = &mut Arc::make_mut(bridge.tables.ports[port.index()].as_mut().unwrap()).policy;
        (policy.to_port, policy.from_port) = (None, None);
    }
    bridge.tables.shaped = false;
    bridge.wait(100);
    assert_eq!((bridge.numbers().len(), bridge.held(B), bridge.held(C)), (8, 0, 0));
}

#[test]
fn a_port_that_is_gone_holds_nothing() {
    let mut bridge = Bridge::new(|net| net.port_policy(A).from_port = bits(8000, 8000));
    bridge.send(A, B, 5, 1000);
    bridge.tables.ports[A.index()] = None;
    bridge.wait(100);
    assert_eq!(bridge.counters.port(A).drops(DropReason::PortUnknown), 4);
}

/// Several queues of large frames: none is starved by the others.
#[test]
fn every_queue_gets_its_rate() {
    let mut bridge = Bridge::new(|net| {
        net.port_policy(A).from_port = bits(400_000_000, 1);
        net.port_policy(B).to_port = bits(100_000_000, 1);
        net.port_policy(C).to_port = bits(10_000_000, 1);
    });
    for _ in 0..2000 {
        bridge.send(A, B, 2, 15_000);
        bridge.send(A, C, 2, 15_000);
        bridge.wait(1);
    }
    for (port, rate) in [(B, 100.0), (C, 10.0)] {
        let bytes: usize = bridge.sent.iter().filter(|s| s.0 == port).map(|s| s.2).sum();
        let got = bytes as f64 * 8.0 / 2e6;
        assert!((0.97..1.03).contains(&(got / rate)), "{got} of {rate} Mbit/s to port {port}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A sender that always has something to send gets the rate, to within 5 %, whatever the sizes of
    /// its frames and however they come, in either direction.
    #[test]
    fn a_backlogged_port_gets_its_rate(
        rate in 500_000u64..200_000_000,
        burst in prop_oneof![Just(None), (1u64..2_000_000).prop_map(Some)],
        lens in prop::collection::vec(60usize..9000, 1..20),
        gap in 1u64..8,
        inbound in any::<bool>(),
    ) {
        let bucket = Arc::new(TokenBucket::new(rate, burst));
        let mut bridge = Bridge::new(|net| {
            let policy = [A, B].map(|p| std::mem::take(net.port_policy(p)));
            let [mut a, mut b] = policy;
            *(if inbound { &mut a.from_port } else { &mut b.to_port }) = Some(bucket.clone());
            (*net.port_policy(A), *net.port_policy(B)) = (a, b);
        });
        let start = bridge.now;
        let mut lens = lens.iter().cycle();
        while bridge.now < start + 2000 {
            // Twice what the rate needs, and a frame.
            let mut need = 2 * gap * rate / 8000;
            loop {
                let len = *lens.next().unwrap();
                bridge.send(A, B, 1, len);
                if need < len as u64 { break }
                need -= len as u64;
            }
            bridge.wait(gap);
        }
        let sent: u64 = bridge.sent.iter().map(|s| 8 * s.2 as u64).sum();
        let given = rate * (bridge.now - start) / 1000;
        let (least, most) = (given / 100 * 95, given + bucket.burst() + 72_000);
        prop_assert!((least..=most).contains(&sent), "{sent} not in {least}..={most}");
        prop_assert!(bridge.sent.is_sorted_by_key(|s| s.1), "out of order");
    }
}
