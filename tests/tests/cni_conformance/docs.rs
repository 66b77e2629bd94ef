//! `docs/cni-spec.md` names the cases that there are, and all of them.

use std::collections::BTreeSet;

const DOCUMENT: &str = include_str!("../../../docs/cni-spec.md");
const FILES: [(&str, &str); 11] = [
    ("add", include_str!("add.rs")),
    ("chain", include_str!("chain.rs")),
    ("check", include_str!("check.rs")),
    ("conf", include_str!("conf.rs")),
    ("del", include_str!("del.rs")),
    ("delegation", include_str!("delegation.rs")),
    ("environment", include_str!("environment.rs")),
    ("gc", include_str!("gc.rs")),
    ("results", include_str!("results.rs")),
    ("status", include_str!("status.rs")),
    ("version", include_str!("version.rs")),
];

#[test]
fn every_case_is_named_beside_its_sentence() {
    let mut cases = BTreeSet::new();
    for (file, text) in FILES {
        for line in text.lines() {
            let name = line.trim().strip_prefix("pub fn ").and_then(|l| l.split_once("(ground:"));
            cases.extend(name.map(|(name, _)| format!("{file}::{name}")));
        }
    }
    assert!(cases.len() > 40, "{cases:?}");
    let named: BTreeSet<String> = DOCUMENT
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|text| FILES.iter().any(|(f, _)| text.starts_with(&format!("{f}::"))))
        .map(str::to_owned)
        .collect();
    let only =
        |a: &BTreeSet<String>, b: &BTreeSet<String>| a.difference(b).cloned().collect::<Vec<_>>();
    assert_eq!(only(&cases, &named), Vec::<String>::new(), "cases that the document does not name");
    assert_eq!(only(&named, &cases), Vec::<String>::new(), "names without a case");
}
