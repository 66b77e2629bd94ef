//! The network configuration that `podswitch cni install` writes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::super::out::Failure;
use super::PLUGIN;

/// The versions of the CNI specification that configurations are written in, best first.
const VERSIONS: [&str; 2] = ["1.1.0", "1.0.0"];

/// The configuration: our plugin, which needs no key to be set, and portmap behind it.
///
/// A runtime asks all plugins of a list in one version: it is the newest that portmap speaks.
pub fn text(portmap: Option<&Path>, socket: Option<&Path>) -> Result<String, String> {
    let version = match portmap {
        Some(portmap) => newest_of(portmap)?,
        None => VERSIONS[0],
    };
    let mut ours = json!({
        "type": PLUGIN,
        "ipMasq": true,
        "capabilities": {"mac": true, "ips": true, "bandwidth": true},
    });
    if let Some(socket) = socket {
        ours["socket"] = socket.display().to_string().into();
    }
    let mut plugins = vec![ours];
    if portmap.is_some() {
        plugins.push(json!({"type": "portmap", "capabilities": {"portMappings": true}}));
    }
    let list = json!({"cniVersion": version, "name": "podswitch", "plugins": plugins});
    let text = serde_json::to_string_pretty(&list).map_err(|e| e.to_string())?;
    Ok(text + "\n")
}

/// The newest version that the plugin speaks too, as its VERSION says.
fn newest_of(plugin: &Path) -> Result<&'static str, String> {
    let failed = |e: &dyn std::fmt::Display| {
        format!(
            "{} does not tell its versions: {e}: is it a CNI plugin? --without-portmap does \
             without it",
            plugin.display()
        )
    };
    let output = Command::new(plugin)
        .env("CNI_COMMAND", "VERSION")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .map_err(|e| failed(&e))?;
    let told: Value = serde_json::from_slice(&output.stdout).map_err(|e| failed(&e))?;
    let speaks = |v: &str| {
        told["supportedVersions"].as_array().is_some_and(|list| list.iter().any(|s| s == v))
    };
    VERSIONS.into_iter().find(|v| speaks(v)).ok_or_else(|| {
        format!(
            "{} speaks neither {}: install a newer one, or do without it (--without-portmap)",
            plugin.display(),
            VERSIONS.join(" nor ")
        )
    })
}

/// Refuses to touch another's configuration; one that does not exist is as good as ours.
pub fn check_ours(path: &Path) -> Result<(), Failure> {
    let Ok(text) = fs::read(path) else { return Ok(()) };
    if names_us(&text) {
        return Ok(());
    }
    Err(Failure::Runtime(format!(
        "{} is not podswitch's: it names no plugin {PLUGIN}; remove it yourself, or choose another \
         --name",
        path.display()
    )))
}

/// Whether a configuration, of one plugin or a list of them, names ours.
fn names_us(text: &[u8]) -> bool {
    let Ok(conf) = serde_json::from_slice::<Value>(text) else { return false };
    let is_ours = |plugin: &Value| plugin["type"] == PLUGIN;
    is_ours(&conf) || conf["plugins"].as_array().is_some_and(|list| list.iter().any(is_ours))
}

/// The first configuration of the folder, if it is not `name`: runtimes use that one.
pub fn first_before(folder: &Path, name: &str) -> Option<PathBuf> {
    let first = names_in(folder).into_iter().next()?;
    (first != name).then(|| folder.join(first))
}

/// The first other configuration of the folder than `name` that names our plugin.
pub fn other_of_ours(folder: &Path, name: &str) -> Option<PathBuf> {
    let others = names_in(folder).into_iter().filter(|other| other != name);
    let mut others = others.map(|other| folder.join(other));
    others.find(|path| fs::read(path).is_ok_and(|text| names_us(&text)))
}

/// The configurations of a folder, in the order in which runtimes read them.
fn names_in(folder: &Path) -> Vec<String> {
    let Ok(files) = fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<String> = files
        .filter_map(|file| file.ok()?.file_name().into_string().ok())
        .filter(|n| [".conf", ".conflist", ".json"].iter().any(|end| n.ends_with(end)))
        .filter(|n| !n.starts_with('.'))
        .collect();
    names.sort();
    names
}
