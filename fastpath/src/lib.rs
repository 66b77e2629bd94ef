//! How frames get in and out. The only crate with `unsafe`.
//!
//! A packet's way: the worker looks at its sockets, receives a batch of [`Frame`]s from one, and
//! hands it to the [`Pipeline`]. That puts each frame on the transmit ring of its egress port, and
//! the worker kicks each of those rings once.
//!
//! | what | where |
//! |---|---|
//! | the loop | `worker`, `io`, and `lane` between two workers |
//! | a socket in its worker's hands: receive, transmit, account | `port`, `fill` |
//! | AF_XDP | `xsk`, `ring`, `umem`, `sys` |
//! | superpackets out of an uplink | `packet`, `port::xsk::superpacket` |
//! | TAP | [`tap`] |
//! | buffers | [`Pool`], [`Frame`] |
//! | the XDP programs, their maps, pinned links | `program`, `bpf/podswitch.bpf.c` |
//! | the control thread's handle | [`Engine`], `attach`, `command`, `netdev` |
//! | without an interface | [`MemoryPorts`], [`pcap`] |

mod attach;
mod bulk;
mod command;
pub mod config;
pub mod engine;
pub mod error;
mod fill;
pub mod frame;
mod io;
mod lane;
pub mod memory;
mod netdev;
mod packet;
pub mod pcap;
pub mod pipeline;
pub mod pool;
mod port;
mod program;
mod ring;
pub mod stats;
mod sys;
pub mod tap;
mod umem;
mod worker;
mod xsk;

pub use config::{
    AttachMode, AttachSpec, Attached, EngineConfig, Preference, Role, TapSpec, UplinkFilter,
};
pub use engine::Engine;
pub use error::Error;
pub use fill::floor as least_buffers;
pub use frame::Frame;
pub use io::WorkerIo;
pub use memory::{MemoryIo, MemoryPorts};
pub use pipeline::Pipeline;
pub use pool::Pool;
pub use stats::{Counters, PortSnapshot, SocketStatistics};
pub use tap::Tap;
