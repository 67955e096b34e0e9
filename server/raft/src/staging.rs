//! What the disk has, and what is on its way there.
//!
//! The core never waits for the disk. It hands out numbered batches, goes on, and is told later that a batch and all
//! before it are durable. In between the log may change, and change back:
//!
//! 1. entries 5 and 6 of term 2 go out in batch 1;
//! 2. the leader of term 3 replaces them, in batch 2;
//! 3. the leader of term 4 still has the old ones and sends them again, to go out in batch 3;
//! 4. batch 1 becomes durable.
//!
//! Entry 6 of term 2 is in the log and was in batch 1, yet it is not safe on disk: batch 2 is about to remove it, and
//! a crash before batch 3 would leave it lost although it had been acknowledged. So each batch carries a *claim*, the
//! last entry whose durability follows from it; truncation lowers the claims of all batches under way, and only
//! claims raise the durable index.
//!
//! A snapshot in place of the log (§7) is durable before the core hears of it, and a restart adopts it whether or not
//! the batch that forgets the log was written: so everything up to its end is durable at once, and the batches under
//! way say nothing about entries any more.

use crate::log::Log;
use crate::types::{BatchNumber, HardState, Index, NodeId, Term};
use alloc::collections::VecDeque;

/// A batch handed out and not yet known to be durable.
#[derive(Clone, Hash, Debug)]
struct InFlight {
    number: BatchNumber,
    /// When this batch is durable, so are all entries up to here; zero if it says nothing about entries.
    claim: (Index, Term),
    /// It forgets the log for a snapshot.
    resets: bool,
    /// Its hard state.
    ballot: Option<(Term, Option<NodeId>)>,
}

/// The node's account of its disk.
#[derive(Clone, Hash, Debug)]
pub(crate) struct Staging {
    /// The last batch handed out.
    last_batch: BatchNumber,
    in_flight: VecDeque<InFlight>,
    /// All entries of the log up to here were handed out in some batch.
    staged: Index,
    /// The log was replaced by a snapshot up to here; to be said in the next batch.
    reset_to: Option<Index>,
    /// Handed-out entries behind this index were dropped from the log; to be said in the next batch.
    truncate_after: Option<Index>,
    /// All entries of the log up to here are on disk, and no write under way removes them.
    durable: Index,
    /// The hard state last handed out.
    staged_hard_state: HardState,
    /// Term and vote on disk.
    durable_ballot: (Term, Option<NodeId>),
    /// For how many ticks something was under way and nothing became durable.
    silent_ticks: u32,
}

impl Staging {
    /// Everything that was restored is durable.
    pub(crate) fn new(last_index: Index, hard_state: HardState) -> Staging {
        Staging {
            last_batch: BatchNumber::ZERO,
            in_flight: VecDeque::new(),
            staged: last_index,
            reset_to: None,
            truncate_after: None,
            durable: last_index,
            staged_hard_state: hard_state,
            durable_ballot: (hard_state.current_term, hard_state.voted_for),
            silent_ticks: 0,
        }
    }

    /// A tick passed.
    pub(crate) fn tick(&mut self) {
        // A disk that has nothing to do says nothing by its silence.
        if !self.in_flight.is_empty() {
            self.silent_ticks = self.silent_ticks.saturating_add(1);
        }
    }

    /// For how many ticks the disk owes something. One that is slow but gets on owes nothing for long.
    pub(crate) fn silent_ticks(&self) -> u32 {
        self.silent_ticks
    }

    /// The disk counts as one that just did something.
    pub(crate) fn forget_silence(&mut self) {
        self.silent_ticks = 0;
    }

    pub(crate) fn last_batch(&self) -> BatchNumber {
        self.last_batch
    }

    pub(crate) fn durable_index(&self) -> Index {
        self.durable
    }

    /// The last entry that is on the disk as it will stay there. None while the log on the disk waits to be forgotten:
    /// it need not be the one that is in memory.
    pub(crate) fn settled_index(&self) -> Index {
        let resets = self.reset_to.is_some() || self.in_flight.iter().any(|batch| batch.resets);
        if resets { Index::ZERO } else { self.durable }
    }

    pub(crate) fn staged_index(&self) -> Index {
        self.staged
    }

