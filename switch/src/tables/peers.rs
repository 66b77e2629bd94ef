//! Tunnels by what a packet of IPv4 tells of its peer in one word.

use super::exact::Exact;
use crate::ids::TunnelId;

/// From words of 56 bits to tunnels, and the port that each receives on.
#[derive(Clone, Debug, Default)]
pub(super) struct Peers(Exact<{ u64::MAX }>);

impl Peers {
    /// Adds a tunnel, and the port that it receives on; one of the same key it takes the place of.
    pub(super) fn insert(&mut self, key: u64, (id, port): (TunnelId, u16)) {
        self.0.insert(key, u32::from(port) << 16 | u32::from(id.0));
    }

    /// The tunnel of a key, and its port.
    #[inline(always)]
    pub(super) fn get(&self, key: u64) -> Option<(TunnelId, u16)> {
        let value = self.0.get(key)?;
        Some((TunnelId(value as u16), (value >> 16) as u16))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn finds_what_a_map_finds() {
        assert_eq!(Peers::default().get(0), None);
        let (mut peers, mut map, mut x) = (Peers::default(), HashMap::new(), 1u64);
        for i in 0..5000u16 {
            x = x.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            // Some keys twice, zero among them, and many that are neighbours.
            let key = if i % 3 == 0 { u64::from(i) / 6 } else { x >> 8 };
            let value = (TunnelId(i), (x >> 3) as u16);
            peers.insert(key, value);
            map.insert(key, value);
            for other in [key, key + 1, x >> 8] {
                assert_eq!(peers.get(other), map.get(&other).copied(), "{other}");
            }
        }
        assert!(map.iter().all(|(&key, &value)| peers.get(key) == Some(value)));
    }
}
