//! Reads of this node's own state as it is, with the age that can be proven of it.
//!
//! Whoever asks for such a read takes an old value, if it is not too old, and asks no other node for it. How old may a
//! state be? A *proof* is a linearizable read of nothing: it begins at some moment, and is confirmed with an index. A
//! state that has applied that index has everything that was acknowledged before that moment. So a read that arrives
//! later is answered with what was current at most the time between the two ago. Both moments are read off this node's
//! own monotonic clock, so no clock is compared with another, and a process that stood still in between has counted the
//! time: a proof does not wait, it only ages.
//!
//! Proofs cost a message to the leader each, so they are made only while such reads come, every
//! [`PROOF_INTERVAL_MS`]. A read for which the last one is too old, the first after a pause among them, waits for the
//! next one: a round trip to the leader if all is well, and [`PATIENCE_MS`] at the most. Then it is refused.

use std::collections::VecDeque;
use std::num::NonZeroU64;

use bytes::Bytes;
use raft::{Index, Raft, ReadId};

use super::answer::{Answer, ReadResult, Ticket};
use crate::kv::{Revision, Store};

/// How often a proof is made while there are readers, in milliseconds: about as often as heartbeats come.
const PROOF_INTERVAL_MS: u64 = 100;

/// So long after the last read no more proofs are made, in milliseconds.
const WANTED_MS: u64 = 10_000;

/// How long a read waits for a proof, in milliseconds: many round trips, and no election.
const PATIENCE_MS: u64 = 250;

/// How many reads may wait for a proof, each with its key of at most a kibibyte.
pub(super) const STALE_READS_MAX: usize = 4_096;

/// The core knows proofs by numbers from here on, and other reads by lower ones.
const FIRST_PROOF: u64 = 1 << 63;

/// What a read of this node's own state asks of it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct StaleBounds {
    /// How old it may be, in milliseconds; as old as it is, if there is no bound.
    pub max_age_ms: Option<u64>,
    /// The least revision that it has to have.
    pub min_revision: Revision,
}

/// A read of nothing that has begun.
#[derive(Clone, Copy, Debug)]
struct Attempt {
    id: ReadId,
    begun_ms: u64,
    /// What has to be applied, once that is known.
    index: Option<Index>,
}

/// A read that waits for a proof, or for the state to grow.
#[derive(Debug)]
struct Waiting {
    ticket: Ticket,
    key: Bytes,
    bounds: StaleBounds,
    arrived_ms: u64,
}

/// All of a node's.
#[derive(Debug, Default)]
pub(super) struct StaleReads {
    /// What the clock showed last.
    now_ms: u64,
    /// Proofs are made until then.
    wanted_until_ms: u64,
    attempts: u64,
    under_way: Option<Attempt>,
    /// When the last attempt began.
    attempted_ms: Option<u64>,
    /// The state has everything that was acknowledged before this moment.
    proof_ms: Option<u64>,
    /// In the order in which they came.
    waiting: VecDeque<Waiting>,
}

impl StaleReads {
    /// How many wait.
    pub(super) fn count(&self) -> usize {
        self.waiting.len()
    }

    /// The clock shows this.
    pub(super) fn observe_time(&mut self, now_ms: u64) {
        if now_ms < self.now_ms {
            // A clock that goes back is broken, and what was measured by it means nothing.
            (self.under_way, self.attempted_ms, self.proof_ms) = (None, None, None);
            self.wanted_until_ms = self.wanted_until_ms.min(now_ms + WANTED_MS);
            self.waiting.iter_mut().for_each(|waiting| waiting.arrived_ms = waiting.arrived_ms.min(now_ms));
        }
        self.now_ms = now_ms;
    }

    /// A read arrives, at the time that was observed last.
    pub(super) fn begin(
        &mut self,
        (ticket, key): (Ticket, Bytes),
        bounds: StaleBounds,
        (raft, store): (&mut Raft, &Store),
        answers: &mut Vec<(Ticket, Answer)>,
    ) {
        self.wanted_until_ms = self.now_ms + WANTED_MS;
        let waiting = Waiting { ticket, key, bounds, arrived_ms: self.now_ms };
        if self.suffices(&waiting, store) {
            answers.push((ticket, self.answer(&waiting, (raft, store))));
        } else if self.waiting.len() >= STALE_READS_MAX {
            answers.push((ticket, Answer::Overloaded));
        } else {
            let needs_proof = self.needs_proof(&waiting);
            self.waiting.push_back(waiting);
            if needs_proof {
                self.maybe_attempt(raft);
            }
        }
    }

