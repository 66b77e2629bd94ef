//! The handle that the control thread holds: workers, ports, tables, counters.

use crate::attach::{self, Port};
use crate::bulk::{self, Bulk};
use crate::command::{Command, Mailbox};
use crate::config::{AttachSpec, Attached, EngineConfig, TapSpec, UplinkFilter};
use crate::error::Error;
use crate::fill;
use crate::io::{Gauges, WorkerIo};
use crate::lane::{LaneEnd, Lanes};
use crate::pipeline::{Pipeline, Switch};
use crate::pool::Pool;
use crate::program::Program;
use crate::stats::{Counters, PortSnapshot};
use crate::sys;
use crate::umem::Mapping;
use crate::worker::{Mailboxes, Worker};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::resource::{Resource, setrlimit};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use switch::ids::MAX_PORTS;
use switch::publish::{self, Publisher};
use switch::{Fdb, PortId, Tables, WorkerCounters};

/// The most workers an engine may have.
pub const MAX_WORKERS: usize = 64;
/// The fewest and the most buffers of a worker: below, two ports and a frame of 64 KiB do not fit;
/// above, a port costs more than 10 MiB of kernel memory.
const FRAMES: std::ops::RangeInclusive<u32> = 256..=65_536;

/// Busy ports that are looked at once more, in a second.
const LOOKS: usize = 50;

/// How long a worker may take to count: a round takes microseconds.
const COUNT_TIMEOUT: Duration = Duration::from_secs(1);

/// What the engine knows of one worker.
pub(crate) struct WorkerHandle {
    pub mailbox: Arc<Mailbox>,
    pub memory: Arc<Mapping>,
    counters: Arc<WorkerCounters>,
    gauges: Arc<Gauges>,
    frames: u32,
    thread: Option<JoinHandle<WorkerIo>>,
}

impl WorkerHandle {
    /// Adds the worker's counters to `ports`: asks the worker itself, which answers between two
    /// rounds, or reads them when it has ended.
    fn count(&self, mut ports: Vec<(PortId, PortSnapshot)>) -> Vec<(PortId, PortSnapshot)> {
        let (reply, answer) = sync_channel(1);
        let asked = ports.clone();
        self.mailbox.push(Command::Count { ports: asked, reply });
        if let Ok(counted) = answer.recv_timeout(COUNT_TIMEOUT) {
            return counted;
        }
        for (id, sum) in &mut ports {
            sum.add(self.counters.port(*id), self.gauges.in_flight(*id));
        }
        ports
    }
}

/// What only one thread may change at a time.
pub(crate) struct State {
    pub program: Program,
    pub ports: BTreeMap<PortId, Port>,
    /// Where to begin to look at busy ports.
    look_from: PortId,
}

/// The running fastpath. Dropping it stops it.
pub struct Engine {
    pub(crate) config: EngineConfig,
    pub(crate) workers: Vec<WorkerHandle>,
    pub(crate) state: Mutex<State>,
    publisher: Mutex<Option<Publisher<Tables>>>,
    /// Two grace periods at a time would be one too few.
    recalling: Mutex<()>,
    start: Instant,
}

impl Engine {
    /// Starts the workers with the switch as their pipeline.
    pub fn start(
        config: EngineConfig,
        tables: Arc<Tables>,
        fdb: Arc<Fdb>,
    ) -> Result<Engine, Error> {
        let (publisher, mut readers) = publish::channel(tables, config.workers);
        let engine = Engine::start_with(config, |_, counters| {
            // One reader for each worker; the last worker takes the first, which is all the same.
            readers.pop().map(|reader| Switch::new(counters, fdb.clone(), reader))
        })?;
        *lock(&engine.publisher) = Some(publisher);
        Ok(engine)
    }

    /// To be called when the queueing discipline of a port's interface has changed, so that frames in bulk, which have to
    /// pass it, do not overtake those of the rings, which do not. [`Engine::collect`] looks at busy ports anyway.
    pub fn discipline_changed(&self, id: PortId) {
        if let Some(port) = self.lock_state().ports.get_mut(&id) {
            attach::look_at_bulk(self, id, port);
        }
    }

