//! What is durable of a core under test: a log whose beginning may be cut off, and the snapshot that covers it.

use raft::{Batch, Configuration, Entry, HardState, Index, Restored, Term};

#[derive(Clone, Default)]
pub(crate) struct Disk {
    pub(crate) hard_state: HardState,
    /// The last entry that is cut off.
    pub(crate) cut: Index,
    /// The log behind it.
    pub(crate) entries: Vec<Entry>,
    /// The newest snapshot: its last index, and the terms up to there.
    pub(crate) snapshot: Option<(Index, Vec<(Index, Term)>)>,
    /// Told to the core at a restart.
    pub(crate) forgotten_term: Option<Term>,
}

impl Disk {
    pub(crate) fn last_index(&self) -> Index {
        self.cut.plus(self.entries.len()).expect("a log that was made here ends somewhere")
    }

    pub(crate) fn snapshot_index(&self) -> Index {
        self.snapshot.as_ref().map_or(Index::ZERO, |(last, _)| *last)
    }

    /// The log from here on; nothing if that is cut off.
    pub(crate) fn entries_from(&self, first: Index) -> &[Entry] {
        let skipped = first.get().checked_sub(self.cut.get() + 1);
        let skipped = skipped.and_then(|count| usize::try_from(count).ok());
        skipped.and_then(|at| self.entries.get(at..)).unwrap_or_default()
    }

    pub(crate) fn write(&mut self, batch: Batch) {
        assert!(batch.reset_to.is_none() || batch.truncate_after.is_none(), "a log is reset and cut at once");
        if let Some(last) = batch.reset_to {
            assert!(last >= self.hard_state.commit_index, "committed entries are taken back on the disk");
            assert!(last <= self.snapshot_index(), "the log is reset to {last}, and no snapshot has what was in it");
            self.cut = last;
            self.entries.clear();
        }
        if let Some(after) = batch.truncate_after {
            assert!(after >= self.hard_state.commit_index, "committed entries are taken back on the disk");
            self.truncate(after);
        }
        for entry in batch.entries {
            assert_eq!(entry.index, self.last_index().next(), "a batch leaves a hole in the log");
            self.entries.push(entry);
        }
        if let Some(hard_state) = batch.hard_state {
            assert!(hard_state.current_term >= self.hard_state.current_term, "the term on the disk falls");
            assert!(hard_state.commit_index <= self.last_index(), "the hint is ahead of the log");
            self.hard_state = hard_state;
        }
    }

    fn truncate(&mut self, after: Index) {
        let kept = after.get().checked_sub(self.cut.get()).expect("what is cut off was committed");
        self.entries.truncate(usize::try_from(kept).unwrap_or(usize::MAX));
    }

    /// Cuts the log off up to `last`; the first entry that is left.
    pub(crate) fn cut(&mut self, last: Index) -> Index {
        let last = last.max(self.cut);
        assert!(last <= self.last_index(), "what is not on the disk is cut off");
        let count = usize::try_from(last.get() - self.cut.get()).expect("no more than there are entries");
        self.entries.drain(..count);
        self.cut = last;
        last.next()
    }

    /// Loses all but `left` of the entries, and the hard state.
    pub(crate) fn forget(&mut self, left: usize, term: Term) {
        self.entries.truncate(left);
        self.hard_state = HardState::default();
        self.forgotten_term = Some(self.forgotten_term.unwrap_or_default().max(term));
    }

    /// A snapshot whose last entry is not in the log is the log.
    pub(crate) fn adopt_snapshot(&mut self) {
        let Some((last, starts)) = &self.snapshot else { return };
        let last_term = starts.last().map(|&(_, term)| term);
        let held = self.entries_from(*last).first().map(|entry| entry.term);
        if *last > self.cut && held != last_term {
            self.cut = *last;
            self.entries.clear();
        }
    }

    pub(crate) fn restored(&self, configuration: &Configuration) -> Restored {
        let snapshot_starts = self.snapshot.as_ref().map_or(&[][..], |(_, starts)| starts);
        let mut term_starts: Vec<_> = snapshot_starts.iter().copied().filter(|&(first, _)| first <= self.cut).collect();
        for entry in &self.entries {
            if term_starts.last().is_none_or(|&(_, last)| last != entry.term) {
                term_starts.push((entry.index, entry.term));
            }
        }
        Restored {
            configuration: configuration.clone(),
            hard_state: self.hard_state,
            term_starts,
            tail: self.entries.clone(),
            last_index: self.last_index(),
            first_index: self.cut.next(),
            snapshot_index: self.snapshot_index(),
            may_have_promised: false,
            forgotten_term: self.forgotten_term,
            applied: self.hard_state.commit_index.max(self.snapshot_index()),
        }
    }
}
