//! What can be told without running the binary; `tests/cli.rs` runs it.

use super::*;

#[test]
fn the_definition_is_sound() {
    Args::command().debug_assert();
}

#[test]
fn every_command_explains_itself() {
    fn explained(command: &clap::Command, path: &str) {
        let path = format!("{path} {}", command.get_name());
        assert!(command.get_about().is_some(), "{path} has no help");
        for arg in command.get_arguments().filter(|a| a.get_id() != "help") {
            assert!(arg.get_help().is_some(), "{path} {} has no help", arg.get_id());
        }
        command.get_subcommands().for_each(|c| explained(c, &path));
    }
    explained(&Args::command(), "");
}
