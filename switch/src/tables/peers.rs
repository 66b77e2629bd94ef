//! Tunnels by what a packet of IPv4 tells of its peer in one word.

use crate::ids::TunnelId;

/// From words to tunnels: open addressing, at most half full, so that nearly every lookup is one
/// comparison. Built by the control thread.
#[derive(Clone, Debug, Default)]
pub(super) struct Peers {
    /// A power of two of them, or none.
    slots: Box<[Slot]>,
    used: usize,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    key: u64,
    /// The port that the tunnel receives on, 16 bits, then the tunnel.
    value: u32,
}

/// No key: those are of 56 bits.
const FREE: u64 = u64::MAX;

/// Without a secret: an operator configured the keys, see [`super::mixer::Mixer`].
#[inline(always)]
fn hash(key: u64) -> usize {
    (key.wrapping_mul(0xd6e8_feb8_6659_fd93) >> 32) as usize
}

impl Peers {
    /// Adds a tunnel, and the port that it receives on; one of the same key it takes the place of.
    pub(super) fn insert(&mut self, key: u64, (id, port): (TunnelId, u16)) {
        debug_assert!(key != FREE);
        if self.used * 2 >= self.slots.len() {
            let larger = vec![Slot { key: FREE, value: 0 }; (self.slots.len() * 2).max(8)];
            let old = core::mem::replace(&mut self.slots, larger.into());
            old.iter()
                .filter(|slot| slot.key != FREE)
                .for_each(|slot| *self.slot(slot.key) = *slot);
        }
        let slot = self.slot(key);
        let new = slot.key == FREE;
        *slot = Slot { key, value: u32::from(port) << 16 | u32::from(id.0) };
        self.used += usize::from(new);
    }

    /// The slot of a key, or the one that it would take.
    fn slot(&mut self, key: u64) -> &mut Slot {
        let mask = self.slots.len() - 1;
        let mut at = hash(key) & mask;
        while self.slots[at].key != FREE && self.slots[at].key != key {
            at = (at + 1) & mask;
        }
        &mut self.slots[at]
    }

    /// The tunnel of a key, and its port.
    #[inline(always)]
    pub(super) fn get(&self, key: u64) -> Option<(TunnelId, u16)> {
        let mask = self.slots.len().wrapping_sub(1);
        let slot = self.slots.get(hash(key) & mask)?;
        let value = if slot.key == key { slot.value } else { self.next(key)? };
        Some((TunnelId(value as u16), (value >> 16) as u16))
    }

    #[inline(never)]
    fn next(&self, key: u64) -> Option<u32> {
        let mask = self.slots.len() - 1;
        let start = hash(key);
        let slots = (1..self.slots.len()).map(|i| self.slots[(start + i) & mask]);
        let slot = slots.take_while(|slot| slot.key != FREE).find(|slot| slot.key == key)?;
        Some(slot.value)
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