    /// Looks whether frames may go in bulk to ports that were sent so many since the last time, to a few of them at
    /// a time: to look takes some 50 µs.
    fn look_at_busy_ports(&self) {
        if !self.config.bulk {
            return;
        }
        let state = &mut *self.lock_state();
        let start = state.look_from;
        let ids: Vec<PortId> = state
            .ports
            .range(start..)
            .chain(state.ports.range(..start))
            .map(|(&id, _)| id)
            .collect();
        let mut looks = 0;
        for id in ids {
            let Some(port) = state.ports.get_mut(&id) else { continue };
            let sent = self.workers.iter().map(|w| w.counters.port(id).tx_frames.get()).sum();
            if sent - port.looked_at < bulk::WORTHWHILE.into() {
                continue;
            }
            if looks == LOOKS {
                state.look_from = id;
                break;
            }
            looks += 1;
            port.looked_at = sent;
            attach::look_at_bulk(self, id, port);
        }
    }

    /// Starts the workers with pipelines of the caller's making: for tests and benches. `make` is
    /// given the worker's number and counters.
    pub fn start_with<P: Pipeline>(
        mut config: EngineConfig,
        mut make: impl FnMut(usize, Arc<WorkerCounters>) -> Option<P>,
    ) -> Result<Engine, Error> {
        check(&config)?;
        // Without CAP_SYS_RESOURCE the limit stays, and is named if it turns out too low.
        let _ = setrlimit(Resource::RLIMIT_MEMLOCK, nix::libc::RLIM_INFINITY, u64::MAX);
        let program = Program::load(config.pin_dir.as_deref())?;
        let mailboxes: Mailboxes = (0..config.workers)
            .map(|_| Mailbox::new().map(Arc::new))
            .collect::<io::Result<_>>()
            .map_err(Error::system("create an eventfd"))?;
        let bulks = bulks(&config);
        config.bulk &= !bulks.is_empty();
        let mut bulks = bulks.into_iter();
        let lanes = Lanes::new(config.workers);
        let mut engine = Engine {
            workers: Vec::new(),
            state: Mutex::new(State { program, ports: BTreeMap::new(), look_from: PortId(0) }),
            publisher: Mutex::new(None),
            recalling: Mutex::new(()),
            start: Instant::now(),
            config,
        };
        for index in 0..engine.config.workers {
            let counters = Arc::new(WorkerCounters::new(MAX_PORTS));
            let Some(pipeline) = make(index, counters.clone()) else {
                return Err(Error::WorkerGone(index));
            };
            let end = LaneEnd::new(lanes.clone(), index);
            let bulk = bulks.next();
            let handle = engine.spawn(index, pipeline, counters, end, bulk, mailboxes.clone())?;
            engine.workers.push(handle);
        }
        Ok(engine)
    }

    fn spawn<P: Pipeline>(
        &self,
        index: usize,
        pipeline: P,
        counters: Arc<WorkerCounters>,
        lanes: LaneEnd,
        bulk: Option<Bulk>,
        mailboxes: Mailboxes,
    ) -> Result<WorkerHandle, Error> {
        let frames = self.config.frames_per_worker;
        let pool = Pool::new(frames).map_err(Error::system("map the buffers"))?;
        let (memory, gauges) = (pool.memory().clone(), Gauges::new());
        gauges.free.store(frames, Ordering::Relaxed);
        let mailbox = mailboxes[index].clone();
        let io = WorkerIo::new(pool, counters.clone(), gauges.clone(), lanes, bulk);
        let worker = Worker::new(io, pipeline, index, mailboxes, self.config.spin, self.start)
            .map_err(Error::system("set up epoll"))?;
        let cpu = self.config.cpus.as_ref().and_then(|cpus| cpus.get(index).copied());
        let nice = self.config.nice;
        let thread = std::thread::Builder::new()
            .name(format!("worker{index}"))
            .spawn(move || {
                if let Some(cpu) = cpu
                    && let Err(e) = pin_to(cpu)
                {
                    tracing::warn!("worker {index}: cannot run on CPU {cpu} alone: {e}");
                }
                if let Err(e) = sys::set_nice(nice) {
                    tracing::warn!(
                        "worker {index}: cannot have the nice value {nice}: {e}; it takes turns with \
                         the pods' processes (grant CAP_SYS_NICE)"
                    );
                }
                worker.run()
            })
            .map_err(Error::system("start a worker's thread"))?;
        Ok(WorkerHandle { mailbox, memory, counters, gauges, frames, thread: Some(thread) })
    }

    /// Attaches an interface as port `id`: from here on its frames come to the workers.
    pub fn attach(&self, id: PortId, spec: &AttachSpec) -> Result<Attached, Error> {
        attach::attach(self, id, spec)
    }

