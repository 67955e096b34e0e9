//! One hundred thousand random operations against the reference model, through the whole ring: three engines, each with
//! its write-ahead log on a disk of its own, while leaders are cut off, handed over and crashed.
//!
//! The model is a plain map. It applies the commands in the order of the log, as the first node that applies each entry
//! tells it, and says what every client must be answered.

use std::collections::BTreeMap;

use crate::cluster::{Cluster, node_id};
use bytes::Bytes;
use engine::kv::{Applied, Command, KeyValue, PutMode, Rejection, Revision};
use engine::{Answer, Ticket};
use raft::{Index, Term};

const OPERATIONS: usize = 100_000;

/// So many operations are under way at once.
const BATCH: usize = 100;

/// After so many batches something goes wrong with a node.
const BATCHES_BETWEEN_FAULTS: usize = 20;

const KEYS: u64 = 30;

/// The reference: what a store is, in the plainest words. Written for this test alone; it shares no code with the
/// store.
#[derive(Default)]
struct Model {
    /// Key to (value, create revision, mod revision, version).
    map: BTreeMap<Bytes, (Bytes, u64, u64, u64)>,
    /// How many commands have changed a key.
    changes: u64,
    /// What each key was after each revision that changed it.
    history: BTreeMap<(Bytes, u64), Option<KeyValue>>,
}

impl Model {
    fn revision(&self) -> u64 {
        1 + self.changes
    }

    fn apply(&mut self, command: &Command) -> Applied {
        let key = command.key().expect("nothing is settled or configured here").clone();
        let before = self.map.get(&key).cloned();
        let refuse = |rejection| Applied::Rejected(rejection);
        let (condition, create_only) = match command {
            Command::Put { mode: PutMode::Create, .. } => (None, true),
            Command::Put { mode: PutMode::Upsert | PutMode::Update, .. } => (None, false),
            Command::Put { mode: PutMode::Compare { expected_revision }, .. } => (Some(*expected_revision), false),
            Command::Delete { expected_revision, .. } => (*expected_revision, false),
            Command::Settle | Command::Configure { .. } => unreachable!("it has no key"),
        };
        let may_be_missing = matches!(command, Command::Put { mode: PutMode::Create | PutMode::Upsert, .. });
        match (&before, condition) {
            (None, _) if !may_be_missing => return refuse(Rejection::KeyNotFound),
            (Some((_, _, modified, _)), _) if create_only => {
                return refuse(Rejection::KeyExists { mod_revision: Revision::new(*modified) });
            }
            (Some((_, _, modified, _)), Some(expected)) if expected.get() != *modified => {
                return refuse(Rejection::RevisionMismatch { expected, actual: Revision::new(*modified) });
            }
            _ => {}
        }
        self.changes += 1;
        let revision = self.revision();
        let applied = match command {
            Command::Put { value, .. } => {
                let (created, version) =
                    before.map_or((revision, 1), |(_, created, _, version)| (created, version + 1));
                self.map.insert(key.clone(), (value.clone(), created, revision, version));
                Applied::Put { revision: Revision::new(revision), version }
            }
            Command::Delete { return_previous, .. } => {
                let previous = self.get(&key).filter(|_| *return_previous);
                self.map.remove(&key);
                Applied::Deleted { revision: Revision::new(revision), previous }
            }
            Command::Settle | Command::Configure { .. } => unreachable!("it has no key"),
        };
        self.history.insert((key.clone(), revision), self.get(&key));
        applied
    }

    fn get(&self, key: &Bytes) -> Option<KeyValue> {
        self.map.get(key).map(|(value, created, modified, version)| KeyValue {
            key: key.clone(),
            value: value.clone(),
            create_revision: Revision::new(*created),
            mod_revision: Revision::new(*modified),
            version: *version,
        })
    }

    /// What a key was when the store was at `revision`.
    fn get_at(&self, key: &Bytes, revision: u64) -> Option<KeyValue> {
        let mut changes = self.history.range((key.clone(), 0)..=(key.clone(), revision));
        changes.next_back().and_then(|(_, kv)| kv.clone())
    }
}

