//! Counters, port by port.

use fastpath::{PortSnapshot, SocketStatistics};
use podswitch_api::view::{Counters, PortCounters};
use switch::DropReason;

use crate::node::Node;

impl Node {
    /// Each port's counters since it was added. What ports counted that are removed by now is a
    /// row of its own, so that the sum over all rows holds for the life of the daemon.
    pub(in crate::node) fn counters(&self) -> Counters {
        let counters = self.engine.counters();
        let mut removed = PortSnapshot::default();
        let mut in_flight = 0;
        let mut ports = Vec::new();
        for (id, total) in &counters.ports {
            in_flight += total.in_flight;
            match self.live.iter().find(|(_, l)| l.id == *id) {
                Some((name, live)) => {
                    ports.push(row(name, &total.since(&live.baseline)));
                    removed += &live.baseline;
                }
                None => removed += total,
            }
        }
        let made = removed.originated + removed.coalesced;
        let counted = removed.rx_frames + removed.tx_frames + made + removed.dropped();
        if counted > 0 {
            ports.push(row(REMOVED, &removed));
        }
        let occurring = |name: &str| ports.iter().any(|p| p.drops.contains_key(name));
        let reasons = DropReason::ALL.iter().filter(|r| occurring(r.name()));
        let causes = MISSED.iter().filter(|m| ports.iter().any(|p| p.missed.contains_key(m.name)));
        let reasons = reasons
            .map(|r| (r.name().to_owned(), r.help().to_owned()))
            .chain(causes.map(|m| (m.name.to_owned(), m.help.to_owned())))
            .collect();
        Counters { ports, in_flight, reasons }
    }
}

/// The name of the row for ports that are no more. No port can have it.
const REMOVED: &str = "(removed)";

/// Why the kernel drops a frame that it was to hand over.
struct Missed {
    name: &'static str,
    help: &'static str,
    count: fn(&SocketStatistics) -> u64,
}

const MISSED: [Missed; 2] = [
    Missed {
        name: "ring_full",
        help: "The worker did not empty the port's receive ring in time.",
        count: |s| s.rx_ring_full,
    },
    Missed {
        name: "no_buffer",
        help: "No packet buffer was free for the port, or the frame needs more than it may have.",
        count: |s| s.rx_dropped,
    },
];

fn row(name: &str, c: &PortSnapshot) -> PortCounters {
    let drops = DropReason::ALL.iter().zip(&c.drops).filter(|&(_, &n)| n > 0);
    PortCounters {
        port: name.to_owned(),
        rx_frames: c.rx_frames,
        rx_bytes: c.rx_bytes,
        tx_frames: c.tx_frames,
        tx_bytes: c.tx_bytes,
        tx_superpackets: c.tx_superpackets,
        tx_bulk: c.tx_bulk,
        originated: c.originated,
        coalesced: c.coalesced,
        not_learned: c.not_learned,
        answered: c.answered,
        asked: c.asked,
        drops: drops.map(|(reason, &n)| (reason.name().to_owned(), n)).collect(),
        missed: MISSED
            .iter()
            .map(|m| (m.name.to_owned(), (m.count)(&c.kernel)))
            .filter(|(_, n)| *n > 0)
            .collect(),
    }
}
