//! The control socket under clients of every manner.

mod common;

use std::io::{Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{Dir, Raw, Running, code};
use podswitch::server::{BindError, MAX_CLIENTS, Server};
use podswitch_api::method::{ByName, Empty};
use podswitch_api::rpc::MAX_MESSAGE;
use podswitch_api::state::{Port, State, Switch};
use podswitch_api::{Client, ClientError, Code, Request, Response};
use serde_json::{Value, json};

const STATUS: &str = r#"{"jsonrpc":"2.0","id":1,"method":"status.get"}"#;

/// A daemon whose answer to `port.list` has more than 100 kB.
fn filled() -> Running {
    let ports = (0..700).map(|i| Port::device(&format!("eth{i}"), "default")).collect();
    let state = State { ports, ..State::default() };
    Running::with(state, Dir::new())
}

#[test]
fn answers_and_batches_and_notifications() {
    let daemon = Running::start();
    let mut c = daemon.connect();
    c.works();
    let batch = r#"[{"jsonrpc":"2.0","id":1,"method":"port.list"},
        {"jsonrpc":"2.0","method":"port.list"}, 7,
        {"jsonrpc":"2.0","id":"x","method":"none.such"}]"#;
    let answer = c.ask(&batch.replace('\n', " "));
    let list = answer.as_array().unwrap();
    assert_eq!(list.len(), 3, "a notification is not answered: {answer}");
    assert_eq!(list[0], json!({"jsonrpc": "2.0", "id": 1, "result": []}));
    assert_eq!(code(&list[1]), Code::InvalidRequest.number());
    assert_eq!(code(&list[2]), Code::MethodNotFound.number());

    // Notifications alone, and blank lines, are answered by nothing at all.
    c.send("[{\"jsonrpc\":\"2.0\",\"method\":\"port.list\"}]\n\n  \r\n");
    c.send("{\"jsonrpc\":\"2.0\",\"method\":\"port.list\"}\r\n");
    c.works();
}

#[test]
fn a_line_in_pieces_and_many_lines_at_once() {
    let daemon = Running::start();
    let mut c = daemon.connect();
    for byte in STATUS.bytes().chain(*b"\n") {
        c.send([byte]);
    }
    assert_eq!(c.receive().unwrap()["id"], 1);
    let many = format!("{STATUS}\n").repeat(1000);
    c.send(&many);
    for _ in 0..1000 {
        assert_eq!(c.receive().unwrap()["id"], 1);
    }
    // More than a slice of lines that are not answered: nothing wakes the daemon in between.
    let notification = "{\"jsonrpc\":\"2.0\",\"method\":\"port.list\"}\n";
    c.send(notification.repeat(1000));
    c.works();
}

#[test]
fn garbage_is_answered_and_then_the_client_is_given_up() {
    let daemon = Running::start();
    let mut c = daemon.connect();
    for _ in 0..15 {
        assert_eq!(code(&c.ask("garbage")), Code::Parse.number());
    }
    c.works(); // One that makes sense: patience is back.
    for _ in 0..15 {
        assert_eq!(code(&c.ask("{}")), Code::InvalidRequest.number());
    }
    assert_eq!(code(&c.ask("\u{7f}ELF")), Code::Parse.number());
    assert_eq!(code(&c.receive().unwrap()), Code::TooManyErrors.number());
    assert_eq!(c.receive(), None, "closed");
    daemon.connect().works();
}

#[test]
fn arbitrary_bytes_harm_nobody() {
    let daemon = Running::start();
    // A fixed sequence of xorshift64: every run sends the same.
    let mut x = 0x9e37_79b9_7f4a_7c15u64;
    for _ in 0..50 {
        let mut c = UnixStream::connect(daemon.socket()).unwrap();
        let bytes: Vec<u8> = (0..20_000)
            .map(|_| {
                x ^= x << 13;
                x ^= x >> 7;
                x ^= x << 17;
                x as u8
            })
            .collect();
        // The daemon may hang up in the middle.
        let _ = c.write_all(&bytes);
    }
    daemon.connect().works();
}

