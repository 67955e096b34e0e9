//! A node's disk: what is durable, what is on its way there in order, and the promises that wait for it.

use crate::invariant::{Broken, Invariant};
use raft::{Batch, BatchNumber, Configuration, Entry, HardState, Index, Message, Restored, Term};
use std::collections::VecDeque;
use std::hash::{Hash, Hasher};

/// What a node finds when it restarts.
#[derive(Clone, Hash, Debug, Default)]
struct Contents {
    hard_state: HardState,
    entries: Vec<Entry>,
}

impl Contents {
    fn write(&mut self, batch: &Batch) -> Result<(), Broken> {
        let wrong = |text: String| Err(Broken::new(Invariant::DiskIsLog, text));
        if let Some(after) = batch.truncate_after {
            if position(after) > self.entries.len() {
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
        self.written.write(&batch)?;
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
        self.durable.write(&batch)?;
        self.last_durable = batch.number;
        Ok(Some(batch.number))
    }

    /// Loses power when the oldest `kept` pending batches have reached the disk.
    pub(crate) fn crash(&mut self, kept: usize) -> Result<(), Broken> {
        for batch in self.pending.drain(..).take(kept) {
            self.durable.write(&batch)?;
        }
        *self = Disk { durable: self.durable.clone(), written: self.durable.clone(), ..Disk::default() };
        Ok(())
    }

    /// What a restart finds. The state machine is in memory and comes back empty.
    pub(crate) fn restored(&self, configuration: Configuration) -> Restored {
        let Contents { hard_state, entries } = &self.durable;
        let mut term_starts: Vec<(Index, Term)> = Vec::new();
        for entry in entries {
            if term_starts.last().is_none_or(|&(_, last)| last != entry.term) {
                term_starts.push((entry.index, entry.term));
            }
        }
        Restored {
            configuration,
            hard_state: *hard_state,
            term_starts,
            tail: entries.clone(),
            last_index: Index::new(entries.len() as u64),
            applied: Index::ZERO,
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

    /// The entries that are durable.
    pub(crate) fn durable_entries(&self) -> &[Entry] {
        &self.durable.entries
    }

    /// The entries that are durable or pending.
    pub(crate) fn written_entries(&self) -> &[Entry] {
        &self.written.entries
    }
}

impl Hash for Disk {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        // What is written follows from the rest.
        let Disk { durable, written: _, pending, last_durable, held } = self;
        (durable, last_durable, held, pending.len()).hash(hasher);
        for Batch { number, truncate_after, entries, hard_state } in pending {
            (number, truncate_after, entries, hard_state).hash(hasher);
        }
    }
}
