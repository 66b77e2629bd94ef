//! The envelope: JSON-RPC 2.0, one message a line.
//!
//! Pure functions on bytes. Read <https://www.jsonrpc.org/specification> first.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Number, Value};

use crate::error::{Code, Error};
use crate::method::{Request, Response};

/// The longest request in bytes, its newline not counted.
pub const MAX_MESSAGE: usize = 1 << 20;
/// The longest response in bytes: a client's bound, and the daemon's promise.
pub const MAX_RESPONSE: usize = 16 << 20;
/// The most requests in one batch.
pub const MAX_BATCH: usize = 256;

const VERSION: &str = "2.0";

/// What a response is matched to its request by.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Id {
    /// `null`: the request's own could not be read.
    Null,
    /// A number.
    Number(Number),
    /// A string.
    String(String),
}

impl From<u64> for Id {
    fn from(n: u64) -> Id {
        Id::Number(n.into())
    }
}

/// A request with its envelope.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// None for a notification, which is not answered.
    pub id: Option<Id>,
    /// What to do.
    pub request: Request,
}

/// A message that is no request that could be carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// None for a notification, which is not answered.
    pub id: Option<Id>,
    /// Why.
    pub error: Error,
}

impl Refusal {
    fn unidentified(code: Code, message: impl Into<String>) -> Refusal {
        Refusal { id: Some(Id::Null), error: Error::new(code, message) }
    }
}

/// A line, decoded.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "one at a time")]
pub enum Message {
    /// One request.
    One(Result<Call, Refusal>),
    /// Several requests, answered together.
    Batch(Vec<Result<Call, Refusal>>),
}

impl Call {
    /// The request as a line, newline included.
    pub fn to_line(&self) -> Vec<u8> {
        let mut object = Map::new();
        object.insert("jsonrpc".to_owned(), VERSION.into());
        if let Some(id) = &self.id {
            object.insert("id".to_owned(), id.to_value());
        }
        object.insert("method".to_owned(), self.request.method().into());
        match self.request.params() {
            Value::Object(params) if params.is_empty() => {}
            params => _ = object.insert("params".to_owned(), params),
        }
        line(&Value::Object(object))
    }
}

impl Id {
    fn to_value(&self) -> Value {
        match self {
            Id::Null => Value::Null,
            Id::Number(n) => Value::Number(n.clone()),
            Id::String(s) => Value::String(s.clone()),
        }
    }
}

/// Decodes one line, without its newline. Never fails: what is no request becomes a refusal, with
/// the `id` that its answer needs.
pub fn parse_request(line: &[u8]) -> Message {
    match serde_json::from_slice(line) {
        Err(e) => Message::One(Err(Refusal::unidentified(
            Code::Parse,
            format!("the line is not JSON: {e}; expected one JSON-RPC 2.0 request a line"),
        ))),
        Ok(Value::Array(items)) if items.is_empty() || items.len() > MAX_BATCH => {
            Message::One(Err(Refusal::unidentified(
                Code::InvalidRequest,
                format!("a batch of {}: expected 1 to {MAX_BATCH} requests", items.len()),
            )))
        }
        Ok(Value::Array(items)) => Message::Batch(items.into_iter().map(parse_one).collect()),
        Ok(value) => Message::One(parse_one(value)),
    }
}

fn parse_one(value: Value) -> Result<Call, Refusal> {
    let Value::Object(mut object) = value else {
        let error = "expected a JSON-RPC 2.0 request object";
        return Err(Refusal::unidentified(Code::InvalidRequest, error));
    };
    let id = match object.remove("id") {
        None => None,
        Some(Value::Null) => Some(Id::Null),
        Some(Value::Number(n)) => Some(Id::Number(n)),
        Some(Value::String(s)) => Some(Id::String(s)),
        Some(_) => {
            let error = "id: expected a string or a number";
            return Err(Refusal::unidentified(Code::InvalidRequest, error));
        }
    };
    // A request that is not valid as such is answered even without an id (section 5.1).
    let invalid = |message: &str| Refusal {
        id: Some(id.clone().unwrap_or(Id::Null)),
        error: Error::new(Code::InvalidRequest, message),
    };
    if object.get("jsonrpc").and_then(Value::as_str) != Some(VERSION) {
        return Err(invalid("jsonrpc: expected \"2.0\""));
    }
    let Some(Value::String(method)) = object.remove("method") else {
        return Err(invalid("method: expected the name of a method, like \"status.get\""));
    };
    let params = object.remove("params");
    if !matches!(params, None | Some(Value::Array(_) | Value::Object(_))) {
        return Err(invalid("params: expected an object"));
    }
    match Request::from_parts(&method, params) {
        Ok(request) => Ok(Call { id, request }),
        Err(error) => Err(Refusal { id, error }),
    }
}

/// An answer: the daemon's side of a response.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Reply {
    jsonrpc: &'static str,
    id: Id,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<Response>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Error>,
}

impl Reply {
    /// The answer to the request `id`.
    pub fn new(id: Id, outcome: Result<Response, Error>) -> Reply {
        let (result, error) = match outcome {
            Ok(result) => (Some(result), None),
            Err(error) => (None, Some(error)),
        };
        Reply { jsonrpc: VERSION, id, result, error }
    }

    /// The answer as a line, newline included.
    pub fn to_line(&self) -> Vec<u8> {
        line(self)
    }
}

