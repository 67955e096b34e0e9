//! Leader leases (thesis §6.4.1): ways in which a promise was broken, or a lease held without one.

use crate::cluster::Cluster;
use crate::node::*;
use raft::{Body, Configuration, ReadId, Refused, Role};

/// How long a promise holds: a tick that was due already may come right behind it.
const PROMISE_TICKS: u32 = ELECTION_TICKS_MIN + 1;

fn promise(round: u64) -> Body {
    Body::HeartbeatResponse { round, promised: true }
}

/// Node 1 of three, which has just promised its leader, node 2 in term 1, to elect nobody.
fn promised() -> Node {
    let mut node = Node::first_of(3);
    node.raft.set_leases(true);
    let sent = node.answer(2, 1, heartbeat(0, 7));
    assert_eq!(sent[0].body, promise(7));
    node
}

fn ticks(node: &mut Node, count: u32) {
    (0..count).for_each(|_| drop(node.tick()));
}

/// A leader of three with leases that has committed an entry of its term, and has not begun a round.
fn leader() -> Node {
    let mut leader = Node::leader_of(3);
    leader.raft.set_leases(true);
    leader.answer(2, 1, accepted(1));
    leader
}

#[test]
fn without_leases_nothing_is_promised_and_rounds_are_for_reads() {
    let mut node = Node::first_of(3);
    let sent = node.answer(2, 1, heartbeat(0, 0));
    assert_eq!(sent[0].body, Body::HeartbeatResponse { round: 0, promised: false });
    node.raft.peer_gone(id(2));
    assert!(is_granted(&node.answer(3, 2, vote_request((0, 0)))));

    let mut leader = leader();
    leader.raft.set_leases(false);
    ticks(&mut leader, 2 * HEARTBEAT_TICKS);
    assert_eq!((leader.raft.heartbeat_round(), leader.raft.promised_round()), (Some(0), None));
}

#[test]
fn who_promised_votes_for_nobody_whatever_it_is_told_of_the_leader() {
    let mut node = promised();
    node.raft.peer_gone(id(2));
    for _ in 0..PROMISE_TICKS {
        assert!(!is_granted(&node.answer(3, 2, pre_vote_request((0, 0)))));
        assert_eq!(node.receive(3, 2, vote_request((0, 0))), Err(Refused::LeaderAlive));
        assert_eq!((node.raft.role(), node.raft.current_term()), (Role::Follower, term(1)));
        node.tick();
    }
    // In the very tick in which the promise ends it would campaign itself.
    let mut node = promised();
    ticks(&mut node, PROMISE_TICKS);
    assert!(is_granted(&node.answer(3, 2, vote_request((0, 0)))));
}

#[test]
fn a_promise_outlives_the_term() {
    let mut node = promised();
    // A later leader: whoever elected it had promised nothing, or no more.
    node.raft.set_leases(false);
    node.answer(3, 5, heartbeat(0, 0));
    node.raft.peer_gone(id(3));
    assert_eq!(node.receive(2, 6, vote_request((0, 0))), Err(Refused::LeaderAlive));
    assert!(!is_granted(&node.answer(2, 5, vote_request((0, 0)))), "not in the present term either");
    ticks(&mut node, PROMISE_TICKS);
    assert!(is_granted(&node.answer(2, 6, vote_request((0, 0)))));
}

#[test]
fn an_answer_to_an_old_campaign_takes_nobody_out_of_the_term() {
    let mut node = Node::first_of(3);
    node.raft.set_leases(true);
    node.campaign();
    node.answer(2, 1, heartbeat(0, 0));
    node.raft.peer_gone(id(2));
    let refusal = Body::RequestVoteResponse { pre_vote: false, granted: false };
    assert_eq!(node.receive(3, 9, refusal), Err(Refused::LeaderAlive));
    assert_eq!(node.raft.current_term(), term(1));
}

#[test]
fn a_process_that_may_have_promised_begins_as_if_it_had() {
    let mut node = promised();
    node.disk.may_have_promised = true;
    node.crash(0);
    ticks(&mut node, PROMISE_TICKS - 1);
    assert_eq!(node.receive(3, 2, vote_request((0, 0))), Err(Refused::LeaderAlive));
    node.tick();
    assert!(is_granted(&node.answer(3, 2, vote_request((0, 0)))));
}

#[test]
fn an_election_that_the_leader_asks_for_breaks_the_promise() {
    let mut voter = promised();
    assert!(is_granted(&voter.answer(3, 2, request((0, 0), false, true))));
    let mut target = promised();
    target.answer(2, 1, Body::TimeoutNow);
    assert_eq!(target.raft.role(), Role::Candidate);
}

