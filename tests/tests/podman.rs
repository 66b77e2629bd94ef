//! podman, whose network backend is CNI up to version 4, plugs containers into the switch.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use podswitch_tests::cni::{REFERENCE, plugin_path};
use podswitch_tests::{Daemon, Finished, Lab, Netns, node_and_outside, ping, run, tool};
use serde_json::{Value, json};

const NODE: &str = "[switch]\nworkers = 1\n[node]\nname = \"node1\"\n\
    pod_cidrs = [\"10.244.1.0/24\", \"fd00:10:244:1::/64\"]\ngateway = true\n";
const IMAGE: &str = "localhost/podswitch-test:1";

/// A podman whose containers, images and networks are the lab's own, in the namespace of a node.
struct Podman {
    node: Netns,
    folder: PathBuf,
}

impl Podman {
    /// None where podman has no CNI: from version 5 on it has netavark only.
    fn new(lab: &Lab, node: &Netns, conflist: &Value) -> Option<Podman> {
        let podman = Podman { node: node.clone(), folder: lab.folder().to_owned() };
        let folder = podman.folder.display();
        std::fs::create_dir(podman.folder.join("net.d")).expect("a new folder");
        lab.write("net.d/podswitch.conflist", &conflist.to_string());
        // What a container is limited to must be less than what this machine allows.
        let bin = plugin_path();
        let bin = bin.parent().expect("a file is in a folder").display();
        lab.write(
            "containers.conf",
            &format!(
                "[network]\nnetwork_backend = \"cni\"\ncni_plugin_dirs = [\"{bin}\", \"{REFERENCE}\"]\n\
                 network_config_dir = \"{folder}/net.d\"\ndefault_network = \"podswitch\"\n\
                 [engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"none\"\nruntime = \"runc\"\n\
                 tmp_dir = \"{folder}/tmp\"\n\
                 [containers]\napparmor_profile = \"unconfined\"\n\
                 default_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\n"
            ),
        );
        lab.write(
            "storage.conf",
            &format!(
                "[storage]\ndriver = \"vfs\"\ngraphroot = \"{folder}/root\"\nrunroot = \"{folder}/run\"\n"
            ),
        );
        let said = podman.call("info --format {{.Host.NetworkBackend}}");
        if said.stdout.trim() != "cni" {
            eprintln!("skipped: this podman has no CNI: {}{}", said.stdout, said.stderr);
            return None;
        }
        let image = podman.folder.join("image.tar");
        let words = format!("{} image {}", tool("cri.py"), image.display());
        run(&words.split(' ').collect::<Vec<_>>()).success();
        podman.call(&format!("load --quiet -i {}", image.display())).success();
        Some(podman)
    }

    fn call(&self, line: &str) -> Finished {
        let of = |name: &str, file: &str| format!("{name}={}", self.folder.join(file).display());
        let mut words = vec![
            "env".to_owned(),
            of("CONTAINERS_CONF", "containers.conf"),
            of("CONTAINERS_STORAGE_CONF", "storage.conf"),
        ];
        words.extend(self.node.words(&["podman"]));
        words.extend(line.split(' ').map(str::to_owned));
        run(&words)
    }

    /// Runs a container that sleeps. Gives its addresses.
    #[track_caller]
    fn run(&self, name: &str, options: &str) -> [String; 2] {
        self.call(&format!("run --quiet -d --name {name}{options} {IMAGE}")).success();
        let seen = self.inspect(name);
        ["IPAddress", "GlobalIPv6Address"]
            .map(|key| seen[key].as_str().expect("an address").to_owned())
    }

    /// What podman knows of a container's network.
    #[track_caller]
    fn inspect(&self, name: &str) -> Value {
        let text = self.call(&format!("inspect {name}")).success();
        let all: Value = serde_json::from_str(&text).expect("podman prints JSON");
        all[0]["NetworkSettings"].clone()
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        // Containers that a failed test left; best effort.
        let _ = self.call("rm -f -a -t 0");
    }
}

#[test]
fn containers_come_and_go() {
    let Some(lab) = Lab::new() else { return };
    let [node, outside] = node_and_outside(&lab);
    let daemon = Daemon::start(&lab, &node, NODE);
    let list = json!({"cniVersion": "1.0.0", "name": "podswitch", "plugins": [
        {"type": "podswitch-cni", "socket": daemon.socket(), "ipMasq": true,
         "capabilities": {"ips": true, "mac": true}},
        {"type": "portmap", "capabilities": {"portMappings": true}},
    ]});
    let Some(podman) = Podman::new(&lab, &node, &list) else { return };

    let first = podman.run("one", "");
    let second = podman.run("two", " --ip 10.244.1.77 -p 8080:80");
    assert_eq!(second[0], "10.244.1.77", "what was wished for");
    for address in &second {
        podman.call(&format!("exec one /bin/busybox ping -c1 -W2 {address}")).success();
    }
    podman.call("exec one /bin/busybox ping -c1 -W2 192.0.2.9").success();
    ping(&node, &first[0]);
    let sandbox = podman.inspect("two")["SandboxKey"].as_str().expect("a path").to_owned();
    let web = Listener::in_netns(Path::new(&sandbox));
    let to = "192.0.2.1:8080".parse().expect("an address");
    outside
        .enter(|| TcpStream::connect_timeout(&to, Duration::from_secs(3)))
        .expect("the host port leads to the container");
    drop(web);

    // Stopped and started again it is another attachment.
    podman.call("stop -t 0 one").success();
    podman.call("start one").success();
    podman.call(&format!("exec one /bin/busybox ping -c1 -W2 {}", second[0])).success();

    // The daemon may come back without podman's help.
    daemon.crash();
    let daemon = Daemon::start(&lab, &node, NODE);
    podman.call(&format!("exec one /bin/busybox ping -c1 -W2 {}", second[0])).success();

    podman.call("rm -f -t 0 one two").success();
    let left = daemon.json("attachment list");
    assert_eq!(left, json!([]));
    daemon.finish_leaving(&["lo", "up0"]);
}

/// A server on port 80 in a container's namespace.
struct Listener(#[expect(dead_code, reason = "it listens while it is there")] TcpListener);

impl Listener {
    fn in_netns(path: &Path) -> Listener {
        use nix::sched::{CloneFlags, setns};
        let file = std::fs::File::open(path).expect("the container's namespace");
        let thread = std::thread::spawn(move || {
            setns(file, CloneFlags::CLONE_NEWNET).expect("entering the namespace");
            Listener(TcpListener::bind("0.0.0.0:80").expect("a port of its own"))
        });
        thread.join().expect("listening")
    }
}
