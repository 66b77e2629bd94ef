//! The engine against the Python model of it, `tests/oracle`: random switches and frames, byte for
//! byte. `make oracle PACKETS=…` runs more of them.

use std::process::Command;

/// How many packets `make test` compares, over all seeds.
const PACKETS: &str = "100000";

#[test]
fn the_engine_does_what_the_model_says() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/oracle/run.py");
    let status = Command::new("/usr/bin/python3")
        .args([script, env!("CARGO_BIN_EXE_replay"), "--packets", PACKETS])
        .status()
        .expect("Debian's python3 with scapy: `make setup` installs it");
    assert!(status.success(), "engine and model disagree: the output above has the case");
}
