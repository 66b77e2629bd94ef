//! `podswitch cni install` and `podswitch cni uninstall`: the CNI plugin and a network
//! configuration, put where container runtimes look for them.

mod conflist;
mod place;

use std::path::{Path, PathBuf};

use clap::Subcommand;
use podswitch_api::state::DEFAULT_SOCKET;
use serde::Serialize;

use super::Daemon;
use super::out::{Failure, Out};

/// The plugin's file, beside our own and in the runtime's folder.
const PLUGIN: &str = "podswitch-cni";
/// The chained plugin that host ports need.
const PORTMAP: &str = "portmap";

#[derive(Debug, Subcommand)]
pub enum Cni {
    /// Install the CNI plugin, and a network configuration that uses it.
    ///
    /// The plugin first, the configuration last, each in one step, so that a runtime never sees
    /// half of it. Doing it again changes nothing.
    #[command(after_help = "Examples:
  podswitch cni install
  podswitch cni install --bin-dir /usr/lib/cni           where Debian's containerd looks
  podswitch cni install --binary ./podswitch-cni --name 05-podswitch.conflist
  podswitch cni install --without-portmap                no host ports")]
    Install(Install),
    /// Remove the network configuration and the CNI plugin.
    ///
    /// The configuration first, the plugin last. Pods that run keep their network; unplug them
    /// first if they are to leave it.
    #[command(after_help = "Examples:
  podswitch cni uninstall
  podswitch cni uninstall --keep-binary                  containers can still be removed")]
    Uninstall(Uninstall),
}

#[derive(Debug, clap::Args)]
struct Places {
    /// Where the runtime looks for plugins.
    #[arg(long, value_name = "DIR", default_value = "/opt/cni/bin")]
    bin_dir: PathBuf,
    /// Where the runtime looks for network configurations.
    #[arg(long, value_name = "DIR", default_value = "/etc/cni/net.d")]
    conf_dir: PathBuf,
    /// The configuration's file; runtimes take the first of the folder.
    #[arg(long, value_name = "FILE", default_value = "10-podswitch.conflist", value_parser = conf_name)]
    name: String,
}

#[derive(Debug, clap::Args)]
pub struct Install {
    #[command(flatten)]
    places: Places,
    /// The plugin's binary; by default the one beside this program.
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Do not chain the portmap plugin: pods have no host ports.
    #[arg(long)]
    without_portmap: bool,
}

#[derive(Debug, clap::Args)]
pub struct Uninstall {
    #[command(flatten)]
    places: Places,
    /// Leave the plugin, so that runtimes can still remove containers.
    #[arg(long)]
    keep_binary: bool,
}

/// A file, and whether the command changed it.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct File {
    path: PathBuf,
    changed: bool,
}

/// What a command did.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Done {
    binary: File,
    conf: File,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
}

fn conf_name(text: &str) -> Result<String, String> {
    if text.ends_with(".conflist") && !text.contains('/') && !text.starts_with('.') {
        Ok(text.to_owned())
    } else {
        Err("expected the name of a file that ends with .conflist".to_owned())
    }
}

impl Places {
    fn binary(&self) -> PathBuf {
        self.bin_dir.join(PLUGIN)
    }

    fn conf(&self) -> PathBuf {
        self.conf_dir.join(&self.name)
    }
}

impl Cni {
    pub(super) fn run(self, daemon: &Daemon, out: &Out) -> Result<(), Failure> {
        let (done, verbs) = match self {
            Cni::Install(install) => (install.run(&daemon.socket)?, ["installed", "there already"]),
            Cni::Uninstall(uninstall) => (uninstall.run()?, ["removed", "unchanged"]),
        };
        if out.json {
            return out.json(&done);
        }
        let line = |file: &File| {
            let verb = if file.changed { verbs[0] } else { verbs[1] };
            format!("{}: {verb}", file.path.display())
        };
        let mut lines = vec![line(&done.binary), line(&done.conf)];
        lines.extend(done.notes.iter().map(|note| format!("note: {note}")));
        out.text(&lines.join("\n"))
    }
}

impl Install {
    fn run(&self, socket: &Path) -> Result<Done, Failure> {
        let source = match &self.binary {
            Some(path) => path.clone(),
            None => beside_us()?,
        };
        let plugin = std::fs::read(&source).map_err(|e| {
            Failure::Runtime(format!(
                "cannot read the plugin {}: {e}: build it with `make build`, or name it with \
                 --binary",
                source.display()
            ))
        })?;
        let portmap = match (self.without_portmap, self.places.bin_dir.join(PORTMAP)) {
            (true, _) => None,
            (false, path) if path.is_file() => Some(path),
            (false, path) => return Err(Failure::Runtime(portmap_missing(&path))),
        };
        let socket = (socket != Path::new(DEFAULT_SOCKET)).then_some(socket);
        let conf = conflist::text(portmap.as_deref(), socket).map_err(Failure::Runtime)?;
        let (binary_path, conf_path) = (self.places.binary(), self.places.conf());
        conflist::check_ours(&conf_path)?;
        let binary = place::write(&binary_path, &plugin, 0o755)?;
        let conf = place::write(&conf_path, conf.as_bytes(), 0o644)?;
        let mut notes = Vec::new();
        if let Some(first) = conflist::first_before(&self.places.conf_dir, &self.places.name) {
            notes.push(format!(
                "{} comes first in its folder, and runtimes take the first: remove it, or \
                 install with a --name that sorts before it",
                first.display()
            ));
        }
        Ok(Done {
            binary: File { path: binary_path, changed: binary },
            conf: File { path: conf_path, changed: conf },
            notes,
        })
    }
}

impl Uninstall {
    fn run(&self) -> Result<Done, Failure> {
        let (binary_path, conf_path) = (self.places.binary(), self.places.conf());
        conflist::check_ours(&conf_path)?;
        let conf = place::remove(&conf_path)?;
        let other = conflist::other_of_ours(&self.places.conf_dir, &self.places.name);
        let binary = !self.keep_binary && other.is_none() && place::remove(&binary_path)?;
        let notes = other.into_iter().filter(|_| !self.keep_binary).map(|other| {
            format!(
                "{} stays, as {} names it, too: remove that with --name first",
                binary_path.display(),
                other.display()
            )
        });
        let notes = notes.collect();
        Ok(Done {
            binary: File { path: binary_path, changed: binary },
            conf: File { path: conf_path, changed: conf },
            notes,
        })
    }
}

fn portmap_missing(path: &Path) -> String {
    let debian = Path::new("/usr/lib/cni").join(PORTMAP);
    let cure = if debian.is_file() {
        format!("copy {} there", debian.display())
    } else {
        "install it (Debian: containernetworking-plugins)".to_owned()
    };
    format!(
        "there is no {}, which host ports need: {cure}, name the runtime's folder with --bin-dir, \
         or do without it (--without-portmap)",
        path.display()
    )
}

fn beside_us() -> Result<PathBuf, Failure> {
    let ours = std::env::current_exe()
        .map_err(|e| Failure::Runtime(format!("cannot tell where this program is: {e}")))?;
    Ok(ours.with_file_name(PLUGIN))
}

#[cfg(test)]
mod tests;
