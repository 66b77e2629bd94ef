//! A container runtime as the caller of a CNI plugin: containerd and runc, told what to do over CRI, as a
//! kubelet would, by `tools/cri.py`. Root, state and socket are the lab's own, so that several run beside
//! each other and beside the machine's.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::command::{Background, run, wait_until};
use crate::lab::Lab;
use crate::netns::Netns;
use crate::peers::tool;
use crate::rates::receives;

const IMAGE: &str = "localhost/podswitch-test:1";
/// Where Debian's containernetworking-plugins has the reference plugins.
const PLUGINS: &str = "/usr/lib/cni";

/// A containerd in the network namespace of a node. Dropped, it removes its pods first.
#[derive(Debug)]
pub struct Containerd {
    netns: Netns,
    folder: PathBuf,
    child: Option<Child>,
    driver: Option<Background>,
    /// Sandboxes that were asked for, so that names are not used twice.
    count: u32,
}

/// A pod as the runtime made it.
#[derive(Debug, Clone)]
pub struct Sandbox {
    /// Its identifier.
    pub id: String,
    /// Its first address.
    pub ip: String,
    /// All its addresses.
    pub ips: Vec<String>,
    /// Its network namespace.
    netns: String,
    config: Value,
}

impl Containerd {
    /// Starts a containerd with one network configuration list, whose plugins are the reference ones
    /// and `plugin`.
    #[track_caller]
    pub fn start(lab: &Lab, netns: &Netns, plugin: Option<&Path>, conflist: &Value) -> Containerd {
        let name = netns.name().rsplit('-').next().expect("rsplit gives at least one");
        let folder = lab.folder().join(format!("{name}.containerd"));
        // Its database is written through to the disk at every step, which others may keep busy.
        fs::create_dir_all(&folder).expect("making a folder");
        let at = folder.to_str().expect("made of ASCII");
        run(&["mount", "-t", "tmpfs", "-o", "size=512m", "containerd", at]).success();
        for part in ["bin", "conf"] {
            fs::create_dir_all(folder.join(part)).expect("making a folder");
        }
        let reference = fs::read_dir(PLUGINS).expect("containernetworking-plugins is installed");
        let plugins = reference.map(|entry| entry.expect("reading a folder").path());
        for plugin in plugins.chain(plugin.map(Path::to_owned)) {
            let name = plugin.file_name().expect("a file's path");
            std::os::unix::fs::symlink(&plugin, folder.join("bin").join(name)).expect("linking");
        }
        let list = conflist.to_string();
        fs::write(folder.join("conf/10-podswitch.conflist"), list).expect("writing the list");
        fs::write(folder.join("config.toml"), config(&folder)).expect("writing the configuration");
        let mut runtime =
            Containerd { netns: netns.clone(), folder, child: None, driver: None, count: 0 };
        runtime.resume();
        let image = runtime.path("image.tar");
        run(&split(&format!("{} image {image}", tool("cri.py")))).success();
        let socket = runtime.path("containerd.sock");
        run(&["ctr", "-a", &socket, "-n", "k8s.io", "images", "import", &image]).success();
        runtime
    }

    fn path(&self, name: &str) -> String {
        self.folder.join(name).to_str().expect("made of ASCII").to_owned()
    }

