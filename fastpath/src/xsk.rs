//! An AF_XDP socket: its memory registration, its four rings, and the ways to wake the kernel.
//!
//! Each socket registers the worker's memory anew rather than sharing another socket's
//! registration; docs/decisions/0001-ring-layer.md says why and what it costs.

use crate::frame::CHUNK;
use crate::packet::PacketSocket;
use crate::ring::{Consumer, Descriptor, Layout, Producer};
use crate::stats::SocketStatistics;
use crate::sys;
use crate::umem::Mapping;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Send buffer of a socket, in bytes: room for a batch of 256 frames of 64 KiB each, which the
/// kernel charges with what they occupy (about 75 KiB).
const SEND_BUFFER: i32 = 32 << 20;
/// How long the kernel may take to let go of a queue after its last socket was closed (20 ms
/// measured).
const REBIND_TIMEOUT: Duration = Duration::from_secs(2);
/// Frames that one system call transmits in copy mode (Linux 6.17 and later; 32 before).
const XDP_MAX_TX_SKB_BUDGET: i32 = 9;
const SO_PREFER_BUSY_POLL: i32 = 69;
const SO_BUSY_POLL_BUDGET: i32 = 70;

/// What a socket is opened on.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The interface.
    pub ifindex: u32,
    /// Its queue.
    pub queue: u32,
    /// Descriptors in each ring, a power of two.
    pub ring_size: u32,
    /// Microseconds that a system call may poll the driver.
    pub busy_poll: Option<u32>,
    /// What may be sent as superpackets beside the ring, in copy mode.
    pub superpackets: Option<Superpackets>,
}

/// What may be sent as superpackets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Superpackets {
    /// Runs of tunnel packets, out of an uplink.
    Tunnels,
    /// TCP segments that the pipeline has merged, out of any other port.
    Segments,
}

/// How a socket is bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The driver writes into our buffers; else the kernel copies.
    pub zero_copy: bool,
    /// Frames may be larger than one buffer (XDP_USE_SG, Linux 6.6 and later).
    pub frags: bool,
}

/// A bound socket. Closed when dropped.
pub struct Socket {
    /// Declared first, so closed before the rings are unmapped.
    fd: Arc<OwnedFd>,
    pub(crate) fill: Producer<u64>,
    pub(crate) completion: Consumer<u64>,
    pub(crate) rx: Consumer<Descriptor>,
    pub(crate) tx: Producer<Descriptor>,
    /// What superpackets are sent through; until the port takes it.
    pub(crate) packet: Option<PacketSocket>,
    options: Options,
    binding: Binding,
    /// Keeps the buffers mapped for as long as the kernel may write to them.
    _memory: Arc<Mapping>,
}

impl Socket {
    /// Opens a socket over `memory` and binds it in the first of `ways` that the kernel accepts. The
    /// queue may still be held by a socket closed a moment ago, so this tries again for a while.
    pub fn open(memory: &Arc<Mapping>, options: Options, ways: &[Binding]) -> io::Result<Socket> {
        let start = Instant::now();
        loop {
            match Socket::try_open(memory, options, ways) {
                Err(e)
                    if e.raw_os_error() == Some(libc::EBUSY)
                        && start.elapsed() < REBIND_TIMEOUT =>
                {
                    std::thread::sleep(Duration::from_millis(2));
                }
                result => return result,
            }
        }
    }

