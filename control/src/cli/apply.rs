//! `podswitch apply`.

use std::path::PathBuf;

use podswitch_api::diff::{Change, Op};
use podswitch_api::method::{self, Applied};
use podswitch_api::{Request, Response};
use serde_json::{Map, Value};

use super::Daemon;
use super::out::{Failure, Out};

/// The running switch becomes what the file says: what the file leaves out is removed. Either all
/// of it is done or nothing.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  podswitch apply -f node.toml --dry-run
  podswitch show config --json | jq '.route += [{prefix: \"10.9.0.0/16\", via: \"host\"}]' \\
      | podswitch apply -f -")]
pub struct Apply {
    /// The desired state, TOML or JSON; `-` is the standard input.
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    /// Tell what would change, and change nothing.
    #[arg(long)]
    dry_run: bool,
}

impl Apply {
    pub fn run(&self, daemon: &Daemon, out: &Out) -> Result<(), Failure> {
        let config = super::load(&self.file)?;
        let request = Request::ConfigApply(method::Apply { config, dry_run: self.dry_run });
        daemon.call(&request, out, |response| match response {
            Response::ConfigApply(applied) => describe(&applied),
            _ => String::new(),
        })
    }
}

/// A line for each change, and one that says whether it was done.
pub fn describe(applied: &Applied) -> String {
    let mut lines: Vec<String> = applied.changes.iter().map(line).collect();
    let n = applied.changes.len();
    lines.push(match (n, applied.applied) {
        (0, _) => "nothing to change".to_owned(),
        (1, true) => "1 change made".to_owned(),
        (n, true) => format!("{n} changes made"),
        (1, false) => "1 change to make; nothing was done (--dry-run)".to_owned(),
        (n, false) => format!("{n} changes to make; nothing was done (--dry-run)"),
    });
    lines.join("\n")
}

/// `+ route 10.244.2.0/24: via node2`, `~ node: mtu 1500 → 1450`, `- port web`.
fn line(change: &Change) -> String {
    let empty = Map::new();
    let fields = |v: &Option<Value>| match v {
        Some(Value::Object(map)) => map.clone(),
        _ => empty.clone(),
    };
    let (before, after) = (fields(&change.before), fields(&change.after));
    let (sign, details) = match change.op {
        Op::Add => ('+', after.iter().map(|(k, v)| format!("{k} {}", plain(v))).collect()),
        Op::Remove => ('-', Vec::new()),
        Op::Change => ('~', differences(&before, &after)),
    };
    let name = if change.name.is_empty() { String::new() } else { format!(" {}", change.name) };
    let details = match details.join(", ") {
        d if d.is_empty() => d,
        d => format!(": {d}"),
    };
    format!("{sign} {}{name}{details}", change.kind)
}

fn differences(before: &Map<String, Value>, after: &Map<String, Value>) -> Vec<String> {
    let keys: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let show = |v: Option<&Value>| v.map_or_else(|| "none".to_owned(), plain);
    keys.into_iter()
        .map(|k| (k, before.get(k), after.get(k)))
        .filter(|(_, b, a)| b != a)
        .map(|(k, b, a)| format!("{k} {} → {}", show(b), show(a)))
        .collect()
}

/// A value without the quotes of JSON.
fn plain(value: &Value) -> String {
    match value {
        Value::String(s) => s.clone(),
        Value::Array(list) => list.iter().map(plain).collect::<Vec<_>>().join(","),
        value => value.to_string(),
    }
}
