//! Delegated plugins, of IPAM as a rule: found and executed as section 4 wants it.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command as Process, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::Value;

use crate::conf::Conf;
use crate::env::{Command, Environment};
use crate::error::{Code, Error};
use crate::result::Received;

/// How long a delegated plugin may take. `dhcp` tries for minutes when no server answers, longer than
/// runtimes wait.
const TIMEOUT: Duration = Duration::from_secs(90);
/// The longest answer of a delegated plugin, bytes.
const MAX_ANSWER: u64 = 4 << 20;

/// A delegated plugin that exists.
#[derive(Debug)]
pub struct Delegate<'a> {
    name: &'a str,
    path: PathBuf,
    conf: &'a Conf,
}

impl<'a> Delegate<'a> {
    /// The plugin that the configuration delegates to, if it does.
    ///
    /// # Errors
    /// [`Code::InvalidEnvironment`] without a `CNI_PATH`, [`Code::DelegateFailed`] when the plugin
    /// is not there.
    pub fn find(conf: &'a Conf, env: &Environment) -> Result<Option<Delegate<'a>>, Error> {
        conf.ipam.delegate().map(|name| Delegate::named(name, conf, env)).transpose()
    }

    /// The plugin of this name.
    ///
    /// # Errors
    /// As [`Delegate::find`].
    pub fn named(name: &'a str, conf: &'a Conf, env: &Environment) -> Result<Delegate<'a>, Error> {
        if env.path.is_empty() {
            let details = format!("CNI_PATH is missing, which the plugin {name} is found by");
            return Err(Error::new(Code::InvalidEnvironment, details));
        }
        match env.path.iter().map(|folder| folder.join(name)).find(|path| path.is_file()) {
            Some(path) => Ok(Delegate { name, path, conf }),
            None => {
                let folders: Vec<_> = env.path.iter().map(|p| p.display().to_string()).collect();
                let details = format!(
                    "the plugin {name:?} is in none of the folders of CNI_PATH ({}): install it \
                     there, or correct ipam.type",
                    folders.join(", ")
                );
                Err(Error::new(Code::DelegateFailed, details))
            }
        }
    }

    /// Allocates addresses.
    pub fn add(&self) -> Result<Received, Error> {
        let answer = self.execute(Command::Add)?;
        let value: Value = serde_json::from_slice(&answer)
            .map_err(|e| self.failed(format_args!("its result is not JSON: {e}")))?;
        let result = Received::read(&value, self.name)
            .map_err(|e| self.failed(format_args!("its result is none: {}", e.details)))?;
        if result.ips.is_empty() {
            return Err(self.failed(format_args!("its result has no address")));
        }
        Ok(result)
    }

    /// Carries out a command that has no result: DEL, CHECK, GC or STATUS.
    pub fn run(&self, command: Command) -> Result<(), Error> {
        self.execute(command).map(drop)
    }

    /// Executes the plugin with our own environment, standard input and standard error.
    fn execute(&self, command: Command) -> Result<Vec<u8>, Error> {
        let deadline = Instant::now() + TIMEOUT;
        let mut child = Process::new(&self.path)
            .env("CNI_COMMAND", command.as_str())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| self.failed(format_args!("{}: {e}", self.path.display())))?;
        let answer = self.converse(&mut child, deadline);
        if answer.is_err() {
            // It may have ended meanwhile.
            let _ = child.kill();
        }
        let status = wait(&mut child, deadline);
        let answer = answer?;
        match status {
            Ok(status) if status.success() => Ok(answer),
            Ok(status) => Err(self.refusal(&answer, &status.to_string())),
            Err(e) => Err(self.failed(format_args!("waiting for its end: {e}"))),
        }
    }

    /// Writes the configuration and reads the answer, each on a thread of its own: neither side
    /// may wait for the other's pipe to be emptied.
    fn converse(&self, child: &mut Child, deadline: Instant) -> Result<Vec<u8>, Error> {
        let (Some(mut stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(self.failed(format_args!("it has no standard input or output")));
        };
        let bytes = self.conf.bytes().to_vec();
        // A plugin that does not read its input, as for VERSION, closes the pipe early.
        thread::spawn(move || drop(stdin.write_all(&bytes)));
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            let mut answer = Vec::new();
            let read = stdout.take(MAX_ANSWER).read_to_end(&mut answer).map(|_| answer);
            // Nobody listens any more after the deadline.
            let _ = sender.send(read);
        });
        match receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(e)) => Err(self.failed(format_args!("reading its result: {e}"))),
            Err(_) => {
                Err(self.failed(format_args!("it did not end within {} s", TIMEOUT.as_secs())))
            }
        }
    }

    /// The error structure that the plugin wrote, with its code; another error when it wrote none.
    fn refusal(&self, answer: &[u8], status: &str) -> Error {
        #[derive(Deserialize)]
        struct Structure {
            code: u32,
            #[serde(default)]
            msg: String,
            #[serde(default)]
            details: String,
        }
        match serde_json::from_slice::<Structure>(answer) {
            Ok(e) => Error {
                code: Code::Delegate(e.code),
                msg: format!("{}: {}", self.name, e.msg),
                details: e.details,
            },
            Err(_) => self.failed(format_args!("it ended with {status} and no error structure")),
        }
    }

    fn failed(&self, what: std::fmt::Arguments<'_>) -> Error {
        Error::new(Code::DelegateFailed, format!("the plugin {}: {what}", self.name))
    }
}

/// Waits for the end of a process that has closed its standard output, and kills one that lingers.
fn wait(child: &mut Child, deadline: Instant) -> std::io::Result<std::process::ExitStatus> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if Instant::now() >= deadline {
            child.kill()?;
            return child.wait();
        }
        thread::sleep(Duration::from_micros(200));
    }
}
