//! An AF_XDP socket of xsk-rs, in copy mode, and the frames of its memory that are ours.

use anyhow::{Context, anyhow};
use std::io::Write;
use std::num::NonZeroU32;
use xsk_rs::config::{
    BindFlags, FrameSize, Interface, LibxdpFlags, QueueSize, SocketConfig, UmemConfig,
};
use xsk_rs::{CompQueue, FillQueue, FrameDesc, RxQueue, Socket, TxQueue, Umem};

/// Descriptors in each ring.
const RING: u32 = 2048;
/// Frames of a socket's memory: a ring of each kind full.
const FRAMES: u32 = 2 * RING;
/// Bytes of a frame's memory: 1514 and the headroom of XDP.
const CHUNK: u32 = 2048;

/// A socket on one queue of an interface.
pub struct Xsk {
    umem: Umem,
    free: Vec<FrameDesc>,
    tx: TxQueue,
    rx: RxQueue,
    fill: FillQueue,
    completion: CompQueue,
    in_kernel: usize,
}

impl Xsk {
    /// Opens a socket on a queue of an interface of the calling thread's namespace.
    pub fn open(dev: &str, queue: u32) -> anyhow::Result<Xsk> {
        let ring = QueueSize::new(RING).context("a power of two")?;
        let umem_config = UmemConfig::builder()
            .frame_size(FrameSize::new(CHUNK).context("a power of two")?)
            .fill_queue_size(ring)
            .comp_queue_size(ring)
            .build()
            .context("the memory's configuration")?;
        let frames = NonZeroU32::new(FRAMES).context("more than none")?;
        let (umem, free) = Umem::new(umem_config, frames, false).context("registering memory")?;
        let config = SocketConfig::builder()
            .rx_queue_size(ring)
            .tx_queue_size(ring)
            .libxdp_flags(LibxdpFlags::XSK_LIBXDP_FLAGS_INHIBIT_PROG_LOAD)
            .bind_flags(BindFlags::XDP_COPY | BindFlags::XDP_USE_NEED_WAKEUP)
            .build();
        let name: Interface = dev.parse().map_err(|_| anyhow!("not an interface: {dev}"))?;
        // SAFETY: the memory is not shared with another socket, and no program is loaded.
        let (tx, rx, rings) = unsafe { Socket::new(config, &umem, &name, queue) }
            .with_context(|| format!("an AF_XDP socket on queue {queue} of {dev}"))?;
        let (fill, completion) = rings.context("the memory has no other socket")?;
        Ok(Xsk { umem, free, tx, rx, fill, completion, in_kernel: 0 })
    }

    /// The socket's descriptor, for the XDP program's map.
    pub fn fd(&self) -> &impl std::os::fd::AsRawFd {
        self.rx.fd()
    }

    /// Sends frames, as many of them as there is room for; how many.
    pub fn send<'a>(
        &mut self,
        frames: impl ExactSizeIterator<Item = &'a [u8]>,
    ) -> anyhow::Result<usize> {
        self.reclaim();
        let count = frames.len().min(self.free.len()).min(self.tx.nb_free(RING) as usize);
        let from = self.free.len() - count;
        for (desc, frame) in self.free[from..].iter_mut().zip(frames) {
            // SAFETY: the descriptor is of this memory, and the kernel does not have it: it is in
            // `free`, where each is once.
            let mut data = unsafe { self.umem.data_mut(desc) };
            let mut cursor = data.cursor();
            cursor.set_pos(0);
            cursor.write_all(frame).context("the frame is larger than its memory")?;
        }
        // SAFETY: as above; those that the ring took leave `free` here.
        let sent = unsafe { self.tx.produce(&self.free[from..]) };
        self.free.drain(from..from + sent);
        self.in_kernel += sent;
        self.tx.wakeup().context("sending")?;
        Ok(sent)
    }

    /// Makes the kernel send what it has not yet; whether all is sent.
    pub fn flush(&mut self) -> anyhow::Result<bool> {
        self.reclaim();
        if self.in_kernel > 0 {
            self.tx.wakeup().context("sending")?;
            self.reclaim();
        }
        Ok(self.in_kernel == 0)
    }

    fn reclaim(&mut self) {
        let mut done = [FrameDesc::default(); 256];
        loop {
            // SAFETY: the descriptors that come back are of this memory, and go to `free`.
            let n = unsafe { self.completion.consume(&mut done) };
            self.free.extend_from_slice(&done[..n]);
            self.in_kernel -= n;
            if n < done.len() {
                return;
            }
        }
    }

    /// Gives the kernel memory to receive into, all that is left.
    pub fn refill(&mut self) {
        // The ring takes all that it is given, or nothing.
        let count = self.free.len().min(self.fill.nb_free(RING) as usize);
        // SAFETY: the descriptors are in `free`, where each is once, and leave it here.
        let n = unsafe { self.fill.produce(&self.free[..count]) };
        self.free.drain(..n);
    }

    /// Waits at most `milliseconds` for frames and shows each of them; how many.
    pub fn receive(
        &mut self,
        milliseconds: i32,
        mut show: impl FnMut(&[u8]),
    ) -> anyhow::Result<usize> {
        let mut descs = [FrameDesc::default(); 64];
        // SAFETY: the descriptors that come are of this memory, and go to `free`.
        let n =
            unsafe { self.rx.poll_and_consume(&mut descs, milliseconds) }.context("receiving")?;
        for desc in &descs[..n] {
            // SAFETY: as above; the kernel does not have the frame any more.
            show(unsafe { self.umem.data(desc) }.contents());
        }
        self.free.extend_from_slice(&descs[..n]);
        self.refill();
        Ok(n)
    }
}
