//! A node that has forgotten what it promised takes no part in elections, and remembers only when it holds again all
//! that was committed when it promised it.

use raft::{Body, Message, Role, Term};

use super::committed_agreement::CommittedLog;
use super::view::{Change, View, index, name};
use crate::violation::Violation;

/// In which term each node last promised anything before it forgot.
pub(crate) struct Recovery {
    forgotten: Vec<Term>,
}

impl Recovery {
    pub(crate) fn new(size: usize) -> Recovery {
        Recovery { forgotten: vec![Term::ZERO; size] }
    }

    /// A node starts that was like `before`; `fetches` says that it gave up a part of its log. If it has forgotten
    /// something by that, it had promised something in terms up to `promised`. It has not if only the note on what it
    /// had forgotten long before, and has again, outlived a power cut.
    pub(crate) fn started(&mut self, node: usize, before: &View, view: &View, promised: Term, fetches: bool) {
        let has_lost = (0..before.durable).any(|at| view.log.get(at) != before.log.get(at));
        if view.recovering && (has_lost || fetches) {
            self.forgotten[node] = self.forgotten[node].max(promised);
        }
    }

    pub(crate) fn check(&mut self, views: &[View], change: &Change, log: &CommittedLog) -> Result<(), Violation> {
        let view = &views[change.node];
        if view.recovering && view.role != Role::Follower {
            return Err(Violation::RecoveringTakesPart { node: name(change), how: view.role.as_str() });
        }
        if change.recovering && !view.recovering {
            let forgotten = std::mem::replace(&mut self.forgotten[change.node], Term::ZERO);
            let due = log.entries.iter().take_while(|committed| committed.in_term <= forgotten).count();
            if view.durable < due || view.term_at(due) != if due == 0 { Some(Term::ZERO) } else { log.term_at(due) } {
                return Err(Violation::RecoveredTooSoon { node: name(change), index: index(due), forgotten });
            }
        }
        Ok(())
    }

    /// A message leaves a node.
    pub(crate) fn sent(view: &View, message: &Message) -> Result<(), Violation> {
        let how = match message.body {
            Body::RequestVote { .. } => "asks for a vote",
            Body::RequestVoteResponse { granted: true, .. } => "votes",
            _ => return Ok(()),
        };
        if view.recovering {
            return Err(Violation::RecoveringTakesPart { node: message.from, how });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::view::made::{first_step, no_change, view};
    use super::*;
    use crate::node::node_id;

    #[test]
    fn taking_part_and_remembering_too_soon_are_found() {
        let mut log = CommittedLog::default();
        let mut views = [view(Role::Leader, 2, &[1, 2], 2), view(Role::Follower, 3, &[1], 1)];
        log.check(&views, &first_step(0)).expect("the first one");
        let mut recovery = Recovery::new(2);
        views[1].recovering = true;
        recovery.started(1, &view(Role::Follower, 3, &[1], 1), &views[1], Term::new(2), true);
        let change = no_change(1, &views[1]);
        assert_eq!(recovery.check(&views, &change, &log), Ok(()));
        let body = Body::RequestVoteResponse { pre_vote: true, granted: true };
        let grant = Message { from: node_id(1), to: node_id(0), term: Term::new(3), body };
        assert!(Recovery::sent(&views[1], &grant).is_err());
        views[1].recovering = false;
        assert_eq!(Recovery::sent(&views[1], &grant), Ok(()));
        let too_soon = Violation::RecoveredTooSoon { node: node_id(1), index: index(2), forgotten: Term::new(2) };
        assert_eq!(recovery.check(&views, &change, &log), Err(too_soon));
    }
}
