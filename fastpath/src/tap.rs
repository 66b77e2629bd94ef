//! TAP devices: one queue each, with a `virtio_net_hdr` before every packet.
//!
//! The kernel looks for a device in the network namespace in which `/dev/net/tun` was opened, and makes it
//! there: so all this happens on a thread in the pod's. The descriptor keeps that namespace alive until it
//! is closed.

use crate::error::Error;
use crate::sys;
use encap::offload::VnetHeader;
use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;

/// Bytes before every packet: `struct virtio_net_hdr` (VIRTIO 1.3 section 5.1.6) without
/// `num_buffers`.
pub(crate) const HEADER: usize = VnetHeader::LEN;

/// A queue of a TAP device. The device goes when its last queue is closed, unless it was made
/// persistent.
#[derive(Debug)]
pub struct Tap {
    file: File,
}

impl Tap {
    /// Makes a device of `queues` queues in the network namespace of the calling thread.
    ///
    /// # Errors
    /// `EBUSY` when the name is taken, `ENOENT` without `/dev/net/tun`.
    pub fn create(name: &str, queues: usize) -> Result<Vec<Tap>, Error> {
        // A device that can have many has room for 256, which costs memory.
        let flags = if queues > 1 { sys::TAP_MANY | sys::TAP_NEW } else { sys::TAP_NEW };
        let first = queue(name, flags).map_err(Error::interface(name, "make a TAP device"))?;
        let mut taps = vec![first];
        for _ in 1..queues {
            let next = queue(name, sys::TAP_MANY);
            taps.push(next.map_err(Error::interface(name, "add a queue to a TAP device"))?);
        }
        Ok(taps)
    }

    /// Opens a device that exists in the network namespace of the calling thread, with at most `queues`
    /// queues: a device that was made with one has no more.
    ///
    /// # Errors
    /// `EBUSY` when another process has it.
    pub fn open(name: &str, queues: usize) -> Result<Vec<Tap>, Error> {
        let error = || Error::interface(name, "open the TAP device");
        // Without this the request would make a new one.
        sys::mtu(name).map_err(error())?;
        let mut taps = match queue(name, 0) {
            Ok(tap) => return Ok(vec![tap]),
            Err(e) if e.raw_os_error() == Some(libc::EINVAL) => {
                vec![queue(name, sys::TAP_MANY).map_err(error())?]
            }
            Err(e) => return Err(error()(e)),
        };
        for _ in 1..queues {
            taps.push(queue(name, sys::TAP_MANY).map_err(error())?);
        }
        Ok(taps)
    }

    /// Whether the device outlives its descriptors. Not so at first, so that a device that was never
    /// finished goes with the process.
    pub fn set_persistent(&self, persistent: bool) -> io::Result<()> {
        sys::tap_set_persistent(self.file.as_fd(), persistent)
    }

    /// Another descriptor of the same queue.
    pub fn try_clone(&self) -> io::Result<Tap> {
        Ok(Tap { file: self.file.try_clone()? })
    }

    /// Receives a packet behind its header; how many bytes that were.
    #[inline]
    pub(crate) fn read(&self, into: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        (&self.file).read_vectored(into)
    }

    /// Sends a packet behind its header.
    #[inline]
    pub(crate) fn write(&self, from: &[IoSlice<'_>]) -> io::Result<usize> {
        (&self.file).write_vectored(from)
    }
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// One queue of a device.
fn queue(name: &str, flags: i32) -> io::Result<Tap> {
    let flags_of_file = libc::O_NONBLOCK | libc::O_CLOEXEC;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(flags_of_file)
        .open("/dev/net/tun")?;
    sys::tap_attach(file.as_fd(), name, flags)?;
    sys::tap_set_header(file.as_fd(), HEADER)?;
    // Before Linux 6.2 without USO.
    sys::tap_set_offload(file.as_fd(), sys::TAP_OFFLOAD_TCP | sys::TAP_OFFLOAD_UDP)
        .or_else(|_| sys::tap_set_offload(file.as_fd(), sys::TAP_OFFLOAD_TCP))?;
    Ok(Tap { file })
}
