//! The way to the daemon: its control socket, with every wait bounded.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, UnixAddr, connect, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;
use podswitch_api::attachment::{
    Attachment, AttachmentAdd, AttachmentCheck, AttachmentConfigure, AttachmentGc, AttachmentId,
    AttachmentStatus, Checked, Readiness, Removed,
};
use podswitch_api::{Client, ClientError, Code, Request, Response};

/// How long a call may take in all. Runtimes wait for minutes; a daemon that takes this long hangs.
const TIMEOUT: Duration = Duration::from_secs(20);
/// How long to wait before asking a busy daemon again.
const BUSY_PAUSE: Duration = Duration::from_millis(20);

/// A connection to the daemon.
#[derive(Debug)]
pub struct Daemon {
    client: Client,
    deadline: Instant,
}

/// Carries out a request and takes the answer of its kind.
macro_rules! call {
    ($self:ident, $method:ident($params:expr)) => {
        match $self.call(&Request::$method($params))? {
            Response::$method(result) => Ok(result),
            other => Err(ClientError::Protocol(format!("an answer to something else: {other:?}"))),
        }
    };
}

impl Daemon {
    /// Connects to the daemon that listens on `socket`, and says so at once when nobody does.
    pub fn connect(socket: &Path) -> Result<Daemon, ClientError> {
        let deadline = Instant::now() + TIMEOUT;
        let client = Client::over(reach(socket)?, socket);
        Ok(Daemon { client, deadline })
    }

    /// `attachment.add`
    pub fn add(&mut self, params: AttachmentAdd) -> Result<Attachment, ClientError> {
        call!(self, AttachmentAdd(params))
    }

    /// `attachment.configure`
    pub fn configure(&mut self, params: AttachmentConfigure) -> Result<Attachment, ClientError> {
        call!(self, AttachmentConfigure(params))
    }

    /// `attachment.del`
    pub fn del(&mut self, id: AttachmentId) -> Result<Removed, ClientError> {
        call!(self, AttachmentDel(id))
    }

    /// `attachment.check`
    pub fn check(&mut self, params: AttachmentCheck) -> Result<Checked, ClientError> {
        call!(self, AttachmentCheck(params))
    }

    /// `attachment.gc`
    pub fn gc(&mut self, params: AttachmentGc) -> Result<Removed, ClientError> {
        call!(self, AttachmentGc(params))
    }

    /// `attachment.status`
    pub fn status(&mut self, params: AttachmentStatus) -> Result<Readiness, ClientError> {
        call!(self, AttachmentStatus(params))
    }

    fn call(&mut self, request: &Request) -> Result<Response, ClientError> {
        self.client.set_timeout(self.deadline.saturating_duration_since(Instant::now()));
        self.client.call(request)
    }
}

/// Whether the daemon is not there, or as good as: it may not have heard of the request, and DEL
/// has to do without it.
pub fn is_down(e: &ClientError) -> bool {
    match e {
        ClientError::Unreachable { .. }
        | ClientError::Timeout { .. }
        | ClientError::Lost { .. } => true,
        ClientError::Refused(refusal) => refusal.code == Code::Busy,
        ClientError::Denied { .. } | ClientError::Protocol(_) => false,
    }
}

/// Does something with a connection; when too many clients are connected, again a little later.
pub fn with<T>(
    socket: &Path,
    mut work: impl FnMut(&mut Daemon) -> Result<T, ClientError>,
) -> Result<T, ClientError> {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        match Daemon::connect(socket).and_then(|mut daemon| work(&mut daemon)) {
            Err(ClientError::Refused(e)) if e.code == Code::Busy && Instant::now() < deadline => {
                thread::sleep(BUSY_PAUSE);
            }
            outcome => return outcome,
        }
    }
}

/// A connected stream. Unlike the standard library's, the wait for a place in the queue of a
/// daemon that does not accept is bounded (`SO_SNDTIMEO`, unix(7)).
fn reach(path: &Path) -> Result<UnixStream, ClientError> {
    let failed = |errno: Errno| {
        let socket = path.to_owned();
        match errno {
            Errno::EACCES | Errno::EPERM => ClientError::Denied { socket },
            Errno::EAGAIN => ClientError::Timeout { socket, after: TIMEOUT },
            errno => ClientError::Unreachable {
                socket,
                source: io::Error::from_raw_os_error(errno as i32),
            },
        }
    };
    let address = UnixAddr::new(path).map_err(failed)?;
    let stream = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)
        .map_err(failed)?;
    let seconds = TimeVal::new(TIMEOUT.as_secs().cast_signed(), 0);
    setsockopt(&stream, sockopt::SendTimeout, &seconds).map_err(failed)?;
    connect(std::os::fd::AsRawFd::as_raw_fd(&stream), &address).map_err(failed)?;
    Ok(UnixStream::from(stream))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_listens() {
        let error = Daemon::connect(Path::new("/nonexistent/socket")).unwrap_err();
        assert!(matches!(error, ClientError::Unreachable { .. }) && is_down(&error), "{error}");
        // Longer than an address can be (unix(7): 108 bytes).
        let long = format!("/{}", "a".repeat(200));
        assert!(is_down(&Daemon::connect(Path::new(&long)).unwrap_err()));
    }
}
