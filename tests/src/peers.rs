//! The other ends: ping, iperf3, and raw frames through the kernel.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::command::{Background, wait_until};
use crate::netns::Netns;

const PINGS: u32 = 5;

/// Debian's Python, which has scapy; a `python3` earlier in PATH may not.
const PYTHON: &str = "/usr/bin/python3";

/// A tool of these tests, by its name in `tests/tools`, as a command line.
pub fn tool(name: &str) -> String {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools").join(name);
    format!("{PYTHON} {}", path.display())
}

/// The command line of so many echo requests to an address, at once, `options` added. Not one after the other:
/// once it has had an answer, ping waits for those that are missing no longer than its interval, or twice
/// what the slowest took, whatever `-W` says. That is a second here.
pub fn pings(count: u32, to: &str, options: &str) -> String {
    format!("ping -n -c{count} -l{count} -W1 {options} {to}")
}

/// Sends so many echo requests to an address at once, `options` added; all must be answered.
#[track_caller]
pub fn ping_all(from: &Netns, count: u32, to: &str, options: &str) {
    let text = from.try_sh(&pings(count, to, options)).stdout;
    assert!(text.contains(" 0% packet loss"), "{} -> {to} {options}: {text}", from.name());
}

/// Which echo requests of a `ping -n -c COUNT -w SECONDS` were not answered, by their numbers. With `-w` it sends
/// until it has so many answers, so that a request is unanswered only if one after it was answered.
pub fn unanswered(text: &str) -> Vec<u32> {
    let numbers = text.split("icmp_seq=").skip(1).filter_map(|t| t.split(' ').next()?.parse().ok());
    let answered: BTreeSet<u32> = numbers.collect();
    let last = answered.last().copied().unwrap_or(0);
    (1..=last).filter(|number| !answered.contains(number)).collect()
}

/// Pings an address until it answers, then several times, all of which must be answered.
#[track_caller]
pub fn ping(from: &Netns, to: &str) {
    wait_until(&format!("{} reaches {to}", from.name()), Duration::from_secs(8), || {
        from.try_sh(&format!("ping -n -c1 -W1 {to}")).code == 0
    });
    ping_all(from, PINGS, to, "");
}

/// One echo request, answered within a second: nothing that was slow to come up is forgiven.
#[track_caller]
pub fn ping_once(from: &Netns, to: &str) {
    from.sh(&format!("ping -n -c1 -W1 {to}"));
}

/// As [`ping_all`], twice with each of these many bytes of payload.
#[track_caller]
pub fn ping_sized(from: &Netns, to: &str, sizes: &[u32]) {
    for size in sizes {
        ping_all(from, 2, to, &format!("-s {size}"));
    }
}

/// ICMP, TCP and UDP between two hosts, small and large (in fragments too), each side asking and
/// each answering: see tools/echo.py. `one` and `other` are the hosts with their addresses.
#[track_caller]
pub fn exchange(one: (&Netns, &str), other: (&Netns, &str)) {
    ping(one.0, other.1);
    for ((client, _), (server, address)) in [(one, other), (other, one)] {
        ping_sized(client, address, &[0, 1300, 4000]);
        let echo = tool("echo.py");
        let echoing = server.spawn(&format!("{echo} serve {address}")).expect_line("ready");
        let said = client.sh(&format!("{echo} talk {address}"));
        assert_eq!(said, "every byte came back\n", "{} -> {address}", client.name());
        echoing.end();
    }
}

/// A TCP stream of 64 MB with iperf3; where `options`, which the client gets, say how fast, of one second, and
/// where they say how long, of that.
/// Gives its report.
#[track_caller]
pub fn iperf(client: &Netns, server: &Netns, address: &str, options: &str) -> Value {
    let listener = server.spawn("iperf3 --server --one-off --forceflush");
    wait_until("iperf3 listens", Duration::from_secs(5), || {
        server.sh("ss -Hltn").contains(":5201 ")
    });
    let end = match options {
        _ if options.contains("--time") => "",
        _ if options.contains("--bitrate") => "--time 1",
        _ => "--bytes 64M",
    };
    let text = client.sh(&format!("iperf3 --client {address} {end} --json {options}"));
    listener.end();
    let report: Value = serde_json::from_str(&text).expect("iperf3 prints JSON");
    assert!(report["error"].is_null(), "iperf3: {}", report["error"]);
    report["end"].clone()
}

