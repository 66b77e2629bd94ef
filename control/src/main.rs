//! The podswitch daemon and its command line.

use std::process::ExitCode;

use podswitch::{cli, node::Node};

fn main() -> ExitCode {
    cli::main(Node::start)
}
