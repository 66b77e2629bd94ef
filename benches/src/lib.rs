//! Benches of the pipeline: the rows of the comparison with FD.io VPP, each a switch with its
//! tables and an endless source of frames, and the clock that they are measured with.

pub mod packets;
pub mod rig;
pub mod scenario;
pub mod table;
pub mod tsc;
