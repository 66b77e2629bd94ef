//! The podswitch daemon and its command line.
//!
//! `cli` reads the arguments, `daemon` runs the event loop, `server` serves the control
//! socket, and [`node`] is the switch behind it, which they know as a [`Backend`] only.

pub mod backend;
pub mod node;

pub use backend::Backend;
