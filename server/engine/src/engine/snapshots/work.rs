//! The disk work of snapshots, and who runs it.

use std::sync::Arc;

use bytes::Bytes;
use raft::{Index, NodeId};
use thiserror::Error;

use crate::disk::Disk;
use crate::kv::{ImageError, SessionLimits, Store};
use crate::side::SideBody;
use crate::snapshot::{self, Receiver, Removal, SnapshotError};

use crate::engine::repair::{Repair, RepairError};

use super::checking::Checking;
use super::loading::{LoadError, Loaded, load_received};
use super::taking::{Step, Taking};

/// One piece of the snapshots' disk work. To be run in order, by one [`SnapshotExecutor`].
pub struct SnapshotWork(pub(super) WorkKind);

pub(super) enum WorkKind {
    /// A step of writing this node's own snapshot.
    Take(Box<Taking>),
    /// Read a piece for a peer.
    Serve { to: NodeId, index: Index, offset: u64 },
    /// A step of reading one of this node's own once more.
    Check(Box<Checking>),
    /// Write a piece that a peer sent.
    Receive { index: Index, total_bytes: u64, offset: u64, bytes: Bytes },
    /// All pieces are written: verify the whole, load it, and put it in its place.
    Install { index: Index },
    /// Begin to remove a snapshot that is not needed any more.
    Remove { index: Index },
    /// A step of that.
    RemoveRest(Removal),
    /// Give the memory of a state back.
    Discard(Box<Store>),
    /// Remove the note that part of the log was lost.
    ForgetRepair,
}

impl SnapshotWork {
    /// Whether it belongs to the writing of this node's own snapshot, or to the removal of one, which nobody waits for:
    /// whoever runs it lets the disk rest for a while afterwards.
    #[must_use]
    pub fn is_unhurried(&self) -> bool {
        matches!(self.0, WorkKind::Take(_) | WorkKind::RemoveRest(_))
    }

    /// What it does, in a word or two: for people.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match &self.0 {
            WorkKind::Take(_) => "take",
            WorkKind::Serve { .. } => "serve",
            WorkKind::Check(_) => "check",
            WorkKind::Receive { .. } => "receive",
            WorkKind::Install { .. } => "install",
            WorkKind::Remove { .. } | WorkKind::RemoveRest(_) => "remove",
            WorkKind::Discard(_) => "discard",
            WorkKind::ForgetRepair => "forget repair",
        }
    }
}

/// That a piece of work is done, well or badly. Goes back to [`Engine::snapshot_completed`](crate::Engine).
pub struct SnapshotCompletion(pub(super) CompletionKind);

pub(super) enum CompletionKind {
    Took(Result<Step, TakeError>),
    Served {
        to: NodeId,
        index: Index,
        result: Result<SideBody, SnapshotError>,
    },
    Checked {
        index: Index,
        result: Result<Option<Box<Checking>>, SnapshotError>,
    },
    Received {
        index: Index,
        result: Result<u64, SnapshotError>,
    },
    Installed {
        index: Index,
        result: Result<Option<Box<Loaded>>, LoadError>,
    },
    /// With what is left to be removed.
    Removed(Result<Option<Removal>, SnapshotError>),
    ForgotRepair(Result<(), RepairError>),
    Discarded,
}

