//! The control API of podswitch.
//!
//! [`State`] is the desired state: the configuration file and `config.apply` have its shape.
//! [`Request`] and [`Response`] are the methods, [`rpc`] their envelope, [`Client`] the way to a
//! daemon. `docs/control-api.md` shows every message.
#![forbid(unsafe_code)]

pub mod addr;
pub mod attachment;
pub mod client;
pub mod de;
pub mod diff;
mod edit;
pub mod error;
pub mod method;
pub mod rpc;
pub mod state;
pub mod validate;
pub mod view;

pub use addr::InterfaceAddr;
pub use client::{Client, ClientError};
pub use diff::{Change, Kind, Object, Op};
pub use error::{Code, Error, ErrorData, FieldError};
pub use method::{Request, Response};
pub use rpc::parse_request;
pub use state::{Attachment, Config, Encapsulation, State, Via};
