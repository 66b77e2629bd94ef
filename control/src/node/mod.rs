//! The node: the desired state put into effect on the kernel and the switch.
//!
//! One way in for every change: a new desired state, already valid, goes through
//! `Node::transition`. New ports are made first, since that can fail; then the tables are compiled
//! from the state and the facts (`compile`, a pure function) and published in one step; then what is
//! not wanted any more is taken down, when no packet can go there. The kernel's own changes (links,
//! addresses, routes, neighbours) arrive as events and lead to new facts and new tables in the same
//! way.

mod announce;
mod attach;
mod compile;
mod facts;
mod ids;
mod ports;
mod readiness;
mod report;
mod routes;
mod sync;
mod transition;
mod world;

pub use compile::{TableIds, compile};
pub use facts::{Facts, NextHopFacts, PortFacts, UplinkFacts};

use crate::attachment::Attachments;
use crate::attachment::notes::Notes;
use crate::backend::Backend;
use crate::masquerade::Rules;
use fastpath::{Engine, EngineConfig, UplinkFilter};
use host::{Event, Handle, Monitor};
use ids::Ids;
use podswitch_api::method::{Applied, Empty};
use podswitch_api::state::{Shortcut, State};
use podswitch_api::view::Flushed;
use podswitch_api::{Error, Request, Response};
use ports::{Live, Wanted};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};
use switch::tables::NeighborEntry;
use switch::{Fdb, Tables};
use world::World;

/// How often the node looks after what no event tells it of: snapshots to free, interfaces that
/// came back.
const HOUSEKEEPING: Duration = Duration::from_secs(1);

/// Buckets of the forwarding database to be freed of aged out addresses at a time: 4 MiB are read in
/// about a millisecond, and hold more than the default capacity.
const SWEEP: usize = 1 << 16;

/// The node: the desired state, and what was made of it.
pub struct Node {
    /// What the operator wants.
    desired: State,
    /// What the container runtime plugged in.
    attachments: Attachments,
    /// Removals that were noted while no daemon could be asked.
    notes: Notes,
    /// The desired state with the attachments over it: what is in effect.
    effective: State,
    /// What the kernel masquerades on our behalf; none: not known yet.
    masquerade: Option<Rules>,
    kernel: Handle,
    monitor: Monitor,
    engine: Engine,
    fdb: Arc<Fdb>,
    live: BTreeMap<String, Live>,
    port_ids: Ids,
    table_ids: TableIds,
    facts: Facts,
    filter: UplinkFilter,
    world: World,
    tables: Arc<Tables>,
    generation: u64,
    warnings: BTreeMap<&'static str, String>,
    started: Instant,
    housekeeping: Instant,
}

impl Node {
    /// Starts the switch and puts a valid desired state into effect, wholly or not at all.
    pub fn start(desired: &State) -> Result<Node, Error> {
        let settings = desired.switch_or_default();
        let kernel = Handle::current().map_err(ports::kernel_error)?;
        // Subscribed before anything is read, so that no change falls in between.
        let monitor = Monitor::current().map_err(ports::kernel_error)?;
        let fdb = Arc::new(Fdb::new(settings.fdb_capacity as usize));
        let tables = Arc::new(Tables::default());
        let cpus = settings.cpus.iter().map(|&c| c.into()).collect::<Vec<usize>>();
        let config = EngineConfig {
            workers: settings.workers.into(),
            cpus: (!cpus.is_empty()).then_some(cpus),
            nice: settings.nice,
            spin: Duration::from_micros(settings.spin.into()),
            busy_poll: settings.busy_poll,
            ring_size: settings.ring,
            superpackets: settings.superpackets == Shortcut::Auto,
            bulk: settings.bulk == Shortcut::Auto,
            frames_per_worker: settings.frames,
            pin_dir: Some(pin_dir(kernel.netns().inode())),
        };
        let engine =
            Engine::start(config, tables.clone(), fdb.clone()).map_err(ports::engine_error)?;
        let attachments = attach::restore(desired, &kernel)?;
        let now = Instant::now();
        let empty = State { switch: desired.switch.clone(), ..State::default() };
        let mut node = Node {
            desired: empty.clone(),
            attachments,
            notes: Notes::beside(&settings.socket),
            masquerade: None,
            effective: empty,
            kernel,
            monitor,
            engine,
            fdb,
            live: BTreeMap::new(),
            port_ids: Ids::default(),
            table_ids: TableIds::default(),
            facts: Facts::default(),
            filter: UplinkFilter::default(),
            world: World::default(),
            tables,
            generation: 0,
            warnings: BTreeMap::new(),
            started: now,
            housekeeping: now,
        };
        match node.begin(desired.clone()) {
            Ok(()) => {
                for interface in node.engine.release_stale_pins() {
                    tracing::info!("{interface}: released; an earlier daemon had it, we do not");
                }
                Ok(node)
            }
            Err(e) => {
                let _ = node.stop();
                Err(e)
            }
        }
    }

