//! Everything deterministic in a node, as synchronous code: the state machine, the write-ahead log, and the replica
//! that composes them with the consensus core into one machine.
//!
//! ```text
//!            shell (threads, timers, gRPC)            simulator (virtual time, faults)
//!                         \                                /
//!                          +---------- Engine ------------+      inputs in, one Output out
//!                          |                              |
//!                       Replica                  Wal, Snapshots ---- work / completions ---- executors
//!                 raft | kv::Store | waiting clients      |                                      |
//!                                                         +------------ disk::Disk --------------+
//! ```
//!
//! Nothing here starts a thread, reads a clock or draws a random number: time, seeds and the results of disk work are
//! inputs. The same inputs in the same order give the same outputs, byte for byte, which is what the simulator and
//! every replica of the cluster rely on.
//!
//! - [`kv`]: commands, their bytes, and the state machine they are applied to. Cannot see a client, a clock or a file.
//! - [`replica`]: the consensus core, the state machine and the clients that wait for an answer. Cannot see a file.
//! - [`wal`]: the write-ahead log. Owns no thread; its disk work is handed out and completes later.
//! - [`side`]: what engines say to each other beside Raft's messages: snapshots in pieces, hashes of their states.
//! - [`leaderless`]: what they say to each other so that a read needs no leader.
//! - [`snapshot`]: files that hold the state after an index. Owns no thread; each call does a bounded piece of work.
//! - [`disk`]: the one door to the file system.
//! - [`identity`]: who this node is and which cluster it belongs to, in a file of its own.
//! - [`Engine`]: a replica, its log and its snapshots, the one machine that the shell and the simulator drive. It takes
//!   snapshots and cuts the log behind them, fetches those of others, repairs what is damaged from its peers, compares
//!   its state with theirs, and refuses what a full disk has no room for.
//! - [`OfflineState`]: the state that a snapshot and a log amount to, for tools that look into a data directory.
//! - [`RestoredState`]: the data directories of a new cluster, out of a snapshot of another.

pub mod disk;
mod engine;
pub mod identity;
pub mod kv;
pub mod leaderless;
pub mod replica;
pub mod side;
pub mod snapshot;
pub mod wal;

pub use engine::{
    Damage, Engine, EngineError, EngineOptions, EngineStatus, LoadError, OfflineState, Opened, Output, Progress,
    Remedy, Repair, RepairError, ReplayError, RestoreError, RestoredState, SNAPSHOT_LOG_BYTES_MIN, SPACE_RESERVE_BYTES,
    STATE_HASH_EVERY_ENTRIES, SnapshotCompletion, SnapshotExecutor, SnapshotFile, SnapshotWork, TakeError,
    UnusableSnapshot, WAL_PENDING_BYTES_MAX, lease_ms,
};
pub use replica::{Answer, AppliedCommand, AppliedKind, Consistency, Event, ReadResult, StaleBounds, Ticket};
