//! What replicas say to each other so that a read needs no leader: what each knows of a key.
//!
//! The protocol and why it is safe are in [`raft::Poll`]; who asks and who answers, in `replica/quorum_reads`. All of
//! it may be lost, doubled or late. A node answers at once, from what it has, and remembers nothing of it.

use bytes::Bytes;
use raft::{NodeId, Witness};

use crate::kv::{KeyValue, Revision};

/// No more keys are asked for in one message: with the longest keys it is half a mebibyte.
pub const QUESTIONS_MAX: usize = 512;

/// An answer is not made longer than this, in bytes of keys and values, unless by its last value: with that one, and
/// what goes with them, it is well below the 4 MiB that a message may have.
pub const ANSWER_BYTES_MAX: usize = 1 << 20;

/// A message from one replica to another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReplicaMessage {
    /// Who sends it.
    pub from: NodeId,
    /// Whom it is for.
    pub to: NodeId,
    /// What it says.
    pub body: ReplicaBody,
}

/// What a [`ReplicaMessage`] says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ReplicaBody {
    /// Asks for some keys.
    Ask(Ask),
    /// Answers some of the questions of an [`Ask`].
    Tell(Tell),
}

/// Questions of reads that have begun.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ask {
    /// A number that the asking process drew at its start. An answer to one that has ended must not be taken for an
    /// answer to one that runs: its reads had begun earlier.
    pub process: u64,
    /// The revision of the asking node's state: a key that was not written since then need not be sent.
    pub revision: Revision,
    /// Each with its number, which no other read of that process has.
    pub questions: Vec<(u64, Bytes)>,
}

/// What one replica knows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tell {
    /// The [`Ask`]'s.
    pub process: u64,
    /// The revision of the state that was looked into.
    pub revision: Revision,
    /// The replicated time of that state, in milliseconds.
    pub time_ms: u64,
    /// The questions' numbers, each with what is known of its key.
    pub answers: Vec<(u64, Known)>,
}

/// What a replica knows of one key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Known {
    /// Of its log.
    pub witness: Witness,
    /// Of its state.
    pub value: Told,
}

/// A key in a replica's state.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Told {
    /// It is not there.
    Absent,
    /// It was not written since the revision that the question named, or the state has not come to that revision.
    Unchanged,
    /// It is this.
    Present(KeyValue),
}
