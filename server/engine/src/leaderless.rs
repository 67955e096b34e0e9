//! What replicas say to each other so that a read needs no leader: what each knows of a key.
//!
//! The protocol and why it is safe are in `raft::quorum_read`; who asks and who answers, in `replica/quorum_reads`. All
//! of it may be lost, doubled or late. A node answers at once, from what it has, and remembers nothing of it.

use bytes::Bytes;
use raft::{ConfigurationId, Index, NodeId, Witness};

use crate::kv::{KEY_BYTES_MAX, VALUE_BYTES_MAX};

pub use crate::kv::Revision;

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

impl Ask {
    /// Whether it is one that a replica sends: with some questions and not too many, each for a key that can be.
    pub fn is_sound(&self) -> bool {
        let of_a_size = |(_, key): &(u64, Bytes)| (1..=KEY_BYTES_MAX).contains(&key.len());
        (1..=QUESTIONS_MAX).contains(&self.questions.len())
            && exists(self.revision)
            && self.questions.iter().all(of_a_size)
    }
}

/// Whether a store can have that revision.
fn exists(revision: Revision) -> bool {
    revision > Revision::new(0)
}

/// What one replica knows: its log and its state at one moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tell {
    /// The [`Ask`]'s.
    pub process: u64,
    /// The configuration that the replica goes by.
    pub configuration: ConfigurationId,
    /// The last entry applied to the state that was looked into.
    pub applied: Index,
    /// The revision of that state.
    pub revision: Revision,
    /// Its replicated time, in milliseconds.
    pub time_ms: u64,
    /// The questions' numbers, each with what is known of its key.
    pub answers: Vec<(u64, Known)>,
}

impl Tell {
    /// Whether it is one that a replica sends: with not too many answers, each with a value that can be.
    pub fn is_sound(&self) -> bool {
        self.answers.len() <= QUESTIONS_MAX
            && exists(self.revision)
            && self.answers.iter().all(|(_, known)| known.value.is_sound())
    }

    /// What the replica says of its log about a key.
    pub fn witness(&self, known: &Known) -> Witness {
        Witness { configuration: self.configuration, applied: self.applied, pending: known.pending }
    }
}

/// What a replica knows of one key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Known {
    /// The last entry of its log behind the applied ones that may touch the key; zero if none does.
    pub pending: Index,
    /// The key in its state.
    pub value: Told,
}

/// A key in a replica's state.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Told {
    /// It is not there.
    Absent,
    /// It was not written since the revision that the question named, or the state has not come to that revision.
    Unchanged,
    /// It was written since.
    Present {
        /// The value.
        value: Bytes,
        /// The revision of the write that created the key.
        create_revision: Revision,
        /// The revision of the last write to the key.
        mod_revision: Revision,
        /// The number of writes since the key was created.
        version: u64,
    },
}

impl Told {
    fn is_sound(&self) -> bool {
        let Told::Present { value, create_revision, mod_revision, version } = self else { return true };
        let in_order = exists(*create_revision) && create_revision <= mod_revision && *version > 0;
        value.len() <= VALUE_BYTES_MAX && in_order
    }
}
