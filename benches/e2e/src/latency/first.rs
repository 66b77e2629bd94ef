//! The first packet after a silence, one way.
//!
//! One thread sends it and awaits it without sleeping, so that nothing has to be woken but the switch's worker, on the
//! other CPU. What a thread's wakeup alone takes there is measured beside it, to tell the machine's part from the
//! switch's.

use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use hdrhistogram::Histogram;
use podswitch_pktgen::report::Latency;
use podswitch_pktgen::{place, plot};
use podswitch_tests::Lab;
use serde::Serialize;

use super::{GAP, PATIENCE, PAYLOAD, histogram, in_turns};
use crate::pods::{Pods, Workers};
use crate::{Options, SENDER_CPU, SWITCH_CPU};

/// First packets through one switch, or wakeups without any.
#[derive(Debug, Serialize)]
pub struct Cell {
    /// The switch's name.
    pub switch: String,
    /// Microseconds from the call that sends until it is received.
    pub time: Latency,
    /// Packets that did not arrive.
    pub lost: u64,
}

/// Measures podswitch, the kernel's bridge and a thread's wakeup in turns.
pub fn run(lab: &Lab, options: &Options) -> anyhow::Result<Vec<Cell>> {
    let switches = Pods::behind_each(lab, options, Workers::Pinned);
    let name = |switch: &Option<&Pods>| match switch {
        Some(switch) => switch.name.clone(),
        None => "no switch: a thread woken on the other CPU".to_owned(),
    };
    let all: Vec<_> = switches.iter().map(Some).chain([None]).collect();
    let sums = in_turns(&all, options.rounds, |switch, round| {
        eprintln!("first packet after silence, round {round}: {}", name(switch));
        match switch {
            Some(switch) => packets(switch, options.seconds),
            None => wakeups(options.seconds),
        }
    })?;
    let cell = |(switch, (sum, lost))| Cell { switch: name(switch), time: Latency::of(&sum), lost };
    let cells = all.iter().zip(sums).map(cell).collect();
    switches.into_iter().for_each(Pods::finish);
    Ok(cells)
}

/// The table, in Markdown.
pub fn table(cells: &[Cell]) -> String {
    let mut text = format!(
        "| first packet after {} ms of silence, one way | median, µs | p99, µs | p99.9, µs | packets | lost |\n\
         |---|---|---|---|---|---|\n",
        GAP.as_millis()
    );
    for Cell { switch, time: Latency { p50, p99, p99_9, samples, .. }, lost } in cells {
        text += &format!("| {switch} | {p50:.0} | {p99:.0} | {p99_9:.0} | {samples} | {lost} |\n");
    }
    text
}

/// One plot of all distributions.
pub fn plots(cells: &[Cell], options: &Options) -> anyhow::Result<()> {
    let series: Vec<_> = cells.iter().map(|c| (c.switch.clone(), c.time.clone())).collect();
    plot::latency(&options.out.join("first.svg"), "First packet after silence, one way", &series)
}

/// Datagrams that are not counted: neighbours are resolved with them, and addresses learned.
const WARM: u64 = 10;

/// Nanoseconds that datagrams take from pod to pod, each after a silence, and how many were lost.
fn packets(switch: &Pods, seconds: f64) -> anyhow::Result<(Histogram<u64>, u64)> {
    let [from, to, ..] = &switch.pods[..] else { anyhow::bail!("two pods are needed") };
    let receiver = to.0.enter(|| UdpSocket::bind((to.1, 7)).context("the receiver's socket"))?;
    receiver.set_nonblocking(true)?;
    let sender = from.0.enter(|| UdpSocket::bind((from.1, 0)).context("the sender's socket"))?;
    sender.connect((to.1, 7)).context("the sender's socket")?;
    let mut received = [0; PAYLOAD];
    after_silences(seconds, |number| {
        let mut datagram = [0; PAYLOAD];
        datagram[..8].copy_from_slice(&number.to_be_bytes());
        sender.send(&datagram).context("sending a datagram")?;
        Ok(arrives(|| {
            // A late one from before is not this one.
            receiver.recv(&mut received).is_ok_and(|n| received[..n] == datagram)
        }))
    })
}

/// Nanoseconds until a thread that sleeps on the switch's CPU does something, each after a silence.
fn wakeups(seconds: f64) -> anyhow::Result<(Histogram<u64>, u64)> {
    let (stop, awake) = (AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let sleeper = scope.spawn(|| {
            place::pin(SWITCH_CPU)?;
            while !stop.load(Ordering::Relaxed) {
                std::thread::park();
                awake.store(true, Ordering::Release);
            }
            anyhow::Ok(())
        });
        let measured = after_silences(seconds, |_| {
            awake.store(false, Ordering::Relaxed);
            sleeper.thread().unpark();
            Ok(arrives(|| awake.load(Ordering::Acquire)))
        });
        stop.store(true, Ordering::Relaxed);
        sleeper.thread().unpark();
        sleeper.join().map_err(|_| anyhow::anyhow!("the sleeper panicked"))??;
        measured
    })
}

/// Times one thing again and again, each after a silence, on the sender's CPU. What takes too long is counted
/// apart.
fn after_silences(
    seconds: f64,
    mut once: impl FnMut(u64) -> anyhow::Result<bool> + Send,
) -> anyhow::Result<(Histogram<u64>, u64)> {
    let (mut seen, mut missed) = (histogram()?, 0);
    let run = || {
        place::pin(SENDER_CPU)?;
        let begin = Instant::now();
        for number in 0.. {
            if begin.elapsed().as_secs_f64() >= seconds {
                break;
            }
            std::thread::sleep(GAP);
            let start = Instant::now();
            match once(number)? {
                _ if number < WARM => (),
                true => seen.saturating_record(start.elapsed().as_nanos() as u64),
                false => missed += 1,
            }
        }
        anyhow::Ok(())
    };
    // A thread of its own: a CPU, once given, stays.
    std::thread::scope(|scope| scope.spawn(run).join())
        .map_err(|_| anyhow::anyhow!("the sender panicked"))??;
    ensure!(!seen.is_empty(), "nothing arrived");
    Ok((seen, missed))
}

/// Whether something comes true in time, looked at without a pause, and once more after the time is up: this
/// thread may have been off its CPU.
fn arrives(mut there: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    let mut elapsed = Duration::ZERO;
    while !there() {
        if elapsed > PATIENCE {
            return false;
        }
        elapsed = start.elapsed();
        std::hint::spin_loop();
    }
    true
}
