//! The CNI plugin of podswitch: what a container runtime executes to plug a container into the
//! switch.
//!
//! A call is an environment ([`mod@env`]), a configuration on the standard input ([`conf`]) and one
//! of six commands ([`mod@add`], [`del`], [`check`], [`gc`], [`status`], and VERSION here). The
//! work is the daemon's ([`daemon`]); addresses may be a delegated plugin's ([`ipam`]). What is
//! said is a result ([`result`]) or an error ([`error`]) in the form of the version asked for
//! ([`version`]).
//!
//! Read <https://github.com/containernetworking/cni/blob/spec-v1.1.0/SPEC.md> first;
//! `docs/cni-spec.md` follows it sentence by sentence, `docs/cni.md` is for operators.
#![forbid(unsafe_code)]

pub mod add;
pub mod check;
pub mod conf;
pub mod daemon;
pub mod del;
pub mod env;
pub mod error;
pub mod gc;
pub mod ipam;
pub mod log;
pub mod netns;
pub mod pending;
pub mod result;
pub mod status;
pub mod version;

use std::ffi::OsString;
use std::io::{self, Read};
use std::time::Instant;

use serde_json::{Value, json};

use conf::Conf;
use env::{Command, Environment};
use error::{Code, Error};
use version::Version;

/// The longest configuration, bytes; GC's list of attachments is the largest part of one.
const MAX_INPUT: u64 = 16 << 20;

/// What the plugin says.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The JSON for the standard output; none for commands that say nothing when all is well.
    pub output: Option<Value>,
    /// Why it failed.
    pub error: Option<Error>,
}

/// Carries out a call, from its environment and its standard input.
pub fn run(get: impl Fn(&str) -> Option<OsString>, input: impl Read) -> Answer {
    let mut version = Version::NEWEST;
    match attempt(get, input, &mut version) {
        Ok(output) => Answer { output, error: None },
        Err(error) => Answer { output: Some(error.to_json(version)), error: Some(error) },
    }
}

/// As [`run`]; `version` becomes the one that an error has to be in.
fn attempt(
    get: impl Fn(&str) -> Option<OsString>,
    input: impl Read,
    version: &mut Version,
) -> Result<Option<Value>, Error> {
    let start = Instant::now();
    let env = Environment::read(get)?;
    let command = env.command()?;
    let bytes = read(input)?;
    if command == Command::Version {
        return versions(&bytes).map(Some);
    }
    // Also for errors of the rest of the configuration.
    *version = conf::version_of(&bytes).unwrap_or(*version);
    let conf = Conf::parse(bytes, &env)?;
    let outcome = carry_out(command, &conf, &env);
    log::append(&conf, &env, command, start.elapsed(), outcome.as_ref().map(|_| ()));
    outcome
}

/// Carries out a command other than VERSION.
fn carry_out(command: Command, conf: &Conf, env: &Environment) -> Result<Option<Value>, Error> {
    if conf.version < command.since() {
        let (asked, name, since) = (conf.version, command.as_str(), command.since());
        let details = format!("cniVersion = \"{asked}\": {name} is there from {since} on");
        return Err(Error::new(Code::IncompatibleVersion, details));
    }
    match command {
        Command::Add => add::add(conf, env).map(Some),
        Command::Del => del::del(conf, env).map(|()| None),
        Command::Check => check::check(conf, env).map(|()| None),
        Command::Gc => gc::gc(conf, env).map(|()| None),
        Command::Status => status::status(conf, env).map(|()| None),
        Command::Version => versions(conf.bytes()).map(Some),
    }
}

fn read(input: impl Read) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let failed = |e: io::Error| Error::new(Code::Io, format!("reading the standard input: {e}"));
    input.take(MAX_INPUT + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_INPUT {
        let details = format!("the standard input has more than {MAX_INPUT} bytes");
        return Err(Error::new(Code::Io, details));
    }
    Ok(bytes)
}

/// The result of VERSION: the input's version, whichever it is, and ours.
fn versions(input: &[u8]) -> Result<Value, Error> {
    let asked = if input.iter().all(u8::is_ascii_whitespace) {
        None
    } else {
        let value: Value = serde_json::from_slice(input).map_err(|e| {
            Error::new(Code::Decode, format!("the standard input is not JSON: {e}"))
        })?;
        match value.get("cniVersion") {
            None | Some(Value::Null) => None,
            Some(Value::String(version)) => Some(version.clone()),
            Some(_) => return Err(Error::new(Code::Decode, "cniVersion: expected a string")),
        }
    };
    Ok(json!({
        "cniVersion": asked.unwrap_or_else(|| Version::NEWEST.to_string()),
        "supportedVersions": Version::ALL.map(Version::as_str),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(pairs: &[(&str, &str)], input: &str) -> Answer {
        let get =
            |name: &str| pairs.iter().find(|(n, _)| *n == name).map(|(_, v)| OsString::from(v));
        run(get, input.as_bytes())
    }

    #[test]
    fn version_tells_what_was_asked_and_what_is_there() {
        let version = |input| call(&[("CNI_COMMAND", "VERSION")], input).output.unwrap();
        let supported = json!(["0.3.1", "0.4.0", "1.0.0", "1.1.0"]);
        let asked = version(r#"{"cniVersion":"0.2.0"}"#);
        assert_eq!(asked, json!({"cniVersion": "0.2.0", "supportedVersions": supported}));
        assert_eq!(version("")["cniVersion"], "1.1.0");
        assert_eq!(version("{}\n")["supportedVersions"], supported);
        assert_eq!(version("garbage")["code"], 6);
        assert_eq!(version(r#"{"cniVersion":[]}"#)["code"], 6);
    }

    #[test]
    fn errors_are_in_the_version_that_was_asked_for() {
        let env = [("CNI_COMMAND", "STATUS")];
        let answer = call(&env, r#"{"cniVersion":"0.4.0","name":"n"}"#);
        let output = answer.output.unwrap();
        assert_eq!((&output["cniVersion"], &output["code"]), (&json!("0.4.0"), &json!(1)));
        assert_eq!(output["details"], "cniVersion = \"0.4.0\": STATUS is there from 1.1.0 on");
        for conf in [r#"{"cniVersion":"0.4.0","name":"-"}"#, r#"{"cniVersion":"0.4.0","ipam":5}"#] {
            assert_eq!(call(&env, conf).output.unwrap()["cniVersion"], "0.4.0", "{conf}");
        }
        let unknown = call(&env, r#"{"cniVersion":"7.0.0","name":"n"}"#).output.unwrap();
        assert_eq!((&unknown["cniVersion"], &unknown["code"]), (&json!("1.1.0"), &json!(1)));
    }

    #[test]
    fn without_the_daemon_add_fails_at_once_and_says_what_to_do() {
        let env = [("CNI_COMMAND", "STATUS"), ("PODSWITCH_SOCKET", "/nonexistent/podswitch.sock")];
        let answer = call(&env, r#"{"cniVersion":"1.1.0","name":"n"}"#);
        let error = answer.error.unwrap();
        assert_eq!(error.code, Code::LimitedConnectivity);
        assert!(error.details.contains("systemctl start podswitch"), "{error}");
    }

    #[test]
    fn an_endless_input_is_refused() {
        let env = |name: &str| (name == "CNI_COMMAND").then(|| OsString::from("STATUS"));
        let answer = run(env, io::repeat(b' '));
        assert_eq!(answer.error.unwrap().code, Code::Io);
    }
}
