//! The guard against regressions: instructions a packet, counted by callgrind, against a budget.

use crate::rig::VECTOR;
use crate::scenario;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::{env, fs, io};

/// By how much a path may exceed its budget.
const TOLERANCE: f64 = 1.05;

/// Counts every path, for frames of a batch and for one that comes alone, and prints it beside its
/// budget. Fails when one exceeds its budget by more than
/// a twentieth, or has none. With `GUARD_WRITE` set, what was counted becomes the budget.
pub fn run(packets: u64) -> ExitCode {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("budget.txt");
    let budget = read(&fs::read_to_string(&file).unwrap_or_default());
    let mut counted = BTreeMap::new();
    let mut failed = false;
    println!("{:<39} {:>12} {:>8}", "path", "instructions", "budget");
    let rows = scenario::every().flat_map(|scenario| {
        let path = scenario.name();
        [(path.clone(), path.clone(), VECTOR), (format!("{path}, alone"), path, 1)]
    });
    for (name, path, batch) in rows {
        let each = match count(&["--path", &path, &batch.to_string()]) {
            Ok(instructions) => instructions as f64 / packets as f64,
            Err(e) => {
                eprintln!("{name}: callgrind: {e}");
                return ExitCode::FAILURE;
            }
        };
        let limit = budget.get(&name).copied();
        let over = limit.is_none_or(|limit| each > limit * TOLERANCE);
        failed |= over;
        let shown = limit.map_or("none".into(), |limit| format!("{limit:.1}"));
        println!("{name:<39} {each:>12.1} {shown:>8}{}", if over { "  over" } else { "" });
        counted.insert(name, each);
    }
    if env::var_os("GUARD_WRITE").is_some() {
        return match fs::write(&file, render(&counted)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(e) => {
                eprintln!("{}: {e}", file.display());
                ExitCode::FAILURE
            }
        };
    }
    if failed {
        eprintln!(
            "A path costs more than its budget. If it is meant to: GUARD_WRITE=1 make bench-guard."
        );
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Instructions of what this executable forwards when it is run with these arguments, all packets
/// together.
pub fn count(args: &[&str]) -> io::Result<u64> {
    let profile = profile(args, &[])?;
    let total = profile.lines().find_map(|l| l.strip_prefix("totals: ")?.trim().parse().ok());
    total.ok_or_else(|| io::Error::other("no totals in its output"))
}

/// What callgrind says, with these options of its own, of what this executable forwards when it is run
/// with these arguments.
pub fn profile(args: &[&str], options: &[&str]) -> io::Result<String> {
    let out = Output(env::temp_dir().join(format!("podswitch-guard.{}", std::process::id())));
    let status = Command::new("valgrind")
        .args(["--quiet", "--tool=callgrind", "--collect-atstart=no"])
        .arg("--toggle-collect=podswitch_benches::rig::forward*")
        .arg(format!("--callgrind-out-file={}", out.0.display()))
        .args(["--compress-pos=no", "--compress-strings=no"])
        .args(options)
        .arg(env::current_exe()?)
        .args(args)
        .stdout(Stdio::null())
        .status()
        .map_err(|e| io::Error::new(e.kind(), format!("valgrind (make setup installs it): {e}")))?;
    if !status.success() {
        return Err(io::Error::other(status.to_string()));
    }
    fs::read_to_string(&out.0)
}

/// Callgrind's output, gone with the value.
struct Output(PathBuf);

impl Drop for Output {
    fn drop(&mut self) {
        // Not there when valgrind did not start.
        let _ = fs::remove_file(&self.0);
    }
}

/// `path: instructions` lines; `#` begins a comment.
fn read(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|l| !l.starts_with('#'));
    lines
        .filter_map(|l| l.rsplit_once(": "))
        .filter_map(|(n, v)| Some((n.into(), v.parse().ok()?)))
        .collect()
}

fn render(counted: &BTreeMap<String, f64>) -> String {
    let lines = counted.iter().map(|(name, each)| format!("{name}: {each:.1}\n"));
    let head =
        "# Instructions a packet of 64 bytes, in batches of 256 and alone (make bench-guard).\n";
    head.to_owned() + &lines.collect::<String>()
}