    pub(crate) fn durable_ballot(&self) -> (Term, Option<NodeId>) {
        self.durable_ballot
    }

    /// Whether a batch has to go out. A commit index that moved is no reason: it is only a hint.
    pub(crate) fn is_due(&self, log: &Log, hard_state: HardState) -> bool {
        self.reset_to.is_some()
            || self.truncate_after.is_some()
            || self.staged < log.last_index()
            || self.ballot_changed(hard_state)
    }

    fn ballot_changed(&self, hard_state: HardState) -> bool {
        let staged = self.staged_hard_state;
        (staged.current_term, staged.voted_for) != (hard_state.current_term, hard_state.voted_for)
    }

    /// The log was cut behind `after`.
    pub(crate) fn truncated(&mut self, after: Index, log: &Log) {
        if after >= self.staged {
            return; // What was cut had never been handed out.
        }
        // Deeper than any cut that waits to be said, because that one lowered `staged` too.
        self.staged = after;
        self.truncate_after = Some(after);
        self.durable = self.durable.min(after);
        let term = log.term_at(after).expect("truncation keeps the entry it cuts behind");
        for batch in &mut self.in_flight {
            // Entries up to `after` went out in this batch or an earlier one, so its claim on them stands.
            batch.claim = batch.claim.min((after, term));
        }
    }

    /// A durable snapshot that ends at `last` took the place of the log.
    pub(crate) fn reset(&mut self, last: Index) {
        self.staged = last;
        self.reset_to = Some(last);
        // The reset drops more than any cut, or an earlier reset, that waits to be said.
        self.truncate_after = None;
        self.durable = last;
        for batch in &mut self.in_flight {
            batch.claim = (Index::ZERO, Term::ZERO);
        }
    }

    /// The next batch, if one is due, with everything that changed since the last.
    pub(crate) fn take(&mut self, log: &Log, hard_state: HardState) -> Option<crate::Batch> {
        if !self.is_due(log, hard_state) {
            return None;
        }
        let number = BatchNumber::new(self.last_batch.get() + 1);
        let entries = log.slice(self.staged.next(), log.last_index(), usize::MAX);
        let log_is_news = !entries.is_empty() || self.reset_to.is_some();
        let hint_is_news = log_is_news && hard_state.commit_index > self.staged_hard_state.commit_index;
        let hard_state = (self.ballot_changed(hard_state) || hint_is_news).then_some(hard_state);
        let claim = entries.last().map_or((Index::ZERO, Term::ZERO), |last| (last.index, last.term));
        let ballot = hard_state.map(|state| (state.current_term, state.voted_for));
        self.last_batch = number;
        self.in_flight.push_back(InFlight { number, claim, resets: self.reset_to.is_some(), ballot });
        self.staged = log.last_index();
        if let Some(state) = hard_state {
            self.staged_hard_state = state;
        }
        let (reset_to, truncate_after) = (self.reset_to.take(), self.truncate_after.take());
        Some(crate::Batch { number, reset_to, truncate_after, entries, hard_state })
    }

    /// This batch and all before it are durable.
    pub(crate) fn persisted(&mut self, number: BatchNumber, log: &Log) {
        assert!(number <= self.last_batch, "batch {number} is durable but was never handed out");
        while self.in_flight.front().is_some_and(|batch| batch.number <= number) {
            let batch = self.in_flight.pop_front().expect("there is a front, as was just seen");
            self.silent_ticks = 0;
            let (index, term) = batch.claim;
            // SAFETY(raft §5.3): only what is durable and still in the log may be acknowledged or counted.
            assert!(log.matches(index, term), "batch {number} claims {index} of term {term}, which was replaced");
            self.durable = self.durable.max(index);
            self.durable_ballot = batch.ballot.unwrap_or(self.durable_ballot);
        }
    }

    /// Numbers the batches from 1 again, the oldest that is not durable first; how many numbers fell away.
    pub(crate) fn renumber(&mut self) -> u64 {
        let durable_count = self.last_batch.get() - self.in_flight.len() as u64;
        self.last_batch = BatchNumber::new(self.in_flight.len() as u64);
        for batch in &mut self.in_flight {
            batch.number = BatchNumber::new(batch.number.get() - durable_count);
        }
        durable_count
    }

