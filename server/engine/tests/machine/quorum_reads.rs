//! Reads that ask no leader: answered by any node from a majority, with the leader dead or cut off, and also where the
//! write never came.

use bytes::Bytes;
use engine::kv::{Command, KeyValue, Request, RequestId, Revision, SessionId};
use engine::leaderless::{ANSWER_BYTES_MAX, Ask, Known, QUESTIONS_MAX, ReplicaBody, ReplicaMessage, Tell, Told};
use engine::{Answer, EngineOptions, ReadResult, Ticket};
use raft::{Body, Configuration, ConfigurationId, Index};

use crate::cluster::{Cluster, carries_entries, node_id, upsert};

/// Ticks in which an answer comes if it comes at all without anything else happening: less than any timeout.
const SOON_TICKS: usize = 8;

impl Cluster {
    pub(crate) fn deliver_replica(&mut self, message: ReplicaMessage) {
        if [message.from, message.to].iter().any(|id| self.isolated.contains(id)) {
            return;
        }
        self.replica_messages.push(message.clone());
        let target = self.nodes.iter_mut().find(|node| node.id == message.to).expect("messages go to members");
        if let Some(running) = &mut target.running {
            running.engine.replica_message(message);
        }
    }

    fn quorum_read(&mut self, number: usize, key: &str) -> Ticket {
        self.quorum_read_from(number, key, 0)
    }

    /// The same, from a state of at least this revision.
    fn quorum_read_from(&mut self, number: usize, key: &str, min_revision: u64) -> Ticket {
        let (ticket, key) = (self.ticket(), Bytes::copy_from_slice(key.as_bytes()));
        self.engine(number).quorum_read(ticket, key, Revision::new(min_revision));
        ticket
    }

    /// A read whose answer is there without waiting.
    fn read_at_once(&mut self, number: usize, key: &str) -> ReadResult {
        let ticket = self.quorum_read(number, key);
        self.settle();
        self.found(ticket)
    }

    fn found(&self, ticket: Ticket) -> ReadResult {
        match self.answers_to(ticket) {
            [Answer::Read(result)] => result.clone(),
            other => panic!("not a read: {other:?}"),
        }
    }

    fn put(&mut self, leader: usize, key: &str, value: &str) {
        let ticket = self.write(leader, &upsert(key, value));
        self.settle();
        assert!(matches!(self.answers_to(ticket), [_, Answer::Written(_)]), "{:?}", self.answers_to(ticket));
    }

    /// The values that were sent to `number` by other replicas, each with its key's.
    fn values_sent_to(&self, number: usize) -> Vec<Bytes> {
        let to_it = self.replica_messages.iter().filter(|message| message.to == node_id(number));
        let told = to_it.filter_map(|message| match &message.body {
            ReplicaBody::Tell(tell) => Some(tell.answers.iter()),
            ReplicaBody::Ask(_) => None,
        });
        let values = told.flatten().filter_map(|(_, known)| match &known.value {
            Told::Present { value, .. } => Some(value.clone()),
            Told::Absent | Told::Unchanged => None,
        });
        values.collect()
    }
}

fn value(result: &ReadResult) -> Option<&[u8]> {
    result.kv.as_ref().map(|kv| kv.value.as_ref())
}

/// Messages with entries are lost on their way to this node, and heartbeats of a leader too.
fn cut_off_from_entries(cluster: &mut Cluster, number: usize) {
    let cut_off = node_id(number);
    cluster.lose(move |message| {
        message.to == cut_off && (carries_entries(message) || matches!(message.body, Body::Heartbeat { .. }))
    });
}

#[test]
fn a_node_that_never_received_a_write_returns_it() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect(None);
    cluster.put(leader, "k0", "before");
    let peer = (leader + 1) % 3;
    cluster.converge();
    cut_off_from_entries(&mut cluster, peer);
    cluster.put(leader, "k1", "alpha");
    cluster.put(leader, "k2", "beta");
    assert_eq!(cluster.engine(peer).store().get(b"k1"), None);

    let found = cluster.read_at_once(peer, "k1");
    assert_eq!(value(&found), Some(b"alpha".as_slice()));
    assert_ne!(found.replica, node_id(peer));
    assert_eq!(found.revision, cluster.engine(leader).store().revision());
    assert_eq!(value(&cluster.read_at_once(peer, "k2")), Some(b"beta".as_slice()));
    assert_eq!(value(&cluster.read_at_once(peer, "k3")), None);
    assert_eq!(cluster.engine(peer).store().get(b"k1"), None, "it came another way");
}

