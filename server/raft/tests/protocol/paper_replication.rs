//! Log replication: section 5.3, section 5.5, and their part of Figure 2.

use crate::cluster::Cluster;
use crate::node::*;
use raft::{AppendResult, Body, Message, ProposeError};

fn appends(messages: &[Message]) -> Vec<(u64, &Body)> {
    let appends = messages.iter().filter(|message| message.body.kind() == "AppendEntries");
    appends.map(|message| (message.to.get(), &message.body)).collect()
}

fn answer_of(messages: &[Message]) -> AppendResult {
    match messages {
        [Message { body: Body::AppendEntriesResponse(result), .. }] => *result,
        other => panic!("expected one answer to an append: {other:?}"),
    }
}

/// §5.3: "The leader appends the command to its log as a new entry, then issues AppendEntries RPCs in parallel to each
/// of the other servers to replicate the entry." It does not wait for its own disk (thesis §10.2.1).
#[test]
fn a_command_is_appended_and_sent_to_all_at_once() {
    let mut leader = Node::leader_of(3);
    leader.answer(2, 1, accepted(1));
    leader.answer(3, 1, accepted(1));
    leader.disk_is_fast = false;
    assert_eq!(leader.propose("a"), (term(1), index(2)));
    assert_eq!(leader.propose("b"), (term(1), index(3)));
    let messages = leader.pump();
    let sent = appends(&messages);
    assert_eq!(sent.iter().map(|(to, _)| *to).collect::<Vec<_>>(), [2, 3], "one message a follower for both commands");
    for (_, body) in sent {
        let Body::AppendEntries { prev_log_index, prev_log_term, entries, .. } = body else { unreachable!() };
        assert_eq!((*prev_log_index, *prev_log_term), (index(1), term(1)));
        assert_eq!(entries.iter().map(|entry| entry.index.get()).collect::<Vec<_>>(), [2, 3]);
    }
}

/// Clients talk to the leader (§8); others say who it is.
#[test]
fn only_a_leader_takes_commands() {
    let mut node = Node::first_of(3);
    assert_eq!(node.raft.propose("a".into()), Err(ProposeError::NotLeader { leader: None }));
    node.receive(2, 1, heartbeat(0, 0)).expect("a heartbeat");
    assert_eq!(node.raft.propose("a".into()), Err(ProposeError::NotLeader { leader: Some(id(2)) }));
}

/// §5.3: "A log entry is committed once the leader that created the entry has replicated it on a majority of the
/// servers". The leader is one of them once its own disk has the entry.
#[test]
fn an_entry_is_committed_on_a_majority() {
    let mut leader = Node::leader_of(5);
    leader.propose("a");
    leader.pump();
    leader.answer(2, 1, accepted(2));
    assert_eq!(leader.raft.commit_index(), index(0), "two of five");
    leader.answer(3, 1, accepted(2));
    assert_eq!(leader.raft.commit_index(), index(2), "three of five");
    assert_eq!(leader.applied.len(), 2);
}

/// The leader counts itself when its disk has the entry, not before; a majority of others is enough without it.
#[test]
fn the_leader_counts_itself_when_its_disk_has_the_entry() {
    let mut leader = Node::leader_of(3);
    leader.answer(2, 1, accepted(1));
    leader.disk_is_fast = false;
    leader.propose("a");
    leader.pump();
    leader.answer(2, 1, accepted(2));
    assert_eq!(leader.raft.commit_index(), index(1), "one of three is durable");
    leader.sync_all();
    assert_eq!(leader.raft.commit_index(), index(2));

    leader.propose("b");
    leader.pump();
    leader.answer(2, 1, accepted(3));
    leader.answer(3, 1, accepted(3));
    assert_eq!(leader.raft.commit_index(), index(3), "the others are a majority");
    assert_eq!(leader.raft.status().durable_index, index(2));
}

/// §5.3: "This also commits all preceding entries in the leader's log, including entries created by previous leaders."
#[test]
fn committing_an_entry_commits_all_before_it() {
    let mut leader = Node::leader_with_log(3, 2, &[1, 1, 2]);
    assert_eq!(leader.raft.commit_index(), index(0));
    leader.answer(2, 3, accepted(4));
    assert_eq!(leader.raft.commit_index(), index(4));
    assert_eq!(leader.applied.iter().map(|entry| entry.term.get()).collect::<Vec<_>>(), [1, 1, 2, 3]);
}

