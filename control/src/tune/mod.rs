//! What of this host is not ideal for podswitch, and why. Nothing here changes anything.
//!
//! [`Machine`] and [`Device`] are read from the kernel; [`check`] is a pure function of them and the
//! configuration.

mod device;
mod machine;
mod settings;

pub use device::Device;
pub use machine::Machine;

use std::collections::BTreeSet;

use podswitch_api::state::Switch;
use serde::Serialize;

/// How much one finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// It could be faster.
    Advice,
    /// Something fails, loses packets or is slow because of it.
    Warning,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at: a name that does not change.
    pub check: &'static str,
    /// The interface that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dev: Option<String>,
    /// How much it matters.
    pub level: Level,
    /// What was found.
    pub found: String,
    /// Why that matters; absent when all is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// What to do about it; absent when all is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cure: Option<String>,
}

impl Finding {
    fn ok(check: &'static str, found: impl Into<String>) -> Finding {
        let found = found.into();
        Finding { check, dev: None, level: Level::Ok, found, why: None, cure: None }
    }

    fn of(mut self, dev: &str) -> Finding {
        self.dev = Some(dev.to_owned());
        self
    }

    fn but(mut self, level: Level, why: &str, cure: impl Into<String>) -> Finding {
        self.level = level;
        self.why = Some(why.to_owned());
        self.cure = Some(cure.into());
        self
    }

    /// As it is, or worse if a condition holds.
    fn unless(self, bad: bool, level: Level, why: &str, cure: impl Into<String>) -> Finding {
        if bad { self.but(level, why, cure) } else { self }
    }
}

/// The CPUs that are online; none where the kernel does not tell.
pub fn online() -> BTreeSet<usize> {
    machine::list(&machine::text("/sys/devices/system/cpu/online"))
}

/// A CPU that a worker shall run on and that is not among those online.
pub fn absent_cpu(switch: &Switch, online: &BTreeSet<usize>) -> Option<u16> {
    switch.cpus.iter().copied().find(|&cpu| !online.contains(&cpu.into()))
}

/// Looks at everything.
pub fn check(switch: &Switch, machine: &Machine, devices: &[Device]) -> Vec<Finding> {
    let mut findings = settings::check(switch);
    findings.extend(machine::check(switch, machine));
    for device in devices {
        findings.extend(device::check(switch, machine, device));
    }
    findings
}
