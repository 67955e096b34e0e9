//! The replica: the consensus core, the state machine and the clients that wait, composed into one synchronous machine.
//!
//! It owns no file. [`Replica::advance`] yields the batches to make durable, in order; whoever drives the replica
//! writes them and reports back through [`Replica::persisted`]. What the replica has for the outside gathers in an
//! [`Outbox`].
//!
//! The life of a write: [`Replica::write`] stamps the command with replicated time, encodes it once and proposes it;
//! the client's [`Ticket`] waits for the index and term that it got. When that index is applied, the client is answered
//! with the result, or told that another entry took the place. The life of a read: [`Replica::read`] has the core find
//! out what was committed when the read came, by asking a majority whether this node still leads, or the leader; the
//! client is answered once the state has applied that.
//!
//! What does not hold, and is not promised: losing leadership answers no write (its entry may still be committed); a
//! cancelled write may still happen; a ticket whose write is never decided, because this node hears of no leader any
//! more, gets no answer, so whoever waits needs a deadline of its own and must then call the outcome unknown.

mod answer;
mod clock;
mod leases;
mod parked;
mod quorum_reads;
mod reads;
mod stale_reads;
mod waiters;

use raft::{
    Batch, BatchNumber, Entry, Fetch, Index, Message, NodeId, Payload, ProposeError, Raft, Ready, SnapshotOffer, Term,
};
use thiserror::Error;

use crate::kv::command::encode;
use crate::kv::{Request, Store, UnknownCommand};
use crate::leaderless::{ReplicaBody, ReplicaMessage};
use clock::Clock;
use leases::Leases;
use parked::Parked;
use quorum_reads::{Own, QuorumReads};
use stale_reads::StaleReads;
use waiters::Waiters;

pub use answer::{Answer, AppliedCommand, AppliedKind, Consistency, Event, ReadResult, Ticket};
use answer::{applied_command, applied_kind};
pub use stale_reads::StaleBounds;

/// One member of the cluster, without its disk and its network.
pub struct Replica {
    raft: Raft,
    store: Store,
    /// The last entry applied to `store`.
    applied: Index,
    /// Its term.
    applied_term: Term,
    /// See [`settled_bytes`](Replica::settled_bytes).
    settled_bytes: u64,
    /// The state's hash is noted at every index that this divides.
    hash_every_entries: u64,
    waiters: Waiters,
    quorum_reads: QuorumReads,
    stale_reads: StaleReads,
    leases: Leases,
    /// How many reads were answered, or are to be, because a lease held.
    leased_reads: u64,
    /// The settings of the state were changed at this index or before.
    settings_index: Index,
    parked: Parked,
    clock: Clock,
    /// The term in which this node leads and for which `clock` was started.
    leading_term: Option<Term>,
    /// The latest monotonic time, in milliseconds, that the driver has told.
    now_ms: u64,
    outbox: Outbox,
    narrating: bool,
    /// The commit index that was narrated last.
    narrated_commit_index: Index,
    /// The durable index that was narrated last. A truncation takes it back.
    narrated_durable_index: Index,
}

/// What a replica has for the outside.
#[derive(Debug, Default)]
pub struct Outbox {
    /// Messages that may leave now.
    pub messages: Vec<Message>,
    /// Entries that the core needs read from the log.
    pub fetches: Vec<Fetch>,
    /// Snapshots that a leader says this node needs.
    pub snapshot_offers: Vec<SnapshotOffer>,
    /// The state's hashes at certain indexes, to be compared with those of other replicas.
    pub state_hashes: Vec<(Index, u128)>,
    /// Questions to the replicas of other nodes, and answers to theirs.
    pub replica_messages: Vec<ReplicaMessage>,
    /// Answers to tickets.
    pub answers: Vec<(Ticket, Answer)>,
    /// What happened, for people.
    pub events: Vec<Event>,
}

/// A list with room for more answers than this is given up when it was emptied: a mebibyte, and what a turn under full
/// load has.
const ANSWERS_KEPT_MAX: usize = 8_192;

/// A committed entry that this version cannot apply. The node must stop: it cannot go on without the entry and must not
/// skip it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("the committed entry at index {index}, term {term}, is not known to this version: {reason}")]
pub struct UnknownEntry {
    /// Its index.
    pub index: Index,
    /// Its term.
    pub term: Term,
    /// What is wrong with it.
    pub reason: UnknownCommand,
}

