//! What the control thread tells a worker.

use crate::pool::SocketId;
use crate::port::{Endpoint, Tunnels};
use crate::stats::PortSnapshot;
use crossbeam::queue::SegQueue;
use crossbeam::utils::CachePadded;
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use switch::PortId;

/// A request to a worker. Sockets are opened and closed by the control thread, so that a worker
/// never waits for that.
pub(crate) enum Command {
    /// Take a socket of `port` into service; the answer comes when it can receive.
    Adopt { port: PortId, endpoint: Endpoint, max_frame: usize, reply: SyncSender<io::Result<()>> },
    /// Reach a port through another worker, or, with `usize::MAX`, no longer.
    Reach { port: PortId, through: usize },
    /// Take the sockets of `port` out of service and hand them back, to be closed.
    Release { port: PortId, reply: SyncSender<Vec<(SocketId, Endpoint)>> },
    /// A socket that was handed back is closed: its buffers may be used again after a while.
    Closed { socket: SocketId },
    /// Add this worker's counters to these and hand them back: between two rounds, so that no frame
    /// is counted as received and not yet as sent.
    Count { ports: Vec<(PortId, PortSnapshot)>, reply: SyncSender<Vec<(PortId, PortSnapshot)>> },
    /// Frames for `port` may go in bulk, or not.
    SetInBulk { port: PortId, in_bulk: bool },
    /// Packets of these tunnels may be sent as superpackets.
    SetTunnels(Tunnels),
    /// Name the ports whose device was deleted.
    FindGone { reply: SyncSender<Vec<PortId>> },
    /// Begin to take back buffers that ports do not need; the answer is how many.
    Recall { reply: SyncSender<u32> },
    /// A grace period has passed since then.
    Recalled,
    /// Name the silent port that holds the most buffers, if one does.
    FindHoarder { reply: SyncSender<Option<PortId>> },
    /// End.
    Stop,
}

/// A worker's commands, and the bell that wakes it.
pub(crate) struct Mailbox {
    commands: SegQueue<Command>,
    /// Raised after a command was queued; lowered by the worker before it empties the queue. The
    /// other way round on either side, a command could wait with the flag down.
    waiting: CachePadded<AtomicBool>,
    pub bell: EventFd,
}

impl Mailbox {
    pub fn new() -> io::Result<Mailbox> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        Ok(Mailbox {
            commands: SegQueue::new(),
            waiting: CachePadded::new(AtomicBool::new(false)),
            bell: EventFd::from_flags(flags)?,
        })
    }

    /// Gives a command and wakes the worker.
    pub fn push(&self, command: Command) {
        self.commands.push(command);
        self.waiting.store(true, Ordering::Release);
        self.ring();
    }

    /// Wakes the worker.
    pub fn ring(&self) {
        // It fails only when the count would overflow: then the bell rings already.
        let _ = self.bell.write(1);
    }

    /// Whether commands may wait: one load. The question clears the answer, so that the queue must
    /// be emptied after it.
    #[inline]
    pub fn take_waiting(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) && self.waiting.swap(false, Ordering::AcqRel)
    }

    /// The next command.
    pub fn pop(&self) -> Option<Command> {
        self.commands.pop()
    }

    /// Stops the bell.
    pub fn silence(&self) {
        let _ = self.bell.read();
    }
}