#[test]
fn a_line_at_the_bound_is_read_and_a_longer_one_is_not() {
    let daemon = Running::start();
    let mut c = daemon.connect();
    let padding = " ".repeat(MAX_MESSAGE - STATUS.len());
    assert_eq!(c.ask(&format!("{STATUS}{padding}"))["id"], 1);
    c.send(STATUS);
    c.send(padding);
    let _ = c.stream.write_all(b" ");
    assert_eq!(code(&c.receive().unwrap()), Code::MessageTooLong.number());
    assert_eq!(c.receive(), None, "closed");

    // Without end, and without a newline: the same.
    let mut c = daemon.connect();
    let piece = [b'x'; 65536];
    while c.stream.write_all(&piece).is_ok() {}
    assert_eq!(code(&c.receive().unwrap()), Code::MessageTooLong.number());
    daemon.connect().works();
}

#[test]
fn half_open_clients_get_their_answers() {
    let daemon = Running::start();
    // Like `printf … | nc -U`: the writing end is shut, without a newline even.
    let mut c = daemon.connect();
    c.send(format!("{STATUS}\n{STATUS}"));
    c.stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(c.receive().unwrap()["id"], 1);
    assert_eq!(c.receive().unwrap()["id"], 1);
    assert_eq!(c.receive(), None, "and then the end");
    // Gone without reading.
    for _ in 0..100 {
        daemon.connect().send(format!("{STATUS}\n"));
        daemon.connect().send(STATUS);
    }
    daemon.connect().works();
}

