//! How buffers are taken back from a fill ring.
//!
//! What is in a fill ring belongs to the kernel, which may read a slot at any moment and then has its old
//! or its new content, and tells nobody which. So a slot is *hollowed*: written over with the address of the
//! *dump*, a buffer of the worker that no frame ever lives in. The buffer that was there is in *limbo*
//! until the kernel cannot be in the middle of a reception any more that began before (an RCU grace period:
//! drivers receive inside one). Then the kernel's index says of each slot whether it was read before or will
//! be read as hollow.
//!
//! A hollow slot is filled again by writing a buffer over it. If the kernel was faster, the dump comes back
//! in its place. In copy mode the kernel takes one slot for each descriptor of the RX ring, in order, so
//! the descriptor with a slot's index says which of the slot's contents the kernel had; all others are
//! ours again ([`Recall::reconcile`]).
//!
//! A frame that lands in the dump is lost, as it would be with an empty ring. But it is seen and
//! counted, and the port gets buffers: to an empty ring the kernel would drop frames of many pieces for ever.
//!
//! Slots hold valid addresses at all times: the kernel does not check those of frames of several pieces
//! (`__xsk_rcv`, net/xdp/xsk.c, Linux 6.6 to 6.18), and would stumble over an invalid one.

use crate::ring::Producer;

/// In limbo no more.
const NONE: u64 = u64::MAX;

/// What is not plain about one fill ring.
#[derive(Debug, Default)]
pub(crate) struct Recall {
    /// Whether anything is; else the rest means nothing.
    active: bool,
    /// Slots from here to the ring's head are hollow.
    hollow: u32,
    /// Slots below were perhaps written more than once.
    until: u32,
    /// Slots below were reconciled with what came back.
    reconciled: u32,
    /// The slot of the first buffer in limbo.
    first: u32,
    limbo: Vec<u64>,
    /// The kernel took something else than was in the slot: nothing is taken back from here any more.
    broken: bool,
}

/// What the kernel did not take of a slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Returned {
    /// The slot's last content.
    pub written: Option<u64>,
    /// The buffer in limbo that had been there before.
    pub limbo: Option<u64>,
    /// The kernel has taken the one that was in limbo.
    pub was_limbo: bool,
}

fn is_before(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) < 0
}

fn later(a: u32, b: u32) -> u32 {
    if is_before(a, b) { b } else { a }
}

impl Recall {
    /// Whether descriptors that come back must be reconciled, and hollow slots looked for.
    #[inline]
    pub fn is_active(&self) -> bool {
        self.active
    }

    /// Whether buffers can be taken back now.
    pub fn is_ready(&self) -> bool {
        self.limbo.is_empty() && !self.broken
    }

    /// Hollows the last `n` slots that have a buffer, or as many as there are; how many. `received` is the
    /// index of the next descriptor to come back.
    pub fn hollow(&mut self, ring: &mut Producer<u64>, received: u32, dump: u64, n: u32) -> u32 {
        let consumed = ring.consumed();
        let head = ring.written_index();
        let end = if self.active { later(self.hollow, consumed) } else { head };
        let n = n.min(end.wrapping_sub(consumed));
        if n == 0 {
            return 0;
        }
        self.activate(received);
        self.first = end.wrapping_sub(n);
        for i in 0..n {
            let slot = self.first.wrapping_add(i);
            self.limbo.push(ring.written(slot));
            ring.rewrite(slot, dump);
        }
        self.hollow = self.first;
        self.until = head;
        n
    }

    /// A grace period has passed since [`Recall::hollow`]: `free` gets the buffers that the kernel will not
    /// read any more.
    pub fn settle(&mut self, ring: &mut Producer<u64>, received: u32, mut free: impl FnMut(u64)) {
        let consumed = ring.consumed();
        let mut first = None;
        let mut waiting = Vec::new();
        for (n, address) in core::mem::take(&mut self.limbo).into_iter().enumerate() {
            let slot = self.first.wrapping_add(n as u32);
            if !is_before(slot, consumed) {
                if address != NONE {
                    free(address);
                }
            } else if !is_before(slot, received) {
                // Its descriptor is there, and not looked at yet.
                first.get_or_insert(slot);
                waiting.push(address);
            }
        }
        self.first = first.unwrap_or(self.first);
        self.limbo = waiting;
    }

    /// Fills up to `n` hollow slots with what `lend` gives; how many.
    pub fn refill(
        &mut self,
        ring: &mut Producer<u64>,
        n: u32,
        mut lend: impl FnMut() -> Option<u64>,
    ) -> u32 {
        let head = ring.written_index();
        self.hollow = later(self.hollow, ring.consumed());
        let n = n.min(head.wrapping_sub(self.hollow));
        for i in 0..n {
            let Some(address) = lend() else { return i };
            ring.rewrite(self.hollow, address);
            self.hollow = self.hollow.wrapping_add(1);
        }
        n
    }

    /// Buffers were appended to the ring, which has no hollow slots.
    pub fn appended(&mut self, ring: &Producer<u64>) {
        self.hollow = ring.written_index();
    }

    /// Appends hollow slots until `total` are ahead of the kernel.
    pub fn pad(&mut self, ring: &mut Producer<u64>, received: u32, dump: u64, total: u32) {
        let before = ring.written_index();
        let missing = total.saturating_sub(before.wrapping_sub(received));
        if missing == 0 {
            return;
        }
        if !self.active {
            self.activate(received);
            self.hollow = before;
        }
        for _ in 0..missing {
            ring.write(dump);
        }
        ring.publish();
        self.until = ring.written_index();
    }

    /// The kernel took `chunk` for the descriptor with this index.
    pub fn reconcile(
        &mut self,
        ring: &Producer<u64>,
        index: u32,
        chunk: u64,
        dump: u64,
    ) -> Returned {
        if is_before(index, self.reconciled) {
            return Returned::default();
        }
        self.reconciled = index.wrapping_add(1);
        let written = ring.written(index);
        let at = index.wrapping_sub(self.first) as usize;
        let limbo = self.limbo.get_mut(at).map_or(NONE, |slot| core::mem::replace(slot, NONE));
        if self.broken || (chunk != written && chunk != limbo && chunk != dump) {
            self.broken = true;
            return Returned::default();
        }
        let unless = |address: u64| (address != chunk && address != dump).then_some(address);
        Returned {
            written: unless(written),
            limbo: unless(limbo).filter(|&l| l != NONE),
            was_limbo: chunk == limbo,
        }
    }

    /// Whether the kernel was seen to take buffers in another order than they were given.
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    /// Descriptors up to `received` have come back: perhaps everything is plain again.
    pub fn forget(&mut self, received: u32) {
        self.active &= is_before(received, self.until) || !self.limbo.is_empty();
    }

    fn activate(&mut self, received: u32) {
        if !self.active {
            self.active = true;
            self.reconciled = received;
        }
    }
}

#[cfg(test)]
#[path = "recall_tests.rs"]
mod tests;
