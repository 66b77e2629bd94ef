//! `podswitch-cni`, as a container runtime executes it, and as a human does.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use podswitch_cni::version::Version;
use podswitch_cni::{Answer, run};
use serde_json::Value;

const HELP: &str = "\
podswitch-cni plugs containers into podswitch. Container runtimes execute it; it is no command for
people. Its parameters are the CNI_... variables, its configuration comes on the standard input:
https://github.com/containernetworking/cni/blob/spec-v1.1.0/SPEC.md

  podswitch cni install       install it, with a network configuration that uses it
  podswitch cni uninstall     remove both

Try it by hand, as root, on a network namespace /run/netns/test:
  echo '{\"cniVersion\":\"1.1.0\",\"name\":\"podswitch\",\"type\":\"podswitch-cni\"}' |
    CNI_COMMAND=ADD CNI_CONTAINERID=test CNI_NETNS=/run/netns/test CNI_IFNAME=eth0 podswitch-cni

Every key of the configuration is told in docs/cni.md.
";

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        None => {}
        Some("-h" | "--help") => return say(HELP),
        Some("-V" | "--version") => return say(&about()),
        Some(argument) => {
            eprintln!("error: unexpected argument {argument:?}: expected --help or --version");
            return ExitCode::from(2);
        }
    }
    if std::env::var_os("CNI_COMMAND").is_none() && io::stdin().is_terminal() {
        eprint!("{}", about());
        eprintln!(
            "CNI_COMMAND is not set: container runtimes execute this plugin, people install it \
             with `podswitch cni install`. See podswitch-cni --help."
        );
        return ExitCode::FAILURE;
    }
    let Answer { output, error } = run(|name| std::env::var_os(name), io::stdin().lock());
    if let Some(error) = &error {
        eprintln!("podswitch-cni: {}", error.to_string().replace('\n', " "));
    }
    match (print(output), error) {
        (Ok(()), None) => ExitCode::SUCCESS,
        (Ok(()), Some(_)) => ExitCode::FAILURE,
        (Err(e), _) => {
            eprintln!("podswitch-cni: writing to the standard output: {e}");
            ExitCode::FAILURE
        }
    }
}

fn about() -> String {
    format!("podswitch-cni {}, CNI {}\n", env!("CARGO_PKG_VERSION"), Version::list())
}

fn say(text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()) {
        // A reader that has gone away, such as `head`, has seen enough.
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    }
}

/// Writes the answer: all that ever goes to the standard output.
fn print(output: Option<Value>) -> io::Result<()> {
    let Some(output) = output else { return Ok(()) };
    let mut text = serde_json::to_vec_pretty(&output)?;
    text.push(b'\n');
    let mut stdout = io::stdout().lock();
    stdout.write_all(&text)?;
    stdout.flush()
}
