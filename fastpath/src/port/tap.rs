//! A queue of a TAP device in its worker's hands.
//!
//! A system call moves one packet, which may be a superpacket: so a TAP is for those that have much to
//! say at once. Frames are written as they are sent, and nothing is ever in flight. It has no buffers of
//! its own: what is read goes into the pool's free ones.

use super::vnet;
use crate::fill::Budget;
use crate::frame::Frame;
use crate::pool::{MAX_SEGMENTS, Pool};
use crate::tap::{HEADER, Tap};
use encap::offload::VnetHeader;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use switch::{DropReason, Frame as _, PortCounters, offload};

/// Bytes that are received at a time, about: what fits the second-level cache, so that it is still
/// there when it is sent.
const BATCH_BYTES: usize = 256 << 10;

/// A queue of a TAP device.
pub(crate) struct TapPort {
    tap: Tap,
    /// The interface is down: frames for it are dropped until it is tried again.
    down: bool,
    /// The device was deleted.
    gone: bool,
    /// Nothing was left when it was last read.
    drained: bool,
}

impl TapPort {
    pub fn new(tap: Tap) -> TapPort {
        TapPort { tap, down: false, gone: false, drained: false }
    }

    pub fn into_device(self) -> Tap {
        self.tap
    }

    /// Whether the device was deleted.
    pub fn is_gone(&self) -> bool {
        self.gone
    }

    /// Whether nothing was left when it was last read: the next look would be a system call for nothing.
    pub fn is_drained(&self) -> bool {
        self.drained
    }

    /// Once a second: an interface that was down may be up.
    pub fn tick(&mut self) {
        self.down = self.gone;
    }

    /// Appends received frames to `batch`; whether there were any, those included that were dropped.
    #[inline]
    pub fn receive(
        &mut self,
        pool: &mut Pool,
        budget: &mut Budget,
        batch: &mut Vec<Frame>,
        max: usize,
        counters: &PortCounters,
    ) -> bool {
        let (mut any, mut bytes) = (false, 0);
        self.drained = false;
        while batch.len() < max && bytes < BATCH_BYTES {
            // The rest is for copies and answers. What is not read waits in the kernel.
            if pool.available() < budget.transmission / 4 + MAX_SEGMENTS as u32 {
                budget.pressed = true;
                break;
            }
            let mut header = [0; HEADER];
            let mut frame = match pool.read_frame(&mut header, |into| self.tap.read(into)) {
                Ok(frame) => frame,
                Err(e) => {
                    self.gone |= is_gone(&e);
                    self.drained = true;
                    break;
                }
            };
            any = true;
            bytes += frame.len();
            match offload::receive(&mut frame, &VnetHeader::from_le_bytes(header)) {
                Ok(()) => batch.push(frame),
                Err(reason) => {
                    counters.rx_frames.add(1);
                    counters.rx_bytes.add(frame.len() as u64);
                    counters.drop(reason);
                    pool.discard(frame);
                }
            }
        }
        if any {
            self.down = false;
        }
        any
    }

    /// Sends a frame, or drops and counts it.
    #[inline]
    pub fn send(&mut self, pool: &mut Pool, frame: Frame, counters: &PortCounters) {
        match self.write(&frame) {
            Ok(()) => {
                counters.tx_frames.add(1);
                counters.tx_bytes.add(frame.len() as u64);
            }
            Err(reason) => counters.drop(reason),
        }
        pool.discard(frame);
    }

    #[inline]
    fn write(&mut self, frame: &Frame) -> Result<(), DropReason> {
        if self.down {
            return Err(DropReason::PortDown);
        }
        let header = offload::describe(frame)?.to_le_bytes();
        let result = vnet::write(frame, &header, |pieces| self.tap.write(pieces).map(|_| ()));
        let Err(e) = result else { return Ok(()) };
        if e.kind() == io::ErrorKind::ArgumentListTooLong {
            return Err(DropReason::TxTooManySegments);
        }
        match e.raw_os_error() {
            Some(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM | libc::EINTR) => {
                Err(DropReason::TxRingFull)
            }
            // EIO: the interface is not up. EBADFD: it was deleted.
            Some(libc::EIO | libc::EBADFD) => {
                self.down = true;
                self.gone |= is_gone(&e);
                Err(DropReason::PortDown)
            }
            // The kernel found a contradiction in what it was told of the packet.
            _ => Err(DropReason::TxRefused),
        }
    }
}

impl AsFd for TapPort {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.tap.as_fd()
    }
}

fn is_gone(e: &io::Error) -> bool {
    e.raw_os_error() == Some(libc::EBADFD)
}
