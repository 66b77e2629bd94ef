//! Runs of tunnel packets as one superpacket, through a packet socket beside the AF_XDP one.
//!
//! In copy mode the kernel makes a packet of each frame in the TX ring, and takes each to its end before it
//! takes the next. A run of packets of one flow that are one UDP superpacket it cuts up late, and carries them
//! on as a batch. So there are two ways out, and packets of one flow must not overtake each other:
//!
//! - a run goes to the packet socket only when nothing that was in the ring is under way any more;
//! - from then on all tunnel packets go there, until the kernel has nothing left of what was sent there.
//!
//! Which way is the other one empty of is asked only when the way changes. All this is asked of the kernel,
//! not derived from what the interface is: a queueing discipline, which AF_XDP's frames pass by, and queues
//! that the packet socket's packets are spread over, make no difference.

use super::XskPort;
use crate::fill::Budget;
use crate::frame::Frame;
use crate::packet::{HEADER, PacketSocket};
use crate::pool::Pool;
use encap::offload::bundle::{self, Headers, MAX_HEADERS};
use std::io::{self, IoSlice};
use std::net::IpAddr;
use std::sync::Arc;
use switch::{DropReason, Frame as _, PortCounters};

/// Packets that are worth a superpacket.
const LEAST: usize = 4;
/// Pieces that the packets of a run lie in, at most: jumbo frames lie in several.
const PIECES: usize = bundle::MOST;

/// Our tunnels' packets: an underlay address and a UDP port of ours in each. Only these may get a
/// checksum on the way; those of pods that are routed natively are not ours to put right.
pub(crate) type Tunnels = Arc<[(IpAddr, u16)]>;

/// What a port needs for superpackets.
pub(super) struct Superpackets {
    socket: PacketSocket,
    tunnels: Tunnels,
    run: Run,
    way: Way,
    /// Until the next tick, runs go to the ring: a superpacket was not taken.
    rests: bool,
    /// The kernel cannot do it.
    refused: bool,
}

/// Which way tunnel packets go.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Ring,
    PacketSocket,
}

/// Packets that follow one another.
struct Run {
    frames: Vec<Frame>,
    headers: Option<Headers>,
    /// Bytes of payload, of the first packet and of all.
    size: usize,
    payload: usize,
    pieces: usize,
    /// A smaller packet is the last one.
    closed: bool,
}

impl Run {
    /// Takes a frame that `headers` were read in, or gives it back if it does not continue the run.
    #[inline]
    fn push(&mut self, frame: Frame, headers: Headers) -> Result<(), Frame> {
        let (payload, pieces) = (frame.len() - headers.len(), frame.pieces());
        if let Some(first) = self.frames.first() {
            let fits = !self.closed
                && self.frames.len() < bundle::MOST
                && self.pieces + pieces <= PIECES
                && payload <= self.size
                && headers.fits(self.payload + payload)
                && self.headers == Some(headers)
                && headers.continues(first.bytes(), frame.bytes(), self.frames.len());
            if !fits {
                return Err(frame);
            }
            self.closed = payload < self.size;
        } else {
            (self.payload, self.pieces, self.closed) = (0, 0, false);
            self.headers = Some(headers);
            self.size = payload;
        }
        self.payload += payload;
        self.pieces += pieces;
        self.frames.push(frame);
        Ok(())
    }
}

impl Superpackets {
    /// With nothing collected.
    pub fn new(socket: PacketSocket) -> Superpackets {
        let run = Run {
            frames: Vec::with_capacity(bundle::MOST),
            headers: None,
            size: 0,
            payload: 0,
            pieces: 0,
            closed: false,
        };
        let tunnels = Arc::new([]);
        Superpackets { socket, tunnels, run, way: Way::Ring, rests: false, refused: false }
    }

    pub fn into_socket(self) -> PacketSocket {
        self.socket
    }

    pub fn set_tunnels(&mut self, tunnels: Tunnels) {
        self.tunnels = tunnels;
    }

    pub fn tick(&mut self) {
        self.rests = self.refused;
    }

    /// Frames that wait for more of their kind.
    #[inline]
    pub fn waiting(&self) -> u64 {
        self.run.frames.len() as u64
    }