/// The cluster, the model, and what is still open between them.
struct Run {
    cluster: Cluster,
    model: Model,
    random: u64,
    /// Proposed writes by their place in the log.
    proposed: BTreeMap<(Index, Term), (Ticket, Command)>,
    /// Reads that have no answer yet, with the revision that the model was at when they were asked.
    asked: BTreeMap<Ticket, (Bytes, u64)>,
    /// What the model says that these writes must be answered.
    expected: BTreeMap<Ticket, Applied>,
    model_applied: Index,
    written: usize,
    dropped: usize,
    read: usize,
    refused: usize,
}

impl Run {
    fn below(&mut self, bound: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % bound
    }

    fn key(&mut self) -> String {
        format!("key{}", self.below(KEYS))
    }

    /// A revision that is the right one about every other time.
    fn revision_for(&mut self, key: &str) -> Revision {
        let actual = self.model.map.get(key.as_bytes()).map(|(_, _, modified, _)| *modified);
        let guess = 1 + self.below(self.model.revision() + 1);
        Revision::new(if self.below(2) == 0 { actual.unwrap_or(guess) } else { guess })
    }

    fn command(&mut self, number: usize) -> Command {
        let name = self.key();
        let key = Bytes::from(name.clone());
        let value = Bytes::from(format!("value {number} ").repeat(1 + number % 20));
        let mode = match self.below(8) {
            0 | 1 => PutMode::Create,
            2 | 3 => PutMode::Upsert,
            4 => PutMode::Update,
            5 => PutMode::Compare { expected_revision: self.revision_for(&name) },
            6 => {
                let return_previous = self.below(2) == 0;
                return Command::Delete { key, expected_revision: None, return_previous };
            }
            _ => {
                let expected_revision = Some(self.revision_for(&name));
                return Command::Delete { key, expected_revision, return_previous: true };
            }
        };
        Command::Put { key, value, mode }
    }

    /// Hands a batch of operations to `leader`; one in five is a read.
    fn submit(&mut self, leader: usize, first: usize) {
        let mut writes = Vec::new();
        for number in first..first + BATCH {
            if self.below(5) == 0 {
                let key = self.key();
                let ticket = self.cluster.read(leader, &key);
                self.asked.insert(ticket, (Bytes::from(key), self.model.revision()));
            } else {
                let command = self.command(number);
                writes.push((self.cluster.write(leader, &command), command));
            }
        }
        self.cluster.settle();
        for (ticket, command) in writes {
            match self.cluster.answers_to(ticket) {
                [Answer::Proposed { term, index }, ..] => {
                    let place = (*index, *term);
                    assert!(self.proposed.insert(place, (ticket, command)).is_none(), "two writes got {place:?}");
                }
                [Answer::NotLeader { .. } | Answer::Overloaded | Answer::Transferring] => self.refused += 1,
                other => panic!("a write was answered {other:?} at first"),
            }
        }
    }

    /// Lets the model apply what the cluster has.
    fn follow(&mut self) {
        let applied = self.cluster.applied.range(self.model_applied.next()..);
        for (&index, &term) in applied {
            self.model_applied = index;
            if let Some((ticket, command)) = self.proposed.get(&(index, term)) {
                self.expected.insert(*ticket, self.model.apply(command));
            }
        }
    }

    /// Compares what clients were answered with what the model says. An answer to a ticket that was answered before
    /// fits none of the patterns.
    fn compare(&mut self) {
        self.follow();
        for (ticket, answers) in std::mem::take(&mut self.cluster.answers) {
            if let Some((key, revision_asked)) = self.asked.remove(&ticket) {
                self.compare_read(&key, revision_asked, &answers);
                continue;
            }
            match answers.as_slice() {
                // Still open.
                [Answer::Proposed { .. }] => _ = self.cluster.answers.insert(ticket, answers),
                [Answer::Proposed { .. }, Answer::Written(applied)] => {
                    assert_eq!(Some(applied), self.expected.remove(&ticket).as_ref(), "{ticket:?}");
                    self.written += 1;
                }
                [Answer::Proposed { .. }, Answer::Dropped { .. }] => {
                    assert!(!self.expected.contains_key(&ticket), "{ticket:?} was applied after all");
                    self.dropped += 1;
                }
                [Answer::NotLeader { .. } | Answer::Overloaded | Answer::Transferring] => {}
                other => panic!("{ticket:?} was answered {other:?}"),
            }
        }
    }

