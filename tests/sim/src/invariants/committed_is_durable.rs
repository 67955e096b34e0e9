//! Committed entries are on the disks of a majority of those who vote (§5.3, Figure 2 "Persistent state"), in the log
//! or in a snapshot, nodes that are down included; also those whose disks have rotted since, for they come back without
//! a vote until they hold them again. So who has forgotten something counts as one that holds it.

use super::committed_agreement::CommittedLog;
use super::view::{Change, View, index};
use crate::violation::Violation;

/// Looked at when more is committed, and when a node lost something: by a truncation or by a restart.
pub(crate) struct CommittedIsDurable {
    voters: usize,
    counted: usize,
}

impl CommittedIsDurable {
    /// The first `voters` nodes vote.
    pub(crate) fn new(voters: usize) -> CommittedIsDurable {
        CommittedIsDurable { voters, counted: 0 }
    }

    pub(crate) fn check(&mut self, views: &[View], change: &Change, log: &CommittedLog) -> Result<(), Violation> {
        let count = log.entries.len();
        let lost_some = change.started || change.kept < change.length;
        if count == self.counted && !lost_some {
            return Ok(());
        }
        self.counted = count;
        // Whoever holds the last one holds all before it: Log Matching sees to that.
        let holds =
            |view: &&View| view.recovering || (view.durable >= count && view.term_at(count) == log.term_at(count));
        let holders = views[..self.voters].iter().filter(holds).count();
        if count > 0 && holders <= self.voters / 2 {
            return Err(Violation::CommittedNotDurable { index: index(count), holders, size: self.voters });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::view::made::{first_step, no_change, view};
    use super::*;
    use raft::Role;

    #[test]
    fn an_entry_that_a_majority_does_not_hold_is_found() {
        let mut log = CommittedLog::default();
        let mut views = vec![
            view(Role::Leader, 1, &[1, 1], 2),
            view(Role::Follower, 1, &[1, 1], 0),
            view(Role::Follower, 1, &[1], 0),
        ];
        log.check(&views, &first_step(0)).expect("the first one");
        let mut invariant = CommittedIsDurable::new(3);
        assert_eq!(invariant.check(&views, &first_step(0), &log), Ok(()));
        views[1].durable = 1;
        let lost = Change { started: true, ..no_change(1, &views[1]) };
        let violation = |size| Err(Violation::CommittedNotDurable { index: index(2), holders: 1, size });
        assert_eq!(invariant.check(&views, &lost, &log), violation(3));
        views[1].durable = 2;
        views.swap(1, 2);
        let mut with_learner = CommittedIsDurable::new(2);
        assert_eq!(
            with_learner.check(&views, &first_step(0), &log),
            violation(2),
            "the third one has it and is a learner"
        );
    }
}
