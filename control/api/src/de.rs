//! Errors of deserialization turned into sentences that name the field and the cure.

use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_path_to_error::{Path, Segment};

use crate::error::{Error, FieldError};

/// The longest value that is quoted in an error.
const QUOTED: usize = 80;

/// A value of JSON, unknown keys and wrong types refused by name.
pub fn from_json<T: DeserializeOwned>(value: Value) -> Result<T, Error> {
    serde_path_to_error::deserialize(&value).map_err(|e| {
        let found = lookup(&value, e.path()).map(quote).unwrap_or_default();
        Error::invalid(vec![field_error(e.path(), &e.inner().to_string(), found)])
    })
}

/// A field error out of serde's message. `value` is what the field holds, already as text.
pub fn field_error(path: &Path, message: &str, value: String) -> FieldError {
    let path = path.to_string();
    // serde_path_to_error's name for the whole document.
    let path = if path == "." { "" } else { &path };
    if let Some((key, rest)) = quoted_after(message, "unknown field ") {
        let known: Vec<&str> = rest.split('`').skip(1).step_by(2).collect();
        let expected = match nearest(key, known.iter().copied()) {
            Some(near) => format!("a known key; did you mean `{near}`?"),
            None if known.is_empty() => "no key at all".to_owned(),
            None => format!("one of the keys {}", known.join(", ")),
        };
        return FieldError::new(join(path, key), "", expected);
    }
    if let Some((key, _)) = quoted_after(message, "missing field ") {
        return FieldError::new(join(path, key), "", "a value: the key is required");
    }
    if let Some((found, rest)) = quoted_after(message, "unknown variant ") {
        let known: Vec<&str> = rest.split('`').skip(1).step_by(2).collect();
        let quoted: Vec<String> = known.iter().map(|k| format!("{k:?}")).collect();
        return FieldError::new(whole(path), format!("{found:?}"), quoted.join(" or "));
    }
    // What `encap::PrefixError` says, the one message that is not "expected …".
    if let Some((_, cure)) = message.split_once("host bits are set") {
        return FieldError::new(whole(path), value, format!("a prefix without host bits{cure}"));
    }
    let expected = message.rsplit_once("expected ").map_or(message, |(_, expected)| expected);
    FieldError::new(whole(path), value, humane(expected.trim()))
}

/// The candidate that was probably meant by `word`: at most a third of it differs.
pub fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let word: String = word.chars().take(64).collect();
    let limit = (word.chars().count() / 3).max(1);
    candidates
        .map(|c| (distance(&word, c), c))
        .filter(|(d, _)| *d <= limit)
        .min_by_key(|(d, _)| *d)
        .map(|(_, c)| c)
}

/// How many characters to insert, remove, replace or swap with their neighbour (optimal string
/// alignment): a swap is the commonest slip of all.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 0..a.len() {
        let mut row = vec![i + 1];
        for j in 0..b.len() {
            let replaced = above[j] + usize::from(a[i] != b[j]);
            let mut best = replaced.min(row[j] + 1).min(above[j + 1] + 1);
            if i > 0 && j > 0 && a[i] == b[j - 1] && a[i - 1] == b[j] {
                best = best.min(before[j - 1] + 1);
            }
            row.push(best);
        }
        before = core::mem::replace(&mut above, row);
    }
    above[b.len()]
}

/// What stands between backticks right after `start`, and the text after it.
fn quoted_after<'a>(message: &'a str, start: &str) -> Option<(&'a str, &'a str)> {
    message.strip_prefix(start)?.strip_prefix('`')?.split_once('`')
}

fn join(path: &str, key: &str) -> String {
    let key: String = key.chars().take(QUOTED).collect();
    // The path may already end in the key that is unknown.
    match path.strip_suffix(&key) {
        Some(head) if head.is_empty() || head.ends_with('.') => path.to_owned(),
        _ if path.is_empty() => key,
        _ => format!("{path}.{key}"),
    }
}

fn whole(path: &str) -> &str {
    if path.is_empty() { "the document" } else { path }
}

