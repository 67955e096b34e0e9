//! The arithmetic of majorities against the plainest definition, for every configuration of up to five voters.

use crate::node::id;
use raft::{Ballot, Configuration, NodeId};
use std::collections::BTreeSet;

pub(crate) const NODES: u32 = 5;

pub(crate) fn subset(bits: u32) -> BTreeSet<NodeId> {
    (0..NODES).filter(|bit| bits & (1 << bit) != 0).map(|bit| id(u64::from(bit) + 1)).collect()
}

/// Every function from the nodes to 0, 1 or 2.
fn assignments() -> impl Iterator<Item = [u64; NODES as usize]> {
    (0..3_u64.pow(NODES)).map(|mut number| {
        std::array::from_fn(|_| {
            let digit = number % 3;
            number /= 3;
            digit
        })
    })
}

pub(crate) fn slot(node: NodeId) -> usize {
    usize::try_from(node.get() - 1).expect("small")
}

/// More than half of the set.
pub(crate) fn is_majority(voters: &BTreeSet<NodeId>, of: impl Fn(NodeId) -> bool) -> bool {
    2 * voters.iter().filter(|&&node| of(node)).count() > voters.len()
}

#[test]
fn both_majorities_are_counted_as_by_the_definition() {
    for incoming in 1..1_u32 << NODES {
        for outgoing in 0..1_u32 << NODES {
            // Symmetric under renaming, so some of the pairs are enough: those whose union starts at the first node.
            if (incoming | outgoing) & 1 == 0 {
                continue;
            }
            check(&subset(incoming), &subset(outgoing));
        }
    }
}

fn check(incoming: &BTreeSet<NodeId>, outgoing: &BTreeSet<NodeId>) {
    let configuration = Configuration::joint(incoming.iter().copied(), outgoing.iter().copied());
    configuration.validate().expect("well formed");
    let both =
        |of: &dyn Fn(NodeId) -> bool| is_majority(incoming, of) && (outgoing.is_empty() || is_majority(outgoing, of));
    for values in assignments() {
        let value = |node: NodeId| values[slot(node)];
        // The greatest value that both majorities have reached.
        let expected = (0..3).rev().find(|&floor| both(&|node| value(node) >= floor)).expect("all have reached zero");
        assert_eq!(configuration.majority_value(value), expected, "{configuration:?} {values:?}");

        // 0: silent, 1: no, 2: yes.
        let vote = |node: NodeId| [None, Some(false), Some(true)][slot_of(values[slot(node)])];
        let expected = if both(&|node| vote(node) == Some(true)) {
            Ballot::Won
        } else if both(&|node| vote(node) != Some(false)) {
            Ballot::Open
        } else {
            Ballot::Lost
        };
        assert_eq!(configuration.ballot(vote), expected, "{configuration:?} {values:?}");
        assert_eq!(configuration.has_quorum(|node| vote(node) == Some(true)), expected == Ballot::Won);
    }
}

fn slot_of(value: u64) -> usize {
    usize::try_from(value).expect("0, 1 or 2")
}

#[test]
fn learners_are_never_counted() {
    let configuration = Configuration::new([id(1), id(2), id(3)]).with_learners([id(4), id(5)]);
    assert_eq!(configuration.majority_value(|node| node.get()), 2);
    assert_eq!(configuration.ballot(|node| Some(node.get() > 3)), Ballot::Lost);
    assert!(!configuration.is_voter(id(4)) && configuration.contains(id(4)));
    assert_eq!(configuration.members().len(), 5);
    assert_eq!(configuration.all_voters().len(), 3);
}

#[test]
fn malformed_configurations_are_told() {
    use raft::ConfigurationError;
    assert_eq!(Configuration::new([]).validate(), Err(ConfigurationError::NoVoters));
    assert_eq!(Configuration::joint([], [id(1)]).validate(), Err(ConfigurationError::NoVoters));
    let both = Configuration::joint([id(1)], [id(2)]).with_learners([id(2)]);
    assert_eq!(both.validate(), Err(ConfigurationError::LearnerVotes(id(2))));
}
