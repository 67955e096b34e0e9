//! Reads that need no leader: this node asks the voters, and returns the key from the first state that is far enough.
//!
//! `raft::quorum_read` says which state is, and why that is linearizable. Here are the reads that wait, what is asked
//! for them, and where they are served from: this node's own state if it is far enough or will be soon, or else the
//! state of the replica whose answer is the furthest. So a node that never received a write, and never will, returns it
//! nevertheless.
//!
//! A read that has begun is asked about at once, all those of a turn in one message to each voter, and again every
//! [`ASK_AGAIN_TICKS`]: something may have been lost, and what a read waits for may have vanished from the log that it
//! was in. A value travels only if it was written since the state that this node has.
//!
//! The other side is [`QuorumReads::tell`]: it answers at once and keeps nothing.

mod pending_keys;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use raft::{Index, NodeId, Poll, Raft, Witness};

use super::Outbox;
use super::answer::{Answer, ReadResult, Ticket};
use crate::kv::{KeyValue, Revision, Store};
use crate::leaderless::{ANSWER_BYTES_MAX, Ask, Known, QUESTIONS_MAX, ReplicaBody, ReplicaMessage, Tell, Told};
use pending_keys::PendingKeys;

/// How long to wait before the voters are asked again, in ticks: longer than a round trip in a data centre and the disk
/// behind it take, so that hardly anything is asked twice, and short enough to be a pause and no outage.
const ASK_AGAIN_TICKS: u64 = 3;

/// How many such reads may wait, each with its key of at most a kibibyte and perhaps a value.
pub(super) const QUORUM_READS_MAX: usize = 16_384;

/// What answers may hold of values while their reads wait, in bytes. What is more is not kept, and asked for again.
const KEPT_BYTES_MAX: usize = 64 << 20;

/// All of a node's.
#[derive(Debug)]
pub(super) struct QuorumReads {
    /// What tells the answers for this process from those for an earlier one of this node.
    process: u64,
    /// By ticket: each begins after those before it.
    waiting: BTreeMap<Ticket, Waiting>,
    /// Those of which it is known which index a state must have applied, and none has.
    found: BTreeSet<(Index, Ticket)>,
    /// Those for which this node's state has applied enough, but has not come to the revision that they ask for.
    behind: BTreeSet<(Revision, Ticket)>,
    /// The tick at which each is asked about again, in order.
    ask_again: VecDeque<(u64, Ticket)>,
    /// To be asked about at the end of this turn.
    to_ask: Vec<Ticket>,
    /// The size of what `waiting` keeps of other replicas' values.
    kept_bytes: usize,
    pending_keys: PendingKeys,
    ticks: u64,
}

/// A read that has no answer yet.
#[derive(Debug)]
struct Waiting {
    key: Bytes,
    /// The least revision of a state that it may be answered from.
    min_revision: Revision,
    poll: Poll,
    /// A state that has applied this may be read from.
    needed: Option<Index>,
    /// What the replica whose state was the furthest has said.
    furthest: Option<Furthest>,
}

/// The key in the state of another replica.
#[derive(Debug)]
struct Furthest {
    applied: Index,
    value: Told,
    /// What goes with the answer; its `kv` is not set.
    result: ReadResult,
}

impl Furthest {
    /// The key as that replica has it.
    fn read(self, key: Bytes, own: Own<'_>) -> ReadResult {
        let kv = match self.value {
            Told::Absent => None,
            Told::Present { value, create_revision, mod_revision, version } => {
                Some(KeyValue { key, value, create_revision, mod_revision, version })
            }
            // That state is ahead of this one, which is ahead of what the question named. The key is in all of them
            // what it was there.
            Told::Unchanged => own.store.get(&key),
        };
        ReadResult { kv, ..self.result }
    }

    fn kept_bytes(&self) -> usize {
        if let Told::Present { value, .. } = &self.value { value.len() } else { 0 }
    }
}

/// A node's log and state.
#[derive(Clone, Copy)]
pub(super) struct Own<'a> {
    pub(super) raft: &'a Raft,
    pub(super) store: &'a Store,
}

impl Own<'_> {
    fn read(&self, key: &[u8]) -> ReadResult {
        ReadResult::of(self.raft.id(), self.store, key)
    }
}

impl QuorumReads {
    /// None yet, of a process that is known by a number that no other process of this node has had.
    pub(super) fn new(process: u64) -> QuorumReads {
        QuorumReads {
            process,
            waiting: BTreeMap::new(),
            found: BTreeSet::new(),
            behind: BTreeSet::new(),
            ask_again: VecDeque::new(),
            to_ask: Vec::new(),
            kept_bytes: 0,
            pending_keys: PendingKeys::default(),
            ticks: 0,
        }
    }

