//! The hash over the state, by which replicas compare themselves.
//!
//! It is additive: the wrapping sum, over all keys, of a 128-bit hash of the key with all that is kept for it, plus one
//! such hash of what the store keeps beside the keys, that of the cluster's settings, and those of sessions and their
//! results (`sessions/hash.rs`). So it does not depend on the order of writes, and a write changes it by taking the old
//! record's hash off and adding the new one's, without a walk over the state. It covers the state and not its history:
//! two stores that hold the same have the same hash.
//!
//! A record is hashed as a fixed number of bytes: the lengths and the hashes of key and value, and the revisions. Fixed
//! places make the encoding unambiguous, and hashing key and value as they lie in memory needs no copy of a value. The
//! hash (xxh3, 128 bits) finds damage and bugs; it is no defence against somebody who makes collisions on purpose.

use xxhash_rust::xxh3::xxh3_128;

use super::Revision;
use super::record::Record;
use super::settings::{SETTINGS_BYTES, Settings};

/// In front of the settings, as other numbers stand in front of what sessions hash.
const SETTINGS: u8 = 4;

/// The hash of a key with what the store keeps for it.
pub(super) fn record_hash(key: &[u8], record: &Record) -> u128 {
    // Naming every field makes a new one break the build here until somebody decides how it is hashed.
    let Record { value, create_revision, mod_revision, version } = record;
    let mut encoding = Encoding::<72>::new();
    encoding.put(&(key.len() as u64).to_le_bytes());
    encoding.put(&xxh3_128(key).to_le_bytes());
    encoding.put(&(value.len() as u64).to_le_bytes());
    encoding.put(&xxh3_128(value).to_le_bytes());
    encoding.put(&create_revision.get().to_le_bytes());
    encoding.put(&mod_revision.get().to_le_bytes());
    encoding.put(&version.to_le_bytes());
    encoding.hash()
}

/// The hash of what the store keeps beside its keys. Its encoding is shorter than a record's, so the two never agree.
pub(super) fn header_hash(revision: Revision, time_ms: u64) -> u128 {
    let mut encoding = Encoding::<16>::new();
    encoding.put(&revision.get().to_le_bytes());
    encoding.put(&time_ms.to_le_bytes());
    encoding.hash()
}

/// The hash of the settings; 0 as long as they are what they are in the beginning, so that a state in which nobody ever
/// changed one has the hash that it had before there were any.
pub(super) fn settings_hash(settings: Settings) -> u128 {
    if settings == Settings::default() {
        return 0;
    }
    let mut encoding = Encoding::<{ 1 + SETTINGS_BYTES }>::new();
    encoding.put(&[SETTINGS]);
    encoding.put(&settings.to_bytes());
    encoding.hash()
}

/// A buffer of `N` bytes that is filled from the front and hashed when it is full.
struct Encoding<const N: usize> {
    bytes: [u8; N],
    length: usize,
}

impl<const N: usize> Encoding<N> {
    fn new() -> Encoding<N> {
        Encoding { bytes: [0; N], length: 0 }
    }

    fn put(&mut self, field: &[u8]) {
        self.bytes[self.length..self.length + field.len()].copy_from_slice(field);
        self.length += field.len();
    }

    fn hash(&self) -> u128 {
        debug_assert_eq!(self.length, N, "every field is in the encoding");
        xxh3_128(&self.bytes)
    }
}
