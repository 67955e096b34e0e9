//! Why an engine cannot start or go on.

use raft::Index;
use thiserror::Error;

use super::repair::RepairError;
use super::replay::ReplayError;
use super::snapshots::{LoadError, TakeError};
use crate::replica::UnknownEntry;
use crate::snapshot::SnapshotError;
use crate::wal::WalError;

/// Why an engine cannot start or go on. Whatever it is, the node must stop: after an error, nothing that the engine has
/// for the outside may leave.
#[derive(Debug, Error)]
pub enum EngineError {
    /// The write-ahead log is damaged, or its disk failed.
    #[error("the write-ahead log failed")]
    Wal(#[from] WalError),
    /// A snapshot's file cannot be read or written.
    #[error("a snapshot failed")]
    Snapshot(#[from] SnapshotError),
    /// A snapshot cannot be loaded, and nothing else holds what it did.
    #[error("a snapshot cannot be loaded")]
    Load(#[from] LoadError),
    /// A snapshot cannot be taken.
    #[error("a snapshot cannot be taken")]
    Take(#[from] TakeError),
    /// The note on what is being repaired cannot be read or written.
    #[error("the repair of the log failed")]
    Repair(#[from] RepairError),
    /// The consensus core cannot be set up like this.
    #[error("the consensus core cannot be set up")]
    Setup(#[from] raft::SetupError),
    /// The records of the log contradict each other.
    #[error("the write-ahead log cannot be replayed")]
    Replay(#[from] ReplayError),
    /// A committed entry is of a version that this program does not know.
    #[error("a committed entry cannot be applied")]
    UnknownEntry(#[from] UnknownEntry),
    /// The state differs from that of the other replicas: it must not be served.
    #[error("the state after entry {index} differs from that of {}", differs_from(*.by_majority))]
    Diverged {
        /// The index at which the states were compared.
        index: Index,
        /// Whether a majority agrees on another state.
        by_majority: bool,
    },
    /// The engine returned an error before.
    #[error("the engine has stopped after an earlier error")]
    Stopped,
}

impl EngineError {
    /// Whether it is only that the disk has no room. Nothing is damaged: with more room the node starts again.
    #[must_use]
    pub fn is_storage_full(&self) -> bool {
        match self {
            EngineError::Wal(error) => error.is_no_room(),
            EngineError::Snapshot(error)
            | EngineError::Load(LoadError::File(error))
            | EngineError::Take(TakeError::Snapshot(error)) => error.is_storage_full(),
            EngineError::Repair(error) | EngineError::Take(TakeError::Repair(error)) => error.is_storage_full(),
            _ => false,
        }
    }
}

fn differs_from(by_majority: bool) -> &'static str {
    if by_majority { "a majority of the replicas" } else { "another replica, and no majority agrees" }
}