    /// How many wait.
    pub(super) fn count(&self) -> usize {
        self.waiting.len()
    }

    /// A read begins, which is not to be answered from a state of an earlier revision than `min_revision`.
    pub(super) fn begin(
        &mut self,
        (ticket, key): (Ticket, Bytes),
        min_revision: Revision,
        own: Own<'_>,
        answers: &mut Vec<(Ticket, Answer)>,
    ) {
        if self.waiting.len() >= QUORUM_READS_MAX {
            answers.push((ticket, Answer::Overloaded));
            return;
        }
        let poll = Poll::new(own.raft.configuration_id());
        self.waiting.insert(ticket, Waiting { key, min_revision, poll, needed: None, furthest: None });
        self.to_ask.push(ticket);
    }

    /// Nobody waits with this ticket any more.
    pub(super) fn cancel(&mut self, ticket: Ticket) {
        self.remove(ticket);
    }

    /// A tick has passed: asks again for what has waited long enough.
    pub(super) fn tick(&mut self, applied: Index) {
        self.ticks += 1;
        self.pending_keys.forget_applied(applied);
        while let Some((_, ticket)) = self.ask_again.pop_front_if(|(due, _)| *due <= self.ticks) {
            if self.waiting.contains_key(&ticket) {
                self.to_ask.push(ticket);
            }
        }
    }

    /// Asks for all that is due: this node at once, the others by messages.
    pub(super) fn ask(&mut self, own: Own<'_>, outbox: &mut Outbox) {
        let mut questions = Vec::with_capacity(self.to_ask.len());
        for ticket in std::mem::take(&mut self.to_ask) {
            let Some(waiting) = self.waiting.get_mut(&ticket) else { continue };
            if let Some(witness) = own.raft.witness(self.pending_keys.last(&waiting.key, own.raft)) {
                waiting.poll.note(own.raft.id(), &witness);
            }
            let key = waiting.key.clone();
            // Where this node is a majority by itself, nobody else has to be asked.
            self.judge(ticket, own, &mut outbox.answers);
            if self.waiting.contains_key(&ticket) {
                questions.push((ticket.get(), key));
                self.ask_again.push_back((self.ticks + ASK_AGAIN_TICKS, ticket));
            }
        }
        if questions.is_empty() {
            // As at every turn without such reads, which need not find out who votes.
            return;
        }
        let from = own.raft.id();
        for to in own.raft.configuration().all_voters().into_iter().filter(|voter| *voter != from) {
            for questions in questions.chunks(QUESTIONS_MAX) {
                let (revision, questions) = (own.store.revision(), questions.to_vec());
                let body = ReplicaBody::Ask(Ask { process: self.process, revision, questions });
                outbox.replica_messages.push(ReplicaMessage { from, to, body });
            }
        }
    }

    /// Answers another node's questions.
    pub(super) fn tell(&mut self, to: NodeId, ask: &Ask, own: Own<'_>, messages: &mut Vec<ReplicaMessage>) {
        let Own { raft, store } = own;
        let Some(Witness { configuration, applied, .. }) = raft.witness(Index::ZERO) else { return };
        let (process, revision, time_ms) = (ask.process, store.revision(), store.time_ms());
        let message = |answers| {
            let tell = Tell { process, configuration, applied, revision, time_ms, answers };
            ReplicaMessage { from: raft.id(), to, body: ReplicaBody::Tell(tell) }
        };
        let (mut answers, mut bytes) = (Vec::with_capacity(ask.questions.len()), 0);
        for (number, key) in &ask.questions {
            let value = match store.get(key) {
                None => Told::Absent,
                Some(kv) if kv.mod_revision <= ask.revision => Told::Unchanged,
                Some(KeyValue { value, create_revision, mod_revision, version, .. }) => {
                    bytes += value.len();
                    Told::Present { value, create_revision, mod_revision, version }
                }
            };
            answers.push((*number, Known { pending: self.pending_keys.last(key, raft), value }));
            if bytes >= ANSWER_BYTES_MAX {
                messages.push(message(std::mem::take(&mut answers)));
                bytes = 0;
            }
        }
        if !answers.is_empty() {
            messages.push(message(answers));
        }
    }

