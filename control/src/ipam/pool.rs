//! The addresses of one prefix.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use encap::Prefix;

use super::ranges::Ranges;

/// The most addresses that rest after they were given back; the one that has rested longest makes
/// room. As many as the pods of a node come and go in an hour.
const RESTING_MAX: usize = 4096;

/// The addresses of a prefix that pods may have.
///
/// Addresses are given out in their order, beginning anew behind the last one. One that was given
/// back rests, so that whoever still believes it to be another pod's can forget: it is given out again
/// only when no other is free, that which has rested longest first.
#[derive(Clone, Debug)]
pub struct Pool {
    prefix: Prefix,
    /// Offsets in the prefix of the first and the last address that a pod may have.
    bounds: (u128, u128),
    /// The gateway's offset.
    gateway: Option<u128>,
    /// What cannot be given out at once: taken, resting, and the gateway.
    busy: Ranges,
    /// Where the next address is looked for.
    next: u128,
    /// Addresses that rest, by when they were given back.
    resting: BTreeMap<u64, u128>,
    /// When each of them was.
    since: HashMap<u128, u64>,
    clock: u64,
}

/// The last offset in a prefix.
fn last_offset(prefix: Prefix) -> u128 {
    let width = if prefix.is_ipv4() { 32 } else { 128 };
    match width - prefix.len() {
        128 => u128::MAX,
        bits => (1 << bits) - 1,
    }
}

impl Pool {
    /// All of a prefix's addresses but those that have a meaning of their own: the network's and the
    /// directed broadcast address (RFC 919), IPv6's subnet-router anycast address (RFC 4291 section
    /// 2.6.1), and the first one, the gateway's, where there is one. Point-to-point and host prefixes
    /// have no such addresses (RFC 3021, RFC 6164).
    pub fn new(prefix: Prefix, gateway: bool) -> Pool {
        let last = last_offset(prefix);
        let bounds = match (last, prefix.is_ipv4()) {
            (0 | 1, _) => (0, last),
            (_, true) => (1, last - 1),
            (_, false) => (1, last),
        };
        let gateway = (gateway && last > 0).then_some(1);
        let mut busy = Ranges::default();
        if let Some(offset) = gateway {
            busy.insert(offset);
        }
        Pool {
            prefix,
            bounds,
            gateway,
            busy,
            next: bounds.0,
            resting: BTreeMap::new(),
            since: HashMap::new(),
            clock: 0,
        }
    }

    /// The prefix.
    pub fn prefix(&self) -> Prefix {
        self.prefix
    }

    /// The gateway's address.
    pub fn gateway(&self) -> Option<IpAddr> {
        self.prefix.nth(self.gateway?)
    }

    fn offset(&self, ip: IpAddr) -> Option<u128> {
        let offset = match (ip, self.prefix.addr()) {
            (IpAddr::V4(ip), IpAddr::V4(base)) => {
                u128::from(ip.to_bits().wrapping_sub(base.to_bits()))
            }
            (IpAddr::V6(ip), IpAddr::V6(base)) => ip.to_bits().wrapping_sub(base.to_bits()),
            _ => return None,
        };
        self.prefix.contains(ip).then_some(offset)
    }

    /// Whether a pod may have an address at all.
    pub fn may_have(&self, ip: IpAddr) -> bool {
        let within = |n: u128| (self.bounds.0..=self.bounds.1).contains(&n);
        self.offset(ip).is_some_and(|n| within(n) && self.gateway != Some(n))
    }

    /// Whether an address is taken.
    pub fn is_taken(&self, ip: IpAddr) -> bool {
        let taken =
            |n| self.busy.contains(n) && !self.since.contains_key(&n) && self.gateway != Some(n);
        self.offset(ip).is_some_and(taken)
    }

    /// The address that would be given out next. `blocked` ones belong to somebody else.
    pub fn peek(&self, blocked: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
        let (first, last) = self.bounds;
        let usable = |n: u128| self.prefix.nth(n).filter(|ip| !blocked(*ip));
        let within = |mut from: u128, to: u128| {
            while let Some(n) = self.busy.first_absent(from, to) {
                if let Some(ip) = usable(n) {
                    return Some(ip);
                }
                from = n.checked_add(1)?;
            }
            None
        };
        within(self.next, last)
            .or_else(|| within(first, self.next.checked_sub(1)?))
            .or_else(|| self.resting.values().find_map(|&n| usable(n)))
    }

    /// Takes an address; whether it was free.
    pub fn take(&mut self, ip: IpAddr) -> bool {
        let Some(n) = self.offset(ip).filter(|_| self.may_have(ip) && !self.is_taken(ip)) else {
            return false;
        };
        if let Some(time) = self.since.remove(&n) {
            self.resting.remove(&time);
        }
        self.busy.insert(n);
        true
    }

    /// Looks for the next address behind this one.
    pub fn go_on_behind(&mut self, ip: IpAddr) {
        let (first, last) = self.bounds;
        if let Some(n) = self.offset(ip) {
            self.next = n.checked_add(1).filter(|n| (first..=last).contains(n)).unwrap_or(first);
        }
    }

    /// Gives an address back; whether it was taken.
    pub fn release(&mut self, ip: IpAddr) -> bool {
        let Some(n) = self.offset(ip).filter(|_| self.may_have(ip) && self.is_taken(ip)) else {
            return false;
        };
        self.rest(n);
        true
    }

