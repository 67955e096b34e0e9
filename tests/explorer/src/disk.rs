//! A node's disk: what is durable, what is on its way there in order, and the promises that wait for it.
//!
//! A snapshot is written in no time, as a file of its own. What it covers is kept with the log here, to be compared
//! with others, but what is cut off is never read from there again.

use crate::invariant::{Broken, Invariant};
use raft::{Batch, BatchNumber, Configuration, Entry, HardState, Index, Message, Restored, Term};
use std::collections::VecDeque;
use std::hash::{Hash, Hasher};

/// What a node finds when it restarts.
#[derive(Clone, Hash, Debug, Default)]
struct Contents {
    hard_state: HardState,
    /// Every entry, those that are in a snapshot only included.
    entries: Vec<Entry>,
    /// How many of them are in a snapshot only.
    cut: usize,
}

impl Contents {
    fn write(&mut self, batch: &Batch, snapshot: &[Entry]) -> Result<(), Broken> {
        let wrong = |text: String| Err(Broken::new(Invariant::DiskIsLog, text));
        if let Some(last) = batch.reset_to {
            if position(last) > snapshot.len() || batch.truncate_after.is_some() {
                return wrong(format!("batch {} forgets the log up to {last}, and not for a snapshot", batch.number));
            }
            self.adopt(&snapshot[..position(last)]);
        }
        if let Some(after) = batch.truncate_after {
            if position(after) > self.entries.len() || position(after) < self.cut {
                return wrong(format!("batch {} cuts behind {after}, which was never written", batch.number));
            }
            self.entries.truncate(position(after));
        }
        for entry in &batch.entries {
            if position(entry.index) != self.entries.len() + 1 {
                return wrong(format!("batch {} leaves a hole before {}", batch.number, entry.index));
            }
            self.entries.push(entry.clone());
        }
        if let Some(hard_state) = batch.hard_state {
            if position(hard_state.commit_index) > self.entries.len() {
                return wrong(format!("the hint of batch {} is ahead of the log", batch.number));
            }
            self.hard_state = hard_state;
        }
        Ok(())
    }

    /// The snapshot is the log.
    fn adopt(&mut self, snapshot: &[Entry]) {
        self.entries = snapshot.to_vec();
        self.cut = snapshot.len();
    }

    /// Whether the log has the last entry of the snapshot, and with it all.
    fn covers(&self, snapshot: &[Entry]) -> bool {
        snapshot.len() <= self.cut || self.entries.get(snapshot.len() - 1) == snapshot.last()
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

/// An index as a position in a log that is short.
pub(crate) fn position(index: Index) -> usize {
    usize::try_from(index.get()).expect("logs here have a handful of entries")
}

/// The disk and what waits for it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    durable: Contents,
    /// As it will be when everything pending is written.
    written: Contents,
    /// The newest snapshot: every entry that its state came from. Durable.
    snapshot: Vec<Entry>,
    /// Batches that are not durable, oldest first.
    pending: VecDeque<Batch>,
    /// The last batch that is durable, by the number it has now.
    last_durable: BatchNumber,
    /// Promises, and the batches that have to be durable first.
    held: VecDeque<(BatchNumber, Message)>,
}

impl Disk {
    /// Takes what a `Ready` wants written.
    pub(crate) fn submit(&mut self, batch: Batch) -> Result<(), Broken> {
        let expected = self.last_durable.get() + self.pending.len() as u64 + 1;
        if batch.number.get() != expected {
            let text = format!("batch {} comes where {expected} should", batch.number);
            return Err(Broken::new(Invariant::DiskIsLog, text));
        }
        self.written.write(&batch, &self.snapshot)?;
        self.pending.push_back(batch);
        Ok(())
    }

    /// Keeps messages back until `wait_for` is durable.
    pub(crate) fn hold(&mut self, wait_for: BatchNumber, messages: Vec<Message>) {
        self.held.extend(messages.into_iter().map(|message| (wait_for, message)));
    }

    /// The promises that may leave now, in the order in which they were made.
    pub(crate) fn release(&mut self) -> Vec<Message> {
        let count = self.held.iter().take_while(|(wait_for, _)| *wait_for <= self.last_durable).count();
        self.held.drain(..count).map(|(_, message)| message).collect()
    }

