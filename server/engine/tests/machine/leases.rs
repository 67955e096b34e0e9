//! Linearizable reads under a leader's lease, and the promises that those rest on.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use engine::kv::Command;
use engine::{Answer, Ticket};
use raft::{Body, Message, Refused};

use crate::cluster::{Cluster, TICK_MS, node_id, upsert};

/// How long leases last: nine tenths of the shortest election timeout.
const LEASE_MS: u64 = 90;

fn configure(cluster: &mut Cluster, leader: usize, lease_reads: bool) {
    let ticket = cluster.write(leader, &Command::Configure { lease_reads });
    cluster.converge();
    assert!(matches!(cluster.answers_to(ticket), [_, Answer::Written(_)]), "{:?}", cluster.answers_to(ticket));
}

/// Three nodes with leases, whose leader holds one, and that leader. There is a key.
fn cluster() -> (Cluster, usize) {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect(None);
    cluster.write(leader, &upsert("k", "v"));
    configure(&mut cluster, leader, true);
    (0..4).for_each(|_| cluster.tick());
    (cluster, leader)
}

/// Whether this node answers a read without a word from any other.
fn answers_alone(cluster: &mut Cluster, number: usize) -> bool {
    let leased = cluster.engine(number).leased_reads();
    let ticket = cluster.read(number, "k");
    let answers = cluster.engine(number).output().expect("sound").answers;
    let is_answer = |(of, answer): &(Ticket, Answer)| *of == ticket && matches!(answer, Answer::Read(_));
    let is_answered = answers.iter().any(is_answer);
    assert_eq!(is_answered, cluster.engine(number).leased_reads() > leased, "{answers:?}");
    is_answered
}

fn vote_request(from: usize, to: usize, cluster: &mut Cluster) -> Message {
    let raft = cluster.engine(to).raft();
    let term = raft.current_term().next().expect("not the last");
    let (last_log_index, last_log_term) = (raft.last_index(), raft.term_at(raft.last_index()).expect("its last"));
    let body = Body::RequestVote { pre_vote: false, last_log_index, last_log_term, leadership_transfer: false };
    Message { from: node_id(from), to: node_id(to), term, body }
}

#[test]
fn only_a_leader_answers_alone_and_only_while_leases_are_on() {
    let (mut cluster, leader) = cluster();
    assert!(answers_alone(&mut cluster, leader));
    assert!(!answers_alone(&mut cluster, (leader + 1) % 3));
    configure(&mut cluster, leader, false);
    assert!(!answers_alone(&mut cluster, leader));
    (0..2 * LEASE_MS / TICK_MS).for_each(|_| cluster.tick());
    configure(&mut cluster, leader, true);
    assert!(!answers_alone(&mut cluster, leader), "nobody has promised anything again yet");
    (0..4).for_each(|_| cluster.tick());
    assert!(answers_alone(&mut cluster, leader));
}

#[test]
fn a_lease_ends_when_nobody_promises_any_more() {
    let (mut cluster, leader) = cluster();
    cluster.isolate(leader);
    let ticks = (1..2 * LEASE_MS / TICK_MS).take_while(|_| {
        cluster.tick();
        answers_alone(&mut cluster, leader)
    });
    // The round that it rests on began in one of the last two ticks.
    assert!((LEASE_MS / TICK_MS - 3..LEASE_MS / TICK_MS).contains(&(ticks.count() as u64)));
    assert!(cluster.engine(leader).raft().is_leader(), "check-quorum takes longer");
}

#[test]
fn a_process_that_stood_still_has_counted_the_time() {
    let (mut cluster, leader) = cluster();
    assert!(answers_alone(&mut cluster, leader));
    cluster.now_ms += LEASE_MS;
    assert!(!answers_alone(&mut cluster, leader));
}

/// A round may have begun long before its answers come.
#[test]
fn what_was_promised_counts_from_when_it_was_asked_for() {
    let (mut cluster, leader) = cluster();
    let promises = Rc::new(RefCell::new(Vec::new()));
    let kept = Rc::clone(&promises);
    cluster.lose(move |message| {
        let is_promise = message.to == node_id(leader) && matches!(message.body, Body::HeartbeatResponse { .. });
        if is_promise {
            kept.borrow_mut().push(message.clone());
        }
        is_promise
    });
    (0..2).for_each(|_| cluster.tick());
    assert_eq!(promises.borrow().len(), 2);
    cluster.now_ms += LEASE_MS;
    let ticket = cluster.ticket();
    let now_ms = cluster.now_ms;
    cluster.engine(leader).read(ticket, "k".into(), now_ms);
    for message in promises.take() {
        cluster.engine(leader).message(message).expect("an answer");
    }
    assert!(!answers_alone(&mut cluster, leader));
}

