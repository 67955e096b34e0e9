//! What is durable: a log whose beginning may be cut off, and the snapshot that has it.

use crate::node::{entries, index, position, term};
use raft::{Batch, Configuration, Entry, HardState, Index, Restored, Term};

#[derive(Clone, Default)]
pub(crate) struct Disk {
    pub(crate) hard_state: HardState,
    /// How many entries are cut off.
    pub(crate) cut: usize,
    /// The log behind them.
    pub(crate) entries: Vec<Entry>,
    /// The newest snapshot: all that its state machine had seen.
    pub(crate) snapshot: Vec<Entry>,
    /// Told to the core at a restart.
    pub(crate) forgotten_term: Option<Term>,
    /// Told to the core at a restart.
    pub(crate) may_have_promised: bool,
}

impl Disk {
    pub(crate) fn with(current_term: u64, terms: &[u64]) -> Disk {
        let hard_state = HardState { current_term: term(current_term), ..HardState::default() };
        Disk { hard_state, entries: entries(terms), ..Disk::default() }
    }

    pub(crate) fn last_index(&self) -> Index {
        index((self.cut + self.entries.len()) as u64)
    }

    pub(crate) fn snapshot_index(&self) -> Index {
        index(self.snapshot.len() as u64)
    }

    /// The log from here on; nothing if that is cut off.
    pub(crate) fn entries_from(&self, first: Index) -> &[Entry] {
        position(first).checked_sub(self.cut + 1).and_then(|at| self.entries.get(at..)).unwrap_or(&[])
    }

    pub(crate) fn write(&mut self, batch: &Batch) {
        assert!(batch.reset_to.is_none() || batch.truncate_after.is_none(), "a log is reset and cut at once");
        if let Some(last) = batch.reset_to {
            assert!(last <= self.snapshot_index(), "the log is reset to {last}, and no snapshot has what was in it");
            self.cut = position(last);
            self.entries.clear();
        }
        if let Some(after) = batch.truncate_after {
            let kept = position(after).checked_sub(self.cut).expect("what is cut off was committed");
            self.entries.truncate(kept);
        }
        for entry in &batch.entries {
            assert_eq!(entry.index, self.last_index().next(), "a batch leaves a hole in the log");
            self.entries.push(entry.clone());
        }
        if let Some(hard_state) = batch.hard_state {
            assert!(hard_state.commit_index <= self.last_index(), "the hint is ahead of the log");
            self.hard_state = hard_state;
        }
    }

    /// Cuts the log off up to `last`; the first entry that is left.
    pub(crate) fn cut(&mut self, last: Index) -> Index {
        let count = position(last).saturating_sub(self.cut);
        self.entries.drain(..count);
        self.cut += count;
        index(self.cut as u64 + 1)
    }

    /// A snapshot whose last entry is not in the log is the log.
    fn adopt_snapshot(&mut self) {
        let Some(last) = self.snapshot.last() else {
            return;
        };
        let is_cut_off = position(last.index) <= self.cut;
        if !is_cut_off && self.entries_from(last.index).first() != Some(last) {
            self.cut = position(last.index);
            self.entries.clear();
        }
    }

    pub(crate) fn restored(&mut self, configuration: Configuration) -> Restored {
        self.adopt_snapshot();
        let whole: Vec<Entry> = self.snapshot[..self.cut].iter().chain(&self.entries).cloned().collect();
        Restored {
            configuration,
            hard_state: self.hard_state,
            term_starts: term_starts(&whole),
            tail: self.entries.clone(),
            last_index: self.last_index(),
            first_index: index(self.cut as u64 + 1),
            snapshot_index: self.snapshot_index(),
            may_have_promised: self.may_have_promised,
            forgotten_term: self.forgotten_term,
            applied: self.snapshot_index(),
        }
    }
}

/// The first index of each run of entries of one term.
pub(crate) fn term_starts(entries: &[Entry]) -> Vec<(Index, Term)> {
    let mut starts: Vec<(Index, Term)> = Vec::new();
    for entry in entries {
        if starts.last().is_none_or(|&(_, last)| last != entry.term) {
            starts.push((entry.index, entry.term));
        }
    }
    starts
}
