//! Runs of tunnel packets of one flow, out of an uplink: the kernel cuts a UDP superpacket up late, and carries
//! its packets on as a batch.

use super::{Beside, Failure, Way};
use crate::fill::Budget;
use crate::frame::Frame;
use crate::packet::HEADER;
use crate::pool::Pool;
use crate::port::xsk::XskPort;
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

/// What an uplink needs for superpackets.
pub(in crate::port::xsk) struct Runs {
    pub beside: Beside,
    tunnels: Tunnels,
    run: Run,
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

impl Runs {
    /// With nothing collected.
    pub fn new(beside: Beside) -> Runs {
        let run = Run {
            frames: Vec::with_capacity(bundle::MOST),
            headers: None,
            size: 0,
            payload: 0,
            pieces: 0,
            closed: false,
        };
        Runs { beside, tunnels: Arc::new([]), run }
    }

    pub fn set_tunnels(&mut self, tunnels: Tunnels) {
        self.tunnels = tunnels;
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
        self.beside.socket.send(&slices[..n])
    }
}

impl XskPort {
    /// Puts a frame where it may become part of a superpacket.
    #[inline(never)]
    pub(in crate::port::xsk) fn collect(
        &mut self,
        pool: &mut Pool,
        mut frame: Frame,
        counters: &PortCounters,
        budget: &Budget,
    ) {
        let headers = Headers::read(frame.bytes(), frame.len());
        if let (Some(headers), Some(runs)) = (headers, &mut self.runs) {
            if runs.waiting() > 0 {
                frame = match runs.run.push(frame, headers) {
                    Ok(()) => return,
                    Err(frame) => frame,
                };
                self.end_run(pool, counters, budget);
            }
            if let Some(runs) = &mut self.runs
                && runs.tunnels.contains(&headers.source_and_port(frame.bytes()))
            {
                frame = match runs.run.push(frame, headers) {
                    Ok(()) => return,
                    Err(frame) => frame,
                };
            }
        }
        self.enqueue(pool, frame, counters, budget);
    }

    /// Sends the packets that were collected, one way or the other.
    #[inline]
    pub(in crate::port::xsk) fn end_run(
        &mut self,
        pool: &mut Pool,
        counters: &PortCounters,
        budget: &Budget,
    ) {
        if let Some(runs) = self.runs.take_if(|runs| runs.waiting() > 0) {
            self.runs = Some(self.send_run(runs, pool, counters, budget));
        }
    }

    fn send_run(
        &mut self,
        mut runs: Box<Runs>,
        pool: &mut Pool,
        counters: &PortCounters,
        budget: &Budget,
    ) -> Box<Runs> {
        self.way = self.way_of(&runs, pool, counters);
        if self.way == Way::PacketSocket {
            match runs.send().map_err(|e| runs.beside.refused(self.port, &e)) {
                Ok(()) => {
                    self.silent = 0;
                    let n = runs.run.frames.len();
                    let bytes = runs.run.frames.iter().map(|f| f.len() as u64).sum();
                    counters.tx_frames.add(n as u64);
                    counters.tx_bytes.add(bytes);
                    counters.tx_superpackets.add(u64::from(n > 1));
                    pool.discard_batch(&mut runs.run.frames);
                    return runs;
                }
                Err(Failure::Full) => {
                    runs.run.frames.iter().for_each(|_| counters.drop(DropReason::TxRingFull));
                    pool.discard_batch(&mut runs.run.frames);
                    return runs;
                }
                // What the ring knows of the interface, it will say. Before Linux 6.2 there are no such
                // superpackets.
                Err(Failure::Down | Failure::Unknown) => {}
            }
        }
        for frame in runs.run.frames.drain(..) {
            self.enqueue(pool, frame, counters, budget);
        }
        runs
    }

    /// The way of a run, so that it overtakes nothing.
    fn way_of(&mut self, runs: &Runs, pool: &mut Pool, counters: &PortCounters) -> Way {
        let is_worth_it = runs.run.frames.len() >= LEAST && !runs.beside.rests;
        let now = self.way;
        match now {
            Way::PacketSocket if is_worth_it || runs.beside.socket.is_busy() => Way::PacketSocket,
            Way::Ring if is_worth_it && !self.down && self.is_ring_empty(pool, counters) => {
                Way::PacketSocket
            }
            _ => Way::Ring,
        }
    }
}

#[cfg(test)]
#[path = "runs_tests.rs"]
mod tests;
