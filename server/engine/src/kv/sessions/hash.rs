//! The share of sessions in the hash over the state, see `kv/hash.rs`.

use xxhash_rust::xxh3::xxh3_128;

use super::image::encode_kept;
use super::{Kept, Session, SessionId};

/// In front of what is hashed, so that no two things of different kinds have the same bytes.
const SESSION: u8 = 1;
const KEPT: u8 = 2;
const MARK: u8 = 3;

/// The longest of what is hashed for a sequence, but for the value that was removed: all its numbers.
const KEPT_BYTES: usize = 128;

/// The hash of a session, without its results.
pub(super) fn session_hash(id: SessionId, session: &Session) -> u128 {
    let [opened_at_ms, used_at_s, acknowledged_below] = session.hashed();
    let mut bytes = [SESSION; 41];
    bytes[1..17].copy_from_slice(&id.get().to_le_bytes());
    bytes[17..25].copy_from_slice(&opened_at_ms.to_le_bytes());
    bytes[25..33].copy_from_slice(&used_at_s.to_le_bytes());
    bytes[33..41].copy_from_slice(&acknowledged_below.to_le_bytes());
    xxh3_128(&bytes)
}

/// The hash of what is kept of a sequence.
pub(super) fn kept_hash(id: SessionId, sequence: u64, kept: &Kept) -> u128 {
    let mut bytes = Vec::with_capacity(KEPT_BYTES);
    bytes.push(KEPT);
    encode_kept(id, sequence, kept, &mut bytes);
    xxh3_128(&bytes)
}

/// The hash of the mark; 0 as long as there is none, so that a state that never had sessions has the hash of its keys.
pub(super) fn mark_hash(mark_ms: u64) -> u128 {
    if mark_ms == 0 {
        return 0;
    }
    let mut bytes = [MARK; 9];
    bytes[1..].copy_from_slice(&mark_ms.to_le_bytes());
    xxh3_128(&bytes)
}
