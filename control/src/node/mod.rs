//! The node: the desired state put into effect on the kernel and the switch.
//!
//! One way in for every change: a new desired state, already valid, goes through
//! `Node::transition`. New ports are made first, since that can fail; then the tables are compiled
//! from the state and the facts (`compile`, a pure function) and published in one step; then what is
//! not wanted any more is taken down, when no packet can go there. The kernel's own changes (links,
//! addresses, routes, neighbours) arrive as events and lead to new facts and new tables in the same
//! way.

mod attach;
mod compile;
mod facts;
mod ids;
mod ports;
mod readiness;
mod report;
mod routes;
mod world;

pub use compile::{TableIds, compile};
pub use facts::{Facts, NextHopFacts, PortFacts, UplinkFacts};

use crate::attachment::notes::Notes;
use crate::attachment::{Attachments, Entry};
use crate::backend::Backend;
use crate::masquerade::Rules;
use fastpath::{Engine, EngineConfig, UplinkFilter};
use host::{Event, Handle, HostRoute, Monitor};
use ids::Ids;
use podswitch_api::diff::Change;
use podswitch_api::method::{Applied, Empty};
use podswitch_api::state::{State, Via};
use podswitch_api::view::Flushed;
use podswitch_api::{Encapsulation, Error, Request, Response};
use ports::{Live, Maker, Wanted, wanted};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};
use switch::tables::NeighborEntry;
use switch::{Fdb, Location, PortId, Tables, TunnelId};
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

    /// Puts the first desired state into effect, wholly or not at all, and of the attachments of before
    /// those that can be.
    fn begin(&mut self, desired: State) -> Result<(), Error> {
        self.transition_to(desired, true)?;
        if let Err(e) = self.sync_masquerade() {
            self.warn("masquerade", Some(e.message));
        }
        Ok(())
    }

    /// Goes from the desired state that is in effect to `next`, or stays. What changed.
    fn change(&mut self, next: State) -> Result<Vec<Change>, Error> {
        let changes = self.desired.diff(&next);
        self.transition(next)?;
        self.attachments.follow(&self.desired);
        let problem = self.sync_masquerade().err().map(|e| e.message);
        self.warn("masquerade", problem);
        Ok(changes)
    }

    /// Puts a desired state into effect, with the attachments as they are now, or leaves what is.
    fn transition(&mut self, desired: State) -> Result<(), Error> {
        self.transition_to(desired, false)
    }

    /// As [`Node::transition`]; `forgiving`, attachments whose port cannot be made are left out.
    fn transition_to(&mut self, desired: State, forgiving: bool) -> Result<(), Error> {
        let next = self.attachments.over(&desired);
        next.validate().map_err(Error::invalid)?;
        let wanted = wanted(&next, &self.attachments);
        let is_kept = |name: &String, live: &Live| {
            wanted.get(name).is_some_and(|w| *w == live.wanted || live.can_become(w))
        };
        let gone: Vec<String> =
            self.live.iter().filter(|(n, l)| !is_kept(n, l)).map(|(n, _)| n.clone()).collect();
        let (replaced, removed): (Vec<String>, Vec<String>) =
            gone.into_iter().partition(|name| wanted.contains_key(name));

        // What is replaced must make room for its successor; should that fail, it comes back.
        let mut undo: Vec<(String, Wanted)> = Vec::new();
        let mut made: Vec<String> = Vec::new();
        for name in replaced {
            if let Some(old) = self.take_down(&name) {
                undo.push((name, old));
            }
        }
        for (name, spec) in &wanted {
            if !self.live.contains_key(name) {
                match self.bring_up(&next, name, spec) {
                    Ok(()) => made.push(name.clone()),
                    Err(e) if forgiving && matches!(spec, Wanted::Attached(..)) => {
                        tracing::warn!("{name}: not plugged in again: {e}");
                        if let Some(id) = self.attachments.of_port(name).map(Entry::id) {
                            self.attachments.set_absent(&id, true);
                        }
                    }
                    Err(e) => {
                        self.roll_back(made, undo);
                        return Err(e);
                    }
                }
            }
        }
        let updated = self.update_host(&next).and_then(|()| self.give_addresses(&next, &wanted));
        if let Err(e) = updated {
            self.roll_back(made, undo);
            return Err(e);
        }

        self.desired = desired;
        self.effective = next;
        self.refresh();
        if !removed.is_empty() {
            self.take_down_all(&removed);
            self.refresh();
        }
        self.release_table_ids();
        Ok(())
    }

    /// Gives the host port the gateways of a state.
    fn update_host(&mut self, state: &State) -> Result<(), Error> {
        let maker = Maker { kernel: &self.kernel, engine: &self.engine, state, uplink_mtu: None };
        for live in self.live.values_mut() {
            maker.update_host(live)?;
        }
        Ok(())
    }

    /// Gives pods that were plugged in without addresses those that they are wanted with now.
    fn give_addresses(
        &mut self,
        state: &State,
        wanted: &BTreeMap<String, Wanted>,
    ) -> Result<(), Error> {
        let uplink_mtu = self.uplink_mtu(state);
        let maker = Maker { kernel: &self.kernel, engine: &self.engine, state, uplink_mtu };
        for (name, live) in &mut self.live {
            if let Some(wanted) = wanted.get(name).filter(|w| live.can_become(w)) {
                maker.give_addresses(live, wanted)?;
            }
        }
        Ok(())
    }

    fn bring_up(&mut self, state: &State, name: &str, spec: &Wanted) -> Result<(), Error> {
        let id = self
            .port_ids
            .get_or_allocate(name)
            .filter(|&id| usize::from(id) < switch::ids::MAX_PORTS)
            .ok_or_else(|| Error::system("all port identifiers are in use"))?;
        let maker = Maker {
            kernel: &self.kernel,
            engine: &self.engine,
            state,
            uplink_mtu: self.uplink_mtu(state),
        };
        match maker.open(PortId(id), spec) {
            Ok(live) => {
                for warning in live.attached.iter().flat_map(|a| report::warnings(name, a)) {
                    tracing::warn!("{warning}");
                }
                self.live.insert(name.to_owned(), live);
                Ok(())
            }
            Err(e) => {
                self.port_ids.release(name);
                Err(e)
            }
        }
    }

    /// Removes a port, and all that was learned of it. What it was made from.
    fn take_down(&mut self, name: &str) -> Option<Wanted> {
        let live = self.live.remove(name)?;
        let (id, spec) = (live.id, live.wanted.clone());
        let maker = Maker {
            kernel: &self.kernel,
            engine: &self.engine,
            state: &self.effective,
            uplink_mtu: None,
        };
        maker.close(live);
        self.fdb.flush(|_, _, at| at == Location::Port(id));
        self.port_ids.release(name);
        Some(spec)
    }

    /// Removes ports, all pods' interfaces at once.
    fn take_down_all(&mut self, names: &[String]) {
        let is_pod = |name: &&String| self.live.get(*name).is_some_and(Live::is_pod);
        let (pods, others): (Vec<&String>, Vec<&String>) = names.iter().partition(is_pod);
        if let [pod] = pods[..] {
            self.take_down(pod);
        } else {
            let lives: Vec<Live> = pods.iter().filter_map(|n| self.live.remove(*n)).collect();
            let maker = Maker {
                kernel: &self.kernel,
                engine: &self.engine,
                state: &self.effective,
                uplink_mtu: None,
            };
            maker.close_pods(&lives);
            let ids: Vec<PortId> = lives.iter().map(|l| l.id).collect();
            self.fdb.flush(|_, _, at| matches!(at, Location::Port(id) if ids.contains(&id)));
            for name in pods {
                self.port_ids.release(name);
            }
        }
        for name in others {
            self.take_down(name);
        }
    }

    /// Removes what a failed transition made, and makes again what it had removed.
    fn roll_back(&mut self, made: Vec<String>, undo: Vec<(String, Wanted)>) {
        for name in made {
            self.take_down(&name);
        }
        let state = self.effective.clone();
        for (name, spec) in undo {
            if let Err(e) = self.bring_up(&state, &name, &spec) {
                tracing::error!("{name} could not be restored: {e}");
            }
        }
        if let Err(e) = self.update_host(&state) {
            tracing::error!("the host port could not be restored: {e}");
        }
        self.refresh();
    }

    /// Identifiers of tunnels and segments that are gone may go to others, once nothing learned points
    /// to them.
    fn release_table_ids(&mut self) {
        let tunnels = &self.effective.tunnels;
        let freed = self.table_ids.tunnels.retain(|name| tunnels.iter().any(|t| t.name == name));
        if !freed.is_empty() {
            self.fdb.flush(
                |_, _, at| matches!(at, Location::Tunnel(TunnelId(t)) if freed.contains(&t)),
            );
        }
        let effective = &self.effective;
        let freed = self.table_ids.segments.retain(|name| effective.has_segment(name));
        if !freed.is_empty() {
            self.fdb.flush(|segment, _, _| freed.contains(&segment.0));
        }
    }

    fn uplink_mtu(&self, state: &State) -> Option<u32> {
        let dev = &state.uplink.as_ref()?.dev;
        Some(self.kernel.link_by_name(dev).ok()??.mtu)
    }

    /// Reads the facts again and, if they or the state have changed, publishes new tables.
    fn refresh(&mut self) {
        match self.world.gather(&self.kernel, &self.effective, &self.live) {
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

    /// Tells the XDP program which frames of the uplink are ours.
    fn sync_filter(&mut self) {
        let filter = self.wanted_filter();
        if filter != self.filter {
            match self.engine.set_uplink_filter(&filter) {
                Ok(()) => {
                    self.filter = filter;
                    self.warn("filter", None);
                }
                Err(e) => self.warn("filter", Some(format!("the uplink's filter: {e}"))),
            }
        }
    }

    fn wanted_filter(&self) -> UplinkFilter {
        let mut filter = UplinkFilter::default();
        let Some(uplink) = &self.facts.uplink else { return filter };
        filter.vlan = uplink.vlan;
        for tunnel in &self.effective.tunnels {
            let local = tunnel.local.or_else(|| self.facts.address_towards(tunnel.remote));
            let Some(local) = local else { continue };
            match tunnel.encapsulation() {
                Some(Encapsulation::Vxlan { port, .. }) => filter.vxlan.push((local, port)),
                Some(Encapsulation::Ipip) => filter.ipip.push((tunnel.remote, local)),
                None => {}
            }
        }
        filter.vxlan.sort_unstable();
        filter.vxlan.dedup();
        if self.effective.native_routing() {
            filter.prefixes = self.effective.own_prefixes();
        }
        filter
    }

    /// Tells the node's kernel the way to the pods: through the host port.
    fn sync_host_routes(&mut self) {
        let Some(host) = self.live.values().find_map(Live::host_port) else { return };
        let local = self.effective.own_prefixes();
        let local = local.into_iter().map(|prefix| HostRoute { prefix, mtu: None });
        let away = self.facts.uplink.as_ref().map(|u| compile::path_mtu(&self.effective, u.mtu));
        let remote = self
            .desired
            .routes
            .iter()
            // A default route of the switch must not become the node's own.
            .filter(|r| r.prefix.len() > 0 && leaves_node(&r.via))
            .map(|r| HostRoute { prefix: r.prefix, mtu: away });
        let routes: Vec<HostRoute> = local.chain(remote).collect();
        let problem = host.sync_routes(&self.kernel, &routes).err().map(|e| e.to_string());
        self.warn("routes", problem);
    }

    /// Makes the kernel masquerade for the pods that want it. What is only too much is left for the
    /// housekeeping.
    fn sync_masquerade(&mut self) -> Result<(), Error> {
        let wanted = Rules::new(&self.effective, &self.attachments);
        let serves = match &self.masquerade {
            Some(rules) => rules.serve(&wanted),
            None => wanted.is_empty(),
        };
        if serves { Ok(()) } else { self.masquerade_by(wanted) }
    }

    /// Takes back what is masqueraded for pods that are gone.
    fn tidy_masquerade(&mut self) {
        let wanted = Rules::new(&self.effective, &self.attachments);
        if self.masquerade.as_ref().is_some_and(|rules| *rules != wanted) {
            let problem = self.masquerade_by(wanted).err().map(|e| e.message);
            self.warn("masquerade", problem);
        }
    }

    fn masquerade_by(&mut self, rules: Rules) -> Result<(), Error> {
        match rules.apply() {
            Ok(()) => {
                self.masquerade = Some(rules);
                self.warn("host ports", None);
            }
            Err(e) if rules.was_asked_for() => {
                return Err(Error::system(format!("masquerading: {e}")));
            }
            // Pods can do without host ports.
            Err(e) => self.warn(
                "host ports",
                Some(format!("pods cannot be redirected to pods, as host ports do it: {e}")),
            ),
        }
        Ok(())
    }

    /// Tells the pods the MTU of what leaves the node, when the uplink's has changed.
    fn sync_pod_routes(&mut self) {
        let Some(uplink_mtu) = self.facts.uplink.as_ref().map(|u| u.mtu) else { return };
        let maker = Maker {
            kernel: &self.kernel,
            engine: &self.engine,
            state: &self.effective,
            uplink_mtu: Some(uplink_mtu),
        };
        for (name, live) in &mut self.live {
            if let Err(e) = maker.update_routes(live) {
                tracing::warn!("{name}: the MTU of the pod's routes: {e}");
            }
        }
    }

    fn apply(&mut self, next: State, dry_run: bool) -> Result<Applied, Error> {
        if dry_run {
            return Ok(Applied { changes: self.desired.diff(&next), applied: false });
        }
        Ok(Applied { changes: self.change(next)?, applied: true })
    }

    /// An interface of ours is gone: its port drops until it is back or removed.
    fn link_gone(&mut self, ifindex: u32) {
        for (name, live) in self.live.iter_mut().filter(|(_, l)| l.ifindex == ifindex) {
            if live.attached.take().is_some() {
                tracing::warn!("{name}: the interface {} is gone", live.dev);
                if let Err(e) = self.engine.detach(live.id) {
                    tracing::debug!("{name}: {e}");
                }
            }
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

/// Whether a route leads to another node.
fn leaves_node(via: &Via) -> bool {
    via.paths().iter().all(|v| matches!(v, Via::Tunnel(_) | Via::NextHop(_)))
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
            if let Event::LinkDel { index, .. } = event {
                self.link_gone(*index);
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
        match self.world.gather(&self.kernel, &self.effective, &self.live) {
            Ok(facts) if !must && facts == self.facts => {}
            _ => self.refresh(),
        }
    }
}

/// The answer to a request that has nothing to tell.
const EMPTY: Empty = Empty {};
