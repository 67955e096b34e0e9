//! Hashes: 128 bits for what must never collide, a cheap one for tables.

use std::hash::{BuildHasherDefault, Hasher};
use xxhash_rust::xxh3;

/// 128 bits. Among a billion states the odds of one collision are about one in 10^21.
pub(crate) type Digest = (u64, u64);

/// The 128-bit hash of some bytes.
pub(crate) fn digest(bytes: &[u8]) -> Digest {
    let hash = xxh3::xxh3_128(bytes).to_le_bytes();
    let half = |at: usize| u64::from_le_bytes(hash[at..at + 8].try_into().expect("half of 16 bytes are 8"));
    (half(0), half(8))
}

/// Gathers what a `Hash` implementation writes, so that it can be hashed at one go.
#[derive(Default)]
pub(crate) struct Gather(Vec<u8>);

impl Gather {
    pub(crate) fn digest(&self) -> Digest {
        digest(&self.0)
    }
}

impl Hasher for Gather {
    fn write(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn finish(&self) -> u64 {
        self.digest().0
    }
}

/// For the tables of this crate, whose keys are small numbers or digests.
pub(crate) type Folded = BuildHasherDefault<Fold>;

/// Multiplies and folds each word; good enough for tables and cheaper than what withstands hostile keys.
#[derive(Default)]
pub(crate) struct Fold(u64);

impl Fold {
    fn fold(&mut self, word: u64) {
        // An odd number without pattern: the fraction of the golden ratio.
        let product = u128::from(self.0 ^ word) * u128::from(0x9e37_79b9_7f4a_7c15_u64);
        let [low, high] = [product & u128::from(u64::MAX), product >> 64];
        self.0 = u64::try_from(low ^ high).expect("both halves have 64 bits").rotate_left(23);
    }
}

impl Hasher for Fold {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.fold(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, number: u8) {
        self.fold(u64::from(number) + 1);
    }

    fn write_u32(&mut self, number: u32) {
        self.fold(u64::from(number) + 1);
    }

    fn write_u64(&mut self, number: u64) {
        self.fold(number);
    }

    fn write_usize(&mut self, number: usize) {
        self.fold(number as u64 + 1);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
