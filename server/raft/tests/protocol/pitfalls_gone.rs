//! News that a leader's process has ended, true and false: it shortens the wait for an election, and nothing else.

use crate::cluster::Cluster;
use crate::node::*;
use raft::{Configuration, Event, Role};

fn has_campaigned(node: &Node) -> bool {
    node.events.iter().any(|event| matches!(event, Event::PreCampaign { .. }))
}

/// Node 1 of `count` nodes, which follows `leader` in term 1.
fn follower_of(leader: u64, count: u64) -> Node {
    let mut node = Node::first_of(count);
    node.answer(leader, 1, heartbeat(0, 0));
    node
}

#[test]
fn the_first_voter_that_is_left_leads_after_a_tick() {
    let mut cluster = Cluster::led_by_first(5);
    cluster.isolate(1);
    for number in 2..=5 {
        cluster.node(number).raft.peer_gone(id(1));
    }
    cluster.tick();
    assert_eq!((cluster.leader(), cluster.node(2).raft.current_term()), (Some(2), term(2)));
    cluster.ticks(ELECTION_TICKS_MIN);
    assert_eq!(cluster.leader(), Some(2));
    assert!((3..=5).all(|number| !has_campaigned(cluster.node(number))), "they split the votes");
}

#[test]
fn who_lacks_entries_leaves_the_lead_to_the_next() {
    let mut cluster = Cluster::led_by_first(3);
    cluster.isolate(2);
    cluster.node(1).propose("not on node 2");
    cluster.settle();
    cluster.heal();
    cluster.isolate(1);
    for number in [2, 3] {
        cluster.node(number).raft.peer_gone(id(1));
    }
    cluster.ticks(3);
    assert_eq!(cluster.leader(), Some(3));
    assert!(has_campaigned(cluster.node(2)), "its turn was the first");
}

#[test]
fn a_leader_that_others_hear_of_stays() {
    let mut cluster = Cluster::led_by_first(5);
    for _ in 0..20 {
        for number in [2, 3] {
            cluster.node(number).raft.peer_gone(id(1));
        }
        cluster.ticks(3);
    }
    assert!(has_campaigned(cluster.node(2)), "it was not even tried");
    assert_eq!((cluster.leader(), cluster.node(1).raft.current_term()), (Some(1), term(1)));
    cluster.ticks(HEARTBEAT_TICKS);
    assert!((2..=5).all(|number| cluster.node(number).raft.leader() == Some(id(1))));
}

#[test]
fn the_end_of_another_means_nothing() {
    let mut node = follower_of(2, 3);
    node.raft.peer_gone(id(3));
    node.raft.peer_gone(id(9));
    assert_eq!(node.raft.leader(), Some(id(2)));
    (1..ELECTION_TICKS_MIN).for_each(|_| drop(node.tick()));
    assert!(!has_campaigned(&node));

    let mut leader = Node::leader_of(3);
    leader.raft.peer_gone(id(2));
    leader.raft.peer_gone(id(1));
    assert!(leader.raft.is_leader());

    let mut candidate = Node::first_of(3);
    candidate.campaign();
    candidate.raft.peer_gone(id(2));
    assert_eq!(candidate.raft.role(), Role::Candidate);
}

#[test]
fn a_leader_that_is_heard_of_again_or_another_has_the_whole_timeout() {
    let mut again = follower_of(2, 3);
    again.raft.peer_gone(id(2));
    again.answer(2, 1, heartbeat(0, 1));
    let mut voter = follower_of(2, 3);
    voter.raft.peer_gone(id(2));
    assert!(is_granted(&voter.answer(3, 2, vote_request((0, 0)))), "it hears of no leader");
    for mut node in [again, voter] {
        (1..ELECTION_TICKS_MIN).for_each(|_| drop(node.tick()));
        assert!(!has_campaigned(&node));
    }
}

#[test]
fn who_may_not_campaign_does_not() {
    let configuration = Configuration::new([id(2), id(3)]).with_learners([id(1)]);
    let mut learner = Node::new(options(1), configuration, Disk::default());
    let disk = Disk { forgotten_term: Some(term(1)), ..Disk::default() };
    let mut forgetter = Node::new(options(1), voters(3), disk);
    for node in [&mut learner, &mut forgetter] {
        node.answer(2, 2, heartbeat(0, 0));
        node.raft.peer_gone(id(2));
        assert_eq!(node.raft.leader(), None);
        (0..3 * ELECTION_TICKS_MAX).for_each(|_| drop(node.tick()));
        assert!(!has_campaigned(node));
    }
}

#[test]
fn a_turn_is_never_longer_than_an_election_timeout() {
    let mut configuration: Vec<_> = (1..=40).map(id).collect();
    configuration.rotate_left(1);
    let mut last = Node::new(options(40), Configuration::new(configuration), Disk::default());
    last.answer(1, 1, heartbeat(0, 0));
    last.raft.peer_gone(id(1));
    for _ in 0..ELECTION_TICKS_MAX {
        last.tick();
    }
    assert!(has_campaigned(&last));
}
