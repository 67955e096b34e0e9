//! The log as the core sees it: where each term begins, and the last part of the entries.
//!
//! The whole history of terms stays in memory as *runs*, the first index of each sequence of entries of one term.
//! There are as many runs as there were leaders that wrote something, so a log of a billion entries costs a few
//! kilobytes, and the term at every index is known without asking the disk. Of the entries themselves only a tail is
//! kept. Entries leave it at the front, and only when nobody in this node needs them any more: when they are
//! committed, applied and durable. A follower that needs older ones gets them from the driver, as far back as the
//! driver has them; what it has cut off is in a snapshot only (§7). The runs go back to the first entry all the same,
//! and a snapshot brings those of what it covers, so logs are compared exactly at any index, whatever was cut off.
//!
//! ```text
//!   1 ......... first_index .......... first_in_tail ...... applied ≤ handed ≤ commit_index ≤ last_index
//!   runs only   | runs; entries on disk | runs and entries                                            |
//! ```
//!
//! Cutting moves the first index up to behind a snapshot, and the tail may still reach back before it.

use crate::terms::{Run, TermTable};
use crate::types::{Entry, Index, Term};
use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// The log of one node.
#[derive(Clone, Hash, Debug)]
pub(crate) struct Log {
    /// Ascending by index and by term; the first run begins at index 1.
    runs: Vec<Run>,
    last: Index,
    /// The newest entries, contiguous, ending at `last`.
    tail: VecDeque<Entry>,
    tail_bytes: usize,
    /// The size of the entries behind `commit`, exactly.
    uncommitted_bytes: usize,
    commit: Index,
    /// The last entry handed out to be applied.
    handed: Index,
    applied: Index,
    /// The last index that the newest durable snapshot of this node covers; zero without one.
    snapshot: Index,
    /// The first entry that the driver can read back.
    first: Index,
}

/// The indexes of a log that was found on the disk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Marks {
    pub(crate) first: Index,
    pub(crate) snapshot: Index,
    pub(crate) applied: Index,
    /// This and everything before it is known to be committed.
    pub(crate) commit: Index,
    pub(crate) last: Index,
}