fn line<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    // Serializing fails only for maps with keys that are no strings, and there are none.
    let mut out = serde_json::to_vec(value).unwrap_or_default();
    out.push(b'\n');
    out
}

/// A response as a client reads it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(try_from = "Map<String, Value>")]
pub struct RawReply {
    /// Which request it answers.
    pub id: Id,
    /// The result's JSON, or the error.
    pub outcome: Result<Value, Error>,
}

impl TryFrom<Map<String, Value>> for RawReply {
    type Error = String;

    fn try_from(mut object: Map<String, Value>) -> Result<RawReply, String> {
        let from = |v: Value| v.to_string();
        let id = object.remove("id").ok_or("the response has no id")?;
        let id = serde_json::from_value(id).map_err(|e| e.to_string())?;
        let outcome = match (object.remove("result"), object.remove("error")) {
            (Some(result), None) => Ok(result),
            (None, Some(error)) => Err(serde_json::from_value(error.clone())
                .map_err(|e| format!("{e}: {}", from(error)))?),
            _ => return Err("the response has neither a result nor an error".to_owned()),
        };
        Ok(RawReply { id, outcome })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::method::Empty;

    fn one(line: &str) -> Result<Call, Refusal> {
        match parse_request(line.as_bytes()) {
            Message::One(result) => result,
            batch => panic!("{batch:?}"),
        }
    }

    fn refused(line: &str) -> (Option<Id>, Code) {
        let r = one(line).unwrap_err();
        (r.id, r.error.code)
    }

    #[test]
    fn ids_of_every_kind_and_none() {
        let id = |line| one(line).unwrap().id;
        assert_eq!(id(r#"{"jsonrpc":"2.0","id":7,"method":"status.get"}"#), Some(7.into()));
        let s = Id::String("a".to_owned());
        assert_eq!(id(r#"{"jsonrpc":"2.0","id":"a","method":"status.get"}"#), Some(s));
        assert_eq!(
            id(r#"{"jsonrpc":"2.0","id":null,"method":"status.get","params":{}}"#),
            Some(Id::Null)
        );
        assert_eq!(id(r#"{"jsonrpc":"2.0","method":"status.get","params":[]}"#), None);
    }

    #[test]
    fn what_is_no_request_is_answered_by_the_specification() {
        let null = Some(Id::Null);
        assert_eq!(refused("{"), (null.clone(), Code::Parse));
        assert_eq!(refused(""), (null.clone(), Code::Parse));
        assert_eq!(refused("\u{0}\u{1}"), (null.clone(), Code::Parse));
        assert_eq!(refused("1"), (null.clone(), Code::InvalidRequest));
        assert_eq!(refused("[]"), (null.clone(), Code::InvalidRequest));
        assert_eq!(refused(r#"{"id":1}"#), (Some(1.into()), Code::InvalidRequest));
        assert_eq!(
            refused(r#"{"jsonrpc":"2.0","id":{},"method":"status.get"}"#),
            (null.clone(), Code::InvalidRequest)
        );
        assert_eq!(
            refused(r#"{"jsonrpc":"1.0","method":"status.get"}"#),
            (null, Code::InvalidRequest),
            "an invalid request is answered even without an id"
        );
        assert_eq!(
            refused(r#"{"jsonrpc":"2.0","id":1,"method":"status.get","params":3}"#),
            (Some(1.into()), Code::InvalidRequest)
        );
        assert_eq!(
            refused(r#"{"jsonrpc":"2.0","method":"no.such"}"#),
            (None, Code::MethodNotFound),
            "a notification is never answered"
        );
        assert_eq!(
            refused(r#"{"jsonrpc":"2.0","id":1,"method":"port.del","params":["a"]}"#),
            (Some(1.into()), Code::InvalidParams)
        );
    }

    #[test]
    fn batches_are_bounded() {
        let many = format!("[{}1]", "1,".repeat(MAX_BATCH));
        assert_eq!(refused(&many), (Some(Id::Null), Code::InvalidRequest));
        let Message::Batch(b) =
            parse_request(br#"[{"jsonrpc":"2.0","id":1,"method":"status.get"},1]"#)
        else {
            panic!("not a batch")
        };
        assert!(b[0].is_ok() && b[1].is_err());
    }

    #[test]
    fn deep_nesting_is_an_error_not_a_stack_overflow() {
        assert_eq!(refused(&"[".repeat(MAX_MESSAGE)).1, Code::Parse);
    }

    #[test]
    fn unknown_methods_get_a_suggestion() {
        let line = r#"{"jsonrpc":"2.0","id":1,"method":"port.lst"}"#;
        let e = one(line).unwrap_err().error;
        assert_eq!(e.message, "there is no method \"port.lst\": did you mean \"port.list\"?");
    }

    #[test]
    fn a_call_reads_back() {
        let call = Call { id: Some(3.into()), request: Request::StatusGet(Empty {}) };
        let bytes = call.to_line();
        assert_eq!(bytes, b"{\"id\":3,\"jsonrpc\":\"2.0\",\"method\":\"status.get\"}\n");
        assert_eq!(parse_request(&bytes[..bytes.len() - 1]), Message::One(Ok(call)));
    }

    #[test]
    fn a_reply_reads_back() {
        let error = Error::new(Code::NotFound, "there is no port \"a\"");
        let reply = Reply::new(Id::Null, Err(error.clone()));
        let raw: RawReply = serde_json::from_slice(&reply.to_line()).unwrap();
        assert_eq!(raw, RawReply { id: Id::Null, outcome: Err(error) });
    }
}
