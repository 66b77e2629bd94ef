//! Requests to the kernel over one netlink socket (RFC 3549), synchronously: a request, then
//! its answers up to the acknowledgement or the end of the dump.
//!
//! Knows framing, acknowledgements and errors, and nothing of what the messages mean.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

use netlink_packet_core::{
    Emitable, NLM_F_ACK, NLM_F_ACK_TLVS, NLM_F_CAPPED, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST,
    NLMSG_DONE, NLMSG_ERROR, NLMSG_NOOP, NLMSG_OVERRUN, NetlinkBuffer, NetlinkHeader, NlasIterator,
};
use netlink_sys::{Socket, SocketAddr};
use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::TimeVal;

use crate::error::{Error, Result};

/// Size of `struct nlmsghdr`, bytes.
const HEADER_LEN: usize = 16;
/// Attribute of an extended acknowledgement that holds a text (`NLMSGERR_ATTR_MSG`).
const NLMSGERR_ATTR_MSG: u16 = 1;
/// The kernel never builds a netlink datagram larger than this for a reader who offers it.
const RECEIVE_BUFFER: usize = 64 * 1024;
/// How often a dump is read again when the table changed under it.
const DUMP_ATTEMPTS: usize = 16;
/// The kernel answers within the send call; an answer that takes this long is lost.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// One answer: the message type and what follows the netlink header.
#[derive(Debug)]
pub(crate) struct Answer {
    pub kind: u16,
    pub payload: Vec<u8>,
}

/// How a request ended, other than well.
#[derive(Debug)]
enum Failure {
    Refused {
        errno: Errno,
        detail: Option<String>,
    },
    Io(io::Error),
    Malformed(String),
    /// The answer is incomplete: the table changed, or the socket's buffer ran over.
    Again,
}

impl From<io::Error> for Failure {
    fn from(e: io::Error) -> Failure {
        Failure::Io(e)
    }
}

impl Failure {
    fn into_error(self, what: String) -> Error {
        match self {
            Failure::Refused { errno, detail } => Error::Kernel { what, errno, detail },
            Failure::Io(source) => Error::Io { what, source },
            Failure::Malformed(reason) => Error::Protocol { what, reason },
            Failure::Again => Error::Unstable { what },
        }
    }
}

/// A blocking netlink socket for requests. It belongs to the network namespace of the thread
/// that opened it, for ever.
#[derive(Debug)]
pub(crate) struct Requester {
    socket: Socket,
    sequence: Cell<u32>,
}

impl Requester {
    /// Opens a socket of `protocol` (`NETLINK_ROUTE`, …) in the thread's namespace.
    pub fn open(protocol: isize) -> io::Result<Requester> {
        let mut socket = Socket::new(protocol)?;
        socket.bind_auto()?;
        // Errors come with the kernel's explanation, and without a copy of the request.
        socket.set_ext_ack(true)?;
        socket.set_cap_ack(true)?;
        // Filters of dumps are applied by the kernel, and refused when it does not know them.
        // Kernels before 4.20 lack it; all results are filtered here again.
        if let Err(e) = socket.set_netlink_get_strict_chk(true) {
            tracing::debug!(error = %e, "netlink: no strict checking in this kernel");
        }
        setsockopt(
            &socket,
            sockopt::ReceiveTimeout,
            &TimeVal::new(ANSWER_TIMEOUT.as_secs() as i64, 0),
        )?;
        Ok(Requester { socket, sequence: Cell::new(0) })
    }

    /// Sends a request and waits for its acknowledgement; returns the answers before it.
    ///
    /// `what` names the action for errors; it is called only when there is one.
    pub fn request(
        &self,
        kind: u16,
        flags: u16,
        payload: &[u8],
        what: impl FnOnce() -> String,
    ) -> Result<Vec<Answer>> {
        self.exchange(kind, flags | NLM_F_REQUEST | NLM_F_ACK, payload)
            .map_err(|e| e.into_error(what()))
    }

    /// Reads a whole table; reads it again when it changed meanwhile.
    pub fn dump(
        &self,
        kind: u16,
        payload: &[u8],
        what: impl FnOnce() -> String,
    ) -> Result<Vec<Answer>> {
        for _ in 0..DUMP_ATTEMPTS {
            match self.exchange(kind, NLM_F_REQUEST | NLM_F_DUMP, payload) {
                Err(Failure::Again) => {}
                other => return other.map_err(|e| e.into_error(what())),
            }
        }
        Err(Failure::Again.into_error(what()))
    }

