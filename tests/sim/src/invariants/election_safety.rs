//! Election Safety (§5.2; `ElectionSafety` in the TLA+ specification): at most one leader in a term.

use std::collections::BTreeMap;

use raft::{Role, Term};

use super::view::{Change, View, name};
use crate::node::node_id;
use crate::violation::Violation;

/// Who led each term.
#[derive(Default)]
pub(crate) struct ElectionSafety {
    leaders: BTreeMap<Term, usize>,
}

impl ElectionSafety {
    pub(crate) fn check(&mut self, views: &[View], change: &Change) -> Result<(), Violation> {
        let view = &views[change.node];
        if view.role != Role::Leader || (change.role == Role::Leader && change.term == view.term && !change.started) {
            return Ok(());
        }
        let first = *self.leaders.entry(view.term).or_insert(change.node);
        if first != change.node {
            return Err(Violation::ElectionSafety { term: view.term, first: node_id(first), second: name(change) });
        }
        Ok(())
    }

    /// The last leader of a term after this one, with its term.
    pub(crate) fn leader_after(&self, term: Term) -> Option<(Term, usize)> {
        self.leaders.last_key_value().filter(|(last, _)| **last > term).map(|(last, node)| (*last, *node))
    }
}

#[cfg(test)]
mod tests {
    use super::super::view::made::{first_step, view};
    use super::*;

    #[test]
    fn two_leaders_of_one_term_are_found_also_one_after_the_other() {
        let mut invariant = ElectionSafety::default();
        let mut views = vec![view(Role::Leader, 3, &[], 0), view(Role::Follower, 3, &[], 0)];
        assert_eq!(invariant.check(&views, &first_step(0)), Ok(()));
        views[0].role = Role::Follower;
        views[1].role = Role::Leader;
        let (term, first, second) = (Term::new(3), node_id(0), node_id(1));
        assert_eq!(invariant.check(&views, &first_step(1)), Err(Violation::ElectionSafety { term, first, second }));
    }
}