    /// Reads the facts again and, if they or the state have changed, publishes new tables.
    fn refresh(&mut self) {
        match self.gather() {
            Ok(facts) => self.facts = facts,
            // The tables stay as they are; the next event or second tries again.
            Err(e) => {
                return self.warn("kernel", Some(format!("reading the kernel's tables: {e}")));
            }
        }
        self.warn("kernel", None);
        let uplink = self.effective.uplink.as_ref().filter(|_| self.facts.uplink.is_none());
        let stray = uplink.and_then(|u| Some((&u.dev, u.vlan?)));
        self.warn(
            "vlan",
            stray.map(|(dev, vlan)| {
                format!(
                    "no interface has the addresses of VLAN {vlan} on {dev}: \
                     make one with `ip link add link {dev} name {dev}.{vlan} type vlan id {vlan}`, \
                     or name it in [uplink] vlan_dev"
                )
            }),
        );
        self.sync_filter();
        self.sync_pod_routes();
        self.tables = Arc::new(compile(&self.effective, &self.facts, &mut self.table_ids));
        self.generation += 1;
        self.engine.publish(self.tables.clone());
        self.sync_host_routes();
    }

    /// Reads the facts that the state and what is announced depend on.
    fn gather(&mut self) -> host::Result<Facts> {
        let announced = self.table_ids.routes.vias();
        self.world.gather(&self.kernel, &self.effective, announced, &self.live)
    }

    /// Notes what an operator should know under a key, or that it is well again.
    fn warn(&mut self, key: &'static str, warning: Option<String>) {
        match warning {
            Some(text) => {
                if self.warnings.get(key) != Some(&text) {
                    tracing::warn!("{text}");
                    self.warnings.insert(key, text);
                }
            }
            None => {
                self.warnings.remove(key);
            }
        }
    }

    fn apply(&mut self, next: State, dry_run: bool) -> Result<Applied, Error> {
        if dry_run {
            return Ok(Applied { changes: self.desired.diff(&next), applied: false });
        }
        Ok(Applied { changes: self.change(next)?, applied: true })
    }

    /// Interfaces of ours are gone: their ports drop until they are back or removed. Whether there were
    /// any.
    fn links_gone(&mut self, is_gone: impl Fn(&Live) -> bool) -> bool {
        let mut any = false;
        for (name, live) in self.live.iter_mut().filter(|(_, l)| is_gone(l)) {
            if live.attached.take().is_some() {
                any = true;
                tracing::warn!("{name}: the interface {} is gone", live.dev);
                if let Err(e) = self.engine.detach(live.id) {
                    tracing::debug!("{name}: {e}");
                }
                live.forget_device();
            }
        }
        any
    }

    /// Queueing disciplines of interfaces have changed, by index.
    fn disciplines_changed(&self, concerns: impl Fn(u32) -> bool) {
        for live in self.live.values().filter(|live| live.attached.is_some()) {
            if live.node_end().is_some_and(|(_, index)| concerns(index)) {
                self.engine.discipline_changed(live.id);
            }
        }
    }

    /// Lets go of TAP devices whose pods are gone, of which netlink does not tell us.
    fn taps_gone(&mut self) {
        let gone = self.engine.take_gone();
        if self.links_gone(|live| gone.contains(&live.id) || live.is_orphan()) {
            self.refresh();
        }
    }

    /// Ports whose interface is gone, and whose interface (or pod) may be there again.
    fn revive(&mut self) -> bool {
        let lost: Vec<String> = self
            .live
            .iter()
            .filter(|(_, l)| l.attached.is_none() && self.exists_again(l))
            .map(|(name, _)| name.clone())
            .collect();
        let state = self.effective.clone();
        let mut revived = false;
        for name in lost {
            let Some(old) = self.live.remove(&name) else { continue };
            match self.bring_up(&state, &name, &old.wanted) {
                Ok(()) => {
                    tracing::info!("{name}: the interface is back");
                    revived = true;
                }
                Err(e) => {
                    tracing::debug!("{name}: {e}");
                    self.port_ids.get_or_allocate(&name);
                    self.live.insert(name, old);
                }
            }
        }
        revived
    }

