//! What is masqueraded, without a kernel.

use super::*;
use crate::attachment::Entry;
use serde_json::json;
use std::sync::atomic::{AtomicU32, Ordering};

fn state() -> State {
    serde_json::from_value(json!({
        "node": {"pod_cidrs": ["10.244.1.0/24", "fd00:1::/64"], "gateway": true},
        "uplink": {"dev": "uplink0"},
        "tunnel": [{"name": "node2", "kind": "ipip", "remote": "192.0.2.2"}],
        "route": [
            {"prefix": "10.244.2.0/24", "via": "node2"},
            {"prefix": "10.244.3.0/24", "via": "192.0.2.3"},
            {"prefix": "0.0.0.0/0", "via": "192.0.2.254"},
            {"prefix": "10.9.0.0/16", "via": "host"}
        ]
    }))
    .unwrap()
}

fn entry(container: &str, address: &str, masquerade: bool) -> Entry {
    let ip = json!({"address": address});
    serde_json::from_value(json!({
        "request": {
            "network": "n", "container_id": container, "ifname": "eth0", "netns": "/n",
            "addresses": {"from": "plugin", "ips": [ip]}, "masquerade": masquerade
        },
        "ips": [ip], "segment": "default", "routed": true, "netns_inode": 1
    }))
    .unwrap()
}

fn rules(entries: &[Entry]) -> Rules {
    // Tests run beside each other.
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("podswitch-masquerade-{}-{number}", std::process::id());
    let path = std::env::temp_dir().join(name);
    let (mut attachments, _) = Attachments::open(path.clone(), &state()).unwrap();
    for entry in entries {
        attachments.insert(entry.clone()).unwrap();
    }
    let _ = std::fs::remove_file(path);
    Rules::new(&attachments.over(&state()), &attachments)
}

fn texts(prefixes: &BTreeSet<Prefix>) -> Vec<String> {
    prefixes.iter().map(Prefix::to_string).collect()
}

#[test]
fn prefixes_while_all_pods_in_them_asked_for_it() {
    let asking = entry("a", "10.244.1.5/24", true);
    let second = entry("b", "10.244.1.6/24", true);
    let silent = entry("c", "10.244.1.7/24", false);
    assert!(!rules(std::slice::from_ref(&silent)).was_asked_for());
    let one = rules(std::slice::from_ref(&asking));
    assert_eq!(texts(&one.sources), ["10.244.1.0/24"]);
    let two = rules(&[asking.clone(), second.clone()]);
    assert_eq!(one, two, "a pod more changes nothing");
    let mixed = rules(&[asking.clone(), second, silent]);
    assert_eq!(texts(&mixed.sources), ["10.244.1.5/32", "10.244.1.6/32"]);
    assert!(!two.serve(&mixed), "it would give the third one what it did not ask for");
    let elsewhere = rules(&[asking, entry("d", "10.88.0.5/16", true)]);
    assert!(!one.serve(&elsewhere) && one.serve(&Rules::default()));
}

#[test]
fn other_nodes_and_their_pods_see_pods_as_they_are() {
    let rules = rules(&[entry("a", "10.244.1.5/24", true)]);
    let inside = texts(&rules.inside);
    for prefix in [
        "10.244.1.0/24",
        "10.244.2.0/24",
        "10.244.3.0/24",
        "192.0.2.2/32",
        "192.0.2.3/32",
        "fd00:1::/64",
        "fe80::/10",
        "224.0.0.0/4",
    ] {
        assert!(inside.iter().any(|p| p == prefix), "{prefix}: {inside:?}");
    }
    for prefix in ["0.0.0.0/0", "10.9.0.0/16"] {
        assert!(!inside.iter().any(|p| p == prefix), "{prefix} is the world: {inside:?}");
    }
}

#[test]
fn pods_that_are_redirected_to_pods_are_those_that_the_switch_answers_directly() {
    assert!(rules(&[]).is_empty(), "nobody is there to be redirected to");
    let rules = rules(&[entry("a", "10.244.1.5/24", false)]);
    let pods = ["10.244.1.0/24", "10.244.2.0/24", "10.244.3.0/24", "fd00:1::/64"];
    assert_eq!(texts(&rules.direct), pods);
    assert_eq!(rules.interface, "podswitch0");
}

#[test]
fn without_nft_the_package_is_named() {
    let error = rules(&[entry("a", "10.244.1.5/24", true)]).apply_by("/nonexistent/nft");
    let error = error.unwrap_err().to_string();
    assert!(error.contains("install the package nftables"), "{error}");
    let refused = rules(&[]).apply_by("false").unwrap_err().to_string();
    assert_eq!(refused, "`nft` refused the rules: no reason given");
}
