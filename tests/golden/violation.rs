//! The ways in which a run can be wrong whatever its script says, each with its evidence.

use std::collections::BTreeSet;
use std::fmt;

use raft::{Index, NodeId, ReadId, Term};

/// A broken invariant. The first five are the paper's Figure 3.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Violation {
    /// Two leaders in one term (section 5.2).
    ElectionSafety { term: Term, first: NodeId, second: NodeId },
    /// A leader overwrote or deleted an entry of its log (section 5.3).
    LeaderAppendOnly { node: NodeId, term: Term },
    /// Two logs agree on an entry but not on what is before it (section 5.3).
    LogMatching { one: NodeId, other: NodeId, index: Index },
    /// A leader lacks an entry that was committed in an earlier term (section 5.4).
    LeaderCompleteness { node: NodeId, term: Term, index: Index },
    /// A node committed or applied an entry where another one was committed (section 5.4.3).
    StateMachineSafety { node: NodeId, index: Index },
    /// A node applied an entry out of order or twice (section 5.3).
    ApplyOrder { node: NodeId, index: Index, expected: Index },
    /// A committed entry is no longer on the disks of a majority (section 5.1: persistent state).
    CommittedEntryLost { index: Index, holders: BTreeSet<NodeId> },
    /// A node's current term went back (section 5.1).
    TermFell { node: NodeId, from: Term, to: Term },
    /// A node's commit index went back (Figure 2).
    CommitFell { node: NodeId, from: Index, to: Index },
    /// A node's commit index is beyond its log.
    CommitBeyondLog { node: NodeId, commit_index: Index },
    /// A node forgot or changed its vote within a term (section 5.2).
    VoteChanged { node: NodeId, term: Term, first: NodeId },
    /// A node voted for two candidates in one term (section 5.2).
    DoubleVote { node: NodeId, term: Term, first: NodeId, second: NodeId },
    /// A leader did not vote for itself.
    LeaderWithoutOwnVote { node: NodeId, term: Term },
    /// A vote or an acceptance left before what it promises was durable (Figure 2: persistent state).
    PromiseBeforeDurable { message: String },
    /// The machine changed its log without handing the change out to be persisted.
    LogNotHandedOut { node: NodeId, last_index: Index },
    /// A read was confirmed at an index below what was committed when it was asked (section 8).
    StaleRead { node: NodeId, read: ReadId, at: Index, committed: Index },
    /// A read was answered that was not under way.
    ReadAnsweredTwice { node: NodeId, read: ReadId },
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("INVARIANT BROKEN: ")?;
        match self {
            Violation::ElectionSafety { term, first, second } => {
                write!(formatter, "election safety: {first} and {second} both lead term {term}")
            }
            Violation::LeaderAppendOnly { node, term } => {
                write!(formatter, "leader append-only: {node} rewrote its log while it led term {term}")
            }
            Violation::LogMatching { one, other, index } => {
                write!(formatter, "log matching: {one} and {other} differ at {index} and agree later")
            }
            Violation::LeaderCompleteness { node, term, index } => {
                write!(formatter, "leader completeness: {node} leads term {term} without the committed {index}")
            }
            Violation::StateMachineSafety { node, index } => {
                write!(formatter, "state machine safety: {node} has another entry than was committed at {index}")
            }
            Violation::ApplyOrder { node, index, expected } => {
                write!(formatter, "apply order: {node} applied {index} where {expected} is next")
            }
            Violation::CommittedEntryLost { index, holders } => {
                write!(formatter, "committed entry lost: {index} is durable only on {holders:?}")
            }
            Violation::TermFell { node, from, to } => {
                write!(formatter, "term fell: {node} went from {from} to {to}")
            }
            Violation::CommitFell { node, from, to } => {
                write!(formatter, "commit index fell: {node} went from {from} to {to}")
            }
            Violation::CommitBeyondLog { node, commit_index } => {
                write!(formatter, "commit beyond the log: {node} commits {commit_index}")
            }
            Violation::VoteChanged { node, term, first } => {
                write!(formatter, "vote changed: {node} had voted for {first} in term {term}")
            }
            Violation::DoubleVote { node, term, first, second } => {
                write!(formatter, "double vote: {node} voted for {first} and {second} in term {term}")
            }
            Violation::LeaderWithoutOwnVote { node, term } => {
                write!(formatter, "leader without its own vote: {node} in term {term}")
            }
            Violation::PromiseBeforeDurable { message } => {
                write!(formatter, "promise before durable: {message}")
            }
            Violation::LogNotHandedOut { node, last_index } => {
                write!(formatter, "log not handed out: {node} says its log ends at {last_index}")
            }
            Violation::StaleRead { node, read, at, committed } => {
                write!(formatter, "stale read: {node} confirmed r{read} at {at} where {committed} was committed")
            }
            Violation::ReadAnsweredTwice { node, read } => {
                write!(formatter, "read answered twice: {node} answered r{read}, which is not under way")
            }
        }
    }
}

impl From<Violation> for String {
    fn from(violation: Violation) -> String {
        violation.to_string()
    }
}
