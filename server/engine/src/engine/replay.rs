//! From a snapshot and the records of a log behind it to a state and what the consensus core needs to go on.
//!
//! Records stream by in the order in which they were written. An entry is applied once a hard state behind it records a
//! commit index that covers it; until then it is held, because a later record may still truncate it. Entries that the
//! snapshot covers pass by unapplied.
//!
//! The recorded commit index is a lower bound of the truth: it is written along with other things and never on its own
//! account, and it stands behind the entries that it covers. So the log may hold committed entries that this cannot
//! know to be committed. They are held like the others, and the core will learn from the leader what became of them (or
//! find out as the leader, when its first own entry is committed). Memory holds the state, the held entries, and of
//! those applied no more than the core would keep.
//!
//! # How a snapshot and a log fit together
//!
//! | the log | what it means |
//! |---|---|
//! | holds the snapshot's last entry, or begins right behind it | this node took the snapshot: the log goes on behind it |
//! | ends before it, or holds another entry in its place | a peer's snapshot was put in place, and the node died before its log was reset to it: the log is obsolete, [`Done::is_obsolete`] |
//! | begins further behind it | a newer snapshot is gone or damaged: [`ReplayError::SnapshotMissing`] |

use std::collections::VecDeque;

use raft::{Entry, Index, Payload, Term};
use thiserror::Error;

use crate::kv::{SessionLimits, Store};
use crate::replica::UnknownEntry;
use crate::snapshot::Meta;
use crate::wal::Replayed;

use super::snapshots::Loaded;

/// Why the records of a log make no sense together, although each is intact.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum ReplayError {
    /// An entry does not follow the one before it.
    #[error("the entry at index {found} stands where index {expected} belongs")]
    Gap {
        /// The index that belongs there.
        expected: Index,
        /// The index that stands there.
        found: Index,
    },
    /// An entry has a lower term than the one before it.
    #[error("the entry at index {index} has term {found}, below {before} of the one before it")]
    TermFell {
        /// Where.
        index: Index,
        /// The term of the entry before.
        before: Term,
        /// The term found.
        found: Term,
    },
    /// Entries that were recorded as committed were truncated.
    #[error("the log was truncated behind index {after}, but was committed up to {committed}")]
    CommittedTruncated {
        /// The last entry that the truncation left.
        after: Index,
        /// The last entry recorded as committed.
        committed: Index,
    },
    /// More was recorded as committed than the log holds.
    #[error("the log ends at index {last}, but was committed up to {committed}")]
    CommittedMissing {
        /// The last entry of the log.
        last: Index,
        /// The last entry recorded as committed.
        committed: Index,
    },
    /// The log begins behind what the newest sound snapshot covers.
    #[error("the log begins behind index {begins_behind}, but the newest sound snapshot covers only up to {snapshot}")]
    SnapshotMissing {
        /// The last index before the log's first entry.
        begins_behind: Index,
        /// The last index that the snapshot covers; zero without one.
        snapshot: Index,
    },
    /// The snapshot ends in an entry that the log has another one for, although more than that was committed.
    #[error("the snapshot of index {index} and the log disagree about the entry there")]
    SnapshotContradicted {
        /// The last index that the snapshot covers.
        index: Index,
    },
    /// A committed entry is of a version that this program does not know.
    #[error(transparent)]
    UnknownEntry(#[from] UnknownEntry),
}

/// What a replay begins with: a snapshot's state, or that of a node without one.
#[derive(Clone, Debug)]
pub(super) struct Base {
    /// The state.
    pub(super) store: Store,
    /// The last index that it covers.
    pub(super) index: Index,
    /// The first index of each run of equal terms, up to there.
    pub(super) term_starts: Vec<(Index, Term)>,
}

impl Base {
    /// The state before the first entry.
    pub(super) fn empty(limits: SessionLimits) -> Base {
        Base { store: Store::with_limits(limits), index: Index::ZERO, term_starts: Vec::new() }
    }

