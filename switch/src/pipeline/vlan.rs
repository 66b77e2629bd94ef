//! The tag of an uplink on a VLAN (IEEE 802.1Q clause 9): off behind the receiver, on before the
//! sender, so that nothing in between knows of it.

use super::shape::{self, Limits};
use crate::counters::WorkerCounters;
use crate::frame::{Frame, Io, NoHeadroom};
use crate::ids::PortId;
use crate::reason::DropReason;
use crate::tables::UplinkVlan;
use crate::waiting::Waiting;
use encap::ethernet::{HEADER_LEN, ethertype};
use encap::vlan;

/// Destination and source: what stands before the tag.
const ADDRESSES: usize = 12;
/// The tag with its EtherType.
const TAG_LEN: usize = 4;

/// Takes the tag off a received frame.
pub(super) fn untag<F: Frame>(of: UplinkVlan, frame: &mut F) -> Result<(), DropReason> {
    let header =
        frame.bytes_mut().get_mut(..HEADER_LEN + TAG_LEN).ok_or(DropReason::EthTruncated)?;
    let tag = vlan::View::new_unchecked(&header[HEADER_LEN..]);
    if header[ADDRESSES..HEADER_LEN] != ethertype::VLAN.to_be_bytes() || tag.vid() != of.id {
        return Err(DropReason::NotForUs);
    }
    header.copy_within(..ADDRESSES, TAG_LEN);
    frame.pull(TAG_LEN);
    Ok(())
}

/// The world as the pipeline sees it: what it sends out of the uplink gets the tag on its way, and what
/// it sends out of a port with a rate limit waits for that.
pub(super) struct Outlet<'a, I> {
    pub io: &'a mut I,
    pub vlan: Option<UplinkVlan>,
    /// Where a frame without room for the tag is counted.
    pub counters: &'a WorkerCounters,
    /// None when no port has a limit.
    pub limits: Option<Limits<'a>>,
}

impl<I: Io> Outlet<'_, I> {
    /// Sends a frame now.
    #[inline(always)]
    pub fn emit(&mut self, port: PortId, mut frame: I::Frame) {
        if let Some(vlan) = self.vlan
            && vlan.port == port
            && tag(vlan, &mut frame).is_err()
        {
            self.counters.port(port).drop(DropReason::NoHeadroom);
            return self.io.discard(frame);
        }
        self.io.send(port, frame);
    }
}

impl<I: Io> Io for Outlet<'_, I> {
    type Frame = I::Frame;

    #[inline(always)]
    fn send(&mut self, port: PortId, frame: I::Frame) {
        if self.limits.is_some() {
            return shape::send(port, frame, self);
        }
        self.emit(port, frame);
    }

    #[inline(always)]
    fn send_all(&mut self, port: PortId, frames: impl Iterator<Item = I::Frame>) {
        if self.limits.is_some() || self.vlan.is_some_and(|vlan| vlan.port == port) {
            return frames.for_each(|frame| self.send(port, frame));
        }
        self.io.send_all(port, frames);
    }

    #[inline(always)]
    fn send_batch(&mut self, port: PortId, batch: &mut Vec<I::Frame>) {
        if self.limits.is_some() || self.vlan.is_some_and(|vlan| vlan.port == port) {
            return batch.drain(..).for_each(|frame| self.send(port, frame));
        }
        self.io.send_batch(port, batch);
    }

    #[inline(always)]
    fn takes_superpackets(&mut self, port: PortId) -> bool {
        self.io.takes_superpackets(port)
    }

    #[inline(always)]
    fn send_superpacket(&mut self, port: PortId, frame: I::Frame) -> Result<(), I::Frame> {
        self.io.send_superpacket(port, frame)
    }

    #[inline(always)]
    fn discard(&mut self, frame: I::Frame) {
        self.io.discard(frame);
    }

    #[inline(always)]
    fn alloc(&mut self) -> Option<I::Frame> {
        self.io.alloc()
    }

    #[inline(always)]
    fn duplicate(&mut self, frame: &I::Frame) -> Option<I::Frame> {
        self.io.duplicate(frame)
    }

    #[inline(always)]
    fn waiting(&mut self) -> &mut Waiting<I::Frame> {
        self.io.waiting()
    }
}

/// Puts the tag on a frame that is to be sent, with priority 0.
fn tag<F: Frame>(of: UplinkVlan, frame: &mut F) -> Result<(), NoHeadroom> {
    frame.push(TAG_LEN)?;
    let header = frame.bytes_mut().get_mut(..ADDRESSES + TAG_LEN).ok_or(NoHeadroom)?;
    header.copy_within(TAG_LEN.., 0);
    header[ADDRESSES..ADDRESSES + 2].copy_from_slice(&ethertype::VLAN.to_be_bytes());
    header[ADDRESSES + 2..].copy_from_slice(&of.id.to_be_bytes());
    Ok(())
}