    pub(crate) fn check_invariants(&self, log: &Log, hard_state: HardState) {
        assert!(self.durable <= self.staged, "durable {} was never handed out, {} was", self.durable, self.staged);
        assert!(self.staged <= log.last_index(), "handed out {}, which is not in the log", self.staged);
        assert!(self.staged_hard_state.current_term <= hard_state.current_term, "the staged term is from the future");
        assert!(self.durable_ballot.0 <= self.staged_hard_state.current_term, "a term is durable that never went out");
        assert!(self.reset_to.is_none() || self.truncate_after.is_none(), "a reset log is cut before it was written");
        assert!(self.reset_to.is_none_or(|last| last <= self.durable), "a snapshot is durable before it is installed");
        assert!(self.silent_ticks == 0 || !self.in_flight.is_empty(), "the disk is silent about nothing");
        for batch in &self.in_flight {
            let (index, term) = batch.claim;
            assert!(log.matches(index, term), "a batch claims {index} of term {term}, which was replaced");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::terms::TermTable;
    use crate::types::{Entry, Payload};
    use alloc::vec::Vec;

    fn hard_state(term: u64, commit: u64) -> HardState {
        HardState { current_term: Term::new(term), voted_for: None, commit_index: Index::new(commit) }
    }

    fn set_up() -> (Log, Staging) {
        (Log::empty(), Staging::new(Index::ZERO, HardState::default()))
    }

    fn append(log: &mut Log, term: u64) {
        let (term, index) = (Term::new(term), log.last_index().next());
        log.append(Entry { term, index, payload: Payload::Noop });
    }

    fn cut(log: &mut Log, staging: &mut Staging, after: u64) {
        log.truncate(Index::new(after));
        staging.truncated(Index::new(after), log);
    }

    #[test]
    fn a_batch_says_everything_once() {
        let (mut log, mut staging) = set_up();
        assert_eq!(staging.take(&log, HardState::default()), None);
        append(&mut log, 1);
        append(&mut log, 1);
        let batch = staging.take(&log, hard_state(1, 0)).expect("due");
        assert_eq!((batch.number.get(), batch.entries.len(), batch.truncate_after), (1, 2, None));
        assert_eq!(batch.hard_state, Some(hard_state(1, 0)));
        assert_eq!(staging.take(&log, hard_state(1, 2)), None, "a commit alone is no reason to write");
        append(&mut log, 1);
        let batch = staging.take(&log, hard_state(1, 2)).expect("due");
        assert_eq!((batch.entries.len(), batch.hard_state), (1, Some(hard_state(1, 2))), "but it travels along");
    }

    #[test]
    fn cutting_what_never_went_out_is_not_said() {
        let (mut log, mut staging) = set_up();
        append(&mut log, 1);
        staging.take(&log, hard_state(1, 0));
        append(&mut log, 1);
        cut(&mut log, &mut staging, 1);
        assert!(!staging.is_due(&log, hard_state(1, 0)));
        append(&mut log, 2);
        let batch = staging.take(&log, hard_state(2, 0)).expect("due");
        assert_eq!((batch.truncate_after, batch.entries[0].index), (None, Index::new(2)));
    }

    #[test]
    fn the_deepest_of_several_cuts_is_said() {
        let (mut log, mut staging) = set_up();
        (0..5).for_each(|_| append(&mut log, 1));
        staging.take(&log, hard_state(1, 0));
        cut(&mut log, &mut staging, 2);
        append(&mut log, 2);
        cut(&mut log, &mut staging, 1);
        (0..3).for_each(|_| append(&mut log, 3));
        cut(&mut log, &mut staging, 3);
        let batch = staging.take(&log, hard_state(3, 0)).expect("due");
        let indexes: Vec<u64> = batch.entries.iter().map(|entry| entry.index.get()).collect();
        assert_eq!((batch.truncate_after, indexes), (Some(Index::new(1)), Vec::from([2, 3])));
        staging.persisted(BatchNumber::new(1), &log);
        assert_eq!(staging.durable_index(), Index::new(1), "of the first batch only entry 1 stays");
        staging.persisted(BatchNumber::new(2), &log);
        assert_eq!(staging.durable_index(), Index::new(3));
    }

    fn table(terms: &[u64]) -> TermTable {
        let starts: Vec<(Index, Term)> =
            terms.iter().zip(1..).map(|(&term, index)| (Index::new(index), Term::new(term))).collect();
        TermTable::new(&starts, Index::new(terms.len() as u64)).expect("terms that rise are valid")
    }

    fn reset(log: &mut Log, staging: &mut Staging, terms: &[u64]) {
        log.install(table(terms));
        staging.reset(log.last_index());
    }

    #[test]
    fn a_reset_ends_all_claims_and_cuts() {
        let (mut log, mut staging) = set_up();
        (0..5).for_each(|_| append(&mut log, 1));
        staging.take(&log, hard_state(1, 0));
        cut(&mut log, &mut staging, 2);
        (0..5).for_each(|_| append(&mut log, 2));
        staging.take(&log, hard_state(2, 0));
        cut(&mut log, &mut staging, 4);
        reset(&mut log, &mut staging, &[1, 3, 4]);
        assert_eq!((staging.durable_index(), staging.staged_index()), (Index::new(3), Index::new(3)));
        staging.check_invariants(&log, hard_state(4, 3));
        append(&mut log, 4);
        append(&mut log, 4);
        cut(&mut log, &mut staging, 4);
        let batch = staging.take(&log, hard_state(4, 3)).expect("due");
        assert_eq!((batch.reset_to, batch.truncate_after), (Some(Index::new(3)), None));
        assert_eq!((batch.entries.len(), batch.hard_state), (1, Some(hard_state(4, 3))));
        assert_eq!(staging.settled_index(), Index::ZERO, "the old log is still on the disk");
        cut(&mut log, &mut staging, 3);
        staging.persisted(BatchNumber::new(2), &log);
        assert_eq!(staging.durable_index(), Index::new(3), "the batches before the reset say nothing");
        assert_eq!(staging.settled_index(), Index::ZERO);
        staging.persisted(BatchNumber::new(3), &log);
        assert_eq!(staging.durable_index(), Index::new(3), "and entry 4 was cut again");
        assert_eq!(staging.settled_index(), Index::new(3));
        let batch = staging.take(&log, hard_state(4, 3)).expect("due");
        assert_eq!((batch.reset_to, batch.truncate_after), (None, Some(Index::new(3))));
    }

    #[test]
    fn a_reset_alone_is_a_reason_to_write() {
        let (mut log, mut staging) = set_up();
        staging.take(&log, hard_state(4, 0)).expect("a term");
        reset(&mut log, &mut staging, &[1, 3]);
        reset(&mut log, &mut staging, &[1, 3, 4]);
        let batch = staging.take(&log, hard_state(4, 3)).expect("due");
        assert_eq!((batch.reset_to, batch.hard_state), (Some(Index::new(3)), Some(hard_state(4, 3))));
        assert_eq!(staging.take(&log, hard_state(4, 3)), None, "it is said once");
    }

    #[test]
    fn only_a_disk_that_owes_something_is_silent() {
        let (mut log, mut staging) = set_up();
        let mut write = |staging: &mut Staging| {
            append(&mut log, 1);
            staging.take(&log, hard_state(1, 0)).expect("due");
            log.clone()
        };
        (0..9).for_each(|_| staging.tick());
        assert_eq!(staging.silent_ticks(), 0, "it has nothing to do");
        write(&mut staging);
        (0..3).for_each(|_| staging.tick());
        let log = write(&mut staging);
        (0..4).for_each(|_| staging.tick());
        assert_eq!(staging.silent_ticks(), 7, "more work is no sign of life");
        staging.persisted(BatchNumber::new(1), &log);
        staging.tick();
        assert_eq!(staging.silent_ticks(), 1, "one of two is");
        staging.persisted(BatchNumber::new(1), &log);
        assert_eq!(staging.silent_ticks(), 1, "the same one again is not");
        staging.persisted(BatchNumber::new(2), &log);
        staging.tick();
        assert_eq!(staging.silent_ticks(), 0);
    }

    #[test]
    #[should_panic(expected = "was never handed out")]
    fn a_batch_that_never_was_cannot_be_durable() {
        let (log, mut staging) = set_up();
        staging.persisted(BatchNumber::new(1), &log);
    }
}
