//! The podswitch daemon and its command line.
fn main() {}
