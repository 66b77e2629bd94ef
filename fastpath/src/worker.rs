//! The run-to-completion loop.
//!
//! ```text
//! round    for each socket with frames: receive a batch, run the pipeline, refill
//!          flush every TX ring that the pipeline wrote to, together where that goes (`bulk.rs`), else one kick each
//! sleep    after a while without frames, in epoll; woken by traffic, a command, new tables, and when
//!          the pipeline has something due
//! tick     once a second: buffers back, fill targets aged, interfaces that were down tried again
//! ```
//!
//! No lock, no allocation and no system call per packet. Commands come through a queue that is
//! looked at once a round.

use crate::command::{Command, Mailbox};
use crate::frame::Frame;
use crate::io::{Way, WorkerIo};
use crate::pipeline::Pipeline;
use crate::pool::SocketId;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use switch::{Millis, PortId};

/// Frames in a batch.
pub const BATCH: usize = 256;
/// Rounds in which a socket brought nothing before it is no longer looked at every round.
const QUIET_ROUNDS: u32 = 64;
/// All sockets are looked at every so many rounds, those with recent traffic at every one.
const FULL_SCAN: u32 = 8;
/// Rounds with work and without sleep after which it is counted which sockets are busy, and epoll lets go of
/// them; and again after so many.
const DEAF_BEGIN: u32 = DEAF_AFTER / 2;
const DEAF_AFTER: u32 = 16;
const DEAF_AGAIN: u32 = 1024;
/// Sockets that epoll lets go of at most: taking one back costs a system call before the next sleep.
const MAX_DEAF: usize = 16;
/// Rounds without work between two looks at the clock.
const CLOCK_ROUNDS: u32 = 16;
/// How long the kernel may take to stop using the buffers of a closed socket: packets on their way
/// out of an interface, and zero-copy drivers that tear their queue down in the background.
const GRACE: Duration = Duration::from_millis(100);
/// Seconds without a frame in or out after which a port's buffers may be taken from it.
const SILENCE: u32 = 5;
const TICK: Duration = Duration::from_secs(1);
/// How soon a TX ring that the kernel would not empty is tried again.
const RETRY_MS: u16 = 1;
const WAKE: u64 = u64::MAX;

/// The ways to reach every worker: the same list in each of them and in the engine.
pub(crate) type Mailboxes = Arc<[Arc<Mailbox>]>;

/// One worker thread's state.
pub(crate) struct Worker<P> {
    io: WorkerIo,
    pipeline: P,
    index: usize,
    mailboxes: Mailboxes,
    epoll: Epoll,
    /// Sockets with recent traffic.
    hot: Vec<SocketId>,
    /// Sockets whose frames only epoll knows of.
    polled: usize,
    /// Sockets that epoll does not watch while the worker does not sleep. The kernel wakes whoever watches a
    /// socket for each packet that it has sent, though nobody waits for that: a tenth of a worker's time.
    deaf: Vec<SocketId>,
    /// Rounds with work since the last sleep.
    awake: u32,
    /// Closed sockets whose buffers are not ours yet.
    graveyard: Vec<(SocketId, Option<Instant>)>,
    spin: Duration,
    start: Instant,
    next_tick: Instant,
}

