//! What a case stands on: a node, a plugin on it, and containers.

use std::path::PathBuf;

use podswitch_api::attachment::Attachment;
use podswitch_api::method::Empty;
use podswitch_api::{Client, Request, Response};
use podswitch_tests::cni::{Call, REFERENCE, Said, plugin_path};
use podswitch_tests::{Daemon, Lab, Netns};
use serde_json::{Value, json};

/// The network of all cases.
pub const NETWORK: &str = "conformance";

/// The plugin that is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Ours, with `host-local`: the reference's configuration with one word changed.
    Podswitch,
    /// Ours, with the daemon's own IPAM.
    OwnIpam,
    /// Debian's `bridge` with `host-local`: the specification up to 1.0.0.
    Reference,
}

/// A node with a plugin.
pub struct Ground {
    /// Which plugin.
    pub subject: Subject,
    /// The node.
    pub node: Netns,
    /// The daemon, when the plugin needs one.
    pub daemon: Option<Daemon>,
    /// The test's own folder.
    pub lab: Lab,
}

impl Ground {
    /// Has a node made, asks the case, and finds the node as it was.
    #[track_caller]
    pub fn with(subject: Subject, case: impl FnOnce(&mut Ground)) {
        let Some(lab) = Lab::beside_others() else { return };
        let node = lab.netns("node");
        let daemon = match subject {
            Subject::Reference => None,
            Subject::Podswitch => Some(Daemon::start(&lab, &node, "[switch]\nworkers = 1\n")),
            Subject::OwnIpam => Some(Daemon::start(&lab, &node, NODE)),
        };
        let mut ground = Ground { subject, node, daemon, lab };
        case(&mut ground);
        let left = ground.allocated();
        assert!(left.is_empty(), "allocated still: {left:?}");
        if let Some(daemon) = ground.daemon.take() {
            daemon.finish();
        }
    }

