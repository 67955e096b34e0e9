//! How an engine is set up.

use raft::Configuration;

use crate::kv::SessionLimits;
use crate::wal::WalOptions;

/// What [`EngineOptions::wal_pending_bytes_max`] is in service. A disk that works has synced so much within a second or
/// two, and it is a small part of the memory of a machine that holds a database.
pub const WAL_PENDING_BYTES_MAX: usize = 128 << 20;

/// What [`EngineOptions::snapshot_log_bytes_min`] is in service: a snapshot of a small state is not worth taking more
/// often, and so much log is replayed within a second.
pub const SNAPSHOT_LOG_BYTES_MIN: u64 = 64 << 20;

/// What [`EngineOptions::space_reserve_bytes`] is in service, at least: two segments of the log.
pub const SPACE_RESERVE_BYTES: u64 = 128 << 20;

/// What [`EngineOptions::state_hash_every_entries`] is in service: comparing costs a message a second or so, and what
/// is wrong is found before it is far from its cause.
pub const STATE_HASH_EVERY_ENTRIES: u64 = 1024;

/// Of the shortest election timeout, leases leave out one in so many parts: clocks may differ by that much.
const LEASE_MARGIN: u64 = 10;

/// What [`EngineOptions::lease_ms`] is in service, if the shortest election timeout is so long. The clocks of computers
/// differ by a thousandth at most, and by a hundredth if one is being corrected.
pub const fn lease_ms(election_timeout_ms_min: u64) -> u64 {
    election_timeout_ms_min - election_timeout_ms_min.div_ceil(LEASE_MARGIN)
}

/// How an engine is set up.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// The consensus core.
    pub raft: raft::Options,
    /// The write-ahead log.
    pub wal: WalOptions,
    /// The members of the cluster.
    pub configuration: Configuration,
    /// How much may wait for the log before a leader refuses writes. Only a disk that stands still lets so much gather:
    /// the followers may commit without this node's disk, so the bound on what is uncommitted does not hold it. On top
    /// comes what was proposed since the last output, and that is held by the bound on what is uncommitted.
    pub wal_pending_bytes_max: usize,
    /// A snapshot is taken when the log since the last one is larger than this, in bytes, and larger than that
    /// snapshot: so what is written for snapshots is at most as much as what is written to the log.
    pub snapshot_log_bytes_min: u64,
    /// How many bytes of a snapshot travel in one message: the same on every node, and
    /// [`SNAPSHOT_CHUNK_BYTES`](crate::side::SNAPSHOT_CHUNK_BYTES) wherever it is not a test that wants many of them.
    pub snapshot_chunk_bytes: usize,
    /// Writes that need room are refused while the disk has less than this left, in bytes: what remains is for the log
    /// of what was accepted, and for the snapshot that lets it be cut.
    pub space_reserve_bytes: u64,
    /// How much is kept of clients' sessions: the same on every node, and the default wherever it is not a test that
    /// wants to see them go.
    pub session_limits: SessionLimits,
    /// How long a leader relies on what it was promised, by this node's clock, in milliseconds: shorter than the
    /// shortest election timeout by as much as one clock may be faster than another. See [`lease_ms`].
    pub lease_ms: u64,
    /// The replicas compare the hashes of their states at every index that this divides.
    pub state_hash_every_entries: u64,
}
