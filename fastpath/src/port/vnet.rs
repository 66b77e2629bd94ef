//! A frame behind its `virtio_net_hdr`, in one system call.

use crate::frame::Frame;
use std::io::{self, IoSlice};
use switch::Frame as _;

/// Pieces of a frame that need no large table.
const FEW: usize = 63;
/// The most pieces that one system call takes (IOV_MAX), the header apart.
const MOST: usize = 1023;

/// Hands a header and the pieces of a frame to `write`.
///
/// # Errors
///
/// What `write` says; [`io::ErrorKind::ArgumentListTooLong`] for a frame of too many pieces, and then nothing was
/// written.
#[inline]
pub(super) fn write(
    frame: &Frame,
    header: &[u8],
    write: impl FnOnce(&[IoSlice<'_>]) -> io::Result<()>,
) -> io::Result<()> {
    let pieces = frame.pieces();
    if pieces <= FEW {
        write_pieces::<{ FEW + 1 }>(frame, header, write)
    } else if pieces <= MOST {
        write_pieces::<{ MOST + 1 }>(frame, header, write)
    } else {
        Err(io::ErrorKind::ArgumentListTooLong.into())
    }
}

#[inline]
fn write_pieces<const N: usize>(
    frame: &Frame,
    header: &[u8],
    write: impl FnOnce(&[IoSlice<'_>]) -> io::Result<()>,
) -> io::Result<()> {
    let mut slices = [IoSlice::new(&[]); N];
    slices[0] = IoSlice::new(header);
    let mut n = 1;
    let segments = std::iter::once(frame.bytes()).chain(frame.tail());
    for segment in segments.filter(|s| !s.is_empty()) {
        slices[n] = IoSlice::new(segment);
        n += 1;
    }
    write(&slices[..n])
}
