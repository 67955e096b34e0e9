//! What comes out of a replica for clients and for people: answers to tickets, and events.

use std::num::NonZeroU64;

use bytes::Bytes;
use raft::{Index, NodeId, Payload, Term};

use crate::kv::command::decode;
use crate::kv::{Applied, Command, InvalidCommand, KeyValue, Revision, Settings, Store};

/// Names a client that waits for an answer. Given by whoever drives the replica; never given twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Ticket(u64);

impl Ticket {
    /// A ticket from its number.
    pub const fn new(ticket: u64) -> Ticket {
        Ticket(ticket)
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// The answer to a ticket. No ticket gets two, except that a write's answer is preceded by [`Answer::Proposed`].
///
/// What an answer says about a write is certain: [`Answer::Written`] has happened, every other one but `Proposed` says
/// that the command was not applied and never will be. A write that is `Proposed` and has no further answer is in the
/// log of this node and may or may not happen; whoever gives up waiting must report its outcome as unknown.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// The write is in the leader's log; its real answer follows. From here on it may happen even if nobody waits.
    Proposed {
        /// The leader's term.
        term: Term,
        /// The write's place in the log.
        index: Index,
    },
    /// The write is committed and applied, with this result; or an earlier copy of it was.
    Written(Applied),
    /// The read was served.
    Read(ReadResult),
    /// This node does not lead, so it took neither a write nor a read.
    NotLeader {
        /// Who leads, as far as this node knows.
        leader: Option<NodeId>,
        /// This node's term.
        term: Term,
    },
    /// Too much is waiting already; nothing was proposed or read.
    Overloaded,
    /// The disk is almost full, and the write needs room; nothing was proposed.
    StorageFull,
    /// Leadership is being handed over; nothing was proposed.
    Transferring,
    /// The command is out of the limits; nothing was proposed.
    Invalid(InvalidCommand),
    /// The write lost its place in the log to another leader's entry: it was never applied and never will be.
    Dropped {
        /// The term of the committed entry that proves it.
        term: Term,
    },
    /// Leadership was lost, or the leader, before the read was confirmed; nothing was served.
    ReadAborted,
    /// This node's own state may be older than the read allows, or is; nothing was served.
    TooStale {
        /// How old it can be at most, in milliseconds; none if nothing is proven.
        age_ms: Option<NonZeroU64>,
        /// Its revision.
        revision: Revision,
    },
}

/// How fresh a read has to be, and whom that is asked of.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Consistency {
    /// It sees every write that was acknowledged before it began: a leader says how far that is.
    #[default]
    Linearizable,
    /// The same for its key, from a majority and without a leader.
    Quorum,
    /// It sees one node's own state as it is, which may be an earlier one, and asks no other node for it: see
    /// [`StaleBounds`](super::StaleBounds).
    Stale {
        /// How old that state may be, in milliseconds; as old as it is, if there is no bound.
        max_age_ms: Option<u64>,
    },
}

/// What a read found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReadResult {
    /// The key, if it exists.
    pub kv: Option<KeyValue>,
    /// The revision of the store that was read.
    pub revision: Revision,
    /// Whose store it was.
    pub replica: NodeId,
    /// The replicated time of that store, in milliseconds.
    pub time_ms: u64,
    /// How old the store can have been at most when the read arrived, in milliseconds, if that was asked and is proven.
    /// Never zero, which keeps answers small: lists of many are moved about.
    pub age_ms: Option<NonZeroU64>,
}

impl ReadResult {
    /// What is found under `key` in the store of `replica`.
    pub(super) fn of(replica: NodeId, store: &Store, key: &[u8]) -> ReadResult {
        let (kv, revision, time_ms) = (store.get(key), store.revision(), store.time_ms());
        ReadResult { kv, revision, replica, time_ms, age_ms: None }
    }
}

/// Something that happened, told for people. All but [`Event::Raft`] are told only while narrating.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// An event of the consensus core.
    Raft(raft::Event),
    /// Entries were appended to this node's log (in memory; [`Event::Durable`] follows when they are on its disk).
    Appended {
        /// The first of them.
        first: Index,
        /// The last of them.
        last: Index,
    },
    /// This node's log is durable up to here.
    Durable {
        /// The last durable entry.
        index: Index,
    },
    /// This node learnt that the log is committed up to here.
    Committed {
        /// The last committed entry.
        index: Index,
    },
    /// A committed entry was applied to this node's state.
    Applied {
        /// Its index.
        index: Index,
        /// Its term.
        term: Term,
        /// What it did.
        what: AppliedKind,
        /// The command and its result to the byte, for who checks them; none for a new leader's first entry.
        command: Option<Box<AppliedCommand>>,
    },
}

/// A command that was applied, with its result.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AppliedCommand {
    /// The command as it stands in the log.
    pub encoded: Bytes,
    /// What whoever asked for it is answered.
    pub applied: Applied,
}

/// What an applied entry did to the state.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AppliedKind {
    /// Nothing: a new leader's first entry.
    Noop,
    /// It wrote a key.
    Put {
        /// The key.
        key: Bytes,
        /// The store's revision after it.
        revision: Revision,
    },
    /// It removed a key.
    Deleted {
        /// The key.
        key: Bytes,
        /// The store's revision after it.
        revision: Revision,
    },
    /// Its condition did not hold, or its request id did not let it run, so it changed nothing.
    Rejected {
        /// The key.
        key: Bytes,
    },
    /// It settled the outcome of a write.
    Settled,
    /// It changed a setting of the cluster.
    Configured {
        /// All settings after it; none if its request id did not let it run, so that it changed nothing.
        settings: Option<Settings>,
    },
}

/// What an entry did, for who checks it.
pub(super) fn applied_command(payload: &Payload, applied: Option<&Applied>) -> Option<Box<AppliedCommand>> {
    let (Payload::Command(encoded), Some(applied)) = (payload, applied) else { return None };
    Some(Box::new(AppliedCommand { encoded: encoded.clone(), applied: applied.clone() }))
}

/// What an entry did, for people.
pub(super) fn applied_kind(payload: &Payload, applied: Option<&Applied>) -> AppliedKind {
    let (Payload::Command(encoded), Some(applied)) = (payload, applied) else {
        return AppliedKind::Noop;
    };
    let (_, request) = decode(encoded).expect("it was just applied");
    let key = match request.command {
        Command::Put { key, .. } | Command::Delete { key, .. } => key,
        Command::Settle => return AppliedKind::Settled,
        Command::Configure { .. } => {
            let settings = if let Applied::Configured { settings } = applied { Some(*settings) } else { None };
            return AppliedKind::Configured { settings };
        }
    };
    match applied {
        Applied::Put { revision, .. } => AppliedKind::Put { key, revision: *revision },
        Applied::Deleted { revision, .. } => AppliedKind::Deleted { key, revision: *revision },
        Applied::Rejected(_) | Applied::Refused(_) => AppliedKind::Rejected { key },
        Applied::Settled(_) | Applied::Configured { .. } => unreachable!("a command about a key is none of these"),
    }
}
