//! The terms of a log never fall along it, and none is above the node's current term (§5.3; `LogTermsMonotonic`).

use raft::Term;

use super::view::{Change, View, index, name};
use crate::violation::Violation;

pub(crate) fn check(views: &[View], change: &Change) -> Result<(), Violation> {
    let view = &views[change.node];
    let mut before = view.term_at(change.kept).unwrap_or(Term::ZERO);
    for at in change.kept + 1..=view.log.len() {
        let found = view.log[at - 1];
        if found < before || found > view.term {
            return Err(Violation::TermsOutOfOrder {
                node: name(change),
                term: view.term,
                index: index(at),
                before,
                found,
            });
        }
        before = found;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::view::made::{first_step, view};
    use super::*;
    use raft::Role;

    #[test]
    fn falling_and_future_terms_are_found() {
        let found = |log: &[u64]| check(&[view(Role::Follower, 3, log, 0)], &first_step(0)).is_err();
        assert!(!found(&[1, 1, 3]));
        assert!(found(&[2, 1]));
        assert!(found(&[1, 4]));
    }
}
