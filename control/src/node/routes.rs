//! The routes as the tables have them: what changed since the last time is changed there, and no more.
//!
//! Two layers share one trie. Those of the *state* (its routes, pods, gateways) come as a whole with each
//! compilation and are compared with the ones before. Those that a routing protocol *announced* come and go
//! by themselves, many a second, and stand back where the state has a route of the same prefix.

use encap::Prefix;
use hashbrown::HashMap;
use podswitch_api::state::{Route, Via};
use std::collections::BTreeSet;
use std::sync::Arc;
use switch::tables::{Fib, NextHop, Rib};

/// The routes of the tables compiled last.
#[derive(Default)]
pub struct Routes {
    rib: Rib,
    /// The state's, sorted, each with what its value means.
    known: Vec<(Prefix, NextHop)>,
    /// The announced ones, each with its value.
    announced: HashMap<Prefix, u32>,
    values: Values,
}

/// What an announcement did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Announced {
    /// Routes for prefixes that had not been announced.
    pub added: usize,
    /// Routes in the place of announced ones.
    pub replaced: usize,
    /// Routes that are not announced any more.
    pub removed: usize,
    /// A compilation is needed: some lead to where no announced route did, or a default route came or went,
    /// which the state's own stands back behind.
    pub unresolved: bool,
}

impl core::fmt::Debug for Routes {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Routes").field("routes", &self.rib.len()).finish_non_exhaustive()
    }
}

impl Routes {
    /// Goes over to these routes of the state, of which later ones win over earlier ones of the same
    /// prefix: the FIB, and what its values mean. `resolve` tells where announced routes lead now.
    pub fn update(
        &mut self,
        mut routes: Vec<(Prefix, NextHop)>,
        resolve: impl FnMut(&Via) -> NextHop,
    ) -> (Fib, Arc<[NextHop]>) {
        routes.sort_by_key(|&(prefix, _)| prefix);
        routes.reverse();
        routes.dedup_by_key(|&mut (prefix, _)| prefix);
        routes.reverse();
        self.values.exchange(&self.known, &routes);
        let (mut before, mut after) = (self.known.iter().peekable(), routes.iter().peekable());
        loop {
            match (before.peek(), after.peek()) {
                (Some(&(old, _)), new) if new.is_none_or(|(new, _)| old < new) => {
                    match self.announced.get(old) {
                        Some(&value) => self.rib.insert(*old, value),
                        None => self.rib.remove(*old),
                    };
                    before.next();
                }
                (old, Some(&&(prefix, hop))) => {
                    let is_known = old.is_some_and(|(old, _)| *old == prefix);
                    let value = self.values.of(hop);
                    if !is_known || self.rib.get(prefix) != value {
                        // Each hop was given a value just now.
                        value.map(|value| self.rib.insert(prefix, value));
                    }
                    if is_known {
                        before.next();
                    }
                    after.next();
                }
                _ => break,
            }
        }
        self.known = routes;
        self.values.resolve(resolve);
        self.snapshot()
    }

    /// Adds routes, in the place of announced ones of the same prefix, and removes others. The trie has them
    /// at the next [`Routes::amend`] or [`Routes::snapshot`].
    pub fn announce(&mut self, add: Vec<Route>, del: &[Prefix]) -> Announced {
        let mut done = Announced::default();
        for &prefix in del {
            let Some(value) = self.announced.remove(&prefix) else { continue };
            done.unresolved |= prefix.len() == 0;
            if !self.has(prefix) {
                self.rib.remove(prefix);
            }
            self.values.release(value);
            done.removed += 1;
        }
        for Route { prefix, via } in add {
            let (value, is_new) = self.values.acquire(Target::Announced(via));
            done.unresolved |= is_new || prefix.len() == 0;
            match self.announced.insert(prefix, value) {
                Some(before) => {
                    self.values.release(before);
                    done.replaced += 1;
                }
                None => done.added += 1,
            }
            if !self.has(prefix) {
                self.rib.insert(prefix, value);
            }
        }
        done
    }

    /// The FIB as it is now, and what its values mean.
    pub fn snapshot(&mut self) -> (Fib, Arc<[NextHop]>) {
        (self.rib.snapshot(), self.values.hops())
    }

    /// Makes the workers see the FIB as it is now, of whom all look into the tables that were compiled last;
    /// what they must be given for that, if anything.
    pub fn amend(&mut self) -> Option<(Fib, Arc<[NextHop]>)> {
        // A value that they do not know, or know as another next hop, must not be seen before they do.
        if self.values.hops.is_none() {
            return Some(self.snapshot());
        }
        Some((self.rib.amend()?, self.values.hops()))
    }

