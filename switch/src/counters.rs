//! Counters: each worker writes its own, readers add them up.
//!
//! For every worker and at every moment between two batches:
//! `received + originated = sent + coalesced + dropped (by reason) + in flight`, where *originated* are
//! frames that the switch itself made (copies for flooding, replies, the packets of a superpacket but
//! one), *coalesced* are frames that became part of another one, and *in flight* are frames that sit in a
//! transmit queue or wait for a neighbour or a rate limit.

use crate::ids::PortId;
use crate::reason::DropReason;
use core::sync::atomic::{AtomicU64, Ordering};

/// A counter with one writer and any number of readers.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. Only the owning worker may call it: it is a load and a store, not an atomic
    /// addition, which would cost a locked instruction per packet.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// Takes `n` off: for counters that say how many there are now.
    #[inline]
    pub fn sub(&self, n: u64) {
        self.add(n.wrapping_neg());
    }

    /// The value, as of some moment not long ago.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What one worker counted on one port.
#[derive(Debug)]
#[repr(align(64))]
pub struct PortCounters {
    /// Frames that wait at present: of this port's for a neighbour, of this port's or for this port for
    /// its rate limit.
    pub held: Counter,
    /// Frames received from the interface.
    pub rx_frames: Counter,
    /// Bytes received, from the Ethernet header on, without the frame check sequence.
    pub rx_bytes: Counter,
    /// Frames handed to the interface.
    pub tx_frames: Counter,
    /// Bytes handed to the interface.
    pub tx_bytes: Counter,
    /// Frames made by the switch while it processed frames of this port: copies and replies.
    pub originated: Counter,
    /// Frames of this port that were sent as part of a superpacket that another one began.
    pub coalesced: Counter,
    /// Frames whose source address could not be learned, because the table is full or a limit is
    /// reached. They are forwarded all the same, and counted as what became of them.
    pub not_learned: Counter,
    /// Requests that the switch answered itself: ARP, neighbour solicitations, echo requests.
    pub answered: Counter,
    /// Questions of the router for the MAC address of a neighbour.
    pub asked: Counter,
    /// Superpackets that frames were handed to the kernel as, each of several of `tx_frames`.
    pub tx_superpackets: Counter,
    /// Of `tx_frames`, those that were handed over together, past the TX ring.
    pub tx_bulk: Counter,
    drops: [Counter; DropReason::COUNT],
}

impl Default for PortCounters {
    fn default() -> PortCounters {
        PortCounters {
            held: Counter::default(),
            rx_frames: Counter::default(),
            rx_bytes: Counter::default(),
            tx_frames: Counter::default(),
            tx_bytes: Counter::default(),
            originated: Counter::default(),
            coalesced: Counter::default(),
            not_learned: Counter::default(),
            answered: Counter::default(),
            asked: Counter::default(),
            tx_superpackets: Counter::default(),
            tx_bulk: Counter::default(),
            drops: [const { Counter(AtomicU64::new(0)) }; DropReason::COUNT],
        }
    }
}

impl PortCounters {
    /// Counts a drop under its name. Drops on the way in are counted on the ingress port, drops
    /// of a full or vanished egress interface on the egress port.
    #[inline]
    pub fn drop(&self, reason: DropReason) {
        self.drops[reason as usize].add(1);
    }

    /// Drops under one name.
    pub fn drops(&self, reason: DropReason) -> u64 {
        self.drops[reason as usize].get()
    }

    /// Drops under all names together.
    pub fn dropped(&self) -> u64 {
        self.drops.iter().map(Counter::get).sum()
    }
}

/// One worker's counters, a slot for each port, allocated once and indexed by [`PortId`].
#[derive(Debug)]
pub struct WorkerCounters {
    ports: Box<[PortCounters]>,
}

impl WorkerCounters {
    /// Zeroed counters for port identifiers below `ports`.
    pub fn new(ports: usize) -> WorkerCounters {
        WorkerCounters { ports: (0..ports).map(|_| PortCounters::default()).collect() }
    }

    /// The counters of a port. An identifier out of range shares the last slot: the packet path
    /// must not panic, and the tables never hold such a port.
    #[inline]
    pub fn port(&self, id: PortId) -> &PortCounters {
        &self.ports[id.index().min(self.ports.len() - 1)]
    }

    /// All slots, by port identifier.
    pub fn ports(&self) -> &[PortCounters] {
        &self.ports
    }
}
