//! What clients are answered, in small clusters where one thing goes wrong at a time.

use crate::cluster::{Cluster, TICK_MS, WAL_PENDING_BYTES_MAX, carries_entries, node_id, small_options, upsert};
use bytes::Bytes;
use engine::kv::{Applied, Command, InvalidCommand, KEY_BYTES_MAX, Revision};
use engine::{Answer, Ticket};
use raft::{Body, Message, NodeId};

fn written(revision: u64, version: u64) -> Answer {
    Answer::Written(Applied::Put { revision: Revision::new(revision), version })
}

/// The value that a read was answered with.
fn value_of(answers: &[Answer]) -> Option<Vec<u8>> {
    match answers {
        [Answer::Read(result)] => result.kv.as_ref().map(|kv| kv.value.to_vec()),
        other => panic!("not a served read: {other:?}"),
    }
}

/// Writes at `leader` and waits for the answer.
fn write_and_settle(cluster: &mut Cluster, leader: usize, key: &str, value: &str) {
    let ticket = cluster.write(leader, &upsert(key, value));
    cluster.settle();
    assert!(matches!(cluster.answers_to(ticket), [Answer::Proposed { .. }, Answer::Written(_)]));
}

/// The last answer to a ticket, once there is one besides `Proposed`.
fn wait_for_answer(cluster: &mut Cluster, ticket: Ticket) -> Answer {
    cluster.tick_until("the ticket is answered", |cluster| {
        cluster.answers_to(ticket).iter().any(|answer| !matches!(answer, Answer::Proposed { .. }))
    });
    cluster.answers_to(ticket).last().expect("just seen").clone()
}

#[test]
fn a_write_is_proposed_and_then_written_once() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect(None);
    let first = cluster.write(leader, &upsert("a", "x"));
    let second = cluster.write(leader, &upsert("a", "y"));
    assert_eq!(cluster.answers_to(first), []);
    cluster.settle();
    assert!(matches!(cluster.answers_to(first), [Answer::Proposed { .. }, answer] if *answer == written(2, 1)));
    assert!(matches!(cluster.answers_to(second), [Answer::Proposed { .. }, answer] if *answer == written(3, 2)));
    assert_eq!(cluster.place_of(second).0, cluster.place_of(first).0.next());
    (0..100).for_each(|_| cluster.tick());
    assert_eq!(cluster.answers_to(first).len(), 2);
    assert_eq!(cluster.status(leader).writes_waiting, 0);
}

#[test]
fn a_single_node_answers_too() {
    let mut cluster = Cluster::new(1);
    let leader = cluster.elect(None);
    write_and_settle(&mut cluster, leader, "a", "x");
    let read = cluster.read(leader, "a");
    cluster.settle();
    assert_eq!(value_of(cluster.answers_to(read)), Some(b"x".to_vec()));
}

#[test]
fn a_follower_refuses_a_write_and_names_the_leader() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect(None);
    let follower = (leader + 1) % 3;
    let term = cluster.status(leader).raft.current_term;
    let ticket = cluster.write(follower, &upsert("a", "x"));
    cluster.settle();
    assert_eq!(cluster.answers_to(ticket), [Answer::NotLeader { leader: Some(node_id(leader)), term }]);
}

#[test]
fn who_knows_no_leader_takes_neither_writes_nor_reads() {
    let mut cluster = Cluster::new(3);
    let tickets = [cluster.write(0, &upsert("a", "x")), cluster.read(0, "a")];
    cluster.settle();
    for ticket in tickets {
        assert!(matches!(cluster.answers_to(ticket), [Answer::NotLeader { leader: None, .. }]));
    }
}

#[test]
fn a_command_out_of_the_limits_is_never_proposed() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect(None);
    let last_index = cluster.status(leader).raft.last_index;
    let bytes = KEY_BYTES_MAX + 1;
    let ticket = cluster.write(leader, &upsert(&"k".repeat(bytes), "x"));
    cluster.settle();
    assert_eq!(cluster.answers_to(ticket), [Answer::Invalid(InvalidCommand::KeyTooLong { bytes })]);
    assert_eq!(cluster.status(leader).raft.last_index, last_index);
}

#[test]
fn losing_leadership_alone_answers_no_write() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect(None);
    // The followers get the entry, but the leader never learns it.
    cluster.lose(|message| matches!(message.body, Body::AppendEntriesResponse(_)));
    let ticket = cluster.write(leader, &upsert("a", "x"));
    cluster.settle();
    cluster.isolate(leader);
    cluster.tick_until("the leader steps down", |cluster| !cluster.engine(leader).raft().is_leader());
    assert!(matches!(cluster.answers_to(ticket), [Answer::Proposed { .. }]));
    // A follower that has the entry leads and completes it: it was a write all along.
    cluster.lose(|_| false);
    cluster.elect(Some(leader));
    cluster.heal();
    assert_eq!(wait_for_answer(&mut cluster, ticket), written(2, 1));
}

