//! A leader commits only through an entry of its own term (§5.4.2, Figure 8; `AdvanceCommitIndex`).

use raft::Role;

use super::view::{Change, View, index, name};
use crate::violation::Violation;

pub(crate) fn check(views: &[View], change: &Change) -> Result<(), Violation> {
    let view = &views[change.node];
    let led = change.role == Role::Leader && change.term == view.term && !change.started;
    if !led || view.role != Role::Leader || view.committed <= change.committed {
        return Ok(());
    }
    match view.term_at(view.committed) {
        Some(entry_term) if entry_term != view.term => {
            let (node, term, index) = (name(change), view.term, index(view.committed));
            Err(Violation::CommittedOlderTerm { node, term, index, entry_term })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::view::made::{no_change, view};
    use super::*;
    use crate::node::node_id;
    use raft::Term;

    #[test]
    fn an_older_entry_that_is_committed_by_counting_is_found() {
        let views = [view(Role::Leader, 3, &[1, 2], 2)];
        let change = Change { committed: 1, ..no_change(0, &views[0]) };
        let (term, entry_term) = (Term::new(3), Term::new(2));
        let violation = Violation::CommittedOlderTerm { node: node_id(0), term, index: index(2), entry_term };
        assert_eq!(check(&views, &change), Err(violation));
        let views = [view(Role::Leader, 3, &[1, 3], 2)];
        assert_eq!(check(&views, &change), Ok(()));
    }
}
