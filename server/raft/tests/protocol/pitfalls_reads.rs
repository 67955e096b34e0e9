//! Linearizable reads: ways in which other implementations served old values or lost the question.

use crate::cluster::Cluster;
use crate::node::*;
use raft::{Body, Configuration, READS_MAX, ReadError, ReadId, Refused};

fn confirm(round: u64) -> Body {
    Body::HeartbeatResponse { round, promised: false }
}

fn read(number: u64) -> ReadId {
    ReadId::new(number)
}

/// A leader of three that has committed an entry of its term.
fn leader() -> Node {
    let mut leader = Node::leader_of(3);
    leader.answer(2, 1, accepted(1));
    leader.answer(3, 1, accepted(1));
    leader
}

#[test]
fn an_answer_to_an_earlier_round_confirms_nothing() {
    let mut leader = leader();
    leader.raft.read(read(1)).expect("taken");
    leader.pump();
    leader.answer(2, 1, confirm(1));
    assert_eq!(leader.reads, [(read(1), index(1))]);
    leader.raft.read(read(2)).expect("taken");
    leader.pump();
    // Delayed and doubled answers to the first round, and to heartbeats from before any round.
    for (peer, round) in [(3, 1), (2, 1), (3, 0), (2, 0)] {
        leader.answer(peer, 1, confirm(round));
    }
    assert_eq!(leader.reads.len(), 1);
    leader.answer(3, 1, confirm(2));
    assert_eq!(leader.reads, [(read(1), index(1)), (read(2), index(1))]);
}

#[test]
fn reads_that_arrive_during_a_round_share_the_next() {
    let mut leader = leader();
    leader.raft.read(read(1)).expect("taken");
    leader.raft.read(read(2)).expect("taken");
    let heartbeats = leader.pump().iter().filter(|message| message.body == heartbeat(1, 1)).count();
    assert_eq!(heartbeats, 2, "one round for both");
    leader.raft.read(read(3)).expect("taken");
    leader.raft.read(read(4)).expect("taken");
    assert_eq!(leader.pump(), [], "a round is under way");
    let messages = leader.answer(2, 1, confirm(1));
    assert_eq!(leader.reads, [(read(1), index(1)), (read(2), index(1))]);
    assert!(messages.iter().any(|message| message.body == heartbeat(1, 2)), "the next round begins");
    leader.answer(2, 1, confirm(2));
    assert_eq!(leader.reads.len(), 4);
}

#[test]
fn a_read_waits_for_what_was_committed_when_its_round_began() {
    let mut leader = leader();
    leader.propose("a");
    leader.pump();
    leader.raft.read(read(1)).expect("taken");
    leader.pump();
    leader.answer(2, 1, accepted(2));
    leader.answer(2, 1, confirm(1));
    assert_eq!(leader.reads, [(read(1), index(1))], "index 2 was committed after the round began");
    leader.raft.read(read(2)).expect("taken");
    leader.pump();
    leader.answer(3, 1, confirm(2));
    assert_eq!(leader.reads[1], (read(2), index(2)));
}

#[test]
fn a_lost_round_is_asked_again_with_the_heartbeats() {
    let mut leader = leader();
    leader.raft.read(read(1)).expect("taken");
    leader.pump();
    let mut messages = leader.tick();
    messages.extend(leader.tick());
    assert!(messages.iter().any(|message| message.body == heartbeat(1, 1)));
    leader.answer(3, 1, confirm(1));
    assert_eq!(leader.reads.len(), 1);
}

#[test]
fn a_round_that_was_never_asked_is_refused() {
    let mut leader = leader();
    assert_eq!(leader.receive(2, 1, confirm(1)), Err(Refused::UnknownRound));
    assert_eq!(leader.receive(2, 1, confirm(u64::MAX)), Err(Refused::UnknownRound));
    leader.raft.read(read(1)).expect("taken");
    leader.pump();
    assert_eq!(leader.reads, []);
}

#[test]
fn rounds_of_an_earlier_term_are_refused() {
    let mut leader = Node::leader_with_log(3, 3, &[1, 3]);
    leader.answer(2, 4, accepted(3));
    leader.raft.read(read(1)).expect("taken");
    leader.pump();
    assert_eq!(leader.receive(2, 3, confirm(1)), Err(Refused::StaleTerm));
    assert_eq!(leader.reads, []);
}

#[test]
fn reads_end_with_the_leadership() {
    let mut leader = leader();
    leader.raft.read(read(1)).expect("taken");
    leader.pump();
    leader.raft.read(read(2)).expect("taken");
    leader.answer(2, 2, heartbeat(0, 0));
    assert_eq!((leader.reads, leader.aborted_reads), (vec![], vec![read(1), read(2)]));
}

#[test]
fn reads_end_when_the_quorum_is_lost() {
    let mut leader = Node::leader_of(3);
    leader.raft.read(read(1)).expect("taken");
    leader.tick_until(|node| !node.raft.is_leader());
    assert_eq!(leader.aborted_reads, [read(1)], "also one that never got into a round");
}

#[test]
fn a_deposed_leader_serves_no_reads() {
    let mut cluster = Cluster::led_by_first(3);
    cluster.isolate(1);
    cluster.elect(2);
    cluster.node(2).propose("news");
    cluster.settle();
    if cluster.node(1).raft.is_leader() {
        cluster.node(1).raft.read(read(1)).expect("it still believes that it leads");
    }
    cluster.settle();
    cluster.heal();
    cluster.ticks(2 * ELECTION_TICKS_MAX);
    assert_eq!(cluster.node(1).reads, []);
}

#[test]
fn learners_confirm_nothing_and_joint_needs_both_majorities() {
    let configuration = Configuration::joint([id(1), id(2), id(3)], [id(1), id(4), id(5)]).with_learners([id(6)]);
    let mut leader = Node::new(options(1), configuration, Disk::default());
    leader.campaign();
    for voter in [2, 4] {
        leader.receive(voter, 1, vote(true)).expect("a vote");
    }
    leader.pump();
    for voter in [2, 4] {
        leader.answer(voter, 1, accepted(1));
    }
    leader.raft.read(read(1)).expect("taken");
    leader.pump();
    for peer in [2, 3, 6] {
        leader.answer(peer, 1, confirm(1));
        assert_eq!(leader.reads, []);
    }
    leader.answer(5, 1, confirm(1));
    assert_eq!(leader.reads.len(), 1);
}

#[test]
fn waiting_reads_are_bounded() {
    let mut leader = Node::leader_of(3);
    for number in 0..READS_MAX as u64 {
        leader.raft.read(read(number)).expect("below the bound");
    }
    assert_eq!(leader.raft.read(read(0)), Err(ReadError::TooManyReads));
    leader.answer(2, 1, accepted(1));
    leader.answer(2, 1, confirm(1));
    assert_eq!(leader.reads.len(), READS_MAX);
    leader.raft.read(read(0)).expect("there is room again");
}