impl Log {
    /// A log as it was found on the disk.
    ///
    /// # Errors
    /// Says what contradicts what.
    pub(crate) fn restore(term_starts: &[(Index, Term)], tail: Vec<Entry>, marks: Marks) -> Result<Log, &'static str> {
        let Marks { first, snapshot, applied, commit, last } = marks;
        let TermTable { runs, last } = TermTable::new(term_starts, last)?;
        if commit > last || applied > commit {
            return Err("applied, commit and last index are out of order");
        }
        if snapshot > applied {
            return Err("the state is older than the snapshot");
        }
        if first.previous().is_none_or(|before| before > snapshot) {
            return Err("there are entries missing between the snapshot and the log");
        }
        let mut log = Log {
            runs,
            last,
            tail: tail.into(),
            tail_bytes: 0,
            uncommitted_bytes: 0,
            commit,
            handed: applied,
            applied,
            snapshot,
            first,
        };
        if log.tail.len() as u64 > last.get() || log.first_in_tail() > applied.next() {
            return Err("the tail does not reach back to the applied index");
        }
        let mut index = log.first_in_tail();
        for entry in &log.tail {
            if entry.index != index || log.term_at(index) != Some(entry.term) {
                return Err("the tail does not fit the term starts");
            }
            index = index.next();
        }
        log.tail_bytes = log.tail.iter().map(Entry::size_bytes).sum();
        log.uncommitted_bytes = log.bytes_behind(commit);
        Ok(log)
    }

    pub(crate) fn last_index(&self) -> Index {
        self.last
    }

    pub(crate) fn last_term(&self) -> Term {
        self.runs.last().map_or(Term::ZERO, |run| run.term)
    }

    pub(crate) fn commit_index(&self) -> Index {
        self.commit
    }

    pub(crate) fn applied(&self) -> Index {
        self.applied
    }

    pub(crate) fn handed(&self) -> Index {
        self.handed
    }

    /// The last index that the newest durable snapshot covers; zero without one.
    pub(crate) fn snapshot_index(&self) -> Index {
        self.snapshot
    }

    /// The first index of each run of entries of one term, for the log up to `last`.
    pub(crate) fn term_starts(&self, last: Index) -> Vec<(Index, Term)> {
        self.runs.iter().take_while(|run| run.first <= last).map(|run| (run.first, run.term)).collect()
    }

    /// The first entry that can be read back.
    pub(crate) fn first_index(&self) -> Index {
        self.first
    }

    pub(crate) fn uncommitted_bytes(&self) -> usize {
        self.uncommitted_bytes
    }

    /// The oldest entry in memory; the one after the last if there is none.
    pub(crate) fn first_in_tail(&self) -> Index {
        Index::new(self.last.get() - self.tail.len() as u64 + 1)
    }

    /// The term of the entry at `index`, zero before the first entry, `None` behind the last.
    pub(crate) fn term_at(&self, index: Index) -> Option<Term> {
        if index > self.last {
            return None;
        }
        let before = self.runs.partition_point(|run| run.first <= index);
        Some(before.checked_sub(1).map_or(Term::ZERO, |position| self.runs[position].term))
    }

    /// Whether this log holds that entry: same index and same term (Log Matching Property, §5.3).
    pub(crate) fn matches(&self, index: Index, term: Term) -> bool {
        self.term_at(index) == Some(term)
    }

    /// Whether a log that ends so is at least as up to date as this one (§5.4.1): terms decide before lengths.
    pub(crate) fn is_up_to_date(&self, last_index: Index, last_term: Term) -> bool {
        (last_term, last_index) >= (self.last_term(), self.last)
    }

    /// The last position at or before `index` whose term is at most `term`, with its own term. Everything between it
    /// and `index` is of later terms and cannot match a log whose entry there has `term`.
    pub(crate) fn backtrack(&self, index: Index, term: Term) -> (Index, Term) {
        let index = index.min(self.last);
        let runs_below = self.runs.partition_point(|run| run.term <= term);
        let end = self.runs.get(runs_below).map_or(self.last, |next| Index::new(next.first.get() - 1));
        let index = index.min(end);
        (index, self.term_at(index).expect("the index was bounded by the last one"))
    }

    /// Appends one entry. Its place and term were checked by whoever made or accepted it.
    pub(crate) fn append(&mut self, entry: Entry) {
        assert_eq!(entry.index, self.last.next(), "an entry must follow the last one");
        assert!(entry.term >= self.last_term(), "terms in the log never fall");
        if entry.term > self.last_term() {
            self.runs.push(Run { first: entry.index, term: entry.term });
        }
        self.last = entry.index;
        self.tail_bytes += entry.size_bytes();
        self.uncommitted_bytes += entry.size_bytes();
        self.tail.push_back(entry);
    }

    /// Drops every entry behind `after` (§5.3). Returns their size in bytes.
    pub(crate) fn truncate(&mut self, after: Index) -> usize {
        // SAFETY(raft §5.4): a committed entry is in the log of every later leader, so none asks for this.
        assert!(after >= self.commit, "truncation after {after} would drop committed entries up to {}", self.commit);
        let mut dropped_bytes = 0;
        while self.last > after {
            // Entries behind the commit index never leave the tail at its front.
            let entry = self.tail.pop_back().expect("uncommitted entries are in memory");
            dropped_bytes += entry.size_bytes();
            self.last = Index::new(self.last.get() - 1);
        }
        self.tail_bytes -= dropped_bytes;
        self.uncommitted_bytes -= dropped_bytes;
        while self.runs.last().is_some_and(|run| run.first > after) {
            self.runs.pop();
        }
        dropped_bytes
    }

    /// Commits everything up to `index`; whether that was news.
    pub(crate) fn commit_to(&mut self, index: Index) -> bool {
        if index <= self.commit {
            return false;
        }
        assert!(index <= self.last, "commit of {index}, which is behind the last entry {}", self.last);
        let first = self.position_in_tail(self.commit.next());
        let end = self.position_in_tail(index.next());
        let bytes: usize = self.tail.range(first..end).map(Entry::size_bytes).sum();
        self.uncommitted_bytes -= bytes;
        self.commit = index;
        true
    }

    /// Hands out the next committed entries to apply, each once: at most `bytes_max`, but at least one if there is any.
    pub(crate) fn take_committed(&mut self, bytes_max: usize) -> Vec<Entry> {
        let entries = self.slice(self.handed.next(), self.commit, bytes_max);
        if let Some(last) = entries.last() {
            self.handed = last.index;
        }
        entries
    }

    /// Everything up to `index` is applied; repeats and older indexes mean nothing.
    pub(crate) fn applied_to(&mut self, index: Index) {
        assert!(index <= self.handed, "{index} is applied but was never handed out; {} was", self.handed);
        self.applied = self.applied.max(index);
    }

    /// The entries from `from` to `to`, both included: at most `bytes_max`, but at least one. `from` is in the tail
    /// unless nothing is asked for.
    pub(crate) fn slice(&self, from: Index, to: Index, bytes_max: usize) -> Vec<Entry> {
        if from > to {
            return Vec::new();
        }
        let (first, end) = (self.position_in_tail(from), self.position_in_tail(to.next()));
        let entries = self.tail.range(first..end);
        let count = count_within(entries.clone(), bytes_max);
        entries.take(count).cloned().collect()
    }

    /// The entries behind `index`, which is applied or behind what is.
    pub(crate) fn tail_behind(&self, index: Index) -> impl Iterator<Item = &Entry> {
        self.tail.range(self.position_in_tail(index.min(self.last).next())..)
    }

    /// Lets go of the oldest entries while the tail is larger than `bytes_max`, but of none that is not `durable`,
    /// committed and applied.
    pub(crate) fn evict(&mut self, durable: Index, bytes_max: usize) {
        // Applied entries are committed.
        let evictable = durable.min(self.applied);
        while self.tail_bytes > bytes_max && self.tail.front().is_some_and(|entry| entry.index <= evictable) {
            let entry = self.tail.pop_front().expect("the tail has a front, as was just seen");
            self.tail_bytes -= entry.size_bytes();
        }
    }

    /// There is a durable snapshot of everything up to `index`; an older one than the newest means nothing.
    pub(crate) fn snapshot_taken(&mut self, index: Index) {
        assert!(index <= self.applied, "a snapshot of {index}, but only {} is applied", self.applied);
        self.snapshot = self.snapshot.max(index);
    }

    /// Entries before `first` can no longer be read back.
    pub(crate) fn compacted(&mut self, first: Index) {
        self.first = self.first.max(first);
    }

    /// Whether another log, which is longer than what is committed here, has the same entries up to there.
    pub(crate) fn agrees_on_committed(&self, other: &TermTable) -> bool {
        assert!(other.last > self.commit, "a log that ends at {} says nothing new", other.last);
        let is_committed = |run: &&Run| run.first <= self.commit;
        self.runs.iter().take_while(is_committed).eq(other.runs.iter().take_while(is_committed))
    }

    /// Forgets every entry: the log goes on behind a snapshot with these terms, whose state is the applied one.
    pub(crate) fn install(&mut self, table: TermTable) {
        let TermTable { runs, last } = table;
        // SAFETY(raft §7): a snapshot replaces what it covers and what contradicts it, never what is committed.
        assert!(last > self.commit, "the snapshot ends at {last}, before the commit index {}", self.commit);
        *self = Log {
            runs,
            last,
            tail: VecDeque::new(),
            tail_bytes: 0,
            uncommitted_bytes: 0,
            commit: last,
            handed: last,
            applied: last,
            snapshot: last,
            first: last.next(),
        };
    }

    /// Where in the tail the entry at `index` is. `index` is in the tail or just behind its end.
    fn position_in_tail(&self, index: Index) -> usize {
        let position = index.get().checked_sub(self.first_in_tail().get());
        let position = position.expect("an entry that was still needed has left the memory");
        usize::try_from(position).expect("the tail is in memory, so its positions fit a usize")
    }

    /// The size of all entries in memory behind `index`.
    pub(crate) fn bytes_behind(&self, index: Index) -> usize {
        self.tail.iter().rev().take_while(|entry| entry.index > index).map(Entry::size_bytes).sum()
    }

    /// Asserts what holds between the fields; looks at the last `inspected` entries only.
    pub(crate) fn check_invariants(&self, inspected: usize) {
        assert!(self.applied <= self.handed, "applied {} was never handed out, {} was", self.applied, self.handed);
        assert!(self.handed <= self.commit, "handed out {} before it was committed", self.handed);
        assert!(self.commit <= self.last, "committed {} behind the last entry {}", self.commit, self.last);
        assert!(self.first_in_tail() <= self.applied.next(), "entries that are not applied have left the memory");
        assert!(self.snapshot <= self.applied, "a snapshot of {}, but {} is applied", self.snapshot, self.applied);
        assert!(self.first <= self.snapshot.next(), "no snapshot has what is cut off before {}", self.first);
        let mut index = self.last;
        for entry in self.tail.iter().rev().take(inspected) {
            assert_eq!(entry.index, index, "the tail is not contiguous");
            assert_eq!(Some(entry.term), self.term_at(index), "the tail and the terms differ at {index}");
            index = Index::new(index.get() - 1);
        }
        if inspected >= self.tail.len() {
            assert_eq!(self.tail_bytes, self.bytes_behind(Index::ZERO), "the tail's size is wrong");
            assert_eq!(self.uncommitted_bytes, self.bytes_behind(self.commit), "the uncommitted size is wrong");
        }
        let mut newer: Option<&Run> = None;
        for run in self.runs.iter().rev().take(inspected.saturating_add(1)) {
            let in_order = newer.is_none_or(|newer| run.first < newer.first && run.term < newer.term);
            assert!(in_order && run.first <= self.last, "terms in the log fall: {run:?} before {newer:?}");
            newer = Some(run);
        }
    }
}

