//! State Machine Safety (§5.4.3; `StateMachineSafety`), of what is committed: nodes never commit different entries at
//! one index. The first that commits an entry is remembered.

use raft::{Index, Term};

use super::view::{Change, View, index, name};
use crate::violation::Violation;

/// A committed entry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Committed {
    /// Its term.
    pub(crate) term: Term,
    /// The term of the node that was first seen to have committed it: it was committed in this term or before.
    pub(crate) in_term: Term,
}

/// The committed log, whoever knows of it.
#[derive(Default)]
pub(crate) struct CommittedLog {
    pub(crate) entries: Vec<Committed>,
    /// The first index of each run of entries of one term.
    term_starts: Vec<(Index, Term)>,
}

impl CommittedLog {
    pub(crate) fn check(&mut self, views: &[View], change: &Change) -> Result<(), Violation> {
        let view = &views[change.node];
        let seen = if change.started { 0 } else { change.committed.min(view.committed) };
        for at in seen..view.committed.min(view.log.len()) {
            let term = view.log[at];
            match self.entries.get(at) {
                None => {
                    if self.term_starts.last().is_none_or(|(_, before)| *before != term) {
                        self.term_starts.push((index(at + 1), term));
                    }
                    self.entries.push(Committed { term, in_term: view.term });
                }
                Some(first) if first.term != term => {
                    let (node, index, first) = (name(change), index(at + 1), first.term);
                    return Err(Violation::CommittedDiffers { node, index, first, found: term });
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// The first index of each run of entries of one term, up to a position.
    pub(crate) fn term_starts(&self, last: usize) -> &[(Index, Term)] {
        &self.term_starts[..self.term_starts.partition_point(|(first, _)| *first <= index(last))]
    }

    /// The term of the committed entry at a position counted from 1.
    pub(crate) fn term_at(&self, at: usize) -> Option<Term> {
        self.entries.get(at.checked_sub(1)?).map(|committed| committed.term)
    }
}

#[cfg(test)]
mod tests {
    use super::super::view::made::{first_step, view};
    use super::*;
    use crate::node::node_id;
    use raft::Role;

    #[test]
    fn two_entries_committed_at_one_index_are_found() {
        let mut log = CommittedLog::default();
        let views = [view(Role::Leader, 2, &[1, 2], 2), view(Role::Follower, 3, &[1, 3], 2)];
        assert_eq!(log.check(&views, &first_step(0)), Ok(()));
        assert_eq!((log.term_at(0), log.term_at(2), log.term_at(3)), (None, Some(Term::new(2)), None));
        let (first, found) = (Term::new(2), Term::new(3));
        let violation = Violation::CommittedDiffers { node: node_id(1), index: index(2), first, found };
        assert_eq!(log.check(&views, &first_step(1)), Err(violation));
    }
}
