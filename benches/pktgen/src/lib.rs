//! A packet generator and sink: the tool `podswitch-pktgen`, and the library that the end-to-end
//! benches measure with.
//!
//! ```text
//!  Load ── frames ──► Engine ──► interface ··· device under test ··· interface ──► Sink
//!                     live: XDP live frames, as fast as one core goes      count: an XDP program
//!                     xdp: an AF_XDP socket, at a rate, with timestamps    xdp: an AF_XDP socket, with latency
//!                                                                          kernel: the interface's counters
//! ```
//!
//! The AF_XDP sockets are those of `xsk-rs` over libxdp, which shares no code with podswitch's own ring
//! layer: what the two agree on is not one misreading.
//!
//! A size of a frame is what the kernel counts: from the destination MAC address to the end of the
//! payload, without the four bytes of the frame check sequence that a wire adds.

pub mod bpf;
pub mod counters;
pub mod engine;
pub mod kernel;
pub mod load;
pub mod mac;
pub mod measure;
pub mod numbers;
pub mod place;
pub mod plot;
pub mod report;
pub mod search;
pub mod sink;
pub mod stamp;
pub mod xsk;
