//! The command line against a daemon: what it prints, and how it ends.

mod common;

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use common::{Dir, Running};
use podswitch_api::State;
use serde_json::{Value, json};

/// The command line with its output read by a program, not a terminal.
fn podswitch(socket: &Path, args: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_podswitch"))
        .args(args)
        .env("PODSWITCH_SOCKET", socket)
        .env_remove("RUST_LOG")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that does not read its input may be gone already.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

/// What a command prints that must succeed.
#[track_caller]
fn prints(socket: &Path, args: &[&str]) -> String {
    let out = podswitch(socket, args, "");
    let (stdout, stderr) = (text(&out.stdout), text(&out.stderr));
    assert_eq!(out.status.code(), Some(0), "{args:?}: {stderr}");
    assert_eq!(stderr, "");
    assert!(!stdout.contains('\u{1b}'), "colour without a terminal: {stdout}");
    stdout
}

/// A command that must fail with this code and this one line.
#[track_caller]
fn fails(socket: &Path, args: &[&str], input: &str, code: i32, error: &str) {
    let out = podswitch(socket, args, input);
    assert_eq!(text(&out.stderr).trim_end(), error, "{args:?}");
    assert_eq!(out.status.code(), Some(code), "{args:?}");
    assert_eq!(text(&out.stdout), "", "{args:?}");
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn node() -> Running {
    let state: State = serde_json::from_value(json!({
        "node": {"name": "node1", "pod_cidrs": ["10.244.1.0/24"], "gateway": true},
        "uplink": {"dev": "uplink0"}
    }))
    .unwrap();
    Running::with(state, Dir::new())
}

#[test]
fn objects_are_added_listed_and_removed() {
    let daemon = node();
    let s = &daemon.socket();
    let add = "port add --netns /run/netns/web --ifname eth0 --ip 10.244.1.5/24 web";
    let added = prints(s, &words(add));
    assert_eq!(
        added,
        "PORT  KIND  SEGMENT  STATE  DEVICE          MODE      MTU  MAC                LEARNED  ADDRESSES\n\
         web   pod   default  up     psw5f1d7a80c34  native  65535  0a:58:0a:f4:01:05        0  10.244.1.5/24\n"
    );
    for line in [
        "port add --dev eth1",
        "segment add blue --ageing 60 --fdb-limit 9 --unknown-unicast drop --suppress false",
        "port add --dev eth2 --segment blue --fdb-limit 7 --storm-limit 1000 --ingress-rate 9000000 \
         --egress-rate 8000000 --egress-burst 400000 lab",
        "port add --netns /run/netns/vm --ifname eth0 --anti-spoof false vm",
        "port add --netns /run/netns/bulk --ifname eth0 --type tap bulk",
        "tunnel add --remote 192.0.2.2 --vni 1 node2",
        "tunnel add --kind ipip --remote 192.0.2.3 node3",
        "tunnel add --remote 192.0.2.2 --vni 7 --segment blue blue2",
        "route add 10.244.2.0/24 node2",
        "route add 10.0.0.0/8 unreachable",
        "neighbor add 10.244.1.9 02:00:00:00:00:09 eth1",
        "neighbor add 10.9.0.2 02:00:00:00:00:0b --tunnel blue2",
        "fdb add 02:00:00:00:00:0a --port eth1",
        "fdb add 02:00:00:00:00:0b --segment blue --tunnel blue2",
    ] {
        let out = prints(s, &words(line));
        assert_eq!(out.lines().count(), 2, "a heading and the object: {out}");
    }
    let ports = prints(s, &["port", "list"]);
    let names: Vec<&str> = ports.lines().map(|l| l.split(' ').next().unwrap()).collect();
    assert_eq!(names, ["PORT", "web", "eth1", "lab", "vm", "bulk"]);
    assert_eq!(
        prints(s, &["route", "list"]),
        "PREFIX         VIA          ORIGIN  STATE\n\
         10.244.2.0/24  node2        static  up\n\
         10.0.0.0/8     unreachable  static  up\n\
         10.244.1.5/32  port web     local   up\n"
    );
    assert_eq!(
        prints(s, &words("fdb list --segment blue")),
        "MAC                SEGMENT  BEHIND        ORIGIN  AGE\n\
         02:00:00:00:00:0b  blue     tunnel blue2  static    -\n"
    );
    assert_eq!(
        prints(s, &["segment", "list"]),
        "SEGMENT  AGEING  LEARNED  UNKNOWN UNICAST  SUPPRESS  GATEWAYS       PORTS             TUNNELS\n\
         default   300 s        0  flood            yes       10.244.1.1/24  web,eth1,vm,bulk  -\n\
         blue       60 s      0/9  drop             no        -              lab               blue2\n"
    );
    let pod = "attachment add --netns /run/netns/pod net pod1 eth0";
    assert_eq!(
        prints(s, &words(pod)),
        "NETWORK  CONTAINER  INTERFACE  SEGMENT  ADDRESSES      MAC                DEVICE          \
         NETNS\n\
         net      pod1       eth0       default  10.244.1.2/24  0a:58:0a:f4:01:02  psw3a1f5e0c2b7  \
         /run/netns/pod\n"
    );
    let check = "attachment check --netns /run/netns/pod net pod1 eth0";
    assert_eq!(prints(s, &words(check)), "as it should be\n");
    assert_eq!(prints(s, &words("attachment del net pod1 eth0")), "");
    assert_eq!(prints(s, &words("attachment del net pod1 eth0")), "there was no such attachment\n");
    assert_eq!(
        prints(s, &["neighbor", "list"]),
        "ADDRESS     MAC                BEHIND        ORIGIN  STATE\n\
         10.244.1.9  02:00:00:00:00:09  port eth1     static  -\n\
         10.9.0.2    02:00:00:00:00:0b  tunnel blue2  static  -\n"
    );
    let config = prints(s, &["show", "config"]);
    for key in
        ["anti_spoof = false", "storm_limit = 1000", "fdb_limit = 7", "egress_burst = 400000"]
    {
        assert!(config.contains(key), "{key}: {config}");
    }
    let tables = prints(s, &["show", "tables"]);
    for heading in ["PORT ", "SEGMENT ", "PREFIX ", "TUNNEL ", "ADDRESS ", "MAC "] {
        assert!(tables.lines().any(|l| l.starts_with(heading)), "{heading}: {tables}");
    }
    assert_eq!(prints(s, &["fdb", "flush"]), "1 address forgotten\n");
    for line in [
        "fdb del 02:00:00:00:00:0a",
        "fdb del 02:00:00:00:00:0b --segment blue",
        "neighbor del 10.244.1.9",
        "route del 10.244.2.0/24",
        "tunnel del node2",
        "port del web",
    ] {
        assert_eq!(prints(s, &words(line)), "", "{line}");
    }
    let left: Value = serde_json::from_str(&prints(s, &words("--json port list"))).unwrap();
    assert_eq!(left.as_array().unwrap().len(), 4);
}

fn words(line: &str) -> Vec<&str> {
    line.split(' ').collect()
}

#[test]
fn what_is_shown() {
    let daemon = node();
    let s = &daemon.socket();
    prints(s, &words("port add --dev eth1"));
    let status = prints(s, &["show"]);
    assert!(status.starts_with("podswitch 0.1.0, API 1, process 4711\nup for      42 s\n"));
    assert_eq!(prints(s, &words("show status")), status);
    assert_eq!(
        prints(s, &words("show counters")),
        "PORT  RX FRAMES  RX BYTES  TX FRAMES  TX BYTES  TX BULK  TX SUPERPACKETS  ORIGINATED  COALESCED  DROPPED  MISSED  NOT LEARNED\n\
         eth1       1000     64000        990     63360        0                0           0          0       10       0            0\n\
         received 1000 + originated 0 = sent 990 + coalesced 0 + dropped 10 + in flight 0\n"
    );
    assert_eq!(
        prints(s, &words("show drops")),
        "PORT  REASON    FRAMES  MEANING\n\
         eth1  no_route      10  No route matches the destination.\n"
    );
    // As TOML it can be used as a configuration file, and changes nothing.
    let config = prints(s, &words("show config"));
    let file = daemon.dir.0.join("shown.toml");
    std::fs::write(&file, &config).unwrap();
    let file = file.to_str().unwrap();
    assert_eq!(prints(s, &["check", "--config", file]), "the configuration is valid\n");
    assert_eq!(prints(s, &["apply", "-f", file]), "nothing to change\n");
    for what in ["status", "counters", "drops", "config", "tables"] {
        let out = prints(s, &["show", what, "--json"]);
        assert!(serde_json::from_str::<Value>(&out).unwrap().is_object(), "{out}");
    }
}

#[test]
fn apply_tells_what_it_does() {
    let daemon = node();
    let s = &daemon.socket();
    let config = "[node]\nname = \"node1\"\npod_cidrs = [\"10.244.1.0/24\"]\ngateway = true\n\
                  mtu = 1450\n[[port]]\ndev = \"eth1\"\n";
    let apply = |args: &[&str]| {
        let out = podswitch(s, args, config);
        assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
        text(&out.stdout)
    };
    let changes =
        "~ node: mtu none → 1450\n- uplink\n+ port eth1: dev eth1, name eth1, segment default\n";
    assert_eq!(
        apply(&["apply", "-f", "-", "--dry-run"]),
        format!("{changes}3 changes to make; nothing was done (--dry-run)\n")
    );
    assert_eq!(apply(&["apply", "-f", "-"]), format!("{changes}3 changes made\n"));
    assert_eq!(apply(&["apply", "-f", "-"]), "nothing to change\n");
}

#[test]
fn errors_are_one_line_with_a_code() {
    let daemon = node();
    let s = &daemon.socket();
    let none = Path::new("/nonexistent/socket");
    let run = |args: &str, code, error: &str| fails(s, &words(args), "", code, error);

    run("port del web", 1, "error: there is no port \"web\": `podswitch port list` tells them");
    run(
        "port add --dev eth9",
        1,
        "error: there is no interface \"eth9\": `ip link` tells which there are",
    );
    run(
        "port add --netns /n --ifname eth0 --ip 10.9.0.5/24 web",
        2,
        "error: port \"web\".ip = 10.9.0.5/24: expected an address in the node's pod CIDR \
         10.244.1.0/24",
    );
    run(
        "check --config /nonexistent.toml",
        2,
        "error: cannot read the configuration /nonexistent.toml: No such file or directory (os \
         error 2)",
    );
    fails(
        s,
        &words("check --config -"),
        "[switch]\nwokers = 1\n",
        2,
        "error: <stdin>:2:1: switch.wokers: expected a known key; did you mean `workers`?",
    );
    fails(
        s,
        &words("apply -f -"),
        "[switch]\nworkers = 2\n",
        2,
        &format!(
            "error: switch.socket = /run/podswitch/podswitch.sock: expected {}, which the daemon runs \
         with: the change needs a restart",
            s.display()
        ),
    );
    fails(
        none,
        &words("show"),
        "",
        3,
        "error: cannot reach the daemon at /nonexistent/socket: No such file or directory (os \
         error 2): is `podswitch run` running, with this socket?",
    );
    fails(
        none,
        &words("run --config -"),
        "[[port]]\ndev = \"a\"\n[[port]]\ndev = \"a\"\n",
        2,
        "error: <stdin>:3:1: port[1].name = \"a\": expected one that port[0] does not have already\n\
         error: <stdin>:4:1: port \"a\".dev = \"a\": expected an interface that is free: port \"a\" \
         has this one",
    );
}

#[test]
fn a_live_daemons_socket_is_refused_before_anything_is_touched() {
    let daemon = node();
    let s = daemon.socket();
    let config = format!("[switch]\nsocket = {:?}\n", s.to_str().unwrap());
    fails(
        &s,
        &words("run --config -"),
        &config,
        1,
        &format!(
            "error: the control socket {} belongs to a daemon that is running: stop that one, or set \
         [switch] socket to another path",
            s.display()
        ),
    );
    daemon.connect().works();
}

/// Who names a socket means that the daemon listens there: if it will not, it says so before it begins.
#[test]
fn a_socket_that_the_daemon_would_not_listen_on_is_refused() {
    let dir = Dir::new();
    let config = dir.0.join("c.toml");
    let own = dir.0.join("own");
    std::fs::write(&config, format!("[switch]\nsocket = \"{}\"\n", own.display())).unwrap();
    let run = ["run", "--config", config.to_str().unwrap()];
    let other = dir.0.join("other");
    let expected = format!(
        "error: --socket (or PODSWITCH_SOCKET) = {}: expected {}, as [switch] socket says, or change it there",
        other.display(),
        own.display()
    );
    let by_option = ["--socket", other.to_str().unwrap()];
    fails(&own, &[&run[..], &by_option].concat(), "", 2, &expected);
    fails(&other, &run, "", 2, &expected);
    assert!(!own.exists() && !other.exists());
}

#[test]
fn who_may_not_gets_4() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: needs root, to be someone else");
        return;
    }
    // Where the stranger may read the program and not write.
    let dir = Dir::new();
    let program = dir.0.join("podswitch");
    std::fs::copy(env!("CARGO_BIN_EXE_podswitch"), &program).unwrap();
    let config = dir.0.join("c.toml");
    std::fs::write(&config, format!("[switch]\nsocket = \"{}/s\"\n", dir.0.display())).unwrap();
    let stranger = |args: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
        let out = command.arg(&program).args(args).output().unwrap();
        (out.status.code(), text(&out.stderr))
    };
    let (code, error) = stranger(&["run", "--config", config.to_str().unwrap()]);
    assert_eq!(code, Some(4), "{error}");
    assert!(error.trim_end().ends_with("or set [switch] socket to a path that you may write"));

    let daemon = Running::with(State::default(), dir);
    let socket = daemon.socket();
    let (code, error) = stranger(&["show", "--socket", socket.to_str().unwrap()]);
    assert_eq!(code, Some(4), "{error}");
    assert!(error.starts_with("error: permission denied on "), "{error}");
}

