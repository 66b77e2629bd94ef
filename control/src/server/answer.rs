//! What a line is answered with.

use std::time::Instant;

use podswitch_api::rpc::{Call, Id, MAX_MESSAGE, MAX_RESPONSE, Message, Refusal, Reply};
use podswitch_api::{Code, Error, Request, parse_request};

use super::conn::{Conn, Peer};
use crate::backend::Backend;

/// Lines in a row that are no requests, after which a client is given up.
pub const GARBAGE_MAX: u32 = 16;

/// Answers one line of a client. Says whether it wrote.
pub fn line(
    client: &mut Conn,
    line: &[u8],
    uid: u32,
    backend: &mut dyn Backend,
    now: Instant,
) -> bool {
    if line.trim_ascii().is_empty() {
        return false;
    }
    let mut turn = Turn { peer: client.peer, uid, backend, wrote: false };
    let (answer, garbage) = match parse_request(line) {
        Message::One(call) => {
            let garbage = is_garbage(&call);
            (turn.answer(call, MAX_RESPONSE).unwrap_or_default(), garbage)
        }
        Message::Batch(calls) => {
            let garbage = calls.iter().any(is_garbage);
            (turn.batch(calls), garbage)
        }
    };
    let wrote = turn.wrote;
    client.answer(&answer, now);
    client.garbage = if garbage { client.garbage + 1 } else { 0 };
    if client.garbage >= GARBAGE_MAX {
        let message = format!("{GARBAGE_MAX} lines in a row are no requests: closing");
        let reply = Reply::new(Id::Null, Err(Error::new(Code::TooManyErrors, message)));
        client.answer(&reply.to_line(), now);
        client.close();
    }
    wrote
}

/// Answers a line that is too long to be looked at.
pub fn too_long(client: &mut Conn, now: Instant) {
    let message = format!("a line of more than {MAX_MESSAGE} bytes: expected less; closing");
    let reply = Reply::new(Id::Null, Err(Error::new(Code::MessageTooLong, message)));
    client.answer(&reply.to_line(), now);
    client.close();
}

fn is_garbage(call: &Result<Call, Refusal>) -> bool {
    let code = call.as_ref().err().map(|refusal| refusal.error.code);
    matches!(code, Some(Code::Parse | Code::InvalidRequest))
}

struct Turn<'a> {
    peer: Option<Peer>,
    uid: u32,
    backend: &'a mut dyn Backend,
    wrote: bool,
}

impl Turn<'_> {
    /// The answer to one request as a line, none for a notification. An answer of more than
    /// `room` bytes becomes an error.
    fn answer(&mut self, call: Result<Call, Refusal>, room: usize) -> Option<Vec<u8>> {
        let (id, outcome) = match call {
            Err(refusal) => (refusal.id, Err(refusal.error)),
            Ok(call) => (call.id, self.carry_out(call.request)),
        };
        let id = id?;
        let line = Reply::new(id.clone(), outcome).to_line();
        if line.len() <= room {
            return Some(line);
        }
        let message = format!(
            "the answer has {} bytes, more than the {MAX_RESPONSE} that a message may have: ask \
             for less, with a filter or in a batch of its own",
            line.len()
        );
        Some(Reply::new(id, Err(Error::new(Code::MessageTooLong, message))).to_line())
    }

    /// The answers to a batch, as one line; nothing when there are only notifications.
    fn batch(&mut self, calls: Vec<Result<Call, Refusal>>) -> Vec<u8> {
        let mut out = Vec::new();
        for call in calls {
            let Some(line) = self.answer(call, MAX_RESPONSE.saturating_sub(out.len())) else {
                continue;
            };
            out.push(if out.is_empty() { b'[' } else { b',' });
            out.extend_from_slice(line.trim_ascii_end());
        }
        if !out.is_empty() {
            out.extend_from_slice(b"]\n");
        }
        out
    }

    fn carry_out(&mut self, request: Request) -> Result<podswitch_api::Response, Error> {
        let writes = request.writes();
        let method = request.method();
        // A routing protocol's changes are many, and nothing that is kept.
        let announces = matches!(request, Request::RouteUpdate(_));
        if writes {
            self.may_write(method)?;
        }
        let start = Instant::now();
        let outcome = self.backend.call(request);
        if writes {
            let took = start.elapsed().as_secs_f64() * 1e3;
            let who = self.peer.map_or_else(|| "an unknown user".to_owned(), |p| p.to_string());
            match &outcome {
                Ok(_) if announces => tracing::debug!("{method} by {who}, in {took:.2} ms"),
                Ok(_) => {
                    tracing::info!("{method} by {who}, in {took:.2} ms");
                    // Attachments are kept apart, before the answer is made.
                    self.wrote |= !method.starts_with("attachment.");
                }
                Err(e) => tracing::info!("{method} by {who} failed, in {took:.2} ms: {e}"),
            }
        }
        outcome
    }

    fn may_write(&self, method: &str) -> Result<(), Error> {
        let who = match self.peer {
            Some(peer) if peer.uid == 0 || peer.uid == self.uid => return Ok(()),
            Some(peer) => peer.to_string(),
            None => "an unknown user".to_owned(),
        };
        let daemon = if self.uid == 0 { String::new() } else { format!(" or as uid {}", self.uid) };
        Err(Error::new(
            Code::PermissionDenied,
            format!("{method} writes, and {who} may only read: run it as root{daemon}"),
        ))
    }
}
