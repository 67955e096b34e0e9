//! Limits: ways in which other implementations grew without bound, or let a counter leak until nothing moved.

use crate::cluster::Cluster;
use crate::node::*;
use raft::{Body, Entry, Fetch, Message, NodeId, Options, ProposeError, Raft, SetupError};

fn entries_in(message: &Message) -> &[Entry] {
    match &message.body {
        Body::AppendEntries { entries, .. } => entries,
        _ => &[],
    }
}

fn fill(node: &mut Node) -> usize {
    let mut count = 0;
    while node.raft.propose(vec![0; 68].into()).is_ok() {
        count += 1;
        assert!(count < 10_000, "nothing limits the log");
    }
    assert_eq!(node.raft.propose(vec![0; 68].into()), Err(ProposeError::TooManyUncommitted));
    count
}

#[test]
fn the_uncommitted_log_is_bounded_and_the_bound_does_not_leak() {
    let small = |number| Options { uncommitted_bytes_max: 1_000, ..options(number) };
    let mut cluster = Cluster::with(voters(3), small, |_| Disk::default());
    cluster.elect(1);
    for round in 0..50 {
        // Entries of 100 bytes with their overhead.
        assert_eq!(fill(cluster.node(1)), 10, "in round {round}");
        cluster.settle();
    }
    cluster.isolate(1);
    assert_eq!(fill(cluster.node(1)), 10);
    cluster.elect(2);
    assert_eq!(fill(cluster.node(2)), 10, "the other side starts from its own log");
    cluster.settle();
    cluster.heal();
    cluster.ticks(2 * HEARTBEAT_TICKS);
    cluster.assert_converged();
    cluster.isolate(2);
    cluster.elect(1);
    assert_eq!(fill(cluster.node(1)), 10, "truncated entries are no longer counted");
}

#[test]
fn one_entry_is_accepted_however_large() {
    let small = Options { uncommitted_bytes_max: 100, append_bytes_max: 100, ..options(1) };
    let mut node = Node::new(small, voters(1), Disk::default());
    node.campaign();
    node.pump();
    node.raft.propose(vec![0; 5_000].into()).expect("nothing else is uncommitted");
    assert!(node.raft.propose(vec![0; 1].into()).is_err());
    node.pump();
    assert_eq!(node.applied.len(), 2);
}

#[test]
fn empty_commands_count_too() {
    let small = Options { uncommitted_bytes_max: 3_200, ..options(1) };
    let mut node = Node::new(small, voters(1), Disk::default());
    node.campaign();
    node.pump();
    let accepted = (0..1_000).filter(|_| node.raft.propose(Vec::new().into()).is_ok()).count();
    assert_eq!(accepted, 100);
}

#[test]
fn no_message_exceeds_its_bound_but_for_a_single_entry() {
    let small = |number| Options { append_bytes_max: 250, inflight_messages_max: 4, ..options(number) };
    let mut cluster = Cluster::with(voters(3), small, |_| Disk::default());
    cluster.elect(1);
    for number in 0..100_usize {
        cluster.node(1).raft.propose(vec![0; number * 7 % 400].into()).expect("below the bound");
    }
    cluster.settle();
    cluster.assert_converged();
    let mut largest_count = 0;
    for message in &cluster.delivered {
        let entries = entries_in(message);
        let bytes: usize = entries.iter().map(Entry::size_bytes).sum();
        assert!(bytes <= 250 || entries.len() == 1, "{} entries of {bytes} bytes", entries.len());
        largest_count = largest_count.max(entries.len());
    }
    assert!(largest_count > 1, "small entries travel together");
}

#[test]
fn the_window_of_a_follower_is_bounded_and_opens_again() {
    let small = Options { append_bytes_max: 1, inflight_messages_max: 3, ..options(1) };
    let mut leader = Node::new(small, voters(3), Disk::default());
    leader.campaign();
    leader.receive(2, 1, vote(true)).expect("a vote");
    leader.pump();
    leader.answer(2, 1, accepted(1));
    for number in 0..10 {
        leader.propose(&format!("{number}"));
    }
    let sent = |messages: &[Message]| messages.iter().filter(|message| message.to == id(2)).count();
    assert_eq!(sent(&leader.pump()), 3);
    assert_eq!(sent(&leader.answer(2, 1, accepted(2))), 1, "one was answered, one more may go");
    assert_eq!(sent(&leader.answer(2, 1, accepted(2))), 0, "a repeat opens nothing");
    // Everything in flight is lost. The follower is alive, so one empty append asks, and its rejection tells.
    let nudge = leader.answer(2, 1, Body::HeartbeatResponse { round: 0, promised: false });
    assert_eq!((sent(&nudge), entries_in(&nudge[0]).len()), (1, 0));
    leader.answer(2, 1, rejected(5, (2, 1)));
    leader.answer(2, 1, accepted(3));
    for number in 4..=11 {
        leader.answer(2, 1, accepted(number));
    }
    assert_eq!(leader.raft.commit_index(), index(11));
}

