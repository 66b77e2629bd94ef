//! The layers of routes against plain lists of them.

use super::*;
use std::collections::BTreeMap;
use std::net::IpAddr;
use switch::TunnelId;

type Tables = (Fib, Arc<[NextHop]>);

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
            .map(|i| (prefix(i), NextHop::Tunnel(TunnelId(((i + round) % (1 + round % 9)) as u16))))
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
    // What a worker looks into, and what another one still does that is slow: tables compiled before.
    let mut present = routes.update(Vec::new(), hop);
    let mut slow: Option<(Tables, BTreeMap<Prefix, NextHop>)> = None;
    let mut all: BTreeMap<Prefix, NextHop> = BTreeMap::new();
    let mut amended = 0;
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
            let next = routes.update(state.clone(), hop);
            slow = Some((core::mem::replace(&mut present, next), all));
        } else {
            match routes.amend() {
                Some(next) => present = next,
                None => amended += 1,
            }
            // It has caught up.
            slow = slow.filter(|_| random(3) > 0);
        }
        all = announced.iter().map(|(&p, v)| (p, hop(v))).collect();
        all.extend(state.iter().copied());
        let now = (present.clone(), all.clone());
        for ((fib, hops), all) in slow.iter().chain([&now]) {
            for i in 0..0x1000u32 {
                let ip = IpAddr::V4((0x0a00_0000 | i).into());
                let best = all.iter().filter(|(p, _)| p.contains(ip)).max_by_key(|(p, _)| p.len());
                let found = fib.lookup(ip).map(|value| hops[value as usize]);
                assert_eq!(found, best.map(|(_, &hop)| hop), "{ip} in round {round}");
            }
        }
        let hops = &present.1;
        assert_eq!(routes.announced_len(), announced.len());
        assert!(hops.len() <= 12 + 6, "values are used again: {}", hops.len());
    }
    assert!(amended > 20, "{amended} times nobody had to be given new tables");
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