impl Replica {
    /// A replica of a core and the state that has applied the log up to `applied`, an entry of `applied_term`
    /// ([`Index::ZERO`] and [`Term::ZERO`] for an empty state). The core must have been restored with the same index.
    /// The state's hash is noted at every index that `hash_every_entries` divides, for comparison with other replicas.
    /// `process` is a number that no earlier process of this node has had, and a lease lasts for `lease_ms`.
    pub fn new(
        raft: Raft,
        store: Store,
        (applied, applied_term): (Index, Term),
        hash_every_entries: u64,
        process: u64,
        lease_ms: u64,
    ) -> Replica {
        let mut replica = Replica {
            narrated_commit_index: raft.commit_index(),
            narrated_durable_index: raft.last_index(),
            raft,
            store,
            applied,
            applied_term,
            settled_bytes: 0,
            hash_every_entries,
            waiters: Waiters::new(applied_term),
            quorum_reads: QuorumReads::new(process),
            stale_reads: StaleReads::default(),
            leases: Leases::new(lease_ms),
            leased_reads: 0,
            settings_index: Index::ZERO,
            parked: Parked::new(),
            clock: Clock::default(),
            leading_term: None,
            now_ms: 0,
            outbox: Outbox::default(),
            narrating: false,
        };
        replica.observe_settings();
        replica
    }

    /// Whether to tell what happens in detail, in [`Outbox::events`]. Off at first: it costs time and memory.
    pub fn narrate(&mut self, narrating: bool) {
        self.narrating = narrating;
    }

    /// One tick of the core's timers, at `now_ms` of this node's monotonic clock (milliseconds, any origin).
    pub fn tick(&mut self, now_ms: u64) {
        self.observe_time(now_ms);
        self.raft.tick();
        self.observe_leadership();
        self.quorum_reads.tick(self.applied);
        let Replica { stale_reads, raft, store, outbox, .. } = self;
        stale_reads.tick((raft, store), &mut outbox.answers);
    }

    /// A message from a peer.
    ///
    /// # Errors
    ///
    /// The message was dropped, for a reason that is worth counting.
    pub fn message(&mut self, message: Message) -> Result<(), raft::Refused> {
        let outcome = self.raft.step(message);
        self.observe_leadership();
        outcome
    }

    /// Proposes `request` for the client with `ticket`, at `now_ms` of this node's monotonic clock. The answers come
    /// through the outbox.
    pub fn write(&mut self, ticket: Ticket, request: &Request, now_ms: u64) {
        self.observe_time(now_ms);
        let answer = self.propose(ticket, request).unwrap_or_else(|refusal| refusal);
        self.outbox.answers.push((ticket, answer));
    }

    /// Answers a request that is not taken, for a reason that lies elsewhere.
    pub fn refuse(&mut self, ticket: Ticket, refusal: Answer) {
        self.outbox.answers.push((ticket, refusal));
    }

    /// The first answer to a write: `Proposed`, or why not.
    fn propose(&mut self, ticket: Ticket, request: &Request) -> Result<Answer, Answer> {
        // Asked before the request is encoded, which may copy a mebibyte for nothing.
        if !self.raft.is_leader() {
            return Err(self.not_leader());
        }
        if self.waiters.writes_are_full() {
            return Err(Answer::Overloaded);
        }
        let time_ms = self.clock.stamp(self.store.time_ms(), self.now_ms);
        let encoded = encode(request, time_ms).map_err(Answer::Invalid)?;
        let (term, index) = self.raft.propose(encoded).map_err(|error| match error {
            ProposeError::NotLeader { .. } => self.not_leader(),
            ProposeError::TooManyUncommitted => Answer::Overloaded,
            ProposeError::Transferring => Answer::Transferring,
        })?;
        self.waiters.wait_for_write(index, term, ticket);
        Ok(Answer::Proposed { term, index })
    }

    fn not_leader(&self) -> Answer {
        Answer::NotLeader { leader: self.raft.leader(), term: self.raft.current_term() }
    }

    /// A message from the replica of a member.
    pub fn replica_message(&mut self, message: ReplicaMessage) {
        let ReplicaMessage { from, to, body } = message;
        let Replica { quorum_reads, raft, store, outbox, .. } = self;
        if to != raft.id() || !raft.configuration().contains(from) {
            return;
        }
        let own = Own { raft, store };
        match body {
            ReplicaBody::Ask(ask) => quorum_reads.tell(from, &ask, own, &mut outbox.replica_messages),
            ReplicaBody::Tell(tell) => quorum_reads.told(from, &tell, own, &mut outbox.answers),
        }
    }

    /// The client with `ticket` waits no more. Its write may still happen; an answer that is under way may still come.
    pub fn cancel(&mut self, ticket: Ticket) {
        self.quorum_reads.cancel(ticket);
        self.stale_reads.cancel(ticket);
        self.waiters.cancel(ticket);
    }