    /// Nobody waits with this ticket any more.
    pub(super) fn cancel(&mut self, ticket: Ticket) {
        if !self.waiting.is_empty() {
            self.waiting.retain(|waiting| waiting.ticket != ticket);
        }
    }

    /// A tick has passed, at the time that was observed last: makes a proof if one is wanted, and refuses who has
    /// waited for too long.
    pub(super) fn tick(&mut self, (raft, store): (&mut Raft, &Store), answers: &mut Vec<(Ticket, Answer)>) {
        let is_due = |attempted_ms: u64| self.now_ms - attempted_ms >= PROOF_INTERVAL_MS;
        if self.now_ms < self.wanted_until_ms && self.attempted_ms.is_none_or(is_due) {
            self.maybe_attempt(raft);
        }
        let now_ms = self.now_ms;
        while let Some(waiting) = self.waiting.pop_front_if(|first| now_ms - first.arrived_ms >= PATIENCE_MS) {
            let age_ms = self.age_ms(waiting.arrived_ms);
            answers.push((waiting.ticket, Answer::TooStale { age_ms, revision: store.revision() }));
        }
    }

    /// Whether the core's read of this number is a proof's.
    pub(super) fn made(id: ReadId) -> bool {
        id.get() >= FIRST_PROOF
    }

    /// The core has confirmed a proof: it holds as soon as `index` is applied.
    pub(super) fn confirmed(&mut self, id: ReadId, index: Index) {
        if let Some(attempt) = self.under_way.as_mut().filter(|attempt| attempt.id == id) {
            attempt.index = Some(index);
        }
    }

    /// The core will not confirm a proof any more.
    pub(super) fn aborted(&mut self, id: ReadId) {
        self.under_way.take_if(|attempt| attempt.id == id);
    }

    /// The state has perhaps grown: answers the reads for which it is good enough now.
    pub(super) fn serve(
        &mut self,
        (raft, store): (&mut Raft, &Store),
        applied: Index,
        answers: &mut Vec<(Ticket, Answer)>,
    ) {
        let is_applied = |attempt: &mut Attempt| attempt.index.is_some_and(|index| index <= applied);
        if let Some(attempt) = self.under_way.take_if(is_applied) {
            self.proof_ms = Some(attempt.begun_ms);
        }
        if self.waiting.is_empty() {
            return;
        }
        for waiting in std::mem::take(&mut self.waiting) {
            if self.suffices(&waiting, store) {
                answers.push((waiting.ticket, self.answer(&waiting, (raft, store))));
            } else {
                self.waiting.push_back(waiting);
            }
        }
        // A proof that begins now is good enough for all of them. Who waits for a revision alone needs none.
        if self.waiting.iter().any(|waiting| self.needs_proof(waiting)) {
            self.maybe_attempt(raft);
        }
    }

    /// Begins a proof, unless one is under way or there is nobody to ask.
    fn maybe_attempt(&mut self, raft: &mut Raft) {
        if self.under_way.is_some() {
            return;
        }
        let id = ReadId::new(FIRST_PROOF + self.attempts);
        if raft.read(id).is_ok() {
            self.attempts += 1;
            self.under_way = Some(Attempt { id, begun_ms: self.now_ms, index: None });
            self.attempted_ms = Some(self.now_ms);
        }
    }

    /// How old the state can be at most, in milliseconds, for a read that arrived then; none if nothing is proven. A
    /// clock's milliseconds are cut off, which may be nearly one.
    fn age_ms(&self, arrived_ms: u64) -> Option<NonZeroU64> {
        self.proof_ms.map(|proof_ms| NonZeroU64::MIN.saturating_add(arrived_ms.saturating_sub(proof_ms)))
    }

    /// Whether it is proven that the state is no older than the read allows.
    fn is_young(&self, waiting: &Waiting) -> bool {
        let is_within = |max_age_ms| self.age_ms(waiting.arrived_ms).is_some_and(|age_ms| age_ms.get() <= max_age_ms);
        waiting.bounds.max_age_ms.is_none_or(is_within)
    }

    /// Whether a proof could help: one that begins after the read has arrived is as good as any can be.
    fn needs_proof(&self, waiting: &Waiting) -> bool {
        !self.is_young(waiting) && self.proof_ms.is_none_or(|proof_ms| proof_ms < waiting.arrived_ms)
    }

    fn suffices(&self, waiting: &Waiting, store: &Store) -> bool {
        store.revision() >= waiting.bounds.min_revision && self.is_young(waiting)
    }

    fn answer(&self, waiting: &Waiting, (raft, store): (&Raft, &Store)) -> Answer {
        let age_ms = self.age_ms(waiting.arrived_ms);
        Answer::Read(ReadResult { age_ms, ..ReadResult::of(raft.id(), store, &waiting.key) })
    }
}