#[test]
fn a_key_that_this_node_has_as_it_is_does_not_travel() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect(None);
    cluster.put(leader, "old", "known");
    let peer = (leader + 1) % 3;
    cluster.converge();
    cut_off_from_entries(&mut cluster, peer);
    cluster.put(leader, "new", "unknown");
    let found = cluster.read_at_once(peer, "old");
    assert_eq!((value(&found), found.replica == node_id(peer)), (Some(b"known".as_slice()), false));
    assert_eq!(cluster.values_sent_to(peer), Vec::<Bytes>::new());
    cluster.read_at_once(peer, "new");
    assert!(cluster.values_sent_to(peer).contains(&Bytes::from_static(b"unknown")));
    // A key that is gone is told to be gone, to a node that still has it.
    let ticket = cluster.write(
        leader,
        &Command::Delete { key: Bytes::from_static(b"old"), expected_revision: None, return_previous: false },
    );
    cluster.settle();
    assert!(matches!(cluster.answers_to(ticket), [_, Answer::Written(_)]));
    assert_eq!(value(&cluster.read_at_once(peer, "old")), None);
}

#[test]
fn a_dead_leader_is_not_missed() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect(None);
    cluster.put(leader, "k", "v");
    cluster.converge();
    cluster.crash(leader);
    for survivor in (0..3).filter(|number| *number != leader) {
        let found = cluster.read_at_once(survivor, "k");
        assert_eq!((value(&found), found.replica), (Some(b"v".as_slice()), node_id(survivor)));
    }
    assert_eq!(cluster.leader(), None, "nobody was elected meanwhile");
}

#[test]
fn a_minority_answers_nothing_until_it_is_joined() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect(None);
    cluster.put(leader, "k", "old");
    cluster.converge();
    let peer = (leader + 1) % 3;
    cluster.isolate(peer);
    cluster.put(leader, "k", "new");
    let ticket = cluster.quorum_read(peer, "k");
    (0..SOON_TICKS).for_each(|_| cluster.tick());
    assert_eq!(cluster.answers_to(ticket), []);
    assert_eq!(cluster.status(peer).reads_waiting, 1);
    cluster.join(peer);
    cluster.tick_until("it was asked again", |cluster| !cluster.answers_to(ticket).is_empty());
    assert_eq!(value(&cluster.found(ticket)), Some(b"new".as_slice()));
    assert_eq!(cluster.status(peer).reads_waiting, 0);
}

#[test]
fn a_cancelled_read_is_forgotten() {
    let mut cluster = Cluster::new(3);
    cluster.isolate(0);
    let ticket = cluster.quorum_read(0, "k");
    cluster.settle();
    cluster.engine(0).cancel(ticket);
    assert_eq!(cluster.status(0).reads_waiting, 0);
    cluster.heal();
    (0..SOON_TICKS).for_each(|_| cluster.tick());
    assert_eq!(cluster.answers_to(ticket), []);
}

/// A leader, and the two others, whose acceptance of entries is lost: they have what it writes, and nobody knows.
fn with_a_write_undecided() -> (Cluster, usize, Ticket) {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect(None);
    cluster.put(leader, "k", "old");
    cluster.converge();
    cluster.lose(|message| matches!(message.body, Body::AppendEntriesResponse(_)));
    let write = cluster.write(leader, &upsert("k", "new"));
    cluster.settle();
    (cluster, leader, write)
}

