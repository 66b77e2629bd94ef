//! The control thread's event loop: clients, the backend's descriptors and timers, and the end.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use podswitch_api::method::Empty;
use podswitch_api::{Request, Response};

use crate::backend::Backend;
use crate::server::Server;
use crate::store::Store;

/// Readable when the daemon shall end.
const STOP: Token = Token(0);
/// The backend's descriptors, from here up to the server's tokens.
const BACKEND: usize = 1;
/// The server's tokens, from here on.
const SERVER: Token = Token(1 << 16);

/// The daemon: a backend, and the clients that it serves.
pub struct Daemon<'a, B> {
    poll: Poll,
    server: Server,
    backend: &'a mut B,
    store: Option<Store>,
}

impl<'a, B: Backend> Daemon<'a, B> {
    /// A daemon that serves `backend` on `server` until `stop` becomes readable. What is added
    /// over the API is kept in `store`.
    pub fn new(
        mut server: Server,
        backend: &'a mut B,
        store: Option<Store>,
        stop: BorrowedFd<'_>,
    ) -> io::Result<Daemon<'a, B>> {
        let poll = Poll::new()?;
        let watch = |fd: BorrowedFd<'_>, token| {
            poll.registry().register(&mut SourceFd(&fd.as_raw_fd()), token, Interest::READABLE)
        };
        watch(stop.as_fd(), STOP)?;
        for (i, fd) in backend.fds().into_iter().enumerate() {
            watch(fd, Token(BACKEND + i))?;
        }
        server.register(poll.registry(), SERVER)?;
        Ok(Daemon { poll, server, backend, store })
    }

    /// Serves until told to stop. The socket is gone when this returns; the backend is still
    /// running.
    pub fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(256);
        loop {
            if let Err(e) = self.poll.poll(&mut events, self.timeout())
                && e.kind() != io::ErrorKind::Interrupted
            {
                return Err(e);
            }
            for event in &events {
                match event.token() {
                    STOP => return Ok(()),
                    token if token >= SERVER => self.server.on_event(event),
                    token => self.backend.on_fd(token.0 - BACKEND),
                }
            }
            let now = Instant::now();
            if self.backend.next_deadline().is_some_and(|at| at <= now) {
                self.backend.on_timer(now);
            }
            let wrote = self.server.serve(self.poll.registry(), self.backend, now);
            // Before the answers leave: what was confirmed survives a crash. All that was written
            // in this turn costs one save.
            if wrote {
                self.save();
            }
            self.server.flush(Instant::now());
        }
    }

    /// How long there is nothing to do; rounded up, so as not to wake just before the time.
    fn timeout(&self) -> Option<Duration> {
        if self.server.has_work() {
            return Some(Duration::ZERO);
        }
        let deadlines = [self.server.next_deadline(), self.backend.next_deadline()];
        let at = deadlines.into_iter().flatten().min()?;
        let left = at.saturating_duration_since(Instant::now());
        Some(if left.is_zero() { left } else { left + Duration::from_millis(1) })
    }

    fn save(&mut self) {
        let Some(store) = &self.store else { return };
        let saved = match self.backend.call(Request::ConfigGet(Empty {})) {
            Ok(Response::ConfigGet(state)) => store.save(&state),
            Ok(_) => Err(io::Error::other("the backend does not tell its state")),
            Err(e) => Err(io::Error::other(e.message)),
        };
        if let Err(e) = saved {
            let path = store.path().display();
            tracing::error!("cannot keep the state in {path}: a restart would lose it: {e}");
        }
    }
}