#[test]
fn a_client_that_does_not_read_stalls_nobody() {
    let daemon = filled();
    let mut stalled = daemon.connect();
    stalled.stream.set_nonblocking(true).unwrap();
    let request = b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"port.list\"}\n".repeat(100);
    // Until the daemon takes no more: its bound is reached.
    let mut sent = 0;
    let until = Instant::now() + Duration::from_secs(10);
    let mut quiet = 0;
    while quiet < 50 && Instant::now() < until {
        match stalled.stream.write(&request) {
            Ok(n) => {
                sent += n;
                quiet = 0;
            }
            Err(e) => {
                assert_eq!(e.kind(), std::io::ErrorKind::WouldBlock, "it was given up: {e}");
                quiet += 1;
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
    assert_eq!(quiet, 50, "the daemon reads without end from one who does not read: {sent} bytes");

    let mut half = daemon.connect();
    half.send("{\"jsonrpc\"");
    let mut other = daemon.connect();
    let start = Instant::now();
    for _ in 0..100 {
        other.works();
    }
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    // And what the stalled one asked for is still there when it reads.
    stalled.stream.set_nonblocking(false).unwrap();
    assert_eq!(stalled.receive().unwrap()["result"].as_array().unwrap().len(), 700);
}

#[test]
fn two_hundred_clients_at_once() {
    let daemon = Running::start();
    let mut clients: Vec<Raw> = (0..200).map(|_| daemon.connect()).collect();
    for round in 0..3 {
        for c in &mut clients {
            c.send(format!("{{\"jsonrpc\":\"2.0\",\"id\":{round},\"method\":\"port.list\"}}\n"));
        }
        for c in &mut clients {
            assert_eq!(c.receive().unwrap()["id"], round);
        }
    }
}

#[test]
fn more_clients_than_there_is_room_for() {
    let daemon = Running::start();
    let mut clients: Vec<Raw> = (0..MAX_CLIENTS).map(|_| daemon.connect()).collect();
    clients.iter_mut().for_each(Raw::works);
    let mut refused = daemon.connect();
    assert_eq!(code(&refused.receive().unwrap()), Code::Busy.number());
    assert_eq!(refused.receive(), None);
    let e = daemon.client().call(&Request::StatusGet(Empty {})).unwrap_err();
    assert!(matches!(e, ClientError::Refused(e) if e.code == Code::Busy));

    drop(clients.pop());
    let until = Instant::now() + Duration::from_secs(5);
    loop {
        let mut c = daemon.client();
        match c.call(&Request::StatusGet(Empty {})) {
            Ok(_) => break,
            Err(e) => assert!(Instant::now() < until, "no room again: {e}"),
        }
    }
}

#[test]
fn an_idle_daemon_sleeps() {
    let daemon = Running::start();
    let mut c = daemon.connect();
    c.works();
    let mut half = daemon.connect();
    half.send("{\"jsonrpc\"");
    std::thread::sleep(Duration::from_millis(50));
    let ticks = || {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        let task = tasks
            .map(|t| t.path())
            .find(|t| read(t.join("comm")).trim() == daemon.name)
            .expect("the daemon's thread");
        let stat = read(task.join("stat"));
        // utime and stime, the 14th and 15th field (proc_pid_stat(5)), in 10 ms.
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    };
    let before = ticks();
    std::thread::sleep(Duration::from_millis(500));
    assert!(ticks() - before <= 2, "it was busy while there was nothing to do");
}

#[test]
fn the_socket_is_for_owner_and_group_and_goes_with_the_daemon() {
    let dir = Dir::new();
    let deep = dir.0.join("made/for/it");
    let switch = Switch { socket: deep.join("s"), ..Switch::default() };
    let server = Server::bind(&switch).unwrap();
    let meta = std::fs::metadata(&switch.socket).unwrap();
    assert!(meta.file_type().is_socket());
    assert_eq!(meta.permissions().mode() & 0o7777, 0o660);
    drop(server);
    assert!(!switch.socket.exists());
    assert!(!deep.exists(), "nor the directory made for it");
}

#[test]
fn a_group_that_may_read() {
    let dir = Dir::new();
    let group = nix::unistd::Group::from_gid(nix::unistd::getegid()).unwrap().unwrap();
    let with = |group: &str| {
        let socket_group = Some(group.to_owned());
        Server::bind(&Switch { socket: dir.socket(), socket_group, ..Switch::default() })
    };
    let server = with(&group.name).unwrap();
    assert_eq!(std::fs::metadata(dir.socket()).unwrap().gid(), group.gid.as_raw());
    drop(server);
    let e = with("no-such-group").unwrap_err().to_string();
    assert_eq!(
        e,
        "[switch] socket_group = \"no-such-group\": expected a group that exists (`getent group`)"
    );
    assert!(!dir.socket().exists());
}

#[test]
fn a_dead_daemons_socket_is_taken_over_and_a_live_ones_is_not() {
    let dir = Dir::new();
    let switch = Switch { socket: dir.socket(), ..Switch::default() };
    drop(UnixListener::bind(dir.socket()).unwrap());
    assert!(dir.socket().exists(), "left by a dead daemon");

    let running = Running::with(State::default(), dir);
    running.connect().works();
    let e = Server::bind(&switch).unwrap_err();
    assert!(matches!(e, BindError::InUse(_)));
    let message = e.to_string();
    assert!(message.contains(switch.socket.to_str().unwrap()), "{message}");
    assert!(message.contains("stop that one, or set [switch] socket"), "{message}");
    running.connect().works();

    let (_, dir) = running.stop();
    std::fs::write(dir.socket(), "precious").unwrap();
    let e = Server::bind(&switch).unwrap_err();
    assert!(matches!(e, BindError::NotASocket(_)), "{e}");
    assert_eq!(std::fs::read(dir.socket()).unwrap(), b"precious");
}

#[test]
fn a_successors_socket_is_left_alone() {
    let dir = Dir::new();
    let switch = Switch { socket: dir.socket(), ..Switch::default() };
    let first = Server::bind(&switch).unwrap();
    std::fs::remove_file(dir.socket()).unwrap();
    let second = Server::bind(&switch).unwrap();
    drop(first);
    assert!(dir.socket().exists());
    drop(second);
    assert!(!dir.socket().exists());
}

#[test]
fn a_stranger_may_read_and_not_write() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: needs root, to be someone else");
        return;
    }
    let daemon = Running::start();
    // As a member of the socket's group would get it.
    for path in [daemon.dir.0.clone(), daemon.socket()] {
        let mode = if path.is_dir() { 0o755 } else { 0o666 };
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    let ask = |line: &str| -> Value {
        let script = "import socket,sys\ns=socket.socket(socket.AF_UNIX)\ns.connect(sys.argv[1])\n\
                      s.sendall(sys.stdin.buffer.read())\ns.shutdown(1)\n\
                      sys.stdout.write(s.makefile().read())";
        let mut child = Command::new("setpriv")
            .args([
                "--reuid=65534",
                "--regid=65534",
                "--clear-groups",
                "/usr/bin/python3",
                "-c",
                script,
            ])
            .arg(daemon.socket())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(line.as_bytes()).unwrap();
        let mut answer = String::new();
        child.stdout.take().unwrap().read_to_string(&mut answer).unwrap();
        assert!(child.wait().unwrap().success());
        serde_json::from_str(&answer).unwrap()
    };
    assert!(ask(STATUS)["result"].is_object());
    let dry = r#"{"jsonrpc":"2.0","id":1,"method":"config.apply",
        "params":{"config":{},"dry_run":true}}"#;
    assert!(ask(&dry.replace('\n', " "))["result"].is_object(), "a dry run only reads");
    for (method, params) in [
        ("port.add", r#"{"dev":"eth1"}"#),
        ("config.apply", r#"{"config":{}}"#),
        ("fdb.flush", "{}"),
    ] {
        let answer =
            ask(&format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#));
        assert_eq!(code(&answer), Code::PermissionDenied.number());
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(message.starts_with(&format!("{method} writes, and uid 65534")), "{message}");
        assert!(message.ends_with("may only read: run it as root"), "{message}");
    }
    let (memory, _dir) = daemon.stop();
    assert!(memory.state.ports.is_empty());
}

#[test]
fn what_was_added_survives_and_what_failed_does_not() {
    let dir = Dir::new();
    let state = |dir: &Dir| State {
        switch: Some(Switch { state_file: Some(dir.0.join("state.json")), ..Switch::default() }),
        ..State::default()
    };
    let daemon = Running::with(state(&dir), dir);
    let mut c = daemon.client();
    let add = |name: &str| Request::PortAdd(Port::device(name, "default"));
    assert!(matches!(c.call(&add("eth1")), Ok(Response::PortAdd(p)) if p.name == "eth1"));
    assert!(matches!(c.call(&add("eth2")), Ok(Response::PortAdd(_))));
    let e = c.call(&add("eth9")).unwrap_err();
    assert!(matches!(e, ClientError::Refused(e) if e.code == Code::System));
    let del = Request::PortDel(ByName { name: "eth1".to_owned() });
    assert_eq!(c.call(&del).unwrap(), Response::PortDel(Empty {}));
    // Not stopped in order: what was confirmed is on the disk.
    let kept = std::fs::read_to_string(daemon.dir.0.join("state.json")).unwrap();
    assert!(kept.contains("eth2") && !kept.contains("eth1"), "{kept}");

    let (_, dir) = daemon.stop();
    let daemon = Running::with(state(&dir), dir);
    let names = |r| match r {
        Ok(Response::PortList(ports)) => ports.into_iter().map(|p| p.name).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    assert_eq!(names(daemon.client().call(&Request::PortList(Empty {}))), ["eth2"]);
}

#[test]
fn the_client_tells_why_there_is_no_answer() {
    let dir = Dir::new();
    let e = Client::connect(&dir.socket()).unwrap_err();
    assert!(matches!(e, ClientError::Unreachable { .. }));
    let message = e.to_string();
    assert!(message.contains(dir.socket().to_str().unwrap()), "{message}");
    assert!(message.contains("is `podswitch run` running"), "{message}");

    // Somebody who takes the connection and never answers.
    let _deaf = UnixListener::bind(dir.socket()).unwrap();
    let mut c = Client::connect(&dir.socket()).unwrap();
    c.set_timeout(Duration::from_millis(100));
    let e = c.call(&Request::StatusGet(Empty {})).unwrap_err();
    assert!(matches!(e, ClientError::Timeout { .. }), "{e}");
    // Not even taking the bytes.
    let apply = Request::ConfigApply(podswitch_api::method::Apply {
        config: State {
            ports: (0..5000).map(|i| Port::device(&format!("e{i}"), "default")).collect(),
            ..State::default()
        },
        dry_run: true,
    });
    let e = c.call(&apply).unwrap_err();
    assert!(matches!(e, ClientError::Timeout { .. }), "{e}");
}
