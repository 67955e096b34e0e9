//! Promises survive a crash (§5.1, Figure 2 "Persistent state"): what a node said rests on its disk before it says it,
//! and is there again when it restarts: its term, its vote, its entries.

use raft::{AppendResult, Body, Message, NodeId, Term};

use super::one_vote_per_term::vote;
use super::view::{View, index, position};
use crate::node::node_id;
use crate::violation::Violation;

/// What a node has said.
#[derive(Clone, Copy, Default)]
struct Promised {
    /// The latest term in which it voted or accepted entries.
    term: Term,
    /// Its latest vote.
    vote: Option<(Term, NodeId)>,
}

/// What each node has said.
pub(crate) struct PromisesSurvive {
    promised: Vec<Promised>,
}

impl PromisesSurvive {
    pub(crate) fn new(size: usize) -> PromisesSurvive {
        PromisesSurvive { promised: vec![Promised::default(); size] }
    }

    /// The latest term in which a node voted or accepted entries.
    pub(crate) fn term(&self, node: usize) -> Term {
        self.promised[node].term
    }

    /// A message leaves a node.
    pub(crate) fn sent(&mut self, node: usize, view: &View, message: &Message) -> Result<(), Violation> {
        let promised = &mut self.promised[node];
        if let Some(candidate) = vote(message) {
            promised.term = promised.term.max(message.term);
            promised.vote = promised.vote.max(Some((message.term, candidate)));
        }
        if let Body::AppendEntriesResponse(AppendResult::Accepted { match_index }) = message.body {
            promised.term = promised.term.max(message.term);
            if message.term == view.term && position(match_index) > view.durable {
                let (term, durable) = (message.term, index(view.durable));
                let node = node_id(node);
                return Err(Violation::AcceptedBeforeDurable { node, term, promised: match_index, durable });
            }
        }
        Ok(())
    }

    /// A node restarted: `before` is what it was when it stopped, `now` what it found on its disk.
    pub(crate) fn restarted(&self, node: usize, before: &View, now: &View) -> Result<(), Violation> {
        let Promised { term, vote } = self.promised[node];
        let name = node_id(node);
        if now.term < term {
            return Err(Violation::TermForgotten { node: name, promised: term, found: now.term });
        }
        if let Some((term, candidate)) = vote
            && term == now.term
            && now.voted_for != Some(candidate)
        {
            let found = now.voted_for;
            return Err(Violation::VoteForgotten { node: name, term, promised: candidate, found });
        }
        let Some(lost) = (0..before.durable).find(|at| now.log.get(*at) != before.log.get(*at)) else { return Ok(()) };
        // A snapshot that contradicts them shows that they were never committed, nor what is behind them.
        if lost < now.snapshot && now.snapshot > before.snapshot {
            return Ok(());
        }
        if !now.recovering {
            return Err(Violation::DurableEntryLost { node: name, index: index(lost + 1) });
        }
        // Whoever led up to then may count on what is lost.
        if now.term <= term {
            return Err(Violation::TermForgotten { node: name, promised: term, found: now.term });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::view::made::view;
    use super::*;
    use raft::Role;

    fn accepted(match_index: usize) -> Message {
        let result = AppendResult::Accepted { match_index: index(match_index) };
        Message { from: node_id(0), to: node_id(1), term: Term::new(3), body: Body::AppendEntriesResponse(result) }
    }

    #[test]
    fn an_acceptance_before_the_disk_is_found() {
        let mut invariant = PromisesSurvive::new(1);
        let mut before = view(Role::Follower, 3, &[1, 3], 0);
        assert_eq!(invariant.sent(0, &before, &accepted(2)), Ok(()));
        before.durable = 1;
        let violation = Violation::AcceptedBeforeDurable {
            node: node_id(0),
            term: Term::new(3),
            promised: index(2),
            durable: index(1),
        };
        assert_eq!(invariant.sent(0, &before, &accepted(2)), Err(violation));
    }

    #[test]
    fn what_is_forgotten_is_found() {
        let mut invariant = PromisesSurvive::new(1);
        let before = view(Role::Follower, 3, &[1, 3], 0);
        let body = Body::RequestVoteResponse { pre_vote: false, granted: true };
        let grant = Message { from: node_id(0), to: node_id(1), term: Term::new(3), body };
        invariant.sent(0, &before, &grant).expect("an honest vote");
        let (node, term, promised) = (node_id(0), Term::new(3), node_id(1));
        let violation = Violation::VoteForgotten { node, term, promised, found: None };
        assert_eq!(invariant.restarted(0, &before, &before), Err(violation));
        let now = view(Role::Follower, 2, &[1, 3], 0);
        let violation = Violation::TermForgotten { node, promised: term, found: Term::new(2) };
        assert_eq!(invariant.restarted(0, &before, &now), Err(violation));
        let now = view(Role::Follower, 4, &[1], 0);
        let violation = Violation::DurableEntryLost { node, index: index(2) };
        assert_eq!(invariant.restarted(0, &before, &now), Err(violation));
        let now = view(Role::Follower, 4, &[1, 3, 4], 0);
        assert_eq!(invariant.restarted(0, &before, &now), Ok(()));
    }
}