    /// Makes the oldest pending batch durable; its number.
    pub(crate) fn persist(&mut self) -> Result<Option<BatchNumber>, Broken> {
        let Some(batch) = self.pending.pop_front() else {
            return Ok(None);
        };
        self.durable.write(&batch, &self.snapshot)?;
        self.last_durable = batch.number;
        Ok(Some(batch.number))
    }

    /// Loses power when the oldest `kept` pending batches have reached the disk.
    pub(crate) fn crash(&mut self, kept: usize) -> Result<(), Broken> {
        for batch in self.pending.drain(..).take(kept) {
            self.durable.write(&batch, &self.snapshot)?;
        }
        let (mut durable, snapshot) = (self.durable.clone(), std::mem::take(&mut self.snapshot));
        if !durable.covers(&snapshot) {
            durable.adopt(&snapshot);
        }
        *self = Disk { written: durable.clone(), durable, snapshot, ..Disk::default() };
        Ok(())
    }

    /// Takes a snapshot of what is applied.
    pub(crate) fn take_snapshot(&mut self, applied: Index) {
        self.snapshot = self.written.entries[..position(applied)].to_vec();
    }

    /// Keeps a snapshot that came from another node.
    pub(crate) fn keep_snapshot(&mut self, snapshot: &[Entry]) {
        self.snapshot = snapshot.to_vec();
    }

    /// Cuts off everything up to `last`; the first entry that is left.
    pub(crate) fn cut(&mut self, last: Index) -> Index {
        let cut = position(last).max(self.durable.cut);
        (self.durable.cut, self.written.cut) = (cut, cut.max(self.written.cut));
        Index::new(cut as u64 + 1)
    }

    pub(crate) fn snapshot(&self) -> &[Entry] {
        &self.snapshot
    }

    /// The entries from here on that were written, unless that is cut off.
    pub(crate) fn read(&self, from: Index) -> &[Entry] {
        let at = position(from) - 1;
        if at < self.written.cut { &[] } else { &self.written.entries[at..] }
    }

    /// What a restart finds. The state machine is in memory and comes back as the snapshot has it.
    pub(crate) fn restored(&self, configuration: Configuration) -> Restored {
        let Contents { hard_state, entries, cut } = &self.durable;
        Restored {
            configuration,
            hard_state: *hard_state,
            term_starts: term_starts(entries),
            tail: entries[*cut..].to_vec(),
            last_index: Index::new(entries.len() as u64),
            first_index: Index::new(*cut as u64 + 1),
            snapshot_index: Index::new(self.snapshot.len() as u64),
            may_have_promised: false,
            forgotten_term: None,
            applied: Index::new(self.snapshot.len() as u64),
        }
    }

    /// Takes `count` off all batch numbers, as the core did.
    pub(crate) fn renumber(&mut self, count: u64) {
        let lower = |number: BatchNumber| BatchNumber::new(number.get().saturating_sub(count));
        self.last_durable = lower(self.last_durable);
        for batch in &mut self.pending {
            batch.number = lower(batch.number);
        }
        for (wait_for, _) in &mut self.held {
            *wait_for = lower(*wait_for);
        }
    }

    pub(crate) fn pending_count(&self) -> usize {
        self.pending.len()
    }

    /// The entries that a restart would find.
    pub(crate) fn durable_entries(&self) -> &[Entry] {
        if self.durable.covers(&self.snapshot) { &self.durable.entries } else { &self.snapshot }
    }

    /// The entries that are durable or pending.
    pub(crate) fn written_entries(&self) -> &[Entry] {
        &self.written.entries
    }
}

impl Hash for Disk {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        // What is written follows from the rest.
        let Disk { durable, written: _, snapshot, pending, last_durable, held } = self;
        (durable, snapshot, last_durable, held, pending.len()).hash(hasher);
        for Batch { number, reset_to, truncate_after, entries, hard_state } in pending {
            (number, reset_to, truncate_after, entries, hard_state).hash(hasher);
        }
    }
}