/// How many of these entries fit into `bytes_max`, but at least one: an entry larger than a message may be would
/// otherwise never leave.
pub(crate) fn count_within<'a>(entries: impl Iterator<Item = &'a Entry>, bytes_max: usize) -> usize {
    let mut bytes = 0_usize;
    let mut count = 0;
    for entry in entries {
        bytes = bytes.saturating_add(entry.size_bytes());
        if count > 0 && bytes > bytes_max {
            break;
        }
        count += 1;
    }
    count
}

#[cfg(test)]
impl Log {
    /// The log of a node that starts for the first time.
    pub(crate) fn empty() -> Log {
        let zero = Index::ZERO;
        let marks = Marks { first: Index::new(1), snapshot: zero, applied: zero, commit: zero, last: zero };
        Log::restore(&[], Vec::new(), marks).expect("an empty log is valid")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;
    use crate::types::Payload;
    use alloc::vec;

    fn entry(term: u64, index: u64, bytes: usize) -> Entry {
        let payload = Payload::Command(vec![0; bytes].into());
        Entry { term: Term::new(term), index: Index::new(index), payload }
    }

    fn with_terms(terms: &[u64]) -> Log {
        let mut log = Log::empty();
        terms.iter().zip(1..).for_each(|(&term, index)| log.append(entry(term, index, 0)));
        log
    }

    /// The definition: walk back one entry at a time.
    fn backtrack_by_definition(terms: &[u64], index: u64, term: u64) -> u64 {
        let start = index.min(terms.len() as u64);
        let position = |index: u64| usize::try_from(index - 1).expect("short");
        (1..=start).rev().find(|&index| terms[position(index)] <= term).unwrap_or(0)
    }

    #[test]
    fn backtracking_agrees_with_its_definition() {
        for terms in [&[][..], &[1], &[2, 2, 2], &[1, 1, 3, 3, 3, 7, 8, 8]] {
            let log = with_terms(terms);
            for index in 0..12 {
                for term in 0..10 {
                    let expected = Index::new(backtrack_by_definition(terms, index, term));
                    let expected_term = log.term_at(expected).expect("in the log");
                    let found = log.backtrack(Index::new(index), Term::new(term));
                    assert_eq!(found, (expected, expected_term), "{terms:?} from {index} for term {term}");
                }
            }
        }
    }

    #[test]
    fn random_operations_agree_with_a_plain_vector() {
        let mut random = Random::new(5);
        for _ in 0..50 {
            let (mut log, mut plain, mut term) = (Log::empty(), Vec::new(), 1);
            for _ in 0..200 {
                let last = plain.len() as u64;
                let committed = log.commit_index().get();
                match random.between(0, 5) {
                    0 | 1 => {
                        term += u64::from(random.between(0, 3) / 3);
                        let new = entry(term, last + 1, random.between(0, 50) as usize);
                        plain.push(new.clone());
                        log.append(new);
                    }
                    2 => {
                        let uncommitted = u32::try_from(last - committed).expect("short");
                        let after = last - u64::from(random.between(0, uncommitted.min(3)));
                        plain.truncate(usize::try_from(after).expect("short"));
                        log.truncate(Index::new(after));
                    }
                    3 => drop(log.commit_to(Index::new(committed + u64::from(last > committed)))),
                    4 => {
                        let taken = log.take_committed(100);
                        if let Some(last) = taken.last() {
                            log.applied_to(last.index);
                        }
                    }
                    _ => log.evict(Index::new(last), 100),
                }
                log.check_invariants(usize::MAX);
                assert_eq!(log.last_index().get(), plain.len() as u64);
                assert!(plain.iter().all(|entry: &Entry| log.term_at(entry.index) == Some(entry.term)));
                let first = usize::try_from(log.first_in_tail().get()).expect("short");
                let in_memory = log.slice(log.first_in_tail(), log.last_index(), usize::MAX);
                assert_eq!(in_memory, plain[first - 1..]);
            }
        }
    }

    #[test]
    fn pages_hold_at_least_one_entry_and_no_more_than_fit() {
        let sizes = [10, 500, 10, 10, 10];
        let entries: Vec<Entry> = sizes.iter().zip(1..).map(|(&bytes, index)| entry(1, index, bytes)).collect();
        for (skipped, bytes_max, expected) in [(0, 0, 1), (0, 42, 1), (0, 600, 2), (1, 42, 1), (2, 84, 2), (2, 126, 3)]
        {
            assert_eq!(count_within(entries[skipped..].iter(), bytes_max), expected, "{bytes_max} behind {skipped}");
        }
        assert_eq!(count_within([].iter(), 100), 0);
    }

    #[test]
    fn only_a_log_with_the_same_committed_entries_agrees() {
        let mut log = with_terms(&[1, 1, 2, 2, 4, 4]);
        let table = |terms: &[u64]| {
            let other = with_terms(terms);
            TermTable { runs: other.runs, last: other.last }
        };
        assert!(log.agrees_on_committed(&table(&[3])), "nothing is committed yet");
        log.commit_to(Index::new(4));
        for terms in [&[1, 1, 2, 2, 4, 4][..], &[1, 1, 2, 2, 3], &[1, 1, 2, 2, 2], &[1, 1, 2, 2, 4, 5, 6, 7]] {
            assert!(log.agrees_on_committed(&table(terms)), "{terms:?}");
        }
        for terms in [&[1, 1, 2, 3, 4][..], &[1, 2, 2, 2, 4], &[1, 1, 1, 2, 4], &[2, 2, 2, 2, 4], &[1, 1, 1, 1, 4]] {
            assert!(!log.agrees_on_committed(&table(terms)), "{terms:?}");
        }
    }

    #[test]
    #[should_panic(expected = "would drop committed entries")]
    fn committed_entries_are_never_truncated() {
        let mut log = with_terms(&[1, 1, 1]);
        log.commit_to(Index::new(2));
        log.truncate(Index::new(1));
    }
}
