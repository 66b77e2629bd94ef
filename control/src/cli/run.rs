//! `podswitch run` and `podswitch check`.

use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use podswitch_api::{Code, Config, Error, FieldError};
use sd_notify::NotifyState;
use signal_hook::consts::{SIGINT, SIGTERM};
use tracing_subscriber::EnvFilter;

use super::out::{Failure, Out};
use crate::backend::Backend;
use crate::daemon::Daemon;
use crate::server::Server;
use crate::store::Store;
use crate::tune;

/// The line of the log that says so.
const READY: &str = "podswitch is ready";

#[derive(Debug, clap::Args)]
pub struct Run {
    /// The configuration, TOML or JSON; docs/podswitch.example.toml tells every key.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

#[derive(Debug, clap::Args)]
pub struct Check {
    /// The configuration, TOML or JSON; `-` is the standard input.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

impl Check {
    pub fn run(&self, out: &Out) -> Result<(), Failure> {
        let config = super::load(&self.config)?;
        if out.json { out.json(&config) } else { out.text("the configuration is valid") }
    }
}

impl Run {
    pub fn run<B: Backend>(
        &self,
        socket: Option<&Path>,
        log: Option<&str>,
        start: impl FnOnce(&Config) -> Result<B, Error>,
    ) -> Result<(), Failure> {
        init_log(log)?;
        let config = super::load(&self.config)?;
        let store = Store::new(&config);
        let state = match &store {
            Some(store) => store.load().map_err(Failure::Config)?,
            None => config,
        };
        let switch = state.switch_or_default();
        // Whoever names a socket means that the daemon listens there.
        if let Some(socket) = socket.filter(|&socket| socket != switch.socket) {
            let there = switch.socket.display();
            return Err(Failure::Refused(Error::field(
                Code::InvalidParams,
                FieldError::new(
                    "--socket (or PODSWITCH_SOCKET)",
                    socket.display(),
                    format!("{there}, as [switch] socket says, or change it there"),
                ),
            )));
        }
        let online = tune::online();
        if let Some(cpu) = tune::absent_cpu(&switch, &online).filter(|_| !online.is_empty()) {
            return Err(Failure::Refused(Error::field(
                Code::InvalidParams,
                FieldError::new("switch.cpus", cpu, format!("CPUs that are online: {online:?}")),
            )));
        }
        let runtime = |what: &str, e: io::Error| Failure::Runtime(format!("{what}: {e}"));

        // From here on a signal ends the daemon the clean way.
        let (stop, stopped) = UnixStream::pair().map_err(|e| runtime("the signal pipe", e))?;
        for signal in [SIGTERM, SIGINT] {
            let end = stop.try_clone().map_err(|e| runtime("the signal pipe", e))?;
            signal_hook::low_level::pipe::register(signal, end)
                .map_err(|e| runtime("handling signals", e))?;
        }
        // The socket before the switch: a second daemon must be refused before it touches the
        // first one's interfaces.
        let server = Server::bind(&switch).map_err(Failure::Bind)?;
        let mut backend = start(&state).map_err(Failure::Refused)?;
        let served = Daemon::new(server, &mut backend, store, stopped.as_fd()).and_then(|daemon| {
            tracing::info!(socket = %switch.socket.display(), "{READY}");
            // Without a service manager there is nobody to tell.
            let _ = sd_notify::notify(&[NotifyState::Ready]);
            daemon.run()
        });
        let _ = sd_notify::notify(&[NotifyState::Stopping]);
        tracing::info!("stopping");
        let undone = backend.stop().map_err(Failure::Refused);
        served.map_err(|e| runtime("the event loop", e))?;
        undone
    }
}

/// Logs to stderr, for people; `info` unless `--log` or RUST_LOG say otherwise.
fn init_log(log: Option<&str>) -> Result<(), Failure> {
    let from_env = std::env::var("RUST_LOG").ok().filter(|v| !v.is_empty());
    let filter = log.map(str::to_owned).or(from_env).unwrap_or_else(|| "info".to_owned());
    let filter = EnvFilter::try_new(&filter).map_err(|e| {
        let expected = "expected a level like debug, or podswitch=trace";
        Failure::Runtime(format!("--log or RUST_LOG = {filter:?}: {e}: {expected}"))
    })?;
    let color = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(color)
        .with_target(false)
        .init();
    Ok(())
}