/// Why a snapshot could not be taken.
#[derive(Debug, Error)]
pub enum TakeError {
    /// The disk failed, or is full.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The note on a repair that has ended could not be removed.
    #[error(transparent)]
    Repair(#[from] RepairError),
    /// The state in memory is not what was applied to it.
    #[error("the state in memory is damaged")]
    StateDamaged(#[source] ImageError),
}

/// Does the I/O of snapshots.
pub struct SnapshotExecutor {
    disk: Arc<dyn Disk>,
    /// The size of a piece for a peer in bytes.
    piece_bytes: usize,
    session_limits: SessionLimits,
    /// The file that a peer's pieces go to.
    receiver: Option<Receiver>,
}

impl SnapshotExecutor {
    pub(in crate::engine) fn new(
        disk: Arc<dyn Disk>,
        piece_bytes: usize,
        session_limits: SessionLimits,
    ) -> SnapshotExecutor {
        SnapshotExecutor { disk, piece_bytes, session_limits, receiver: None }
    }

    /// Runs one piece of work to its end. Blocks for as long as the disk takes.
    pub fn run(&mut self, work: SnapshotWork) -> SnapshotCompletion {
        let disk = Arc::clone(&self.disk);
        SnapshotCompletion(match work.0 {
            WorkKind::Take(taking) => CompletionKind::Took(taking.step(disk.as_ref())),
            WorkKind::Serve { to, index, offset } => {
                CompletionKind::Served { to, index, result: serve(disk.as_ref(), index, offset, self.piece_bytes) }
            }
            WorkKind::Check(checking) => {
                let index = checking.index();
                CompletionKind::Checked { index, result: checking.step(disk.as_ref()).map(|next| next.map(Box::new)) }
            }
            WorkKind::Receive { index, total_bytes, offset, bytes } => {
                let mut result = self.receive(disk.as_ref(), index, total_bytes, offset, &bytes);
                if result.as_ref().is_err_and(SnapshotError::is_storage_full) {
                    self.receiver = None;
                    result = snapshot::abandon_receiving(disk.as_ref(), index).and(result);
                }
                CompletionKind::Received { index, result }
            }
            WorkKind::Install { index } => {
                CompletionKind::Installed { index, result: self.install(disk.as_ref(), index) }
            }
            WorkKind::Discard(store) => {
                drop(store);
                CompletionKind::Discarded
            }
            WorkKind::ForgetRepair => CompletionKind::ForgotRepair(Repair::remove(disk.as_ref())),
            WorkKind::Remove { index } => CompletionKind::Removed(Removal::begin(disk.as_ref(), index).map(Some)),
            WorkKind::RemoveRest(removal) => CompletionKind::Removed(removal.step(disk.as_ref())),
        })
    }

    /// Returns how many bytes of the file are written.
    fn receive(
        &mut self,
        disk: &dyn Disk,
        index: Index,
        total_bytes: u64,
        offset: u64,
        bytes: &[u8],
    ) -> Result<u64, SnapshotError> {
        if offset == 0 {
            if let Some(other) = self.receiver.take() {
                snapshot::abandon_receiving(disk, other.index())?;
            }
            self.receiver = Some(Receiver::begin(disk, index, total_bytes)?);
        }
        let Some(receiver) = self.receiver.as_mut().filter(|receiver| receiver.index() == index) else {
            return Ok(0); // of a snapshot that was given up meanwhile
        };
        receiver.write(offset, bytes)?;
        Ok(receiver.received_bytes())
    }

    fn install(&mut self, disk: &dyn Disk, index: Index) -> Result<Option<Box<Loaded>>, LoadError> {
        let Some(receiver) = self.receiver.take().filter(|receiver| receiver.index() == index) else {
            return Ok(None); // given up meanwhile
        };
        let loaded = receiver.finish().map_err(LoadError::from);
        let loaded = loaded.and_then(|written| load_received(disk, written, self.session_limits));
        if loaded.is_err() {
            snapshot::abandon_receiving(disk, index)?;
        }
        loaded.map(|loaded| Some(Box::new(loaded)))
    }
}

fn serve(disk: &dyn Disk, index: Index, offset: u64, piece_bytes: usize) -> Result<SideBody, SnapshotError> {
    let piece = snapshot::read_piece(disk, index, offset, piece_bytes)?;
    // Nothing at all lies behind the end.
    let piece = piece.filter(|piece| !piece.bytes.is_empty());
    Ok(piece.map_or(SideBody::NoSnapshot, |piece| SideBody::SnapshotChunk {
        index,
        total_bytes: piece.total_bytes,
        offset,
        bytes: piece.bytes.into(),
    }))
}
