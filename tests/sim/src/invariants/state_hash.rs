//! Equal logs give equal states (§2, "replicated state machines"): nodes that applied the log up to the same index have
//! the same state hash and revision.

use super::view::{Change, View, index, name};
use crate::violation::Violation;

/// What was first seen at each applied index.
#[derive(Default)]
pub(crate) struct StateHash {
    first: Vec<Option<(u128, u64)>>,
}

impl StateHash {
    /// The state and the revision that were first seen at a position.
    pub(crate) fn at(&self, applied: usize) -> Option<(u128, u64)> {
        self.first.get(applied).copied().flatten()
    }

    pub(crate) fn check(&mut self, views: &[View], change: &Change) -> Result<(), Violation> {
        let view = &views[change.node];
        if self.first.len() <= view.applied {
            self.first.resize(view.applied + 1, None);
        }
        let found = (view.state_hash, view.revision);
        let first = *self.first[view.applied].get_or_insert(found);
        if first != found {
            return Err(Violation::StateDiffers { node: name(change), index: index(view.applied) });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::view::made::{first_step, view};
    use super::*;
    use crate::node::node_id;
    use raft::Role;

    #[test]
    fn another_state_at_the_same_index_is_found() {
        let mut invariant = StateHash::default();
        let mut views = [view(Role::Follower, 1, &[1], 1), view(Role::Follower, 1, &[1], 1)];
        views[1].state_hash = 7;
        assert_eq!(invariant.check(&views, &first_step(0)), Ok(()));
        let violation = Violation::StateDiffers { node: node_id(1), index: index(1) };
        assert_eq!(invariant.check(&views, &first_step(1)), Err(violation));
    }
}
