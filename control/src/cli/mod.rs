//! The command line.

mod announce;
mod apply;
mod attachment;
mod cni;
mod lists;
mod object;
mod out;
mod run;
mod show;
mod tune;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use podswitch_api::state::DEFAULT_SOCKET;
use podswitch_api::{Client, Error, Response};

use crate::backend::Backend;
use crate::config;
use out::{Failure, Out};
use podswitch_api::{Config, Request};

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed at run time: the kernel or the daemon refused
  2  wrong usage, or a configuration that makes no sense
  3  the daemon cannot be reached, or does not answer in time
  4  permission refused
  5  `tune --check` found something that is not ideal";

const EXAMPLES: &str = "\
Examples:
  podswitch run --config /etc/podswitch/podswitch.toml
      Run the switch in the foreground until SIGTERM.
  podswitch port add --dev eth1
      Take an existing interface as a bridge port.
  podswitch port add --netns /run/netns/web --ifname eth0 --ip 10.244.1.5/24 web
      Give the network namespace of a pod an interface.
  podswitch tunnel add --remote 192.0.2.2 --vni 1 node2
  podswitch route add 10.244.2.0/24 node2
      Reach another node's pods.
  podswitch show drops
      Why frames were lost, by name.";

/// A pod network in one process: bridges, routes and tunnels over AF_XDP.
#[derive(Debug, Parser)]
#[command(
    name = "podswitch",
    version,
    after_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"),
    disable_help_subcommand = true
)]
struct Args {
    #[arg(
        help = format!(
            "The daemon's control socket [default: {DEFAULT_SOCKET}]. Where it listens, `[switch] socket` in its \
             configuration says"
        ),
        long,
        global = true,
        value_name = "PATH",
        env = "PODSWITCH_SOCKET",
        hide_env_values = true
    )]
    socket: Option<PathBuf>,

    /// Print JSON, one document.
    #[arg(long, global = true)]
    json: bool,

    /// What to log, like `debug` or `podswitch=trace`; overrides RUST_LOG.
    #[arg(long, global = true, value_name = "FILTER")]
    log: Option<String>,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the switch in the foreground.
    ///
    /// Logs go to stderr. When all is set up, a line says "podswitch is ready", and systemd is
    /// told (Type=notify). SIGTERM and SIGINT end it and leave nothing behind.
    Run(run::Run),
    /// Validate a configuration file and touch nothing.
    Check(run::Check),
    /// Make the running switch like a file, all or nothing.
    Apply(apply::Apply),
    /// Tell about the running switch.
    Show(show::Show),
    /// Ports: existing interfaces and pods.
    #[command(subcommand)]
    Port(object::Port),
    /// Segments: bridge domains.
    #[command(subcommand)]
    Segment(object::Segment),
    /// Tunnels to other nodes.
    #[command(subcommand)]
    Tunnel(object::Tunnel),
    /// Routes.
    #[command(subcommand)]
    Route(object::Route),
    /// Neighbours: the MAC addresses of IP addresses.
    #[command(subcommand)]
    Neighbor(object::Neighbor),
    /// The forwarding database: where MAC addresses are.
    #[command(subcommand)]
    Fdb(object::Fdb),
    /// Attachments: the pods that a container runtime plugged in.
    #[command(subcommand)]
    Attachment(attachment::Attachment),
    /// The CNI plugin, for container runtimes.
    #[command(subcommand)]
    Cni(cni::Cni),
    /// Tell what of this host is not ideal, and why.
    Tune(tune::Tune),
    /// Print a completion script.
    ///
    /// For bash: podswitch completions bash > /etc/bash_completion.d/podswitch
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// Runs the command line. `start` makes the backend of `podswitch run`.
pub fn main<B: Backend>(start: impl FnOnce(&Config) -> Result<B, Error>) -> ExitCode {
    let args = Args::parse();
    let out = Out { json: args.json };
    match dispatch(args, &out, start) {
        Ok(code) => code,
        Err(failure) => failure.report(),
    }
}

fn dispatch<B: Backend>(
    args: Args,
    out: &Out,
    start: impl FnOnce(&Config) -> Result<B, Error>,
) -> Result<ExitCode, Failure> {
    let named = args.socket.as_deref();
    let daemon = Daemon { socket: named.unwrap_or(Path::new(DEFAULT_SOCKET)).to_owned() };
    let done = match args.command {
        Command::Run(run) => run.run(named, args.log.as_deref(), start),
        Command::Check(check) => check.run(out),
        Command::Apply(apply) => apply.run(&daemon, out),
        Command::Show(show) => show.run(&daemon, out),
        Command::Port(o) => o.run(&daemon, out),
        Command::Segment(o) => o.run(&daemon, out),
        Command::Tunnel(o) => o.run(&daemon, out),
        Command::Route(o) => o.run(&daemon, out),
        Command::Neighbor(o) => o.run(&daemon, out),
        Command::Fdb(o) => o.run(&daemon, out),
        Command::Attachment(o) => o.run(&daemon, out),
        Command::Cni(o) => o.run(&daemon, out),
        Command::Tune(tune) => return tune.run(out),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Args::command(), "podswitch", &mut script);
            out.bytes(&script)
        }
    };
    done.map(|()| ExitCode::SUCCESS)
}

/// The daemon that the command talks to.
struct Daemon {
    socket: PathBuf,
}

impl Daemon {
    /// Carries out a request; prints the result's JSON if asked to, and else hands it over to be
    /// shown.
    fn call(
        &self,
        request: &Request,
        out: &Out,
        show: impl FnOnce(Response) -> String,
    ) -> Result<(), Failure> {
        let mut client = Client::connect(&self.socket)?;
        if out.json {
            return out.json(&client.call_raw(request)?);
        }
        out.text(&show(client.call(request)?))
    }
}

fn load(path: &std::path::Path) -> Result<Config, Failure> {
    config::load(path).map_err(Failure::Config)
}

#[cfg(test)]
mod tests;
