//! The control socket's server: JSON-RPC 2.0 over a Unix socket, one message a line.
//!
//! One thread serves all clients and never blocks on one: what a client sends and what it leaves
//! unread are bounded, in bytes and in time, and each gets a slice of work in turn. The event loop
//! is the daemon's; see [`crate::daemon`].

mod answer;
mod conn;
pub mod lines;
mod socket;

use std::io::Write;
use std::os::unix::net::UnixListener as StdListener;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::net::UnixListener;
use mio::{Interest, Registry, Token};
use podswitch_api::rpc::{Id, Reply};
use podswitch_api::state::Switch;
use podswitch_api::{Code, Error};

use crate::backend::Backend;
use conn::Conn;
pub use conn::PATIENCE;
pub use socket::BindError;
use socket::{SocketFile, listen_on};

/// The most clients at a time; more are refused with an error.
pub const MAX_CLIENTS: usize = 256;
/// Requests of a client that are answered before another one gets its turn.
const LINES_SLICE: usize = 64;
/// The most bytes of unread answers, all clients together.
const OUTPUT_TOTAL: usize = 64 << 20;
/// When to try again after the process ran out of file descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// The server. Its tokens are `base` for the listener and those above for the clients.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    /// Removes the socket when the server goes.
    _file: SocketFile,
    base: usize,
    /// By token; slots are reused.
    clients: Vec<Option<Conn>>,
    accepting: bool,
    retry_accept: Option<Instant>,
    /// The user that may write, besides root.
    uid: u32,
}

impl Server {
    /// Listens where `[switch]` says.
    pub fn bind(switch: &Switch) -> Result<Server, BindError> {
        let (fd, file) = listen_on(&switch.socket, switch.socket_group.as_deref())?;
        Ok(Server {
            listener: UnixListener::from_std(StdListener::from(fd)),
            _file: file,
            base: 0,
            clients: Vec::new(),
            accepting: true,
            retry_accept: None,
            uid: nix::unistd::geteuid().as_raw(),
        })
    }

    /// Registers the listener, with `base` as its token. Tokens from there on are the server's.
    pub fn register(&mut self, registry: &Registry, base: Token) -> std::io::Result<()> {
        self.base = base.0;
        registry.register(&mut self.listener, base, Interest::READABLE)
    }

    /// Notes that a socket of the server's became ready.
    pub fn on_event(&mut self, event: &Event) {
        match event.token().0 - self.base {
            0 => self.accepting = true,
            n => {
                if let Some(Some(client)) = self.clients.get_mut(n - 1) {
                    // Errors and hang-ups show when reading.
                    let readable = event.is_readable() || event.is_read_closed();
                    client.ready(
                        readable || event.is_error(),
                        event.is_writable() || event.is_write_closed(),
                    );
                }
            }
        }
    }

    /// Whether [`Server::serve`] has something to do without waiting for an event.
    pub fn has_work(&self) -> bool {
        self.accepting || self.clients.iter().flatten().any(Conn::has_work)
    }

    /// When [`Server::serve`] must be called even if nothing happens.
    pub fn next_deadline(&self) -> Option<Instant> {
        let clients = self.clients.iter().flatten().filter_map(Conn::deadline);
        clients.chain(self.retry_accept).min()
    }

    /// How many clients are connected.
    pub fn clients(&self) -> usize {
        self.clients.iter().flatten().count()
    }

    /// Accepts, reads and answers: a slice of work for every client that is ready. Answers are
    /// queued; [`Server::flush`] writes them. Says whether any request that writes succeeded.
    pub fn serve(&mut self, registry: &Registry, backend: &mut dyn Backend, now: Instant) -> bool {
        if self.retry_accept.is_some_and(|at| at <= now) {
            self.retry_accept = None;
            self.accepting = true;
        }
        self.accept(registry, now);
        let mut wrote = false;
        let mut total: usize = self.clients.iter().flatten().map(Conn::pending).sum();
        for slot in &mut self.clients {
            let Some(client) = slot else { continue };
            if client.deadline().is_some_and(|at| at <= now) || client.fill(now).is_err() {
                *slot = None;
                continue;
            }
            let before = client.pending();
            for _ in 0..LINES_SLICE {
                match client.next() {
                    conn::Next::Line(line) => {
                        wrote |= answer::line(client, &line, self.uid, backend, now);
                    }
                    conn::Next::TooLong => {
                        answer::too_long(client, now);
                        break;
                    }
                    conn::Next::Wait => break,
                }
            }
            total += client.pending() - before;
            if total > OUTPUT_TOTAL {
                let who = client.peer.map(|p| p.to_string()).unwrap_or_default();
                tracing::warn!("too many unread answers: the client of {who} is dropped");
                total -= client.pending();
                *slot = None;
            }
        }
        wrote
    }

    /// Writes the queued answers, and ends the connections that are done.
    pub fn flush(&mut self, now: Instant) {
        for slot in &mut self.clients {
            if slot.as_mut().is_some_and(|c| c.flush(now).is_err() || c.is_done()) {
                *slot = None;
            }
        }
        while self.clients.last().is_some_and(Option::is_none) {
            self.clients.pop();
        }
    }

    fn accept(&mut self, registry: &Registry, now: Instant) {
        while self.accepting {
            match self.listener.accept() {
                Ok((stream, _)) => self.admit(stream, registry),
                Err(e) => match e.kind() {
                    std::io::ErrorKind::WouldBlock => self.accepting = false,
                    std::io::ErrorKind::Interrupted | std::io::ErrorKind::ConnectionAborted => {}
                    _ => {
                        // Out of descriptors or memory: the connection stays in the backlog, and
                        // no further event tells of it.
                        tracing::warn!("cannot accept a control connection: {e}");
                        self.accepting = false;
                        self.retry_accept = Some(now + ACCEPT_RETRY);
                    }
                },
            }
        }
    }

    fn admit(&mut self, mut stream: mio::net::UnixStream, registry: &Registry) {
        let slot = match self.clients.iter().position(Option::is_none) {
            Some(free) => free,
            None if self.clients.len() < MAX_CLIENTS => {
                self.clients.push(None);
                self.clients.len() - 1
            }
            None => {
                let message = format!("{MAX_CLIENTS} clients are connected: try again later");
                let reply = Reply::new(Id::Null, Err(Error::new(Code::Busy, message)));
                // A socket just made has room for a line; if not, its closing says enough.
                let _ = stream.write(&reply.to_line());
                return;
            }
        };
        let token = Token(self.base + 1 + slot);
        match registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE) {
            Ok(()) => self.clients[slot] = Some(Conn::new(stream)),
            Err(e) => tracing::warn!("cannot watch a control connection: {e}"),
        }
    }
}
