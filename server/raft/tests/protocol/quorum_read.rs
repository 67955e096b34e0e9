//! What reads without a leader count: witnesses, against the plainest definition of what covers a majority.

use crate::node::*;
use crate::quorum::{NODES, is_majority, slot, subset};
use raft::{Configuration, ConfigurationId, Index, NodeId, Poll, Witness};
use std::collections::BTreeSet;

/// The greatest floor that a voter may have here; zero stands for none, as the voter is silent.
const FLOORS: u64 = 3;

fn witness(applied: u64, pending: u64) -> Witness {
    Witness { configuration: ConfigurationId::default(), applied: index(applied), pending: index(pending) }
}

/// A poll of the first configuration with these witnesses, all of which count.
fn poll(witnesses: &[(u64, Witness)]) -> Poll {
    let mut poll = Poll::new(ConfigurationId::default());
    for (from, witness) in witnesses {
        assert!(poll.note(id(*from), witness));
    }
    poll
}

/// Every function from the nodes to zero or a floor.
fn floors() -> impl Iterator<Item = [u64; NODES as usize]> {
    (0..(FLOORS + 1).pow(NODES)).map(|mut number| {
        std::array::from_fn(|_| {
            let digit = number % (FLOORS + 1);
            number /= FLOORS + 1;
            digit
        })
    })
}

#[test]
fn what_is_needed_covers_a_majority_of_each_set_and_no_less_does() {
    // Every node answers or not, voter or not; from what a floor comes does not matter.
    let of = |(node, &floor): (u64, &u64)| {
        let witness = if node % 2 == 0 { witness(floor, floor - 1) } else { witness(floor - 1, floor) };
        (node, witness)
    };
    let polls: Vec<_> = floors()
        .map(|floors| {
            let witnesses: Vec<_> = (1..).zip(&floors).filter(|(_, floor)| **floor > 0).map(of).collect();
            (floors, poll(&witnesses))
        })
        .collect();
    for incoming in 1..1_u32 << NODES {
        for outgoing in 0..1_u32 << NODES {
            // Symmetric under renaming, so some of the pairs are enough: those whose union starts at the first node.
            if (incoming | outgoing) & 1 != 0 {
                check(&subset(incoming), &subset(outgoing), &polls);
            }
        }
    }
}

fn check(incoming: &BTreeSet<NodeId>, outgoing: &BTreeSet<NodeId>, polls: &[([u64; NODES as usize], Poll)]) {
    let configuration = Configuration::joint(incoming.iter().copied(), outgoing.iter().copied());
    for (floors, poll) in polls {
        let covers = |least: u64| {
            let is_covered = |node: NodeId| (1..=least).contains(&floors[slot(node)]);
            is_majority(incoming, is_covered) && (outgoing.is_empty() || is_majority(outgoing, is_covered))
        };
        let expected = (1..=FLOORS).find(|&least| covers(least)).map(index);
        assert_eq!(poll.needed(&configuration), expected, "{configuration:?} {floors:?}");
    }
}

#[test]
fn the_lowest_floor_of_a_voter_is_kept() {
    let mut poll = poll(&[(1, witness(3, 7)), (2, witness(5, 0))]);
    assert_eq!(poll.needed(&voters(3)), Some(index(7)));
    // What was pending has vanished.
    assert!(poll.note(id(1), &witness(4, 0)));
    assert_eq!(poll.needed(&voters(3)), Some(index(5)));
    // What came later was not there when the read began.
    assert!(poll.note(id(1), &witness(9, 0)) && poll.note(id(2), &witness(5, 12)));
    assert_eq!(poll.needed(&voters(3)), Some(index(5)));
}

#[test]
fn a_voter_counts_once_however_often_it_answers() {
    let poll = poll(&[(1, witness(3, 0)), (1, witness(3, 0)), (1, witness(4, 5))]);
    assert_eq!(poll.needed(&voters(3)), None);
}

#[test]
fn witnesses_of_other_configurations_are_ignored() {
    let mine = ConfigurationId { term: term(2), index: index(4) };
    let others = [
        ConfigurationId::default(),
        ConfigurationId { term: term(1), ..mine },
        ConfigurationId { index: index(5), ..mine },
    ];
    let mut poll = Poll::new(mine);
    for (from, configuration) in [1, 2, 3].into_iter().zip(others) {
        assert!(!poll.note(id(from), &Witness { configuration, ..witness(3, 0) }), "{configuration:?}");
    }
    assert_eq!(poll.needed(&voters(3)), None);
    for from in [1, 2] {
        assert!(poll.note(id(from), &Witness { configuration: mine, ..witness(6, 0) }));
    }
    assert_eq!(poll.needed(&voters(3)), Some(index(6)), "and lower nothing");
}

#[test]
fn a_learner_gives_no_witness() {
    let with_learner = Configuration::new([id(2), id(3)]).with_learners([id(1)]);
    let learner = Node::new(options(1), with_learner.clone(), Disk::with(1, &[1]));
    assert_eq!(learner.raft.witness(Index::ZERO), None);
    // One of the others does, and a learner's word would not be counted either.
    let voter = Node::new(options(2), with_learner.clone(), Disk::with(1, &[1]));
    let word = voter.raft.witness(index(1)).expect("it votes");
    assert_eq!(word, witness(0, 1));
    assert_eq!(poll(&[(1, word), (2, word)]).needed(&with_learner), None);
    assert_eq!(poll(&[(3, word), (2, word)]).needed(&with_learner), Some(index(1)));
}

#[test]
fn voters_of_either_set_give_witnesses() {
    for number in [1, 2] {
        let joint = Configuration::joint([id(1)], [id(2)]);
        let node = Node::new(options(number), joint, Disk::default());
        assert_eq!(node.raft.witness(Index::ZERO), Some(witness(0, 0)));
    }
}

#[test]
fn who_may_have_forgotten_gives_no_witness() {
    let disk = Disk { forgotten_term: Some(term(3)), ..Disk::with(3, &[1, 1]) };
    let mut node = Node::new(options(1), voters(3), disk);
    assert_eq!(node.raft.witness(Index::ZERO), None);
    // An entry of a later term that is committed ends it.
    node.answer(2, 5, append((2, 1), vec![entry(3, 3)], 3));
    assert_eq!(node.raft.witness(Index::ZERO), None);
    node.answer(2, 5, append((3, 3), vec![entry(5, 4)], 4));
    assert_eq!(node.raft.witness(Index::ZERO), Some(witness(4, 0)));
}

#[test]
fn the_tail_is_what_is_behind_the_applied_entries() {
    let behind = |node: &Node, after: u64| -> Vec<u64> {
        node.raft.entries_behind(index(after)).map(|entry| entry.index.get()).collect()
    };
    let mut node = Node::leader_with_log(3, 1, &[1, 1]);
    node.propose("a");
    node.pump();
    assert_eq!(behind(&node, 0), [1, 2, 3, 4], "uncommitted, and those of others too");
    assert_eq!((behind(&node, 3), behind(&node, 4), behind(&node, 9)), (vec![4], vec![], vec![]));
    node.applies_at_once = false;
    node.answer(2, 2, accepted(3));
    assert_eq!((node.raft.commit_index(), behind(&node, 0)), (index(3), vec![1, 2, 3, 4]), "committed, not applied");
    node.raft.applied(index(3));
    assert_eq!((behind(&node, 0), node.raft.witness(index(4))), (vec![4], Some(witness(3, 4))));
}
