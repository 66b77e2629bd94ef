//! `podswitch tune`.

use std::path::PathBuf;
use std::process::ExitCode;

use comfy_table::Cell;
use podswitch_api::Config;

use super::out::{Failure, Out, or_dash, render, table};
use crate::tune::{Device, Finding, Level, Machine, check};

/// The exit code when something is not ideal.
const NOT_IDEAL: u8 = 5;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Nothing is changed. Exit codes: 0 all is well, 5 something could be better \
(--warnings-only: something fails or loses packets), else as ever.

Examples:
  podswitch tune --check --config /etc/podswitch/podswitch.toml
  podswitch tune --check --dev eth1 --json"
)]
pub struct Tune {
    /// Look, and change nothing. Required: there is no other mode.
    #[arg(long, required = true)]
    check: bool,
    /// The configuration, for its workers, uplink and ports. Default: podswitch's defaults.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// An interface to look at besides the configuration's.
    #[arg(long, value_name = "DEV")]
    dev: Vec<String>,
    /// Fail only if something fails or loses packets, not for what could be faster.
    #[arg(long)]
    warnings_only: bool,
}

impl Tune {
    pub fn run(&self, out: &Out) -> Result<ExitCode, Failure> {
        let config = self.config.as_deref().map(super::load).transpose()?.unwrap_or_default();
        let mut devices = Vec::new();
        for name in self.devices(&config) {
            let device = Device::read(&name);
            devices.push(device.map_err(|e| Failure::Runtime(format!("{name}: {e}")))?);
        }
        let findings = check(&config.switch_or_default(), &Machine::read(), &devices);
        if out.json {
            out.json(&findings)?;
        } else {
            out.text(&told(&findings))?;
        }
        let worst = findings.iter().map(|f| f.level).max().unwrap_or(Level::Ok);
        let tolerated = if self.warnings_only { Level::Advice } else { Level::Ok };
        Ok(if worst > tolerated { ExitCode::from(NOT_IDEAL) } else { ExitCode::SUCCESS })
    }

    /// The interfaces to look at, each once.
    fn devices(&self, config: &Config) -> Vec<String> {
        let uplink = config.uplink.iter().map(|u| u.dev.clone());
        let ports = config.ports.iter().filter_map(|p| p.dev.clone());
        let mut devices: Vec<String> = Vec::new();
        for dev in uplink.chain(ports).chain(self.dev.iter().cloned()) {
            if !devices.contains(&dev) {
                devices.push(dev);
            }
        }
        devices
    }
}

/// A table of all, then why and what to do, for what is not ideal.
fn told(findings: &[Finding]) -> String {
    let mut rows = table(["CHECK", "DEV", "", "FOUND"]);
    for finding in findings {
        let level = match finding.level {
            Level::Ok => "ok",
            Level::Advice => "advice",
            Level::Warning => "WARNING",
        };
        let dev = or_dash(finding.dev.as_ref());
        rows.add_row([finding.check, &dev, level, &finding.found].map(Cell::new));
    }
    let mut text = render(rows, &[]);
    for finding in findings {
        if let (Some(why), Some(cure)) = (&finding.why, &finding.cure) {
            let dev = finding.dev.as_ref().map_or(String::new(), |dev| format!(" ({dev})"));
            text += &format!("\n\n{}{dev}: {why}.\n  {cure}", finding.check);
        }
    }
    text
}
