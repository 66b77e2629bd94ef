//! `podswitch tune --check` against what other tools read from the same kernel.

use podswitch_tests::{Lab, podswitch, podswitch_path};
use serde_json::Value;

/// Findings about an interface with four queues at the near end.
#[test]
fn what_tune_finds_is_what_other_tools_read() {
    let Some(lab) = Lab::new() else { return };
    let netns = lab.netns("host");
    netns.ip("link add eth1 numrxqueues 4 numtxqueues 4 type veth peer name eth2 numrxqueues 1 numtxqueues 1");
    netns.sh("ethtool -L eth1 rx 3");
    let config = lab.write(
        "tune.toml",
        "[switch]\nworkers = 2\n[[port]]\ndev = \"eth1\"\n[[port]]\ndev = \"eth2\"\n",
    );
    let before = netns.sh("ip -d -s link show") + &netns.sh("ethtool -k eth1");
    let line = format!("{} tune --check --config {}", podswitch_path().display(), config.display());
    let told = netns.try_sh(&format!("{line} --json"));
    assert_eq!(told.code, 5, "three queues for two workers: {}", told.stderr);
    let findings: Vec<Value> = serde_json::from_str(&told.stdout).expect("an array");
    let find = |check: &str, dev: Option<&str>| -> &Value {
        let same = |f: &&Value| f["check"] == check && f["dev"].as_str() == dev;
        findings.iter().find(same).unwrap_or_else(|| panic!("no {check}: {findings:#?}"))
    };

    let cpus = netns.sh("nproc --all");
    let workers = find("workers", None)["found"].as_str().expect("a text");
    assert_eq!(workers, format!("2 workers, {} CPUs", cpus.trim()));
    let queues = find("queues", Some("eth1"));
    assert_eq!(
        (&queues["found"], &queues["level"]),
        (&"3 receive queues, 2 workers".into(), &"advice".into())
    );
    assert_eq!(queues["cure"], "ethtool -L eth1 combined 2");
    let one = find("queues", Some("eth2"));
    assert_eq!(one["found"], "1 receive queues, 2 workers");
    // Only the first network namespace has this setting.
    let jit = netns.try_sh("sysctl -n net.core.bpf_jit_enable");
    if jit.code == 0 {
        let found = find("bpf-jit", None)["found"].as_str().expect("a text");
        assert!(found.ends_with(jit.stdout.trim()), "{found}");
    }

    let people = netns.try_sh(&line);
    assert_eq!(people.code, 5);
    assert!(people.stdout.contains("ethtool -L eth1 combined 2"), "{}", people.stdout);
    let after = netns.sh("ip -d -s link show") + &netns.sh("ethtool -k eth1");
    assert_eq!(before, after, "nothing may change");
}

#[test]
fn tune_is_told_what_to_look_at() {
    assert_eq!(podswitch(&["tune"]).code, 2, "--check is required");
    let missing = podswitch(&["tune", "--check", "--dev", "nosuchdev0"]);
    assert_eq!(missing.code, 1, "{}", missing.stderr);
    assert!(missing.stderr.contains("nosuchdev0"), "{}", missing.stderr);
}
