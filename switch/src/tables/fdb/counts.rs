//! How many addresses the forwarding database holds, by segment and by port.
//!
//! Written when an address comes, moves or goes; a frame of a known address touches none of it.

use crate::ids::{Location, MAX_PORTS, PortId, SegmentId};
use crate::sync::{AtomicU32, Ordering};

/// The most addresses of a segment and of a port; none: as many as fit the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Of the segment.
    pub segment: Option<u32>,
    /// Of the port.
    pub port: Option<u32>,
}

/// The counts.
pub(super) struct Counts {
    segments: Box<[AtomicU32]>,
    ports: Box<[AtomicU32]>,
}

impl Counts {
    pub(super) fn new() -> Counts {
        let zeros = |n| (0..n).map(|_| AtomicU32::new(0)).collect();
        // A model of the memory is spared what no test of it uses.
        let all = |n| if cfg!(loom) { 4 } else { n };
        Counts { segments: zeros(all(1 << 16)), ports: zeros(all(MAX_PORTS)) }
    }

    pub(super) fn segment(&self, id: SegmentId) -> &AtomicU32 {
        &self.segments[id.index()]
    }

    /// None for a tunnel, which is not counted, and for a port that cannot be.
    pub(super) fn port(&self, at: Location) -> Option<&AtomicU32> {
        match at {
            Location::Port(PortId(id)) => self.ports.get(usize::from(id)),
            Location::Tunnel(_) => None,
        }
    }

    /// Counts one more, unless a limit is reached.
    pub(super) fn enter(&self, segment: SegmentId, at: Location, limits: Limits) -> bool {
        if !add(self.segment(segment), limits.segment) {
            return false;
        }
        let entered = self.enter_port(at, limits);
        if !entered {
            sub(self.segment(segment));
        }
        entered
    }

    /// Counts one more on a port only: an address of the segment moves to it.
    pub(super) fn enter_port(&self, at: Location, limits: Limits) -> bool {
        self.port(at).is_none_or(|count| add(count, limits.port))
    }

    /// Counts one less.
    pub(super) fn leave(&self, segment: SegmentId, at: Location) {
        sub(self.segment(segment));
        self.leave_port(at);
    }

    /// Counts one less on a port only.
    pub(super) fn leave_port(&self, at: Location) {
        if let Some(count) = self.port(at) {
            sub(count);
        }
    }
}

/// Adds first and takes back what was too much: two workers at the limit never pass it together.
fn add(count: &AtomicU32, limit: Option<u32>) -> bool {
    let before = count.fetch_add(1, Ordering::Relaxed);
    let fits = limit.is_none_or(|limit| before < limit);
    if !fits {
        sub(count);
    }
    fits
}

fn sub(count: &AtomicU32) {
    count.fetch_sub(1, Ordering::Relaxed);
}
