//! The maps that say what is ours on an uplink.

use super::{map_error, take};
use crate::config::UplinkFilter;
use crate::error::Error;
use aya::maps::lpm_trie::Key;
use aya::maps::{Array, HashMap, LpmTrie, MapData};
use aya::{Ebpf, Pod};
use encap::Prefix;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// `struct address`: IPv4 as `::ffff:a.b.c.d`.
fn address(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(a) => a.to_ipv6_mapped().octets(),
        IpAddr::V6(a) => a.octets(),
    }
}

/// `struct vxlan_key`.
fn vxlan_key((local, port): (IpAddr, u16)) -> [u8; 20] {
    let mut key = [0; 20];
    key[..16].copy_from_slice(&address(local));
    key[16..].copy_from_slice(&u32::from(port).to_ne_bytes());
    key
}

/// `struct ipip_key`.
fn ipip_key((peer, local): (IpAddr, IpAddr)) -> [u8; 32] {
    let mut key = [0; 32];
    key[..16].copy_from_slice(&address(peer));
    key[16..].copy_from_slice(&address(local));
    key
}

/// `struct prefix`.
fn pod_key(prefix: Prefix) -> PodKey {
    let family = if prefix.is_ipv4() { 96 } else { 0 };
    (family + u32::from(prefix.len()), address(prefix.addr()))
}

/// A prefix as the trie has it: its length in bits of an IPv6 address, and the address.
type PodKey = (u32, [u8; 16]);

/// The maps, and what was written to them.
pub struct Filter {
    vxlan: Set<HashMap<MapData, [u8; 20], u8>, [u8; 20]>,
    ipip: Set<HashMap<MapData, [u8; 32], u8>, [u8; 32]>,
    pods: Set<LpmTrie<MapData, [u8; 16], u8>, PodKey>,
    vlan: Array<MapData, u32>,
}

impl Filter {
    pub fn new(ebpf: &mut Ebpf) -> Result<Filter, Error> {
        Ok(Filter {
            vxlan: Set::new(HashMap::try_from(take(ebpf, "vxlan")?).map_err(map_error)?),
            ipip: Set::new(HashMap::try_from(take(ebpf, "ipip")?).map_err(map_error)?),
            pods: Set::new(LpmTrie::try_from(take(ebpf, "pods")?).map_err(map_error)?),
            vlan: Array::try_from(take(ebpf, "uplink_vlan")?).map_err(map_error)?,
        })
    }

    pub fn set(&mut self, filter: &UplinkFilter) -> Result<(), Error> {
        self.vlan.set(0, filter.vlan.map_or(0, u32::from), 0).map_err(map_error)?;
        self.vxlan.replace(filter.vxlan.iter().map(|&k| vxlan_key(k)))?;
        self.ipip.replace(filter.ipip.iter().map(|&k| ipip_key(k)))?;
        self.pods.replace(filter.prefixes.iter().map(|&p| pod_key(p)))
    }
}

/// A map used as a set.
trait Table<K> {
    const NAME: &'static str;
    fn insert(&mut self, key: &K) -> Result<(), aya::maps::MapError>;
    fn remove(&mut self, key: &K) -> Result<(), aya::maps::MapError>;
}

impl<const N: usize> Table<[u8; N]> for HashMap<MapData, [u8; N], u8>
where
    [u8; N]: Pod,
{
    const NAME: &'static str = "the table of tunnel endpoints on the uplink";
    fn insert(&mut self, key: &[u8; N]) -> Result<(), aya::maps::MapError> {
        HashMap::insert(self, key, 1, 0)
    }
    fn remove(&mut self, key: &[u8; N]) -> Result<(), aya::maps::MapError> {
        HashMap::remove(self, key)
    }
}

impl Table<PodKey> for LpmTrie<MapData, [u8; 16], u8> {
    const NAME: &'static str = "the table of pod CIDRs on the uplink";
    fn insert(&mut self, &(len, address): &PodKey) -> Result<(), aya::maps::MapError> {
        LpmTrie::insert(self, &Key::new(len, address), 1, 0)
    }
    fn remove(&mut self, &(len, address): &PodKey) -> Result<(), aya::maps::MapError> {
        LpmTrie::remove(self, &Key::new(len, address))
    }
}

struct Set<M, K> {
    map: M,
    present: BTreeSet<K>,
}

impl<K: Ord + Copy, M: Table<K>> Set<M, K> {
    fn new(map: M) -> Set<M, K> {
        Set { map, present: BTreeSet::new() }
    }

    /// Adds what is new, then removes what is gone.
    fn replace(&mut self, wanted: impl Iterator<Item = K>) -> Result<(), Error> {
        let wanted: BTreeSet<K> = wanted.collect();
        for key in wanted.difference(&self.present.clone()) {
            self.map.insert(key).map_err(|e| match super::errno_in(&e) {
                Some(libc::E2BIG | libc::ENOSPC) => {
                    Error::Full { table: M::NAME, capacity: self.present.len() as u32 }
                }
                _ => map_error(e),
            })?;
            self.present.insert(*key);
        }
        for key in self.present.difference(&wanted).copied().collect::<Vec<_>>() {
            self.map.remove(&key).map_err(map_error)?;
            self.present.remove(&key);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_the_layout_of_the_c_structures() {
        let v4: IpAddr = "192.0.2.1".parse().unwrap();
        let v6: IpAddr = "2001:db8::1".parse().unwrap();
        let mapped = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1];
        let key = vxlan_key((v4, 4789));
        assert_eq!(key[..16], mapped);
        assert_eq!(key[16..], 4789u32.to_ne_bytes());
        let key = ipip_key((v6, v4));
        assert_eq!(key[..4], [0x20, 0x01, 0x0d, 0xb8]);
        assert_eq!(key[16..], mapped);
        assert_eq!(pod_key("192.0.2.0/24".parse().unwrap()).0, 120);
        assert_eq!(pod_key("2001:db8::/64".parse().unwrap()).0, 64);
    }
}