    /// A snapshot's state.
    pub(super) fn of(loaded: Loaded) -> Base {
        let Meta { index, term_starts } = loaded.meta;
        Base { store: loaded.store, index, term_starts }
    }

    /// The term of the last entry that it covers.
    pub(super) fn last_term(&self) -> Term {
        self.term_starts.last().map_or(Term::ZERO, |(_, term)| *term)
    }
}

/// A replay that is under way.
pub(super) struct Replay {
    store: Store,
    /// The base's own, for a log that begins anew before what was applied of it.
    base_store: Store,
    base: Index,
    base_term: Term,
    base_term_starts: Vec<(Index, Term)>,
    /// The last index before the log's first entry.
    begins_behind: Index,
    /// The first index of each run of equal terms in the log.
    term_starts: Vec<(Index, Term)>,
    /// The last entries: all above `applied`, and of the others some.
    tail: VecDeque<Entry>,
    /// What `tail` takes in memory.
    tail_bytes: usize,
    tail_bytes_max: usize,
    /// The size of all entries that were written behind the base: what was dropped lies on the disk like the rest.
    bytes_since_base: u64,
    last_index: Index,
    /// The highest commit index that the log records.
    committed: Index,
    applied: Index,
    applied_term: Term,
    /// What lies between the base and the log, if anything does. Nothing is applied then; only a reset ends it.
    missing: Option<ReplayError>,
    /// The first error. Nothing is replayed behind it.
    error: Option<ReplayError>,
}

/// A replay that has ended well.
pub(super) struct Done {
    pub(super) store: Store,
    pub(super) term_starts: Vec<(Index, Term)>,
    pub(super) tail: Vec<Entry>,
    pub(super) last_index: Index,
    pub(super) applied: Index,
    pub(super) applied_term: Term,
    /// The size of all entries that were written behind the base, in bytes.
    pub(super) bytes_since_base: u64,
    /// The log does not lead up to the base: it is to be reset to it.
    pub(super) is_obsolete: bool,
}

impl Replay {
    /// Begins with `base`. Of the applied entries, `tail_bytes_max` are kept for followers that are a little behind.
    pub(super) fn new(base: Base, tail_bytes_max: usize) -> Replay {
        let base_term = base.last_term();
        Replay {
            base: base.index,
            base_term,
            base_store: base.store.clone(),
            store: base.store,
            base_term_starts: base.term_starts,
            begins_behind: Index::ZERO,
            term_starts: Vec::new(),
            tail: VecDeque::new(),
            tail_bytes: 0,
            tail_bytes_max,
            bytes_since_base: 0,
            last_index: Index::ZERO,
            committed: Index::ZERO,
            applied: base.index,
            applied_term: base_term,
            missing: None,
            error: None,
        }
    }

    /// Takes the next record.
    pub(super) fn record(&mut self, record: Replayed) {
        if self.error.is_some() {
            return;
        }
        let outcome = match record {
            Replayed::Reset { last } => self.reset(last),
            Replayed::Entry(entry) => self.append(entry),
            Replayed::Truncate { after } => self.truncate(after),
            Replayed::HardState(hard_state) => self.commit(hard_state.commit_index),
        };
        self.error = outcome.err();
    }

    /// The log goes on behind `last`, as if nothing had been written before.
    fn reset(&mut self, last: Index) -> Result<(), ReplayError> {
        let missing = ReplayError::SnapshotMissing { begins_behind: last, snapshot: self.base };
        self.missing = (last > self.base).then_some(missing);
        self.begins_behind = last;
        self.last_index = last;
        self.committed = self.committed.min(last);
        self.term_starts.clear();
        self.tail.clear();
        (self.tail_bytes, self.bytes_since_base) = (0, 0);
        if self.applied > last {
            // A part that was lost to damage and fetched again: what was applied of it is no longer in this log.
            self.store = self.base_store.clone();
            (self.applied, self.applied_term) = (self.base, self.base_term);
        }
        Ok(())
    }

