//! Monotonic Commit (Figure 2; `MonotonicCommitIndex`): the commit index of a running node never falls, is never beyond
//! its log, and no entry at or below it is ever taken back.

use super::view::{Change, View, index, name};
use crate::violation::Violation;

pub(crate) fn check(views: &[View], change: &Change) -> Result<(), Violation> {
    let view = &views[change.node];
    let node = name(change);
    if view.committed > view.log.len() {
        let (commit_index, last_index) = (index(view.committed), index(view.log.len()));
        return Err(Violation::CommitBeyondLog { node, commit_index, last_index });
    }
    if change.started {
        return Ok(());
    }
    if view.committed < change.committed {
        return Err(Violation::CommitFell { node, from: index(change.committed), to: index(view.committed) });
    }
    if change.kept < change.committed {
        let (after, commit_index) = (index(change.kept), index(change.committed));
        return Err(Violation::CommittedTruncated { node, after, commit_index });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::view::made::{no_change, view};
    use super::*;
    use crate::node::node_id;
    use raft::Role;

    #[test]
    fn each_way_to_lose_a_commit_is_found() {
        let node = node_id(0);
        let views = [view(Role::Follower, 3, &[1, 1], 2)];
        let change = no_change(0, &views[0]);
        assert_eq!(check(&views, &change), Ok(()));
        let fell = Change { committed: 3, ..change };
        assert_eq!(check(&views, &fell), Err(Violation::CommitFell { node, from: index(3), to: index(2) }));
        let truncated = Change { kept: 1, ..change };
        let violation = Violation::CommittedTruncated { node, after: index(1), commit_index: index(2) };
        assert_eq!(check(&views, &truncated), Err(violation));
        let beyond = [view(Role::Follower, 3, &[1, 1], 3)];
        let violation = Violation::CommitBeyondLog { node, commit_index: index(3), last_index: index(2) };
        assert_eq!(check(&beyond, &change), Err(violation));
    }
}
