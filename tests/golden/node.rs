//! One node under test: the machine, its disk, and what waits between the two.

use std::collections::VecDeque;

use raft::{
    Batch, BatchNumber, Configuration, Entry, Fetch, HardState, Index, Message, NodeId, Options, Raft, Restored, Term,
};

/// What one disk holds: a log, the hard state, and a snapshot. What is cut off the log is kept here too, to be compared
/// with other logs, but is never read from it again.
#[derive(Clone, Default)]
pub(crate) struct Disk {
    pub(crate) entries: Vec<Entry>,
    /// How many entries are cut off.
    pub(crate) cut: usize,
    /// The newest snapshot: every entry that its state came from.
    pub(crate) snapshot: Vec<Entry>,
    pub(crate) hard_state: HardState,
}

impl Disk {
    /// Writes a batch in its order: the truncation, the entries, the hard state. An error is a batch that would leave
    /// a hole or write over what was not truncated.
    pub(crate) fn write(&mut self, batch: &Batch) -> Result<(), String> {
        if let Some(last) = batch.reset_to {
            let snapshot = self.snapshot.get(..position(last));
            let snapshot = snapshot.ok_or_else(|| format!("batch {} resets to no snapshot", batch.number.get()))?;
            self.entries = snapshot.to_vec();
            self.cut = self.entries.len();
        }
        if let Some(after) = batch.truncate_after {
            self.entries.truncate(position(after));
        }
        for entry in &batch.entries {
            let next = self.entries.len() + 1;
            if position(entry.index) != next {
                return Err(format!("batch {} writes index {} where {next} is next", batch.number.get(), entry.index));
            }
            self.entries.push(entry.clone());
        }
        if let Some(hard_state) = &batch.hard_state {
            self.hard_state = *hard_state;
        }
        Ok(())
    }

    /// The entry at `index`, if the log reaches so far.
    pub(crate) fn entry(&self, index: Index) -> Option<&Entry> {
        position(index).checked_sub(1).and_then(|offset| self.entries.get(offset))
    }

    /// The index of the last entry; zero for an empty log.
    pub(crate) fn last_index(&self) -> Index {
        index(self.entries.len())
    }

    /// The log after a crash: a snapshot whose last entry is not in it takes its place.
    fn adopt_snapshot(&mut self) {
        let count = self.snapshot.len();
        if count > self.cut && self.entries.get(count - 1) != self.snapshot.last() {
            self.entries = self.snapshot.clone();
            self.cut = count;
        }
    }

    /// Entries from `from` on, unless they are cut off: at least one, then as many as fit into `bytes_max`.
    pub(crate) fn read(&self, from: Index, bytes_max: usize) -> Vec<Entry> {
        let mut read = Vec::new();
        let mut bytes = 0;
        if position(from) <= self.cut {
            return read;
        }
        for entry in self.entries.iter().skip(position(from).saturating_sub(1)) {
            bytes += entry.size_bytes();
            if bytes > bytes_max && !read.is_empty() {
                break;
            }
            read.push(entry.clone());
        }
        read
    }

    /// What the machine starts from when the state machine has already replayed up to `applied`.
    pub(crate) fn restored(&self, configuration: Configuration, applied: Index) -> Restored {
        Restored {
            configuration,
            hard_state: self.hard_state,
            term_starts: term_starts(&self.entries),
            tail: self.entries.iter().skip(position(applied)).cloned().collect(),
            last_index: self.last_index(),
            first_index: index(self.cut + 1),
            snapshot_index: index(self.snapshot.len()),
            may_have_promised: false,
            forgotten_term: None,
            applied,
        }
    }
}

/// The first index of each run of entries of one term.
pub(crate) fn term_starts(entries: &[Entry]) -> Vec<(Index, Term)> {
    let mut starts: Vec<(Index, Term)> = Vec::new();
    for entry in entries {
        if starts.last().is_none_or(|(_, term)| *term != entry.term) {
            starts.push((entry.index, entry.term));
        }
    }
    starts
}

/// An index as a count of entries.
pub(crate) fn position(index: Index) -> usize {
    usize::try_from(index.get()).expect("scripts write short logs")
}

/// A count of entries as the index of the last of them.
pub(crate) fn index(position: usize) -> Index {
    Index::new(u64::try_from(position).expect("scripts write short logs"))
}

