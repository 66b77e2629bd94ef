//! Frames for several ports sent in one system call, past their TX rings.
//!
//! In copy mode AF_XDP makes a packet of a frame, hands it to the interface, and lets softirqs run before it takes
//! the next: the far end of a veth receives each packet by itself, which is half of what sending costs. The program of
//! bpf/transmit.bpf.c sends many in one run, and the far ends receive them together. A run costs as much as three or
//! four frames by AF_XDP, so that few frames are better left to the rings. docs/decisions/0012-bulk.md has figures.
//!
//! When either system call returns, its frames have been handed to their interfaces: the one way may follow the
//! other at any time.

use crate::error::Error;
use crate::pool::{Pool, SocketId};
use crate::port::PortSocket;
use crate::program::{chain, errno_in};
use crate::sys;
use crate::umem::Mapping;
use aya::maps::Map;
use aya::programs::{Program, ProgramError, SchedClassifier};
use aya::{Ebpf, EbpfLoader, TestRun as _, TestRunOptions};
use std::io;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use switch::WorkerCounters;

/// Frames in a batch: as in transmit.bpf.c.
const BATCH: usize = 256;
/// Bytes of a slot that a frame may take: as in transmit.bpf.c.
const CAPACITY: usize = 4080;
/// The longest frame, in bytes: BPF_PROG_TEST_RUN wants its packet in one page, with room around it.
pub(crate) const MAX_FRAME: usize = 3584;
/// Packets are begun with at least so many bytes, however short the batch's frames are.
const MIN_FRAME: usize = 64;
/// Fewer frames than these go by the rings.
pub(crate) const WORTHWHILE: u32 = 16;
/// Before that, softirqs are on while the program runs, and nothing is gained.
const LINUX: (u32, u32) = (6, 3);
/// The name of the program in transmit.bpf.c.
const PROGRAM: &str = "podswitch_transmit";
/// Bytes of `struct __sk_buff` (linux/bpf.h), and where its control buffer begins.
const CONTEXT: usize = 192;
const CB: usize = 48;
/// What the program has not got to.
const UNSENT: i32 = i32::MIN;

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/transmit.bpf.o"));

const _: () = assert!(MAX_FRAME <= CAPACITY);

/// `struct slot` of transmit.bpf.c, in the machine's byte order.
#[repr(C)]
struct Slot {
    ifindex: u32,
    len: u32,
    result: i32,
    mapping: u32,
    frame: [u8; CAPACITY],
}

/// What became of a frame of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The interface took it.
    Sent,
    /// The interface is down or gone.
    Down,
    /// It was dropped on the way to the interface: no memory, or a full queue.
    Refused,
}

impl Fate {
    /// None for a frame that was not looked at.
    fn of(result: i32) -> Option<Fate> {
        /// What the discipline that an interface has while it is down (`noop`) answers (linux/netdevice.h).
        const NET_XMIT_CN: i32 = 2;
        /// There is no such interface.
        const NO_INTERFACE: i32 = -libc::EINVAL;
        const NETDOWN: i32 = -libc::ENETDOWN;
        match result {
            UNSENT => None,
            0 => Some(Fate::Sent),
            NET_XMIT_CN | NETDOWN | NO_INTERFACE => Some(Fate::Down),
            _ => Some(Fate::Refused),
        }
    }
}

/// Frames of one socket in a batch.
#[derive(Clone, Copy)]
struct Span {
    socket: SocketId,
    frames: u32,
}

/// A worker's batch, and the program that sends it.
pub(crate) struct Bulk {
    /// Has the program.
    ebpf: Arc<Ebpf>,
    /// The worker's slots.
    slots: Mapping,
    /// Which is the first of them.
    first: u32,
    filled: usize,
    longest: usize,
    spans: Vec<Span>,
    /// The kernel will not run the program.
    refused: bool,
}

impl Bulk {
    /// Loads the program, and runs it once for nothing: a batch for each worker.
    pub fn load(workers: usize) -> Result<Vec<Bulk>, Error> {
        type Cause = dyn std::error::Error + 'static;
        let error = |message: String, errno| Error::Bpf {
            operation: "load the program that sends in bulk".into(),
            message,
            errno,
        };
        let failed = |e: &Cause| error(chain(e), errno_in(e));
        let missing = || error("the object file lacks a part".into(), None);
        if sys::linux_version().is_none_or(|version| version < LINUX) {
            return Err(error(format!("it needs Linux {}.{} or later", LINUX.0, LINUX.1), None));
        }
        let slots = (workers * BATCH) as u32;
        let mut ebpf = EbpfLoader::new()
            .map_max_entries("slots", slots)
            .load(OBJECT)
            .map_err(|e| failed(&e))?;
        let program = ebpf.program_mut(PROGRAM).ok_or_else(missing)?;
        let program: &mut SchedClassifier = program.try_into().map_err(|e| failed(&e))?;
        program.load().map_err(|e| failed(&e))?;
        let ebpf = Arc::new(ebpf);
        let Some(Map::Array(map)) = ebpf.map("slots") else { return Err(missing()) };
        if map.info().map_err(|e| failed(&e))?.value_size() as usize != size_of::<Slot>() {
            return Err(missing());
        }
        // What the kernel has against it is better known now than with the first batch.
        run_program(&ebpf, MAX_FRAME, [0, 0])
            .map_err(Error::system("run the program that sends in bulk"))?;
        let batch = |worker: usize| {
            let len = BATCH * size_of::<Slot>();
            Ok(Bulk {
                ebpf: ebpf.clone(),
                slots: Mapping::of(map.fd().as_fd(), len, (worker * len) as i64)?,
                first: (worker * BATCH) as u32,
                filled: 0,
                longest: 0,
                spans: Vec::with_capacity(BATCH),
                refused: false,
            })
        };
        let batches: io::Result<_> = (0..workers).map(batch).collect();
        batches.map_err(Error::system("map a batch of frames"))
    }

