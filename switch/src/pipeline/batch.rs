//! A batch of one port's frames.

use super::usual;
use super::{Context, Millis, OTHER, Worker, coalesce, vlan};
use crate::frame::{Frame, Io};
use crate::ids::PortId;
use crate::tables::{Fib, Offload, Port, Role, Tables};
use std::cell::OnceCell;

/// Frames of a batch whose destinations are looked up before the first of them is forwarded.
const AHEAD: usize = 64;
/// Frames of a batch whose fates are noted on the stack.
const SMALL: usize = 8;

/// What is known of a batch before the first of its frames is looked at.
pub(super) struct Batch<'a> {
    pub worker: &'a Worker,
    pub tables: &'a Tables,
    pub port: &'a Port,
    pub now: Millis,
    /// Of all its frames.
    pub bytes: u64,
    /// For the first frame that takes the general way.
    pub context: OnceCell<Context<'a>>,
}

impl<'a> Batch<'a> {
    /// What the general way looks at.
    pub(super) fn context(&self) -> &Context<'a> {
        self.context.get_or_init(|| self.worker.context(self.tables, self.port, self.now))
    }

    /// Forwards a batch: first what becomes of each frame, then, frames to one port together, so it is
    /// done.
    #[inline(always)]
    pub(super) fn run<I: Io>(&self, batch: &mut Vec<I::Frame>, io: &mut I) {
        if batch.len() == 1 {
            return self.forward_alone(batch, io);
        }
        let out = &mut self.worker.outlet(self.tables, self.now, io);
        if batch.len() <= SMALL {
            let mut fates = [OTHER; SMALL];
            return self.forward(batch, &mut fates, out);
        }
        let mut fates = self.worker.fates.take();
        if fates.len() < batch.len() {
            fates.resize(batch.len(), OTHER);
        }
        self.forward(batch, &mut fates, out);
        self.worker.fates.set(fates);
    }

    /// The only frame of a batch.
    #[inline(always)]
    fn forward_alone<I: Io>(&self, batch: &mut Vec<I::Frame>, io: &mut I) {
        let [frame] = &mut batch[..] else { return };
        let to = match self.port.role {
            Role::Access(_) => usual::access_alone(self, frame),
            Role::Uplink => usual::uplink_alone(self, frame),
        };
        if to == OTHER || !self.sends_at_once() {
            let out = &mut self.worker.outlet(self.tables, self.now, io);
            if self.tables.offload == Offload::Full {
                coalesce::send(self.context(), batch, &[to], out);
            } else {
                self.finish(batch, &[to], out);
            }
        } else if let Some(frame) = batch.pop() {
            io.send(PortId(to as u16), frame);
        }
    }

    /// Whether frames are sent as they are, and when they are.
    #[inline(always)]
    fn sends_at_once(&self) -> bool {
        !self.tables.shaped && self.tables.offload != Offload::Full && self.tables.vlan.is_none()
    }

    /// Whether frames may have to be merged or cut up.
    #[inline(always)]
    fn minds_superpackets<F: Frame>(&self, batch: &[F]) -> bool {
        match self.tables.offload {
            Offload::None => false,
            Offload::Coalesce => coalesce::is_worthwhile(batch, self.bytes),
            Offload::Full => true,
        }
    }

    /// With as many fates as frames, or more.
    #[inline(never)]
    fn forward<I: Io>(
        &self,
        batch: &mut Vec<I::Frame>,
        fates: &mut [u32],
        out: &mut vlan::Outlet<'_, I>,
    ) {
        let Some(fates) = fates.get_mut(..batch.len()) else { return };
        match self.port.role {
            Role::Access(_) if self.tables.fib.is_large() => {
                for (frames, fates) in batch.chunks_mut(AHEAD).zip(fates.chunks_mut(AHEAD)) {
                    look_ahead(&self.tables.fib, frames, fates);
                    usual::access::<_, true>(self, frames, fates);
                }
            }
            Role::Access(_) => usual::access::<_, false>(self, batch, fates),
            Role::Uplink => usual::uplink(self, batch, fates),
        }
        match *fates {
            _ if self.minds_superpackets(batch) => {
                coalesce::send(self.context(), batch, fates, out);
            }
            [first, ..] if first != OTHER && fates.iter().fold(0, |d, f| d | f ^ first) == 0 => {
                out.send_batch(PortId(first as u16), batch);
            }
            _ => self.finish(batch, fates, out),
        }
    }

    /// Sends frames to one port together, and does what else is to be done.
    #[inline(never)]
    fn finish<I: Io>(
        &self,
        batch: &mut Vec<I::Frame>,
        fates: &[u32],
        out: &mut vlan::Outlet<'_, I>,
    ) {
        let mut frames = batch.drain(..);
        for run in fates.chunk_by(|a, b| a == b) {
            let frames = frames.by_ref().take(run.len());
            match run[0] {
                OTHER => frames.for_each(|f| self.context().conclude_next(f, out)),
                port => out.send_all(PortId(port as u16), frames),
            }
        }
    }
}

/// Looks up where the next packets are routed to, and notes it in the place of their fates: for tables that no
/// cache holds. The processor then waits for the memory of many lookups at once, and not for each in turn, as it
/// would with all of a packet's other instructions in between.
///
/// What is no packet of IPv4 is looked up, too, or left out, and nobody asks for what was noted of it.
#[inline(never)]
fn look_ahead<F: Frame>(fib: &Fib, frames: &[F], fates: &mut [u32]) {
    const DST: usize = encap::ethernet::HEADER_LEN + 16;
    for (frame, at) in frames.iter().zip(&mut *fates) {
        let dst = frame.bytes().get(DST..).and_then(|b| b.first_chunk::<4>());
        *at = dst.map_or(0, |dst| u32::from_be_bytes(*dst));
    }
    fib.v4().look_up_all(fates);
}
