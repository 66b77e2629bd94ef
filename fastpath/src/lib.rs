//! How frames get in and out.
//!
//! The only crate with `unsafe`. A packet's way: `xsk` receives a batch of `Frame`s from a
//! socket's ring, `worker` hands it to the pipeline, the pipeline puts each frame on the
//! transmit ring of its egress port (`io`), and the worker kicks each of those rings once.

mod attach;
mod command;
pub mod config;
pub mod engine;
pub mod error;
pub mod fill;
pub mod frame;
pub mod io;
mod lane;
pub mod memory;
mod netdev;
pub mod pipeline;
pub mod pool;
pub mod port;
pub mod program;
pub mod ring;
pub mod stats;
mod sys;
pub mod umem;
pub mod worker;
pub mod xsk;

pub use config::{AttachMode, AttachSpec, Attached, EngineConfig, Preference, Role, UplinkFilter};
pub use engine::Engine;
pub use error::Error;
pub use frame::Frame;
pub use io::WorkerIo;
pub use memory::MemoryPorts;
pub use pipeline::Pipeline;
pub use pool::Pool;
pub use stats::{Counters, PortSnapshot, SocketStatistics};
