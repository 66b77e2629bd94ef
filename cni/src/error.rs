//! Errors as the CNI specification wants them (section 5, "Error").

use core::fmt;

use podswitch_api::{ClientError, Code as ApiCode};
use serde_json::{Value, json};

use crate::version::Version;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal $summary:literal;)*) => {
        /// What went wrong, as a number. Those below 100 are the specification's.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code {
            $($(#[$doc])* $name,)*
            /// The error of a delegated plugin, whose numbers are its own.
            Delegate(u32),
        }

        impl Code {
            /// Every code of our own.
            pub const ALL: &[Code] = &[$(Code::$name,)*];

            /// The number on the wire.
            pub const fn number(self) -> u32 {
                match self { $(Code::$name => $number,)* Code::Delegate(n) => n }
            }

            /// A short message that characterizes it.
            pub const fn summary(self) -> &'static str {
                match self { $(Code::$name => $summary,)* Code::Delegate(_) => "the delegated plugin failed" }
            }
        }
    };
}

codes! {
    /// `cniVersion` is not one of ours, or does not have the command.
    IncompatibleVersion = 1 "incompatible CNI version";
    /// A key asks for what the switch does not do.
    UnsupportedField = 2 "unsupported field in the network configuration";
    /// A `CNI_…` variable is missing or makes no sense.
    InvalidEnvironment = 4 "invalid environment variable";
    /// Reading, writing, or the kernel failed.
    Io = 5 "input/output failure";
    /// The standard input is not what it should be.
    Decode = 6 "cannot decode the network configuration";
    /// The network configuration makes no sense.
    InvalidConfig = 7 "invalid network configuration";
    /// The daemon cannot be reached, or is too busy.
    TryAgain = 11 "try again later";
    /// STATUS: ADD would fail.
    NotAvailable = 50 "the plugin is not available";
    /// STATUS: ADD would fail, and pods may be cut off.
    LimitedConnectivity = 51 "the plugin is not available, and existing containers may have limited connectivity";
    /// The daemon failed in a way that has no number of its own.
    Daemon = 100 "the podswitch daemon refused";
    /// The interface, or the attachment, exists.
    AlreadyExists = 101 "already exists";
    /// The daemon has no address, port or other resource left.
    Exhausted = 102 "resources are exhausted";
    /// CHECK: what is there is not what should be there.
    Differs = 103 "the container's network is not as expected";
    /// A delegated plugin is missing, crashed, or said something that is no CNI.
    DelegateFailed = 104 "the delegated plugin could not be used";
}

/// Why the plugin failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// Which kind.
    pub code: Code,
    /// A short message that characterizes the error.
    pub msg: String,
    /// A sentence that names the thing and the next step.
    pub details: String,
}

impl Error {
    /// An error with the code's own message.
    pub fn new(code: Code, details: impl Into<String>) -> Error {
        Error { code, msg: code.summary().to_owned(), details: details.into() }
    }

    /// The error structure for the standard output.
    pub fn to_json(&self, version: Version) -> Value {
        json!({
            "cniVersion": version.as_str(),
            "code": self.code.number(),
            "msg": self.msg,
            "details": self.details,
        })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.details.is_empty() {
            f.write_str(&self.msg)
        } else {
            write!(f, "{}: {}", self.msg, self.details)
        }
    }
}

impl std::error::Error for Error {}

impl From<host::Error> for Error {
    fn from(e: host::Error) -> Error {
        Error::new(Code::Io, e.to_string())
    }
}

impl From<ClientError> for Error {
    fn from(e: ClientError) -> Error {
        let code = match &e {
            ClientError::Unreachable { .. }
            | ClientError::Timeout { .. }
            | ClientError::Lost { .. } => Code::TryAgain,
            ClientError::Denied { .. } => Code::Io,
            ClientError::Protocol(_) => Code::Daemon,
            ClientError::Refused(refusal) => match refusal.code {
                ApiCode::InvalidParams | ApiCode::NeedsRestart => Code::InvalidConfig,
                ApiCode::AlreadyExists => Code::AlreadyExists,
                ApiCode::Exhausted => Code::Exhausted,
                ApiCode::Busy => Code::TryAgain,
                ApiCode::System | ApiCode::PermissionDenied => Code::Io,
                ApiCode::Unsupported => Code::UnsupportedField,
                _ => Code::Daemon,
            },
        };
        let details = match &e {
            ClientError::Unreachable { socket, source } => format!(
                "the podswitch daemon does not listen on {} ({source}): start it with `systemctl \
                 start podswitch`, or name its socket in the key `socket`",
                socket.display()
            ),
            _ => e.to_string(),
        };
        Error::new(code, details)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn codes_are_told_apart_and_own_ones_begin_at_100() {
        let numbers: HashSet<u32> = Code::ALL.iter().map(|c| c.number()).collect();
        assert_eq!(numbers.len(), Code::ALL.len());
        let spec = [1, 2, 3, 4, 5, 6, 7, 11, 50, 51];
        assert!(numbers.iter().all(|n| spec.contains(n) || *n >= 100), "{numbers:?}");
    }

    #[test]
    fn the_structure_has_the_keys_of_the_specification() {
        let error = Error::new(Code::InvalidConfig, "name is missing");
        assert_eq!(
            error.to_json(Version::V1_0_0),
            json!({"cniVersion": "1.0.0", "code": 7, "msg": "invalid network configuration",
                   "details": "name is missing"})
        );
    }
}
