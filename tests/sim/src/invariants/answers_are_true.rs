//! What clients are told is so: each ticket is answered once, an acknowledged write is committed where it was proposed,
//! and one that was reported dropped never is.

use std::collections::{BTreeMap, BTreeSet};

use engine::{Answer, Ticket};
use raft::{Index, Term};

use super::committed_agreement::CommittedLog;
use super::view::position;
use crate::node::node_id;
use crate::violation::Violation;

/// Where the write of each open ticket was proposed.
#[derive(Default)]
pub(crate) struct AnswersAreTrue {
    open: BTreeMap<Ticket, Option<(Index, Term)>>,
    /// Places in the log that must never be committed: they were reported dropped.
    dropped: BTreeSet<(usize, Term)>,
    /// How much of the committed log was compared with them.
    compared: usize,
}

impl AnswersAreTrue {
    /// A node was asked.
    pub(crate) fn asked(&mut self, ticket: Ticket) {
        self.open.insert(ticket, None);
    }

    /// A node answered.
    pub(crate) fn answered(
        &mut self,
        node: usize,
        ticket: Ticket,
        answer: &Answer,
        log: &CommittedLog,
    ) -> Result<(), Violation> {
        let node = node_id(node);
        let twice = Violation::AnsweredTwice { node, ticket: ticket.get() };
        if let Answer::Proposed { term, index } = *answer {
            let open = self.open.get_mut(&ticket).filter(|place| place.is_none()).ok_or(twice)?;
            *open = Some((index, term));
            return Ok(());
        }
        let place = self.open.remove(&ticket).ok_or(twice)?;
        match (answer, place) {
            (Answer::Written(_), Some((index, term))) if log.term_at(position(index)) != Some(term) => {
                Err(Violation::AcknowledgedNotCommitted { node, index, term })
            }
            (Answer::Dropped { .. }, Some((index, term))) => {
                self.dropped.insert((position(index), term));
                if log.term_at(position(index)) == Some(term) {
                    return Err(Violation::DroppedCommitted { index, term });
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// More may have been committed.
    pub(crate) fn check(&mut self, log: &CommittedLog) -> Result<(), Violation> {
        for at in self.compared + 1..=log.entries.len() {
            let Some(term) = log.term_at(at) else { continue };
            if self.dropped.contains(&(at, term)) {
                return Err(Violation::DroppedCommitted { index: Index::new(at as u64), term });
            }
        }
        self.compared = log.entries.len();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::view::made::{first_step, view};
    use super::*;
    use engine::kv::{Applied, Revision};
    use raft::Role;

    fn answered(answers: &[Answer]) -> (AnswersAreTrue, Result<(), Violation>) {
        let mut log = CommittedLog::default();
        log.check(&[view(Role::Leader, 2, &[1], 1)], &first_step(0)).expect("the first one");
        let mut invariant = AnswersAreTrue::default();
        let ticket = Ticket::new(5);
        invariant.asked(ticket);
        let result = answers.iter().try_for_each(|answer| invariant.answered(0, ticket, answer, &log));
        (invariant, result)
    }

    fn proposed(index: u64, term: u64) -> Answer {
        Answer::Proposed { term: Term::new(term), index: Index::new(index) }
    }

    fn written() -> Answer {
        Answer::Written(Applied::Put { revision: Revision::new(2), version: 1 })
    }

    #[test]
    fn a_second_answer_is_found() {
        assert_eq!(answered(&[proposed(1, 1), written()]).1, Ok(()));
        let twice = Violation::AnsweredTwice { node: node_id(0), ticket: 5 };
        assert_eq!(answered(&[Answer::ReadAborted, Answer::ReadAborted]).1, Err(twice));
    }

    #[test]
    fn an_acknowledged_write_that_is_not_committed_is_found() {
        let (node, index, term) = (node_id(0), Index::new(1), Term::new(2));
        let violation = Violation::AcknowledgedNotCommitted { node, index, term };
        assert_eq!(answered(&[proposed(1, 2), written()]).1, Err(violation));
    }

    #[test]
    fn a_dropped_write_that_is_committed_is_found_then_and_later() {
        let dropped = Answer::Dropped { term: Term::new(2) };
        let violation = |at, of| Violation::DroppedCommitted { index: Index::new(at), term: Term::new(of) };
        assert_eq!(answered(&[proposed(1, 1), dropped.clone()]).1, Err(violation(1, 1)));
        let (mut invariant, result) = answered(&[proposed(2, 2), dropped]);
        assert_eq!(result, Ok(()));
        let mut log = CommittedLog::default();
        log.check(&[view(Role::Leader, 2, &[1, 2], 2)], &first_step(0)).expect("the first one");
        assert_eq!(invariant.check(&log), Err(violation(2, 2)));
    }
}
