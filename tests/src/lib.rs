//! The harness of the end-to-end tests: a [`Lab`] of network namespaces joined by veth pairs, a
//! [`Daemon`] in one of them, and kernels, iperf3 and scapy as peers that share no code with ours.
//!
//! Everything made here has a guard that removes it, also when a test fails, and a run that is interrupted
//! removes it too. A test is done when
//! [`Daemon::finish`] has found every frame accounted for and nothing left behind.
#![forbid(unsafe_code)]

mod bpf;
pub mod cni;
mod command;
mod containerd;
mod counters;
mod daemon;
mod hosts;
mod interrupt;
mod lab;
mod netns;
mod nodes;
mod peers;
mod rates;
pub mod tshark;
mod wire;

pub use bpf::{Hook, attach_bpf};
pub use command::{Background, Finished, run, wait_until};
pub use containerd::{Containerd, Sandbox};
pub use counters::Counters;
pub use daemon::{Daemon, podswitch, podswitch_path};
pub use hosts::{BRIDGE, Hosts, Links, hush};
pub use lab::Lab;
pub use netns::{Netns, join, node_and_outside};
pub use nodes::{NODE, Node, Pod, TwoNodes, Way};
pub use peers::{
    Capture, exchange, frames_of, hex, iperf, iperf_udp, kernel_counters, longest, ping, ping_all,
    ping_once, ping_sized, send_frames, tool, unanswered, write_pcap,
};
pub use rates::{Limit, RatedPods, Stream, Window};
pub use wire::{Protocols, Tap, Wire};
