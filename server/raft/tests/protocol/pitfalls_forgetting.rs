//! A node that lost part of its log to damage, and with it what it had promised: it comes back under its name, and
//! must not break a promise that it no longer knows of.

use crate::cluster::Cluster;
use crate::node::*;
use raft::{Body, Event, HardState, Raft, Refused, Role, SetupError};

/// Voter 1 of three with a log of these terms, in `current_term`, that may have forgotten promises up to `forgotten`.
fn forgetter(current_term: u64, terms: &[u64], forgotten: u64) -> Node {
    let disk = Disk { forgotten_term: Some(term(forgotten)), ..Disk::with(current_term, terms) };
    Node::new(options(1), voters(3), disk)
}

fn is_recovering(node: &Node) -> bool {
    node.raft.status().recovering
}

#[test]
fn it_goes_on_in_a_term_behind_the_forgotten_ones() {
    for (current_term, forgotten, expected) in [(2, 4, 5), (4, 4, 5), (5, 4, 5), (9, 4, 9), (0, 0, 1)] {
        let mut node = forgetter(current_term, &[], forgotten);
        assert_eq!(node.raft.current_term(), term(expected));
        assert!(is_recovering(&node));
        node.pump();
        assert_eq!(node.disk.hard_state.current_term, term(expected), "and that survives a crash");
    }
    let disk = Disk { forgotten_term: Some(term(u64::MAX)), ..Disk::default() };
    let restored = { disk }.restored(voters(3));
    assert_eq!(Raft::new(options(1), restored).err(), Some(SetupError::ForgottenTerm));
}

#[test]
fn a_vote_in_a_forgotten_term_does_not_come_back() {
    let mut disk = Disk { forgotten_term: Some(term(4)), ..Disk::default() };
    disk.hard_state = HardState { current_term: term(4), voted_for: Some(id(2)), ..HardState::default() };
    let node = Node::new(options(1), voters(3), disk);
    assert_eq!((node.raft.current_term(), node.raft.status().voted_for), (term(5), None));
}

#[test]
fn an_old_leader_counts_none_of_its_acknowledgements_any_more() {
    let mut node = forgetter(3, &[1, 1], 3);
    let sent = node.answer(2, 3, append((5, 3), Vec::new(), 4));
    assert_eq!((sent.len(), sent[0].term), (1, term(4)), "the leader of a forgotten term is deposed");
    assert_eq!(node.raft.last_index(), index(2));
}

#[test]
fn it_does_not_vote() {
    let mut node = forgetter(3, &[1, 1], 3);
    assert!(!is_granted(&node.answer(2, 5, pre_vote_request((9, 3)))));
    assert_eq!(node.raft.current_term(), term(4));
    let sent = node.answer(2, 6, vote_request((9, 3)));
    assert!(!is_granted(&sent));
    assert_eq!((sent[0].term, node.raft.status().voted_for), (term(6), None), "the term is news all the same");
    assert!(!is_granted(&node.answer(3, 6, vote_request((9, 5)))));
    assert!(!is_granted(&node.answer(3, 7, request((9, 5), false, true))), "nor for a leader's chosen successor");
}

#[test]
fn it_does_not_campaign() {
    let mut node = forgetter(3, &[1, 1], 3);
    for _ in 0..10 * ELECTION_TICKS_MAX {
        assert_eq!(node.tick(), []);
        assert_eq!(node.raft.role(), Role::Follower);
    }
    node.answer(2, 4, heartbeat(0, 0));
    assert_eq!(node.receive(2, 4, Body::TimeoutNow), Err(Refused::Recovering));
    // Its leader is gone, and that is all it notices.
    (0..2 * ELECTION_TICKS_MAX).for_each(|_| drop(node.tick()));
    assert_eq!((node.raft.leader(), node.raft.current_term()), (None, term(4)));
    assert!(!node.events.iter().any(|event| matches!(event, Event::PreCampaign { .. } | Event::Campaign { .. })));
}

