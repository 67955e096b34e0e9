//! Leader Completeness (§5.4; `LeaderCompleteness`): what was committed in a term is in the log of every leader of a
//! later term.

use raft::Role;

use super::committed_agreement::CommittedLog;
use super::view::{Change, View, index};
use crate::node::node_id;
use crate::violation::Violation;

/// Every leader is looked at when it is elected, and again when something more is committed.
#[derive(Default)]
pub(crate) struct LeaderCompleteness {
    /// How many committed entries every leader was compared with.
    compared: usize,
}

impl LeaderCompleteness {
    pub(crate) fn check(&mut self, views: &[View], change: &Change, log: &CommittedLog) -> Result<(), Violation> {
        let view = &views[change.node];
        if view.role == Role::Leader && (change.role != Role::Leader || change.term != view.term || change.started) {
            complete(change.node, view, log, 0)?;
        }
        if log.entries.len() > self.compared {
            for (node, view) in views.iter().enumerate().filter(|(_, view)| view.up && view.role == Role::Leader) {
                complete(node, view, log, self.compared)?;
            }
            self.compared = log.entries.len();
        }
        Ok(())
    }
}

/// Compares a leader's log with what was committed, from a position on.
fn complete(node: usize, view: &View, log: &CommittedLog, from: usize) -> Result<(), Violation> {
    for (at, committed) in log.entries.iter().enumerate().skip(from) {
        if committed.in_term < view.term && view.log.get(at) != Some(&committed.term) {
            return Err(Violation::LeaderCompleteness {
                node: node_id(node),
                term: view.term,
                index: index(at + 1),
                in_term: committed.in_term,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::view::made::{first_step, no_change, view};
    use super::*;
    use raft::Term;

    #[test]
    fn a_leader_that_lacks_a_committed_entry_is_found() {
        let mut log = CommittedLog::default();
        let views = [view(Role::Leader, 2, &[1, 2], 2), view(Role::Leader, 4, &[1, 3], 0)];
        log.check(&views, &first_step(0)).expect("the first one");
        let found = Violation::LeaderCompleteness {
            node: node_id(1),
            term: Term::new(4),
            index: index(2),
            in_term: Term::new(2),
        };
        assert_eq!(LeaderCompleteness::default().check(&views, &first_step(1), &log), Err(found.clone()));
        // Found as well if the entry is committed only after the election.
        let change = no_change(0, &views[0]);
        assert_eq!(LeaderCompleteness::default().check(&views, &change, &log), Err(found));
    }
}
