//! What engines say to each other beside Raft's messages: snapshots in pieces, and the hashes of their states.
//!
//! None of it is urgent and some of it is bulk, so it travels on a connection of its own. All of it may be lost,
//! doubled or late.

use bytes::Bytes;
use raft::{Index, NodeId};

/// A message from one engine to another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SideMessage {
    /// Who sends it.
    pub from: NodeId,
    /// Whom it is for.
    pub to: NodeId,
    /// What it says.
    pub body: SideBody,
}

/// What a [`SideMessage`] says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SideBody {
    /// Asks for a piece of a snapshot's file. Answered with a [`SideBody::SnapshotChunk`] or [`SideBody::NoSnapshot`].
    FetchSnapshot {
        /// The last index that the wanted snapshot covers; `None`: the newest, whatever it is.
        index: Option<Index>,
        /// Where in the file the piece begins, in bytes.
        offset: u64,
    },
    /// A piece of a snapshot's file.
    SnapshotChunk {
        /// The last index that the snapshot covers.
        index: Index,
        /// The size of the whole file, in bytes.
        total_bytes: u64,
        /// Where in the file the piece begins, in bytes.
        offset: u64,
        /// The piece: [`SNAPSHOT_CHUNK_BYTES`], or less at the end of the file.
        bytes: Bytes,
    },
    /// The snapshot that was asked for is not there, or not any more.
    NoSnapshot,
    /// The sender's state after an index. States at the same index are the same, or one of them is damaged.
    StateHash {
        /// The last index applied to the state.
        index: Index,
        /// The hash over the state.
        hash: u128,
    },
}

/// How many bytes of a snapshot travel in one message: enough to keep the disks of both ends busy, little enough to be
/// lost and sent again.
pub const SNAPSHOT_CHUNK_BYTES: usize = 512 << 10;
