//! Superpackets, through a packet socket beside the AF_XDP one.
//!
//! In copy mode the kernel makes a packet of each frame in the TX ring, and takes each to its end before it
//! takes the next. A superpacket is one packet to it for as long as it may be. So there are two ways out, and
//! packets of one flow must not overtake each other:
//!
//! - a superpacket goes to the packet socket only when nothing that was in the ring, or went past it in bulk, is under
//!   way any more;
//! - from then on all that may be of its flow goes there, until the kernel has nothing left of what was sent
//!   there.
//!
//! Whether the ring is empty is asked before a superpacket, and whether the packet socket is, before each packet
//! behind one until it is. All this is asked of the kernel, not derived from what the interface is: a queueing
//! discipline, which AF_XDP's frames pass by, queues that the packet socket's packets are spread over, and a far end
//! that receives on another CPU make no difference.
//!
//! ```text
//! runs       out of an uplink: tunnel packets that follow one another, as UDP
//! segments   out of another port: TCP segments that the pipeline has merged
//! ```

mod runs;
mod segments;

pub(super) use runs::Runs;
pub(crate) use runs::Tunnels;

use super::XskPort;
use super::bulk::Trail;
use crate::packet::PacketSocket;
use crate::pool::Pool;
use std::io;
use switch::{PortCounters, PortId};

/// Which way packets go that may be of a superpacket's flow.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Ring,
    PacketSocket,
}

/// The way beside the ring.
pub(super) struct Beside {
    socket: PacketSocket,
    /// No superpackets until the next tick: one was not taken.
    rests: bool,
    /// The kernel does not know them.
    unknown: bool,
}

/// Why the packet socket took nothing.
enum Failure {
    /// There is no room. Of a superpacket that was cut up some packets may be out nevertheless, and there is no
    /// telling: twice would be worse than not at all.
    Full,
    /// The interface is down or gone. Nothing was sent.
    Down,
    /// The kernel does not know such packets. Nothing was sent.
    Unknown,
}

impl Failure {
    fn of(e: &io::Error) -> Failure {
        match e.raw_os_error() {
            Some(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM) => Failure::Full,
            Some(libc::ENETDOWN | libc::ENXIO | libc::ENODEV | libc::EINTR) => Failure::Down,
            _ => Failure::Unknown,
        }
    }
}

impl Beside {
    pub fn new(socket: PacketSocket) -> Beside {
        Beside { socket, rests: false, unknown: false }
    }

    pub fn into_socket(self) -> PacketSocket {
        self.socket
    }

    /// Once a second: what was refused for the moment is tried again.
    pub fn tick(&mut self) {
        self.rests = self.unknown;
    }

    /// Notes that a superpacket was refused, and why.
    fn refused(&mut self, port: PortId, e: &io::Error) -> Failure {
        self.rests = true;
        let failure = Failure::of(e);
        if let Failure::Unknown = failure {
            tracing::warn!("port {port}: no superpackets: {e}");
            self.unknown = true;
        }
        failure
    }
}

impl XskPort {
    /// Whether nothing that was in the ring, or went past it in bulk, is under way any more.
    fn is_ring_empty(&mut self, pool: &mut Pool, counters: &PortCounters) -> bool {
        if self.pending.frames > 0 {
            self.flush_ring(pool, counters);
        }
        self.reap(pool);
        if self.transmitting > 0 {
            return false;
        }
        self.trail = self.trail.sought();
        self.trail == Trail::Clear
    }
}
