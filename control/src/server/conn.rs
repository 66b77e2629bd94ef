//! One client's connection: bytes in, lines to answer, bytes out, all bounded.

use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use mio::net::UnixStream;
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use podswitch_api::rpc::MAX_MESSAGE;

use super::lines::LineDecoder;

/// Bytes read from a client before another one gets its turn.
const READ_SLICE: usize = 256 << 10;
/// With more unread answers than this, no further request of the client is looked at.
const OUTPUT_HIGH: usize = 1 << 20;
/// How long half a line may wait for its other half, and an answer for its reader.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Who the client is, by the kernel.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// Process.
    pub pid: i32,
    /// User.
    pub uid: u32,
}

impl std::fmt::Display for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "uid {} (process {})", self.uid, self.pid)
    }
}

/// A client's connection.
#[derive(Debug)]
pub struct Conn {
    /// The socket.
    pub stream: UnixStream,
    /// Who is at the other end; none when the kernel does not say, which is no right to write.
    pub peer: Option<Peer>,
    /// Lines in a row that were no requests.
    pub garbage: u32,
    input: LineDecoder,
    output: Vec<u8>,
    /// How much of `output` is written.
    written: usize,
    readable: bool,
    writable: bool,
    eof: bool,
    /// There may be complete lines that were not looked at yet.
    more: bool,
    closing: bool,
    /// Since when there is half a line.
    half_since: Option<Instant>,
    /// Since when the client has not read anything of its answers.
    unread_since: Option<Instant>,
}

/// What there is to do with a client.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// A line to answer.
    Line(Vec<u8>),
    /// The line is too long.
    TooLong,
    /// Nothing until the socket is ready again, or the client reads.
    Wait,
}

impl Conn {
    /// A connection just accepted.
    pub fn new(stream: UnixStream) -> Conn {
        let peer =
            getsockopt(&stream, PeerCredentials).ok().map(|c| Peer { pid: c.pid(), uid: c.uid() });
        Conn {
            stream,
            peer,
            garbage: 0,
            input: LineDecoder::new(MAX_MESSAGE),
            output: Vec::new(),
            written: 0,
            readable: true,
            writable: true,
            eof: false,
            more: false,
            closing: false,
            half_since: None,
            unread_since: None,
        }
    }

    /// The socket may be ready again.
    pub fn ready(&mut self, readable: bool, writable: bool) {
        self.readable |= readable;
        self.writable |= writable;
    }

    /// Whether there may be something to do without waiting for the socket.
    pub fn has_work(&self) -> bool {
        let input = self.more || (self.readable && !self.eof);
        let takes_input = !self.closing && self.pending() < OUTPUT_HIGH;
        (takes_input && input) || (self.pending() > 0 && self.writable)
    }

    /// Answers that are not written yet, in bytes.
    pub fn pending(&self) -> usize {
        self.output.len() - self.written
    }

