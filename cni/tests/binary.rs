//! The binary itself: what it prints where, and how it ends.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn run(args: &[&str], env: &[(&str, &str)], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_podswitch-cni"))
        .args(args)
        .env_clear()
        .envs(env.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A call that fails early does not read its input.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn people_are_helped() {
    let help = run(&["--help"], &[], "");
    assert!(help.status.success());
    assert!(text(&help.stdout).contains("podswitch cni install"));
    let version = text(&run(&["--version"], &[], "").stdout);
    assert!(version.starts_with("podswitch-cni 0.1.0, CNI 0.3.1"), "{version}");
    let other = run(&["ADD"], &[], "");
    assert_eq!(other.status.code(), Some(2));
    assert_eq!(text(&other.stdout), "");
    assert!(text(&other.stderr).contains("--help"));
}

#[test]
fn the_standard_output_is_json_and_nothing_else() {
    let out = run(&[], &[], "{}");
    assert_eq!(out.status.code(), Some(1));
    let error: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(error["code"], 4);
    let line = text(&out.stderr);
    assert!(line.starts_with("podswitch-cni: invalid environment variable: CNI_COMMAND"), "{line}");
    assert_eq!(line.lines().count(), 1);

    let version = run(&[], &[("CNI_COMMAND", "VERSION")], r#"{"cniVersion":"0.4.0"}"#);
    assert!(version.status.success() && version.stderr.is_empty());
    let version: Value = serde_json::from_slice(&version.stdout).unwrap();
    assert_eq!(version["cniVersion"], "0.4.0");
}

#[test]
fn calls_are_logged_where_the_configuration_says() {
    let log = std::env::temp_dir().join(format!("podswitch-cni-{}.log", std::process::id()));
    let conf = |log: &str| {
        format!(
            r#"{{"cniVersion":"1.1.0","name":"n","log":"{log}","isGatway":1,
                "socket":"/nonexistent/sock"}}"#
        )
    };
    let env = [("CNI_COMMAND", "STATUS")];
    for _ in 0..2 {
        assert_eq!(run(&[], &env, &conf(log.to_str().unwrap())).status.code(), Some(1));
    }
    let lines = std::fs::read_to_string(&log).unwrap();
    std::fs::remove_file(&log).unwrap();
    assert_eq!(lines.lines().count(), 2, "{lines}");
    for part in [" STATUS failed ", "network=\"n\"", "unknown_keys=\"isGatway\"", "code=51"] {
        assert!(lines.contains(part), "{part}: {lines}");
    }
    // A log that cannot be written is told, and no more.
    let out = run(&[], &env, &conf("/nonexistent/log"));
    assert!(text(&out.stderr).contains("log /nonexistent/log: No such file"));
    assert_eq!(serde_json::from_slice::<Value>(&out.stdout).unwrap()["code"], 51);
}
