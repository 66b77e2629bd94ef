//! The log file: a line for each call.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::conf::Conf;
use crate::env::{Command, Environment};
use crate::error::Error;

/// Appends what became of a call to the configuration's `log`, if it names one. The line is
/// written at once, so that calls at the same time do not mix theirs.
pub fn append(
    conf: &Conf,
    env: &Environment,
    command: Command,
    took: Duration,
    outcome: Result<(), &Error>,
) {
    let Some(path) = &conf.log else { return };
    let line = line(SystemTime::now(), conf, env, command, took, outcome);
    if let Err(e) = write(path, &line) {
        // A full disk must not keep containers from starting.
        eprintln!("podswitch-cni: log {}: {e}", path.display());
    }
}

fn write(path: &Path, line: &str) -> io::Result<()> {
    OpenOptions::new().append(true).create(true).open(path)?.write_all(line.as_bytes())
}

fn line(
    now: SystemTime,
    conf: &Conf,
    env: &Environment,
    command: Command,
    took: Duration,
    outcome: Result<(), &Error>,
) -> String {
    let mut line = format!(
        "{} {} {} {:.1} ms network={:?}",
        timestamp(now),
        command.as_str(),
        if outcome.is_ok() { "ok" } else { "failed" },
        took.as_secs_f64() * 1e3,
        conf.name,
    );
    if matches!(command, Command::Add | Command::Del | Command::Check) {
        // Writing to a string does not fail.
        let _ = write!(
            line,
            " container={:?} ifname={:?} netns={:?}",
            env.container_id, env.ifname, env.netns
        );
    }
    let unknown = conf.unknown_keys();
    if !unknown.is_empty() {
        let _ = write!(line, " unknown_keys={:?}", unknown.join(","));
    }
    if let Err(e) = outcome {
        let _ = write!(line, " code={} error={:?}", e.code.number(), e.to_string());
    }
    line.push('\n');
    line
}

/// UTC, as RFC 3339 writes it, to the millisecond.
fn timestamp(now: SystemTime) -> String {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = since.as_secs();
    let (year, month, day) = date(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let ms = since.subsec_millis();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

/// Year, month and day of a day since 1970-01-01 in the Gregorian calendar: eras of 400 years
/// (146,097 days) that begin on a first of March, so that leap days come last.
fn date(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year_of_era + carry, month, day)
}

#[cfg(test)]
mod tests {
    use std::process::Command as Process;

    use super::*;
    use crate::error::Code;

    fn at(seconds: u64) -> String {
        timestamp(UNIX_EPOCH + Duration::from_secs(seconds))
    }

    #[test]
    fn timestamps_are_those_of_date() {
        for seconds in [0, 951_782_399, 951_782_400, 1_709_251_199, 1_763_670_000, 4_107_542_400] {
            let output = Process::new("date")
                .args(["-u", &format!("-d@{seconds}"), "+%Y-%m-%dT%H:%M:%S.000Z"])
                .output()
                .unwrap();
            assert_eq!(at(seconds), String::from_utf8(output.stdout).unwrap().trim_end());
        }
    }

    #[test]
    fn a_line_says_what_came_of_it() {
        let conf = br#"{"cniVersion":"1.0.0","name":"n","isGatway":true}"#.to_vec();
        let env = Environment {
            container_id: "c1".into(),
            ifname: "eth0".into(),
            netns: "/run/netns/a\nb".into(),
            ..Default::default()
        };
        let conf = Conf::parse(conf, &env).unwrap();
        let error = Error::new(Code::Io, "disk\nfull");
        let took = Duration::from_micros(1234);
        let line = line(UNIX_EPOCH, &conf, &env, Command::Add, took, Err(&error));
        assert_eq!(
            line,
            "1970-01-01T00:00:00.000Z ADD failed 1.2 ms network=\"n\" container=\"c1\" \
             ifname=\"eth0\" netns=\"/run/netns/a\\nb\" unknown_keys=\"isGatway\" code=5 \
             error=\"input/output failure: disk\\nfull\"\n"
        );
    }
}
