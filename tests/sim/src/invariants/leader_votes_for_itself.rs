//! A leader's vote is its own (§5.2): nobody is elected who gave its vote of that term to another.

use raft::Role;

use super::view::{Change, View, name};
use crate::violation::Violation;

pub(crate) fn check(views: &[View], change: &Change) -> Result<(), Violation> {
    let view = &views[change.node];
    let node = name(change);
    if view.role == Role::Leader && view.voted_for != Some(node) {
        return Err(Violation::LeaderWithoutOwnVote { node, term: view.term, voted_for: view.voted_for });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::view::made::{first_step, view};
    use super::*;
    use crate::node::node_id;

    #[test]
    fn a_leader_that_voted_for_another_is_found() {
        let mut views = [view(Role::Leader, 3, &[], 0)];
        let (node, voted_for) = (node_id(0), Some(node_id(1)));
        views[0].voted_for = voted_for;
        let violation = Violation::LeaderWithoutOwnVote { node, term: views[0].term, voted_for };
        assert_eq!(check(&views, &first_step(0)), Err(violation));
        views[0].voted_for = Some(node);
        assert_eq!(check(&views, &first_step(0)), Ok(()));
    }
}
