//! Leader Append-Only (§5.3; `LeaderAppendOnly`): a leader never overwrites or deletes an entry of its log.

use raft::Role;

use super::view::{Change, View, index, name};
use crate::violation::Violation;

pub(crate) fn check(views: &[View], change: &Change) -> Result<(), Violation> {
    let view = &views[change.node];
    let led = change.role == Role::Leader && !change.started;
    let leads = led && view.role == Role::Leader && view.term == change.term;
    if leads && change.kept < change.length {
        return Err(Violation::LeaderAppendOnly { node: name(change), term: view.term, after: index(change.kept) });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::view::made::{no_change, view};
    use super::*;
    use crate::node::node_id;

    #[test]
    fn a_leader_that_changes_its_log_is_found() {
        let views = [view(Role::Leader, 3, &[1, 3], 0)];
        assert_eq!(check(&views, &no_change(0, &views[0])), Ok(()));
        let change = Change { kept: 1, ..no_change(0, &views[0]) };
        let violation = Violation::LeaderAppendOnly { node: node_id(0), term: views[0].term, after: index(1) };
        assert_eq!(check(&views, &change), Err(violation));
    }
}
