//! What the control plane's front end asks of the switch behind it.

use std::os::fd::BorrowedFd;
use std::time::Instant;

use podswitch_api::{Error, Request, Response};

/// The switch as the daemon sees it. All methods run on the control thread; none may block for
/// long, since no client is served meanwhile.
pub trait Backend {
    /// Carries out a request, wholly or not at all. The response is the variant of the request's
    /// name. The right to write has been checked.
    fn call(&mut self, request: Request) -> Result<Response, Error>;

    /// File descriptors that wake the daemon when they become readable, such as a netlink socket.
    /// Asked for once, after the start; the position in the list is the descriptor's token.
    fn fds(&self) -> Vec<BorrowedFd<'_>> {
        Vec::new()
    }

    /// The descriptor of this token became readable. Notification is edge-triggered: read until
    /// it would block.
    fn on_fd(&mut self, token: usize) {
        let _ = token;
    }

    /// When [`Backend::on_timer`] wants to be called next; asked before every sleep.
    fn next_deadline(&self) -> Option<Instant> {
        None
    }

    /// The deadline has passed.
    fn on_timer(&mut self, now: Instant) {
        let _ = now;
    }

    /// Undoes what was done to the system: interfaces, routes, links, pins. Called once, on a
    /// clean exit, after the last request.
    fn stop(&mut self) -> Result<(), Error> {
        Ok(())
    }
}
