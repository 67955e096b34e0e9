//! Terms and leader election: sections 5.1 and 5.2, and their part of Figure 2.

use crate::cluster::Cluster;
use crate::node::*;
use raft::{Body, Refused, Role};

/// §5.1: "if one server's current term is smaller than the other's, then it updates its current term to the larger
/// value".
#[test]
fn a_smaller_term_is_updated_to_the_larger() {
    for (kind, body) in [
        ("AppendEntries", append((0, 0), vec![], 0)),
        ("Heartbeat", heartbeat(0, 0)),
        ("RequestVote", vote_request((0, 0))),
        ("RequestVoteResponse", vote(false)),
        ("AppendEntriesResponse", rejected(1, (0, 0))),
        ("HeartbeatResponse", Body::HeartbeatResponse { round: 0, promised: false }),
    ] {
        let mut node = Node::with_log(3, 1, &[]);
        let _ = node.receive(2, 5, body);
        assert_eq!(node.raft.current_term(), term(5), "after {kind}");
        node.pump();
        assert_eq!(node.disk.hard_state.current_term, term(5), "after {kind}");
    }
}

/// §5.1: "If a candidate or leader discovers that its term is out of date, it immediately reverts to follower state."
#[test]
fn a_candidate_or_leader_of_an_old_term_becomes_follower() {
    let mut candidate = Node::first_of(3);
    candidate.campaign();
    assert_eq!(candidate.raft.role(), Role::Candidate);
    candidate.receive(2, 9, vote(false)).expect("a later term is news");
    assert_eq!((candidate.raft.role(), candidate.raft.current_term()), (Role::Follower, term(9)));

    for body in [accepted(1), rejected(1, (0, 0)), Body::HeartbeatResponse { round: 0, promised: false }] {
        let mut leader = Node::leader_of(3);
        leader.receive(2, 9, body).expect("a later term is news");
        assert_eq!((leader.raft.role(), leader.raft.current_term()), (Role::Follower, term(9)));
    }
}

/// §5.1: "If a server receives a request with a stale term number, it rejects the request." Figure 2: "Reply false if
/// term < currentTerm". The answer carries the current term, so that the sender learns it.
#[test]
fn a_request_of_a_stale_term_is_rejected() {
    for body in [append((0, 0), entries(&[1]), 1), heartbeat(0, 0), vote_request((0, 0)), pre_vote_request((0, 0))] {
        let mut node = Node::with_log(3, 5, &[]);
        let answers = node.answer(2, 4, body);
        assert_eq!(answers.len(), 1);
        assert_eq!(answers[0].term, term(5));
        let granted = matches!(
            answers[0].body,
            Body::RequestVoteResponse { granted: true, .. }
                | Body::AppendEntriesResponse(raft::AppendResult::Accepted { .. })
        );
        assert!(!granted, "{:?}", answers[0]);
        assert_eq!((node.raft.leader(), node.raft.last_index().get()), (None, 0));
    }
}

/// §5.2: "When servers start up, they begin as followers."
#[test]
fn servers_begin_as_followers() {
    for node in [Node::first_of(1), Node::first_of(3), Node::with_log(3, 7, &[1, 7])] {
        assert_eq!((node.raft.role(), node.raft.leader()), (Role::Follower, None));
    }
}

/// §5.2: "A server remains in follower state as long as it receives valid RPCs from a leader or candidate."
#[test]
fn a_follower_that_hears_of_its_leader_stays_one() {
    let mut node = Node::first_of(3);
    for _ in 0..100 {
        for _ in 0..ELECTION_TICKS_MIN - 1 {
            node.tick();
        }
        node.receive(2, 1, heartbeat(0, 0)).expect("a heartbeat");
        assert_eq!((node.raft.role(), node.raft.leader()), (Role::Follower, Some(id(2))));
    }
}

/// §5.2: "Leaders send periodic heartbeats […] to all followers in order to maintain their authority."
#[test]
fn a_leader_sends_heartbeats_to_all() {
    let mut leader = Node::leader_of(5);
    for _ in 0..3 {
        let mut messages = Vec::new();
        for _ in 0..HEARTBEAT_TICKS {
            messages.extend(leader.tick());
        }
        let to: Vec<u64> = messages
            .iter()
            .filter(|message| message.body.kind() == "Heartbeat" && message.term == term(1))
            .map(|message| message.to.get())
            .collect();
        assert_eq!(to, [2, 3, 4, 5]);
    }
}

