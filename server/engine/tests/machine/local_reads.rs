//! Reads that are served from the state of the node that was asked: linearizable ones, for which it asks its leader how
//! far that has to be, and those of the state as it is.

use std::num::NonZeroU64;

use bytes::Bytes;
use engine::kv::Revision;
use engine::{Answer, ReadResult, StaleBounds, Ticket};
use raft::{Body, Message};

use crate::cluster::{Cluster, TICK_MS, carries_entries, node_id, upsert};

impl Cluster {
    fn stale_read(&mut self, number: usize, key: &str, max_age_ms: Option<u64>, min_revision: u64) -> Ticket {
        let (ticket, now_ms) = (self.ticket(), self.now_ms);
        let bounds = StaleBounds { max_age_ms, min_revision: Revision::new(min_revision) };
        self.engine(number).stale_read(ticket, Bytes::copy_from_slice(key.as_bytes()), bounds, now_ms);
        ticket
    }

    fn result(&self, ticket: Ticket) -> Option<&ReadResult> {
        match self.answers_to(ticket) {
            [] => None,
            [Answer::Read(result)] => Some(result),
            other => panic!("not a read: {other:?}"),
        }
    }

    /// The value that a read found, once it is answered.
    fn value(&self, ticket: Ticket) -> Option<&[u8]> {
        self.result(ticket)?.kv.as_ref().map(|kv| kv.value.as_ref())
    }

    fn wrote(&mut self, leader: usize, key: &str, value: &str) {
        let ticket = self.write(leader, &upsert(key, value));
        self.settle();
        assert!(matches!(self.answers_to(ticket), [_, Answer::Written(_)]), "{:?}", self.answers_to(ticket));
    }

    fn ticks(&mut self, count: u64) {
        (0..count).for_each(|_| self.tick());
    }
}

/// A cluster, its leader and a follower.
fn cluster() -> (Cluster, usize, usize) {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect(None);
    cluster.wrote(leader, "k", "first");
    cluster.converge();
    (cluster, leader, (leader + 1) % 3)
}

/// Nothing that makes the log of this node grow, or its commit index, arrives.
fn starve(cluster: &mut Cluster, number: usize) {
    let starved = node_id(number);
    cluster.lose(move |message| message.to == starved && feeds(message));
}

fn feeds(message: &Message) -> bool {
    carries_entries(message) || matches!(message.body, Body::AppendEntries { .. })
}

fn age(age_ms: u64) -> Option<NonZeroU64> {
    NonZeroU64::new(age_ms)
}

fn too_stale(answers: &[Answer]) -> bool {
    matches!(answers, [Answer::TooStale { .. }])
}

#[test]
fn a_follower_serves_a_linearizable_read_from_its_own_state() {
    let (mut cluster, leader, follower) = cluster();
    cluster.wrote(leader, "k", "second");
    let ticket = cluster.read(follower, "k");
    cluster.settle();
    let result = cluster.result(ticket).expect("one round trip");
    assert_eq!((result.replica, result.age_ms), (node_id(follower), None));
    assert_eq!(cluster.value(ticket), Some(b"second".as_slice()));
}

#[test]
fn a_follower_that_lags_waits_until_it_has_applied_what_was_committed() {
    let (mut cluster, leader, follower) = cluster();
    starve(&mut cluster, follower);
    cluster.wrote(leader, "k", "second");
    let ticket = cluster.read(follower, "k");
    cluster.ticks(4);
    assert_eq!(cluster.answers_to(ticket), [], "it has only the first");
    cluster.heal();
    cluster.tick_until("it is answered", |cluster| cluster.result(ticket).is_some());
    assert_eq!(cluster.value(ticket), Some(b"second".as_slice()));
}

#[test]
fn a_follower_whose_leader_is_gone_gives_its_reads_up() {
    let (mut cluster, leader, follower) = cluster();
    cluster.isolate(leader);
    let ticket = cluster.read(follower, "k");
    cluster.elect(Some(leader));
    cluster.settle();
    assert_eq!(cluster.answers_to(ticket), [Answer::ReadAborted]);
}

