//! A packet socket (packet(7)) with a `virtio_net_hdr` before every packet: one system call sends a
//! superpacket. It receives nothing.

use crate::sys;
use encap::offload::VnetHeader;
use std::fs::File;
use std::io::{self, IoSlice, Write};
use std::os::fd::AsFd;

/// Bytes before every packet.
pub(crate) const HEADER: usize = VnetHeader::LEN;
/// Send buffer, in bytes of memory that packets occupy: thirty superpackets or more. What an interface does
/// not send at once waits in its queueing discipline, and no more of it than this.
const SEND_BUFFER: i32 = 4 << 20;
const PACKET_VNET_HDR: i32 = 15;

/// A packet socket of an interface.
#[derive(Debug)]
pub(crate) struct PacketSocket {
    file: File,
}

impl PacketSocket {
    /// Opens a socket on an interface. It takes CAP_NET_RAW.
    pub fn open(ifindex: u32) -> io::Result<PacketSocket> {
        // The kernel has the header in the machine's byte order, we write it as VIRTIO has it.
        if cfg!(target_endian = "big") {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let fd = sys::packet_socket()?;
        sys::set_option(fd.as_fd(), libc::SOL_PACKET, PACKET_VNET_HDR, &1)?;
        if sys::set_option(fd.as_fd(), libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, &SEND_BUFFER)
            .is_err()
        {
            sys::set_option(fd.as_fd(), libc::SOL_SOCKET, libc::SO_SNDBUF, &SEND_BUFFER)?;
        }
        sys::bind_packet(fd.as_fd(), ifindex)?;
        Ok(PacketSocket { file: fd.into() })
    }

    /// A socket of another kind in its place.
    #[cfg(test)]
    pub fn of(fd: std::os::fd::OwnedFd) -> PacketSocket {
        PacketSocket { file: fd.into() }
    }

    /// Sends a packet behind its header.
    #[inline]
    pub fn send(&self, pieces: &[IoSlice<'_>]) -> io::Result<()> {
        (&self.file).write_vectored(pieces).map(|_| ())
    }

    /// Whether the kernel still has something that was sent: in the queueing discipline, or on its way.
    pub fn is_busy(&self) -> bool {
        sys::unsent(self.file.as_fd()).is_ok_and(|n| n > 0)
    }
}
