//! A hash table from keys kept elsewhere to their numbers 0, 1, 2, ... in order of arrival.
//!
//! Open addressing with linear probing, at most half full. A slot holds 32 bits of the hash and the
//! number: what a probe compares stands in one cache line, and growing asks no key for its hash.
//! The hash is keyed anew in each process, so that a sender cannot choose names that collide.

use std::hash::{BuildHasher, RandomState};
use std::sync::OnceLock;

use crate::scan::load;

/// How names are hashed: folded multiplication of eight bytes at a time, with a secret key.
#[derive(Clone, Copy, Debug)]
pub struct Hashing {
    begin: u64,
    key: u64,
}

impl Hashing {
    /// The hashing of this process.
    pub fn of_process() -> Hashing {
        static KEYS: OnceLock<Hashing> = OnceLock::new();
        *KEYS.get_or_init(|| {
            let random = RandomState::new();
            Hashing { begin: random.hash_one(1), key: random.hash_one(2) | 1 }
        })
    }

    #[cfg(test)]
    pub(crate) fn fixed() -> Hashing {
        Hashing { begin: 0x243f_6a88_85a3_08d3, key: 0x1319_8a2e_0370_7345 }
    }

    /// The hash of nothing yet.
    #[inline(always)]
    pub fn begin(&self) -> u64 {
        self.begin
    }

    /// The hash of what was hashed before and eight bytes more.
    #[inline(always)]
    pub fn add(&self, hash: u64, word: u64) -> u64 {
        let product = u128::from(hash ^ word) * u128::from(self.key);
        (product as u64) ^ ((product >> 64) as u64)
    }

    /// The hash of a name: its words, the last one filled up with zeros, and never empty-handed:
    /// a name of 8 bytes has a second word. No name holds a zero, so no two fill up to the same.
    #[inline(always)]
    pub fn of(&self, name: &[u8]) -> u64 {
        (0..=name.len() / 8).fold(self.begin, |hash, word| self.add(hash, load(name, 8 * word)))
    }

    /// The hash of a name, its words given.
    #[inline(always)]
    pub fn of_words(&self, words: &[[u8; 8]]) -> u64 {
        words.iter().fold(self.begin, |hash, word| self.add(hash, u64::from_le_bytes(*word)))
    }
}

/// The table. It does not know the keys: whoever asks says whether a number's key is the one.
#[derive(Debug, Default)]
pub struct Index {
    slots: Vec<u64>,
    used: usize,
}

impl Index {
    /// A table with room for so many keys before it grows.
    pub fn with_room(keys: usize) -> Index {
        Index { slots: vec![0; (2 * keys).next_power_of_two().max(8)], used: 0 }
    }

    /// The number of a key that is there; `None` where it is new, and now has the next number.
    #[inline(always)]
    pub fn find_or_add(&mut self, hash: u64, is_key: impl Fn(usize) -> bool) -> Option<usize> {
        if 2 * self.used >= self.slots.len() {
            self.grow();
        }
        let tag = hash >> 32;
        let mask = self.slots.len() - 1;
        let mut at = tag as usize & mask;
        loop {
            let slot = self.slots[at];
            if slot == 0 {
                self.used += 1;
                // Numbers are kept from 1, so that a slot in use is never 0.
                self.slots[at] = tag << 32 | self.used as u64;
                return None;
            }
            let number = (slot as u32 - 1) as usize;
            if slot >> 32 == tag && is_key(number) {
                return Some(number);
            }
            at = (at + 1) & mask;
        }
    }

    #[cold]
    fn grow(&mut self) {
        let mask = (4 * self.slots.len()).max(8) - 1;
        // A number has 32 bits, and a tag as well; bodies and merges are bounded far below.
        assert!(mask <= u32::MAX as usize, "an index of more than 2^31 keys");
        let mut slots = vec![0; mask + 1];
        for &slot in self.slots.iter().filter(|&&slot| slot != 0) {
            let mut at = (slot >> 32) as usize & mask;
            while slots[at] != 0 {
                at = (at + 1) & mask;
            }
            slots[at] = slot;
        }
        self.slots = slots;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_keep_their_numbers_while_it_grows() {
        let hashing = Hashing::fixed();
        let keys: Vec<String> = (0..10_000).map(|key| format!("key {key}")).collect();
        let mut index = Index::default();
        for round in 0..2 {
            for (number, key) in keys.iter().enumerate() {
                let hash = hashing.of(key.as_bytes());
                let found = index.find_or_add(hash, |other| keys[other] == *key);
                assert_eq!(found, (round == 1).then_some(number));
            }
        }
    }

    #[test]
    fn colliding_keys_are_told_apart() {
        let mut index = Index::with_room(1);
        for key in 0..100 {
            assert_eq!(index.find_or_add(7 << 32, |other| other == key), None);
        }
        for key in 0..100 {
            assert_eq!(index.find_or_add(7 << 32, |other| other == key), Some(key));
        }
    }
}
