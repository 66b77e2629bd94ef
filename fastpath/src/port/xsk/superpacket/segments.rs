//! TCP segments that the pipeline has merged, out of a pod's port: to its kernel they are one packet.

use super::{Failure, Way};
use crate::fill::Budget;
use crate::frame::Frame;
use crate::packet::HEADER;
use crate::pool::Pool;
use crate::port::vnet;
use crate::port::xsk::XskPort;
use switch::{DropReason, Frame as _, PortCounters, offload};

impl XskPort {
    /// Whether merging for this port is worth it: what is merged now will overtake nothing, unless the far end lets us
    /// wait for what is in the ring and was not flushed.
    pub fn takes_superpackets(&mut self, pool: &mut Pool, counters: &PortCounters) -> bool {
        self.may_try_superpackets()
            && (self.pending.frames > 0 || self.is_ring_empty(pool, counters))
    }

    fn may_try_superpackets(&self) -> bool {
        !self.down && self.segments.as_ref().is_some_and(|beside| !beside.rests)
    }

    /// Sends a superpacket, or gives it back if it would overtake what was sent before.
    pub fn send_superpacket(
        &mut self,
        pool: &mut Pool,
        frame: Frame,
        counters: &PortCounters,
    ) -> Result<(), Frame> {
        if !self.may_try_superpackets() {
            return Err(frame);
        }
        let is_ring_empty = self.is_ring_empty(pool, counters);
        let Some(beside) = &mut self.segments else { return Err(frame) };
        if !is_ring_empty {
            beside.rests = true;
            return Err(frame);
        }
        let Ok(header) = offload::describe(&frame) else { return Err(frame) };
        let sent = vnet::write(&frame, &header.to_le_bytes(), |pieces| beside.socket.send(pieces));
        match sent.map_err(|e| beside.refused(self.port, &e)) {
            Ok(()) => {
                self.way = Way::PacketSocket;
                counters.tx_superpackets.add(1);
                count_sent(&frame, counters);
            }
            Err(Failure::Full) => counters.drop(DropReason::TxRingFull),
            Err(Failure::Down | Failure::Unknown) => return Err(frame),
        }
        pool.discard(frame);
        Ok(())
    }

    /// Sends a packet behind superpackets, which it must not overtake.
    #[inline(never)]
    pub(in crate::port::xsk) fn send_behind(
        &mut self,
        pool: &mut Pool,
        frame: Frame,
        counters: &PortCounters,
        budget: &Budget,
    ) {
        let Some(beside) = self.segments.as_ref().filter(|beside| beside.socket.is_busy()) else {
            self.way = Way::Ring;
            return self.enqueue(pool, frame, counters, budget);
        };
        // All zeros: a packet that is complete.
        match vnet::write(&frame, &[0; HEADER], |pieces| beside.socket.send(pieces)) {
            Ok(()) => count_sent(&frame, counters),
            Err(e) => match Failure::of(&e) {
                Failure::Full => counters.drop(DropReason::TxRingFull),
                // The ring takes some that the packet socket does not (a second VLAN tag beyond the MTU), and of the
                // others it knows what is the matter.
                Failure::Down | Failure::Unknown => {
                    return self.enqueue(pool, frame, counters, budget);
                }
            },
        }
        pool.discard(frame);
    }
}

fn count_sent(frame: &Frame, counters: &PortCounters) {
    counters.tx_frames.add(1);
    counters.tx_bytes.add(frame.len() as u64);
}