/// §5.3: "The leader keeps track of the highest index it knows to be committed, and it includes that index in future
/// AppendEntries RPCs (including heartbeats) so that the other servers eventually find out." An idle follower is told
/// at once.
#[test]
fn followers_learn_what_is_committed() {
    let mut leader = Node::leader_of(3);
    leader.answer(2, 1, accepted(1));
    leader.answer(3, 1, accepted(1));
    leader.propose("a");
    leader.pump();
    let messages = leader.answer(2, 1, accepted(2));
    assert_eq!(appends(&messages), [(2, &append((2, 1), vec![], 2))], "node 3 still has entries to answer for");
    let messages = leader.answer(3, 1, accepted(2));
    assert_eq!(appends(&messages), [(3, &append((2, 1), vec![], 2))]);
    assert_eq!(leader.pump(), [], "told once");
    leader.tick();
    let heartbeats = leader.tick();
    assert!(heartbeats.iter().all(|message| message.body == heartbeat(2, 0)), "{heartbeats:?}");
}

/// §5.3: "Once a follower learns that a log entry is committed, it applies the entry to its local state machine (in
/// log order)."
#[test]
fn a_follower_applies_what_is_committed_in_order() {
    let mut node = Node::first_of(3);
    node.answer(2, 1, append((0, 0), entries(&[1, 1, 1]), 0));
    assert_eq!(node.applied, []);
    node.answer(2, 1, append((3, 1), vec![], 2));
    assert_eq!(node.applied, entries(&[1, 1]));
    node.answer(2, 1, heartbeat(3, 0));
    assert_eq!(node.applied, entries(&[1, 1, 1]));
}

/// §5.3: "If the follower does not find an entry in its log with the same index and term, then it refuses the new
/// entries." Figure 2: "Reply false if log doesn't contain an entry at prevLogIndex whose term matches prevLogTerm".
#[test]
fn the_consistency_check_refuses_what_does_not_follow() {
    for (prev, terms, accepted) in [
        ((0, 0), &[][..], true),
        ((1, 1), &[], false),
        ((1, 1), &[1], true),
        ((1, 1), &[2], false),
        ((2, 2), &[1, 2], true),
        ((2, 1), &[1, 2], false),
        ((3, 2), &[1, 2], false),
    ] {
        let mut node = Node::with_log(3, 3, terms);
        let result = answer_of(&node.answer(2, 3, append(prev, vec![entry(3, prev.0 + 1)], 0)));
        let expected = AppendResult::Accepted { match_index: index(prev.0 + 1) };
        assert_eq!(result == expected, accepted, "{prev:?} on {terms:?}: {result:?}");
        if !accepted {
            assert_eq!(node.log_terms(), terms, "a refusal changes nothing");
        }
    }
}

/// Figure 2: "If an existing entry conflicts with a new one (same index but different terms), delete the existing
/// entry and all that follow it", and "Append any new entries not already in the log".
#[test]
fn conflicting_entries_are_replaced() {
    for (prev, new, expected) in [
        ((0, 0), vec![entry(3, 1)], &[3][..]),
        ((1, 1), vec![entry(3, 2)], &[1, 3]),
        ((1, 1), vec![entry(1, 2), entry(3, 3), entry(3, 4)], &[1, 1, 3, 3]),
        ((3, 2), vec![entry(3, 4)], &[1, 1, 2, 3]),
        ((1, 1), vec![entry(1, 2)], &[1, 1, 2]),
        ((2, 1), vec![], &[1, 1, 2]),
    ] {
        let mut node = Node::with_log(3, 3, &[1, 1, 2]);
        node.answer(2, 3, append(prev, new, 0));
        assert_eq!(node.log_terms(), expected);
        let on_disk: Vec<u64> = node.disk.entries.iter().map(|entry| entry.term.get()).collect();
        assert_eq!(on_disk, expected, "the disk follows");
    }
}

/// Figure 2: "If leaderCommit > commitIndex, set commitIndex = min(leaderCommit, index of last new entry)".
#[test]
fn the_commit_index_is_bounded_by_the_last_new_entry() {
    for (prev, new, leader_commit, expected) in [
        ((0, 0), vec![], 3, 0),
        ((1, 1), vec![], 3, 1),
        ((1, 1), vec![entry(1, 2)], 3, 2),
        ((2, 1), vec![entry(1, 3)], 2, 2),
        ((3, 1), vec![], 9, 3),
    ] {
        let mut node = Node::with_log(3, 2, &[1, 1, 1]);
        node.answer(2, 2, append(prev, new, leader_commit));
        assert_eq!(node.raft.commit_index(), index(expected));
    }
}

