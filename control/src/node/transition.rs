//! From one state to the next, wholly or not at all.

use std::collections::BTreeMap;

use podswitch_api::diff::Change;
use podswitch_api::state::State;
use podswitch_api::{Code, Error};
use switch::{Location, PortId, TunnelId};

use super::ports::{Live, Maker, Wanted, wanted};
use super::{Node, readiness, report};
use crate::attachment::Entry;

impl Node {
    /// Puts the first desired state into effect, wholly or not at all, and of the attachments of before
    /// those that can be.
    pub(super) fn begin(&mut self, desired: State) -> Result<(), Error> {
        self.transition_to(desired, true)?;
        if let Err(e) = self.sync_masquerade() {
            self.warn("masquerade", Some(e.message));
        }
        Ok(())
    }

    /// Goes from the desired state that is in effect to `next`, or stays. What changed.
    pub(super) fn change(&mut self, next: State) -> Result<Vec<Change>, Error> {
        let changes = self.desired.diff(&next);
        self.transition(next)?;
        self.attachments.follow(&self.desired);
        let problem = self.sync_masquerade().err().map(|e| e.message);
        self.warn("masquerade", problem);
        Ok(changes)
    }

    /// Puts a desired state into effect, with the attachments as they are now, or leaves what is.
    pub(super) fn transition(&mut self, desired: State) -> Result<(), Error> {
        self.transition_to(desired, false)
    }

    /// As [`Node::transition`]; `forgiving`, attachments whose port cannot be made are left out.
    pub(super) fn transition_to(&mut self, desired: State, forgiving: bool) -> Result<(), Error> {
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
    pub(super) fn update_host(&mut self, state: &State) -> Result<(), Error> {
        let maker = Maker { kernel: &self.kernel, engine: &self.engine, state, uplink_mtu: None };
        for live in self.live.values_mut() {
            maker.update_host(live)?;
        }
        Ok(())
    }

    /// Gives pods that were plugged in without addresses those that they are wanted with now.
    pub(super) fn give_addresses(
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

    pub(super) fn bring_up(
        &mut self,
        state: &State,
        name: &str,
        spec: &Wanted,
    ) -> Result<(), Error> {
        let id = self.port_ids.get_or_allocate(name);
        let Some(id) = id.filter(|&id| usize::from(id) < switch::ids::MAX_PORTS) else {
            // Else it would keep this one when others are free again.
            self.port_ids.release(name);
            return Err(Error::new(Code::Exhausted, readiness::NO_IDENTIFIER));
        };
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
    pub(super) fn take_down(&mut self, name: &str) -> Option<Wanted> {
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
    pub(super) fn take_down_all(&mut self, names: &[String]) {
        let is_pod = |name: &&String| self.live.get(*name).is_some_and(Live::is_pod);
        let (pods, others): (Vec<&String>, Vec<&String>) = names.iter().partition(is_pod);
        if let [pod] = pods[..] {
            self.take_down(pod);
        } else {
            let mut lives: Vec<Live> = pods.iter().filter_map(|n| self.live.remove(*n)).collect();
            let maker = Maker {
                kernel: &self.kernel,
                engine: &self.engine,
                state: &self.effective,
                uplink_mtu: None,
            };
            maker.close_pods(&mut lives);
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
    pub(super) fn roll_back(&mut self, made: Vec<String>, undo: Vec<(String, Wanted)>) {
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
    pub(super) fn release_table_ids(&mut self) {
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

    pub(super) fn uplink_mtu(&self, state: &State) -> Option<u32> {
        let dev = &state.uplink.as_ref()?.dev;
        Some(self.kernel.link_by_name(dev).ok()??.mtu)
    }
}