#[test]
fn a_state_is_shown_at_once_as_it_is() {
    let (mut cluster, leader, follower) = cluster();
    starve(&mut cluster, follower);
    cluster.wrote(leader, "k", "second");
    let ticket = cluster.stale_read(follower, "k", None, 0);
    // No message is passed on before the answer is there.
    let answers = cluster.engine(follower).output().expect("sound").answers;
    assert!(matches!(&answers[..], [(of, Answer::Read(result))] if *of == ticket
        && result.age_ms.is_none() && result.kv.as_ref().is_some_and(|kv| kv.value == "first")));
}

#[test]
fn an_age_is_proven_by_asking_and_only_then_kept_up() {
    let (mut cluster, leader, follower) = cluster();
    // The first has to wait for a proof, the next ones find it.
    let first = cluster.stale_read(follower, "k", Some(1_000), 0);
    assert_eq!(cluster.answers_to(first), []);
    cluster.settle();
    assert_eq!(cluster.result(first).expect("proven").age_ms, age(1));
    cluster.ticks(3);
    let second = cluster.stale_read(follower, "k", Some(1_000), 0);
    let answers = cluster.engine(follower).output().expect("sound").answers;
    let Some((_, Answer::Read(result))) = answers.first() else { panic!("not at once: {answers:?}") };
    assert_eq!((answers.len(), result.age_ms), (1, age(3 * TICK_MS + 1)));
    assert_eq!(cluster.answers_to(second), []);
    // Readers come and go: proofs are made meanwhile, and end a while after.
    cluster.ticks(100);
    let third = cluster.stale_read(follower, "k", None, 0);
    cluster.settle();
    assert!(cluster.result(third).expect("at once").age_ms.is_some_and(|age_ms| age_ms.get() <= 12 * TICK_MS));
    cluster.ticks(1_200);
    let fourth = cluster.stale_read(follower, "k", None, 0);
    cluster.settle();
    let age_ms = cluster.result(fourth).expect("at once").age_ms.expect("proven once");
    assert!((1_000..3_000).contains(&age_ms.get()), "{age_ms}");
    assert_eq!(cluster.leader(), Some(leader));
}

#[test]
fn a_state_that_is_cut_off_is_shown_until_it_is_too_old() {
    let (mut cluster, leader, follower) = cluster();
    let proven = cluster.stale_read(follower, "k", Some(1), 0);
    cluster.settle();
    assert!(cluster.result(proven).is_some());
    let begun_ms = cluster.now_ms;
    cluster.isolate(follower);
    cluster.wrote(leader, "k", "second");
    for _ in 0..40 {
        cluster.tick();
        let age_ms = cluster.now_ms - begun_ms + 1;
        let enough = cluster.stale_read(follower, "k", Some(age_ms), 0);
        let too_little = cluster.stale_read(follower, "k", Some(age_ms - 1), 0);
        cluster.settle();
        assert_eq!(cluster.result(enough).expect("within its bound").age_ms, age(age_ms));
        assert_eq!(cluster.value(enough), Some(b"first".as_slice()));
        assert_eq!(cluster.answers_to(too_little), [], "it waits for a proof");
        cluster.engine(follower).cancel(too_little);
    }
    let refused = cluster.stale_read(follower, "k", Some(100), 0);
    cluster.tick_until("it is refused", |cluster| too_stale(cluster.answers_to(refused)));
    assert!(cluster.now_ms - begun_ms < 800, "after a moment");
}

#[test]
fn a_proof_counts_from_when_it_was_asked_for_and_not_from_when_it_came() {
    let (mut cluster, leader, follower) = cluster();
    let id = node_id(follower);
    // The question is answered, and the answer is long under way. Meanwhile something is written.
    cluster.lose(move |message| {
        message.to == id && (feeds(message) || matches!(message.body, Body::ReadIndexResponse { .. }))
    });
    let waits = cluster.stale_read(follower, "k", Some(100), 0);
    cluster.settle();
    cluster.wrote(leader, "k", "second");
    cluster.ticks(8);
    cluster.lose(move |message| message.to == id && feeds(message));
    cluster.ticks(3);
    // The question was asked again, and this answer names an index that the follower does not have.
    assert_eq!(cluster.answers_to(waits), []);
    cluster.heal();
    cluster.tick_until("it is answered", |cluster| !cluster.answers_to(waits).is_empty());
    assert_eq!(cluster.value(waits), Some(b"second".as_slice()));
}