#[test]
fn wrong_usage_is_2_and_help_teaches() {
    let socket = Path::new("/nonexistent/socket");
    for args in [
        "",
        "port",
        "port add",
        "port add --netns /n web",
        "fdb add 02:00:00:00:00:01",
        "tunnel add --remote 192.0.2.2 t",
        "tunnel add --remote 192.0.2.2 --vni 16777216 t",
        "route add 10.0.0.1/8 host",
        "nonsense",
        "port add --dev a --netns b --ifname c d",
        "port add --netns b --ifname c --type tun d",
        "port add --dev a --type tap",
    ] {
        let out = podswitch(socket, &args.split_whitespace().collect::<Vec<_>>(), "");
        assert_eq!(out.status.code(), Some(2), "{args}");
    }
    let help = prints(socket, &["--help"]);
    for part in ["Examples:", "Exit codes:", "  4  permission refused", "PODSWITCH_SOCKET"] {
        assert!(help.contains(part), "{part}: {help}");
    }
    for of in ["port add", "tunnel add", "route add", "fdb add", "apply", "show"] {
        let mut args = words(of);
        args.push("--help");
        assert!(prints(socket, &args).contains("podswitch "), "{of}");
    }
    for shell in ["bash", "zsh", "fish"] {
        assert!(prints(socket, &["completions", shell]).contains("podswitch"));
    }
}
