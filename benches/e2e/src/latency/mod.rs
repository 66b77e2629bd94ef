//! UDP requests and responses between two pods of one node, beside the kernel's bridge: client, server,
//! switch and, in the loaded case, a stream between two other pods share the machine's CPUs.

pub mod first;

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use hdrhistogram::Histogram;
use podswitch_pktgen::engine::{self, Limits};
use podswitch_pktgen::load::{Ends, HEADERS, Load, Mac, Sizes};
use podswitch_pktgen::measure::{Plan, measure};
use podswitch_pktgen::place::Place;
use podswitch_pktgen::plot;
use podswitch_pktgen::report::Latency;
use podswitch_pktgen::sink;
use podswitch_tests::{Lab, Netns};
use serde::Serialize;

use crate::Options;
use crate::pods::{Pod, Pods, Workers};

/// Bytes of a request, and of its response.
const PAYLOAD: usize = 32;
/// The other stream's rate, in frames a second.
const LOAD: f64 = 50_000.0;
/// The pause before what finds the switch asleep.
const GAP: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_millis(200);

/// What happens beside the requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Beside {
    /// Nothing: one request after the other.
    Nothing,
    /// A stream of 64-byte frames between two other pods.
    Load,
    /// Nothing, and a pause before each request: client, server and switch are to be woken.
    Pause,
}

/// Round-trip times through one switch.
#[derive(Debug, Serialize)]
pub struct Cell {
    /// The switch.
    pub switch: String,
    /// What happened beside.
    pub beside: Beside,
    /// Microseconds from request to response, over all rounds.
    pub round_trip: Latency,
    /// Requests without an answer.
    pub unanswered: u64,
}

/// Measures podswitch and the kernel's bridge in turns.
pub fn run(lab: &Lab, options: &Options) -> anyhow::Result<Vec<Cell>> {
    let switches = Pods::behind_each(lab, options, Workers::Anywhere);
    let mut cells = Vec::new();
    for beside in [Beside::Nothing, Beside::Load, Beside::Pause] {
        let sums = in_turns(&switches, options.rounds, |switch, round| {
            eprintln!("latency, beside {beside:?}, round {round}: {}", switch.name);
            once(switch, beside, options.seconds)
        })?;
        for (switch, (sum, unanswered)) in switches.iter().zip(sums) {
            let round_trip = Latency::of(&sum);
            cells.push(Cell { switch: switch.name.clone(), beside, round_trip, unanswered });
        }
    }
    switches.into_iter().for_each(Pods::finish);
    Ok(cells)
}

/// Measures each of several things once a round; times of all rounds, and what was missed in them.
fn in_turns<T>(
    things: &[T],
    rounds: usize,
    mut once: impl FnMut(&T, usize) -> anyhow::Result<(Histogram<u64>, u64)>,
) -> anyhow::Result<Vec<(Histogram<u64>, u64)>> {
    let sums = things.iter().map(|_| Ok((histogram()?, 0)));
    let mut sums: Vec<(Histogram<u64>, u64)> = sums.collect::<anyhow::Result<_>>()?;
    for round in 1..=rounds {
        for (thing, (sum, missed)) in things.iter().zip(&mut sums) {
            let (seen, more) = once(thing, round)?;
            sum.add(seen).context("adding up")?;
            *missed += more;
        }
    }
    Ok(sums)
}

fn histogram() -> anyhow::Result<Histogram<u64>> {
    const LONGEST: u64 = 1_000_000_000;
    Histogram::new_with_bounds(1, LONGEST, 3).map_err(|e| anyhow::anyhow!("a histogram: {e:?}"))
}

fn once(switch: &Pods, beside: Beside, seconds: f64) -> anyhow::Result<(Histogram<u64>, u64)> {
    let stop = AtomicBool::new(false);
    let [client, server, from, to] = &switch.pods[..] else {
        anyhow::bail!("four pods are needed");
    };
    let socket =
        server.0.enter(|| UdpSocket::bind((server.1, 7)).context("the server's socket"))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let plan = stream(from, to, seconds + 0.5);
    std::thread::scope(|scope| {
        scope.spawn(|| echo(&socket, &stop));
        let load = (beside == Beside::Load).then(|| scope.spawn(|| measure(&plan)));
        if load.is_some() {
            std::thread::sleep(Duration::from_millis(250));
        }
        let asked = client.0.enter(|| ask(client.1, server.1, beside, seconds));
        stop.store(true, Ordering::Relaxed);
        if let Some(load) = load {
            let report = load.join().map_err(|_| anyhow::anyhow!("the load panicked"))??;
            ensure!(report.received > 0, "the load did not arrive");
        }
        asked
    })
}