    fn try_open(memory: &Arc<Mapping>, options: Options, ways: &[Binding]) -> io::Result<Socket> {
        let fd = sys::xdp_socket()?;
        let registration = libc::xdp_umem_reg {
            addr: memory.base().as_ptr().expose_provenance() as u64,
            len: memory.len() as u64,
            chunk_size: CHUNK as u32,
            headroom: 0,
            flags: 0,
            tx_metadata_len: 0,
        };
        let set = |name, value: u32| {
            sys::set_option(fd.as_fd(), libc::SOL_XDP, name, &(value as libc::c_int))
        };
        sys::set_option(fd.as_fd(), libc::SOL_XDP, libc::XDP_UMEM_REG, &registration)?;
        set(libc::XDP_UMEM_FILL_RING, options.ring_size)?;
        set(libc::XDP_UMEM_COMPLETION_RING, options.ring_size)?;
        set(libc::XDP_RX_RING, options.ring_size)?;
        set(libc::XDP_TX_RING, options.ring_size)?;
        // Neither is needed for correctness: an older kernel has no such option, and transmits 32
        // frames a call.
        let _ = set(XDP_MAX_TX_SKB_BUDGET, options.ring_size);
        set_send_buffer(fd.as_fd());
        if let Some(microseconds) = options.busy_poll {
            set_busy_poll(fd.as_fd(), microseconds)?;
        }

        let offsets: libc::xdp_mmap_offsets =
            sys::get_option(fd.as_fd(), libc::SOL_XDP, libc::XDP_MMAP_OFFSETS)?;
        let size = options.ring_size;
        let map = |ring: &libc::xdp_ring_offset, descriptor: usize, offset: u64| {
            let layout = layout(ring);
            let len = layout.descriptors + size as usize * descriptor;
            Mapping::of(fd.as_fd(), len, offset as i64).map(|m| (Arc::new(m), layout))
        };
        const DESCRIPTOR: usize = size_of::<Descriptor>();
        const ADDRESS: usize = size_of::<u64>();
        let fill = map(&offsets.fr, ADDRESS, libc::XDP_UMEM_PGOFF_FILL_RING)?;
        let completion = map(&offsets.cr, ADDRESS, libc::XDP_UMEM_PGOFF_COMPLETION_RING)?;
        let rx = map(&offsets.rx, DESCRIPTOR, libc::XDP_PGOFF_RX_RING as u64)?;
        let tx = map(&offsets.tx, DESCRIPTOR, libc::XDP_PGOFF_TX_RING as u64)?;

        let binding = bind_best(ways, |way| {
            let copy = if way.zero_copy { libc::XDP_ZEROCOPY } else { libc::XDP_COPY };
            let frags = if way.frags { libc::XDP_USE_SG } else { 0 };
            let flags = libc::XDP_USE_NEED_WAKEUP | copy | frags;
            sys::bind_xdp(fd.as_fd(), options.ifindex, options.queue, flags)
        })?;
        let packet = (options.superpackets.is_some() && !binding.zero_copy)
            .then(|| PacketSocket::open(options.ifindex))
            .and_then(|opened| match opened {
                Ok(packet) => Some(packet),
                Err(e) => {
                    tracing::warn!("interface {}: no superpackets: {e}", options.ifindex);
                    None
                }
            });
        Ok(Socket {
            packet,
            fill: Producer::new(fill.0, fill.1, size),
            completion: Consumer::new(completion.0, completion.1, size),
            rx: Consumer::new(rx.0, rx.1, size),
            tx: Producer::new(tx.0, tx.1, size),
            fd: Arc::new(fd),
            options,
            binding,
            _memory: memory.clone(),
        })
    }

    /// What the socket was opened on.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// How the socket is bound.
    pub fn binding(&self) -> Binding {
        self.binding
    }

    /// The socket's descriptor, to read statistics while another thread has the socket.
    pub(crate) fn shared_fd(&self) -> Arc<OwnedFd> {
        self.fd.clone()
    }

    /// Makes the kernel transmit what was published on the TX ring.
    #[inline]
    pub(crate) fn kick_tx(&self) -> io::Result<()> {
        sys::kick_tx(self.fd.as_fd())
    }

    /// Makes the driver look at the fill ring, if it asked for that.
    #[inline]
    pub(crate) fn wake_rx(&self) {
        if self.binding.zero_copy && self.fill.needs_wakeup() {
            sys::kick_rx(self.fd.as_fd());
        }
    }