    /// Starts the process, and waits until it answers over CRI.
    #[track_caller]
    pub fn resume(&mut self) {
        let log = File::options().create(true).append(true).open(self.folder.join("log"));
        let words = self.netns.words(&["containerd", "--config", &self.path("config.toml")]);
        let child = Command::new(&words[0])
            .args(&words[1..])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.expect("opening the log"))
            .spawn()
            .expect("starting containerd");
        self.child = Some(child);
        let line = format!("{} drive {}", tool("cri.py"), self.path("containerd.sock"));
        self.driver = Some(Background::start(&split(&line)).expect_line("ready"));
        let ready = |answer: &Value| {
            let conditions = answer["status"]["conditions"].as_array();
            conditions.is_some_and(|c| c.len() == 2 && c.iter().all(|c| c["status"] == true))
        };
        wait_until("containerd is ready", Duration::from_secs(30), || {
            self.call("Status", json!({})).is_ok_and(|answer| ready(&answer))
        });
    }

    /// Ends the process, its pods go on; [`Containerd::resume`] starts another.
    pub fn end(&mut self, signal: Signal) {
        self.driver = None;
        if let Some(mut child) = self.child.take() {
            kill(Pid::from_raw(child.id().cast_signed()), signal).expect("containerd runs");
            child.wait().expect("reaping containerd");
        }
    }

    /// Makes calls at once; the result of each, or the runtime's error.
    ///
    /// # Panics
    /// When containerd was ended.
    #[track_caller]
    pub fn calls(&mut self, method: &str, requests: Vec<Value>) -> Vec<Result<Value, String>> {
        self.send(method, requests);
        self.answers()
    }

    /// Begins calls, to be awaited by [`Containerd::answers`].
    ///
    /// # Panics
    /// When containerd was ended.
    #[track_caller]
    pub fn send(&mut self, method: &str, requests: Vec<Value>) {
        let calls: Vec<Value> =
            requests.into_iter().map(|r| json!({ "method": method, "request": r })).collect();
        let driver = self.driver.as_mut().expect("containerd runs");
        writeln!(driver.stdin(), "{}", Value::from(calls)).expect("the driver reads");
    }

    /// The answers to [`Containerd::send`].
    ///
    /// # Panics
    /// When there are none.
    #[track_caller]
    pub fn answers(&mut self) -> Vec<Result<Value, String>> {
        let line = self.driver.as_mut().expect("containerd runs").line();
        let answers: Vec<Value> = serde_json::from_str(&line).expect("a list of answers");
        answers
            .into_iter()
            .map(|answer| match answer["error"].as_str() {
                Some(error) => Err(error.to_owned()),
                None => Ok(answer["result"].clone()),
            })
            .collect()
    }

    /// Makes one call.
    ///
    /// # Errors
    /// What the runtime says.
    #[track_caller]
    pub fn call(&mut self, method: &str, request: Value) -> Result<Value, String> {
        self.calls(method, vec![request]).remove(0)
    }

    /// What to ask for to get a new pod; `more` is put into its configuration.
    pub fn pod(&mut self, more: &Value) -> Value {
        self.count += 1;
        let name = format!("pod{}", self.count);
        let mut config = json!({
            "metadata": {"name": name, "uid": name, "namespace": "default"},
            "hostname": name, "log_directory": self.path("logs"), "linux": {},
        });
        for (key, value) in more.as_object().into_iter().flatten() {
            config[key] = value.clone();
        }
        json!({ "config": config })
    }

    /// Runs so many pods at once, all of which must come up.
    #[track_caller]
    pub fn run_pods(&mut self, count: usize, more: &Value) -> Vec<Sandbox> {
        let requests: Vec<Value> = (0..count).map(|_| self.pod(more)).collect();
        let made = self.calls("RunPodSandbox", requests.clone());
        let ids = made.into_iter().map(|made| {
            let made = made.unwrap_or_else(|e| panic!("RunPodSandbox: {e}"));
            made["pod_sandbox_id"].as_str().expect("an identifier").to_owned()
        });
        let ids: Vec<String> = ids.collect();
        ids.into_iter().zip(requests).map(|(id, r)| self.sandbox(id, &r["config"])).collect()
    }

    /// Runs one pod.
    #[track_caller]
    pub fn run_pod(&mut self, more: &Value) -> Sandbox {
        self.run_pods(1, more).remove(0)
    }

    #[track_caller]
    fn sandbox(&mut self, id: String, config: &Value) -> Sandbox {
        let request = json!({ "pod_sandbox_id": id, "verbose": true });
        let status = self.call("PodSandboxStatus", request).expect("its state");
        let info: Value = status["info"]["info"].as_str().map_or(Value::Null, |text| {
            serde_json::from_str(text).expect("the runtime's details are JSON")
        });
        let namespaces = info["runtimeSpec"]["linux"]["namespaces"].as_array().expect("a list");
        let network = namespaces.iter().find(|n| n["type"] == "network").expect("a network");
        let first = status["status"]["network"]["ip"].as_str().expect("an address").to_owned();
        let more = status["status"]["network"]["additional_ips"].as_array().into_iter().flatten();
        let more = more.filter_map(|ip| ip["ip"].as_str().map(str::to_owned));
        Sandbox {
            ips: std::iter::once(first.clone()).chain(more).collect(),
            ip: first,
            netns: network["path"].as_str().expect("a path").to_owned(),
            config: config.clone(),
            id,
        }
    }

    /// Starts a container of busybox in a pod. Gives its identifier.
    #[track_caller]
    pub fn run_container(&mut self, pod: &Sandbox, command: &[&str]) -> String {
        let request = json!({
            "pod_sandbox_id": pod.id, "sandbox_config": pod.config,
            "config": {"metadata": {"name": "main"}, "image": {"image": IMAGE}, "command": command},
        });
        let made = self.call("CreateContainer", request).expect("a container");
        let id = made["container_id"].as_str().expect("an identifier").to_owned();
        self.call("StartContainer", json!({ "container_id": id })).expect("it starts");
        id
    }

    /// Runs a command, split at spaces, in a container, which must end with 0. Gives what it printed.
    #[track_caller]
    pub fn exec(&mut self, container: &str, line: &str) -> String {
        let words: Vec<&str> = line.split(' ').collect();
        let request = json!({ "container_id": container, "cmd": words, "timeout": 20 });
        let done = self.call("ExecSync", request).expect("it runs");
        assert_eq!(done["exit_code"], 0, "`{line}`: {done}");
        done["stdout"].as_str().expect("text").to_owned()
    }

    /// The identifiers of all pods that the runtime knows.
    #[track_caller]
    pub fn pods(&mut self) -> Vec<String> {
        let list = self.call("ListPodSandbox", json!({})).expect("a list");
        let items = list["items"].as_array().expect("a list").iter();
        items.filter_map(|pod| pod["id"].as_str().map(str::to_owned)).collect()
    }

    /// Stops and removes pods at once, which must succeed.
    #[track_caller]
    pub fn remove(&mut self, ids: &[String]) {
        let requests = || ids.iter().map(|id| json!({ "pod_sandbox_id": id })).collect();
        for method in ["StopPodSandbox", "RemovePodSandbox"] {
            for answer in self.calls(method, requests()) {
                answer.unwrap_or_else(|e| panic!("{method}: {e}"));
            }
        }
    }

    /// What containerd logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// Removes all pods, ends the process and asserts that the runtime has nothing left.
    #[track_caller]
    pub fn finish(mut self) {
        let pods = self.pods();
        self.remove(&pods);
        assert_eq!(self.pods(), [""; 0], "pods that the runtime still has");
        self.end(Signal::SIGTERM);
        assert_eq!(self.mounts(), [""; 0], "what the runtime left mounted");
    }

    /// What is mounted below the folder, the innermost first.
    fn mounts(&self) -> Vec<String> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
        let mut below: Vec<String> = points
            .filter(|at| Path::new(at).starts_with(&self.folder))
            .map(str::to_owned)
            .collect();
        // The folder itself is one.
        below.reverse();
        below.pop();
        below
    }
}

