//! The control socket under bad company: the daemon answers others and packets flow.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use podswitch_tests::{BRIDGE, Daemon, Hosts, Lab, ping};
use serde_json::Value;

fn connect(daemon: &Daemon) -> UnixStream {
    let stream = UnixStream::connect(daemon.socket()).expect("connecting");
    stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout is allowed");
    stream.set_write_timeout(Some(Duration::from_secs(5))).expect("a timeout is allowed");
    stream
}

fn answer(stream: &UnixStream) -> Value {
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).expect("an answer");
    serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line:?}"))
}

#[test]
fn garbage_is_answered_and_too_much_of_it_ends_the_connection() {
    let Some(lab) = Lab::beside_others() else { return };
    let Hosts { switch, hosts } = Hosts::pair(&lab);
    let daemon = Daemon::start(&lab, &switch, BRIDGE);

    let mut stream = connect(&daemon);
    writeln!(stream, "this is not JSON").expect("writing");
    assert_eq!(answer(&stream)["error"]["code"], -32700);
    writeln!(stream, r#"{{"jsonrpc":"2.0","id":1,"method":"port.liszt"}}"#).expect("writing");
    assert_eq!(answer(&stream)["error"]["code"], -32601);

    // More than it puts up with: a connection closed, so that writing or reading ends.
    let garbage = b"\x00\xff\xfe{[\n".repeat(10_000);
    let _ = stream.write_all(&garbage);
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    let mut probe = [0];
    assert!(!matches!(stream.read(&mut probe), Ok(n) if n > 0), "the connection is closed");

    daemon.cli("port list");
    ping(&hosts[0], "10.9.0.2");
    daemon.finish();
}

#[test]
fn a_message_that_is_too_long_ends_the_connection() {
    let Some(lab) = Lab::beside_others() else { return };
    let Hosts { switch, hosts: _hosts } = Hosts::pair(&lab);
    let daemon = Daemon::start(&lab, &switch, BRIDGE);

    let mut stream = connect(&daemon);
    let _ = stream.write_all(&vec![b'a'; 3 << 20]);
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    daemon.cli("port list");
    daemon.finish();
}

#[test]
fn clients_that_say_nothing_or_never_read_hold_up_nobody() {
    let Some(lab) = Lab::beside_others() else { return };
    let Hosts { switch, hosts } = Hosts::pair(&lab);
    let daemon = Daemon::start(&lab, &switch, BRIDGE);

    let silent: Vec<UnixStream> = (0..20).map(|_| connect(&daemon)).collect();
    let mut half = connect(&daemon);
    half.write_all(b"{\"jsonrpc\":").expect("writing");
    let mut deaf = connect(&daemon);
    deaf.set_write_timeout(Some(Duration::from_millis(200))).expect("a timeout is allowed");
    let request = b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"port.list\"}\n".repeat(200);
    for _ in 0..50 {
        if deaf.write_all(&request).is_err() {
            break;
        }
    }

    let start = std::time::Instant::now();
    daemon.cli("port list");
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    ping(&hosts[0], "10.9.0.2");
    drop((silent, half, deaf));
    daemon.finish();
}
