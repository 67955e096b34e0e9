//! Everything deterministic in a node, as synchronous code: the state machine, the write-ahead log, and the replica
//! that composes them with the consensus core into one machine.
//!
//! ```text
//!            shell (threads, timers, gRPC)            simulator (virtual time, faults)
//!                         \                                /
//!                          +---------- Engine ------------+      inputs in, one Output out
//!                          |                              |
//!                       Replica                          Wal ---- Work / Completion ---- Executor
//!                 raft | kv::Store | waiting clients      |                                 |
//!                                                         +--------- disk::Disk ------------+
//! ```
//!
//! Nothing here starts a thread, reads a clock or draws a random number: time, seeds and the results of disk work are
//! inputs. The same inputs in the same order give the same outputs, byte for byte, which is what the simulator and
//! every replica of the cluster rely on.
//!
//! - [`kv`]: commands, their bytes, and the state machine they are applied to. Cannot see a client, a clock or a file.
//! - [`replica`]: the consensus core, the state machine and the clients that wait for an answer. Cannot see a file.
//! - [`wal`]: the write-ahead log. Owns no thread; its disk work is handed out and completes later.
//! - [`disk`]: the one door to the file system.
//! - [`identity`]: who this node is and which cluster it belongs to, in a file of its own.
//! - [`Engine`]: a replica and its write-ahead log, the one machine that the shell and the simulator drive.
//! - [`OfflineState`]: the state that a log amounts to, for tools that look into a data directory.

pub mod disk;
mod engine;
pub mod identity;
pub mod kv;
pub mod replica;
pub mod wal;

pub use engine::{
    Engine, EngineError, EngineOptions, EngineStatus, OfflineState, Opened, Output, ReplayError, WAL_PENDING_BYTES_MAX,
};
pub use replica::{Answer, AppliedKind, Event, ReadResult, Ticket};
