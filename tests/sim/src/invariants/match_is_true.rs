//! What a leader knows of the others is true (§5.3, Figure 2 `matchIndex`, `nextIndex`): `match < next <= last + 1`,
//! and what it takes a follower to hold, that follower holds durably.

use raft::Role;

use super::view::{Change, View, index, name, position};
use crate::node::node_number;
use crate::violation::Violation;

pub(crate) fn check(views: &[View], change: &Change) -> Result<(), Violation> {
    let view = &views[change.node];
    if view.role != Role::Leader {
        return Ok(());
    }
    for (peer, progress) in &view.progress {
        let (match_index, next_index) = (progress.match_index, progress.next_index);
        if match_index >= next_index || position(next_index) > view.log.len() + 1 {
            let (node, peer, last_index) = (name(change), *peer, index(view.log.len()));
            return Err(Violation::ProgressOutOfRange { node, peer, match_index, next_index, last_index });
        }
        let other = &views[node_number(*peer)];
        let at = position(match_index);
        // One that has moved on to a later term may have dropped what was never committed.
        let holds = other.durable >= at && other.term_at(at) == view.term_at(at);
        if other.term <= view.term && !holds {
            let (node, peer, term) = (name(change), *peer, view.term);
            return Err(Violation::MatchIsWrong { node, peer, term, match_index });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::view::made::{first_step, view};
    use super::*;
    use crate::node::node_id;
    use raft::{Index, ProgressView};

    fn views(match_index: u64, next_index: u64) -> Vec<View> {
        let mut views = vec![view(Role::Leader, 2, &[1, 2], 0), view(Role::Follower, 2, &[1], 0)];
        let (match_index, next_index) = (Index::new(match_index), Index::new(next_index));
        views[0].progress = vec![(node_id(1), ProgressView { match_index, next_index, state: "probe", active: true })];
        views
    }

    #[test]
    fn a_match_that_is_not_there_is_found() {
        assert_eq!(check(&views(1, 2), &first_step(0)), Ok(()));
        let (node, peer) = (node_id(0), node_id(1));
        let term = raft::Term::new(2);
        let wrong = Violation::MatchIsWrong { node, peer, term, match_index: index(2) };
        assert_eq!(check(&views(2, 3), &first_step(0)), Err(wrong));
        let (match_index, next_index, last_index) = (index(1), index(4), index(2));
        let range = Violation::ProgressOutOfRange { node, peer, match_index, next_index, last_index };
        assert_eq!(check(&views(1, 4), &first_step(0)), Err(range));
    }
}