impl Drop for Containerd {
    /// After a failure: whatever runs is killed and unmounted, best effort.
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().filter(|l| !l.contains("level=info")).collect();
            let last = &lines[lines.len().saturating_sub(15)..];
            eprintln!("---- containerd in {} said:\n{}\n----", self.netns.name(), last.join("\n"));
        }
        self.driver = None;
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let tasks = self.folder.join("state/io.containerd.runtime.v2.task/k8s.io");
        for task in fs::read_dir(tasks).into_iter().flatten().flatten() {
            if let Ok(pid) = fs::read_to_string(task.path().join("init.pid"))
                && let Ok(pid) = pid.trim().parse()
            {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
        for at in self.mounts().into_iter().chain([self.path("")]) {
            let _ = run(&["umount", "--lazy", at.trim_end_matches('/')]);
        }
    }
}

impl Sandbox {
    /// Runs a command line, split at spaces, in the pod's network.
    #[track_caller]
    pub fn sh(&self, line: &str) -> String {
        run(&self.words(line)).success()
    }

    /// The rate at which the pod receives in the next `window`: bits per second of Ethernet frames.
    #[track_caller]
    pub fn receives(&self, window: Duration) -> f64 {
        receives(|line| self.sh(line), window)
    }

    /// Starts a command line, split at spaces, in the pod's network.
    pub fn spawn(&self, line: &str) -> Background {
        Background::start(&self.words(line))
    }

    fn words(&self, line: &str) -> Vec<String> {
        let enter = ["nsenter".to_owned(), format!("--net={}", self.netns)];
        enter.into_iter().chain(line.split_whitespace().map(str::to_owned)).collect()
    }
}

fn split(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

/// Everything of the runtime's is below `folder`, the pods' network namespaces included.
fn config(folder: &Path) -> String {
    let folder = folder.display();
    format!(
        r#"version = 2
root = "{folder}/root"
state = "{folder}/state"
disabled_plugins = [
    "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
]
[grpc]
address = "{folder}/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{IMAGE}"
disable_apparmor = true
restrict_oom_score_adj = true
disable_tcp_service = true
netns_mounts_under_state_dir = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{folder}/bin"
conf_dir = "{folder}/conf"
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "overlayfs"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = false
"#
    )
}