    /// Puts a free address behind all that rest.
    fn rest(&mut self, n: u128) {
        self.busy.insert(n);
        self.resting.insert(self.clock, n);
        self.since.insert(n, self.clock);
        self.clock += 1;
        if self.resting.len() > RESTING_MAX
            && let Some((_, oldest)) = self.resting.pop_first()
        {
            self.since.remove(&oldest);
            self.busy.remove(oldest);
        }
    }

    /// What is remembered beyond which addresses are taken: where to go on, and which rest, the one
    /// that has rested longest first.
    pub fn memory(&self) -> (Option<IpAddr>, Vec<IpAddr>) {
        let resting = self.resting.values().filter_map(|&n| self.prefix.nth(n)).collect();
        (self.prefix.nth(self.next), resting)
    }

    /// Takes up what another pool of this prefix remembered.
    pub fn remember(&mut self, next: Option<IpAddr>, resting: &[IpAddr]) {
        let within = |n: &u128| (self.bounds.0..=self.bounds.1).contains(n);
        if let Some(n) = next.and_then(|ip| self.offset(ip)).filter(within) {
            self.next = n;
        }
        for &ip in resting {
            if let Some(n) =
                self.offset(ip).filter(|&n| self.may_have(ip) && !self.busy.contains(n))
            {
                self.rest(n);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(prefix: &str, gateway: bool) -> Pool {
        Pool::new(prefix.parse().unwrap(), gateway)
    }

    /// Takes the next address.
    fn next(pool: &mut Pool) -> Option<String> {
        let ip = pool.peek(|_| false)?;
        assert!(pool.take(ip), "{ip}");
        pool.go_on_behind(ip);
        Some(ip.to_string())
    }

    fn all(prefix: &str, gateway: bool) -> Vec<String> {
        let mut pool = pool(prefix, gateway);
        std::iter::from_fn(|| next(&mut pool)).collect()
    }

    #[test]
    fn addresses_with_a_meaning_are_not_given_out() {
        assert_eq!(
            all("10.0.0.0/29", true),
            ["2", "3", "4", "5", "6"].map(|n| format!("10.0.0.{n}"))
        );
        assert_eq!(all("10.0.0.0/30", false), ["10.0.0.1", "10.0.0.2"]);
        assert_eq!(all("10.0.0.0/31", false), ["10.0.0.0", "10.0.0.1"]);
        assert_eq!(all("10.0.0.8/32", false), ["10.0.0.8"]);
        assert_eq!(all("fd00::/126", true), ["fd00::2", "fd00::3"]);
        assert_eq!(all("fd00::/127", false), ["fd00::", "fd00::1"]);
        assert_eq!(all("fd00::5/128", false), ["fd00::5"]);
        assert_eq!(all("255.255.255.248/29", false).len(), 6);
    }

    #[test]
    fn an_address_given_back_comes_last() {
        let mut pool = pool("10.0.0.0/29", true);
        for _ in 0..3 {
            next(&mut pool);
        }
        assert!(pool.release("10.0.0.4".parse().unwrap()));
        assert!(!pool.release("10.0.0.4".parse().unwrap()), "once");
        assert!(pool.release("10.0.0.2".parse().unwrap()));
        let rest: Vec<String> = std::iter::from_fn(|| next(&mut pool)).collect();
        assert_eq!(rest, ["10.0.0.5", "10.0.0.6", "10.0.0.4", "10.0.0.2"]);
    }

    #[test]
    fn a_large_prefix_costs_no_more_than_what_is_taken_of_it() {
        let mut pool = pool("fd00::/64", true);
        for _ in 0..10_000 {
            next(&mut pool);
        }
        assert_eq!(next(&mut pool).unwrap(), "fd00::2712");
        assert_eq!(pool.busy.first_absent(0, u128::MAX), Some(0), "one range from the gateway on");
    }

    #[test]
    fn what_rests_is_bounded() {
        let mut pool = pool("10.0.0.0/16", true);
        for _ in 0..2 * RESTING_MAX {
            let ip = next(&mut pool).unwrap().parse().unwrap();
            pool.release(ip);
        }
        assert_eq!(pool.resting.len(), RESTING_MAX);
        assert_eq!(pool.since.len(), RESTING_MAX);
    }

    #[test]
    fn blocked_addresses_are_passed_over_and_stay_free() {
        let mut pool = pool("10.0.0.0/29", true);
        let blocked = |ip: IpAddr| ip.to_string() == "10.0.0.2";
        assert_eq!(pool.peek(blocked).unwrap().to_string(), "10.0.0.3");
        assert_eq!(pool.peek(|_| true), None);
        assert_eq!(next(&mut pool).unwrap(), "10.0.0.2");
    }

    #[test]
    fn memory_survives() {
        let mut one = pool("10.0.0.0/28", true);
        for _ in 0..6 {
            next(&mut one);
        }
        for ip in ["10.0.0.3", "10.0.0.2"] {
            one.release(ip.parse().unwrap());
        }
        let (at, resting) = one.memory();
        let mut other = pool("10.0.0.0/28", true);
        for ip in ["10.0.0.4", "10.0.0.5", "10.0.0.6", "10.0.0.7"] {
            assert!(other.take(ip.parse().unwrap()));
        }
        other.remember(at, &resting);
        loop {
            let (a, b) = (next(&mut one), next(&mut other));
            assert_eq!(a, b);
            if a.is_none() {
                break;
            }
        }
    }
}
