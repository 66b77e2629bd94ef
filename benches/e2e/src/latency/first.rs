//! The first packet after a silence, one way.
//!
//! One thread sends it and awaits it without sleeping, so that what is asleep is the switch. A switch that
//! sleeps cannot be faster than the machine wakes a thread: that is measured beside it.

use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use hdrhistogram::Histogram;
use podswitch_pktgen::place;

use super::{GAP, PATIENCE, PAYLOAD, histogram};
use crate::pods::Pod;
use crate::{SENDER_CPU, SWITCH_CPU};

/// Datagrams that are not counted: neighbours are resolved with them, and addresses learned.
const WARM: u64 = 10;

/// Nanoseconds that datagrams take from pod to pod, each after a silence, and how many were lost.
pub fn packets(from: &Pod, to: &Pod, seconds: f64) -> anyhow::Result<(Histogram<u64>, u64)> {
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
pub fn wakeups(seconds: f64) -> anyhow::Result<Histogram<u64>> {
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
        measured.map(|(seen, _)| seen)
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

/// Whether something comes true in time, looked at without a pause.
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
