//! A learner gets the log and has no say (§4.2.1 of the dissertation): it never campaigns, and so never leads.

use raft::Role;

use super::view::{Change, View, name};
use crate::violation::Violation;

/// The first `voters` nodes vote, the others are learners.
pub(crate) fn check(views: &[View], voters: usize, change: &Change) -> Result<(), Violation> {
    let view = &views[change.node];
    if change.node >= voters && view.role != Role::Follower {
        return Err(Violation::LearnerCampaigns { node: name(change), term: view.term });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::view::made::{first_step, view};
    use super::*;
    use crate::node::node_id;
    use raft::Term;

    #[test]
    fn a_learner_that_campaigns_is_found() {
        let views = [view(Role::Leader, 2, &[], 0), view(Role::Candidate, 3, &[], 0)];
        assert_eq!(check(&views, 2, &first_step(1)), Ok(()));
        assert_eq!(check(&views, 1, &first_step(0)), Ok(()));
        let violation = Violation::LearnerCampaigns { node: node_id(1), term: Term::new(3) };
        assert_eq!(check(&views, 1, &first_step(1)), Err(violation));
    }
}
