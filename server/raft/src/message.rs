//! What nodes say to each other: the specification of the protocol, one variant a message.
//!
//! Any message may be lost, doubled, delayed for ever or overtaken by a later one. Each variant says who sends it,
//! when, and what it promises. [`Message::check_form`] is the gate for what can be judged without knowing the
//! receiver; behind it the handlers may rely on the form and check the rest against their own state.

use crate::error::Refused;
use crate::types::{Entry, Index, NodeId, Term};
use alloc::vec::Vec;

/// A message from one node to another.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Message {
    /// Who sends it.
    pub from: NodeId,
    /// Whom it is for.
    pub to: NodeId,
    /// The sender's current term, with two exceptions, both of the pre-vote (thesis §9.6): the request carries the
    /// term that the sender *would* campaign in (its own plus one, which nobody adopts), and an answer that grants
    /// repeats it. An answer that refuses carries the responder's own term, so that the asker can catch up.
    pub term: Term,
    /// What it says.
    pub body: Body,
}

/// What a message says.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Body {
    /// A candidate asks for a vote (§5.2, §5.4.1), or, with `pre_vote`, whether it would get one (thesis §9.6). The
    /// candidate's own vote is durable before a real request leaves.
    RequestVote {
        /// Only asks; neither side changes its term or its vote for it.
        pre_vote: bool,
        /// Index of the candidate's last entry, zero if its log is empty.
        last_log_index: Index,
        /// Term of that entry, zero if there is none.
        last_log_term: Term,
        /// The leader itself asked for this election with `TimeoutNow` (thesis §3.10), so it may disturb a leader
        /// that is alive. Never together with `pre_vote`.
        leadership_transfer: bool,
    },
    /// The answer. A real grant is a promise and leaves when the vote is durable.
    RequestVoteResponse {
        /// Answers a pre-vote.
        pre_vote: bool,
        /// Yes or no.
        granted: bool,
    },
    /// The leader replicates entries (§5.3). Without entries it tests whether the logs match at `prev_log_index`,
    /// and tells `leader_commit`.
    AppendEntries {
        /// The position just before `entries`; zero before the first entry of the log.
        prev_log_index: Index,
        /// The term of the leader's entry there; zero exactly if the index is.
        prev_log_term: Term,
        /// The entries behind it, contiguous, their terms never falling and none above the message's.
        entries: Vec<Entry>,
        /// The leader's commit index; may lie far behind what this message carries, or ahead of it.
        leader_commit: Index,
    },
    /// The answer. An acceptance is a promise and leaves when the entries are durable.
    AppendEntriesResponse(AppendResult),
    /// The leader is alive (§5.2). Carries no entries, so it is never stuck behind bulk.
    Heartbeat {
        /// The least of the leader's commit index and its match index for this follower: what the follower has for
        /// sure and may commit.
        commit_index: Index,
        /// The leader's latest round of ReadIndex (thesis §6.4) in this term; zero if there was none.
        round: u64,
    },
    /// The answer: the sender's term is still that of the message, so no later leader was elected with its vote when
    /// `round` reached it.
    HeartbeatResponse {
        /// The heartbeat's round.
        round: u64,
        /// The sender votes for nobody for the shortest election timeout, counted from when it received the heartbeat,
        /// unless the leader itself asks for an election (thesis §6.4.1).
        promised: bool,
    },
    /// The leader's log begins behind what the follower needs next: tells which snapshot it has (§7). The follower's
    /// driver fetches the bytes, from whom it likes. Repeated while the follower answers heartbeats, until it has the
    /// log up to that index, durably, and answers with an acceptance up to there.
    InstallSnapshot {
        /// The last index that the leader's snapshot covers.
        last_included_index: Index,
        /// The term of the entry there.
        last_included_term: Term,
    },
    /// The leader asks a follower that has its whole log to campaign at once (thesis §3.10).
    TimeoutNow,
    /// A follower asks its leader how far a state must be that a linearizable read may be served from (thesis §6.4).
    /// The reads had begun when it asked for the first time, and it is in the message's term.
    ReadIndex {
        /// Which question it is; the same when it is asked again.
        question: Question,
    },
    /// The answer: no write was acknowledged behind `index` when the question was asked.
    ReadIndexResponse {
        /// The question.
        question: Question,
        /// The leader's commit index, as it was after the question came.
        index: Index,
    },
}

/// Tells a follower's questions apart, those of its earlier processes included.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Question {
    /// The number of the process that asks: its [`Options::seed`](crate::Options).
    pub process: u64,
    /// The number of the question in that process.
    pub number: u64,
}