/// §5.3: "When a leader first comes to power, it initializes all nextIndex values to the index just after the last one
/// in its log", and Figure 2: matchIndex "initialized to 0".
#[test]
fn a_new_leader_guesses_that_logs_are_alike() {
    let mut node = Node::with_log(3, 2, &[1, 1, 2]);
    node.campaign();
    node.receive(2, 3, vote(true)).expect("a vote");
    for (_, view) in node.raft.status().progress {
        assert_eq!((view.match_index, view.next_index, view.state), (index(0), index(4), "probe"));
    }
    let messages = node.pump();
    for (_, body) in appends(&messages) {
        let Body::AppendEntries { prev_log_index, prev_log_term, .. } = body else { unreachable!() };
        assert_eq!((*prev_log_index, *prev_log_term), (index(3), term(2)));
    }
}

/// §5.3: "After a rejection, the leader decrements nextIndex and retries the AppendEntries RPC." It skips a whole term
/// of conflicts at once, as the end of the section describes.
#[test]
fn after_a_rejection_the_leader_tries_further_back() {
    let mut leader = Node::leader_with_log(3, 6, &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6]);
    // A follower with the log 1 1 1 2 2 2 3 3 3 3 3: nothing of terms 4, 5 or 6.
    let messages = leader.answer(2, 7, rejected(10, (9, 3)));
    let sent = appends(&messages);
    assert_eq!(sent.len(), 1);
    let Body::AppendEntries { prev_log_index, prev_log_term, .. } = sent[0].1 else { unreachable!() };
    assert_eq!((*prev_log_index, *prev_log_term), (index(3), term(1)));
}

/// §5.3: "the leader handles inconsistencies by forcing the followers' logs to duplicate its own". The six logs are
/// those of Figure 7.
#[test]
fn logs_of_figure_7_become_the_leaders() {
    let leader_log: &[u64] = &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6];
    let follower_logs: [&[u64]; 6] = [
        &[1, 1, 1, 4, 4, 5, 5, 6, 6],
        &[1, 1, 1, 4],
        &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6],
        &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7],
        &[1, 1, 1, 4, 4, 4, 4],
        &[1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3],
    ];
    let mut cluster = Cluster::with(voters(7), options, |number| match number {
        1 => Disk::with(7, leader_log),
        number => Disk::with(7, follower_logs[usize::try_from(number - 2).expect("small")]),
    });
    // Nodes c and d have longer or newer logs and refuse, the other four agree.
    cluster.elect(1);
    cluster.assert_converged();
    assert_eq!(cluster.node(7).log_terms(), [leader_log, &[8]].concat());
}

/// §5.3: "A leader never overwrites or deletes entries in its own log" (Leader Append-Only, Figure 3).
#[test]
fn a_leader_only_appends() {
    let mut leader = Node::leader_with_log(3, 2, &[1, 2]);
    let before = leader.log_terms();
    let _ = leader.receive(2, 3, append((0, 0), entries(&[3]), 0));
    let _ = leader.receive(2, 2, append((0, 0), entries(&[2, 2, 2]), 0));
    assert_eq!(leader.raft.current_term(), term(3));
    leader.raft.check_invariants();
    assert_eq!(before, [1, 2, 3]);
}

/// §5.5: "Raft RPCs are idempotent, so this causes no harm."
#[test]
fn repeated_requests_are_answered_alike_and_change_nothing() {
    let mut node = Node::first_of(3);
    let body = append((0, 0), entries(&[1, 1, 1]), 2);
    let first = node.answer(2, 1, body.clone());
    let second = node.answer(2, 1, body);
    assert_eq!(first, second);
    assert_eq!((node.log_terms(), node.raft.commit_index()), (vec![1, 1, 1], index(2)));
    let messages = node.answer(2, 1, append((0, 0), entries(&[1]), 0));
    assert_eq!(answer_of(&messages), AppendResult::Accepted { match_index: index(1) });
    assert_eq!((node.log_terms(), node.raft.commit_index()), (vec![1, 1, 1], index(2)));
}

/// §5.5: "If a follower or candidate crashes, then future RequestVote and AppendEntries RPCs sent to it will fail.
/// Raft handles these failures by retrying indefinitely".
#[test]
fn a_follower_that_was_away_is_brought_up_to_date() {
    let mut cluster = Cluster::led_by_first(3);
    cluster.isolate(3);
    for number in 0..50 {
        cluster.node(1).propose(&format!("command {number}"));
        cluster.settle();
    }
    cluster.heal();
    cluster.ticks(2 * HEARTBEAT_TICKS);
    cluster.assert_converged();
}

/// Figure 2, persistent state: entries too are "Updated on stable storage before responding to RPCs".
#[test]
fn an_acceptance_leaves_only_when_the_entries_are_durable() {
    let mut node = Node::first_of(3);
    node.disk_is_fast = false;
    assert_eq!(node.answer(2, 1, append((0, 0), entries(&[1]), 0)), []);
    node.sync_all();
    assert_eq!(answer_of(&node.pump()), AppendResult::Accepted { match_index: index(1) });
}
