//! The routes as the tables have them: what changed since the last time is changed there, and no more.

use encap::Prefix;
use hashbrown::{HashMap, HashSet};
use std::sync::Arc;
use switch::tables::{Fib, NextHop, Rib};

/// The routes of the tables compiled last.
#[derive(Default)]
pub struct Routes {
    rib: Rib,
    /// The prefixes in `rib`, sorted, each with what its value means.
    known: Vec<(Prefix, NextHop)>,
    /// What the values in `rib` mean. Routes that lead to the same next hop share one.
    hops: Arc<[NextHop]>,
    values: HashMap<NextHop, u32>,
}

impl core::fmt::Debug for Routes {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Routes").field("routes", &self.rib.len()).finish_non_exhaustive()
    }
}

impl Routes {
    /// Goes over to these routes, of which later ones win over earlier ones of the same prefix: the FIB,
    /// and what its values mean.
    pub fn update(&mut self, mut routes: Vec<(Prefix, NextHop)>) -> (Fib, Arc<[NextHop]>) {
        routes.sort_by_key(|&(prefix, _)| prefix);
        routes.reverse();
        routes.dedup_by_key(|&mut (prefix, _)| prefix);
        routes.reverse();
        self.number(&routes);
        let (mut before, mut after) = (self.known.iter().peekable(), routes.iter().peekable());
        loop {
            match (before.peek(), after.peek()) {
                (Some(&(old, _)), new) if new.is_none_or(|(new, _)| old < new) => {
                    self.rib.remove(*old);
                    before.next();
                }
                (old, Some(&&(prefix, hop))) => {
                    let old = old.filter(|(old, _)| *old == prefix);
                    let value = self.values[&hop];
                    if old.is_none() || self.rib.get(prefix) != Some(value) {
                        self.rib.insert(prefix, value);
                    }
                    if old.is_some() {
                        before.next();
                    }
                    after.next();
                }
                _ => break,
            }
        }
        self.known = routes;
        (self.rib.snapshot(), self.hops.clone())
    }

    /// Gives next hops that are new the numbers of those that no route leads to any more.
    fn number(&mut self, routes: &[(Prefix, NextHop)]) {
        let wanted: HashSet<NextHop> = routes.iter().map(|&(_, hop)| hop).collect();
        self.values.retain(|hop, _| wanted.contains(hop));
        if self.values.len() == wanted.len() {
            return;
        }
        let used: HashSet<u32> = self.values.values().copied().collect();
        let mut free = (0..).filter(|value| !used.contains(value));
        let mut hops = self.hops.to_vec();
        // In the order of the routes, so that equal states have equal tables.
        for &(_, hop) in routes {
            if let hashbrown::hash_map::Entry::Vacant(entry) = self.values.entry(hop)
                && let Some(value) = free.next()
            {
                entry.insert(value);
                match hops.get_mut(value as usize) {
                    Some(stale) => *stale = hop,
                    None => hops.push(hop),
                }
            }
        }
        self.hops = hops.into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::net::IpAddr;
    use switch::TunnelId;

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
            let (fib, hops) = routes.update(wanted.clone());
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
        let (before, old) = routes.update(vec![(a, to(1)), (b, to(2))]);
        let (after, new) = routes.update(vec![(a, to(3)), (b, to(2))]);
        assert_eq!(before.lookup(b.addr()), after.lookup(b.addr()));
        assert_eq!(new.len(), 2, "the number of what is gone went to what is new");
        let value = |fib: &Fib| fib.lookup(a.addr()).unwrap() as usize;
        assert_eq!((old[value(&before)], new[value(&after)]), (to(1), to(3)));
    }
}