/// serde's name of what it expected, in words of the configuration file.
fn humane(expected: &str) -> String {
    let range = |max: u64| format!("a whole number from 0 to {max}");
    match expected {
        "u8" => range(u8::MAX.into()),
        "u16" => range(u16::MAX.into()),
        "u32" => range(u32::MAX.into()),
        "a boolean" => "true or false".to_owned(),
        "a sequence" => "a list".to_owned(),
        // What TOML and JSON say of a word out of a few.
        "wanted string or table" | "string or map" => "a word in quotes".to_owned(),
        "IP address" | "invalid IP address syntax" => "an IP address like 192.0.2.1".to_owned(),
        e if e.starts_with("struct ") => "a table of keys".to_owned(),
        e => e.to_owned(),
    }
}

fn lookup<'v>(mut value: &'v Value, path: &Path) -> Option<&'v Value> {
    for step in path.iter() {
        value = match step {
            Segment::Seq { index } => value.get(index)?,
            Segment::Map { key } => value.get(key)?,
            Segment::Enum { .. } | Segment::Unknown => return None,
        };
    }
    Some(value)
}

fn quote(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(QUOTED) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::State;
    use serde_json::json;

    fn refused(value: Value) -> String {
        from_json::<State>(value).unwrap_err().message
    }

    #[test]
    fn names_the_field_and_the_cure() {
        let cases = [
            (
                json!({"port": [{"dev": "eth1", "segmnt": "x"}]}),
                "port[0].segmnt: expected a known key; did you mean `segment`?",
            ),
            (json!({"prot": []}), "prot: expected a known key; did you mean `port`?"),
            (
                json!({"segment": [{"name": "a", "zzzzzz": 1}]}),
                "segment[0].zzzzzz: expected one of the keys name, ageing, fdb_limit, unknown_unicast, \
                 suppress, gateway",
            ),
            (
                json!({"switch": {"workers": "two"}}),
                "switch.workers = \"two\": expected a whole number from 0 to 65535",
            ),
            (
                json!({"switch": {"workers": -1}}),
                "switch.workers = -1: expected a whole number from 0 to 65535",
            ),
            (
                json!({"tunnel": [{"name": "t", "kind": "gre", "remote": "192.0.2.1"}]}),
                "tunnel[0].kind = \"gre\": expected \"vxlan\" or \"ipip\"",
            ),
            (
                json!({"tunnel": [{"name": "t", "kind": "vxlan"}]}),
                "tunnel[0].remote: expected a value: the key is required",
            ),
            (
                json!({"tunnel": [{"name": "t", "kind": "vxlan", "remote": "me"}]}),
                "tunnel[0].remote = \"me\": expected an IP address like 192.0.2.1",
            ),
            (
                json!({"tunnel": [{"name": "t", "kind": "vxlan", "remote": "192.0.2.1", "vni": 16777216}]}),
                "tunnel[0].vni = 16777216: expected a VNI of at most 16777215",
            ),
            (
                json!({"route": [{"prefix": "10.0.0.1/24", "via": "host"}]}),
                "route[0].prefix = \"10.0.0.1/24\": expected a prefix without host bits; did you mean 10.0.0.0/24?",
            ),
            (json!({"node": {"gateway": "yes"}}), "node.gateway = \"yes\": expected true or false"),
            (json!({"switch": {"bulk": false}}), "switch.bulk = false: expected a word in quotes"),
            (json!({"port": {}}), "port = {}: expected a list"),
            (json!([]), "the document = []: expected a table of keys"),
        ];
        for (value, message) in cases {
            assert_eq!(refused(value.clone()), message, "{value}");
        }
    }

    #[test]
    fn distances() {
        for (a, b, d) in [
            ("", "", 0),
            ("", "ab", 2),
            ("kitten", "sitting", 3),
            ("ab", "ba", 1),
            ("prot", "port", 1),
        ] {
            assert_eq!(distance(a, b), d, "{a} {b}");
            assert_eq!(distance(b, a), d, "{b} {a}");
        }
    }

    #[test]
    fn nothing_near_nothing_meant() {
        assert_eq!(nearest("segmnt", ["segment", "name"].into_iter()), Some("segment"));
        assert_eq!(nearest("zzz", ["segment", "name"].into_iter()), None);
    }
}