    /// Lets the driver be polled from here, when busy polling is on.
    #[inline]
    pub(crate) fn busy_poll(&self) {
        if self.options.busy_poll.is_some() {
            sys::kick_rx(self.fd.as_fd());
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

/// What the kernel counted on a socket.
pub(crate) fn statistics(fd: BorrowedFd<'_>) -> io::Result<SocketStatistics> {
    let s: libc::xdp_statistics = sys::get_option(fd, libc::SOL_XDP, libc::XDP_STATISTICS)?;
    Ok(SocketStatistics {
        rx_dropped: s.rx_dropped,
        rx_invalid_descs: s.rx_invalid_descs,
        tx_invalid_descs: s.tx_invalid_descs,
        rx_ring_full: s.rx_ring_full,
        rx_fill_ring_empty_descs: s.rx_fill_ring_empty_descs,
        tx_ring_empty_descs: s.tx_ring_empty_descs,
    })
}

/// The first way that works. A refusal that no other way cures ends the search; a socket that could
/// not be bound one way can be bound another.
fn bind_best(
    ways: &[Binding],
    mut bind: impl FnMut(Binding) -> io::Result<()>,
) -> io::Result<Binding> {
    const NO_SUPPORT: [i32; 4] = [libc::EOPNOTSUPP, libc::EINVAL, libc::ENOMEM, libc::EPROTO];
    let mut error = io::Error::from_raw_os_error(libc::EOPNOTSUPP);
    for &way in ways {
        match bind(way) {
            Ok(()) => return Ok(way),
            Err(e) => error = e,
        }
        if !error.raw_os_error().is_some_and(|e| NO_SUPPORT.contains(&e)) {
            break;
        }
    }
    Err(error)
}

fn layout(ring: &libc::xdp_ring_offset) -> Layout {
    Layout {
        producer: ring.producer as usize,
        consumer: ring.consumer as usize,
        flags: ring.flags as usize,
        descriptors: ring.desc as usize,
    }
}

fn set_send_buffer(fd: BorrowedFd<'_>) {
    // Without CAP_NET_ADMIN the limit of the system (net.core.wmem_max) holds.
    if sys::set_option(fd, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, &SEND_BUFFER).is_err() {
        let _ = sys::set_option(fd, libc::SOL_SOCKET, libc::SO_SNDBUF, &SEND_BUFFER);
    }
}

fn set_busy_poll(fd: BorrowedFd<'_>, microseconds: u32) -> io::Result<()> {
    const BUDGET: i32 = 256;
    sys::set_option(fd, libc::SOL_SOCKET, SO_PREFER_BUSY_POLL, &1)?;
    sys::set_option(fd, libc::SOL_SOCKET, libc::SO_BUSY_POLL, &(microseconds as i32))?;
    sys::set_option(fd, libc::SOL_SOCKET, SO_BUSY_POLL_BUDGET, &BUDGET)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn way(zero_copy: bool, frags: bool) -> Binding {
        Binding { zero_copy, frags }
    }

    #[test]
    fn the_first_way_that_works_is_taken() {
        let ways = [way(true, true), way(false, true), way(false, false)];
        for works in ways {
            let bound = bind_best(&ways, |way| {
                let refused = Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP));
                if way == works { Ok(()) } else { refused }
            });
            assert_eq!(bound.unwrap(), works);
        }
        assert!(bind_best(&[], |_| Ok(())).is_err());
    }

    #[test]
    fn an_error_that_no_way_cures_is_reported_at_once() {
        let mut tries = 0;
        let error = bind_best(&[way(true, true), way(false, true)], |_| {
            tries += 1;
            Err(io::Error::from_raw_os_error(libc::EBUSY))
        });
        assert_eq!((error.unwrap_err().raw_os_error(), tries), (Some(libc::EBUSY), 1));
    }
}