#[test]
fn a_read_waits_for_a_write_that_is_undecided_and_shows_it() {
    let (mut cluster, leader, write) = with_a_write_undecided();
    let tickets = [0, 1, 2].map(|number| cluster.quorum_read(number, "k"));
    let other = cluster.quorum_read(leader, "another key");
    cluster.settle();
    assert!(tickets.iter().all(|ticket| cluster.answers_to(*ticket).is_empty()));
    assert_eq!(value(&cluster.found(other)), None, "a key that nobody writes waits for nothing");
    cluster.heal();
    cluster.tick_until("it is decided", |cluster| cluster.answers_to(write).len() == 2);
    cluster
        .tick_until("all are answered", |cluster| tickets.iter().all(|ticket| !cluster.answers_to(*ticket).is_empty()));
    for ticket in tickets {
        assert_eq!(value(&cluster.found(ticket)), Some(b"new".as_slice()));
    }
}

fn with_an_entry_that_one_node_holds() -> (Cluster, usize, usize, usize) {
    with_entries_that_one_node_holds(1)
}

/// Entries that only `holder` has, whose leader was cut off from its disk and from everybody else, and is dead. Gives
/// the dead leader, the holder, and the third.
fn with_entries_that_one_node_holds(count: usize) -> (Cluster, usize, usize, usize) {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect(None);
    cluster.put(leader, "k", "old");
    cluster.converge();
    let (holder, other) = ((leader + 1) % 3, (leader + 2) % 3);
    let keeps = node_id(holder);
    cluster.lose(move |message| {
        matches!(message.body, Body::AppendEntriesResponse(_)) || (carries_entries(message) && message.to != keeps)
    });
    cluster.nodes[leader].disk_stalled = true;
    for _ in 0..count {
        cluster.write(leader, &upsert("k", "nobody was told"));
    }
    cluster.settle();
    cluster.crash(leader);
    cluster.nodes[leader].disk_stalled = false;
    (cluster, leader, holder, other)
}

#[test]
fn what_a_majority_knows_nothing_of_is_not_waited_for() {
    let (mut cluster, leader, holder, other) = with_an_entry_that_one_node_holds();
    let ticket = cluster.quorum_read(other, "k");
    cluster.settle();
    assert_eq!(cluster.answers_to(ticket), [], "for all that these two know it was acknowledged");
    cluster.isolate(holder);
    cluster.lose(|_| true);
    cluster.start(leader);
    (0..SOON_TICKS).for_each(|_| cluster.tick());
    assert_eq!(value(&cluster.found(ticket)), Some(b"old".as_slice()));
}

#[test]
fn an_entry_that_vanished_is_waited_for_no_more() {
    let (mut cluster, leader, holder, other) = with_an_entry_that_one_node_holds();
    let ticket = cluster.quorum_read(holder, "k");
    cluster.settle();
    assert_eq!(cluster.answers_to(ticket), []);
    cluster.isolate(holder);
    cluster.heal();
    cluster.isolate(holder);
    cluster.start(leader);
    cluster.elect(Some(holder));
    cluster.join(holder);
    let held = cluster.status(holder).raft.last_index;
    cluster.tick_until("it is answered", |cluster| !cluster.answers_to(ticket).is_empty());
    assert_eq!(value(&cluster.found(ticket)), Some(b"old".as_slice()));
    // The entry at that index is another one now, and touches no key.
    cluster.converge();
    assert!(cluster.status(holder).applied >= held);
    cluster.crash(other);
    assert_eq!(value(&cluster.read_at_once(holder, "k")), Some(b"old".as_slice()));
}

