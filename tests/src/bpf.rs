//! BPF programs of the tests' own, at tc: they stand in for what is a module that not every kernel has.

use std::path::Path;

use crate::command::run;
use crate::lab::Lab;
use crate::netns::Netns;

/// Where a program is attached.
#[derive(Clone, Copy, Debug)]
pub enum Hook {
    /// What an interface receives.
    Ingress,
    /// What it sends.
    Egress,
}

/// Compiles `tests/tools/<source>` with these definitions (`-D…`) and attaches its sections to
/// interfaces of a namespace: interface, hook and section.
#[track_caller]
pub fn attach_bpf(
    lab: &Lab,
    netns: &Netns,
    source: &str,
    defines: &[String],
    programs: &[(&str, Hook, &str)],
) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools").join(source);
    let object = lab.folder().join(format!("{}.o", netns.name()));
    let (path, object) = (path.to_str().expect("UTF-8"), object.to_str().expect("ASCII"));
    let include = format!("-I/usr/include/{}-linux-gnu", std::env::consts::ARCH);
    let mut clang = vec!["clang", "-O2", "-g", "-target", "bpf", &include];
    clang.extend(defines.iter().map(String::as_str));
    clang.extend(["-c", path, "-o", object]);
    run(&clang).success();
    let mut devices: Vec<&str> = programs.iter().map(|(dev, ..)| *dev).collect();
    devices.dedup();
    for dev in devices {
        netns.sh(&format!("tc qdisc add dev {dev} clsact"));
    }
    for (dev, hook, section) in programs {
        let hook = match hook {
            Hook::Ingress => "ingress",
            Hook::Egress => "egress",
        };
        netns.sh(&format!("tc filter add dev {dev} {hook} bpf da obj {object} sec {section}"));
    }
}
