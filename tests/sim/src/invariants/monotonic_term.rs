//! Monotonic Term (§5.1; `MonotonicCurrentTerm`): the current term of a running node never falls.

use super::view::{Change, View, name};
use crate::violation::Violation;

pub(crate) fn check(views: &[View], change: &Change) -> Result<(), Violation> {
    let view = &views[change.node];
    if view.term < change.term && !change.started {
        return Err(Violation::TermFell { node: name(change), from: change.term, to: view.term });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::view::made::{no_change, view};
    use super::*;
    use crate::node::node_id;
    use raft::{Role, Term};

    #[test]
    fn a_term_that_falls_is_found() {
        let views = [view(Role::Follower, 3, &[], 0)];
        let change = Change { term: Term::new(4), ..no_change(0, &views[0]) };
        let violation = Violation::TermFell { node: node_id(0), from: Term::new(4), to: Term::new(3) };
        assert_eq!(check(&views, &change), Err(violation));
        assert_eq!(check(&views, &Change { started: true, ..change }), Ok(()));
    }
}
