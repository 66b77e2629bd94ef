//! What the ports counted, added up over the workers.

use switch::{DropReason, PortCounters, PortId};

/// One port's counters, added up over the workers, each as of a moment between two rounds of its
/// loop.
///
/// At every moment: `rx_frames + originated` added up over all ports equals `tx_frames + coalesced +
/// drops + in_flight` added up over all ports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortSnapshot {
    /// Frames received.
    pub rx_frames: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Frames that the kernel or the driver took.
    pub tx_frames: u64,
    /// Bytes of those.
    pub tx_bytes: u64,
    /// Superpackets that some of those were sent as, several in each.
    pub tx_superpackets: u64,
    /// Of `tx_frames`, those that were sent in bulk, past the TX ring.
    pub tx_bulk: u64,
    /// Frames made by the switch while it processed frames of this port.
    pub originated: u64,
    /// Frames of this port that were sent as part of a superpacket that another one began.
    pub coalesced: u64,
    /// Frames whose source address could not be learned; what became of them is counted apart.
    pub not_learned: u64,
    /// ARP, neighbour discovery and echo requests that the switch answered itself.
    pub answered: u64,
    /// Questions of the router for the MAC address of a neighbour.
    pub asked: u64,
    /// Frames dropped, by reason, in the order of [`DropReason::ALL`].
    pub drops: Vec<u64>,
    /// Frames on their way out of this port: in its transmit ring or between two workers.
    pub in_flight: u64,
    /// What the kernel counted on the port's sockets.
    pub kernel: SocketStatistics,
}

impl PortSnapshot {
    /// A port that has counted nothing.
    pub(crate) fn silent() -> PortSnapshot {
        PortSnapshot { drops: vec![0; DropReason::COUNT], ..PortSnapshot::default() }
    }

    /// Adds one worker's part.
    pub(crate) fn add(&mut self, counters: &PortCounters, in_flight: u64) {
        self.rx_frames += counters.rx_frames.get();
        self.rx_bytes += counters.rx_bytes.get();
        self.tx_frames += counters.tx_frames.get();
        self.tx_bytes += counters.tx_bytes.get();
        self.tx_superpackets += counters.tx_superpackets.get();
        self.tx_bulk += counters.tx_bulk.get();
        self.originated += counters.originated.get();
        self.coalesced += counters.coalesced.get();
        self.not_learned += counters.not_learned.get();
        self.answered += counters.answered.get();
        self.asked += counters.asked.get();
        for (sum, &reason) in self.drops.iter_mut().zip(DropReason::ALL) {
            *sum += counters.drops(reason);
        }
        // A frame between two workers is in flight for one and the opposite for the other.
        self.in_flight = self.in_flight.wrapping_add(in_flight).wrapping_add(counters.held.get());
    }

    /// Drops under one name.
    pub fn dropped_as(&self, reason: DropReason) -> u64 {
        self.drops.get(reason as usize).copied().unwrap_or(0)
    }

    /// Drops under all names together.
    pub fn dropped(&self) -> u64 {
        self.drops.iter().sum()
    }

    /// What was counted after `earlier`, a snapshot of the same port.
    pub fn since(&self, earlier: &PortSnapshot) -> PortSnapshot {
        let drops = self.drops.iter().zip(earlier.drops.iter().chain(std::iter::repeat(&0)));
        PortSnapshot {
            rx_frames: self.rx_frames - earlier.rx_frames,
            rx_bytes: self.rx_bytes - earlier.rx_bytes,
            tx_frames: self.tx_frames - earlier.tx_frames,
            tx_bytes: self.tx_bytes - earlier.tx_bytes,
            tx_superpackets: self.tx_superpackets - earlier.tx_superpackets,
            tx_bulk: self.tx_bulk - earlier.tx_bulk,
            originated: self.originated - earlier.originated,
            coalesced: self.coalesced - earlier.coalesced,
            not_learned: self.not_learned - earlier.not_learned,
            answered: self.answered - earlier.answered,
            asked: self.asked - earlier.asked,
            drops: drops.map(|(now, then)| now - then).collect(),
            in_flight: self.in_flight,
            kernel: self.kernel,
        }
    }
}

impl core::ops::AddAssign<&PortSnapshot> for PortSnapshot {
    /// Adds what another port counted; what is in flight and what the kernel counts of its sockets
    /// are not sums over time and stay.
    fn add_assign(&mut self, o: &PortSnapshot) {
        self.rx_frames += o.rx_frames;
        self.rx_bytes += o.rx_bytes;
        self.tx_frames += o.tx_frames;
        self.tx_bytes += o.tx_bytes;
        self.tx_superpackets += o.tx_superpackets;
        self.tx_bulk += o.tx_bulk;
        self.originated += o.originated;
        self.coalesced += o.coalesced;
        self.not_learned += o.not_learned;
        self.answered += o.answered;
        self.asked += o.asked;
        self.drops.resize(self.drops.len().max(o.drops.len()), 0);
        for (sum, n) in self.drops.iter_mut().zip(&o.drops) {
            *sum += n;
        }
    }
}

/// What the kernel counted on AF_XDP sockets (XDP_STATISTICS, linux/if_xdp.h). These frames
/// never reached a worker, so they are in no other counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketStatistics {
    /// Dropped for other reasons than those below, a frame larger than a buffer among them.
    pub rx_dropped: u64,
    /// Descriptors that the kernel refused in the fill ring.
    pub rx_invalid_descs: u64,
    /// Descriptors that the kernel refused in the transmit ring.
    pub tx_invalid_descs: u64,
    /// Dropped because the worker did not empty the receive ring in time.
    pub rx_ring_full: u64,
    /// Times that the kernel found the fill ring empty.
    pub rx_fill_ring_empty_descs: u64,
    /// Times that the kernel found the transmit ring empty.
    pub tx_ring_empty_descs: u64,
}

impl core::ops::AddAssign for SocketStatistics {
    fn add_assign(&mut self, o: SocketStatistics) {
        self.rx_dropped += o.rx_dropped;
        self.rx_invalid_descs += o.rx_invalid_descs;
        self.tx_invalid_descs += o.tx_invalid_descs;
        self.rx_ring_full += o.rx_ring_full;
        self.rx_fill_ring_empty_descs += o.rx_fill_ring_empty_descs;
        self.tx_ring_empty_descs += o.tx_ring_empty_descs;
    }
}

/// All ports' counters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// By port, every port that is attached or has counted something.
    pub ports: Vec<(PortId, PortSnapshot)>,
    /// By worker: buffers in all, and buffers free.
    pub buffers: Vec<(u32, u32)>,
}