    /// Attaches a TAP device as port `id`. It is closed when the port is detached, and goes then
    /// unless it is persistent.
    pub fn attach_tap(&self, id: PortId, spec: TapSpec) -> Result<Attached, Error> {
        attach::attach_tap(self, id, spec)
    }

    /// The ports whose TAP device was deleted since the last call: netlink tells only of interfaces in
    /// our own namespace.
    pub fn take_gone(&self) -> Vec<PortId> {
        let mut gone = Vec::new();
        for worker in &self.workers {
            if worker.gauges.gone.swap(false, Ordering::Relaxed) {
                let (reply, answer) = sync_channel(1);
                worker.mailbox.push(Command::FindGone { reply });
                gone.extend(answer.recv_timeout(COUNT_TIMEOUT).unwrap_or_default());
            }
        }
        gone
    }

    /// Detaches a port: its frames go to the kernel again. Works when the interface is gone. Frames
    /// on their way in or out are dropped as [`switch::DropReason::Shutdown`].
    pub fn detach(&self, id: PortId) -> Result<(), Error> {
        attach::detach(self, id)
    }

    /// Sets what is taken from uplinks. What is in the old filter and the new one is taken
    /// throughout.
    pub fn set_uplink_filter(&self, filter: &UplinkFilter) -> Result<(), Error> {
        self.lock_state().program.set_filter(filter)?;
        let tunnels: Arc<[_]> = filter.vxlan.clone().into();
        for worker in &self.workers {
            worker.mailbox.push(Command::SetTunnels(tunnels.clone()));
        }
        Ok(())
    }

    /// Makes `tables` what every worker sees from its next batch on.
    pub fn publish(&self, tables: Arc<Tables>) {
        if let Some(publisher) = lock(&self.publisher).as_mut() {
            publisher.publish(tables);
        }
        // Asleep, a worker would hold the old tables in memory.
        for worker in &self.workers {
            worker.mailbox.ring();
        }
    }

    /// Waits until every worker forwards by the tables published last; whether that was in time. A
    /// worker takes them up at its next batch, within microseconds.
    pub fn wait_until_taken(&self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        loop {
            let pending = match lock(&self.publisher).as_mut() {
                Some(publisher) => {
                    // What a worker has no room to give back keeps it from taking.
                    publisher.collect();
                    publisher.is_pending()
                }
                None => false,
            };
            if !pending {
                return true;
            }
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(Duration::from_micros(20));
        }
    }

    /// Housekeeping, to be called about once a second: frees tables that no worker uses any more, looks at what is
    /// before and behind the interfaces of busy ports, and when buffers are short, takes those back
    /// that silent ports hold. From where that cannot be done, a
    /// zero-copy driver's ring above all, they come by opening the socket anew, which takes it out of
    /// service for about 30 ms.
    pub fn collect(&self) {
        if let Some(publisher) = lock(&self.publisher).as_mut() {
            publisher.collect();
        }
        self.look_at_busy_ports();
        for (index, worker) in self.workers.iter().enumerate() {
            if !worker.gauges.pressed.swap(false, Ordering::Relaxed) {
                continue;
            }
            if self.recall(worker) {
                continue;
            }
            let (reply, answer) = sync_channel(1);
            worker.mailbox.push(Command::FindHoarder { reply });
            if let Ok(Some(port)) = answer.recv_timeout(COUNT_TIMEOUT)
                && let Err(e) = attach::reopen(self, port, index)
            {
                tracing::error!("port {port}: {e}");
            }
        }
    }

    /// Takes back buffers that ports do not need; whether there were any.
    fn recall(&self, worker: &WorkerHandle) -> bool {
        let _one_at_a_time = lock(&self.recalling);
        let (reply, answer) = sync_channel(1);
        worker.mailbox.push(Command::Recall { reply });
        if answer.recv_timeout(COUNT_TIMEOUT).unwrap_or(0) == 0 {
            return false;
        }
        if let Err(e) = sys::wait_for_grace_period() {
            // They stay in limbo, and come back with their frames or when the port goes.
            tracing::warn!("cannot take buffers back: membarrier: {e}");
            return false;
        }
        worker.mailbox.push(Command::Recalled);
        true
    }

    /// Sees to it that a worker has buffers for one more port.
    pub(crate) fn make_room(&self, worker: &WorkerHandle) {
        if worker.gauges.free.load(Ordering::Relaxed) < fill::transmission(worker.frames) {
            self.recall(worker);
        }
    }