#[test]
fn it_follows_and_acknowledges_what_it_has() {
    let mut node = forgetter(3, &[1, 1], 3);
    let sent = node.answer(2, 5, append((4, 3), vec![entry(5, 5)], 4));
    assert_eq!(sent[0].body, rejected(4, (2, 1)));
    let sent = node.answer(2, 5, append((2, 1), vec![entry(2, 3), entry(3, 4)], 4));
    assert_eq!(sent[0].body, accepted(4));
    assert_eq!(node.applied.len(), 4, "and applies");
    assert!(is_recovering(&node), "entry 4 is of a forgotten term: what comes behind it may have been acknowledged");
    node.answer(2, 5, append((4, 3), vec![entry(5, 5)], 4));
    assert!(is_recovering(&node), "entry 5 is not known to be committed");
    node.events.clear();
    node.answer(2, 5, heartbeat(5, 0));
    assert_eq!(node.events, [Event::Recovered { term: term(5) }]);
    assert!(!is_recovering(&node));
    node.tick_until(|node| node.raft.role() == Role::PreCandidate);
    assert!(is_granted(&node.answer(3, 8, vote_request((5, 5)))));
}

#[test]
fn what_ends_it_has_to_be_durable() {
    let mut node = forgetter(3, &[1, 1], 3);
    node.pump();
    node.disk_is_fast = false;
    node.answer(2, 5, append((2, 1), vec![entry(5, 3)], 3));
    assert_eq!((node.raft.commit_index(), is_recovering(&node)), (index(3), true));
    node.crash(0);
    assert!(is_recovering(&node));
    node.answer(2, 5, append((2, 1), vec![entry(5, 3)], 3));
    node.sync_all();
    assert!(!is_recovering(&node));
}

#[test]
fn a_restart_that_has_it_all_has_recovered() {
    let mut disk = Disk { forgotten_term: Some(term(3)), ..Disk::with(5, &[1, 1, 5, 5]) };
    disk.hard_state.commit_index = index(2);
    assert!(is_recovering(&Node::new(options(1), voters(3), disk.clone())));
    disk.hard_state.commit_index = index(3);
    let mut node = Node::new(options(1), voters(3), disk);
    assert!(!is_recovering(&node));
    node.pump();
    assert_eq!(node.events.first(), Some(&Event::Recovered { term: term(5) }));
}

#[test]
fn a_snapshot_of_a_later_term_ends_it() {
    let mut node = forgetter(3, &[1, 1], 3);
    assert!(node.install(&entries(&[1, 1, 2, 3])));
    assert!(is_recovering(&node), "what is committed behind it in term 3 may be missing");
    assert!(node.install(&entries(&[1, 1, 2, 3, 3, 4])));
    assert!(is_recovering(&node), "the log that it replaces is still on the disk, and leads nowhere");
    node.pump();
    node.sync_all();
    assert!(!is_recovering(&node));
}

#[test]
fn its_forgotten_acknowledgement_may_not_elect_a_leader_without_the_entry() {
    // Entry 3 of term 2 is committed by nodes 1 and 2. Node 1 loses it, and node 2 is cut off: with the vote of node 1,
    // node 3 would lead without the entry.
    let terms = |number| if number == 2 { vec![1, 1, 2] } else { vec![1, 1] };
    let disk = |number| Disk {
        forgotten_term: (number == 1).then_some(term(2)),
        ..Disk::with(if number == 3 { 1 } else { 2 }, &terms(number))
    };
    let mut cluster = Cluster::with(voters(3), options, disk);
    cluster.isolate(2);
    cluster.ticks(20 * ELECTION_TICKS_MAX);
    assert_eq!(cluster.leader(), None);
    cluster.heal();
    cluster.ticks(5 * ELECTION_TICKS_MAX);
    assert_eq!(cluster.leader(), Some(2), "nobody else can win");
    cluster.assert_converged();
    assert_eq!(cluster.node(1).log_terms()[..3], [1, 1, 2]);
    assert!(!is_recovering(cluster.node(1)));
    // From then on it is a voter like any other.
    cluster.isolate(2);
    cluster.ticks(5 * ELECTION_TICKS_MAX);
    assert!(cluster.nodes.values().any(|node| node.id() != id(2) && node.raft.is_leader()));
}

#[test]
fn alone_it_never_recovers() {
    let disk = Disk { forgotten_term: Some(term(2)), ..Disk::with(2, &[1, 1]) };
    let mut node = Node::new(options(1), voters(1), disk);
    (0..10 * ELECTION_TICKS_MAX).for_each(|_| drop(node.tick()));
    assert_eq!((node.raft.role(), is_recovering(&node)), (Role::Follower, true));
}