    fn compare_read(&mut self, key: &Bytes, revision_asked: u64, answers: &[Answer]) {
        match answers {
            [Answer::Read(result)] => {
                let revision = result.revision.get();
                assert!(revision >= revision_asked, "a read went back to {revision} from {revision_asked}");
                assert!(revision <= self.model.revision(), "a read saw what was never applied");
                assert_eq!(result.kv, self.model.get_at(key, revision), "{key:?} at revision {revision}");
                self.read += 1;
            }
            [Answer::ReadAborted | Answer::NotLeader { .. }] => self.refused += 1,
            other => panic!("a read was answered {other:?}"),
        }
    }

    /// All nodes hold what the model holds, and their hashes agree with it and with each other.
    fn compare_states(&mut self) {
        self.cluster.converge();
        self.compare();
        let mut hashes = Vec::new();
        for number in 0..self.cluster.nodes.len() {
            let store = self.cluster.engine(number).store();
            assert_eq!(store.revision().get(), self.model.revision());
            assert!(store.iter().eq(self.model.map.keys().filter_map(|key| self.model.get(key))), "node {number}");
            assert_eq!(store.state_hash(), store.recompute_hash(), "node {number}");
            hashes.push(store.state_hash());
        }
        assert!(hashes.iter().all(|hash| *hash == hashes[0]), "{hashes:x?}");
    }

    /// Something happens to a node while `first..first + BATCH` are under way on the leader.
    fn disturb(&mut self, kind: usize, leader: usize, first: usize) {
        let other = (leader + 1) % self.cluster.nodes.len();
        match kind % 5 {
            // A follower crashes and comes back.
            0 => {
                self.cluster.crash(other);
                self.submit(leader, first);
                self.compare();
                self.cluster.start(other);
            }
            // The leader is cut off with entries that it alone has; they are lost when it comes back.
            1 => {
                self.cluster.isolate(leader);
                self.submit(leader, first);
                self.cluster.elect(Some(leader));
                self.cluster.heal();
                self.cluster.converge();
                self.compare();
            }
            // The leader crashes when its entries have left it, but not their acknowledgements.
            2 => {
                self.cluster.lose(|message| !crate::cluster::carries_entries(message));
                self.submit(leader, first);
                self.cluster.crash(leader);
                self.cluster.heal();
                self.cluster.elect(None);
                self.cluster.start(leader);
                self.compare();
            }
            // Leadership is handed over.
            3 => {
                let target = node_id(other);
                self.cluster.engine(leader).transfer_leadership(target).expect("it leads");
                self.submit(leader, first);
                self.cluster.elect(Some(leader));
                self.compare();
            }
            // Everything crashes and comes back.
            _ => {
                self.submit(leader, first);
                self.compare();
                (0..3).for_each(|number| self.cluster.crash(number));
                (0..3).for_each(|number| self.cluster.start(number));
                self.cluster.elect(None);
                self.compare_states();
            }
        }
    }
}

#[test]
fn random_operations_agree_with_the_reference_model() {
    let mut run = Run {
        cluster: Cluster::new(3),
        model: Model::default(),
        random: 0x2545_f491_4f6c_dd1d,
        proposed: BTreeMap::new(),
        asked: BTreeMap::new(),
        expected: BTreeMap::new(),
        model_applied: Index::ZERO,
        written: 0,
        dropped: 0,
        read: 0,
        refused: 0,
    };
    for batch in 0..OPERATIONS / BATCH {
        let leader = run.cluster.elect(None);
        let first = batch * BATCH;
        if batch % BATCHES_BETWEEN_FAULTS == BATCHES_BETWEEN_FAULTS - 1 {
            run.disturb(batch / BATCHES_BETWEEN_FAULTS, leader, first);
        } else {
            run.submit(leader, first);
            run.compare();
        }
    }
    run.compare_states();

    // The log alone gives the same state again.
    let hash = run.cluster.engine(0).store().state_hash();
    (0..3).for_each(|number| run.cluster.crash(number));
    (0..3).for_each(|number| run.cluster.start(number));
    run.cluster.elect(None);
    run.compare_states();
    assert_eq!(run.cluster.engine(0).store().state_hash(), hash);

    // The run was one: nearly everything was answered, and the faults did reach their targets.
    let Run { written, dropped, read, refused, .. } = run;
    let told = format!("{written} written, {dropped} dropped, {read} read, {refused} refused");
    assert!(written > OPERATIONS * 7 / 10 && read > OPERATIONS / 7, "{told}");
    assert!(dropped > 100 && refused > 100, "{told}");
}
