//! The engine against the Python model of it, `tests/oracle`: random switches and frames, byte for
//! byte. The seed is fixed, so that a run can be repeated; `make oracle PACKETS=…` explores others.

use std::process::Command;

/// How many packets `make test` compares.
const PACKETS: &str = "100000";
const SEED: &str = "podswitch";

#[test]
fn the_engine_does_what_the_model_says() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/oracle/run.py");
    let status = Command::new("/usr/bin/python3")
        .args([script, env!("CARGO_BIN_EXE_replay"), "--packets", PACKETS, "--seed", SEED])
        .status()
        .expect("Debian's python3 with scapy: `make setup` installs it");
    assert!(status.success(), "engine and model disagree: the output above has the case");
}