#[test]
fn the_end_of_a_leader_is_believed_when_promises_end() {
    let mut cluster = Cluster::led_by_first(5);
    for number in 1..=5 {
        cluster.node(number).raft.set_leases(true);
    }
    cluster.ticks(2 * HEARTBEAT_TICKS);
    cluster.isolate(1);
    for number in 2..=5 {
        cluster.node(number).raft.peer_gone(id(1));
    }
    cluster.ticks(PROMISE_TICKS - HEARTBEAT_TICKS);
    assert_eq!(cluster.leader(), Some(1));
    cluster.ticks(HEARTBEAT_TICKS + 1);
    assert_eq!((cluster.leader(), cluster.node(2).raft.current_term()), (Some(2), term(2)), "one after the other");
}

#[test]
fn a_lease_needs_the_promises_of_a_majority() {
    let members = Configuration::new((1..=5).map(id)).with_learners([id(6), id(7)]);
    let mut leader = Node::new(options(1), members, Disk::default());
    leader.raft.set_leases(true);
    leader.campaign();
    for body in [vote(true), accepted(1)] {
        [2, 3].into_iter().for_each(|voter| drop(leader.answer(voter, 1, body.clone())));
    }
    ticks(&mut leader, 3 * HEARTBEAT_TICKS);
    assert_eq!((leader.raft.heartbeat_round(), leader.raft.promised_round()), (Some(3), None));
    let plain = Body::HeartbeatResponse { round: 3, promised: false };
    for (from, body) in [(2, promise(3)), (6, promise(3)), (7, promise(3)), (3, plain)] {
        leader.answer(from, 1, body);
        assert_eq!(leader.raft.promised_round(), None, "after {from}");
    }
    leader.answer(4, 1, promise(1));
    assert_eq!(leader.raft.promised_round(), Some(1));
    leader.answer(3, 1, promise(2));
    assert_eq!(leader.raft.promised_round(), Some(2));
    leader.answer(3, 1, promise(1));
    assert_eq!(leader.raft.promised_round(), Some(2), "an answer that comes late");
    assert_eq!(leader.receive(3, 1, promise(4)), Err(Refused::UnknownRound));
}

#[test]
fn who_does_not_know_what_is_committed_has_no_lease() {
    let mut leader = Node::leader_of(3);
    leader.raft.set_leases(true);
    ticks(&mut leader, HEARTBEAT_TICKS);
    leader.answer(2, 1, promise(1));
    assert_eq!(leader.raft.promised_round(), None);
    leader.answer(2, 1, accepted(1));
    assert_eq!(leader.raft.promised_round(), Some(1));
}

#[test]
fn who_has_asked_for_an_election_has_no_lease_in_this_term() {
    let mut leader = leader();
    ticks(&mut leader, HEARTBEAT_TICKS);
    leader.answer(2, 1, promise(1));
    leader.raft.transfer_leadership(id(3)).expect("it begins");
    assert_eq!(leader.raft.promised_round(), Some(1), "node 3 has to catch up first");
    let sent = leader.answer(3, 1, accepted(1));
    assert!(kinds(&sent, 3).contains(&"TimeoutNow"));
    assert_eq!(leader.raft.promised_round(), None);
    for round in 2..ELECTION_TICKS_MIN.into() {
        ticks(&mut leader, HEARTBEAT_TICKS);
        leader.answer(2, 1, promise(round));
        assert_eq!(leader.raft.promised_round(), None, "the message may still be on its way");
    }
    assert!(leader.raft.is_leader(), "the transfer was given up");
}

#[test]
fn who_stops_leading_has_no_lease() {
    let mut leader = leader();
    ticks(&mut leader, HEARTBEAT_TICKS);
    leader.answer(2, 1, promise(1));
    leader.answer(3, 2, heartbeat(0, 0));
    assert_eq!((leader.raft.heartbeat_round(), leader.raft.promised_round()), (None, None));
}

#[test]
fn rounds_of_heartbeats_do_not_hold_up_reads() {
    let mut leader = leader();
    leader.raft.read(ReadId::new(1)).expect("taken");
    leader.pump();
    ticks(&mut leader, 2 * HEARTBEAT_TICKS);
    assert_eq!(leader.raft.heartbeat_round(), Some(3));
    leader.answer(3, 1, promise(1));
    assert_eq!(leader.reads, [(ReadId::new(1), index(1))], "it was begun in the first of three rounds");
}
