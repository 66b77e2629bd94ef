//! What the command line prints, and how it ends.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use comfy_table::presets::NOTHING;
use comfy_table::{Attribute, Cell, CellAlignment, Color, ContentArrangement, Table};
use podswitch_api::view::Oper;
use podswitch_api::{ClientError, Code};
use serde::Serialize;

use crate::config::ConfigError;
use crate::server::BindError;

/// Where results go.
pub struct Out {
    /// As JSON, not for people.
    pub json: bool,
}

impl Out {
    /// Prints a result for programs.
    pub fn json(&self, value: &impl Serialize) -> Result<(), Failure> {
        let text =
            serde_json::to_string_pretty(value).map_err(|e| Failure::Runtime(e.to_string()))?;
        self.text(&text)
    }

    /// Prints lines for people; nothing for an empty text.
    pub fn text(&self, text: &str) -> Result<(), Failure> {
        if text.is_empty() { Ok(()) } else { self.bytes(format!("{text}\n").as_bytes()) }
    }

    /// Prints bytes. A reader that has gone away, such as `head`, has seen enough.
    pub fn bytes(&self, bytes: &[u8]) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
            Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
                Err(Failure::Runtime(format!("cannot write to stdout: {e}")))
            }
            _ => Ok(()),
        }
    }
}

/// Why the command failed.
#[derive(Debug)]
pub enum Failure {
    /// Exit code 1.
    Runtime(String),
    /// The control socket cannot be made; exit code by its kind.
    Bind(BindError),
    /// Exit code 2.
    Config(ConfigError),
    /// Exit code by its kind.
    Client(ClientError),
    /// A refusal that did not come over the socket; exit code by its kind.
    Refused(podswitch_api::Error),
}

impl From<ClientError> for Failure {
    fn from(e: ClientError) -> Failure {
        Failure::Client(e)
    }
}

impl Failure {
    /// Prints a line for each thing that is wrong, and tells the exit code.
    pub fn report(&self) -> ExitCode {
        let lines = match self {
            Failure::Config(e) => e.lines().to_vec(),
            Failure::Runtime(e) => vec![e.clone()],
            Failure::Bind(e) => vec![e.to_string()],
            Failure::Client(ClientError::Refused(e)) | Failure::Refused(e) => refusal(e),
            Failure::Client(e) => vec![e.to_string()],
        };
        let mut stderr = io::stderr().lock();
        for line in lines {
            // With stderr gone there is nobody to tell; the exit code still does.
            let _ = writeln!(stderr, "error: {}", line.replace('\n', " "));
        }
        ExitCode::from(self.code())
    }

    fn code(&self) -> u8 {
        let refused = |e: &podswitch_api::Error| match e.code {
            Code::PermissionDenied => 4,
            Code::InvalidParams | Code::InvalidRequest | Code::NeedsRestart => 2,
            Code::Busy => 3,
            _ => 1,
        };
        match self {
            Failure::Runtime(_) => 1,
            Failure::Bind(BindError::NoSuchGroup(_)) => 2,
            Failure::Bind(BindError::System { source, .. })
                if source.kind() == io::ErrorKind::PermissionDenied =>
            {
                4
            }
            Failure::Bind(_) => 1,
            Failure::Config(_) => 2,
            Failure::Refused(e) | Failure::Client(ClientError::Refused(e)) => refused(e),
            Failure::Client(ClientError::Denied { .. }) => 4,
            Failure::Client(ClientError::Protocol(_)) => 1,
            Failure::Client(_) => 3,
        }
    }
}

/// The error's sentence, and one for each further field.
fn refusal(e: &podswitch_api::Error) -> Vec<String> {
    match &e.data {
        // What is in use is one thing, however many use it.
        Some(data) if !data.more.is_empty() && e.code != Code::InUse => {
            std::iter::once(&data.first).chain(&data.more).map(ToString::to_string).collect()
        }
        _ => vec![e.message.clone()],
    }
}

/// A table with a heading, its columns as wide as they need to be.
pub fn table<const N: usize>(heading: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    if !color() {
        table.force_no_tty();
    }
    table.set_header(heading.map(|h| Cell::new(h).add_attribute(Attribute::Bold)));
    table
}

/// The table as text, without blanks at the ends of lines.
pub fn render(mut table: Table, right: &[usize]) -> String {
    for (i, column) in table.column_iter_mut().enumerate() {
        // Two blanks between columns, none before the first.
        column.set_padding((0, 2));
        if right.contains(&i) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let lines: Vec<String> = table.lines().map(|l| l.trim_end().to_owned()).collect();
    lines.join("\n")
}

/// A cell that stands out when something does not work.
pub fn state(state: Oper) -> Cell {
    match state {
        Oper::Up => colored("up", Color::Green),
        Oper::Down => colored("down", Color::Red),
    }
}

fn colored(text: &str, to: Color) -> Cell {
    if color() { Cell::new(text).fg(to) } else { Cell::new(text) }
}

/// Colour only on a terminal, and not with NO_COLOR (<https://no-color.org>).
fn color() -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
    io::stdout().is_terminal() && !refused
}

/// What there is, or a dash.
pub fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |v| v.to_string())
}

/// A list with commas, or a dash.
pub fn list<T: ToString>(values: impl IntoIterator<Item = T>) -> String {
    let values: Vec<String> = values.into_iter().map(|v| v.to_string()).collect();
    if values.is_empty() { "-".to_owned() } else { values.join(",") }
}