    /// Takes what another replica says.
    pub(super) fn told(&mut self, from: NodeId, tell: &Tell, own: Own<'_>, answers: &mut Vec<(Ticket, Answer)>) {
        // SAFETY(quorum_read): an answer to an earlier process was given before the reads of this one began.
        if tell.process != self.process {
            return;
        }
        for (number, known) in &tell.answers {
            let ticket = Ticket::new(*number);
            let Tell { revision, time_ms, .. } = *tell;
            let result = ReadResult { kv: None, revision, replica: from, time_ms, age_ms: None };
            if self.note(ticket, tell.witness(known), &known.value, result, own) {
                self.judge(ticket, own, answers);
            }
        }
    }

    /// Takes what another replica says of one key; whether it counts.
    fn note(&mut self, ticket: Ticket, witness: Witness, value: &Told, result: ReadResult, own: Own<'_>) -> bool {
        let Some(waiting) = self.waiting.get_mut(&ticket) else { return false };
        if !waiting.poll.note(result.replica, &witness) {
            return false;
        }
        let furthest_known = waiting.furthest.as_ref().map_or(own.raft.applied_index(), |known| known.applied);
        if witness.applied > furthest_known {
            let furthest = Furthest { applied: witness.applied, value: value.clone(), result };
            let before = waiting.furthest.as_ref().map_or(0, Furthest::kept_bytes);
            let kept_bytes = self.kept_bytes - before + furthest.kept_bytes();
            if kept_bytes <= KEPT_BYTES_MAX {
                self.kept_bytes = kept_bytes;
                waiting.furthest = Some(furthest);
            }
        }
        true
    }

    /// Answers a read if there is a state that is far enough; else notes for which one it waits.
    fn judge(&mut self, ticket: Ticket, own: Own<'_>, answers: &mut Vec<(Ticket, Answer)>) {
        let Some(waiting) = self.waiting.get_mut(&ticket) else { return };
        let Some(needed) = waiting.poll.needed(own.raft.configuration()) else { return };
        let min_revision = waiting.min_revision;
        let is_far_enough =
            |furthest: &Furthest| furthest.applied >= needed && furthest.result.revision >= min_revision;
        if own.raft.applied_index() >= needed && own.store.revision() >= min_revision {
            self.answer_or_wait(ticket, own, answers);
        } else if waiting.furthest.as_ref().is_some_and(is_far_enough) {
            let Some(Waiting { key, furthest: Some(furthest), .. }) = self.remove(ticket) else { return };
            answers.push((ticket, Answer::Read(furthest.read(key, own))));
        } else {
            // Later witnesses may lower it; what stands here is the last that was found.
            let before = waiting.needed.replace(needed);
            before.map(|before| self.found.remove(&(before, ticket)));
            self.found.insert((needed, ticket));
            if own.raft.applied_index() >= needed {
                self.answer_or_wait(ticket, own, answers);
            }
        }
    }

    /// Answers the reads for which this node's own state is far enough. To be called when that has grown.
    pub(super) fn serve(&mut self, own: Own<'_>, answers: &mut Vec<(Ticket, Answer)>) {
        while let Some((needed, ticket)) = self.found.first().copied() {
            if needed > own.raft.applied_index() {
                break;
            }
            self.answer_or_wait(ticket, own, answers);
        }
        while let Some((min_revision, ticket)) = self.behind.first().copied() {
            if min_revision > own.store.revision() {
                break;
            }
            self.answer_or_wait(ticket, own, answers);
        }
    }

    /// Answers a read from this node's own state, which has applied what is needed, or lets it wait for the revision
    /// that it asks for.
    fn answer_or_wait(&mut self, ticket: Ticket, own: Own<'_>, answers: &mut Vec<(Ticket, Answer)>) {
        let Some(waiting) = self.waiting.get_mut(&ticket) else { return };
        if waiting.min_revision > own.store.revision() {
            if let Some(needed) = waiting.needed.take() {
                self.found.remove(&(needed, ticket));
            }
            self.behind.insert((waiting.min_revision, ticket));
        } else if let Some(waiting) = self.remove(ticket) {
            answers.push((ticket, Answer::Read(own.read(&waiting.key))));
        }
    }

    fn remove(&mut self, ticket: Ticket) -> Option<Waiting> {
        let waiting = self.waiting.remove(&ticket)?;
        if let Some(needed) = waiting.needed {
            self.found.remove(&(needed, ticket));
        }
        self.behind.remove(&(waiting.min_revision, ticket));
        self.kept_bytes -= waiting.furthest.as_ref().map_or(0, Furthest::kept_bytes);
        Some(waiting)
    }
}
