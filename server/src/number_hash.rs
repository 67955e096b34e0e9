//! A hash for maps whose keys are numbers: a few instructions, where the library's takes more time than the map itself.
//!
//! It is seeded by chance, so that nobody knows numbers in advance that share a place. Whoever finds some all the same
//! makes its own stream's lookups slower, of which there are a bounded number, and nobody else's.

use std::hash::{BuildHasher, Hasher};

/// An odd number without a pattern: 2^64 divided by the golden ratio.
const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

/// Makes the hashers of one map.
#[derive(Clone, Debug)]
pub(crate) struct NumberHash {
    seed: u64,
    multiplier: u64,
}

impl Default for NumberHash {
    fn default() -> Self {
        Self { seed: rand::random(), multiplier: rand::random::<u64>() | 1 }
    }
}

impl BuildHasher for NumberHash {
    type Hasher = NumberHasher;

    fn build_hasher(&self) -> NumberHasher {
        NumberHasher { state: self.seed, multiplier: self.multiplier }
    }
}

/// The hash of one number.
#[derive(Debug)]
pub(crate) struct NumberHasher {
    state: u64,
    multiplier: u64,
}

impl Hasher for NumberHasher {
    fn write_u64(&mut self, number: u64) {
        // A product's low bits know nothing of the factors' high ones, and the map takes its place from the low bits.
        let mixed = (self.state ^ number).wrapping_mul(self.multiplier);
        self.state = (mixed ^ (mixed >> 32)).wrapping_mul(MULTIPLIER);
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn finish(&self) -> u64 {
        self.state ^ (self.state >> 32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn numbers_are_spread_whatever_they_have_in_common() {
        const NUMBERS: u64 = 4096;
        for shift in [0, 8, 16, 32, 48, 52] {
            let hash = NumberHash::default();
            let places = |of: fn(u64) -> u64| {
                (0..NUMBERS).map(|number| of(hash.hash_one(number << shift))).collect::<BTreeSet<_>>().len()
            };
            // By chance 63 of 100 places are taken. The map uses the low bits for the place and the top ones beside it.
            assert!(places(|hash| hash % NUMBERS) > 2000, "{shift}: {}", places(|hash| hash % NUMBERS));
            assert!(places(|hash| hash >> 57) == 128, "{shift}");
        }
    }
}