/// The two answers to `AppendEntries`. The first answers `InstallSnapshot` as well, the second only one of an earlier
/// term.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum AppendResult {
    /// The logs match up to here, and the sender holds these entries durably.
    Accepted {
        /// The last entry of the accepted message, or its `prev_log_index` if it had none; the last index of a
        /// snapshot that was offered.
        match_index: Index,
    },
    /// The sender has no entry of that term at `prev_log_index` (§5.3), or it is in a later term.
    Rejected {
        /// The `prev_log_index` that was rejected; tells the leader which of its messages this answers.
        prev_log_index: Index,
        /// Where the logs may match: the sender's last entry before `prev_log_index` whose term is not above the
        /// leader's `prev_log_term`. A whole term of conflicts is skipped in one step (end of §5.3).
        hint_index: Index,
        /// The term of the sender's entry at `hint_index`, zero exactly if the index is.
        hint_term: Term,
    },
}

impl Body {
    /// The name of the kind, for counters and traces.
    pub const fn kind(&self) -> &'static str {
        match self {
            Body::RequestVote { pre_vote: true, .. } => "RequestPreVote",
            Body::RequestVote { .. } => "RequestVote",
            Body::RequestVoteResponse { pre_vote: true, .. } => "RequestPreVoteResponse",
            Body::RequestVoteResponse { .. } => "RequestVoteResponse",
            Body::AppendEntries { .. } => "AppendEntries",
            Body::AppendEntriesResponse(_) => "AppendEntriesResponse",
            Body::Heartbeat { .. } => "Heartbeat",
            Body::HeartbeatResponse { .. } => "HeartbeatResponse",
            Body::InstallSnapshot { .. } => "InstallSnapshot",
            Body::TimeoutNow => "TimeoutNow",
            Body::ReadIndex { .. } => "ReadIndex",
            Body::ReadIndexResponse { .. } => "ReadIndexResponse",
        }
    }
}

impl Message {
    /// Whether the message makes sense by itself, whoever receives it.
    pub(crate) fn check_form(&self) -> Result<(), Refused> {
        if self.term == Term::ZERO {
            return Err(Refused::TermZero);
        }
        match &self.body {
            Body::RequestVote { pre_vote, last_log_index, last_log_term, leadership_transfer } => {
                // A candidate's entries are older than the term it campaigns in.
                let position = is_position(*last_log_index, *last_log_term) && *last_log_term < self.term;
                if !position || (*pre_vote && *leadership_transfer) {
                    return Err(Refused::MalformedVote);
                }
                Ok(())
            }
            Body::AppendEntries { prev_log_index, prev_log_term, entries, .. } => {
                self.check_entries(*prev_log_index, *prev_log_term, entries)
            }
            Body::AppendEntriesResponse(AppendResult::Rejected { prev_log_index, hint_index, hint_term }) => {
                let position = is_position(*hint_index, *hint_term) && *hint_term <= self.term;
                if !position || hint_index > prev_log_index {
                    return Err(Refused::MalformedResponse);
                }
                Ok(())
            }
            Body::InstallSnapshot { last_included_index, last_included_term } => {
                // It becomes somebody's last index, so it must have a successor.
                let in_range = *last_included_index > Index::ZERO && last_included_index.plus(1).is_some();
                if !in_range || *last_included_term == Term::ZERO || *last_included_term > self.term {
                    return Err(Refused::MalformedSnapshot);
                }
                Ok(())
            }
            Body::AppendEntriesResponse(AppendResult::Accepted { .. })
            | Body::RequestVoteResponse { .. }
            | Body::Heartbeat { .. }
            | Body::HeartbeatResponse { .. }
            | Body::TimeoutNow
            | Body::ReadIndex { .. }
            | Body::ReadIndexResponse { .. } => Ok(()),
        }
    }

    /// Entries are contiguous behind the previous position, with terms that never fall and never pass the sender's.
    fn check_entries(&self, prev_index: Index, prev_term: Term, entries: &[Entry]) -> Result<(), Refused> {
        // The last index must have a successor: it becomes the next index of whoever continues this log.
        let in_range = prev_index.plus(entries.len()).is_some_and(|last| last.plus(1).is_some());
        if !in_range || !is_position(prev_index, prev_term) {
            return Err(Refused::MalformedEntries);
        }
        let (mut index, mut term) = (prev_index, prev_term);
        for entry in entries {
            if entry.index != index.next() || entry.term < term || entry.term == Term::ZERO {
                return Err(Refused::MalformedEntries);
            }
            (index, term) = (entry.index, entry.term);
        }
        if term > self.term {
            return Err(Refused::MalformedEntries);
        }
        Ok(())
    }
}

/// Index and term name a position in a log only if both are zero or neither is.
fn is_position(index: Index, term: Term) -> bool {
    (index == Index::ZERO) == (term == Term::ZERO)
}
