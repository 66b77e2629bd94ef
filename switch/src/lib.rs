//! What happens to a frame: the tables, and the pipeline that reads them.
//!
//! The engine is a pure function of (state, frames, clock). It does no I/O: [`Io`] hands it
//! buffers and takes its frames, and the clock is an argument, so that the same code runs on
//! AF_XDP, in a test without root, in a replay and under a fuzzer.
#![forbid(unsafe_code)]

pub mod counters;
pub mod frame;
pub mod heap;
pub mod ids;
pub mod offload;
pub mod pipeline;
pub mod publish;
pub mod reason;
mod sync;
pub mod tables;
pub mod waiting;

pub use counters::{Counter, PortCounters, WorkerCounters};
pub use frame::{Frame, Io, NoHeadroom};
pub use ids::{Location, PortId, SegmentId, TunnelId};
pub use pipeline::{Millis, Worker};
pub use reason::DropReason;
pub use tables::{Fdb, Tables};
pub use waiting::Waiting;