/// A UDP stream of one second with iperf3, of which nothing may be lost on its way. Keep it slow: the kernel's
/// default receive buffer holds 90 large datagrams, and on a busy machine iperf3 sleeps that long. What that
/// buffer had no room for has arrived: the server's kernel counts it.
#[track_caller]
pub fn iperf_udp(client: &Netns, server: &Netns, address: &str, options: &str) {
    let before = without_room(server);
    let end = iperf(client, server, address, &format!("--udp {options}"));
    let sum = &end["sum"];
    assert!(sum["packets"].as_u64().is_some_and(|n| n > 100), "too few datagrams: {sum}");
    let arrived_in_vain = without_room(server) - before;
    let lost = sum["lost_packets"].as_u64().expect("a number");
    assert!(
        lost <= arrived_in_vain,
        "{lost} lost, {arrived_in_vain} of them in the receiver: {sum}"
    );
}

/// How many datagrams a namespace's sockets had no room for, of both families.
fn without_room(netns: &Netns) -> u64 {
    kernel_counters(netns, "UdpRcvbufErrors Udp6RcvbufErrors")
}

/// The sum of counters of a namespace's kernel, named as nstat(8) does.
pub fn kernel_counters(netns: &Netns, names: &str) -> u64 {
    let text = netns.sh(&format!("nstat -asz --json {names}"));
    let counters: Value = serde_json::from_str(&text).expect("nstat prints JSON");
    let counters = counters["kernel"].as_object().expect("counters by name");
    counters.values().map(|n| n.as_u64().expect("a number")).sum()
}

/// The longest of the captured packets with an EtherType that carry a protocol right behind their IP header; 0 if
/// there are none.
pub fn longest(frames: &[Vec<u8>], ethertype: [u8; 2], protocol: u8) -> usize {
    let at = if ethertype == [0x08, 0] { 23 } else { 20 };
    let such = frames.iter().filter(|f| f[12..14] == ethertype && f[at] == protocol);
    such.map(Vec::len).max().unwrap_or(0)
}

/// Sends Ethernet frames out of an interface, in order, and gives the frames that the kernel took.
#[track_caller]
pub fn send_frames(netns: &Netns, dev: &str, frames: &[Vec<u8>]) {
    let mut sender = netns.spawn(&format!("{} {dev}", tool("send.py"))).expect_line("ready");
    for frame in frames {
        writeln!(sender.stdin(), "{}", hex(frame)).expect("the sender reads");
    }
    let sent = sender.end();
    assert_eq!(sent.trim(), frames.len().to_string(), "frames that the kernel took");
}

/// A capture of what an interface receives.
#[derive(Debug)]
pub struct Capture(Background);

impl Capture {
    /// Starts to capture what `dev` receives.
    #[track_caller]
    pub fn start(netns: &Netns, dev: &str) -> Capture {
        Capture(netns.spawn(&format!("{} {dev}", tool("capture.py"))).expect_line("ready"))
    }

    /// Ends the capture and gives the frames, in order, VLAN tags in their place.
    #[track_caller]
    pub fn end(self) -> Vec<Vec<u8>> {
        // What was sent before is in the receiver's queue after a moment.
        std::thread::sleep(Duration::from_millis(200));
        self.0.end().lines().map(unhex).collect()
    }
}

/// Writes frames as a capture file (pcap 2.4, little-endian, Ethernet), for tshark.
#[track_caller]
pub fn write_pcap(path: &Path, frames: &[Vec<u8>]) {
    const MAGIC: u32 = 0xa1b2_c3d4;
    const SNAPLEN: u32 = 1 << 18;
    const ETHERNET: u32 = 1;
    let mut file = Vec::new();
    for word in [MAGIC, 2 | 4 << 16, 0, 0, SNAPLEN, ETHERNET] {
        file.extend(word.to_le_bytes());
    }
    for (number, frame) in (0..).zip(frames) {
        let len = u32::try_from(frame.len()).expect("frames are short");
        for word in [number, 0, len, len] {
            file.extend(u32::to_le_bytes(word));
        }
        file.extend(frame);
    }
    std::fs::write(path, file).expect("writing the capture file");
}

/// Bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// The bytes of a text of hexadecimal digits, as the tools print frames.
pub(crate) fn unhex(text: &str) -> Vec<u8> {
    let digit = |i: usize| text.get(i..i + 2).and_then(|d| u8::from_str_radix(d, 16).ok());
    (0..text.len()).step_by(2).map(|i| digit(i).expect("hexadecimal digits")).collect()
}

/// The frames that a generator in `tests/tools` prints, with their names.
#[track_caller]
pub fn frames_of(line: &str) -> Vec<(String, Vec<u8>)> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let text = crate::command::run(&words).success();
    let parse = |line: &str| {
        let (name, frame) = line.split_once(' ').expect("a name and a frame");
        (name.to_owned(), unhex(frame))
    };
    text.lines().map(parse).collect()
}
