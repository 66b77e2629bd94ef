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
    /// at the next [`Routes::snapshot`].
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
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::net::IpAddr;
    use switch::TunnelId;

    fn nowhere(_: &Via) -> NextHop {
        NextHop::Unreachable
    }

    fn prefix(i: u32) -> Prefix {
        Prefix::truncating(IpAddr::V4((0x0a00_0000 | i << 4).into()), 20 + (i % 13) as u8).unwrap()
    }

    /// Whatever the routes were before, they lead where they should.
    #[test]
    fn from_any_routes_to_any_others() {
        let mut routes = Routes::default();
        for round in 0u32..60 {
            let wanted: Vec<(Prefix, NextHop)> = (0..200u32)
                .filter(|i| (i * 7 + round * 13) % 5 != 0)
                .map(|i| {
                    (prefix(i), NextHop::Tunnel(TunnelId(((i + round) % (1 + round % 9)) as u16)))
                })
                .collect();
            let (fib, hops) = routes.update(wanted.clone(), nowhere);
            let last: BTreeMap<Prefix, NextHop> = wanted.into_iter().collect();
            for i in 0..0x1000u32 {
                let ip = IpAddr::V4((0x0a00_0000 | i).into());
                let best = last.iter().filter(|(p, _)| p.contains(ip)).max_by_key(|(p, _)| p.len());
                let found = fib.lookup(ip).map(|value| hops[value as usize]);
                assert_eq!(found, best.map(|(_, &hop)| hop), "{ip} in round {round}");
            }
            assert!(hops.len() <= 18, "numbers are used again: {}", hops.len());
        }
    }

    #[test]
    fn what_did_not_change_keeps_its_number() {
        let to = |id| NextHop::Tunnel(TunnelId(id));
        let [a, b]: [Prefix; 2] = ["10.1.0.0/24", "10.2.0.0/24"].map(|p| p.parse().unwrap());
        let mut routes = Routes::default();
        let (before, old) = routes.update(vec![(a, to(1)), (b, to(2))], nowhere);
        let (after, new) = routes.update(vec![(a, to(3)), (b, to(2))], nowhere);
        assert_eq!(before.lookup(b.addr()), after.lookup(b.addr()));
        assert_eq!(new.len(), 2, "the number of what is gone went to what is new");
        let value = |fib: &Fib| fib.lookup(a.addr()).unwrap() as usize;
        assert_eq!((old[value(&before)], new[value(&after)]), (to(1), to(3)));
    }

    /// Both layers change at random; what the FIB says is what a plain list of them says.
    #[test]
    fn announced_routes_stand_back_behind_the_states() {
        let mut routes = Routes::default();
        let via = |n: u32| Via::Tunnel(format!("t{n}"));
        let hop = |via: &Via| match via {
            Via::Tunnel(name) => NextHop::Tunnel(TunnelId(100 + name[1..].parse::<u16>().unwrap())),
            _ => NextHop::Unreachable,
        };
        let mut announced: BTreeMap<Prefix, Via> = BTreeMap::new();
        let mut state: Vec<(Prefix, NextHop)> = Vec::new();
        let mut seed = 7u32;
        let mut random = |below: u32| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 8) % below
        };
        for round in 0..120 {
            let add: Vec<Route> = (0..random(9))
                .map(|_| Route { prefix: prefix(random(200)), via: via(random(12)) })
                .collect();
            let del: Vec<Prefix> = (0..random(9)).map(|_| prefix(random(200))).collect();
            del.iter().for_each(|p| drop(announced.remove(p)));
            announced.extend(add.iter().map(|r| (r.prefix, r.via.clone())));
            let done = routes.announce(add, &del);
            if done.unresolved || round % 3 == 0 {
                let keep = random(4);
                state.retain(|(p, _)| u32::from(p.len()) % 4 != keep);
                state.push((prefix(random(200)), NextHop::Tunnel(TunnelId(random(5) as u16))));
                routes.update(state.clone(), hop);
            }
            let (fib, hops) = routes.snapshot();
            let mut all: BTreeMap<Prefix, NextHop> =
                announced.iter().map(|(&p, v)| (p, hop(v))).collect();
            all.extend(state.iter().copied());
            for i in 0..0x1000u32 {
                let ip = IpAddr::V4((0x0a00_0000 | i).into());
                let best = all.iter().filter(|(p, _)| p.contains(ip)).max_by_key(|(p, _)| p.len());
                let found = fib.lookup(ip).map(|value| hops[value as usize]);
                assert_eq!(found, best.map(|(_, &hop)| hop), "{ip} in round {round}");
            }
            assert_eq!(routes.announced_len(), announced.len());
            assert!(hops.len() <= 12 + 6, "values are used again: {}", hops.len());
        }
    }

    /// A next hop that is resolved anew changes one element, and no route.
    #[test]
    fn where_announced_routes_lead_is_resolved_anew() {
        let mut routes = Routes::default();
        let p: Prefix = "10.1.0.0/24".parse().unwrap();
        let route = Route { prefix: p, via: Via::Tunnel("t".into()) };
        assert!(routes.announce(vec![route.clone()], &[]).unresolved);
        let (fib, hops) = routes.update(Vec::new(), |_| NextHop::Tunnel(TunnelId(4)));
        let value = fib.lookup(p.addr()).unwrap();
        assert_eq!(hops[value as usize], NextHop::Tunnel(TunnelId(4)));
        let again = routes.announce(vec![route], &[]);
        assert_eq!((again.replaced, again.unresolved), (1, false));
        let (fib, hops) = routes.update(Vec::new(), |_| NextHop::Host);
        assert_eq!((fib.lookup(p.addr()), hops[value as usize]), (Some(value), NextHop::Host));
        let gone = routes.announce(Vec::new(), &[p, p]);
        assert_eq!(gone.removed, 1);
        assert_eq!(routes.snapshot().0.lookup(p.addr()), None);
    }
}
