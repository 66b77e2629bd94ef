//! How frames are sent: as fast as one core goes, or at a rate.

use std::time::{Duration, Instant};

use crate::bpf::Sender;
use crate::kernel::{self, Pktgen};
use crate::load::{Load, Sizes};
use crate::place::Place;
use crate::stamp::{self, Stamp};
use crate::xsk::Xsk;
use anyhow::{Context, bail, ensure};

/// The way frames are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// `live` without a rate, else `xdp`.
    Auto,
    /// XDP live frames (Linux 5.18): the most that a core can offer. One size, no rate, no latency.
    Live,
    /// An AF_XDP socket of xsk-rs: any mix, at a rate, with timestamps.
    Xdp,
    /// The kernel's pktgen, where the module is: one size, any rate, no latency; with `--sink kernel`.
    Kernel,
}

impl Kind {
    /// The way that it is for a load: `Auto` is another.
    pub fn resolved(self, load: &Load, limits: &Limits) -> Kind {
        match self {
            Kind::Auto if limits.rate.is_none() && load.sizes != Sizes::Imix => Kind::Live,
            Kind::Auto => Kind::Xdp,
            kind => kind,
        }
    }

    /// Whether it can send a load so. Errors name the options of the command line.
    pub fn check(self, load: &Load, limits: &Limits) -> anyhow::Result<()> {
        load.check()?;
        ensure!(limits.frames != Some(0), "--frames 0: expected 1 at least");
        match self {
            Kind::Live if load.sizes == Sizes::Imix => {
                bail!("--engine live with --size imix: live frames have one size; use --engine xdp")
            }
            Kind::Live if limits.rate.is_some() => {
                bail!(
                    "--engine live with a rate (--rate, or a search): live frames go as fast as a \
                     core; use --engine xdp"
                )
            }
            Kind::Kernel => kernel::check(load, limits),
            _ => Ok(()),
        }
    }
}

/// When to stop, and how fast to go.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// After so long.
    pub time: Duration,
    /// After so many frames.
    pub frames: Option<u64>,
    /// Frames a second; as fast as possible when absent.
    pub rate: Option<f64>,
}

/// What was sent.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    /// Frames.
    pub frames: u64,
    /// How long that took.
    pub time: Duration,
}

/// Frames that an AF_XDP engine writes at once.
const BATCH: u64 = 64;
/// Different frames that are prepared; what varies beyond that repeats.
const TEMPLATES: u32 = 65_536;
/// How long the kernel may take to send what it was given last.
const FLUSH: Duration = Duration::from_secs(1);

/// Something that sends, ready to begin.
pub enum Engine {
    /// XDP live frames.
    Live(Sender),
    /// An AF_XDP socket.
    Xdp(Box<Paced>),
    /// The kernel's generator.
    Kernel(Pktgen),
}

impl Engine {
    /// Prepares to send a load on an interface of the calling thread's namespace.
    pub fn open(
        kind: Kind,
        place: &Place,
        queue: u32,
        load: &Load,
        limits: &Limits,
    ) -> anyhow::Result<Engine> {
        kind.check(load, limits)?;
        if kind == Kind::Kernel {
            return Ok(Engine::Kernel(Pktgen::open(&place.dev, queue, load, limits)?));
        }
        if kind.resolved(load, limits) == Kind::Live {
            return Ok(Engine::Live(Sender::load(place.ifindex()?, load)?));
        }
        Ok(Engine::Xdp(Box::new(Paced::open(place, queue, load)?)))
    }

    /// The name of the way frames are sent.
    pub fn name(&self) -> &'static str {
        match self {
            Engine::Live(_) => "live",
            Engine::Xdp(_) => "xdp",
            Engine::Kernel(_) => "kernel",
        }
    }

    /// Sends until a limit is reached.
    pub fn run(&mut self, limits: &Limits) -> anyhow::Result<Sent> {
        match self {
            Engine::Live(sender) => flood(sender, limits),
            Engine::Xdp(paced) => paced.run(limits),
            Engine::Kernel(pktgen) => pktgen.run(limits),
        }
    }
}

fn flood(sender: &mut Sender, limits: &Limits) -> anyhow::Result<Sent> {
    let most = limits.frames.map(|n| u32::try_from(n).unwrap_or(u32::MAX));
    sender.send(limits.time, most)
}

/// An AF_XDP socket that sends prepared frames at a rate.
pub struct Paced {
    xsk: Xsk,
    templates: Vec<Vec<u8>>,
    stamp_at: usize,
    batch: Vec<Vec<u8>>,
}

impl Paced {
    fn open(place: &Place, queue: u32, load: &Load) -> anyhow::Result<Paced> {
        let templates: Vec<_> =
            (0..load.period(TEMPLATES)).map(|n| load.frame(n)).collect::<anyhow::Result<_>>()?;
        let batch = vec![Vec::with_capacity(2048); BATCH as usize];
        Ok(Paced {
            xsk: Xsk::open(&place.dev, queue)?,
            templates,
            stamp_at: load.fields().stamp,
            batch,
        })
    }

    fn run(&mut self, limits: &Limits) -> anyhow::Result<Sent> {
        let most = limits.frames.unwrap_or(u64::MAX);
        let start = Instant::now();
        let mut frames = 0;
        loop {
            let elapsed = start.elapsed();
            if frames >= most || elapsed >= limits.time {
                break;
            }
            let due = match limits.rate {
                Some(rate) => ((elapsed.as_secs_f64() * rate) as u64 + 1).min(most),
                None => most,
            };
            let count = due.saturating_sub(frames).min(BATCH);
            if count == 0 {
                self.xsk.flush()?;
                self.rest(start, limits, frames);
                continue;
            }
            frames += self.send(frames, count)?;
        }
        let time = start.elapsed();
        let deadline = Instant::now() + FLUSH;
        while !self.xsk.flush()? {
            if Instant::now() > deadline {
                bail!("the interface does not take frames: is it up?");
            }
        }
        Ok(Sent { frames, time })
    }

    fn send(&mut self, first: u64, count: u64) -> anyhow::Result<u64> {
        let nanoseconds = stamp::now();
        let batch = &mut self.batch[..count as usize];
        for (sequence, frame) in (first as u32..).zip(batch.iter_mut()) {
            let template = &self.templates[sequence as usize % self.templates.len()];
            frame.clear();
            frame.extend_from_slice(template);
            let stamp = Stamp { sequence, nanoseconds }.bytes();
            frame
                .get_mut(self.stamp_at..self.stamp_at + stamp.len())
                .context("a stamp fits every frame")?
                .copy_from_slice(&stamp);
        }
        Ok(self.xsk.send(batch.iter().map(Vec::as_slice))? as u64)
    }

    /// Waits until the next frame is due: asleep when that is a while, so as to leave the core to the
    /// device under test.
    fn rest(&self, start: Instant, limits: &Limits, frames: u64) {
        const NAP: Duration = Duration::from_micros(200);
        let Some(rate) = limits.rate else { return };
        let due = Duration::from_secs_f64(frames as f64 / rate);
        let left = due.min(limits.time).saturating_sub(start.elapsed());
        if left > NAP {
            std::thread::sleep(left - NAP / 2);
        } else {
            std::hint::spin_loop();
        }
    }
}