    /// The newest version of the specification that the plugin speaks.
    pub fn newest(&self) -> &'static str {
        if self.subject == Subject::Reference || self.delegates() { "1.0.0" } else { "1.1.0" }
    }

    /// The versions that all of the case's plugins speak: Debian's host-local ends at 1.0.0.
    pub fn versions(&self) -> &'static [&'static str] {
        if self.delegates() {
            &["0.3.1", "0.4.0", "1.0.0"]
        } else {
            &["0.3.1", "0.4.0", "1.0.0", "1.1.0"]
        }
    }

    /// Whether addresses come from a delegated plugin.
    pub fn delegates(&self) -> bool {
        self.subject != Subject::OwnIpam
    }

    /// The plugin's file.
    pub fn plugin(&self) -> PathBuf {
        match self.subject {
            Subject::Reference => PathBuf::from(REFERENCE).join("bridge"),
            Subject::Podswitch | Subject::OwnIpam => plugin_path(),
        }
    }

    /// The folder that `host-local` keeps its reservations in.
    fn reservations(&self) -> PathBuf {
        self.lab.folder().join("reservations")
    }

    /// The addresses that are allocated in the network.
    pub fn allocated(&self) -> Vec<String> {
        if let (Subject::OwnIpam, Some(daemon)) = (self.subject, &self.daemon) {
            return attachments(daemon)
                .iter()
                .flat_map(|a| a.ips.iter().map(|ip| ip.address.to_string()))
                .collect();
        }
        let Ok(folder) = std::fs::read_dir(self.reservations().join(NETWORK)) else {
            return Vec::new();
        };
        let names = folder.map(|f| f.expect("a file").file_name().to_string_lossy().into_owned());
        names.filter(|n| n.starts_with(|c: char| c.is_ascii_digit())).collect()
    }

    /// The configuration, in the newest version.
    pub fn conf(&self) -> Value {
        self.conf_in(self.newest())
    }

    /// The configuration in a version.
    pub fn conf_in(&self, version: &str) -> Value {
        let mut conf = json!({
            "cniVersion": version,
            "name": NETWORK,
            "type": if self.subject == Subject::Reference { "bridge" } else { "podswitch-cni" },
            "bridge": "cni0",
            "isGateway": true,
            "ipam": {
                "type": "host-local",
                "dataDir": self.reservations().display().to_string(),
                "subnet": "10.244.1.0/24",
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        });
        if self.subject == Subject::OwnIpam {
            conf = json!({"cniVersion": version, "name": NETWORK, "type": "podswitch-cni"});
        }
        conf
    }

    /// A call with this configuration and nothing but what every command has.
    pub fn bare(&self, command: &str, conf: &Value) -> Call {
        let call = Call::new(&self.plugin(), command, conf).env("CNI_PATH", &self.path());
        match &self.daemon {
            Some(daemon) => {
                call.env("PODSWITCH_SOCKET", daemon.socket().to_str().expect("made of ASCII"))
            }
            None => call,
        }
    }

    /// Where plugins are: the case's own before the reference ones.
    pub fn path(&self) -> String {
        format!("{}:{REFERENCE}", self.lab.folder().display())
    }

    /// A call for a container's `eth0`.
    pub fn call(&self, command: &str, container: &Netns, conf: &Value) -> Call {
        self.bare(command, conf)
            .env("CNI_CONTAINERID", container.name())
            .env("CNI_NETNS", container.path())
            .env("CNI_IFNAME", "eth0")
    }

    /// Carries out a command for a container's `eth0`.
    pub fn run(&self, command: &str, container: &Netns, conf: &Value) -> Said {
        self.call(command, container, conf).run(&self.node)
    }

    /// Plugs a container in.
    #[track_caller]
    pub fn add(&self, container: &Netns) -> Value {
        self.run("ADD", container, &self.conf()).result()
    }

    /// Unplugs a container.
    #[track_caller]
    pub fn del(&self, container: &Netns) {
        self.run("DEL", container, &self.conf()).silence();
    }

    /// The configuration with the result of an ADD as `prevResult`.
    pub fn after(&self, result: &Value) -> Value {
        let mut conf = self.conf_in(result["cniVersion"].as_str().expect("a version"));
        conf["prevResult"] = result.clone();
        conf
    }

    /// A new container.
    pub fn container(&self, name: &str) -> Netns {
        self.lab.netns(name)
    }
}

/// What the kernel says of a container's interface, as `ip -json` has it.
#[track_caller]
pub fn kernel(container: &Netns, dev: &str) -> Option<Value> {
    let all: Value =
        serde_json::from_str(&container.ip("-json address show")).expect("ip writes JSON");
    all.as_array().expect("a list").iter().find(|l| l["ifname"] == dev).cloned()
}

/// The addresses with their prefix lengths that the kernel has on a container's interface, but for
/// link-local ones.
#[track_caller]
pub fn addresses(container: &Netns, dev: &str) -> Vec<String> {
    let link = kernel(container, dev).unwrap_or_else(|| panic!("no interface {dev}"));
    let infos = link["addr_info"].as_array().cloned().unwrap_or_default();
    infos
        .iter()
        .filter(|a| a["scope"] == "global")
        .map(|a| format!("{}/{}", a["local"].as_str().expect("an address"), a["prefixlen"]))
        .collect()
}

/// What the daemon has plugged in.
#[track_caller]
pub fn attachments(daemon: &Daemon) -> Vec<Attachment> {
    let mut client = Client::connect(daemon.socket()).expect("the daemon listens");
    match client.call(&Request::AttachmentList(Empty {})).expect("the daemon answers") {
        Response::AttachmentList(list) => list,
        other => panic!("{other:?}"),
    }
}

/// The daemon's configuration when it allocates addresses.
pub const NODE: &str = "[switch]\nworkers = 1\n[node]\nname = \"node1\"\n\
    pod_cidrs = [\"10.244.1.0/24\", \"fd00:10:244:1::/64\"]\ngateway = true\n";
