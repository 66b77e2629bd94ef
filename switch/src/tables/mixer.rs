//! Hashing of the keys that packets are looked up by.

use core::hash::{BuildHasherDefault, Hasher};

/// A hash map for the packet path.
pub type HashMap<K, V> = hashbrown::HashMap<K, V, BuildHasherDefault<Mixer>>;
/// A hash set for the packet path.
pub type HashSet<K> = hashbrown::HashSet<K, BuildHasherDefault<Mixer>>;

/// One multiplication for each word of a key.
///
/// Without a secret: for tables whose keys an operator configured. A sender who chooses what is looked
/// up cannot make a lookup in them slower than what is in them does.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mixer(u64);

impl Mixer {
    #[inline(always)]
    fn mix(&mut self, word: u64) {
        let product = u128::from(self.0 ^ word ^ 0x9e37_79b9_7f4a_7c15) * 0xd6e8_feb8_6659_fd93;
        self.0 = (product >> 64) as u64 ^ product as u64;
    }
}

impl Hasher for Mixer {
    #[inline(always)]
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.mix(u64::from_le_bytes(word));
        }
    }

    #[inline(always)]
    fn write_u32(&mut self, n: u32) {
        self.mix(n.into());
    }

    #[inline(always)]
    fn write_u64(&mut self, n: u64) {
        self.mix(n);
    }

    #[inline(always)]
    fn write_u128(&mut self, n: u128) {
        // A rotation, so that halves that are alike do not cancel out.
        self.mix((n >> 64) as u64 ^ (n as u64).rotate_left(32));
    }

    #[inline(always)]
    fn write_usize(&mut self, _: usize) {
        // The length of a key of fixed size says nothing.
    }

    #[inline(always)]
    fn finish(&self) -> u64 {
        self.0
    }
}
