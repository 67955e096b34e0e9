//! News that a leader's process has ended, true and false: it shortens the wait for an election, and nothing else.

use crate::cluster::Cluster;
use crate::node::*;
use raft::{Configuration, Event, Options, Role};
use std::collections::BTreeMap;

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

/// Election timeouts that are long beside the turns of those who campaign.
const PATIENT_TICKS_MIN: u32 = 100;
const TURN_TICKS: u32 = PATIENT_TICKS_MIN / 16;

fn patient(number: u64) -> Options {
    Options {
        election_timeout_ticks_min: PATIENT_TICKS_MIN,
        election_timeout_ticks_max: 2 * PATIENT_TICKS_MIN,
        ..options(number)
    }
}

/// A cluster that node 1 leads, and then is gone, as are the nodes that `lengths` does not name. Of each that is left
/// it says how many of the last entries it has.
fn leaderless(count: u64, lengths: &BTreeMap<u64, u32>) -> Cluster {
    let mut cluster = Cluster::with(voters(count), patient, |_| Disk::default());
    cluster.elect(1);
    for length in 0..lengths.values().copied().max().unwrap_or(0) {
        let lacks_it = |number: &u64| lengths.get(number).is_none_or(|&has| has <= length);
        (2..=count).filter(lacks_it).for_each(|number| cluster.isolate(number));
        cluster.node(1).propose("not on all");
        cluster.settle();
        cluster.heal();
    }
    (1..=count).filter(|number| !lengths.contains_key(number)).for_each(|number| cluster.isolate(number));
    cluster
}

fn has_another_leader(cluster: &Cluster) -> bool {
    cluster.leader() != Some(1)
}

/// Tells these nodes of the end of node 1, each when the one before it has asked in vain; how long it takes from the
/// last of them on until there is a leader.
fn ticks_to_a_leader(cluster: &mut Cluster, told: &[u64]) -> u32 {
    let mut ticks = 0;
    for &number in told {
        // Who asks for the first time does not meet one who asks again, which would split the votes.
        cluster.ticks(TURN_TICKS / 2);
        cluster.node(number).raft.peer_gone(id(1));
        ticks = 0;
        while !has_campaigned(cluster.node(number)) && !has_another_leader(cluster) {
            cluster.tick();
            ticks += 1;
        }
    }
    while !has_another_leader(cluster) {
        cluster.tick();
        ticks += 1;
        assert!(ticks < 4 * PATIENT_TICKS_MIN, "nobody is elected");
    }
    ticks
}

/// All orders of these numbers.
fn orders(numbers: &[u64]) -> Vec<Vec<u64>> {
    if numbers.is_empty() {
        return vec![vec![]];
    }
    let with_first = |first: &u64| {
        let others: Vec<u64> = numbers.iter().copied().filter(|number| number != first).collect();
        orders(&others).into_iter().map(|order| [vec![*first], order].concat()).collect::<Vec<_>>()
    };
    numbers.iter().flat_map(with_first).collect()
}

/// Lets these be left of `count` nodes, with logs of each of so many lengths, and be told in each order.
fn a_leader_comes_soon(count: u64, left: &[u64], lengths: u32, ticks_max: u32) {
    for drawn in 0..lengths.pow(u32::try_from(left.len()).expect("they are few")) {
        let length = |place| drawn / lengths.pow(place) % lengths;
        let has: BTreeMap<u64, u32> = left.iter().zip(0..).map(|(&number, place)| (number, length(place))).collect();
        for told in orders(left) {
            let ticks = ticks_to_a_leader(&mut leaderless(count, &has), &told);
            assert!(ticks <= ticks_max, "{told:?} were told, with logs of {has:?}: {ticks} ticks");
        }
    }
}

/// Two logs of different lengths: the longer is told first, and refused by who hears of the leader still. That one asks
/// when it is told, and is refused for its log.
#[test]
fn who_asked_too_early_asks_again_when_the_other_is_told() {
    // The turn of node 3, and the tick after it: who is gone takes no turn.
    a_leader_comes_soon(3, &[2, 3], 3, TURN_TICKS + 2);
}

#[test]
fn three_of_five_that_are_told_one_by_one_have_a_leader_soon() {
    a_leader_comes_soon(5, &[2, 3, 4], 3, PATIENT_TICKS_MIN / 2);
    a_leader_comes_soon(5, &[3, 4, 5], 3, PATIENT_TICKS_MIN / 2);
}

/// Here those who were told first lose their ballots, where in the tests above they wait for the dead.
#[test]
fn four_of_five_that_are_told_one_by_one_have_a_leader_soon() {
    a_leader_comes_soon(5, &[2, 3, 4, 5], 2, PATIENT_TICKS_MIN / 2);
}

#[test]
fn whoever_is_asked_all_the_time_asks_once_in_a_turn() {
    let mut node = Node::new(patient(1), voters(3), Disk::with(1, &[1, 1]));
    let turns: usize = 50;
    for _ in 0..turns * TURN_TICKS as usize {
        node.tick();
        node.receive(3, 2, pre_vote_request((1, 1))).expect("it is answered");
    }
    let is_campaign = |event: &&Event| matches!(event, Event::PreCampaign { .. });
    let count = node.events.iter().filter(is_campaign).count();
    assert!((2..=turns).contains(&count), "{count} campaigns in {turns} turns");
    assert_eq!(node.raft.current_term(), term(1));
}

#[test]
fn a_refusal_wakes_neither_who_hears_of_a_leader_nor_a_candidate() {
    let mut follower = Node::with_log(3, 1, &[1]);
    follower.answer(2, 1, heartbeat(0, 0));
    let mut candidate = Node::with_log(3, 0, &[1]);
    candidate.campaign();
    let asked = candidate.events.len();
    for node in [&mut follower, &mut candidate] {
        let after = node.raft.current_term().get() + 1;
        assert!(!is_granted(&node.answer(3, after, pre_vote_request((0, 0)))));
        (1..ELECTION_TICKS_MIN).for_each(|_| drop(node.tick()));
    }
    assert!(!has_campaigned(&follower));
    assert_eq!((candidate.raft.role(), candidate.events.len()), (Role::Candidate, asked));
}
