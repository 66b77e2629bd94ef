//! What a refused or failed request is answered with.

use core::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $code:literal $name:literal;)*) => {
        /// Why a request failed: the `code` of a JSON-RPC error.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code {
            $($(#[$doc])* $variant,)*
            /// A code that this version does not know.
            Other(i64),
        }

        impl Code {
            /// Every code that this version knows.
            pub const ALL: &[Code] = &[$(Code::$variant,)*];

            /// The number on the wire.
            pub const fn number(self) -> i64 {
                match self { $(Code::$variant => $code,)* Code::Other(n) => n }
            }

            /// A short name for people.
            pub const fn name(self) -> &'static str {
                match self { $(Code::$variant => $name,)* Code::Other(_) => "unknown error" }
            }
        }

        impl From<i64> for Code {
            fn from(n: i64) -> Code {
                match n { $($code => Code::$variant,)* n => Code::Other(n) }
            }
        }
    };
}

codes! {
    /// The line is not JSON (JSON-RPC 2.0 section 5.1).
    Parse = -32700 "parse error";
    /// The JSON is not a request.
    InvalidRequest = -32600 "invalid request";
    /// There is no such method.
    MethodNotFound = -32601 "method not found";
    /// The parameters have the wrong shape, or make no sense; `data` names the field.
    InvalidParams = -32602 "invalid parameters";
    /// A bug of the daemon.
    Internal = -32603 "internal error";
    /// The caller may read but not write.
    PermissionDenied = -32001 "permission denied";
    /// The object to be removed does not exist.
    NotFound = -32002 "not found";
    /// An object of this name exists.
    AlreadyExists = -32003 "already exists";
    /// Another object refers to the one to be removed; `data` names it.
    InUse = -32004 "in use";
    /// The setting is fixed while the daemon runs.
    NeedsRestart = -32005 "needs a restart";
    /// The kernel refused: no such interface or namespace, already taken, out of memory.
    System = -32006 "system error";
    /// The kernel or the interface cannot do it at all.
    Unsupported = -32007 "unsupported";
    /// No address, or no port, is left.
    Exhausted = -32008 "exhausted";
    /// The line is longer than [`MAX_MESSAGE`](crate::rpc::MAX_MESSAGE); the connection is closed.
    MessageTooLong = -32010 "message too long";
    /// Too many lines that were no requests; the connection is closed.
    TooManyErrors = -32011 "too many errors";
    /// Too many clients, or a client that does not read its answers; the connection is closed.
    Busy = -32012 "busy";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_i64(self.number())
    }
}

impl<'de> Deserialize<'de> for Code {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Code, D::Error> {
        Ok(Code::from(i64::deserialize(d)?))
    }
}

/// A field whose value is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldError {
    /// Which field, such as `tunnel "node2".vni` or `port[0].ip`.
    pub field: String,
    /// What it held; empty when it is missing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub value: String,
    /// What it should hold, as the end of the sentence "expected …".
    pub expected: String,
    /// Where the field is, for whoever has the document with its line numbers.
    #[serde(skip)]
    pub place: Place,
}

/// Where a field is in the desired state: `tunnel[1].vni` is `("tunnel", Some(1), "vni")`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The section's key in the document; empty when unknown.
    pub section: &'static str,
    /// Which one of an array of tables.
    pub index: Option<usize>,
    /// The key in the table; empty for the table as a whole.
    pub key: &'static str,
}

impl FieldError {
    /// A field error without a place in a document.
    pub fn new(
        field: impl Into<String>,
        value: impl fmt::Display,
        expected: impl Into<String>,
    ) -> FieldError {
        let place = Place::default();
        FieldError {
            field: field.into(),
            value: value.to_string(),
            expected: expected.into(),
            place,
        }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.field)?;
        if !self.value.is_empty() {
            write!(f, " = {}", self.value)?;
        }
        write!(f, ": expected {}", self.expected)
    }
}

impl std::error::Error for FieldError {}

/// The error of a JSON-RPC response.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Error {
    /// Why.
    pub code: Code,
    /// One sentence that names the thing and the cure.
    pub message: String,
    /// The field that is to blame, when there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Box<ErrorData>>,
}

/// The field that is to blame for an error, and further ones.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorData {
    /// The first field that is wrong.
    #[serde(flatten)]
    pub first: FieldError,
    /// Further fields that are wrong.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub more: Vec<FieldError>,
}

impl Error {
    /// An error without a field.
    pub fn new(code: Code, message: impl Into<String>) -> Error {
        Error { code, message: message.into(), data: None }
    }

    /// An error about one field; the message is the field error's sentence.
    pub fn field(code: Code, first: FieldError) -> Error {
        let message = first.to_string();
        Error { code, message, data: Some(Box::new(ErrorData { first, more: Vec::new() })) }
    }

    /// Invalid parameters: all that [`State::validate`](crate::State::validate) found.
    pub fn invalid(errors: Vec<FieldError>) -> Error {
        let mut errors = errors.into_iter();
        let Some(first) = errors.next() else {
            return Error::new(Code::InvalidParams, "the parameters are invalid");
        };
        let more: Vec<FieldError> = errors.collect();
        let mut message = first.to_string();
        if !more.is_empty() {
            message = format!("{message} (and {} more)", more.len());
        }
        Error {
            code: Code::InvalidParams,
            message,
            data: Some(Box::new(ErrorData { first, more })),
        }
    }

    /// The kernel refused something that an operator can change.
    pub fn system(message: impl Into<String>) -> Error {
        Error::new(Code::System, message)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}