    /// Removes pins of interfaces that are not attached, left by an earlier process, which detaches
    /// its program from them: their names. Call it when the configuration is in place.
    pub fn release_stale_pins(&self) -> Vec<String> {
        let state = self.lock_state();
        let ports = state.ports.values().filter(|p| p.has_program());
        let attached: Vec<&str> = ports.map(|p| p.ifname.as_str()).collect();
        state.program.remove_other_pins(&attached)
    }

    /// All counters, added up over the workers.
    pub fn counters(&self) -> Counters {
        let state = self.lock_state();
        let ids = (0..MAX_PORTS as u16).map(PortId);
        let known = ids.filter(|id| state.ports.contains_key(id) || self.has_counted(*id));
        let mut ports: Vec<_> = known.map(|id| (id, PortSnapshot::silent())).collect();
        for worker in &self.workers {
            ports = worker.count(ports);
        }
        for (id, sum) in &mut ports {
            if let Some(port) = state.ports.get(id) {
                sum.kernel = port.kernel_statistics();
            }
        }
        let buffers = self.workers.iter();
        let buffers = buffers.map(|w| (w.frames, w.gauges.free.load(Ordering::Relaxed)));
        Counters { ports, buffers: buffers.collect() }
    }

    fn has_counted(&self, id: PortId) -> bool {
        self.workers.iter().any(|worker| {
            let c = worker.counters.port(id);
            c.rx_frames.get() + c.tx_frames.get() + c.dropped() > 0
        })
    }

    /// A worker that has ended though nobody stopped the engine: it panicked, and what it served goes
    /// to the kernel. The daemon should end, so that it is started anew.
    pub fn failed_worker(&self) -> Option<usize> {
        let ended = |w: &WorkerHandle| w.thread.as_ref().is_some_and(JoinHandle::is_finished);
        self.workers.iter().position(ended)
    }

    /// Milliseconds of the clock that pipelines are given, now.
    pub fn now(&self) -> switch::Millis {
        switch::Millis(self.start.elapsed().as_millis() as u64)
    }

    /// Detaches all ports, removes the pins and ends the workers.
    pub fn stop(mut self) {
        self.shut_down();
    }

    fn shut_down(&mut self) {
        let ids: Vec<PortId> = self.lock_state().ports.keys().copied().collect();
        for id in ids {
            if let Err(e) = self.detach(id) {
                tracing::warn!("port {id}: {e}");
            }
        }
        for worker in &self.workers {
            worker.mailbox.push(Command::Stop);
        }
        let mut ios: Vec<WorkerIo> = Vec::new();
        for (index, worker) in self.workers.iter_mut().enumerate() {
            match worker.thread.take().map(JoinHandle::join) {
                Some(Ok(io)) => ios.push(io),
                Some(Err(_)) => tracing::error!("worker {index} panicked"),
                None => {}
            }
        }
        for io in &mut ios {
            io.close_lanes();
        }
        self.lock_state().program.remove_pin_dir();
    }

    pub(crate) fn lock_state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.shut_down();
    }
}

/// A panic while the lock was held leaves the state as it was: every change is the last step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn check(config: &EngineConfig) -> Result<(), Error> {
    let bad = |field, value: String, expected| Err(Error::Config { field, value, expected });
    if !(1..=MAX_WORKERS).contains(&config.workers) {
        return bad("workers", config.workers.to_string(), "1 to 64");
    }
    if !FRAMES.contains(&config.frames_per_worker) {
        return bad("frames_per_worker", config.frames_per_worker.to_string(), "256 to 65536");
    }
    if !config.ring_size.is_power_of_two() || !(64..=16_384).contains(&config.ring_size) {
        return bad("ring_size", config.ring_size.to_string(), "a power of two, 64 to 16384");
    }
    if let Some(cpus) = &config.cpus
        && cpus.len() != config.workers
    {
        return bad("cpus", cpus.len().to_string(), "one CPU for each worker");
    }
    if !(-20..=19).contains(&config.nice) {
        return bad("nice", config.nice.to_string(), "-20 to 19");
    }
    if config.spin > Duration::from_secs(1) {
        return bad("spin", format!("{:?}", config.spin), "at most a second");
    }
    Ok(())
}

/// What each worker sends in bulk by; none where the kernel cannot do it, which costs throughput and nothing else.
fn bulks(config: &EngineConfig) -> Vec<Bulk> {
    if !config.bulk {
        return Vec::new();
    }
    Bulk::load(config.workers).unwrap_or_else(|e| {
        tracing::warn!("{e}; frames leave by the TX rings alone, which is slower");
        Vec::new()
    })
}

fn pin_to(cpu: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &set)?)
}