#[test]
fn reads_do_not_multiply_appends() {
    // Each round of reads is answered while entries are on their way, which is no sign of loss.
    let mut leader = Node::leader_of(3);
    leader.answer(2, 1, accepted(1));
    leader.answer(3, 1, accepted(1));
    leader.propose("slow to arrive");
    leader.pump();
    let mut appends = 0;
    for round in 1..=100 {
        leader.raft.read(raft::ReadId::new(round)).expect("taken");
        leader.pump();
        let messages = leader.answer(2, 1, Body::HeartbeatResponse { round, promised: false });
        appends += messages.iter().filter(|message| message.body.kind() == "AppendEntries").count();
    }
    assert_eq!((leader.reads.len(), appends), (100, 1));
}

/// A cluster whose nodes keep almost nothing in memory.
fn forgetful() -> Cluster {
    let small = |number| Options { tail_bytes_max: 0, append_bytes_max: 200, ..options(number) };
    Cluster::with(voters(3), small, |_| Disk::default())
}

fn leave_behind(cluster: &mut Cluster) {
    cluster.elect(1);
    cluster.isolate(3);
    for number in 0..40 {
        cluster.node(1).propose(&format!("command {number}"));
        cluster.settle();
    }
    cluster.node(1).fetches.clear();
}

#[test]
fn a_follower_behind_the_memory_is_fed_from_the_disk() {
    let mut cluster = forgetful();
    leave_behind(&mut cluster);
    cluster.heal();
    cluster.ticks(2 * HEARTBEAT_TICKS);
    cluster.assert_converged();
    let fetches = std::mem::take(&mut cluster.node(1).fetches);
    assert!(!fetches.is_empty());
    assert!(fetches.iter().all(|fetch| fetch.peer == id(3) && fetch.term == term(1) && fetch.bytes_max == 200));
    assert!(fetches.is_sorted_by_key(|fetch| fetch.from), "each entry is read once: {fetches:?}");
}

#[test]
fn a_read_that_fails_is_tried_again_at_the_next_heartbeat() {
    let mut cluster = forgetful();
    leave_behind(&mut cluster);
    cluster.node(1).reads_fail = true;
    cluster.heal();
    cluster.ticks(10 * HEARTBEAT_TICKS);
    let tries = cluster.node(1).fetches.len();
    assert!((5..=11).contains(&tries), "{tries} tries in 10 heartbeats");
    cluster.node(1).reads_fail = false;
    cluster.ticks(3 * HEARTBEAT_TICKS);
    cluster.assert_converged();
}

#[test]
fn one_fetch_at_a_time_and_late_answers_do_no_harm() {
    let forgetful = Options { tail_bytes_max: 0, ..options(1) };
    let mut leader = Node::new(forgetful, voters(3), Disk::with(1, &[1; 10]));
    leader.campaign();
    leader.receive(3, 2, vote(true)).expect("a vote");
    leader.pump();
    // Node 3 makes everything committed, applied and evicted; node 2 is far behind.
    leader.answer(3, 2, accepted(11));
    assert_eq!(leader.raft.status().applied, index(11));
    leader.receive(2, 2, rejected(10, (2, 1))).expect("valid");
    let ready = leader.raft.ready();
    assert_eq!((entries_in(&ready.messages[0]).len(), ready.fetches.len()), (0, 0), "a guess reads nothing");
    leader.receive(2, 2, accepted(2)).expect("valid");
    let fetches = leader.raft.ready().fetches;
    let fetch = Fetch { peer: id(2), term: term(2), from: index(3), bytes_max: 1 << 20 };
    assert_eq!(fetches, [fetch]);
    // The state changes to and fro while the disk is busy; there is still one read.
    for _ in 0..3 {
        leader.raft.unreachable(id(2));
        leader.raft.ready();
        leader.receive(2, 2, accepted(2)).expect("valid");
        assert_eq!(leader.raft.ready().fetches, []);
    }
    // Answers to other questions, and answers that are no log of ours.
    leader.raft.fetched(Fetch { term: term(1), ..fetch }, entries(&[1; 10])[2..].to_vec());
    leader.raft.fetched(Fetch { peer: id(9), ..fetch }, entries(&[1; 10])[2..].to_vec());
    leader.raft.fetched(Fetch { from: index(4), ..fetch }, entries(&[1; 10])[3..].to_vec());
    assert!(!leader.raft.has_ready());
    leader.raft.fetched(fetch, vec![entry(7, 3)]);
    assert!(!leader.raft.has_ready(), "wrong entries are as good as none");
    (0..HEARTBEAT_TICKS).for_each(|_| leader.raft.tick());
    assert_eq!(leader.raft.ready().fetches, [fetch], "asked again with the heartbeat");
    leader.raft.fetched(fetch, entries(&[1; 10])[2..].to_vec());
    let messages = leader.raft.ready().messages;
    assert_eq!(entries_in(&messages[0]).len(), 8);
    leader.raft.fetched(fetch, entries(&[1; 10])[2..].to_vec());
    assert!(!leader.raft.has_ready(), "the same answer again");
}