#[test]
fn writes_that_never_left_the_leader_are_dropped_by_the_next_one() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect(None);
    cluster.isolate(leader);
    let tickets: Vec<Ticket> = (0..50).map(|number| cluster.write(leader, &upsert("a", &number.to_string()))).collect();
    cluster.settle();
    let next = cluster.elect(Some(leader));
    let term = cluster.status(next).raft.current_term;
    cluster.heal();
    cluster.converge();
    // One entry of the new leader decides them all: its log need not grow over all their places first.
    let dropped = Answer::Dropped { term };
    for ticket in &tickets {
        let answers = cluster.answers_to(*ticket);
        assert!(matches!(answers, [Answer::Proposed { .. }, answer] if *answer == dropped), "{answers:?}");
    }
    assert!(cluster.status(leader).raft.last_index < cluster.place_of(tickets[49]).0);
    assert_eq!(cluster.status(leader).revision, Revision::FIRST);
}

/// The entries of Figure 8 of the paper: truncated on the node whose client waits, and committed after all.
#[test]
fn a_truncated_write_may_still_be_written() {
    let mut cluster = Cluster::new(5);
    let [first, second, third] = [0, 1, 2];
    cluster.elect_only(first);
    cluster.converge();

    // The first leader's entry reaches the third node and no other, and that is never acknowledged.
    let ids = [first, second, third].map(node_id);
    let only = |from: NodeId, to: NodeId| {
        move |message: &Message| carries_entries(message) && (message.from, message.to) != (from, to)
    };
    let lose_others = only(ids[0], ids[2]);
    cluster.lose(move |message| lose_others(message) || matches!(message.body, Body::AppendEntriesResponse(_)));
    let ticket = cluster.write(first, &upsert("a", "x"));
    cluster.settle();
    let (index, term) = cluster.place_of(ticket);
    assert_eq!(cluster.engine(third).raft().term_at(index), Some(term));

    // The second node is elected by those that do not have it, and its entry replaces it on the first node only.
    cluster.isolate(first);
    cluster.isolate(third);
    let (candidate, replaced) = (ids[1], only(ids[1], ids[0]));
    let lose = move |message: &Message| {
        let vote = matches!(message.body, Body::RequestVote { .. }) && message.from != candidate;
        vote || replaced(message)
    };
    cluster.lose(lose);
    cluster.tick_until("the second node leads", |cluster| cluster.engine(second).raft().is_leader());
    cluster.join(first);
    cluster.tick_until("the entry is truncated", |cluster| cluster.engine(first).raft().term_at(index) > Some(term));
    assert!(matches!(cluster.answers_to(ticket), [Answer::Proposed { .. }]), "a truncation decides nothing");
    assert_eq!(cluster.status(first).writes_waiting, 1);

    // The third node is elected by those two that have neither, and completes the entry.
    cluster.isolate(first);
    cluster.isolate(second);
    cluster.join(third);
    cluster.elect_only(third);
    cluster.heal();
    cluster.converge();
    assert!(matches!(cluster.answers_to(ticket), [Answer::Proposed { .. }, answer] if *answer == written(2, 1)));
}

#[test]
fn a_leader_that_is_cut_off_refuses_beyond_its_bounds_and_recovers() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect(None);
    cluster.isolate(leader);
    let value = "x".repeat(1024);
    let mut overloaded = 0;
    for _ in 0..2_000 {
        let ticket = cluster.write(leader, &upsert("a", &value));
        cluster.settle();
        match cluster.answers.remove(&ticket).expect("answered at once").as_slice() {
            [Answer::Proposed { .. }] => {}
            [Answer::Overloaded] => overloaded += 1,
            other => panic!("{other:?}"),
        }
    }
    let status = cluster.status(leader);
    assert!(overloaded > 1_000 && status.writes_waiting < 1_000, "{overloaded} refused");
    assert!(status.writes_waiting * value.len() < 2 * small_options(node_id(0)).uncommitted_bytes_max);

    cluster.heal();
    let leader = cluster.elect(None);
    cluster.converge();
    assert!((0..3).all(|number| cluster.status(number).writes_waiting == 0));
    write_and_settle(&mut cluster, leader, "b", "y");
}

