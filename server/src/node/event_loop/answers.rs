//! What the engine's answers are to the callers that wait for them.

use engine::Answer;
use engine::replica::Ticket;

use super::EventLoop;
use crate::node::handle::{Unavailable, WriteError, WriteResult};
use crate::node::waiters::{ReadWaiter, Waiter, WriteWaiter};

impl EventLoop {
    pub(super) fn answer(&mut self, ticket: Ticket, answer: Answer) {
        if let Answer::Proposed { term, index } = answer {
            let Some(waiter) = self.waiters.get_mut(&ticket) else { return };
            match waiter {
                Waiter::Write(waiter) => waiter.claim.set_position(term.get(), index.get()),
                Waiter::Batch(waiter) => waiter.proposed(term.get(), index.get()),
                Waiter::Read(_) => {}
            }
            if let Some(trace) = waiter.journey_mut().proposed(term, index) {
                self.traces.proposed(index, trace, self.turn_began);
            }
            return;
        }
        // No waiter: its caller has gone away.
        match self.waiters.remove(&ticket) {
            // A caller that has gone away wants no answer.
            Some(Waiter::Write(WriteWaiter { answer: sender, journey, .. })) => {
                self.end_journey(journey);
                let _ = sender.send(self.write_result(answer));
            }
            Some(Waiter::Read(ReadWaiter { answer: sender, journey, min_revision })) => {
                self.end_journey(journey);
                let _ = sender.send(self.read_result(answer, min_revision));
            }
            Some(Waiter::Batch(waiter)) => self.answer_batched(waiter, answer),
            None => {}
        }
    }

    pub(super) fn write_result(&self, answer: Answer) -> Result<WriteResult, WriteError> {
        match answer {
            Answer::Written(applied) => {
                // The state may be further by now: a time that every later command is stamped with, or a greater one;
                // and the revision at which it was written or refused, or a later one.
                let store = self.parts.engine.store();
                Ok(WriteResult { applied, revision: store.revision().get(), time_ms: store.time_ms() })
            }
            Answer::Dropped { term } => Err(WriteError::Dropped { term: term.get() }),
            Answer::Invalid(invalid) => Err(invalid.into()),
            other => Err(self.unavailable(&other).into()),
        }
    }

    pub(super) fn unavailable(&self, answer: &Answer) -> Unavailable {
        match answer {
            Answer::NotLeader { leader, .. } => self.not_leader(*leader),
            Answer::ReadAborted => self.not_leader(self.parts.engine.raft().leader()),
            Answer::Transferring => Unavailable::Transferring,
            Answer::StorageFull => Unavailable::StorageFull,
            _ => Unavailable::Overloaded,
        }
    }

    pub(super) fn not_leader(&self, leader: Option<raft::NodeId>) -> Unavailable {
        let leader = self.parts.roster.leader(leader, &self.parts.board);
        Unavailable::NotLeader { leader, term: self.parts.engine.raft().current_term().get() }
    }
}
