//! A blocking client of the control socket.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::error::Error;
use crate::method::{Request, Response};
use crate::rpc::{Call, Id, MAX_MESSAGE, MAX_RESPONSE, RawReply};

/// How long a call may take unless [`Client::set_timeout`] says otherwise.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error(
        "cannot reach the daemon at {}: {source}: is `podswitch run` running, with this socket?",
        socket.display()
    )]
    Unreachable {
        /// The socket.
        socket: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
    /// The socket's owner and mode do not admit the caller.
    #[error(
        "permission denied on {}: run as root, or as a member of the socket's group to read",
        socket.display()
    )]
    Denied {
        /// The socket.
        socket: PathBuf,
    },
    /// The daemon does not answer in time.
    #[error("the daemon at {} did not answer within {:.1} s", socket.display(), after.as_secs_f32())]
    Timeout {
        /// The socket.
        socket: PathBuf,
        /// The time allowed.
        after: Duration,
    },
    /// The connection broke.
    #[error("lost the connection to the daemon at {}: {source}", socket.display())]
    Lost {
        /// The socket.
        socket: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
    /// The answer is not what the API says, or the request is too long for it.
    #[error("{0}")]
    Protocol(String),
    /// The daemon refused.
    #[error(transparent)]
    Refused(#[from] Error),
}

/// A connection to a daemon.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    socket: PathBuf,
    timeout: Duration,
    buffer: Vec<u8>,
    next_id: u64,
}

impl Client {
    /// Connects to the daemon that listens on `socket`.
    pub fn connect(socket: &Path) -> Result<Client, ClientError> {
        let stream = UnixStream::connect(socket).map_err(|source| match source.kind() {
            io::ErrorKind::PermissionDenied => ClientError::Denied { socket: socket.into() },
            _ => ClientError::Unreachable { socket: socket.into(), source },
        })?;
        Ok(Client::over(stream, socket))
    }

    /// A client on a connection that was made elsewhere; `socket` is for messages.
    pub fn over(stream: UnixStream, socket: &Path) -> Client {
        Client {
            stream,
            socket: socket.into(),
            timeout: DEFAULT_TIMEOUT,
            buffer: Vec::new(),
            next_id: 1,
        }
    }

    /// Bounds the time of each further call.
    pub fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = timeout;
    }

    /// Carries out a request and reads its typed result.
    pub fn call(&mut self, request: &Request) -> Result<Response, ClientError> {
        let result = self.call_raw(request)?;
        request.decode(result).map_err(|e| {
            let method = request.method();
            ClientError::Protocol(format!(
                "the daemon's answer to {method} is not understood: {e}: are daemon and client of \
                 the same version?"
            ))
        })
    }

    /// Carries out a request and hands its result over as JSON.
    pub fn call_raw(&mut self, request: &Request) -> Result<Value, ClientError> {
        let id = Id::from(self.next_id);
        self.next_id += 1;
        let line = Call { id: Some(id.clone()), request: request.clone() }.to_line();
        if line.len() > MAX_MESSAGE + 1 {
            let (is, method) = (line.len(), request.method());
            return Err(ClientError::Protocol(format!(
                "the request {method} has {is} bytes, more than the {MAX_MESSAGE} that a message \
                 may have: split it"
            )));
        }
        let deadline = Instant::now() + self.timeout;
        if let Err(e) = self.send(&line, deadline) {
            // A daemon that refuses the connection says why before it closes it.
            return Err(match self.read_reply(deadline) {
                Ok(RawReply { outcome: Err(refusal), .. }) => refusal.into(),
                _ => e,
            });
        }
        loop {
            let reply = self.read_reply(deadline)?;
            match reply.outcome {
                // `null` answers what could not be told apart: ours, since we wait for no other.
                Err(refusal) if reply.id == id || reply.id == Id::Null => {
                    return Err(refusal.into());
                }
                Ok(result) if reply.id == id => return Ok(result),
                // The late answer to a call that timed out.
                _ => {}
            }
        }
    }

    fn send(&mut self, mut line: &[u8], deadline: Instant) -> Result<(), ClientError> {
        while !line.is_empty() {
            let left = self.left(deadline)?;
            self.stream.set_write_timeout(Some(left)).map_err(|e| self.lost(e))?;
            match self.stream.write(line) {
                Ok(n) => line = &line[n..],
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(self.lost(e)),
            }
        }
        Ok(())
    }

    fn read_reply(&mut self, deadline: Instant) -> Result<RawReply, ClientError> {
        let mut scanned = 0;
        loop {
            if let Some(at) = self.buffer[scanned..].iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=scanned + at).collect();
                return serde_json::from_slice(&line).map_err(|e| {
                    ClientError::Protocol(format!(
                        "the daemon at {} does not speak JSON-RPC 2.0: {e}",
                        self.socket.display()
                    ))
                });
            }
            scanned = self.buffer.len();
            if scanned > MAX_RESPONSE {
                let socket = self.socket.display();
                let message =
                    format!("the daemon at {socket} sends more than {MAX_RESPONSE} bytes");
                return Err(ClientError::Protocol(message));
            }
            let left = self.left(deadline)?;
            self.stream.set_read_timeout(Some(left)).map_err(|e| self.lost(e))?;
            let mut chunk = [0; 16384];
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(self.lost(io::ErrorKind::UnexpectedEof.into())),
                Ok(n) => self.buffer.extend_from_slice(&chunk[..n]),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(self.lost(e)),
            }
        }
    }

    fn left(&self, deadline: Instant) -> Result<Duration, ClientError> {
        let left = deadline.saturating_duration_since(Instant::now());
        // A zero timeout would mean none.
        if left.is_zero() { Err(self.timed_out()) } else { Ok(left) }
    }

    fn timed_out(&self) -> ClientError {
        ClientError::Timeout { socket: self.socket.clone(), after: self.timeout }
    }

    fn lost(&self, source: io::Error) -> ClientError {
        match source.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => self.timed_out(),
            _ => ClientError::Lost { socket: self.socket.clone(), source },
        }
    }
}