    /// Starts to hand leadership over to `target`.
    ///
    /// # Errors
    ///
    /// Why it cannot be.
    pub fn transfer_leadership(&mut self, target: NodeId) -> Result<(), raft::TransferError> {
        self.raft.transfer_leadership(target)
    }

    /// The transport lost a message to `peer`.
    pub fn unreachable(&mut self, peer: NodeId) {
        self.raft.unreachable(peer);
    }

    /// The process of `peer` has ended, for all that its host tells: see [`Raft::peer_gone`].
    pub fn peer_gone(&mut self, peer: NodeId) {
        self.raft.peer_gone(peer);
    }

    /// Every batch up to `batch` is durable: what waited for that may leave.
    pub fn persisted(&mut self, batch: BatchNumber) {
        self.raft.persisted(batch);
        self.parked.persisted(batch, &mut self.outbox.messages);
        self.observe_leadership();
        self.observe_settings();
        if self.narrating {
            let index = self.raft.durable_index();
            if index > self.narrated_durable_index {
                self.outbox.events.push(Event::Durable { index });
            }
            self.narrated_durable_index = index;
        }
    }

    /// The entries that the core asked for in [`Outbox::fetches`]; none if they could not be read.
    pub fn fetched(&mut self, fetch: Fetch, entries: Vec<Entry>) {
        self.raft.fetched(fetch, entries);
    }

    /// Puts a peer's snapshot in the place of the log and the state, if it goes further than what is committed here.
    /// Returns the state that was replaced, whose end takes as long as it is large, or the new one if it is not needed.
    /// Writes that wait for an entry that it covers get no answer: what became of them cannot be told from a state.
    ///
    /// # Errors
    ///
    /// It is not needed.
    pub fn install(
        &mut self,
        store: Store,
        last_index: Index,
        term_starts: &[(Index, Term)],
    ) -> Result<Store, Box<Store>> {
        if !self.raft.install(last_index, term_starts) {
            return Err(Box::new(store));
        }
        let replaced = std::mem::replace(&mut self.store, store);
        self.applied = last_index;
        self.applied_term = self.raft.term_at(last_index).expect("the installed log ends there");
        self.settings_index = last_index;
        self.observe_settings();
        let raft = &self.raft;
        let term_at = |index| raft.term_at(index).expect("the installed log reaches up to the snapshot");
        self.waiters.installed(last_index, term_at, &mut self.outbox.answers);
        self.observe_leadership();
        self.narrated_commit_index = self.narrated_commit_index.max(last_index);
        self.narrated_durable_index = self.narrated_durable_index.max(last_index);
        Ok(replaced)
    }

    /// There is a durable snapshot of everything up to `index`, which was applied.
    pub fn snapshot_taken(&mut self, index: Index) {
        self.raft.snapshot_taken(index);
    }

    /// The log can be read from `first_index` on only.
    pub fn compacted(&mut self, first_index: Index) {
        self.raft.compacted(first_index);
    }

    /// Whether [`Replica::advance`] has something to do.
    pub fn has_ready(&self) -> bool {
        self.raft.has_ready()
    }

    /// Does what the core asks for next: applies what is committed, answers who waits for it, and gathers what may
    /// leave. Returns the batch to write next, if there is one. Call it until [`Replica::has_ready`] is false.
    ///
    /// # Errors
    ///
    /// A committed entry is unknown. The replica must not be used any further, and nothing in its outbox may leave.
    pub fn advance(&mut self) -> Result<Option<Batch>, UnknownEntry> {
        let Ready {
            persist,
            messages,
            messages_after_persist,
            wait_for,
            committed,
            reads,
            aborted_reads,
            fetches,
            snapshot_offers,
            events,
        } = self.raft.ready();
        for event in events {
            if let raft::Event::Truncated { bytes, .. } = event {
                self.settled_bytes += bytes as u64;
            }
            self.outbox.events.push(Event::Raft(event));
        }
        self.narrate_progress(persist.as_ref());
        self.outbox.messages.extend(messages);
        self.parked.park(wait_for, messages_after_persist, &mut self.outbox.messages);
        self.outbox.fetches.extend(fetches);
        self.outbox.snapshot_offers.extend(snapshot_offers);
        self.apply(committed)?;
        self.note_reads(reads, aborted_reads);
        self.serve_reads();
        Ok(persist)
    }

