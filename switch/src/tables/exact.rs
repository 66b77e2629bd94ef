//! A table from words to words, for keys that an operator configured.

/// Open addressing, at most half full, so that nearly every lookup is one comparison. Built by the control
/// thread. `FREE` is no key, and not to be asked for.
///
/// Without a secret: a sender who chooses what is looked up cannot make that slower than what is in it
/// does, see [`super::mixer::Mixer`].
#[derive(Clone, Debug, Default)]
pub(super) struct Exact<const FREE: u64> {
    /// A power of two of them, or none.
    slots: Box<[Slot]>,
    used: usize,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    key: u64,
    value: u32,
}

#[inline(always)]
fn hash(key: u64) -> usize {
    (key.wrapping_mul(0xd6e8_feb8_6659_fd93) >> 32) as usize
}

impl<const FREE: u64> Exact<FREE> {
    /// Adds a key; the value of an equal one is replaced.
    pub(super) fn insert(&mut self, key: u64, value: u32) {
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
        *slot = Slot { key, value };
        self.used += usize::from(new);
    }

    /// Whether there is nothing in it.
    #[inline(always)]
    pub(super) fn is_empty(&self) -> bool {
        self.used == 0
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

    /// The value of a key.
    #[inline(always)]
    pub(super) fn get(&self, key: u64) -> Option<u32> {
        let mask = self.slots.len().wrapping_sub(1);
        let slot = self.slots.get(hash(key) & mask)?;
        if slot.key == key { Some(slot.value) } else { self.next(key) }
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
