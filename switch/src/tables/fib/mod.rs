//! Longest-prefix match: a trie of 8-bit strides below a table of the first 16 bits.
//!
//! [`Rib`] holds the routes and is changed by the control thread; workers look addresses up in a [`Fib`]. A
//! change costs the same in a table of ten routes and of a million: it writes one node anew and stores its
//! place where workers find it at once ([`Rib::amend`]), or where only a new snapshot sees it
//! ([`Rib::snapshot`]). `docs/decisions/0002-lpm.md` has what was measured.
//!
//! ```text
//! key    addresses as integers
//! root   the first 16 bits
//! node   256 entries, in a few cache lines
//! lines  memory for nodes, and when it may be used again
//! lpm    looking up
//! rib    the routes, and how changes reach readers
//! change the nodes of what has changed
//! ```

mod change;
mod key;
mod lines;
mod lpm;
mod node;
mod rib;
mod root;

#[cfg(test)]
mod tests;

pub use key::Key;
pub use lpm::Lpm;
pub(crate) use lpm::LpmView;
pub use rib::Routes;

use encap::Prefix;
use std::net::IpAddr;

/// The two tables of a router: as of one moment, or, for the snapshot taken last, of the present.
#[derive(Clone, Debug, Default)]
pub struct Fib {
    v4: Lpm<u32>,
    v6: Lpm<u128>,
}

impl Fib {
    /// A table of routes to values below 2^30 - 1. Of two equal prefixes the last wins.
    pub fn build(routes: &[(Prefix, u32)]) -> Fib {
        Rib::from_routes(routes.iter().copied()).snapshot()
    }

    /// Whether the table of IPv4 is too large for a core's own cache.
    #[inline]
    pub fn is_large(&self) -> bool {
        self.v4.is_large()
    }

    /// The table of IPv4.
    #[inline(always)]
    pub(crate) fn v4(&self) -> &Lpm<u32> {
        &self.v4
    }

    /// That of IPv6.
    #[inline(always)]
    pub(crate) fn v6(&self) -> &Lpm<u128> {
        &self.v6
    }

    /// [`Fib::lookup`] as an index, beyond every table where there is no prefix.
    #[inline(always)]
    pub(super) fn index(&self, ip: IpAddr) -> usize {
        match ip {
            IpAddr::V4(a) => self.v4.index(u32::from(a)),
            IpAddr::V6(a) => self.v6.index(u128::from(a)),
        }
    }

    /// The value of the longest prefix that holds `ip`.
    #[inline(always)]
    pub fn lookup(&self, ip: IpAddr) -> Option<u32> {
        match ip {
            IpAddr::V4(a) => self.v4.lookup(u32::from(a)),
            IpAddr::V6(a) => self.v6.lookup(u128::from(a)),
        }
    }
}

/// The routes of a router, and the means to change them.
#[derive(Default)]
pub struct Rib {
    v4: Routes<u32>,
    v6: Routes<u128>,
}

impl Rib {
    /// No routes.
    pub fn new() -> Rib {
        Rib::default()
    }

    /// Routes to values below 2^30 - 1. Of two equal prefixes the last wins.
    pub fn from_routes(routes: impl IntoIterator<Item = (Prefix, u32)>) -> Rib {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for (prefix, value) in routes {
            match prefix.addr() {
                IpAddr::V4(a) => v4.push((u32::from(a), prefix.len(), value)),
                IpAddr::V6(a) => v6.push((u128::from(a), prefix.len(), value)),
            }
        }
        Rib { v4: Routes::from_routes(v4), v6: Routes::from_routes(v6) }
    }

    /// Adds or replaces a route to a value below 2^30 - 1: the value before.
    pub fn insert(&mut self, prefix: Prefix, value: u32) -> Option<u32> {
        match prefix.addr() {
            IpAddr::V4(a) => self.v4.insert(u32::from(a), prefix.len(), value),
            IpAddr::V6(a) => self.v6.insert(u128::from(a), prefix.len(), value),
        }
    }

    /// Removes a route: the value that it had.
    pub fn remove(&mut self, prefix: Prefix) -> Option<u32> {
        match prefix.addr() {
            IpAddr::V4(a) => self.v4.remove(u32::from(a), prefix.len()),
            IpAddr::V6(a) => self.v6.remove(u128::from(a), prefix.len()),
        }
    }

    /// The value of exactly this prefix.
    pub fn get(&self, prefix: Prefix) -> Option<u32> {
        match prefix.addr() {
            IpAddr::V4(a) => self.v4.get(u32::from(a), prefix.len()),
            IpAddr::V6(a) => self.v6.get(u128::from(a), prefix.len()),
        }
    }

    /// How many routes there are.
    pub fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The tables with all changes so far. From now on, earlier ones stay as they are.
    pub fn snapshot(&mut self) -> Fib {
        Fib { v4: self.v4.snapshot(), v6: self.v6.snapshot() }
    }

    /// Makes the changes so far seen by all who look into the snapshot taken last: while that is done, each
    /// address is found to have the route of before or the one of after, and of no other time. Every value
    /// must mean the same to all of them, as long as one of them looks.
    ///
    /// What it returns they should look into instead as soon as may be: for memory to be used again, or because
    /// the changes are nowhere but there.
    #[must_use]
    pub fn amend(&mut self) -> Option<Fib> {
        let (v4, v6) = (self.v4.amend(), self.v6.amend());
        if v4.is_none() && v6.is_none() {
            return None;
        }
        let v4 = v4.unwrap_or_else(|| self.v4.present());
        let v6 = v6.unwrap_or_else(|| self.v6.present());
        Some(Fib { v4, v6 })
    }
}