    /// Whether an interface that was taken is there again under its name. What podswitch made
    /// itself does not come back by itself.
    fn exists_again(&self, live: &Live) -> bool {
        let taken = match &live.wanted {
            Wanted::Uplink(_) => true,
            Wanted::Port(port) => port.dev.is_some(),
            Wanted::Attached(..) | Wanted::Host { .. } => false,
        };
        taken && matches!(self.kernel.link_by_name(&live.dev), Ok(Some(_)))
    }
}

/// Where the links of the XDP programs are pinned: apart for each network namespace, since interface
/// names are.
fn pin_dir(netns: u64) -> std::path::PathBuf {
    format!("/sys/fs/bpf/podswitch/{netns}").into()
}

impl Backend for Node {
    fn call(&mut self, request: Request) -> Result<Response, Error> {
        if let Request::ConfigApply(apply) = &request {
            let next = self.desired.edited(&request)?;
            return self.apply(next, apply.dry_run).map(Response::ConfigApply);
        }
        if let Request::FdbFlush(filter) = &request {
            let matches = self.fdb_matcher(filter)?;
            let flushed = self.fdb.flush(matches) as u64;
            return Ok(Response::FdbFlush(Flushed { flushed }));
        }
        if let Request::NeighborFlush(filter) = &request {
            let matches = |n: &NeighborEntry| filter.ip.is_none_or(|ip| ip == n.ip);
            let now = self.engine.now().seconds();
            let flushed = self.table_ids.neighbors.flush(now, matches) as u64;
            return Ok(Response::NeighborFlush(Flushed { flushed }));
        }
        if let Request::RouteUpdate(update) = request {
            return self.update_routes(update).map(Response::RouteUpdate);
        }
        let request = match self.call_attachment(request)? {
            ControlFlow::Break(response) => return Ok(response),
            ControlFlow::Continue(request) => request,
        };
        if request.writes() {
            let next = self.desired.edited(&request)?;
            self.transition(next)?;
        }
        self.report(request)
    }

    fn fds(&self) -> Vec<BorrowedFd<'_>> {
        vec![self.monitor.as_fd()]
    }

    fn on_fd(&mut self, _: usize) {
        let events = self.monitor.read().unwrap_or_else(|e| {
            tracing::warn!("{e}");
            vec![Event::Overrun]
        });
        for event in &events {
            match event {
                Event::LinkDel { index, .. } => {
                    self.links_gone(|live| live.node_end().is_some_and(|(_, i)| i == *index));
                }
                Event::QdiscChanged { index } => self.disciplines_changed(|i| i == *index),
                Event::Overrun => self.disciplines_changed(|_| true),
                _ => {}
            }
        }
        // Every event is noted, also after the first that matters.
        let concerned = events.iter().filter(|e| self.world.note(e)).count() > 0;
        let appeared = events.iter().any(|e| matches!(e, Event::LinkNew(_) | Event::Overrun));
        let revived = appeared && self.revive();
        if revived || concerned {
            self.refresh_if_changed(revived);
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        Some(self.housekeeping)
    }

    fn on_timer(&mut self, now: Instant) {
        self.housekeeping = now + HOUSEKEEPING;
        self.engine.collect();
        self.taps_gone();
        let failed = self.engine.failed_worker();
        self.warn("worker", failed.map(|n| format!("worker {n} has ended: restart the daemon")));
        self.world.ask_again(&self.kernel, &self.facts);
        self.carry_out_notes();
        self.tidy_masquerade();
        if self.warnings.contains_key("routes") {
            // What was in the way, such as another plugin's bridge, may be gone.
            self.sync_host_routes();
        }
        self.fdb.sweep(self.engine.now().seconds(), SWEEP);
    }

    fn stop(&mut self) -> Result<(), Error> {
        // With pods that want it, the rules stay for the daemon that takes them up again.
        self.tidy_masquerade();
        let names: Vec<String> = self.live.keys().cloned().collect();
        self.take_down_all(&names);
        self.world.release(&self.kernel);
        // The workers end, and the pins go, with the engine.
        Ok(())
    }
}

impl Node {
    /// Publishes new tables if the facts have changed, or if they must anyway.
    fn refresh_if_changed(&mut self, must: bool) {
        match self.gather() {
            Ok(facts) if !must && facts == self.facts => {}
            _ => self.refresh(),
        }
    }
}

/// The answer to a request that has nothing to tell.
const EMPTY: Empty = Empty {};