#[test]
fn a_clock_that_goes_back_ends_the_lease() {
    let (mut cluster, leader) = cluster();
    cluster.now_ms -= 1;
    cluster.write(leader, &upsert("k", "told at that time"));
    assert!(!answers_alone(&mut cluster, leader));

    let (mut cluster, leader) = self::cluster();
    cluster.now_ms -= 1;
    cluster.write(leader, &upsert("k", "told at that time"));
    cluster.now_ms += 2;
    assert!(!answers_alone(&mut cluster, leader), "the rounds of before count for nothing");
    (0..4).for_each(|_| cluster.tick());
    assert!(answers_alone(&mut cluster, leader));
}

#[test]
fn who_has_handed_leadership_over_holds_no_lease() {
    let (mut cluster, leader) = cluster();
    let target = (leader + 1) % 3;
    cluster.lose(move |message| message.to == node_id(leader));
    cluster.engine(leader).transfer_leadership(node_id(target)).expect("it begins");
    cluster.settle();
    assert!(cluster.engine(target).raft().is_leader(), "in spite of promises");
    assert!(cluster.engine(leader).raft().is_leader(), "it has not heard of that");
    assert!(!answers_alone(&mut cluster, leader));
}

#[test]
fn a_read_under_a_lease_waits_for_what_is_committed_and_not_applied() {
    let (mut cluster, leader) = cluster();
    let acknowledged = Rc::new(Cell::new(None));
    let kept = Rc::clone(&acknowledged);
    // The entry is on a majority, and the leader hears of that last of all.
    cluster.lose(move |message| {
        let is_last = message.to == node_id(leader) && matches!(message.body, Body::AppendEntriesResponse(_));
        if is_last {
            kept.set(Some(message.clone()));
        }
        is_last
    });
    cluster.write(leader, &upsert("k", "w"));
    cluster.settle();
    assert!(answers_alone(&mut cluster, leader), "it was not acknowledged, and is not shown");
    let message = acknowledged.take().expect("a follower has it");
    cluster.engine(leader).message(message).expect("an answer");
    let ticket = cluster.read(leader, "k");
    cluster.settle();
    let [Answer::Read(result)] = cluster.answers_to(ticket) else { panic!("{:?}", cluster.answers_to(ticket)) };
    assert_eq!(result.kv.as_ref().map(|kv| kv.value.as_ref()), Some(b"w".as_slice()));
}

#[test]
fn a_promise_outlives_the_process() {
    let (mut cluster, leader) = cluster();
    let (voter, candidate) = ((leader + 1) % 3, (leader + 2) % 3);
    cluster.isolate(leader);
    cluster.crash(voter);
    cluster.start(voter);
    let request = vote_request(candidate, voter, &mut cluster);
    assert_eq!(cluster.engine(voter).message(request.clone()), Err(Refused::LeaderAlive));
    for _ in 0..=10 {
        let now_ms = cluster.now_ms;
        cluster.engine(voter).tick(now_ms);
    }
    assert_eq!(cluster.engine(voter).message(request), Ok(()));
}

#[test]
fn who_restarts_without_leases_votes_at_once() {
    let (mut cluster, leader) = cluster();
    configure(&mut cluster, leader, false);
    // Until the disk knows that the change is committed, there may be leases for all that it says.
    for value in ["w", "x", "y"] {
        cluster.write(leader, &upsert("k", value));
        (0..4).for_each(|_| cluster.tick());
    }
    let voter = (leader + 1) % 3;
    cluster.isolate(leader);
    cluster.crash(voter);
    cluster.start(voter);
    let request = vote_request((leader + 2) % 3, voter, &mut cluster);
    assert_eq!(cluster.engine(voter).message(request), Ok(()));
}

/// What a node has applied may be on the disks of others only. If it promised something then, its next process would
/// know nothing of leases.
#[test]
fn nobody_promises_what_its_disk_does_not_know_of() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect(None);
    let voter = (leader + 1) % 3;
    let promised = Rc::new(Cell::new(false));
    let seen = Rc::clone(&promised);
    cluster.lose(move |message| {
        if message.from == node_id(voter) && matches!(message.body, Body::HeartbeatResponse { promised: true, .. }) {
            seen.set(true);
        }
        false
    });
    cluster.nodes[voter].disk_stalled = true;
    cluster.write(leader, &Command::Configure { lease_reads: true });
    (0..8).for_each(|_| cluster.tick());
    assert!(cluster.engine(voter).store().settings().lease_reads, "it has applied it");
    assert!(!promised.get());
    cluster.nodes[voter].disk_stalled = false;
    (0..4).for_each(|_| cluster.tick());
    assert!(promised.get());
}