/// §5.2: "If a follower receives no communication over a period of time called the election timeout, then it assumes
/// there is no viable leader and begins an election". With the pre-vote (thesis §9.6) it first asks, in no new term.
#[test]
fn silence_for_an_election_timeout_begins_an_election() {
    let mut node = Node::first_of(3);
    let mut ticks = 0;
    while node.raft.role() == Role::Follower {
        ticks += 1;
        node.raft.tick();
    }
    assert!((ELECTION_TICKS_MIN..=ELECTION_TICKS_MAX).contains(&ticks), "after {ticks} ticks");
    assert_eq!((node.raft.role(), node.raft.current_term()), (Role::PreCandidate, term(0)));
    let messages = node.pump();
    assert_eq!(messages.len(), 2);
    assert!(messages.iter().all(|message| message.term == term(1) && message.body == pre_vote_request((0, 0))));
    assert!(node.disk.hard_state == raft::HardState::default(), "a pre-vote promises nothing");
}

/// §5.2: "To begin an election, a follower increments its current term and transitions to candidate state. It then
/// votes for itself and issues RequestVote RPCs in parallel to each of the other servers in the cluster."
#[test]
fn an_election_raises_the_term_votes_for_itself_and_asks_all() {
    let mut node = Node::with_log(5, 3, &[1, 3]);
    let requests = node.campaign();
    assert_eq!((node.raft.role(), node.raft.current_term()), (Role::Candidate, term(4)));
    assert_eq!(node.disk.hard_state.voted_for, Some(id(1)), "its own vote is durable before it asks");
    assert_eq!(requests.iter().map(|message| message.to.get()).collect::<Vec<_>>(), [2, 3, 4, 5]);
    assert!(requests.iter().all(|message| message.term == term(4) && message.body == vote_request((2, 3))));
}

/// §5.2: "A candidate wins an election if it receives votes from a majority of the servers in the full cluster for the
/// same term."
#[test]
fn a_majority_of_votes_wins() {
    // Of 1, 2, 3, 5 voters: how many others have to grant, and how many refusals end it.
    for (count, needed) in [(1, 0), (2, 1), (3, 1), (4, 2), (5, 2), (7, 3)] {
        let mut node = Node::first_of(count);
        node.campaign();
        for voter in 2..2 + needed {
            assert_ne!(node.raft.role(), Role::Leader, "{count} voters, before the vote of {voter}");
            node.receive(voter, 1, vote(true)).expect("a vote");
        }
        assert_eq!(node.raft.role(), Role::Leader, "{needed} of {count}");
    }
    let mut node = Node::first_of(5);
    node.campaign();
    for voter in 2..=4 {
        assert_eq!(node.raft.role(), Role::Candidate);
        node.receive(voter, 1, vote(false)).expect("a refusal");
    }
    assert_eq!(node.raft.role(), Role::Follower, "three of five refused");
}

/// §5.2: "Each server will vote for at most one candidate in a given term, on a first-come-first-served basis".
#[test]
fn a_server_votes_for_one_candidate_in_a_term() {
    let mut node = Node::first_of(3);
    assert!(is_granted(&node.answer(2, 1, vote_request((0, 0)))));
    assert!(!is_granted(&node.answer(3, 1, vote_request((0, 0)))));
    assert!(is_granted(&node.answer(3, 2, vote_request((0, 0)))), "a new term, a new vote");
    node.crash(0);
    assert!(!is_granted(&node.answer(2, 2, vote_request((0, 0)))), "the vote outlives a crash");
}

/// §5.2: "Once a candidate wins an election, it becomes leader. It then sends heartbeat messages to all of the other
/// servers to establish its authority and prevent new elections." Here the first entries do that.
#[test]
fn a_new_leader_speaks_to_all_at_once() {
    let mut node = Node::first_of(3);
    node.campaign();
    node.receive(2, 1, vote(true)).expect("a vote");
    let messages = node.pump();
    let appends: Vec<u64> = messages
        .iter()
        .filter(|message| message.body.kind() == "AppendEntries")
        .map(|message| message.to.get())
        .collect();
    assert_eq!(appends, [2, 3]);
}

