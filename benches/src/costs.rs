//! Where the instructions of a packet go, part by part: callgrind counts them one by one, and binutils'
//! `addr2line` says into which of our functions each was inlined.

use crate::guard;
use crate::scenario::Scenario;
use std::collections::BTreeMap;
use std::process::Command;
use std::{env, io, str};

/// The parts of a packet's way, and what the rest is called.
const PARTS: &[&str] = &[
    "outer headers, tunnel found, headers off",
    "frame header, addresses",
    "source known",
    "FDB looked up",
    "IPv4 headers checked, the outer one too",
    "FIB looked up",
    "next hop, MTU, TTL, addresses",
    "flow hash",
    "outer headers written",
    "batch, fate noted",
    "in and out, buffer freed",
    "elsewhere",
];

/// Whose instructions are those of which part: end of the file's name, beginning of the function's. Of the
/// functions that an instruction was inlined into, the innermost decides that is listed here.
const RULES: &[(&str, &str, usize)] = &[
    ("src/words.rs", "is_sound", 4),
    ("src/flow.rs", "", 7),
    ("tunnel/template.rs", "", 8),
    ("tunnel/usual.rs", "", 0),
    ("tables/underlay.rs", "", 0),
    ("fib/lpm.rs", "", 5),
    ("usual/uplink.rs", "uplink_with", 9),
    ("usual/uplink.rs", "", 0),
    ("usual/mod.rs", "is_known", 2),
    ("usual/mod.rs", "locate", 3),
    ("usual/mod.rs", "next_hop", 4),
    ("usual/mod.rs", "", 6),
    ("usual/access.rs", "push_vxlan", 8),
    ("usual/access.rs", "bridge_to_vxlan", 8),
    ("usual/access.rs", "route", 6),
    ("usual/access.rs", "access_with", 9),
    ("usual/access.rs", "", 1),
    ("pipeline/batch.rs", "", 9),
    ("pipeline/mod.rs", "", 9),
    ("benches/src/rig.rs", "", 10),
    ("fastpath/src/memory.rs", "", 10),
    ("fastpath/src/pool.rs", "", 10),
];

/// Prints a table: the parts, and what each path's packets need there.
pub fn print<'a>(paths: impl Iterator<Item = &'a Scenario>, packets: u64) -> io::Result<()> {
    let mut columns = Vec::new();
    for scenario in paths {
        let profile = guard::profile(&["--path", &scenario.name()], &["--dump-instr=yes"])?;
        columns.push((scenario.path, parts(&profile)?));
    }
    println!("Instructions a packet, {packets} packets, batches of 256 frames of 64 bytes\n");
    print!("| part |");
    columns.iter().for_each(|(path, _)| print!(" {path} |"));
    println!("\n|---|{}", "---|".repeat(columns.len()));
    let each = |n: u64| (n as f64 / packets as f64).round() as u64;
    for (i, part) in PARTS.iter().enumerate() {
        print!("| {part} |");
        for (_, parts) in &columns {
            match each(parts[i]) {
                0 => print!(" |"),
                n => print!(" {n} |"),
            }
        }
        println!();
    }
    print!("| **all** |");
    columns.iter().for_each(|(_, parts)| print!(" **{}** |", each(parts.iter().sum())));
    println!();
    Ok(())
}

/// What callgrind counted, by part.
fn parts(profile: &str) -> io::Result<Vec<u64>> {
    let exe = env::current_exe()?;
    let (mut costs, mut ours, mut inclusive) = (BTreeMap::new(), false, false);
    let mut parts = vec![0; PARTS.len()];
    for line in profile.lines() {
        if let Some(object) = line.strip_prefix("ob=") {
            ours = exe.to_str().is_some_and(|exe| object.ends_with(exe));
        } else if line.starts_with("calls=") {
            // The next line is what was called, counted there.
            inclusive = true;
        } else if let Some(rest) = line.strip_prefix("0x")
            && !core::mem::take(&mut inclusive)
        {
            let mut fields = rest.split(' ');
            let (address, count) =
                (fields.next(), fields.nth(1).and_then(|n| n.parse::<u64>().ok()));
            let (Some(address), Some(count)) = (address, count) else { continue };
            match u64::from_str_radix(address, 16) {
                Ok(address) if ours => *costs.entry(address).or_insert(0) += count,
                _ => parts[PARTS.len() - 1] += count,
            }
        }
    }
    let addresses: Vec<_> = costs.keys().map(|address| format!("{address:#x}")).collect();
    let out =
        Command::new("addr2line").arg("-e").arg(exe).args(["-iafC"]).args(&addresses).output();
    let out = out.map_err(|e| io::Error::new(e.kind(), format!("addr2line (binutils): {e}")))?;
    let text = str::from_utf8(&out.stdout).map_err(io::Error::other)?;
    let mut lines = text.lines().peekable();
    while let Some(address) = lines.next() {
        let address = address.strip_prefix("0x").and_then(|a| u64::from_str_radix(a, 16).ok());
        let mut part = None;
        while lines.peek().is_some_and(|line| !line.starts_with("0x")) {
            let (Some(function), Some(file)) = (lines.next(), lines.next()) else { break };
            let file = file.split(':').next().unwrap_or_default();
            // Functions that were inlined have no path.
            let function = function.split('<').next().unwrap_or_default();
            let function = function.rsplit("::").next().unwrap_or_default();
            let rule =
                RULES.iter().find(|(f, name, _)| file.ends_with(f) && function.starts_with(name));
            part = part.or(rule.map(|&(_, _, part)| part));
        }
        let count = address.and_then(|a| costs.get(&a)).copied().unwrap_or(0);
        parts[part.unwrap_or(PARTS.len() - 1)] += count;
    }
    Ok(parts)
}