/// The stream between the two other pods.
fn stream(from: &Pod, to: &Pod, seconds: f64) -> Plan {
    let mac = |netns: &Netns| netns.mac("eth0").parse::<Mac>().expect("a MAC address");
    let place = |netns: &Netns| Place { netns: Some(netns.path().into()), dev: "eth0".into() };
    let ends = Ends { mac: (mac(&from.0), mac(&to.0)), ip: (from.1, to.1) };
    Plan {
        from: place(&from.0),
        queue: 0,
        cpu: None,
        engine: engine::Kind::Xdp,
        load: Load { sizes: Sizes::Fixed(64), ends, flows: 1, macs: 1, vxlan: None },
        limits: Limits { time: Duration::from_secs_f64(seconds), frames: None, rate: Some(LOAD) },
        sink: sink::Setup {
            kind: sink::Kind::Kernel,
            place: place(&to.0),
            queue: 0,
            cpu: None,
            stamp_at: HEADERS,
        },
        // A pod's default route leads to its gateway, which is ours too.
        force: true,
    }
}

fn echo(socket: &UdpSocket, stop: &AtomicBool) {
    let mut request = [0; PAYLOAD];
    while !stop.load(Ordering::Relaxed) {
        if let Ok((n, from)) = socket.recv_from(&mut request) {
            // One that is lost is counted where it is missed.
            let _ = socket.send_to(&request[..n], from);
        }
    }
}

fn ask(
    from: Ipv4Addr,
    to: Ipv4Addr,
    beside: Beside,
    seconds: f64,
) -> anyhow::Result<(Histogram<u64>, u64)> {
    let socket = UdpSocket::bind((from, 0)).context("the client's socket")?;
    socket.connect((to, 7)).context("the client's socket")?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let (mut seen, mut unanswered) = (histogram()?, 0);
    let mut response = [0; PAYLOAD];
    let mut ask = |number: u64| -> anyhow::Result<Option<Duration>> {
        let mut request = [0; PAYLOAD];
        request[..8].copy_from_slice(&number.to_be_bytes());
        let start = Instant::now();
        socket.send(&request).context("sending a request")?;
        // A late answer to an earlier request is none to this one.
        while let Ok(n) = socket.recv(&mut response) {
            if response[..n] == request {
                return Ok(Some(start.elapsed()));
            }
        }
        Ok(None)
    };
    // Neighbours are resolved and addresses learned first.
    for number in 0..10 {
        ask(number)?;
    }
    let start = Instant::now();
    for number in 10.. {
        if start.elapsed().as_secs_f64() >= seconds {
            break;
        }
        if beside == Beside::Pause {
            std::thread::sleep(GAP);
        }
        match ask(number)? {
            Some(time) => seen.saturating_record(time.as_nanos() as u64),
            None => unanswered += 1,
        }
    }
    ensure!(!seen.is_empty(), "no request was answered");
    Ok((seen, unanswered))
}

/// The table, in Markdown.
pub fn table(cells: &[Cell]) -> String {
    let mut text = String::from(
        "| beside | switch | median, µs | p99, µs | p99.9, µs | requests | unanswered |\n\
         |---|---|---|---|---|---|---|\n",
    );
    for cell in cells {
        let beside = match cell.beside {
            Beside::Nothing => "nothing".to_owned(),
            Beside::Load => format!("{:.0} kpps between other pods", LOAD / 1000.0),
            Beside::Pause => format!("{} ms of silence before each", GAP.as_millis()),
        };
        let Latency { p50, p99, p99_9, samples, .. } = &cell.round_trip;
        text += &format!(
            "| {beside} | {} | {p50:.0} | {p99:.0} | {p99_9:.0} | {samples} | {} |\n",
            cell.switch, cell.unanswered
        );
    }
    text
}

/// One plot of all distributions.
pub fn plots(cells: &[Cell], options: &Options) -> anyhow::Result<()> {
    let name = |c: &Cell| format!("{}, beside {:?}", c.switch, c.beside).to_lowercase();
    let series: Vec<_> = cells.iter().map(|c| (name(c), c.round_trip.clone())).collect();
    plot::latency(&options.out.join("latency.svg"), "UDP round trip between pods", &series)
}