/// §5.2: "If the leader's term (included in its RPC) is at least as large as the candidate's current term, then the
/// candidate recognizes the leader as legitimate and returns to follower state. If the term in the RPC is smaller […]
/// then the candidate rejects the RPC and continues in candidate state."
#[test]
fn a_candidate_recognizes_a_leader_of_its_term_or_later() {
    for (leader_term, recognized) in [(4, false), (5, true), (6, true)] {
        for body in [append((0, 0), vec![], 0), heartbeat(0, 0)] {
            let mut node = Node::with_log(3, 4, &[]);
            node.campaign();
            assert_eq!(node.raft.current_term(), term(5));
            let answers = node.answer(2, leader_term, body);
            let expected = if recognized { Role::Follower } else { Role::Candidate };
            assert_eq!(node.raft.role(), expected, "a leader of term {leader_term}");
            assert_eq!(node.raft.leader(), recognized.then_some(id(2)));
            assert_eq!(answers[0].term, term(leader_term.max(5)));
        }
    }
}

/// §5.2: "if many followers become candidates at the same time, votes could be split so that no candidate obtains a
/// majority. When this happens, each candidate will time out and start a new election".
#[test]
fn a_split_vote_starts_another_round() {
    let mut node = Node::first_of(4);
    node.campaign();
    node.receive(2, 1, vote(true)).expect("a vote");
    node.receive(3, 1, vote(false)).expect("a refusal");
    assert_eq!(node.raft.role(), Role::Candidate, "two of four");
    node.tick_until(|node| node.raft.role() == Role::PreCandidate);
    node.campaign();
    assert_eq!((node.raft.role(), node.raft.current_term()), (Role::Candidate, term(2)));
}

/// §5.2: "election timeouts are chosen randomly from a fixed interval", and "Each candidate restarts its randomized
/// election timeout at the start of an election".
#[test]
fn election_timeouts_are_random_and_drawn_anew() {
    let mut node = Node::first_of(3);
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..400 {
        let mut ticks = 0;
        loop {
            ticks += 1;
            if node.tick().iter().any(|message| message.body.kind() == "RequestPreVote") {
                break;
            }
        }
        assert!((ELECTION_TICKS_MIN..=ELECTION_TICKS_MAX).contains(&ticks), "{ticks} ticks");
        seen.insert(ticks);
    }
    assert_eq!(seen.len(), (ELECTION_TICKS_MAX - ELECTION_TICKS_MIN + 1) as usize, "only {seen:?}");
}

/// Election Safety (§5.2): "at most one leader can be elected in a given term". A second one is not believed.
#[test]
fn a_second_leader_in_a_term_is_refused() {
    let mut follower = Node::first_of(3);
    follower.receive(2, 1, heartbeat(0, 0)).expect("a heartbeat");
    assert_eq!(follower.receive(3, 1, heartbeat(0, 0)), Err(Refused::TwoLeaders));
    assert_eq!(follower.receive(3, 1, append((0, 0), entries(&[1]), 0)), Err(Refused::TwoLeaders));
    assert_eq!((follower.raft.leader(), follower.raft.last_index()), (Some(id(2)), index(0)));
    let mut leader = Node::leader_of(3);
    assert_eq!(leader.receive(3, 1, append((0, 0), entries(&[1]), 0)), Err(Refused::TwoLeaders));
    assert!(leader.raft.is_leader());
}

/// Figure 2, persistent state: "Updated on stable storage before responding to RPCs".
#[test]
fn a_vote_leaves_only_when_it_is_durable() {
    let mut voter = Node::first_of(3);
    voter.disk_is_fast = false;
    assert_eq!(voter.answer(2, 1, vote_request((0, 0))), []);
    voter.sync_all();
    assert!(is_granted(&voter.pump()));

    let mut candidate = Node::first_of(3);
    candidate.disk_is_fast = false;
    assert_eq!(candidate.campaign(), [], "its own vote is not durable yet");
    assert_eq!(candidate.raft.role(), Role::Candidate);
    candidate.sync_all();
    assert_eq!(candidate.pump().len(), 2);
}

/// A cluster of any size elects one leader by itself, and keeps it.
#[test]
fn clusters_elect_a_leader_and_keep_it() {
    for count in 1..=7 {
        let mut cluster = Cluster::new(count);
        cluster.ticks(10 * ELECTION_TICKS_MAX);
        let leader = cluster.leader().expect("a leader was elected");
        let leader_term = cluster.node(leader).raft.current_term();
        cluster.ticks(20 * ELECTION_TICKS_MAX);
        assert_eq!(cluster.leader(), Some(leader));
        for node in cluster.nodes.values() {
            assert_eq!((node.raft.leader(), node.raft.current_term()), (Some(id(leader)), leader_term));
        }
        cluster.assert_converged();
    }
}
