//! The podswitch daemon and its command line.
//!
//! [`cli`] reads the arguments, [`daemon`] runs the event loop, [`server`] serves the control
//! socket, and [`node`] is the switch behind it, which they know as a [`Backend`] only. [`tune`] looks
//! at the host.

pub mod attachment;
pub mod backend;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod ipam;
pub mod masquerade;
pub mod names;
pub mod node;
pub mod server;
pub mod store;
pub mod tune;

pub use backend::Backend;