#[test]
fn a_deposed_leader_serves_no_read() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect(None);
    write_and_settle(&mut cluster, leader, "a", "old");
    cluster.isolate(leader);
    let read = cluster.read(leader, "a");
    cluster.settle();
    let next = cluster.elect(Some(leader));
    write_and_settle(&mut cluster, next, "a", "new");
    cluster.tick_until("the old leader steps down", |cluster| !cluster.engine(leader).raft().is_leader());
    assert_eq!(cluster.answers_to(read), [Answer::ReadAborted]);
    cluster.heal();
    cluster.converge();
    assert_eq!(cluster.answers_to(read), [Answer::ReadAborted]);
    assert_eq!(cluster.status(leader).reads_waiting, 0);
}

#[test]
fn a_new_leader_serves_what_the_old_one_had_acknowledged() {
    let mut cluster = Cluster::new(3);
    cluster.elect_only(0);
    cluster.converge();
    // The client is answered, but no follower learns any more that the entry is committed.
    let leader = node_id(0);
    cluster.lose(move |message| message.from == leader && !carries_entries(message));
    write_and_settle(&mut cluster, 0, "a", "acknowledged");
    cluster.crash(0);
    assert_eq!(cluster.status(1).revision, Revision::FIRST);
    // Asked before the new leader's own first entry can be committed.
    cluster.lose(|message| matches!(message.body, Body::AppendEntriesResponse(_)));
    let leads = |cluster: &mut Cluster| (1..3).find(|number| cluster.engine(*number).raft().is_leader());
    cluster.tick_until("a follower leads", |cluster| leads(cluster).is_some());
    let next = leads(&mut cluster).expect("just seen");
    let read = cluster.read(next, "a");
    cluster.settle();
    assert_eq!(cluster.answers_to(read), [], "its state is behind what the old leader had acknowledged");
    cluster.lose(|_| false);
    let answer = wait_for_answer(&mut cluster, read);
    assert_eq!(value_of(&[answer]), Some(b"acknowledged".to_vec()));
}

#[test]
fn nothing_is_promised_while_the_disks_of_a_majority_stall() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect(None);
    let follower = (leader + 1) % 3;
    [leader, follower].into_iter().for_each(|number| cluster.nodes[number].disk_stalled = true);
    let ticket = cluster.write(leader, &upsert("a", "x"));
    // More than some election timeouts, and less than it takes a leader to give its disk up.
    (0..15).for_each(|_| cluster.tick());
    assert!(matches!(cluster.answers_to(ticket), [Answer::Proposed { .. }]));
    assert_eq!(cluster.leader(), Some(leader), "heartbeats need no disk");
    // Two followers are a majority, even while the leader's own disk does nothing.
    cluster.nodes[follower].disk_stalled = false;
    assert_eq!(wait_for_answer(&mut cluster, ticket), written(2, 1));
    cluster.nodes[leader].disk_stalled = false;
    cluster.settle();
    assert_eq!(cluster.status(leader).raft.durable_index, cluster.place_of(ticket).0);
}

#[test]
fn a_leader_whose_disk_stalls_is_replaced_and_catches_up_later() {
    let mut cluster = Cluster::new(3);
    let stalled = cluster.elect(None);
    cluster.nodes[stalled].disk_stalled = true;
    let ticket = cluster.write(stalled, &upsert("a", "x"));
    let leader = cluster.elect(Some(stalled));
    assert!(!cluster.engine(stalled).raft().is_leader());
    assert_eq!(wait_for_answer(&mut cluster, ticket), written(2, 1), "the others had it");
    let refused = cluster.write(stalled, &upsert("a", "y"));
    cluster.settle();
    assert!(
        matches!(cluster.answers_to(refused), [Answer::NotLeader { leader: Some(id), .. }] if *id == node_id(leader))
    );
    (0..100).for_each(|_| cluster.tick());
    assert_eq!(cluster.leader(), Some(leader), "who has no disk lets the others alone");
    cluster.nodes[stalled].disk_stalled = false;
    cluster.converge();
}

/// As one of two it goes on to lead, so that nothing but the bound keeps writes from gathering.
#[test]
fn what_waits_for_a_stalled_disk_is_bounded() {
    let mut cluster = Cluster::new(2);
    let leader = cluster.elect(None);
    cluster.nodes[leader].disk_stalled = true;
    let value = "v".repeat(1_000);
    let mut tickets = Vec::new();
    for number in 0..30 {
        tickets.push(cluster.write(leader, &upsert(&format!("key{number}"), &value)));
        cluster.settle();
    }
    let taken = tickets.iter().take_while(|ticket| cluster.answers_to(**ticket) != [Answer::Overloaded]).count();
    assert!((15..=16).contains(&taken), "{taken} writes of a thousand bytes were taken");
    assert!(tickets[taken..].iter().all(|ticket| cluster.answers_to(*ticket) == [Answer::Overloaded]));
    let waits = cluster.status(leader).wal_pending_bytes;
    assert!((WAL_PENDING_BYTES_MAX..WAL_PENDING_BYTES_MAX + 2_000).contains(&waits), "{waits} bytes wait");
    let follower = 1 - leader;
    let elsewhere = cluster.write(follower, &upsert("key", &value));
    cluster.nodes[leader].disk_stalled = false;
    cluster.converge();
    assert!(matches!(cluster.answers_to(elsewhere), [Answer::NotLeader { .. }]));
    let again = cluster.write(leader, &upsert("key", &value));
    assert!(matches!(wait_for_answer(&mut cluster, again), Answer::Written(_)), "it has caught up");
}