#[test]
fn what_stands_in_place_of_entries_that_vanished_is_seen() {
    let (mut cluster, leader, holder, other) = with_entries_that_one_node_holds(2);
    // It is asked, and so has read what is about to vanish.
    let ticket = cluster.quorum_read(other, "x");
    cluster.settle();
    assert_eq!(cluster.found(ticket).kv, None);
    cluster.heal();
    cluster.isolate(holder);
    let vanishing = cluster.status(holder).raft.last_index;
    cluster.start(leader);
    let next = cluster.elect(Some(holder));
    let third = leader + other - next;
    // The first entry of the new leader takes the place of one of the two, a write that of the other.
    cluster.join(holder);
    cluster.converge();
    let committed = cluster.status(next).applied;
    cluster.isolate(third);
    let keeps_from = node_id(holder);
    cluster.lose(move |message| {
        let told = match &message.body {
            Body::AppendEntries { leader_commit, .. } => *leader_commit,
            Body::Heartbeat { commit_index, .. } => *commit_index,
            _ => Index::ZERO,
        };
        message.to == keeps_from && told > committed
    });
    cluster.put(next, "x", "new");
    assert_eq!((cluster.status(holder).raft.last_index, cluster.status(holder).applied), (vanishing, committed));
    cluster.crash(next);
    cluster.join(third);
    let ticket = cluster.quorum_read(third, "x");
    cluster.settle();
    assert_eq!(cluster.answers_to(ticket), [], "it was acknowledged, and only the holder's log knows it");
    cluster.heal();
    cluster.tick_until("it is committed again", |cluster| !cluster.answers_to(ticket).is_empty());
    assert_eq!(value(&cluster.found(ticket)), Some(b"new".as_slice()));
}

#[test]
fn an_answer_to_an_earlier_process_counts_for_nothing() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect(None);
    cluster.put(leader, "k", "new");
    cluster.converge();
    let peer = (leader + 1) % 3;
    cluster.isolate(peer);
    let ticket = cluster.quorum_read(peer, "k");
    cluster.settle();
    let stale = |process| {
        let answers = vec![(ticket.get(), Known { pending: Index::ZERO, value: Told::Absent })];
        let (configuration, applied, revision) = (ConfigurationId::default(), Index::new(1), Revision::new(1));
        let tell = Tell { process, configuration, applied, revision, time_ms: 0, answers };
        ReplicaMessage { from: node_id(leader), to: node_id(peer), body: ReplicaBody::Tell(tell) }
    };
    // The harness gives a process its node's number.
    let process = node_id(peer).get();
    cluster.engine(peer).replica_message(stale(process + 1));
    cluster.settle();
    assert_eq!(cluster.answers_to(ticket), []);
    cluster.engine(peer).replica_message(stale(process));
    cluster.settle();
    assert_eq!(value(&cluster.found(ticket)), Some(b"new".as_slice()), "with a majority its own state is enough");
}

#[test]
fn a_learners_word_and_a_strangers_are_not_asked_for() {
    fn one_learner(options: EngineOptions) -> EngineOptions {
        let configuration = Configuration::new([0, 1].map(node_id)).with_learners([node_id(2)]);
        EngineOptions { configuration, ..options }
    }
    let mut cluster = Cluster::with_engine_options(3, one_learner);
    let leader = cluster.elect(None);
    cluster.put(leader, "k", "v");
    cluster.converge();
    // A learner asks, and is not asked.
    assert_eq!(value(&cluster.read_at_once(2, "k")), Some(b"v".as_slice()));
    cluster.isolate(leader);
    let ticket = cluster.quorum_read(1 - leader, "k");
    (0..SOON_TICKS).for_each(|_| cluster.tick());
    assert_eq!(cluster.answers_to(ticket), []);
    assert!(cluster.replica_messages.iter().all(|message| message.to != node_id(2) || is_tell(message)));
    // Asked all the same, it says nothing.
    let ask = Ask { process: 7, revision: Revision::new(1), questions: vec![(1, Bytes::from_static(b"k"))] };
    let message = ReplicaMessage { from: node_id(1 - leader), to: node_id(2), body: ReplicaBody::Ask(ask) };
    let before = cluster.replica_messages.len();
    cluster.engine(2).replica_message(message.clone());
    cluster.settle();
    assert_eq!(cluster.replica_messages.len(), before);
    // Nor does anybody answer one who is no member.
    cluster.engine(1 - leader).replica_message(ReplicaMessage { from: node_id(6), to: node_id(1 - leader), ..message });
    cluster.settle();
    assert_eq!(cluster.replica_messages.len(), before);
}

fn is_tell(message: &ReplicaMessage) -> bool {
    matches!(message.body, ReplicaBody::Tell(_))
}

