//! One measurement: a load through the device under test.

use std::sync::mpsc::channel;
use std::time::Duration;

use anyhow::{Context, ensure};

use crate::counters::{self, Counters};
use crate::engine::{self, Engine, Limits};
use crate::load::Load;
use crate::place::{self, Place};
use crate::report::{KernelCounters, Latency, Report};
use crate::sink::{self, Sink};

/// How long frames may be on their way after the last one was sent.
const DRAIN: Duration = Duration::from_millis(100);

/// What to measure.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where frames are sent.
    pub from: Place,
    /// The queue of an AF_XDP engine.
    pub queue: u32,
    /// The CPU that sends.
    pub cpu: Option<usize>,
    /// How they are sent.
    pub engine: engine::Kind,
    /// What is sent.
    pub load: Load,
    /// How fast and how long.
    pub limits: Limits,
    /// Where and how they are received.
    pub sink: sink::Setup,
    /// Whether an interface with a default route is no obstacle.
    pub force: bool,
}

impl Plan {
    /// Whether it can be measured, as far as that is known without beginning. Errors name the options of the
    /// command line.
    pub fn check(&self) -> anyhow::Result<()> {
        self.engine.check(&self.load, &self.limits)?;
        ensure!(
            self.engine != engine::Kind::Kernel || self.sink.kind == sink::Kind::Kernel,
            "--engine kernel: its frames carry no stamp of ours; use --sink kernel"
        );
        ensure!(
            !self.from.is(&self.sink.place),
            "FROM and TO are {} both: expected two interfaces",
            self.from
        );
        Ok(())
    }

    /// Whether frames will tell when they were sent, to a sink that looks.
    pub fn has_latency(&self) -> bool {
        self.sink.kind == sink::Kind::Xdp
            && self.engine.resolved(&self.load, &self.limits) == engine::Kind::Xdp
    }
}

/// Sends the load and tells what came of it.
pub fn measure(plan: &Plan) -> anyhow::Result<Report> {
    plan.check()?;
    let (to, force) = (plan.sink.place.clone(), plan.force);
    let sink_place = to.clone();
    place::join(place::thread(&to, None, move || {
        sink_place.ifindex()?;
        if force { Ok(()) } else { sink_place.refuse_default_route() }
    }))?;

    // The engine is ready before the sink is, so that nothing of its making is counted.
    let (begin, may_begin) = channel::<()>();
    let (ready, is_ready) = channel();
    let inner = plan.clone();
    let sender = place::thread(&plan.from, plan.cpu, move || {
        inner.from.ifindex()?;
        if !inner.force {
            inner.from.refuse_default_route()?;
        }
        let mut engine =
            Engine::open(inner.engine, &inner.from, inner.queue, &inner.load, &inner.limits)?;
        let _ = ready.send(());
        // The other end is dropped without a word when the sink could not be started.
        may_begin.recv().context("the sink could not be started")?;
        let sent = engine.run(&inner.limits)?;
        Ok((engine.name(), sent))
    });
    if is_ready.recv().is_err() {
        place::join(sender)?;
        anyhow::bail!("the generator ended before it began");
    }
    let sink = Sink::start(&plan.sink)?;
    let before = counters_of(&plan.sink.place)?;
    begin.send(()).context("the generator waits")?;
    let sent = place::join(sender);
    std::thread::sleep(DRAIN);
    let after = counters_of(&plan.sink.place)?;
    let received = sink.stop()?;
    let (engine, sent) = sent?;

    let seconds = sent.time.as_secs_f64();
    let encapsulation = plan.load.fields().stamp - crate::load::HEADERS;
    Ok(Report {
        engine,
        sink: plan.sink.kind,
        frame_bytes: plan.load.sizes.mean() + encapsulation as f64,
        seconds,
        sent: sent.frames,
        sent_pps: sent.frames as f64 / seconds,
        received: received.frames,
        received_pps: received.frames as f64 / seconds,
        received_bps: received.bytes as f64 * 8.0 / seconds,
        others: received.others,
        loss: 1.0 - (received.frames as f64 / sent.frames.max(1) as f64).min(1.0),
        latency: received.latency.as_ref().map(Latency::of),
        kernel: KernelCounters {
            rx_frames: after.rx_frames - before.rx_frames,
            rx_dropped: after.rx_dropped - before.rx_dropped,
        },
    })
}

fn counters_of(place: &Place) -> anyhow::Result<Counters> {
    let dev = place.dev.clone();
    place::join(place::thread(place, None, move || counters::read(&dev)))
}
