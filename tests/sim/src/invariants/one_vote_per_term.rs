//! One vote per term (§5.2; `votedFor`): what leaves a node never tells of votes for two candidates in one term, not
//! even across its restarts.

use std::collections::BTreeMap;

use raft::{Body, Message, NodeId, Term};

use crate::violation::Violation;

/// Every vote that was ever told.
#[derive(Default)]
pub(crate) struct OneVotePerTerm {
    votes: BTreeMap<(NodeId, Term), NodeId>,
}

/// For whom a message votes, if it does. A candidate that asks has voted for itself.
pub(crate) fn vote(message: &Message) -> Option<NodeId> {
    match message.body {
        Body::RequestVote { pre_vote: false, .. } => Some(message.from),
        Body::RequestVoteResponse { pre_vote: false, granted: true } => Some(message.to),
        _ => None,
    }
}

impl OneVotePerTerm {
    pub(crate) fn sent(&mut self, message: &Message) -> Result<(), Violation> {
        let Some(candidate) = vote(message) else { return Ok(()) };
        let Message { from: node, term, .. } = *message;
        let first = *self.votes.entry((node, term)).or_insert(candidate);
        if first != candidate {
            return Err(Violation::VotedTwice { node, term, first, second: candidate });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::node_id;

    #[test]
    fn two_votes_in_a_term_are_found() {
        let mut invariant = OneVotePerTerm::default();
        let grant = |to, term| Message {
            from: node_id(0),
            to: node_id(to),
            term: Term::new(term),
            body: Body::RequestVoteResponse { pre_vote: false, granted: true },
        };
        for message in [grant(1, 4), grant(1, 4), grant(2, 5)] {
            assert_eq!(invariant.sent(&message), Ok(()));
        }
        let (first, second) = (node_id(1), node_id(2));
        let violation = Violation::VotedTwice { node: node_id(0), term: Term::new(4), first, second };
        assert_eq!(invariant.sent(&grant(2, 4)), Err(violation));
    }
}