    /// Reads what is there, up to a slice, so that one client cannot keep the others waiting.
    /// Reads nothing while lines wait to be answered, so that no more than that slice and half a
    /// line are ever held.
    pub fn fill(&mut self, now: Instant) -> io::Result<()> {
        if self.closing || self.more || self.pending() >= OUTPUT_HIGH {
            return Ok(());
        }
        let mut chunk = [0; 16 << 10];
        let mut slice = READ_SLICE;
        while self.readable && !self.eof && slice > 0 {
            match self.stream.read(&mut chunk) {
                Ok(0) => {
                    self.eof = true;
                    self.more = true;
                }
                Ok(n) => {
                    self.input.feed(&chunk[..n]);
                    self.more = true;
                    slice = slice.saturating_sub(n);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.readable = false,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        self.half_since = match self.input.rest() {
            [] => None,
            _ => self.half_since.or(Some(now)),
        };
        Ok(())
    }

    /// The next line to answer.
    pub fn next(&mut self) -> Next {
        if self.closing || self.pending() >= OUTPUT_HIGH {
            return Next::Wait;
        }
        match self.input.next_line() {
            Some(Ok(line)) => {
                self.half_since = None;
                Next::Line(line)
            }
            Some(Err(_)) => Next::TooLong,
            None if self.eof && !self.input.rest().is_empty() => {
                let line = self.input.rest().to_vec();
                self.input.clear();
                Next::Line(line)
            }
            None => {
                self.more = false;
                self.input.shrink();
                Next::Wait
            }
        }
    }

    /// Queues an answer.
    pub fn answer(&mut self, line: &[u8], now: Instant) {
        if self.pending() == 0 {
            self.unread_since = Some(now);
        }
        self.output.extend_from_slice(line);
    }

    /// Takes no further request, and ends once the answers are written.
    pub fn close(&mut self) {
        self.closing = true;
        self.input.clear();
    }

    /// Writes what the client takes.
    pub fn flush(&mut self, now: Instant) -> io::Result<()> {
        while self.pending() > 0 && self.writable {
            match self.stream.write(&self.output[self.written..]) {
                Ok(n) => {
                    self.written += n;
                    self.unread_since = Some(now);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.writable = false,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        if self.pending() == 0 {
            self.output.clear();
            self.output.shrink_to(64 << 10);
            self.written = 0;
            self.unread_since = None;
        } else if self.written > OUTPUT_HIGH {
            self.output.drain(..self.written);
            self.written = 0;
        }
        Ok(())
    }

    /// Whether the connection has come to its end.
    pub fn is_done(&self) -> bool {
        (self.closing || (self.eof && self.input.rest().is_empty())) && self.pending() == 0
    }

    /// When patience with the client ends.
    pub fn deadline(&self) -> Option<Instant> {
        // Half a line counts only while it is the client's turn.
        let half = self.half_since.filter(|_| self.pending() == 0);
        [half, self.unread_since].into_iter().flatten().min().map(|since| since + PATIENCE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Conn, std::os::unix::net::UnixStream) {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        (Conn::new(UnixStream::from_std(ours)), theirs)
    }

    #[test]
    fn no_more_is_read_while_lines_wait() {
        let (mut conn, mut client) = pair();
        let now = Instant::now();
        client.write_all(b"a\nb\nc").unwrap();
        conn.fill(now).unwrap();
        assert_eq!(conn.next(), Next::Line(b"a".to_vec()));
        assert!(conn.has_work(), "although the socket has nothing");
        client.write_all(b"d\n").unwrap();
        conn.ready(true, false);
        conn.fill(now).unwrap();
        assert_eq!(conn.input.rest(), b"b\nc", "b waits to be answered");
        assert_eq!(conn.next(), Next::Line(b"b".to_vec()));
        assert_eq!(conn.next(), Next::Wait);
        conn.fill(now).unwrap();
        assert_eq!(conn.next(), Next::Line(b"cd".to_vec()));
        assert_eq!(conn.next(), Next::Wait);
        assert!(!conn.has_work());
    }

    #[test]
    fn half_a_line_has_a_deadline_that_more_halves_do_not_move() {
        let (mut conn, mut client) = pair();
        let start = Instant::now();
        assert_eq!(conn.deadline(), None, "idle clients may stay");
        for i in 0..5 {
            client.write_all(b"x").unwrap();
            conn.ready(true, false);
            conn.fill(start + Duration::from_secs(i)).unwrap();
            assert_eq!(conn.next(), Next::Wait);
        }
        assert_eq!(conn.deadline(), Some(start + PATIENCE));
        client.write_all(b"\n").unwrap();
        conn.ready(true, false);
        conn.fill(start + PATIENCE / 2).unwrap();
        assert_eq!(conn.next(), Next::Line(b"xxxxx".to_vec()));
        assert_eq!(conn.deadline(), None, "the line is whole");
    }

    #[test]
    fn an_answer_has_a_deadline_that_reading_moves() {
        let (mut conn, mut client) = pair();
        let start = Instant::now();
        client.write_all(b"x\ny\n").unwrap();
        conn.fill(start).unwrap();
        assert_eq!(conn.next(), Next::Line(b"x".to_vec()));
        let answer = vec![b'a'; 4 << 20];
        conn.answer(&answer, start);
        conn.flush(start).unwrap();
        assert!(conn.pending() > 0, "more than a socket holds");
        assert_eq!(conn.deadline(), Some(start + PATIENCE));
        assert!(!conn.has_work(), "it waits for the client");
        assert_eq!(conn.next(), Next::Wait, "y must wait, too");

        let mut read = vec![0; 4 << 20];
        let later = start + PATIENCE / 2;
        client.read_exact(&mut read[..64 << 10]).unwrap();
        conn.ready(false, true);
        conn.flush(later).unwrap();
        assert_eq!(conn.deadline(), Some(later + PATIENCE));
        let reader = std::thread::spawn(move || {
            client.read_exact(&mut read[64 << 10..]).unwrap();
            read
        });
        while conn.pending() > 0 {
            conn.ready(false, true);
            conn.flush(later).unwrap();
        }
        assert!(reader.join().unwrap() == answer);
        assert_eq!(conn.deadline(), None);
        assert!(conn.has_work());
        assert_eq!(conn.next(), Next::Line(b"y".to_vec()));
        assert!(conn.output.capacity() <= 64 << 10, "the memory is given back");
    }
}
