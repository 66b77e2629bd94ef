//! CNI plugins, executed as a container runtime executes them.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::command::exit_code;
use crate::daemon::podswitch_path;
use crate::netns::Netns;

/// Where Debian's containernetworking-plugins has the reference plugins.
pub const REFERENCE: &str = "/usr/lib/cni";

/// The plugin under test: `podswitch-cni` beside `podswitch`.
pub fn plugin_path() -> PathBuf {
    let path = podswitch_path().with_file_name("podswitch-cni");
    assert!(path.exists(), "{} is missing: run `cargo build -p podswitch-cni`", path.display());
    path
}

/// One execution of a plugin: its environment and its standard input.
#[derive(Debug, Clone)]
pub struct Call {
    plugin: PathBuf,
    env: BTreeMap<String, String>,
    input: Vec<u8>,
}

impl Call {
    /// A call of `plugin` with a configuration and `CNI_COMMAND`.
    pub fn new(plugin: &Path, command: &str, conf: &Value) -> Call {
        let call =
            Call { plugin: plugin.into(), env: BTreeMap::new(), input: conf.to_string().into() };
        call.env("CNI_COMMAND", command)
    }

    /// Sets a variable.
    pub fn env(mut self, name: &str, value: &str) -> Call {
        self.env.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Leaves a variable out.
    pub fn without(mut self, name: &str) -> Call {
        self.env.remove(name);
        self
    }

    /// Gives other bytes on the standard input.
    pub fn input(mut self, bytes: &[u8]) -> Call {
        self.input = bytes.to_vec();
        self
    }

    /// The variables.
    pub fn variables(&self) -> &BTreeMap<String, String> {
        &self.env
    }

    /// Starts the plugin in the node's namespace.
    pub fn start(&self, node: &Netns) -> Running {
        let words = node.words(&[]);
        let mut child = Command::new("timeout")
            .args(["--kill-after=1", "60"])
            .args(&words)
            .arg(&self.plugin)
            .env_clear()
            // Plugins execute tools, such as iptables.
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .envs(&self.env)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("{}: {e}", self.plugin.display()));
        // A plugin that fails early does not read its input.
        let _ = child.stdin.take().expect("piped").write_all(&self.input);
        Running { what: format!("{:?}", self.env), child }
    }

    /// Runs the plugin to its end.
    pub fn run(&self, node: &Netns) -> Said {
        self.start(node).end()
    }
}

/// A plugin that runs.
#[derive(Debug)]
pub struct Running {
    what: String,
    child: Child,
}

impl Running {
    /// Waits for its end.
    ///
    /// # Panics
    /// When its output is no text.
    pub fn end(self) -> Said {
        let output = self.child.wait_with_output().expect("waiting for a plugin");
        Said {
            what: self.what,
            code: exit_code(output.status),
            stdout: String::from_utf8(output.stdout).expect("JSON is UTF-8"),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Kills the plugin with SIGKILL, if it has not ended.
    pub fn kill(&self) {
        // The child is `timeout`, its own child the plugin.
        let pid = self.child.id();
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        for child in children.unwrap_or_default().split_whitespace() {
            let child = Pid::from_raw(child.parse().expect("a process id"));
            // It may have ended meanwhile.
            let _ = kill(child, Signal::SIGKILL);
        }
    }
}

/// What a plugin said.
#[derive(Debug, Clone)]
pub struct Said {
    /// The variables of the call, for messages.
    pub what: String,
    /// The exit code.
    pub code: i32,
    /// What it wrote for the runtime.
    pub stdout: String,
    /// What it wrote for people.
    pub stderr: String,
}

impl Said {
    /// Fails the test unless the plugin succeeded. Gives the result.
    #[track_caller]
    pub fn result(&self) -> Value {
        assert_eq!(self.code, 0, "{self:#?}");
        self.json()
    }

    /// Fails the test unless the plugin succeeded and said nothing, as for all commands but ADD
    /// and VERSION.
    #[track_caller]
    pub fn silence(&self) {
        assert_eq!((self.code, self.stdout.as_str()), (0, ""), "{self:#?}");
    }

    /// Fails the test unless the plugin failed with an error structure. Gives it.
    #[track_caller]
    pub fn error(&self) -> Value {
        assert_ne!(self.code, 0, "{self:#?}");
        let error = self.json();
        assert!(error["code"].is_u64() && error["msg"].is_string(), "{self:#?}");
        error
    }

    /// Fails the test unless the plugin failed with this code. Gives message and details.
    #[track_caller]
    pub fn fails_with(&self, code: u64) -> String {
        let error = self.error();
        assert_eq!(error["code"], code, "{self:#?}");
        format!("{}: {}", error["msg"], error["details"])
    }

    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {self:#?}"))
    }
}

/// A network configuration list, executed in a runtime's place (section 3 of the specification).
#[derive(Debug)]
pub struct List {
    list: Value,
    folder: PathBuf,
}

impl List {
    /// Reads a configuration whose plugins are in `folder`.
    ///
    /// # Panics
    /// When it is none.
    pub fn read(path: &Path, folder: &Path) -> List {
        let text = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let list = serde_json::from_slice(&text).expect("a configuration is JSON");
        List { list, folder: folder.into() }
    }

    /// Plugs a container in as `eth0`, with the capability arguments that the plugins declare.
    /// Gives the last result.
    #[track_caller]
    pub fn add(&self, node: &Netns, container: &Netns, arguments: &Value) -> Value {
        let mut result = None;
        for plugin in self.plugins() {
            let call = self.call("ADD", plugin, container, arguments, result.as_ref());
            result = Some(call.run(node).result());
        }
        result.expect("a list has plugins")
    }

    /// Checks a container, up to the first plugin that complains.
    pub fn check(
        &self,
        node: &Netns,
        container: &Netns,
        arguments: &Value,
        result: &Value,
    ) -> Said {
        let calls = self
            .plugins()
            .iter()
            .map(|p| self.call("CHECK", p, container, arguments, Some(result)));
        let mut said = calls.map(|call| call.run(node));
        let mut last = said.next().expect("a list has plugins");
        for next in said {
            if last.code != 0 {
                break;
            }
            last = next;
        }
        last
    }

    /// Unplugs a container.
    #[track_caller]
    pub fn del(&self, node: &Netns, container: &Netns, arguments: &Value, result: Option<&Value>) {
        for plugin in self.plugins().iter().rev() {
            self.call("DEL", plugin, container, arguments, result).run(node).silence();
        }
    }

    fn plugins(&self) -> &[Value] {
        self.list["plugins"].as_array().expect("a list has plugins")
    }

    fn call(
        &self,
        command: &str,
        plugin: &Value,
        container: &Netns,
        arguments: &Value,
        result: Option<&Value>,
    ) -> Call {
        let mut conf = plugin.clone();
        conf["cniVersion"] = self.list["cniVersion"].clone();
        conf["name"] = self.list["name"].clone();
        let declared = conf.as_object_mut().and_then(|c| c.remove("capabilities"));
        for (name, value) in arguments.as_object().into_iter().flatten() {
            if declared.as_ref().is_some_and(|d| d[name] == true) {
                conf["runtimeConfig"][name] = value.clone();
            }
        }
        if let Some(result) = result {
            conf["prevResult"] = result.clone();
        }
        let file = self.folder.join(plugin["type"].as_str().expect("a plugin has a type"));
        Call::new(&file, command, &conf)
            .env("CNI_CONTAINERID", container.name())
            .env("CNI_NETNS", container.path())
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", self.folder.to_str().expect("made of ASCII"))
    }
}