#[test]
fn entries_that_are_applied_one_at_a_time_are_all_applied() {
    let options = |id| raft::Options { apply_bytes_max: 1, append_bytes_max: 1, ..small_options(id) };
    let mut cluster = Cluster::with_options(3, options);
    let leader = cluster.elect(None);
    let tickets: Vec<Ticket> = (0..60).map(|_| cluster.write(leader, &upsert("a", "x"))).collect();
    cluster.converge();
    for (position, ticket) in (0..).zip(tickets) {
        let answer = written(2 + position, 1 + position);
        assert!(matches!(cluster.answers_to(ticket), [Answer::Proposed { .. }, last] if *last == answer));
    }
}

#[test]
fn a_cancelled_write_happens_without_an_answer() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect(None);
    let (write, read) = (cluster.write(leader, &upsert("a", "x")), cluster.read(leader, "a"));
    cluster.engine(leader).cancel(write);
    cluster.engine(leader).cancel(read);
    cluster.converge();
    assert!(matches!(cluster.answers_to(write), [Answer::Proposed { .. }]));
    assert_eq!(cluster.answers_to(read), []);
    let status = cluster.status(leader);
    assert_eq!((status.key_count, status.writes_waiting, status.reads_waiting), (1, 0, 0));
}

#[test]
fn writes_are_refused_while_leadership_is_handed_over() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect(None);
    let target = (leader + 1) % 3;
    let id = node_id(target);
    cluster.lose(move |message| message.to == id);
    cluster.engine(leader).transfer_leadership(id).expect("it leads and the target votes");
    let ticket = cluster.write(leader, &upsert("a", "x"));
    cluster.settle();
    assert_eq!(cluster.answers_to(ticket), [Answer::Transferring]);
    cluster.tick_until("the hand-over is given up", |cluster| {
        let ticket = cluster.write(leader, &upsert("a", "x"));
        cluster.settle();
        !matches!(cluster.answers_to(ticket), [Answer::Transferring])
    });
}

#[test]
fn replicated_time_stands_still_without_a_leader_and_never_goes_back() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect(None);
    write_and_settle(&mut cluster, leader, "a", "x");
    let first = cluster.status(leader).time_ms;
    assert!(first <= 1_000 * TICK_MS, "it counts from the first election, not from the clock's origin");
    (0..10).for_each(|_| cluster.tick());
    write_and_settle(&mut cluster, leader, "a", "x");
    let second = cluster.status(leader).time_ms;
    assert_eq!(second, first + 10 * TICK_MS);

    // Every clock jumps while nobody leads.
    (0..3).for_each(|number| cluster.crash(number));
    cluster.now_ms += 3_600_000;
    (0..3).for_each(|number| cluster.start(number));
    let leader = cluster.elect(None);
    write_and_settle(&mut cluster, leader, "a", "x");
    let third = cluster.status(leader).time_ms;
    assert!((second..second + 1_000 * TICK_MS).contains(&third), "from {second} to {third}");
    // A clock that goes back stops the time and does no more.
    cluster.now_ms -= 3_600_000;
    write_and_settle(&mut cluster, leader, "a", "x");
    assert_eq!(cluster.status(leader).time_ms, third);
}

#[test]
fn equal_inputs_give_equal_runs() {
    let run = || {
        let mut cluster = Cluster::new(3);
        let leader = cluster.elect(None);
        for number in 0..200 {
            cluster.write(leader, &upsert(&format!("key{}", number % 7), &number.to_string()));
            cluster.read(leader, "key1");
            if number % 10 == 0 {
                cluster.tick();
            }
        }
        cluster.isolate(leader);
        cluster.write(
            leader,
            &Command::Delete { key: Bytes::from_static(b"key1"), expected_revision: None, return_previous: true },
        );
        cluster.elect(Some(leader));
        cluster.heal();
        cluster.converge();
        let hash = cluster.status(leader).state_hash;
        (hash, cluster.answers, cluster.applied, cluster.now_ms)
    };
    let (one, other) = (run(), run());
    assert!(one == other, "two runs differ");
}
