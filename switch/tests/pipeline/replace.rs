//! Tables replaced under load: no frame is lost or misrouted, and a change of two routes is never
//! seen half.

use crate::kit::{Node, Packet, Via, decode, gateway_mac};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use switch::heap::{HeapFrame, HeapIo};
use switch::publish::{self, Reader};
use switch::{DropReason, Fdb, Millis, Tables, Worker, WorkerCounters};

const PUBLICATIONS: usize = 3000;
/// The publisher waits now and then for the readers, so that they see many snapshots also on a
/// machine with one core; an odd number, so that they see both kinds.
const WAIT_EVERY: usize = 15;
const BATCH: usize = 16;

/// What one reader saw.
#[derive(Debug, Default)]
struct Seen {
    batches: usize,
    over_vxlan: usize,
    over_ipip: usize,
    changes: usize,
}

/// Forwards batches, each of them to two prefixes in turn, until told to stop.
fn forward(node: &Node, mut tables: Reader<Tables>, stop: &AtomicBool) -> (Seen, Reader<Tables>) {
    let counters = Arc::new(WorkerCounters::new(16));
    let mut worker = Worker::new(counters.clone(), Arc::new(Fdb::new(64)));
    let port = node.a.port;
    let packets = ["10.244.2.10", "10.250.0.10"].map(|dst| {
        Packet::new(node.a.mac, node.a.v4, gateway_mac(1), dst.parse().unwrap())
            .udp((1, 2), b"not lost")
    });
    let mut seen = Seen::default();
    let mut last = None;
    while !stop.load(Ordering::Relaxed) || seen.batches == 0 {
        let mut batch: Vec<_> =
            (0..BATCH).map(|i| HeapFrame::new(&packets[i % packets.len()])).collect();
        let mut io = HeapIo::default();
        worker.process(tables.current(), port, Millis(1000), &mut batch, &mut io);
        assert_eq!(io.sent.len(), BATCH, "a frame was lost");

        // 17: VXLAN, 4: IPIP. The first frame says which snapshot the batch must have seen.
        let protocol = decode(&io.sent[0].1).protocol;
        for (i, (to, frame)) in io.sent.iter().enumerate() {
            assert_eq!(*to, node.uplink);
            let outer = decode(frame);
            assert_eq!(outer.protocol, protocol, "frame {i} of a batch saw another snapshot");
            assert_eq!(outer.dst.to_string(), "192.0.2.2");
            let sent = &packets[i % packets.len()];
            let inner = if protocol == 17 { &outer.vxlan().1[14..] } else { &outer.payload[..] };
            assert_eq!(inner[12..20], sent[26..34], "addresses of the packet inside");
            assert_eq!(inner[28..], sent[42..], "payload of the packet inside");
        }
        seen.batches += 1;
        match protocol {
            17 => seen.over_vxlan += 1,
            4 => seen.over_ipip += 1,
            other => panic!("protocol {other}"),
        }
        if last.replace(protocol).is_some_and(|last| last != protocol) {
            seen.changes += 1;
        }
    }
    let received = counters.port(port).rx_frames.get();
    assert_eq!(received, (seen.batches * BATCH) as u64);
    assert!(DropReason::ALL.iter().all(|&r| counters.port(port).drops(r) == 0));
    (seen, tables)
}

/// Two complete states of a node, which differ in where two prefixes lead. Routes of the node's own
/// list lose against the more specific ones added here.
fn states() -> [Tables; 2] {
    [Via::Vxlan4, Via::Ipip4].map(|via| {
        let tunnel = match via {
            Via::Vxlan4 => crate::kit::tunnels::VXLAN4,
            _ => crate::kit::tunnels::IPIP4,
        };
        let node = Node::with(1, via, |net| {
            net.route("10.250.0.0/25", switch::tables::NextHop::Tunnel(tunnel));
        });
        node.tables
    })
}

#[test]
fn while_workers_forward() {
    let node = Node::new(1, Via::Vxlan4);
    let [vxlan, ipip] = states();
    let first = Arc::new(vxlan.clone());
    let (mut publisher, readers) = publish::channel(first.clone(), 2);
    let stop = AtomicBool::new(false);
    let readers: Vec<_> = std::thread::scope(|s| {
        let threads: Vec<_> =
            readers.into_iter().map(|r| s.spawn(|| forward(&node, r, &stop))).collect();
        for n in 1..=PUBLICATIONS {
            let next = if n % 2 == 0 { &vxlan } else { &ipip };
            publisher.publish(Arc::new(next.clone()));
            while n % WAIT_EVERY == 0 && publisher.is_pending() {
                publisher.collect();
                std::thread::yield_now();
                if threads.iter().any(|t| t.is_finished()) {
                    break; // It panicked; the join below says so.
                }
            }
        }
        stop.store(true, Ordering::Relaxed);
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    for (seen, _) in &readers {
        assert!(seen.changes >= PUBLICATIONS / WAIT_EVERY / 2, "{seen:?}");
        assert!(seen.over_vxlan > 0 && seen.over_ipip > 0, "{seen:?}");
    }
    // Nothing old is held: the first snapshot is ours alone again.
    publisher.collect();
    assert_eq!(Arc::strong_count(&first), 1);
}
