//! What receives: a count of the frames, or how long each of them took.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver as Channel, Sender as Teller, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, anyhow};
use hdrhistogram::Histogram;

use crate::bpf::Receiver;
use crate::counters;
use crate::place::{self, Place};
use crate::stamp::{self, Stamp};
use crate::xsk::Xsk;

/// The way frames are received.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// An XDP program that counts stamped frames and drops them.
    Count,
    /// An AF_XDP socket of xsk-rs: latency too, if the engine is `xdp`.
    Xdp,
    /// The interface's own counters: nothing is attached, and every frame counts.
    Kernel,
}

/// What was received.
#[derive(Clone, Debug, Default)]
pub struct Received {
    /// Frames of the generator.
    pub frames: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Frames that are not the generator's.
    pub others: u64,
    /// Nanoseconds from the generator to here.
    pub latency: Option<Histogram<u64>>,
}

/// A sink at work on a thread of its own.
pub struct Sink {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<anyhow::Result<Received>>,
}

/// How a sink is set up.
#[derive(Clone, Debug)]
pub struct Setup {
    /// How frames are received.
    pub kind: Kind,
    /// Where.
    pub place: Place,
    /// The receive queue of an AF_XDP socket.
    pub queue: u32,
    /// The CPU to run on.
    pub cpu: Option<usize>,
    /// Where the stamp begins in frames as they arrive, in bytes.
    pub stamp_at: usize,
}

impl Sink {
    /// Starts a sink; it receives when this returns.
    pub fn start(setup: &Setup) -> anyhow::Result<Sink> {
        let stop = Arc::new(AtomicBool::new(false));
        let (ready, is_ready) = channel();
        let (inner, stopped) = (setup.clone(), stop.clone());
        let thread =
            place::thread(&setup.place, setup.cpu, move || receive(&inner, &stopped, &ready));
        let sink = Sink { stop, thread };
        sink.when_ready(&is_ready)
    }

    fn when_ready(self, ready: &Channel<()>) -> anyhow::Result<Sink> {
        match ready.recv() {
            Ok(()) => Ok(self),
            // It ended before it was ready; why, it says itself.
            Err(_) => Err(place::join(self.thread).err().unwrap_or_else(|| anyhow!("no sink"))),
        }
    }

    /// Ends the sink and gives what came.
    pub fn stop(self) -> anyhow::Result<Received> {
        self.stop.store(true, Ordering::Relaxed);
        place::join(self.thread)
    }
}

fn receive(setup: &Setup, stop: &AtomicBool, ready: &Teller<()>) -> anyhow::Result<Received> {
    const NAP: Duration = Duration::from_millis(5);
    let wait = || {
        // The other end waits; if it does not any more, there is nobody to tell.
        let _ = ready.send(());
        while !stop.load(Ordering::Relaxed) {
            std::thread::sleep(NAP);
        }
    };
    let dev = &setup.place.dev;
    match setup.kind {
        Kind::Count => {
            let receiver = Receiver::counting(dev, setup.stamp_at)?;
            wait();
            let count = receiver.counted()?;
            let (frames, bytes, others) = (count.frames, count.bytes, count.others);
            Ok(Received { frames, bytes, others, latency: None })
        }
        Kind::Kernel => {
            let before = counters::read(dev)?;
            wait();
            let after = counters::read(dev)?;
            let (frames, bytes) =
                (after.rx_frames - before.rx_frames, after.rx_bytes - before.rx_bytes);
            Ok(Received { frames, bytes, ..Received::default() })
        }
        Kind::Xdp => receive_by_socket(setup, stop, ready),
    }
}

fn receive_by_socket(
    setup: &Setup,
    stop: &AtomicBool,
    ready: &Teller<()>,
) -> anyhow::Result<Received> {
    /// Up to ten seconds, to a thousandth.
    const LONGEST: u64 = 10_000_000_000;
    const DIGITS: u8 = 3;
    let dev = &setup.place.dev;
    let mut receiver = Receiver::to_socket(dev, setup.stamp_at)?;
    let mut xsk = Xsk::open(dev, setup.queue)?;
    xsk.refill();
    receiver.direct(setup.queue, xsk.fd())?;
    let mut latency = Histogram::<u64>::new_with_bounds(1, LONGEST, DIGITS)
        .map_err(|e| anyhow!("a histogram: {e:?}"))?;
    let mut received = Received::default();
    ready.send(()).context("nobody waits for the sink")?;
    while !stop.load(Ordering::Relaxed) {
        xsk.receive(20, |frame| {
            let Some(stamp) = Stamp::find(frame, setup.stamp_at) else {
                received.others += 1;
                return;
            };
            received.frames += 1;
            received.bytes += frame.len() as u64;
            if stamp.nanoseconds > 0 {
                latency.saturating_record(stamp::now().saturating_sub(stamp.nanoseconds).max(1));
            }
        })?;
    }
    received.latency = (!latency.is_empty()).then_some(latency);
    Ok(received)
}