    fn append(&mut self, entry: Entry) -> Result<(), ReplayError> {
        let expected = self.last_index.next();
        if entry.index != expected {
            return Err(ReplayError::Gap { expected, found: entry.index });
        }
        let before = self.term_starts.last().map_or(Term::ZERO, |(_, term)| *term);
        if entry.term < before {
            return Err(ReplayError::TermFell { index: entry.index, before, found: entry.term });
        }
        if entry.term > before {
            self.term_starts.push((entry.index, entry.term));
        }
        self.last_index = entry.index;
        if entry.index > self.base && self.missing.is_none() {
            self.tail_bytes += entry.size_bytes();
            self.bytes_since_base += entry.size_bytes() as u64;
            self.tail.push_back(entry);
        }
        Ok(())
    }

    fn truncate(&mut self, after: Index) -> Result<(), ReplayError> {
        if after < self.committed {
            return Err(ReplayError::CommittedTruncated { after, committed: self.committed });
        }
        while let Some(entry) = self.tail.pop_back_if(|entry| entry.index > after) {
            self.tail_bytes -= entry.size_bytes();
        }
        while self.term_starts.pop_if(|(first, _)| *first > after).is_some() {}
        self.last_index = self.last_index.min(after);
        self.begins_behind = self.begins_behind.min(self.last_index);
        Ok(())
    }

    /// The log is committed at least up to `committed`.
    fn commit(&mut self, committed: Index) -> Result<(), ReplayError> {
        if committed > self.last_index {
            return Err(ReplayError::CommittedMissing { last: self.last_index, committed });
        }
        self.committed = self.committed.max(committed);
        // Those not applied are the last ones of the tail.
        let waiting = self.tail.partition_point(|entry| entry.index <= self.applied);
        for Entry { index, term, payload } in self.tail.range(waiting..).take_while(|entry| entry.index <= committed) {
            if let Payload::Command(encoded) = payload {
                let applied = self.store.apply(*index, encoded);
                applied.map_err(|reason| UnknownEntry { index: *index, term: *term, reason })?;
            }
            self.applied = *index;
            self.applied_term = *term;
        }
        self.evict();
        Ok(())
    }

    /// Lets go of applied entries beyond the bound.
    fn evict(&mut self) {
        while self.tail_bytes > self.tail_bytes_max {
            let Some(entry) = self.tail.pop_front_if(|entry| entry.index <= self.applied) else { return };
            self.tail_bytes -= entry.size_bytes();
        }
    }

    /// The state as far as it goes.
    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    /// The last entry applied to the state.
    pub(super) fn applied(&self) -> Index {
        self.applied
    }

    /// The first index that the log holds, or would hold next.
    pub(super) fn first_index(&self) -> Index {
        self.begins_behind.next()
    }

    /// Whether the log ends before the base, or holds another entry in its place, and nothing is lost by that.
    pub(super) fn is_obsolete(&self) -> bool {
        self.gap().is_none() && !self.leads_to_base()
    }

    /// The term of the last entry.
    pub(super) fn last_term(&self) -> Term {
        self.term_starts.last().map_or(self.base_term, |(_, term)| *term)
    }

    /// The first error. Nothing is replayed behind it.
    pub(super) fn error(&self) -> Option<ReplayError> {
        self.error
    }

    /// What is wrong between the base and the log, as far as it was replayed.
    pub(super) fn gap(&self) -> Option<ReplayError> {
        // SAFETY(raft §7): a snapshot is of committed entries, so whatever a log has instead was not committed, and
        // nothing of it was applied: what it knew to be committed ends before the snapshot does.
        let contradicted = self.committed > self.base && !self.leads_to_base();
        let contradiction = ReplayError::SnapshotContradicted { index: self.base };
        self.missing.or(contradicted.then_some(contradiction))
    }