    /// Whether the state has a route for exactly this prefix.
    pub fn has(&self, prefix: Prefix) -> bool {
        self.known.binary_search_by_key(&prefix, |&(known, _)| known).is_ok()
    }

    /// Where an announced route for exactly this prefix leads.
    pub fn announced_via(&self, prefix: Prefix) -> Option<&Via> {
        self.values.via(*self.announced.get(&prefix)?)
    }

    /// The announced routes, in no order.
    pub fn announced(&self) -> impl Iterator<Item = (Prefix, &Via)> {
        self.announced.iter().filter_map(|(&p, &value)| Some((p, self.values.via(value)?)))
    }

    /// How many there are.
    pub fn announced_len(&self) -> usize {
        self.announced.len()
    }

    /// Where announced routes lead, each way once.
    pub fn vias(&self) -> impl Iterator<Item = &Via> {
        self.values.vias()
    }
}

/// What a value stands for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Target {
    /// What a route of the state was compiled to.
    Hop(NextHop),
    /// What announced routes say, whatever that is resolved to: when a next hop's MAC address changes, so
    /// does one element here, and no route.
    Announced(Via),
}

/// What the values in the trie mean. Routes that lead to the same next hop share one.
#[derive(Debug, Default)]
struct Values {
    by_target: HashMap<Target, u32>,
    slots: Vec<Slot>,
    free: BTreeSet<u32>,
    /// As published; none: changed since.
    hops: Option<Arc<[NextHop]>>,
}

#[derive(Debug)]
struct Slot {
    target: Target,
    hop: NextHop,
    /// Routes that lead there.
    uses: usize,
}

impl Values {
    fn of(&self, hop: NextHop) -> Option<u32> {
        self.by_target.get(&Target::Hop(hop)).copied()
    }

    fn via(&self, value: u32) -> Option<&Via> {
        match &self.slots.get(value as usize)?.target {
            Target::Announced(via) => Some(via),
            Target::Hop(_) => None,
        }
    }

    fn vias(&self) -> impl Iterator<Item = &Via> {
        self.by_target.keys().filter_map(|target| match target {
            Target::Announced(via) => Some(via),
            Target::Hop(_) => None,
        })
    }

    /// One route more leads to `target`: its value, and whether it has just been given one.
    fn acquire(&mut self, target: Target) -> (u32, bool) {
        if let Some(&value) = self.by_target.get(&target) {
            if let Some(slot) = self.slots.get_mut(value as usize) {
                slot.uses += 1;
            }
            return (value, false);
        }
        let hop = match &target {
            Target::Hop(hop) => *hop,
            Target::Announced(_) => NextHop::Unreachable,
        };
        let slot = Slot { target: target.clone(), hop, uses: 1 };
        let value = match self.free.pop_first() {
            Some(value) => {
                self.slots[value as usize] = slot;
                value
            }
            None => {
                self.slots.push(slot);
                (self.slots.len() - 1) as u32
            }
        };
        self.by_target.insert(target, value);
        self.hops = None;
        (value, true)
    }

    /// One route less leads to where a value says.
    fn release(&mut self, value: u32) {
        if let Some(slot) = self.slots.get_mut(value as usize) {
            slot.uses -= 1;
            if slot.uses == 0 {
                self.by_target.remove(&slot.target);
                self.free.insert(value);
            }
        }
    }

    /// Some routes of the state go, others come. What stays keeps its value; values that nothing leads to
    /// any more go to what is new, in the order of the routes, so that equal states have equal tables.
    fn exchange(&mut self, gone: &[(Prefix, NextHop)], come: &[(Prefix, NextHop)]) {
        let mut new = Vec::new();
        for &(_, hop) in come {
            match self.of(hop) {
                Some(value) => self.slots[value as usize].uses += 1,
                None => new.push(hop),
            }
        }
        for &(_, hop) in gone {
            if let Some(value) = self.of(hop) {
                self.release(value);
            }
        }
        for hop in new {
            self.acquire(Target::Hop(hop));
        }
    }

    /// Where announced routes lead now.
    fn resolve(&mut self, mut resolve: impl FnMut(&Via) -> NextHop) {
        for slot in self.slots.iter_mut().filter(|slot| slot.uses > 0) {
            if let Target::Announced(via) = &slot.target {
                let hop = resolve(via);
                if slot.hop != hop {
                    slot.hop = hop;
                    self.hops = None;
                }
            }
        }
    }

    fn hops(&mut self) -> Arc<[NextHop]> {
        let slots = &self.slots;
        self.hops.get_or_insert_with(|| slots.iter().map(|slot| slot.hop).collect()).clone()
    }
}

#[cfg(test)]
mod tests;
