//! The ways in which a run can be wrong, each with its evidence.

use engine::AppliedKind;
use engine::kv::SessionId;
use raft::{Index, NodeId, Term};
use thiserror::Error;

/// A broken promise.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub(crate) enum Violation {
    #[error("Election Safety (§5.2): {first} and {second} both lead term {term}")]
    ElectionSafety { term: Term, first: NodeId, second: NodeId },
    #[error("Leader Append-Only (§5.3): {node} leads term {term} and changed its log behind index {after}")]
    LeaderAppendOnly { node: NodeId, term: Term, after: Index },
    #[error("Log Matching (§5.3): entry {index} of term {term} follows terms {first} and {second}")]
    LogMatching { index: Index, term: Term, first: Term, second: Term },
    #[error("Log Matching (§5.3): two different commands are entry {index} of term {term}")]
    LogMatchingCommand { index: Index, term: Term },
    #[error("Leader Completeness (§5.4): {node} leads term {term} without entry {index}, committed in term {in_term}")]
    LeaderCompleteness { node: NodeId, term: Term, index: Index, in_term: Term },
    #[error("State Machine Safety (§5.4.3): {node} committed entry {index} of term {found}, others of term {first}")]
    CommittedDiffers { node: NodeId, index: Index, first: Term, found: Term },
    #[error("State Machine Safety (§5.4.3): {node} applied {found:?} at {index}, others {first:?}")]
    AppliedDiffers { node: NodeId, index: Index, first: Box<(Term, AppliedKind)>, found: Box<(Term, AppliedKind)> },
    #[error("State Machine Safety (§5.3): {node} applied entry {found} where {expected} was due")]
    ApplyOrder { node: NodeId, expected: Index, found: Index },
    #[error("{node} went from term {from} back to {to}")]
    TermFell { node: NodeId, from: Term, to: Term },
    #[error("{node} went from commit index {from} back to {to}")]
    CommitFell { node: NodeId, from: Index, to: Index },
    #[error("{node} has commit index {commit_index}, beyond its last entry {last_index}")]
    CommitBeyondLog { node: NodeId, commit_index: Index, last_index: Index },
    #[error("{node} changed its log behind {after}, below its commit index {commit_index}")]
    CommittedTruncated { node: NodeId, after: Index, commit_index: Index },
    #[error("{node} voted for {first} and for {second} in term {term}")]
    VotedTwice { node: NodeId, term: Term, first: NodeId, second: NodeId },
    #[error("{node} leads term {term}, but its vote is for {voted_for:?}")]
    LeaderWithoutOwnVote { node: NodeId, term: Term, voted_for: Option<NodeId> },
    #[error("{node} is a learner and campaigns in term {term}")]
    LearnerCampaigns { node: NodeId, term: Term },
    #[error("committed entry {index} is on {holders} disks of {size}")]
    CommittedNotDurable { index: Index, holders: usize, size: usize },
    #[error("{node} accepted up to {promised} in term {term}, but only {durable} is on its disk")]
    AcceptedBeforeDurable { node: NodeId, term: Term, promised: Index, durable: Index },
    #[error("{node} restarted without entry {index}, which was on its disk")]
    DurableEntryLost { node: NodeId, index: Index },
    #[error("{node} restarted in term {found}, after it had promised something in term {promised}")]
    TermForgotten { node: NodeId, promised: Term, found: Term },
    #[error("{node} restarted with vote {found:?} in term {term}, after it had voted for {promised}")]
    VoteForgotten { node: NodeId, term: Term, promised: NodeId, found: Option<NodeId> },
    #[error("{node} takes {peer} to match up to {match_index} with {next_index} next; its log ends at {last_index}")]
    ProgressOutOfRange { node: NodeId, peer: NodeId, match_index: Index, next_index: Index, last_index: Index },
    #[error("{node} leads term {term} and takes {peer} to match up to {match_index}, which {peer} does not hold")]
    MatchIsWrong { node: NodeId, peer: NodeId, term: Term, match_index: Index },
    #[error("{node} leads term {term} and committed up to {index}, an entry of term {entry_term} (§5.4.2)")]
    CommittedOlderTerm { node: NodeId, term: Term, index: Index, entry_term: Term },
    #[error("{node} is in term {term}, and the terms of its log go from {before} to {found} at {index}")]
    TermsOutOfOrder { node: NodeId, term: Term, index: Index, before: Term, found: Term },
    #[error("{node} has another state than others after entry {index}")]
    StateDiffers { node: NodeId, index: Index },
    #[error("{node} applied up to {applied} but knows only {commit_index} to be committed")]
    AppliedBeyondCommit { node: NodeId, applied: Index, commit_index: Index },
    #[error("{node} acknowledged the write at {index} of term {term}, which is not committed there")]
    AcknowledgedNotCommitted { node: NodeId, index: Index, term: Term },
    #[error("the write at {index} of term {term} was reported dropped, and is committed")]
    DroppedCommitted { index: Index, term: Term },
    #[error("{node} answered ticket {ticket} without being asked, or twice")]
    AnsweredTwice { node: NodeId, ticket: u64 },
    #[error("an answer shows revision {found}, after another client had already been shown {floor}")]
    RevisionFell { floor: u64, found: u64 },
    #[error("a read that allows {max_age_ms} ms was answered with a state of {age_ms} ms")]
    TooOld { max_age_ms: u64, age_ms: u64 },
    #[error("a state that was said to be {age_ms} ms old has revision {found}, and {floor} was told before that")]
    StateOlderThanSaid { age_ms: u64, floor: u64, found: u64 },
    #[error("{node} answers under its lease of term {term}, and {leader} was elected in term {later}")]
    LeaseBroken { node: NodeId, term: Term, later: Term, leader: NodeId },
    #[error("{node}: {what} is at {count}, above its bound {bound}")]
    Unbounded { node: NodeId, what: &'static str, count: u64, bound: u64 },
    #[error("{node} refuses ticket {ticket} for want of room, and has room")]
    RefusedWithRoom { node: NodeId, ticket: u64 },
    #[error("{node} takes a put as entry {index}, and its disk is as good as full")]
    TakenWithoutRoom { node: NodeId, index: Index },
    #[error("{node} leads term {term} although its disk has not got on for {ticks} ticks")]
    StalledLeaderStays { node: NodeId, term: Term, ticks: u32 },
    #[error("{node} stopped without a failure of its disk: {reason}")]
    Stopped { node: NodeId, reason: String },
    #[error("{node} cannot start: {reason}")]
    CannotStart { node: NodeId, reason: String },
    #[error("{node} started although the record at byte {offset} of {file} was damaged")]
    RotMissed { node: NodeId, file: String, offset: u64 },
    #[error("{node} does not say where its disk is damaged ({damaged}): {said}")]
    RotMisplaced { node: NodeId, said: String, damaged: String },
    #[error("{node} changed its damaged disk before it refused to start: {said}")]
    RotTouched { node: NodeId, said: String },
    #[error("{node} has a snapshot of {snapshot}, and has applied only up to {applied}")]
    SnapshotBeyondApplied { node: NodeId, snapshot: Index, applied: Index },
    #[error("the log of {node} begins at {first}, and its newest snapshot covers only up to {snapshot}")]
    LogCutTooFar { node: NodeId, first: Index, snapshot: Index },
    #[error("{node} went from snapshot {snapshot_before} to {snapshot}, its log from {first_before} to {first}")]
    SnapshotFell { node: NodeId, snapshot_before: Index, snapshot: Index, first_before: Index, first: Index },
    #[error("the snapshot of {index} on {node} is wrong: {reason}")]
    SnapshotWrong { node: NodeId, index: Index, reason: String },
    #[error("{node} has forgotten what it promised, and {how}")]
    RecoveringTakesPart { node: NodeId, how: &'static str },
    #[error("{node} forgot what it promised up to term {forgotten} and takes part again without entry {index}")]
    RecoveredTooSoon { node: NodeId, index: Index, forgotten: Term },
    #[error("{node} has another state than the others, and still runs although they compared it at {index}")]
    DivergenceMissed { node: NodeId, index: Index },
    #[error("if the power failed now, {node} would not start as what it is: {reason}")]
    CrashWouldLose { node: NodeId, reason: String },
    #[error("without its snapshot of {newest}, {node} would not be what it is: {reason}")]
    NewestNotSpare { node: NodeId, newest: Index, reason: String },
    #[error("the recovered state of {node} does not have its hash")]
    HashWrong { node: NodeId },
    #[error("{node} applied {found} at {index}, and by the rules it is {expected}")]
    AppliedWrongly { node: NodeId, index: Index, expected: String, found: String },
    #[error("{node} applied entry {index}, and nobody told of one before it")]
    AppliedUntold { node: NodeId, index: Index },
    #[error("write {sequence} of session {session} was run as entry {first} and again as entry {second}")]
    RanTwice { session: SessionId, sequence: u64, first: Index, second: Index },
    #[error("the state of {node} after entry {index} is not what the log makes of it")]
    StateNotModel { node: NodeId, index: Index },
    #[error("on {node} there are {found}, and the clients counted {expected}")]
    CounterWrong { node: NodeId, expected: String, found: String },
    #[error("client {client} kept to the rules, and {how}")]
    ClientWronged { client: usize, how: String },
    #[error("the history is not linearizable: {explanation}")]
    NotLinearizable { explanation: String },
    #[error("the checker ran out of budget: {explanation}")]
    Undecided { explanation: String },
    #[error("no leader {waited_ms} ms after the network healed; election timeouts are up to {timeout_ms} ms")]
    NoLeader { waited_ms: u64, timeout_ms: u64 },
    #[error("no {what} was acknowledged {waited_ms} ms after a leader was there")]
    NotServing { what: &'static str, waited_ms: u64 },
    #[error("the healed majority had {changes} more leaders in {calm_ms} ms in which nothing happened")]
    LeaderNotKept { changes: u64, calm_ms: u64 },
    #[error("the members of the healed majority did not become equal within {waited_ms} ms: {state}")]
    NotConverged { waited_ms: u64, state: String },
    #[error("{count} operations still wait for an answer at the end")]
    Unanswered { count: usize },
    #[error("panic: {message}")]
    Panic { message: String },
}

impl Violation {
    /// What kind of thing is wrong, without the evidence.
    pub(crate) fn kind(&self) -> String {
        let text = format!("{self:?}");
        text.chars().take_while(|letter| letter.is_alphanumeric()).collect()
    }
}