    fn apply(&mut self, committed: Vec<Entry>) -> Result<(), UnknownEntry> {
        if committed.is_empty() {
            return Ok(());
        }
        let settings = self.store.settings();
        for entry in committed {
            self.settled_bytes += entry.size_bytes() as u64;
            let Entry { term, index, payload } = entry;
            assert_eq!(index, self.applied.next(), "committed entries come once each, in order");
            let applied = match &payload {
                Payload::Noop => None,
                Payload::Command(encoded) => {
                    let applied = self.store.apply(index, encoded);
                    Some(applied.map_err(|reason| UnknownEntry { index, term, reason })?)
                }
            };
            if self.narrating {
                let what = applied_kind(&payload, applied.as_ref());
                let command = applied_command(&payload, applied.as_ref());
                self.outbox.events.push(Event::Applied { index, term, what, command });
            }
            self.applied = index;
            self.applied_term = term;
            if index.get().is_multiple_of(self.hash_every_entries) {
                self.outbox.state_hashes.push((index, self.store.state_hash()));
            }
            self.waiters.decide(index, term, applied, &mut self.outbox.answers);
        }
        self.raft.applied(self.applied);
        if self.store.settings() != settings {
            self.settings_index = self.applied;
            self.observe_settings();
        }
        Ok(())
    }

    fn narrate_progress(&mut self, batch: Option<&Batch>) {
        if !self.narrating {
            return;
        }
        if let Some([first, .., last] | [first @ last]) = batch.map(|batch| batch.entries.as_slice()) {
            self.outbox.events.push(Event::Appended { first: first.index, last: last.index });
        }
        let index = self.raft.commit_index();
        if index > self.narrated_commit_index {
            self.narrated_commit_index = index;
            self.outbox.events.push(Event::Committed { index });
        }
    }

    /// Takes what has gathered for the outside. Only after [`Replica::advance`] has run dry and its batches were handed
    /// to the log.
    pub fn take_outbox(&mut self) -> Outbox {
        let Replica { quorum_reads, raft, store, outbox, .. } = self;
        quorum_reads.ask(Own { raft, store }, outbox);
        std::mem::take(outbox)
    }

    /// Has the core promise what leases rest on, if the settings say so. But not before this node's own disk says so as
    /// well: who restarts has to find out that it may have promised something.
    ///
    /// Who restarts and finds that leases have ended has promised nothing that still counts. The leader that ended them
    /// applied that before it told anyone; if it is another than the one that was promised something, it was elected
    /// when that promise was over.
    fn observe_settings(&mut self) {
        let is_durable = self.raft.durable_index() >= self.settings_index;
        self.raft.set_leases(self.store.settings().lease_reads && is_durable);
    }

    /// The driver's clock must be monotonic; if it is not, time stands still until it has caught up.
    fn observe_time(&mut self, now_ms: u64) {
        self.now_ms = self.now_ms.max(now_ms);
        self.leases.observe_time(&self.raft, now_ms);
        self.stale_reads.observe_time(now_ms);
    }

    /// Starts the clock of a new leadership. Called after every input that can make this node a leader.
    fn observe_leadership(&mut self) {
        let leading_term = self.raft.is_leader().then(|| self.raft.current_term());
        if leading_term != self.leading_term {
            self.leading_term = leading_term;
            self.clock.restart(self.store.time_ms(), self.now_ms);
        }
    }

    /// Takes back the list of answers of an [`Outbox`], whose room is used for the next: the list of a busy turn is so
    /// large that the allocator would get fresh memory from the system for it each time.
    pub fn reuse(&mut self, mut answers: Vec<(Ticket, Answer)>) {
        if self.outbox.answers.is_empty() && answers.capacity() <= ANSWERS_KEPT_MAX {
            answers.clear();
            self.outbox.answers = answers;
        }
    }

    /// The consensus core, to look at.
    pub fn raft(&self) -> &Raft {
        &self.raft
    }

    /// The state, to look at or to clone as a snapshot.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The last entry applied to the state.
    pub fn applied(&self) -> Index {
        self.applied
    }

    /// The term of that entry.
    pub fn applied_term(&self) -> Term {
        self.applied_term
    }

    /// The size of all entries that were applied or dropped since the start, in bytes: a snapshot of what is applied
    /// makes their room on the disk free.
    pub fn settled_bytes(&self) -> u64 {
        self.settled_bytes
    }

    /// How many writes wait for an answer, those of cancelled tickets included.
    pub fn writes_waiting(&self) -> usize {
        self.waiters.write_count()
    }

    /// How many reads wait for an answer, those of cancelled tickets included.
    pub fn reads_waiting(&self) -> usize {
        self.waiters.read_count() + self.quorum_reads.count() + self.stale_reads.count()
    }

    /// How many reads were answered since the start because a lease held.
    pub fn leased_reads(&self) -> u64 {
        self.leased_reads
    }

    /// How many messages were dropped because too many waited for the disk.
    pub fn messages_dropped(&self) -> u64 {
        self.parked.dropped_count()
    }
}
