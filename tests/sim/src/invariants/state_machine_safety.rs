//! State Machine Safety (§5.4.3; `StateMachineSafety`), of what is applied: each node applies each entry once and in
//! order, all nodes the same, with the same effect, and only what is committed.

use engine::AppliedKind;
use raft::{Index, Term};

use super::view::{Change, View, index, name, position};
use crate::node::node_id;
use crate::violation::Violation;

/// What was applied at each index, and how far each node is.
pub(crate) struct StateMachineSafety {
    first: Vec<Option<(Term, AppliedKind)>>,
    applied: Vec<usize>,
}

impl StateMachineSafety {
    pub(crate) fn new(size: usize) -> StateMachineSafety {
        StateMachineSafety { first: Vec::new(), applied: vec![0; size] }
    }

    /// A node started, with a state that it had replayed.
    pub(crate) fn started(&mut self, node: usize, view: &View) {
        self.applied[node] = view.applied;
    }

    /// A node has the state after an entry, from a snapshot.
    pub(crate) fn installed(&mut self, node: usize, at: Index) {
        self.applied[node] = position(at);
    }

    /// A node applied an entry.
    pub(crate) fn applied(
        &mut self,
        node: usize,
        (at, term): (Index, Term),
        what: AppliedKind,
    ) -> Result<(), Violation> {
        let expected = index(self.applied[node] + 1);
        if at != expected {
            return Err(Violation::ApplyOrder { node: node_id(node), expected, found: at });
        }
        self.applied[node] += 1;
        let at = position(at);
        if self.first.len() <= at {
            self.first.resize(at + 1, None);
        }
        match &self.first[at] {
            None => self.first[at] = Some((term, what)),
            Some(first) if first.0 != term || first.1 != what => {
                let (first, found) = (Box::new(first.clone()), Box::new((term, what)));
                return Err(Violation::AppliedDiffers { node: node_id(node), index: index(at), first, found });
            }
            Some(_) => {}
        }
        Ok(())
    }

    /// What is applied is committed.
    pub(crate) fn check(views: &[View], change: &Change) -> Result<(), Violation> {
        let view = &views[change.node];
        if view.applied > view.committed {
            let (applied, commit_index) = (index(view.applied), index(view.committed));
            return Err(Violation::AppliedBeyondCommit { node: name(change), applied, commit_index });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::view::made::{first_step, view};
    use super::*;
    use raft::Role;

    fn place(at: u64, term: u64) -> (Index, Term) {
        (Index::new(at), Term::new(term))
    }

    #[test]
    fn another_entry_and_another_order_are_found() {
        let mut invariant = StateMachineSafety::new(2);
        assert_eq!(invariant.applied(0, place(1, 1), AppliedKind::Noop), Ok(()));
        let [first, found] = [1, 2].map(|term| Box::new((Term::new(term), AppliedKind::Noop)));
        let differs = Violation::AppliedDiffers { node: node_id(1), index: index(1), first, found };
        assert_eq!(invariant.applied(1, place(1, 2), AppliedKind::Noop), Err(differs));
        let order = Violation::ApplyOrder { node: node_id(0), expected: index(2), found: index(1) };
        assert_eq!(invariant.applied(0, place(1, 1), AppliedKind::Noop), Err(order));
    }

    #[test]
    fn applying_what_is_not_committed_is_found() {
        let mut views = [view(Role::Follower, 1, &[1], 0)];
        views[0].applied = 1;
        let violation = Violation::AppliedBeyondCommit { node: node_id(0), applied: index(1), commit_index: index(0) };
        assert_eq!(StateMachineSafety::check(&views, &first_step(0)), Err(violation));
    }
}
