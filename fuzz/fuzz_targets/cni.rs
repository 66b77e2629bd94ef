//! The CNI plugin's environment and configuration: read without a panic, into a request or into an
//! error of a documented code.
//!
//! The input is variables, a line each, an empty line, and the standard input.
#![no_main]

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use libfuzzer_sys::fuzz_target;
use podswitch_cni::conf::Conf;
use podswitch_cni::env::{Command, Environment};
use podswitch_cni::error::{Code, Error};
use podswitch_cni::result::Received;
use podswitch_cni::version::Version;

fuzz_target!(|input: &[u8]| {
    let (variables, stdin) = split(input);
    let get = |name: &str| variable(variables, name);
    match read(get, stdin) {
        Ok(()) => {}
        Err(e) => {
            assert!(Code::ALL.contains(&e.code), "{e:?}");
            let json = e.to_json(Version::NEWEST);
            assert_eq!(json["code"], e.code.number());
            assert!(!e.msg.is_empty() && !e.details.is_empty());
        }
    }
});

/// All that is read before anything is done.
fn read(get: impl Fn(&str) -> Option<OsString>, stdin: &[u8]) -> Result<(), Error> {
    let env = Environment::read(get)?;
    let command = env.command()?;
    let conf = Conf::parse(stdin.to_vec(), &env)?;
    assert_eq!(conf.bytes(), stdin);
    conf.unknown_keys();
    if let Some(previous) = conf.prev_result()? {
        Received::read(&previous.clone().into(), "prevResult")?;
    }
    match command {
        Command::Add => {
            let wanted = conf.interface()?;
            assert!(wanted.vlan.is_none_or(|v| (1..=4094).contains(&v)));
            assert!(wanted.mtu.is_none_or(|m| (68..=65_535).contains(&m)));
            assert!(wanted.gateway || !wanted.default_route);
            let wishes = conf.wishes(&env.args)?;
            assert!(wishes.ingress.is_none_or(|l| l.rate > 0));
            assert!(wishes.egress.is_none_or(|l| l.rate > 0));
            conf.dns()?;
        }
        Command::Gc => _ = conf.valid_attachments()?,
        Command::Status => _ = conf.interface()?,
        Command::Del | Command::Check | Command::Version => {}
    }
    Ok(())
}

fn split(input: &[u8]) -> (&[u8], &[u8]) {
    match input.windows(2).position(|w| w == b"\n\n") {
        Some(at) => (&input[..at], &input[at + 2..]),
        None => (input, &[]),
    }
}

fn variable(lines: &[u8], name: &str) -> Option<OsString> {
    lines.split(|b| *b == b'\n').find_map(|line| {
        let value = line.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
        // The environment has no zeros.
        (!value.contains(&0)).then(|| OsStr::from_bytes(value).to_owned())
    })
}