    fn exchange(&self, kind: u16, flags: u16, payload: &[u8]) -> Result<Vec<Answer>, Failure> {
        let sequence = self.sequence.get().wrapping_add(1);
        self.sequence.set(sequence);

        let mut header = NetlinkHeader::default();
        header.length = (HEADER_LEN + payload.len()) as u32;
        header.message_type = kind;
        header.flags = flags;
        header.sequence_number = sequence;
        let mut message = vec![0; HEADER_LEN + payload.len()];
        header.emit(&mut message);
        message[HEADER_LEN..].copy_from_slice(payload);
        retry(|| self.socket.send_to(&message, &SocketAddr::new(0, 0), 0))?;

        let mut answers = Vec::new();
        let mut interrupted = false;
        let mut buffer = Vec::with_capacity(RECEIVE_BUFFER);
        loop {
            if !receive(&self.socket, &mut buffer, 0).map_err(|e| self.lost(e))? {
                continue;
            }
            for message in messages(&buffer) {
                let message = message.map_err(Failure::Malformed)?;
                // What an earlier request that failed half way left behind.
                if message.sequence_number() != sequence {
                    continue;
                }
                interrupted |= message.flags() & NLM_F_DUMP_INTR != 0;
                match message.message_type() {
                    NLMSG_ERROR | NLMSG_DONE => {
                        result_of(&message)?;
                        return if interrupted { Err(Failure::Again) } else { Ok(answers) };
                    }
                    NLMSG_NOOP => {}
                    NLMSG_OVERRUN => return Err(Failure::Again),
                    kind => answers.push(Answer { kind, payload: message.payload().to_vec() }),
                }
            }
        }
    }

    /// What an error of the receive call means: when the buffer ran over, the answer has holes
    /// and what is still queued belongs to nobody.
    fn lost(&self, e: io::Error) -> Failure {
        match Errno::from_raw(e.raw_os_error().unwrap_or(0)) {
            Errno::ENOBUFS => {
                let mut scratch = Vec::with_capacity(RECEIVE_BUFFER);
                while receive(&self.socket, &mut scratch, libc::MSG_DONTWAIT).is_ok() {}
                Failure::Again
            }
            Errno::EAGAIN => {
                Failure::Malformed(format!("no answer within {} s", ANSWER_TIMEOUT.as_secs()))
            }
            _ => Failure::Io(e),
        }
    }
}

impl AsRawFd for Requester {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl AsFd for Requester {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Receives one datagram into `buffer`. `false`: it did not come from the kernel, or was longer
/// than the buffer (the kernel then repeats nothing; the caller must treat it as lost).
pub(crate) fn receive(socket: &Socket, buffer: &mut Vec<u8>, flags: i32) -> io::Result<bool> {
    buffer.clear();
    let (length, sender) = retry(|| socket.recv_from(buffer, flags | libc::MSG_TRUNC))?;
    if length > buffer.len() {
        return Err(io::Error::from_raw_os_error(libc::ENOBUFS));
    }
    Ok(sender.port_number() == 0)
}

fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// The messages of a datagram, each with a checked length.
pub(crate) fn messages(
    datagram: &[u8],
) -> impl Iterator<Item = Result<NetlinkBuffer<&[u8]>, String>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let message = match NetlinkBuffer::new_checked(rest) {
            Ok(m) if m.length() as usize >= HEADER_LEN => m,
            Ok(m) => {
                rest = &[];
                return Some(Err(format!("a message of {} bytes", m.length())));
            }
            Err(e) => {
                rest = &[];
                return Some(Err(e.to_string()));
            }
        };
        let length = message.length() as usize;
        let message = NetlinkBuffer::new(&rest[..length]);
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some(Ok(message))
    })
}

