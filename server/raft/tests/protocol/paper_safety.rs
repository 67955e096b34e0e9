//! The election restriction, commitment of earlier terms, and clients: sections 5.4 and 8.

use crate::cluster::Cluster;
use crate::node::*;
use raft::{Body, Payload, ReadError, ReadId};

/// §5.4.1: "the voter denies its vote if its own log is more up-to-date than that of the candidate." If "the logs have
/// last entries with different terms, then the log with the later term is more up-to-date. If the logs end with the
/// same term, then whichever log is longer is more up-to-date."
#[test]
fn the_vote_goes_to_logs_that_are_as_up_to_date() {
    let logs: [&[u64]; 6] = [&[], &[1], &[1, 1, 1], &[2], &[1, 2], &[1, 3]];
    for own in logs {
        for candidate in logs {
            let last = (candidate.len() as u64, candidate.last().copied().unwrap_or(0));
            let own_last = (own.len() as u64, own.last().copied().unwrap_or(0));
            let expected = (last.1, last.0) >= (own_last.1, own_last.0);
            let mut node = Node::with_log(3, 4, own);
            assert_eq!(is_granted(&node.answer(2, 5, pre_vote_request(last))), expected, "{own:?} {candidate:?}");
            assert_eq!(is_granted(&node.answer(2, 5, vote_request(last))), expected, "{own:?} {candidate:?}");
        }
    }
}

/// §5.4.2: "Raft never commits log entries from previous terms by counting replicas. Only log entries from the leader's
/// current term are committed by counting replicas". This is Figure 8, step by step, with node 1 as S1.
#[test]
fn figure_8_earlier_terms_are_not_committed_by_counting() {
    // (c): S1 leads again, in term 4; the entry of term 2 reaches S2 and S3.
    let mut leader = Node::leader_with_log(5, 3, &[1, 2]);
    leader.answer(2, 4, accepted(2));
    leader.answer(3, 4, accepted(2));
    assert_eq!(leader.raft.commit_index(), index(0), "the entry of term 2 is on a majority and not committed");
    // (d): S5, elected by S2, S3 and S4 with its entry of term 3, may still replace it.
    let mut replaced = Node::with_log(5, 4, &[1, 2]);
    replaced.answer(5, 5, append((1, 1), vec![entry(3, 2)], 0));
    assert_eq!(replaced.log_terms(), [1, 3]);
    // (e): but once an entry of term 4 is on a majority, everything before it is committed.
    leader.answer(2, 4, accepted(3));
    assert_eq!(leader.raft.commit_index(), index(0));
    leader.answer(3, 4, accepted(3));
    assert_eq!(leader.raft.commit_index(), index(3));
}

/// §5.4 (Leader Completeness, Figure 3): a committed entry is in the log of every later leader, so a node that lacks
/// it cannot win.
#[test]
fn a_node_without_committed_entries_cannot_win() {
    let mut cluster = Cluster::led_by_first(3);
    cluster.isolate(3);
    cluster.node(1).propose("committed by 1 and 2");
    cluster.settle();
    cluster.heal();
    cluster.isolate(1);
    // Node 3 campaigns as often as it likes: node 2 has the entry and refuses.
    for _ in 0..10 * ELECTION_TICKS_MAX {
        let messages = cluster.node(3).tick();
        cluster.in_transit.extend(messages);
        cluster.settle();
        assert!(!cluster.node(3).raft.is_leader());
    }
    cluster.ticks(4 * ELECTION_TICKS_MAX);
    assert_eq!(cluster.leader(), Some(2));
    cluster.heal();
    cluster.ticks(2 * ELECTION_TICKS_MAX);
    cluster.assert_converged();
}

/// §8: "Raft handles this by having each leader commit a blank no-op entry into the log at the start of its term."
#[test]
fn a_new_leader_commits_a_noop() {
    let mut leader = Node::leader_with_log(3, 1, &[1]);
    assert_eq!(leader.log_terms(), [1, 2]);
    leader.answer(2, 2, accepted(2));
    assert_eq!(leader.applied.last().map(|entry| &entry.payload), Some(&Payload::Noop));
}

/// §8: "a leader must check whether it has been deposed before processing a read-only request […]. Raft handles this
/// by having the leader exchange heartbeat messages with a majority of the cluster before responding".
#[test]
fn a_read_waits_for_a_majority_of_heartbeats() {
    let mut leader = Node::leader_of(5);
    leader.answer(2, 1, accepted(1));
    leader.answer(3, 1, accepted(1));
    leader.raft.read(ReadId::new(7)).expect("a leader takes reads");
    let asked = leader.pump();
    let heartbeats = asked.iter().filter(|message| message.body == heartbeat(1, 1) || message.body == heartbeat(0, 1));
    assert_eq!(heartbeats.count(), 4);
    leader.answer(2, 1, Body::HeartbeatResponse { round: 1, promised: false });
    assert_eq!(leader.reads, [], "two of five");
    leader.answer(4, 1, Body::HeartbeatResponse { round: 1, promised: false });
    assert_eq!(leader.reads, [(ReadId::new(7), index(1))]);

    let mut follower = Node::first_of(3);
    assert_eq!(follower.raft.read(ReadId::new(1)), Err(ReadError::NoLeader));
}

/// §8: "a leader must have the latest information on which entries are committed", which it has not "at the start of
/// its term".
#[test]
fn a_read_waits_for_the_first_commit_of_the_term() {
    let mut leader = Node::leader_with_log(3, 1, &[1]);
    leader.raft.read(ReadId::new(1)).expect("a leader takes reads");
    assert!(leader.pump().iter().all(|message| message.body.kind() != "Heartbeat"), "no round yet");
    leader.answer(2, 2, accepted(2));
    leader.answer(2, 2, Body::HeartbeatResponse { round: 1, promised: false });
    assert_eq!(leader.reads, [(ReadId::new(1), index(2))]);
}

/// The smallest cluster: a single voter elects itself, commits what its disk has, and reads at once.
#[test]
fn a_single_voter_works() {
    let mut node = Node::leader_of(1);
    assert_eq!(node.raft.commit_index(), index(1));
    node.disk_is_fast = false;
    node.propose("a");
    node.pump();
    assert_eq!(node.raft.commit_index(), index(1), "not before its disk has it");
    node.sync_all();
    node.pump();
    assert_eq!(node.applied.len(), 2);
    node.raft.read(ReadId::new(1)).expect("a leader takes reads");
    node.pump();
    assert_eq!(node.reads, [(ReadId::new(1), index(2))]);
}