impl<P: Pipeline> Worker<P> {
    pub fn new(
        io: WorkerIo,
        pipeline: P,
        index: usize,
        mailboxes: Mailboxes,
        spin: Duration,
        start: Instant,
    ) -> io::Result<Worker<P>> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(&mailboxes[index].bell, EpollEvent::new(EpollFlags::EPOLLIN, WAKE))?;
        Ok(Worker {
            io,
            pipeline,
            index,
            mailboxes,
            epoll,
            hot: Vec::new(),
            polled: 0,
            deaf: Vec::with_capacity(MAX_DEAF),
            awake: 0,
            graveyard: Vec::new(),
            spin,
            start,
            next_tick: start + TICK,
        })
    }

    /// Runs until told to stop; what the worker owned comes back.
    pub fn run(mut self) -> WorkerIo {
        // The frames of one batch live here, not in `self`, which other threads may own.
        let mut batch = Vec::with_capacity(BATCH);
        let mut events = [EpollEvent::empty(); 64];
        let mut round = 0u32;
        let mut now = Instant::now();
        let mut last_work = now;
        loop {
            if self.mailboxes[self.index].take_waiting() && !self.obey() {
                return self.io;
            }
            let work = self.round(now, round, &mut batch);
            round = round.wrapping_add(1);
            // Who is about to sleep asks epoll anyway.
            let stays = work || !self.spin.is_zero();
            if stays && self.polled > 0 && round.is_multiple_of(FULL_SCAN) {
                self.poll(EpollTimeout::ZERO, &mut events);
            }
            if work {
                last_work = now;
                self.awake = self.awake.wrapping_add(1);
                match self.awake % DEAF_AGAIN {
                    DEAF_BEGIN => self.io.sockets.iter_mut().flatten().for_each(|s| s.batches = 0),
                    DEAF_AFTER => self.deafen(),
                    _ => {}
                }
            }
            // A round without work takes less time than asking for the time.
            if work || round.is_multiple_of(CLOCK_ROUNDS) || self.spin.is_zero() {
                now = Instant::now();
                if now >= self.next_tick {
                    self.tick(now);
                } else if self.due().is_some_and(|due| now >= due) {
                    self.pipeline.tick(self.millis(now), &mut self.io);
                }
                if !work && now - last_work >= self.spin {
                    self.sleep(now, &mut events);
                    now = Instant::now();
                    last_work = now;
                }
            }
        }
    }

    /// The pipeline's clock.
    fn millis(&self, now: Instant) -> Millis {
        Millis((now - self.start).as_millis() as u64)
    }

    /// When the pipeline wants to be called whether or not there are frames.
    #[inline]
    fn due(&self) -> Option<Instant> {
        self.pipeline.due().map(|due| self.start + Duration::from_millis(due.0))
    }

    /// Looks at the sockets once; whether there was anything to do.
    fn round(&mut self, now: Instant, round: u32, batch: &mut Vec<Frame>) -> bool {
        let millis = self.millis(now);
        let mut work = false;
        let mut i = 0;
        while i < self.hot.len() {
            let id = self.hot[i];
            let any = self.receive(id, millis, batch);
            work |= any;
            if self.cool(id, any) {
                self.hot.swap_remove(i);
            } else {
                i += 1;
            }
        }
        if !work || round.is_multiple_of(FULL_SCAN) {
            for n in 0..self.io.sockets.len() {
                work |= self.look(SocketId(n as u16), millis, batch);
            }
        }
        if self.io.lanes.take_waiting() {
            work |= self.io.exchange();
        }
        self.io.flush();
        let mailboxes = &self.mailboxes;
        self.io.lanes.flush(|to| mailboxes[to].ring());
        if work {
            self.io.gauges.free.store(self.io.pool.available(), Ordering::Relaxed);
        }
        work
    }

    /// Receives from a socket that had no recent traffic.
    #[inline]
    fn look(&mut self, id: SocketId, now: Millis, batch: &mut Vec<Frame>) -> bool {
        let quiet = match self.io.sockets.get_mut(usize::from(id.0)) {
            Some(Some(socket)) => !socket.hot && socket.has_frames(),
            _ => false,
        };
        if quiet {
            self.heat(id);
            self.receive(id, now, batch);
        }
        quiet
    }

    /// Receives a batch from a socket and forwards it; whether there was one.
    #[inline]
    fn receive(&mut self, id: SocketId, now: Millis, batch: &mut Vec<Frame>) -> bool {
        let io = &mut self.io;
        let Some(Some(socket)) = io.sockets.get_mut(usize::from(id.0)) else { return false };
        let port = socket.port;
        let counters = io.counters.port(port);
        if !socket.receive(&mut io.pool, &mut io.budget, batch, BATCH, counters) {
            if socket.is_gone() {
                // It would wake the worker for ever.
                let _ = self.epoll.delete(socket);
                io.gauges.gone.store(true, Ordering::Relaxed);
            }
            return false;
        }
        self.pipeline.process(port, now, batch, io);
        // A pipeline takes every frame; one that does not must not leak it into another port's.
        batch.drain(..).for_each(|frame| io.pool.discard(frame));
        if let Some(Some(socket)) = io.sockets.get_mut(usize::from(id.0)) {
            socket.refill(&mut io.pool, &mut io.budget);
        }
        true
    }

    fn heat(&mut self, id: SocketId) {
        if let Some(Some(socket)) = self.io.sockets.get_mut(usize::from(id.0))
            && !socket.hot
        {
            socket.hot = true;
            socket.quiet = 0;
            self.hot.push(id);
        }
    }

    /// Counts quiet rounds; whether the socket is to be looked at less often.
    fn cool(&mut self, id: SocketId, any: bool) -> bool {
        let Some(Some(socket)) = self.io.sockets.get_mut(usize::from(id.0)) else { return true };
        socket.quiet = if any { 0 } else { socket.quiet + 1 };
        if socket.quiet > 0 {
            socket.busy_poll();
        }
        socket.hot = socket.quiet < socket.patience(QUIET_ROUNDS);
        !socket.hot
    }

    /// Lets epoll forget the sockets that are busy.
    #[cold]
    fn deafen(&mut self) {
        for socket in self.io.sockets.iter_mut().flatten() {
            if socket.batches >= DEAF_BEGIN / 2
                && !socket.is_polled()
                && self.deaf.len() < MAX_DEAF
                && !self.deaf.contains(&socket.id)
                && self.epoll.delete(&*socket).is_ok()
            {
                self.deaf.push(socket.id);
            }
        }
    }

    /// Has epoll watch all sockets again. It looks at each, so that what came meanwhile ends the sleep.
    fn listen(&mut self) {
        self.awake = 0;
        while let Some(id) = self.deaf.pop() {
            let Some(Some(socket)) = self.io.sockets.get_mut(usize::from(id.0)) else { continue };
            let event = EpollEvent::new(EpollFlags::EPOLLIN, u64::from(id.0));
            if let Err(e) = self.epoll.add(&*socket, event) {
                tracing::error!("port {}: cannot be watched: {e}", socket.port);
            }
        }
    }

    /// Sleeps until there is something to do.
    fn sleep(&mut self, now: Instant, events: &mut [EpollEvent]) {
        self.pipeline.refresh();
        self.listen();
        let timeout = if self.io.flush() {
            let next = self.due().map_or(self.next_tick, |due| due.min(self.next_tick));
            let left = next.saturating_duration_since(now).as_millis() + 1;
            EpollTimeout::from(left.min(1000) as u16)
        } else {
            EpollTimeout::from(RETRY_MS)
        };
        self.poll(timeout, events);
    }

    /// Asks epoll which sockets have frames, and waits for the first one.
    fn poll(&mut self, timeout: EpollTimeout, events: &mut [EpollEvent]) {
        let n = match self.epoll.wait(events, timeout) {
            Ok(n) => n,
            Err(nix::errno::Errno::EINTR) => 0,
            Err(e) => {
                tracing::error!("worker {}: epoll_wait: {e}", self.index);
                std::thread::sleep(Duration::from_millis(1));
                0
            }
        };
        for event in &events[..n] {
            match event.data() {
                WAKE => self.mailboxes[self.index].silence(),
                id => self.heat(SocketId(id as u16)),
            }
        }
    }

    fn tick(&mut self, now: Instant) {
        self.next_tick = now + TICK;
        let millis = self.millis(now);
        let io = &mut self.io;
        self.pipeline.tick(millis, io);
        for socket in io.sockets.iter_mut().flatten() {
            socket.tick(&mut io.pool, io.counters.port(socket.port), &mut io.budget);
        }
        self.graveyard.retain(|&(id, due)| {
            let keep = due.is_none_or(|due| now < due);
            if !keep {
                io.pool.reclaim(id);
            }
            keep
        });
        io.gauges.free.store(io.pool.available(), Ordering::Relaxed);
        let pressed = core::mem::take(&mut io.budget.pressed);
        io.gauges.pressed.store(pressed, Ordering::Relaxed);
    }

    /// Carries out commands; false when told to stop.
    fn obey(&mut self) -> bool {
        while let Some(command) = self.mailboxes[self.index].pop() {
            match command {
                Command::Adopt { port, endpoint, max_frame, reply } => {
                    let id = self.free_id();
                    let event = EpollEvent::new(EpollFlags::EPOLLIN, u64::from(id.0));
                    let result = self.epoll.add(&endpoint, event).map_err(io::Error::from);
                    if result.is_ok() {
                        self.polled += usize::from(endpoint.is_polled());
                        self.io.adopt(id, port, endpoint, max_frame);
                    }
                    self.hot.reserve(self.io.sockets.len());
                    let _ = reply.send(result);
                }
                Command::Reach { port, through } => {
                    let through = u8::try_from(through).map_or(Way::None, Way::Worker);
                    if through == Way::None {
                        self.io.forget_waiting(port);
                    }
                    if !matches!(self.io.way(port), Way::Socket(_)) {
                        self.io.set_way(port, through);
                    }
                }
                Command::Release { port, reply } => {
                    let released = self.io.release(port);
                    for (id, endpoint) in &released {
                        // The kernel forgets a closed socket by itself; this one may live on.
                        let _ = self.epoll.delete(endpoint);
                        self.polled -= usize::from(endpoint.is_polled());
                        self.hot.retain(|hot| hot != id);
                        self.deaf.retain(|deaf| deaf != id);
                        self.graveyard.push((*id, None));
                    }
                    let _ = reply.send(released);
                }
                Command::Closed { socket } => {
                    let now = Instant::now();
                    for (id, due) in &mut self.graveyard {
                        if *id == socket {
                            *due = Some(now + GRACE);
                        }
                    }
                }
                Command::Count { mut ports, reply } => {
                    for (id, sum) in &mut ports {
                        sum.add(self.io.counters.port(*id), self.io.gauges.in_flight(*id));
                    }
                    let _ = reply.send(ports);
                }
                Command::SetInBulk { port, in_bulk } => self.io.set_in_bulk(port, in_bulk),
                Command::SetTunnels(tunnels) => self.io.set_tunnels(tunnels),
                Command::FindGone { reply } => {
                    let gone = self.io.sockets.iter().flatten().filter(|s| s.is_gone());
                    let _ = reply.send(gone.map(|s| s.port).collect());
                }
                Command::Recall { reply } => {
                    let _ = reply.send(self.io.recall());
                }
                Command::Recalled => self.io.recalled(),
                Command::FindHoarder { reply } => {
                    let _ = reply.send(self.hoarder());
                }
                Command::Stop => return false,
            }
        }
        true
    }

    /// The port that holds the most buffers without any use for them.
    fn hoarder(&self) -> Option<PortId> {
        let sockets = self.io.sockets.iter().flatten();
        let hoards = sockets.map(|s| (s.hoard(SILENCE), s.port)).filter(|(n, _)| *n > 0);
        hoards.max_by_key(|(n, _)| *n).map(|(_, port)| port)
    }

    /// The lowest identifier that no socket has and whose buffers are ours.
    fn free_id(&self) -> SocketId {
        let taken = |n: usize| {
            self.io.sockets.get(n).is_some_and(Option::is_some)
                || self.graveyard.iter().any(|(id, _)| usize::from(id.0) == n)
        };
        let n = (0..).find(|&n| !taken(n)).unwrap_or_default();
        SocketId(n as u16)
    }
}