#[test]
fn the_tail_keeps_what_is_not_applied_or_not_durable() {
    let forgetful = Options { tail_bytes_max: 0, ..options(1) };
    let mut node = Node::new(forgetful, voters(3), Disk::default());
    node.disk_is_fast = false;
    node.applies_at_once = false;
    node.answer(2, 1, append((0, 0), entries(&[1; 6]), 4));
    assert_eq!(node.applied.len(), 4, "handed out before it is durable here");
    node.raft.applied(index(3));
    node.raft.check_invariants();
    node.sync_all();
    node.raft.check_invariants();
    // Everything behind 3 is still there to be applied.
    node.answer(2, 1, append((6, 1), vec![], 6));
    assert_eq!(node.applied, entries(&[1; 6]));
}

#[test]
fn what_is_not_durable_is_never_asked_of_the_disk() {
    let forgetful = Options { tail_bytes_max: 0, ..options(1) };
    let mut leader = Node::new(forgetful, voters(5), Disk::default());
    leader.campaign();
    for voter in [2, 3] {
        leader.receive(voter, 1, vote(true)).expect("a vote");
    }
    leader.disk_is_fast = false;
    leader.propose("applied before the leader's own disk has it");
    leader.pump();
    for peer in [3, 4, 5] {
        leader.answer(peer, 1, accepted(2));
    }
    assert_eq!((leader.raft.status().applied, leader.raft.status().durable_index), (index(2), index(0)));
    let messages = leader.answer(2, 1, accepted(0));
    assert_eq!((entries_in(&messages[0]).len(), leader.fetches.len()), (2, 0));
}

#[test]
fn a_silent_follower_costs_heartbeats_only() {
    let mut cluster = Cluster::led_by_first(3);
    cluster.isolate(3);
    for number in 0..100 {
        cluster.node(1).propose(&format!("{number}"));
        cluster.settle();
    }
    let mut appends = 0;
    for _ in 0..50 {
        let messages = cluster.node(1).tick();
        appends += messages.iter().filter(|message| message.to == id(3) && !entries_in(message).is_empty()).count();
        cluster.in_transit.extend(messages);
        cluster.settle();
    }
    assert_eq!(appends, 0);
}

#[test]
fn impossible_set_ups_are_refused() {
    let valid = || raft::Restored {
        configuration: voters(3),
        hard_state: raft::HardState { current_term: term(2), voted_for: None, commit_index: index(1) },
        term_starts: vec![(index(1), term(1)), (index(3), term(2))],
        tail: entries(&[1, 1, 2]),
        last_index: index(3),
        first_index: index(1),
        snapshot_index: index(0),
        may_have_promised: false,
        forgotten_term: None,
        applied: index(0),
    };
    Raft::new(options(1), valid()).expect("this one is possible");
    let refused = |change: &dyn Fn(&mut raft::Restored)| {
        let mut restored = valid();
        change(&mut restored);
        match Raft::new(options(1), restored) {
            Err(error) => error,
            Ok(_) => panic!("an impossible log was accepted"),
        }
    };
    let log_errors: [&dyn Fn(&mut raft::Restored); 10] = [
        &|restored| restored.term_starts.reverse(),
        &|restored| restored.term_starts.clear(),
        &|restored| restored.term_starts[0].0 = index(2),
        &|restored| restored.term_starts[1].0 = index(4),
        &|restored| restored.last_index = index(4),
        &|restored| restored.hard_state.commit_index = index(4),
        &|restored| restored.applied = index(4),
        &|restored| drop(restored.tail.remove(0)),
        &|restored| restored.tail[1].term = term(2),
        &|restored| restored.last_index = index(u64::MAX),
    ];
    for change in log_errors {
        assert!(matches!(refused(change), SetupError::Log(_)));
    }
    assert!(matches!(refused(&|it| it.configuration = voters(0)), SetupError::Configuration(_)));
    let stranger = raft::Configuration::new([2, 3].map(|number| NodeId::new(number).expect("not zero")));
    assert_eq!(refused(&move |it| it.configuration = stranger.clone()), SetupError::NotAMember(id(1)));
    for wrong in [
        Options { heartbeat_ticks: 0, ..options(1) },
        Options { election_timeout_ticks_min: HEARTBEAT_TICKS, ..options(1) },
        Options { election_timeout_ticks_max: ELECTION_TICKS_MIN, ..options(1) },
        Options { append_bytes_max: 0, ..options(1) },
        Options { inflight_messages_max: 0, ..options(1) },
        Options { uncommitted_bytes_max: 0, ..options(1) },
        Options { apply_bytes_max: 0, ..options(1) },
    ] {
        assert!(matches!(Raft::new(wrong, valid()), Err(SetupError::Options(_))));
    }
}