/// One node under test.
pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) options: Options,
    pub(crate) configuration: Configuration,
    /// `None` while the node is down.
    pub(crate) raft: Option<Raft>,
    /// What survives a crash.
    pub(crate) durable: Disk,
    /// `durable` with all pending batches written: the log as the machine sees it.
    pub(crate) written: Disk,
    /// Batches handed out and not yet durable, oldest first.
    pub(crate) pending: VecDeque<Batch>,
    /// The last batch that was reported durable.
    pub(crate) persisted: BatchNumber,
    /// Messages that wait for a batch to be durable.
    pub(crate) waiting: Vec<(BatchNumber, Message)>,
    /// Batches become durable only by the command `persist`.
    pub(crate) manual_persistence: bool,
    /// The driver is busy: inputs go in, and nothing is taken out.
    pub(crate) held: bool,
    /// Reads of old entries that the machine asked for.
    pub(crate) fetches: Vec<Fetch>,
    /// What the state machine has applied since index 1; it is in memory and replays at a restart.
    pub(crate) applied: Vec<Entry>,
    /// Set when the machine starts a campaign, for the command `campaign`.
    pub(crate) campaigned: bool,
}

/// Each start of a node has a seed of its own.
const SEED_STEP: u64 = 100;

impl Node {
    /// A node that is down and whose disk is empty.
    pub(crate) fn new(options: Options, configuration: Configuration) -> Node {
        Node {
            id: options.id,
            options,
            configuration,
            raft: None,
            durable: Disk::default(),
            written: Disk::default(),
            pending: VecDeque::new(),
            persisted: BatchNumber::ZERO,
            waiting: Vec::new(),
            manual_persistence: false,
            held: false,
            fetches: Vec::new(),
            applied: Vec::new(),
            campaigned: false,
        }
    }

    /// Starts the machine from the disk, with a state machine that has replayed the entries up to `applied`.
    pub(crate) fn start(&mut self, applied: Index) -> Result<(), String> {
        let restored = self.durable.restored(self.configuration.clone(), applied);
        let raft = Raft::new(self.options.clone(), restored).map_err(|error| error.to_string())?;
        self.options.seed += SEED_STEP;
        self.raft = Some(raft);
        self.applied = self.durable.entries[..position(applied)].to_vec();
        self.written = self.durable.clone();
        self.pending.clear();
        self.persisted = BatchNumber::ZERO;
        Ok(())
    }

    /// Stops the machine. Batches on their way to the disk arrive there or are lost; what waited for them is lost.
    pub(crate) fn stop(&mut self, lose_unpersisted: bool) -> Result<(), String> {
        self.raft = None;
        self.held = false;
        self.waiting.clear();
        self.fetches.clear();
        for batch in std::mem::take(&mut self.pending) {
            if !lose_unpersisted {
                self.durable.write(&batch)?;
            }
        }
        self.durable.adopt_snapshot();
        self.written = self.durable.clone();
        Ok(())
    }

    /// Takes a snapshot of what is applied.
    pub(crate) fn take_snapshot(&mut self, applied: Index) -> Result<(), String> {
        if applied == Index::ZERO {
            return Err("nothing is applied".to_owned());
        }
        self.durable.snapshot = self.applied[..position(applied)].to_vec();
        self.written.snapshot = self.durable.snapshot.clone();
        Ok(())
    }

    /// Cuts the log off up to `last`; the first entry that is left.
    pub(crate) fn cut(&mut self, last: Index) -> Index {
        let cut = position(last).max(self.durable.cut);
        (self.durable.cut, self.written.cut) = (cut, cut);
        index(cut + 1)
    }

    /// Keeps another node's snapshot, and has its state from now on.
    pub(crate) fn keep_snapshot(&mut self, snapshot: Vec<Entry>) {
        self.durable.snapshot = snapshot.clone();
        self.written.snapshot = snapshot.clone();
        self.applied = snapshot;
    }

    /// Writes the oldest pending batch to the disk and returns it; the machine has not been told yet.
    pub(crate) fn persist_next(&mut self) -> Result<Option<Batch>, String> {
        let Some(batch) = self.pending.pop_front() else { return Ok(None) };
        self.durable.write(&batch)?;
        self.persisted = batch.number;
        Ok(Some(batch))
    }

    /// Takes out the messages for which everything is durable by now, in the order in which they were made.
    pub(crate) fn released(&mut self) -> Vec<Message> {
        let persisted = self.persisted;
        let (released, waiting): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.waiting).into_iter().partition(|(wait_for, _)| *wait_for <= persisted);
        self.waiting = waiting;
        released.into_iter().map(|(_, message)| message).collect()
    }
}