#[test]
fn one_node_alone_asks_nobody() {
    let mut cluster = Cluster::new(1);
    let leader = cluster.elect(None);
    cluster.put(leader, "k", "v");
    assert_eq!(value(&cluster.read_at_once(0, "k")), Some(b"v".as_slice()));
    assert!(cluster.replica_messages.is_empty());
}

#[test]
fn questions_of_a_turn_travel_together_and_answers_are_cut() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect(None);
    let large = "v".repeat(200 << 10);
    let peer = (leader + 1) % 3;
    cluster.converge();
    cut_off_from_entries(&mut cluster, peer);
    for number in 0..20 {
        cluster.put(leader, &format!("k{number}"), &large);
    }
    let keys = (0..QUESTIONS_MAX + 1).map(|number| format!("k{number}"));
    let tickets: Vec<Ticket> = keys.map(|key| cluster.quorum_read(peer, &key)).collect();
    cluster.settle();
    for (number, ticket) in tickets.into_iter().enumerate() {
        assert_eq!(cluster.found(ticket).kv.is_some(), number < 20, "k{number}");
    }
    let asks = cluster.replica_messages.iter().filter(|message| !is_tell(message)).count();
    assert_eq!(asks, 4, "two messages to each of two");
    for message in &cluster.replica_messages {
        let ReplicaBody::Tell(tell) = &message.body else { continue };
        let bytes = |known: &Known| if let Told::Present { value, .. } = &known.value { value.len() } else { 0 };
        let total: usize = tell.answers.iter().map(|(_, known)| bytes(known)).sum();
        assert!(total <= ANSWER_BYTES_MAX + large.len(), "{total} bytes");
    }
}

#[test]
fn a_write_with_a_name_is_seen_in_the_log_too() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect(None);
    cluster.put(leader, "k", "old");
    cluster.converge();
    cluster.lose(|message| matches!(message.body, Body::AppendEntriesResponse(_)));
    let id = RequestId { session: SessionId::new(9), opened_at_ms: 0, sequence: 1, acknowledged_below: 1 };
    cluster.write_once(leader, &Request { id: Some(id), command: upsert("k", "new") });
    cluster.settle();
    let ticket = cluster.quorum_read(leader, "k");
    cluster.settle();
    assert_eq!(cluster.answers_to(ticket), []);
    // What asks for the outcome of a write touches no key.
    cluster.write_once(leader, &Request { id: Some(id), command: Command::Settle });
    cluster.settle();
    let other = cluster.quorum_read(leader, "another");
    cluster.settle();
    assert_eq!(cluster.found(other).kv, None::<KeyValue>);
}

#[test]
fn a_read_may_ask_for_a_revision_and_waits_for_a_state_that_has_it() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect(None);
    cluster.put(leader, "k", "before");
    cluster.converge();
    let peer = (leader + 1) % 3;
    cut_off_from_entries(&mut cluster, peer);
    cluster.put(leader, "another", "key");
    let revision = cluster.engine(leader).store().revision().get();
    // The peer's own state would do for this key; it is the leader's that has the revision.
    let ticket = cluster.quorum_read_from(peer, "k", revision);
    cluster.settle();
    assert_eq!(
        (value(&cluster.found(ticket)), cluster.found(ticket).revision.get()),
        (Some(b"before".as_slice()), revision)
    );
    let ticket = cluster.quorum_read_from(peer, "k", revision + 1);
    (0..SOON_TICKS).for_each(|_| cluster.tick());
    assert_eq!(cluster.answers_to(ticket), [], "nobody has that");
    cluster.heal();
    cluster.put(leader, "k", "after");
    cluster.tick_until("it is answered", |cluster| !cluster.answers_to(ticket).is_empty());
    assert_eq!(value(&cluster.found(ticket)), Some(b"after".as_slice()));
    // One that is never satisfied leaves nothing behind.
    let ticket = cluster.quorum_read_from(peer, "k", u64::MAX);
    (0..SOON_TICKS).for_each(|_| cluster.tick());
    assert_eq!(cluster.status(peer).reads_waiting, 1);
    cluster.engine(peer).cancel(ticket);
    assert_eq!(cluster.status(peer).reads_waiting, 0);
}