    /// Sends what may be sent in bulk of what waits in the rings of `dirty` sockets, if that is enough to be worth
    /// it. What is left in the rings is to be sent from there.
    pub fn flush(
        &mut self,
        dirty: &[SocketId],
        sockets: &mut [Option<PortSocket>],
        pool: &mut Pool,
        counters: &WorkerCounters,
    ) {
        let of = |id: SocketId| usize::from(id.0);
        let waiting = |id: &SocketId| sockets.get(of(*id))?.as_ref().map(PortSocket::bulk_waiting);
        if self.refused || dirty.iter().filter_map(waiting).sum::<u32>() < WORTHWHILE {
            return;
        }
        for &id in dirty {
            // More than once for what does not fit into one batch.
            while let Some(Some(socket)) = sockets.get_mut(of(id)) {
                let frames = socket.add_to(self, pool);
                if frames > 0 {
                    self.spans.push(Span { socket: id, frames });
                }
                if self.room() > 0 {
                    break;
                }
                if !self.run(sockets, pool, counters) {
                    return;
                }
            }
        }
        if self.filled >= WORTHWHILE as usize {
            self.run(sockets, pool, counters);
        } else {
            self.clear();
        }
    }

    fn clear(&mut self) {
        self.filled = 0;
        self.longest = 0;
        self.spans.clear();
    }

    /// Frames that the batch can still take.
    #[inline]
    pub fn room(&self) -> usize {
        BATCH - self.filled
    }

    /// Adds a frame, of [`MAX_FRAME`] bytes at most, to leave by a queue of an interface. Only while there is room.
    #[inline]
    pub fn add(&mut self, ifindex: u32, queue: u32, frame: &[u8]) {
        let n = self.filled;
        let slot = &mut self.slots_mut()[n];
        slot.frame[..frame.len()].copy_from_slice(frame);
        slot.ifindex = ifindex;
        slot.len = frame.len() as u32;
        slot.mapping = queue + 1;
        slot.result = UNSENT;
        self.filled += 1;
        self.longest = self.longest.max(frame.len());
    }

    /// Sends the batch, and tells the sockets what became of their frames. False when the program did not run.
    fn run(
        &mut self,
        sockets: &mut [Option<PortSocket>],
        pool: &mut Pool,
        counters: &WorkerCounters,
    ) -> bool {
        // A packet that is long enough from the start does not have to grow.
        let len = self.longest.max(MIN_FRAME);
        let batch = [self.first, self.filled as u32];
        if let Err(e) = run_program(&self.ebpf, len, batch) {
            self.give_up(&e);
        }
        let has_run = self.slots()[0].result != UNSENT;
        let mut first = 0;
        for span in &self.spans {
            let slots = &self.slots()[first..first + span.frames as usize];
            let fates = slots.iter().map_while(|slot| Fate::of(slot.result));
            if let Some(Some(socket)) = sockets.get_mut(usize::from(span.socket.0)) {
                socket.settle(pool, fates, counters.port(socket.port));
            }
            first += slots.len();
        }
        self.clear();
        has_run
    }

    #[cold]
    fn give_up(&mut self, e: &io::Error) {
        if !matches!(e.raw_os_error(), Some(libc::ENOMEM | libc::EAGAIN | libc::EINTR)) {
            tracing::warn!("nothing is sent in bulk any more: {e}");
            self.refused = true;
        }
    }

    fn slots(&self) -> &[Slot] {
        // SAFETY: the mapping is as long, aligned to a page, lives as long as `self`, and any bytes are a legal
        // `Slot`. The kernel writes to it only in `run`, during which nobody has this slice.
        unsafe { core::slice::from_raw_parts(self.slots.base().cast().as_ptr(), BATCH) }
    }

    #[inline]
    fn slots_mut(&mut self) -> &mut [Slot] {
        // SAFETY: as `slots`; nobody else knows of the mapping.
        unsafe { core::slice::from_raw_parts_mut(self.slots.base().cast().as_ptr(), BATCH) }
    }
}

/// Runs the program once, on a packet of `len` zeros, with two numbers in its control buffer.
fn run_program(ebpf: &Ebpf, len: usize, numbers: [u32; 2]) -> io::Result<()> {
    static PACKET: [u8; MAX_FRAME] = [0; MAX_FRAME];
    let Some(Program::SchedClassifier(program)) = ebpf.program(PROGRAM) else {
        return Err(io::ErrorKind::NotFound.into());
    };
    let mut context = [0; CONTEXT];
    context[CB..CB + 4].copy_from_slice(&numbers[0].to_ne_bytes());
    context[CB + 4..CB + 8].copy_from_slice(&numbers[1].to_ne_bytes());
    let options = TestRunOptions {
        data_in: Some(&PACKET[..len]),
        ctx_in: Some(&context),
        ..TestRunOptions::new()
    };
    match program.test_run(options) {
        Ok(_) => Ok(()),
        Err(ProgramError::SyscallError(e)) => Err(e.io_error),
        Err(e) => Err(io::Error::other(e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_answers_is_what_became_of_a_frame() {
        let fates = [0, 1, 2, -libc::ENETDOWN, -libc::EINVAL, -libc::ENOMEM, UNSENT].map(Fate::of);
        let [sent, down, refused] = [Fate::Sent, Fate::Down, Fate::Refused].map(Some);
        assert_eq!(fates, [sent, refused, down, down, down, refused, None]);
    }
}
