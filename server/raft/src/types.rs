//! The nouns of the protocol: terms, indexes, names of nodes, log entries and the hard state.
//!
//! Each number has a type of its own, so that an index can never be taken for a term or for a count. "None" is an
//! `Option` everywhere but in one place: [`Index::ZERO`] and [`Term::ZERO`] are the position before the first entry,
//! which the paper needs as the `prev_log_index` of that entry.

use bytes::Bytes;
use core::fmt;
use core::num::NonZeroU64;

/// Declares a number with a meaning: construction, access, and a plain number as its `Display`.
macro_rules! number {
    ($(#[$documentation:meta])* $name:ident) => {
        $(#[$documentation])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
        pub struct $name(u64);

        impl $name {
            /// Zero: before the first.
            pub const ZERO: $name = $name(0);

            /// Gives a plain number its meaning.
            pub const fn new(number: u64) -> $name {
                $name(number)
            }

            /// The plain number.
            pub const fn get(self) -> u64 {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, formatter)
            }
        }
    };
}

number! {
    /// A term (§5.1): the logical clock of the cluster, with at most one leader in each. Zero is before any election.
    Term
}

number! {
    /// A position in the log (§5.3). The first entry has index 1; zero is the position before it.
    Index
}

number! {
    /// The number of a [`Batch`](crate::Batch) handed out for persistence: 1, 2, 3… since the start of the process.
    /// Zero is before the first, and so always durable.
    BatchNumber
}

number! {
    /// The caller's name for a read. Raft hands it back and never looks into it.
    ReadId
}

impl Term {
    /// The term after this one, or `None` for the last that a `u64` can hold.
    pub const fn next(self) -> Option<Term> {
        match self.0.checked_add(1) {
            Some(number) => Some(Term(number)),
            None => None,
        }
    }
}

impl Index {
    /// The index after this one.
    ///
    /// # Panics
    /// At `u64::MAX`, which no log reaches: every index that goes through here is one of our own log, or was checked
    /// against it. Indexes that a peer sent go through [`Index::plus`].
    pub const fn next(self) -> Index {
        Index(self.0.checked_add(1).expect("a log of 2^64 entries does not exist"))
    }

    /// The index before this one, or `None` for the position before the first entry.
    pub const fn previous(self) -> Option<Index> {
        match self.0.checked_sub(1) {
            Some(number) => Some(Index(number)),
            None => None,
        }
    }

    /// The index `count` entries behind this one, or `None` if a `u64` cannot hold it.
    pub const fn plus(self, count: usize) -> Option<Index> {
        match self.0.checked_add(count as u64) {
            Some(number) => Some(Index(number)),
            None => None,
        }
    }
}

/// The name of a node: its random incarnation, never reused. A node that lost its disk comes back under another one,
/// because a node must never vote or acknowledge under a name whose promises it has forgotten.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct NodeId(NonZeroU64);

impl NodeId {
    /// A node of this number; zero names nobody.
    pub const fn new(number: u64) -> Option<NodeId> {
        match NonZeroU64::new(number) {
            Some(number) => Some(NodeId(number)),
            None => None,
        }
    }

    /// The plain number, never zero.
    pub const fn get(self) -> u64 {
        self.0.get()
    }
}

/// `n` and the number in hexadecimal: `n1` in a test, `n9f3c…` in a cluster.
impl fmt::Display for NodeId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "n{:x}", self.0)
    }
}

/// One entry of the log (§5.3).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Entry {
    /// The term of the leader that created it.
    pub term: Term,
    /// Its position. With the term it names the entry for good (Log Matching Property, §5.3).
    pub index: Index,
    /// What it says.
    pub payload: Payload,
}

/// What an entry says.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Payload {
    /// Nothing. A new leader writes one, because it may commit entries of earlier terms only through one of its own
    /// (§5.4.2) and cannot know what is committed before that (§8).
    Noop,
    /// A command for the state machine, opaque to Raft.
    Command(Bytes),
}

/// What an entry costs beside its command, in bytes: term, index, kind and length in memory and on the wire, rounded
/// up. Without it a flood of empty commands would pass every limit that is counted in bytes.
pub const ENTRY_OVERHEAD_BYTES: usize = 32;

impl Entry {
    /// What this entry counts against limits in bytes: its command and [`ENTRY_OVERHEAD_BYTES`].
    pub fn size_bytes(&self) -> usize {
        let command_bytes = match &self.payload {
            Payload::Noop => 0,
            Payload::Command(command) => command.len(),
        };
        command_bytes.saturating_add(ENTRY_OVERHEAD_BYTES)
    }
}

/// What must be durable before a promise is made (§5.1, Figure 2 "Persistent state on all servers"), beside the log.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct HardState {
    /// The latest term this node has seen.
    pub current_term: Term,
    /// The candidate that got this node's vote in `current_term`.
    pub voted_for: Option<NodeId>,
    /// A hint that lets a restarted node apply without waiting for a leader: these entries are known to be committed.
    /// It may be old. It is never ahead of the log written before it in the same order of writes.
    pub commit_index: Index,
}
