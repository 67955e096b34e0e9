//! Linearizable reads without the log: ReadIndex (§8, thesis §6.4).
//!
//! A leader may be deposed without knowing it, so before it answers a read it asks a majority whether its term still
//! is the latest. The question is a *round*: a number, unique in the term and carried by heartbeats. Whoever answers a
//! heartbeat of this round, or of a later one, had seen no later term after the round began. So what was committed at
//! the beginning of the round is at least as new as anything that any leader had acknowledged by then.
//!
//! Only one round is under way at a time. Reads that arrive meanwhile wait and share the next, because an answer to
//! the present round may have been given before they arrived. Under load one exchange of heartbeats confirms
//! thousands of reads. Followers ask the leader for theirs: see `read_index`.

use crate::error::{ReadError, Refused};
use crate::message::{Body, Question};
use crate::raft::{Raft, State};
use crate::replication::Leadership;
use crate::types::{Index, NodeId, ReadId, Term};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// How many reads may wait for confirmation. They cost eight bytes each here and more in whoever waits for them;
/// beyond this the node answers a read every few microseconds or is cut off, and more waiting helps neither.
pub const READS_MAX: usize = 65_536;

/// The reads of one leadership.
#[derive(Clone, Hash, Debug, Default)]
pub(crate) struct Reads {
    /// The last round started in this term.
    round: u64,
    under_way: Option<Round>,
    /// For the next round.
    waiting: Vec<ReadId>,
    /// The followers' questions for the next round: the last of each.
    asked: BTreeMap<NodeId, Question>,
}

/// Reads that wait for a majority to answer the last round.
#[derive(Clone, Hash, Debug)]
struct Round {
    number: u64,
    /// The commit index when the round began.
    index: Index,
    ids: Vec<ReadId>,
    asked: BTreeMap<NodeId, Question>,
}

impl Reads {
    pub(crate) fn round(&self) -> u64 {
        self.round
    }

    /// Begins a round of heartbeats, and returns its number.
    pub(crate) fn begin_round(&mut self) -> u64 {
        self.round += 1;
        self.round
    }

    /// How many reads are not confirmed.
    pub(crate) fn count(&self) -> usize {
        self.waiting.len() + self.under_way.as_ref().map_or(0, |round| round.ids.len())
    }

    /// Takes a read, if there is room.
    fn push(&mut self, id: ReadId) -> bool {
        let has_room = self.count() < READS_MAX;
        if has_room {
            self.waiting.push(id);
        }
        has_room
    }

    /// A follower asks for its own reads. Whoever asks anew has given its earlier question up.
    pub(crate) fn ask_for(&mut self, follower: NodeId, question: Question) {
        let is_under_way = |round: &Round| round.asked.get(&follower) == Some(&question);
        if !self.under_way.as_ref().is_some_and(is_under_way) {
            self.asked.insert(follower, question);
        }
    }

    /// The followers whose questions wait.
    pub(crate) fn askers(&self) -> impl Iterator<Item = NodeId> {
        let under_way = self.under_way.iter().flat_map(|round| round.asked.keys());
        under_way.chain(self.asked.keys()).copied()
    }

    /// Leadership is lost: all reads that can no longer be confirmed, oldest first.
    pub(crate) fn abort(&mut self) -> Vec<ReadId> {
        let mut ids = self.under_way.take().map_or(Vec::new(), |round| round.ids);
        ids.append(&mut self.waiting);
        ids
    }
}

impl Raft {
    /// Asks for a linearizable read. It comes back in [`Ready::reads`](crate::Ready) with the index that must be
    /// applied first, or in [`Ready::aborted_reads`](crate::Ready).
    ///
    /// # Errors
    /// If this node neither leads nor knows who does, or too many reads wait already. Then `id` will not come back.
    pub fn read(&mut self, id: ReadId) -> Result<(), ReadError> {
        let taken = match &mut self.state {
            State::Leader(leadership) => leadership.reads.push(id),
            State::Follower { leader: Some(_), asking, .. } => asking.push(id),
            State::Follower { leader: None, .. } | State::PreCandidate { .. } | State::Candidate { .. } => {
                return Err(ReadError::NoLeader);
            }
        };
        if taken { Ok(()) } else { Err(ReadError::TooManyReads) }
    }

    /// Whether this node, which leads, knows all that is committed.
    pub(crate) fn knows_commits(&self) -> bool {
        // SAFETY(raft §8): before an entry of its own term is committed, a leader does not know what else is.
        self.log.matches(self.log.commit_index(), self.current_term)
    }

    /// Whether a round has to begin.
    pub(crate) fn is_read_round_due(&self) -> bool {
        let State::Leader(Leadership { reads, .. }) = &self.state else {
            return false;
        };
        let is_wanted = !reads.waiting.is_empty() || !reads.asked.is_empty();
        reads.under_way.is_none() && is_wanted && self.knows_commits()
    }

    /// Begins a round for all reads that wait, if there is one to begin.
    pub(crate) fn maybe_start_read_round(&mut self) {
        if !self.is_read_round_due() {
            return;
        }
        let State::Leader(Leadership { reads, .. }) = &mut self.state else {
            return;
        };
        let number = reads.begin_round();
        let (ids, asked) = (core::mem::take(&mut reads.waiting), core::mem::take(&mut reads.asked));
        reads.under_way = Some(Round { number, index: self.log.commit_index(), ids, asked });
        // A leader that is a majority by itself has its answer already.
        if !self.maybe_confirm_reads() {
            self.send_heartbeats();
        }
    }

    /// HeartbeatResponse: the follower is alive, and its term was ours when the round reached it.
    pub(crate) fn handle_heartbeat_response(
        &mut self,
        from: NodeId,
        term: Term,
        round: u64,
        promised: bool,
    ) -> Result<(), Refused> {
        if !self.accepts_answer(term)? {
            return Ok(());
        }
        let State::Leader(leadership) = &mut self.state else {
            return Err(Refused::UnexpectedKind);
        };
        if round > leadership.reads.round {
            return Err(Refused::UnknownRound);
        }
        let peer = leadership.progress.get_mut(&from).ok_or(Refused::UnknownSender)?;
        peer.heard_at = self.now;
        peer.round_confirmed = peer.round_confirmed.max(round);
        if promised {
            peer.promised_round = peer.promised_round.max(round);
        }
        peer.heartbeat_answered(self.log.last_index());
        self.maybe_confirm_reads();
        Ok(())
    }

    /// Lets the reads of the round go if a majority has answered it; whether it did.
    fn maybe_confirm_reads(&mut self) -> bool {
        let State::Leader(leadership) = &mut self.state else {
            return false;
        };
        let own_round = leadership.reads.round;
        let confirmed = leadership.majority_value(&self.configuration, own_round, |peer| peer.round_confirmed);
        let is_confirmed = |round: &Round| round.number <= confirmed;
        let under_way = &mut leadership.reads.under_way;
        let Some(Round { index, ids, asked, .. }) = under_way.take_if(|round| is_confirmed(round)) else {
            return false;
        };
        self.outbox.reads.extend(ids.into_iter().map(|id| (id, index)));
        for (follower, question) in asked {
            self.send(follower, self.current_term, Body::ReadIndexResponse { question, index });
        }
        true
    }
}