/// The outcome that an `NLMSG_ERROR` or `NLMSG_DONE` message carries.
fn result_of(message: &NetlinkBuffer<&[u8]>) -> Result<(), Failure> {
    let payload = message.payload();
    // A DONE without a code is a plain end of a dump.
    let Some((code, mut rest)) = payload.split_first_chunk::<4>() else {
        return Ok(());
    };
    let code = i32::from_ne_bytes(*code);
    if code >= 0 {
        return Ok(());
    }
    let detail = (message.flags() & NLM_F_ACK_TLVS != 0)
        .then(|| {
            if message.message_type() == NLMSG_ERROR {
                // The header of the request, and the whole of it when it was not capped.
                let request = NetlinkBuffer::new_checked(rest);
                let copied = match request {
                    Ok(r) if message.flags() & NLM_F_CAPPED == 0 => r.length() as usize,
                    _ => HEADER_LEN,
                };
                rest = rest.get(copied.next_multiple_of(4)..).unwrap_or(&[]);
            }
            NlasIterator::new(rest)
                .filter_map(|attribute| attribute.ok())
                .find(|attribute| attribute.kind() == NLMSGERR_ATTR_MSG)
                .map(|attribute| {
                    String::from_utf8_lossy(attribute.value()).trim_end_matches('\0').to_owned()
                })
        })
        .flatten();
    Err(Failure::Refused { errno: Errno::from_raw(code.saturating_neg()), detail })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A netlink message of `kind` with `flags` and `payload`.
    fn message(kind: u16, flags: u16, payload: &[u8]) -> Vec<u8> {
        let mut header = NetlinkHeader::default();
        header.length = (HEADER_LEN + payload.len()) as u32;
        header.message_type = kind;
        header.flags = flags;
        let mut bytes = vec![0; HEADER_LEN];
        header.emit(&mut bytes);
        bytes.extend_from_slice(payload);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn outcome(bytes: &[u8]) -> Result<(), (Errno, Option<String>)> {
        let message = messages(bytes).next().unwrap().unwrap();
        result_of(&message).map_err(|e| match e {
            Failure::Refused { errno, detail } => (errno, detail),
            other => panic!("{other:?}"),
        })
    }

    /// `NLMSGERR_ATTR_OFFS` and `NLMSGERR_ATTR_MSG`, as the kernel sends them.
    fn explanation(text: &str) -> Vec<u8> {
        let mut bytes = vec![8, 0, 2, 0, 24, 0, 0, 0];
        bytes.extend_from_slice(&(4 + text.len() as u16 + 1).to_ne_bytes());
        bytes.extend_from_slice(&NLMSGERR_ATTR_MSG.to_ne_bytes());
        bytes.extend_from_slice(text.as_bytes());
        bytes.push(0);
        bytes
    }

    #[test]
    fn acknowledgements_and_plain_errors() {
        let request = message(16, 0, &[]);
        let ack = [&0i32.to_ne_bytes()[..], &request].concat();
        assert_eq!(outcome(&message(NLMSG_ERROR, NLM_F_CAPPED, &ack)), Ok(()));
        let refusal = [&(-17i32).to_ne_bytes()[..], &request].concat();
        let refusal = message(NLMSG_ERROR, NLM_F_CAPPED, &refusal);
        assert_eq!(outcome(&refusal), Err((Errno::EEXIST, None)));
        assert_eq!(outcome(&message(NLMSG_DONE, 0, &[])), Ok(()));
        assert_eq!(outcome(&message(NLMSG_DONE, 0, &0i32.to_ne_bytes())), Ok(()));
    }

    #[test]
    fn explanations_follow_the_request_whole_or_capped() {
        let request = message(16, 0, &[1, 2, 3, 4, 5]);
        let text = "Invalid MTU";
        let expected = Err((Errno::EINVAL, Some(text.to_owned())));
        let code = (-22i32).to_ne_bytes();
        let whole = [&code[..], &request, &explanation(text)].concat();
        assert_eq!(outcome(&message(NLMSG_ERROR, NLM_F_ACK_TLVS, &whole)), expected);
        let capped = [&code[..], &request[..HEADER_LEN], &explanation(text)].concat();
        let flags = NLM_F_ACK_TLVS | NLM_F_CAPPED;
        assert_eq!(outcome(&message(NLMSG_ERROR, flags, &capped)), expected);
        // At the end of a dump there is no request.
        let done = [&code[..], &explanation(text)].concat();
        assert_eq!(outcome(&message(NLMSG_DONE, NLM_F_ACK_TLVS, &done)), expected);
        // Cut short anywhere, it is still the error.
        for n in 4..whole.len() {
            let cut = message(NLMSG_ERROR, NLM_F_ACK_TLVS, &whole[..n]);
            assert_eq!(outcome(&cut).unwrap_err().0, Errno::EINVAL);
        }
    }

    #[test]
    fn a_datagram_is_taken_apart_and_never_read_beyond() {
        let one = message(16, 0, &[1, 2, 3]);
        let two = message(17, 0, &[4, 5, 6, 7]);
        let both = [one.clone(), two.clone()].concat();
        let parts: Vec<_> = messages(&both).map(|m| m.unwrap()).collect();
        assert_eq!(parts.iter().map(|m| m.message_type()).collect::<Vec<_>>(), [16, 17]);
        assert_eq!(parts[0].payload(), [1, 2, 3]);
        assert_eq!(parts[1].payload(), [4, 5, 6, 7]);
        assert_eq!(messages(&[]).count(), 0);
        for n in 1..two.len() {
            let cut: Vec<_> = messages(&two[..n]).collect();
            assert!(cut.len() == 1 && cut[0].is_err(), "{n} bytes");
        }
        // A length that does not even cover the header must not loop.
        let mut short = two;
        short[0] = 0;
        assert_eq!(messages(&short).map(|m| m.is_err()).collect::<Vec<_>>(), [true]);
    }
}
