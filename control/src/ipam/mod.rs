//! IP address management: which of the node's pod CIDRs' addresses pods have.
//!
//! Which addresses are taken follows from the attachments, whose log is the only record of it. What
//! is remembered besides, so that an address just given back is not given out soon, is
//! [`Memory`].

mod pool;
mod ranges;

use std::fmt;
use std::net::IpAddr;

use encap::Prefix;
use podswitch_api::InterfaceAddr;
use podswitch_api::attachment::AttachmentIp;
use serde::{Deserialize, Serialize};

use pool::Pool;

/// The node's addresses.
#[derive(Clone, Debug, Default)]
pub struct Ipam {
    pools: Vec<Pool>,
}

/// What a prefix's pool remembers beyond the addresses that are taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// The prefix.
    pub prefix: Prefix,
    /// Where the next address is looked for.
    pub next: Option<IpAddr>,
    /// Addresses that were given back, longest ago first.
    pub resting: Vec<IpAddr>,
}

/// Why there is no address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IpamError {
    /// The node has no prefixes.
    NoPodCidr,
    /// All addresses of a family are taken.
    Exhausted {
        /// The prefixes.
        prefixes: Vec<Prefix>,
    },
    /// An address that was asked for is in none of the prefixes, or has a meaning of its own.
    NotOurs {
        /// The address.
        ip: IpAddr,
        /// The prefixes.
        prefixes: Vec<Prefix>,
    },
    /// An address that was asked for is taken.
    Taken(IpAddr),
}

fn joined(prefixes: &[Prefix]) -> String {
    prefixes.iter().map(Prefix::to_string).collect::<Vec<_>>().join(" and ")
}

impl fmt::Display for IpamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            IpamError::NoPodCidr => f.write_str(
                "the node has no prefix to give pods addresses from: set [node] pod_cidrs, or name \
                 another IPAM plugin in the network's configuration",
            ),
            IpamError::Exhausted { prefixes } => write!(
                f,
                "every address of {} is taken: remove pods, or give the node another prefix in \
                 [node] pod_cidrs; `podswitch attachment list` tells who has them",
                joined(prefixes)
            ),
            IpamError::NotOurs { ip, prefixes } => {
                write!(f, "{ip}: expected an address that a pod may have in {}", joined(prefixes))
            }
            IpamError::Taken(ip) => write!(
                f,
                "{ip} is taken: `podswitch attachment list` and `podswitch neighbor list` tell who \
                 has it"
            ),
        }
    }
}

impl std::error::Error for IpamError {}

impl Ipam {
    /// The pools of these prefixes, those of before kept with what they remember.
    pub fn set_prefixes(&mut self, prefixes: &[Prefix], gateway: bool) {
        let before = self.memory();
        self.pools = prefixes.iter().map(|&p| Pool::new(p, gateway)).collect();
        self.remember(&before);
    }

    /// Whether these are the prefixes.
    pub fn has_prefixes(&self, prefixes: &[Prefix], gateway: bool) -> bool {
        self.pools.iter().map(Pool::prefix).eq(prefixes.iter().copied())
            && self
                .pools
                .iter()
                .all(|p| p.gateway().is_some() == (gateway && p.prefix().len() < 127))
    }

    /// Takes an address that an attachment has; addresses outside the prefixes are nobody's here.
    pub fn take(&mut self, ip: IpAddr) {
        for pool in &mut self.pools {
            pool.take(ip);
        }
    }

    /// One address of each family that the node has prefixes of, those that are `wanted` among them;
    /// nothing is taken when one is missing. `blocked` addresses belong to somebody else.
    pub fn allocate(
        &mut self,
        wanted: &[IpAddr],
        blocked: impl Fn(IpAddr) -> bool,
    ) -> Result<Vec<AttachmentIp>, IpamError> {
        let ips = self.choose(wanted, blocked)?;
        for ip in &ips {
            for pool in &mut self.pools {
                // What was asked for by name leaves the order as it is.
                if pool.take(*ip) && !wanted.contains(ip) {
                    pool.go_on_behind(*ip);
                }
            }
        }
        Ok(ips.into_iter().filter_map(|ip| self.with_gateway(ip)).collect())
    }

    /// Whether [`Ipam::allocate`] would find an address of each family.
    pub fn check(&self, blocked: impl Fn(IpAddr) -> bool) -> Result<(), IpamError> {
        self.choose(&[], blocked).map(|_| ())
    }

    fn choose(
        &self,
        wanted: &[IpAddr],
        blocked: impl Fn(IpAddr) -> bool,
    ) -> Result<Vec<IpAddr>, IpamError> {
        if self.pools.is_empty() {
            return Err(IpamError::NoPodCidr);
        }
        let prefixes = |v4: Option<bool>| -> Vec<Prefix> {
            let all = self.pools.iter().map(Pool::prefix);
            all.filter(|p| v4.is_none_or(|v4| p.is_ipv4() == v4)).collect()
        };
        for &ip in wanted {
            let pool = self.pools.iter().find(|p| p.may_have(ip));
            match pool {
                None => return Err(IpamError::NotOurs { ip, prefixes: prefixes(None) }),
                Some(pool) if pool.is_taken(ip) || blocked(ip) => return Err(IpamError::Taken(ip)),
                Some(_) => {}
            }
        }
        let mut ips = wanted.to_vec();
        for v4 in [true, false] {
            let prefixes = prefixes(Some(v4));
            if prefixes.is_empty() || wanted.iter().any(|ip| ip.is_ipv4() == v4) {
                continue;
            }
            let mut pools = self.pools.iter().filter(|p| p.prefix().is_ipv4() == v4);
            match pools.find_map(|p| p.peek(&blocked)) {
                Some(ip) => ips.push(ip),
                None => return Err(IpamError::Exhausted { prefixes }),
            }
        }
        Ok(ips)
    }

    fn with_gateway(&self, ip: IpAddr) -> Option<AttachmentIp> {
        let pool = self.pools.iter().find(|p| p.prefix().contains(ip))?;
        let address = InterfaceAddr::new(ip, pool.prefix().len()).ok()?;
        Some(AttachmentIp { address, gateway: pool.gateway() })
    }

    /// Gives an address back.
    pub fn release(&mut self, ip: IpAddr) {
        for pool in &mut self.pools {
            pool.release(ip);
        }
    }

    /// Notes, as a log is read again, that an address was given out in its turn.
    pub fn go_on_behind(&mut self, ip: IpAddr) {
        for pool in &mut self.pools {
            pool.go_on_behind(ip);
        }
    }

    /// What the pools remember.
    pub fn memory(&self) -> Vec<Memory> {
        let memory = |pool: &Pool| {
            let (next, resting) = pool.memory();
            Memory { prefix: pool.prefix(), next, resting }
        };
        self.pools.iter().map(memory).collect()
    }

    /// Takes up what the pools of an earlier daemon remembered.
    pub fn remember(&mut self, memory: &[Memory]) {
        for m in memory {
            if let Some(pool) = self.pools.iter_mut().find(|p| p.prefix() == m.prefix) {
                pool.remember(m.next, &m.resting);
            }
        }
    }
}