#[test]
fn a_revision_is_waited_for_a_moment() {
    let (mut cluster, leader, follower) = cluster();
    let revision = cluster.engine(leader).store().revision().get();
    let there = cluster.stale_read(follower, "k", None, revision);
    cluster.settle();
    assert!(cluster.result(there).is_some());
    let behind = cluster.stale_read(follower, "k", None, revision + 1);
    cluster.settle();
    assert_eq!(cluster.answers_to(behind), []);
    cluster.wrote(leader, "k", "second");
    cluster.tick_until("it is answered", |cluster| cluster.result(behind).is_some());
    assert_eq!(cluster.value(behind), Some(b"second".as_slice()));
    let never = cluster.stale_read(follower, "k", None, revision + 2);
    cluster.tick_until("it is refused", |cluster| too_stale(cluster.answers_to(never)));
}

#[test]
fn no_state_is_younger_than_a_clock_can_tell_and_nobody_is_asked_for_ever() {
    let (mut cluster, _, follower) = cluster();
    let ticket = cluster.stale_read(follower, "k", Some(0), 0);
    cluster.settle();
    assert_eq!(cluster.answers_to(ticket), []);
    cluster.tick_until("it is refused", |cluster| too_stale(cluster.answers_to(ticket)));
}

#[test]
fn a_leader_proves_its_own_age_by_asking_a_majority() {
    let (mut cluster, leader, _) = cluster();
    let ticket = cluster.stale_read(leader, "k", Some(50), 0);
    cluster.settle();
    assert_eq!(cluster.result(ticket).expect("one round").age_ms, age(1));
    // Cut off, it leads on for a while and does not know better.
    cluster.isolate(leader);
    cluster.ticks(8);
    assert!(cluster.engine(leader).raft().is_leader());
    let refused = cluster.stale_read(leader, "k", Some(50), 0);
    cluster.tick_until("it is refused", |cluster| too_stale(cluster.answers_to(refused)));
}

#[test]
fn a_clock_that_goes_back_proves_nothing() {
    let (mut cluster, _, follower) = cluster();
    let proven = cluster.stale_read(follower, "k", Some(1_000), 0);
    cluster.settle();
    assert!(cluster.result(proven).is_some());
    cluster.isolate(follower);
    cluster.ticks(3);
    cluster.now_ms -= 500;
    let ticket = cluster.stale_read(follower, "k", Some(1_000), 0);
    cluster.settle();
    assert_eq!(cluster.answers_to(ticket), []);
    cluster.tick_until("it is refused", |cluster| too_stale(cluster.answers_to(ticket)));
}

#[test]
fn those_that_wait_for_a_proof_are_bounded() {
    const WAITING_MAX: usize = 4_096;
    let (mut cluster, _, follower) = cluster();
    cluster.isolate(follower);
    let tickets: Vec<Ticket> = (0..=WAITING_MAX).map(|_| cluster.stale_read(follower, "k", Some(1), 0)).collect();
    cluster.settle();
    assert_eq!(cluster.answers_to(tickets[WAITING_MAX]), [Answer::Overloaded]);
    assert_eq!(cluster.answers_to(tickets[WAITING_MAX - 1]), []);
    assert_eq!(cluster.status(follower).reads_waiting, WAITING_MAX);
    cluster.tick_until("they are refused", |cluster| too_stale(cluster.answers_to(tickets[0])));
    assert!(tickets[..WAITING_MAX].iter().all(|ticket| too_stale(cluster.answers_to(*ticket))));
    assert_eq!(cluster.status(follower).reads_waiting, 0);
}
