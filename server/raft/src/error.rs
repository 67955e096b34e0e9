//! What can go wrong, one enum an operation.
//!
//! None of these is a broken invariant: that panics. [`Refused`] is a message that changed nothing, the others are
//! answers to the node's own callers.

use crate::configuration::ConfigurationError;
use crate::types::NodeId;
use core::fmt;

/// Why a peer's message was dropped. Nothing changed; the driver counts it by [`Refused::as_str`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Refused {
    /// It is addressed to another node.
    NotForUs,
    /// It claims to come from this node itself.
    FromSelf,
    /// Its sender is no member of the configuration.
    UnknownSender,
    /// Only a voter may say this, or be told it.
    NotAVoter,
    /// Its term is zero, in which nothing is ever said.
    TermZero,
    /// Its term has no successor, or is more than 2^32 ahead of ours: a damaged frame, which must not wedge the
    /// cluster by using up its terms.
    TermTooFarAhead,
    /// An answer from an earlier term.
    StaleTerm,
    /// A vote request whose fields contradict each other.
    MalformedVote,
    /// Entries that are not contiguous, or whose terms fall or pass the message's, or indexes beyond `u64`.
    MalformedEntries,
    /// An offered snapshot of nothing, or whose last entry is of a later term than the message.
    MalformedSnapshot,
    /// An answer whose fields contradict each other or what was asked.
    MalformedResponse,
    /// A heartbeat commits entries that this node does not have.
    CommitBeyondLog,
    /// A follower claims entries that this leader does not have.
    MatchBeyondLog,
    /// An answer to a round of ReadIndex that was never started, or to a question that is not under way.
    UnknownRound,
    /// It claims to be the leader of a term that has another one.
    TwoLeaders,
    /// It would overwrite a committed entry, or tells of a snapshot with another one.
    ContradictsCommitted,
    /// A vote is asked for, or a later term told in answer to an old request, while a leader is alive (leader
    /// stickiness, §6 and thesis §4.2.3).
    LeaderAlive,
    /// Only this node's leader may say this.
    NotOurLeader,
    /// It asks to take over from a node whose disk stands still.
    DiskStalled,
    /// It asks to take over from a node that has forgotten what it promised.
    Recovering,
    /// An answer to something that this node did not ask in this term and role.
    UnexpectedKind,
}

impl Refused {
    /// A short name, for counters and traces.
    pub const fn as_str(self) -> &'static str {
        match self {
            Refused::NotForUs => "not_for_us",
            Refused::FromSelf => "from_self",
            Refused::UnknownSender => "unknown_sender",
            Refused::NotAVoter => "not_a_voter",
            Refused::TermZero => "term_zero",
            Refused::TermTooFarAhead => "term_too_far_ahead",
            Refused::StaleTerm => "stale_term",
            Refused::MalformedVote => "malformed_vote",
            Refused::MalformedEntries => "malformed_entries",
            Refused::MalformedSnapshot => "malformed_snapshot",
            Refused::MalformedResponse => "malformed_response",
            Refused::CommitBeyondLog => "commit_beyond_log",
            Refused::MatchBeyondLog => "match_beyond_log",
            Refused::UnknownRound => "unknown_round",
            Refused::TwoLeaders => "two_leaders",
            Refused::ContradictsCommitted => "contradicts_committed",
            Refused::LeaderAlive => "leader_alive",
            Refused::NotOurLeader => "not_our_leader",
            Refused::DiskStalled => "disk_stalled",
            Refused::Recovering => "recovering",
            Refused::UnexpectedKind => "unexpected_kind",
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// Why a command did not enter the log. It was not applied and never will be.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ProposeError {
    /// This node does not lead.
    NotLeader {
        /// Who does, as far as this node knows.
        leader: Option<NodeId>,
    },
    /// [`Options::uncommitted_bytes_max`](crate::Options) of entries wait for a majority already.
    TooManyUncommitted,
    /// Leadership is on its way to another node (thesis §3.10); ask that one, or again after an election timeout.
    Transferring,
}

/// Why a read was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ReadError {
    /// This node does not know who leads.
    NoLeader,
    /// [`READS_MAX`](crate::READS_MAX) reads wait for confirmation already.
    TooManyReads,
}

/// Why a leadership transfer did not start.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum TransferError {
    /// This node does not lead.
    NotLeader {
        /// Who does, as far as this node knows.
        leader: Option<NodeId>,
    },
    /// The target is a learner or no member at all.
    NotAVoter,
    /// The target leads already.
    ToSelf,
    /// Another transfer is under way.
    InProgress,
}

/// Why a node cannot be set up from what it was given.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SetupError {
    /// An option is zero that must not be, or election timeouts and heartbeats do not fit each other; says which.
    Options(&'static str),
    /// The configuration is not well formed.
    Configuration(ConfigurationError),
    /// The node is no member of the configuration.
    NotAMember(NodeId),
    /// The parts of the restored log contradict each other; says how.
    Log(&'static str),
    /// The terms in which promises were forgotten leave no term to go on in.
    ForgottenTerm,
}

impl fmt::Display for ProposeError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProposeError::NotLeader { leader } => not_leader(formatter, *leader),
            ProposeError::TooManyUncommitted => formatter.write_str("too many uncommitted bytes"),
            ProposeError::Transferring => formatter.write_str("leadership is being transferred"),
        }
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::NoLeader => not_leader(formatter, None),
            ReadError::TooManyReads => formatter.write_str("too many reads wait for confirmation"),
        }
    }
}

impl fmt::Display for TransferError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TransferError::NotLeader { leader } => not_leader(formatter, *leader),
            TransferError::NotAVoter => formatter.write_str("the target is not a voter"),
            TransferError::ToSelf => formatter.write_str("the target leads already"),
            TransferError::InProgress => formatter.write_str("another transfer is under way"),
        }
    }
}

impl fmt::Display for SetupError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SetupError::Options(what) => write!(formatter, "invalid option: {what}"),
            SetupError::Configuration(error) => write!(formatter, "invalid configuration: {error}"),
            SetupError::NotAMember(id) => write!(formatter, "{id} is not a member of the configuration"),
            SetupError::Log(what) => write!(formatter, "the restored log is inconsistent: {what}"),
            SetupError::ForgottenTerm => formatter.write_str("there is no term behind the forgotten ones"),
        }
    }
}

/// The common words of the errors that name a leader.
fn not_leader(formatter: &mut fmt::Formatter<'_>, leader: Option<NodeId>) -> fmt::Result {
    match leader {
        Some(leader) => write!(formatter, "not the leader, {leader} is"),
        None => formatter.write_str("not the leader, and no leader is known"),
    }
}

impl core::error::Error for Refused {}
impl core::error::Error for ProposeError {}
impl core::error::Error for ReadError {}
impl core::error::Error for TransferError {}
impl core::error::Error for SetupError {}
