//! Running commands to their end, or in the background under a guard.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use crate::interrupt;

/// Seconds after which a command is killed and its test fails.
const PATIENCE: &str = "30";

/// What a command came to.
#[derive(Debug)]
pub struct Finished {
    /// The command line, for messages.
    pub command: String,
    /// The exit code; 128 + n for signal n.
    pub code: i32,
    /// What it printed.
    pub stdout: String,
    /// What it complained about.
    pub stderr: String,
}

impl Finished {
    /// Fails the test unless the command ended with 0. Gives what it printed.
    #[track_caller]
    pub fn success(self) -> String {
        assert_eq!(
            self.code, 0,
            "`{}` failed\nstdout: {}\nstderr: {}",
            self.command, self.stdout, self.stderr
        );
        self.stdout
    }
}

/// Runs a command to its end, at most half a minute.
///
/// # Panics
/// When the command cannot be started.
pub fn run<S: AsRef<str>>(words: &[S]) -> Finished {
    let words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
    let command = words.join(" ");
    interrupt::rest_if_interrupted();
    let output = Command::new("timeout")
        .args(["--kill-after=1", PATIENCE])
        .args(&words)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|e| panic!("`{command}`: {e}"));
    Finished {
        command,
        code: exit_code(output.status),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

pub(crate) fn exit_code(status: std::process::ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// Waits until a condition holds, and gives how long that took.
///
/// # Panics
/// When it does not hold in time.
#[track_caller]
pub fn wait_until(what: &str, patience: Duration, mut holds: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < patience, "not within {patience:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
    start.elapsed()
}

/// A process that runs beside the test, and is killed when dropped. Closing its standard input
/// ([`Background::end`]) tells the tools of these tests to print what they saw and finish.
#[derive(Debug)]
pub struct Background {
    command: String,
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Background {
    /// Starts a process.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start<S: AsRef<str>>(words: &[S]) -> Background {
        let words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
        let command = words.join(" ");
        interrupt::rest_if_interrupted();
        let mut child = Command::new(words[0])
            .args(&words[1..])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("`{command}`: {e}"));
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take().expect("piped"));
        Background { command, child, stdin, stdout: BufReader::new(stdout) }
    }

    /// Waits for the process to print this line next.
    ///
    /// # Panics
    /// When it prints another line, or ends.
    pub fn expect_line(mut self, expected: &str) -> Background {
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("reading the process's output");
        assert_eq!(line.trim_end(), expected, "`{}`", self.command);
        self
    }

    /// The next line that the process prints.
    ///
    /// # Panics
    /// When it ends instead.
    #[track_caller]
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        let len = self.stdout.read_line(&mut line).expect("reading the process's output");
        assert!(len > 0, "`{}` ended", self.command);
        line
    }

    /// The process's standard input.
    ///
    /// # Panics
    /// When it was closed.
    pub fn stdin(&mut self) -> &mut ChildStdin {
        self.stdin.as_mut().expect("open until the end")
    }

    /// Closes the process's standard input, waits for its end and gives the rest of what it printed.
    ///
    /// # Panics
    /// When it fails.
    pub fn end(mut self) -> String {
        self.stdin = None;
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).expect("reading the process's output");
        let status = self.child.wait().expect("waiting for the process");
        assert!(status.success(), "`{}` ended with {status}: {rest}", self.command);
        rest
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // Already gone is fine: then there is nothing to kill, and it is reaped here.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
