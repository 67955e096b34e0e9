//! Linearizable reads at a follower: the leader says how far the follower's state has to be (thesis §6.4).
//!
//! The value never travels. A follower asks its leader one *question* for all reads that wait, and the leader answers
//! with an index; the reads are served from the follower's own state once it has applied that. Reads that arrive
//! meanwhile share the next question, because the answer to the present one may have been given before they arrived.
//!
//! # Why it is safe
//!
//! What must be seen are the writes that were acknowledged before the read began. So the leader has to know that there
//! was no later leader then, which could have acknowledged some that it does not have. In §8 a round of heartbeats
//! tells it so. Here it often knows already. The question was sent after the reads began, and names the term that its
//! sender is in: so the sender, like the leader itself, had seen no later term when the reads began. If these two are a
//! majority, as they are of three voters, then no later leader had been elected by then, because each later leader has
//! the vote of one of them. So the leader answers at once, with its commit index as it is, and a read costs one round
//! trip. Otherwise the question shares a round with the leader's own reads: see `reads`.
//!
//! # What tells answers apart
//!
//! An answer counts only for the very question that it was given to: an earlier one was asked before the reads began.
//! Terms are not enough for that, since a follower asks many questions of one leader in one term, also after it has
//! restarted. So questions are counted, and the number goes with one of the process, which is another after each start.
//! Whoever follows somebody else, or in another term, or nobody, gives the question up and its reads with it.

use crate::error::Refused;
use crate::message::{Body, Question};
use crate::raft::{Raft, State};
use crate::reads::READS_MAX;
use crate::types::{Index, NodeId, ReadId, Term};
use alloc::vec::Vec;
use core::mem;

/// The reads of a follower.
#[derive(Clone, Hash, Debug, Default)]
pub(crate) struct Asking {
    under_way: Option<Asked>,
    /// For the next question. Empty while no leader is known.
    waiting: Vec<ReadId>,
}

/// A question that has no answer.
#[derive(Clone, Hash, Debug)]
struct Asked {
    question: Question,
    /// The tick when it left last: it may be lost.
    at: u64,
    ids: Vec<ReadId>,
}

impl Asking {
    /// How many reads wait.
    pub(crate) fn count(&self) -> usize {
        self.waiting.len() + self.under_way.as_ref().map_or(0, |asked| asked.ids.len())
    }

    /// Takes a read, if there is room.
    pub(crate) fn push(&mut self, id: ReadId) -> bool {
        let has_room = self.count() < READS_MAX;
        if has_room {
            self.waiting.push(id);
        }
        has_room
    }

    /// The leader of this term is not followed any more: all reads that wait, oldest first.
    pub(crate) fn abort(&mut self) -> Vec<ReadId> {
        let mut ids = self.under_way.take().map_or(Vec::new(), |asked| asked.ids);
        ids.append(&mut self.waiting);
        ids
    }

    /// As if what is under way had been asked just now, at tick zero.
    pub(crate) fn forget_time(&mut self) {
        if let Some(asked) = &mut self.under_way {
            asked.at = 0;
        }
    }
}

impl Raft {
    /// Whether the leader is to be asked.
    pub(crate) fn is_question_due(&self) -> bool {
        let State::Follower { asking, .. } = &self.state else {
            return false;
        };
        asking.under_way.is_none() && !asking.waiting.is_empty()
    }

    /// Asks the leader for all reads that wait, if that is due.
    pub(crate) fn maybe_ask(&mut self) {
        if !self.is_question_due() {
            return;
        }
        let State::Follower { leader: Some(leader), asking, .. } = &mut self.state else {
            return;
        };
        let leader = *leader;
        // SAFETY(thesis §6.4): a number that was used before would let an old answer confirm these reads.
        self.questions += 1;
        let question = Question { process: self.options.seed, number: self.questions };
        let ids = mem::take(&mut asking.waiting);
        asking.under_way = Some(Asked { question, at: self.now, ids });
        self.send(leader, self.current_term, Body::ReadIndex { question });
    }

    /// Asks again what has had no answer for the time between two heartbeats. It is the same question: whatever is
    /// answered to it was found out after it was asked first.
    pub(crate) fn ask_again(&mut self) {
        let State::Follower { leader: Some(leader), asking: Asking { under_way: Some(asked), .. }, .. } =
            &mut self.state
        else {
            return;
        };
        if self.now.saturating_sub(asked.at) < u64::from(self.options.heartbeat_ticks) {
            return;
        }
        asked.at = self.now;
        let (leader, question) = (*leader, asked.question);
        self.send(leader, self.current_term, Body::ReadIndex { question });
    }

    /// ReadIndex, the leader's side.
    pub(crate) fn handle_read_index(&mut self, from: NodeId, term: Term, question: Question) -> Result<(), Refused> {
        if term < self.current_term {
            return Err(Refused::StaleTerm);
        }
        let knows_commits = self.knows_commits();
        let own = self.options.id;
        let State::Leader(leadership) = &mut self.state else {
            return Err(Refused::UnexpectedKind);
        };
        if term > self.current_term {
            return Err(Refused::UnexpectedKind); // Nobody follows this node in a term that it does not lead.
        }
        // SAFETY(thesis §6.4): both were in this term after the reads began, this node is now and the sender was when
        // it asked. Every majority that elects a later leader has one of them.
        let are_quorum = self.configuration.has_quorum(|voter| voter == own || voter == from);
        if are_quorum && knows_commits {
            let index = self.log.commit_index();
            self.send(from, self.current_term, Body::ReadIndexResponse { question, index });
        } else {
            leadership.reads.ask_for(from, question);
        }
        Ok(())
    }

    /// ReadIndex, the follower's side: lets the reads of the question go.
    pub(crate) fn handle_read_index_response(
        &mut self,
        from: NodeId,
        term: Term,
        question: Question,
        index: Index,
    ) -> Result<(), Refused> {
        if term < self.current_term {
            return Err(Refused::StaleTerm);
        }
        let State::Follower { leader, asking, .. } = &mut self.state else {
            return Err(Refused::UnexpectedKind);
        };
        if term > self.current_term || *leader != Some(from) {
            return Err(Refused::NotOurLeader);
        }
        // SAFETY(thesis §6.4): the answer to another question may be older than these reads.
        let Some(Asked { ids, .. }) = asking.under_way.take_if(|asked| asked.question == question) else {
            return Err(Refused::UnknownRound);
        };
        self.outbox.reads.extend(ids.into_iter().map(|id| (id, index)));
        Ok(())
    }
}