    /// Sends the run.
    fn send(&self) -> io::Result<()> {
        let run = &self.run;
        let (Some(first), Some(headers)) = (run.frames.first(), run.headers) else { return Ok(()) };
        let mut slices = [IoSlice::new(&[]); PIECES + 2];
        let mut bytes = [0; MAX_HEADERS];
        // All zeros: a packet that is complete.
        let mut header = [0; HEADER];
        let (mut n, mut skip) = (1, 0);
        if run.frames.len() > 1 {
            let about = headers.write(first.bytes(), run.payload, run.size, &mut bytes);
            header = about.to_le_bytes();
            skip = headers.len();
            slices[1] = IoSlice::new(&bytes[..skip]);
            n = 2;
        }
        slices[0] = IoSlice::new(&header);
        for frame in &run.frames {
            slices[n] = IoSlice::new(&frame.bytes()[skip..]);
            n += 1;
            for piece in frame.tail() {
                slices[n] = IoSlice::new(piece);
                n += 1;
            }
        }
        self.socket.send(&slices[..n])
    }
}

impl XskPort {
    /// Puts a frame where it may become part of a superpacket.
    #[inline(never)]
    pub(super) fn collect(
        &mut self,
        pool: &mut Pool,
        mut frame: Frame,
        counters: &PortCounters,
        budget: &Budget,
    ) {
        let headers = Headers::read(frame.bytes(), frame.len());
        if let (Some(headers), Some(s)) = (headers, &mut self.superpackets) {
            if s.waiting() > 0 {
                frame = match s.run.push(frame, headers) {
                    Ok(()) => return,
                    Err(frame) => frame,
                };
                self.end_run(pool, counters, budget);
            }
            if let Some(s) = &mut self.superpackets
                && s.tunnels.contains(&headers.source_and_port(frame.bytes()))
            {
                frame = match s.run.push(frame, headers) {
                    Ok(()) => return,
                    Err(frame) => frame,
                };
            }
        }
        self.enqueue(pool, frame, counters, budget);
    }

    /// Sends the packets that were collected, one way or the other.
    #[inline]
    pub(super) fn end_run(&mut self, pool: &mut Pool, counters: &PortCounters, budget: &Budget) {
        if let Some(s) = self.superpackets.take_if(|s| s.waiting() > 0) {
            self.superpackets = Some(self.send_run(s, pool, counters, budget));
        }
    }

    fn send_run(
        &mut self,
        mut s: Box<Superpackets>,
        pool: &mut Pool,
        counters: &PortCounters,
        budget: &Budget,
    ) -> Box<Superpackets> {
        s.way = self.way(&s, pool, counters);
        if s.way == Way::PacketSocket {
            match s.send() {
                Ok(()) => {
                    self.silent = 0;
                    let n = s.run.frames.len();
                    let bytes = s.run.frames.iter().map(|f| f.len() as u64).sum();
                    counters.tx_frames.add(n as u64);
                    counters.tx_bytes.add(bytes);
                    counters.tx_superpackets.add(u64::from(n > 1));
                    pool.discard_batch(&mut s.run.frames);
                    return s;
                }
                Err(e) => match e.raw_os_error() {
                    // No room. Of ENOBUFS and ENOMEM, the first packets may be out and the last not: there
                    // is no telling, and twice would be worse than not at all.
                    Some(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM) => {
                        s.rests = true;
                        s.run.frames.iter().for_each(|_| counters.drop(DropReason::TxRingFull));
                        pool.discard_batch(&mut s.run.frames);
                        return s;
                    }
                    // Nothing was sent. What the ring knows of the interface, it will say.
                    Some(libc::ENETDOWN | libc::ENXIO | libc::ENODEV | libc::EINTR) => {
                        s.rests = true;
                    }
                    // Before Linux 6.2 there are no such superpackets.
                    _ => {
                        tracing::warn!("port {}: no UDP superpackets: {e}", self.port);
                        (s.rests, s.refused) = (true, true);
                    }
                },
            }
        }
        for frame in s.run.frames.drain(..) {
            self.enqueue(pool, frame, counters, budget);
        }
        s
    }

    /// The way of the run, so that it overtakes nothing.
    fn way(&mut self, s: &Superpackets, pool: &mut Pool, counters: &PortCounters) -> Way {
        let is_worth_it = s.run.frames.len() >= LEAST && !s.rests;
        match s.way {
            Way::PacketSocket if is_worth_it || s.socket.is_busy() => Way::PacketSocket,
            Way::Ring if is_worth_it && !self.down => {
                if self.pending.frames > 0 {
                    self.flush_ring(pool, counters);
                }
                self.reap(pool);
                if self.transmitting == 0 { Way::PacketSocket } else { Way::Ring }
            }
            _ => Way::Ring,
        }
    }
}

#[cfg(test)]
#[path = "superpacket_tests.rs"]
mod tests;
