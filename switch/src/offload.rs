//! Between a port whose device does part of a packet's work and the pipeline, which knows superpackets
//! and complete packets only (see [`Frame::gso_size`]).

use crate::frame::Frame;
use crate::reason::DropReason;
use encap::checksum::Sum;
use encap::offload::{Claim, Layout, Partial, VnetHeader};

/// Takes a frame as a device handed it over: the checksum of a packet is completed, a superpacket becomes one. What
/// the description says is held against the headers that are there.
///
/// A packet in several segments stays partial, as a superpacket of one: it does not go the usual way in any case,
/// and where it leaves for such a device its bytes need not be summed, by nobody.
///
/// # Errors
/// [`DropReason::OffloadInvalid`] when they contradict each other; the frame is to be counted as
/// received and dropped under that name.
#[inline]
pub fn receive<F: Frame>(frame: &mut F, header: &VnetHeader) -> Result<(), DropReason> {
    let len = frame.len();
    let claim = header.check(frame.bytes(), len).map_err(|_| DropReason::OffloadInvalid)?;
    let superpacket = match claim {
        Claim::Complete => {
            frame.set_gso_size(0);
            None
        }
        Claim::Partial(partial) => {
            let large = large_packet(frame, partial);
            if large.is_none() {
                to_packet(frame, partial);
            }
            large
        }
        Claim::Superpacket(layout) => Some((layout, header.gso_size)),
    };
    if let Some((layout, size)) = superpacket {
        // Whoever takes it whole relies on it.
        layout.fill_partial(frame.bytes_mut());
        frame.set_gso_size(size);
    }
    Ok(())
}

/// The description of a frame for a device that takes superpackets.
///
/// # Errors
/// [`DropReason::OffloadInvalid`] when it is a superpacket by its size and not by its headers.
#[inline]
pub fn describe<F: Frame>(frame: &F) -> Result<VnetHeader, DropReason> {
    match frame.gso_size() {
        0 => Ok(VnetHeader::default()),
        size => {
            let layout = Layout::parse(frame.bytes(), frame.len())
                .map_err(|_| DropReason::OffloadInvalid)?;
            Ok(VnetHeader::of_superpacket(&layout, frame.bytes(), size))
        }
    }
}

/// The headers of a packet in several segments whose own checksum is the partial one, and the bytes of its payload.
fn large_packet<F: Frame>(frame: &F, partial: Partial) -> Option<(Layout, u16)> {
    let (bytes, len) = (frame.bytes(), frame.len());
    if len == bytes.len() {
        return None;
    }
    let layout = Layout::parse(bytes, len).ok()?;
    let size = u16::try_from(layout.payload_len).ok()?;
    (partial == layout.partial()).then_some((layout, size))
}

/// Makes an ordinary packet of one whose checksum is partial.
pub(crate) fn to_packet<F: Frame>(frame: &mut F, partial: Partial) {
    frame.set_gso_size(0);
    let checksum = Partial::complete(sum_from(frame, partial.start, Sum::ZERO));
    if let Some(field) = frame.bytes_mut().get_mut(partial.field..partial.field + 2) {
        field.copy_from_slice(&checksum.to_be_bytes());
    }
}

/// Adds all bytes of the frame from `start` on, over all segments, to a checksum.
pub(crate) fn sum_from<F: Frame>(frame: &F, start: usize, mut sum: Sum) -> Sum {
    let mut skip = start;
    frame.for_each_segment(|segment| {
        sum = sum.bytes(segment.get(skip..).unwrap_or(&[]));
        skip = skip.saturating_sub(segment.len());
    });
    sum
}
