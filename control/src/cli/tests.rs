//! Arguments, exit codes and what is printed.

use super::*;
use clap::error::ErrorKind;

#[test]
fn the_definition_is_sound() {
    Args::command().debug_assert();
}