    /// Whether the log leads up to the base: it holds the base's last entry, or begins right behind it.
    fn leads_to_base(&self) -> bool {
        if self.last_index < self.base {
            return false;
        }
        let runs_before = self.term_starts.partition_point(|(first, _)| *first <= self.base);
        let term = runs_before.checked_sub(1).map(|position| self.term_starts[position].1);
        self.begins_behind == self.base || term == Some(self.base_term)
    }

    /// The log has ended.
    pub(super) fn finish(mut self) -> Result<Done, ReplayError> {
        if let Some(error) = self.error.or(self.gap()) {
            return Err(error);
        }
        let is_obsolete = !self.leads_to_base();
        if is_obsolete {
            self.tail.clear();
            self.term_starts.clear();
            (self.last_index, self.bytes_since_base) = (self.base, 0);
        }
        let mut term_starts = self.base_term_starts;
        let behind = self.term_starts.into_iter().filter(|(first, term)| *first > self.base && *term > self.base_term);
        term_starts.extend(behind);
        Ok(Done {
            store: self.store,
            term_starts,
            tail: self.tail.into(),
            last_index: self.last_index,
            applied: self.applied,
            applied_term: self.applied_term,
            bytes_since_base: self.bytes_since_base,
            is_obsolete,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::command::encode;
    use crate::kv::{Command, PutMode, UnknownCommand};
    use bytes::Bytes;
    use raft::HardState;

    /// A put of key `k<index>` at (index, term).
    fn entry(index: u64, term: u64) -> Replayed {
        let key = Bytes::from(format!("k{index}"));
        let command = Command::Put { key, value: Bytes::from_static(b"value"), mode: PutMode::Upsert };
        let payload = Payload::Command(encode(&command.into(), index).expect("a valid command"));
        Replayed::Entry(Entry { index: Index::new(index), term: Term::new(term), payload })
    }

    fn committed(index: u64) -> Replayed {
        let (current_term, commit_index) = (Term::new(9), Index::new(index));
        Replayed::HardState(HardState { current_term, voted_for: None, commit_index })
    }

    fn truncate(after: u64) -> Replayed {
        Replayed::Truncate { after: Index::new(after) }
    }

    fn replay(records: impl IntoIterator<Item = Replayed>, tail_bytes_max: usize) -> Result<Done, ReplayError> {
        let mut replay = Replay::new(Base::empty(SessionLimits::default()), tail_bytes_max);
        records.into_iter().for_each(|record| replay.record(record));
        replay.finish()
    }

    fn tail_of(done: &Done) -> Vec<(u64, u64)> {
        done.tail.iter().map(|entry| (entry.index.get(), entry.term.get())).collect()
    }

    fn error_of(records: impl IntoIterator<Item = Replayed>) -> ReplayError {
        match replay(records, 0) {
            Err(error) => error,
            Ok(_) => panic!("the log makes no sense"),
        }
    }

    #[test]
    fn an_empty_log_is_an_empty_state() {
        let done = replay([], 0).expect("a sound log");
        assert!(done.store.is_empty() && done.tail.is_empty() && done.term_starts.is_empty());
        assert_eq!((done.last_index, done.applied, done.applied_term), (Index::ZERO, Index::ZERO, Term::ZERO));
    }

    #[test]
    fn what_is_committed_is_applied_and_the_rest_is_held() {
        let records = [entry(1, 1), entry(2, 1), committed(1), entry(3, 2), committed(2), entry(4, 2)];
        let done = replay(records, 0).expect("a sound log");
        assert_eq!((done.applied, done.applied_term, done.last_index), (Index::new(2), Term::new(1), Index::new(4)));
        assert_eq!(done.store.len(), 2);
        assert_eq!(tail_of(&done), [(3, 2), (4, 2)]);
        assert_eq!(done.term_starts, [(Index::new(1), Term::new(1)), (Index::new(3), Term::new(2))]);
    }

    #[test]
    fn truncated_entries_are_never_applied() {
        let records =
            [entry(1, 1), entry(2, 1), entry(3, 2), truncate(1), entry(2, 3), entry(3, 3), committed(2), entry(4, 3)];
        let done = replay(records, 0).expect("a sound log");
        assert_eq!(done.applied, Index::new(2));
        assert_eq!(done.store.get(b"k2").expect("applied").version, 1);
        assert_eq!(tail_of(&done), [(3, 3), (4, 3)]);
        assert_eq!(done.term_starts, [(Index::new(1), Term::new(1)), (Index::new(2), Term::new(3))]);
    }

    #[test]
    fn applied_entries_are_kept_within_the_bound_and_held_ones_beyond_it() {
        let size = match entry(1, 1) {
            Replayed::Entry(entry) => entry.size_bytes(),
            other => panic!("{other:?} is no entry"),
        };
        let records =
            (1..=5).map(|index| entry(index, 1)).chain([committed(5)]).chain((6..=7).map(|index| entry(index, 1)));
        let tails = [(0, 6), (3 * size, 5), (100 * size, 1)];
        for (tail_bytes_max, first) in tails {
            let records: Vec<Replayed> = records.clone().chain([committed(5)]).collect();
            let done = replay(records, tail_bytes_max).expect("a sound log");
            assert_eq!(tail_of(&done), (first..=7).map(|index| (index, 1)).collect::<Vec<_>>(), "{tail_bytes_max}");
        }
    }

    #[test]
    fn what_was_applied_before_a_reset_that_goes_back_counts_no_more() {
        let reset = Replayed::Reset { last: Index::ZERO };
        let records = [entry(1, 1), entry(2, 1), committed(2), reset, entry(1, 1), committed(1)];
        let done = replay(records, 0).expect("a sound log");
        assert_eq!((done.applied, done.last_index, done.store.len()), (Index::new(1), Index::new(1), 1));
    }

    #[test]
    fn a_commit_index_that_falls_means_nothing() {
        let done = replay([entry(1, 1), entry(2, 1), committed(2), committed(1)], 0).expect("a sound log");
        assert_eq!(done.applied, Index::new(2));
    }

    #[test]
    fn contradictions_are_told() {
        let index = Index::new;
        assert_eq!(error_of([entry(2, 1)]), ReplayError::Gap { expected: index(1), found: index(2) });
        assert_eq!(error_of([entry(1, 1), entry(1, 1)]), ReplayError::Gap { expected: index(2), found: index(1) });
        let fell = ReplayError::TermFell { index: index(2), before: Term::new(2), found: Term::new(1) };
        assert_eq!(error_of([entry(1, 2), entry(2, 1)]), fell);
        let truncated = ReplayError::CommittedTruncated { after: index(1), committed: index(2) };
        assert_eq!(error_of([entry(1, 1), entry(2, 1), committed(2), truncate(1), entry(2, 2)]), truncated);
        let missing = ReplayError::CommittedMissing { last: index(1), committed: index(2) };
        assert_eq!(error_of([entry(1, 1), committed(2), entry(2, 1)]), missing);
    }

    #[test]
    fn an_unknown_command_matters_only_when_it_is_committed() {
        let payload = Payload::Command(Bytes::from_static(b"\xffwhat"));
        let unknown = || Replayed::Entry(Entry { index: Index::new(1), term: Term::new(1), payload: payload.clone() });
        assert!(replay([unknown()], 0).is_ok());
        assert!(replay([unknown(), truncate(0), entry(1, 2), committed(1)], 0).is_ok());
        let reason = UnknownCommand::Version(0xff);
        let entry = UnknownEntry { index: Index::new(1), term: Term::new(1), reason };
        assert_eq!(error_of([unknown(), committed(1)]), ReplayError::UnknownEntry(entry));
    }
}
